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
	shift [4096]byte // by two folded bytes: how far on the next text may end
	texts [][]skimText
	from  [4096]uint16 // by the same: 1 + index in texts, of those whose first bytes end so
}

type skimText struct {
	text  string
	rules []int32
}

// minSkim is the length of the shortest text that is worth it.
const minSkim = 4

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
		s.shift[i] = byte(s.least - 1)
	}
	for h, t := range targets {
		text := plainest(h.text)
		for i := range s.least - 1 {
			at := pairOf(text[i], text[i+1])
			s.shift[at] = min(s.shift[at], byte(s.least-2-i))
		}
		last := pairOf(text[s.least-2], text[s.least-1])
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

// pairOf numbers two bytes, letters of either case alike.
func pairOf(a, b byte) uint32 { return (uint32(a|0x20)<<5 ^ uint32(b|0x20)) & 4095 }

// skim finds the rules of which the text has a keyword. It gives up, and
// returns false, where the text is made so that it would take long.
func (m *machine) skim(s *skim, text []byte) bool {
	tries, most := 0, 256+len(text)/8
	for i := s.least - 1; i < len(text); {
		at := pairOf(text[i-1], text[i])
		if n := s.shift[at]; n > 0 {
			i += int(n)
			continue
		}
		if from := s.from[at]; from > 0 {
			start := i + 1 - s.least
			for j := range s.texts[from-1] {
				t := &s.texts[from-1][j]
				if tries++; tries > most {
					return false
				}
				if len(text)-start >= len(t.text) && equalFolded(text[start:start+len(t.text)], t.text) {
					m.find(t.rules)
				}
			}
		}
		i++
	}
	return true
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
