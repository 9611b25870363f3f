package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// maxGroup is the largest number of writes in one transaction.
const maxGroup = 256

// probeEvery is how often a failing storage is tried again without being asked.
const probeEvery = time.Second

// op is one call of Write on its way through the queue.
type op struct {
	fn    func(tx *Tx) error
	state atomic.Int32 // queued, then taken by the writer or dropped by the caller
	done  chan error   // buffered: the writer never waits for a caller
	tx    *Tx
	err   error
}

const (
	queued int32 = iota
	taken
	dropped
)

// Write runs fn in a transaction that it may share with other writes, and
// returns nil after fn's changes are durable. fn's error is returned as it is
// and undoes fn's changes alone; a panic becomes a *[Panic]. If the storage
// refuses the group, every write in it returns a *[Fault].
//
// If ctx is done before fn has started, fn does not run and ctx's error is
// returned; once it has started, Write waits for the outcome, so that the
// caller always knows it.
//
// fn runs on the writer goroutine: it must be short, must not call Write or
// Migrate (they would wait for themselves) nor end its goroutine
// (runtime.Goexit, a test's FailNow), and must not keep tx.
func (s *Store) Write(ctx context.Context, fn func(tx *Tx) error) error {
	o := &op{fn: fn, done: make(chan error, 1)}
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-s.closing: // checked first: the select below picks at random
		return ErrClosed
	default:
	}
	select {
	case s.queue <- o:
	case <-s.closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	var why error
	select {
	case err := <-o.done:
		return err
	case <-ctx.Done():
		why = ctx.Err()
	case <-s.closed:
		why = ErrClosed
	}
	if o.state.CompareAndSwap(queued, dropped) {
		return why
	}
	return <-o.done
}

// writer is the state of the one goroutine that writes. Nothing else touches
// its fields once run has started.
type writer struct {
	s     *Store
	conn  *sql.Conn // nil after a fault: opened again by the next group
	stmts stmtCache
	ctx   context.Context // bounds the group under way
	doom  error           // why the group under way cannot be committed
}

// run takes groups from the queue until the store is closed and the queue is
// empty.
func (w *writer) run() {
	defer close(w.s.closed)
	defer w.drop()
	for {
		var again <-chan time.Time
		if w.s.Healthy() != nil {
			again = time.After(probeEvery)
		}
		select {
		case o := <-w.s.queue:
			w.group(w.gather(o))
		case <-again:
			w.group([]*op{{fn: touch, done: make(chan error, 1)}})
		case <-w.s.closing:
			for {
				select {
				case o := <-w.s.queue:
					w.group(w.gather(o))
				default:
					return
				}
			}
		}
	}
}

// probe is the smallest write that reaches the disk.
const probe = `UPDATE store_probe SET n = n + 1`

func touch(tx *Tx) error {
	_, err := tx.Exec(probe)
	return err
}

// gather takes what is waiting, up to a whole group.
func (w *writer) gather(first *op) []*op {
	runtime.Gosched() // lets those just acknowledged come back into the queue: groups grow by a third
	group := make([]*op, 0, min(maxGroup, 1+len(w.s.queue)))
	for o := first; ; {
		if o.state.CompareAndSwap(queued, taken) {
			group = append(group, o)
		}
		if len(group) == maxGroup {
			return group
		}
		select {
		case o = <-w.s.queue:
		default:
			return group
		}
	}
}

// group runs the writes in one transaction and tells each its outcome. The
// order of the steps is what the store's guarantees rest on.
func (w *writer) group(group []*op) {
	if len(group) == 0 {
		return
	}
	var cancel context.CancelFunc = func() {}
	if w.ctx = context.Background(); w.s.eng.timeout > 0 {
		w.ctx, cancel = context.WithTimeout(w.ctx, w.s.eng.timeout)
	}
	defer cancel()
	hooks := w.s.hooks.Load()

	// 1. Begin; a lost connection is opened again first.
	w.doom = w.begin()
	// 2. Run every function in its savepoint: a failed one is undone alone.
	for _, o := range group {
		o.tx = &Tx{w: w}
		o.err = w.runOp(o)
	}
	// 3. What goes with the group (the journal numbers its rows here).
	if w.doom == nil && hooks != nil {
		w.doom = w.runBefore(hooks)
	}
	// 4. The durable point: when COMMIT has returned, the group is on disk.
	if w.doom == nil {
		if _, err := w.exec("COMMIT"); err != nil {
			w.doom = &Fault{During: "commit", Err: err, Unknown: lost(err) && w.s.eng.dialect == Postgres}
		}
	}
	// 5. Or nothing of the group is there.
	if w.doom != nil {
		w.abort()
		for _, o := range group {
			if o.err == nil {
				o.tx.rollback()
				o.err = w.doom
			}
		}
	}
	if !w.s.Unique(w.doom) { // what is there already says nothing about the storage
		w.s.setHealth(w.doom)
	}
	if hooks != nil {
		hooks.after(w.doom == nil)
	}
	// 6. Only now does anyone hear of it.
	for _, o := range group {
		o.done <- o.err
	}
}

// begin starts the transaction. A connection that was lost while nothing was
// under way (a restarted server) is replaced without anyone noticing: no
// function has run yet.
func (w *writer) begin() error {
	if w.conn != nil {
		_, err := w.exec(w.s.eng.begin)
		switch {
		case err == nil:
			return nil
		case w.s.eng.dialect == SQLite: // nothing to be lost; it has waited for its lock already
			return &Fault{During: "begin", Err: err}
		}
		w.drop()
	}
	err := w.open(w.ctx)
	if err == nil {
		_, err = w.exec(w.s.eng.begin)
	}
	if err != nil {
		return &Fault{During: "begin", Err: err}
	}
	return nil
}

// runOp runs one function. When it returns an error, nothing of the function
// is left in the transaction, or the group is doomed.
func (w *writer) runOp(o *op) error {
	if w.doom != nil {
		return w.doom
	}
	tx := o.tx
	err := call(o.fn, tx)
	tx.over = true
	if err == nil {
		err = tx.failed // swallowed by the function, but its statement is missing
	}
	if err == nil && tx.saved {
		if _, e := w.exec(release); e != nil {
			err = fmt.Errorf("release the savepoint: %w", e)
		}
	}
	if err == nil {
		return nil
	}
	if tx.saved && w.doom == nil {
		_, e := w.exec(rollbackTo)
		if e == nil {
			_, e = w.exec(release)
		}
		if e != nil {
			// The engine has rolled back more than this function.
			w.doom = &Fault{During: "write", Err: errors.Join(err, e)}
		}
	}
	tx.rollback()
	return err
}

// call turns a panic of fn into an error.
func call(fn func(*Tx) error, tx *Tx) (err error) {
	defer func() {
		if v := recover(); v != nil {
			p := &Panic{Value: v, Stack: debug.Stack()}
			slog.Error("store: panic during a write", "value", fmt.Sprint(v), "stack", string(p.Stack))
			err = p
		}
	}()
	return fn(tx)
}

// runBefore runs the hook in the group's transaction, without a savepoint: if
// it fails there is nothing to keep.
func (w *writer) runBefore(h *hooks) error {
	tx := &Tx{w: w, saved: true}
	err := call(h.before, tx)
	tx.over = true
	if err == nil {
		err = tx.failed
	}
	if err == nil {
		return w.doom
	}
	tx.rollback()
	if w.doom != nil {
		return w.doom
	}
	return &Fault{During: "write", Err: err}
}

// abort leaves no transaction behind. The connection is closed: after a fault
// a fresh one is the only state that is known.
func (w *writer) abort() {
	if w.conn != nil {
		w.conn.ExecContext(w.ctx, "ROLLBACK") // best effort: closing does it too
	}
	w.drop()
}

// open takes the writer's connection, whose settings the connector has
// asserted, and makes sure that it can write.
func (w *writer) open(ctx context.Context) error {
	conn, err := w.s.write.Conn(ctx)
	if err != nil {
		return err
	}
	w.conn, w.stmts.on = conn, w.s.eng.cache
	if own := w.s.eng.own; own != "" {
		if _, err := conn.ExecContext(ctx, own); err != nil {
			w.drop()
			return err
		}
	}
	if _, err = conn.ExecContext(ctx, probe); err != nil {
		if err = w.firstOpen(ctx); err != nil {
			w.drop()
		}
	}
	return err
}

// firstOpen makes the table that probe writes to.
func (w *writer) firstOpen(ctx context.Context) error {
	unlock, err := w.s.eng.lock(ctx, w.conn)
	if err != nil {
		return err
	}
	defer unlock()
	for _, q := range []string{
		`CREATE TABLE IF NOT EXISTS store_probe (id INTEGER PRIMARY KEY CHECK (id = 1), n BIGINT NOT NULL)`,
		`INSERT INTO store_probe (id, n) VALUES (1, 0) ON CONFLICT DO NOTHING`,
		probe,
	} {
		if _, err := w.conn.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

// drop closes the connection for good, rather than giving it back to the pool.
func (w *writer) drop() {
	w.stmts.close()
	if w.conn == nil {
		return
	}
	w.conn.Raw(func(any) error { return driver.ErrBadConn })
	w.conn.Close()
	w.conn = nil
}

func (w *writer) exec(q string, args ...any) (sql.Result, error) {
	if st := w.stmts.get(w.ctx, w.conn, q); st != nil {
		return st.ExecContext(w.ctx, args...)
	}
	return w.conn.ExecContext(w.ctx, w.s.eng.bind(q), args...)
}

func (w *writer) queryRow(q string, args ...any) *sql.Row {
	if st := w.stmts.get(w.ctx, w.conn, q); st != nil {
		return st.QueryRowContext(w.ctx, args...)
	}
	return w.conn.QueryRowContext(w.ctx, w.s.eng.bind(q), args...)
}
