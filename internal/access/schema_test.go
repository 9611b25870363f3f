package access

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema"
	schemaast "github.com/cedar-policy/cedar-go/x/exp/schema/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"

	"pasban"
)

// TestPublishedSchema keeps docs/schemas/policy.v1.cedarschema equal to what
// the checks at loading know and to what a request is written as.
func TestPublishedSchema(t *testing.T) {
	data, err := os.ReadFile("../../docs/schemas/policy.v1.cedarschema")
	if err != nil {
		t.Fatal(err)
	}
	var s schema.Schema
	if err := s.UnmarshalCedar(data); err != nil {
		t.Fatal(err)
	}
	published := s.AST()
	// The names are the same.
	attributes := map[string][]string{"context": names(published.CommonTypes["Reason"].Type.(schemaast.RecordType))}
	for variable, entities := range map[string][]schemaast.Ident{"principal": {"Person", "Citizen", "Visitor"}, "resource": {"Data"}} {
		for _, e := range entities {
			attributes[variable] = append(attributes[variable], names(published.Entities[e].Shape)...)
		}
	}
	for variable, known := range vocabulary() {
		if got := sorted(attributes[variable]); !slices.Equal(got, sorted(known)) {
			t.Errorf("%s has %v in the schema, %v in the checks", variable, got, sorted(known))
		}
	}
	var actions, entities []string
	for a := range published.Actions {
		actions = append(actions, string(a))
	}
	for e := range published.Entities {
		entities = append(entities, string(e))
	}
	if !slices.Equal(sorted(actions), sorted(Actions())) || !slices.Equal(sorted(append(entities, "Action")), sorted(entityTypes())) {
		t.Errorf("actions %v, entities %v", actions, entities)
	}
	// The types are those of real requests, and Cedar's own validator agrees
	// with the example policies.
	resolved, err := s.Resolve()
	if err != nil {
		t.Fatal(err)
	}
	v := validate.New(resolved)
	now := time.Now()
	for _, a := range []pasban.Actor{{}, {ID: "c", Kind: pasban.ActorCitizen, Role: pasban.RoleCitizen, Subject: "aa"},
		{ID: "p", Kind: pasban.ActorPerson, Role: pasban.RoleOfficer, Staff: "7", Subject: "bb", AuthAt: now}} {
		r := Request{Actor: a, Action: View, Service: "s", Resource: "r", Subject: "aa", Fields: []string{"f"}, AllowedPurposes: []string{"x"}, Now: now}
		request, entities := r.cedar()
		if err := v.Request(request); err != nil {
			t.Errorf("request of %q: %v", a.Role, err)
		}
		for uid, e := range entities.(types.EntityMap) {
			if err := v.Entity(e); err != nil {
				t.Errorf("%s: %v", uid, err)
			}
		}
	}
	files, err := filepath.Glob("../../examples/policies/*.cedar")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		list, err := cedar.NewPolicyListFromBytes(file, text)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range list {
			if err := v.Policy(string(p.Annotations()["id"]), (*ast.Policy)(p.AST())); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
}

func names(r schemaast.RecordType) []string {
	var out []string
	for n := range maps.Keys(r) {
		out = append(out, string(n))
	}
	return out
}

func sorted(names []string) []string {
	out := slices.Clone(names)
	slices.Sort(out)
	return slices.Compact(out)
}
