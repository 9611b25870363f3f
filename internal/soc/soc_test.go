package soc_test

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"pasban"
	"pasban/internal/detect"
	"pasban/internal/journal"
	"pasban/internal/journal/journaltest"
	"pasban/internal/soc"
	"pasban/internal/store"
	"pasban/internal/store/storetest"
)

type world struct {
	st     *store.Store
	j      *journal.Journal
	sealer *journaltest.Sealer
	c      *soc.Center
}

func newWorld(t *testing.T, st *store.Store) *world {
	t.Helper()
	skey, _, err := note.GenerateKey(rand.Reader, "test.example/ledger")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{st: st, sealer: journaltest.NewSealer("")}
	if w.j, err = journal.Open(t.Context(), st, journal.Options{Signer: signer, Sealer: w.sealer}); err != nil {
		t.Fatal(err)
	}
	w.c = w.open(t)
	return w
}

func (w *world) open(t *testing.T) *soc.Center {
	t.Helper()
	c, err := soc.Open(t.Context(), w.st, w.j, w.sealer, "land-records")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var (
	analyst = pasban.Actor{ID: "analyst:test", Kind: pasban.ActorPerson, Role: pasban.RoleAnalyst}
	morning = time.Date(2026, 11, 23, 9, 10, 0, 0, time.UTC)
	sqli    = &detect.Rule{ID: "11111111-1111-4111-8111-111111111111", Title: "SQL injection", Level: detect.High, Tags: []string{"attack.initial-access", "attack.t1190"}}
	bulk    = &detect.Rule{ID: "22222222-2222-4222-8222-222222222222", Title: "Bulk <script>alert(1)</script>", Level: detect.Critical, Tags: []string{"attack.t1213.002"}}
	odd     = &detect.Rule{ID: "33333333-3333-4333-8333-333333333333", Title: "Odd hour", Level: detect.Low}
)

// match is a match of rule about entity by the events of these numbers, a
// second apart from at on.
func match(rule *detect.Rule, entity string, at time.Time, seqs ...uint64) detect.Match {
	m := detect.Match{Rule: rule, Entity: entity, Time: at, Why: []string{fmt.Sprintf("%d events", len(seqs))}}
	for i, seq := range seqs {
		m.Time = at.Add(time.Duration(i) * time.Second)
		m.Refs = append(m.Refs, detect.Ref{Seq: seq, ID: fmt.Sprintf("fact-%d", seq), Time: m.Time})
	}
	return m
}

func (w *world) handle(t *testing.T, ms ...detect.Match) {
	t.Helper()
	if err := w.c.Handle(t.Context(), ms); err != nil {
		t.Fatal(err)
	}
}

func (w *world) list(t *testing.T, q soc.Query) []soc.Alert {
	t.Helper()
	list, err := w.c.List(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestMatchesBecomeOneAlert(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w := newWorld(t, st)
		w.handle(t, match(sqli, "203.0.113.8", morning, 1), match(sqli, "203.0.113.8", morning.Add(time.Minute), 4))
		w.handle(t, match(sqli, "203.0.113.8", morning.Add(2*time.Minute), 5, 6))
		list := w.list(t, soc.Query{})
		if len(list) != 1 {
			t.Fatalf("%d alerts, want 1", len(list))
		}
		a := list[0]
		if a.Count != 4 || a.Entity != "203.0.113.8" || a.Title != sqli.Title || a.Level != detect.High || a.State != soc.New ||
			!a.First.Equal(morning) || !a.Last.Equal(morning.Add(2*time.Minute+time.Second)) || !slices.Equal(a.Why, []string{"2 events"}) ||
			!slices.Equal(a.Techniques(), []string{"T1190"}) {
			t.Errorf("alert is %+v", a)
		}
		events, err := w.c.Events(t.Context(), a.ID)
		if err != nil {
			t.Fatal(err)
		}
		if want := []soc.Event{{1, "fact-1"}, {4, "fact-4"}, {5, "fact-5"}, {6, "fact-6"}}; !slices.Equal(events, want) {
			t.Errorf("events are %v, want %v", events, want)
		}
		found, err := w.c.ByFact(t.Context(), "fact-4")
		if err != nil || len(found) != 1 || found[0].ID != a.ID {
			t.Errorf("ByFact gave %v, %v", found, err)
		}

		// Another entity, another rule and another hour are other alerts.
		w.handle(t, match(sqli, "203.0.113.9", morning, 7), match(odd, "203.0.113.8", morning, 7), match(sqli, "203.0.113.8", morning.Add(time.Hour), 8))
		if n := len(w.list(t, soc.Query{})); n != 4 {
			t.Errorf("%d alerts, want 4", n)
		}
	})
}

// A crash between the alerts' commit and the journal position's makes the same
// matches come again, perhaps cut into other batches, to a center opened anew.
func TestRedeliveryChangesNothing(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w := newWorld(t, st)
		first := []detect.Match{match(bulk, "officer:lhr-032", morning, 1, 2, 3), match(sqli, "203.0.113.8", morning, 4)}
		w.handle(t, first...)
		if err := w.c.SetState(t.Context(), analyst, []string{w.list(t, soc.Query{Rule: sqli.ID})[0].ID}, soc.Change{State: soc.Closed, Verdict: soc.TruePositive, Note: "a test"}); err != nil {
			t.Fatal(err)
		}
		before := w.list(t, soc.Query{})
		w.c = w.open(t)
		updates, cancel := w.c.Subscribe()
		defer cancel()
		w.handle(t, first[1])
		w.handle(t, first[0], match(bulk, "officer:lhr-032", morning, 2, 3))
		after := w.list(t, soc.Query{})
		if fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("alerts were %v, are %v", before, after)
		}
		select {
		case a := <-updates:
			t.Errorf("subscribers were told of %v again", a)
		default:
		}

		w.handle(t, match(bulk, "officer:lhr-032", morning, 3, 9))
		if a := w.list(t, soc.Query{Rule: bulk.ID})[0]; a.Count != 4 {
			t.Errorf("count is %d, want 4: event 9 is new, event 3 is not", a.Count)
		}
	})
}

func TestStates(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w := newWorld(t, st)
		w.handle(t, match(sqli, "203.0.113.8", morning, 1), match(bulk, "officer:lhr-032", morning, 2))
		var ids []string
		for _, a := range w.list(t, soc.Query{}) {
			ids = append(ids, a.ID)
		}
		updates, cancel := w.c.Subscribe()
		defer cancel()
		ctx := t.Context()
		if err := w.c.SetState(ctx, analyst, ids, soc.Change{State: soc.Acknowledged, Note: "looking"}); err != nil {
			t.Fatal(err)
		}
		for range ids {
			if a := <-updates; a.State != soc.Acknowledged {
				t.Errorf("update says %s", a.State)
			}
		}
		entries, err := w.j.Since(ctx, 0, 10)
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range entries {
			b := e.Fact.Body
			if b.Kind != pasban.KindAdmin || b.Action != "alert.acknowledge" || b.Resource != ids[i] || e.Fact.Restricted.Actor != analyst.ID || e.Fact.Restricted.More["note"] != "looking" {
				t.Errorf("fact %d is %+v %+v", i, b, e.Fact.Restricted)
			}
		}
		if len(entries) != 2 {
			t.Errorf("%d facts, want 2", len(entries))
		}

		if err := w.c.SetState(ctx, analyst, ids[:1], soc.Change{State: soc.Closed, Verdict: soc.TruePositive, Note: " done "}); err != nil {
			t.Fatal(err)
		}
		if err := w.c.AddNote(ctx, analyst, ids[0], "see case 7"); err != nil {
			t.Fatal(err)
		}
		w.handle(t, match(bulk, "officer:lhr-032", morning.Add(time.Minute), 5))
		if a, err := w.c.Get(ctx, ids[0]); err != nil || a.State != soc.New || a.Count != 2 {
			t.Errorf("after a new event the closed alert is %+v, %v", a, err)
		}
		notes, err := w.c.Notes(ctx, ids[0])
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, n := range notes {
			got = append(got, fmt.Sprintf("%s %s: %s", n.State, n.Who, n.Text))
		}
		want := []string{"acknowledged analyst:test: looking", "closed analyst:test: done", "closed analyst:test: see case 7", "new : opened again: the rule goes on matching"}
		if !slices.Equal(got, want) {
			t.Errorf("notes are %q, want %q", got, want)
		}
	})
}

func TestStateErrors(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	w.handle(t, match(sqli, "203.0.113.8", morning, 1))
	id := w.list(t, soc.Query{})[0].ID
	supervisor := pasban.Actor{ID: "supervisor:test", Role: pasban.RoleSupervisor}
	for _, c := range []struct {
		name  string
		actor pasban.Actor
		ids   []string
		do    soc.Change
		want  pasban.ErrorKind
	}{
		{"a supervisor only reads", supervisor, []string{id}, soc.Change{State: soc.Acknowledged}, pasban.Forbidden},
		{"nobody", pasban.Actor{}, []string{id}, soc.Change{State: soc.Acknowledged}, pasban.Forbidden},
		{"unknown state", analyst, []string{id}, soc.Change{State: "ignored"}, pasban.Invalid},
		{"suppressed by hand", analyst, []string{id}, soc.Change{State: soc.Suppressed}, pasban.Invalid},
		{"nothing chosen", analyst, nil, soc.Change{State: soc.Acknowledged}, pasban.Invalid},
		{"closed without a reason", analyst, []string{id}, soc.Change{soc.Closed, soc.Benign, " "}, pasban.Invalid},
		{"closed without a verdict", analyst, []string{id}, soc.Change{State: soc.Closed, Note: "x"}, pasban.Invalid},
		{"an unknown verdict", analyst, []string{id}, soc.Change{soc.Closed, "fine", "x"}, pasban.Invalid},
		{"a verdict on an open alert", analyst, []string{id}, soc.Change{soc.Acknowledged, soc.Benign, "x"}, pasban.Invalid},
		{"not text", analyst, []string{id}, soc.Change{soc.Closed, soc.Benign, "\xff"}, pasban.Invalid},
		{"one of them unknown", analyst, []string{id, "nothing"}, soc.Change{State: soc.Acknowledged}, pasban.NotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := w.c.SetState(t.Context(), c.actor, c.ids, c.do); err == nil || pasban.KindOf(err) != c.want {
				t.Errorf("SetState gave %v, want kind %s", err, c.want)
			}
		})
	}
	if a, err := w.c.Get(t.Context(), id); err != nil || a.State != soc.New {
		t.Errorf("the alert is %+v, %v", a, err)
	}
	if seq, _, err := w.j.Head(t.Context()); err != nil || seq != 0 {
		t.Errorf("%d facts were recorded, %v", seq, err)
	}
	if err := w.c.AddNote(t.Context(), supervisor, id, "x"); pasban.KindOf(err) != pasban.Forbidden {
		t.Errorf("AddNote gave %v", err)
	}
}

func TestQueries(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w := newWorld(t, st)
		w.handle(t,
			match(odd, "a", morning, 1), match(sqli, "b", morning.Add(time.Minute), 2), match(sqli, "c", morning.Add(2*time.Minute), 3),
			match(bulk, "d", morning.Add(-3*time.Hour), 4), match(sqli, "e", morning.Add(time.Minute), 5))
		entities := func(q soc.Query) (out []string) {
			for _, a := range w.list(t, q) {
				out = append(out, a.Entity)
			}
			return out
		}
		all := entities(soc.Query{})
		if len(all) != 5 || all[0] != "d" || all[1] != "c" || all[4] != "a" {
			t.Errorf("order is %v, want gravest first, then newest", all)
		}
		for _, c := range []struct {
			q    soc.Query
			want int
		}{
			{soc.Query{MinLevel: detect.High}, 4},
			{soc.Query{Technique: "T1190"}, 3},
			{soc.Query{Technique: "T1213"}, 1},
			{soc.Query{Technique: "T1213.002"}, 1},
			{soc.Query{Technique: "T1"}, 0},
			{soc.Query{Technique: "%"}, 0},
			{soc.Query{Since: morning}, 4},
			{soc.Query{Until: morning}, 1},
			{soc.Query{Rule: odd.ID}, 1},
			{soc.Query{States: []soc.State{soc.Closed}}, 0},
			{soc.Query{States: []soc.State{soc.New, soc.Closed}}, 5},
		} {
			if got := entities(c.q); len(got) != c.want {
				t.Errorf("%+v gave %v, want %d", c.q, got, c.want)
			}
		}
		var paged []string
		q := soc.Query{Max: 2}
		for range 4 {
			page := w.list(t, q)
			for _, a := range page {
				paged = append(paged, a.Entity)
				q.After = a.Cursor()
			}
		}
		if !slices.Equal(paged, all) {
			t.Errorf("by pages %v, at once %v", paged, all)
		}
		if _, err := w.c.List(t.Context(), soc.Query{After: "x"}); pasban.KindOf(err) != pasban.Invalid {
			t.Errorf("a bad cursor gave %v", err)
		}
		if latest, err := w.c.Latest(t.Context(), 2); err != nil || len(latest) != 2 || latest[0].Entity != "c" {
			t.Errorf("Latest gave %v, %v", latest, err)
		}
		open, err := w.c.Open(t.Context())
		if err != nil || open[detect.High] != 3 || open[detect.Critical] != 1 || open[detect.Low] != 1 {
			t.Errorf("Open gave %v, %v", open, err)
		}
		techniques, err := w.c.Techniques(t.Context(), morning)
		if err != nil || techniques["T1190"] != 3 || techniques["T1213.002"] != 0 {
			t.Errorf("Techniques gave %v, %v", techniques, err)
		}
		raised, err := w.c.Raised(t.Context(), morning.Add(-4*time.Hour), morning.Add(time.Hour), 5)
		if err != nil || !slices.Equal(raised, []int{0, 1, 0, 0, 4}) {
			t.Errorf("Raised gave %v, %v", raised, err)
		}
		if _, err := w.c.Get(t.Context(), "nothing"); pasban.KindOf(err) != pasban.NotFound {
			t.Errorf("Get gave %v", err)
		}
	})
}

func TestLinksAreBounded(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	var seqs []uint64
	for i := range 400 {
		seqs = append(seqs, uint64(i+1))
	}
	w.handle(t, match(sqli, "203.0.113.8", morning, seqs...))
	for i := range seqs {
		seqs[i] += 400
	}
	w.handle(t, match(sqli, "203.0.113.8", morning, seqs...))
	a := w.list(t, soc.Query{})[0]
	events, err := w.c.Events(t.Context(), a.ID)
	if err != nil || a.Count != 800 || len(events) != 500 {
		t.Errorf("count %d with %d events named, %v", a.Count, len(events), err)
	}
}

func TestSlowSubscriberIsCutOff(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	slow, cancel := w.c.Subscribe()
	quick, end := w.c.Subscribe()
	for i := range 70 {
		w.handle(t, match(sqli, fmt.Sprint(i), morning, uint64(i+1)))
		if a, ok := <-quick; !ok || a.Entity != fmt.Sprint(i) {
			t.Fatalf("the quick subscriber got %v, %v", a, ok)
		}
	}
	n := 0
	for range slow {
		n++
	}
	if n != 64 {
		t.Errorf("the slow subscriber got %d alerts before it was cut off", n)
	}
	cancel() // once more is fine
	end()
	if _, ok := <-quick; ok {
		t.Error("the subscription did not end")
	}
}

// Nothing that tells of people lies readable in the tables.
func TestSealed(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	w.handle(t, match(sqli, "203.0.113.8", morning, 1))
	a := w.list(t, soc.Query{})[0]
	if err := w.c.AddNote(t.Context(), analyst, a.ID, "the visitor from Sialkot"); err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{`SELECT detail FROM soc_alert`, `SELECT detail FROM soc_alert_note`} {
		var raw []byte
		if err := w.st.QueryRow(t.Context(), q).Scan(&raw); err != nil {
			t.Fatal(err)
		}
		for _, plain := range []string{"203.0.113.8", "events", "Sialkot", "analyst"} {
			if strings.Contains(string(raw), plain) || len(raw) == 0 {
				t.Errorf("%s holds %q", q, plain)
			}
		}
	}
	other, err := soc.Open(t.Context(), w.st, w.j, journaltest.NewSealer("another"), "land-records")
	if err == nil {
		_, err = other.List(t.Context(), soc.Query{})
	}
	if err == nil {
		t.Error("alerts open with another key")
	}
}
