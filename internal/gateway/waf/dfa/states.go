package dfa

import (
	"bytes"
	"regexp/syntax"
	"slices"
	"sync"
	"sync/atomic"
)

// search is how an automaton looks for matches.
type search uint8

const (
	anywhere  search = iota // of several expressions, all that begin anywhere, in no order
	preferred               // the one that package regexp prefers: of those that begin first, the first by the expression
	here                    // all that begin where the walk begins, in no order
)

// automaton is a program and the states that texts have asked for.
type automaton struct {
	*program
	search search
	slots  int // most transitions of a table's wide states
	table  atomic.Pointer[table]
	money  atomic.Int64 // transitions that may be made

	mu     sync.Mutex // covers making states: what follows and the maps of tables
	work   workspace
	begins []*begin // by context and class: where matches that begin there lead

	closures []*closure // of instructions, as far as they are known
	room     int        // for instructions in more of them
}

func newAutomaton(p *program, how search, slots int) *automaton {
	a := &automaton{program: p, search: how, slots: slots, room: mostClosed}
	a.closures = make([]*closure, len(p.insts))
	a.work = newWorkspace(len(p.insts))
	a.begins = make([]*begin, int(contexts)*len(p.example))
	a.money.Store(firstMoney)
	a.table.Store(a.newTable())
	return a
}

// table is one generation of states; a full one is left to those who walk on it.
type table struct {
	starts [contexts]*state  // by what precedes the walk
	states map[uint64]*state // by a hash of what they are
	slots  int               // transitions of wide states
	narrow int               // narrow states
}

// state is the instructions that wait for the next character, and what the
// previous one was. The first states of a table are wide, with a place for every
// class; those that a text asks for after them have a list.
type state struct {
	hits   uint64 // the expressions that match where this state is entered
	insts  []uint32
	before context
	done   bool                    // nothing begins any more
	wide   []atomic.Pointer[state] // where classes lead, nil until it is asked for
	narrow atomic.Pointer[leads]   // likewise, if wide is nil
	other  *state                  // with the same hash
}

// leads is where some classes lead.
type leads struct {
	classes []byte
	to      []*state
}

// next is where a class leads, nil if nobody has asked for it yet.
func (s *state) next(class int) *state {
	if class < len(s.wide) {
		return s.wide[class].Load()
	}
	return s.listed(class)
}

func (s *state) listed(class int) *state {
	if l := s.narrow.Load(); l != nil {
		if i := bytes.IndexByte(l.classes, byte(class)); i >= 0 {
			return l.to[i]
		}
	}
	return nil
}

// lead notes where a class leads. Only one goroutine may be in it.
func (s *state) lead(class int, to *state) {
	if s.wide != nil {
		s.wide[class].Store(to)
		return
	}
	l := s.narrow.Load()
	if l == nil {
		l = &leads{}
	}
	// Who reads the list as it was does not look beyond its end.
	s.narrow.Store(&leads{append(l.classes, byte(class)), append(l.to, to)})
}

func (s *state) is(like *state) bool {
	return s.hits == like.hits && s.before == like.before && s.done == like.done && slices.Equal(s.insts, like.insts)
}

// closure is the instructions that wait for a character, and the expressions
// that match.
type closure struct {
	hits  uint64
	takes []uint32
}

// begin is what a match that begins before a character has led to after it.
type begin struct {
	hits  uint64
	insts []uint32
}

// earn gives credit for the bytes of a text beyond what its own transitions
// have used up. A text for which there was no credit earns too: without
// transitions it takes more time than they would.
func (a *automaton) earn(bytes, made int) {
	if n := bytes/bytesEarn - made; n > 0 && a.money.Load() < mostMoney {
		a.money.Add(int64(n))
	}
}

// make finds where a class of characters leads from a state, and counts what it
// made. Without credit nothing is kept of it: an automaton of one expression
// goes on, which takes less time than package regexp, and others return nil.
func (a *automaton) make(s *state, class int, made *int) *state {
	paid := a.money.Add(-1) >= 0
	if !paid {
		a.money.Store(0)
		if a.search == anywhere {
			return nil
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if next := s.next(class); next != nil {
		return next // someone was faster
	}
	next := a.step(s, class, paid)
	if paid {
		s.lead(class, next)
		*made++
	}
	return next
}

// step is make without credit and lock.
func (a *automaton) step(s *state, class int, keep bool) *state {
	hits, insts := uint64(0), a.work.next[:0]
	if len(s.insts) > 0 {
		hits, insts = a.advance(insts, s.insts, s.before, class)
	}
	done := s.done || a.search == preferred && hits != 0
	if !done {
		fresh := a.begin(s.before, class)
		hits |= fresh.hits
		insts = append(insts, fresh.insts...)
		done = a.search == preferred && hits != 0
	}
	a.work.next = insts
	like := &a.work.like
	like.hits, like.insts, like.before, like.done = hits, a.tidy(insts), contextOf(a.example[class]), done
	if class == a.end() {
		like.insts, like.before = nil, nothing
	}
	return a.intern(like, keep)
}

// begin is where a match leads that begins before a character of the class.
func (a *automaton) begin(before context, class int) *begin {
	at := &a.begins[int(before)*len(a.example)+class]
	if *at == nil {
		b := &begin{}
		b.hits, b.insts = a.advance(nil, a.starts, before, class)
		b.insts = a.tidy(b.insts)
		*at = b
	}
	return *at
}

// advance takes instructions over a character of the class: the expressions
// that have matched before it, and, appended to insts, the instructions that
// wait after it. In the preferred order nothing follows behind a match.
func (a *automaton) advance(insts, from []uint32, before context, class int) (hits uint64, _ []uint32) {
	last := class == a.end()
	flags := emptyFlags(before, a.example[class], last)
	for _, pc := range from {
		c := a.closure(pc, flags)
		hits |= c.hits
		if !last {
			for _, pc := range c.takes {
				if in := &a.insts[pc]; a.sets[in.arg].has(class) {
					insts = append(insts, in.out)
				}
			}
		}
		if hits != 0 && a.search == preferred {
			break
		}
	}
	return hits, insts
}

// closure is what follows an instruction without a character. What depends on
// no assertion is remembered.
func (a *automaton) closure(pc uint32, flags syntax.EmptyOp) closure {
	if c := a.closures[pc]; c != nil {
		return *c
	}
	c, always := a.work.close(a.insts, pc, flags, a.search == preferred)
	if n := len(c.takes) + 1; always && n <= a.room {
		a.room -= n
		a.closures[pc] = &closure{c.hits, slices.Clone(c.takes)}
	}
	return c
}

// tidy leaves each instruction once, where order matters at its first place.
func (a *automaton) tidy(insts []uint32) []uint32 {
	if a.search != preferred {
		slices.Sort(insts)
		return slices.Compact(insts)
	}
	a.work.begin()
	return slices.DeleteFunc(insts, func(pc uint32) bool { return !a.work.first(pc) })
}

// intern returns the state that is like this, the one in the table if it is
// there; a new one is put there to be kept.
func (a *automaton) intern(like *state, keep bool) *state {
	hash := like.hash()
	t := a.table.Load()
	for s := t.states[hash]; s != nil; s = s.other {
		if s.is(like) {
			return s
		}
	}
	s := &state{hits: like.hits, insts: slices.Clone(like.insts), before: like.before, done: like.done}
	if !keep {
		return s
	}
	if t.slots+len(a.example) > a.slots && (a.search == anywhere || t.narrow >= mostNarrow) {
		t = a.newTable()
		a.table.Store(t)
	}
	if t.slots+len(a.example) <= a.slots {
		t.slots += len(a.example)
		s.wide = make([]atomic.Pointer[state], len(a.example))
	} else {
		t.narrow++
	}
	s.other = t.states[hash]
	t.states[hash] = s
	return s
}

// hash is FNV-1a (draft-eastlake-fnv) by words instead of bytes.
func (s *state) hash() uint64 {
	const prime = 1099511628211
	h := (14695981039346656037 ^ uint64(s.before)) * prime
	h = (h ^ s.hits) * prime
	if s.done {
		h = (h ^ 1) * prime
	}
	for _, pc := range s.insts {
		h = (h ^ uint64(pc)) * prime
	}
	return h ^ h>>32
}

func (a *automaton) newTable() *table {
	t := &table{states: map[uint64]*state{}}
	for before := range contexts {
		t.starts[before] = &state{before: before, wide: make([]atomic.Pointer[state], len(a.example))}
		if a.search == here {
			t.starts[before].insts, t.starts[before].done = a.program.starts, true
		}
		t.slots += len(a.example)
	}
	return t
}

// workspace is the set of instructions of one step, reused from step to step.
type workspace struct {
	seen  []uint32 // the step in which an instruction was seen last
	now   uint32
	takes []uint32 // those that wait for a character
	stack []uint32
	next  []uint32 // what a step leads to
	like  state    // likewise
}

func newWorkspace(n int) workspace { return workspace{seen: make([]uint32, n)} }

func (w *workspace) begin() {
	w.now++
	if w.now == 0 {
		clear(w.seen)
		w.now = 1
	}
}

// first reports whether an instruction is seen for the first time.
func (w *workspace) first(pc uint32) bool {
	if w.seen[pc] == w.now {
		return false
	}
	w.seen[pc] = w.now
	return true
}

// close finds all that follows an instruction without a character, in the order
// of preference, and whether it follows always. If asked to, it leaves off at the
// first match. What it returns is good until the next one.
func (w *workspace) close(insts []inst, pc uint32, flags syntax.EmptyOp, cut bool) (c closure, always bool) {
	w.begin()
	w.stack, c.takes, always = append(w.stack[:0], pc), w.takes[:0], true
	for len(w.stack) > 0 {
		pc := w.stack[len(w.stack)-1]
		w.stack = w.stack[:len(w.stack)-1]
		if !w.first(pc) {
			continue
		}
		in := &insts[pc]
		switch in.op {
		case match:
			c.hits |= 1 << in.arg
			if cut {
				w.stack = w.stack[:0]
			}
		case fork:
			w.stack = append(w.stack, in.arg, in.out)
		case pass:
			w.stack = append(w.stack, in.out)
		case assert:
			always = false
			if syntax.EmptyOp(in.arg)&^flags == 0 {
				w.stack = append(w.stack, in.out)
			}
		case take:
			c.takes = append(c.takes, pc)
		}
	}
	w.takes = c.takes
	return c, always
}
