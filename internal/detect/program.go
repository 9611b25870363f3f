package detect

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// program finds, for the events of one logsource, the few rules that might
// hold: those of which the event has a hook.
type program struct {
	always   []int32     // rules without a hook
	present  []ruleField // rules that only ask that a field is there
	scans    []fieldScan
	keywords *fieldScan // over every value of the event, nil if no rule needs it
	skim     *sieve     // finds the same in the event's JSON as it stands; nil if it cannot
}

type ruleField struct {
	field int32
	rules []int32
}

// fieldScan finds texts in a field: at its edges, anywhere, and short ones that
// a sieve has no place for. Those with letters beyond ASCII stand apart: most
// values have none, and the tables for the rest are much smaller. Each is nil
// where there are no such texts.
type fieldScan struct {
	field       int32
	edges       *edges
	sieve       *sieve
	short, wide *automaton
}

// newFieldScan sorts a field's texts into what finds them fastest. If some need
// the automaton in any case, it gets those for which a sieve takes small steps.
func newFieldScan(field int32, plain, wide []*target, known *commonness) fieldScan {
	s := fieldScan{field: field, wide: newAutomaton(wide)}
	least := minSieved
	if slices.ContainsFunc(plain, func(t *target) bool { return len(t.text) < minEdge }) {
		least = shortText
	}
	var edged, sieved, short []*target
	for _, t := range plain {
		switch n := len(t.text); {
		case n >= minEdge && (t.head || t.tail):
			edged = append(edged, t)
		case n >= least && !t.head && !t.tail:
			sieved = append(sieved, t)
		default:
			short = append(short, t)
		}
	}
	s.edges = newEdges(edged)
	var rest []*target
	s.sieve, rest = newSieve(sieved, known)
	s.short = newAutomaton(append(short, rest...))
	return s
}

// size is what the tables take, in bytes.
func (s *fieldScan) size() int {
	if s == nil {
		return 0
	}
	return s.edges.size() + s.sieve.size() + s.short.size() + s.wide.size()
}

// ruleGroup is the rules of one logsource. Most rules of a log ask for one of a few
// values of the same field, EventID on Windows: they stand apart by its value,
// so that an event meets only those of its own kind.
type ruleGroup struct {
	source   Logsource
	rest     *program // rules that do not pin the field, or all
	field    int32    // the field that the others pin, -1 for none
	byWord   map[string]*program
	byNumber map[float64]*program
}

// minPinned is how many rules must pin a field for a group to be divided by it.
const minPinned = 4

// compiled is a set of rules ready to run. It does not change.
type compiled struct {
	names   *vocabulary
	nodes   []condNode
	leaves  []leaf
	roots   []int32       // by rule: its condition
	parts   [][]namedPart // by rule: its search identifiers
	groups  []*ruleGroup
	own     struct{ time, uid int32 } // fields that name an event
	costs   *costs
	figures *figures
}

// ruleHooks is what a rule is found by.
type ruleHooks struct {
	hooks []hook
	ok    bool
}

// compileRules makes the programs of the rules over single events, each with its
// condition. fields are further fields that events are asked for.
func compileRules(rules []*Rule, conditions []expr, fields []string) *compiled {
	c := newCompiler()
	for _, f := range fields {
		c.names.id(f)
	}
	out := &compiled{roots: make([]int32, len(rules)), costs: newCosts(len(rules)), figures: newFigures()}
	sources := map[Logsource][]int32{}
	var order []Logsource
	for i, r := range rules {
		c.named = nil
		out.roots[i] = conditions[i].compile(c, false)
		out.parts = append(out.parts, c.named)
		for _, f := range r.Fields {
			c.names.id(f)
		}
		if _, ok := sources[r.Source]; !ok {
			order = append(order, r.Source)
		}
		sources[r.Source] = append(sources[r.Source], int32(i))
	}
	known := c.common()
	found := make([]ruleHooks, len(rules))
	for i := range rules {
		h, _, ok := c.hooks(out.roots[i], known)
		found[i] = ruleHooks{h, ok}
	}
	for _, s := range order {
		out.groups = append(out.groups, c.divide(s, sources[s], out.roots, found, known))
	}
	out.own.time, out.own.uid = c.names.id("time"), c.names.id("metadata.uid")
	c.names.seal()
	out.names, out.nodes, out.leaves = c.names, c.nodes, c.leaves
	return out
}

// divide divides the rules of a logsource by the field that most of them pin.
func (c *compiler) divide(source Logsource, rules, roots []int32, found []ruleHooks, known *commonness) *ruleGroup {
	g := &ruleGroup{source: source, field: -1}
	pins := make([]map[int32][]pin, len(rules))
	counts := map[int32]int{}
	for i, r := range rules {
		pins[i] = c.pins(roots[r])
		for f := range pins[i] {
			counts[f]++
		}
	}
	for _, f := range slices.Sorted(maps.Keys(counts)) {
		if counts[f] >= minPinned && (g.field < 0 || counts[f] > counts[g.field]) {
			g.field = f
		}
	}
	var rest []int32
	words, numbers := map[string][]int32{}, map[float64][]int32{}
	for i, r := range rules {
		list, pinned := pins[i][g.field]
		if g.field < 0 || !pinned {
			rest = append(rest, r)
			continue
		}
		for _, p := range list {
			if p.isWord {
				words[p.word] = append(words[p.word], r)
			} else {
				numbers[p.number] = append(numbers[p.number], r)
			}
		}
	}
	g.rest = newProgram(rest, found, anyField, known)
	g.byWord, g.byNumber = map[string]*program{}, map[float64]*program{}
	for w, list := range words {
		g.byWord[w] = newProgram(slices.Compact(list), found, g.field, known)
	}
	for f, list := range numbers {
		g.byNumber[f] = newProgram(slices.Compact(list), found, g.field, known)
	}
	return g
}

// newProgram makes the program of some rules. Hooks in the pinned field are
// there already in every event that comes this way.
func newProgram(rules []int32, found []ruleHooks, pinned int32, known *commonness) *program {
	p := &program{}
	texts := map[int32]*[2]builder{}
	present := map[int32][]int32{}
	for _, r := range rules {
		there := pinned != anyField && slices.ContainsFunc(found[r].hooks, func(h hook) bool { return h.field == pinned })
		if !found[r].ok || there {
			p.always = append(p.always, r)
			continue
		}
		for _, h := range found[r].hooks {
			if h.text == "" {
				present[h.field] = append(present[h.field], r)
				continue
			}
			if texts[h.field] == nil {
				texts[h.field] = &[2]builder{}
			}
			texts[h.field][flag(!isASCII(h.text))].add(h, r)
		}
	}
	for f, list := range present {
		p.present = append(p.present, ruleField{f, slices.Compact(list)})
	}
	for f, b := range texts {
		plain, wide := b[0].texts(), b[1].texts()
		scan := newFieldScan(f, plain, wide, known)
		if f == anyField {
			p.keywords, p.skim = &scan, newSkim(slices.Concat(plain, wide), known)
		} else {
			p.scans = append(p.scans, scan)
		}
	}
	slices.SortFunc(p.present, func(a, b ruleField) int { return cmp.Compare(a.field, b.field) })
	slices.SortFunc(p.scans, func(a, b fieldScan) int { return cmp.Compare(a.field, b.field) })
	return p
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

// programs calls yield with every program of the set.
func (c *compiled) programs(yield func(*program)) {
	for _, g := range c.groups {
		yield(g.rest)
		for _, p := range g.byWord {
			yield(p)
		}
		for _, p := range g.byNumber {
			yield(p)
		}
	}
}

// automataSize is what the tables of all programs that look for texts take, in bytes.
func (c *compiled) automataSize() (n int) {
	c.programs(func(p *program) {
		for _, s := range p.scans {
			n += s.size()
		}
		n += p.keywords.size() + p.skim.size()
	})
	return n
}
