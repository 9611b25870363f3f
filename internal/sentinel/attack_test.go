package sentinel

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pasban/internal/store/storetest"
)

// attack is one way to change a guarded table past those who may. Where it says
// row, each attack has a row of its own.
type attack struct {
	name  string
	found string // the alarm: table-changed is the stream's, table-differs an audit's, table-definition the watch's
	rows  string // what differs afterwards: key and kind; "" if the alarm is all there is to see
	do    func(r *rig, row int)
}

// sqlAttack is one made of statements, in one session of a superuser.
func sqlAttack(name, found, kind, sql string) attack {
	return attack{name, found, kind, func(r *rig, row int) { r.evil(strings.ReplaceAll(sql, "$row", fmt.Sprint(row))) }}
}

const (
	seen    = "table-changed"
	audited = "table-differs"
	defined = "table-definition"
	later   = "next audit" // nothing tells of it before
)

// superuser lists attacks by somebody who may do everything in the database.
// docs/ATTACKS-ON-TABLES.md tells of each.
func superuser() []attack {
	const update = `UPDATE parcel_owner SET owner_cnic = '66666-6666666-6' WHERE parcel_id = $row`
	const forge = `SELECT pg_logical_emit_message(true, 'pasban', '{"login":"land_app","user":"land_app","role":"none","app":"","pid":1}')`
	return []attack{
		sqlAttack("update", seen, "changed", update),
		sqlAttack("insert", seen, "extra", `INSERT INTO parcel_owner VALUES ($row + 100000, '66666-6666666-6', 1)`),
		sqlAttack("delete", seen, "missing", `DELETE FROM parcel_owner WHERE parcel_id = $row`),
		sqlAttack("change of the key", seen, "moved", `UPDATE parcel_owner SET parcel_id = $row + 100000 WHERE parcel_id = $row`),
		sqlAttack("set role", seen, "changed", `BEGIN; SET ROLE land_app; `+update+`; COMMIT`),
		sqlAttack("session authorization", seen, "changed", `SET SESSION AUTHORIZATION land_app; `+update),
		sqlAttack("replica role", seen, "changed", `SET session_replication_role = replica; `+update),
		sqlAttack("another origin", seen, "changed", `SELECT pg_replication_origin_create('o$row'); SELECT pg_replication_origin_session_setup('o$row'); `+update),
		sqlAttack("asynchronous commit", seen, "changed", `SET synchronous_commit = off; `+update),
		sqlAttack("prepared transaction", seen, "changed", `BEGIN; `+update+`; PREPARE TRANSACTION 'p$row'`),
		sqlAttack("changed and put back", seen, "", update+`; UPDATE parcel_owner SET owner_cnic = lpad(($row % 99999)::text, 5, '0') || '-' || lpad(($row * 7919 % 9999999)::text, 7, '0') || '-' || ($row % 9 + 1) WHERE parcel_id = $row`),
		sqlAttack("forged session beside the trigger's", seen, "changed", `BEGIN; `+forge+`; `+update+`; `+forge+`; COMMIT`),
		sqlAttack("trigger off for a moment", seen, "changed", `BEGIN; ALTER TABLE parcel_owner DISABLE TRIGGER ALL; `+update+`; ALTER TABLE parcel_owner ENABLE ALWAYS TRIGGER pasban_session; COMMIT`),
		sqlAttack("trigger off, session forged", seen, "changed", `BEGIN; ALTER TABLE parcel_owner DISABLE TRIGGER pasban_session; `+forge+`; `+update+`; ALTER TABLE parcel_owner ENABLE ALWAYS TRIGGER pasban_session; COMMIT`),
		sqlAttack("trigger's function exchanged", seen, "changed", `CREATE OR REPLACE FUNCTION pasban.session() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN PERFORM pg_logical_emit_message(true, 'pasban', '{"login":"land_app","user":"land_app"}'); RETURN NULL; END $f$; `+update),
		sqlAttack("catalog edited: no triggers", seen, "changed", `SET allow_system_table_mods = on; UPDATE pg_class SET relhastriggers = false WHERE relname = 'parcel_owner'; `+update+`; UPDATE pg_class SET relhastriggers = true WHERE relname = 'parcel_owner'`),
		sqlAttack("publication without the table for a moment", audited, "changed", `ALTER PUBLICATION pasban_land_records_owners DROP TABLE parcel_owner; `+update+`; ALTER PUBLICATION pasban_land_records_owners ADD TABLE ONLY parcel_owner`),
		sqlAttack("rewritten by ALTER COLUMN", audited, "changed", `ALTER TABLE parcel_owner ALTER COLUMN note TYPE text USING CASE parcel_id WHEN $row THEN 'forged' ELSE note END`),
		sqlAttack("child table", audited, "extra", `CREATE TABLE evil$row () INHERITS (parcel_owner); INSERT INTO evil$row VALUES ($row + 100000, '66666-6666666-6', 1)`),
		sqlAttack("row killed by pg_surgery", later, "missing", `CREATE EXTENSION IF NOT EXISTS pg_surgery; SELECT heap_force_kill('parcel_owner', ARRAY[(SELECT ctid FROM parcel_owner WHERE parcel_id = $row)])`),
		sqlAttack("planted trigger", defined, "", `CREATE FUNCTION evil$row() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN NEW.share = 0; RETURN NEW; END $f$; CREATE TRIGGER evil$row BEFORE UPDATE ON parcel_owner FOR EACH ROW EXECUTE FUNCTION evil$row()`),
		sqlAttack("planted rule", defined, "", `CREATE RULE evil$row AS ON DELETE TO parcel_owner DO INSTEAD NOTHING`),
		sqlAttack("grant to everybody", defined, "", `GRANT UPDATE ON parcel_owner TO PUBLIC`),
		sqlAttack("writer's role given away", defined, "", `GRANT land_app TO eve`),
		sqlAttack("writer made superuser", defined, "", `ALTER ROLE land_app SUPERUSER`),
	}
}

// undo puts the definition back for the attacks that follow.
var undo = map[string]string{
	"trigger off for a moment":     `ALTER TABLE parcel_owner ENABLE TRIGGER ALL; ALTER TABLE parcel_owner ENABLE ALWAYS TRIGGER pasban_session`,
	"trigger's function exchanged": `SETUP`,
	"child table":                  `DROP TABLE evil$row`,
	"planted trigger":              `DROP TRIGGER evil$row ON parcel_owner`,
	"planted rule":                 `DROP RULE evil$row ON parcel_owner`,
	"grant to everybody":           `REVOKE UPDATE ON parcel_owner FROM PUBLIC`,
	"writer's role given away":     `REVOKE land_app FROM eve`,
	"writer made superuser":        `ALTER ROLE land_app NOSUPERUSER`,
}

func TestSuperuser(t *testing.T) {
	r := newRig(t, 2000)
	r.pg.Stop(t, "INT")
	r.setting("max_prepared_transactions = 5")
	r.pg.Start(t)
	r.baseline()
	for i, a := range superuser() {
		row := 100 + 10*i
		t.Run(a.name, func(t *testing.T) {
			r.t = t
			r.news()
			start := time.Now()
			a.do(r, row)
			if a.name == "prepared transaction" {
				r.evil(fmt.Sprintf(`COMMIT PREPARED 'p%d'`, row))
			}
			if a.found == later {
				a.found = audited
				r.audit()
			}
			f := r.alarmed(a.found)
			t.Logf("%s: %s after %.1f s: %v", a.name, f.Body.Action, time.Since(start).Seconds(), f.Restricted.Reasons)
			r.caughtUp()
			got := keysOf(r.audit().Differences)
			want := map[string]string{"": "", "extra": fmt.Sprintf("%d extra", row+100000), "moved": fmt.Sprintf("%d extra, %d missing", row+100000, row)}
			if w, ok := want[a.rows]; ok && got != w || !ok && got != fmt.Sprintf("%d %s", row, a.rows) {
				t.Fatalf("the audit names %q", got)
			}
			r.mend(a.name, row)
		})
	}
}

// mend puts everything right again, as people would.
func (r *rig) mend(name string, row int) {
	r.t.Helper()
	if q := undo[name]; q == "SETUP" {
		q, err := r.s.SetupSQL("owners")
		r.ok(err)
		r.evil(q)
	} else if q != "" {
		r.evil(strings.ReplaceAll(q, "$row", fmt.Sprint(row)))
	}
	var rows []string
	for _, d := range r.audit().Differences {
		rows = append(rows, d.ID)
	}
	if rows != nil {
		_, err := r.ask(Request{Kind: KindRepair, Rows: rows, Reason: "an attack"})
		r.ok(err)
	}
	// What the watch has not looked at yet, it looks at now.
	tb := r.s.tables[0]
	conn, err := tb.src.connect(r.t.Context())
	r.ok(err)
	defer conn.Close(r.t.Context())
	r.ok(tb.watch(r.t.Context(), conn))
	if a := r.audit(); a.Root != a.Authorised {
		var rows []string
		for _, d := range a.Differences {
			rows = append(rows, d.ID)
		}
		_, err := r.ask(Request{Kind: KindRepair, Rows: rows, Reason: "an attack"})
		r.ok(err)
	}
	now, err := tb.src.fingerprint(r.t.Context(), conn)
	r.ok(err)
	_, err = r.ask(Request{Kind: KindDefinition, Reason: "put back", Target: now.hash()})
	r.ok(err)
	r.ok(tb.watch(r.t.Context(), conn))
	if a := r.audit(); a.Root != a.Authorised {
		r.t.Fatalf("not mended: %+v", a)
	}
}

func (r *rig) setting(line string) {
	r.t.Helper()
	f, err := os.OpenFile(filepath.Join(r.pg.Data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	r.ok(err)
	_, err = f.WriteString(line + "\n")
	r.ok(err)
	r.ok(f.Close())
}

// heap is the table's file on disk.
func (r *rig) heap() string {
	r.t.Helper()
	conn, err := pgx.Connect(r.t.Context(), r.pg.DSN("land", "eve"))
	r.ok(err)
	defer conn.Close(r.t.Context())
	var path string
	r.ok(conn.QueryRow(r.t.Context(), `SELECT pg_relation_filepath('parcel_owner')`).Scan(&path))
	return filepath.Join(r.pg.Data, path)
}

// TestTruncate: a table emptied and filled again is not what it was, whoever
// does it.
func TestTruncate(t *testing.T) {
	r := newRig(t, 200)
	r.baseline()
	r.evil(`CREATE TABLE old AS SELECT * FROM parcel_owner; UPDATE old SET share = 1 WHERE parcel_id = 5`)
	r.app(`TRUNCATE parcel_owner`)
	if f := r.alarmed("table-changed"); !strings.Contains(strings.Join(f.Restricted.Reasons, " "), "TRUNCATE is never authorised") {
		t.Errorf("%v", f.Restricted.Reasons)
	}
	r.evil(`INSERT INTO parcel_owner SELECT * FROM old`) // a restore of an old dump
	r.alarmed("table-changed")
	r.caughtUp()
	if got := keysOf(r.audit().Differences); got != "5 changed" {
		t.Errorf("the audit names %q", got)
	}
}

// TestSwappedTable: another table under the same name.
func TestSwappedTable(t *testing.T) {
	r := newRig(t, 200)
	r.baseline()
	r.evil(`BEGIN; CREATE TABLE other (LIKE parcel_owner INCLUDING ALL); INSERT INTO other SELECT * FROM parcel_owner; UPDATE other SET share = 1 WHERE parcel_id = 5;
		ALTER TABLE parcel_owner RENAME TO gone; ALTER TABLE other RENAME TO parcel_owner; COMMIT`)
	r.alarmed("table-definition")
	if got := keysOf(r.audit().Differences); got != "5 changed" {
		t.Errorf("the audit names %q", got)
	}
}

// TestOnDisk: root edits files of the database while it is stopped.
func TestOnDisk(t *testing.T) {
	r := newRig(t, 3000)
	r.baseline()
	r.app(`UPDATE parcel_owner SET note = 'changed by the book' WHERE parcel_id <= 5`)
	r.caughtUp()
	r.evil(`CHECKPOINT`)
	file := r.heap()
	r.pg.Stop(t, "INT")
	data, err := os.ReadFile(file)
	r.ok(err)
	before := bytes.Clone(data)
	at := bytes.Index(data, []byte("kharif 1234"))
	if at < 0 {
		t.Fatal("the row is not in the file")
	}
	copy(data[at:], "kharif 9999")
	r.ok(os.WriteFile(file, data, 0o600))
	r.pg.Start(t)
	r.follows()
	if got := keysOf(r.audit().Differences); got != "1234 changed" {
		t.Fatalf("an edited row: the audit names %q", got)
	}
	f := r.alarmed("table-differs")
	if m := f.Restricted.More; !strings.Contains(m["before"], "kharif 1234") || !strings.Contains(m["after"], "kharif 9999") || m["version"] == "" {
		t.Errorf("the alarm says %v", m)
	}
	r.ok(os.WriteFile(file, before, 0o600)) // while it runs: what PostgreSQL has in memory hides it
	r.pg.Stop(t, "QUIT")
	r.pg.Start(t)
	r.follows()
	if got := keysOf(r.audit().Differences); got != "" {
		t.Fatalf("put back on disk: the audit names %q", got)
	}

	r.app(`DELETE FROM parcel_owner WHERE parcel_id = 77`, `UPDATE parcel_owner SET share = 0.125 WHERE parcel_id = 78`)
	r.caughtUp()
	r.evil(`CHECKPOINT`)
	r.pg.Stop(t, "INT")
	r.ok(os.WriteFile(file, before, 0o600)) // yesterday's file
	r.pg.Start(t)
	r.follows()
	if got := keysOf(r.audit().Differences); got != "77 extra, 78 changed" {
		t.Fatalf("an older file: the audit names %q", got)
	}
}

// TestOldFiles: the sentinel's own files, set back or edited, are not believed.
func TestOldFiles(t *testing.T) {
	r := newRig(t, 300)
	r.baseline()
	base, log := stateFile(r.o.Dir, "owners", 1, "base"), stateFile(r.o.Dir, "owners", 1, "log")
	r.app(`UPDATE parcel_owner SET share = 0.5 WHERE parcel_id = 1`)
	r.caughtUp()
	first, err := os.ReadFile(log)
	r.ok(err)
	r.app(`UPDATE parcel_owner SET share = 0.75 WHERE parcel_id = 1`)
	r.caughtUp()
	r.stop()
	second, err := os.ReadFile(log)
	r.ok(err)
	whole, err := os.ReadFile(base)
	r.ok(err)
	flipped := bytes.Clone(whole)
	flipped[len(flipped)-1] ^= 1
	index := bytes.Clone(whole)
	index[len(baseMagic)+4+headerRoom+40] ^= 1
	for name, files := range map[string][2][]byte{"a log set back": {whole, first}, "a log emptied": {whole, nil}, "an index edited": {index, second}} {
		r.news()
		r.ok(os.WriteFile(base, files[0], 0o600))
		r.ok(os.WriteFile(log, files[1], 0o600))
		r.run()
		f := r.alarmed("table-blind")
		t.Logf("%s: %v", name, f.Restricted.Reasons)
		if st, err := r.s.Status(t.Context()); err != nil || st[0].OK() {
			t.Errorf("%s: %+v, %v", name, st, err)
		}
		r.stop()
	}
	r.ok(os.WriteFile(base, flipped, 0o600))
	r.ok(os.WriteFile(log, second, 0o600))
	r.run()
	r.follows()
	r.evil(`UPDATE parcel_owner SET share = 1`) // now every bucket is read
	r.until("the edited block is noticed", func() bool {
		st, err := r.s.Status(t.Context())
		return err == nil && strings.Contains(st[0].Problem, "changed, or belongs elsewhere")
	})
	r.stop()
	r.ok(os.WriteFile(base, whole, 0o600))
	r.run()
	r.follows()
	r.alarmed("table-changed")
}

// TestSlot: a slot that is gone, or was moved on, is noticed, and what was
// missed is found.
func TestSlot(t *testing.T) {
	r := newRig(t, 300)
	r.baseline()
	for i, q := range []string{
		`SELECT pg_drop_replication_slot('pasban_land_records_owners')`,
		`SELECT pg_replication_slot_advance('pasban_land_records_owners', pg_current_wal_lsn())`,
	} {
		r.stop()
		r.evil(fmt.Sprintf(`UPDATE parcel_owner SET share = 1 WHERE parcel_id = %d`, i+1), q)
		r.run()
		f := r.alarmed("table-blind")
		t.Log(f.Restricted.Reasons)
		r.follows()
		r.alarmed("table-differs") // the audit comes by itself
		a := r.audit()
		if got := keysOf(a.Differences); got != fmt.Sprintf("%d changed", i+1) {
			t.Fatalf("the audit names %q", got)
		}
		if st, err := r.s.Status(t.Context()); err != nil || st[0].Blind == "" {
			t.Errorf("%+v, %v", st, err)
		}
		_, err := r.ask(Request{Kind: KindRepair, Rows: []string{a.Differences[0].ID}, Reason: "missed"})
		r.ok(err)
		r.audit()
		if st, err := r.s.Status(t.Context()); err != nil || st[0].Blind != "" {
			t.Errorf("%+v, %v", st, err)
		}
	}
}

// TestRollback: the whole server is an older copy of itself.
func TestRollback(t *testing.T) {
	r := newRig(t, 300)
	r.baseline()
	r.stop()
	r.pg.Stop(t, "INT")
	old := filepath.Join(r.pg.Dir, "old")
	r.ok(os.CopyFS(old, os.DirFS(r.pg.Data)))
	r.pg.Start(t)
	r.run()
	r.follows()
	r.app(`UPDATE parcel_owner SET share = 0.5 WHERE parcel_id = 1`)
	r.caughtUp()
	r.stop()
	r.pg.Stop(t, "INT")
	r.ok(os.RemoveAll(r.pg.Data))
	r.ok(os.Rename(old, r.pg.Data))
	r.pg.Own(t)
	r.pg.Start(t)
	r.run()
	f := r.alarmed("table-blind")
	t.Log(f.Restricted.Reasons)
	r.alarmed("table-differs")
	if got := keysOf(r.audit().Differences); got != "1 changed" {
		t.Errorf("the audit names %q", got)
	}
}

// TestFailover: a standby is promoted. Without the slot that is a gap; what
// happened in it is found.
func TestFailover(t *testing.T) {
	r := newRig(t, 300)
	r.baseline()
	standby := r.pg.Beside(t)
	r.pg.Tool(t, "pg_basebackup", "-h", r.pg.Dir, "-U", r.pg.User, "-D", standby.Data, "-R", "-X", "stream", "-c", "fast")
	conf := filepath.Join(standby.Data, "postgresql.conf")
	text, err := os.ReadFile(conf)
	r.ok(err)
	r.ok(os.WriteFile(conf, bytes.ReplaceAll(text, []byte(r.pg.Dir+"'"), []byte(standby.Dir+"'")), 0o600))
	standby.Start(t)
	r.app(`UPDATE parcel_owner SET share = 0.5 WHERE parcel_id = 1`)
	r.caughtUp()
	r.until("the standby has it", func() bool {
		conn, err := pgx.Connect(t.Context(), standby.DSN("land", "eve"))
		r.ok(err)
		defer conn.Close(t.Context())
		var n int
		r.ok(conn.QueryRow(t.Context(), `SELECT count(*) FROM parcel_owner WHERE share = 0.5 AND parcel_id = 1`).Scan(&n))
		return n == 1
	})
	r.stop()
	r.pg.Stop(t, "QUIT")
	standby.Tool(t, "pg_ctl", "-D", standby.Data, "-w", "promote")
	takeOver(r, standby)
	r.evil(`UPDATE parcel_owner SET share = 1 WHERE parcel_id = 2`) // before anybody looks
	r.run()
	f := r.alarmed("table-blind")
	t.Log(f.Restricted.Reasons)
	r.alarmed("table-differs")
	if got := keysOf(r.audit().Differences); got != "2 changed" {
		t.Errorf("the audit names %q", got)
	}
	r.evil(`UPDATE parcel_owner SET share = 1 WHERE parcel_id = 3`)
	r.alarmed("table-changed") // the stream goes on at the new primary
}

// takeOver has the rig work with another server under the same address.
func takeOver(r *rig, pg *storetest.Cluster) {
	r.pg = pg
	r.o.Tables[0].Database = secretDSN(pg)
}
