package detect

import (
	"testing"
	"time"

	"pasban/internal/store/storetest"
)

// Figures count every match, of quiet rules and correlations too, and the events
// of each logsource; they go on over an exchange of the rules.
func TestFigures(t *testing.T) {
	e := loadCorrelation(t, "type: event_count\nrules: a\ngroup-by: Who\ntimespan: 1m\ncondition: {gte: 3}")
	for i := range 4 {
		e.feed(i+1, feed{"a", "x", time.Duration(i) * time.Second, ""})
	}
	e.Swap(loadCorrelation(t, "type: event_count\nrules: a\ngroup-by: Who\ntimespan: 1m\ncondition: {gte: 3}"))
	e.feed(5, feed{"b", "x", 5 * time.Second, ""})
	ev := event("F", "b")
	ev[LogsourceKey] = []Logsource{{Product: "windows", Service: "sysmon"}, {Product: "windows", Category: "process_creation"}}
	e.Match(ev)
	if _, err := e.MatchJSON([]byte(`{"F": "a"}`), Logsource{Product: "linux"}); err != nil {
		t.Fatal(err)
	}
	f := e.Figures()
	var got []uint64
	for _, r := range e.set().all {
		got = append(got, f.Matches[r.ID])
	}
	if len(got) != 3 || got[0] != 4 || got[1] != 1 || got[2] != 2 {
		t.Errorf("matches are %v, want 4, 1 and the correlation's 2", got)
	}
	received := map[string]uint64{}
	for _, r := range f.Received {
		for _, s := range r.Sources {
			received[s.Product+"/"+s.Category+"/"+s.Service] += r.Events
		}
	}
	if received["test//"] != 5 || received["windows//sysmon"] != 1 || received["windows/process_creation/"] != 1 || received["linux//"] != 1 {
		t.Errorf("received %v", received)
	}
}

// An event whose rules are exchanged while it is matched is matched again, and
// counted once.
func TestFiguresWhileRulesChange(t *testing.T) {
	rules := searches("s: {F: a}\ncondition: s")
	e, err := loadText(t, rules)
	if err != nil {
		t.Fatal(err)
	}
	next, err := loadText(t, rules)
	if err != nil {
		t.Fatal(err)
	}
	ev, set := event("F", "a"), e.set()
	m := set.machine()
	m.event = lazyEvent{ev: ev}
	hits := m.matchEvent(ev)
	e.Swap(next)
	if _, ok := e.finish(set, m, hits); ok {
		t.Fatal("rules that were exchanged have the last word")
	}
	e.Match(ev)
	f := e.Figures()
	if len(f.Received) != 1 || f.Received[0].Events != 1 || f.Matches[e.Rules()[0].ID] != 1 {
		t.Errorf("one event is counted as %+v", f)
	}
}

// What is read again after a restart, to know what went before, is not counted
// a second time.
func TestFiguresAfterRestart(t *testing.T) {
	j := newJournal(t, storetest.SQLite(t))
	failures(t, j, 1, 3)
	runUntil(t, newBruteforce(t), j, 3)
	failures(t, j, 4, 1)
	e := newBruteforce(t)
	runUntil(t, e, j, 1)
	var events uint64
	for _, r := range e.Figures().Received {
		events += r.Events
	}
	if events != 1 {
		t.Errorf("%d events are counted, want the one after the restart", events)
	}
}

// Every event is measured here; only those of a rule's logsource count for it,
// and its condition only where finding turned it up.
func TestCosts(t *testing.T) {
	e, err := loadText(t, searches("s: {F|contains: needle}\ncondition: s"), searches("s: {G|re: '^[a-z]+$'}\ncondition: s"))
	if err != nil {
		t.Fatal(err)
	}
	e.set().costs.every = 1
	plain := e.set().events
	for range 10 {
		if len(e.Match(event("F", "a needle in hay"))) != 1 || len(e.Match(event("G", "abc"))) != 1 || len(e.Match(event("H", "x"))) != 0 {
			t.Fatal("measuring changes what matches")
		}
		other := event("F", "needle")
		other[LogsourceKey] = Logsource{Product: "elsewhere"}
		e.Match(other)
	}
	for _, r := range plain {
		if c := e.Costs()[r.ID]; c.Samples != 30 || c.Asked != 10 || c.Shared != 2 || c.Condition <= 0 || c.Finding <= 0 || c.PerEvent() <= 0 {
			t.Errorf("%s costs %+v, %v for an event", r.Title, c, c.PerEvent())
		}
	}
	if (Cost{}).PerEvent() != 0 {
		t.Error("what was not measured costs something")
	}
}
