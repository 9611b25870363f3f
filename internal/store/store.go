// Package store keeps rows: in SQLite by default, in PostgreSQL when the
// config says so, behind one small surface.
//
// # The way data goes through it
//
// All writes go through [Store.Write]. One writer goroutine takes what is
// waiting (up to 256 functions), runs them in one transaction, each in its own
// savepoint, and commits once: the cost of making data durable is shared by
// everyone who waited (group commit). Reads ([Store.Query], [Store.QueryRow])
// go past it through a pool of connections that cannot write.
//
// # Guarantees
//
//   - Write returns nil after the function's changes are durable: on stable
//     storage, by SQLite's WAL with synchronous=FULL or PostgreSQL's
//     synchronous_commit=on. Both settings are asserted by query on every
//     connection; a store that cannot have them does not open.
//   - Write returns an error and nothing of the function's changes is there, if
//     the function failed or panicked, or if the commit failed; the one
//     exception, a PostgreSQL connection lost while it commits, is said so
//     ([Fault].Unknown). One function's error does not touch the others'.
//   - A commit that the storage refuses (disk full, read-only, I/O error)
//     fails the whole group, and [Store.Healthy] says so until a write
//     succeeds again; the writer tries by itself once a second.
//   - SQL is written once, with `?` placeholders, for both engines.
//
// # What it must never do
//
// It never acknowledges before the data is durable, never retries a function
// by itself, and knows nothing of what the rows mean.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The dialects that [Store.Dialect] can name.
const (
	SQLite   = "sqlite"
	Postgres = "postgres"
)

// Store is one open database. It is safe for concurrent use.
type Store struct {
	eng   *engine
	write *sql.DB // one connection, owned by the writer goroutine
	read  *sql.DB // cannot write

	queue   chan *op
	closing chan struct{} // closed by Close
	closed  chan struct{} // closed by the writer goroutine when it has ended
	once    sync.Once
	hooks   atomic.Pointer[hooks]

	mu    sync.Mutex // covers fault
	fault error      // the outcome of the last group, nil if it was committed

	stmts stmtCache // prepared statements of the reader pool
}

type hooks struct {
	before func(tx *Tx) error
	after  func(committed bool)
}

// Open opens the database that dsn names: a postgres:// or postgresql:// URL,
// or else the path of a SQLite file, which is created with mode 0600 if it is
// not there. It fails if the database cannot be written or does not have the
// settings that the guarantees rest on. ctx bounds the opening only.
func Open(ctx context.Context, dsn string) (*Store, error) {
	eng, err := engineFor(dsn)
	if err != nil {
		return nil, err
	}
	s := &Store{
		eng: eng, queue: make(chan *op, 4*maxGroup),
		closing: make(chan struct{}), closed: make(chan struct{}),
		stmts: stmtCache{on: eng.cache},
	}
	if s.write, s.read, err = eng.open(); err != nil {
		return nil, err
	}
	w := &writer{s: s}
	if err = w.open(ctx); err == nil {
		err = s.read.PingContext(ctx)
	}
	if err != nil {
		w.drop()
		return nil, errors.Join(fmt.Errorf("open the %s database: %w", eng.dialect, err), s.write.Close(), s.read.Close())
	}
	go w.run()
	return s, nil
}

// Close waits for the writes that were accepted, then closes the database.
// Later writes return [ErrClosed]. Closing twice is fine.
func (s *Store) Close() error {
	var err error
	s.once.Do(func() {
		close(s.closing)
		<-s.closed
		s.stmts.close()
		err = errors.Join(s.read.Close(), s.write.Close())
	})
	return err
}

// Dialect returns [SQLite] or [Postgres].
func (s *Store) Dialect() string { return s.eng.dialect }

// Query reads rows outside any transaction. It sees everything that was
// acknowledged before it began. It cannot change data.
//
// The placeholder is `?` in both dialects, wherever it stands outside of
// 'strings', "names" and comments; PostgreSQL's escape and dollar-quoted strings and
// its operators with a question mark cannot be used.
func (s *Store) Query(ctx context.Context, q string, args ...any) (*sql.Rows, error) {
	if st := s.stmts.get(ctx, s.read, q); st != nil {
		return st.QueryContext(ctx, args...)
	}
	return s.read.QueryContext(ctx, s.eng.bind(q), args...)
}

// QueryRow is [Store.Query] for at most one row; Scan returns sql.ErrNoRows if
// there is none.
func (s *Store) QueryRow(ctx context.Context, q string, args ...any) *sql.Row {
	if st := s.stmts.get(ctx, s.read, q); st != nil {
		return st.QueryRowContext(ctx, args...)
	}
	return s.read.QueryRowContext(ctx, s.eng.bind(q), args...)
}

// Queued returns how many writes wait for the writer at this moment.
func (s *Store) Queued() int { return len(s.queue) }

// OnCommit registers the two functions that go with every group: before runs
// in the group's transaction when all of its functions have run, just before
// COMMIT, and its error fails the whole group; after is told the outcome,
// before anyone is acknowledged. Both run on the writer goroutine. It may be
// called once, before the first Write that depends on it; a second call
// panics, for one of the two would silently not run.
func (s *Store) OnCommit(before func(tx *Tx) error, after func(committed bool)) {
	if !s.hooks.CompareAndSwap(nil, &hooks{before, after}) {
		panic("store: OnCommit called twice")
	}
}

// Healthy returns nil if the last group of writes was committed, or why it was
// not; a group in which the hook met a unique key ([Store.Unique]) does not count.
// It changes by itself when the storage works again.
func (s *Store) Healthy() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fault
}

// setHealth records the outcome of a group and logs the changes.
func (s *Store) setHealth(err error) {
	s.mu.Lock()
	was := s.fault
	s.fault = err
	s.mu.Unlock()
	switch {
	case err != nil && was == nil:
		slog.Error("store: writes fail", "dialect", s.eng.dialect, "err", err)
	case err == nil && was != nil:
		slog.Info("store: writes succeed again", "dialect", s.eng.dialect)
	}
}

// engine is what differs between the two databases.
type engine struct {
	dialect string
	begin   string                                                            // starts a writing transaction
	own     string                                                            // settings of the writer's connection that no guarantee rests on
	cache   bool                                                              // whether we keep prepared statements (pgx does by itself)
	bind    func(q string) string                                             // rewrites `?` placeholders
	faulty  func(err error) bool                                              // whether an error is the storage's, not the statement's
	unique  func(err error) bool                                              // whether a uniqueness constraint refused a row
	timeout time.Duration                                                     // longest a group may take, 0 if the engine bounds it
	open    func() (write, read *sql.DB, err error)                           // the writer's one connection, the readers' pool
	lock    func(ctx context.Context, c *sql.Conn) (unlock func(), err error) // one migration at a time
}

func engineFor(dsn string) (*engine, error) {
	switch {
	case strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://"):
		return postgresEngine(dsn)
	case dsn == "" || strings.Contains(dsn, "://"):
		return nil, fmt.Errorf("not a database: %q (want a path, or postgres://…)", dsn)
	}
	return sqliteEngine(dsn)
}
