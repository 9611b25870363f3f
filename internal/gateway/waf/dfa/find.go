package dfa

import (
	"regexp/syntax"
	"slices"
)

// finder finds where the first match of an expression begins and ends.
type finder struct {
	ends   *automaton // of the expression
	begins *automaton // of the reversed expression, walked backwards
}

// newFinder makes the automata of a program's only expression. It returns nil
// for programs of bytes or of several expressions, and if the reversed
// expression does not fit.
func newFinder(p *program, exprs []string) *finder {
	if len(exprs) != 1 || p.bytes {
		return nil
	}
	tree, err := syntax.Parse(exprs[0], syntax.Perl)
	if err != nil {
		return nil
	}
	back, err := newProgram(false, reversed(tree))
	if err != nil {
		return nil
	}
	return &finder{ends: newAutomaton(p, preferred, findSlots), begins: newAutomaton(back, here, findSlots)}
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
	from, _, found, ok := d.since(text)
	if !ok || !found {
		return 0, 0, false, ok
	}
	f := d.finder()
	if f == nil {
		return 0, 0, false, false
	}
	if end, ok = f.ends.last(text, from); !ok {
		return 0, 0, false, false
	}
	begin, ok = f.begins.farthest(text, from, end)
	return begin, end, ok, ok
}

// last is where the preferred match of those ends that begin at from or later.
func (a *automaton) last(text string, from int) (end int, ok bool) {
	class, _ := a.before(text, from)
	s := a.table.Load().starts[a.around(class)]
	made, end, i := 0, -1, from
	defer func() { a.earn(i-from, made) }()
	for {
		class, n := a.at(text, i)
		next := s.next[class].Load()
		if next == nil {
			if next = a.make(s, class); next == nil {
				return 0, false
			}
			made++
		}
		if next.hits != 0 {
			end = i
		}
		if i >= len(text) || next.done && len(next.insts) == 0 {
			return end, end >= 0
		}
		s, i = next, i+n
	}
}

// farthest is where the longest match begins that ends at end, and does not
// begin before from.
func (a *automaton) farthest(text string, from, end int) (begin int, ok bool) {
	class, _ := a.at(text, end)
	s := a.table.Load().starts[a.around(class)]
	made, begin, i := 0, -1, end
	defer func() { a.earn(end-i, made) }()
	for {
		class, n := a.before(text, i)
		next := s.next[class].Load()
		if next == nil {
			if next = a.make(s, class); next == nil {
				return 0, false
			}
			made++
		}
		if next.hits != 0 {
			begin = i
		}
		if i <= from || len(next.insts) == 0 {
			return begin, begin >= 0
		}
		s, i = next, i-n
	}
}

// around is what matters of a character beside a walk.
func (p *program) around(class int) context {
	if class == p.end() {
		return nothing
	}
	return contextOf(p.example[class])
}
