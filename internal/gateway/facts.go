package gateway

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"pasban"
	"pasban/internal/config"
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
	if ja4 := flood.Fingerprint(r); ja4 != "" {
		f.Restricted.More = map[string]string{"ja4": ja4}
	}
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
func hideLinks(text string) string {
	if !strings.Contains(text, "/pasban/") {
		return text
	}
	return linkTail.ReplaceAllString(text, "$1…")
}

func clean(s string, max int) string {
	if len(s) > max {
		s = s[:max]
	}
	return strings.ToValidUTF8(s, "\ufffd")
}

// wafBlocked answers a request that the rules blocked, and records it under
// the id that the lines of the WAF's log carry; of a spree only some.
func (s *site) wafBlocked(w http.ResponseWriter, r *http.Request, rep waf.Report) {
	s.g.metrics.count(countBlocked)
	id := s.wafRecord(r, rep)
	if rep.Status != http.StatusForbidden {
		err := s.g.standing.blocked.err
		err.ID = id
		s.g.fail(w, r, rep.Status, &err)
		return
	}
	s.g.standing.blocked.serve(w, r, id, 0)
}

// wafRecord records what the rules found, alone or among others of its kind,
// and returns the id of the fact that tells of it.
func (s *site) wafRecord(r *http.Request, rep waf.Report) string {
	kind := s.name + " " + strconv.FormatBool(rep.Blocked) + " " + strings.Join(rep.Rules, ",")
	client := flood.Client(flood.ClientAddr(r))
	if id := s.g.sprees.gather(client, kind); id != "" {
		return id
	}
	f := s.wafFact(r, rep)
	s.g.record(r.Context(), f)
	s.g.sprees.told(client, kind, f)
	return rep.ID
}

// moreBlocked records how many more there were of a kind.
func (g *Gateway) moreBlocked(client netip.Prefix, like pasban.Fact, count int) {
	f := pasban.NewFact(pasban.KindBlock, g.agency(), pasban.Actor{}, time.Now())
	f.Body.Service, f.Body.Action, f.Body.Outcome = like.Body.Service, like.Body.Action, like.Body.Outcome
	f.Restricted = pasban.Restricted{IP: like.Restricted.IP, Rules: like.Restricted.Rules, Reasons: like.Restricted.Reasons,
		Status: like.Restricted.Status, More: map[string]string{"count": strconv.Itoa(count), "like": like.Body.ID}}
	for _, name := range []string{"engine", "attacks", "mode", "route"} {
		if v := like.Restricted.More[name]; v != "" {
			f.Restricted.More[name] = v
		}
	}
	g.record(g.ctx, f)
}

func (s *site) wafFact(r *http.Request, rep waf.Report) pasban.Fact {
	f := s.g.blockFact(r, s.name, rep.Reasons...)
	f.Body.ID, f.Body.Action = rep.ID, "waf"
	f.Restricted.Rules = rep.Rules
	f.Restricted.Status = rep.Status
	if f.Restricted.More == nil {
		f.Restricted.More = map[string]string{}
	}
	f.Restricted.More["engine"] = "waf"
	if len(rep.Attacks) > 0 {
		f.Restricted.More["attacks"] = strings.Join(rep.Attacks, ",")
	}
	if len(rep.Matches) > 0 {
		if text, err := json.Marshal(rep.Matches); err == nil {
			f.Restricted.More["matches"] = string(text) // read by soc.Block
		}
	}
	if !config.Owns(r.URL.Path) {
		f.Restricted.More["route"] = s.routeOf(r)
	}
	if !rep.Blocked {
		f.Body.Outcome = pasban.Allowed
		f.Restricted.More["mode"] = "detect"
	}
	return f
}

func (s *site) wafObserved(r *http.Request, rep waf.Report) {
	s.g.metrics.count(countDetected)
	s.wafRecord(r, rep)
}

// wafFailed answers a request that could not be inspected.
func (s *site) wafFailed(w http.ResponseWriter, r *http.Request, err error) {
	s.g.fail(w, r, bodyStatus(err), err)
}

// flooded answers a request beyond its client's rate, or of a listed client.
func (g *Gateway) flooded(w http.ResponseWriter, r *http.Request, ref flood.Refusal) {
	if ref.Listed != "" {
		g.metrics.count(countListed)
		g.standing.listed.serve(w, r, ref.ID, 0)
		return
	}
	g.metrics.count(countFlooded)
	g.standing.flooded.serve(w, r, ref.ID, int(ref.RetryAfter/time.Second))
}

// floodReport records what the limiter tells: one fact when a client begins,
// then one in a while with the count.
func (g *Gateway) floodReport(rep flood.Report) {
	if rep.What == whatMalformed || rep.What == whatPanics {
		g.moreMalformed(rep)
		return
	}
	f := pasban.NewFact(pasban.KindBlock, g.agency(), pasban.Actor{}, time.Now())
	f.Body.ID, f.Body.Action, f.Body.Outcome = rep.ID, "flood", pasban.Denied
	f.Restricted.Status = http.StatusTooManyRequests
	if strings.HasPrefix(rep.What, flood.ShedPrefix) {
		f.Restricted.Status = http.StatusServiceUnavailable
	}
	f.Restricted.Reasons = []string{"too many " + rep.What}
	f.Restricted.More = map[string]string{"engine": "flood", "what": rep.What, "count": strconv.Itoa(rep.Count), "client": "many"}
	if strings.HasPrefix(rep.What, flood.ListPrefix) {
		f.Restricted.Status, f.Restricted.Reasons = http.StatusForbidden, []string{rep.What}
		f.Restricted.More["engine"] = "list"
	}
	if rep.Client.IsValid() {
		f.Restricted.More["client"] = rep.Client.String()
		f.Restricted.IP = rep.Client.Addr().String()
	}
	g.record(context.Background(), f)
}
