package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// groupTimeout bounds a group on PostgreSQL: a server that does not answer
// must not hold every writer for ever.
const groupTimeout = 30 * time.Second

// migrationLock is the advisory lock that one migrating node holds: "pasban"
// in ASCII.
const migrationLock = 0x70617362616e

func postgresEngine(dsn string) (*engine, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("the store's address: %w", err)
	}
	b := &binder{}
	return &engine{
		dialect: Postgres,
		begin:   "BEGIN",
		bind:    b.bind,
		faulty:  postgresFault,
		unique:  postgresUnique,
		timeout: groupTimeout,
		open:    func() (write, read *sql.DB, err error) { return openPostgres(cfg) },
		lock:    lockPostgres,
	}, nil
}

func openPostgres(cfg *pgx.ConnConfig) (write, read *sql.DB, err error) {
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 5 * time.Second
	}
	write = sql.OpenDB(postgresConnector(cfg, map[string]string{
		"synchronous_commit": "on", "default_transaction_read_only": "off", "lock_timeout": "10s",
	}))
	read = sql.OpenDB(postgresConnector(cfg, map[string]string{
		"default_transaction_read_only": "on",
	}))
	write.SetMaxOpenConns(2) // the writer's, and one while it is replaced
	write.SetMaxIdleConns(0)
	read.SetMaxOpenConns(16)
	read.SetMaxIdleConns(16)
	read.SetConnMaxIdleTime(5 * time.Minute)
	return write, read, nil
}

// postgresConnector sets the given parameters on every connection and asserts
// them, and that the server itself does not run without fsync.
func postgresConnector(cfg *pgx.ConnConfig, params map[string]string) driver.Connector {
	c := cfg.Copy()
	want := map[string]string{"fsync": "on", "standard_conforming_strings": "on"}
	for name, value := range params {
		c.RuntimeParams[name] = value
		want[name] = value
	}
	return asserting{stdlib.GetConnector(*c), func(name string) string { return "SHOW " + name }, want}
}

// lockPostgres waits until no other node migrates.
func lockPostgres(ctx context.Context, c *sql.Conn) (func(), error) {
	if _, err := c.ExecContext(ctx, `SELECT pg_advisory_lock($1)`, int64(migrationLock)); err != nil {
		return nil, fmt.Errorf("wait for other nodes' migrations: %w", err)
	}
	return func() {
		c.ExecContext(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, int64(migrationLock))
	}, nil
}

// postgresFault sorts errors by SQLSTATE class (PostgreSQL manual, appendix A).
func postgresFault(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return lost(err) || pgconn.SafeToRetry(err) || fromNet(err)
	}
	if len(e.Code) < 2 {
		return true
	}
	switch e.Code[:2] {
	case "08", "53", "57", "58", "F0", "XX": // connection, resources, operator, system, config file, internal
		return true
	case "25":
		return e.Code == "25006" // read-only transaction: a standby, or made so
	}
	return false
}

// fromNet reports whether err came from the connection rather than the server.
func fromNet(err error) bool {
	_, network := errors.AsType[net.Error](err)
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	return network || connecting || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

func postgresUnique(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.Code == "23505"
}

// binder rewrites `?` placeholders to $1, $2, … and remembers what it did.
type binder struct{ seen sync.Map }

func (b *binder) bind(q string) string {
	if !strings.Contains(q, "?") {
		return q
	}
	if bound, ok := b.seen.Load(q); ok {
		return bound.(string)
	}
	bound := rebind(q)
	b.seen.Store(q, bound)
	return bound
}

// rebind numbers the placeholders outside of quotes and comments.
func rebind(q string) string {
	var out strings.Builder
	n := 0
	for i := 0; i < len(q); {
		if end := quoted(q, i); end > i {
			out.WriteString(q[i:end])
			i = end
			continue
		}
		if q[i] == '?' {
			n++
			out.WriteString("$" + strconv.Itoa(n))
		} else {
			out.WriteByte(q[i])
		}
		i++
	}
	return out.String()
}

// quoted returns the end of the string, quoted name or comment that starts at
// i, or i if none does.
func quoted(q string, i int) int {
	var stop string
	skip := 1
	switch {
	case q[i] == '\'' || q[i] == '"': // a doubled quote ends one and starts another
		stop = q[i : i+1]
	case strings.HasPrefix(q[i:], "--"):
		stop = "\n"
	case strings.HasPrefix(q[i:], "/*"):
		stop, skip = "*/", 2
	default:
		return i
	}
	end := strings.Index(q[i+skip:], stop)
	if end < 0 {
		return len(q)
	}
	return i + skip + end + len(stop)
}
