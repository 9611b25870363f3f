package config

import (
	_ "embed"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// configSource is the file that declares Config: its comments are the
// descriptions of the schema, so that they are said once.
//
//go:embed config.go
var configSource string

//go:embed proxying.go
var proxyingSource string

//go:embed guard.go
var guardSource string

//go:embed witness.go
var witnessSource string

//go:embed logs.go
var logsSource string

//go:embed events.go
var eventsSource string

// SchemaID names the schema of pasban.yaml.
const SchemaID = "pasban.config.v1"

// Schema returns the JSON Schema (draft 2020-12) of pasban.yaml, for
// completion in editors and for checks in a pipeline. It is committed as
// docs/schemas/pasban.schema.json. A file that Load accepts validates against
// it; the reverse does not hold, because Load checks more than shapes.
func Schema() []byte {
	return SchemaOf(Config{}, SchemaID, "Configuration of a Pasban node", "")
}

// SchemaOf returns the JSON Schema of a struct that Decode reads. source is
// the Go file that declares the struct: its comments become descriptions,
// beside those of this package's own types.
func SchemaOf(v any, id, title, source string) []byte {
	s := schemaBuilder{comments: fieldComments(configSource)}
	maps.Copy(s.comments, fieldComments(proxyingSource))
	maps.Copy(s.comments, fieldComments(guardSource))
	maps.Copy(s.comments, fieldComments(witnessSource))
	maps.Copy(s.comments, fieldComments(logsSource))
	maps.Copy(s.comments, fieldComments(eventsSource))
	if source != "" {
		maps.Copy(s.comments, fieldComments(source))
	}
	root := s.object(reflect.TypeOf(v))
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["$id"] = id
	root["title"] = title
	out, err := json.MarshalIndent(root, "", "  ") // maps: keys come sorted
	if err != nil {
		panic("config: schema: " + err.Error()) // only maps, strings and numbers
	}
	return append(out, '\n')
}

type schemaBuilder struct {
	comments map[string]string // by Type.Field
}

func (s schemaBuilder) object(t reflect.Type) map[string]any {
	properties, required := map[string]any{}, []string{}
	for _, f := range fieldsOf(t) {
		if f.typ == posType {
			continue
		}
		p := s.value(f.typ, f.rules)
		owner := t
		for _, i := range f.index[:len(f.index)-1] {
			owner = owner.Field(i).Type
		}
		if c := s.comments[owner.Name()+"."+f.goName]; c != "" {
			p["description"] = c
		}
		if f.preset != "" {
			p["default"] = preset(f)
		}
		properties[f.name] = p
		if f.required {
			required = append(required, f.name)
		}
	}
	out := map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}

func (s schemaBuilder) value(t reflect.Type, rules fieldRules) map[string]any {
	out := map[string]any{}
	switch {
	case t == reflect.TypeFor[time.Duration]():
		out["type"] = "string"
		out["pattern"] = `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`
	case t == ruleRangeType:
		out["type"] = []string{"integer", "string"}
		out["pattern"] = `^[0-9]+(-[0-9]+)?$`
	case t.Kind() == reflect.Pointer:
		return s.value(t.Elem(), rules)
	case t.Kind() == reflect.Struct:
		out = s.object(t)
		if slices.ContainsFunc(fieldsOf(t), func(f field) bool { return f.short }) {
			out["type"] = []string{"object", "string"}
		}
	case t.Kind() == reflect.Slice:
		// An empty key reads as an absent one.
		out["type"] = []string{"array", "null"}
		out["items"] = s.value(t.Elem(), rules)
	case t.Kind() == reflect.Map:
		out["type"] = "object"
		out["additionalProperties"] = s.value(t.Elem(), rules)
	case t.Kind() == reflect.String:
		out["type"] = "string"
		if rules.enum != nil {
			out["enum"] = rules.enum
		}
	case t.Kind() == reflect.Bool:
		out["type"] = "boolean"
	case t.Kind() == reflect.Float64, t.Kind() == reflect.Float32:
		out["type"] = "number"
		s.bounds(out, rules)
	case t.Kind() != reflect.Interface:
		out["type"] = "integer"
		s.bounds(out, rules)
	}
	return out
}

func (schemaBuilder) bounds(out map[string]any, rules fieldRules) {
	if rules.min != nil {
		out["minimum"] = *rules.min
	}
	if rules.max != nil {
		out["maximum"] = *rules.max
	}
}

// preset returns a default tag's value as JSON has it.
func preset(f field) any {
	switch {
	case f.typ.Kind() == reflect.String, f.typ == durationType:
		return f.preset
	case f.typ.Kind() == reflect.Slice:
		return strings.Split(f.preset, "|")
	}
	return json.RawMessage(f.preset)
}

// fieldComments reads the comments of all struct fields of a Go file.
func fieldComments(source string) map[string]string {
	out := map[string]string{}
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", source, parser.ParseComments)
	if err != nil {
		panic("config: schema: " + err.Error()) // the source was compiled
	}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if st, ok := spec.Type.(*ast.StructType); ok {
			for _, f := range st.Fields.List {
				for _, name := range f.Names {
					out[spec.Name.Name+"."+name.Name] = strings.Join(strings.Fields(f.Doc.Text()), " ")
				}
			}
		}
		return true
	})
	return out
}
