package detect

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// pattern is a Sigma string: literal text with the wildcards * (any text) and
// ? (any one character). Unless it is cased, letters match in either case.
type pattern struct {
	text     string // as written, for explanations
	segments [][]char
	// head and tail say that the text must begin with the first segment and end
	// with the last: there is no * at that end.
	head, tail bool
	cased      bool
	plain      string // the whole text if it has no ? and at most stars at the ends; lower case unless cased
	isPlain    bool
	needle     needle // the longest run of plain text
	hook       run    // folded
	id         string
}

// char is one position of a pattern.
type char struct {
	r    rune
	kind charKind
}

type charKind uint8

const (
	literal charKind = iota
	anyOne           // ?
	anyText          // *, only before segments are cut
	anyDash          // any of the characters that Windows takes for a dash or slash before an option
)

// dashes are what windash stands for: the two characters that start options on
// Windows and the three that its programs take for a dash as well.
const dashes = "-/–—―"

// scan reads a Sigma string. A backslash makes a following *, ? or backslash
// literal and is literal itself before anything else (Sigma specification,
// "Escaping").
func scan(s string) []char {
	var out []char
	runes := []rune(s)
	for i := 0; i < len(runes); i++ {
		switch r := runes[i]; {
		case r == '\\' && i+1 < len(runes) && strings.ContainsRune(`*?\`, runes[i+1]):
			i++
			out = append(out, char{r: runes[i]})
		case r == '*':
			out = append(out, char{kind: anyText})
		case r == '?':
			out = append(out, char{kind: anyOne})
		default:
			out = append(out, char{r: r})
		}
	}
	return out
}

// literalText returns the text of a pattern without wildcards.
func literalText(cs []char) (string, bool) {
	var b strings.Builder
	for _, c := range cs {
		if c.kind != literal {
			return "", false
		}
		b.WriteRune(c.r)
	}
	return b.String(), true
}

// literals turns plain text into a pattern that matches just it.
func literals(s string) []char {
	out := make([]char, 0, len(s))
	for _, r := range s {
		out = append(out, char{r: r})
	}
	return out
}

// windash replaces each - or / that starts an option by any of the dashes: one
// that stands before a word character and not after one.
func windash(cs []char) []char {
	word := func(i int) bool {
		if i < 0 || i >= len(cs) || cs[i].kind != literal {
			return false
		}
		r := cs[i].r
		return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r)
	}
	out := slices.Clone(cs)
	for i, c := range cs {
		if c.kind == literal && (c.r == '-' || c.r == '/') && !word(i-1) && word(i+1) {
			out[i].kind = anyDash
		}
	}
	return out
}

// newPattern compiles the characters.
func newPattern(text string, cs []char, cased bool) *pattern {
	p := &pattern{text: text, cased: cased, head: true, tail: true}
	seg := []char{}
	p.isPlain = true
	for i, c := range cs {
		if c.kind != anyText {
			if !cased {
				c.r = unicode.ToLower(c.r)
			}
			if c.kind != literal {
				p.isPlain = false
			}
			seg = append(seg, c)
			continue
		}
		if i == 0 {
			p.head = false
		}
		if i == len(cs)-1 {
			p.tail = false
		}
		if len(seg) > 0 {
			p.segments = append(p.segments, seg)
			seg = []char{}
		}
	}
	if len(seg) > 0 {
		p.segments = append(p.segments, seg)
	}
	if len(p.segments) > 1 {
		p.isPlain = false
	}
	if p.isPlain && len(p.segments) == 1 {
		p.plain, _ = literalText(p.segments[0])
	}
	longest := ""
	for _, run := range p.runs() {
		if len(run.text) > len(longest) {
			longest = run.text
		}
	}
	p.needle = newNeedle(longest)
	p.hook, p.id = p.rarest(), p.identity()
	return p
}

// match reports whether the whole of a text fits the pattern. The text must be
// in lower case unless the pattern is cased.
func (p *pattern) match(r *record, s []byte) bool {
	if p.isPlain {
		switch {
		case p.head && p.tail:
			return string(s) == p.plain
		case p.head:
			return len(s) >= len(p.plain) && string(s[:len(p.plain)]) == p.plain
		case p.tail:
			return len(s) >= len(p.plain) && string(s[len(s)-len(p.plain):]) == p.plain
		}
		return p.needle.in(s)
	}
	if !p.needle.in(s) {
		return false
	}
	r.runes = r.runes[:0]
	for len(s) > 0 {
		c, n := utf8.DecodeRune(s)
		r.runes = append(r.runes, c)
		s = s[n:]
	}
	return p.matchRunes(r.runes)
}

// key says what the pattern asks.
func (p *pattern) key() string { return p.id }

// identity is a text that differs for patterns that ask something else.
func (p *pattern) identity() string {
	out := []byte{'p', '0' + byte(flag(p.head)), '0' + byte(flag(p.tail)), '0' + byte(flag(p.cased))}
	for _, seg := range p.segments {
		out = append(out, 0xff) // in no text
		for _, c := range seg {
			if c.kind != literal {
				out = append(out, 0xfe, byte(c.kind))
				continue
			}
			out = utf8.AppendRune(out, c.r)
		}
	}
	return string(out)
}

// rarest is the run that the fewest texts contain, as far as one can tell.
func (p *pattern) rarest() (best run) {
	for _, r := range p.runs() {
		if r.text = fold(r.text); len(r.text) > len(best.text) {
			best = r
		}
	}
	return best
}

// runs cuts a pattern's segments into runs of plain characters. head and tail
// say whether the first or last one begins or ends the text.
func (p *pattern) runs() (out []run) {
	for i, seg := range p.segments {
		var text []rune
		from := 0
		for j := 0; j <= len(seg); j++ {
			if j < len(seg) && seg[j].kind == literal {
				text = append(text, seg[j].r)
				continue
			}
			if len(text) > 0 {
				out = append(out, run{
					text: string(text),
					head: p.head && i == 0 && from == 0,
					tail: p.tail && i == len(p.segments)-1 && j == len(seg),
				})
			}
			text, from = nil, j+1
		}
	}
	return out
}

// run is text that every match contains, at its start or end if so said.
type run struct {
	text       string
	head, tail bool
}

// matchRunes takes the first segment from the front and the last from the back
// where they are anchored, and every other at its first place: with * between
// them, an earlier place never spoils a later one.
func (p *pattern) matchRunes(s []rune) bool {
	segs := p.segments
	if p.head && p.tail && len(segs) == 1 {
		return len(s) == len(segs[0]) && fits(segs[0], s)
	}
	if p.head {
		if !fits(segs[0], s) {
			return false
		}
		s, segs = s[len(segs[0]):], segs[1:]
	}
	if p.tail {
		last := segs[len(segs)-1]
		if len(s) < len(last) || !fits(last, s[len(s)-len(last):]) {
			return false
		}
		s, segs = s[:len(s)-len(last)], segs[:len(segs)-1]
	}
	for _, seg := range segs {
		i := 0
		for ; i+len(seg) <= len(s) && !fits(seg, s[i:]); i++ {
		}
		if i+len(seg) > len(s) {
			return false
		}
		s = s[i+len(seg):]
	}
	return true
}

// fits reports whether s begins with the segment.
func fits(seg []char, s []rune) bool {
	if len(s) < len(seg) {
		return false
	}
	for i, c := range seg {
		switch c.kind {
		case literal:
			if s[i] != c.r {
				return false
			}
		case anyDash:
			if !strings.ContainsRune(dashes, s[i]) {
				return false
			}
		}
	}
	return true
}
