package identity_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"pasban"
	"pasban/internal/identity"
	"pasban/internal/journal"
	"pasban/internal/keys"
	"pasban/internal/page"
	"pasban/internal/store"
	"pasban/internal/store/storetest"
	"pasban/internal/vault"
)

const (
	rpID   = "land.example"
	origin = "https://land.example:8443"
)

// by is who adds people in tests.
var by = pasban.Actor{ID: "admin:one", Kind: pasban.ActorPerson, Role: pasban.RoleAdmin, Staff: "ADM-001"}

// rig is identity with real parts around it.
type rig struct {
	*identity.Identity
	t  testing.TB
	st *store.Store
	j  *journal.Journal
	h  http.Handler
}

func newRig(t testing.TB, st *store.Store, change ...func(*identity.Options)) *rig {
	t.Helper()
	ring, err := keys.Open(t.Context(), filepath.Join(t.TempDir(), "keys"), keys.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ring.Close() })
	signer, vkey, err := ring.LedgerSigner("land.example/ledger")
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	v, err := vault.Open(t.Context(), st, ring, verifier)
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(t.Context(), st, journal.Options{Signer: signer, Sealer: v})
	if err != nil {
		t.Fatal(err)
	}
	pages, err := page.New(page.Options{Agency: map[string]string{"en": "Synthetic Agency", "ur": "مصنوعی ادارہ"}, Phone: "051 000 0000"})
	if err != nil {
		t.Fatal(err)
	}
	o := identity.Options{Agency: "land-records", Journal: j, Sealer: v, Subjects: v, Pages: pages, RPID: rpID, Origins: []string{origin}}
	for _, c := range change {
		c(&o)
	}
	i, err := identity.New(t.Context(), st, o)
	if err != nil {
		t.Fatal(err)
	}
	return &rig{Identity: i, t: t, st: st, j: j, h: i.Middleware(i.Handler())}
}

func officer() identity.NewPerson {
	return identity.NewPerson{Role: pasban.RoleOfficer, NameEn: "Synthetic Officer", NameUr: "مصنوعی اہلکار", Staff: "LHR-032"}
}

func citizen() identity.NewPerson {
	return identity.NewPerson{Role: pasban.RoleCitizen, NameEn: "Synthetic Citizen", NameUr: "مصنوعی شہری", CNIC: "61101-1234567-1"}
}

func (r *rig) add(n identity.NewPerson) identity.Person {
	r.t.Helper()
	p, err := r.AddPerson(r.t.Context(), by, n)
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

func (r *rig) link(id string) string {
	r.t.Helper()
	token, _, err := r.Enrol(r.t.Context(), by, id)
	if err != nil {
		r.t.Fatal(err)
	}
	return identity.EnrolPath + token
}

// facts returns the journal's entries of an action.
func (r *rig) facts(action string) (out []journal.Entry) {
	r.t.Helper()
	all, err := r.j.Since(r.t.Context(), 0, 10_000)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, e := range all {
		if e.Fact.Body.Action == action {
			out = append(out, e)
		}
	}
	return out
}

// reasons are those of the refused attempts so far.
func (r *rig) reasons() string {
	var out []string
	for _, e := range r.facts("signin") {
		if e.Fact.Body.Outcome == pasban.Denied {
			out = append(out, e.Fact.Restricted.More["reason"])
		}
	}
	return strings.Join(out, " ")
}

// browser is a visitor with a cookie jar.
type browser struct {
	t    testing.TB
	c    *http.Client
	base string
}

// overTLS gives a browser that talks to a real server over TLS.
func (r *rig) overTLS() *browser {
	srv := httptest.NewTLSServer(r.h)
	r.t.Cleanup(srv.Close)
	return newBrowser(r.t, srv.URL, srv.Client().Transport)
}

// direct gives a browser without a network, for tests that turn the clock.
func (r *rig) direct(ip string) *browser {
	return newBrowser(r.t, origin, inProcess{r.h, ip})
}

type inProcess struct {
	h  http.Handler
	ip string
}

func (p inProcess) RoundTrip(req *http.Request) (*http.Response, error) {
	in := req.Clone(req.Context())
	in.RemoteAddr, in.TLS, in.RequestURI = p.ip+":1234", &tls.ConnectionState{}, req.URL.RequestURI()
	in.Host = req.URL.Host
	if in.Body == nil {
		in.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	p.h.ServeHTTP(w, in)
	return w.Result(), nil
}

func newBrowser(t testing.TB, base string, rt http.RoundTripper) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t: t, base: base, c: &http.Client{Jar: jar, Transport: rt,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (b *browser) do(method, path string, body []byte, header ...string) (*http.Response, []byte) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.base+path, bytes.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	req.Header.Set("User-Agent", "Test browser")
	if method == http.MethodPost {
		req.Header.Set("Accept", "application/json")
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := b.c.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return res, data
}

func (b *browser) get(path string) (*http.Response, string) {
	b.t.Helper()
	res, data := b.do(http.MethodGet, path, nil)
	return res, string(data)
}

// begin asks for the options of a ceremony.
func (b *browser) begin(path string) []byte {
	b.t.Helper()
	res, data := b.do(http.MethodPost, path+"/begin", nil)
	if res.StatusCode != http.StatusOK {
		b.t.Fatalf("%s/begin: %d %s", path, res.StatusCode, data)
	}
	return data
}

// enrol registers a's passkey with a link.
func (b *browser) enrol(link string, a *authenticator) (*http.Response, []byte) {
	b.t.Helper()
	return b.do(http.MethodPost, link+"/finish", a.create(b.begin(link)))
}

// signIn uses a's passkey.
func (b *browser) signIn(a *authenticator) (*http.Response, []byte) {
	b.t.Helper()
	return b.do(http.MethodPost, "/pasban/signin/finish", a.get(b.begin("/pasban/signin")))
}

// token is the session's cookie, "" if there is none.
func (b *browser) token() string {
	u, err := url.Parse(b.base)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, c := range b.c.Jar.Cookies(u) {
		if c.Name == page.SessionCookie {
			return c.Value
		}
	}
	return ""
}

// signedIn reports whether the account page is shown.
func (b *browser) signedIn() bool {
	b.t.Helper()
	res, _ := b.get("/pasban/account")
	return res.StatusCode == http.StatusOK
}

func want(t testing.TB, what string, res *http.Response, body []byte, status int) {
	t.Helper()
	if res.StatusCode != status {
		t.Fatalf("%s: %d, want %d: %s", what, res.StatusCode, status, body)
	}
}

func next(t testing.TB, body []byte) string {
	t.Helper()
	var v struct{ Next string }
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return v.Next
}

func sqliteRig(t testing.TB, change ...func(*identity.Options)) *rig {
	return newRig(t, storetest.SQLite(t), change...)
}

// BenchmarkMiddleware is what every request of somebody signed in costs.
func BenchmarkMiddleware(b *testing.B) {
	r := sqliteRig(b)
	p := r.add(officer())
	req, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
	if err := r.StartSession(w, req, p.ID); err != nil {
		b.Fatal(err)
	}
	req.AddCookie(w.Result().Cookies()[0])
	list, err := r.Sessions(b.Context(), p.ID)
	if err != nil {
		b.Fatal(err)
	}
	if err := r.SetWork(b.Context(), list[0], pasban.Purpose{Code: "mutation", Case: "M-1"}); err != nil {
		b.Fatal(err)
	}
	h := r.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if identity.FromContext(r.Context()) == nil {
			b.Error("not signed in")
		}
	}))
	for b.Loop() {
		h.ServeHTTP(w, req)
	}
}
