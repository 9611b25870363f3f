package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pasban"
	"pasban/internal/identity"
	"pasban/internal/page"
)

// TestPrivate takes an application through its life, with everyone at their
// own browser, and then looks through all that the node has written: nothing
// that a citizen said, and no secret, is legible in it.
func TestPrivate(t *testing.T) {
	t.Parallel()
	land := newLegacy(t)
	s := newNode(t, land.URL, "block")
	citizen := identity.NewPerson{Role: pasban.RoleCitizen, NameEn: "Synthetic Zubaida", NameUr: "مصنوعی زبیدہ", CNIC: "99100-0000001-1"}
	links := s.add(staff(pasban.RoleOfficer, "LHR-032"), staff(pasban.RoleSupervisor, "LHR-001"), staff(pasban.RoleSupervisor, "LHR-002"),
		citizen, staff(pasban.RoleOfficer, "LHR-033"))
	s.up()
	var who []*visitor
	for _, link := range links {
		who = append(who, s.enrolled(link))
	}
	officer, supervisor, second, zubaida, other := who[0], who[1], who[2], who[3], who[4]
	verifier := s.verifier()

	// The citizen hands in; the officer opens; everything with a promise.
	body, address := applicationBody(4711)
	a := zubaida.want(http.StatusCreated, zubaida.post(recordsPath, body))
	record := a.header.Get("Location")
	if len(a.promises(t, verifier)) == 0 {
		t.Error("an application without a promise")
	}
	a = officer.get(record, "Accept", "application/json")
	if a.status != http.StatusForbidden || bytes.Contains(a.body, []byte(address)) {
		t.Errorf("opened without a purpose: %d %s", a.status, a.body)
	}
	a = officer.want(200, officer.get(record, append(working, "Accept", "application/json")...))
	if !bytes.Contains(a.body, []byte(address)) || bytes.Contains(a.body, []byte("sciatica")) {
		t.Errorf("the officer sees what is personal, and what is sensitive only if they ask for it: %s", a.body)
	}
	looks := a.promises(t, verifier)
	a = officer.want(200, officer.get(record+"?fields=seller_needs", append(working, "Accept", "application/json")...))
	if !bytes.Contains(a.body, []byte("sciatica")) {
		t.Errorf("the one answer that was asked for: %s", a.body)
	}

	// The promise becomes a receipt, for those whom it concerns alone: of the
	// looks at seller and buyer the seller gets their own.
	hers := 0
	for _, p := range looks {
		check(t, await(func() error {
			a := officer.get(fmt.Sprintf("/ledger/receipt/%d", p.Index))
			if a.status != http.StatusOK {
				return fmt.Errorf("receipt: %d %s", a.status, a.body)
			}
			return honoured(a.body, p, verifier)
		}))
		other.want(http.StatusNotFound, other.get(fmt.Sprintf("/ledger/receipt/%d", p.Index), "Accept", "application/json"))
		if a := zubaida.get(fmt.Sprintf("/ledger/receipt/%d", p.Index)); a.status == http.StatusOK {
			check(t, honoured(a.body, p, verifier))
			hers++
		}
	}
	if len(looks) != 2 || hers != 1 {
		t.Errorf("%d looks, %d receipts for the seller", len(looks), hers)
	}
	if a := zubaida.want(200, zubaida.get("/en/my-data")); !bytes.Contains(a.body, []byte("032")) || bytes.Contains(a.body, []byte("Synthetic LHR-032")) {
		t.Error("the citizen's page names the end of the officer's number, and not the officer")
	}
	zubaida.want(200, zubaida.get("/ur/my-data"))

	fourEyes(t, record, officer, supervisor, second)

	// What might be written down on the way: attacks, failures, strangers.
	officer.want(http.StatusForbidden, officer.get(land.record(0)+"?q=1'+UNION+SELECT+cnic+FROM+owners--", working...))
	officer.want(200, officer.get(land.record(1), working...))
	land.Close()
	officer.want(http.StatusBadGateway, officer.get(land.record(2), working...))

	secrets := []string{address, "Synthetic Seller", "Synthetic Elder", "Synthetic Buyer", "House 7, Synthetic Road", "sciatica", "0399-1234567", "03991234567", "1234567",
		"Synthetic Zubaida", "زبیدہ"}
	for _, o := range land.owners {
		secrets = append(secrets, o.CNIC, strings.ReplaceAll(o.CNIC, "-", ""), o.Name)
	}
	for i, link := range links {
		secrets = append(secrets, strings.TrimPrefix(link, identity.EnrolPath), who[i].token())
	}
	for name, text := range map[string]string{"the firewall's log": string(must(os.ReadFile(s.data("log/waf.log")))), "the node's log": s.log()} {
		if !strings.Contains(text, "/records/"+pasban.MaskedCNIC) {
			t.Errorf("%s does not tell of the page: this proves nothing\n%s", name, text)
		}
	}
	s.unreadable(secrets) // while it runs: what has not reached the main file yet
	s.stop()
	s.unreadable(secrets)
}

// fourEyes lets nobody approve what they checked themselves, at the desk
// neither, and takes the application to its end.
func fourEyes(t *testing.T, record string, officer, supervisor, second *visitor) {
	t.Helper()
	step := func(v *visitor, name string) answer {
		return v.post(record+"/steps", must(json.Marshal(map[string]string{"step": name})), working...)
	}
	supervisor.want(200, step(supervisor, "verify"))
	if a := supervisor.want(http.StatusForbidden, step(supervisor, "attest")); !bytes.Contains(a.body, []byte("urn:pasban:incident:")) {
		t.Errorf("a refusal without an incident: %s", a.body)
	}
	form := []string{"Content-Type", "application/x-www-form-urlencoded", "Accept", "text/html"}
	supervisor.want(http.StatusSeeOther, supervisor.post("/desk/work", []byte(url.Values{"purpose": {"mutation"}, "case": {"M-2026-17"}}.Encode()), form...))
	desk := "/desk/services/land-transfer/" + strings.TrimPrefix(record, recordsPath+"/")
	supervisor.want(http.StatusForbidden, supervisor.post(desk+"/steps/attest", nil, form...))
	officer.want(http.StatusForbidden, step(officer, "attest"))
	second.want(200, step(second, "attest"))
	supervisor.want(http.StatusConflict, step(supervisor, "attest")) // it is done
}

// token is the visitor's session cookie.
func (v *visitor) token() string {
	v.t.Helper()
	at, err := url.Parse(v.base)
	check(v.t, err)
	for _, c := range v.http.Jar.Cookies(at) {
		if c.Name == page.SessionCookie {
			return c.Value
		}
	}
	v.t.Fatal("not signed in")
	return ""
}

// unreadable looks for texts in every file of the node's directory, its log
// included, and checks who may read them.
func (s *serving) unreadable(texts []string) {
	s.t.Helper()
	files := 0
	err := filepath.WalkDir(s.dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(s.dir, name)
		info, err := d.Info()
		if err != nil {
			return err
		}
		public := strings.HasPrefix(rel, filepath.Join("data", "ledger")) // made to be copied; data itself is private
		if mode := info.Mode().Perm(); mode&0o077 != 0 && !public {
			s.t.Errorf("%s: mode %o", rel, mode)
		}
		if d.IsDir() {
			return nil
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		files++
		for _, text := range texts {
			if text == "" {
				s.t.Error("nothing to look for")
			} else if bytes.Contains(data, []byte(text)) {
				at := bytes.Index(data, []byte(text))
				s.t.Errorf("%s: %q is legible: %.300q", rel, text, data[max(0, at-100):min(len(data), at+len(text)+100)])
			}
		}
		return nil
	})
	check(s.t, err)
	if files < 10 {
		s.t.Errorf("only %d files were looked through", files)
	}
}
