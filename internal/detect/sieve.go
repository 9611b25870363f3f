package detect

import (
	"encoding/binary"
	"math/bits"
	"strings"
)

// sieve finds any of many texts in another, ignoring case, without looking at
// most of its bytes. Of each text it knows a window, and of that every four
// bytes in a row. In a text that is looked through, one place in stride is
// hashed: wherever the window lies, one of its places is among them (after Wu
// and Manber, "A Fast Algorithm for Multi-Pattern Searching", 1994). Unlike an
// automaton's, these steps do not wait for one another.
//
// The window is the part of the text that is the rarest, as far as the rules'
// own texts tell. Few pieces are the same (maxSharing), so that hostile
// text makes the search slower by a bounded factor only.
type sieve struct {
	stride int
	shift  uint8
	marks  []uint64 // a bit for each hash that some window's four bytes have
	from   []uint32 // by the hash's lower bits: where in pieces they begin; one more at the end
	pieces []piece
}

// piece is four bytes of a text's window.
type piece struct {
	word   uint32 // the bytes, letters of either case alike
	at     int32  // where in the text
	target *target
}

const (
	// minSieved is the length of the shortest text that fields are sieved for.
	minSieved = 5
	// maxStride bounds how many pieces a text has.
	maxStride = 8
	// maxSharing is how many pieces may be the same four bytes. A text that finds no
	// such window is left to the automaton.
	maxSharing = 8
	// eitherCase turns letters of four bytes into lower case, and other bytes
	// into something: it is for hashing.
	eitherCase = 0x20202020
)

// wordAt is four bytes of a text, letters of either case alike.
func wordAt(text []byte, i int) uint32 { return binary.LittleEndian.Uint32(text[i:]) | eitherCase }

func wordHash(w uint32) uint32 { return w * 0x9E3779B1 }

// newSieve makes a sieve of the texts, which have at least four bytes each. It
// returns those for which there is no place.
func newSieve(texts []*target, known *commonness) (s *sieve, rest []*target) {
	least := 1 << 30
	for _, t := range texts {
		least = min(least, len(t.text))
	}
	s = &sieve{stride: min(least-3, maxStride)}
	sharing := map[uint32]int{}
	for _, t := range texts {
		at, ok := s.window(t.text, sharing, known)
		if !ok {
			rest = append(rest, t)
			continue
		}
		for i := at; i < at+s.stride; i++ {
			w := wordAt([]byte(t.text), i)
			sharing[w]++
			s.pieces = append(s.pieces, piece{w, int32(i), t})
		}
	}
	if len(s.pieces) == 0 {
		return nil, rest
	}
	s.index()
	return s, rest
}

// window picks the part of a text whose pieces are the rarest.
func (s *sieve) window(text string, sharing map[uint32]int, known *commonness) (best int, ok bool) {
	least := 0
	for at := 0; at+s.stride+3 <= len(text); at++ {
		cost, fits := 0, true
		for i := at; i < at+s.stride; i++ {
			w := wordAt([]byte(text), i)
			sharing[w]++
			cost += known.count(w)
			fits = fits && sharing[w] <= maxSharing
		}
		for i := at; i < at+s.stride; i++ {
			sharing[wordAt([]byte(text), i)]--
		}
		if fits && (!ok || cost < least) {
			best, least, ok = at, cost, true
		}
	}
	return best, ok
}

// index makes the tables of the pieces.
func (s *sieve) index() {
	size := bits.Len(uint(len(s.pieces))) // 2^size is more than there are pieces
	s.shift = uint8(32 - max(size+4, min(size+7, 18)))
	s.marks = make([]uint64, 1<<(32-s.shift)/64)
	s.from = make([]uint32, 1<<size+1)
	slot := func(p *piece) uint32 { return wordHash(p.word) >> s.shift & uint32(1<<size-1) }
	for i := range s.pieces {
		h := wordHash(s.pieces[i].word) >> s.shift
		s.marks[h>>6] |= 1 << (h & 63)
		s.from[slot(&s.pieces[i])+1]++
	}
	for i := range 1 << size {
		s.from[i+1] += s.from[i]
	}
	next, sorted := append([]uint32(nil), s.from...), make([]piece, len(s.pieces))
	for i := range s.pieces {
		at := slot(&s.pieces[i])
		sorted[next[at]] = s.pieces[i]
		next[at]++
	}
	s.pieces = sorted
}

// size is what the sieve's tables take, in bytes.
func (s *sieve) size() int {
	if s == nil {
		return 0
	}
	return 8*len(s.marks) + 4*len(s.from) + 16*len(s.pieces)
}

// sift finds the rules of which a text, folded or ASCII, has a text. It looks at
// four places at once: mostly none of them has a mark.
func (m *machine) sift(s *sieve, text []byte) {
	marks, shift, stride, i := s.marks, s.shift&31, s.stride, 0
	for ; i+3*stride+4 <= len(text); i += 4 * stride {
		h, k := wordHash(wordAt(text, i))>>shift, wordHash(wordAt(text, i+stride))>>shift
		l, n := wordHash(wordAt(text, i+2*stride))>>shift, wordHash(wordAt(text, i+3*stride))>>shift
		if (marks[h>>6]>>(h&63)|marks[k>>6]>>(k&63)|marks[l>>6]>>(l&63)|marks[n>>6]>>(n&63))&1 != 0 {
			for j := range 4 {
				m.siftAt(s, text, i+j*stride)
			}
		}
	}
	for ; i+4 <= len(text); i += stride {
		m.siftAt(s, text, i)
	}
}

// siftAt compares the texts whose four bytes may be those at a place.
func (m *machine) siftAt(s *sieve, text []byte, i int) {
	w := wordAt(text, i)
	h := wordHash(w) >> s.shift
	if s.marks[h>>6]>>(h&63)&1 == 0 {
		return
	}
	slot := h & uint32(len(s.from)-2)
	for _, p := range s.pieces[s.from[slot]:s.from[slot+1]] {
		if p.word == w && p.target.begins(text, i-int(p.at)) {
			m.find(p.target.rules)
		}
	}
}

// begins reports whether the target's text begins there in a text, ignoring case.
func (t *target) begins(text []byte, start int) bool {
	end := start + len(t.text)
	return start >= 0 && end <= len(text) && equalFolded(text[start:end], t.text)
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

// minSkimmed is the length of the shortest keyword that JSON is skimmed for.
const minSkimmed = 4

// newSkim makes the sieve that looks for keywords in an event's JSON as it
// stands, without taking it apart; nil if there is none.
//
// It looks for the part of each text that JSON writes in only one way, so it
// may find more than is there, never less. The exceptions are characters that
// are written by their numbers, and the three letters beyond ASCII that are
// lower-case letters of ASCII in another form; a record knows of both (odd).
func newSkim(texts []*target, known *commonness) *sieve {
	var plain []*target
	for _, t := range texts {
		p := &target{text: plainest(t.text), rules: t.rules}
		if len(p.text) < minSkimmed {
			return nil
		}
		plain = append(plain, p)
	}
	s, rest := newSieve(plain, known)
	if len(rest) > 0 {
		return nil
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

// edges finds texts that must begin or end a value, by the eight or four bytes
// there.
type edges struct {
	tables [4]*edgeTable // the end's eight bytes and four, the start's eight and four; nil for none
}

// edgeTable is a hash table, at most half full.
type edgeTable struct {
	slots   []edgeSlot
	targets []*target
}

type edgeSlot struct {
	key      uint64
	from, to int32 // in targets; none if equal
}

// minEdge is the length of the shortest text that edges find.
const minEdge = 4

// newEdges makes the tables of texts that have at least four bytes and begin or
// end a value; nil if there are none.
func newEdges(texts []*target) *edges {
	if len(texts) == 0 {
		return nil
	}
	e := &edges{}
	by := [4]map[uint64][]*target{}
	for _, t := range texts {
		table := 0
		if !t.tail {
			table = 2
		}
		if len(t.text) < 8 {
			table++
		}
		if by[table] == nil {
			by[table] = map[uint64][]*target{}
		}
		key := edgeKey([]byte(t.text), table)
		by[table][key] = append(by[table][key], t)
	}
	for i, keys := range by {
		if keys == nil {
			continue
		}
		table := &edgeTable{slots: make([]edgeSlot, 1<<bits.Len(uint(2*len(keys))))}
		for key, list := range keys {
			at := edgeHash(key) & uint64(len(table.slots)-1)
			for table.slots[at].from != table.slots[at].to {
				at = (at + 1) & uint64(len(table.slots)-1)
			}
			from := int32(len(table.targets))
			table.targets = append(table.targets, list...)
			table.slots[at] = edgeSlot{key, from, from + int32(len(list))}
		}
		e.tables[i] = table
	}
	return e
}

// edgeKey is what a table goes by, letters of either case alike.
func edgeKey(text []byte, table int) uint64 {
	switch n := len(text); table {
	case 0:
		return binary.LittleEndian.Uint64(text[n-8:]) | eitherCase<<32 | eitherCase
	case 1:
		return uint64(wordAt(text, n-4))
	case 2:
		return binary.LittleEndian.Uint64(text) | eitherCase<<32 | eitherCase
	}
	return uint64(wordAt(text, 0))
}

func edgeHash(key uint64) uint64 { return key * 0x9E3779B97F4A7C15 >> 32 }

// size is what the tables take, in bytes.
func (e *edges) size() (n int) {
	if e == nil {
		return 0
	}
	for _, t := range e.tables {
		if t != nil {
			n += 16*len(t.slots) + 8*len(t.targets)
		}
	}
	return n
}

// edge finds the rules of which a text, folded or ASCII, begins or ends with a text.
func (m *machine) edge(e *edges, text []byte) {
	for i, t := range e.tables {
		if t == nil || len(text) < 8-i&1*4 {
			continue
		}
		key := edgeKey(text, i)
		for at := edgeHash(key) & uint64(len(t.slots)-1); ; at = (at + 1) & uint64(len(t.slots)-1) {
			s := &t.slots[at]
			if s.from == s.to {
				break
			}
			if s.key != key {
				continue
			}
			for _, target := range t.targets[s.from:s.to] {
				if target.fits(text) {
					m.find(target.rules)
				}
			}
			break
		}
	}
}

// fits reports whether a text begins or ends with the target's, as that says,
// ignoring case.
func (t *target) fits(text []byte) bool {
	start := 0
	if t.tail {
		start = len(text) - len(t.text)
	}
	return (start == 0 || !t.head) && t.begins(text, start)
}
