package config_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"pasban/internal/config"
)

var update = flag.Bool("update", false, "rewrite docs/schemas/pasban.schema.json")

const schemaFile = "../../docs/schemas/pasban.schema.json"

// TestSchemaIsCurrent keeps the published schema equal to the struct.
func TestSchemaIsCurrent(t *testing.T) {
	want := config.Schema()
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
		t.Errorf("%s is not what Schema returns: go test ./internal/config -run Schema -update", schemaFile)
	}
}

// TestSchemaDescribes: every key of the schema says what it is for.
func TestSchemaDescribes(t *testing.T) {
	var walk func(path string, v any)
	walk = func(path string, v any) {
		m, ok := v.(map[string]any)
		if !ok {
			return
		}
		if properties, ok := m["properties"].(map[string]any); ok {
			for name, p := range properties {
				if p.(map[string]any)["description"] == nil {
					t.Errorf("%s.%s has no description", path, name)
				}
				walk(path+"."+name, p)
			}
		}
		walk(path+"[]", m["items"])
	}
	var schema any
	if err := json.Unmarshal(config.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	walk("", schema)
}

// TestExamplesValidate checks files against the published schema with a
// JSON Schema library that knows nothing of this package.
func TestExamplesValidate(t *testing.T) {
	schema := compile(t, schemaFile)
	for _, file := range []string{"testdata/contract.yaml", "../../examples/pasban.yaml"} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(instance(t, data)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	for _, text := range []string{minimal + "lisen: x", minimal + "tls: {mode: lokal}", "data: x", minimal + "limits: {body: 1}"} {
		if schema.Validate(instance(t, []byte(text))) == nil {
			t.Errorf("the schema admits %q", text)
		}
	}
}

// TestExampleLoads loads examples/pasban.yaml, the one to begin from.
func TestExampleLoads(t *testing.T) {
	c, err := config.Load("../../examples/pasban.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Services) == 0 || len(c.Policies) == 0 || len(c.Sites) == 0 {
		t.Errorf("an example without services, policies or sites: %+v", c)
	}
}

func compile(t *testing.T, file string) *jsonschema.Schema {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func instance(t *testing.T, data []byte) any {
	t.Helper()
	j, err := yaml.YAMLToJSON(data)
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(j))
	if err != nil {
		t.Fatal(err)
	}
	return v
}
