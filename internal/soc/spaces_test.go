package soc_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pasban"
	"pasban/internal/detect"
	"pasban/internal/soc"
	"pasban/internal/store"
	"pasban/internal/store/storetest"
)

const log0 = detect.FirstReceived

// withFields gives the match its received events.
func withFields(m detect.Match, fields ...pasban.Event) detect.Match {
	m.Received = map[uint64]pasban.Event{}
	for i, ev := range fields {
		m.Received[m.Refs[i].Seq] = ev
		m.Event = ev
	}
	return m
}

// An alert over the journal and received logs counts both, whichever comes first
// and however often it comes again.
func TestSpacesAreCountedApart(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w := newWorld(t, st)
		count := func(want int, what string) {
			t.Helper()
			if a := w.list(t, soc.Query{}); len(a) != 1 || a[0].Count != want {
				t.Fatalf("%s: %+v, want one alert with %d events", what, a, want)
			}
		}
		received := match(sqli, "web1", morning, log0+10, log0+20)
		facts := match(sqli, "web1", morning, 5, 6)
		w.handle(t, received)
		w.handle(t, facts)
		count(4, "journal after logs")
		w.c = w.open(t)
		w.handle(t, facts)
		w.handle(t, received, facts)
		count(4, "both again after a crash")
		w.handle(t, match(sqli, "web1", morning, 6, 7, log0+20, log0+30))
		count(6, "one new of each")
		w.handle(t, match(sqli, "web1", morning, 4, log0+15))
		count(8, "older ones that were never counted")
		w.handle(t, match(sqli, "web1", morning, 4, log0+15))
		count(8, "the same again")

		many := match(odd, "web1", morning)
		for i := range uint64(600) {
			many.Refs = append(many.Refs, detect.Ref{Seq: 1000 + i, ID: fmt.Sprint(i), Time: morning})
		}
		w.handle(t, many)
		w.handle(t, many)
		w.handle(t, match(odd, "web1", morning, log0+1))
		if a := w.list(t, soc.Query{Rule: odd.ID}); a[0].Count != 601 {
			t.Errorf("%d events of many, want 601", a[0].Count)
		}
	})
}

// The fields of received events are kept with their alert: sealed, bounded, and
// not beyond what one alert keeps.
func TestReceivedEventsAreKept(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	ev := pasban.Event{"Computer": "web1", "Seq": log0 + 1, "EventID": 4625, "user": map[string]any{"name": "root", "ids": []any{"a", map[string]any{"b": 1}}},
		"Long": strings.Repeat("ی", 5000), "logsource": []detect.Logsource{{Product: "windows", Service: "security"}}, "Empty": nil}
	w.handle(t, withFields(match(sqli, "web1", morning, log0+1), ev))
	for i := range 60 {
		w.handle(t, withFields(match(sqli, "web1", morning, log0+uint64(i)+2), pasban.Event{"N": i}))
	}
	id := w.list(t, soc.Query{})[0].ID
	kept, err := w.c.Kept(t.Context(), id)
	if err != nil || len(kept) != 25 {
		t.Fatalf("%d are kept, %v", len(kept), err)
	}
	got := kept[log0+1]
	for name, want := range map[string]string{"Computer": "web1", "EventID": "4625", "user.name": "root", "user.ids": "[a]", "user.ids.b": "[1]", "logsource": "product windows, service security"} {
		if fmt.Sprint(got[name]) != want {
			t.Errorf("%s is %v, want %s", name, got[name], want)
		}
	}
	if long := got["Long"].(string); len(long) > 2010 || !strings.HasSuffix(long, "ی…") {
		t.Errorf("a long value has %d bytes", len(long))
	}
	if _, there := got["Seq"]; there || got["Empty"] != nil {
		t.Errorf("kept %v", got)
	}

	wide := pasban.Event{}
	for i := range 1000 {
		wide[fmt.Sprintf("deep%d", i)] = map[string]any{"x": strings.Repeat("x", 100)}
	}
	wide["EventID"] = 1
	w.handle(t, withFields(match(odd, "web1", morning, log0+1), wide))
	kept, err = w.c.Kept(t.Context(), w.list(t, soc.Query{Rule: odd.ID})[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(kept[log0+1]); n > 200 || kept[log0+1][soc.Cut] == nil || kept[log0+1]["EventID"] == nil {
		t.Errorf("of a wide event %d fields are kept", n)
	}
}

func TestVerdicts(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	now := time.Now()
	w.handle(t, match(sqli, "a", now, 1), match(sqli, "b", now, 2), match(sqli, "c", now, 3), match(sqli, "d", now, 4))
	list := w.list(t, soc.Query{})
	for i, v := range []soc.Verdict{soc.FalsePositive, soc.Benign, soc.TruePositive} {
		if err := w.c.SetState(t.Context(), analyst, []string{list[i].ID}, soc.Change{State: soc.Closed, Verdict: v, Note: "seen"}); err != nil {
			t.Fatal(err)
		}
	}
	a, err := w.c.Get(t.Context(), list[0].ID)
	if err != nil || a.Verdict != soc.FalsePositive {
		t.Errorf("the alert is %+v, %v", a, err)
	}
	if notes, err := w.c.Notes(t.Context(), a.ID); err != nil || notes[0].Verdict != soc.FalsePositive {
		t.Errorf("notes are %+v, %v", notes, err)
	}
	entries, err := w.j.Since(t.Context(), 0, 10)
	if err != nil || entries[0].Fact.Restricted.More["verdict"] != "false_positive" {
		t.Errorf("the fact is %+v, %v", entries, err)
	}
	f, err := w.c.RuleFigures(t.Context(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if noise, ok := f[sqli.ID].Noise(); !ok || noise != 33 || f[sqli.ID].Alerts != 4 || f[sqli.ID].Waiting != 1 {
		t.Errorf("figures are %+v, noise %d", f[sqli.ID], noise)
	}
	if _, ok := (soc.RuleFigures{}).Noise(); ok {
		t.Error("a rule without verdicts has noise")
	}
	w.handle(t, match(sqli, a.Entity, now, 9))
	if a, err = w.c.Get(t.Context(), a.ID); err != nil || a.State != soc.New || a.Verdict != "" {
		t.Errorf("opened again it is %+v, %v", a, err)
	}
}

func TestCount(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w := newWorld(t, st)
		sources := []detect.Logsource{{Product: "windows", Service: "sysmon"}}
		f := func(matches, events uint64) detect.Figures {
			return detect.Figures{Matches: map[string]uint64{sqli.ID: matches}, Received: []detect.Received{{Sources: sources, Events: events}}}
		}
		for _, figures := range []detect.Figures{f(3, 10), f(3, 10), f(5, 11)} {
			if err := w.c.Count(t.Context(), figures); err != nil {
				t.Fatal(err)
			}
		}
		w.c = w.open(t) // and an engine that begins anew
		if err := w.c.Count(t.Context(), f(2, 4)); err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		for _, c := range []struct {
			after             time.Duration
			matches, received soc.Rate
		}{
			{0, soc.Rate{Hour: 7, Day: 7, Week: 7}, soc.Rate{Hour: 15, Day: 15, Week: 15}},
			{2 * time.Hour, soc.Rate{Day: 7, Week: 7}, soc.Rate{Day: 15, Week: 15}},
			{48 * time.Hour, soc.Rate{Week: 7}, soc.Rate{Week: 15}},
			{200 * time.Hour, soc.Rate{}, soc.Rate{}},
		} {
			figures, err := w.c.RuleFigures(t.Context(), now.Add(c.after))
			if err != nil || figures[sqli.ID].Matches != c.matches {
				t.Errorf("after %v: %+v, %v", c.after, figures[sqli.ID], err)
			}
			received, err := w.c.Received(t.Context(), now.Add(c.after))
			if err != nil || len(received) > 0 != (c.received.Week > 0) || len(received) == 1 && (received[0].Rate != c.received || received[0].Sources[0] != sources[0]) {
				t.Errorf("after %v: %+v, %v", c.after, received, err)
			}
		}
	})
}
