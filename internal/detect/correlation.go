package detect

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"pasban/internal/config"
)

// Limits bound what each correlation remembers. When a bound is reached the
// group that was longest without an event is forgotten, and within a group the
// oldest hit.
type Limits struct {
	Groups int // groups of one correlation
	Hits   int // hits of one group; thresholds above it are refused
	Total  int // hits of all groups of one correlation
}

// DefaultLimits hold about 30 MB per correlation at the most.
func DefaultLimits() Limits { return Limits{Groups: 10_000, Hits: 10_000, Total: 200_000} }

// The correlation types of the specification that the engine knows.
const (
	eventCount      = "event_count"
	valueCount      = "value_count"
	temporal        = "temporal"
	temporalOrdered = "temporal_ordered"
)

// correlation counts the matches of other rules per group within a window of
// event time that ends with the newest event.
type correlation struct {
	kind     string
	names    []string // of the rules it refers to, as written
	rules    []*Rule  // the same, once linked
	groupBy  []string
	span     time.Duration
	op       string // gt or gte
	limit    int
	field    string                       // of value_count
	aliases  map[string]map[string]string // alias → rule's name → field
	generate bool
	at       *node // for problems found when linking

	limits Limits
	memory *memory
}

// memory is what a correlation has seen. The engine's mutex covers it.
type memory struct {
	groups *simplelru.LRU[string, *group]
	total  int
}

func newMemory(limits Limits) *memory {
	m := &memory{}
	// The only error of NewLRU is a size that is not positive.
	m.groups, _ = simplelru.NewLRU(limits.Groups, func(_ string, g *group) { m.total -= len(g.hits) })
	return m
}

// group is the hits of one group within the window, oldest first.
type group struct {
	hits   []hit
	values map[string]int // how many hits have each value
}

// forget drops the n oldest hits.
func (g *group) forget(n int) {
	for _, h := range g.hits[:n] {
		if g.values[h.value]--; g.values[h.value] == 0 {
			delete(g.values, h.value)
		}
	}
	g.hits = slices.Delete(g.hits, 0, n)
}

// hit is one match of a rule that the correlation refers to.
type hit struct {
	ref      Ref
	rule     int // index in correlation.rules
	value    string
	reported bool // a match has named it
}

// correlation reads the body of a correlation rule.
func (p *parser) correlation(n *node) *correlation {
	c := &correlation{at: n, op: "gte", limits: DefaultLimits()}
	if n.kind != mapNode {
		p.problem(n, "correlation", "", "a correlation is a mapping with type, rules and timespan")
		return c
	}
	valid := []string{"type", "rules", "group-by", "timespan", "condition", "aliases", "generate"}
	for _, e := range n.entries {
		if !slices.Contains(valid, e.key.text) {
			p.unknown(e.key, "correlation."+e.key.text, valid)
		}
	}
	kinds := []string{eventCount, valueCount, temporal, temporalOrdered}
	c.kind = p.text(n, "type", true)
	if c.kind != "" && !slices.Contains(kinds, c.kind) {
		p.problem(n.get("type"), "correlation.type", nearestOf(c.kind, kinds), "unknown correlation type %q", c.kind)
	}
	c.names = p.texts(n, "rules")
	if len(c.names) == 0 {
		p.problem(n, "correlation.rules", "", "the correlation refers to no rules")
	}
	c.groupBy = p.texts(n, "group-by")
	c.span = p.timespan(n)
	switch p.text(n, "generate", false) {
	case "", "false":
	case "true":
		c.generate = true
	default:
		p.problem(n.get("generate"), "correlation.generate", "", "generate is true or false")
	}
	p.aliases(c, n.get("aliases"))
	p.threshold(c, n)
	return c
}

// timespan reads a window such as 30s, 5m, 12h, 7d or 2w.
func (p *parser) timespan(n *node) time.Duration {
	text := p.text(n, "timespan", true)
	if text == "" {
		return 0
	}
	units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}
	unit := units[text[len(text)-1]]
	count, err := strconv.Atoi(text[:len(text)-1])
	if unit == 0 || err != nil || count < 1 || count > 10_000 {
		p.problem(n.get("timespan"), "correlation.timespan", "a number and s, m, h, d or w, like 5m", "%q is not a timespan", text)
		return 0
	}
	return time.Duration(count) * unit
}

func (p *parser) aliases(c *correlation, n *node) {
	if n == nil {
		return
	}
	c.aliases = map[string]map[string]string{}
	if n.kind != mapNode {
		p.problem(n, "correlation.aliases", "", "aliases maps names to rules and their fields")
	}
	for _, e := range n.entries {
		fields := map[string]string{}
		for _, f := range e.value.entries {
			if !slices.Contains(c.names, f.key.text) {
				p.problem(f.key, "correlation.aliases", nearestOf(f.key.text, c.names), "%q is not among the correlation's rules", f.key.text)
			}
			fields[f.key.text] = f.value.text
		}
		if len(fields) == 0 {
			p.problem(e.key, "correlation.aliases", "", "the alias %q names no field", e.key.text)
		}
		c.aliases[e.key.text] = fields
	}
}

// threshold reads the condition: a field for value_count, and the least count.
func (p *parser) threshold(c *correlation, n *node) {
	cond := n.get("condition")
	timed := c.kind == temporal || c.kind == temporalOrdered
	switch {
	case timed && cond != nil:
		p.problem(cond, "correlation.condition", "it fires when every rule has matched", "%s takes no condition here", c.kind)
		return
	case timed:
		if len(c.names) < 2 {
			p.problem(n, "correlation.rules", "", "%s needs at least two rules", c.kind)
		}
		return
	case cond == nil || cond.kind != mapNode:
		p.problem(cmpNode(cond, n), "correlation.condition", "for example gte: 10", "the correlation has no condition")
		return
	}
	set := false
	for _, e := range cond.entries {
		switch e.key.text {
		case "field":
			c.field = e.value.text
		case "gt", "gte":
			limit, err := strconv.Atoi(e.value.text)
			least := limit
			if e.key.text == "gt" {
				least++
			}
			if err != nil || least < 1 || least > c.limits.Hits {
				p.problem(e.value, "correlation.condition", "", "%q is not a count from 1 to %d", e.value.text, c.limits.Hits)
			}
			if set {
				p.problem(e.key, "correlation.condition", "", "one of gt and gte is enough")
			}
			c.op, c.limit, set = e.key.text, limit, true
		case "lt", "lte", "eq", "neq":
			p.problem(e.key, "correlation.condition", "use gt or gte", "%s holds for good only once the window has closed; rules fire on events here", e.key.text)
			set = true
		default:
			p.unknown(e.key, "correlation.condition."+e.key.text, []string{"field", "gt", "gte"})
		}
	}
	if !set {
		p.problem(cond, "correlation.condition", "for example gte: 10", "the condition has no threshold")
	}
	if (c.kind == valueCount) != (c.field != "") {
		p.problem(cond, "correlation.condition", "", "field belongs to value_count, which needs it")
	}
}

// newRuleSet links correlations to the rules they name and refuses ids and
// names that are there twice, and references that end nowhere or in a circle.
func newRuleSet(rules []*Rule, limits Limits, tax Taxonomy) (*ruleSet, config.Problems) {
	s := &ruleSet{all: rules, users: map[*Rule][]*Rule{}, quiet: map[*Rule]bool{}}
	var problems config.Problems
	complain := func(r *Rule, at *node, hint, format string, args ...any) {
		pr := config.Problem{File: r.File, Line: r.Line, Msg: fmt.Sprintf(format, args...), Hint: hint}
		if at != nil {
			pr.Line, pr.Col = at.line, at.col
		}
		problems = append(problems, pr)
	}
	fields := readFields()
	byName := map[string]*Rule{}
	for _, r := range rules {
		if other := byName[r.ID]; other != nil {
			complain(r, nil, "", "the id %s is that of %s:%d too", r.ID, other.File, other.Line)
		}
		byName[r.ID] = r
		if r.Name != "" {
			if other := byName[r.Name]; other != nil {
				complain(r, nil, "", "the name %s is that of %s:%d too", r.Name, other.File, other.Line)
			}
			byName[r.Name] = r
		}
		if r.detection != nil {
			s.events = append(s.events, r)
		}
	}
	for _, r := range rules {
		c := r.correlation
		if c == nil {
			continue
		}
		for _, name := range c.names {
			target := byName[name]
			if target == nil {
				complain(r, c.at, "rules are named by id or name", "the correlation refers to %q, which is not loaded", name)
				continue
			}
			c.rules = append(c.rules, target)
			if !slices.Contains(s.users[target], r) {
				s.users[target] = append(s.users[target], r)
			}
			s.quiet[target] = s.quiet[target] || !c.generate
			checkGroupFields(r, target, complain)
		}
		c.limits = limits
		c.memory = newMemory(limits)
		s.maxSpan = max(s.maxSpan, c.span)
		fields = append(fields, c.fieldNames()...)
	}
	for _, r := range rules {
		if circular(r, r, map[*Rule]bool{}) {
			complain(r, r.correlation.at, "", "the correlation refers to itself in a circle")
		}
	}
	s.compiled = compileRules(s.events, slices.Concat(fields, tax.fields())...)
	s.taxonomy = tax.bind(s.compiled.names)
	return s, problems
}

// checkGroupFields refuses fields that Pasban's own events never have: the
// group would never fill.
func checkGroupFields(r, target *Rule, complain func(*Rule, *node, string, string, ...any)) {
	if target.Source.Product != Product {
		return
	}
	c := r.correlation
	for _, field := range append(slices.Clone(c.groupBy), c.field) {
		name := target.Name
		if name == "" || c.aliases[field][name] == "" {
			name = target.ID
		}
		if f := c.aliases[field][name]; f != "" {
			field = f
		}
		if known := fieldNames(); field != "" && !slices.Contains(known, field) {
			complain(r, c.at, nearestOf(field, known), "Pasban's events have no field %q", field)
		}
	}
}

// circular reports whether from refers to goal, directly or through others.
func circular(goal, from *Rule, seen map[*Rule]bool) bool {
	if from.correlation == nil || seen[from] {
		return false
	}
	seen[from] = true
	for _, next := range from.correlation.rules {
		if next == goal || circular(goal, next, seen) {
			return true
		}
	}
	return false
}

// fieldOf is the field that holds the named value in events of one rule.
func (c *correlation) fieldOf(name string, r *Rule) string {
	for _, key := range []string{r.Name, r.ID} {
		if f := c.aliases[name][key]; key != "" && f != "" {
			return f
		}
	}
	return name
}

// fieldNames are the fields that the correlation asks events for.
func (c *correlation) fieldNames() []string {
	out := slices.Clone(c.groupBy)
	if c.field != "" {
		out = append(out, c.field)
	}
	for _, fields := range c.aliases {
		out = slices.AppendSeq(out, maps.Values(fields))
	}
	return out
}

// add counts one match of a rule that the correlation refers to, and returns
// the correlation's own match if its condition holds now.
func (c *correlation) add(self *Rule, r *record, m Match) (Match, bool) {
	key, entity, ok := c.groupOf(r, m)
	if !ok {
		return Match{}, false
	}
	hits := c.hitsOf(r, m)
	if len(hits) == 0 {
		return Match{}, false
	}
	g, _ := c.memory.groups.Get(key)
	if g == nil {
		g = &group{values: map[string]int{}}
		c.memory.groups.Add(key, g)
	}
	within := false
	for _, h := range hits {
		within = c.insert(g, h) || within
	}
	if !within {
		return Match{}, false
	}
	why, fired := c.holds(g, entity)
	if !fired {
		return Match{}, false
	}
	out := Match{Rule: self, Time: m.Time, Entity: entity, Event: m.Event, Why: append([]string{why}, m.Why...)}
	for i := range g.hits {
		if !g.hits[i].reported {
			g.hits[i].reported = true
			out.Refs = append(out.Refs, g.hits[i].ref)
		}
	}
	out.Refs = slices.Compact(append(out.Refs, hits[0].ref))
	return out, true
}

// hitsOf is what a match counts for: one hit, or for value_count one for each
// value of the field. An event without the field does not count there.
func (c *correlation) hitsOf(r *record, m Match) []hit {
	h := hit{ref: m.Refs[len(m.Refs)-1], rule: slices.Index(c.rules, m.Rule)}
	if c.kind != valueCount {
		return []hit{h}
	}
	var out []hit
	for _, text := range r.fieldTexts(c.fieldOf(c.field, m.Rule)) {
		if text != "" {
			h.value = text
			out = append(out, h)
		}
	}
	return out
}

// groupOf returns the group's key and how people call it. An event that lacks a
// field of the group belongs to no group.
func (c *correlation) groupOf(r *record, m Match) (key, entity string, ok bool) {
	if len(c.groupBy) == 0 {
		return "", m.Entity, true
	}
	var b strings.Builder
	var names []string
	for _, field := range c.groupBy {
		text := r.fieldText(c.fieldOf(field, m.Rule))
		if text == "" {
			return "", "", false
		}
		fmt.Fprintf(&b, "%d:%s", len(text), text)
		names = append(names, text)
	}
	return b.String(), strings.Join(names, ", "), true
}

// insert puts a hit in its place by time and drops what has left the window. It
// reports whether the hit itself is still within.
func (c *correlation) insert(g *group, h hit) bool {
	at := len(g.hits)
	for at > 0 && g.hits[at-1].ref.Time.After(h.ref.Time) {
		at--
	}
	g.hits = slices.Insert(g.hits, at, h)
	g.values[h.value]++
	c.memory.total++
	newest := g.hits[len(g.hits)-1].ref.Time
	gone := 0
	for gone < len(g.hits) && newest.Sub(g.hits[gone].ref.Time) >= c.span {
		gone++
	}
	gone = max(gone, len(g.hits)-c.limits.Hits)
	g.forget(gone)
	c.memory.total -= gone
	for c.memory.total > c.limits.Total && c.memory.groups.Len() > 1 {
		c.memory.groups.RemoveOldest()
	}
	return at >= gone
}

// holds reports whether the condition is met by the hits in the window, and in words why.
func (c *correlation) holds(g *group, entity string) (string, bool) {
	about := ""
	if entity != "" {
		about = " for " + entity
	}
	met := func(n int) bool { return n > c.limit || c.op == "gte" && n == c.limit }
	switch c.kind {
	case eventCount:
		n := len(g.hits)
		return fmt.Sprintf("%d events%s within %s (the rule's limit is %d)", n, about, words(c.span), c.least()), met(n)
	case valueCount:
		n := len(g.values)
		return fmt.Sprintf("%d different values of %s%s within %s (the rule's limit is %d)", n, c.field, about, words(c.span), c.least()), met(n)
	case temporalOrdered:
		next := 0
		for _, h := range g.hits {
			if next < len(c.rules) && c.rules[h.rule] == c.rules[next] {
				next++
			}
		}
		return fmt.Sprintf("%s, in this order%s within %s", c.titles(), about, words(c.span)), next == len(c.rules)
	}
	seen := map[*Rule]bool{}
	for _, h := range g.hits {
		seen[c.rules[h.rule]] = true
	}
	all := !slices.ContainsFunc(c.rules, func(r *Rule) bool { return !seen[r] })
	return fmt.Sprintf("%s%s within %s", c.titles(), about, words(c.span)), all
}

func (c *correlation) least() int {
	if c.op == "gt" {
		return c.limit + 1
	}
	return c.limit
}

func (c *correlation) titles() string {
	var out []string
	for _, r := range c.rules {
		out = append(out, strconv.Quote(r.Title))
	}
	return strings.Join(out, " and ")
}

// words writes a span as people say it.
func words(d time.Duration) string {
	for _, u := range []struct {
		size time.Duration
		name string
	}{{7 * 24 * time.Hour, "week"}, {24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		if d >= u.size && d%u.size == 0 {
			if n := int(d / u.size); n > 1 {
				return fmt.Sprintf("%d %ss", n, u.name)
			}
			return "1 " + u.name
		}
	}
	return d.String()
}
