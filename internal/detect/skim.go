package detect

import "strings"

// skim finds any of a few texts in an event's JSON as it stands, without taking
// it apart, and most of the time without looking at most of its bytes (Wu and
// Manber, "A Fast Algorithm for Multi-Pattern Searching", 1994). It is for
// keywords, which may be anywhere.
//
// It looks for the part of each text that JSON writes in only one way, so it
// may find more than is there, never less. The exceptions are characters that
// are written by their numbers, and the three letters beyond ASCII that are
// lower-case letters of ASCII in another form; a record knows of both (odd).
type skim struct {
	least int        // length of the shortest text: all are compared by as much first
	shift [8192]byte // by three folded bytes: how far on the next text may end
	texts [][]skimText
	from  [8192]uint16 // by the same: 1 + index in texts, of those whose first bytes end so
}

type skimText struct {
	text  string
	rules []int32
}

// minSkim is the length of the shortest text that is worth it.
const minSkim = 5

// newSkim makes a skim of the targets, nil if one of them is too short.
func newSkim(targets map[hook]*target) *skim {
	s := &skim{least: 255}
	for h := range targets {
		n := len(plainest(h.text))
		if n < minSkim {
			return nil
		}
		s.least = min(s.least, n)
	}
	for i := range s.shift {
		s.shift[i] = byte(s.least - 2)
	}
	for h, t := range targets {
		text := plainest(h.text)
		for i := range s.least - 2 {
			at := blockOf(text[i], text[i+1], text[i+2])
			s.shift[at] = min(s.shift[at], byte(s.least-3-i))
		}
		last := blockOf(text[s.least-3], text[s.least-2], text[s.least-1])
		if s.from[last] == 0 {
			s.texts = append(s.texts, nil)
			s.from[last] = uint16(len(s.texts))
		}
		list := &s.texts[s.from[last]-1]
		*list = append(*list, skimText{text, t.rules})
	}
	return s
}

// plainest is the longest part of a folded text that JSON writes as it is.
func plainest(text string) (best string) {
	for part := range strings.FieldsFuncSeq(text, func(r rune) bool {
		return r == '"' || r == '\\' || r == '/' || r < 0x20 || r >= 0x80
	}) {
		if len(part) > len(best) {
			best = part
		}
	}
	return best
}

// blockOf numbers three bytes, letters of either case alike.
func blockOf(a, b, c byte) uint32 {
	return (uint32(a|0x20)<<8 ^ uint32(b|0x20)<<4 ^ uint32(c|0x20)) & 8191
}

// skim finds the rules of which the text has a keyword. It gives up, and
// returns false, where the text is made so that it would take long.
//
// It goes through both halves of the text at once: a processor waits for memory
// in one while it goes on in the other.
func (m *machine) skim(s *skim, text []byte) bool {
	tries := 256 + len(text)/8
	i, j := s.least-1, max(len(text)/2, s.least-1)
	for half := j; i < half && j < len(text); {
		x := s.shift[blockOf(text[i-2], text[i-1], text[i])]
		y := s.shift[blockOf(text[j-2], text[j-1], text[j])]
		if x == 0 {
			tries -= m.skimAt(s, text, i)
			x = 1
		}
		if y == 0 {
			tries -= m.skimAt(s, text, j)
			y = 1
		}
		i, j = i+int(x), j+int(y)
		if tries < 0 {
			return false
		}
	}
	// Whichever is left; the first half ends where the second began.
	for _, rest := range [2][2]int{{i, max(len(text)/2, s.least-1)}, {j, len(text)}} {
		for i, end := rest[0], rest[1]; i < end; {
			x := s.shift[blockOf(text[i-2], text[i-1], text[i])]
			if x == 0 {
				tries -= m.skimAt(s, text, i)
				x = 1
			}
			if i += int(x); tries < 0 {
				return false
			}
		}
	}
	return true
}

// skimAt compares the texts whose first bytes may end at a place, and returns
// how many it has compared.
func (m *machine) skimAt(s *skim, text []byte, end int) int {
	from := s.from[blockOf(text[end-2], text[end-1], text[end])]
	if from == 0 {
		return 0
	}
	start := end + 1 - s.least
	for i := range s.texts[from-1] {
		t := &s.texts[from-1][i]
		if len(text)-start >= len(t.text) && equalFolded(text[start:start+len(t.text)], t.text) {
			m.find(t.rules)
		}
	}
	return len(s.texts[from-1])
}

// equalFolded reports whether ASCII text is the folded text in any case.
func equalFolded(text []byte, folded string) bool {
	for i, c := range text {
		if c-'A' < 26 {
			c |= 0x20
		}
		if c != folded[i] {
			return false
		}
	}
	return true
}
