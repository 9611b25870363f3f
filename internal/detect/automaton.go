package detect

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// automaton finds all of many texts in one pass over a value, ignoring case
// (Aho and Corasick, "Efficient String Matching", 1975). Its table is dense:
// one row per state, one column per class of bytes that no text tells apart.
//
// States are kept as the offsets of their rows. Those where a text ends come
// last, so that one comparison per byte tells that there is something to do.
type automaton struct {
	class  [256]uint8
	next   []uint32
	stride uint32
	ends   uint32  // rows from here on are where texts end
	from   []int32 // by such a row's number: where its targets begin in targets; one more at the end
	target []target
}

// target is a text that the automaton looks for: where it must stand, and the
// rules that are to be looked at if it does. Of long texts the automaton knows
// the end only; the rest is compared where that has been found.
type target struct {
	text       string
	head, tail bool
	rules      []int32
}

// maxKnown is how many bytes of a text an automaton knows. They tell texts
// apart almost as well as whole texts, in a table of a fraction of the size.
const maxKnown = 12

// known is the part of a text that the automaton knows.
func known(text string) string { return text[max(0, len(text)-maxKnown):] }

// at reports whether the target's text ends there in a text, ignoring case.
func (t *target) at(text []byte, end int) bool {
	start := end - len(t.text)
	if start < 0 || t.head && start > 0 || t.tail && end < len(text) {
		return false
	}
	return len(t.text) <= maxKnown || equalFolded(text[start:end-maxKnown], t.text)
}

// builder collects the texts that are looked for in a field.
type builder struct {
	targets map[hook]*target
}

func (b *builder) add(h hook, rule int32) {
	if b.targets == nil {
		b.targets = map[hook]*target{}
	}
	t := b.targets[h]
	if t == nil {
		t = &target{text: h.text, head: h.head, tail: h.tail}
		b.targets[h] = t
	}
	if !slices.Contains(t.rules, rule) {
		t.rules = append(t.rules, rule)
	}
}

// texts are the targets in a fixed order.
func (b *builder) texts() []*target {
	return slices.SortedFunc(maps.Values(b.targets), func(x, y *target) int {
		return cmp.Or(strings.Compare(x.text, y.text), cmp.Compare(flag(x.head)*2+flag(x.tail), flag(y.head)*2+flag(y.tail)))
	})
}

// trieNode is a state while the automaton is built.
type trieNode struct {
	fail    int32
	ends    []int32 // texts that end here
	longest int32   // nearest state on the way of fails where a text ends, 0 for none
}

// newAutomaton makes the automaton of the texts, all of which are folded and not
// empty; nil if there are none.
func newAutomaton(texts []*target) *automaton {
	if len(texts) == 0 {
		return nil
	}
	a := &automaton{}
	classes := uint32(1)
	for _, t := range texts {
		for _, c := range []byte(known(t.text)) {
			if a.class[c] == 0 {
				a.class[c] = uint8(classes)
				classes++
			}
		}
	}
	for c := 'A'; c <= 'Z'; c++ {
		a.class[c] = a.class[c|0x20]
	}
	a.stride = classes
	nodes, next := a.trie(texts)
	order := a.link(nodes, next)
	a.pack(texts, nodes, next, order)
	return a
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// trie enters the texts. next holds a row of children for each state, 0 for none.
func (a *automaton) trie(texts []*target) (nodes []trieNode, next []int32) {
	nodes, next = []trieNode{{}}, make([]int32, a.stride)
	for i, t := range texts {
		at := int32(0)
		for _, c := range []byte(known(t.text)) {
			slot := at*int32(a.stride) + int32(a.class[c])
			if next[slot] == 0 {
				next[slot] = int32(len(nodes))
				nodes = append(nodes, trieNode{})
				next = append(next, make([]int32, a.stride)...)
			}
			at = next[slot]
		}
		nodes[at].ends = append(nodes[at].ends, int32(i))
	}
	return nodes, next
}

// link turns the trie into an automaton and returns its states, nearest to the
// root first.
func (a *automaton) link(nodes []trieNode, next []int32) []int32 {
	stride := int32(a.stride)
	order := []int32{0}
	for head := 0; head < len(order); head++ {
		at := order[head]
		fail := nodes[at].fail
		if nodes[at].longest = fail; len(nodes[fail].ends) == 0 {
			nodes[at].longest = nodes[fail].longest
		}
		for c := range stride {
			child := next[at*stride+c]
			beyond := int32(0)
			if at != 0 {
				beyond = next[fail*stride+c]
			}
			if child == 0 {
				next[at*stride+c] = beyond
				continue
			}
			nodes[child].fail = beyond
			order = append(order, child)
		}
	}
	return order
}

// pack numbers the states anew, those where texts end last.
func (a *automaton) pack(texts []*target, nodes []trieNode, next, order []int32) {
	ending := func(at int32) bool { return len(nodes[at].ends) > 0 || nodes[at].longest != 0 }
	number := make([]uint32, len(nodes))
	n := uint32(0)
	for _, last := range []bool{false, true} {
		for _, at := range order {
			if ending(at) == last {
				number[at] = n
				n++
			}
		}
		if !last {
			a.ends = n * a.stride
		}
	}
	a.next = make([]uint32, len(next))
	a.from = append(a.from, 0)
	for _, at := range order {
		row := number[at] * a.stride
		for c := range a.stride {
			a.next[row+c] = number[next[uint32(at)*a.stride+c]] * a.stride
		}
		if !ending(at) {
			continue
		}
		for on := at; on != 0; on = nodes[on].longest {
			for _, i := range nodes[on].ends {
				a.target = append(a.target, *texts[i])
			}
		}
		a.from = append(a.from, int32(len(a.target)))
	}
}

// size is what the automaton's tables take, in bytes.
func (a *automaton) size() int {
	if a == nil {
		return 0
	}
	n := 4*len(a.next) + 4*len(a.from)
	for _, t := range a.target {
		n += 40 + 4*len(t.rules)
	}
	return n
}
