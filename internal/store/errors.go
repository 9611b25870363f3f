package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
)

// ErrClosed is returned by writes to a closed store.
var ErrClosed = errors.New("the store is closed")

// Fault is the error of a group of writes that the storage refused: nothing of
// the group was acknowledged.
type Fault struct {
	During  string // "begin", "write", "commit"
	Unknown bool   // the connection was lost during COMMIT: the group may yet be there
	Err     error
}

// Error says what failed and why.
func (f *Fault) Error() string {
	if f.Unknown {
		return fmt.Sprintf("the storage went away during %s, the outcome is not known: %v", f.During, f.Err)
	}
	return fmt.Sprintf("the storage failed during %s: %v", f.During, f.Err)
}

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.Err }

// Panic is the error of a write whose function panicked; its changes were
// rolled back.
type Panic struct {
	Value any
	Stack []byte
}

// Error gives the value of the panic; the stack is in the log.
func (p *Panic) Error() string { return fmt.Sprintf("panic during a write: %v", p.Value) }

// Unique reports whether err says that a row was refused because a unique or
// primary key has that value already.
func (s *Store) Unique(err error) bool { return err != nil && s.eng.unique(err) }

// lost reports whether an error means that the connection is of no more use.
func lost(err error) bool {
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}
