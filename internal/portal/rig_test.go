package portal

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/access"
	"pasban/internal/journal"
	"pasban/internal/keys"
	"pasban/internal/page"
	"pasban/internal/registry"
	"pasban/internal/store/storetest"
	"pasban/internal/vault"
)

// rig is a portal over the real journal, vault and registry and a log in
// memory, with a visitor that the test chooses.
type rig struct {
	t        *testing.T
	portal   *Portal
	pages    *page.Pages
	journal  *journal.Journal
	ledger   *memoryLedger
	noList   error // why there is no statement
	vkey     string
	healthy  error
	visitor  *Visitor
	ayesha   pasban.Subject
	citizen  Visitor // Ayesha
	other    Visitor // Bilal
	registry *registry.Registry
	vault    *vault.Vault
}

// Healthy makes the rig the ledger that the registry's guard asks.
func (r *rig) Healthy() error { return r.healthy }

// Synthetic people of the tests.
const (
	ayeshaCNIC = pasban.CNIC("61101-1234567-2")
	bilalCNIC  = pasban.CNIC("35202-7654321-1")
)

var (
	officer = Visitor{Actor: pasban.Actor{ID: "officer:lhr-032", Kind: pasban.ActorPerson, Role: pasban.RoleOfficer, Staff: "LHR-032"}}
	auditor = Visitor{Actor: pasban.Actor{ID: "auditor:1", Kind: pasban.ActorPerson, Role: pasban.RoleAuditor, Staff: "AUD-007"}}
	system  = pasban.Actor{ID: "svc:passports", Kind: pasban.ActorSystem}
)

// noon is the tests' now.
var noon = time.Date(2026, 11, 23, 7, 0, 0, 0, time.UTC)

func newRig(t *testing.T) *rig {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	st := storetest.SQLite(t)
	ring, err := keys.Open(t.Context(), filepath.Join(t.TempDir(), "keys"), keys.Options{})
	must(err)
	t.Cleanup(func() { ring.Close() })
	signer, vkey, err := ring.LedgerSigner("land.example/ledger")
	must(err)
	verifier, err := note.NewVerifier(vkey)
	must(err)
	v, err := vault.Open(t.Context(), st, ring, verifier)
	must(err)
	r := &rig{t: t, vkey: vkey, vault: v}
	r.journal, err = journal.Open(t.Context(), st, journal.Options{Signer: signer, Sealer: v})
	must(err)
	r.ledger = &memoryLedger{signer: signer, journal: r.journal}
	policies, err := access.Load([]string{"../../examples/policies/10-citizens.cedar"})
	must(err)
	budgets, err := access.NewBudgets(t.Context(), st, nil)
	must(err)
	guard, err := registry.NewGuard(registry.GuardOptions{Agency: "land-records", Journal: r.journal, Ledger: r,
		Rules: registry.Rules{Policies: policies, Budgets: budgets}})
	must(err)
	services, err := registry.LoadServices([]string{"../../examples/services/land-transfer.yaml"})
	must(err)
	r.registry, err = registry.New(t.Context(), st, registry.Options{Guard: guard, Vault: v, Services: services})
	must(err)
	r.ayesha, err = v.Subject(t.Context(), ayeshaCNIC)
	must(err)
	bilal, err := v.Subject(t.Context(), bilalCNIC)
	must(err)
	r.citizen = Visitor{Actor: pasban.Actor{ID: "citizen:1", Kind: pasban.ActorCitizen, Role: pasban.RoleCitizen, Subject: r.ayesha.ID}, CNIC: ayeshaCNIC, Name: map[string]string{"en": "Synthetic Ayesha", "ur": "فرضی عائشہ"}}
	r.other = Visitor{Actor: pasban.Actor{ID: "citizen:2", Kind: pasban.ActorCitizen, Role: pasban.RoleCitizen, Subject: bilal.ID}, CNIC: bilalCNIC, Name: map[string]string{"en": "Synthetic Bilal"}}
	r.pages, err = page.New(page.Options{Agency: map[string]string{"en": "Board of Revenue", "ur": "بورڈ آف ریونیو"}, Phone: "051 111 000 000"})
	must(err)
	r.portal, err = New(Options{
		Pages: r.pages, Agency: "land-records", Journal: r.journal, Ledger: r.ledger, Lists: r, VKey: vkey, Size: r.ledger.size,
		Visitor: func(*http.Request) (Visitor, bool) {
			if r.visitor == nil {
				return Visitor{}, false
			}
			return *r.visitor, true
		},
		Registry: r.registry, Names: names{}, Now: func() time.Time { return noon },
	})
	must(err)
	return r
}

// as makes the given person the visitor.
func (r *rig) as(v Visitor) *rig {
	r.visitor = &v
	return r
}

func (r *rig) asCitizen() *rig { return r.as(r.citizen) }

func (r *rig) get(path string, header ...string) *httptest.ResponseRecorder {
	r.t.Helper()
	req := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	r.portal.Handler().ServeHTTP(w, req)
	return w
}

func (r *rig) post(path string, form url.Values) *httptest.ResponseRecorder {
	r.t.Helper()
	req := httptest.NewRequest(http.MethodPost, path, strings.NewReader(form.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	w := httptest.NewRecorder()
	r.portal.Handler().ServeHTTP(w, req)
	return w
}

// record makes facts durable, each at the given time after noon.
func (r *rig) record(facts ...pasban.Fact) []journal.Entry {
	r.t.Helper()
	entries, err := r.journal.Record(r.t.Context(), facts...)
	if err != nil {
		r.t.Fatal(err)
	}
	return entries
}

// look is a fact about Ayesha that actor made, changed by edit.
func (r *rig) look(a pasban.Actor, at time.Time, edit func(*pasban.Fact)) pasban.Fact {
	f := pasban.NewFact(pasban.KindLook, "land-records", a, at)
	f.Subject = r.ayesha
	f.Body.Service, f.Body.Resource, f.Body.Action = "land-transfer", "LT-2026-00012", "view"
	f.Body.Fields = []string{"seller_name", "area_kanal"}
	f.Body.Purpose, f.Body.Case, f.Body.Basis, f.Body.Mode = "mutation", "LHR-88213", "Punjab Land Revenue Act 1967, section 42", pasban.ModePerson
	if edit != nil {
		edit(&f)
	}
	return f
}

// story is one fact of each sort that a citizen may see.
func (r *rig) story() []pasban.Fact {
	day := func(d, h, m int) time.Time {
		return noon.AddDate(0, 0, -d).Add(time.Duration(h)*time.Hour + time.Duration(m)*time.Minute)
	}
	return []pasban.Fact{
		r.look(officer.Actor, day(2, -1, 18), nil),
		r.look(system, day(4, 4, 5), func(f *pasban.Fact) {
			f.Body.Mode, f.Body.Case, f.Body.Purpose, f.Body.Resource = pasban.ModeAutomatic, "", "verification", "GET /records/{cnic}"
			f.Body.Service, f.Body.Fields = "land.example", nil
		}),
		r.look(officer.Actor, day(9, 11, 58), func(f *pasban.Fact) { f.Body.Mode, f.Body.Basis = pasban.ModeEmergency, "" }), // 23:58 in Pakistan
		r.look(r.citizen.Actor, day(10, -7, 0), func(f *pasban.Fact) { // 05:00 in Pakistan
			f.Body.Kind, f.Body.Action, f.Body.Purpose, f.Body.Case = pasban.KindChange, "create", "own", ""
		}),
		r.look(officer.Actor, day(20, 12, 1), func(f *pasban.Fact) { // past midnight in Pakistan
			f.Body.Kind, f.Body.Outcome, f.Body.Purpose, f.Body.Case = pasban.KindDecision, pasban.Denied, "", ""
		}),
		r.look(pasban.Actor{ID: "admin:1", Kind: pasban.ActorPerson, Role: pasban.RoleAdmin}, day(30, 0, 0), func(f *pasban.Fact) {
			f.Body.Kind, f.Body.Fields, f.Body.Purpose, f.Body.Resource = pasban.KindAdmin, nil, "made_up_code", `<img src=x onerror="alert(1)">`
		}),
		r.look(pasban.Actor{ID: "admin:1", Kind: pasban.ActorPerson, Role: "<b>role</b>", Staff: "<i>"}, day(31, 0, 0), func(f *pasban.Fact) {
			f.Body.Service, f.Body.Case, f.Body.Basis, f.Body.Agency = "</script><script>alert(1)</script>", `"><u>`, "<s>Act</s>{case}", "{role}<em>"
			f.Body.Fields = []string{"<script>alert(2)</script>", "\u2028'\"&"}
		}),
	}
}

// hidden are looks that the citizen is told of later: one whose date has not
// come at noon, one whose date has, and what is recorded when it has.
func (r *rig) hidden() []pasban.Fact {
	order := func(until time.Time, number string) pasban.Fact {
		return r.look(officer.Actor, noon.AddDate(0, 0, -5), func(f *pasban.Fact) {
			f.Body.Purpose, f.Body.Case, f.Body.Hidden.Until = "inquiry", number, until.UTC().Format(pasban.TimeFormat)
			if number != "W.P. 17/2026" {
				f.Body.Fields = []string{"district"}
			}
		})
	}
	return []pasban.Fact{
		order(time.Date(2027, 5, 1, 0, 0, 0, 0, page.Zone()), "W.P. 18/2026"),
		order(time.Date(2026, 11, 20, 0, 0, 0, 0, page.Zone()), "W.P. 17/2026"),
		r.look(system, noon.AddDate(0, 0, -3), func(f *pasban.Fact) {
			f.Body.Kind, f.Body.Service, f.Body.Action, f.Body.Resource = pasban.KindOpening, "ledger", "disclose", "2"
			f.Body.Fields, f.Body.Purpose, f.Body.Case, f.Body.Basis, f.Body.Mode = nil, "", "", "", pasban.ModeAutomatic
		}),
	}
}

// verifier is the ledger's.
func (r *rig) verifier(t *testing.T) note.Verifier {
	t.Helper()
	v, err := note.NewVerifier(r.vkey)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// memoryLedger is a log of the journal's leaves, in memory, with real hashes,
// proofs and signatures.
type memoryLedger struct {
	signer  note.Signer
	journal *journal.Journal

	mu     sync.Mutex // covers the rest
	hashes []tlog.Hash
	leaves int64
}

// publish takes in what the journal has.
func (l *memoryLedger) publish(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	rows, err := l.journal.Leaves(t.Context(), uint64(l.leaves), 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		more, err := tlog.StoredHashesForRecordHash(l.leaves, row.Leaf.Hash(), l)
		if err != nil {
			t.Fatal(err)
		}
		l.hashes = append(l.hashes, more...)
		l.leaves++
	}
}

// ReadHashes is called with mu held.
func (l *memoryLedger) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	all := make([]tlog.Hash, len(indexes))
	for i, at := range indexes {
		all[i] = l.hashes[at]
	}
	return all, nil
}

func (l *memoryLedger) size() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return uint64(l.leaves)
}

func (l *memoryLedger) Receipt(_ context.Context, e journal.Entry) (pasban.Receipt, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.Index >= l.leaves {
		return pasban.Receipt{}, &pasban.Error{Kind: pasban.Unavailable, Msg: "not yet under a checkpoint"}
	}
	proof, err := tlog.ProveRecord(l.leaves, e.Index, l)
	if err != nil {
		return pasban.Receipt{}, err
	}
	root, err := tlog.TreeHash(l.leaves, l)
	if err != nil {
		return pasban.Receipt{}, err
	}
	text := fmt.Sprintf("%s\n%d\n%s\n", l.signer.Name(), l.leaves, base64.StdEncoding.EncodeToString(root[:]))
	cp, err := note.Sign(&note.Note{Text: text}, l.signer)
	if err != nil {
		return pasban.Receipt{}, err
	}
	return pasban.Receipt{
		Schema: pasban.ReceiptSchema, Origin: l.signer.Name(), Index: uint64(e.Index), Kind: e.Opening.Kind,
		Salt: e.Opening.Salt, Body: e.Opening.Body, Proof: proof, Checkpoint: string(cp),
		Restricted: &e.RestrictedOpening, // the portal must take it out
	}, nil
}

// names knows the agency and a guarded site, which no declared service does.
type names struct{}

func (names) Name(lang, kind, code string) string {
	return map[string]string{
		"en.agency.land-records": "Board of Revenue", "ur.agency.land-records": "بورڈ آف ریونیو",
		"en.service.land.example": "Land record search", "ur.service.land.example": "اراضی ریکارڈ کی تلاش",
	}[lang+"."+kind+"."+code]
}

// Statement implements Lists: it hands out who was asked for.
func (r *rig) Statement(_ context.Context, who pasban.Subject) (pasban.Statement, error) {
	if r.noList != nil {
		return pasban.Statement{}, r.noList
	}
	return pasban.Statement{Schema: pasban.StatementSchema, Citizen: who.CNIC, Label: []byte(who.ID)}, nil
}

// Epoch implements Lists.
func (r *rig) Epoch(context.Context) (pasban.Receipt, error) {
	return pasban.Receipt{Schema: pasban.ReceiptSchema, Kind: pasban.KindHeads}, r.noList
}

// EpochAt implements Lists.
func (r *rig) EpochAt(_ context.Context, epoch int64) (pasban.Receipt, error) {
	if epoch != 1 {
		return pasban.Receipt{}, &pasban.Error{Kind: pasban.NotFound, Msg: "no such epoch"}
	}
	return r.Epoch(context.Background())
}

// Grown implements Lists.
func (r *rig) Grown(_ context.Context, epoch int64) ([]byte, error) {
	if epoch != 1 {
		return nil, &pasban.Error{Kind: pasban.NotFound, Msg: "no such epoch"}
	}
	label := r.key(r.ayesha.ID).Label(epoch)
	return label[:], nil
}

// WatchKey implements Lists.
func (r *rig) WatchKey(_ context.Context, id pasban.SubjectID) (pasban.WatchKey, error) {
	return r.key(id), r.noList
}

func (r *rig) key(id pasban.SubjectID) pasban.WatchKey {
	return pasban.NewWatchKey("land.example/ledger", sha256.Sum256([]byte(id)), noon.Year())
}
