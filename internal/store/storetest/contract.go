package storetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"pasban/internal/store"
)

// RunTests is the contract of the store. newDSN names an empty database of the
// engine under test. The test binary's TestMain must be [Main].
func RunTests(t *testing.T, newDSN func(testing.TB) string) {
	for name, test := range map[string]func(*testing.T, string){
		"ReadsWhatWasWritten": readsWhatWasWritten,
		"ReadersCannotWrite":  readersCannotWrite,
		"GroupsShareCommits":  groupsShareCommits,
		"ErrorsAreIsolated":   errorsAreIsolated,
		"FirstErrorStands":    firstErrorStands,
		"HookFailsTheGroup":   hookFailsTheGroup,
		"UndoRuns":            undoRuns,
		"CancelledBefore":     cancelledBefore,
		"CloseKeepsAccepted":  closeKeepsAccepted,
		"ConcurrentWriters":   concurrentWriters,
		"FaultsFailAndHeal":   faultsFailAndHeal,
		"SurvivesKill":        survivesKill,
	} {
		t.Run(name, func(t *testing.T) { test(t, newDSN(t)) })
	}
}

// table opens the database and makes the table that the tests write to.
func table(t *testing.T, dsn string) *store.Store {
	t.Helper()
	st := Open(t, dsn)
	do(t, st, `CREATE TABLE item (id BIGINT PRIMARY KEY, note TEXT NOT NULL)`)
	return st
}

func do(t *testing.T, st *store.Store, q string, args ...any) {
	t.Helper()
	if err := st.Write(t.Context(), statement(q, args...)); err != nil {
		t.Fatal(err)
	}
}

func statement(q string, args ...any) func(*store.Tx) error {
	return func(tx *store.Tx) error {
		_, err := tx.Exec(q, args...)
		return err
	}
}

func insert(id int) func(*store.Tx) error {
	return statement(`INSERT INTO item (id, note) VALUES (?, ?)`, id, "a")
}

func count(t *testing.T, st *store.Store, where string, args ...any) (n int) {
	t.Helper()
	if err := st.QueryRow(t.Context(), `SELECT COUNT(*) FROM item WHERE `+where, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func readsWhatWasWritten(t *testing.T, dsn string) {
	st := table(t, dsn)
	do(t, st, `INSERT INTO item (id, note) VALUES (?, ?), (?, ?)`, 1, "what? it's 'quoted'", 2, "")
	rows, err := st.Query(t.Context(), `SELECT id, note, '?' FROM item -- is this one? no
		WHERE id >= ? ORDER BY id`, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var got strings.Builder
	for rows.Next() {
		var id int
		var note, mark string
		if err := rows.Scan(&id, &note, &mark); err != nil {
			t.Fatal(err)
		}
		got.WriteString(fmt.Sprintf("%d %q %s\n", id, note, mark))
	}
	if want := "1 \"what? it's 'quoted'\" ?\n2 \"\" ?\n"; got.String() != want || rows.Err() != nil {
		t.Errorf("read %s, %v; want %s", got.String(), rows.Err(), want)
	}
	err = st.Write(t.Context(), func(tx *store.Tx) error { // its own changes
		if _, err := tx.Exec(`UPDATE item SET note = ? WHERE id = ?`, "b", 2); err != nil {
			return err
		}
		var note string
		if err := tx.QueryRow(`SELECT note FROM item WHERE id = ?`, 2).Scan(&note); err != nil || note != "b" {
			return fmt.Errorf("read %q, %w", note, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func readersCannotWrite(t *testing.T, dsn string) {
	st := table(t, dsn)
	do(t, st, `INSERT INTO item (id, note) VALUES (1, 'a')`)
	for _, q := range []string{
		`DELETE FROM item WHERE id = ? RETURNING id`, `INSERT INTO item (id, note) VALUES (?, 'b') RETURNING id`,
		`UPDATE item SET note = 'c' WHERE id = ? RETURNING id`,
	} {
		var id int
		if err := st.QueryRow(t.Context(), q, 1).Scan(&id); err == nil {
			t.Errorf("a reader could %s", q)
		}
	}
	if n := count(t, st, `note = 'a'`); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
}

// hold keeps the writer busy until the function it returns is called: what is
// written meanwhile makes one group.
func hold(t *testing.T, st *store.Store) (wait func()) {
	t.Helper()
	running, release, done := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		done <- st.Write(context.WithoutCancel(t.Context()), func(*store.Tx) error {
			close(running)
			<-release
			return nil
		})
	}()
	<-running
	return func() {
		close(release)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// together queues the writes, lets them run as one group, and returns their
// errors.
func together(t *testing.T, st *store.Store, fns ...func(*store.Tx) error) []error {
	t.Helper()
	wait := hold(t, st)
	errs := make([]error, len(fns))
	var wg sync.WaitGroup
	for i, fn := range fns {
		queued := st.Queued()
		wg.Go(func() { errs[i] = st.Write(t.Context(), fn) })
		for st.Queued() == queued { // in this order
			runtime.Gosched()
		}
	}
	wait()
	wg.Wait()
	return errs
}

func groupsShareCommits(t *testing.T, dsn string) {
	st := table(t, dsn)
	var commits int // touched by the writer goroutine only, read when it rests
	st.OnCommit(func(*store.Tx) error { return nil }, func(bool) { commits++ })
	var fns []func(*store.Tx) error
	for i := range 20 {
		fns = append(fns, insert(i))
	}
	if err := errors.Join(together(t, st, fns...)...); err != nil {
		t.Fatal(err)
	}
	if n := count(t, st, `true`); n != 20 {
		t.Errorf("%d rows, want 20", n)
	}
	if commits != 2 { // the one that was held, and the group
		t.Errorf("%d commits, want 2", commits)
	}
}

// An error or a panic undoes its own write, before or after a statement, and
// no other's.
func errorsAreIsolated(t *testing.T, dsn string) {
	st := table(t, dsn)
	mine := errors.New("mine")
	errs := together(t, st,
		insert(1),
		func(tx *store.Tx) error { return errors.Join(insert(2)(tx), mine) },
		func(tx *store.Tx) error { return mine },
		func(tx *store.Tx) error { insert(3)(tx); panic("synthetic") },
		insert(1), // refused by the primary key
		func(tx *store.Tx) error { _, err := tx.Exec(`not SQL`); return err },
		insert(4),
	)
	_, panicked := errors.AsType[*store.Panic](errs[3])
	if errs[0] != nil || !errors.Is(errs[1], mine) || !errors.Is(errs[2], mine) || !panicked ||
		!st.Unique(errs[4]) || errs[5] == nil || st.Unique(errs[5]) || errs[6] != nil {
		t.Errorf("errors %v", errs)
	}
	if all, right := count(t, st, `true`), count(t, st, `id IN (1, 4)`); all != 2 || right != 2 {
		t.Errorf("%d rows, %d of the right ones; want 2 and 2", all, right)
	}
	if err := st.Healthy(); err != nil {
		t.Errorf("the storage is blamed: %v", err)
	}
}

// A write whose statement failed fails, whatever its function makes of it; one
// that found no row does not.
func firstErrorStands(t *testing.T, dsn string) {
	st := table(t, dsn)
	errs := together(t, st,
		insert(1),
		func(tx *store.Tx) error {
			first := insert(1)(tx)
			if second := insert(2)(tx); !errors.Is(second, first) {
				return errors.New("a statement ran after a failed one")
			}
			return nil
		},
		func(tx *store.Tx) error {
			var note string
			if tx.QueryRow(`SELECT note FROM item WHERE id = ?`, 77).Scan(&note) == nil {
				return errors.New("there is no such row")
			}
			return insert(3)(tx)
		},
	)
	if errs[0] != nil || !st.Unique(errs[1]) || errs[2] != nil {
		t.Errorf("errors %v", errs)
	}
	if n := count(t, st, `id = 2`); n != 0 {
		t.Error("a failed write left a row")
	}
	var kept *store.Tx
	if err := st.Write(t.Context(), func(tx *store.Tx) error { kept = tx; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := insert(9)(kept); err == nil {
		t.Error("a Tx works after its function has returned")
	}
}

func hookFailsTheGroup(t *testing.T, dsn string) {
	st := table(t, dsn)
	var outcomes []bool // touched by the writer goroutine only, read when it rests
	fail := errors.New("the hook's")
	var mode atomic.Value // the probe's groups read it as well
	mode.Store("")
	st.OnCommit(func(tx *store.Tx) error {
		switch mode.Load() {
		case "error":
			return fail
		case "panic":
			panic("synthetic")
		case "statement":
			insert(100)(tx)
			insert(100)(tx) // fails, unheard by the hook
		}
		return insert(1000 + len(outcomes))(tx)
	}, func(committed bool) { outcomes = append(outcomes, committed) })
	for i, m := range []string{"", "error", "panic", "statement", ""} {
		mode.Store(m)
		err := st.Write(t.Context(), insert(i))
		if _, faulty := errors.AsType[*store.Fault](err); faulty != (m != "") || m == "error" && !errors.Is(err, fail) {
			t.Errorf("mode %q: error %v", m, err)
		}
		if (st.Healthy() == nil) != (m == "" || m == "statement") { // a row that is there already is not the storage's fault
			t.Errorf("mode %q: health %v", m, st.Healthy())
		}
		mode.Store("")
		do(t, st, `SELECT 1`)
	}
	if n := count(t, st, `id < 1000`); n != 2 {
		t.Errorf("%d rows, want the 2 of the groups whose hook succeeded", n)
	}
	defer func() {
		if recover() == nil {
			t.Error("a second OnCommit was accepted")
		}
	}()
	st.OnCommit(nil, nil)
}

func undoRuns(t *testing.T, dsn string) {
	st := table(t, dsn)
	var undone []string // touched by the writer goroutine only, read when it rests
	undo := func(name string, fn func(*store.Tx) error) func(*store.Tx) error {
		return func(tx *store.Tx) error {
			tx.OnRollback(func() { undone = append(undone, name+"1") })
			tx.OnRollback(func() { undone = append(undone, name+"2") })
			return fn(tx)
		}
	}
	together(t, st, undo("a", insert(1)), undo("b", insert(1)), undo("c", func(*store.Tx) error { panic("synthetic") }))
	if got := fmt.Sprint(undone); got != "[b2 b1 c2 c1]" {
		t.Errorf("undone %s, want b and c, the last registered first", got)
	}
	undone = nil
	st.OnCommit(func(*store.Tx) error { return errors.New("synthetic") }, func(bool) {})
	if err := st.Write(t.Context(), undo("d", insert(2))); err == nil || fmt.Sprint(undone) != "[d2 d1]" {
		t.Errorf("undone %v, %v; want d after the group failed", undone, err)
	}
}

// A write whose context ends while it waits does not run; one that has started
// is waited for.
func cancelledBefore(t *testing.T, dsn string) {
	st := table(t, dsn)
	ctx, cancel := context.WithCancel(t.Context())
	wait := hold(t, st)
	done := make(chan error)
	queued := st.Queued()
	go func() { done <- st.Write(ctx, insert(1)) }()
	for st.Queued() == queued {
		runtime.Gosched()
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want cancelled", err)
	}
	wait()
	if err := st.Write(ctx, insert(2)); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want cancelled", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	err := st.Write(ctx, func(tx *store.Tx) error { cancel(); return insert(3)(tx) })
	if err != nil {
		t.Errorf("a write that had started: %v", err)
	}
	if all, third := count(t, st, `true`), count(t, st, `id = 3`); all != 1 || third != 1 {
		t.Errorf("%d rows, want the third alone", all)
	}
}

func closeKeepsAccepted(t *testing.T, dsn string) {
	st := table(t, dsn)
	acknowledged := make([]bool, 200)
	var wg sync.WaitGroup
	for i := range acknowledged {
		wg.Go(func() {
			err := st.Write(context.WithoutCancel(t.Context()), insert(i))
			if acknowledged[i] = err == nil; err != nil && !errors.Is(err, store.ErrClosed) {
				t.Error(err)
			}
		})
	}
	for range 2 {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	if err := st.Write(t.Context(), insert(-1)); !errors.Is(err, store.ErrClosed) {
		t.Errorf("error %v, want closed", err)
	}
	again := Open(t, dsn)
	for i, yes := range acknowledged {
		if n := count(t, again, `id = ?`, i); yes != (n == 1) {
			t.Errorf("write %d: acknowledged %v, rows %d", i, yes, n)
		}
	}
}

func concurrentWriters(t *testing.T, dsn string) {
	st := table(t, dsn)
	do(t, st, `INSERT INTO item (id, note) VALUES (0, '0')`)
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 20 {
				err := st.Write(t.Context(), func(tx *store.Tx) error {
					if _, err := tx.Exec(`UPDATE item SET note = CAST(CAST(note AS INTEGER) + 1 AS TEXT) WHERE id = 0`); err != nil {
						return err
					}
					return insert(1 + w*20 + i)(tx)
				})
				if err != nil {
					t.Error(err)
				}
				count(t, st, `id = 0`)
			}
		})
	}
	wg.Wait()
	if n, sum := count(t, st, `id > 0`), count(t, st, `id = 0 AND note = '320'`); n != 320 || sum != 1 {
		t.Errorf("%d rows, want 320; the counter is right in %d rows, want 1", n, sum)
	}
}

// A storage that refuses fails the whole group and says so, until it works
// again: by the next write, or by itself.
func faultsFailAndHeal(t *testing.T, dsn string) {
	st := table(t, dsn)
	refuse := `PRAGMA query_only = 1` // until the connection is replaced
	if st.Dialect() == store.Postgres {
		refuse = `SELECT pg_terminate_backend(pg_backend_pid())`
	}
	committed := make(chan bool, 100)
	st.OnCommit(func(*store.Tx) error { return nil }, func(ok bool) { committed <- ok })
	for _, heal := range []func(){
		func() { do(t, st, `INSERT INTO item (id, note) VALUES (9, 'a')`) },
		func() {
			for !<-committed { // the writer's own probe
			}
		},
	} {
		for i, err := range together(t, st, insert(1), statement(refuse), insert(2), func(*store.Tx) error { return nil }) {
			if _, ok := errors.AsType[*store.Fault](err); !ok {
				t.Errorf("write %d: error %v, want a fault", i, err)
			}
		}
		if st.Healthy() == nil {
			t.Fatal("healthy after a fault")
		}
		for len(committed) > 0 {
			<-committed
		}
		heal()
		if err := st.Healthy(); err != nil {
			t.Errorf("not healed: %v", err)
		}
		if n := count(t, st, `id < 9`); n != 0 {
			t.Errorf("%d rows of a group that failed", n)
		}
	}
}
