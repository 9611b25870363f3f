package config

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits of what is read: files of operators are small, and the YAML parser
// recurses.
const (
	maxFile  = 1 << 20 // bytes
	maxDepth = 64      // nesting of flow collections, and of "- - -" on one line
)

// Pos is a place in a file, from 1. A struct field of this type with the tag
// `yaml:"-"` receives the place of its struct when it is decoded.
type Pos struct{ Line, Col int }

// Document is one parsed YAML document that remembers where things stood.
type Document struct {
	File string
	root ast.Node
	pos  map[string]Pos // of each value that Into visited, by its path
}

// Decode reads one YAML document strictly into the struct that into points to.
// Keys are matched with the `yaml:"name"` tags; an unknown key, a missing key
// tagged `required:"true"`, a value of another type than the field's or outside
// `enum:"a|b"`, `min:"1"`, `max:"4"` is a problem; absent keys get the value of
// the `default:"…"` tag. A text in the place of a struct is the value of its field
// that is tagged `short:"true"`. Durations are Go's (30s). All problems are returned,
// in order, not only the first. Anchors, aliases, tags and merge keys are
// refused. Decode never panics, whatever data is.
func Decode(file string, data []byte, into any) Problems {
	d, problems := Parse(file, data)
	if problems != nil {
		return problems
	}
	return d.Into(into)
}

// Parse reads a file of exactly one YAML document.
func Parse(file string, data []byte) (*Document, Problems) {
	docs, problems := ParseAll(file, data)
	if problems != nil {
		return nil, problems
	}
	if len(docs) > 1 {
		at := position(docs[1].root)
		return nil, Problems{{File: file, Line: at.Line, Col: at.Col, Msg: "a second document, want one"}}
	}
	return docs[0], nil
}

// ParseAll reads a file of one or more YAML documents (separated by ---). It
// returns at least one, or problems.
func ParseAll(file string, data []byte) (docs []*Document, problems Problems) {
	defer func() { // the parser is someone else's, the input is anyone's
		if r := recover(); r != nil {
			docs, problems = nil, Problems{{File: file, Msg: "not readable as YAML"}}
		}
	}()
	if len(data) > maxFile {
		return nil, Problems{{File: file, Msg: fmt.Sprintf("%d bytes, want at most %d", len(data), maxFile)}}
	}
	tokens := lexer.Tokenize(string(bytes.TrimPrefix(data, []byte("\ufeff")))) // some editors mark UTF-8
	if p, deep := tooDeep(tokens); deep {
		return nil, Problems{{File: file, Line: p.Line, Col: p.Col, Msg: fmt.Sprintf("nested more than %d deep", maxDepth)}}
	}
	parsed, err := parser.Parse(tokens, 0)
	if err != nil {
		return nil, Problems{syntaxProblem(file, err)}
	}
	for _, doc := range parsed.Docs {
		if doc.Body != nil {
			docs = append(docs, &Document{File: file, root: doc.Body, pos: map[string]Pos{}})
		}
	}
	if len(docs) == 0 {
		return nil, Problems{{File: file, Msg: "the file is empty"}}
	}
	return docs, nil
}

func tooDeep(tokens token.Tokens) (Pos, bool) {
	flow, line, entries := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			line, entries = t.Position.Line, 0
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType, token.TagType, token.AnchorType, token.MappingValueType:
			entries++
		}
		// A flow mapping may well have many values on one line, nested blocks not.
		if flow > maxDepth || flow <= 0 && entries > maxDepth || entries > 1024 {
			return Pos{t.Position.Line, t.Position.Column}, true
		}
	}
	return Pos{}, false
}

func syntaxProblem(file string, err error) Problem {
	p := Problem{File: file, Msg: "not readable as YAML"}
	if e, ok := errors.AsType[yaml.Error](err); ok {
		p.Msg = e.GetMessage()
		if t := e.GetToken(); t != nil && t.Position != nil {
			p.Line, p.Col = t.Position.Line, t.Position.Column
		}
	}
	return p
}

// Into decodes the document into the struct that into points to, by the rules
// of [Decode].
func (d *Document) Into(into any) Problems {
	w := walker{doc: d}
	v := reflect.ValueOf(into).Elem()
	setDefaults(v)
	w.value(d.root, v, "", fieldRules{})
	w.problems.Sort()
	return w.problems
}

// Pos returns the place of a value by its path, e.g. sites[0].routes[1].match;
// if the file does not have it, that of the nearest thing around it.
func (d *Document) Pos(path string) Pos {
	for {
		if p, ok := d.pos[path]; ok {
			return p
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return d.pos[""]
		}
		path = path[:i]
	}
}

// Problem makes a problem at the place of the value that path names.
func (d *Document) Problem(path, hint, format string, args ...any) Problem {
	at := d.Pos(path)
	return Problem{File: d.File, Line: at.Line, Col: at.Col, Field: path, Msg: fmt.Sprintf(format, args...), Hint: hint}
}

// Has reports whether the file itself gives a value at path.
func (d *Document) Has(path string) bool { _, ok := d.pos[path]; return ok }

// fieldRules are what the tags of a struct's field ask of its value.
type fieldRules struct {
	enum     []string
	min, max *int64
}

// walker carries a decoding through the tree of nodes.
type walker struct {
	doc      *Document
	problems Problems
}

func (w *walker) problem(n ast.Node, path, hint, format string, args ...any) {
	at := position(n)
	w.problems = append(w.problems, Problem{
		File: w.doc.File, Line: at.Line, Col: at.Col, Field: path, Msg: fmt.Sprintf(format, args...), Hint: hint,
	})
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	// ruleRangeType is the one kind of text that may be written as a number.
	ruleRangeType = reflect.TypeFor[RuleRange]()
	posType       = reflect.TypeFor[Pos]()
	nodeType      = reflect.TypeFor[ast.Node]()
)

// value decodes one node into v.
func (w *walker) value(n ast.Node, v reflect.Value, path string, rules fieldRules) {
	w.doc.pos[path] = position(n)
	if bad := unsupported(n); bad != "" {
		w.problem(n, path, "write it out", "%s are not supported", bad)
		return
	}
	if n.Type() == ast.NullType {
		return // as if the key were absent
	}
	if v.Type() == nodeType {
		v.Set(reflect.ValueOf(n))
		return
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if text, ok := w.text(n, path); ok {
			if err := u.UnmarshalText([]byte(text)); err != nil {
				w.problem(n, path, "", "%v", err)
			}
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		setDefaults(p.Elem())
		w.value(n, p.Elem(), path, rules)
		v.Set(p)
	case reflect.Struct:
		w.structure(n, v, path)
	case reflect.Slice:
		w.slice(n, v, path, rules)
	case reflect.Map:
		w.mapping(n, v, path, rules)
	case reflect.Interface:
		v.Set(reflect.ValueOf(w.plain(n, path)))
	default:
		w.scalar(n, v, path, rules)
	}
}

// structure decodes a mapping into a struct, key by key.
func (w *walker) structure(n ast.Node, v reflect.Value, path string) {
	m, ok := n.(ast.MapNode)
	fields := fieldsOf(v.Type())
	if _, text := n.(*ast.StringNode); text {
		if i := slices.IndexFunc(fields, func(f field) bool { return f.short }); i >= 0 {
			w.value(n, v.FieldByIndex(fields[i].index), join(path, fields[i].name), fields[i].rules)
			return
		}
	}
	if !ok {
		w.problem(n, path, "", "want keys and values, got %s", describe(n))
		return
	}
	names := make([]string, 0, len(fields))
	for _, f := range fields {
		if f.typ == posType {
			v.FieldByIndex(f.index).Set(reflect.ValueOf(position(n)))
			continue
		}
		names = append(names, f.name)
	}
	seen := map[string]bool{}
	for it := m.MapRange(); it.Next(); {
		name := keyText(it.Key())
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == name && f.typ != posType })
		if i < 0 {
			w.problem(it.Key(), join(path, name), didYouMean(name, names), "unknown key %q", name)
			continue
		}
		seen[name] = it.Value().Type() != ast.NullType
		if seen[name] {
			w.value(it.Value(), v.FieldByIndex(fields[i].index), join(path, name), fields[i].rules)
		}
	}
	for _, f := range fields {
		if f.required && !seen[f.name] {
			w.problem(n, join(path, f.name), "", "missing key %q", f.name)
		}
	}
}

func (w *walker) slice(n ast.Node, v reflect.Value, path string, rules fieldRules) {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		w.problem(n, path, "write it as [a, b] or as lines that begin with -", "want a list, got %s", describe(n))
		return
	}
	out := reflect.MakeSlice(v.Type(), len(s.Values), len(s.Values))
	for i, item := range s.Values {
		setDefaults(out.Index(i))
		w.value(item, out.Index(i), fmt.Sprintf("%s[%d]", path, i), rules)
	}
	v.Set(out)
}

func (w *walker) mapping(n ast.Node, v reflect.Value, path string, rules fieldRules) {
	m, ok := n.(ast.MapNode)
	if !ok {
		w.problem(n, path, "", "want keys and values, got %s", describe(n))
		return
	}
	out := reflect.MakeMap(v.Type())
	for it := m.MapRange(); it.Next(); {
		name := w.key(it.Key(), path)
		item := reflect.New(v.Type().Elem()).Elem()
		setDefaults(item)
		w.value(it.Value(), item, join(path, name), rules)
		out.SetMapIndex(reflect.ValueOf(name).Convert(v.Type().Key()), item)
	}
	v.Set(out)
}

// key returns the text of a key that may be any, other than a merge key.
func (w *walker) key(k ast.MapKeyNode, path string) string {
	if bad := unsupported(k); bad != "" {
		w.problem(k, path, "write it out", "%s are not supported", bad)
	}
	return keyText(k)
}

// plain decodes a node without a type to go by: map[string]any, []any, string,
// int64, uint64, float64, bool or nil.
func (w *walker) plain(n ast.Node, path string) any {
	w.doc.pos[path] = position(n)
	if bad := unsupported(n); bad != "" {
		w.problem(n, path, "write it out", "%s are not supported", bad)
		return ""
	}
	switch n := n.(type) {
	case ast.MapNode:
		out := map[string]any{}
		for it := n.MapRange(); it.Next(); {
			name := w.key(it.Key(), path)
			out[name] = w.plain(it.Value(), join(path, name))
		}
		return out
	case *ast.SequenceNode:
		out := make([]any, len(n.Values))
		for i, item := range n.Values {
			out[i] = w.plain(item, fmt.Sprintf("%s[%d]", path, i))
		}
		return out
	case *ast.LiteralNode:
		return n.Value.Value
	case *ast.NullNode:
		return nil
	case ast.ScalarNode:
		return n.GetValue()
	}
	w.problem(n, path, "", "not a value: %s", describe(n))
	return ""
}

// scalar decodes a single value into a string, bool, number or duration.
func (w *walker) scalar(n ast.Node, v reflect.Value, path string, rules fieldRules) {
	switch {
	case v.Type() == durationType:
		text, ok := w.text(n, path)
		if !ok {
			return
		}
		d, err := time.ParseDuration(text)
		if err != nil {
			w.problem(n, path, "write it like 30s, 5m or 1h30m", "not a duration: %q", text)
			return
		}
		v.SetInt(int64(d))
	case v.Kind() == reflect.String:
		text, ok := "", false
		if i, isInt := n.(*ast.IntegerNode); isInt && v.Type() == ruleRangeType {
			text, ok = i.Token.Value, true
		} else {
			text, ok = w.text(n, path)
		}
		if !ok {
			return
		}
		if rules.enum != nil && !slices.Contains(rules.enum, text) {
			w.problem(n, path, didYouMean(text, rules.enum), "unknown value %q", text)
			return
		}
		v.SetString(text)
	case v.Kind() == reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			w.problem(n, path, "", "want true or false, got %s", describe(n))
			return
		}
		v.SetBool(b.Value)
	default:
		w.number(n, v, path, rules)
	}
}

// text returns the text of a scalar that was written as text.
func (w *walker) text(n ast.Node, path string) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		w.problem(n, path, "put it in quotes", "want text, got %s", describe(n))
	default:
		w.problem(n, path, "", "want text, got %s", describe(n))
	}
	return "", false
}

func (w *walker) number(n ast.Node, v reflect.Value, path string, rules fieldRules) {
	text := ""
	switch n := n.(type) {
	case *ast.IntegerNode:
		text = fmt.Sprint(n.Value)
	case *ast.FloatNode:
		text = strconv.FormatFloat(n.Value, 'g', -1, 64)
	default:
		w.problem(n, path, "", "want a number, got %s", describe(n))
		return
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(f, 0) {
		w.problem(n, path, "", "not a number: %s", text)
		return
	}
	if rules.min != nil && f < float64(*rules.min) || rules.max != nil && f > float64(*rules.max) {
		w.problem(n, path, rules.rangeHint(), "%s is out of range", text)
		return
	}
	switch {
	case v.CanFloat():
		v.SetFloat(f)
		return
	case v.CanInt():
		if i, err := strconv.ParseInt(text, 10, 64); err == nil && !v.OverflowInt(i) {
			v.SetInt(i)
			return
		}
	case v.CanUint():
		if i, err := strconv.ParseUint(text, 10, 64); err == nil && !v.OverflowUint(i) {
			v.SetUint(i)
			return
		}
	}
	w.problem(n, path, "", "want a whole number, got %s", text)
}

func (r fieldRules) rangeHint() string {
	switch {
	case r.max == nil:
		return fmt.Sprintf("at least %d", *r.min)
	case r.min == nil:
		return fmt.Sprintf("at most %d", *r.max)
	}
	return fmt.Sprintf("%d to %d", *r.min, *r.max)
}

// unsupported names the parts of YAML that make a file mean something else
// than it shows.
func unsupported(n ast.Node) string {
	switch n.Type() {
	case ast.AnchorType:
		return "anchors"
	case ast.AliasType:
		return "aliases"
	case ast.MergeKeyType:
		return "merge keys"
	case ast.TagType:
		return "tags"
	}
	return ""
}

func describe(n ast.Node) string {
	switch n := n.(type) {
	case ast.MapNode:
		return "keys and values"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode:
		return fmt.Sprintf("%q", n.Value)
	case *ast.LiteralNode:
		return "a block of text"
	case *ast.NullNode:
		return "nothing"
	case ast.ScalarNode:
		return fmt.Sprint(n.GetValue())
	}
	return strings.ToLower(n.Type().YAMLName())
}

func position(n ast.Node) Pos {
	t := n.GetToken()
	if m, ok := n.(ast.MapNode); ok { // a mapping begins with its first key
		if it := m.MapRange(); it.Next() {
			t = it.Key().GetToken()
		}
	}
	if t == nil || t.Position == nil {
		return Pos{}
	}
	return Pos{t.Position.Line, t.Position.Column}
}

func keyText(k ast.MapKeyNode) string {
	if s, ok := k.(*ast.StringNode); ok {
		return s.Value
	}
	if t := k.GetToken(); t != nil {
		return t.Value
	}
	return k.String()
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
