package demo

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"pasban"
	"pasban/examples/landregistry"
)

func TestPopulation(t *testing.T) {
	p := NewPopulation(1, 1000)
	if len(p.Citizens) != 1000 || len(p.Staff) != 20 {
		t.Fatalf("%d citizens and %d in office", len(p.Citizens), len(p.Staff))
	}
	if !reflect.DeepEqual(p, NewPopulation(1, 1000)) {
		t.Error("the same seed gives other people")
	}
	if reflect.DeepEqual(p.Citizens, NewPopulation(2, 1000).Citizens) {
		t.Error("another seed gives the same people")
	}
	seen := map[pasban.CNIC]bool{}
	for _, c := range p.Citizens {
		if parsed, err := pasban.ParseCNIC(string(c.CNIC)); err != nil || parsed != c.CNIC {
			t.Fatalf("%q is not written as a CNIC: %v", c.CNIC, err)
		}
		if !strings.HasPrefix(string(c.CNIC), "99") || !strings.HasSuffix(c.Email, ".example") || !strings.HasPrefix(c.Mobile, "0399-") {
			t.Errorf("%+v could be taken for a real person", c)
		}
		if seen[c.CNIC] {
			t.Errorf("%s is two people", c.CNIC)
		}
		seen[c.CNIC] = true
		if c.Name == "" || c.NameUr == "" || c.Father == "" || c.FatherUr == "" || c.Address == "" {
			t.Errorf("%+v lacks something", c)
		}
		if _, ok := p.Held(c.CNIC); !ok {
			t.Errorf("%s holds no land", c.CNIC)
		}
	}
	for role, want := range map[pasban.Role]int{pasban.RoleOfficer: 15, pasban.RoleSupervisor: 3, pasban.RoleAnalyst: 2} {
		if got := p.With(role); len(got) != want || !strings.HasPrefix(got[0].Number, "SYN-") {
			t.Errorf("%s: %+v, want %d", role, got, want)
		}
	}
}

func TestSeedLegacy(t *testing.T) {
	app, err := landregistry.New(t.Context(), landregistry.Options{DSN: filepath.Join(t.TempDir(), "land.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	p := NewPopulation(7, 200)
	if err := p.SeedLegacy(t.Context(), app); err != nil {
		t.Fatal(err)
	}
}
