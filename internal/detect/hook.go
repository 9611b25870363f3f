package detect

import (
	"math"
	"regexp/syntax"
	"slices"
	"unicode"
	"unicode/utf8"
)

// hook is something that an event must have for a condition to hold: a text in
// a field or, if text is "", the field itself. A condition has a list of hooks
// of which every event that satisfies it has at least one. Events that have
// none are never looked at for its sake.
type hook struct {
	field int32 // anyField for a keyword
	text  string
	head  bool // the text begins the field
	tail  bool // the text ends it
}

// anyField is the field of a hook that may be anywhere in the event.
const anyField = -1

// hooks returns the hooks of a node with a guess of how many events have one,
// from 0 to 1. It returns ok false if there are none to be had.
func (c *compiler) hooks(at int32, known *commonness) (best []hook, share float64, ok bool) {
	n := &c.nodes[at]
	switch n.op {
	case opNot:
		if l := &c.leaves[n.leaf]; l.kind == leafNull {
			return []hook{{field: l.field}}, presentShare, true
		}
		return nil, 1, false
	case opLeaf:
		best, ok = c.leafHooks(&c.leaves[n.leaf])
		return best, known.share(best), ok
	case opAll:
		share = 1
		for _, k := range n.kids {
			if h, s, found := c.hooks(k, known); found && (!ok || s < share) {
				best, share, ok = h, s, true
			}
		}
		return best, share, ok
	}
	for _, k := range n.kids {
		h, s, found := c.hooks(k, known)
		if !found {
			return nil, 1, false
		}
		for _, one := range h {
			if !slices.Contains(best, one) {
				best = append(best, one)
			}
		}
		share += s
	}
	return best, min(share, presentShare), true
}

// commonness tells how common four bytes in a row are, by the texts of all rules:
// what many rules ask for is what logs are full of.
type commonness struct {
	counts []uint16 // by hash
	texts  int
}

// commonBits is the size of its table.
const commonBits = 17

// common counts the texts that the leaves ask for.
func (c *compiler) common() *commonness {
	s := &commonness{counts: make([]uint16, 1<<commonBits)}
	for i := range c.leaves {
		for w := range c.leaves[i].words {
			s.add(fold(w))
		}
		for _, m := range c.leaves[i].matchers {
			switch m := m.(type) {
			case patternMatcher:
				for _, r := range m.runs() {
					s.add(fold(r.text))
				}
			case regexpMatcher:
				for _, list := range m.needs {
					for _, t := range list {
						s.add(t)
					}
				}
			}
		}
	}
	return s
}

func (s *commonness) add(text string) {
	s.texts++
	for i := range max(0, len(text)-3) {
		if n := &s.counts[wordHash(wordAt([]byte(text), i))>>(32-commonBits)]; *n < math.MaxUint16 {
			*n++
		}
	}
}

// count is how often the rules have four bytes.
func (s *commonness) count(w uint32) int { return int(s.counts[wordHash(w)>>(32-commonBits)]) }

const (
	presentShare = 0.9 // of events have a field
	maxTextShare = 0.8 // of texts contain something: looking for it is always worth while
	charShare    = 0.4 // of texts go on with a given character
	shortText    = 7   // a text shorter than this costs
	shortCost    = 4   // times what a longer one does to be looked for
)

// share guesses how many events have one of some hooks. Longer texts are rarer,
// and texts of which the rules have every part are common in what is logged.
func (s *commonness) share(hooks []hook) float64 {
	var sum float64
	for _, h := range hooks {
		if h.text == "" {
			return presentShare
		}
		one := math.Pow(charShare, float64(len(h.text)))
		if len(h.text) >= 4 {
			rarest := math.MaxInt
			for i := range len(h.text) - 3 {
				rarest = min(rarest, s.count(wordAt([]byte(h.text), i)))
			}
			one += float64(rarest) / float64(s.texts)
		}
		switch {
		case h.field == anyField:
			one *= 100 // every value has to be searched
		case len(h.text) < shortText && !h.head && !h.tail:
			one *= shortCost
		}
		sum += one
	}
	return min(sum, maxTextShare)
}

func (c *compiler) leafHooks(l *leaf) ([]hook, bool) {
	present := []hook{{field: l.field}}
	switch l.kind {
	case leafNull:
		return nil, false
	case leafWords:
		var out []hook
		for w := range l.words {
			if w == "" {
				return present, true
			}
			out = append(out, hook{l.field, fold(w), true, true})
		}
		slices.SortFunc(out, compareHooks)
		return out, true
	case leafMatch, leafKeyword:
		field := l.field
		if l.kind == leafKeyword {
			field = anyField
		}
		var out []hook
		for _, m := range l.matchers {
			h := matcherHooks(field, m)
			if len(h) == 0 && field == anyField {
				return nil, false
			}
			if len(h) == 0 {
				return present, true
			}
			out = append(out, h...)
		}
		return out, true
	}
	return present, true // exists, numbers and fieldref ask for a field that is there
}

func matcherHooks(field int32, m matcher) (out []hook) {
	switch m := m.(type) {
	case patternMatcher:
		if r := m.hook; r.text != "" {
			out = append(out, hook{field, r.text, r.head, r.tail})
		}
	case regexpMatcher:
		for _, t := range rarest(m.needs) {
			out = append(out, hook{field: field, text: t})
		}
	}
	return out
}

// required returns folded texts that every match of a regular expression
// contains: one of each list, in the order of the lists and without overlap.
func required(re *syntax.Regexp) [][]string {
	switch re.Op {
	case syntax.OpLiteral:
		return [][]string{{fold(string(re.Rune))}}
	case syntax.OpCapture, syntax.OpPlus:
		return required(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return required(re.Sub[0])
		}
	case syntax.OpConcat:
		var all [][]string
		for _, sub := range re.Sub {
			all = append(all, required(sub)...)
		}
		return all
	case syntax.OpAlternate:
		var any []string
		for _, sub := range re.Sub {
			list := required(sub)
			if len(list) == 0 || len(any) > 64 {
				return nil
			}
			any = append(any, rarest(list)...)
		}
		return [][]string{any}
	}
	return nil
}

// rarest picks the list whose texts are the least likely to be there.
func rarest(lists [][]string) (best []string) {
	least := math.Inf(1)
	for _, texts := range lists {
		var share float64
		for _, t := range texts {
			share += math.Pow(charShare, float64(len(t)))
		}
		if share < least {
			best, least = texts, share
		}
	}
	return best
}

// fold writes text so that what any of the engine's ways to ignore case take
// for equal is equal: it is the ground that hooks are compared on. It is only
// ever used to rule events out.
func fold(s string) string { return string(appendFold(nil, []byte(s))) }

func appendFold(out, text []byte) []byte {
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		out = utf8.AppendRune(out, foldRune(r))
		text = text[n:]
	}
	return out
}

// foldRune is the least of the runes that simple case folding (Unicode,
// CaseFolding.txt) and unicode.ToLower take for r; A to Z become a to z.
func foldRune(r rune) rune {
	if r >= utf8.RuneSelf {
		r = unicode.ToLower(r)
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		r = least
	}
	if r-'A' < 26 && r >= 'A' {
		r |= 0x20
	}
	return r
}

func compareHooks(a, b hook) int {
	switch {
	case a.text < b.text:
		return -1
	case a.text > b.text:
		return 1
	}
	return int(a.field - b.field)
}

// pin is a value that a field must have: a number or a word.
type pin struct {
	word   string
	number float64
	isWord bool
}

// maxPins is the most values that a field may be pinned to by one rule.
const maxPins = 32

// pins returns, for each field that a condition allows only a few values of,
// those values.
func (c *compiler) pins(at int32) map[int32][]pin {
	n := &c.nodes[at]
	switch n.op {
	case opLeaf:
		l := &c.leaves[n.leaf]
		var list []pin
		for w := range l.words {
			list = append(list, pin{word: w, isWord: true})
		}
		for f := range l.numbers {
			list = append(list, pin{number: f})
		}
		if len(list) > 0 && len(list) <= maxPins {
			return map[int32][]pin{l.field: list}
		}
	case opAll:
		out := map[int32][]pin{}
		for _, k := range n.kids {
			for field, list := range c.pins(k) {
				if old, ok := out[field]; !ok || len(list) < len(old) {
					out[field] = list
				}
			}
		}
		return out
	case opAny:
		return c.anyPins(n.kids)
	}
	return nil
}

func (c *compiler) anyPins(kids []int32) map[int32][]pin {
	var out map[int32][]pin
	for i, k := range kids {
		found := c.pins(k)
		if i == 0 {
			out = found
			continue
		}
		for field, list := range out {
			more, ok := found[field]
			if both := append(slices.Clone(list), more...); ok && len(both) <= maxPins {
				out[field] = both
			} else {
				delete(out, field)
			}
		}
	}
	return out
}
