// Package dfa answers which of several regular expressions match, and where the
// first match of one is, in one table look-up for each character.
//
// [Compile] takes what package regexp takes. [DFA.Scan] walks a deterministic
// automaton whose states are sets of the expressions' instructions and whose
// alphabet are the classes of characters that the expressions tell apart. The
// states are made as texts ask for them and shared by all goroutines; nearly
// every text walks on states that are there. The states of one expression alone
// are not sets but lists, ordered as package regexp prefers them: they tell where
// its first match ends. [DFA.Find] then walks back from there, on an automaton of
// the reversed expression, to where it begins.
//
// # Guarantees
//
// Scan reports what regexp.Regexp.MatchString reports, and Find what
// FindStringIndex does, for every expression and every text, invalid UTF-8
// included. Memory is bounded for each automaton. Making states uses up a credit
// that is earned by the length of texts. Without credit an automaton of one
// expression makes states that it does not keep, in linear time; one of several
// says that it does not know.
//
// # What this package must never do
//
// It never guesses: an answer is exact, or there is none.
package dfa

import (
	"errors"
	"fmt"
	"regexp/syntax"
	"sync"
	"unicode/utf8"
)

// Bounds of one automaton.
const (
	// Most is how many expressions one automaton holds.
	Most       = 64
	maxClasses = 250     // classes of characters; expressions with more are refused
	maxSlots   = 1 << 17 // words of four bytes in the states kept for one expression
	manySlots  = 1 << 18 // and for several
	firstRows  = 8       // states that a table begins with room for
	stateWords = 32      // what a state takes beside its row and its instructions
	mostClosed = 1 << 14 // instructions in what is remembered of each
	firstMoney = 1 << 13 // states that may be made before texts have earned any, of several expressions steps
	mostMoney  = 1 << 12
	bytesEarn  = 128 // bytes of text that earn one: more would be spent on those that nobody asks for again
	manyEarn   = 512 // and of several expressions
)

// DFA is a set of compiled expressions. It is safe for concurrent use.
type DFA struct {
	*automaton
	back func() *automaton // of the only expression, reversed; made when it is first needed, nil if it cannot be
}

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
	trees := make([]*syntax.Regexp, len(exprs))
	for i, expr := range exprs {
		var err error
		if trees[i], err = syntax.Parse(expr, syntax.Perl); err != nil {
			return nil, err
		}
	}
	p, err := newProgram(bytes, trees...)
	if err != nil {
		return nil, err
	}
	if len(exprs) != 1 {
		return &DFA{automaton: newAutomaton(p, anywhere, manySlots), back: func() *automaton { return nil }}, nil
	}
	return &DFA{automaton: newAutomaton(p, preferred, maxSlots), back: sync.OnceValue(func() *automaton { return backwards(p, exprs[0]) })}, nil
}

// Scan reports which of the wanted expressions match anywhere in the text; bit
// i stands for expression i. Without ok it does not know of those that it does
// not report: ask package regexp.
func (d *DFA) Scan(text string, want uint64) (hits uint64, ok bool) {
	w, at := d.walk(nothing)
	p, rows, made := d.program, w.rows, 0
	for i := 0; i < len(text); {
		class, n := 0, 1
		if c := text[i]; c < utf8.RuneSelf {
			class = int(p.class[c])
		} else {
			class, n = p.wide(text[i:])
		}
		i += n
		next := peek(rows, at, class)
		if next == 0 {
			if next = d.make(&w, at, class, &made); next == 0 {
				d.earn(len(text), made)
				return hits, false
			}
			rows = w.rows
		}
		at = next
		if at&isHit != 0 {
			if hits |= w.hits(at, p.stride()) & want; hits == want {
				d.earn(i, made)
				return hits, true
			}
		}
	}
	next := peek(rows, at, d.end())
	if next == 0 {
		if next = d.make(&w, at, d.end(), &made); next == 0 {
			d.earn(len(text), made)
			return hits, false
		}
	}
	d.earn(len(text), made)
	return hits | w.hits(next, p.stride())&want, true
}

// Since looks for the first match of an automaton's only expression. No match
// begins before the position from, and what package regexp finds in text[from:]
// is what it finds in text. Without ok it does not know; found is false if
// nothing matches.
func (d *DFA) Since(text string) (from int, found, ok bool) {
	if d.search != preferred {
		return 0, false, false
	}
	w, at := d.walk(nothing)
	made, i := 0, 0
	defer func() { d.earn(i, made) }()
	for {
		if at&isBare != 0 && d.forgets(before(at)) {
			from = i // whatever began before this has come to nothing
		}
		class, n := d.at(text, i)
		next := peek(w.rows, at, class)
		if next == 0 {
			next = d.make(&w, at, class, &made)
		}
		if next&isHit != 0 || i >= len(text) {
			return from, next&isHit != 0, true
		}
		at, i = next, i+n
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
