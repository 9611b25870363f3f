package portal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/journal"
	"pasban/internal/page"
	"pasban/internal/store/storetest"
)

// rig is a portal over a real journal and a real log, with a visitor that the
// test chooses.
type rig struct {
	t       *testing.T
	portal  *Portal
	journal *journal.Journal
	ledger  *memoryLedger
	vkey    string
	visitor *Visitor
	counter *services
}

// Synthetic people of the tests.
var (
	ayesha  = pasban.Subject{ID: "aa01", CNIC: "35202-0000001-8"}
	bilal   = pasban.Subject{ID: "bb02", CNIC: "35202-0000002-7"}
	citizen = Visitor{Actor: pasban.Actor{ID: "citizen:1", Kind: pasban.ActorCitizen, Role: pasban.RoleCitizen, Subject: ayesha.ID}, Name: map[string]string{"en": "Synthetic Ayesha", "ur": "فرضی عائشہ"}}
	other   = Visitor{Actor: pasban.Actor{ID: "citizen:2", Kind: pasban.ActorCitizen, Role: pasban.RoleCitizen, Subject: bilal.ID}, Name: map[string]string{"en": "Synthetic Bilal"}}
	officer = Visitor{Actor: pasban.Actor{ID: "officer:lhr-032", Kind: pasban.ActorPerson, Role: pasban.RoleOfficer, Staff: "LHR-032"}}
	auditor = Visitor{Actor: pasban.Actor{ID: "auditor:1", Kind: pasban.ActorPerson, Role: pasban.RoleAuditor, Staff: "AUD-007"}}
	system  = pasban.Actor{ID: "svc:passports", Kind: pasban.ActorSystem}
)

// noon is the tests' now.
var noon = time.Date(2026, 11, 23, 7, 0, 0, 0, time.UTC)

func newRig(t *testing.T) *rig {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, "land.example/ledger")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(t.Context(), storetest.SQLite(t), journal.Options{Signer: signer, Sealer: newSealer(t)})
	if err != nil {
		t.Fatal(err)
	}
	pages, err := page.New(page.Options{Agency: map[string]string{"en": "Board of Revenue", "ur": "بورڈ آف ریونیو"}, Phone: "051 111 000 000"})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, journal: j, ledger: &memoryLedger{signer: signer, journal: j}, vkey: vkey, counter: &services{}}
	r.portal, err = New(Options{
		Pages: pages, Agency: "land-records", Journal: j, Ledger: r.ledger, VKey: vkey, Size: r.ledger.size,
		Visitor: func(*http.Request) (Visitor, bool) {
			if r.visitor == nil {
				return Visitor{}, false
			}
			return *r.visitor, true
		},
		Services: r.counter, Names: names{}, Now: func() time.Time { return noon },
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// as makes the given person the visitor.
func (r *rig) as(v Visitor) *rig {
	r.visitor = &v
	return r
}

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
func look(a pasban.Actor, at time.Time, edit func(*pasban.Fact)) pasban.Fact {
	f := pasban.NewFact(pasban.KindLook, "land-records", a, at)
	f.Subject = ayesha
	f.Body.Service, f.Body.Resource, f.Body.Action = "land-transfer", "LT-2026-00012", "view"
	f.Body.Fields = []string{"buyer_name", "area"}
	f.Body.Purpose, f.Body.Case, f.Body.Basis, f.Body.Mode = "mutation", "LHR-88213", "West Pakistan Land Revenue Act 1967, section 42", pasban.ModePerson
	if edit != nil {
		edit(&f)
	}
	return f
}

// story is one fact of each sort that a citizen may see.
func story() []pasban.Fact {
	day := func(d, h, m int) time.Time {
		return noon.AddDate(0, 0, -d).Add(time.Duration(h)*time.Hour + time.Duration(m)*time.Minute)
	}
	return []pasban.Fact{
		look(officer.Actor, day(2, -1, 18), nil),
		look(system, day(4, 4, 5), func(f *pasban.Fact) {
			f.Body.Mode, f.Body.Case, f.Body.Purpose, f.Body.Resource = pasban.ModeAutomatic, "", "verification", "GET /records/{cnic}"
			f.Body.Service, f.Body.Fields = "land.example", nil
		}),
		look(officer.Actor, day(9, 11, 58), func(f *pasban.Fact) { f.Body.Mode, f.Body.Basis = pasban.ModeEmergency, "" }), // 23:58 in Pakistan
		look(citizen.Actor, day(10, -7, 0), func(f *pasban.Fact) { // 05:00 in Pakistan
			f.Body.Kind, f.Body.Action, f.Body.Purpose, f.Body.Case = pasban.KindChange, "create", "own", ""
		}),
		look(officer.Actor, day(20, 12, 1), func(f *pasban.Fact) { // past midnight in Pakistan
			f.Body.Kind, f.Body.Outcome, f.Body.Purpose, f.Body.Case = pasban.KindDecision, pasban.Denied, "", ""
		}),
		look(pasban.Actor{ID: "admin:1", Kind: pasban.ActorPerson, Role: pasban.RoleAdmin}, day(30, 0, 0), func(f *pasban.Fact) {
			f.Body.Kind, f.Body.Fields, f.Body.Purpose, f.Body.Resource = pasban.KindAdmin, nil, "made_up_code", `<img src=x onerror="alert(1)">`
		}),
		look(pasban.Actor{ID: "admin:1", Kind: pasban.ActorPerson, Role: "<b>role</b>", Staff: "<i>"}, day(31, 0, 0), func(f *pasban.Fact) {
			f.Body.Service, f.Body.Case, f.Body.Basis, f.Body.Agency = "</script><script>alert(1)</script>", `"><u>`, "<s>Act</s>{case}", "{role}<em>"
			f.Body.Fields = []string{"<script>alert(2)</script>", "\u2028'\"&"}
		}),
	}
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

// sealer is AES-256-GCM under one key: what the vault does, without its keys
// per citizen.
type sealer struct{ aead cipher.AEAD }

func newSealer(t *testing.T) sealer {
	t.Helper()
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	return sealer{aead}
}

func (s sealer) Seal(_ context.Context, id pasban.SubjectID, plain, aad []byte) ([]byte, error) {
	return s.aead.Seal(nil, nil, plain, append([]byte(id), aad...)), nil
}

func (s sealer) Open(_ context.Context, id pasban.SubjectID, sealed, aad []byte) ([]byte, error) {
	return s.aead.Open(nil, nil, sealed, append([]byte(id), aad...))
}

// names knows the tests' service.
type names struct{}

func (names) Name(lang, kind, code string) string {
	return map[string]string{
		"en.agency.land-records": "Board of Revenue", "ur.agency.land-records": "بورڈ آف ریونیو",
		"en.service.land-transfer": "Land transfer", "ur.service.land-transfer": "زمین کی منتقلی",
		"en.field.land-transfer.buyer_name": "Buyer’s name", "ur.field.land-transfer.buyer_name": "خریدار کا نام",
	}[lang+"."+kind+"."+code]
}

// services is a counter of declared services in memory.
type services struct {
	mu   sync.Mutex // covers all
	all  []Application
	fail error
}

func (s *services) Declared() []Service {
	return []Service{{
		ID: "land-transfer", Name: Text{"en": "Land transfer", "ur": "زمین کی منتقلی"}, Days: 15,
		Summary: Text{"en": "Transfer a plot to someone else.", "ur": "پلاٹ کسی اور کے نام منتقل کریں۔"},
		Basis:   Text{"en": "Land Revenue Act 1967, section 42", "ur": "لینڈ ریونیو ایکٹ 1967، دفعہ 42"},
		Fields: []Field{
			{Name: "buyer_name", Label: Text{"en": "Buyer’s name", "ur": "خریدار کا نام"}, Kind: "text", Required: true, Max: 60},
			{Name: "buyer_cnic", Label: Text{"en": "Buyer’s CNIC", "ur": "خریدار کا شناختی کارڈ نمبر"}, Hint: Text{"en": "13 digits", "ur": "13 ہندسے"}, Kind: "cnic", Required: true},
			{Name: "mobile", Label: Text{"en": "Mobile number", "ur": "موبائل نمبر"}, Kind: "mobile"},
			{Name: "email", Label: Text{"en": "E-mail address", "ur": "ای میل پتہ"}, Kind: "email"},
			{Name: "sale_date", Label: Text{"en": "Date of sale", "ur": "فروخت کی تاریخ"}, Kind: "date"},
			{Name: "price", Label: Text{"en": "Price in rupees", "ur": "قیمت روپوں میں"}, Kind: "number"},
			{Name: "how", Label: Text{"en": "How is it transferred?", "ur": "منتقلی کیسے ہو رہی ہے؟"}, Kind: "choice", Required: true,
				Choices: []FieldChoice{{"sale", Text{"en": "Sale", "ur": "فروخت"}}, {"gift", Text{"en": "Gift", "ur": "ہبہ"}}}},
			{Name: "remarks", Label: Text{"en": "Remarks", "ur": "کیفیت"}, Kind: "textarea"},
		},
	}}
}

func (s *services) Apply(_ context.Context, a pasban.Actor, service string, values map[string]string) (Application, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return Application{}, s.fail
	}
	app := Application{Service: service, ID: fmt.Sprintf("LT-2026-%05d", len(s.all)+1), State: Text{"en": "Submitted", "ur": "موصول"}, Submitted: noon, Values: values}
	s.all = append(s.all, app)
	return app, nil
}

func (s *services) Applications(context.Context, pasban.Actor) ([]Application, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.Clone(s.all)
	for i := range list {
		list[i].Values = nil
	}
	return list, nil
}

func (s *services) Open(_ context.Context, _ pasban.Actor, service, id string) (Application, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.all {
		if a.Service == service && a.ID == id {
			return a, nil
		}
	}
	return Application{}, &pasban.Error{Kind: pasban.NotFound, Msg: "there is no such application"}
}
