package registry_test

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"pasban/internal/registry"
)

var update = flag.Bool("update", false, "rewrite docs/schemas/service.v1.schema.json")

const schemaFile = "../../docs/schemas/service.v1.schema.json"

// TestServiceSchema: the published schema is the struct's, and the example
// validates against it.
func TestServiceSchema(t *testing.T) {
	want := registry.ServiceSchema()
	if *update {
		if err := os.WriteFile(schemaFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what ServiceSchema returns: go test ./internal/registry -run Schema -update", schemaFile)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(got))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("service.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("service.json")
	if err != nil {
		t.Fatal(err)
	}
	for text, valid := range map[string]bool{exampleText(t): true, "version: 1\n": false, exampleText(t) + "\nx: 1\n": false} {
		j, err := yaml.YAMLToJSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(j))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(v); (err == nil) != valid {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}
