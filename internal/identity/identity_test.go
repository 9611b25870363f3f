package identity_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"pasban"
	"pasban/internal/identity"
	"pasban/internal/identity/identitytest"
	"pasban/internal/page"
	"pasban/internal/store"
	"pasban/internal/store/storetest"
)

// TestEnrolAndSignIn goes the whole way over TLS, on both databases.
func TestEnrolAndSignIn(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := newRig(t, st)
		p := r.add(officer())
		if p.ID != "officer:lhr-032" {
			t.Errorf("id %q", p.ID)
		}
		link := r.link(p.ID)
		b, a := r.overTLS(), newAuthenticator(t)

		res, html := b.get(link)
		if res.StatusCode != http.StatusOK || !strings.Contains(html, "Synthetic Officer") || !strings.Contains(html, "passkey.") {
			t.Fatalf("enrolment page: %d\n%s", res.StatusCode, html)
		}
		if res.Header.Get("Referrer-Policy") != "no-referrer" || res.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("a page whose address is a secret: %v", res.Header)
		}
		opts := b.begin(link)
		var o options
		if err := json.Unmarshal(opts, &o); err != nil {
			t.Fatal(err)
		}
		if k := o.PublicKey; k.Selection.UserVerification != "required" || k.Selection.ResidentKey != "required" || !k.Selection.RequireResidentKey ||
			k.RP.ID != rpID || k.User.DisplayName != "Synthetic Officer" || k.Attestation != "" && k.Attestation != "none" {
			t.Errorf("options: %s", opts)
		}
		res, body := b.do(http.MethodPost, link+"/finish", a.create(opts))
		want(t, "enrolment", res, body, http.StatusOK)
		if n := next(t, body); n != "/desk" {
			t.Errorf("next %q, want /desk", n)
		}
		if !b.signedIn() {
			t.Error("enrolment does not sign in")
		}

		other := r.overTLS()
		res, body = other.signIn(a)
		want(t, "sign-in", res, body, http.StatusOK)
		res, html = other.get("/pasban/account?lang=ur")
		if res.StatusCode != http.StatusOK || strings.Count(html, "Test browser") != 2 || !strings.Contains(html, "مصنوعی اہلکار") {
			t.Errorf("account page: %d\n%s", res.StatusCode, html)
		}
		if got := r.facts("signin"); len(got) != 2 || got[0].Fact.Restricted.Actor != p.ID || got[0].Fact.Restricted.IP == "" || got[1].Fact.Restricted.More["how"] != "passkey" {
			t.Errorf("sign-in facts: %+v", got)
		}
		for _, action := range []string{"person.add", "person.enrol", "passkey.add"} {
			if got := r.facts(action); len(got) != 1 || got[0].Index < 0 || got[0].Fact.Restricted.More["target"] != p.ID {
				t.Errorf("%s: %+v", action, got)
			}
		}
		res, body = other.do(http.MethodPost, "/pasban/account/signout", nil)
		want(t, "sign out everywhere", res, body, http.StatusSeeOther)
		if b.signedIn() || other.signedIn() {
			t.Error("still signed in after signing out everywhere")
		}
	})
}

// TestCitizenIsBoundToCNIC checks what a citizen's session says of them, and
// that the journal tells them of their passkey.
func TestCitizenIsBoundToCNIC(t *testing.T) {
	r := sqliteRig(t)
	p := r.add(citizen())
	if p.Subject.ID == "" || p.Subject.CNIC != "61101-1234567-1" {
		t.Fatalf("subject %+v", p.Subject)
	}
	b := r.overTLS()
	res, body := b.enrol(r.link(p.ID), newAuthenticator(t))
	want(t, "enrolment", res, body, http.StatusOK)
	if n := next(t, body); n != "/en/" {
		t.Errorf("next %q", n)
	}
	list, err := r.Sessions(t.Context(), p.ID)
	if err != nil || len(list) != 1 {
		t.Fatalf("sessions %v, %v", list, err)
	}
	a := list[0].Actor()
	if a.Kind != pasban.ActorCitizen || a.Role != pasban.RoleCitizen || a.Subject != p.Subject.ID || a.AuthAt.IsZero() {
		t.Errorf("actor %+v", a)
	}
	mine, err := r.j.BySubject(t.Context(), p.Subject.ID, 0, 10)
	if err != nil || len(mine) != 3 || mine[0].Fact.Body.Action != "passkey.add" {
		t.Errorf("the citizen's entries: %+v, %v", mine, err)
	}
	var rows int
	if err := r.st.QueryRow(t.Context(), `SELECT COUNT(*) FROM identity_person WHERE instr(CAST(sealed AS TEXT), '61101') > 0
		OR instr(CAST(sealed AS TEXT), 'Synthetic') > 0 OR id LIKE '%61101%'`).Scan(&rows); err != nil || rows != 0 {
		t.Errorf("%d rows hold the citizen in plain text (%v)", rows, err)
	}
	if _, err := r.AddPerson(t.Context(), by, citizen()); pasban.KindOf(err) != pasban.Conflict {
		t.Errorf("the same citizen again: %v, want conflict", err)
	}
}

// TestBadAssertions bends one thing at a time. Every one of them gets the same
// answer, is recorded with its reason, and opens no session.
func TestBadAssertions(t *testing.T) {
	for _, c := range []struct {
		name, reason string
		bend         func(r *rig, b *browser, a *authenticator) []byte // the answer to send
	}{
		{"wrong origin", "bad_assertion", func(_ *rig, b *browser, a *authenticator) []byte {
			a.Origin = "https://evil.example"
			return a.get(b.begin("/pasban/signin"))
		}},
		{"user not verified", "bad_assertion", func(_ *rig, b *browser, a *authenticator) []byte {
			a.Flags = identitytest.UserPresent
			return a.get(b.begin("/pasban/signin"))
		}},
		{"user not present", "bad_assertion", func(_ *rig, b *browser, a *authenticator) []byte {
			a.Flags = identitytest.UserVerified
			return a.get(b.begin("/pasban/signin"))
		}},
		{"other host", "bad_assertion", func(_ *rig, b *browser, a *authenticator) []byte {
			a.RPID = "evil.example"
			return a.get(b.begin("/pasban/signin"))
		}},
		{"wrong challenge", "bad_assertion", func(r *rig, b *browser, a *authenticator) []byte {
			old := b.begin("/pasban/signin")
			b.begin("/pasban/signin")
			return a.get(old)
		}},
		{"no challenge", "no_challenge", func(r *rig, _ *browser, a *authenticator) []byte {
			return a.get(r.overTLS().begin("/pasban/signin"))
		}},
		{"challenge of an enrolment", "no_challenge", func(r *rig, b *browser, a *authenticator) []byte {
			return a.get(b.begin(r.link("officer:lhr-032")))
		}},
		{"other user handle", "bad_assertion", func(_ *rig, b *browser, a *authenticator) []byte {
			a.Handle = bytes.Repeat([]byte{1}, 32)
			return a.get(b.begin("/pasban/signin"))
		}},
		{"no user handle", "bad_assertion", func(_ *rig, b *browser, a *authenticator) []byte {
			a.Handle = nil
			return a.get(b.begin("/pasban/signin"))
		}},
		{"other key", "bad_assertion", func(r *rig, b *browser, a *authenticator) []byte {
			a.Key = newAuthenticator(r.t).Key
			return a.get(b.begin("/pasban/signin"))
		}},
		{"unknown passkey", "unknown_passkey", func(r *rig, b *browser, a *authenticator) []byte {
			a.ID = newAuthenticator(r.t).ID
			return a.get(b.begin("/pasban/signin"))
		}},
		{"counter went back", "counter_went_back", func(_ *rig, b *browser, a *authenticator) []byte {
			a.Count, a.Still = 1, true
			return a.get(b.begin("/pasban/signin"))
		}},
		{"disabled", "disabled", func(r *rig, b *browser, a *authenticator) []byte {
			opts := b.begin("/pasban/signin")
			if err := r.Disable(r.t.Context(), by, "officer:lhr-032"); err != nil {
				r.t.Fatal(err)
			}
			return a.get(opts)
		}},
		{"not JSON", "malformed", func(_ *rig, b *browser, a *authenticator) []byte {
			b.begin("/pasban/signin")
			return []byte("{")
		}},
		{"too long", "malformed", func(_ *rig, b *browser, a *authenticator) []byte {
			return append(a.get(b.begin("/pasban/signin")), bytes.Repeat([]byte(" "), 64<<10)...)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := sqliteRig(t)
			a := newAuthenticator(t)
			res, body := r.overTLS().enrol(r.link(r.add(officer()).ID), a)
			want(t, "enrolment", res, body, http.StatusOK)
			b := r.overTLS()
			if c.name != "counter went back" {
				res, body = b.signIn(a)
				want(t, "sign-in", res, body, http.StatusOK)
				b = r.overTLS()
			}
			res, body = b.do(http.MethodPost, "/pasban/signin/finish", c.bend(r, b, a))
			want(t, c.name, res, body, http.StatusUnauthorized)
			var problem struct{ Detail, Hint, Instance string }
			if err := json.Unmarshal(body, &problem); err != nil || problem.Detail != "this did not sign you in" || !strings.HasPrefix(problem.Instance, "urn:pasban:incident:") {
				t.Errorf("answer %s (%v)", body, err)
			}
			if b.token() != "" || b.signedIn() {
				t.Error("a session was opened")
			}
			if got := r.reasons(); got != c.reason {
				t.Errorf("recorded %q, want %q", got, c.reason)
			}
		})
	}
}

// TestReplay sends one good answer twice.
func TestReplay(t *testing.T) {
	r := sqliteRig(t)
	a := newAuthenticator(t)
	b := r.overTLS()
	b.enrol(r.link(r.add(officer()).ID), a)
	answer := a.get(b.begin("/pasban/signin"))
	res, body := b.do(http.MethodPost, "/pasban/signin/finish", answer)
	want(t, "first", res, body, http.StatusOK)
	res, body = b.do(http.MethodPost, "/pasban/signin/finish", answer)
	want(t, "again", res, body, http.StatusUnauthorized)
	if got := r.reasons(); got != "no_challenge" {
		t.Errorf("recorded %q", got)
	}
}

// TestLinks covers how an enrolment link stops working.
func TestLinks(t *testing.T) {
	r := sqliteRig(t)
	p := r.add(officer())
	b := r.overTLS()
	dead := func(what, link string) {
		t.Helper()
		if res, html := b.get(link); res.StatusCode != http.StatusNotFound || !strings.Contains(html, "This link does not work") || strings.Contains(html, "Synthetic Officer") {
			t.Errorf("%s: page %d", what, res.StatusCode)
		}
		if res, body := b.do(http.MethodPost, link+"/begin", nil); res.StatusCode != http.StatusNotFound {
			t.Errorf("%s: begin %d %s", what, res.StatusCode, body)
		}
		if res, body := b.do(http.MethodPost, link+"/finish", nil); res.StatusCode != http.StatusNotFound {
			t.Errorf("%s: finish %d %s", what, res.StatusCode, body)
		}
	}
	dead("unknown", identity.EnrolPath+strings.Repeat("A", 43))
	dead("not a token", identity.EnrolPath+"x")

	used := r.link(p.ID)
	res, body := b.enrol(used, newAuthenticator(t))
	want(t, "enrolment", res, body, http.StatusOK)
	dead("used", used)

	old := r.link(p.ID)
	fresh := r.link(p.ID)
	dead("replaced", old)
	opts := b.begin(fresh)
	other := newAuthenticator(t)
	other.Flags = identitytest.UserPresent
	res, body = b.do(http.MethodPost, fresh+"/finish", other.create(opts))
	want(t, "unverified enrolment", res, body, http.StatusUnauthorized)
	if got := r.reasons(); !strings.HasSuffix(got, "bad_attestation") {
		t.Errorf("recorded %q", got)
	}

	opts = b.begin(fresh)
	if err := r.Disable(t.Context(), by, p.ID); err != nil {
		t.Fatal(err)
	}
	res, body = b.do(http.MethodPost, fresh+"/finish", newAuthenticator(t).create(opts))
	want(t, "disabled meanwhile", res, body, http.StatusNotFound)
	if err := r.Enable(t.Context(), by, p.ID); err != nil {
		t.Fatal(err)
	}
	dead("of somebody who was disabled", fresh)
	for _, e := range r.facts("signin") {
		if part := e.Fact.Restricted; strings.Contains(part.Path, fresh[len(identity.EnrolPath):]) || part.Path != identity.EnrolPath && strings.HasPrefix(part.Path, identity.EnrolPath) {
			t.Errorf("a link's token is in the journal: %q", part.Path)
		}
	}
}

// TestLinkOnce lets several browsers finish with one link at once.
func TestLinkOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := newRig(t, st)
		link := r.link(r.add(officer()).ID)
		const n = 6
		codes := make(chan int, n)
		var finish []func()
		for range n {
			b, a := r.direct("192.0.2.1"), newAuthenticator(t)
			answer := a.create(b.begin(link))
			finish = append(finish, func() {
				res, _ := b.do(http.MethodPost, link+"/finish", answer)
				codes <- res.StatusCode
			})
		}
		for _, f := range finish {
			go f()
		}
		ok := 0
		for range n {
			if <-codes == http.StatusOK {
				ok++
			}
		}
		p, err := r.Lookup(t.Context(), "officer:lhr-032")
		if err != nil || ok != 1 || p.Passkeys != 1 {
			t.Errorf("%d succeeded, %d passkeys (%v), want one", ok, p.Passkeys, err)
		}
	})
}

// TestFixation plants a session's cookie before the sign-in.
func TestFixation(t *testing.T) {
	r := sqliteRig(t)
	a := newAuthenticator(t)
	attacker := r.overTLS()
	res, body := attacker.enrol(r.link(r.add(officer()).ID), a)
	want(t, "enrolment", res, body, http.StatusOK)
	planted := attacker.token()

	n := officer()
	n.Staff = "LHR-033"
	victimKey := newAuthenticator(t)
	victim := newBrowser(t, attacker.base, attacker.c.Transport)
	link := r.link(r.add(n).ID)
	opts := victim.begin(link)
	res, body = victim.do(http.MethodPost, link+"/finish", victimKey.create(opts), "Cookie", page.SessionCookie+"="+planted)
	want(t, "enrolment with a planted cookie", res, body, http.StatusOK)
	if victim.token() == planted || victim.token() == "" {
		t.Error("the planted token was kept")
	}
	if attacker.signedIn() {
		t.Error("the planted session still holds")
	}
}

func TestCookieAttributes(t *testing.T) {
	r := sqliteRig(t)
	b := r.overTLS()
	res, body := b.enrol(r.link(r.add(officer()).ID), newAuthenticator(t))
	want(t, "enrolment", res, body, http.StatusOK)
	var found bool
	for _, c := range res.Cookies() {
		if c.Name == page.SessionCookie {
			found = true
			if !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || c.MaxAge != 0 || len(c.Value) != 43 {
				t.Errorf("%s", c.Raw)
			}
		}
	}
	if !found {
		t.Error("no session cookie")
	}
	var stored int
	if err := r.st.QueryRow(t.Context(), `SELECT COUNT(*) FROM identity_session WHERE hash = ?`, []byte(b.token())).Scan(&stored); err != nil || stored != 0 {
		t.Errorf("the token itself is stored (%v)", err)
	}
}

// TestOtherOrigins sends what other sites' pages could.
func TestOtherOrigins(t *testing.T) {
	r := sqliteRig(t)
	b := r.overTLS()
	b.enrol(r.link(r.add(officer()).ID), newAuthenticator(t))
	for _, path := range []string{"/pasban/signout", "/pasban/account/signout", "/pasban/signin/begin", "/pasban/signin/finish"} {
		for _, h := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Sec-Fetch-Site", "", "Origin", ""}} {
			if res, body := b.do(http.MethodPost, path, nil, h...); res.StatusCode != http.StatusForbidden {
				t.Errorf("%s %v: %d %s", path, h, res.StatusCode, body)
			}
		}
	}
	if !b.signedIn() {
		t.Error("another site signed the officer out")
	}
}

// TestTamperedRows edits the database as somebody with no keys could.
func TestTamperedRows(t *testing.T) {
	r := sqliteRig(t)
	a := newAuthenticator(t)
	b := r.overTLS()
	p := r.add(officer())
	b.enrol(r.link(p.ID), a)
	admin := r.add(identity.NewPerson{Role: pasban.RoleAdmin, NameEn: "Synthetic Admin", Staff: "ADM-002"})
	exec := func(q string, args ...any) {
		t.Helper()
		if err := r.st.Write(t.Context(), func(tx *store.Tx) error { _, err := tx.Exec(q, args...); return err }); err != nil {
			t.Fatal(err)
		}
	}
	exec(`UPDATE identity_session SET person = ?`, admin.ID)
	if b.signedIn() {
		t.Error("a session moved to another person holds")
	}
	exec(`UPDATE identity_session SET person = ?`, p.ID)
	exec(`UPDATE identity_passkey SET person = ?`, admin.ID)
	if res, body := r.overTLS().signIn(a); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("a passkey moved to another person signs in: %d %s", res.StatusCode, body)
	}
	exec(`UPDATE identity_passkey SET person = ?`, p.ID)
	link := r.link(p.ID)
	exec(`UPDATE identity_link SET person = ? WHERE used = 0`, admin.ID)
	if res, _ := b.get(link); res.StatusCode != http.StatusNotFound {
		t.Errorf("a link moved to another person works: %d", res.StatusCode)
	}
	exec(`UPDATE identity_person SET sealed = (SELECT sealed FROM identity_person WHERE id = ?) WHERE id = ?`, admin.ID, p.ID)
	if b.signedIn() {
		t.Error("an officer with an administrator's row is signed in")
	}
}
