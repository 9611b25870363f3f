package screen

// phraseSet finds which of several lists have a phrase in a text, letters of
// ASCII in either case. It is the automaton of Aho and Corasick (Efficient
// string matching, CACM 18, 1975) with every transition in a table.
type phraseSet struct {
	class [256]uint8
	wide  int      // classes of bytes
	next  []uint32 // by state and class
	hits  []uint64 // by state: the lists of which a phrase ends here
}

// newPhraseSet takes at most 64 lists.
func newPhraseSet(lists [][]string) *phraseSet {
	s := &phraseSet{wide: 1}
	for _, list := range lists {
		for _, phrase := range list {
			for i := range len(phrase) {
				if c := lowered(phrase[i]); s.class[c] == 0 {
					s.class[c] = uint8(s.wide)
					s.wide++
				}
			}
		}
	}
	for c := byte('A'); c <= 'Z'; c++ {
		s.class[c] = s.class[c|0x20]
	}
	s.grow()
	for i, list := range lists {
		for _, phrase := range list {
			s.add(phrase, 1<<i)
		}
	}
	s.link()
	return s
}

func lowered(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

func (s *phraseSet) grow() uint32 {
	s.next = append(s.next, make([]uint32, s.wide)...)
	s.hits = append(s.hits, 0)
	return uint32(len(s.hits) - 1)
}

func (s *phraseSet) add(phrase string, list uint64) {
	at := uint32(0)
	for i := range len(phrase) {
		to := int(at)*s.wide + int(s.class[lowered(phrase[i])])
		if s.next[to] == 0 {
			n := s.grow()
			s.next[to] = n
		}
		at = s.next[to]
	}
	s.hits[at] |= list
}

// link completes the table: where a phrase does not go on, the longest suffix
// that begins another one does.
func (s *phraseSet) link() {
	suffix := make([]uint32, len(s.hits))
	var queue []uint32
	for c := range s.wide {
		if n := s.next[c]; n != 0 {
			queue = append(queue, n)
		}
	}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		s.hits[at] |= s.hits[suffix[at]]
		for c := range s.wide {
			to, fall := int(at)*s.wide+c, s.next[int(suffix[at])*s.wide+c]
			if n := s.next[to]; n != 0 {
				suffix[n] = fall
				queue = append(queue, n)
			} else {
				s.next[to] = fall
			}
		}
	}
	for i := range s.hits {
		s.hits[i] |= s.hits[0] // an empty phrase is everywhere
	}
}

// find returns which of the wanted lists have a phrase in the text.
func (s *phraseSet) find(text string, want uint64) (hits uint64) {
	hits = s.hits[0] & want
	at := 0
	for i := range len(text) {
		at = int(s.next[at*s.wide+int(s.class[text[i]])])
		if h := s.hits[at]; h != 0 {
			if hits |= h & want; hits == want {
				return hits
			}
		}
	}
	return hits
}
