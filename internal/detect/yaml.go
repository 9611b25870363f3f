package detect

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	yamlparser "github.com/goccy/go-yaml/parser"
)

// maxFile bounds a rule file, maxDepth how deep its values nest.
const (
	maxFile  = 512 << 10
	maxDepth = 32
)

type nodeKind int

const (
	nullNode nodeKind = iota
	scalarNode
	listNode
	mapNode
)

// node is a YAML value with its place. Detections are free in form, so they are
// walked as they stand instead of being decoded into a struct.
type node struct {
	kind      nodeKind
	line, col int
	text      string // of a scalar
	number    bool   // the scalar is an unquoted number
	items     []*node
	entries   []entry
}

type entry struct{ key, value *node }

// get returns the value under key, nil if there is none.
func (n *node) get(key string) *node {
	for _, e := range n.entries {
		if e.key.text == key {
			return e.value
		}
	}
	return nil
}

// documents reads the YAML documents of a file. Empty documents are left out.
func (p *parser) documents(data []byte) (docs []*node) {
	if len(data) > maxFile {
		p.problem(nil, "", "", "the file is %d bytes, at most %d are read", len(data), maxFile)
		return nil
	}
	defer func() {
		if r := recover(); r != nil { // the YAML parser panics on some malformed input
			p.problem(nil, "", "", "not readable as YAML: %v", r)
			docs = nil
		}
	}()
	file, err := yamlparser.ParseBytes(data, 0)
	if err != nil {
		at := &node{}
		msg := err.Error()
		if ye, ok := errors.AsType[yaml.Error](err); ok {
			msg = ye.GetMessage()
			if t := ye.GetToken(); t != nil {
				at.line, at.col = t.Position.Line, t.Position.Column
			}
		}
		p.problem(at, "", "", "not readable as YAML: %s", msg)
		return nil
	}
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if n := p.node(doc.Body, 0); n.kind != nullNode {
			docs = append(docs, n)
		}
	}
	return docs
}

// node converts the library's tree into ours, refusing what rules do not use.
func (p *parser) node(a ast.Node, depth int) *node {
	n := &node{}
	if a == nil {
		return n
	}
	if t := a.GetToken(); t != nil && t.Position != nil {
		n.line, n.col = t.Position.Line, t.Position.Column
	}
	if depth > maxDepth {
		p.problem(n, "", "", "values nest deeper than %d", maxDepth)
		return n
	}
	switch v := a.(type) {
	case *ast.NullNode, *ast.CommentGroupNode:
	case *ast.StringNode:
		n.kind, n.text = scalarNode, v.Value
	case *ast.LiteralNode:
		n.kind, n.text = scalarNode, v.Value.Value
	case *ast.IntegerNode:
		n.kind, n.text, n.number = scalarNode, fmt.Sprint(v.Value), true
	case *ast.FloatNode:
		n.kind, n.text, n.number = scalarNode, strconv.FormatFloat(v.Value, 'f', -1, 64), true
	case *ast.BoolNode:
		n.kind, n.text = scalarNode, strconv.FormatBool(v.Value)
	case *ast.InfinityNode, *ast.NanNode:
		n.kind, n.text = scalarNode, a.GetToken().Value
	case *ast.SequenceNode:
		n.kind = listNode
		for _, item := range v.Values {
			n.items = append(n.items, p.node(item, depth+1))
		}
	case *ast.MappingNode:
		n.kind = mapNode
		for _, pair := range v.Values {
			p.entry(n, pair, depth)
		}
		if len(n.entries) > 0 {
			n.line, n.col = n.entries[0].key.line, n.entries[0].key.col
		}
	case *ast.MappingValueNode:
		n.kind = mapNode
		p.entry(n, v, depth)
		n.line, n.col = n.entries[0].key.line, n.entries[0].key.col
	default:
		p.problem(n, "", "write the value out", "rules have no YAML %s", a.Type())
	}
	return n
}

// entry adds one key and its value, and refuses a key that is there already.
func (p *parser) entry(n *node, pair *ast.MappingValueNode, depth int) {
	key := p.node(pair.Key, depth+1)
	if key.kind == nullNode {
		key.kind = scalarNode // a bare "null:" or "~:" is a name here
		key.text = pair.Key.String()
	}
	if key.kind != scalarNode {
		p.problem(key, "", "", "a key is a plain name")
		key = &node{kind: scalarNode, line: key.line, col: key.col}
	}
	if n.get(key.text) != nil {
		p.problem(key, key.text, "", "the key %q is there twice", key.text)
	}
	n.entries = append(n.entries, entry{key, p.node(pair.Value, depth+1)})
}
