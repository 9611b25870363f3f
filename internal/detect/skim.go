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
// Like scan, it goes through the quarters of the text at once.
func (m *machine) skim(s *skim, text []byte) bool {
	tries := 256 + len(text)/8
	quarter := len(text) / 4
	at := [4]int{s.least - 1, quarter, 2 * quarter, 3 * quarter}
	if quarter >= s.least {
		i, j, k, l := at[0], at[1], at[2], at[3]
		for i < quarter && j < 2*quarter && k < 3*quarter && l < len(text) && tries >= 0 {
			w, x := s.shift[blockOf(text[i-2], text[i-1], text[i])], s.shift[blockOf(text[j-2], text[j-1], text[j])]
			y, z := s.shift[blockOf(text[k-2], text[k-1], text[k])], s.shift[blockOf(text[l-2], text[l-1], text[l])]
			if w == 0 || x == 0 || y == 0 || z == 0 {
				for n, shift := range [4]*byte{&w, &x, &y, &z} {
					if *shift == 0 {
						tries -= m.skimAt(s, text, [4]int{i, j, k, l}[n])
						*shift = 1
					}
				}
			}
			i, j, k, l = i+int(w), j+int(x), k+int(y), l+int(z)
		}
		at = [4]int{i, j, k, l}
	} else {
		at, quarter = [4]int{len(text), len(text), len(text), s.least - 1}, 0
	}
	for n, i := range at { // what is left of each
		end := (n + 1) * quarter
		if n == 3 {
			end = len(text)
		}
		for i < end && tries >= 0 {
			shift := s.shift[blockOf(text[i-2], text[i-1], text[i])]
			if shift == 0 {
				tries -= m.skimAt(s, text, i)
				shift = 1
			}
			i += int(shift)
		}
	}
	return tries >= 0
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
