// Package dfa answers whether a regular expression matches, and nothing else,
// in one table look-up for each character.
//
// [Compile] takes what package regexp takes. [DFA.Match] walks a deterministic
// automaton whose states are sets of the expression's instructions and whose
// alphabet are the classes of characters that the expression tells apart. The
// states are made as texts ask for them and shared by all goroutines; nearly
// every text walks on states that are there.
//
// # Guarantees
//
// Match reports what regexp.Regexp.MatchString reports, for every text,
// invalid UTF-8 included. Memory is bounded for each automaton. A text made to
// need ever new states costs a bounded amount more than package regexp: making
// states uses up a credit that earlier texts have to earn, and without credit
// Match says that it does not know.
//
// # What this package must never do
//
// It never guesses: an answer is exact, or it is [Unknown].
package dfa

import (
	"encoding/binary"
	"fmt"
	"regexp/syntax"
	"slices"
	"sync"
	"sync/atomic"
	"unicode"
	"unicode/utf8"
)

// Answer is what a DFA says of a text.
type Answer uint8

// The answers.
const (
	No Answer = iota
	Yes
	Unknown // ask package regexp
)

// Bounds of one automaton.
const (
	maxClasses = 250     // classes of characters; an expression with more is refused
	maxSlots   = 1 << 15 // transitions kept, eight bytes each
	firstMoney = 1 << 14 // transitions that may be made before texts have earned any
	mostMoney  = 1 << 15
	bytesEarn  = 64 // bytes walked on known states that earn one transition
)

// small is the number of runes whose class is looked up in a table: those of
// one and two bytes in UTF-8, Arabic letters among them.
const small = 0x800

// DFA is a compiled expression. It is safe for concurrent use.
type DFA struct {
	prog    *syntax.Prog
	class   [small]uint8
	bounds  []rune // where classes begin beyond small, ascending
	offset  int    // class of the first rune beyond small
	example []rune // one rune of each class; the last class is the end of the text

	table atomic.Pointer[table]
	money atomic.Int64 // transitions that may be made

	mu   sync.Mutex // covers making states: work and the maps of tables
	work workspace
}

// table is one generation of states; a full one is left to those who walk on it.
type table struct {
	start  *state
	states map[string]*state
	slots  int
}

// state is a set of instructions that wait for the next character, and what
// the previous one was. next is indexed by class and is nil until it is asked for.
type state struct {
	insts  []uint32
	before context
	next   []atomic.Pointer[state]
}

// context is what matters of the character before a position.
type context uint8

const (
	nothing context = iota // the beginning of the text
	newline
	word
	other
)

// matched is where every walk ends that has found a match.
var matched = &state{}

// Compile makes the automaton of an expression with the flags that package
// regexp parses with. Its error is that of the parser, or says that the
// expression tells too many characters apart.
func Compile(expr string) (*DFA, error) {
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil, err
	}
	prog, err := syntax.Compile(re.Simplify())
	if err != nil {
		return nil, err
	}
	d := &DFA{prog: prog}
	if err := d.classify(); err != nil {
		return nil, err
	}
	d.work = newWorkspace(len(prog.Inst))
	d.money.Store(firstMoney)
	d.table.Store(d.newTable())
	return d, nil
}

// classify finds the classes: runs of runes that every instruction treats alike.
func (d *DFA) classify() error {
	at := []rune{0, '\n', '\n' + 1, '0', '9' + 1, 'A', 'Z' + 1, '_', '_' + 1, 'a', 'z' + 1}
	for _, in := range d.prog.Inst {
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
		return fmt.Errorf("the expression tells %d classes of characters apart, more than %d", len(at), maxClasses)
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

// Match reports whether the expression matches anywhere in the text.
func (d *DFA) Match(text string) Answer {
	s := d.table.Load().start
	made := 0
	for i := 0; i < len(text); {
		var class int
		if c := text[i]; c < utf8.RuneSelf {
			class = int(d.class[c])
			i++
		} else {
			r, n := utf8.DecodeRuneInString(text[i:])
			i += n
			if r < small {
				class = int(d.class[r])
			} else {
				class = d.far(r)
			}
		}
		next := s.next[class].Load()
		if next == nil {
			if next = d.make(s, class); next == nil {
				return Unknown
			}
			made++
		}
		if next == matched {
			d.earn(i, made)
			return Yes
		}
		s = next
	}
	next := s.next[d.end()].Load()
	if next == nil {
		if next = d.make(s, d.end()); next == nil {
			return Unknown
		}
		made++
	}
	d.earn(len(text), made)
	if next == matched {
		return Yes
	}
	return No
}

// earn gives credit for a text that was walked mostly on known states.
func (d *DFA) earn(bytes, made int) {
	if bytes >= bytesEarn && made == 0 && d.money.Load() < mostMoney {
		d.money.Add(int64(bytes / bytesEarn))
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
	last := class == d.end()
	r := d.example[class]
	flags := emptyFlags(s.before, r, last)
	d.work.begin()
	for _, pc := range s.insts {
		if d.work.close(d.prog, pc, flags) {
			return matched
		}
	}
	// A match may begin at every position.
	if d.work.close(d.prog, uint32(d.prog.Start), flags) {
		return matched
	}
	var insts []uint32
	if !last {
		for _, pc := range d.work.list {
			if in := &d.prog.Inst[pc]; in.MatchRune(r) {
				insts = append(insts, in.Out)
			}
		}
		slices.Sort(insts)
		insts = slices.Compact(insts)
	}
	return d.intern(insts, contextOf(r))
}

// intern returns the state with these instructions.
func (d *DFA) intern(insts []uint32, before context) *state {
	key := []byte{byte(before)}
	for _, pc := range insts {
		key = binary.LittleEndian.AppendUint32(key, pc)
	}
	t := d.table.Load()
	if s, ok := t.states[string(key)]; ok {
		return s
	}
	if t.slots += len(d.example); t.slots > maxSlots {
		t = d.newTable()
		t.slots += len(d.example)
		d.table.Store(t)
	}
	s := &state{insts: insts, before: before, next: make([]atomic.Pointer[state], len(d.example))}
	t.states[string(key)] = s
	return s
}

func (d *DFA) newTable() *table {
	start := &state{next: make([]atomic.Pointer[state], len(d.example))}
	return &table{start: start, states: map[string]*state{"\x00": start}, slots: len(d.example)}
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
// reports whether the expression has matched.
func (w *workspace) close(prog *syntax.Prog, pc uint32, flags syntax.EmptyOp) bool {
	w.stack = append(w.stack[:0], pc)
	for len(w.stack) > 0 {
		pc := w.stack[len(w.stack)-1]
		w.stack = w.stack[:len(w.stack)-1]
		if w.seen[pc] == w.now {
			continue
		}
		w.seen[pc] = w.now
		in := &prog.Inst[pc]
		switch in.Op {
		case syntax.InstMatch:
			return true
		case syntax.InstAlt, syntax.InstAltMatch:
			w.stack = append(w.stack, in.Out, in.Arg)
		case syntax.InstCapture, syntax.InstNop:
			w.stack = append(w.stack, in.Out)
		case syntax.InstEmptyWidth:
			if syntax.EmptyOp(in.Arg)&^flags == 0 {
				w.stack = append(w.stack, in.Out)
			}
		case syntax.InstFail:
		default:
			w.list = append(w.list, pc)
		}
	}
	return false
}
