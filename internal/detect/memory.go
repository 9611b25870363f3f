package detect

import (
	"container/heap"
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"time"

	"pasban"
)

// Limits bound what the correlations of one engine remember together. Where a
// bound is reached the group that was longest without an event is forgotten,
// and counted (see [Engine.Memory]); within a group, the oldest hit.
type Limits struct {
	Groups int           // groups of all correlations
	Hits   int           // hits of one group; thresholds above DefaultLimits' are refused
	Total  int           // hits of all groups; a hit takes about 100 bytes
	Late   time.Duration // how long after its end a window that closes waits for events that come late
	Ahead  time.Duration // how far ahead of the clock an event's time may be
}

// DefaultLimits hold at most about 200 MB.
func DefaultLimits() Limits {
	return Limits{Groups: 200_000, Hits: 10_000, Total: 1_000_000, Late: time.Minute, Ahead: 24 * time.Hour}
}

// Memory is what the correlations remember, and what they could not.
type Memory struct {
	Groups    int // groups in memory
	Hits      int // hits in memory
	Forgotten int // groups given up within their window because a limit was reached
	Late      int // hits that came after their window had closed
}

// Memory tells what the correlations remember.
func (e *Engine) Memory() Memory {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.set().memory
	return Memory{Groups: m.groups.count, Hits: m.hits, Forgotten: m.forgotten, Late: m.late}
}

// memory is what the correlations of a set have seen. The engine's mutex covers it.
type memory struct {
	limits    Limits
	groups    groupTable
	order     group // a ring: order.next was longest without an event, order.prev had the last
	hits      int
	numbers   map[identity]uint32
	free      []*group // forgotten ones, to be used again
	open      openWindows
	latest    int64 // the newest event, in ms since 1970
	horizon   int64 // times up to here are not too far ahead
	forgotten int
	late      int
	key       []byte
	text      []byte
	counted   []hit // what an occurrence counts for
}

func newMemory(limits Limits) *memory {
	m := &memory{limits: limits, groups: newGroupTable(), numbers: map[identity]uint32{}}
	m.order.next, m.order.prev = &m.order, &m.order
	return m
}

// moment is when an event counts as having happened, in ms since 1970. A time
// from before computers kept logs, or too far ahead of the clock, is a mistake:
// such an event counts with the newest one.
func (m *memory) moment(t time.Time) int64 {
	at := t.UnixMilli()
	if at > m.horizon {
		m.horizon = time.Now().UnixMilli() + m.limits.Ahead.Milliseconds()
	}
	const oldest = 315532800_000 // 1980
	if at < oldest || at > m.horizon {
		if m.latest == 0 {
			m.latest = time.Now().UnixMilli()
		}
		return m.latest
	}
	m.latest = max(m.latest, at)
	return at
}

// identity tells a correlation that did not change from every other.
type identity struct {
	id   string
	text [32]byte
}

// number is the same for a correlation that did not change.
func (m *memory) number(r *Rule) uint32 {
	key := identity{r.ID, r.text}
	n, ok := m.numbers[key]
	if !ok {
		n = uint32(len(m.numbers))
		m.numbers[key] = n
	}
	return n
}

// group is what a correlation has seen of one group: in the window that ends
// with its newest event or, if closes is set, in one that ends there.
type group struct {
	key        []byte
	hash       uint64
	prev, next *group
	rule       *Rule
	over       int64 // when its newest hit has left the window; of no use if closes is set
	hits       []hit // by time
	values     distinct
	sum        float64
	drift      int     // hits taken from sum since it was made anew
	seen       []int32 // by rule: how many hits it has
	chain      []int64 // by rule: when the newest run of rules up to it, in order, began; 0 for none
	unnamed    int     // hits that no match has named
	room       struct {
		key  [24]byte
		hits [1]hit
	} // where key and hits are while they are short: most groups stay so

	closes int64 // when the window ends, in ms since 1970; 0 if it goes with the events
	place  int   // in the heap of open windows
	count  int   // of a closing window: all hits, also those no longer kept
	last   pasban.Event
	weight int // of last
}

// hit is one match of a rule that the correlation refers to.
type hit struct {
	at     int64 // ms since 1970
	ref    Ref
	value  string
	number float64
	rule   int32
	named  bool // a match has named it
}

// openWindows is a heap: the window that closes first is at the top.
type openWindows []*group

func (o openWindows) Len() int           { return len(o) }
func (o openWindows) Less(i, j int) bool { return o[i].closes < o[j].closes }
func (o openWindows) Swap(i, j int) {
	o[i], o[j] = o[j], o[i]
	o[i].place, o[j].place = i, j
}
func (o *openWindows) Push(g any) {
	g.(*group).place = len(*o)
	*o = append(*o, g.(*group))
}
func (o *openWindows) Pop() any {
	old := *o
	g := old[len(old)-1]
	old[len(old)-1] = nil
	*o = old[:len(old)-1]
	return g
}

// occurrence is one rule holding for one event.
type occurrence struct {
	rule   *Rule
	number int32 // among the rules over single events, -1 for a correlation
	at     int64
	ref    Ref
	event  *lazyEvent
	m      *machine
	match  *Match // of a correlation
}

// lazyEvent is an event that is decoded when it is needed.
type lazyEvent struct {
	ev      pasban.Event
	raw     []byte // its JSON, if ev is not there yet
	sources []Logsource
	again   bool // it is matched a second time, to remember what it meant
}

func (l *lazyEvent) get() pasban.Event {
	if l.ev == nil {
		l.ev = decodeEvent(l.raw, l.sources)
	}
	return l.ev
}

// weight is how many hits the event counts as where it is kept.
func (l *lazyEvent) weight() int { return 8 + len(l.raw)/64 }

// full is the occurrence as a match.
func (o *occurrence) full() Match {
	if o.match == nil {
		o.match = &Match{Rule: o.rule, Time: o.ref.Time, Entity: o.m.record.entity(), Event: o.event.get(), Refs: []Ref{o.ref}}
		o.match.Why, o.match.Parts = o.m.why(o.number, o.rule.Fields)
	}
	return *o.match
}

// add counts an occurrence for a correlation. It returns the correlation's own
// match if its condition holds now.
func (m *memory) add(u *user, o *occurrence) (Match, bool) {
	c := u.rule.correlation
	if !m.keyOf(c, u, o) {
		return Match{}, false
	}
	var ends int64
	if c.closes {
		span := c.span.Milliseconds()
		ends = (o.at/span + 1) * span
		if ends+m.limits.Late.Milliseconds() <= m.latest {
			m.late++
			return Match{}, false
		}
		m.key = binary.LittleEndian.AppendUint64(m.key, uint64(ends))
	}
	h := hit{at: o.at, ref: o.ref, rule: u.index}
	hits := m.hitsOf(c, u, o, h)
	if len(hits) == 0 {
		return Match{}, false
	}
	g := m.group(u.rule, ends)
	if ends > 0 {
		for _, h := range hits {
			m.collect(g, h)
		}
		m.remember(g, o.event)
		m.bound()
		return Match{}, false
	}
	within := false
	for _, h := range hits {
		within = m.insert(g, h) || within
	}
	m.bound()
	if x := c.figure(g); within && c.holds(x) {
		return m.fired(g, x, o.entityFor(g.rule), o.full()), true
	}
	return Match{}, false
}

// keyOf writes the key of the occurrence's group. An event that lacks a field of
// the group belongs to no group.
func (m *memory) keyOf(c *correlation, u *user, o *occurrence) bool {
	m.key = binary.LittleEndian.AppendUint32(m.key[:0], c.number)
	for _, field := range u.group {
		text := o.m.record.firstText(field)
		if len(text) == 0 {
			return false
		}
		m.key = binary.AppendUvarint(m.key, uint64(len(text)))
		m.key = append(m.key, text...)
	}
	return true
}

// group returns the group under the key that has been written, and makes it the
// newest.
func (m *memory) group(r *Rule, ends int64) *group {
	hash := m.groups.hash(m.key)
	g := m.groups.get(m.key, hash)
	if g == nil {
		if n := len(m.free); n > 0 {
			g, m.free = m.free[n-1], m.free[:n-1]
		} else {
			g = &group{}
			g.hits = g.room.hits[:0]
		}
		g.key, g.hash, g.closes = append(g.room.key[:0], m.key...), hash, ends
		m.groups.put(g)
		if ends > 0 {
			heap.Push(&m.open, g)
		}
	} else {
		g.prev.next, g.next.prev = g.next, g.prev
	}
	g.rule = r
	g.prev, g.next = m.order.prev, &m.order
	g.prev.next, g.next.prev = g, g
	return g
}

// entityFor is what people call the group that the occurrence belongs to.
func (o *occurrence) entityFor(r *Rule) string {
	c := r.correlation
	if len(c.groupBy) == 0 {
		if o.match != nil {
			return o.match.Entity
		}
		return o.m.record.entity()
	}
	var names []string
	for _, name := range c.groupBy {
		names = append(names, o.m.record.fieldText(c.fieldOf(name, o.rule)))
	}
	return strings.Join(names, ", ")
}

// hitsOf is what an occurrence counts for: one hit, or one for each value of the
// field. An event without the field does not count there. The list is good
// until the next call.
func (m *memory) hitsOf(c *correlation, u *user, o *occurrence, h hit) []hit {
	r := o.m.record
	if m.counted = m.counted[:0]; cap(m.counted) > maxKept/64 { // a single event had so many values
		m.counted = nil
	}
	switch {
	case len(u.values) == 0:
		m.counted = append(m.counted, h)
		return m.counted
	case len(u.values) > 1: // of several fields: the values together
		m.text = m.text[:0]
		for _, field := range u.values {
			text := r.firstText(field)
			if len(text) == 0 {
				return nil
			}
			m.text = binary.AppendUvarint(m.text, uint64(len(text)))
			m.text = append(m.text, text...)
		}
		h.value = string(m.text)
		m.counted = append(m.counted, h)
		return m.counted
	}
	for at := r.first[u.values[0]]; at != 0; at = r.values[at].next {
		if r.values[at].kind < textValue || len(r.text(at)) == 0 {
			continue
		}
		if c.kind == valueCount {
			h.value = string(r.text(at))
		} else {
			f, ok := r.number(at)
			if !ok {
				continue
			}
			h.number = f
		}
		m.counted = append(m.counted, h)
	}
	return m.counted
}

// insert puts a hit in its place by time and drops what has left the window. It
// reports whether the hit itself is still within.
func (m *memory) insert(g *group, h hit) bool {
	at := len(g.hits)
	for at > 0 && g.hits[at-1].at > h.at {
		at--
	}
	late := at < len(g.hits)
	g.hits = slices.Insert(g.hits, at, h)
	m.keep(g, &h, 1)
	g.tally(&h, 1)
	newest, span := g.hits[len(g.hits)-1].at, g.rule.correlation.span.Milliseconds()
	g.over = newest + span
	gone := max(0, len(g.hits)-m.limits.Hits)
	for gone < len(g.hits) && newest-g.hits[gone].at >= span {
		gone++
	}
	for i := range g.hits[:gone] {
		m.keep(g, &g.hits[i], -1)
		g.tally(&g.hits[i], -1)
		g.hits[i] = hit{}
	}
	if g.hits = g.hits[gone:]; len(g.hits) < cap(g.hits)/4 {
		g.hits = slices.Clone(g.hits)
	}
	if g.drift += gone; g.drift > len(g.hits) || g.sum-g.sum != 0 { // what comes and goes leaves errors behind
		g.drift, g.sum = 0, 0
		for i := range g.hits {
			g.sum += g.hits[i].number
		}
	}
	if g.rule.correlation.ordered() {
		if late {
			g.chain = g.chain[:0]
			for i := range g.hits {
				g.follow(&g.hits[i])
			}
		} else {
			g.follow(&h)
		}
	}
	return at >= gone
}

// keep notes that a hit is kept, or with n -1 that it is not any longer.
func (m *memory) keep(g *group, h *hit, n int) {
	m.hits += n
	if !h.named {
		g.unnamed += n
	}
}

// tally adds a hit to the group's figures, or with n -1 takes it away.
func (g *group) tally(h *hit, n int) {
	c := g.rule.correlation
	switch c.kind {
	case valueCount:
		g.values.add(h.value, n)
	case temporal:
		if len(g.seen) == 0 {
			g.seen = zeros(g.seen, len(c.rules))
		}
		g.seen[h.rule] += int32(n)
	default:
		g.sum += h.number * float64(n)
	}
}

// zeros makes n of them where list is, or anew.
func zeros[T any](list []T, n int) []T {
	if cap(list) < n {
		return make([]T, n)
	}
	clear(list[:n])
	return list[:n]
}

// follow goes on with the runs of rules in order.
func (g *group) follow(h *hit) {
	c := g.rule.correlation
	if len(g.chain) == 0 {
		g.chain = zeros(g.chain, len(c.rules))
	}
	for i := len(c.rules) - 1; i >= 0; i-- {
		switch {
		case c.rules[i] != c.rules[h.rule]:
		case i == 0:
			g.chain[0] = h.at
		case g.chain[i-1] != 0:
			g.chain[i] = g.chain[i-1]
		}
	}
}

// collect adds a hit to a window that closes. What is counted is not bounded by
// how many hits are kept, which are the newest.
func (m *memory) collect(g *group, h hit) {
	g.count++
	if g.values.len() < m.limits.Hits || g.values.has(h.value) {
		g.tally(&h, 1)
	}
	g.hits = append(g.hits, h)
	m.keep(g, &h, 1)
	if len(g.hits) > m.limits.Hits {
		old := len(g.hits)/8 + 1
		for i := range g.hits[:old] {
			m.keep(g, &g.hits[i], -1)
		}
		g.hits = slices.Delete(g.hits, 0, old)
	}
}

// remember keeps the newest event of a window that closes. It counts as hits,
// by its size.
func (m *memory) remember(g *group, ev *lazyEvent) {
	m.hits += ev.weight() - g.weight
	g.last, g.weight = ev.get(), ev.weight()
}

// figure is what the condition compares.
func (c *correlation) figure(g *group) float64 {
	switch c.kind {
	case eventCount:
		return float64(max(g.count, len(g.hits)))
	case valueCount:
		return float64(g.values.len())
	case temporal:
		n := 0
		for i, r := range c.rules {
			if g.seen[slices.Index(c.rules, r)] > 0 && slices.Index(c.rules, r) == i {
				n++
			}
		}
		return float64(n)
	case temporalOrdered:
		return float64(c.inOrder(g))
	case valueSum:
		return g.sum
	case valueAvg:
		return g.sum / float64(max(g.count, 1))
	}
	numbers := make([]float64, len(g.hits))
	for i := range g.hits {
		numbers[i] = g.hits[i].number
	}
	slices.Sort(numbers)
	switch c.kind {
	case valueMin:
		return numbers[0]
	case valueMax:
		return numbers[len(numbers)-1]
	case valueMedian:
		return (numbers[(len(numbers)-1)/2] + numbers[len(numbers)/2]) / 2
	}
	rank := int(math.Ceil(c.percentile / 100 * float64(len(numbers)))) // nearest rank
	return numbers[max(rank, 1)-1]
}

// inOrder is how many of the rules, from the first, have matched in order.
func (c *correlation) inOrder(g *group) (n int) {
	if g.closes > 0 {
		slices.SortStableFunc(g.hits, func(a, b hit) int { return int(a.at - b.at) })
		for i := range g.hits {
			g.follow(&g.hits[i])
		}
	}
	newest := g.hits[len(g.hits)-1].at
	for i, began := range g.chain {
		if began != 0 && newest-began < c.span.Milliseconds() {
			n = i + 1
		}
	}
	return n
}

// fired makes the correlation's match. It names the hits that no match has named.
func (m *memory) fired(g *group, x float64, entity string, cause Match) Match {
	out := Match{Rule: g.rule, Time: cause.Time, Entity: entity, Event: cause.Event}
	out.Why = append([]string{g.rule.correlation.why(x, entity)}, cause.Why...)
	out.Parts = append([]string{""}, cause.Parts...)
	for i := len(g.hits) - 1; i >= 0 && g.unnamed > 0; i-- {
		if h := &g.hits[i]; !h.named {
			h.named = true
			g.unnamed--
			out.Refs = append(out.Refs, h.ref)
		}
	}
	slices.Reverse(out.Refs)
	if len(cause.Refs) > 0 {
		out.Refs = append(out.Refs, cause.Refs[len(cause.Refs)-1])
	}
	out.Refs = slices.Compact(out.Refs)
	return out
}

// bound forgets the oldest groups until the limits hold, and those whose window
// is long over.
func (m *memory) bound() {
	for {
		g := m.order.next
		if g == &m.order || g == m.order.prev {
			return // the newest stays: it is bounded by itself
		}
		over := g.closes == 0 && m.latest >= g.over
		if !over && m.groups.count <= m.limits.Groups && m.hits <= m.limits.Total {
			return
		}
		if !over {
			m.forgotten++
		}
		m.forget(g)
		if len(m.free) < maxFree {
			g.clear()
			m.free = append(m.free, g)
		}
	}
}

// clear makes a forgotten group ready to be another.
func (g *group) clear() {
	values, seen, chain := g.values, g.seen[:0], g.chain[:0]
	values.reset()
	*g = group{values: values, seen: seen, chain: chain}
	g.hits = g.room.hits[:0]
}

// maxFree is how many forgotten groups are kept to be used again.
const maxFree = 1024

func (m *memory) forget(g *group) {
	g.prev.next, g.next.prev = g.next, g.prev
	m.groups.drop(g)
	m.hits -= len(g.hits) + g.weight
	if g.closes > 0 {
		heap.Remove(&m.open, g.place)
	}
}

// closed takes the windows that have closed out of memory and returns those of
// which the condition holds, with its figure.
func (m *memory) closed(until int64) (out []*group, figures []float64) {
	for len(m.open) > 0 && m.open[0].closes <= until {
		g := m.open[0]
		m.forget(g)
		if x := g.rule.correlation.figure(g); g.rule.correlation.holds(x) {
			out, figures = append(out, g), append(figures, x)
		}
	}
	return out, figures
}

// inherit takes over what an older memory knows of correlations that did not change.
func (m *memory) inherit(old *memory, rules []*Rule) {
	m.latest, m.forgotten, m.late = old.latest, old.forgotten, old.late
	now := map[uint32]*Rule{} // by their number in the old memory
	for _, r := range rules {
		if r.correlation != nil {
			if n, ok := old.numbers[identity{r.ID, r.text}]; ok {
				now[n] = r
			}
		}
	}
	for g := old.order.next; g != &old.order; {
		next := g.next
		if r := now[binary.LittleEndian.Uint32(g.key)]; r != nil {
			binary.LittleEndian.PutUint32(g.key, r.correlation.number)
			g.hash, g.rule = m.groups.hash(g.key), r
			m.groups.put(g)
			m.hits += len(g.hits) + g.weight
			g.prev, g.next = m.order.prev, &m.order
			g.prev.next, g.next.prev = g, g
			if g.closes > 0 {
				heap.Push(&m.open, g)
			}
		}
		g = next
	}
}
