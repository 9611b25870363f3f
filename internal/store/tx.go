package store

import (
	"database/sql"
	"errors"
	"fmt"
)

// Tx is what a write's function works with. It is valid until the function
// returns and belongs to the writer goroutine: it must not be kept or given to
// another one.
//
// After the first failed statement every further one fails with the same
// error, and so does the write, on both engines (PostgreSQL gives no choice):
// use ON CONFLICT rather than trying an INSERT. Rows must be closed before the
// next statement.
type Tx struct {
	w      *writer
	saved  bool // the savepoint has been started
	over   bool // the function has returned
	failed error
	undo   []func()
}

const (
	savepoint  = "SAVEPOINT op"
	release    = "RELEASE SAVEPOINT op"
	rollbackTo = "ROLLBACK TO SAVEPOINT op"
)

var errOver = errors.New("store: a Tx was used after its function returned")

// Exec runs a statement. The placeholder is `?` in both dialects.
func (tx *Tx) Exec(q string, args ...any) (sql.Result, error) {
	if err := tx.ready(); err != nil {
		return nil, err
	}
	res, err := tx.w.exec(q, args...)
	return res, tx.note(err)
}

// Query reads rows as this transaction sees them. With a statement that
// writes (RETURNING), the rows must be read to the end.
func (tx *Tx) Query(q string, args ...any) (*sql.Rows, error) {
	if err := tx.ready(); err != nil {
		return nil, err
	}
	rows, err := tx.w.conn.QueryContext(tx.w.ctx, tx.w.s.eng.bind(q), args...)
	return rows, tx.note(err)
}

// QueryRow is Query for at most one row; Scan returns sql.ErrNoRows if there
// is none, which does not fail the write.
func (tx *Tx) QueryRow(q string, args ...any) *Row {
	if err := tx.ready(); err != nil {
		return &Row{err: err}
	}
	row := tx.w.queryRow(q, args...)
	return &Row{tx: tx, row: row, err: tx.note(row.Err())}
}

// Row is the result of [Tx.QueryRow].
type Row struct {
	tx  *Tx
	row *sql.Row
	err error
}

// Scan copies the row's columns into dest. It returns sql.ErrNoRows if there
// was no row; any other error fails the write.
func (r *Row) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	err := r.row.Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return err
	}
	return r.tx.note(err)
}

// OnRollback registers fn to run on the writer goroutine if this write turns
// out not to be committed, whatever the reason. The last registered runs first.
func (tx *Tx) OnRollback(fn func()) { tx.undo = append(tx.undo, fn) }

// ready starts the savepoint at the first statement, so that a write without
// statements of its own costs none.
func (tx *Tx) ready() error {
	switch {
	case tx.over:
		return errOver
	case tx.failed != nil:
		return fmt.Errorf("an earlier statement of this write failed: %w", tx.failed)
	case tx.w.doom != nil:
		return tx.w.doom
	case tx.saved:
		return nil
	}
	if _, err := tx.w.exec(savepoint); err != nil {
		return tx.note(err)
	}
	tx.saved = true
	return nil
}

// note remembers a failed statement, and dooms the whole group if the storage
// is at fault rather than the statement.
func (tx *Tx) note(err error) error {
	if err == nil {
		return nil
	}
	tx.failed = err
	if tx.w.s.eng.faulty(err) {
		tx.w.doom = &Fault{During: "write", Err: err}
		return tx.w.doom
	}
	return err
}

func (tx *Tx) rollback() {
	for i := len(tx.undo) - 1; i >= 0; i-- {
		tx.undo[i]()
	}
	tx.undo = nil
}
