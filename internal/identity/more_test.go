package identity_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"pasban"
	"pasban/internal/identity"
	"pasban/internal/store"
)

func httptestRequest() *http.Request {
	return httptest.NewRequest(http.MethodPost, "/pasban/signout", nil)
}

func TestAddPersonRefuses(t *testing.T) {
	r := sqliteRig(t)
	for name, change := range map[string]func(*identity.NewPerson){
		"no role":           func(n *identity.NewPerson) { n.Role = "" },
		"unknown role":      func(n *identity.NewPerson) { n.Role = "king" },
		"no name":           func(n *identity.NewPerson) { n.NameEn = " " },
		"control character": func(n *identity.NewPerson) { n.NameEn = "a\x00b" },
		"bidi override":     func(n *identity.NewPerson) { n.NameUr = "a\u202eb" },
		"no staff number":   func(n *identity.NewPerson) { n.Staff = "" },
		"bad staff number":  func(n *identity.NewPerson) { n.Staff = "<b>" },
		"bad CNIC":          func(n *identity.NewPerson) { n.CNIC = "1" },
		"bad id":            func(n *identity.NewPerson) { n.ID = "../x" },
		"citizen with staff number": func(n *identity.NewPerson) {
			n.Role = pasban.RoleCitizen
		},
		"citizen without CNIC": func(n *identity.NewPerson) { n.Role, n.Staff = pasban.RoleCitizen, "" },
	} {
		n := officer()
		change(&n)
		if _, err := r.AddPerson(t.Context(), by, n); err == nil || pasban.KindOf(err) != pasban.Invalid {
			t.Errorf("%s: %v, want invalid", name, err)
		}
	}
	r.add(officer())
	n := officer()
	n.ID = "officer:other"
	if _, err := r.AddPeople(t.Context(), by, citizen(), n); pasban.KindOf(err) != pasban.Conflict {
		t.Errorf("the same staff number: %v, want conflict", err)
	}
	people, err := r.People(t.Context(), "", 10)
	if err != nil || len(people) != 1 {
		t.Errorf("people %+v, %v; want the first alone", people, err)
	}
}

func TestPeople(t *testing.T) {
	r := sqliteRig(t)
	var list []identity.NewPerson
	for _, s := range []string{"AAA-1", "AAA-2", "AAA-3", "AAA-4", "AAA-5"} {
		n := officer()
		n.Staff = s
		list = append(list, n)
	}
	list[0].CNIC = citizen().CNIC // the same human being, in office and as a citizen
	list = append(list, citizen(), identity.NewPerson{Role: pasban.RoleSupervisor, NameEn: "Synthetic Supervisor", Staff: "SUP-1"})
	if _, err := r.AddPeople(t.Context(), by, list...); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for after := ""; ; {
		people, err := r.People(t.Context(), after, 2, pasban.RoleOfficer, pasban.RoleSupervisor)
		if err != nil {
			t.Fatal(err)
		}
		if len(people) == 0 {
			break
		}
		for _, p := range people {
			ids = append(ids, p.ID)
		}
		after = people[len(people)-1].ID
	}
	if got := strings.Join(ids, " "); got != "officer:aaa-1 officer:aaa-2 officer:aaa-3 officer:aaa-4 officer:aaa-5 supervisor:sup-1" {
		t.Errorf("listed %s", got)
	}
	if err := r.Disable(t.Context(), by, "officer:aaa-1"); err != nil {
		t.Fatal(err)
	}
	if err := r.Disable(t.Context(), by, "officer:aaa-1"); pasban.KindOf(err) != pasban.Conflict {
		t.Errorf("disabled twice: %v", err)
	}
	if _, _, err := r.Enrol(t.Context(), by, "officer:aaa-1"); pasban.KindOf(err) != pasban.Conflict {
		t.Errorf("a link for somebody disabled: %v", err)
	}
	if _, err := r.Lookup(t.Context(), "officer:none"); pasban.KindOf(err) != pasban.NotFound {
		t.Errorf("nobody: %v", err)
	}
	p, err := r.Lookup(t.Context(), "officer:aaa-1")
	if err != nil || !p.Disabled || p.Subject.CNIC != citizen().CNIC {
		t.Errorf("%+v, %v", p, err)
	}
	entries, err := r.j.BySubject(t.Context(), p.Subject.ID, 0, 10)
	if err != nil || len(entries) != 1 || entries[0].Fact.Restricted.More["role"] != "citizen" {
		t.Errorf("what was done to the officer is told to the citizen: %+v, %v", entries, err)
	}
}

// TestStartSession is the door of the demo's persona links.
func TestStartSession(t *testing.T) {
	r := sqliteRig(t)
	p := r.add(officer())
	req, w := httptest.NewRequest(http.MethodGet, "/pasban/persona/x", nil), httptest.NewRecorder()
	if err := r.StartSession(w, req, p.ID); err != nil {
		t.Fatal(err)
	}
	req.AddCookie(w.Result().Cookies()[0])
	var s *identity.Session
	r.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { s = identity.FromContext(r.Context()) })).ServeHTTP(httptest.NewRecorder(), req)
	if s == nil || s.Person.ID != p.ID || !s.AuthAt.IsZero() {
		t.Errorf("session %+v", s)
	}
	if err := r.Disable(t.Context(), by, p.ID); err != nil {
		t.Fatal(err)
	}
	if err := r.StartSession(httptest.NewRecorder(), req, p.ID); pasban.KindOf(err) != pasban.Conflict {
		t.Errorf("disabled: %v", err)
	}
	if err := r.StartSession(httptest.NewRecorder(), req, "officer:none"); pasban.KindOf(err) != pasban.NotFound {
		t.Errorf("nobody: %v", err)
	}
}

// TestClosedStore must not take the signed-in for strangers, nor let anybody in
// without a record of it.
func TestClosedStore(t *testing.T) {
	r := sqliteRig(t)
	b, fresh, a := r.overTLS(), r.overTLS(), newAuthenticator(t)
	b.enrol(r.link(r.add(officer()).ID), a)
	answer := a.get(fresh.begin("/pasban/signin"))
	if err := r.st.Close(); err != nil {
		t.Fatal(err)
	}
	if res, _ := b.get("/pasban/account"); res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("status %d, want 503", res.StatusCode)
	}
	for _, body := range [][]byte{answer, []byte("{}")} {
		if res, got := fresh.do(http.MethodPost, "/pasban/signin/finish", body); res.StatusCode != http.StatusServiceUnavailable || fresh.token() != "" {
			t.Errorf("sign-in that cannot be recorded: %d %s", res.StatusCode, got)
		}
	}
}

// TestReadOnlyStore can read who somebody is, but not record that they came.
func TestReadOnlyStore(t *testing.T) {
	r := sqliteRig(t)
	a, b := newAuthenticator(t), r.overTLS()
	b.enrol(r.link(r.add(officer()).ID), a)
	fresh := r.overTLS()
	answer := a.get(fresh.begin("/pasban/signin"))
	if err := r.st.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(`CREATE TRIGGER full BEFORE INSERT ON journal BEGIN SELECT RAISE(ABORT, 'no room'); END`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	res, got := fresh.do(http.MethodPost, "/pasban/signin/finish", answer)
	if res.StatusCode != http.StatusServiceUnavailable || fresh.token() != "" {
		t.Errorf("sign-in that cannot be recorded: %d %s", res.StatusCode, got)
	}
	if list, err := r.Sessions(t.Context(), "officer:lhr-032"); err != nil || len(list) != 1 {
		t.Errorf("%d sessions (%v), want the first alone", len(list), err)
	}
	if _, err := r.AddPerson(t.Context(), by, citizen()); err == nil {
		t.Error("a person was added without a record of it")
	}
	if !b.signedIn() {
		t.Error("who was signed in before is not any more")
	}
}

func TestPages(t *testing.T) {
	r := sqliteRig(t)
	n := officer()
	n.NameEn = `<script>alert(1)</script>`
	p := r.add(n)
	b := r.overTLS()
	link := r.link(p.ID)
	for _, path := range []string{link, "/pasban/signin?next=%2Fdesk"} {
		for _, lang := range []string{"en", "ur"} {
			sep := "?"
			if strings.Contains(path, "?") {
				sep = "&"
			}
			res, html := b.get(path + sep + "lang=" + lang)
			if res.StatusCode != http.StatusOK || !strings.Contains(html, `lang="`+lang+`"`) || strings.Contains(html, "<script>alert") {
				t.Errorf("%s %s: %d\n%s", path, lang, res.StatusCode, html)
			}
			if strings.Contains(html, "identity.") {
				t.Errorf("%s %s: an untranslated key\n%s", path, lang, html)
			}
		}
	}
	_, html := b.get("/pasban/signin?lang=en&next=https://evil.example/")
	if !strings.Contains(html, `data-next=""`) || strings.Contains(html, "evil") || !strings.Contains(html, "needs JavaScript") || !strings.Contains(html, "051 000 0000") {
		t.Errorf("sign-in page:\n%s", html)
	}
	res, _ := b.get("/pasban/account")
	if res.StatusCode != http.StatusSeeOther || !strings.HasPrefix(res.Header.Get("Location"), "/pasban/signin?next=") {
		t.Errorf("account page of a stranger: %d %v", res.StatusCode, res.Header)
	}
	b.enrol(link, newAuthenticator(t))
	for _, lang := range []string{"en", "ur"} {
		if res, html := b.get("/pasban/account?lang=" + lang); res.StatusCode != http.StatusOK || strings.Contains(html, "<script>alert") || strings.Contains(html, "identity.") {
			t.Errorf("account page: %d\n%s", res.StatusCode, html)
		}
	}
	if res, _ := b.get("/pasban/nothing"); res.StatusCode != http.StatusNotFound {
		t.Errorf("no such page: %d", res.StatusCode)
	}
}

var nexts = []struct{ in, want string }{
	{"/desk", "/desk"}, {"/en/my-data?x=1#y", "/en/my-data?x=1#y"}, {"/records/a%20b", "/records/a%20b"},
	{"", ""}, {"desk", ""}, {"//evil.example", ""}, {"/\\evil.example", ""}, {"\\\\evil.example", ""}, {"https://evil.example", ""},
	{"/\t/evil.example", ""}, {" /desk", ""}, {"/desk\nx", ""}, {"javascript:alert(1)", ""}, {"/%5cevil.example", ""}, {"/%2fevil.example", ""},
	{"/pasban/signin", ""}, {"/pasban/enrol/x", ""}, {"/%zz", ""}, {"/" + strings.Repeat("x", 2000), ""},
}

func TestSafeNext(t *testing.T) {
	for _, c := range nexts {
		if got := identity.SafeNext(c.in); got != c.want {
			t.Errorf("SafeNext(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

// Whatever SafeNext lets through stays on this site.
func FuzzSafeNext(f *testing.F) {
	for _, c := range nexts {
		f.Add(c.in)
	}
	base, err := url.Parse("https://land.example/pasban/signin")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		next := identity.SafeNext(s)
		if next == "" {
			return
		}
		u, err := base.Parse(next)
		if err != nil || u.Scheme != "https" || u.Host != "land.example" || u.User != nil || next != s {
			t.Errorf("SafeNext(%q) = %q, which leads to %v (%v)", s, next, u, err)
		}
	})
}

// TestTokensAreNotLogged fails an enrolment in every way and reads the log.
func TestTokensAreNotLogged(t *testing.T) {
	var log bytes.Buffer
	old := slog.Default()
	defer slog.SetDefault(old)
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	r := sqliteRig(t)
	b := r.direct("192.0.2.1")
	link := r.link(r.add(officer()).ID)
	b.do(http.MethodPost, link+"/finish", []byte("{}"))
	b.begin(link)
	b.do(http.MethodPost, link+"/finish", []byte("{}"))
	b.do(http.MethodPost, link+"/begin", nil, "Sec-Fetch-Site", "cross-site")
	b.get(link + "/nothing")
	b.enrol(link, newAuthenticator(t))
	b.get(link)
	session := b.token()
	if err := r.st.Close(); err != nil {
		t.Fatal(err)
	}
	b.get(link)
	if !strings.Contains(log.String(), "request refused") || !strings.Contains(log.String(), "request failed") {
		t.Fatalf("the log is not the one that was to be read:\n%s", log.String())
	}
	if token := link[len(identity.EnrolPath):]; strings.Contains(log.String(), token) || strings.Contains(log.String(), session) {
		t.Errorf("a token is in the log:\n%s", log.String())
	}
}
