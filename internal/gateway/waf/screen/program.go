package screen

import (
	"errors"
	"maps"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types/variables"

	"pasban/internal/gateway/waf/dfa"
)

// bits is a set of conditions.
type bits []uint64

func (b bits) has(i int) bool { return b[i/64]>>(i%64)&1 == 1 }
func (b bits) set(i int)      { b[i/64] |= 1 << (i % 64) }

// together is how many expressions share an automaton: more make ever more
// states, fewer make more scans.
const together = 24

// longExpression is the number of instructions from which an expression has
// few others beside it.
const longExpression = 400

// mostChains is how many chains of transformations a phase may have: sets of
// them are words.
const mostChains = 64

// program decides the conditions of one phase.
type program struct {
	conditions []*condition
	nodes      []node    // transformations, each after the one whose result it takes
	chains     []chain   // the ends of sequences of them
	functions  []uintptr // the transformations, each once, as their identities
	variables  []*variable
	counts     []count
	classes    []*class
}

// node is one transformation of the result of an earlier one; node 0 is the
// value as it came.
type node struct {
	parent   int
	function plugintypes.Transformation
	name     int  // index of the function
	mind     mind // itself; none if it may mind any text
}

// chain is a sequence of transformations.
type chain struct {
	path  []int // nodes, in order
	multi bool  // every value on the way counts
}

// count is a condition on how many values there are.
type count struct {
	target    target
	condition *condition
}

// variable is what is asked of one variable's values.
type variable struct {
	id         variables.RuleVariable
	conditions []*condition
	keys       map[string]bool  // in lower case: they are told apart by name
	patterns   []*regexp.Regexp // and by these
	cached     bool             // its values come again with other requests

	mu    sync.RWMutex
	plans map[string]*plan
}

// class is a group of variables that are asked much the same: the automata
// that decide their conditions.
type class struct {
	scans   []*group
	phrases []*group
	others  []*condition
}

// group is an automaton and the conditions that its bits stand for.
type group struct {
	dfa        *dfa.DFA
	set        *phraseSet
	conditions []*condition
	negated    uint64
	chained    []chained
}

// chained are the bits of a group whose conditions have one chain, in the set of
// chains.
type chained struct{ chain, bits uint64 }

// plan is what is asked of the values of a variable with some key.
type plan struct {
	want   bits // conditions
	chains uint64
	nodes  []int // transformations to do, in order
	groups []use
	others []*condition
}

// use is a group with the bits that matter.
type use struct {
	*group
	want   uint64
	chains uint64
}

// newProgram makes the program of a phase's conditions; nil if they have too
// many chains of transformations.
func newProgram(links []*link) *program {
	p := &program{nodes: []node{{}}}
	ids := map[int]int{0: 0}
	ends := map[string]int{}
	for _, l := range links {
		p.conditions = append(p.conditions, &condition{link: l, index: len(p.conditions), chain: p.chainOf(l, ids, ends), needs: needs[l.function]})
	}
	if len(p.chains) > mostChains {
		return nil
	}
	byVariable := map[variables.RuleVariable]*variable{}
	for _, c := range p.conditions {
		for _, t := range c.targets {
			if t.count {
				p.counts = append(p.counts, count{t, c})
				continue
			}
			v := byVariable[t.variable]
			if v == nil {
				v = &variable{id: t.variable, keys: map[string]bool{}, plans: map[string]*plan{}, cached: cached[t.variable]}
				byVariable[t.variable] = v
				p.variables = append(p.variables, v)
			}
			v.tell(&t)
			if !slices.Contains(v.conditions, c) {
				v.conditions = append(v.conditions, c)
			}
		}
	}
	members := map[string][]*condition{}
	for _, c := range p.conditions {
		name := className(c)
		members[name] = append(members[name], c)
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		p.classes = append(p.classes, newClass(members[name]))
	}
	return p
}

// cached are variables whose values come again with other requests and are
// nobody's secret.
var cached = map[variables.RuleVariable]bool{
	variables.ArgsNames: true, variables.ArgsGetNames: true, variables.ArgsPostNames: true, variables.RequestCookiesNames: true,
	variables.RequestHeadersNames: true, variables.RequestHeaders: true, variables.RequestMethod: true, variables.RequestProtocol: true,
	variables.ResponseHeaders: true, variables.ResponseHeadersNames: true, variables.ResponseProtocol: true, variables.ResponseStatus: true,
	variables.RequestFilename: true, variables.RequestBasename: true,
}

// chainOf finds or makes the chain of a link's transformations.
func (p *program) chainOf(l *link, ids map[int]int, ends map[string]int) int {
	var path []int
	at := 0
	for _, s := range l.steps {
		n, ok := ids[s.id]
		if !ok {
			n = len(p.nodes)
			p.nodes = append(p.nodes, node{parent: at, function: quickly(s.function), name: p.nameOf(s.function), mind: mindOf[stockName(s.function)]})
			ids[s.id] = n
		}
		path, at = append(path, n), n
	}
	key := strconv.Itoa(at) + strconv.FormatBool(l.multi)
	if c, ok := ends[key]; ok {
		return c
	}
	ends[key] = len(p.chains)
	p.chains = append(p.chains, chain{path: path, multi: l.multi})
	return len(p.chains) - 1
}

// nameOf tells functions apart by the closures behind them: the same closure
// does the same to the same text.
func (p *program) nameOf(f plugintypes.Transformation) int {
	id := *(*uintptr)(unsafe.Pointer(&f))
	at := slices.Index(p.functions, id)
	if at < 0 {
		at = len(p.functions)
		p.functions = append(p.functions, id)
	}
	return at
}

// tell notes what tells keys apart for a target.
func (v *variable) tell(t *target) {
	note := func(key string, pattern *regexp.Regexp) {
		switch {
		case pattern != nil:
			if !slices.ContainsFunc(v.patterns, func(re *regexp.Regexp) bool { return re.String() == pattern.String() }) {
				v.patterns = append(v.patterns, pattern)
			}
		case key != "":
			v.keys[strings.ToLower(key)] = true
		}
	}
	note(t.key, t.pattern)
	for _, e := range t.exceptions {
		note(e.key, e.pattern)
	}
}

// className groups conditions by what they look at: arguments and what is
// inspected like them, headers, or something of its own.
func className(c *condition) string {
	has := func(id variables.RuleVariable) bool {
		return slices.ContainsFunc(c.targets, func(t target) bool { return t.variable == id && !t.count })
	}
	for _, id := range []variables.RuleVariable{variables.Args, variables.ArgsNames, variables.RequestHeaders, variables.RequestCookies} {
		if has(id) {
			return id.Name()
		}
	}
	return "other"
}

// newClass makes the automata of conditions.
func newClass(list []*condition) *class {
	c := &class{}
	slices.SortStableFunc(list, func(a, b *condition) int { return a.chain - b.chain })
	var expressions, bytes, lists []*condition
	for _, cond := range list {
		if _, ok := cond.operator.(*phrases); ok {
			lists = append(lists, cond)
		} else if _, inBytes, ok := cond.expression(); ok && inBytes {
			bytes = append(bytes, cond)
		} else if ok {
			expressions = append(expressions, cond)
		} else {
			c.others = append(c.others, cond)
		}
	}
	// Long expressions, of counted repetitions, have many states: together they
	// would have the product.
	long := func(cond *condition) bool { return size(cond) > longExpression }
	for some := range slices.Chunk(slices.DeleteFunc(slices.Clone(expressions), long), together) {
		c.scans = append(c.scans, c.scansOf(some, dfa.Compile)...)
	}
	for some := range slices.Chunk(slices.DeleteFunc(expressions, func(cond *condition) bool { return !long(cond) }), 3) {
		c.scans = append(c.scans, c.scansOf(some, dfa.Compile)...)
	}
	for some := range slices.Chunk(bytes, together) {
		c.scans = append(c.scans, c.scansOf(some, dfa.CompileBytes)...)
	}
	for some := range slices.Chunk(lists, 64) {
		g := newGroup(some)
		var all [][]string
		for _, cond := range some {
			all = append(all, cond.operator.(*phrases).list)
		}
		g.set = newPhraseSet(all)
		c.phrases = append(c.phrases, g)
	}
	return c
}

// size is the number of instructions of an expression, 0 if it has none.
func size(cond *condition) int {
	expr, _, _ := cond.expression()
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return 0
	}
	prog, err := syntax.Compile(re.Simplify())
	if err != nil {
		return 0
	}
	return len(prog.Inst)
}

// scansOf makes one automaton of expressions, or several if they are too many
// for one; an expression that has none is evaluated by itself.
func (c *class) scansOf(some []*condition, compile func(...string) (*dfa.DFA, error)) []*group {
	var exprs []string
	for _, cond := range some {
		expr, _, _ := cond.expression()
		exprs = append(exprs, expr)
	}
	d, err := compile(exprs...)
	switch {
	case err == nil:
		g := newGroup(some)
		g.dfa = d
		return []*group{g}
	case len(some) == 1 || !errors.Is(err, dfa.ErrTooMany):
		c.others = append(c.others, some...)
		return nil
	}
	half := len(some) / 2
	return append(c.scansOf(some[:half], compile), c.scansOf(some[half:], compile)...)
}

func newGroup(some []*condition) *group {
	g := &group{conditions: some}
	for i, cond := range some {
		at := slices.IndexFunc(g.chained, func(c chained) bool { return c.chain == 1<<cond.chain })
		if at < 0 {
			at = len(g.chained)
			g.chained = append(g.chained, chained{chain: 1 << cond.chain})
		}
		g.chained[at].bits |= 1 << i
		if cond.negated {
			g.negated |= 1 << i
		}
	}
	return g
}

// planFor is what is asked of a value with this key.
func (p *program) planFor(v *variable, key string) *plan {
	lower := strings.ToLower(key)
	signature := ""
	if v.keys[lower] {
		signature = lower
	}
	if key == "" {
		signature = "\x00"
	}
	for i, re := range v.patterns {
		if key != "" && (re.MatchString(key) || re.MatchString(lower)) {
			// Names that differ in case alone may differ here.
			signature += "\x00" + strconv.Itoa(i)
			if !re.MatchString(lower) {
				signature += "!"
			}
		}
	}
	v.mu.RLock()
	pl := v.plans[signature]
	v.mu.RUnlock()
	if pl != nil {
		return pl
	}
	pl = p.newPlan(v, key, lower)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.plans[signature] = pl
	return pl
}

func (p *program) newPlan(v *variable, key, lower string) *plan {
	pl := &plan{want: make(bits, len(p.conditions)/64+1)}
	for _, c := range v.conditions {
		if slices.ContainsFunc(c.targets, func(t target) bool { return t.variable == v.id && !t.count && t.applies(key, lower) }) {
			pl.want.set(c.index)
			pl.chains |= 1 << c.chain
		}
	}
	for _, cl := range p.classes {
		for _, g := range slices.Concat(cl.scans, cl.phrases) {
			u := use{group: g}
			for i, c := range g.conditions {
				if pl.want.has(c.index) {
					u.want |= 1 << i
					u.chains |= 1 << c.chain
				}
			}
			if u.want != 0 {
				pl.groups = append(pl.groups, u)
			}
		}
		for _, c := range cl.others {
			if pl.want.has(c.index) {
				pl.others = append(pl.others, c)
			}
		}
	}
	needed := map[int]bool{}
	for i, ch := range p.chains {
		if pl.chains>>i&1 == 1 && !ch.multi {
			for _, n := range ch.path {
				needed[n] = true
			}
		}
	}
	for n := range p.nodes {
		if needed[n] {
			pl.nodes = append(pl.nodes, n)
		}
	}
	return pl
}

// variant is a value after some chains of transformations.
type variant struct {
	text   string
	chains uint64
}

// work is what the decision about one value needs, used again for the next.
type work struct {
	found    bits
	values   []minded   // by node
	done     [][]result // by function
	variants []variant
	names    []string
	key      []byte
}

// variants transforms a value by every chain of the plan. What transforms to
// the same text is listed once.
func (p *program) variants(pl *plan, value string, w *work) []variant {
	w.begin(p)
	w.values[0] = mindedOf(value)
	for _, n := range pl.nodes {
		at := &p.nodes[n]
		w.values[n], _ = w.apply(at, w.values[at.parent])
	}
	for i, ch := range p.chains {
		switch {
		case pl.chains>>i&1 == 0:
		case ch.multi:
			w.add(value, i)
			at := w.values[0]
			for _, n := range ch.path {
				// As Coraza does: what a transformation says it left as it was is not taken.
				if out, changed := w.apply(&p.nodes[n], at); changed {
					at = out
					w.add(at.text, i)
				}
			}
		case len(ch.path) == 0:
			w.add(value, i)
		default:
			w.add(w.values[ch.path[len(ch.path)-1]].text, i)
		}
	}
	return w.variants
}

// result is what a transformation has made of a text.
type result struct {
	in      string
	out     minded // in, if it failed
	changed bool   // as it says itself
}

func (w *work) begin(p *program) {
	w.values = append(w.values[:0], make([]minded, len(p.nodes))...)
	w.variants = w.variants[:0]
	for len(w.done) < len(p.functions) {
		w.done = append(w.done, nil)
	}
	for i := range w.done {
		w.done[i] = w.done[i][:0]
	}
}

// apply is a transformation. Dozens of chains do the same to the same few
// texts: that is done once, and not at all where nothing minds.
func (w *work) apply(n *node, in minded) (out minded, changed bool) {
	if n.mind != 0 && n.mind&in.by == 0 {
		return in, false
	}
	done := w.done[n.name]
	for i := range done {
		if same(done[i].in, in.text) {
			return done[i].out, done[i].changed
		}
	}
	r := result{in: in.text, out: in}
	if text, changed, err := n.function(in.text); err == nil {
		if r.changed = changed; text != in.text {
			r.out = mindedOf(text)
		}
	}
	w.done[n.name] = append(done, r)
	return r.out, r.changed
}

func (w *work) add(text string, chain int) {
	for i := range w.variants {
		if same(w.variants[i].text, text) {
			w.variants[i].chains |= 1 << chain
			return
		}
	}
	w.variants = append(w.variants, variant{text, 1 << chain})
}

func same(a, b string) bool {
	return len(a) == len(b) && (unsafe.StringData(a) == unsafe.StringData(b) || a == b)
}

// decide adds to found the conditions that a value may fulfil.
func (p *program) decide(pl *plan, value string, w *work, found bits) {
	for _, v := range p.variants(pl, value, w) {
		for _, u := range pl.groups {
			if u.chains&v.chains != 0 {
				u.decide(v, found)
			}
		}
		for _, c := range pl.others {
			if v.chains>>c.chain&1 == 1 && !found.has(c.index) && c.holds(v.text) {
				found.set(c.index)
			}
		}
	}
}

func (u *use) decide(v variant, found bits) {
	want := u.want
	if u.chains&^v.chains != 0 {
		var of uint64
		for _, c := range u.chained {
			if v.chains&c.chain != 0 {
				of |= c.bits
			}
		}
		want &= of
	}
	var hits uint64
	if u.set != nil {
		hits = u.set.find(v.text, want)
	} else {
		var ok bool
		if hits, ok = u.dfa.Scan(v.text, want); !ok {
			hits |= u.each(v.text, want&^hits)
		}
	}
	hits = (hits ^ u.negated) & want
	for i := 0; hits != 0; i, hits = i+1, hits>>1 {
		if hits&1 == 1 {
			found.set(u.conditions[i].index)
		}
	}
}

// each is what the automaton would have said, from one expression after another.
func (u *use) each(text string, want uint64) (hits uint64) {
	for i, c := range u.conditions {
		if want>>i&1 == 1 && c.operator.Evaluate(quiet{}, text) {
			hits |= 1 << i
		}
	}
	return hits
}

// holds asks the operator itself, unless the text has nothing that it needs.
func (c *condition) holds(text string) bool {
	if c.needs != "" && !strings.ContainsAny(text, c.needs) {
		return c.negated
	}
	return c.operator.Evaluate(quiet{}, text) != c.negated
}
