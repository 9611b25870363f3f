package demo

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
)

// testStory is a story before anything is started.
func testStory(t *testing.T) *story {
	t.Helper()
	return &story{dir: t.TempDir(), people: NewPopulation(3, 150), net: &network{base: "https://localhost:8443"}}
}

// TestExploitsWork: what the story sends really harms an application that
// nobody guards. Without this a story without a guard would pass.
func TestExploitsWork(t *testing.T) {
	s := testStory(t)
	plot := s.people.Holdings[0].Plot
	for _, a := range holeOne() {
		if strings.Contains(a.ID, "always true") { // harms nobody: the plots are public
			continue
		}
		page, err := s.unguarded(t.Context(), searchFor(plot, a.Payload))
		if err != nil {
			t.Fatal(err)
		}
		if s.peopleIn(page) == 0 {
			t.Errorf("%s leaks nobody:\n%s", a.ID, page)
		}
	}
	honest, err := s.unguarded(t.Context(), searchFor(plot, plot.Khasra))
	if err != nil || s.peopleIn(honest) != 0 || !strings.Contains(honest, plot.Khasra) {
		t.Errorf("an honest search: %v\n%s", err, honest)
	}
	for _, a := range holeTwo() {
		page, err := s.unguarded(t.Context(), "POST "+mutationForm(s.people.Holdings[0], s.people.Citizens[9].CNIC, a.Payload).Encode(), "/mutations")
		if err != nil || !strings.Contains(page, a.Payload) {
			t.Errorf("%s is not stored: %v", a.ID, err)
		}
	}
}

func TestForgedAssertion(t *testing.T) {
	s := testStory(t)
	forged := s.forgedAssertion(`{"publicKey":{"challenge":"Y2hhbGxlbmdl","rpId":"localhost"}}`, 3)
	var doc struct {
		ID, Type string
		Response struct{ ClientDataJSON, AuthenticatorData, Signature, UserHandle string }
	}
	if err := json.Unmarshal(forged, &doc); err != nil {
		t.Fatal(err)
	}
	client, err := base64.RawURLEncoding.DecodeString(doc.Response.ClientDataJSON)
	if err != nil || !strings.Contains(string(client), `"challenge":"Y2hhbGxlbmdl"`) {
		t.Errorf("%s, %v", client, err)
	}
	auth, err := base64.RawURLEncoding.DecodeString(doc.Response.AuthenticatorData)
	rp := sha256.Sum256([]byte("localhost"))
	if err != nil || len(auth) != 37 || string(auth[:32]) != string(rp[:]) {
		t.Errorf("%x, %v", auth, err)
	}
	if string(s.forgedAssertion("", 3)) == string(forged) {
		t.Error("the same forgery twice")
	}
}
