package gateway

import (
	"context"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"pasban"
	"pasban/internal/gateway/flood"
	"pasban/internal/gateway/waf"
	"pasban/internal/identity"
)

// recordTimeout bounds how long a refusal waits for the journal.
const recordTimeout = 5 * time.Second

// record writes facts about what the gateway itself did. A journal that cannot
// take them does not open anything: what was refused stays refused.
func (g *Gateway) record(ctx context.Context, f pasban.Fact) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	if _, err := g.o.Facts.Record(ctx, f); err != nil {
		slog.ErrorContext(ctx, "a fact could not be recorded", "kind", f.Body.Kind, "incident", f.Body.ID, "err", err)
	}
}

// blockFact starts a fact about a request that was turned away.
func (g *Gateway) blockFact(r *http.Request, service string, reasons ...string) pasban.Fact {
	who := g.actorOf(r)
	f := pasban.NewFact(pasban.KindBlock, g.agency(), who, time.Now())
	f.Body.Service, f.Body.Outcome = service, pasban.Denied
	f.Restricted = clientOf(r)
	f.Restricted.Actor = who.ID
	f.Restricted.Reasons = reasons
	return f
}

// clientOf is what the restricted part of a fact says of a request: bounded,
// and valid UTF-8 whatever was sent.
func clientOf(r *http.Request) pasban.Restricted {
	c := identity.ClientOf(r)
	c.UserAgent = clean(r.UserAgent(), 512)
	c.Path, c.Query = clean(hideLinks(r.URL.Path), 2048), clean(r.URL.RawQuery, 2048)
	return c
}

// linkTail is the secret at the end of Pasban's own one-time links: whoever
// has it signs in with it.
var linkTail = regexp.MustCompile(`(/pasban/(?:enrol|persona)/)[A-Za-z0-9_-]+`)

// hideLinks returns text without the secrets of one-time links.
func hideLinks(text string) string { return linkTail.ReplaceAllString(text, "$1…") }

func clean(s string, max int) string {
	if len(s) > max {
		s = s[:max]
	}
	return strings.ToValidUTF8(s, "\ufffd")
}

// wafBlocked answers a request that the rules blocked, and records it under
// the id that the lines of the WAF's log carry.
func (s *site) wafBlocked(w http.ResponseWriter, r *http.Request, rep waf.Report) {
	s.g.metrics.count(countBlocked)
	s.g.record(r.Context(), s.wafFact(r, rep))
	s.g.fail(w, r, rep.Status, &pasban.Error{Kind: pasban.Forbidden, ID: rep.ID,
		Msg: "the request looks like an attack", Hint: "if it was none, tell the agency the incident id"})
}

func (s *site) wafFact(r *http.Request, rep waf.Report) pasban.Fact {
	f := s.g.blockFact(r, s.name, rep.Reasons...)
	f.Body.ID, f.Body.Action = rep.ID, "waf"
	f.Restricted.Rules = rep.Rules
	f.Restricted.Status = rep.Status
	f.Restricted.More = map[string]string{"engine": "waf"}
	if len(rep.Attacks) > 0 {
		f.Restricted.More["attacks"] = strings.Join(rep.Attacks, ",")
	}
	if !rep.Blocked {
		f.Body.Outcome = pasban.Allowed
		f.Restricted.More["mode"] = "detect"
	}
	return f
}

func (s *site) wafObserved(r *http.Request, rep waf.Report) {
	s.g.metrics.count(countDetected)
	s.g.record(r.Context(), s.wafFact(r, rep))
}

// wafFailed answers a request that could not be inspected.
func (s *site) wafFailed(w http.ResponseWriter, r *http.Request, err error) {
	s.g.fail(w, r, bodyStatus(err), err)
}

// flooded answers a request beyond its client's rate.
func (g *Gateway) flooded(w http.ResponseWriter, r *http.Request, ref flood.Refusal) {
	g.metrics.count(countFlooded)
	seconds := int(ref.RetryAfter / time.Second)
	g.fail(retryWriter{w, seconds}, r, http.StatusTooManyRequests, &pasban.Error{Kind: pasban.Limited, ID: ref.ID,
		Msg: "too many requests from your address", Hint: "wait a little and try again"})
}

// floodReport records what the limiter tells: one fact when a client begins,
// then one in a while with the count.
func (g *Gateway) floodReport(rep flood.Report) {
	f := pasban.NewFact(pasban.KindBlock, g.agency(), pasban.Actor{}, time.Now())
	f.Body.ID, f.Body.Action, f.Body.Outcome = rep.ID, "flood", pasban.Denied
	f.Restricted.Status = http.StatusTooManyRequests
	f.Restricted.Reasons = []string{"too many " + rep.What}
	f.Restricted.More = map[string]string{"engine": "flood", "what": rep.What, "count": strconv.Itoa(rep.Count), "client": "many"}
	if rep.Client.IsValid() {
		f.Restricted.More["client"] = rep.Client.String()
		f.Restricted.IP = rep.Client.Addr().String()
	}
	g.record(context.Background(), f)
}
