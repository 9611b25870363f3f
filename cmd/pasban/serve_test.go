package main

import (
	"bytes"
	"crypto/tls"
	"net/http"
	"strings"
	"testing"

	"pasban"
)

// TestServe is the way of one request through the binary as it is installed.
func TestServe(t *testing.T) {
	t.Parallel()
	land := newLegacy(t)
	s := newNode(t, land.URL, "block")
	links := s.add(staff(pasban.RoleOfficer, "LHR-032"))
	s.up()

	t.Run("TLS 1.3, post-quantum key exchange, HTTP/2", func(t *testing.T) {
		v := s.visitor()
		a := v.want(200, v.get("/"))
		if a.proto != "HTTP/2.0" || a.tls.Version != tls.VersionTLS13 || a.tls.CurveID != tls.X25519MLKEM768 {
			t.Errorf("%s, %s, %s", a.proto, tls.VersionName(a.tls.Version), a.tls.CurveID)
		}
		old := v.http.Transport.(*http.Transport).Clone()
		old.TLSClientConfig.MaxVersion = tls.VersionTLS12
		if _, err := (&http.Client{Transport: old}).Get(s.base + "/"); err == nil {
			t.Error("TLS 1.2 was accepted")
		}
	})

	t.Run("a guarded page is for those who are signed in and say why", func(t *testing.T) {
		v := s.visitor()
		if a := v.get(land.record(0)); a.status != http.StatusSeeOther || !strings.HasPrefix(a.header.Get("Location"), "/pasban/signin?next=") {
			t.Errorf("a stranger: %d to %q", a.status, a.header.Get("Location"))
		}
		v.want(http.StatusUnauthorized, v.get(land.record(0), "Accept", "application/json"))

		o := s.enrolled(links[0])
		if a := o.get(land.record(0)); a.status != http.StatusSeeOther || !strings.HasPrefix(a.header.Get("Location"), "/desk/work?next=") {
			t.Errorf("without a purpose: %d to %q", a.status, a.header.Get("Location"))
		}
		a := o.want(200, o.get(land.record(0), working...))
		if !bytes.Contains(a.body, []byte(land.owners[0].Name)) {
			t.Error("the page is not the owner's")
		}
		if n := len(a.promises(t, s.verifier())); n != 1 {
			t.Errorf("%d promises, want 1", n)
		}
		// Who is on a plot's page stands only in the answer: one promise each.
		a = o.want(200, o.get("/plots/Rawalpindi/Adiala/123-5", working...))
		if n := len(a.promises(t, s.verifier())); n != 2 {
			t.Errorf("%d promises for a plot of two owners", n)
		}
	})

	t.Run("attacks and what no route names", func(t *testing.T) {
		v := s.visitor()
		a := v.want(http.StatusForbidden, v.get("/records/search?district=Lahore'+UNION+SELECT+cnic,name+FROM+owners--"))
		if a.header.Get("Pasban-Incident") == "" {
			t.Error("a block without an incident id")
		}
		v.want(http.StatusNotFound, v.get("/backup.zip"))
	})
	s.stop()
}
