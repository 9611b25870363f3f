package sentinel

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m, nil) }

// TestGuard goes once around: a baseline, authorised changes, one that is not,
// an audit, and the row put back by two people.
func TestGuard(t *testing.T) {
	for name, dsn := range map[string]func(testing.TB) string{"sqlite": storetest.SQLiteDSN, "postgres": storetest.PostgresDSN} {
		t.Run(name, func(t *testing.T) { onceAround(t, newRigOn(t, dsn(t), 3000)) })
	}
}

func onceAround(t *testing.T, r *rig) {
	if st := r.baseline(); st.Rows != 3000 {
		t.Fatalf("%+v", st)
	}
	if a := r.audit(); a.Rows != 3000 || a.Root != a.Authorised || len(a.Differences) != 0 {
		t.Fatalf("an audit at once: %+v", a)
	}
	r.app(`UPDATE parcel_owner SET share = 0.5, note = E'tab\there \\ back' WHERE parcel_id = 7`, `DELETE FROM parcel_owner WHERE parcel_id = 8`,
		`INSERT INTO parcel_owner VALUES (9001, '11111-1111111-1', 1, NULL)`, `UPDATE parcel_owner SET parcel_id = 9002 WHERE parcel_id = 9`,
		`BEGIN; UPDATE parcel_owner SET share = 0.1; ROLLBACK`)
	r.caughtUp()
	if a := r.audit(); a.Rows != 3000 || a.Root != a.Authorised {
		t.Fatalf("after authorised changes: %+v", a)
	}
	r.quiet()

	r.evil(`UPDATE parcel_owner SET owner_cnic = '66666-6666666-6' WHERE parcel_id = 7`)
	f := r.alarmed("table-changed")
	if m := f.Restricted.More; m["row"] != "7" || !strings.Contains(m["before"], `tab\there`) || !strings.Contains(m["after"], "66666") || !strings.Contains(m["by"], "eve") {
		t.Errorf("the alarm says %v", m)
	}
	r.app(`UPDATE parcel_owner SET share = 0.75 WHERE parcel_id = 7`) // on top of what nobody authorised
	r.alarmed("table-changed")
	a := r.audit()
	if keysOf(a.Differences) != "7 changed" || a.Root == a.Authorised || a.Differences[0].By == "" {
		t.Fatalf("%+v", a)
	}
	r.quiet() // the stream has told already

	if _, err := r.s.Ask(t.Context(), operator, Request{Table: "owners", Kind: KindRepair, Rows: []string{a.Differences[0].ID}}); pasban.KindOf(err) != pasban.Invalid {
		t.Errorf("a repair without a reason: %v", err)
	}
	ask, err := r.s.Ask(t.Context(), analyst, Request{Table: "owners", Kind: KindRepair, Rows: []string{a.Differences[0].ID}, Reason: "tampered with"})
	r.ok(err)
	for _, who := range []pasban.Actor{analyst, {ID: analyst.ID, Role: pasban.RoleSupervisor}} {
		if err := r.s.Decide(t.Context(), who, ask.ID, true); pasban.KindOf(err) != pasban.Forbidden {
			t.Errorf("%s decided: %v", who.ID, err)
		}
	}
	r.ok(r.s.Decide(t.Context(), supervisor, ask.ID, true))
	if err := r.s.Decide(t.Context(), supervisor, ask.ID, false); pasban.KindOf(err) != pasban.Conflict {
		t.Errorf("decided twice: %v", err)
	}
	if _, err := r.s.Await(t.Context(), ask.ID, nil); err != nil {
		t.Fatal(err)
	}
	if a := r.audit(); a.Root != a.Authorised {
		t.Fatalf("after the repair: %+v", a)
	}
	r.quiet()
	st, err := r.s.Status(t.Context())
	if err != nil || !st[0].OK() {
		t.Errorf("%+v, %v", st, err)
	}
}

// TestRestart: what was recorded is known after a restart, what was not is read
// again, and files that somebody changed are not believed.
func TestRestart(t *testing.T) {
	r := newRig(t, 500)
	r.baseline()
	r.app(`UPDATE parcel_owner SET share = 0.5 WHERE parcel_id <= 50`)
	r.caughtUp()
	r.stop()
	r.app(`UPDATE parcel_owner SET share = 0.6 WHERE parcel_id <= 20`)
	r.evil(`DELETE FROM parcel_owner WHERE parcel_id = 400`)
	r.run()
	r.follows()
	r.alarmed("table-changed")
	if a := r.audit(); keysOf(a.Differences) != "400 missing" {
		t.Errorf("%+v", a)
	}
	if n := r.recorded(); n != 71 {
		t.Errorf("%d changes are in the ledger, want 71", n)
	}
}

// recorded counts the changes that leaves commit to.
func (r *rig) recorded() (n int) {
	r.t.Helper()
	list, err := r.j.Since(r.t.Context(), 0, 1000)
	r.ok(err)
	for _, e := range list {
		if e.Fact.Body.Action == "rows" {
			one, err := strconv.Atoi(e.Fact.Restricted.More["changes"])
			r.ok(err)
			n += one
		}
	}
	return n
}

// TestBreaksOff: a transaction of several batches of which one cannot be
// recorded is sent again, and each change of it is recorded once.
func TestBreaksOff(t *testing.T) {
	r := newRig(t, 5000)
	r.baseline()
	r.bad.n.Store(2) // the second batch's
	r.app(`UPDATE parcel_owner SET share = 0.5`)
	r.until("a batch fails", func() bool { return r.bad.n.Load() <= 0 })
	r.until("all is recorded", func() bool { return r.recorded() >= 5000 })
	r.follows()
	r.caughtUp()
	if n := r.recorded(); n != 5000 {
		t.Errorf("%d changes are in the ledger, want 5000", n)
	}
	if a := r.audit(); a.Root != a.Authorised {
		t.Errorf("%d rows differ", len(a.Differences))
	}
	r.stop()
	r.run()
	r.follows()
	if a := r.audit(); a.Root != a.Authorised {
		t.Errorf("after a restart %d rows differ", len(a.Differences))
	}
}

// TestAccept: a row that was found is taken as it is, by two people.
func TestAccept(t *testing.T) {
	r := newRig(t, 300)
	r.baseline()
	r.evil(`UPDATE parcel_owner SET share = 1 WHERE parcel_id IN (3, 4)`)
	r.alarmed("table-changed")
	var rows []string
	for _, d := range r.audit().Differences {
		rows = append(rows, d.ID)
	}
	if _, err := r.ask(Request{Kind: KindAccept, Rows: rows, Reason: "emergency order 12/2026"}); err != nil {
		t.Fatal(err)
	}
	if a := r.audit(); a.Root != a.Authorised {
		t.Fatalf("%+v", a)
	}
	r.app(`UPDATE parcel_owner SET share = 0.5 WHERE parcel_id = 3`)
	r.caughtUp()
	r.news()
	r.audit()
	r.quiet()
}

// TestOrder: two people let a role change rows by hand; nobody else, nowhere
// else, and not for ever.
func TestOrder(t *testing.T) {
	r := newRig(t, 100)
	r.baseline()
	q, err := r.ask(Request{Kind: KindOrder, Target: "eve", Reason: "court order 5/2026"})
	r.ok(err)
	in := `SET pasban.change_order = '` + q.ID + `'; `
	r.evil(in + `UPDATE parcel_owner SET share = 1 WHERE parcel_id = 5`)
	r.caughtUp()
	r.quiet()
	r.stop()
	r.run() // it is in force over a restart
	r.follows()
	r.evil(in + `DELETE FROM parcel_owner WHERE parcel_id = 6`)
	r.caughtUp()
	if a := r.audit(); a.Root != a.Authorised {
		t.Errorf("%+v", a)
	}
	r.quiet()
	for _, q := range []string{`UPDATE parcel_owner SET share = 1 WHERE parcel_id = 7`, `SET pasban.change_order = 'ffffffffffffffffffffffffffffffff'; UPDATE parcel_owner SET share = 1 WHERE parcel_id = 8`, in + `TRUNCATE parcel_owner`} {
		r.evil(q)
		r.alarmed("table-changed")
	}
	r.pg.Exec(t, "land", r.pg.User, in+`INSERT INTO parcel_owner VALUES (1, 'x', 1)`) // another role
	r.alarmed("table-changed")
	tb := r.s.tables[0]
	tb.mu.Lock()
	o := tb.orders[q.ID]
	o.until = time.Now().Add(-time.Minute)
	tb.orders[q.ID] = o
	tb.mu.Unlock()
	r.evil(in + `INSERT INTO parcel_owner VALUES (2, 'x', 1)`)
	r.alarmed("table-changed")
}

// TestCompact: the log goes into a new base, which the ledger commits to, and
// nothing is lost by it.
func TestCompact(t *testing.T) {
	r := newRig(t, 400)
	r.baseline()
	r.app(`UPDATE parcel_owner SET share = share / 2 WHERE parcel_id < 200`, `UPDATE parcel_owner SET share = share / 2 WHERE parcel_id < 100`, `DELETE FROM parcel_owner WHERE parcel_id = 300`)
	r.caughtUp()
	compact := func() {
		t.Helper()
		tb := r.s.tables[0]
		conn, err := tb.src.connect(t.Context())
		r.ok(err)
		defer conn.Close(t.Context())
		tb.mu.Lock()
		defer tb.mu.Unlock()
		r.ok(tb.compactNow(t.Context(), conn))
	}
	compact()
	if st := r.s.tables[0].st; len(st.over) != 0 || st.gen != 2 || st.Rows != 399 {
		t.Errorf("after compacting: %d keys, generation %d, %d rows", len(st.over), st.gen, st.Rows)
	}
	r.evil(`UPDATE parcel_owner SET share = 1 WHERE parcel_id = 5`)
	r.alarmed("table-changed")
	r.app(`UPDATE parcel_owner SET note = 'x' WHERE parcel_id BETWEEN 10 AND 20`)
	r.caughtUp()
	compact() // what nobody authorised stays in the log
	r.stop()
	r.run()
	r.follows()
	if got := keysOf(r.audit().Differences); got != "5 changed" {
		t.Errorf("the audit names %q", got)
	}
	d := r.audit().Differences[0]
	if d.Before == nil || !strings.Contains(*d.Before, "0.0625") {
		t.Errorf("the last authorised version is %v", d.Before)
	}
}

// TestBaselineResumes: a baseline that breaks off goes on where it was.
func TestBaselineResumes(t *testing.T) {
	r := newRig(t, 2000)
	tb := r.s.tables[0]
	conn, err := tb.src.connect(t.Context())
	r.ok(err)
	defer conn.Close(t.Context())
	r.ok(tb.src.setup(t.Context(), conn))
	b := &baseliner{t: tb, say: func(string) {}}
	r.ok(b.begin(t.Context(), conn))
	r.ok(b.chunk(t.Context(), ` WHERE ctid < '(5,0)'::tid`))
	b.p.Next = 5
	r.ok(b.remember())
	half := b.p.Rows
	if half == 0 || half == 2000 {
		t.Fatalf("%d rows in five blocks", half)
	}
	b.Write([]byte("1\tnot\tremembered\t\\N\n"))
	b.closeFiles()
	r.app(`UPDATE parcel_owner SET share = 0.5 WHERE parcel_id IN (1, 1999)`, `DELETE FROM parcel_owner WHERE parcel_id IN (2, 1998)`)
	if st := r.baseline(); st.Rows > 2002 || st.Rows < 1998 {
		t.Errorf("%+v", st)
	}
	r.caughtUp()
	if a := r.audit(); a.Root != a.Authorised || a.Rows != 1998 {
		t.Errorf("%+v", a)
	}
	r.quiet()
}

// TestValues: values of every sort have one form, in the stream and in an audit.
func TestValues(t *testing.T) {
	r := newRig(t, 10)
	r.pg.Exec(t, "land", r.pg.User, `CREATE TABLE odd (a text, b uuid, f float8, r real, i interval, d date, ts timestamptz, bin bytea, j jsonb, arr text[], m money, n numeric, big text, PRIMARY KEY (a, b));
		GRANT ALL ON odd TO land_app; ALTER DATABASE land SET DateStyle = 'German'; ALTER DATABASE land SET extra_float_digits = -5; ALTER ROLE watcher SET bytea_output = 'escape'; ALTER DATABASE land SET IntervalStyle = 'iso_8601'`)
	r.stop()
	g := &r.o.Tables[0]
	g.Table, g.Key, g.Columns = "public.odd", []string{"a", "b"}, []string{"f", "r", "i", "d", "ts", "bin", "j", "arr", "m", "n", "big"}
	const row = `INSERT INTO odd VALUES (E'tab\t nl\n back\\ \\N', gen_random_uuid(), 0.1::float8 + 0.2, 1e-30, '1 year 2 days 03:04:05.6', '2026-11-27', now(), '\x00ff5c0a', '{"a": [1, null]}', ARRAY['x,y', NULL, ''], 12.5, 1.50, (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 1000) i))`
	r.pg.Exec(t, "land", "land_app", row)
	r.run()
	r.baseline()
	r.app(strings.Replace(row, "E'tab", "E'second", 1), `UPDATE odd SET f = f + 1, d = NULL`, `UPDATE odd SET n = 2.500 WHERE a LIKE 'sec%'`) // big is not sent again
	r.caughtUp()
	if a := r.audit(); a.Root != a.Authorised || a.Rows != 2 {
		t.Errorf("%+v", a)
	}
	r.quiet()
	r.evil(`UPDATE odd SET i = '1 day', bin = NULL WHERE a LIKE 'tab%'`)
	r.alarmed("table-changed")
	d := r.audit().Differences
	if len(d) != 1 || len(d[0].Columns) != 2 {
		t.Fatalf("%+v", d)
	}
	_, err := r.ask(Request{Kind: KindRepair, Rows: []string{d[0].ID}, Reason: "tampered with"})
	r.ok(err)
	if a := r.audit(); a.Root != a.Authorised {
		t.Errorf("%+v", a)
	}
}

// TestTraffic: many sessions at once change many rows, audits run meanwhile, and
// nothing is alarmed that was authorised.
func TestTraffic(t *testing.T) {
	r := newRig(t, 5000)
	r.baseline()
	script := filepath.Join(r.pg.Dir, "load.sql")
	r.ok(os.WriteFile(script, []byte(`\set a random(1, 5000)
\set b random(1, 5000)
\set n random(6000, 1000000000)
BEGIN;
UPDATE parcel_owner SET share = 0.5, note = 'n' || :n WHERE parcel_id = :a;
DELETE FROM parcel_owner WHERE parcel_id = :b;
INSERT INTO parcel_owner VALUES (:b, '11111-1111111-1', 0.25, NULL) ON CONFLICT (parcel_id) DO UPDATE SET note = NULL;
INSERT INTO parcel_owner VALUES (:n, '22222-2222222-2', 1, 'new') ON CONFLICT DO NOTHING;
END;
`), 0o644))
	done := make(chan struct{})
	go func() {
		defer close(done) // also if the tool fails
		r.pg.Tool(t, "pgbench", "-h", r.pg.Dir, "-U", "land_app", "-n", "--max-tries=100", "-c", "4", "-t", "1000", "-f", script, "land")
	}()
	for loop := true; loop; {
		if a := r.audit(); a.Root != a.Authorised {
			t.Fatalf("an audit amid traffic: %d differ, first %+v", len(a.Differences), a.Differences[0])
		}
		select {
		case <-done:
			loop = false
		default:
		}
	}
	r.caughtUp()
	if a := r.audit(); a.Root != a.Authorised {
		t.Fatalf("%d differ", len(a.Differences))
	}
	r.quiet()
	r.s.tables[0].mu.Lock()
	defer r.s.tables[0].mu.Unlock()
	if n := r.s.tables[0].status.Changes; n < 12000 {
		t.Errorf("%d changes were seen", n)
	}
}

// TestLeastPrivilege: the sentinel's role needs REPLICATION and SELECT, once an
// administrator has run the SQL that it prints.
func TestLeastPrivilege(t *testing.T) {
	r := newRig(t, 100)
	r.stop()
	r.pg.Exec(t, "land", r.pg.User, `CREATE ROLE small LOGIN REPLICATION; GRANT SELECT ON parcel_owner TO small`)
	r.o.Tables[0].Database = config.Secret(r.pg.DSN("land", "small"))
	r.run()
	q := Request{Kind: KindBaseline, Provenance: Provenance{Origin: "synthetic", Attests: "nobody"}}
	if _, err := r.ask(q); err == nil || !strings.Contains(err.Error(), "print-sql") {
		t.Fatalf("a baseline in a database that is not prepared: %v", err)
	}
	sql, err := r.s.SetupSQL("owners")
	r.ok(err)
	r.pg.Exec(t, "land", r.pg.User, sql, sql) // twice is harmless
	r.baseline()
	r.app(`UPDATE parcel_owner SET share = 0.5 WHERE parcel_id = 1`)
	r.evil(`UPDATE parcel_owner SET share = 1 WHERE parcel_id = 2`)
	if f := r.alarmed("table-changed"); f.Restricted.More["row"] != "2" {
		t.Errorf("the alarm says %v", f.Restricted.More)
	}
	d := r.audit().Differences
	if keysOf(d) != "2 changed" {
		t.Errorf("the audit names %q", keysOf(d))
	}
	if _, err := r.ask(Request{Kind: KindRepair, Rows: []string{d[0].ID}, Reason: "x"}); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("a repair without the right to: %v", err)
	}
}

// TestRefused: what could not be guarded, or could fill the server's disk, is
// not called guarded.
func TestRefused(t *testing.T) {
	r := newRig(t, 10)
	for name, c := range map[string]struct{ do, undo, want string }{
		"no bound":    {`ALTER SYSTEM SET max_slot_wal_keep_size = -1`, `ALTER SYSTEM RESET max_slot_wal_keep_size`, "without bound"},
		"no identity": {`ALTER TABLE parcel_owner REPLICA IDENTITY NOTHING`, `ALTER TABLE parcel_owner REPLICA IDENTITY DEFAULT`, "replica identity"},
		"no column":   {`ALTER TABLE parcel_owner RENAME COLUMN note TO remark`, `ALTER TABLE parcel_owner RENAME COLUMN remark TO note`, "no column note"},
		"no table":    {`ALTER TABLE parcel_owner RENAME TO other`, `ALTER TABLE other RENAME TO parcel_owner`, "there is no table"},
	} {
		r.evil(c.do)
		r.evil(`SELECT pg_reload_conf()`)
		r.until(name, func() bool {
			_, err := r.ask(Request{Kind: KindBaseline, Again: true, Provenance: Provenance{Origin: "synthetic", Attests: "nobody"}})
			return err != nil && strings.Contains(err.Error(), c.want)
		})
		r.evil(c.undo)
		r.evil(`SELECT pg_reload_conf()`)
	}
	for _, p := range []Provenance{{}, {Origin: "x"}, {Attests: "x"}} {
		if _, err := r.s.Ask(t.Context(), operator, Request{Table: "owners", Kind: KindBaseline, Provenance: p}); pasban.KindOf(err) != pasban.Invalid {
			t.Errorf("a baseline for which nobody answers: %v", err)
		}
	}
	if _, err := r.s.Ask(t.Context(), operator, Request{Table: "other", Kind: KindAudit}); pasban.KindOf(err) != pasban.NotFound {
		t.Errorf("a table that is not guarded: %v", err)
	}
	if _, err := r.s.Ask(t.Context(), pasban.Actor{ID: "officer:1", Role: pasban.RoleOfficer}, Request{Table: "owners", Kind: KindAudit}); pasban.KindOf(err) != pasban.Forbidden {
		t.Errorf("an officer asked: %v", err)
	}
}

// TestMaintenance: what administrators do to keep a table healthy is no alarm.
func TestMaintenance(t *testing.T) {
	r := newRig(t, 500)
	r.baseline()
	r.evil(`VACUUM parcel_owner`)
	r.evil(`ANALYZE parcel_owner`)
	r.evil(`REINDEX TABLE parcel_owner`)
	r.evil(`VACUUM FULL parcel_owner`)
	r.evil(`CREATE INDEX ON parcel_owner (owner_cnic)`)
	r.evil(`CLUSTER parcel_owner USING parcel_owner_pkey`)
	tb := r.s.tables[0]
	conn, err := tb.src.connect(t.Context())
	r.ok(err)
	defer conn.Close(t.Context())
	r.ok(tb.watch(t.Context(), conn))
	if a := r.audit(); a.Root != a.Authorised {
		t.Errorf("%+v", a)
	}
	r.quiet()
}

// FuzzParse: whatever the stream sends, reading it does not panic.
func FuzzParse(f *testing.F) {
	f.Add([]byte("I\x00\x00\x40\x04N\x00\x02t\x00\x00\x00\x011n"))
	f.Add([]byte("U\x00\x00\x40\x04K\x00\x01t\x00\x00\x00\x011"))
	f.Add([]byte("M\x01\x00\x00\x00\x00\x00\x00\x00\x01pasban\x00\x00\x00\x00\x02{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := parse(data); err == nil && m == nil {
			t.Error("neither a message nor an error")
		}
		parseSession(data)
		splitLines(data)
	})
}

// TestNothingPlain: no value of a row lies readable in the store or in the
// sentinel's files.
func TestNothingPlain(t *testing.T) {
	r := newRig(t, 300)
	r.baseline()
	r.evil(`UPDATE parcel_owner SET note = 'a very secret word' WHERE parcel_id = 7`)
	r.alarmed("table-changed")
	if len(r.audit().Differences) != 1 {
		t.Fatal("the row does not differ")
	}
	r.stop()
	files := 0
	for _, dir := range []string{r.o.Dir, r.dir} {
		r.ok(filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			files++
			data, err := os.ReadFile(name)
			for _, word := range []string{"very secret word", "kharif 10"} {
				if strings.Contains(string(data), word) {
					t.Errorf("%q lies readable in %s", word, filepath.Base(name))
				}
			}
			return err
		}))
	}
	if files < 3 {
		t.Errorf("%d files were looked at", files)
	}
}
