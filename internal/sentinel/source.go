package sentinel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pasban"
	"pasban/internal/config"
)

// The prefixes of the logical messages that the stream understands.
const (
	sessionPrefix = "pasban"      // who makes the changes that follow, from the trigger
	markPrefix    = "pasban.mark" // the sentinel's own, to know how far the stream is
)

// settings fix how PostgreSQL writes values, so that a row has one form: in the
// stream and in an audit, today and in ten years.
func settings() map[string]string {
	return map[string]string{
		"application_name": "pasban-sentinel", "client_encoding": "UTF8", "DateStyle": "ISO, YMD", "IntervalStyle": "postgres",
		"TimeZone": "UTC", "extra_float_digits": "1", "bytea_output": "hex", "xmlbinary": "base64", "search_path": "pg_catalog",
		"row_security": "off", "lc_monetary": "C", "statement_timeout": "0", "idle_in_transaction_session_timeout": "0",
	}
}

// source is the database that a guarded table is in.
type source struct {
	g       config.GuardedTable
	schema  string
	table   string
	slot    string
	publish string
}

func newSource(agency string, g config.GuardedTable) *source {
	schema, table, _ := strings.Cut(g.Table, ".")
	own := strings.ReplaceAll(agency+"_"+g.Name, "-", "_")
	if len(own) > 50 { // a name of PostgreSQL has 63 bytes
		own = own[len(own)-50:]
	}
	return &source{g: g, schema: schema, table: table, slot: "pasban_" + own, publish: "pasban_" + own}
}

func (s *source) sqlTable() string { return pgx.Identifier{s.schema, s.table}.Sanitize() }

// names are the columns that are read: the key first.
func (s *source) names() []string { return slices.Concat(s.g.Key, s.g.Columns) }

// columns is the list of names in SQL.
func (s *source) columns() string {
	var out []string
	for _, c := range s.names() {
		out = append(out, pgx.Identifier{c}.Sanitize())
	}
	return strings.Join(out, ", ")
}

// connect opens an ordinary connection. Its errors never hold the address.
func (s *source) connect(ctx context.Context) (*pgx.Conn, error) {
	c, err := pgx.ParseConfig(s.g.Database.Value())
	if err != nil {
		return nil, s.fail("the database's address is not readable", nil)
	}
	maps.Copy(c.RuntimeParams, settings())
	c.DefaultQueryExecMode = pgx.QueryExecModeExec
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 10 * time.Second
	}
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return nil, s.fail("the database does not answer", err)
	}
	return conn, nil
}

// replication opens a connection that speaks the replication protocol.
func (s *source) replication(ctx context.Context) (*pgconn.PgConn, error) {
	c, err := pgconn.ParseConfig(s.g.Database.Value())
	if err != nil {
		return nil, s.fail("the database's address is not readable", nil)
	}
	maps.Copy(c.RuntimeParams, settings())
	c.RuntimeParams["replication"] = "database"
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 10 * time.Second
	}
	conn, err := pgconn.ConnectConfig(ctx, c)
	if err != nil {
		return nil, s.fail("the database does not let the sentinel follow it", err)
	}
	return conn, nil
}

// fail makes an error about this table; what PostgreSQL says is kept, an
// address with a password is not.
func (s *source) fail(msg string, err error) error {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		err = errors.New(e.Message)
	} else if err != nil {
		text := err.Error()
		if u, e := url.Parse(s.g.Database.Value()); e == nil && u.User != nil {
			if pass, ok := u.User.Password(); ok && pass != "" {
				text = strings.ReplaceAll(text, pass, "[secret]")
			}
		}
		err = errors.New(text)
	}
	return &pasban.Error{Kind: pasban.Unavailable, Where: "guarded table " + s.g.Name, Msg: msg, Err: err}
}

// setupSQL is what the guarded database needs: a publication, and a trigger
// that says into the log who changes the table. Running it again is harmless.
func (s *source) setupSQL() string {
	return fmt.Sprintf(`CREATE SCHEMA IF NOT EXISTS pasban;
GRANT USAGE ON SCHEMA pasban TO PUBLIC;
CREATE OR REPLACE FUNCTION pasban.session() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $pasban$
DECLARE login text;
BEGIN
  SELECT r.rolname INTO login FROM pg_stat_get_activity(pg_backend_pid()) a JOIN pg_roles r ON r.oid = a.usesysid;
  PERFORM pg_logical_emit_message(true, 'pasban', json_build_object(
    'login', login, 'user', session_user, 'role', current_setting('role'), 'app', current_setting('application_name'),
    'addr', host(inet_client_addr()), 'pid', pg_backend_pid(), 'order', current_setting('pasban.change_order', true),
    'marker', encode(sha256(convert_to(coalesce(current_setting('pasban.marker', true), ''), 'UTF8')), 'hex'))::text);
  RETURN NULL;
END $pasban$;
CREATE OR REPLACE TRIGGER pasban_session BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON %[1]s
  FOR EACH STATEMENT EXECUTE FUNCTION pasban.session();
ALTER TABLE %[1]s ENABLE ALWAYS TRIGGER pasban_session;
DO $pasban$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = %[2]s) THEN
    CREATE PUBLICATION %[3]s FOR TABLE ONLY %[1]s WITH (publish = 'insert, update, delete, truncate');
  END IF;
END $pasban$;
`, s.sqlTable(), quote(s.publish), pgx.Identifier{s.publish}.Sanitize())
}

// quote writes a string literal; names of slots and publications are plain.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// setup runs the setup, unless it is there already.
func (s *source) setup(ctx context.Context, conn *pgx.Conn) error {
	var there bool
	err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = to_regclass($1) AND t.tgname = 'pasban_session' AND t.tgenabled = 'A')
		AND EXISTS (SELECT FROM pg_publication WHERE pubname = $2)`, s.sqlTable(), s.publish).Scan(&there)
	if err != nil {
		return s.fail("the catalog cannot be read", err)
	}
	if there {
		return nil
	}
	if _, err := conn.Exec(ctx, s.setupSQL(), pgx.QueryExecModeSimpleProtocol); err != nil {
		e := s.fail("the database cannot be prepared", err).(*pasban.Error)
		e.Hint = "have the table's owner or a superuser run what `pasban sentinel baseline --print-sql` prints"
		return e
	}
	return nil
}

// check refuses what could not be guarded.
func (s *source) check(ctx context.Context, conn *pgx.Conn) error {
	bad := func(msg, hint string) error {
		return &pasban.Error{Kind: pasban.Invalid, Where: "guarded table " + s.g.Name, Msg: msg, Hint: hint}
	}
	var wal, keep string
	var standby bool
	err := conn.QueryRow(ctx, `SELECT current_setting('wal_level'), current_setting('max_slot_wal_keep_size'), pg_is_in_recovery()`).Scan(&wal, &keep, &standby)
	if err != nil {
		return s.fail("the server's settings cannot be read", err)
	}
	var kind, identity string
	var oid uint32
	err = conn.QueryRow(ctx, `SELECT c.oid, c.relkind::text, c.relreplident::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = $2`, s.schema, s.table).Scan(&oid, &kind, &identity)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return bad("there is no table "+s.g.Table, "")
	case err != nil:
		return s.fail("the catalog cannot be read", err)
	case wal != "logical":
		return bad("the server's wal_level is "+wal, "ALTER SYSTEM SET wal_level = logical, and restart PostgreSQL")
	case keep == "-1":
		return bad("the server keeps WAL for a slot without bound: a guard that is away for long would fill its disk", "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB', and SELECT pg_reload_conf()")
	case standby:
		return bad("the server is a standby", "name the primary")
	case kind != "r":
		return bad(s.g.Table+" is not an ordinary table", "guard the partitions one by one")
	}
	return s.checkColumns(ctx, conn, oid, identity, bad)
}

func (s *source) checkColumns(ctx context.Context, conn *pgx.Conn, oid uint32, identity string, bad func(msg, hint string) error) error {
	for _, c := range s.names() {
		var generated string
		err := conn.QueryRow(ctx, `SELECT attgenerated::text FROM pg_attribute WHERE attrelid = $1 AND attname = $2 AND attnum > 0 AND NOT attisdropped`, oid, c).Scan(&generated)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return bad("the table has no column "+c, "")
		case err != nil:
			return s.fail("the catalog cannot be read", err)
		case generated != "":
			return bad("column "+c+" is generated: the stream does not carry it", "guard the columns that it is made of")
		}
	}
	if identity == "f" {
		return nil
	}
	var key []string
	err := conn.QueryRow(ctx, `SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
		WHERE i.indrelid = $1 AND (CASE WHEN $2 = 'i' THEN i.indisreplident ELSE i.indisprimary END) AND $2 <> 'n'`, oid, identity).Scan(&key)
	if err != nil {
		return s.fail("the catalog cannot be read", err)
	}
	for _, c := range s.g.Key {
		if !slices.Contains(key, c) || len(key) != len(s.g.Key) {
			return bad("the table's replica identity is not the key "+strings.Join(s.g.Key, ", "), "name the primary key's columns, or ALTER TABLE … REPLICA IDENTITY FULL")
		}
	}
	return nil
}

// makeSlot makes the replication slot anew.
func (s *source) makeSlot(ctx context.Context, conn *pgx.Conn) (pglogrepl.LSN, error) {
	if _, err := conn.Exec(ctx, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1`, s.slot); err != nil {
		return 0, s.fail("the old replication slot cannot be dropped", err)
	}
	var lsn string
	if err := conn.QueryRow(ctx, `SELECT lsn::text FROM pg_create_logical_replication_slot($1, 'pgoutput')`, s.slot).Scan(&lsn); err != nil {
		return 0, s.fail("the replication slot cannot be made", err)
	}
	return pglogrepl.ParseLSN(lsn)
}

// slotState is what the server says of the slot.
type slotState struct {
	Found     bool
	Status    string // reserved, extended, unreserved or lost
	Confirmed pglogrepl.LSN
	Retained  int64 // bytes of WAL kept for it
	Limit     int64 // bytes until it is lost; -1 if the server does not say
}

func (s *source) slotState(ctx context.Context, conn *pgx.Conn) (slotState, error) {
	var st slotState
	var confirmed *string
	var status *string
	var retained, safe *int64
	err := conn.QueryRow(ctx, `SELECT wal_status, confirmed_flush_lsn::text,
		CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint END, safe_wal_size
		FROM pg_replication_slots WHERE slot_name = $1 AND plugin = 'pgoutput' AND database = current_database()`, s.slot).Scan(&status, &confirmed, &retained, &safe)
	if errors.Is(err, pgx.ErrNoRows) {
		return st, nil
	}
	if err != nil {
		return st, s.fail("the replication slot cannot be read", err)
	}
	st.Found, st.Limit = true, -1
	if status != nil {
		st.Status = *status
	}
	if confirmed != nil {
		if st.Confirmed, err = pglogrepl.ParseLSN(*confirmed); err != nil {
			return st, err
		}
	}
	if retained != nil {
		st.Retained = *retained
	}
	if safe != nil {
		st.Limit = *safe
	}
	return st, nil
}

// snapshot is which transactions a transaction sees (pg_current_snapshot).
type snapshot struct {
	xmin, xmax uint64
	running    map[uint64]bool
}

func parseSnapshot(text string) (snapshot, error) {
	s := snapshot{running: map[uint64]bool{}}
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return s, fmt.Errorf("not a snapshot: %q", text)
	}
	var err, err2 error
	s.xmin, err = strconv.ParseUint(parts[0], 10, 64)
	s.xmax, err2 = strconv.ParseUint(parts[1], 10, 64)
	if err := errors.Join(err, err2); err != nil {
		return s, err
	}
	for id := range strings.SplitSeq(parts[2], ",") {
		if id == "" {
			continue
		}
		n, err := strconv.ParseUint(id, 10, 64)
		if err != nil {
			return s, err
		}
		s.running[n] = true
	}
	return s, nil
}

// sees reports whether a committed transaction's work is in the snapshot.
func (s snapshot) sees(xid uint64) bool { return xid < s.xmin || xid < s.xmax && !s.running[xid] }

// wide gives a transaction id of 32 bits its epoch, by one of about its time.
func wide(xid uint32, near uint64) uint64 {
	out := near&^0xffffffff | uint64(xid)
	switch {
	case out > near+1<<31 && out >= 1<<32:
		out -= 1 << 32
	case out+1<<31 < near:
		out += 1 << 32
	}
	return out
}

// view is a transaction in which nothing changes.
type view struct {
	conn *pgx.Conn
	snapshot
}

// begin opens a view of the table.
func (s *source) begin(ctx context.Context) (*view, error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	v := &view{conn: conn}
	// No index is believed: what lies in the heap is read as it lies there.
	for _, q := range []string{`BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`, `SET LOCAL enable_indexscan = off`,
		`SET LOCAL enable_indexonlyscan = off`, `SET LOCAL enable_bitmapscan = off`} {
		if _, err := conn.Exec(ctx, q); err != nil {
			conn.Close(ctx)
			return nil, s.fail("a view of the table cannot be opened", err)
		}
	}
	var text string
	if err = conn.QueryRow(ctx, `SELECT pg_current_snapshot()::text`).Scan(&text); err == nil {
		v.snapshot, err = parseSnapshot(text)
	}
	if err != nil {
		conn.Close(ctx)
		return nil, s.fail("a view of the table cannot be opened", err)
	}
	return v, nil
}

// copy writes the rows, one line each, in the order in which they lie on disk.
func (s *source) copy(ctx context.Context, v *view, where string, w io.Writer) error {
	_, err := v.conn.PgConn().CopyTo(ctx, w, fmt.Sprintf(`COPY (SELECT %s FROM %s%s) TO STDOUT`, s.columns(), s.sqlTable(), where))
	if err != nil {
		return s.fail("the table cannot be read", err)
	}
	return nil
}

func (v *view) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	v.conn.Close(ctx)
}
