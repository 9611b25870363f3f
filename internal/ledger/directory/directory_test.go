package directory_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/journal"
	"pasban/internal/journal/journaltest"
	"pasban/internal/ledger"
	"pasban/internal/ledger/directory"
	"pasban/internal/ledger/ledgertest"
	"pasban/internal/ledger/storage/posix"
	"pasban/internal/store"
	"pasban/internal/store/storetest"
	"pasban/internal/vrf"
)

func TestMain(m *testing.M) {
	ledger.RouteLogs(slog.New(slog.DiscardHandler))
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

var (
	ayesha = pasban.Subject{ID: "0a", CNIC: "35202-0000001-1"} // synthetic
	bilal  = pasban.Subject{ID: "0b", CNIC: "35202-0000002-1"} // synthetic
)

func look(s pasban.Subject, n int) pasban.Fact {
	f := pasban.NewFact(pasban.KindLook, "land-records", pasban.Actor{ID: "officer:1", Kind: pasban.ActorPerson}, time.Now())
	f.Subject, f.Body.Action, f.Body.Resource = s, "view", fmt.Sprint(n)
	return f
}

// rig is a ledger with its directory, which commits epochs when the test says so.
type rig struct {
	*directory.Directory
	*ledgertest.Parts
	sealer *journaltest.Sealer
	ledger *ledger.Ledger
	o      directory.Options
}

func start(t testing.TB, dsn string) *rig {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	dir, sealer := t.TempDir(), journaltest.NewSealer("")
	r := &rig{Parts: ledgertest.New(t, dir, dsn, sealer), sealer: sealer}
	var err error
	r.ledger, err = ledger.Open(ctx, posix.New(filepath.Join(dir, "ledger")), r.Store, r.Journal, r.Signer, r.VKey,
		ledger.Options{Agency: "land-records", Interval: 100 * time.Millisecond, AuditEvery: time.Hour, MaxDelay: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.ledger.Close() })
	go r.ledger.Run(ctx)
	r.o = directory.Options{Agency: "land-records", Journal: r.Journal, Prover: r.ledger, Verifier: r.Verifier, Key: vrf.NewKey([32]byte{1})}
	r.reopen(t)
	return r
}

// reopen opens the directory again, as after a restart.
func (r *rig) reopen(t testing.TB) {
	t.Helper()
	var err error
	if r.Directory, err = directory.Open(t.Context(), r.Store, r.o); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) record(t testing.TB, facts ...pasban.Fact) []journal.Entry {
	t.Helper()
	entries, err := r.Journal.Record(t.Context(), facts...)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// epoch commits an epoch and waits for the checkpoint that covers it.
func (r *rig) epoch(t testing.TB) {
	t.Helper()
	if err := r.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, leaves, err := r.Journal.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := r.ledger.Await(ctx, leaves-1); err != nil {
		t.Fatal(err)
	}
}

// statement takes the way that a downloaded one takes.
func (r *rig) statement(t testing.TB, who pasban.Subject) (pasban.Statement, pasban.Verified) {
	t.Helper()
	s, err := r.Statement(t.Context(), who)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if s, err = pasban.ParseStatement(data); err != nil {
		t.Fatal(err)
	}
	v, err := s.Verify(r.Verifier)
	if err != nil {
		t.Fatal(err)
	}
	return s, v
}

// dsns runs a test on both engines.
func dsns(t *testing.T, test func(t *testing.T, dsn string)) {
	t.Run("sqlite", func(t *testing.T) { test(t, storetest.SQLiteDSN(t)) })
	t.Run("postgres", func(t *testing.T) { test(t, storetest.PostgresDSN(t)) })
}

// A statement is whole, says what is not covered yet, and epochs follow each
// other over restarts; an epoch without changes is none.
func TestEpochs(t *testing.T) {
	dsns(t, func(t *testing.T, dsn string) {
		r := start(t, dsn)
		if _, err := r.Statement(t.Context(), ayesha); pasban.KindOf(err) != pasban.Unavailable {
			t.Errorf("error %v before the first epoch, want unavailable", err)
		}
		r.epochless(t)
		r.record(t, look(ayesha, 0), look(bilal, 1), look(ayesha, 2))
		r.epoch(t)
		first, v := r.statement(t, ayesha)
		if v.Covered != 2 || len(v.Entries) != 2 || v.Erased != 0 || v.Heads.Epoch != 1 || v.Heads.Labels != 2 || v.Heads.Size != 3 {
			t.Errorf("%+v", v)
		}
		r.record(t, look(ayesha, 3))
		if _, v := r.statement(t, ayesha); v.Covered != 2 || len(v.Entries) != 3 || v.Entries[2].Resource != "3" {
			t.Errorf("%+v", v)
		}
		r.reopen(t)
		if _, v := r.statement(t, ayesha); v.Covered != 2 || len(v.Entries) != 3 {
			t.Errorf("%+v", v)
		}
		r.epoch(t)
		_, v = r.statement(t, ayesha)
		opening := pasban.Opening{Kind: first.Epoch.Kind, Salt: first.Epoch.Salt, Body: first.Epoch.Body}
		leaf, err := opening.Leaf()
		if err != nil {
			t.Fatal(err)
		}
		if v.Covered != 3 || v.Heads.Epoch != 2 || v.Heads.Previous != pasban.NextPlace(1, leaf.Hash()).Previous {
			t.Errorf("%+v", v)
		}
		r.epochless(t)
		if _, v := r.statement(t, bilal); v.Covered != 1 || v.Heads.Epoch != 2 {
			t.Errorf("%+v", v)
		}
		if _, err := r.Statement(t.Context(), pasban.Subject{ID: "0c"}); pasban.KindOf(err) != pasban.NotFound {
			t.Errorf("error %v for nobody, want not found", err)
		}
	})
}

// epochless takes a step that must commit nothing.
func (r *rig) epochless(t *testing.T) {
	t.Helper()
	before, _, err := r.Journal.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after, _, err := r.Journal.Head(t.Context()); err != nil || after != before {
		t.Errorf("an epoch without changes was committed, %v", err)
	}
}

// Whatever is done to a list, its statement does not hold, and the error names
// the entry.
func TestListsThatAreNotWhole(t *testing.T) {
	r := start(t, storetest.SQLiteDSN(t))
	for i := range 5 {
		r.record(t, look(ayesha, i), look(bilal, i))
	}
	r.epoch(t)
	old, _ := r.statement(t, ayesha)
	other, _ := r.statement(t, bilal)
	r.record(t, look(ayesha, 5), look(ayesha, 6))
	r.epoch(t)
	r.record(t, look(ayesha, 7))
	for name, c := range map[string]struct {
		edit  func(s *pasban.Statement)
		where string
	}{
		"omitted":            {func(s *pasban.Statement) { s.Entries = slices.Delete(s.Entries, 2, 3) }, "entry 3"},
		"truncated":          {func(s *pasban.Statement) { s.Entries = s.Entries[:5] }, "entry 6"},
		"truncated, counted": {func(s *pasban.Statement) { s.Entries, s.Number = s.Entries[:6], 6 }, "entry 6"},
		"truncated, old end": {func(s *pasban.Statement) { s.Entries, s.Number, s.Proof = s.Entries[:5], 5, old.Proof }, "entry 5"},
		"reordered":          {func(s *pasban.Statement) { s.Entries[1], s.Entries[2] = s.Entries[2], s.Entries[1] }, "entry 2"},
		"twice":              {func(s *pasban.Statement) { s.Entries = slices.Insert(s.Entries, 2, s.Entries[1]) }, "entry 2"},
		"surplus":            {func(s *pasban.Statement) { s.Entries = slices.Insert(s.Entries, 2, other.Entries[2]) }, "entry 3"},
		"exchanged":          {func(s *pasban.Statement) { s.Entries[2] = other.Entries[2] }, "entry 3"},
		"altered": {func(s *pasban.Statement) {
			s.Entries[2].Body = json.RawMessage(strings.Replace(string(s.Entries[2].Body), `"view"`, `"change"`, 1))
		}, "entry 3"},
		"altered last":                 {func(s *pasban.Statement) { s.Entries[6].Salt = s.Entries[5].Salt }, "entry 7"},
		"not read":                     {func(s *pasban.Statement) { s.Entries[3].Body = json.RawMessage(`{"v":1}`) }, "entry 4"},
		"not covered, counted as such": {func(s *pasban.Statement) { s.Number = 8 }, "entry 8"},
		"covered, not counted":         {func(s *pasban.Statement) { s.Number = 6 }, "entry 7"},
		"moved":                        {func(s *pasban.Statement) { s.Entries[6].Index = 1000 }, "entry 7"},
		"another's":                    {func(s *pasban.Statement) { s.Citizen = bilal.CNIC }, "entry 1"},
		"another's label":              {func(s *pasban.Statement) { s.Label = other.Label }, ""},
		"another's end":                {func(s *pasban.Statement) { s.Proof = other.Proof }, "entry 7"},
		"old epoch":                    {func(s *pasban.Statement) { s.Epoch = old.Epoch }, "entry 6"},
		"no epoch":                     {func(s *pasban.Statement) { s.Epoch.Kind = pasban.KindLook }, ""},
		"empty":                        {func(s *pasban.Statement) { s.Entries = nil }, ""},
		"long proof":                   {func(s *pasban.Statement) { s.Proof = append(make([]tlog.Hash, 300), s.Proof...) }, ""},
	} {
		s, _ := r.statement(t, ayesha)
		c.edit(&s)
		v, err := s.Verify(r.Verifier)
		e, ok := errors.AsType[*pasban.Error](err)
		if !ok || e.Where != c.where || v.Entries != nil {
			t.Errorf("%s: error %v at %q, want one at %q", name, err, whereOf(e), c.where)
		}
	}
	s, _ := r.statement(t, ayesha)
	s.Entries = s.Entries[2:] // cannot pass for whole: what is missing is told
	if v, err := s.Verify(r.Verifier); err != nil || v.Erased != 2 {
		t.Errorf("%d erased, %v", v.Erased, err)
	}
}

// nobody is a synthetic citizen about whom nothing is recorded.
func nobody(i int) pasban.Subject {
	return pasban.Subject{ID: pasban.SubjectID(fmt.Sprintf("f%d", i)), CNIC: pasban.CNIC(fmt.Sprintf("35202-9%06d-1", i))}
}

// That a list is empty is proven like any other, and cannot be said of one that
// is not.
func TestEmptyLists(t *testing.T) {
	dsns(t, func(t *testing.T, dsn string) {
		r := start(t, dsn)
		if _, err := r.Statement(t.Context(), nobody(0)); pasban.KindOf(err) != pasban.Unavailable {
			t.Errorf("error %v before the first epoch, want unavailable", err)
		}
		r.record(t, look(ayesha, 0), look(bilal, 1), look(ayesha, 2))
		r.epoch(t)
		places := map[bool]bool{}
		var absent pasban.Statement
		for i := range 40 {
			s, v := r.statement(t, nobody(i))
			if s.Number != 0 || len(s.Entries) != 0 || v.Covered != 0 || v.Erased != 0 || v.Heads.Epoch != 1 || len(v.Entries) != 0 {
				t.Errorf("citizen %d: %+v", i, v)
			}
			if places[s.Other != nil] = true; s.Other != nil {
				absent = s
			}
		}
		if !places[true] {
			t.Fatal("none of 40 labels stands in the place of another")
		}
		whole, _ := r.statement(t, ayesha)
		for name, edit := range map[string]func(s *pasban.Statement){
			"of a citizen with entries":       func(s *pasban.Statement) { *s = whole; s.Entries, s.Number = nil, 0 },
			"with another's place":            func(s *pasban.Statement) { *s = whole; s.Entries, s.Number, s.Other = nil, 0, absent.Other },
			"with their own label as another": func(s *pasban.Statement) { *s = whole; s.Entries, s.Number, s.Other = nil, 0, ownNode(t, r, whole) },
			"entries kept":                    func(s *pasban.Statement) { *s = whole; s.Number = 0 },
			"a number":                        func(s *pasban.Statement) { s.Number = 1 },
			"a number below nothing":          func(s *pasban.Statement) { s.Number = -1 },
			"a last leaf":                     func(s *pasban.Statement) { s.Last = make([]byte, 32) },
			"another value":                   func(s *pasban.Statement) { s.Other.Value = make([]byte, 32) },
			"another label":                   func(s *pasban.Statement) { s.Other.Label[31] ^= 1 },
			"a label that begins otherwise":   func(s *pasban.Statement) { s.Other.Label[0] ^= 0x80 },
			"a label cut short":               func(s *pasban.Statement) { s.Other.Label = s.Other.Label[:31] },
			"no label":                        func(s *pasban.Statement) { s.Other = nil },
			"a shorter proof":                 func(s *pasban.Statement) { s.Proof = append(s.Proof, tlog.Hash{}) },
			"another citizen":                 func(s *pasban.Statement) { s.Citizen = ayesha.CNIC },
			"entries of another":              func(s *pasban.Statement) { s.Entries = whole.Entries },
		} {
			data, err := json.Marshal(absent)
			if err != nil {
				t.Fatal(err)
			}
			s, err := pasban.ParseStatement(data)
			if err != nil {
				t.Fatal(err)
			}
			edit(&s)
			if v, err := s.Verify(r.Verifier); pasban.KindOf(err) != pasban.Invalid || v.Entries != nil {
				t.Errorf("%s: %+v, %v", name, v, err)
			}
		}
		r.record(t, look(nobody(7), 3)) // behind the epoch: told, and not yet covered
		if _, v := r.statement(t, nobody(7)); v.Covered != 0 || len(v.Entries) != 1 {
			t.Errorf("%+v", v)
		}
		r.epoch(t)
		if _, v := r.statement(t, nobody(7)); v.Covered != 1 || len(v.Entries) != 1 {
			t.Errorf("%+v", v)
		}
	})
}

// ownNode is what a list's own node would say as another's.
func ownNode(t *testing.T, r *rig, s pasban.Statement) *pasban.OtherLabel {
	t.Helper()
	value, _, err := r.o.Key.Prove([]byte(s.Citizen))
	if err != nil {
		t.Fatal(err)
	}
	label, blind := pasban.SplitLabel(value)
	o := pasban.Opening{Kind: s.Entries[s.Number-1].Kind, Salt: s.Entries[s.Number-1].Salt, Body: s.Entries[s.Number-1].Body}
	leaf, err := o.Leaf()
	if err != nil {
		t.Fatal(err)
	}
	node := pasban.HeadValue(blind, s.Number, leaf.Hash())
	return &pasban.OtherLabel{Label: label[:], Value: node[:]}
}

// Of a list whose text was all destroyed it is proven how many entries it had,
// and what comes later goes on from there.
func TestDestroyedLists(t *testing.T) {
	dsns(t, func(t *testing.T, dsn string) {
		r := start(t, dsn)
		r.record(t, look(ayesha, 0), look(bilal, 1), look(ayesha, 2), look(ayesha, 3))
		r.epoch(t)
		_, before := r.statement(t, ayesha)
		r.sealer.Shred(ayesha.ID)
		s, v := r.statement(t, ayesha)
		if v.Erased != 3 || len(v.Entries) != 0 || v.Covered != 0 || s.Number != 3 {
			t.Errorf("%+v", v)
		}
		if err := v.Extends(before); err != nil {
			t.Error(err)
		}
		if _, err := r.Statement(t.Context(), pasban.Subject{ID: ayesha.ID}); pasban.KindOf(err) != pasban.NotFound {
			t.Errorf("error %v without the number, want not found", err)
		}
		for name, edit := range map[string]func(s *pasban.Statement){
			"fewer":        func(s *pasban.Statement) { s.Number = 2 },
			"more":         func(s *pasban.Statement) { s.Number = 4 },
			"another end":  func(s *pasban.Statement) { s.Last[0] ^= 1 },
			"no end":       func(s *pasban.Statement) { s.Last = nil },
			"half an end":  func(s *pasban.Statement) { s.Last = s.Last[:16] },
			"empty":        func(s *pasban.Statement) { s.Number, s.Last = 0, nil },
			"another's":    func(s *pasban.Statement) { s.Citizen = bilal.CNIC },
			"others' node": func(s *pasban.Statement) { s.Other = &pasban.OtherLabel{} },
		} {
			s, _ := r.statement(t, ayesha)
			edit(&s)
			if _, err := s.Verify(r.Verifier); pasban.KindOf(err) != pasban.Invalid {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// A later statement goes on from an earlier one, and says so if it does not.
func TestLaterStatements(t *testing.T) {
	r := start(t, storetest.SQLiteDSN(t))
	r.record(t, look(ayesha, 0), look(bilal, 1), look(ayesha, 2))
	r.epoch(t)
	_, empty := r.statement(t, nobody(1))
	first, one := r.statement(t, ayesha)
	_, other := r.statement(t, bilal)
	r.record(t, look(ayesha, 3), look(nobody(1), 4))
	r.epoch(t)
	_, two := r.statement(t, ayesha)
	_, begun := r.statement(t, nobody(1))
	for name, pair := range map[string][2]pasban.Verified{"itself": {one, one}, "grown": {two, one}, "begun": {begun, empty}} {
		if err := pair[0].Extends(pair[1]); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, pair := range map[string][2]pasban.Verified{"backwards": {one, two}, "another citizen": {two, other}, "an empty one": {empty, begun}} {
		if err := pair[0].Extends(pair[1]); pasban.KindOf(err) != pasban.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	first.Entries = first.Entries[1:] // as if the first had been erased, and is there again
	cut, err := first.Verify(r.Verifier)
	if err != nil || cut.Erased != 1 {
		t.Fatal(cut.Erased, err)
	}
	if err := two.Extends(cut); pasban.KindOf(err) != pasban.Invalid {
		t.Errorf("an erased entry that is there again: %v", err)
	}
	if err := cut.Extends(one); err != nil {
		t.Errorf("erased since: %v", err)
	}
	// Another ledger under the same key, with other entries: both hold for
	// themselves.
	fork := start(t, storetest.SQLiteDSN(t))
	fork.record(t, look(bilal, 9), look(ayesha, 8), look(ayesha, 7), look(ayesha, 6))
	fork.epoch(t)
	fork.record(t, look(bilal, 10))
	fork.epoch(t)
	_, forked := fork.statement(t, ayesha)
	if err := forked.Extends(one); pasban.KindOf(err) != pasban.Invalid || whereOf(err.(*pasban.Error)) != "entry 1" {
		t.Errorf("a forked list: %v", err)
	}
	if err := forked.Extends(two); pasban.KindOf(err) != pasban.Invalid || !strings.Contains(err.Error(), "committed twice") {
		t.Errorf("another map of one epoch: %v", err)
	}
}

func whereOf(e *pasban.Error) string {
	if e == nil {
		return ""
	}
	return e.Where
}

// A table of heads that was changed, emptied or left behind by a crash is made
// again from the journal, also with citizens whose keys are destroyed.
func TestTheTableIsMadeAgain(t *testing.T) {
	dsns(t, func(t *testing.T, dsn string) {
		r := start(t, dsn)
		r.record(t, look(ayesha, 0), look(bilal, 1), look(ayesha, 2))
		r.epoch(t)
		for _, q := range []string{
			`DELETE FROM directory_heads`, `UPDATE directory_heads SET number = 9`, `UPDATE directory_heads SET label = blind`,
			`DELETE FROM directory_heads WHERE subject = '0b'`,
		} {
			if err := r.Store.Write(t.Context(), func(tx *store.Tx) error { _, err := tx.Exec(q); return err }); err != nil {
				t.Fatal(err)
			}
			r.reopen(t)
			if _, v := r.statement(t, ayesha); v.Covered != 2 || v.Heads.Epoch != 1 {
				t.Errorf("%s: %+v", q, v)
			}
			r.epochless(t)
		}
		r.sealer.Shred(bilal.ID)
		r.record(t, look(ayesha, 3))
		r.reopen(t)
		r.epoch(t)
		if _, v := r.statement(t, ayesha); v.Covered != 3 || v.Heads.Labels != 2 {
			t.Errorf("%+v", v)
		}
	})
}

// What is hidden is in the statement as an entry, and its details from its date on.
func TestHidden(t *testing.T) {
	r := start(t, storetest.SQLiteDSN(t))
	hide := func(until time.Time) pasban.Fact {
		f := look(ayesha, 1)
		f.Body.Hidden.Until = until.UTC().Format(pasban.TimeFormat)
		return f
	}
	r.record(t, look(ayesha, 0), hide(time.Now().Add(time.Hour)), hide(time.Now()))
	r.epoch(t)
	s, v := r.statement(t, ayesha)
	if !slices.Equal(v.Closed, []int64{2}) || v.Overdue != nil || v.Covered != 3 || v.Entries[2].Resource != "1" || v.Entries[1].Resource != "" {
		t.Errorf("%+v", v)
	}
	if data, err := json.Marshal(s.Entries[1]); err != nil || s.Entries[1].Hidden != nil || strings.Contains(string(data), "officer") {
		t.Errorf("the hidden entry is %s, %v", data, err)
	}
}

// A citizen finds the epochs in which their list grew, over restarts, and the
// published labels are those that the epoch's leaf commits to.
func TestWatch(t *testing.T) {
	dsns(t, func(t *testing.T, dsn string) {
		r := start(t, dsn)
		if _, err := r.WatchKey(t.Context(), ayesha.ID); pasban.KindOf(err) != pasban.Unavailable {
			t.Errorf("error %v before the first epoch, want unavailable", err)
		}
		grew := func(id pasban.SubjectID, epoch int64) bool {
			t.Helper()
			key, err := r.WatchKey(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			receipt, err := r.EpochAt(t.Context(), epoch)
			if err != nil {
				t.Fatal(err)
			}
			body, err := receipt.Verify(r.Verifier)
			if err != nil || body.Heads.Epoch != epoch {
				t.Fatalf("epoch %d, %v; want %d", body.Heads.Epoch, err, epoch)
			}
			labels, err := r.Grown(t.Context(), epoch)
			if err != nil {
				t.Fatal(err)
			}
			found, err := key.Grew(body, labels)
			if err != nil {
				t.Fatal(err)
			}
			return found
		}
		r.record(t, look(ayesha, 0), look(bilal, 1), look(ayesha, 2))
		r.epoch(t)
		if !grew(ayesha.ID, 1) || !grew(bilal.ID, 1) {
			t.Error("who is new is not told")
		}
		r.record(t, look(bilal, 3))
		r.reopen(t)
		r.epoch(t)
		if grew(ayesha.ID, 2) || !grew(bilal.ID, 2) {
			t.Error("the second epoch tells the wrong one")
		}
		r.record(t, look(ayesha, 4))
		r.epoch(t)
		if !grew(ayesha.ID, 3) || grew(bilal.ID, 3) {
			t.Error("the third epoch tells the wrong one")
		}
		if !grew(ayesha.ID, 1) || grew(ayesha.ID, 2) {
			t.Error("an older epoch tells otherwise than it did")
		}
		if _, err := r.EpochAt(t.Context(), 4); pasban.KindOf(err) != pasban.NotFound {
			t.Errorf("error %v of an epoch to come, want not found", err)
		}
		if _, err := r.Grown(t.Context(), 4); pasban.KindOf(err) != pasban.NotFound {
			t.Errorf("error %v of an epoch to come, want not found", err)
		}
	})
}
