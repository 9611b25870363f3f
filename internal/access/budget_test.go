package access_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pasban"
	"pasban/internal/access"
	"pasban/internal/config"
	"pasban/internal/store"
	"pasban/internal/store/storetest"
)

var errSpent = errors.New("spent")

// spend spends in a transaction of its own.
func spend(ctx context.Context, st *store.Store, b *access.Budgets, a pasban.Actor, subject pasban.SubjectID, now time.Time) (bool, string, error) {
	var ok bool
	var reason string
	err := st.Write(ctx, func(tx *store.Tx) (err error) {
		if ok, reason, err = b.Spend(tx, a, subject, now); err == nil && !ok {
			err = errSpent
		}
		return err
	})
	if errors.Is(err, errSpent) {
		err = nil
	}
	return ok, reason, err
}

func budgets(t *testing.T, st *store.Store, limits ...config.Budget) *access.Budgets {
	t.Helper()
	b, err := access.NewBudgets(t.Context(), st, limits)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBudgetWindow(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		b := budgets(t, st, config.Budget{Role: "officer", Subjects: 2, Per: time.Hour}, config.Budget{Role: "officer", Subjects: 3, Per: 24 * time.Hour})
		for _, step := range []struct {
			after   time.Duration // since the first look
			actor   pasban.Actor
			subject pasban.SubjectID
			want    bool
		}{
			{0, officer, "a", true},
			{time.Minute, officer, "b", true},
			{2 * time.Minute, officer, "c", false},
			{3 * time.Minute, officer, "a", true}, // counted already
			{3 * time.Minute, officer, "", true},  // nobody
			{4 * time.Minute, supervisor, "c", true},
			{5 * time.Minute, pasban.Actor{ID: "officer:2", Role: "officer"}, "c", true}, // has a budget of their own
			{61 * time.Minute, officer, "c", true},
			{62 * time.Minute, officer, "d", false}, // the second budget
			{63 * time.Minute, officer, "a", true},  // new to the hour, not to the day
			{25 * time.Hour, officer, "d", true},
			{time.Hour, officer, "f", false}, // the clock was set back: what was spent later is spent
			{time.Hour, officer, "a", true},  // counted already
			{1000 * time.Hour, officer, "f", true},
		} {
			ok, reason, err := spend(t.Context(), st, b, step.actor, step.subject, now.Add(step.after))
			if err != nil || ok != step.want || ok == (reason != "") {
				t.Errorf("%v %s %s: %v %q %v", step.after, step.actor.ID, step.subject, ok, reason, err)
			}
		}
		if _, reason, _ := spend(t.Context(), st, access.WithLimits([]config.Budget{{Role: "officer", Subjects: 1, Per: time.Hour}}),
			officer, "e", now.Add(25*time.Hour)); reason != "the budget is used up: at most 1 citizens per 1h for role officer" {
			t.Errorf("reason %q", reason)
		}
	})
}

// TestBudgetHolds: 32 workers at once do not get more than 50 out of a budget
// of 50, on either engine, and what was rolled back is not spent.
func TestBudgetHolds(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		b := budgets(t, st, config.Budget{Role: "officer", Subjects: 50, Per: time.Hour})
		for i := range 10 { // rolled back: costs nothing
			err := st.Write(t.Context(), func(tx *store.Tx) error {
				if ok, _, err := b.Spend(tx, officer, pasban.SubjectID(fmt.Sprint("undone", i)), now); !ok || err != nil {
					t.Errorf("%v %v", ok, err)
				}
				return errSpent
			})
			if !errors.Is(err, errSpent) {
				t.Fatal(err)
			}
		}
		var passed atomic.Int64
		var workers sync.WaitGroup
		for w := range 32 {
			workers.Go(func() {
				for i := range 10 {
					ok, _, err := spend(t.Context(), st, b, officer, pasban.SubjectID(fmt.Sprint(w, "-", i)), now)
					if err != nil {
						t.Error(err)
					}
					if ok {
						passed.Add(1)
					}
				}
			})
		}
		workers.Wait()
		if passed.Load() != 50 {
			t.Errorf("%d looks passed a budget of 50", passed.Load())
		}
	})
}

// TestBudgetHoldsOverNodes: the same with two nodes on one PostgreSQL.
func TestBudgetHoldsOverNodes(t *testing.T) {
	dsn := storetest.PostgresDSN(t)
	nodes := []*store.Store{storetest.Open(t, dsn), storetest.Open(t, dsn)}
	b := budgets(t, nodes[0], config.Budget{Role: "officer", Subjects: 50, Per: time.Hour})
	var passed atomic.Int64
	var workers sync.WaitGroup
	for w := range 32 {
		workers.Go(func() {
			for i := range 5 {
				ok, _, err := spend(t.Context(), nodes[w%2], b, officer, pasban.SubjectID(fmt.Sprint(w, "-", i)), now)
				if err != nil {
					t.Error(err)
				}
				if ok {
					passed.Add(1)
				}
			}
		})
	}
	workers.Wait()
	if passed.Load() != 50 {
		t.Errorf("%d looks passed a budget of 50", passed.Load())
	}
}
