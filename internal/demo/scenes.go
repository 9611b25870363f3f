package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"pasban"
	"pasban/internal/page"
)

// trimLine returns the first line of a small file.
func trimLine(data []byte) string {
	line, _, _ := strings.Cut(string(data), "\n")
	return strings.TrimSpace(line)
}

// stranger returns a visitor whom nobody knows, from a loopback address that
// no visitor came from before.
func (s *story) stranger(who string) *visitor {
	s.host++
	return s.net.visitor(who, netip.AddrFrom4([4]byte{127, 20, byte(s.host / 250), byte(s.host%250 + 1)}))
}

// signIn uses up the persona link of a person and returns their browser.
func (s *story) signIn(ctx context.Context, person string) (*visitor, error) {
	link, ok := s.links[person]
	if !ok {
		return nil, fmt.Errorf("there is no persona link of %s", person)
	}
	delete(s.links, person)
	v := s.stranger(string(link.Role) + " " + link.Number)
	v.person = person
	a, err := v.get(ctx, link.URL, wantPage)
	if err != nil {
		return nil, fmt.Errorf("sign in as %s: %w", person, err)
	}
	if !a.ok() || v.session() == "" {
		return nil, fmt.Errorf("sign in as %s: status %d at %s", person, a.Status, a.URL)
	}
	return v, nil
}

// alert is what an analyst is told; the part of it that the story judges by.
type alert struct {
	ID     string    `json:"id"`
	RuleID string    `json:"rule_id"`
	Title  string    `json:"title"`
	Level  string    `json:"level"`
	Entity string    `json:"entity"`
	Count  int       `json:"count"`
	Last   time.Time `json:"last"`
}

// alerts asks the console what it shows the analyst.
func (s *story) alerts(ctx context.Context) ([]alert, error) {
	a, err := s.analyst.get(ctx, "/soc/alerts.json", wantJSON)
	if err != nil {
		return nil, err
	}
	if !a.ok() {
		return nil, fmt.Errorf("the console answers %d to the analyst", a.Status)
	}
	var doc struct{ Alerts []alert }
	if err := json.Unmarshal([]byte(a.Body), &doc); err != nil {
		return nil, fmt.Errorf("the console's alerts: %w", err)
	}
	return doc.Alerts, nil
}

// alertLimit is how long an alert may take to reach the console.
const alertLimit = 20 * time.Second

// trace is the mark that one attack left.
type trace struct {
	by       *visitor
	incident string // the id that the refusal named; "" if it named none
}

// detection asks the console for alerts about a beat's attacks until every
// attacker is named in one, and puts what there is into the beat: an attack is
// detected if it left a trace and an alert with one of the words in its title
// names the attacker, by address or as a person.
func (s *story) detection(ctx context.Context, b *Beat, since time.Time, traces []trace, words ...string) error {
	deadline := time.Now().Add(alertLimit)
	for {
		list, err := s.alerts(ctx)
		if err != nil {
			return err
		}
		found := slices.DeleteFunc(list, func(a alert) bool {
			return a.Last.Before(since.Truncate(time.Millisecond)) || !a.mentions(words) || !slices.ContainsFunc(traces, a.names)
		})
		detected := 0
		for _, t := range traces {
			if slices.ContainsFunc(found, func(a alert) bool { return a.names(t) }) {
				detected++
			}
		}
		if detected == len(traces) || time.Now().After(deadline) {
			return s.noticed(ctx, b, detected, found, traces)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// mentions reports whether the alert's title has one of the words.
func (a alert) mentions(words []string) bool {
	title := strings.ToLower(a.Title)
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(title, w) })
}

// names reports whether the alert is about whoever left the trace.
func (a alert) names(t trace) bool {
	if t.by == nil { // nobody who came by the front door
		return true
	}
	return a.Entity == t.by.address() || t.by.person != "" && a.Entity == t.by.person
}

// noticed puts what the console shows of the attacks into the beat, and looks
// the first incident up there, as an analyst does whom somebody calls.
func (s *story) noticed(ctx context.Context, b *Beat, detected int, found []alert, traces []trace) error {
	b.Detected = detected
	if len(found) == 0 {
		b.fail("no alert was raised within %s", alertLimit)
		return nil
	}
	b.See = s.net.base + "/soc/alerts/" + found[0].ID
	for _, a := range found {
		if !slices.Contains(b.Alerts, a.Title) {
			b.Alerts = append(b.Alerts, a.Title)
		}
	}
	s.paper.say("alert", "%s", strings.Join(b.Alerts, "; "))
	s.paper.say("see", "%s", b.See)
	for _, t := range traces {
		if t.incident == "" {
			continue
		}
		a, err := s.analyst.get(ctx, "/soc/find?id="+t.incident, wantPage)
		if err != nil {
			return err
		}
		if !a.ok() {
			b.fail("the console does not find incident %s: status %d", t.incident, a.Status)
		}
		break
	}
	return nil
}

// legitimate makes a request that nobody may refuse, counts it, and says
// whether it was answered as it should.
func (b *Beat) legitimate(a answer, err error, what string) bool {
	b.Requests++
	switch {
	case err != nil:
		b.RefusedLegitimate++
		b.fail("%s: %v", what, err)
	case !a.ok():
		b.RefusedLegitimate++
		b.fail("%s: status %d%s", what, a.Status, because(a))
	default:
		return true
	}
	return false
}

// because is what a refusal says of its reason: its words, or the id under
// which the console has them.
func because(a answer) string {
	var problem page.Problem
	if json.Unmarshal([]byte(a.Body), &problem) == nil && problem.Detail != "" {
		return ": " + problem.Detail
	}
	if id := a.incident(); id != "" {
		return ", incident " + id
	}
	return ""
}

// session returns the visitor's session cookie, "" if not signed in.
func (v *visitor) session() string {
	req, err := http.NewRequest(http.MethodGet, v.base, nil)
	if err != nil {
		return ""
	}
	for _, c := range v.http.Jar.Cookies(req.URL) {
		if c.Name == page.SessionCookie {
			return c.Value
		}
	}
	return ""
}

// receipt exchanges a promise for a receipt and verifies it against the
// ledger's key. A receipt may take as long as the ledger's merge delay, two
// seconds, and as much again on a slow machine.
func (s *story) receipt(ctx context.Context, v *visitor, p pasban.Promise) (pasban.Body, error) {
	deadline := time.Now().Add(receiptLimit)
	for {
		a, err := v.get(ctx, fmt.Sprintf("/ledger/receipt/%d", p.Index), wantJSON)
		if err != nil {
			return pasban.Body{}, err
		}
		if a.ok() {
			return s.verify(a.Body, p)
		}
		if a.Status != http.StatusServiceUnavailable || time.Now().After(deadline) {
			return pasban.Body{}, fmt.Errorf("no receipt for promise %d: status %d%s", p.Index, a.Status, because(a))
		}
		select {
		case <-ctx.Done():
			return pasban.Body{}, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

const receiptLimit = 20 * time.Second

// verify checks a receipt offline, and that it is the one that was promised,
// if p is more than an index.
func (s *story) verify(receipt string, p pasban.Promise) (pasban.Body, error) {
	r, err := pasban.ParseReceipt([]byte(receipt))
	if err != nil {
		return pasban.Body{}, err
	}
	body, err := r.Verify(s.verifier)
	if err != nil {
		return pasban.Body{}, err
	}
	canonical, err := pasban.Canonical(r.Body)
	if err != nil {
		return pasban.Body{}, err
	}
	leaf, err := pasban.Opening{Kind: r.Kind, Salt: r.Salt, Body: canonical}.Leaf()
	if err != nil {
		return pasban.Body{}, err
	}
	if r.Index != p.Index || p.Sig != nil && leaf.Hash() != p.Leaf {
		return pasban.Body{}, fmt.Errorf("promise %d was not honoured: its place in the ledger holds another leaf", p.Index)
	}
	return body, nil
}
