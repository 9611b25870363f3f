package dfa

import (
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
	slots  int // most words in a table's states
	table  atomic.Pointer[table]
	money  atomic.Int64 // states that may be made, or steps for several expressions

	// What follows is covered by mu, like the inner parts of tables. There is a lot
	// of it and it stays: it has no pointers, which each collection would follow.
	mu    sync.Mutex
	work  workspace
	begun []span // by context and class: where matches that begin there lead
	fresh []uint32

	closed  []span // by instruction: what follows it, as far as that is known
	takings []taking
	room    int // for more of them
}

// span is a set of instructions, or of takings, that is kept beside others.
type span struct {
	hits     uint64 // the expressions that match
	from, to uint32
	known    bool
}

func newAutomaton(p *program, how search, slots int) *automaton {
	a := &automaton{program: p, search: how, slots: slots, room: mostClosed}
	a.closed = make([]span, len(p.insts))
	a.work = newWorkspace(len(p.insts))
	a.begun = make([]span, int(contexts)*len(p.example))
	a.money.Store(firstMoney)
	a.table.Store(a.newTable())
	return a
}

// table is one generation of states; a full one is left to those who walk on it.
// Walks read nothing but rows: a step is one word, which is where the next state's
// row begins and all that most walks ask about it, or 0 if nobody has asked for
// it yet. Rows grow by being copied; who walks on a copy that others have left
// behind misses what was added since, asks for it, and goes on in the new one.
type table struct {
	starts [contexts]uint32 // by what precedes the walk
	rows   atomic.Pointer[[]uint32]
	// What follows is for making states.
	states []record         // by their row
	insts  []uint32         // of the states
	known  map[uint64]int32 // by a hash of what they are: the last of them
	words  int              // that the states take, rows and all
}

// record is a state as it is kept.
type record struct {
	hits     uint64
	from, to uint32 // its instructions
	word     uint32
	other    int32 // the one before it with the same hash, 0 if there is none
	before   context
	done     bool
}

// state is the state of a row.
func (t *table) state(row int) state {
	r := &t.states[row]
	return state{r.hits, t.insts[r.from:r.to], r.before, r.done, r.word}
}

// What a step tells about the state that it leads to.
const (
	rowMask    = 1<<24 - 1       // where its row begins; all ones if it has none
	beforeBits = 24              // from here its context, two bits
	isBare     = uint32(1) << 29 // no match is under way
	isDone     = uint32(1) << 30 // no match begins any more
	isHit      = uint32(1) << 31 // something has matched
)

// peek is where a class leads by these rows, 0 if they do not tell.
func peek(rows []uint32, at uint32, class int) uint32 {
	if i := int(at&rowMask) + class; i < len(rows) {
		return atomic.LoadUint32(&rows[i])
	}
	return 0
}

func before(at uint32) context { return context(at >> beforeBits & 3) }

// walk is where a walk stands.
type walk struct {
	table *table
	rows  []uint32
	loose *state    // if its state is in no table: one of spare
	spare *[2]state // of which one is being left and the other entered
}

// walk begins a walk.
func (a *automaton) walk(before context) (w walk, at uint32) {
	t := a.table.Load()
	return walk{table: t, rows: *t.rows.Load()}, t.starts[before]
}

// vacant is where the next state goes that is in no table.
func (w *walk) vacant() *state {
	if w.spare == nil {
		w.spare = new([2]state)
	}
	if w.loose == &w.spare[0] {
		return &w.spare[1]
	}
	return &w.spare[0]
}

// hits are the expressions that match where a state is entered.
func (w *walk) hits(at uint32, stride int) uint64 {
	if at&isHit == 0 {
		return 0
	}
	if w.loose != nil {
		return w.loose.hits
	}
	i := int(at&rowMask) + stride - 2
	if i+1 >= len(w.rows) {
		w.rows = *w.table.rows.Load()
	}
	return uint64(w.rows[i]) | uint64(w.rows[i+1])<<32
}

// stride is the length of a row: classes, and what matches.
func (p *program) stride() int { return len(p.example) + 2 }

// state is the instructions that wait for the next character, and what the
// previous one was.
type state struct {
	hits   uint64 // the expressions that match where this state is entered
	insts  []uint32
	before context
	done   bool   // nothing begins any more
	word   uint32 // what leads to it
}

func (s *state) wordAt(row uint32) uint32 {
	w := row | uint32(s.before)<<beforeBits
	if s.hits != 0 {
		w |= isHit
	}
	if s.done {
		w |= isDone
	}
	if len(s.insts) == 0 {
		w |= isBare
	}
	return w
}

func (s *state) is(like *state) bool {
	return s.hits == like.hits && s.before == like.before && s.done == like.done && slices.Equal(s.insts, like.insts)
}

// taking is an instruction that waits for a character: of which set, and where it
// goes on.
type taking struct{ set, out uint32 }

// earn gives credit for the bytes of a text beyond what its own states have used
// up. A text for which there was no credit earns too: without them it takes more
// time than they would.
func (a *automaton) earn(bytes, made int) {
	each := bytesEarn
	if a.search == anywhere {
		each = manyEarn
	}
	if n := bytes/each - made; n > 0 && a.money.Load() < mostMoney {
		a.money.Add(int64(n))
	}
}

// make finds where a class of characters leads from a state, and counts what is
// to be paid for it. One expression pays for states that are new. Without credit
// nothing is kept of them, and the walk goes on beside the table until it comes
// back to a state that is there: that takes less time than package regexp.
// Several expressions pay for every step, since what they have together is seldom
// there already; without credit the walk gets 0, and each goes by itself.
func (a *automaton) make(w *walk, at uint32, class int, made *int) uint32 {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := w.loose
	if s == nil {
		w.rows = *w.table.rows.Load()
		if next := peek(w.rows, at, class); next != 0 {
			return next // someone was faster
		}
		kept := w.table.state(int(at&rowMask) / a.stride())
		s = &kept
	}
	if a.search == anywhere && !a.pay(made) {
		return 0
	}
	next, loose := a.step(w, s, class, made)
	if loose != nil {
		w.loose = loose
		return next
	}
	now := a.table.Load()
	rows := *now.rows.Load()
	if w.loose == nil && w.table == now {
		atomic.StoreUint32(&rows[int(at&rowMask)+class], next)
	}
	w.table, w.rows, w.loose = now, rows, nil
	return next
}

// pay takes from the credit, if there is any.
func (a *automaton) pay(made *int) bool {
	if a.money.Load() <= 0 {
		return false
	}
	a.money.Add(-1)
	*made++
	return true
}

// step is where a class leads from a state, which is loose if it is in no table.
func (a *automaton) step(w *walk, s *state, class int, made *int) (word uint32, loose *state) {
	hits, insts := uint64(0), a.work.next[:0]
	if len(s.insts) > 0 {
		hits, insts = a.advance(insts, s.insts, s.before, class)
	}
	done := s.done || a.search == preferred && hits != 0
	if !done {
		fresh := a.begin(s.before, class)
		hits |= fresh.hits
		insts = append(insts, a.fresh[fresh.from:fresh.to]...)
		done = a.search == preferred && hits != 0
	}
	a.work.next = insts
	like := &a.work.like
	like.hits, like.insts, like.before, like.done = hits, a.tidy(insts), contextOf(a.example[class]), done
	if class == a.end() {
		like.insts, like.before = nil, nothing
	}
	return a.intern(w, like, made)
}

// begin is where a match leads that begins before a character of the class.
func (a *automaton) begin(before context, class int) *span {
	at := &a.begun[int(before)*len(a.example)+class]
	if !at.known {
		hits, insts := a.advance(nil, a.starts, before, class)
		from := uint32(len(a.fresh))
		a.fresh = append(a.fresh, a.tidy(insts)...)
		*at = span{hits, from, uint32(len(a.fresh)), true}
	}
	return at
}

// advance takes instructions over a character of the class: the expressions
// that have matched before it, and, appended to insts, the instructions that
// wait after it. In the preferred order nothing follows behind a match.
func (a *automaton) advance(insts, from []uint32, before context, class int) (hits uint64, _ []uint32) {
	last := class == a.end()
	flags := emptyFlags(before, a.example[class], last)
	sets, word, bit := a.sets, class/64, uint64(1)<<(class%64)
	for _, pc := range from {
		c := &a.closed[pc]
		takes, also := a.takings[c.from:c.to], c.hits
		if !c.known {
			takes, also = a.closure(pc, flags)
		}
		hits |= also
		if !last {
			for _, t := range takes {
				if sets[t.set][word]&bit != 0 {
					insts = append(insts, t.out)
				}
			}
		}
		if hits != 0 && a.search == preferred {
			break
		}
	}
	return hits, insts
}

// closure is what follows an instruction without a character, if it is not
// remembered; what depends on no assertion is from now on. It is good until the
// next one.
func (a *automaton) closure(pc uint32, flags syntax.EmptyOp) (takes []taking, hits uint64) {
	hits, always := a.work.close(a.insts, pc, flags, a.search == preferred)
	takes = a.work.takes
	if n := len(takes) + 1; always && n <= a.room {
		a.room -= n
		from := uint32(len(a.takings))
		a.takings = append(a.takings, takes...)
		a.closed[pc] = span{hits, from, uint32(len(a.takings)), true}
	}
	return takes, hits
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

// intern is what leads to the state that is like this, the one in the table if it
// is there; a new one is put there if there is credit for it, and is loose if not.
func (a *automaton) intern(w *walk, like *state, made *int) (word uint32, loose *state) {
	hash := like.hash()
	t := a.table.Load()
	for i := t.known[hash]; i != 0; i = t.states[i].other {
		if s := t.state(int(i)); s.is(like) {
			return s.word, nil
		}
	}
	if a.search != anywhere && !a.pay(made) {
		s := w.vacant()
		s.hits, s.insts, s.before, s.done = like.hits, append(s.insts[:0], like.insts...), like.before, like.done
		s.word = s.wordAt(rowMask)
		return s.word, s
	}
	if t.words+a.words(like) > a.slots {
		t = a.newTable()
		a.table.Store(t)
	}
	return a.put(t, like, hash), nil
}

// words is what a state takes of a table.
func (a *automaton) words(s *state) int { return a.stride() + len(s.insts) + stateWords }

// put gives a state a row: what leads to it.
func (a *automaton) put(t *table, s *state, hash uint64) (word uint32) {
	n := a.stride()
	row := len(t.states) * n
	rows := *t.rows.Load()
	if row+n > len(rows) {
		more := make([]uint32, max(len(rows)*2, row+n))
		copy(more, rows)
		rows = more
		defer t.rows.Store(&more)
	}
	rows[row+n-2], rows[row+n-1] = uint32(s.hits), uint32(s.hits>>32)
	word = s.wordAt(uint32(row))
	from := uint32(len(t.insts))
	t.insts = append(t.insts, s.insts...)
	other := t.known[hash]
	t.known[hash] = int32(len(t.states))
	t.states = append(t.states, record{s.hits, from, uint32(len(t.insts)), word, other, s.before, s.done})
	t.words += a.words(s)
	return word
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
	t := &table{known: map[uint64]int32{}}
	// Nothing leads to the first row, so that 0 stands for what is not known.
	t.states = append(t.states, record{})
	rows := make([]uint32, a.stride()*(firstRows))
	t.rows.Store(&rows)
	for before := range contexts {
		s := &state{before: before}
		if a.search == here {
			s.insts, s.done = a.program.starts, true
		}
		t.starts[before] = a.put(t, s, s.hash())
	}
	return t
}

// workspace is the set of instructions of one step, reused from step to step.
type workspace struct {
	seen  []uint32 // the step in which an instruction was seen last
	now   uint32
	takes []taking // what close has found
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
// of preference: what waits for one, in takes, the expressions that match, and
// whether it follows always. If asked to, it leaves off at the first match.
func (w *workspace) close(insts []inst, pc uint32, flags syntax.EmptyOp, cut bool) (hits uint64, always bool) {
	w.begin()
	w.takes, w.stack, always = w.takes[:0], append(w.stack[:0], pc), true
	for len(w.stack) > 0 {
		pc := w.stack[len(w.stack)-1]
		w.stack = w.stack[:len(w.stack)-1]
		if !w.first(pc) {
			continue
		}
		in := &insts[pc]
		switch in.op {
		case match:
			hits |= 1 << in.arg
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
			w.takes = append(w.takes, taking{in.arg, in.out})
		}
	}
	return hits, always
}
