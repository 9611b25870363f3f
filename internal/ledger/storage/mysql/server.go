package mysql

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/ledger/tiles"
)

const (
	dialTimeout  = 5 * time.Second
	queryTimeout = 15 * time.Second // without a byte from the server
	// beat is how often the claim's connection is used, and life how long the
	// server keeps it, and with it the claim, when nothing comes any more.
	beat = 10 * time.Second
	life = time.Minute
	// idle is how many connections are kept: what the driver and an audit use.
	idle = 8
)

// Server says where a database is.
type Server struct {
	User, Password string
	Address        string // host:port, or the path of a socket
	Database       string
	TLS            bool // the server's certificate is checked against the system's authorities
}

// Name is the address without user and password.
func (s Server) Name() string { return "mysql://" + s.Address + "/" + s.Database }

func (s Server) socket() bool { return len(s.Address) > 0 && s.Address[0] == '/' }

// config is the server for its driver. Nothing waits for ever.
func (s Server) config() *mysql.Config {
	c := mysql.NewConfig()
	c.User, c.Passwd, c.Addr, c.DBName = s.User, s.Password, s.Address, s.Database
	c.Net = "tcp"
	if s.socket() {
		c.Net = "unix"
	}
	if s.TLS {
		c.TLSConfig = "true"
	}
	c.Timeout, c.ReadTimeout, c.WriteTimeout = dialTimeout, queryTimeout, queryTimeout
	c.InterpolateParams = true    // one round trip for a statement
	c.Logger = &mysql.NopLogger{} // what goes wrong is returned as well
	return c
}

// DSN is the server in the form of its driver. It holds the password.
func (s Server) DSN() string { return s.config().FormatDSN() }

// Open returns a pool of connections, none of which is made yet.
func (s Server) Open() (*sql.DB, error) {
	c, err := mysql.NewConnector(s.config())
	if err != nil {
		return nil, unavailable(s.Name(), "the database's address cannot be used", err)
	}
	db := sql.OpenDB(c)
	db.SetMaxIdleConns(idle)
	return db, nil
}

// Claim is a lock that the server knows by name, so that one process of all that
// use it has it. It is held by a connection of its own and ends with that.
type Claim struct {
	db    *sql.DB
	where string
	lock  string
	stop  context.CancelFunc

	mu   sync.Mutex // covers conn
	conn *sql.Conn  // nil while nothing is held
}

// NewClaim returns a claim by the name lock, at most 64 characters, which is not
// taken yet.
func NewClaim(db *sql.DB, where, lock string) *Claim {
	return &Claim{db: db, where: where, lock: lock[:min(len(lock), 64)]}
}

// Take takes the lock and keeps it until Close.
func (c *Claim) Take(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.take(ctx); err != nil {
		return err
	}
	keep, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stop = stop
	go c.keep(keep)
	return nil
}

// take takes the lock anew. mu is held.
func (c *Claim) take(ctx context.Context) error {
	conn, err := c.db.Conn(ctx)
	if err != nil {
		return unavailable(c.where, "the ledger's database does not answer", err)
	}
	var got sql.NullInt64
	_, err = conn.ExecContext(ctx, fmt.Sprintf("SET SESSION wait_timeout = %d", int(life.Seconds())))
	if err == nil {
		err = conn.QueryRowContext(ctx, "SELECT GET_LOCK(?, 0)", c.lock).Scan(&got)
	}
	switch {
	case err != nil:
		conn.Close()
		return unavailable(c.where, "the ledger's database does not give the lock", err)
	case got.Int64 != 1:
		conn.Close()
		return &pasban.Error{Kind: pasban.Conflict, Where: c.where, Msg: "another process has this ledger open", Hint: "one node at a time writes it: stop the other one, or wait a minute if its machine is gone"}
	}
	c.conn = conn
	return nil
}

// keep uses the connection now and then, or the server would end it.
func (c *Claim) keep(ctx context.Context) {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = c.Held(ctx) // whoever needs it is told when it asks
		}
	}
}

// Held returns nil if the lock is held. One that was lost with its connection is
// taken again, if nobody else has it.
func (c *Claim) Held(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		var held sql.NullBool
		err := c.conn.QueryRowContext(ctx, "SELECT IS_USED_LOCK(?) = CONNECTION_ID()", c.lock).Scan(&held)
		if err == nil && held.Bool {
			return nil
		}
		if ctx.Err() != nil {
			return unavailable(c.where, "the ledger's database does not answer", errors.Join(err, ctx.Err()))
		}
		c.conn.Close()
		c.conn = nil
	}
	return c.take(ctx)
}

// Close gives the lock up.
func (c *Claim) Close() error {
	if c.stop != nil {
		c.stop()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	_, err := c.conn.ExecContext(ctx, "DO RELEASE_LOCK(?)", c.lock) // the pool keeps the connection
	err = errors.Join(err, c.conn.Close())
	c.conn = nil
	if err != nil {
		return unavailable(c.where, "give the ledger up", err)
	}
	return nil
}

// Locked runs f in a transaction that holds the row that query selects.
func Locked(ctx context.Context, db *sql.DB, where, query string, f func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return unavailable(where, "the ledger's database does not answer", err)
	}
	defer tx.Rollback() // does nothing after the commit
	var row int64
	if err := tx.QueryRowContext(ctx, query).Scan(&row); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return unavailable(where, "the ledger's row cannot be locked", err)
	}
	if err := f(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return unavailable(where, "the ledger's database does not commit", err)
	}
	return nil
}

// SetTree makes the driver's row of the tree say what it must, and tells if that
// was not so. table and columns are names that the caller wrote itself.
func SetTree(ctx context.Context, tx *sql.Tx, table, size, root string, tree tlog.Tree) ([]tiles.Finding, error) {
	var n int64
	var hash []byte
	err := tx.QueryRowContext(ctx, fmt.Sprintf("SELECT `%s`, `%s` FROM `%s` WHERE `id` = 0", size, root, table)).Scan(&n, &hash)
	if err == nil && n == tree.N && bytes.Equal(hash, tree.Hash[:]) {
		return nil, nil
	}
	var found []tiles.Finding
	switch {
	case err == nil:
		found = []tiles.Finding{{Path: table, Problem: fmt.Sprintf("was not what the journal's leaves give: %d leaves, root %x", n, hash)}}
	case !errors.Is(err, sql.ErrNoRows):
		return nil, err
	}
	_, err = tx.ExecContext(ctx, fmt.Sprintf("REPLACE INTO `%s` (`id`, `%s`, `%s`) VALUES (0, ?, ?)", table, size, root), tree.N, tree.Hash[:])
	return found, err
}
