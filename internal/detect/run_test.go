package detect

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/sumdb/note"

	"pasban"
	"pasban/internal/journal"
	"pasban/internal/store"
	"pasban/internal/store/storetest"
)

type sealer struct{ cipher.AEAD }

func (s sealer) Seal(_ context.Context, _ pasban.SubjectID, plain, aad []byte) ([]byte, error) {
	return s.AEAD.Seal(nil, nil, plain, aad), nil
}

func (s sealer) Open(_ context.Context, _ pasban.SubjectID, sealed, aad []byte) ([]byte, error) {
	return s.AEAD.Open(nil, nil, sealed, aad)
}

func newJournal(t *testing.T, st *store.Store) *journal.Journal {
	t.Helper()
	skey, _, err := note.GenerateKey(rand.Reader, "test.example/ledger")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(t.Context(), st, journal.Options{Signer: signer, Sealer: sealer{aead}})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// failures records n failed sign-ins from one address, a second apart.
func failures(t *testing.T, j *journal.Journal, from, n int) {
	t.Helper()
	var facts []pasban.Fact
	for i := range n {
		f := pasban.NewFact(pasban.KindSignin, "land-records", pasban.Actor{}, time.Now().Add(time.Duration(from+i-60)*time.Second))
		f.Body.Action, f.Body.Outcome = "signin", pasban.Denied
		f.Restricted.IP = "203.0.113.7"
		facts = append(facts, f)
	}
	if _, err := j.Record(t.Context(), facts...); err != nil {
		t.Fatal(err)
	}
}

const bruteforce = `
title: Failed sign-in
id: 00000000-0000-4000-8000-000000000001
name: failed
logsource: {product: pasban, service: identity}
detection: {s: {Action: signin, Outcome: deny}, condition: s}
---
title: Many failures
id: 00000000-0000-4000-8000-000000000002
correlation: {type: event_count, rules: [failed], group-by: [SrcIP], timespan: 10m, condition: {gte: 10}}
`

func newBruteforce(t *testing.T) *Engine {
	t.Helper()
	e, err := loadRaw(t, bruteforce)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// runUntil runs the engine until the journal's entry seq has been handled, and
// returns the sequence numbers that matches named.
func runUntil(t *testing.T, e *Engine, j *journal.Journal, seq uint64) (named []uint64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- e.Run(ctx, j, func(_ context.Context, ms []Match) error {
			for _, m := range ms {
				for _, r := range m.Refs {
					named = append(named, r.Seq)
				}
			}
			return nil
		})
	}()
	for e.delayCount() < int(seq) {
		select {
		case err := <-done:
			t.Fatalf("Run ended: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("Run returned %v", err)
	}
	return named
}

func (e *Engine) delayCount() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.delays.n
}

// TestRunGoesOnAfterRestart: six failures before a restart and four after it
// are ten.
func TestRunGoesOnAfterRestart(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		j := newJournal(t, st)
		failures(t, j, 0, 6)
		if named := runUntil(t, newBruteforce(t), j, 6); len(named) != 0 {
			t.Fatalf("six failures fired: %v", named)
		}
		failures(t, j, 6, 4)
		e := newBruteforce(t)
		if named := runUntil(t, e, j, 4); !slices.Equal(named, []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}) {
			t.Errorf("events named are %v, want all ten", named)
		}
		if _, p99, ok := e.Delay(); !ok || p99 <= 0 {
			t.Errorf("delay is %v, %v", p99, ok)
		}
		tally := e.Tally(time.Now())
		if len(tally) != tallyParts {
			t.Errorf("%d parts of the day are known, want all: the whole journal was read", len(tally))
		}
	})
}

// TestRunInsists: a sink that fails gets the same matches again, and nothing is
// passed over.
func TestRunInsists(t *testing.T) {
	j := newJournal(t, storetest.SQLite(t))
	failures(t, j, 0, 12)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	calls := 0
	var named []uint64
	err := newBruteforce(t).Run(ctx, j, func(_ context.Context, ms []Match) error {
		if calls++; calls < 3 {
			return errors.New("the disk is full")
		}
		for _, m := range ms {
			for _, r := range m.Refs {
				named = append(named, r.Seq)
			}
		}
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) || len(named) != 12 || calls != 3 {
		t.Errorf("Run returned %v after %d calls; events named are %v", err, calls, named)
	}
}

// TestRunTwice: a second Run of the same engine counts nothing twice, and hands
// on what the first could not.
func TestRunTwice(t *testing.T) {
	j := newJournal(t, storetest.SQLite(t))
	e := newBruteforce(t)
	failures(t, j, 0, 6)
	runUntil(t, e, j, 6)
	failures(t, j, 6, 3)
	if named := runUntil(t, e, j, 9); len(named) != 0 {
		t.Fatalf("nine failures fired: %v", named)
	}
	failures(t, j, 9, 1)
	ctx, cancel := context.WithCancel(t.Context())
	err := e.Run(ctx, j, func(context.Context, []Match) error { cancel(); return errors.New("going down") })
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	var again []Match
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	err = e.Run(ctx, j, func(_ context.Context, ms []Match) error { again = ms; cancel(); return nil })
	if !errors.Is(err, context.Canceled) || len(again) != 1 || len(again[0].Refs) != 10 {
		t.Errorf("Run returned %v with matches %+v", err, again)
	}
}

// TestRunTellsOfDamage: whoever changes a row of the journal does not blind
// detection, and is noticed.
func TestRunTellsOfDamage(t *testing.T) {
	st := storetest.SQLite(t)
	j := newJournal(t, st)
	failures(t, j, 0, 3)
	err := st.Write(t.Context(), func(tx *store.Tx) error {
		if _, err := tx.Exec(`DROP TRIGGER journal_no_update`); err != nil {
			return err
		}
		_, err := tx.Exec(`UPDATE journal SET time = '2020-01-01T00:00:00.000Z' WHERE seq = 2`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	e, err := Load([]string{ownRules})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []Match
	if err := e.Run(ctx, j, func(_ context.Context, ms []Match) error { got = ms; cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if len(got) != 1 || !strings.Contains(got[0].Rule.Title, "Journal tampered") || got[0].Refs[0].Seq != 2 || got[0].Rule.Level != Critical {
		t.Errorf("matches are %+v", got)
	}
}

func TestTally(t *testing.T) {
	e := &Engine{}
	now := time.Date(2026, 11, 23, 12, 7, 0, 0, time.UTC)
	if got := e.Tally(now); len(got) != 0 {
		t.Errorf("nothing counted gives %v", got)
	}
	count := func(at time.Time, kind pasban.Kind, outcome pasban.Outcome, n int) {
		ev := pasban.Event{"Kind": string(kind), "Outcome": string(outcome), "time": at.UnixMilli()}
		if n > 0 {
			ev["Count"] = n
		}
		e.count(ev)
	}
	count(now, pasban.KindLook, pasban.Allowed, 0)
	count(now.Add(-20*time.Minute), pasban.KindBlock, pasban.Denied, 0)
	count(now.Add(-20*time.Minute), pasban.KindBlock, pasban.Denied, 40)
	count(now.Add(-20*time.Minute), pasban.KindBlock, pasban.Allowed, 0) // the WAF only looked on
	count(now, pasban.KindDecision, pasban.Denied, 0)
	count(now, pasban.KindSignin, pasban.Denied, 0)
	got := e.Tally(now)
	want := []Tally{{now.Add(-22 * time.Minute), 0, 41}, {now.Add(-7 * time.Minute), 1, 1}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("tally is %v, want %v", got, want)
	}
	// A day later the ring holds the new day alone.
	count(now.Add(24*time.Hour), pasban.KindLook, pasban.Allowed, 0)
	if got := e.Tally(now.Add(24 * time.Hour)); len(got) != tallyParts || got[tallyParts-1].Served != 1 || got[0].Served != 0 {
		t.Errorf("a day later it has %d parts, %v … %v", len(got), got[0], got[len(got)-1])
	}
}

func TestCheckCases(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("r.yml", bruteforce)
	cases := func(name string, match bool, repeat int, more string) string {
		return fmt.Sprintf("  - name: %s\n    rule: 00000000-0000-4000-8000-000000000002\n    match: %v\n%s    facts:\n      - {kind: signin, action: signin, outcome: deny, ip: 203.0.113.7, repeat: %d, every: 1s}\n", name, match, more, repeat)
	}
	write("r.test.yml", "cases:\n"+cases("ten", true, 10, "    why: 10 events\n")+cases("nine", false, 9, ""))
	if err := CheckCases([]string{dir}); err != nil {
		t.Errorf("right cases: %v", err)
	}
	write("r.test.yml", "cases:\n"+cases("ten", false, 10, "")+cases("nine", true, 9, "")+cases("why", true, 10, "    why: 11 events\n")+
		"  - {name: rule, rule: x, match: true, facts: [{kind: signin}]}\n  - {name: time, rule: 00000000-0000-4000-8000-000000000002, facts: [{kind: signin, at: noon}]}\n")
	err := CheckCases([]string{dir})
	if err == nil {
		t.Fatal("wrong cases pass")
	}
	for _, want := range []string{`r.test.yml:2`, `case "ten": the rule fires: 10 events`, `case "nine": the rule does not fire`, `no reason contains "11 events"`, "no rule with id x", `"noon" is not a time`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
	write("r.test.yml", "casses: []\n")
	if err := CheckCases([]string{dir}); err == nil || !strings.Contains(err.Error(), "casses") {
		t.Errorf("a misspelt key: %v", err)
	}
	if err := CheckCases([]string{filepath.Join(dir, "nothing")}); err == nil {
		t.Error("a missing directory passes")
	}
}

// TestWindowsCloseByTheClock: a window is answered though no further event comes.
func TestWindowsCloseByTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := loadCorrelation(t, "type: event_count\nrules: [a]\ngroup-by: [Who]\ntimespan: 5m\ncondition: {lt: 3}")
		began := time.Now()
		if ms := e.Match(event("F", "a", "Who", "x", "time", began.UnixMilli())); len(ms) != 0 {
			t.Fatalf("fires at once: %v", ms)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var after time.Duration
		failures := 0
		sink := func(_ context.Context, ms []Match) error {
			if failures++; failures < 3 {
				return errors.New("the disk is full")
			}
			if len(ms) != 1 || ms[0].Entity != "x" {
				t.Errorf("matches are %v", ms)
			}
			after = time.Since(began)
			cancel()
			return nil
		}
		e.closeQuiet(ctx, sink)
		if after < 5*time.Minute || after > 7*time.Minute {
			t.Errorf("answered after %v", after)
		}
	})
}
