package demo

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pasban"
)

// openDoor lets everybody in and remembers whom.
type openDoor struct {
	in  []string
	err error
}

func (d *openDoor) StartSession(w http.ResponseWriter, _ *http.Request, person string) error {
	if d.err != nil {
		return d.err
	}
	d.in = append(d.in, person)
	http.SetCookie(w, &http.Cookie{Name: "__Host-pasban", Value: person, Path: "/", Secure: true})
	return nil
}

func TestPersonas(t *testing.T) {
	door := &openDoor{}
	p := NewPersonas(door, "https://localhost:8443")
	visit := func(method, address string) *httptest.ResponseRecorder {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequest(method, u.Path, nil))
		return w
	}
	for role, want := range map[pasban.Role]string{
		pasban.RoleCitizen: "/en/", pasban.RoleOfficer: "/desk", pasban.RoleSupervisor: "/desk", pasban.RoleAnalyst: "/soc",
	} {
		l := p.Issue(Link{Person: "synthetic:" + string(role), Role: role})
		if w := visit("POST", l.URL); w.Code != http.StatusMethodNotAllowed || len(door.in) != 0 {
			t.Errorf("%s: POST: %d, %v", role, w.Code, door.in)
		}
		w := visit("GET", l.URL)
		if w.Code != http.StatusSeeOther || w.Header().Get("Location") != want || len(door.in) != 1 || door.in[0] != l.Person {
			t.Errorf("%s: %d to %q, let in %v", role, w.Code, w.Header().Get("Location"), door.in)
		}
		if w := visit("GET", l.URL); w.Code != http.StatusGone || len(door.in) != 1 || len(w.Result().Cookies()) != 0 {
			t.Errorf("%s: a second time: %d, let in %v", role, w.Code, door.in)
		}
		door.in = nil
	}
	for _, path := range []string{"", "AAAA", "../x"} {
		if w := visit("GET", "https://localhost"+PersonaPath+path); w.Code != http.StatusGone {
			t.Errorf("unknown link %q: %d", path, w.Code)
		}
	}
	old := p.Issue(Link{Person: "synthetic:old"})
	for hash, ticket := range p.open {
		ticket.until = time.Now().Add(-time.Second)
		p.open[hash] = ticket
	}
	if w := visit("GET", old.URL); w.Code != http.StatusGone || len(door.in) != 0 {
		t.Errorf("too old: %d, let in %v", w.Code, door.in)
	}
	door.err = errors.New("the store is full")
	if w := visit("GET", p.Issue(Link{Person: "synthetic:1"}).URL); w.Code != http.StatusServiceUnavailable {
		t.Errorf("no session could be started: %d", w.Code)
	}
}

func TestPersonasFile(t *testing.T) {
	p := NewPersonas(&openDoor{}, "https://localhost:8443")
	want := p.Issue(Link{Person: "officer:syn-001", Role: pasban.RoleOfficer, Name: "Synthetic", Number: "SYN-001"})
	name := filepath.Join(t.TempDir(), personasFile)
	if err := p.WriteFile(name, nil); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(name)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Personas []Link }
	if err := json.Unmarshal(data, &file); err != nil || len(file.Personas) != 1 || file.Personas[0] != want {
		t.Errorf("%s, %v", data, err)
	}
	if len(p.links) != 0 {
		t.Error("the tokens are still in memory")
	}
}
