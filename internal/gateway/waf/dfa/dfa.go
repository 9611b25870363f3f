// Package dfa answers which of several regular expressions match, and nothing
// else, in one table look-up for each character.
//
// [Compile] takes what package regexp takes. [DFA.Scan] walks a deterministic
// automaton whose states are sets of the expressions' instructions and whose
// alphabet are the classes of characters that the expressions tell apart. The
// states are made as texts ask for them and shared by all goroutines; nearly
// every text walks on states that are there.
//
// # Guarantees
//
// Scan reports what regexp.Regexp.MatchString reports, for every expression
// and every text, invalid UTF-8 included. Memory is bounded for each automaton.
// Making states uses up a credit that is earned by the length of texts; without
// credit Scan says that it does not know. A text made to need ever new states
// costs a bounded amount more than package regexp.
//
// # What this package must never do
//
// It never guesses: an answer is exact, or there is none.
package dfa

import (
	"encoding/binary"
	"errors"
	"fmt"
	"regexp/syntax"
	"slices"
	"sync"
	"sync/atomic"
	"unicode"
	"unicode/utf8"
)

// Bounds of one automaton.
const (
	// Most is how many expressions one automaton holds.
	Most       = 64
	maxClasses = 250     // classes of characters; expressions with more are refused
	maxSlots   = 1 << 15 // transitions kept for one expression, eight bytes each
	manySlots  = 1 << 18 // and for several
	firstMoney = 1 << 14 // transitions that may be made before texts have earned any
	mostMoney  = 1 << 15
	bytesEarn  = 32 // bytes of text that earn one transition
)

// small is the number of runes whose class is looked up in a table: those of
// one and two bytes in UTF-8, Arabic letters among them.
const small = 0x800

// DFA is a set of compiled expressions. It is safe for concurrent use.
type DFA struct {
	insts   []inst   // of all expressions, one after another
	sets    []set    // what instructions wait for
	starts  []uint32 // where each begins
	slots   int      // most transitions of a table
	bytes   bool     // texts are bytes, each a character
	class   [small]uint8
	bounds  []rune         // where classes begin beyond small, ascending
	offset  int            // class of the first rune beyond small
	invalid int            // class of what is no UTF-8
	asserts syntax.EmptyOp // the assertions that the expressions make
	example []rune         // one rune of each class; the last class is the end of the text

	table atomic.Pointer[table]
	money atomic.Int64 // transitions that may be made

	mu     sync.Mutex // covers making states: what follows and the maps of tables
	work   workspace
	begins []*begin // by context and class: where matches that begin there lead
}

// inst is an instruction of package syntax, without what is only needed to
// compile it: there are a hundred thousand of them.
type inst struct {
	op       op
	out, arg uint32 // arg: the other way, the expression, the assertion, or the index of the set
}

type op uint8

const (
	fail   op = iota
	match     // the expression arg matches
	pass      // go on at out
	fork      // go on at out and at arg
	assert    // go on at out if the assertion arg holds
	take      // wait for a character of the set arg, then go on at out
)

// set is a set of classes of characters.
type set [(maxClasses + 63) / 64]uint64

func (s *set) has(class int) bool { return s[class/64]>>(class%64)&1 != 0 }

// table is one generation of states; a full one is left to those who walk on it.
type table struct {
	start  *state
	states map[uint64]*state // by a hash of what they are
	slots  int
}

// state is a set of instructions that wait for the next character, and what
// the previous one was. next is indexed by class and is nil until it is asked for.
type state struct {
	hits   uint64 // the expressions that match where this state is entered
	insts  []uint32
	before context
	next   []atomic.Pointer[state]
	other  *state // with the same hash
}

func (s *state) is(hits uint64, insts []uint32, before context) bool {
	return s.hits == hits && s.before == before && slices.Equal(s.insts, insts)
}

// begin is what a match that begins before a character has led to after it.
type begin struct {
	hits  uint64
	insts []uint32
}

// context is what matters of the character before a position.
type context uint8

const (
	nothing context = iota // the beginning of the text
	newline
	word
	other
	contexts
)

// ErrTooMany says that expressions do not fit in one automaton.
var ErrTooMany = errors.New("too many classes of characters or expressions")

// Compile makes the automaton of the expressions, with the flags that package
// regexp parses with. Its error is that of the parser, or ErrTooMany.
func Compile(exprs ...string) (*DFA, error) { return compile(exprs, false) }

// CompileBytes is Compile for texts that are taken for bytes, each of them a
// character from U+0000 to U+00FF, as package rsc.io/binaryregexp takes them.
// The expressions must be ASCII.
func CompileBytes(exprs ...string) (*DFA, error) { return compile(exprs, true) }

func compile(exprs []string, bytes bool) (*DFA, error) {
	if len(exprs) > Most {
		return nil, fmt.Errorf("%d expressions: %w", len(exprs), ErrTooMany)
	}
	d := &DFA{slots: maxSlots, bytes: bytes}
	if len(exprs) > 1 {
		d.slots = manySlots
	}
	var progs []syntax.Inst
	for i, expr := range exprs {
		re, err := syntax.Parse(expr, syntax.Perl)
		if err != nil {
			return nil, err
		}
		prog, err := syntax.Compile(re.Simplify())
		if err != nil {
			return nil, err
		}
		progs = d.add(progs, i, prog)
	}
	if err := d.classify(progs); err != nil {
		return nil, err
	}
	d.reduce(progs)
	d.work = newWorkspace(len(d.insts))
	d.begins = make([]*begin, int(contexts)*len(d.example))
	d.money.Store(firstMoney)
	d.table.Store(d.newTable())
	return d, nil
}

// add appends the program of expression i to those before it.
func (d *DFA) add(progs []syntax.Inst, i int, prog *syntax.Prog) []syntax.Inst {
	base := uint32(len(progs))
	for _, in := range prog.Inst {
		in.Out += base
		switch in.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			in.Arg += base
		case syntax.InstMatch:
			in.Arg = uint32(i)
		}
		progs = append(progs, in)
	}
	d.starts = append(d.starts, base+uint32(prog.Start))
	return progs
}

// reduce makes the instructions: what is kept of the programs.
func (d *DFA) reduce(progs []syntax.Inst) {
	known := map[string]uint32{} // sets, by what they were made of
	d.insts = make([]inst, len(progs))
	for pc := range progs {
		from := &progs[pc]
		in := inst{out: from.Out, arg: from.Arg}
		switch from.Op {
		case syntax.InstMatch:
			in.op = match
		case syntax.InstAlt, syntax.InstAltMatch:
			in.op = fork
		case syntax.InstCapture, syntax.InstNop:
			in.op = pass
		case syntax.InstEmptyWidth:
			in.op = assert
			d.asserts |= syntax.EmptyOp(from.Arg)
		case syntax.InstFail:
			in.op = fail
		default:
			in.op, in.arg = take, d.setOf(from, known)
		}
		d.insts[pc] = in
	}
}

// setOf is the index of the classes that an instruction takes.
func (d *DFA) setOf(in *syntax.Inst, known map[string]uint32) uint32 {
	key := append(make([]byte, 0, 64), byte(in.Op), byte(in.Arg)) // Arg: whether case is folded
	for _, r := range in.Rune {
		key = binary.LittleEndian.AppendUint32(key, uint32(r))
	}
	at, ok := known[string(key)]
	if ok {
		return at
	}
	var s set
	for class, r := range d.example[:d.end()] {
		if in.MatchRune(r) {
			s[class/64] |= 1 << (class % 64)
		}
	}
	at = uint32(len(d.sets))
	d.sets, known[string(key)] = append(d.sets, s), at
	return at
}

// classify finds the classes: runs of runes that every instruction treats alike.
func (d *DFA) classify(progs []syntax.Inst) error {
	at := []rune{0, '\n', '\n' + 1, '0', '9' + 1, 'A', 'Z' + 1, '_', '_' + 1, 'a', 'z' + 1}
	for _, in := range progs {
		switch in.Op {
		case syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
			if len(in.Rune) == 1 {
				at = append(at, in.Rune[0], in.Rune[0]+1)
				for r := unicode.SimpleFold(in.Rune[0]); r != in.Rune[0]; r = unicode.SimpleFold(r) {
					at = append(at, r, r+1)
				}
				continue
			}
			for i := 0; i+1 < len(in.Rune); i += 2 {
				at = append(at, in.Rune[i], in.Rune[i+1]+1)
			}
		}
	}
	slices.Sort(at)
	at = slices.Compact(at)
	if len(at) > maxClasses {
		return fmt.Errorf("%d classes of characters: %w", len(at), ErrTooMany)
	}
	d.example = append(slices.Clone(at), utf8.RuneError) // the end of the text stands for no rune
	c := -1
	for r := range rune(small) {
		if c+1 < len(at) && at[c+1] == r {
			c++
		}
		d.class[r] = uint8(c)
	}
	d.offset, d.bounds = c, at[c+1:]
	d.invalid = d.far(utf8.RuneError)
	return nil
}

// far is the class of a rune beyond small.
func (d *DFA) far(r rune) int {
	n, found := slices.BinarySearch(d.bounds, r)
	if found {
		n++
	}
	return d.offset + n
}

func (d *DFA) end() int { return len(d.example) - 1 }

// Scan reports which of the wanted expressions match anywhere in the text; bit
// i stands for expression i. Without ok it does not know: ask package regexp.
func (d *DFA) Scan(text string, want uint64) (hits uint64, ok bool) {
	s := d.table.Load().start
	made := 0
	for i := 0; i < len(text); {
		class, n := 0, 1
		if c := text[i]; c < utf8.RuneSelf {
			class = int(d.class[c])
		} else {
			class, n = d.wide(text[i:])
		}
		i += n
		next := s.next[class].Load()
		if next == nil {
			if next = d.make(s, class); next == nil {
				d.earn(len(text), made)
				return 0, false
			}
			made++
		}
		s = next
		if s.hits != 0 {
			if hits |= s.hits & want; hits == want {
				d.earn(i, made)
				return hits, true
			}
		}
	}
	next := s.next[d.end()].Load()
	if next == nil {
		if next = d.make(s, d.end()); next == nil {
			d.earn(len(text), made)
			return 0, false
		}
		made++
	}
	d.earn(len(text), made)
	return hits | next.hits&want, true
}

// wide is the class of the first character of a text, which is not ASCII, and
// its length.
func (d *DFA) wide(text string) (class, n int) {
	if d.bytes {
		return int(d.class[text[0]]), 1
	}
	// Two bytes, as Arabic letters have: U+0080 to U+07FF.
	if c := text[0]; c >= 0xc2 && c <= 0xdf && len(text) > 1 && text[1]&0xc0 == 0x80 {
		return int(d.class[int(c&0x1f)<<6|int(text[1]&0x3f)]), 2
	}
	r, n := utf8.DecodeRuneInString(text)
	if r == utf8.RuneError {
		return d.invalid, n
	}
	return d.far(r), n
}

// Since looks for the first match of an automaton's only expression. No match
// begins before the position from, and what package regexp finds in text[from:]
// is what it finds in text. Without ok it does not know; found is false if
// nothing matches.
func (d *DFA) Since(text string) (from int, found, ok bool) {
	s := d.table.Load().start
	made, i := 0, 0
	defer func() { d.earn(i, made) }()
	for {
		if len(s.insts) == 0 && d.forgets(s.before) {
			from = i // whatever began before this has come to nothing
		}
		class, n := d.end(), 1
		if i < len(text) {
			if c := text[i]; c < utf8.RuneSelf {
				class = int(d.class[c])
			} else {
				class, n = d.wide(text[i:])
			}
		}
		next := s.next[class].Load()
		if next == nil {
			if next = d.make(s, class); next == nil {
				return 0, false, false
			}
			made++
		}
		if next.hits != 0 || i >= len(text) {
			return from, next.hits != 0, true
		}
		s, i = next, i+n
	}
}

// forgets reports whether the expressions take the beginning of a text for what
// a position after this context is.
func (d *DFA) forgets(before context) bool {
	const begins, words = syntax.EmptyBeginText | syntax.EmptyBeginLine, syntax.EmptyWordBoundary | syntax.EmptyNoWordBoundary
	switch before {
	case nothing:
		return true
	case newline:
		return d.asserts&syntax.EmptyBeginText == 0
	case word:
		return d.asserts&(begins|words) == 0
	}
	return d.asserts&begins == 0
}

// earn gives credit for the bytes of a text beyond what its own transitions
// have used up. A text that was given up earns too: package regexp takes more
// time for it than the transitions would.
func (d *DFA) earn(bytes, made int) {
	if n := bytes/bytesEarn - made; n > 0 && d.money.Load() < mostMoney {
		d.money.Add(int64(n))
	}
}

// make finds where a class of characters leads from a state; nil without credit.
func (d *DFA) make(s *state, class int) *state {
	if d.money.Add(-1) < 0 {
		d.money.Store(0)
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if next := s.next[class].Load(); next != nil {
		return next // someone was faster
	}
	next := d.step(s, class)
	s.next[class].Store(next)
	return next
}

// step is make without credit and lock.
func (d *DFA) step(s *state, class int) *state {
	fresh := d.begin(s.before, class)
	hits := fresh.hits
	insts := append(d.work.next[:0], fresh.insts...)
	if len(s.insts) > 0 {
		h, more := d.advance(s.insts, s.before, class)
		hits |= h
		insts = append(insts, more...)
		slices.Sort(insts)
		insts = slices.Compact(insts)
	}
	d.work.next = insts
	before := contextOf(d.example[class])
	if class == d.end() {
		insts, before = nil, nothing
	}
	return d.intern(hits, insts, before)
}

// begin is where a match leads that begins before a character of the class.
func (d *DFA) begin(before context, class int) *begin {
	at := &d.begins[int(before)*len(d.example)+class]
	if *at == nil {
		b := &begin{}
		b.hits, b.insts = d.advance(d.starts, before, class)
		slices.Sort(b.insts)
		b.insts = slices.Compact(b.insts)
		*at = b
	}
	return *at
}

// advance takes instructions over a character of the class: the expressions
// that have matched before it, and the instructions that wait after it.
func (d *DFA) advance(from []uint32, before context, class int) (hits uint64, insts []uint32) {
	r, last := d.example[class], class == d.end()
	flags := emptyFlags(before, r, last)
	d.work.begin()
	for _, pc := range from {
		hits |= d.work.close(d.insts, pc, flags)
	}
	if last {
		return hits, nil
	}
	for _, pc := range d.work.list {
		if in := &d.insts[pc]; d.sets[in.arg].has(class) {
			insts = append(insts, in.out)
		}
	}
	return hits, insts
}

// intern returns the state with these instructions.
func (d *DFA) intern(hits uint64, insts []uint32, before context) *state {
	hash := hashOf(hits, insts, before)
	t := d.table.Load()
	for s := t.states[hash]; s != nil; s = s.other {
		if s.is(hits, insts, before) {
			return s
		}
	}
	if t.slots += len(d.example); t.slots > d.slots {
		t = d.newTable()
		t.slots += len(d.example)
		d.table.Store(t)
	}
	s := &state{hits: hits, insts: slices.Clone(insts), before: before, next: make([]atomic.Pointer[state], len(d.example)), other: t.states[hash]}
	t.states[hash] = s
	return s
}

// hashOf is FNV-1a (draft-eastlake-fnv) by words instead of bytes.
func hashOf(hits uint64, insts []uint32, before context) uint64 {
	const prime = 1099511628211
	h := (14695981039346656037 ^ uint64(before)) * prime
	h = (h ^ hits) * prime
	for _, pc := range insts {
		h = (h ^ uint64(pc)) * prime
	}
	return h ^ h>>32
}

func (d *DFA) newTable() *table {
	start := &state{next: make([]atomic.Pointer[state], len(d.example))}
	return &table{start: start, states: map[uint64]*state{}, slots: len(d.example)}
}

func contextOf(r rune) context {
	switch {
	case r == '\n':
		return newline
	case syntax.IsWordChar(r):
		return word
	}
	return other
}

// emptyFlags says which assertions hold between a character and the next one.
func emptyFlags(before context, r rune, last bool) syntax.EmptyOp {
	var flags syntax.EmptyOp
	switch before {
	case nothing:
		flags |= syntax.EmptyBeginText | syntax.EmptyBeginLine
	case newline:
		flags |= syntax.EmptyBeginLine
	}
	if last {
		flags |= syntax.EmptyEndText | syntax.EmptyEndLine
	} else if r == '\n' {
		flags |= syntax.EmptyEndLine
	}
	if (before == word) != (!last && syntax.IsWordChar(r)) {
		return flags | syntax.EmptyWordBoundary
	}
	return flags | syntax.EmptyNoWordBoundary
}

// workspace is the set of instructions of one step, reused from step to step.
type workspace struct {
	seen  []uint32 // the step in which an instruction was seen last
	now   uint32
	list  []uint32 // those that wait for a character
	stack []uint32
	next  []uint32 // what a step leads to
}

func newWorkspace(n int) workspace { return workspace{seen: make([]uint32, n)} }

func (w *workspace) begin() {
	w.now++
	if w.now == 0 {
		clear(w.seen)
		w.now = 1
	}
	w.list = w.list[:0]
}

// close adds an instruction and all that follow without a character. It
// returns the expressions that have matched.
func (w *workspace) close(insts []inst, pc uint32, flags syntax.EmptyOp) (hits uint64) {
	w.stack = append(w.stack[:0], pc)
	for len(w.stack) > 0 {
		pc := w.stack[len(w.stack)-1]
		w.stack = w.stack[:len(w.stack)-1]
		if w.seen[pc] == w.now {
			continue
		}
		w.seen[pc] = w.now
		in := &insts[pc]
		switch in.op {
		case match:
			hits |= 1 << in.arg
		case fork:
			w.stack = append(w.stack, in.out, in.arg)
		case pass:
			w.stack = append(w.stack, in.out)
		case assert:
			if syntax.EmptyOp(in.arg)&^flags == 0 {
				w.stack = append(w.stack, in.out)
			}
		case take:
			w.list = append(w.list, pc)
		}
	}
	return hits
}
