package dfa

import (
	"encoding/binary"
	"fmt"
	"regexp/syntax"
	"slices"
	"unicode"
	"unicode/utf8"
)

// small is the number of runes whose class is looked up in a table: those of
// one and two bytes in UTF-8, Arabic letters among them.
const small = 0x800

// program is a set of compiled expressions. It does not change.
type program struct {
	insts   []inst   // of all expressions, one after another
	sets    []set    // what instructions wait for
	starts  []uint32 // where each begins
	bytes   bool     // texts are bytes, each a character
	class   [small]uint8
	bounds  []rune         // where classes begin beyond small, ascending
	offset  int            // class of the first rune beyond small
	invalid int            // class of what is no UTF-8
	asserts syntax.EmptyOp // the assertions that the expressions make
	example []rune         // one rune of each class; the last class is the end of the text
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

func newProgram(bytes bool, exprs ...*syntax.Regexp) (*program, error) {
	p := &program{bytes: bytes}
	var progs []syntax.Inst
	for i, expr := range exprs {
		prog, err := syntax.Compile(expr.Simplify())
		if err != nil {
			return nil, err
		}
		progs = p.add(progs, i, prog)
	}
	if err := p.classify(progs); err != nil {
		return nil, err
	}
	p.reduce(progs)
	return p, nil
}

// add appends the program of expression i to those before it.
func (p *program) add(progs []syntax.Inst, i int, prog *syntax.Prog) []syntax.Inst {
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
	p.starts = append(p.starts, base+uint32(prog.Start))
	return progs
}

// reduce makes the instructions: what is kept of the programs.
func (p *program) reduce(progs []syntax.Inst) {
	known := map[string]uint32{} // sets, by what they were made of
	p.insts = make([]inst, len(progs))
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
			p.asserts |= syntax.EmptyOp(from.Arg)
		case syntax.InstFail:
			in.op = fail
		default:
			in.op, in.arg = take, p.setOf(from, known)
		}
		p.insts[pc] = in
	}
}

// setOf is the index of the classes that an instruction takes.
func (p *program) setOf(in *syntax.Inst, known map[string]uint32) uint32 {
	key := append(make([]byte, 0, 64), byte(in.Op), byte(in.Arg)) // Arg: whether case is folded
	for _, r := range in.Rune {
		key = binary.LittleEndian.AppendUint32(key, uint32(r))
	}
	at, ok := known[string(key)]
	if ok {
		return at
	}
	var s set
	for class, r := range p.example[:p.end()] {
		if in.MatchRune(r) {
			s[class/64] |= 1 << (class % 64)
		}
	}
	at = uint32(len(p.sets))
	p.sets, known[string(key)] = append(p.sets, s), at
	return at
}

// classify finds the classes: runs of runes that every instruction treats alike.
func (p *program) classify(progs []syntax.Inst) error {
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
	p.example = append(slices.Clone(at), utf8.RuneError) // the end of the text stands for no rune
	c := -1
	for r := range rune(small) {
		if c+1 < len(at) && at[c+1] == r {
			c++
		}
		p.class[r] = uint8(c)
	}
	p.offset, p.bounds = c, at[c+1:]
	p.invalid = p.far(utf8.RuneError)
	return nil
}

// far is the class of a rune beyond small.
func (p *program) far(r rune) int {
	n, found := slices.BinarySearch(p.bounds, r)
	if found {
		n++
	}
	return p.offset + n
}

func (p *program) end() int { return len(p.example) - 1 }

// at is the class of the character at a position of a text, and its length.
func (p *program) at(text string, i int) (class, n int) {
	if i >= len(text) {
		return p.end(), 0
	}
	if c := text[i]; c < utf8.RuneSelf {
		return int(p.class[c]), 1
	}
	return p.wide(text[i:])
}

// before is the class of the character before a position of a text, and its
// length; at the beginning of the text it is the class of its end.
func (p *program) before(text string, i int) (class, n int) {
	if i <= 0 {
		return p.end(), 0
	}
	if c := text[i-1]; c < utf8.RuneSelf {
		return int(p.class[c]), 1
	}
	r, n := utf8.DecodeLastRuneInString(text[:i])
	switch {
	case r == utf8.RuneError:
		return p.invalid, n
	case r < small:
		return int(p.class[r]), n
	}
	return p.far(r), n
}

// wide is the class of the first character of a text, which is not ASCII, and
// its length.
func (p *program) wide(text string) (class, n int) {
	if p.bytes {
		return int(p.class[text[0]]), 1
	}
	c := text[0]
	if c < 0xc2 || c > 0xf4 || len(text) < 2 || text[1]&0xc0 != 0x80 {
		return p.invalid, 1
	}
	if c <= 0xdf { // two bytes, as Arabic letters have: U+0080 to U+07FF
		return int(p.class[int(c&0x1f)<<6|int(text[1]&0x3f)]), 2
	}
	if len(text) > 2 && text[:3] == "\ufffd" { // what others have made of what is no UTF-8
		return p.invalid, 3
	}
	r, n := utf8.DecodeRuneInString(text)
	if r == utf8.RuneError {
		return p.invalid, n
	}
	return p.far(r), n
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
