package journal_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"pasban/internal/journal"
	"pasban/internal/store"
	"pasban/internal/store/storetest"
)

// A reader that is stopped and started again, by its context and by its own
// errors, gets every fact in order; after a clean stop none twice.
func TestTailAcrossRestarts(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		j := open(t, st)
		const facts = 600
		var writing sync.WaitGroup
		for w := range 4 {
			writing.Go(func() {
				for i := range facts / 4 {
					if _, err := j.Record(t.Context(), block(1000*w+i)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		var got []uint64
		synthetic := errors.New("synthetic")
		for round := 0; len(got) < facts; round++ {
			ctx, stop := context.WithCancel(t.Context())
			quota := 1 + len(got) + 37
			err := j.Tail(ctx, "reader", func(_ context.Context, entries []journal.Entry) error {
				if round%3 == 0 && len(got) > 0 {
					round++
					return synthetic // refused: comes again
				}
				for _, e := range entries {
					got = append(got, e.Seq)
				}
				if len(got) >= min(quota, facts) {
					stop()
				}
				return nil
			})
			stop()
			if !errors.Is(err, context.Canceled) && !errors.Is(err, synthetic) {
				t.Fatal(err)
			}
		}
		writing.Wait()
		for i, seq := range got {
			if seq != uint64(i)+1 {
				t.Fatalf("fact %d came as number %d", seq, i+1)
			}
		}
	})
}

// Readers keep their places apart, and a new one starts at the beginning.
func TestTailReaders(t *testing.T) {
	j := open(t, storetest.SQLite(t))
	if _, err := j.Record(t.Context(), block(1), block(2), block(3)); err != nil {
		t.Fatal(err)
	}
	read := func(reader string, until uint64) (got []uint64) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		err := j.Tail(ctx, reader, func(_ context.Context, entries []journal.Entry) error {
			for _, e := range entries {
				if got = append(got, e.Seq); e.Seq == until {
					stop()
				}
			}
			return nil
		})
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		return got
	}
	if got := read("a", 3); !slices.Equal(got, []uint64{1, 2, 3}) {
		t.Errorf("a read %v", got)
	}
	if _, err := j.Record(t.Context(), block(4)); err != nil {
		t.Fatal(err)
	}
	if got := read("a", 4); !slices.Equal(got, []uint64{4}) {
		t.Errorf("a read %v", got)
	}
	if got := read("b", 4); !slices.Equal(got, []uint64{1, 2, 3, 4}) {
		t.Errorf("b read %v", got)
	}
}

// Waiters that asked before they looked miss nothing.
func TestWait(t *testing.T) {
	j := open(t, storetest.SQLite(t))
	for i := range 20 {
		woken := j.Wait()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := j.Record(t.Context(), block(i)); err != nil {
				t.Error(err)
			}
		})
		<-woken
		if seq, _, err := j.Head(t.Context()); err != nil || seq != uint64(i)+1 {
			t.Errorf("woken at %d, %v; want %d", seq, err, i+1)
		}
		wg.Wait()
	}
}

// Several nodes on one database: numbers have no gaps, are the same for all,
// and each node's readers see the facts of all.
func TestNodes(t *testing.T) {
	for name, dsn := range map[string]func(testing.TB) string{store.SQLite: storetest.SQLiteDSN, store.Postgres: storetest.PostgresDSN} {
		t.Run(name, func(t *testing.T) {
			at := dsn(t)
			const nodes, writers, each = 3, 4, 10
			var js []*rig
			for range nodes {
				js = append(js, open(t, storetest.Open(t, at)))
			}
			var mu sync.Mutex
			byID := map[string]journal.Entry{}
			var wg sync.WaitGroup
			for _, j := range js {
				for range writers {
					wg.Go(func() {
						for i := range each {
							entries, err := j.Record(t.Context(), look(ayesha, i), block(i))
							if err != nil {
								t.Error(err)
								return
							}
							mu.Lock()
							for _, e := range entries {
								byID[e.Fact.Body.ID] = e
							}
							mu.Unlock()
						}
					})
				}
			}
			var got []journal.Entry
			ctx, stop := context.WithCancel(t.Context())
			err := js[0].Tail(ctx, "reader", func(_ context.Context, entries []journal.Entry) error {
				if got = append(got, entries...); len(got) >= 2*nodes*writers*each {
					stop()
				}
				return nil
			})
			wg.Wait()
			if !errors.Is(err, context.Canceled) || len(got) != len(byID) {
				t.Fatalf("%d facts, %v; want %d", len(got), err, len(byID))
			}
			leaf := int64(0)
			for i, e := range got {
				want := byID[e.Fact.Body.ID]
				if e.Seq != uint64(i)+1 || e.Seq != want.Seq || e.Index != want.Index || e.Index >= 0 && e.Index != leaf {
					t.Fatalf("fact %d is row %d leaf %d, its writer was told row %d leaf %d", i+1, e.Seq, e.Index, want.Seq, want.Index)
				}
				if e.Index >= 0 {
					leaf++
				}
			}
			leaves, err := js[1].Leaves(t.Context(), 0, 1000)
			if err != nil || len(leaves) != nodes*writers*each {
				t.Errorf("%d leaves, %v", len(leaves), err)
			}
		})
	}
}

// Many writers, some of whose steps fail: numbers have no gaps.
func TestNumbersAreGapless(t *testing.T) {
	j := open(t, storetest.SQLite(t))
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 25 {
				_, err := j.Record(t.Context(), look(bilal, i), block(i))
				if err != nil {
					t.Error(err)
				}
				if err := j.failing(t, fmt.Sprint(w, i)); err == nil {
					t.Error("a failing step was committed")
				}
			}
		})
	}
	wg.Wait()
	entries, err := j.Since(t.Context(), 0, 1000)
	if err != nil || len(entries) != 400 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	next := int64(0)
	for i, e := range entries {
		if e.Seq != uint64(i)+1 {
			t.Fatalf("row %d at place %d", e.Seq, i+1)
		}
		if e.Index >= 0 {
			if e.Index != next {
				t.Fatalf("leaf %d, want %d", e.Index, next)
			}
			next++
		}
	}
	if _, leaves, err := j.Head(t.Context()); err != nil || leaves != 200 || next != 200 {
		t.Errorf("%d leaves in the head, %d in the table, %v", leaves, next, err)
	}
}
