package detect

import (
	"slices"
	"strings"

	"pasban"
)

// machine runs a compiled set of rules over one event after another. One
// goroutine uses it at a time.
type machine struct {
	*compiled
	record *record
	event  lazyEvent  // the same
	one    occurrence // of a rule for it, while that is counted
	turn   uint32     // of the event, from 1
	memo   []uint32   // by leaf: turn<<1 | answer
	last   []int32    // by node: the part that settled it the last time
	seen   []uint32   // by rule: the turn in which it was found
	found  []int32    // rules that might hold
	route  *route     // of the event
	routes map[string]*route
	key    []byte
	folded []byte
}

// route is what is done with the events of one set of logsources.
type route struct {
	groups  []*ruleGroup
	sources []Logsource
	aliases []alias
	events  *received // counts them
}

// alias is a field that takes another's values where it has none itself.
type alias struct{ to, from int32 }

// maxRoutes bounds how many sets of logsources are remembered.
const maxRoutes = 4096

func (c *compiled) newMachine() *machine {
	return &machine{
		compiled: c, record: newRecord(c.names),
		memo: make([]uint32, len(c.leaves)), last: make([]int32, len(c.nodes)), seen: make([]uint32, len(c.roots)),
		routes: map[string]*route{},
	}
}

// begin starts a turn: no leaf has been asked yet.
func (m *machine) begin() {
	m.nextTurn()
	m.found = m.found[:0]
}

func (m *machine) nextTurn() {
	if m.turn++; m.turn == 1<<31-1 {
		clear(m.memo)
		clear(m.seen)
		m.turn = 1
	}
}

// routeOf returns the route of events of the given logsources.
func (m *machine) routeOf(sources []Logsource) *route {
	m.key = appendSources(m.key[:0], sources)
	if rt := m.routes[string(m.key)]; rt != nil {
		return rt
	}
	rt := m.newRoute(slices.Clone(sources))
	m.remember(rt)
	return rt
}

// appendSources writes logsources as a key.
func appendSources(key []byte, sources []Logsource) []byte {
	for _, s := range sources {
		for _, part := range []string{s.Product, s.Category, s.Service} {
			key = append(key, part...)
			key = append(key, 0)
		}
	}
	return key
}

func (m *machine) newRoute(sources []Logsource) *route {
	rt := &route{sources: sources, events: m.figures.of(sources)}
	for _, g := range m.groups {
		if g.source.fits(sources) {
			rt.groups = append(rt.groups, g)
		}
	}
	return rt
}

// remember keeps a route under the key that has been written.
func (m *machine) remember(rt *route) {
	if len(m.routes) >= maxRoutes {
		clear(m.routes)
	}
	m.routes[string(m.key)] = rt
}

// run returns the rules that hold for the event in the record, in their order.
// The list is good until the next run.
func (m *machine) run(rt *route) []int32 {
	m.begin()
	for _, a := range rt.aliases {
		if m.record.first[a.to] == 0 {
			m.record.borrow(a.to, a.from)
		}
	}
	m.route = rt
	if m.costs.due() {
		return m.measured(rt)
	}
	for _, g := range rt.groups {
		m.lookIn(g)
	}
	slices.Sort(m.found)
	return m.judge()
}

// lookIn adds the rules of a logsource that the event has a hook of.
func (m *machine) lookIn(g *ruleGroup) {
	m.look(g.rest)
	if g.field < 0 {
		return
	}
	for at := m.record.first[g.field]; at != 0; at = m.record.values[at].next {
		if m.record.values[at].kind < textValue {
			continue
		}
		if f, ok := m.record.number(at); ok {
			m.look(g.byNumber[f])
		}
		if len(g.byWord) > 0 {
			m.look(g.byWord[string(m.record.lower(at))])
		}
	}
}

// judge asks the conditions of the rules that were found.
func (m *machine) judge() []int32 {
	hold := m.found[:0]
	for _, rule := range m.found {
		if m.holds(m.roots[rule]) {
			hold = append(hold, rule)
		}
	}
	m.found = hold
	return hold
}

// look adds the rules of a program that the event has a hook of.
func (m *machine) look(p *program) {
	if p == nil {
		return
	}
	m.find(p.always)
	r := m.record
	for i := range p.present {
		if r.first[p.present[i].field] != 0 {
			m.find(p.present[i].rules)
		}
	}
	for i := range p.scans {
		for at := r.first[p.scans[i].field]; at != 0; at = r.values[at].next {
			if r.values[at].kind >= textValue {
				m.scanField(&p.scans[i], at)
			}
		}
	}
	if p.keywords == nil {
		return
	}
	if p.skim != nil && r.raw != nil && !r.odd {
		m.sift(p.skim, r.raw)
		return
	}
	for _, at := range r.texts() {
		m.scanField(p.keywords, at)
	}
}

func (m *machine) find(rules []int32) {
	for _, rule := range rules {
		if m.seen[rule] != m.turn {
			m.seen[rule] = m.turn
			m.found = append(m.found, rule)
		}
	}
}

// scanField looks for a field's texts in one of its values.
func (m *machine) scanField(s *fieldScan, at int32) {
	text := m.record.text(at)
	if m.record.values[at].wide {
		m.folded = appendFold(m.folded[:0], text)
		text = m.folded
		m.scan(s.wide, text)
	}
	if s.edges != nil {
		m.edge(s.edges, text)
	}
	if s.sieve != nil {
		m.sift(s.sieve, text)
	}
	m.scan(s.short, text)
}

// scan looks for an automaton's texts in folded or ASCII text. It goes through
// the four quarters of a long text at once: the processor waits for memory in
// one while it goes on in the others. A quarter begins earlier by what a text
// that ends in it may reach back.
func (m *machine) scan(a *automaton, text []byte) {
	if a == nil {
		return
	}
	next, ends, class := a.next, a.ends, &a.class
	at, quarter := 0, len(text)/4
	var s, t, u, v uint32
	if quarter >= 4*maxKnown {
		most := quarter + maxKnown + 3 // the last has up to three bytes more
		t1, u1, v1 := text[quarter-maxKnown:], text[2*quarter-maxKnown:], text[3*quarter-maxKnown:]
		for ; at < most && at < len(v1); at++ {
			s, t = next[s+uint32(class[text[at]])], next[t+uint32(class[t1[at]])]
			u, v = next[u+uint32(class[u1[at]])], next[v+uint32(class[v1[at]])]
			if s >= ends || t >= ends || u >= ends || v >= ends {
				m.hits(a, [4]uint32{s, t, u, v}, text, at+1, quarter)
			}
		}
		return
	}
	for ; at < len(text); at++ {
		s = next[s+uint32(class[text[at]])]
		if s >= ends {
			m.hit(a, s, text, at+1)
		}
	}
}

// hits is hit for the four quarters.
func (m *machine) hits(a *automaton, states [4]uint32, text []byte, end, quarter int) {
	for i, state := range states {
		if state >= a.ends {
			m.hit(a, state, text, end+max(0, i*quarter-min(i, 1)*maxKnown))
		}
	}
}

// hit is called where texts of the automaton may end.
func (m *machine) hit(a *automaton, state uint32, text []byte, end int) {
	row := (state - a.ends) / a.stride
	for i := a.from[row]; i < a.from[row+1]; i++ {
		if t := &a.target[i]; t.at(text, end) {
			m.find(t.rules)
		}
	}
}

// holds answers a node. Events of a log are alike: what settled it for the last
// one is asked first.
func (m *machine) holds(at int32) bool {
	n := &m.nodes[at]
	switch n.op {
	case opLeaf:
		return m.ask(n.leaf)
	case opNot:
		return !m.ask(n.leaf)
	}
	if len(n.quick) == 0 {
		return n.op == opAll
	}
	settles := n.op == opAny // a part that holds settles an "or", one that does not an "and"
	last := m.last[at]
	if m.holds(n.quick[last]) == settles {
		return settles
	}
	for i, k := range n.quick {
		if int32(i) != last && m.holds(k) == settles {
			m.last[at] = int32(i)
			return settles
		}
	}
	return !settles
}

// ask answers a leaf, once for an event.
func (m *machine) ask(at int32) bool {
	if was := m.memo[at]; was>>1 == m.turn {
		return was&1 == 1
	}
	yes := m.answer(&m.leaves[at])
	m.memo[at] = m.turn << 1
	if yes {
		m.memo[at] |= 1
	}
	return yes
}

func (m *machine) answer(l *leaf) bool {
	r := m.record
	switch l.kind {
	case leafExists:
		return r.first[l.field] != 0
	case leafNull:
		for at := r.first[l.field]; at != 0; at = r.values[at].next {
			if k := r.values[at].kind; k != nullValue && k != emptyList {
				return false
			}
		}
		return true
	case leafKeyword:
		return slices.ContainsFunc(r.texts(), func(at int32) bool { return l.matcher(r, at) != nil })
	}
	for at := r.first[l.field]; at != 0; at = r.values[at].next {
		if r.values[at].kind >= textValue && m.valueHolds(l, at) {
			return true
		}
	}
	return false
}

func (m *machine) valueHolds(l *leaf, at int32) bool {
	r := m.record
	switch l.kind {
	case leafWords:
		_, ok := l.words[string(r.lower(at))]
		return ok
	case leafNumbers:
		f, ok := r.number(at)
		if ok {
			_, ok = l.numbers[f]
		}
		return ok
	case leafMatch:
		return l.matcher(r, at) != nil
	}
	for _, field := range l.others { // leafRef
		for other := r.first[field]; other != 0; other = r.values[other].next {
			if r.values[other].kind < textValue {
				continue
			}
			if l.ref.cased && l.ref.compares(r.text(at), r.text(other)) || !l.ref.cased && l.ref.compares(r.lower(at), r.lower(other)) {
				return true
			}
		}
	}
	return false
}

// matcher returns the leaf's matcher that holds for a value, nil if none does.
func (l *leaf) matcher(r *record, at int32) matcher {
	for _, m := range l.matchers {
		if m.match(r, at) {
			return m
		}
	}
	return nil
}

// Reasons.

// because is one test of a condition that holds, in words.
type because struct {
	text string
	node int32
	part string // of the rule: the name of a search identifier
}

// partOf names the first search identifier of a rule that a node belongs to.
func (m *machine) partOf(rule, node int32) string {
	for _, p := range m.parts[rule] {
		if m.within(node, p.node) {
			return p.name
		}
	}
	return ""
}

// within reports whether a node is part of another, or the same.
func (m *machine) within(node, whole int32) bool {
	return node == whole || slices.ContainsFunc(m.nodes[whole].kids, func(kid int32) bool { return m.within(node, kid) })
}

// explain appends the reasons for which a node that holds does so.
func (m *machine) explain(at int32, why []because) []because {
	n := &m.nodes[at]
	switch n.op {
	case opLeaf:
		return append(why, because{text: m.reason(&m.leaves[n.leaf]), node: at})
	case opNot:
		if n.neq {
			why = append(why, because{text: m.leaves[n.leaf].opposite(), node: at})
		}
	case opAll:
		for _, k := range n.kids {
			why = m.explain(k, why)
		}
	case opAny:
		for _, k := range n.kids {
			if m.holds(k) {
				if why = m.explain(k, why); !n.each {
					return why
				}
			}
		}
	}
	return why
}

// opposite says that a leaf does not hold, which the rule asked for.
func (l *leaf) opposite() string {
	switch l.kind {
	case leafExists:
		return l.name + " is not there"
	case leafRef:
		return l.name + " is not as the field " + strings.Join(l.ref.others, " or ") + " says"
	}
	return l.name + " is none of the values excluded"
}

// reason says why a leaf holds.
func (m *machine) reason(l *leaf) string {
	r := m.record
	switch l.kind {
	case leafExists:
		return l.name + " is there"
	case leafNull:
		return l.name + " is not there"
	case leafRef:
		return l.name + " is as the field " + strings.Join(l.ref.others, " or ") + " says"
	case leafKeyword:
		for _, at := range r.texts() {
			if found := l.matcher(r, at); found != nil {
				return "the event " + found.words()
			}
		}
	}
	for at := r.first[l.field]; at != 0; at = r.values[at].next {
		if r.values[at].kind < textValue || !m.valueHolds(l, at) {
			continue
		}
		text, words := string(r.text(at)), ""
		switch l.kind {
		case leafWords:
			words = patternMatcher{&pattern{text: l.words[string(r.lower(at))]}, "is"}.words()
		case leafNumbers:
			f, _ := r.number(at)
			words = "is " + l.numbers[f]
		default:
			words = l.matcher(r, at).words()
		}
		if words != "is "+text && words != "is \""+text+"\"" {
			words += ": " + clip(text)
		}
		return l.name + " " + words
	}
	return l.name
}

// borrow gives a field the values of another.
func (r *record) borrow(to, from int32) {
	for at := r.first[from]; at != 0; at = r.values[at].next {
		v := r.values[at]
		v.next = 0
		r.add(to, v)
	}
}

// firstText is the first text of a field, nil if it has none.
func (r *record) firstText(field int32) []byte {
	for at := r.first[field]; at != 0; at = r.values[at].next {
		if r.values[at].kind >= textValue {
			return r.text(at)
		}
	}
	return nil
}

// fieldTexts are the texts of a field that the rules know.
func (r *record) fieldTexts(name string) (out []string) {
	field, ok := r.names.ids[name]
	if !ok {
		return nil
	}
	for at := r.first[field]; at != 0; at = r.values[at].next {
		if r.values[at].kind >= textValue {
			out = append(out, string(r.text(at)))
		}
	}
	return out
}

// fieldText is the first of them, "" if there is none.
func (r *record) fieldText(name string) string {
	if field, ok := r.names.ids[name]; ok {
		return string(r.firstText(field))
	}
	return ""
}

// matchEvent runs the rules over an event that is there as a map.
func (m *machine) matchEvent(ev pasban.Event) []int32 {
	m.record.readEvent(ev)
	return m.run(m.routeOf(Logsources(ev)))
}
