package access

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"pasban"
	"pasban/internal/config"
)

// Load reads policy files and compiles them. The error is config.Problems with
// the place of every problem. Each policy's id is its @id annotation, or
// file:line without one (the file without its folder: people who are refused
// may read it); ids are unique over all files. A @reason annotation
// on a forbid is what the person refused is told. No files make an engine that
// denies everything.
func Load(files []string) (*Engine, error) {
	e := &Engine{byScope: map[scope][]*policy{}, byID: map[cedar.PolicyID]*policy{}}
	var problems config.Problems
	for _, file := range files {
		data, err := config.ReadFile(file)
		if err != nil {
			problems = append(problems, asProblem(file, err))
			continue
		}
		problems = append(problems, e.add(file, data)...)
	}
	if err := problems.Err(); err != nil {
		return nil, err
	}
	return e, nil
}

func asProblem(file string, err error) config.Problem {
	p := config.Problem{File: file, Msg: err.Error()}
	if e, ok := errors.AsType[*pasban.Error](err); ok {
		p.Msg, p.Hint = e.Msg, e.Hint
		if e.Err != nil {
			p.Msg += ": " + e.Err.Error()
		}
	}
	return p
}

// add parses one file and puts its policies into the index.
func (e *Engine) add(file string, data []byte) (problems config.Problems) {
	defer func() { // the parser is someone else's
		if r := recover(); r != nil {
			problems = config.Problems{{File: file, Msg: "not readable as Cedar policies"}}
		}
	}()
	if len(data) > maxPolicy {
		return config.Problems{{File: file, Msg: fmt.Sprintf("%d bytes, want at most %d", len(data), maxPolicy)}}
	}
	if nesting(data) > maxNesting {
		return config.Problems{{File: file, Msg: fmt.Sprintf("nested more than %d deep", maxNesting)}}
	}
	list, err := cedar.NewPolicyListFromBytes(file, data)
	if err != nil {
		return config.Problems{syntaxProblem(file, err)}
	}
	for i, parsed := range list {
		end := len(data)
		if i+1 < len(list) {
			end = list[i+1].Position().Offset
		}
		c := &policyCheck{file: file, text: string(data[:end]), at: parsed.Position()}
		p := c.policy(e, parsed)
		if len(c.problems) > 0 {
			problems = append(problems, c.problems...)
			continue
		}
		e.byID[p.id] = p
		for _, s := range scopes((*ast.Policy)(parsed.AST())) {
			e.byScope[s] = append(e.byScope[s], p)
		}
	}
	return problems
}

// Limits that keep the Cedar parser's recursion within bounds.
const (
	maxNesting = 100       // of brackets
	maxPolicy  = 256 << 10 // bytes of a file
)

func nesting(data []byte) int {
	depth, deepest := 0, 0
	for _, b := range data {
		switch b {
		case '(', '[', '{':
			depth++
			deepest = max(deepest, depth)
		case ')', ']', '}':
			depth--
		}
	}
	return deepest
}

// parseError is how cedar-go words a syntax error.
var parseError = regexp.MustCompile(`parse error at (?:<input>:|:)?(\d+):(\d+) ("(?:[^"\\]|\\.)*"): (.*)`)

// scanError is how it words one of the text below that: a string without end.
var scanError = regexp.MustCompile(`(?:<input>:|:)(\d+):(\d+): (.*)`)

func syntaxProblem(file string, err error) config.Problem {
	p := config.Problem{File: file, Msg: "not readable as Cedar policies: " + err.Error()}
	if m := scanError.FindStringSubmatch(err.Error()); m != nil {
		p.Line, _ = strconv.Atoi(m[1])
		p.Col, _ = strconv.Atoi(m[2])
		p.Msg = "not a Cedar policy: " + m[3]
	}
	if m := parseError.FindStringSubmatch(err.Error()); m != nil {
		p.Line, _ = strconv.Atoi(m[1])
		p.Col, _ = strconv.Atoi(m[2])
		near := "near " + m[3]
		if m[3] == `""` {
			near = "at the end"
		}
		p.Msg = "not a Cedar policy " + near + ": " + m[4]
	}
	return p
}

// scopes lists where in the index a policy belongs.
func scopes(p *ast.Policy) []scope {
	actions := Actions()
	if p.Effect == ast.EffectPermit { // secrecy is never permitted by the way
		actions = slices.DeleteFunc(actions, func(a string) bool { return a == Hide })
	}
	switch s := p.Action.(type) {
	case ast.ScopeTypeEq:
		actions = []string{string(s.Entity.ID)}
	case ast.ScopeTypeIn:
		actions = []string{string(s.Entity.ID)}
	case ast.ScopeTypeInSet:
		actions = nil
		for _, a := range s.Entities {
			actions = append(actions, string(a.ID))
		}
	}
	service := ""
	switch s := p.Resource.(type) {
	case ast.ScopeTypeIn:
		service = serviceOf(s.Entity)
	case ast.ScopeTypeIsIn:
		service = serviceOf(s.Entity)
	}
	var out []scope
	seen := map[string]bool{}
	for _, a := range actions {
		if !seen[a] {
			seen[a] = true
			out = append(out, scope{a, service})
		}
	}
	return out
}

func serviceOf(uid types.EntityUID) string {
	if uid.Type == "Service" {
		return string(uid.ID)
	}
	return ""
}

// policyCheck finds what Cedar itself does not: names that exist nowhere, so
// that the policy would never apply.
type policyCheck struct {
	file     string
	text     string // of the file, up to the end of this policy
	at       cedar.Position
	problems config.Problems
}

// policy checks one policy and gives it its id.
func (c *policyCheck) policy(e *Engine, parsed *cedar.Policy) *policy {
	id, reason := "", ""
	for key, value := range parsed.Annotations() {
		switch key {
		case "id":
			id = string(value)
		case "reason":
			reason = string(value)
		default:
			c.bad("@"+string(key), nearest(string(key), []string{"id", "reason"}), "unknown annotation @%s", key)
		}
	}
	_, annotated := parsed.Annotations()["id"]
	switch {
	case !annotated:
		id = fmt.Sprintf("%s:%d", filepath.Base(c.file), c.at.Line)
	case strings.TrimSpace(id) == "" || strings.ContainsAny(id, "\n\r\t"):
		c.bad("@id", "", "not an id: %q", id)
	}
	if other := e.byID[cedar.PolicyID(id)]; other != nil {
		at := other.cedar.Position()
		c.bad(id, "", "id %q is taken by the policy at %s:%d", id, at.Filename, at.Line)
	}
	p := (*ast.Policy)(parsed.AST())
	c.scope(p.Principal)
	c.scope(p.Action)
	c.scope(p.Resource)
	for _, condition := range p.Conditions {
		ast.Inspect(ast.NewNode(condition.Body), c.node)
	}
	if p.Effect == ast.EffectPermit && len(p.Conditions) == 0 && everybody(p.Principal) {
		c.bad("permit", "name a role, or add a when clause", "this policy permits it to everybody, signed in or not")
	}
	return &policy{id: cedar.PolicyID(id), cedar: parsed, reason: reason}
}

func everybody(s ast.IsPrincipalScopeNode) bool { _, all := s.(ast.ScopeTypeAll); return all }

// bad notes a problem at the first place within the policy where the text has
// needle, or at the policy's first line.
func (c *policyCheck) bad(needle, hint, format string, args ...any) {
	p := config.Problem{File: c.file, Line: c.at.Line, Col: c.at.Column, Hint: hint, Msg: fmt.Sprintf(format, args...)}
	if i := strings.Index(c.text[min(c.at.Offset, len(c.text)):], needle); i >= 0 {
		before := c.text[:c.at.Offset+i]
		p.Line = 1 + strings.Count(before, "\n")
		p.Col = 1 + len([]rune(before[strings.LastIndexByte(before, '\n')+1:]))
	}
	c.problems = append(c.problems, p)
}

func (c *policyCheck) scope(s ast.IsScopeNode) {
	switch s := s.(type) {
	case ast.ScopeTypeEq:
		c.entity(s.Entity)
	case ast.ScopeTypeIn:
		c.entity(s.Entity)
	case ast.ScopeTypeInSet:
		for _, uid := range s.Entities {
			c.entity(uid)
		}
	case ast.ScopeTypeIs:
		c.entityType(s.Type)
	case ast.ScopeTypeIsIn:
		c.entityType(s.Type)
		c.entity(s.Entity)
	}
}

// node checks one node of a condition; it implements ast.Inspect's callback.
func (c *policyCheck) node(n ast.IsNode) bool {
	switch n := n.(type) {
	case ast.NodeValue:
		c.value(n.Value)
	case ast.NodeTypeIs:
		c.entityType(n.EntityType)
	case ast.NodeTypeIsIn:
		c.entityType(n.EntityType)
	case ast.NodeTypeAccess:
		c.attribute(n.Arg, string(n.Value))
	case ast.NodeTypeHas:
		c.attribute(n.Arg, string(n.Value))
	}
	return true
}

func (c *policyCheck) value(v types.Value) {
	switch v := v.(type) {
	case types.EntityUID:
		c.entity(v)
	case types.Set:
		for item := range v.All() {
			c.value(item)
		}
	}
}

// vocabulary returns the attributes of each variable that policies see; keep
// it equal to Request.cedar and the package comment.
func vocabulary() map[string][]string {
	return map[string][]string{
		"principal": {"id", "role", "kind", "staff", "citizen"},
		"resource":  {"service", "owner"},
		"context":   {"purpose", "case", "purposes", "fields", "mode", "time", "auth_age", "requester", "hide_days"},
		"action":    nil,
	}
}

func (c *policyCheck) attribute(of ast.IsNode, name string) {
	variable, ok := of.(ast.NodeTypeVariable)
	if !ok {
		return
	}
	known := vocabulary()[string(variable.Name)]
	if slices.Contains(known, name) {
		return
	}
	c.bad(name, nearest(name, known), "%s has no attribute %q", variable.Name, name)
}

func entityTypes() []string {
	return []string{"Person", "Citizen", "Visitor", "Role", "Action", "Data", "Service"}
}

func (c *policyCheck) entityType(t types.EntityType) bool {
	if slices.Contains(entityTypes(), string(t)) {
		return true
	}
	c.bad(string(t), nearest(string(t), entityTypes()), "unknown entity type %s", t)
	return false
}

func (c *policyCheck) entity(uid types.EntityUID) {
	if !c.entityType(uid.Type) {
		return
	}
	var known []string
	switch uid.Type {
	case "Action":
		known = Actions()
	case "Role":
		for _, r := range pasban.Roles() {
			known = append(known, string(r))
		}
	case "Visitor":
		known = []string{"anonymous"}
	default:
		return // people, citizens, records and services come and go
	}
	id := string(uid.ID)
	if slices.Contains(known, id) {
		return
	}
	c.bad(strconv.Quote(id), nearest(id, known), "unknown %s %q", strings.ToLower(string(uid.Type)), id)
}

func nearest(name string, valid []string) string {
	if n := config.Nearest(name, valid); n != "" {
		return fmt.Sprintf("did you mean %q?", n)
	}
	if len(valid) == 0 {
		return ""
	}
	return "one of " + strings.Join(valid, ", ")
}
