package journal_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"pasban"
	"pasban/internal/journal"
	"pasban/internal/store"
	"pasban/internal/store/storetest"
)

// chained checks a citizen's list, oldest entry first: numbers from 1 without
// gaps, each with the leaf hash of the one before. It returns the entries.
func chained(t *testing.T, j *rig, id pasban.SubjectID) []journal.Entry {
	t.Helper()
	entries, err := j.BySubject(t.Context(), id, 0, 100_000)
	if err != nil {
		t.Fatal(err)
	}
	place := pasban.NextPlace(0, pasban.Leaf{}.Hash())
	for i := len(entries) - 1; i >= 0; i-- {
		e := entries[i]
		if e.Fact.Body.List != place {
			t.Fatalf("entry in row %d stands at %+v, want %+v", e.Seq, e.Fact.Body.List, place)
		}
		place = pasban.NextPlace(place.Number, e.Leaf.Hash())
	}
	return entries
}

// Facts about one citizen form a chain: within one call, between calls, among
// those of other citizens and those that nobody accounts for, and of several
// nodes that write at once.
func TestListsAreChains(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		j := open(t, st)
		first, err := j.Record(t.Context(), look(ayesha, 0), block(1), look(bilal, 2), look(ayesha, 3))
		if err != nil {
			t.Fatal(err)
		}
		if l := first[3].Fact.Body.List; l != pasban.NextPlace(1, first[0].Promise.Leaf) {
			t.Errorf("the second fact about one citizen stands at %+v", l)
		}
		if l := first[1].Fact.Body.List; l != (pasban.Place{}) {
			t.Errorf("a fact about nobody stands at %+v", l)
		}
		const writers, each = 8, 20
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					if _, err := j.Record(t.Context(), look(ayesha, i), look(bilal, w), look(ayesha, i)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if n := len(chained(t, j, ayesha.ID)); n != 2+2*writers*each {
			t.Errorf("%d entries", n)
		}
		if n := len(chained(t, j, bilal.ID)); n != 1+writers*each {
			t.Errorf("%d entries", n)
		}
	})
}

// Two nodes on one PostgreSQL keep one list.
func TestListsOfTwoNodes(t *testing.T) {
	dsn := storetest.PostgresDSN(t)
	nodes := make([]*rig, 2)
	for i := range nodes {
		st, err := store.Open(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.Close() })
		nodes[i] = open(t, st)
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 20 {
				if _, err := nodes[w%2].Record(t.Context(), look(ayesha, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(chained(t, nodes[0], ayesha.ID)); n != 160 {
		t.Errorf("%d entries", n)
	}
}

// What is undone takes no place, and what is shredded keeps its own: the list
// goes on behind it.
func TestListsGoOn(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		j := open(t, st)
		if _, err := j.Record(t.Context(), look(ayesha, 1), look(ayesha, 2)); err != nil {
			t.Fatal(err)
		}
		if _, err := j.Commit(t.Context(), func(*store.Tx) ([]pasban.Fact, error) {
			return []pasban.Fact{look(ayesha, 3)}, errors.New("undone")
		}); err == nil {
			t.Fatal("no error")
		}
		if err := j.failing(t, "undone"); err == nil {
			t.Fatal("no error")
		}
		j.sealer.shred(ayesha.ID)
		j.sealer.mu.Lock()
		j.sealer.keys[ayesha.ID] = gcm([]byte("the key of one who came back ...")) // does not open what was before
		j.sealer.mu.Unlock()
		if _, err := j.Record(t.Context(), look(bilal, 1), look(ayesha, 4)); err != nil {
			t.Fatal(err)
		}
		e, err := j.ByIndex(t.Context(), 3)
		if err != nil {
			t.Fatal(err)
		}
		var leaf pasban.Leaf
		leaves, err := j.Leaves(t.Context(), 1, 1)
		if err != nil {
			t.Fatal(err)
		}
		leaf = leaves[0].Leaf
		if want := pasban.NextPlace(2, leaf.Hash()); e.Fact.Body.List != want {
			t.Errorf("the list goes on at %+v, want %+v", e.Fact.Body.List, want)
		}
	})
}

// A place that was changed behind Pasban's back is damage, and the row is named.
func TestPlacesAreChecked(t *testing.T) {
	for _, change := range []string{
		`list_number = 3`, `list_number = NULL`, `list_number = NULL, list_previous = NULL`, `list_previous = NULL`,
		`list_number = 1, list_previous = NULL`, `list_number = -2`, `list_previous = leaf`,
	} {
		storetest.Each(t, func(t *testing.T, st *store.Store) {
			j := open(t, st)
			if _, err := j.Record(t.Context(), look(ayesha, 1), look(ayesha, 2)); err != nil {
				t.Fatal(err)
			}
			tamper(t, st, `UPDATE journal SET `+change+` WHERE seq = 2`)
			_, err := j.ByIndex(t.Context(), 1)
			e, ok := errors.AsType[*pasban.Error](err)
			if !ok || e.Where != "journal row 2" {
				t.Errorf("%s: error %v, want one that names row 2", change, err)
			}
		})
	}
}

// Heads gives the ends of the lists as they were at a size of the ledger.
func TestHeads(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		j := open(t, st)
		all, err := j.Record(t.Context(), look(ayesha, 0), look(bilal, 1), block(2), look(ayesha, 3), look(ayesha, 4))
		if err != nil {
			t.Fatal(err)
		}
		head := func(i int, n int64) journal.Head {
			return journal.Head{Subject: all[i].Fact.Subject.ID, Number: n, Index: uint64(all[i].Index), Leaf: all[i].Leaf.Hash()}
		}
		for _, c := range []struct {
			from, to uint64
			want     []journal.Head
		}{
			{0, 0, nil},
			{0, 1, []journal.Head{head(0, 1)}},
			{0, 3, []journal.Head{head(3, 2), head(1, 1)}},
			{3, 4, []journal.Head{head(4, 3)}},
			{4, 9, nil},
		} {
			got, err := j.Heads(t.Context(), c.from, c.to)
			if err != nil || fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("%d to %d: %v, %v; want %v", c.from, c.to, got, err, c.want)
			}
		}
	})
}
