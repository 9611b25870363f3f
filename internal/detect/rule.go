package detect

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"pasban"
	"pasban/internal/config"
)

// Level is a rule's severity.
type Level int

// The levels of Sigma. They order as numbers.
const (
	Informational Level = iota + 1
	Low
	Medium
	High
	Critical
)

var levelNames = [...]string{"informational", "low", "medium", "high", "critical"}

// String returns Sigma's word for the level.
func (l Level) String() string {
	if l < Informational || l > Critical {
		return "unknown"
	}
	return levelNames[l-1]
}

// ParseLevel reads Sigma's word for a level.
func ParseLevel(s string) (Level, bool) {
	i := slices.Index(levelNames[:], s)
	return Level(i + 1), i >= 0
}

// Logsource says where events come from. In a rule, an empty part means any.
type Logsource struct {
	Product  string `json:"product,omitempty"`
	Category string `json:"category,omitempty"`
	Service  string `json:"service,omitempty"`
}

// LogsourceKey is the event's key that holds its Logsource, or a []Logsource if
// it is of several (a process creation is also an event of its log).
const LogsourceKey = "logsource"

// Covers reports whether all that is of the other logsource is of this one: an
// event is what a rule is about, a rule is about events of a filter's logsource.
func (l Logsource) Covers(other Logsource) bool {
	return (l.Product == "" || l.Product == other.Product) && (l.Category == "" || l.Category == other.Category) &&
		(l.Service == "" || l.Service == other.Service)
}

// fits reports whether an event of one of the given sources is what the rule is about.
func (l Logsource) fits(sources []Logsource) bool { return slices.ContainsFunc(sources, l.Covers) }

func logsources(ev pasban.Event) []Logsource {
	switch s := ev[LogsourceKey].(type) {
	case Logsource:
		return []Logsource{s}
	case []Logsource:
		return s
	case map[string]any:
		var l Logsource
		l.Product, _ = s["product"].(string)
		l.Category, _ = s["category"].(string)
		l.Service, _ = s["service"].(string)
		return []Logsource{l}
	}
	return nil
}

// Rule is one Sigma rule. It does not change once it is loaded, apart from a
// correlation's memory.
type Rule struct {
	ID             string // a UUID
	Name           string // what correlations may call it; "" if it has none
	Title          string
	Status         string
	Description    string
	Author         string
	Date           string // YYYY-MM-DD
	References     []string
	Tags           []string
	FalsePositives []string
	Fields         []string // that an analyst wants to see; part of the reasons of a match
	Level          Level    // Medium if the rule does not say
	Source         Logsource
	File           string // where it was read
	Line           int    // the line of its first key

	text        [32]byte   // hash of the file and of placeholders, to see changes
	asRead      [32]byte   // hash of the file alone
	whole       bool       // its file has no mistakes
	detection   *detection // one of these is not nil
	correlation *correlation
	filter      *filter
}

// clone is the rule for another set: what linking writes is not shared.
func (r *Rule) clone() *Rule {
	c := *r
	if r.correlation != nil {
		own := *r.correlation
		c.correlation = &own
	}
	return &c
}

// Correlates reports whether the rule is over other rules' matches.
func (r *Rule) Correlates() bool { return r.correlation != nil }

// Techniques lists the ATT&CK techniques of the rule's tags, as T1110 or T1110.003.
func (r *Rule) Techniques() []string { return Techniques(r.Tags) }

// Techniques lists the ATT&CK techniques among tags, in their order.
func Techniques(tags []string) []string {
	var out []string
	for _, tag := range tags {
		if m := techniqueTag.FindStringSubmatch(tag); m != nil {
			out = append(out, strings.ToUpper(m[1]))
		}
	}
	return out
}

var (
	techniqueTag = regexp.MustCompile(`^attack\.(t[0-9]{4}(?:\.[0-9]{3})?)$`)
	uuidForm     = regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)
	dateForm     = regexp.MustCompile(`^[0-9]{4}[-/][0-9]{2}[-/][0-9]{2}$`)
	tagForm      = regexp.MustCompile(`^[a-z0-9_-]+\.[a-z0-9._-]+$`)
)

// ruleKeys are the top-level keys of the specification and, last, those that
// SigmaHQ's own repository adds for its tests.
var ruleKeys = []string{
	"title", "id", "name", "related", "taxonomy", "status", "description", "license", "author", "references",
	"date", "modified", "logsource", "detection", "correlation", "filter", "fields", "falsepositives", "level", "tags", "scope",
	"sigma-version", "regression_tests_path", "simulation",
}

var statusNames = []string{"stable", "test", "experimental", "deprecated", "unsupported"}

// parser reads one file and collects its problems.
type parser struct {
	file         string
	placeholders placeholders
	problems     config.Problems
}

func (p *parser) problem(n *node, field, hint, format string, args ...any) {
	pr := config.Problem{File: p.file, Field: field, Msg: fmt.Sprintf(format, args...), Hint: hint}
	if n != nil {
		pr.Line, pr.Col = n.line, n.col
	}
	p.problems = append(p.problems, pr)
}

// unknown reports a key that is not one of valid.
func (p *parser) unknown(n *node, field string, valid []string) {
	hint := "one of " + strings.Join(valid, ", ")
	if near := config.Nearest(n.text, valid); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	p.problem(n, field, hint, "unknown key %q", n.text)
}

// parseFile reads every rule of a file. Rules with problems are left out.
func parseFile(file string, data []byte, ph placeholders) ([]*Rule, config.Problems) {
	p := &parser{file: file, placeholders: ph}
	var rules []*Rule
	docs := p.documents(data)
	if len(docs) == 0 && len(p.problems) == 0 {
		p.problem(nil, "", "delete it, or write a rule", "the file holds no rule")
	}
	for _, doc := range docs {
		before := len(p.problems)
		r := p.rule(doc)
		if len(p.problems) == before {
			rules = append(rules, r)
		}
	}
	return rules, p.problems
}

func (p *parser) rule(doc *node) *Rule {
	r := &Rule{File: p.file, Line: doc.line, Level: Medium}
	if doc.kind != mapNode {
		p.problem(doc, "", "", "a rule is a mapping with title, id, logsource and detection")
		return r
	}
	p.head(r, doc)
	det, cor, fil := doc.get("detection"), doc.get("correlation"), doc.get("filter")
	bodies := 0
	for _, n := range []*node{det, cor, fil} {
		if n != nil {
			bodies++
		}
	}
	switch {
	case bodies > 1:
		p.problem(doc, "", "write several documents, separated by ---", "a rule has a detection, a correlation or a filter, not several of them")
	case bodies == 0:
		p.problem(doc, "detection", "", "the rule detects nothing: it has neither detection nor correlation")
	case cor != nil:
		if ls := doc.get("logsource"); ls != nil {
			p.problem(ls, "logsource", "the rules it refers to have one", "a correlation has no logsource of its own")
		}
		r.correlation = p.correlation(cor)
	case fil != nil:
		p.logsource(r, doc)
		r.filter = p.filter(r, fil)
	default:
		p.logsource(r, doc)
		for _, name := range r.Fields {
			p.knownField(r, doc.get("fields"), name)
		}
		r.detection = p.detection(r, det)
	}
	return r
}

// head reads everything but logsource, detection and correlation.
func (p *parser) head(r *Rule, doc *node) {
	for _, e := range doc.entries {
		if !slices.Contains(ruleKeys, e.key.text) {
			p.unknown(e.key, e.key.text, ruleKeys)
		}
	}
	r.Title = p.text(doc, "title", true)
	r.ID = strings.ToLower(p.text(doc, "id", true))
	if r.ID != "" && !uuidForm.MatchString(r.ID) {
		p.problem(doc.get("id"), "id", "uuidgen makes one", "%q is not a UUID", r.ID)
	}
	r.Name = p.text(doc, "name", false)
	r.Description = p.text(doc, "description", false)
	r.Author = p.text(doc, "author", false)
	for _, key := range []string{"date", "modified"} {
		if d := p.text(doc, key, false); d != "" && !dateForm.MatchString(d) {
			p.problem(doc.get(key), key, "", "%q is not a date, YYYY-MM-DD", d)
		}
	}
	r.Date = p.text(doc, "date", false)
	if r.Status = p.text(doc, "status", false); r.Status != "" && !slices.Contains(statusNames, r.Status) {
		p.problem(doc.get("status"), "status", nearestOf(r.Status, statusNames), "unknown status %q", r.Status)
	}
	if l := p.text(doc, "level", false); l != "" {
		level, ok := ParseLevel(l)
		if !ok {
			p.problem(doc.get("level"), "level", nearestOf(l, levelNames[:]), "unknown level %q", l)
		}
		r.Level = level
	}
	r.References = p.texts(doc, "references")
	r.FalsePositives = p.texts(doc, "falsepositives")
	r.Fields = p.texts(doc, "fields")
	r.Tags = p.texts(doc, "tags")
	for _, tag := range r.Tags {
		if !tagForm.MatchString(tag) {
			p.problem(doc.get("tags"), "tags", "a tag is namespace.name, like attack.t1110", "%q is not a tag", tag)
		}
	}
}

func nearestOf(name string, valid []string) string {
	if near := config.Nearest(name, valid); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return "one of " + strings.Join(valid, ", ")
}

// text reads a scalar under key.
func (p *parser) text(doc *node, key string, required bool) string {
	n := doc.get(key)
	switch {
	case n == nil || n.kind == nullNode:
		if required {
			hint := ""
			if key == "id" {
				hint = "uuidgen makes one; correlations need one too, by which their matches are told apart"
			}
			p.problem(cmpNode(n, doc), key, hint, "the rule has no %s", key)
		}
		return ""
	case n.kind != scalarNode:
		p.problem(n, key, "", "%s is one value", key)
		return ""
	}
	if n.text == "" && required {
		p.problem(n, key, "", "the rule's %s is empty", key)
	}
	return n.text
}

// texts reads a list of scalars under key.
func (p *parser) texts(doc *node, key string) []string {
	n := doc.get(key)
	if n == nil || n.kind == nullNode {
		return nil
	}
	if n.kind == scalarNode {
		return []string{n.text}
	}
	var out []string
	for _, item := range n.items {
		if item.kind != scalarNode {
			p.problem(item, key, "", "%s is a list of plain values", key)
			continue
		}
		out = append(out, item.text)
	}
	if n.kind != listNode {
		p.problem(n, key, "", "%s is a list", key)
	}
	return out
}

func (p *parser) logsource(r *Rule, doc *node) {
	n := doc.get("logsource")
	if n == nil || n.kind != mapNode {
		p.problem(cmpNode(n, doc), "logsource", "for example product: pasban and service: gateway", "the rule does not say which events it is about")
		return
	}
	valid := []string{"product", "category", "service", "definition"}
	for _, e := range n.entries {
		if !slices.Contains(valid, e.key.text) {
			p.unknown(e.key, "logsource."+e.key.text, valid)
		} else if e.value.kind != scalarNode {
			p.problem(e.value, "logsource."+e.key.text, "", "%s is one value", e.key.text)
		}
	}
	scalar := func(key string) string {
		if v := n.get(key); v != nil && v.kind == scalarNode {
			return v.text
		}
		return ""
	}
	r.Source = Logsource{Product: scalar("product"), Category: scalar("category"), Service: scalar("service")}
	if r.Source == (Logsource{}) {
		p.problem(n, "logsource", "", "the logsource names no product, category or service")
	}
	if r.Source.Product == Product {
		if s := r.Source.Service; s != "" && !slices.Contains(Services(), s) {
			p.problem(n.get("service"), "logsource.service", nearestOf(s, Services()), "Pasban has no service %q", s)
		}
		if c := n.get("category"); c != nil {
			p.problem(c, "logsource.category", "use service", "Pasban's own events have no category")
		}
	}
}

func cmpNode(n, otherwise *node) *node {
	if n != nil {
		return n
	}
	return otherwise
}

// String writes the parts that are there: product windows, service sysmon.
func (l Logsource) String() string {
	var parts []string
	for _, p := range [][2]string{{"product", l.Product}, {"category", l.Category}, {"service", l.Service}} {
		if p[1] != "" {
			parts = append(parts, p[0]+" "+p[1])
		}
	}
	return strings.Join(parts, ", ")
}
