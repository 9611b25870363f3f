package soc_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pasban"
	"pasban/internal/detect"
	"pasban/internal/soc"
	"pasban/internal/store"
	"pasban/internal/store/storetest"
)

var supervisor = pasban.Actor{ID: "supervisor:test", Kind: pasban.ActorPerson, Role: pasban.RoleSupervisor}

// scanner is a suppression of what the agency's own scanner makes a rule find.
func scanner(rule *detect.Rule) soc.Suppression {
	return soc.Suppression{Rule: rule.ID, Title: rule.Title, Level: rule.Level, Reason: "our own scanner", Until: time.Now().Add(24 * time.Hour),
		Conditions: []detect.Condition{{Field: "SrcIP", How: "cidr", Values: []string{"192.0.2.0/24"}}}}
}

func from(ip string, m detect.Match) detect.Match {
	m.Event = pasban.Event{"SrcIP": ip}
	return m
}

func states(list []soc.Alert) string {
	var out []string
	for _, a := range list {
		out = append(out, fmt.Sprintf("%s %s %d", a.Entity, a.State, a.Count))
	}
	return strings.Join(out, ", ")
}

func TestSuppression(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w := newWorld(t, st)
		ctx := t.Context()
		w.handle(t, from("192.0.2.7", match(sqli, "a", morning, 1)))
		s, err := w.c.Suppress(ctx, analyst, scanner(sqli))
		if err != nil {
			t.Fatal(err)
		}
		updates, cancel := w.c.Subscribe()
		defer cancel()
		ms := []detect.Match{from("192.0.2.7", match(sqli, "a", morning, 2)), from("203.0.113.9", match(sqli, "a", morning.Add(time.Second), 3)), from("192.0.2.7", match(odd, "a", morning, 4))}
		w.handle(t, ms...)
		if got := states(w.list(t, soc.Query{})); got != "a new 2, a suppressed 1, a new 1" {
			t.Errorf("alerts are: %s", got)
		}
		w.c = w.open(t)
		w.handle(t, ms...)
		w.handle(t, from("192.0.2.8", match(sqli, "a", morning, 5)))
		hidden := w.list(t, soc.Query{States: []soc.State{soc.Suppressed}})
		if len(hidden) != 1 || hidden[0].Count != 2 || hidden[0].Suppression != s.ID {
			t.Errorf("suppressed: %+v", hidden)
		}
		for range 3 {
			if u := <-updates; u.Fresh && u.State == soc.Suppressed {
				t.Errorf("somebody is told of %+v", u)
			}
		}
		open, err := w.c.Open(ctx)
		if err != nil || open[detect.High] != 1 || open[detect.Low] != 1 {
			t.Errorf("open are %v, %v", open, err)
		}
		list, err := w.c.Suppressions(ctx, "")
		if err != nil || len(list) != 1 || list[0].Alerts != 1 || list[0].Events != 2 || list[0].Reason != "our own scanner" || list[0].By != analyst.ID || !list[0].InForce(time.Now()) {
			t.Errorf("suppressions are %+v, %v", list, err)
		}

		// What an analyst takes out of it stays out; ending it is the end.
		if err := w.c.SetState(ctx, analyst, []string{hidden[0].ID}, soc.Change{State: soc.Acknowledged}); err != nil {
			t.Fatal(err)
		}
		w.handle(t, from("192.0.2.8", match(sqli, "a", morning, 6)))
		if a, err := w.c.Get(ctx, hidden[0].ID); err != nil || a.State != soc.Acknowledged || a.Count != 3 {
			t.Errorf("taken out it is %+v, %v", a, err)
		}
		inForce := func(want int) {
			t.Helper()
			if n, err := w.c.OpenSuppressions(ctx); err != nil || n != want {
				t.Errorf("%d suppressions are open, want %d; %v", n, want, err)
			}
		}
		inForce(1)
		if err := w.c.EndSuppression(ctx, supervisor, s.ID); err != nil {
			t.Fatal(err)
		}
		inForce(0)
		if err := w.c.EndSuppression(ctx, analyst, s.ID); pasban.KindOf(err) != pasban.NotFound {
			t.Errorf("ended twice: %v", err)
		}
		w.handle(t, from("192.0.2.8", match(sqli, "b", morning, 7)))
		if a := w.list(t, soc.Query{Rule: sqli.ID, States: []soc.State{soc.New}}); len(a) != 2 {
			t.Errorf("after its end: %s", states(a))
		}
		var acts []string
		entries, err := w.j.Since(ctx, 0, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			acts = append(acts, e.Fact.Body.Action)
		}
		if got := strings.Join(acts, " "); got != "suppression.make alert.acknowledge suppression.end" || entries[0].Fact.Restricted.More["suppresses"] != `SrcIP is in "192.0.2.0/24"` {
			t.Errorf("facts are %s, %+v", got, entries[0].Fact.Restricted.More)
		}
	})
}

// A critical rule's matches are suppressed once a supervisor says so, and one
// who did not ask for it.
func TestCriticalNeedsASecondPerson(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	ctx := t.Context()
	ask := scanner(bulk)
	s, err := w.c.Suppress(ctx, analyst, ask)
	if err != nil {
		t.Fatal(err)
	}
	w.handle(t, from("192.0.2.7", match(bulk, "a", morning, 1)))
	for _, c := range []struct {
		actor pasban.Actor
		kind  pasban.ErrorKind
	}{{analyst, pasban.Forbidden}, {pasban.Actor{ID: analyst.ID, Role: pasban.RoleSupervisor}, pasban.Forbidden}} {
		if err := w.c.DecideSuppression(ctx, c.actor, s.ID, true); pasban.KindOf(err) != c.kind {
			t.Errorf("%s decides: %v", c.actor.ID, err)
		}
	}
	if err := w.c.DecideSuppression(ctx, supervisor, s.ID, true); err != nil {
		t.Fatal(err)
	}
	if err := w.c.DecideSuppression(ctx, supervisor, s.ID, false); pasban.KindOf(err) != pasban.NotFound {
		t.Errorf("decided twice: %v", err)
	}
	w.handle(t, from("192.0.2.7", match(bulk, "b", morning.Add(time.Second), 2)))
	if got := states(w.list(t, soc.Query{})); got != "b suppressed 1, a new 1" {
		t.Errorf("alerts are %s", got)
	}
	if list, err := w.c.Suppressions(ctx, bulk.ID); err != nil || len(list) != 1 || list[0].ApprovedBy != supervisor.ID {
		t.Errorf("it is %+v, %v", list, err)
	}
	if list, err := w.c.Suppressions(ctx, odd.ID); err != nil || len(list) != 0 {
		t.Errorf("of another rule there are %+v, %v", list, err)
	}
	refused, err := w.c.Suppress(ctx, analyst, ask)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.c.DecideSuppression(ctx, supervisor, refused.ID, false); err != nil {
		t.Fatal(err)
	}
	if err := w.c.DecideSuppression(ctx, supervisor, refused.ID, true); pasban.KindOf(err) != pasban.NotFound {
		t.Errorf("approved after it was refused: %v", err)
	}

	// A rule that becomes critical is no longer covered by one person's word.
	if _, err := w.c.Suppress(ctx, analyst, scanner(odd)); err != nil {
		t.Fatal(err)
	}
	raised := *odd
	raised.Level = detect.Critical
	w.handle(t, from("192.0.2.7", match(odd, "c", morning, 3)), from("192.0.2.7", match(&raised, "d", morning.Add(time.Second), 4)))
	if got := states(w.list(t, soc.Query{Rule: odd.ID})); got != "d new 1, c suppressed 1" {
		t.Errorf("alerts are %s", got)
	}
}

// An entity that is written like another one's suppression is not suppressed.
func TestEntityIsNoSuppression(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	s, err := w.c.Suppress(t.Context(), analyst, scanner(sqli))
	if err != nil {
		t.Fatal(err)
	}
	w.handle(t, from("192.0.2.7", match(sqli, "a", morning, 1)))
	w.handle(t, from("203.0.113.9", match(sqli, "a\n"+s.ID, morning, 2)))
	if hidden, open := w.list(t, soc.Query{States: []soc.State{soc.Suppressed}}), w.list(t, soc.Query{States: []soc.State{soc.New}}); len(hidden) != 1 || hidden[0].Count != 1 || len(open) != 1 {
		t.Errorf("alerts are: %s", states(append(hidden, open...)))
	}
}

// A suppression ends by itself.
func TestSuppressionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.SQLite(t))
		if _, err := w.c.Suppress(context.WithoutCancel(t.Context()), analyst, scanner(sqli)); err != nil {
			t.Fatal(err)
		}
		for i, want := range []string{"a suppressed 1", "b new 1, a suppressed 1"} {
			w.handle(t, from("192.0.2.7", match(sqli, string(rune('a'+i)), morning.Add(time.Duration(i)*time.Second), uint64(i+1))))
			if got := states(w.list(t, soc.Query{})); got != want {
				t.Errorf("alerts are %s, want %s", got, want)
			}
			time.Sleep(24 * time.Hour)
		}
	})
}

// A suppression that makes no sense, as another version may leave one, suppresses
// nothing, and alerts are kept as without it.
func TestUnreadableSuppression(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	made, err := w.c.Suppress(t.Context(), analyst, scanner(sqli))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := w.sealer.Seal(t.Context(), "", []byte(`{"conditions":[{"field":"SrcIP","how":"resembles","values":["x"]}]}`), []byte("pasban/soc/v1 suppression "+made.ID))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.st.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(`UPDATE soc_suppression SET detail = ? WHERE id = ?`, sealed, made.ID)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	w.handle(t, from("192.0.2.7", match(sqli, "a", morning, 1)))
	if got := states(w.list(t, soc.Query{})); got != "a new 1" {
		t.Errorf("alerts are: %s", got)
	}
}

func TestBadSuppressions(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	for name, spoil := range map[string]func(*soc.Suppression){
		"no rule":          func(s *soc.Suppression) { s.Rule = "" },
		"the whole rule":   func(s *soc.Suppression) { s.Conditions = nil },
		"no reason":        func(s *soc.Suppression) { s.Reason = " " },
		"long reason":      func(s *soc.Suppression) { s.Reason = strings.Repeat("x", 501) },
		"no end":           func(s *soc.Suppression) { s.Until = time.Time{} },
		"too long":         func(s *soc.Suppression) { s.Until = time.Now().Add(91 * 24 * time.Hour) },
		"unknown modifier": func(s *soc.Suppression) { s.Conditions[0].How = "re" },
		"no network":       func(s *soc.Suppression) { s.Conditions[0].Values = []string{"x"} },
		"long value":       func(s *soc.Suppression) { s.Conditions[0].Values = []string{strings.Repeat("x", 1001)} },
		"not text":         func(s *soc.Suppression) { s.Conditions[0] = detect.Condition{Field: "F", Values: []string{"\xff"}} },
		"too many":         func(s *soc.Suppression) { s.Conditions = make([]detect.Condition, 11) },
		"too many values":  func(s *soc.Suppression) { s.Conditions[0].Values = make([]string, 11) },
		"part of all texts": func(s *soc.Suppression) {
			s.Conditions[0] = detect.Condition{Field: "F", How: "contains", Values: []string{""}}
		},
	} {
		s := scanner(sqli)
		spoil(&s)
		if _, err := w.c.Suppress(t.Context(), analyst, s); pasban.KindOf(err) != pasban.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.c.Suppress(t.Context(), supervisor, scanner(sqli)); pasban.KindOf(err) != pasban.Forbidden {
		t.Errorf("a supervisor suppresses: %v", err)
	}
	if seq, _, err := w.j.Head(t.Context()); err != nil || seq != 0 {
		t.Errorf("%d facts, %v", seq, err)
	}
}

// The preview judges what is kept: facts by the journal, received events by
// their fields; of others it says that it does not know.
func TestPreview(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	now := time.Now()
	f := pasban.NewFact(pasban.KindBlock, "land-records", pasban.Actor{}, now)
	f.Body.Action, f.Body.Outcome, f.Restricted.IP = "waf", pasban.Denied, "192.0.2.9"
	entries, err := w.j.Record(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	fact := match(sqli, "fact", now, entries[0].Seq)
	fact.Refs[0].ID = entries[0].Fact.Body.ID
	w.handle(t, fact,
		withFields(match(sqli, "both", now, log0+1, log0+2), pasban.Event{"SrcIP": "192.0.2.1"}, pasban.Event{"SrcIP": "203.0.113.1"}),
		withFields(match(sqli, "other", now, log0+3), pasban.Event{"SrcIP": "203.0.113.1"}),
		match(sqli, "lost", now, log0+4), match(sqli, "old", now.Add(-48*time.Hour), log0+5), match(odd, "fact", now, 1))
	p, err := w.c.PreviewSuppression(t.Context(), scanner(sqli), now.Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if p.Alerts != 4 || p.Whole != 1 || p.Part != 1 || p.Events != 5 || p.Covered != 2 || p.Unknown != 1 || len(p.Shown) != 2 {
		t.Errorf("preview is %+v", p)
	}
	s := scanner(sqli)
	s.Entity, s.Conditions = "lost", nil
	if p, err = w.c.PreviewSuppression(t.Context(), s, now.Add(-time.Hour)); err != nil || p.Whole != 1 || p.Unknown != 0 {
		t.Errorf("by entity alone: %+v, %v", p, err)
	}
}
