package desk_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"pasban"
	"pasban/internal/access"
	"pasban/internal/config"
	"pasban/internal/desk"
	"pasban/internal/identity"
	"pasban/internal/journal"
	"pasban/internal/keys"
	"pasban/internal/page"
	"pasban/internal/registry"
	"pasban/internal/store/storetest"
	"pasban/internal/vault"
)

// ledgerState is a ledger that follows the journal, or says why not.
type ledgerState struct{ err error }

func (l *ledgerState) Healthy() error { return l.err }

// rig is the desk with every real room behind it.
type rig struct {
	t        testing.TB
	srv      *httptest.Server
	id       *identity.Identity
	records  *registry.Registry
	journal  *journal.Journal
	verifier note.Verifier
	ledger   ledgerState
	applied  string // reference number of the example application
}

func newRig(t testing.TB) *rig {
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
	r := &rig{t: t}
	r.verifier, err = note.NewVerifier(vkey)
	must(err)
	v, err := vault.Open(t.Context(), st, ring, r.verifier)
	must(err)
	r.journal, err = journal.Open(t.Context(), st, journal.Options{Signer: signer, Sealer: v})
	must(err)
	files, err := filepath.Glob("../../examples/policies/*.cedar")
	must(err)
	policies, err := access.Load(files)
	must(err)
	budgets, err := access.NewBudgets(t.Context(), st, nil)
	must(err)
	guard, err := registry.NewGuard(registry.GuardOptions{Agency: "land-records", Journal: r.journal, Ledger: &r.ledger,
		Rules: registry.Rules{Policies: policies, Budgets: budgets}})
	must(err)
	services, err := registry.LoadServices([]string{"../../examples/services/land-transfer.yaml"})
	must(err)
	r.records, err = registry.New(t.Context(), st, registry.Options{Guard: guard, Vault: v, Services: services})
	must(err)
	pages, err := page.New(page.Options{Agency: map[string]string{"en": "Synthetic Agency", "ur": "مصنوعی ادارہ"}})
	must(err)
	r.id, err = identity.New(t.Context(), st, identity.Options{Agency: "land-records", Journal: r.journal, Sealer: v, Subjects: v, Pages: pages,
		RPID: "land.example", Origins: []string{"https://land.example"}})
	must(err)
	d, err := desk.New(desk.Options{Pages: pages, Records: r.records, Work: r.id, Hides: guard.Hides, Sites: func() []desk.Page {
		return []desk.Page{{Title: config.Text{En: "Old register <b>", Ur: "پرانا رجسٹر"}, URL: "/records/search", Purposes: []string{"mutation", "inspection", "odd_one"}}}
	}})
	must(err)
	by := pasban.Actor{ID: "admin:one", Kind: pasban.ActorPerson, Role: pasban.RoleAdmin}
	person := func(role pasban.Role, staff string) identity.NewPerson {
		return identity.NewPerson{ID: string(role) + ":" + strings.ToLower(staff), Role: role, NameEn: `Synthetic <b>` + staff, NameUr: "مصنوعی", Staff: staff}
	}
	_, err = r.id.AddPeople(t.Context(), by, person(pasban.RoleOfficer, "LHR-032"), person(pasban.RoleOfficer, "LHR-033"),
		person(pasban.RoleSupervisor, "LHR-001"), person(pasban.RoleSupervisor, "LHR-002"), person(pasban.RoleAnalyst, "SOC-001"))
	must(err)

	mux := http.NewServeMux()
	mux.Handle("/desk", d.Handler())
	mux.Handle("/desk/", d.Handler())
	mux.HandleFunc("/in/{person}", func(w http.ResponseWriter, req *http.Request) {
		if err := r.id.StartSession(w, req, req.PathValue("person")); err != nil {
			pages.Error(w, req, err)
		}
	})
	r.srv = httptest.NewTLSServer(r.id.Middleware(mux))
	t.Cleanup(r.srv.Close)
	a, _, err := r.records.Apply(t.Context(), registry.Ask{
		Actor:   pasban.Actor{ID: "officer:lhr-099", Kind: pasban.ActorPerson, Role: pasban.RoleOfficer, Staff: "LHR-099"},
		Purpose: pasban.Purpose{Code: "mutation", Case: "M-1"}}, "land-transfer", answers())
	must(err)
	r.applied = a.ID
	return r
}

const hostile = `<img src=x onerror=alert(1)>{{.}}`

// answers are those of a synthetic application, with markup wherever it fits.
func answers() map[string]string {
	return map[string]string{
		"district": "rawalpindi", "tehsil": hostile, "mouza": hostile, "khasra": "123/4", "area_kanal": "12", "transfer": "sale",
		"seller_cnic": "61101-1234567-2", "seller_name": "Seller " + hostile, "seller_father": hostile,
		"seller_mobile": "0300-1234567", "seller_address": hostile, "seller_cnic_copy": "SC-12345",
		"seller_needs": "needs " + hostile,
		"buyer_cnic":   "35202-7654321-1", "buyer_name": hostile, "buyer_father": hostile,
		"buyer_mobile": "0321-7654321", "buyer_address": hostile, "consideration_pkr": "1500000", "agreed_on": "2026-11-01",
	}
}

// visitor is a browser without scripts.
type visitor struct {
	r *rig
	c *http.Client
}

func (r *rig) as(person string) *visitor {
	r.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		r.t.Fatal(err)
	}
	v := &visitor{r, &http.Client{Jar: jar, Transport: r.srv.Client().Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	if person != "" {
		if res, html := v.get("/in/" + person); res.StatusCode != http.StatusOK {
			r.t.Fatalf("sign in as %s: %d %s", person, res.StatusCode, html)
		}
	}
	return v
}

func (v *visitor) do(req *http.Request, err error) (*http.Response, string) {
	v.r.t.Helper()
	if err != nil {
		v.r.t.Fatal(err)
	}
	if req.Header.Get("Sec-Fetch-Site") == "" {
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	res, err := v.c.Do(req)
	if err != nil {
		v.r.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		v.r.t.Fatal(err)
	}
	if strings.Contains(string(body), "<img") || strings.Contains(string(body), "<b>") {
		v.r.t.Errorf("%s: markup from outside is in the page:\n%s", req.URL, body)
	}
	if strings.Contains(string(body), "desk.") && strings.Contains(res.Header.Get("Content-Type"), "html") {
		v.r.t.Errorf("%s: an untranslated key:\n%s", req.URL, body)
	}
	return res, string(body)
}

func (v *visitor) get(path string) (*http.Response, string) {
	v.r.t.Helper()
	return v.do(http.NewRequestWithContext(v.r.t.Context(), http.MethodGet, v.r.srv.URL+path, nil))
}

func (v *visitor) post(path string, pairs ...string) (*http.Response, string) {
	v.r.t.Helper()
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	req, err := http.NewRequestWithContext(v.r.t.Context(), http.MethodPost, v.r.srv.URL+path, strings.NewReader(form.Encode()))
	if err == nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return v.do(req, err)
}

// work says what the officer is working on.
func (v *visitor) work() *visitor {
	v.r.t.Helper()
	if res, html := v.post("/desk/work", "purpose", "mutation", "case", "M-2026/1"); res.StatusCode != http.StatusSeeOther {
		v.r.t.Fatalf("work: %d %s", res.StatusCode, html)
	}
	return v
}

func (r *rig) path() string { return "/desk/services/land-transfer/" + r.applied }

// looks counts the accountable entries of a kind, and returns the last.
func (r *rig) looks(kind pasban.Kind) (n int, last journal.Entry) {
	r.t.Helper()
	all, err := r.journal.Since(r.t.Context(), 0, 1000)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, e := range all {
		if e.Fact.Body.Kind == kind {
			n, last = n+1, e
		}
	}
	return n, last
}

func has(t testing.TB, html string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(html, w) {
			t.Errorf("%q is not in the page:\n%s", w, html)
		}
	}
}

func status(t testing.TB, what string, res *http.Response, want int) {
	t.Helper()
	if res.StatusCode != want {
		t.Fatalf("%s: %d, want %d", what, res.StatusCode, want)
	}
}

func TestPurposeComesFirst(t *testing.T) {
	r := newRig(t)
	v := r.as("officer:lhr-032")
	res, html := v.get("/desk")
	status(t, "desk", res, http.StatusOK)
	has(t, html, "What are you working on?", `value="mutation"`, `value="certified-copy"`, `value="inspection"`, "odd one", "/desk/services/land-transfer",
		`href="/records/search"`, "Old register &lt;b&gt;", "Synthetic &lt;b&gt;LHR-032")
	if strings.Count(html, `value="mutation"`) != 1 {
		t.Error("a purpose is offered twice")
	}

	res, _ = v.get(r.path())
	status(t, "record without a purpose", res, http.StatusSeeOther)
	to := res.Header.Get("Location")
	if to != "/desk?next="+url.QueryEscape(r.path()) {
		t.Fatalf("sent to %q", to)
	}
	if n, _ := r.looks(pasban.KindLook); n != 0 {
		t.Errorf("%d looks without a purpose", n)
	}
	for _, path := range []string{r.path(), r.path() + "/steps/verify", "/desk/services/land-transfer/find"} {
		res, _ = v.post(path, "field", "khasra", "value", "123/4")
		if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/desk" {
			t.Errorf("POST %s: %d %s", path, res.StatusCode, res.Header.Get("Location"))
		}
	}
	for _, from := range []string{to, "/desk/work?next=" + url.QueryEscape(r.path())} {
		_, html = v.get(from)
		has(t, html, `name="next" value="`+r.path()+`"`)
	}
	res, _ = v.post("/desk/work", "purpose", "mutation", "case", "M-2026/1", "next", r.path())
	if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != r.path() {
		t.Fatalf("after the choice: %d %s", res.StatusCode, res.Header.Get("Location"))
	}
	_, html = v.get("/desk")
	has(t, html, "M-2026/1", "Deciding on a transfer", "End work")
	res, _ = v.post("/desk/work", "end", "1")
	status(t, "end", res, http.StatusSeeOther)
	res, _ = v.get(r.path())
	status(t, "record after the end", res, http.StatusSeeOther)
}

// TestHideUntil: an officer who works on an order says when citizens are told.
func TestHideUntil(t *testing.T) {
	r := newRig(t)
	v := r.as("supervisor:lhr-001")
	_, html := v.get("/desk")
	has(t, html, "Tell the citizen later", `name="hide" type="date"`)
	for _, bad := range []string{"tomorrow", "2020-01-01"} {
		res, html := v.post("/desk/work", "purpose", "inquiry", "case", "W.P. 17/2026", "hide", bad, "next", r.path())
		status(t, bad, res, http.StatusBadRequest)
		has(t, html, "Enter a date that is still to come", `value="`+bad+`"`, `name="next" value="`+r.path()+`"`)
	}
	date := time.Now().In(page.Zone()).AddDate(0, 1, 0)
	res, _ := v.post("/desk/work", "purpose", "inquiry", "case", "W.P. 17/2026", "hide", date.Format(time.DateOnly))
	status(t, "order", res, http.StatusSeeOther)
	_, html = v.get("/desk")
	has(t, html, "Citizens are told of it on "+page.Date("en", date), `value="`+date.Format(time.DateOnly)+`"`)
	// Who did not sign in with a passkey just now may look, and may not hide it.
	res, html = v.get(r.path())
	status(t, "hidden look", res, http.StatusForbidden)
	has(t, html, "no policy permits supervisor to hide this")
	if n, _ := r.looks(pasban.KindLook); n != 0 {
		t.Errorf("%d looks", n)
	}
}

func TestWorkRefused(t *testing.T) {
	r := newRig(t)
	v := r.as("officer:lhr-032")
	for _, c := range []struct{ purpose, caseNo, message string }{
		{"", "M-1", "Choose the purpose"}, {"nothing", "M-1", "Choose the purpose"}, {"mutation", "", "Enter the case number"},
		{"mutation", "   ", "Enter the case number"}, {"mutation", strings.Repeat("x", 65), "Enter the case number"}, {"mutation", "a\nb", "Enter the case number"},
	} {
		res, html := v.post("/desk/work", "purpose", c.purpose, "case", c.caseNo, "next", r.path())
		status(t, c.purpose+"/"+c.caseNo, res, http.StatusBadRequest)
		has(t, html, c.message, `name="next" value="`+r.path()+`"`, "govuk-error-message")
	}
	_, html := v.post("/desk/work?lang=ur", "purpose", "", "case", "M-1")
	has(t, html, "اپنے کام کا مقصد منتخب کریں")
	res, _ := v.post("/desk/work", "purpose", "mutation", "case", "M-1", "next", "https://evil.example/")
	if res.Header.Get("Location") != "/desk" {
		t.Errorf("sent to %q", res.Header.Get("Location"))
	}
	res, _ = v.post("/desk/work", "purpose", strings.Repeat("x", 20<<10))
	status(t, "too long a form", res, http.StatusBadRequest)
}

func TestOpenRecord(t *testing.T) {
	r := newRig(t)
	v := r.as("officer:lhr-032").work()
	for _, lang := range []string{"en", "ur"} {
		res, html := v.get("/desk/services/land-transfer?lang=" + lang)
		status(t, "list", res, http.StatusOK)
		has(t, html, r.applied, `lang="`+lang+`"`, "&lt;img src=x")
		if strings.Contains(html, "61101") || strings.Contains(html, "Seller") || len(res.Header.Values(pasban.PromiseHeader)) != 0 {
			t.Error("the list shows somebody's data")
		}
		before, _ := r.looks(pasban.KindLook)
		res, html = v.get(r.path() + "?lang=" + lang)
		status(t, "record", res, http.StatusOK)
		n, last := r.looks(pasban.KindLook)
		if n != before+2 || last.Fact.Body.Purpose != "mutation" || last.Fact.Body.Case != "M-2026/1" || last.Fact.Restricted.Path != r.path() ||
			last.Fact.Restricted.IP == "" || last.Fact.Body.Who.Staff != "032" {
			t.Errorf("%d looks at two citizens, the last %+v", n-before, last.Fact)
		}
		promises := res.Header.Values(pasban.PromiseHeader)
		if len(promises) != 2 {
			t.Fatalf("promises %q", promises)
		}
		for _, h := range promises {
			p, err := pasban.ParsePromise("land.example/ledger", h)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Verify(r.verifier); err != nil {
				t.Error(err)
			}
			has(t, html, fmt.Sprintf("/ledger/receipt/%d", p.Index))
		}
		has(t, html, "61101-1234567-2", "Seller &lt;img src=x", `name="field" value="seller_needs"`, r.path()+"/steps/verify")
		if strings.Contains(html, "needs &lt;") || strings.Contains(html, "/steps/attest") {
			t.Error("shows what was not asked for, or a step that is not for officers")
		}
	}
	res, html := v.post(r.path(), "field", "seller_needs")
	status(t, "sensitive answer", res, http.StatusOK)
	has(t, html, "needs &lt;img", "درخواست دوبارہ کھولیں")
	if strings.Contains(html, "Seller &lt;") {
		t.Error("opens more than was asked for")
	}
	_, last := r.looks(pasban.KindLook)
	all, err := r.journal.Since(t.Context(), last.Seq-2, 2)
	if err != nil || !strings.Contains(fmt.Sprint(all[0].Fact.Body.Fields, last.Fact.Body.Fields), "seller_needs") {
		t.Errorf("recorded %v, %v", all, err)
	}
	res, _ = v.post(r.path(), "field", "nothing")
	status(t, "no such field", res, http.StatusBadRequest)
	res, _ = v.get("/desk/services/land-transfer/LT-2026-XXXXX-XXXXX")
	status(t, "no such record", res, http.StatusNotFound)
	res, _ = v.get("/desk/services/nothing")
	status(t, "no such service", res, http.StatusNotFound)
	res, _ = v.get("/desk/nothing")
	status(t, "no such page", res, http.StatusNotFound)
}

func TestFind(t *testing.T) {
	r := newRig(t)
	v := r.as("officer:lhr-032").work()
	res, html := v.post("/desk/services/land-transfer/find", "field", "seller_cnic", "value", "6110112345672")
	status(t, "find", res, http.StatusOK)
	has(t, html, r.applied, "/ledger/receipt/")
	if len(res.Header.Values(pasban.PromiseHeader)) == 0 {
		t.Error("no promise")
	}
	for _, bad := range [][2]string{{"seller_cnic", "x"}, {"seller_name", "x"}, {"", ""}} {
		res, html = v.post("/desk/services/land-transfer/find", "field", bad[0], "value", bad[1])
		status(t, fmt.Sprint(bad), res, http.StatusBadRequest)
		has(t, html, "govuk-error-message")
	}
	res, html = v.post("/desk/services/land-transfer/find", "field", "khasra", "value", "999/9")
	status(t, "nothing found", res, http.StatusOK)
	has(t, html, "no applications here")
}

// TestFourEyes takes an application through its workflow.
func TestFourEyes(t *testing.T) {
	r := newRig(t)
	officer, first, second := r.as("officer:lhr-032").work(), r.as("supervisor:lhr-001").work(), r.as("supervisor:lhr-002").work()

	res, html := officer.post(r.path() + "/steps/attest")
	status(t, "officer attests", res, http.StatusForbidden)
	_, denied := r.looks(pasban.KindDecision)
	has(t, html, denied.Fact.Body.ID)

	res, html = first.post(r.path() + "/steps/verify")
	status(t, "verify", res, http.StatusOK)
	has(t, html, "Checked, waiting for attestation", "/ledger/receipt/")
	if n, _ := r.looks(pasban.KindChange); n != 4 { // two parties: handing in, verifying
		t.Errorf("%d changes", n)
	}
	_, html = first.get(r.path())
	has(t, html, "/steps/attest", "Moves it from", "Whoever took the step before cannot take this one")

	res, html = first.post(r.path() + "/steps/attest")
	status(t, "the requester approves", res, http.StatusForbidden)
	_, denied = r.looks(pasban.KindDecision)
	has(t, html, denied.Fact.Body.ID)

	res, html = second.post(r.path() + "/steps/attest?lang=ur")
	status(t, "another supervisor approves", res, http.StatusOK)
	has(t, html, "مرحلہ مکمل ہو گیا", "تصدیق شدہ اور درج")
	res, html = second.post(r.path() + "/steps/return?lang=ur")
	status(t, "a step from elsewhere", res, http.StatusConflict)
	has(t, html, "کسی اور نے آپ سے پہلے")
	res, html = second.post(r.path() + "/steps/return?lang=en")
	status(t, "a step from elsewhere", res, http.StatusConflict)
	has(t, html, "Someone else moved this application")
	_, html = second.get(r.path())
	has(t, html, "Attested and entered", "no step for your role")
	res, _ = second.post(r.path() + "/steps/nothing")
	status(t, "no such step", res, http.StatusNotFound)
}

func TestListPages(t *testing.T) {
	r := newRig(t)
	v := r.as("officer:lhr-033").work()
	for range 30 {
		_, _, err := r.records.Apply(t.Context(), registry.Ask{
			Actor:   pasban.Actor{ID: "officer:lhr-099", Kind: pasban.ActorPerson, Role: pasban.RoleOfficer, Staff: "LHR-099"},
			Purpose: pasban.Purpose{Code: "mutation", Case: "M-1"}}, "land-transfer", answers())
		if err != nil {
			t.Fatal(err)
		}
	}
	_, html := v.get("/desk/services/land-transfer?state=submitted")
	if n := strings.Count(html, `class="govuk-summary-card"`); n != 25 {
		t.Errorf("%d on the first page", n)
	}
	_, rest, ok := strings.Cut(html, `href="/desk/services/land-transfer?before=`)
	if !ok {
		t.Fatalf("no next page:\n%s", html)
	}
	query, _, _ := strings.Cut(rest, `"`)
	_, html = v.get("/desk/services/land-transfer?before=" + strings.ReplaceAll(query, "&amp;", "&"))
	if n := strings.Count(html, `class="govuk-summary-card"`); n != 6 {
		t.Errorf("%d on the second page", n)
	}
	has(t, html, r.applied)
	res, _ := v.get("/desk/services/land-transfer?state=nothing")
	status(t, "no such state", res, http.StatusBadRequest)
	_, html = r.as("officer:lhr-032").get("/desk/services/land-transfer?state=attested")
	has(t, html, "no applications here", "first say what you are working on")
}

func TestWhoMayCome(t *testing.T) {
	r := newRig(t)
	for _, path := range []string{"/desk", "/desk/services/land-transfer", r.path()} {
		res, _ := r.as("").get(path)
		if res.StatusCode != http.StatusSeeOther || !strings.HasPrefix(res.Header.Get("Location"), "/pasban/signin?next=%2Fdesk") {
			t.Errorf("a stranger at %s: %d %s", path, res.StatusCode, res.Header.Get("Location"))
		}
		res, _ = r.as("analyst:soc-001").get(path)
		status(t, "an analyst at "+path, res, http.StatusForbidden)
	}
	v := r.as("officer:lhr-032").work()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.srv.URL+r.path()+"/steps/verify", nil)
	if err == nil {
		req.Header.Set("Sec-Fetch-Site", "cross-site")
	}
	res, _ := v.do(req, err)
	status(t, "from another site", res, http.StatusForbidden)
	if n, _ := r.looks(pasban.KindChange); n != 2 {
		t.Errorf("%d changes, want those of handing in", n)
	}
}

// TestLedgerBehind must show nothing.
func TestLedgerBehind(t *testing.T) {
	r := newRig(t)
	v := r.as("officer:lhr-032").work()
	r.ledger.err = errors.New("behind")
	for _, try := range []func() (*http.Response, string){
		func() (*http.Response, string) { return v.get(r.path()) },
		func() (*http.Response, string) { return v.post(r.path() + "/steps/verify") },
		func() (*http.Response, string) {
			return v.post("/desk/services/land-transfer/find", "field", "khasra", "value", "123/4")
		},
	} {
		if res, html := try(); res.StatusCode != http.StatusServiceUnavailable || strings.Contains(html, "61101") || strings.Contains(html, "behind") {
			t.Errorf("%d\n%s", res.StatusCode, html)
		}
	}
}
