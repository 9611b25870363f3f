package store

import (
	"context"
	"database/sql"
	"sync"
)

// maxStmts bounds the prepared statements kept per cache; whatever comes later
// is prepared each time it runs.
const maxStmts = 512

// stmtCache keeps the prepared statements of one connection or pool.
type stmtCache struct {
	on    bool       // false for engines whose driver keeps its own
	mu    sync.Mutex // covers stmts
	stmts map[string]*sql.Stmt
}

type preparer interface {
	PrepareContext(ctx context.Context, q string) (*sql.Stmt, error)
}

// get returns the prepared form of q, or nil if it is to be run as text: the
// cache is off or full, or q does not compile, whose error running it gives.
func (c *stmtCache) get(ctx context.Context, on preparer, q string) *sql.Stmt {
	if !c.on {
		return nil
	}
	c.mu.Lock()
	st, n := c.stmts[q], len(c.stmts)
	c.mu.Unlock()
	if st != nil || n >= maxStmts {
		return st
	}
	st, err := on.PrepareContext(ctx, q)
	if err != nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if other := c.stmts[q]; other != nil {
		st.Close()
		return other
	}
	if c.stmts == nil {
		c.stmts = map[string]*sql.Stmt{}
	}
	c.stmts[q] = st
	return st
}

// close closes and forgets every statement.
func (c *stmtCache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, st := range c.stmts {
		st.Close()
	}
	c.stmts = nil
}
