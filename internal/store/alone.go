package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"hash/fnv"
	"log/slog"
	"sync"
	"time"
)

const (
	// turnEvery is how often a node asks whether it is its turn, and whether it still
	// is.
	turnEvery = 2 * time.Second
	// turnTime bounds each of these questions.
	turnTime = 5 * time.Second
)

// Alone runs do on one at a time of the nodes that share the database, of those who
// name the same task, and on the next when that one has ended. It returns when ctx is
// done.
//
// The context of do ends with ctx, and when the connection is lost by which the others
// know of it. They may then begin some seconds before do has heard of it: the task
// must bear that. On SQLite, which has one node, do begins at once.
func (s *Store) Alone(ctx context.Context, task string, do func(ctx context.Context)) {
	if s.eng.dialect == SQLite {
		do(ctx)
		return
	}
	sum := fnv.New64a()
	sum.Write([]byte("pasban " + task))
	key := int64(sum.Sum64())
	for ctx.Err() == nil {
		if err := s.turn(ctx, key, do); err != nil && ctx.Err() == nil {
			slog.DebugContext(ctx, "store: nobody can say whose turn it is", "task", task, "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(turnEvery):
		}
	}
}

// turn runs do if no other node has the advisory lock (PostgreSQL manual, section
// 13.3.5), which belongs to a connection. Waiting for it within a statement would hold
// back what the database can clean up.
func (s *Store) turn(ctx context.Context, key int64, do func(ctx context.Context)) error {
	c, err := s.read.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	var mine bool
	if err := ask(ctx, func(ctx context.Context) error {
		return c.QueryRowContext(ctx, `SELECT pg_try_advisory_lock($1)`, key).Scan(&mine)
	}); err != nil {
		give(c)
		return err
	}
	if !mine {
		return nil
	}
	defer give(c)
	doing, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		defer stop()
		for {
			select {
			case <-doing.Done():
				return
			case <-time.After(turnEvery):
			}
			if ask(ctx, func(ctx context.Context) error { _, err := c.ExecContext(ctx, `SELECT 1`); return err }) != nil {
				return
			}
		}
	})
	do(doing)
	stop()
	watching.Wait()
	return nil
}

// ask bounds a question. It goes on when ctx is done: a connection whose question was
// cut off is lost.
func ask(ctx context.Context, question func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), turnTime)
	defer cancel()
	return question(ctx)
}

// give ends the connection, and with it the turn.
func give(c *sql.Conn) { _ = c.Raw(func(any) error { return driver.ErrBadConn }) }
