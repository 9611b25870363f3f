package sentinel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"

	"pasban/internal/config"
)

// TestMarksAreForgotten: whoever stops waiting for the stream leaves nothing
// behind, whether it came late or never.
func TestMarksAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tbl := &table{g: config.GuardedTable{Name: "owners"}, marks: map[string]chan struct{}{}}
		m := &mark{t: tbl, id: "m", reached: make(chan struct{})}
		tbl.marks[m.id] = m.reached
		start := time.Now()
		if err := m.await(t.Context()); err == nil || time.Since(start) != markWait {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		m.forget()
		if len(tbl.marks) != 0 {
			t.Errorf("%d marks are left", len(tbl.marks))
		}
	})
}

// TestHangingStream: the process that sends the stream hangs. An audit does not
// wait for ever and leaves nothing behind, and when the stream goes on it is
// where it was.
func TestHangingStream(t *testing.T) {
	r := newRig(t, 300)
	r.baseline()
	r.news()
	pid := r.sender()
	r.ok(syscall.Kill(pid, syscall.SIGSTOP))
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	tbl := r.s.tables[0]
	if _, err := tbl.audit(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an audit without the stream: %v", err)
	}
	tbl.mu.Lock()
	if len(tbl.marks) != 0 || tbl.views != 0 {
		t.Errorf("%d marks and %d views are left", len(tbl.marks), tbl.views)
	}
	tbl.mu.Unlock()
	r.app(`UPDATE parcel_owner SET share = 0.5 WHERE parcel_id <= 7`)
	r.ok(syscall.Kill(pid, syscall.SIGCONT))
	r.caughtUp()
	if a := r.audit(); a.Root != a.Authorised || r.recorded() != 7 {
		t.Errorf("%d changes recorded, %d rows differ", r.recorded(), len(a.Differences))
	}
	r.quiet()
}

// sender is the process that sends the stream.
func (r *rig) sender() (pid int) {
	r.t.Helper()
	r.until("a process sends the stream", func() bool {
		conn, err := pgx.Connect(r.t.Context(), r.pg.DSN("postgres", r.pg.User))
		r.ok(err)
		defer conn.Close(r.t.Context())
		err = conn.QueryRow(r.t.Context(), `SELECT active_pid FROM pg_replication_slots WHERE active`).Scan(&pid)
		return err == nil
	})
	return pid
}

// TestSlotDroppedInUse: the slot is taken from under the running guard.
func TestSlotDroppedInUse(t *testing.T) {
	r := newRig(t, 300)
	r.baseline()
	const slot = `'pasban_land_records_owners'`
	r.evil(`DO $$ BEGIN
		FOR i IN 1..500 LOOP
			PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = ` + slot + ` AND active;
			BEGIN
				PERFORM pg_drop_replication_slot(` + slot + `);
				EXIT;
			EXCEPTION WHEN object_in_use THEN PERFORM pg_sleep(0.01);
			END;
		END LOOP;
		UPDATE parcel_owner SET share = 1 WHERE parcel_id = 9; -- the stream never sees it
	END $$`)
	f := r.alarmed("table-blind")
	if why := strings.Join(f.Restricted.Reasons, " "); !strings.Contains(why, "is gone") {
		t.Errorf("the alarm says %q", why)
	}
	r.alarmed("table-differs") // the audit comes by itself
	r.follows()
	if got := keysOf(r.audit().Differences); got != "9 changed" {
		t.Errorf("the audit names %q", got)
	}
	r.evil(`UPDATE parcel_owner SET share = 1 WHERE parcel_id = 10`)
	r.alarmed("table-changed") // by the new slot
}

// TestSlotGivenUp: the guard was away for longer than the server keeps its log.
func TestSlotGivenUp(t *testing.T) {
	r := newRig(t, 300)
	r.baseline()
	r.stop()
	r.evil(`ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'`, `SELECT pg_reload_conf()`,
		`UPDATE parcel_owner SET share = 1 WHERE parcel_id = 4`)
	r.until("the slot is lost", func() bool {
		r.evil(`SELECT pg_logical_emit_message(false, 'filler', repeat('x', 1000000)) FROM generate_series(1, 4)`, `SELECT pg_switch_wal()`, `CHECKPOINT`)
		conn, err := pgx.Connect(t.Context(), r.pg.DSN("postgres", r.pg.User))
		r.ok(err)
		defer conn.Close(t.Context())
		var status string
		r.ok(conn.QueryRow(t.Context(), `SELECT wal_status FROM pg_replication_slots`).Scan(&status))
		return status == "lost"
	})
	r.run()
	f := r.alarmed("table-blind")
	if why := strings.Join(f.Restricted.Reasons, " "); !strings.Contains(why, "given up by the server") {
		t.Errorf("the alarm says %q", why)
	}
	r.alarmed("table-differs")
	r.follows()
	if got := keysOf(r.audit().Differences); got != "4 changed" {
		t.Errorf("the audit names %q", got)
	}
}

// TestServerRestarts: the guarded server stops in good order and is killed,
// again and again, while people work. Each change is recorded once, and that the
// server was away is no gap.
func TestServerRestarts(t *testing.T) {
	r := newRig(t, 300)
	r.baseline()
	r.news()
	const changes = 12
	for i := range changes {
		r.app(fmt.Sprintf(`UPDATE parcel_owner SET note = 'round %d' WHERE parcel_id = %d`, i, i+1))
		if i%4 == 3 {
			r.pg.Stop(t, []string{"INT", "QUIT"}[i/4%2])
			r.pg.Start(t)
		}
	}
	r.follows()
	r.until("all is recorded", func() bool { return r.recorded() >= changes })
	r.caughtUp()
	if a := r.audit(); a.Root != a.Authorised || r.recorded() != changes {
		t.Errorf("%d changes recorded, want %d; %d rows differ", r.recorded(), changes, len(a.Differences))
	}
	for _, f := range r.news() {
		if a := f.Body.Action; strings.HasPrefix(a, "table-") && a != "table-lag" {
			t.Errorf("a false alarm %s: %v", a, f.Restricted.Reasons)
		}
	}
}

// TestRollbackThatWentOn: the server is an older copy of itself, slot included,
// and has written its log further than was seen before anybody looks. What the
// log says of that time is not what was recorded of it.
func TestRollbackThatWentOn(t *testing.T) {
	r := newRig(t, 300)
	r.baseline()
	r.app(`UPDATE parcel_owner SET share = 0.3 WHERE parcel_id = 1`)
	r.caughtUp()
	r.stop()
	r.pg.Stop(t, "INT")
	old := filepath.Join(r.pg.Dir, "old")
	r.ok(os.CopyFS(old, os.DirFS(r.pg.Data)))
	r.pg.Start(t)
	r.run()
	r.follows()
	for i := range 20 {
		r.app(fmt.Sprintf(`UPDATE parcel_owner SET share = 0.5 WHERE parcel_id = %d`, i+20))
	}
	r.caughtUp()
	r.stop()
	r.news()
	r.pg.Stop(t, "INT")
	r.ok(os.RemoveAll(r.pg.Data))
	r.ok(os.Rename(old, r.pg.Data))
	r.pg.Own(t)
	r.pg.Start(t)
	r.evil(`UPDATE parcel_owner SET share = 1 WHERE parcel_id = 2`,
		`SELECT pg_logical_emit_message(false, 'filler', repeat('x', 1000000)) FROM generate_series(1, 4)`, `CHECKPOINT`)
	r.run()
	f := r.alarmed("table-blind")
	if why := strings.Join(f.Restricted.Reasons, " "); !strings.Contains(why, "set back") {
		t.Errorf("the alarm says %q", why)
	}
	r.follows()
	r.caughtUp()
	a := r.audit()
	var lost int
	for _, d := range a.Differences {
		switch {
		case d.Key == "2" && strings.Contains(d.By, "eve"): // the stream knows who
		case d.Key >= "20" && d.Key <= "39" && d.Kind == "changed":
			lost++
		default:
			t.Errorf("%s %s by %q: %s", d.Key, d.Kind, d.By, d.Why)
		}
	}
	if lost != 20 || len(a.Differences) != 21 {
		t.Errorf("%d differences, %d of them lost work; want 21, 20", len(a.Differences), lost)
	}
}

// TestOrderAndClock: a change order has ended by the node's clock, and the
// guarded server's is set back into the hour in which it was in force. It is over
// all the same, also after a restart; what was done in time stays authorised.
func TestOrderAndClock(t *testing.T) {
	r := newRig(t, 100)
	r.baseline()
	q, err := r.ask(Request{Kind: KindOrder, Target: "eve", Reason: "court order 5/2026"})
	r.ok(err)
	in := `SET pasban.change_order = '` + q.ID + `'; `
	r.evil(in + `UPDATE parcel_owner SET share = 1 WHERE parcel_id = 5`)
	conn, err := r.s.tables[0].src.connect(t.Context())
	r.ok(err)
	defer conn.Close(t.Context())
	r.ok(r.s.tables[0].expire(t.Context(), conn, time.Now().Add(2*permitFor)))
	r.caughtUp()
	r.quiet()
	r.evil(in + `UPDATE parcel_owner SET share = 1 WHERE parcel_id = 6`)
	r.alarmed("table-changed")
	r.stop()
	r.run()
	r.follows()
	r.evil(in + `UPDATE parcel_owner SET share = 1 WHERE parcel_id = 7`)
	r.alarmed("table-changed")
	if got := keysOf(r.audit().Differences); got != "6 changed, 7 changed" {
		t.Errorf("the audit names %q", got)
	}
}
