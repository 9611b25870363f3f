package detect

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"pasban/internal/config"
)

// The correlation types of the specification, and value_min and value_max of
// its JSON Schema.
const (
	eventCount      = "event_count"
	valueCount      = "value_count"
	temporal        = "temporal"
	temporalOrdered = "temporal_ordered"
	valueSum        = "value_sum"
	valueAvg        = "value_avg"
	valueMin        = "value_min"
	valueMax        = "value_max"
	valueMedian     = "value_median"
	valuePercentile = "value_percentile"
)

// correlation asks something of the matches of other rules, per group, within a
// window of event time.
//
// There are two kinds of window. What can only come true as events arrive, and
// stays true (a count that is at least something), is asked of the window that
// ends with the newest event, and fires at once. What a later event could make
// false again (at most, exactly, an average) is asked when a window has closed:
// those windows follow one another, each as long as the timespan.
type correlation struct {
	kind       string
	names      []string // of the rules it refers to, as written
	rules      []*Rule  // the same, once linked
	groupBy    []string
	span       time.Duration
	bounds     []bound                      // all must hold
	fields     []string                     // of the value types
	percentile float64                      // of value_percentile
	aliases    map[string]map[string]string // alias → rule's name → field
	generate   bool
	at         *node // for problems found when linking

	closes bool   // the question is asked of closed windows
	number uint32 // in the memory
}

// bound is one comparison of a condition.
type bound struct {
	op    string // gt, gte, lt, lte, eq, neq
	value float64
}

func (c *correlation) holds(x float64) bool {
	return !slices.ContainsFunc(c.bounds, func(b bound) bool { return !compare(b.op, x, b.value) })
}

// asksClosed reports whether the question is asked of closed windows.
func (c *correlation) asksClosed() bool {
	switch c.kind {
	case valueAvg, valueMin, valueMax, valueMedian, valuePercentile:
		return true
	}
	return slices.ContainsFunc(c.bounds, func(b bound) bool { return b.op != "gt" && b.op != "gte" })
}

// ordered says that the rules must match in their order.
func (c *correlation) ordered() bool { return c.kind == temporalOrdered }

// counts says that the question is how many there are of something.
func (c *correlation) counts() bool {
	return slices.Contains([]string{eventCount, valueCount, temporal, temporalOrdered}, c.kind)
}

// correlation reads the body of a correlation rule.
func (p *parser) correlation(n *node) *correlation {
	c := &correlation{at: n}
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
	kinds := []string{eventCount, valueCount, temporal, temporalOrdered, valueSum, valueAvg, valueMin, valueMax, valueMedian, valuePercentile}
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
	c.closes = c.asksClosed()
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

// threshold reads the condition: comparisons, and the field of the value types.
func (p *parser) threshold(c *correlation, n *node) {
	cond := n.get("condition")
	timed := c.kind == temporal || c.kind == temporalOrdered
	if timed && len(c.names) < 2 {
		p.problem(n, "correlation.rules", "", "%s needs at least two rules", c.kind)
	}
	switch {
	case timed && cond == nil:
		c.bounds = []bound{{"gte", float64(len(c.names))}}
		return
	case cond != nil && cond.kind == scalarNode:
		p.problem(cond, "correlation.condition", "for example gte: 2; chain correlations for more", "a correlation's condition is a mapping")
		return
	case cond == nil || cond.kind != mapNode:
		p.problem(cmpNode(cond, n), "correlation.condition", "for example gte: 10", "the correlation has no condition")
		return
	}
	for _, e := range cond.entries {
		switch e.key.text {
		case "field":
			c.fields = p.texts(cond, "field")
		case "percentile":
			f, ok := parseNumber([]byte(e.value.text))
			if !ok || f <= 0 || f > 100 || c.kind != valuePercentile {
				p.problem(e.value, "correlation.condition", "", "%q is not a percentile, over 0 and up to 100, of %s", e.value.text, valuePercentile)
			}
			c.percentile = f
		case "gt", "gte", "lt", "lte", "eq", "neq":
			p.bound(c, e)
		default:
			p.unknown(e.key, "correlation.condition."+e.key.text, []string{"field", "percentile", "gt", "gte", "lt", "lte", "eq", "neq"})
		}
	}
	if len(c.bounds) == 0 {
		p.problem(cond, "correlation.condition", "for example gte: 10", "the condition has no threshold")
	}
	if strings.HasPrefix(c.kind, "value_") != (len(c.fields) > 0) {
		p.problem(cond, "correlation.condition", "", "field belongs to value_count and the other value types, which need it")
	}
	if len(c.fields) > 1 && c.kind != valueCount {
		p.problem(cond, "correlation.condition", "", "%s is over one field", c.kind)
	}
	if c.kind == valuePercentile && c.percentile == 0 {
		p.problem(cond, "correlation.condition", "for example percentile: 95", "the condition does not say which percentile")
	}
}

// bound reads one comparison.
func (p *parser) bound(c *correlation, e entry) {
	f, ok := parseNumber([]byte(e.value.text))
	switch most := float64(DefaultLimits().Hits); {
	case !ok:
		p.problem(e.value, "correlation.condition", "", "%q is not a number", e.value.text)
	case c.counts() && (f != float64(int(f)) || f < 0 || f > most || e.key.text == "gte" && f < 1 || e.key.text == "gt" && f == most || e.key.text == "lt" && f < 1):
		p.problem(e.value, "correlation.condition", "", "%q is not a count from 1 to %d", e.value.text, int(most))
	}
	c.bounds = append(c.bounds, bound{e.key.text, f})
}

// linker makes a set of rules: it joins correlations and filters to the rules
// they name.
type linker struct {
	set      *ruleSet
	rules    []*Rule // filters too
	byName   map[string]*Rule
	problems config.Problems
	bad      map[*Rule]bool // what the problems are about
}

func (l *linker) complain(r *Rule, at *node, hint, format string, args ...any) {
	pr := config.Problem{File: r.File, Line: r.Line, Msg: fmt.Sprintf(format, args...), Hint: hint}
	if at != nil {
		pr.Line, pr.Col = at.line, at.col
	}
	l.problems = append(l.problems, pr)
	l.bad[r] = true
}

// link joins the rules. It refuses ids and names that are there twice, and
// references that end nowhere or in a circle.
func link(rules []*Rule, limits Limits) *linker {
	l := &linker{rules: rules, byName: map[string]*Rule{}, bad: map[*Rule]bool{}}
	l.set = &ruleSet{users: map[*Rule][]user{}, quiet: map[*Rule]bool{}, memory: newMemory(limits), sources: rules}
	for _, r := range rules {
		if other := l.byName[r.ID]; other != nil {
			l.complain(r, nil, "", "the id %s is that of %s:%d too", r.ID, other.File, other.Line)
		}
		l.byName[r.ID] = r
		if r.Name != "" {
			if other := l.byName[r.Name]; other != nil {
				l.complain(r, nil, "", "the name %s is that of %s:%d too", r.Name, other.File, other.Line)
			}
			l.byName[r.Name] = r
		}
		if r.filter == nil {
			l.set.all = append(l.set.all, r)
		}
		if r.detection != nil {
			l.set.events = append(l.set.events, r)
		}
	}
	l.linkCorrelations()
	l.applyFilters()
	return l
}

func (l *linker) linkCorrelations() {
	s := l.set
	for _, r := range s.all {
		c := r.correlation
		if c == nil {
			continue
		}
		c.rules = nil
		for _, name := range c.names {
			target := l.byName[name]
			if target == nil || target.filter != nil {
				l.complain(r, c.at, "rules are named by id or name", "the correlation refers to %q, which is not loaded", name)
				continue
			}
			c.rules = append(c.rules, target)
			s.quiet[target] = s.quiet[target] || !c.generate
			checkGroupFields(r, target, l.complain)
		}
		for _, b := range c.bounds {
			if most := s.memory.limits.Hits; c.counts() && b.value > float64(most) {
				l.complain(r, c.at, "", "the correlation counts to %v, and at most %d hits of a group are remembered", b.value, most)
			}
		}
		c.number = s.memory.number(r)
		s.closes = s.closes || c.closes
		s.maxSpan = max(s.maxSpan, c.span)
	}
	for _, r := range s.all {
		if circular(r, r, map[*Rule]bool{}) {
			l.complain(r, r.correlation.at, "", "the correlation refers to itself in a circle")
		}
	}
}

// compile makes the set ready to run.
func (l *linker) compile(tax Taxonomy) *ruleSet {
	s := l.set
	fields := append(readFields(), tax.fields()...)
	for _, r := range s.all {
		if r.correlation != nil {
			fields = append(fields, r.correlation.fieldNames()...)
		}
	}
	s.compiled = compileRules(s.events, s.conditions, fields)
	s.taxonomy = tax.bind(s.names)
	s.bindUsers()
	return s
}

// checkGroupFields refuses fields that Pasban's own events never have: the
// group would never fill.
func checkGroupFields(r, target *Rule, complain func(*Rule, *node, string, string, ...any)) {
	if target.Source.Product != Product {
		return
	}
	c := r.correlation
	for _, field := range slices.Concat(c.groupBy, c.fields) {
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

// fieldNames are the fields that the correlation asks events for.
func (c *correlation) fieldNames() []string {
	out := slices.Concat(c.groupBy, c.fields)
	for _, fields := range c.aliases {
		out = slices.AppendSeq(out, maps.Values(fields))
	}
	return out
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

// user is a correlation as one of its rules sees it.
type user struct {
	rule   *Rule // the correlation
	index  int32 // of the rule among the correlation's
	group  []int32
	values []int32
}

// follower is what becomes of a rule's matches: which correlations they count
// for, and whether that is all.
type follower struct {
	users []user
	quiet bool
}

// bindUsers tells each rule which correlations refer to it, and which fields of
// its events they ask for.
func (s *ruleSet) bindUsers() {
	for _, r := range s.all {
		c := r.correlation
		if c == nil {
			continue
		}
		for i, target := range c.rules {
			if slices.Index(c.rules, target) < i {
				continue
			}
			u := user{rule: r, index: int32(i)}
			for _, name := range c.groupBy {
				u.group = append(u.group, s.names.ids[c.fieldOf(name, target)])
			}
			for _, name := range c.fields {
				u.values = append(u.values, s.names.ids[c.fieldOf(name, target)])
			}
			s.users[target] = append(s.users[target], u)
		}
	}
	for _, r := range s.events {
		s.followed = append(s.followed, follower{s.users[r], s.quiet[r]})
	}
}

// why says in words that the condition holds, and with what figure.
func (c *correlation) why(x float64, entity string) string {
	about := ""
	if entity != "" {
		about = " for " + entity
	}
	figure := strconv.FormatFloat(x, 'f', -1, 64)
	within := about + " within " + words(c.span)
	switch c.kind {
	case eventCount:
		return figure + " events" + within + c.asked()
	case valueCount:
		return figure + " different values of " + strings.Join(c.fields, " and ") + within + c.asked()
	case temporal, temporalOrdered:
		order := ""
		if c.ordered() {
			order = ", in this order"
		}
		if int(x) < len(c.rules) || c.closes {
			return fmt.Sprintf("%s of %s%s%s%s", figure, c.titles(), order, within, c.asked())
		}
		return c.titles() + order + within
	}
	name := map[string]string{
		valueSum: "the sum", valueAvg: "the average", valueMin: "the least", valueMax: "the greatest", valueMedian: "the median",
		valuePercentile: "the " + strconv.FormatFloat(c.percentile, 'f', -1, 64) + "th percentile",
	}[c.kind]
	return name + " of " + c.fields[0] + " is " + figure + within + c.asked()
}

// asked says what the rule asks for.
func (c *correlation) asked() string {
	if b := c.bounds[0]; len(c.bounds) == 1 && c.counts() && !c.closes {
		if b.op == "gt" {
			b.value++
		}
		return fmt.Sprintf(" (the rule's limit is %d)", int(b.value))
	}
	var parts []string
	for _, b := range c.bounds {
		parts = append(parts, compareWords(b.op)+" "+strconv.FormatFloat(b.value, 'f', -1, 64))
	}
	return " (the rule asks for " + strings.Join(parts, " and ") + ")"
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
