package dfa

import (
	"regexp/syntax"
	"slices"
)

// backwards makes the automaton of a program's reversed expression. It returns
// nil for programs of bytes, and if the reversed expression does not fit.
func backwards(p *program, expr string) *automaton {
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil || p.bytes {
		return nil
	}
	back, err := newProgram(false, reversed(tree))
	if err != nil {
		return nil
	}
	return newAutomaton(back, here, maxSlots)
}

// reversed turns an expression into one that matches the same texts read
// backwards, in place.
func reversed(re *syntax.Regexp) *syntax.Regexp {
	switch re.Op {
	case syntax.OpLiteral:
		slices.Reverse(re.Rune)
	case syntax.OpConcat:
		slices.Reverse(re.Sub)
	case syntax.OpBeginLine:
		re.Op = syntax.OpEndLine
	case syntax.OpEndLine:
		re.Op = syntax.OpBeginLine
	case syntax.OpBeginText:
		re.Op = syntax.OpEndText
	case syntax.OpEndText:
		re.Op = syntax.OpBeginText
	}
	for i, sub := range re.Sub {
		re.Sub[i] = reversed(sub)
	}
	return re
}

// Find finds the first match of an automaton's only expression, as
// regexp.Regexp.FindStringIndex does. Without ok it does not know; found is
// false if nothing matches.
func (d *DFA) Find(text string) (begin, end int, found, ok bool) {
	if d.search != preferred {
		return 0, 0, false, false
	}
	from, end := d.preferredEnd(text)
	if end < 0 {
		return 0, 0, false, true
	}
	back := d.back()
	if back == nil {
		return 0, 0, false, false
	}
	begin = back.farthest(text, from, end)
	return begin, end, begin >= 0, begin >= 0
}

// preferredEnd is where the first match ends, -1 if nothing matches, and a
// position before which it does not begin.
func (a *automaton) preferredEnd(text string) (from, end int) {
	w, at := a.walk(nothing)
	made, i := 0, 0
	end = -1
	defer func() { a.earn(i, made) }()
	for {
		if at&(isBare|isDone) == isBare {
			from = i // whatever began before this has come to nothing
		}
		class, n := a.at(text, i)
		next := peek(w.rows, at, class)
		if next == 0 {
			next = a.make(&w, at, class, &made)
		}
		if next&isHit != 0 {
			end = i
		}
		if i >= len(text) || next&(isBare|isDone) == isBare|isDone {
			return from, end
		}
		at, i = next, i+n
	}
}

// farthest is where the longest match begins that ends at end and does not
// begin before from, -1 if there is none.
func (a *automaton) farthest(text string, from, end int) (begin int) {
	class, _ := a.at(text, end)
	w, at := a.walk(a.around(class))
	made, begin, i := 0, -1, end
	defer func() { a.earn(end-i, made) }()
	for {
		class, n := a.before(text, i)
		next := peek(w.rows, at, class)
		if next == 0 {
			next = a.make(&w, at, class, &made)
		}
		if next&isHit != 0 {
			begin = i
		}
		if i <= from || next&isBare != 0 {
			return begin
		}
		at, i = next, i-n
	}
}

// around is what matters of a character beside a walk.
func (p *program) around(class int) context {
	if class == p.end() {
		return nothing
	}
	return contextOf(p.example[class])
}
