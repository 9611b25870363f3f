// Package commons is where gateways that stand before the same services meet:
// a PostgreSQL database that holds the buckets they share and the penalties
// they tell each other of.
//
// [Open] makes the tables. [Commons.Exchange] is one round trip in one
// transaction: tokens are leased from common buckets (a statement for all of
// them, in the order of their keys so that two gateways never wait for each
// other), penalties are told and heard, and the gateway says that it lives.
//
// # Guarantees
//
// Of a bucket, all gateways together are granted no more than its rate and its
// burst. What is told is small: at most the buckets and penalties that package
// flood takes part with. Rows that nobody has used for two minutes are deleted.
// The tables are unlogged and commits do not wait for the disk: what a crash of
// the database loses is worth a few seconds of requests.
//
// # What this package must never do
//
// It keeps nothing that must not be lost, and no request waits for it.
package commons

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"pasban"
	"pasban/internal/gateway/flood"
)

// Commons is one gateway's way to the others. It is safe for concurrent use.
type Commons struct {
	db      *sql.DB
	gateway string // names this process
	tables  bool   // they are there
	n       int    // exchanges so far
}

var _ flood.Commons = (*Commons)(nil)

const (
	// tablesLock is the advisory lock of whoever makes the tables: "commons" in ASCII.
	tablesLock = 0x636f6d6d6f6e73
	// lives is how long a gateway counts after its last exchange.
	lives = "3 seconds"
	// holds is how long a penalty can hold. One that would hold longer, like a
	// gateway seen in a time to come, was written before the database's clock was
	// set back: it says nothing.
	holds = "1 minute"
	// cleanEvery is how many exchanges lie between two looks for old rows.
	cleanEvery = 120
)

// Open reads the address of the database, a postgres:// URL. It does not
// connect: a database that is away must not keep a gateway from starting.
func Open(dsn string) (*Commons, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, &pasban.Error{Kind: pasban.Invalid, Msg: "the address of the database for shared limits cannot be read", Where: "limits.shared", Hint: "postgres://user:password@host/database"}
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 2 * time.Second
	}
	cfg.RuntimeParams["synchronous_commit"] = "off"
	cfg.RuntimeParams["lock_timeout"] = "1s"
	c := &Commons{db: sql.OpenDB(stdlib.GetConnector(*cfg)), gateway: rand.Text()}
	c.db.SetMaxOpenConns(1)
	return c, nil
}

// Close ends the connection.
func (c *Commons) Close() error { return c.db.Close() }

// Exchange implements flood.Commons. Only one goroutine may call it at a time.
func (c *Commons) Exchange(ctx context.Context, e flood.Exchange) (a flood.Answer, err error) {
	defer func() { c.tables = err == nil }() // somebody may have dropped them
	if !c.tables {
		if err := c.makeTables(ctx); err != nil {
			return a, fmt.Errorf("make the tables of shared limits: %w", err)
		}
	}
	tx, err := c.db.BeginTx(ctx, nil)
	if err != nil {
		return a, err
	}
	defer tx.Rollback()
	if a.Granted, err = lease(ctx, tx, e.Leases); err != nil {
		return a, fmt.Errorf("lease tokens: %w", err)
	}
	if err := c.tell(ctx, tx, e.Penalties); err != nil {
		return a, fmt.Errorf("tell penalties: %w", err)
	}
	if a.Penalties, err = c.hear(ctx, tx); err != nil {
		return a, fmt.Errorf("hear penalties: %w", err)
	}
	if a.Gateways, err = c.meet(ctx, tx); err != nil {
		return a, fmt.Errorf("meet other gateways: %w", err)
	}
	if c.n++; c.n%cleanEvery == 0 {
		if err := clean(ctx, tx); err != nil {
			return a, fmt.Errorf("delete old rows: %w", err)
		}
	}
	return a, tx.Commit()
}

func (c *Commons) makeTables(ctx context.Context) error {
	tx, err := c.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, q := range []string{
		fmt.Sprintf(`SELECT pg_advisory_xact_lock(%d)`, int64(tablesLock)),
		`CREATE UNLOGGED TABLE IF NOT EXISTS limit_buckets (
			key text PRIMARY KEY, rate float8 NOT NULL, burst float8 NOT NULL,
			used float8 NOT NULL, want float8 NOT NULL, -- of the last exchange
			tokens float8 NOT NULL, granted float8 NOT NULL, at timestamptz NOT NULL)`,
		`CREATE UNLOGGED TABLE IF NOT EXISTS limit_penalties (who text PRIMARY KEY, gateway text NOT NULL, until timestamptz NOT NULL)`,
		`CREATE UNLOGGED TABLE IF NOT EXISTS limit_gateways (gateway text PRIMARY KEY, at timestamptz NOT NULL)`,
	} {
		if _, err := tx.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// leaseSQL brings each bucket up to date, subtracts what was spent without a
// lease, and grants of the rest what is wanted. A bucket may owe a minute.
const leaseSQL = `
INSERT INTO limit_buckets AS b (key, rate, burst, used, want, tokens, granted, at)
SELECT key, rate, burst, used, want,
       greatest(-60 * rate, burst - used) - greatest(0, least(want, burst - used)),
       greatest(0, least(want, burst - used)), clock_timestamp()
FROM unnest($1::text[], $2::float8[], $3::float8[], $4::float8[], $5::float8[]) AS x (key, rate, burst, used, want)
ORDER BY key
ON CONFLICT (key) DO UPDATE SET
  rate = excluded.rate, burst = excluded.burst, used = excluded.used, want = excluded.want, at = clock_timestamp(),
  granted = greatest(0, least(excluded.want, ` + now + ` - excluded.used)),
  tokens = greatest(-60 * excluded.rate, ` + now + ` - excluded.used) - greatest(0, least(excluded.want, ` + now + ` - excluded.used))
RETURNING key, granted`

// now is what is in a bucket.
const now = `least(excluded.burst, b.tokens + excluded.rate * greatest(0, extract(epoch FROM clock_timestamp() - b.at))::float8)`

func lease(ctx context.Context, tx *sql.Tx, leases []flood.Lease) (map[string]float64, error) {
	granted := map[string]float64{}
	if len(leases) == 0 {
		return granted, nil
	}
	var keys []string
	var rates, bursts, used, want []float64
	for _, l := range leases {
		keys = append(keys, l.Key)
		rates, bursts = append(rates, l.Rate), append(bursts, l.Burst)
		used, want = append(used, l.Used), append(want, l.Want)
	}
	rows, err := tx.QueryContext(ctx, leaseSQL, keys, rates, bursts, used, want)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var key string
		var n float64
		if err := rows.Scan(&key, &n); err != nil {
			return nil, err
		}
		granted[key] = n
	}
	return granted, rows.Err()
}

const ja4Mark = "ja4 "

func (c *Commons) tell(ctx context.Context, tx *sql.Tx, all map[flood.Penalty]time.Duration) error {
	if len(all) == 0 {
		return nil
	}
	var who []string
	var left []float64
	for p, d := range all {
		name := ja4Mark + p.JA4
		if p.Prefix.IsValid() {
			name = p.Prefix.String()
		}
		who, left = append(who, name), append(left, d.Seconds())
	}
	_, err := tx.ExecContext(ctx, `
INSERT INTO limit_penalties AS p (who, gateway, until)
SELECT who, $1, clock_timestamp() + secs * interval '1 second' FROM unnest($2::text[], $3::float8[]) AS x (who, secs) ORDER BY who
ON CONFLICT (who) DO UPDATE SET gateway = excluded.gateway,
  until = CASE WHEN p.until > clock_timestamp() + interval '`+holds+`' THEN excluded.until ELSE greatest(p.until, excluded.until) END`, c.gateway, who, left)
	return err
}

// hear returns the penalties of other gateways that hold longest.
func (c *Commons) hear(ctx context.Context, tx *sql.Tx) (map[flood.Penalty]time.Duration, error) {
	rows, err := tx.QueryContext(ctx, `
SELECT who, extract(epoch FROM until - clock_timestamp())::float8 FROM limit_penalties
WHERE until > clock_timestamp() AND until <= clock_timestamp() + interval '`+holds+`' AND gateway <> $1 ORDER BY until DESC LIMIT 256`, c.gateway)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[flood.Penalty]time.Duration{}
	for rows.Next() {
		var who string
		var left float64
		if err := rows.Scan(&who, &left); err != nil {
			return nil, err
		}
		var p flood.Penalty
		if ja4, ok := strings.CutPrefix(who, ja4Mark); ok {
			p.JA4 = ja4
		} else if p.Prefix, err = netip.ParsePrefix(who); err != nil {
			continue // not written by a gateway of this version
		}
		all[p] = time.Duration(left * float64(time.Second))
	}
	return all, rows.Err()
}

// meet says that this gateway lives and returns how many do.
func (c *Commons) meet(ctx context.Context, tx *sql.Tx) (n int, err error) {
	_, err = tx.ExecContext(ctx, `INSERT INTO limit_gateways (gateway, at) VALUES ($1, clock_timestamp()) ON CONFLICT (gateway) DO UPDATE SET at = excluded.at`, c.gateway)
	if err != nil {
		return 0, err
	}
	err = tx.QueryRowContext(ctx, `SELECT count(*) FROM limit_gateways WHERE at BETWEEN clock_timestamp() - interval '`+lives+`' AND clock_timestamp() + interval '`+lives+`'`).Scan(&n)
	return n, err
}

func clean(ctx context.Context, tx *sql.Tx) error {
	for _, q := range []string{
		`DELETE FROM limit_buckets WHERE key IN (SELECT key FROM limit_buckets WHERE at < clock_timestamp() - interval '2 minutes' FOR UPDATE SKIP LOCKED)`,
		`DELETE FROM limit_penalties WHERE who IN (SELECT who FROM limit_penalties WHERE until NOT BETWEEN clock_timestamp() - interval '1 minute' AND clock_timestamp() + interval '1 hour' FOR UPDATE SKIP LOCKED)`,
		`DELETE FROM limit_gateways WHERE gateway IN (SELECT gateway FROM limit_gateways WHERE at NOT BETWEEN clock_timestamp() - interval '1 minute' AND clock_timestamp() + interval '1 minute' FOR UPDATE SKIP LOCKED)`,
	} {
		if _, err := tx.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	return nil
}
