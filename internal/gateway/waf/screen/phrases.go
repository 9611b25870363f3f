package screen

import "slices"

// phraseSet finds which of several lists have a phrase in a text, letters of
// ASCII in either case. It is the automaton of Aho and Corasick (Efficient
// string matching, CACM 18, 1975); the transitions of the states that most of
// a text is spent in, after at most one character, are in a table.
type phraseSet struct {
	class [256]uint8
	wide  int      // classes of bytes
	table []uint32 // by state and class, of the first states
	dense uint32   // how many those are
	nodes []phraseNode
	edges []phraseEdge
	hits  []uint64 // the sets of lists of which phrases end somewhere
}

// phraseNode is a state: what leads on from it, and where to look else.
type phraseNode struct {
	from, to uint32 // its edges
	suffix   uint32 // the longest suffix that begins another phrase
	hits     uint32 // index of the lists of which a phrase ends here
	whole    bool   // all that leads here is a phrase
}

type phraseEdge struct {
	next  uint32
	class uint8
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
	tree := []*branch{{}}
	for i, list := range lists {
		for _, phrase := range list {
			tree = s.add(tree, phrase, 1<<i)
		}
	}
	s.link(tree)
	return s
}

func lowered(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// branch is a node of the tree of phrases while it grows.
type branch struct {
	edges []phraseEdge
	hits  uint64
}

func (b *branch) on(class uint8) uint32 {
	for _, e := range b.edges {
		if e.class == class {
			return e.next
		}
	}
	return 0
}

func (s *phraseSet) add(tree []*branch, phrase string, list uint64) []*branch {
	at := uint32(0)
	for i := range len(phrase) {
		class := s.class[lowered(phrase[i])]
		next := tree[at].on(class)
		if next == 0 {
			next = uint32(len(tree))
			tree = append(tree, &branch{})
			tree[at].edges = append(tree[at].edges, phraseEdge{next, class})
		}
		at = next
	}
	tree[at].hits |= list
	return tree
}

// link numbers the nodes by their depth, so that those with a table come
// first, and finds their suffixes.
func (s *phraseSet) link(tree []*branch) {
	order, number := []uint32{0}, make([]uint32, len(tree))
	suffix, whole := make([]uint32, len(tree)), make([]bool, len(tree)) // by the tree's numbers
	for i := 0; i < len(order); i++ {
		at := order[i]
		number[at] = uint32(i)
		for _, e := range tree[at].edges {
			order = append(order, e.next)
			if at == 0 {
				continue
			}
			fall := suffix[at]
			for fall != 0 && tree[fall].on(e.class) == 0 {
				fall = suffix[fall]
			}
			suffix[e.next] = tree[fall].on(e.class)
		}
		whole[at] = tree[at].hits != 0
		tree[at].hits |= tree[suffix[at]].hits
	}
	s.dense = uint32(1 + len(tree[0].edges))
	s.nodes, s.edges = make([]phraseNode, 0, len(order)), make([]phraseEdge, 0, len(order))
	s.table = make([]uint32, 0, int(s.dense)*s.wide)
	for _, at := range order {
		n := phraseNode{from: uint32(len(s.edges)), suffix: number[suffix[at]], whole: whole[at]}
		for _, e := range tree[at].edges {
			s.edges = append(s.edges, phraseEdge{number[e.next], e.class})
		}
		n.to = uint32(len(s.edges))
		if n.hits = uint32(slices.Index(s.hits, tree[at].hits)); int32(n.hits) < 0 {
			n.hits = uint32(len(s.hits))
			s.hits = append(s.hits, tree[at].hits)
		}
		s.nodes = append(s.nodes, n)
	}
	for at := range s.dense {
		for class := range s.wide {
			s.table = append(s.table, s.walk(at, uint8(class)))
		}
	}
}

// walk is where a byte of the class leads from a state.
func (s *phraseSet) walk(at uint32, class uint8) uint32 {
	for {
		n := &s.nodes[at]
		for _, e := range s.edges[n.from:n.to] {
			if e.class == class {
				return e.next
			}
		}
		if at == 0 {
			return 0
		}
		if at = n.suffix; at < s.dense && len(s.table) == int(s.dense)*s.wide {
			return s.table[int(at)*s.wide+int(class)]
		}
	}
}

// find returns which of the wanted lists have a phrase in the text.
func (s *phraseSet) find(text string, want uint64) (hits uint64) {
	hits = s.hits[s.nodes[0].hits] & want
	at := uint32(0)
	for i := range len(text) {
		class := s.class[text[i]]
		if at < s.dense {
			at = s.table[int(at)*s.wide+int(class)]
		} else {
			at = s.walk(at, class)
		}
		if h := s.hits[s.nodes[at].hits]; h != 0 {
			if hits |= h & want; hits == want {
				return hits
			}
		}
	}
	return hits
}

// longest is the length of the longest phrase that the text begins with, 0 if it
// begins with none.
func (s *phraseSet) longest(text string) (length int) {
	at := uint32(0)
	for i := range len(text) {
		if at = s.on(at, s.class[text[i]]); at == 0 {
			break
		}
		if s.nodes[at].whole {
			length = i + 1
		}
	}
	return length
}

// on is where a byte of the class leads on from a state, 0 if nowhere.
func (s *phraseSet) on(at uint32, class uint8) uint32 {
	if at == 0 {
		return s.table[class] // of the first state, which has no suffix
	}
	n := &s.nodes[at]
	for _, e := range s.edges[n.from:n.to] {
		if e.class == class {
			return e.next
		}
	}
	return 0
}
