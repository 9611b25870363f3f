package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// sqliteEngine keeps rows in one file. There is no cgo in it.
func sqliteEngine(path string) (*engine, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	return &engine{
		dialect: SQLite,
		begin:   "BEGIN IMMEDIATE",
		own:     sqliteWriter,
		cache:   true,
		bind:    func(q string) string { return q },
		faulty:  sqliteFault,
		unique:  sqliteUnique,
		open:    func() (write, read *sql.DB, err error) { return openSQLite(path) },
		lock:    func(ctx context.Context, _ *sql.Conn) (func(), error) { return lockSQLite(ctx, path+".lock") },
	}, nil
}

// sqliteWriter is for speed alone, and for the writer's connection alone, for a
// migration may sort a whole table. What undoes a statement stays in memory, not in
// files in the system's temporary directory. And 8 MiB hold what a group changes:
// else SQLite would write pages to the log before the group is whole, read them
// back and write them again.
const sqliteWriter = `PRAGMA temp_store = memory; PRAGMA cache_size = -8192`

// openSQLite creates the file if need be, private to this user; SQLite gives
// the files beside it (-wal, -shm) the same mode.
func openSQLite(path string) (write, read *sql.DB, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = f.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrPermission) { // SQLite says what it thinks of a read-only file
		return nil, nil, fmt.Errorf("open the database file: %w", err)
	}
	// fdatasync is what SQLite's own builds use on Linux; where it is not to
	// be had the default, fsync, is as durable.
	if _, err := sqlite.Fdatasync(true); err != nil && !errors.Is(err, sqlite.ErrFdatasyncUnavailable) {
		return nil, nil, err
	}
	w, err := sqliteConnector(path, "_txlock=immediate", "0")
	if err != nil {
		return nil, nil, err
	}
	r, err := sqliteConnector(path, "_query_only=1", "1")
	if err != nil {
		return nil, nil, err
	}
	write, read = sql.OpenDB(w), sql.OpenDB(r)
	write.SetMaxOpenConns(2) // the writer's, and one while it is replaced
	write.SetMaxIdleConns(0)
	n := max(4, 2*runtime.GOMAXPROCS(0))
	read.SetMaxOpenConns(n)
	read.SetMaxIdleConns(n)
	return write, read, nil
}

// busyTimeout is how long SQLite waits for others, as the connector says.
const busyTimeout = 5 * time.Second

// patient connects again while the file is busy. The first connection turns a
// new file to WAL, and when several do so at the same moment SQLite answers some
// that it is busy, at once and whatever the busy timeout is
// (sqlite.org/c3ref/busy_handler.html).
type patient struct{ driver.Connector }

// Connect opens a connection.
func (p patient) Connect(ctx context.Context) (driver.Conn, error) {
	for end := time.Now().Add(busyTimeout); ; {
		c, err := p.Connector.Connect(ctx)
		e, ok := errors.AsType[*sqlite.Error](err)
		if !ok || e.Code()&0xff != sqlite3.SQLITE_BUSY || time.Now().After(end) {
			return c, err
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(err, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func sqliteConnector(path, mode, queryOnly string) (driver.Connector, error) {
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() +
		"?_busy_timeout=5000&_journal_mode=WAL&_synchronous=FULL&_foreign_keys=1" +
		"&_dqs=0&_defensive=1&_error_rc=1&_pragma=trusted_schema(0)&_pragma=recursive_triggers(1)&_pragma=wal_autocheckpoint(4000)&" + mode
	c, err := sqlite.NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	want := map[string]string{
		"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000",
		"query_only": queryOnly, "trusted_schema": "0",
		"recursive_triggers": "1", // or REPLACE deletes rows past the triggers that forbid it
	}
	return asserting{patient{c}, func(name string) string { return "PRAGMA " + name }, want}, nil
}

// lockSQLite waits until no other process migrates: goose would run what the
// other is running. The lock file stays; SQLite's own locks cannot be held
// across goose's transactions.
func lockSQLite(ctx context.Context, path string) (func(), error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the database: %w", err)
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil // which unlocks
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock the database: %w", err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("wait for another process's migrations: %w", ctx.Err()), f.Close())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// asserting checks the settings of every new connection by asking for them: a
// parameter that the driver did not understand would be dropped without a word.
type asserting struct {
	driver.Connector
	ask  func(setting string) string
	want map[string]string
}

// Connect opens a connection, and closes it again if a setting is not as wanted.
func (a asserting) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := a.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	for name, want := range a.want {
		got, err := setting(ctx, c, a.ask(name))
		if err == nil && !strings.EqualFold(got, want) {
			err = fmt.Errorf("the database runs with %s=%s, want %s", name, got, want)
		}
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return c, nil
}

func setting(ctx context.Context, c driver.Conn, q string) (string, error) {
	asker, ok := c.(driver.QueryerContext)
	if !ok {
		return "", fmt.Errorf("%T cannot be asked for its settings", c)
	}
	rows, err := asker.QueryContext(ctx, q, nil)
	if err != nil {
		return "", fmt.Errorf("%s: %w", q, err)
	}
	defer rows.Close()
	row := make([]driver.Value, len(rows.Columns()))
	if err := rows.Next(row); err != nil {
		return "", fmt.Errorf("%s: %w", q, err)
	}
	return fmt.Sprint(row[0]), nil
}

// sqliteFault sorts SQLite's primary result codes: a refused row or a wrong
// statement is the caller's, everything that the disk, the file or memory
// caused is the storage's.
func sqliteFault(err error) bool {
	if lost(err) {
		return true
	}
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return false
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CORRUPT,
		sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_BUSY,
		sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_INTERNAL:
		return true
	}
	return false
}

func sqliteUnique(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && (e.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || e.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY ||
		e.Code() == sqlite3.SQLITE_CONSTRAINT_ROWID)
}
