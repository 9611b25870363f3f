package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"pasban"
	"pasban/internal/access"
	"pasban/internal/config"
	"pasban/internal/journal"
	"pasban/internal/keys"
	"pasban/internal/registry"
	"pasban/internal/store"
	"pasban/internal/store/storetest"
	"pasban/internal/vault"
)

const origin = "land.example/ledger"

// Synthetic citizens.
const (
	sellerCNIC = pasban.CNIC("61101-1234567-2")
	buyerCNIC  = pasban.CNIC("35202-7654321-1")
	otherCNIC  = pasban.CNIC("37405-1111111-3")
)

// ledgerState is a ledger that follows the journal, or says why not.
type ledgerState struct{ err error }

func (l *ledgerState) Healthy() error { return l.err }

// faultyJournal is a journal whose storage can be made to fail.
type faultyJournal struct {
	registry.Journal
	err atomic.Pointer[error]
}

func (f *faultyJournal) fail(err error) { f.err.Store(&err) }

func (f *faultyJournal) Record(ctx context.Context, facts ...pasban.Fact) ([]journal.Entry, error) {
	if p := f.err.Load(); p != nil && *p != nil {
		return nil, *p
	}
	return f.Journal.Record(ctx, facts...)
}

func (f *faultyJournal) Commit(ctx context.Context, step func(tx *store.Tx) ([]pasban.Fact, error)) ([]journal.Entry, error) {
	if p := f.err.Load(); p != nil && *p != nil {
		return nil, *p
	}
	return f.Journal.Commit(ctx, step)
}

// rig is a registry with the real vault, journal, policies and example service.
type rig struct {
	*registry.Registry
	guard   *registry.Guard
	vault   *vault.Vault
	journal *journal.Journal
	faults  *faultyJournal
	ledger  *ledgerState
	st      *store.Store
	budget  func(n int)

	seller, buyer, other   pasban.Actor
	officer, second, super pasban.Actor
	analyst, outside       pasban.Actor
}

func open(t testing.TB, st *store.Store) *rig {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ring, err := keys.Open(t.Context(), filepath.Join(t.TempDir(), "keys"), keys.Options{})
	must(err)
	t.Cleanup(func() { ring.Close() })
	signer, vkey, err := ring.LedgerSigner(origin)
	must(err)
	verifier, err := note.NewVerifier(vkey)
	must(err)
	r := &rig{st: st, ledger: &ledgerState{}}
	r.vault, err = vault.Open(t.Context(), st, ring, verifier)
	must(err)
	r.journal, err = journal.Open(t.Context(), st, journal.Options{Signer: signer, Sealer: r.vault})
	must(err)
	r.faults = &faultyJournal{Journal: r.journal}
	files, err := filepath.Glob("../../examples/policies/*.cedar")
	must(err)
	policies, err := access.Load(files)
	must(err)
	budgets, err := access.NewBudgets(t.Context(), st, nil)
	must(err)
	r.guard, err = registry.NewGuard(registry.GuardOptions{Agency: "land-records", Journal: r.faults, Ledger: r.ledger,
		Rules: registry.Rules{Policies: policies, Budgets: budgets}})
	must(err)
	r.budget = func(n int) {
		r.guard.Reload(registry.Rules{Policies: policies,
			Budgets: access.WithLimits([]config.Budget{{Role: pasban.RoleOfficer, Subjects: n, Per: time.Hour}})})
	}
	services, err := registry.LoadServices([]string{"../../examples/services/land-transfer.yaml"})
	must(err)
	r.Registry, err = registry.New(t.Context(), st, registry.Options{Guard: r.guard, Vault: r.vault, Services: services})
	must(err)
	citizen := func(c pasban.CNIC) pasban.Actor {
		s, err := r.vault.Subject(t.Context(), c)
		must(err)
		return pasban.Actor{ID: "citizen:" + string(s.ID), Kind: pasban.ActorCitizen, Role: pasban.RoleCitizen, Subject: s.ID}
	}
	r.seller, r.buyer, r.other = citizen(sellerCNIC), citizen(buyerCNIC), citizen(otherCNIC)
	staff := func(role pasban.Role, n string) pasban.Actor {
		return pasban.Actor{ID: string(role) + ":lhr-" + n, Kind: pasban.ActorPerson, Role: role, Staff: "lhr-" + n}
	}
	r.officer, r.second = staff(pasban.RoleOfficer, "032"), staff(pasban.RoleOfficer, "033")
	r.super, r.analyst = staff(pasban.RoleSupervisor, "001"), staff(pasban.RoleAnalyst, "900")
	return r
}

// answers are those of a synthetic application.
func answers() map[string]string {
	return map[string]string{
		"district": "rawalpindi", "tehsil": "Gujar Khan", "mouza": "Adiala", "khasra": "123/4", "area_kanal": "۱۲", "transfer": "sale",
		"seller_cnic": "6110112345672", "seller_name": "Synthetic Seller", "seller_father": "Synthetic Father",
		"seller_mobile": "0300-1234567", "seller_address": "House 1, Synthetic Street", "seller_cnic_copy": "SC-12345",
		"seller_needs": "synthetic wheelchair user",
		"buyer_cnic":   "35202-7654321-1", "buyer_name": "Synthetic Buyer", "buyer_father": "Synthetic Elder",
		"buyer_mobile": "+92 333 7654321", "buyer_address": "House 2, Synthetic Street",
		"consideration_pkr": "4,500,000", "agreed_on": "2026-11-01",
	}
}

func forACase(a pasban.Actor) registry.Ask {
	return registry.Ask{Actor: a, Purpose: pasban.Purpose{Code: "mutation", Case: "RWP-2026-17"},
		Client: pasban.Restricted{IP: "192.0.2.7", UserAgent: "test", Method: "GET", Path: "/x"}}
}

// apply hands in an application of the seller.
func (r *rig) apply(t testing.TB) registry.Summary {
	t.Helper()
	s, d, err := r.Apply(t.Context(), registry.Ask{Actor: r.seller}, "land-transfer", answers())
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Entries) != 2 {
		t.Fatalf("%d facts about a new record, want one per party", len(d.Entries))
	}
	return s
}

func (r *rig) head(t testing.TB) uint64 {
	t.Helper()
	seq, _, err := r.journal.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

// last returns the newest fact.
func (r *rig) last(t testing.TB) journal.Entry {
	t.Helper()
	entries, err := r.journal.Since(t.Context(), r.head(t)-1, 1)
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	return entries[0]
}

// TestWholeWay takes an application from the form to attestation, on both engines.
func TestWholeWay(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := open(t, st)
		rec := r.apply(t)
		if rec.State != "submitted" || !strings.HasPrefix(rec.ID, "LT-") || rec.Public["khasra"] != "123/4" || rec.Public["area_kanal"] != "12" {
			t.Fatalf("%+v", rec)
		}
		if _, _, err := r.Advance(t.Context(), forACase(r.officer), "land-transfer", rec.ID, "attest"); pasban.KindOf(err) != pasban.Forbidden {
			t.Errorf("officer attests: %v", err)
		}
		if _, _, err := r.Advance(t.Context(), forACase(r.super), "land-transfer", rec.ID, "attest"); pasban.KindOf(err) != pasban.Conflict {
			t.Errorf("attested before it was verified: %v", err)
		}
		moved, d, err := r.Advance(t.Context(), forACase(r.officer), "land-transfer", rec.ID, "verify")
		if err != nil || moved.State != "verified" || moved.Version != 2 || len(d.Entries) != 2 {
			t.Fatalf("%+v %v", moved, err)
		}
		if f := d.Entries[0].Fact.Body; f.Kind != pasban.KindChange || f.Action != access.Change || !slices.Equal(f.Fields, []string{"state"}) {
			t.Errorf("fact of a step: %+v", f)
		}
		if moved, _, err = r.Advance(t.Context(), forACase(r.super), "land-transfer", rec.ID, "attest"); err != nil || moved.State != "attested" {
			t.Fatalf("%+v %v", moved, err)
		}
		opened, err := r.Open(t.Context(), forACase(r.officer), "land-transfer", rec.ID)
		if err != nil {
			t.Fatal(err)
		}
		var way []string
		for _, h := range opened.History {
			way = append(way, h.Step+">"+h.State+" by "+string(h.Role))
		}
		if want := ">submitted by citizen, verify>verified by officer, attest>attested by supervisor"; strings.Join(way, ", ") != want {
			t.Errorf("history %v", way)
		}
		if opened.Values["seller_name"] != "Synthetic Seller" || opened.Values["buyer_mobile"] != "+923337654321" ||
			opened.Values["consideration_pkr"] != "4500000" || opened.Values["mouza"] != "Adiala" {
			t.Errorf("values %v", opened.Values)
		}
	})
}

// TestFourEyes: whoever verified does not attest.
func TestFourEyes(t *testing.T) {
	r := open(t, storetest.SQLite(t))
	rec := r.apply(t)
	if _, _, err := r.Advance(t.Context(), forACase(r.super), "land-transfer", rec.ID, "verify"); err != nil {
		t.Fatal(err)
	}
	_, _, err := r.Advance(t.Context(), forACase(r.super), "land-transfer", rec.ID, "attest")
	if pasban.KindOf(err) != pasban.Forbidden || !strings.Contains(err.Error(), "approved by someone else") {
		t.Errorf("approved their own: %v", err)
	}
}

// TestOpen says who gets which answers, and that the facts name exactly those.
func TestOpen(t *testing.T) {
	r := open(t, storetest.SQLite(t))
	rec := r.apply(t)
	for _, row := range []struct {
		name   string
		ask    registry.Ask
		fields []string
		has    []string // answers that are opened
		hasNot []string
		kind   pasban.ErrorKind
		facts  int
	}{
		{"officer", forACase(r.officer), nil, []string{"seller_name", "buyer_name", "seller_cnic", "mouza"}, []string{"seller_needs"}, "", 2},
		{"officer asks for the sensitive one", forACase(r.officer), []string{"seller_needs"}, []string{"seller_needs", "mouza"}, []string{"seller_name", "buyer_name"}, "", 2},
		{"seller", registry.Ask{Actor: r.seller}, nil, []string{"seller_name", "seller_needs", "consideration_pkr"}, []string{"buyer_name", "buyer_cnic"}, "", 1},
		{"buyer", registry.Ask{Actor: r.buyer}, nil, []string{"buyer_name"}, []string{"seller_name", "seller_needs"}, "", 1},
		{"another citizen", registry.Ask{Actor: r.other}, nil, nil, nil, pasban.NotFound, 1},
		{"officer without a case", registry.Ask{Actor: r.officer}, nil, nil, nil, pasban.Forbidden, 1},
		{"analyst", forACase(r.analyst), nil, nil, nil, pasban.Forbidden, 1},
		{"nobody", registry.Ask{}, nil, nil, nil, pasban.Forbidden, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := r.head(t)
			opened, err := r.Open(t.Context(), row.ask, "land-transfer", rec.ID, row.fields...)
			if n := r.head(t) - before; n != uint64(row.facts) {
				t.Errorf("%d facts, want %d", n, row.facts)
			}
			if row.kind != "" {
				e, ok := errors.AsType[*pasban.Error](err)
				if !ok || e.Kind != row.kind || e.ID == "" || len(opened.Values) != 0 {
					t.Fatalf("%v %v", opened.Values, err)
				}
				f := r.last(t)
				if f.Fact.Body.ID != e.ID || f.Fact.Body.Kind != pasban.KindDecision || f.Fact.Body.Outcome != pasban.Denied || f.Fact.Subject.ID == "" {
					t.Errorf("the refusal is recorded as %+v", f.Fact.Body)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range row.has {
				if opened.Values[name] == "" {
					t.Errorf("%s is not opened", name)
				}
			}
			for _, name := range row.hasNot {
				if _, there := opened.Values[name]; there || !slices.Contains(opened.Closed, name) {
					t.Errorf("%s is opened, or not listed as closed", name)
				}
			}
			named := map[string]bool{"district": true, "tehsil": true, "mouza": true, "khasra": true, "area_kanal": true, "transfer": true}
			for _, e := range opened.Entries {
				if e.Fact.Body.Kind != pasban.KindLook || e.Fact.Body.Resource != rec.ID || e.Fact.Body.Basis == "" {
					t.Errorf("fact %+v", e.Fact.Body)
				}
				for _, f := range e.Fact.Body.Fields {
					named[f] = true
				}
			}
			for name := range opened.Values {
				if !named[name] {
					t.Errorf("%s was opened and no fact names it", name)
				}
			}
		})
	}
	if _, err := r.Open(t.Context(), forACase(r.officer), "land-transfer", "LT-2026-AAAAA-AAAAA"); pasban.KindOf(err) != pasban.NotFound {
		t.Errorf("unknown record: %v", err)
	}
	if _, err := r.Open(t.Context(), forACase(r.officer), "land-transfers", rec.ID); pasban.KindOf(err) != pasban.NotFound {
		t.Errorf("unknown service: %v", err)
	}
}

// TestNoPlaintextWithoutAFact: whatever stands in the journal's way, no answer
// comes out and nothing is changed.
func TestNoPlaintextWithoutAFact(t *testing.T) {
	r := open(t, storetest.SQLite(t))
	rec := r.apply(t)
	try := func(t *testing.T, ctx context.Context, want pasban.ErrorKind) {
		t.Helper()
		opened, err := r.Open(ctx, forACase(r.officer), "land-transfer", rec.ID)
		if err == nil || len(opened.Values) != 0 {
			t.Errorf("opened %v", opened.Values)
		}
		if want != "" && pasban.KindOf(err) != want {
			t.Errorf("open: %v", err)
		}
		if found, _, err := r.Find(ctx, forACase(r.officer), "land-transfer", "seller_cnic", string(sellerCNIC)); err == nil || len(found) != 0 {
			t.Errorf("found %v", found)
		}
		if _, _, err := r.Advance(ctx, forACase(r.officer), "land-transfer", rec.ID, "verify"); err == nil {
			t.Error("moved")
		}
		if _, _, err := r.Apply(ctx, registry.Ask{Actor: r.seller}, "land-transfer", answers()); err == nil {
			t.Error("applied")
		}
		if own, err := r.Own(t.Context(), r.seller); err != nil || len(own) != 1 || own[0].State != "submitted" {
			t.Errorf("changed: %+v %v", own, err)
		}
	}
	t.Run("journal fails", func(t *testing.T) {
		r.faults.fail(&store.Fault{During: "commit", Err: errors.New("disk full")})
		defer r.faults.fail(nil)
		try(t, t.Context(), pasban.Unavailable)
	})
	t.Run("ledger lags", func(t *testing.T) {
		r.ledger.err = errors.New("the log is 90 s behind")
		defer func() { r.ledger.err = nil }()
		before := r.head(t)
		try(t, t.Context(), pasban.Unavailable)
		if r.head(t) != before {
			t.Error("facts were recorded that the ledger cannot take")
		}
	})
	t.Run("caller gone", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		try(t, ctx, "")
	})
	t.Run("refusal not recorded", func(t *testing.T) {
		r.faults.fail(errors.New("disk full"))
		defer r.faults.fail(nil)
		if _, err := r.Open(t.Context(), forACase(r.analyst), "land-transfer", rec.ID); pasban.KindOf(err) != pasban.Unavailable {
			t.Errorf("%v", err)
		}
	})
	t.Run("storage closed", func(t *testing.T) {
		r.st.Close()
		if opened, err := r.Open(t.Context(), forACase(r.officer), "land-transfer", rec.ID); pasban.KindOf(err) != pasban.Unavailable || len(opened.Values) != 0 {
			t.Errorf("%v", err)
		}
	})
}

// TestChangeFails: if the change itself fails, there is no fact about it.
func TestChangeFails(t *testing.T) {
	r := open(t, storetest.SQLite(t))
	subject, err := r.vault.Subject(t.Context(), sellerCNIC)
	if err != nil {
		t.Fatal(err)
	}
	before := r.head(t)
	own := errors.New("own")
	_, err = r.guard.Disclose(t.Context(), registry.Look{Actor: r.officer, Subjects: []pasban.Subject{subject}, Service: "land.example",
		Resource: "POST /mutations", Action: access.Change, Purpose: pasban.Purpose{Code: "mutation", Case: "1"}, AllowedPurposes: []string{"mutation"}},
		func(*store.Tx) error { return own })
	if !errors.Is(err, own) || r.head(t) != before {
		t.Errorf("%v", err)
	}
}

// TestCiphertextAtRest looks for every answer in the bytes of the database.
func TestCiphertextAtRest(t *testing.T) {
	dsn := storetest.SQLiteDSN(t)
	r := open(t, storetest.Open(t, dsn))
	rec := r.apply(t)
	opened, err := r.Open(t.Context(), forACase(r.officer), "land-transfer", rec.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Find(t.Context(), forACase(r.officer), "land-transfer", "buyer_cnic", string(buyerCNIC)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Open(t.Context(), registry.Ask{Actor: r.seller}, "land-transfer", rec.ID); err != nil {
		t.Fatal(err)
	}
	service, err := r.Service("land-transfer")
	if err != nil {
		t.Fatal(err)
	}
	secrets := map[string]string{"seller_needs": "synthetic wheelchair user", "case": "RWP-2026-17", "ip": "192.0.2.7"}
	for name, value := range opened.Values {
		if f, _ := service.Field(name); f.Class != registry.Public {
			secrets[name] = value
		}
	}
	if len(secrets) < 15 {
		t.Fatalf("only %d secrets to look for", len(secrets))
	}
	files, err := filepath.Glob(dsn + "*")
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	clear := false // the public answers are found, so the search works
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		clear = clear || bytes.Contains(data, []byte("Gujar Khan"))
		for name, value := range secrets {
			if bytes.Contains(data, []byte(value)) || bytes.Contains(data, []byte(strings.ReplaceAll(value, "-", ""))) && len(value) > 5 {
				t.Errorf("%s has %s in the clear", file, name)
			}
		}
	}
	if !clear {
		t.Error("not even a public answer was found")
	}
}

// TestBudget: a search through records ends at the budget, with a refusal that
// is recorded; what was refused cost nothing.
func TestBudget(t *testing.T) {
	r := open(t, storetest.SQLite(t))
	rec := r.apply(t)
	r.budget(1) // an application has two parties
	before := r.head(t)
	_, err := r.Open(t.Context(), forACase(r.officer), "land-transfer", rec.ID)
	e, ok := errors.AsType[*pasban.Error](err)
	if !ok || e.Kind != pasban.Forbidden || !strings.Contains(e.Msg, "the budget is used up") || e.ID == "" {
		t.Fatalf("%v", err)
	}
	if f := r.last(t).Fact; r.head(t) != before+1 || f.Body.ID != e.ID || f.Body.Kind != pasban.KindDecision || !slices.Equal(f.Restricted.Policies, []string{"budget"}) {
		t.Errorf("recorded as %+v", f)
	}
	r.budget(2)
	if _, err := r.Open(t.Context(), forACase(r.officer), "land-transfer", rec.ID); err != nil {
		t.Errorf("the refused look was charged: %v", err)
	}
	if _, err := r.Open(t.Context(), registry.Ask{Actor: r.seller}, "land-transfer", rec.ID); err != nil {
		t.Errorf("citizens have no budget: %v", err)
	}
}

// TestGuardBudgetHolds: 32 workers through the guard do not get more citizens
// than the budget has, and every look that passed is a fact.
func TestGuardBudgetHolds(t *testing.T) {
	r := open(t, storetest.SQLite(t))
	r.budget(50)
	var passed atomic.Int64
	var workers sync.WaitGroup
	for w := range 32 {
		workers.Go(func() {
			for i := range 4 {
				subject, err := r.vault.Subject(t.Context(), pasban.CNIC(fmt.Sprintf("61101-%07d-1", w*100+i)))
				if err != nil {
					t.Error(err)
					return
				}
				_, err = r.guard.Disclose(t.Context(), registry.Look{Actor: r.officer, Subjects: []pasban.Subject{subject}, Service: "land.example",
					Resource: "GET /records/{cnic}", Action: access.View, Purpose: pasban.Purpose{Code: "mutation", Case: "1"}, AllowedPurposes: []string{"mutation"}}, nil)
				switch {
				case err == nil:
					passed.Add(1)
				case pasban.KindOf(err) != pasban.Forbidden:
					t.Error(err)
				}
			}
		})
	}
	workers.Wait()
	if passed.Load() != 50 {
		t.Errorf("%d looks passed a budget of 50", passed.Load())
	}
	if n := r.head(t); n != 32*4 {
		t.Errorf("%d facts about %d tries", n, 32*4)
	}
}

// TestAboutNobody: a look at a page about nobody is one fact without a citizen.
func TestAboutNobody(t *testing.T) {
	r := open(t, storetest.SQLite(t))
	d, err := r.guard.Disclose(t.Context(), registry.Look{Actor: r.officer, Service: "land.example", Resource: "GET /mutations/new", Action: access.View}, nil)
	if err != nil || len(d.Promises()) != 1 || d.Entries[0].Fact.Subject != (pasban.Subject{}) {
		t.Errorf("%+v %v", d, err)
	}
}

// TestRepeated: a citizen who is on a page twice gets one fact.
func TestRepeated(t *testing.T) {
	r := open(t, storetest.SQLite(t))
	a, _ := r.vault.Subject(t.Context(), sellerCNIC)
	b, _ := r.vault.Subject(t.Context(), buyerCNIC)
	d, err := r.guard.Disclose(t.Context(), registry.Look{Actor: r.officer, Subjects: []pasban.Subject{a, b, a}, Service: "land.example", Resource: "GET /plots",
		Action: access.View, Purpose: pasban.Purpose{Code: "mutation", Case: "1"}, AllowedPurposes: []string{"mutation"}}, nil)
	if err != nil || len(d.Entries) != 2 || d.Entries[0].Fact.Subject != a || d.Entries[1].Fact.Subject != b {
		t.Errorf("%+v %v", d, err)
	}
}

func TestLists(t *testing.T) {
	r := open(t, storetest.SQLite(t))
	first, second := r.apply(t), r.apply(t)
	before := r.head(t)
	for _, row := range []struct {
		name  string
		actor pasban.Actor
		f     registry.Filter
		want  int
		kind  pasban.ErrorKind
	}{
		{"officer", r.officer, registry.Filter{}, 2, ""},
		{"one", r.officer, registry.Filter{Max: 1}, 1, ""},
		{"in a state", r.officer, registry.Filter{State: "verified"}, 0, ""},
		{"in no state", r.officer, registry.Filter{State: "x"}, 0, pasban.Invalid},
		{"citizen", r.seller, registry.Filter{}, 0, pasban.Forbidden},
		{"analyst", r.analyst, registry.Filter{}, 0, pasban.Forbidden},
		{"nobody", r.outside, registry.Filter{}, 0, pasban.Forbidden},
	} {
		got, err := r.List(t.Context(), registry.Ask{Actor: row.actor}, "land-transfer", row.f)
		if len(got) != row.want || row.kind != "" && pasban.KindOf(err) != row.kind || row.kind == "" && err != nil {
			t.Errorf("%s: %v %v", row.name, got, err)
		}
	}
	if n := r.head(t) - before; n != 3 {
		t.Errorf("%d facts, want the three refusals", n)
	}
	page, err := r.List(t.Context(), registry.Ask{Actor: r.officer}, "land-transfer", registry.Filter{Max: 1})
	if err != nil {
		t.Fatal(err)
	}
	rest, err := r.List(t.Context(), registry.Ask{Actor: r.officer}, "land-transfer", registry.Filter{After: &page[0]})
	if err != nil || len(rest) != 1 || rest[0].ID == page[0].ID || !slices.Contains([]string{first.ID, second.ID}, rest[0].ID) {
		t.Errorf("second page: %v %v", rest, err)
	}
	for actor, want := range map[*pasban.Actor]int{&r.seller: 2, &r.buyer: 2, &r.other: 0} {
		if own, err := r.Own(t.Context(), *actor); err != nil || len(own) != want {
			t.Errorf("own: %v %v", own, err)
		}
	}
	if _, err := r.Own(t.Context(), r.officer); pasban.KindOf(err) != pasban.Forbidden {
		t.Errorf("an officer's own: %v", err)
	}
}

// TestFind: finding accounts for everyone who is found, and for whoever was
// searched for and is not there.
func TestFind(t *testing.T) {
	r := open(t, storetest.SQLite(t))
	rec := r.apply(t)
	for _, row := range []struct {
		field, value string
		records      int
		facts        int
		kind         pasban.ErrorKind
	}{
		{"seller_cnic", "۶۱۱۰۱۱۲۳۴۵۶۷۲", 1, 2, ""},
		{"buyer_cnic", string(sellerCNIC), 0, 1, ""},
		{"buyer_cnic", string(otherCNIC), 0, 1, ""},
		{"khasra", "123/4", 1, 2, ""},
		{"khasra", "9/9", 0, 1, ""},
		{"seller_name", "Synthetic Seller", 0, 0, pasban.Invalid},
		{"seller_cnic", "1", 0, 0, pasban.Invalid},
		{"seller_cnic", "", 0, 0, pasban.Invalid},
		{"nothing", "x", 0, 0, pasban.Invalid},
	} {
		before := r.head(t)
		found, d, err := r.Find(t.Context(), forACase(r.officer), "land-transfer", row.field, row.value)
		if len(found) != row.records || int(r.head(t)-before) != row.facts || len(d.Entries) != row.facts || pasban.KindOf(err) != row.kind && row.kind != "" {
			t.Errorf("%s=%s: %v, %d facts, %v", row.field, row.value, found, r.head(t)-before, err)
		}
		if row.records == 1 && found[0].ID != rec.ID {
			t.Errorf("found %v", found)
		}
	}
	if _, _, err := r.Find(t.Context(), registry.Ask{Actor: r.officer}, "land-transfer", "seller_cnic", string(sellerCNIC)); pasban.KindOf(err) != pasban.Forbidden {
		t.Errorf("without a case: %v", err)
	}
}

func TestApplyRefuses(t *testing.T) {
	r := open(t, storetest.SQLite(t))
	with := func(name, value string) map[string]string {
		a := answers()
		a[name] = value
		return a
	}
	for _, row := range []struct {
		name   string
		ask    registry.Ask
		values map[string]string
		kind   pasban.ErrorKind
		where  string
	}{
		{"not a party", registry.Ask{Actor: r.other}, answers(), pasban.Invalid, "seller_cnic"},
		{"same person", registry.Ask{Actor: r.seller}, with("buyer_cnic", string(sellerCNIC)), pasban.Invalid, "buyer_cnic"},
		{"bad CNIC", registry.Ask{Actor: r.seller}, with("seller_cnic", "123"), pasban.Invalid, "seller_cnic"},
		{"missing", registry.Ask{Actor: r.seller}, with("mouza", " "), pasban.Invalid, "mouza"},
		{"unknown field", registry.Ask{Actor: r.seller}, with("state", "attested"), pasban.Invalid, "state"},
		{"pattern", registry.Ask{Actor: r.seller}, with("khasra", "12 OR 1=1"), pasban.Invalid, "khasra"},
		{"choice", registry.Ask{Actor: r.seller}, with("district", "atlantis"), pasban.Invalid, "district"},
		{"too long", registry.Ask{Actor: r.seller}, with("mouza", strings.Repeat("x", 61)), pasban.Invalid, "mouza"},
		{"control", registry.Ask{Actor: r.seller}, with("seller_name", "a\x00b"), pasban.Invalid, "seller_name"},
		{"officer without a case", registry.Ask{Actor: r.officer}, answers(), pasban.Forbidden, ""},
		{"analyst", forACase(r.analyst), answers(), pasban.Forbidden, ""},
		{"nobody", registry.Ask{}, answers(), pasban.Unauthenticated, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, _, err := r.Apply(t.Context(), row.ask, "land-transfer", row.values)
			e, ok := errors.AsType[*pasban.Error](err)
			if !ok || e.Kind != row.kind || e.Where != row.where {
				t.Errorf("%v", err)
			}
			if row.kind == pasban.Forbidden && (e.ID == "" || r.last(t).Fact.Body.ID != e.ID) {
				t.Errorf("the refusal is not recorded: %v", err)
			}
		})
	}
	if own, _ := r.Own(t.Context(), r.seller); len(own) != 0 {
		t.Errorf("records: %v", own)
	}
	if s, _, err := r.Apply(t.Context(), forACase(r.officer), "land-transfer", answers()); err != nil || s.ID == "" {
		t.Errorf("an officer applies for a citizen: %v", err)
	}
}

// TestStale: two people who move the same record at once do not both succeed.
func TestStale(t *testing.T) {
	r := open(t, storetest.SQLite(t))
	rec := r.apply(t)
	var done atomic.Int64
	var workers sync.WaitGroup
	for i := range 8 {
		workers.Go(func() {
			a := r.officer
			a.ID = fmt.Sprint("officer:", i)
			_, _, err := r.Advance(t.Context(), forACase(a), "land-transfer", rec.ID, []string{"verify", "return"}[i%2])
			switch {
			case err == nil:
				done.Add(1)
			case pasban.KindOf(err) != pasban.Conflict:
				t.Error(err)
			}
		})
	}
	workers.Wait()
	opened, err := r.Open(t.Context(), registry.Ask{Actor: r.seller}, "land-transfer", rec.ID)
	if err != nil || int64(len(opened.History)) != 1+done.Load() || done.Load() < 1 {
		t.Errorf("%d moves, history %v, %v", done.Load(), opened.History, err)
	}
}

// TestShredded: when a citizen's key is destroyed their answers are gone, also
// for those who may see them; those of the others remain.
func TestShredded(t *testing.T) {
	r := open(t, storetest.SQLite(t))
	rec := r.apply(t)
	if err := r.vault.Shred(t.Context(), r.seller.Subject); err != nil {
		t.Fatal(err)
	}
	opened, err := r.Open(t.Context(), forACase(r.officer), "land-transfer", rec.ID)
	if err != nil || len(opened.Entries) != 1 || opened.Values["buyer_name"] == "" || opened.Values["seller_name"] != "" || !slices.Contains(opened.Closed, "seller_name") {
		t.Errorf("%v %v", opened.Values, err)
	}
	if opened, err := r.Open(t.Context(), registry.Ask{Actor: r.buyer}, "land-transfer", rec.ID); err != nil || opened.Values["buyer_name"] == "" {
		t.Errorf("%v %v", opened.Values, err)
	}
	if err := r.vault.Shred(t.Context(), r.buyer.Subject); err != nil {
		t.Fatal(err)
	}
	for _, ask := range []registry.Ask{forACase(r.officer), {Actor: r.seller}} {
		if opened, err := r.Open(t.Context(), ask, "land-transfer", rec.ID); pasban.KindOf(err) != pasban.NotFound || len(opened.Values) != 0 {
			t.Errorf("%v %v", opened.Values, err)
		}
	}
}
