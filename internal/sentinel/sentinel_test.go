package sentinel

import (
	"strings"
	"testing"

	"pasban"
	"pasban/internal/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m, nil) }

// TestGuard goes once around: a baseline, authorised changes, one that is not,
// an audit, and the row put back by two people.
func TestGuard(t *testing.T) {
	r := newRig(t, 3000)
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
	changes := 0
	list, err := r.j.Since(t.Context(), 0, 1000)
	r.ok(err)
	for _, e := range list {
		if e.Fact.Body.Action == "rows" {
			var n int
			for _, c := range e.Fact.Restricted.More["changes"] {
				n = n*10 + int(c-'0')
			}
			changes += n
		}
	}
	if changes != 71 {
		t.Errorf("%d changes are in the ledger, want 71", changes)
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
