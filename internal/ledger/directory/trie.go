package directory

import (
	"bytes"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"pasban"
)

// node is a node of the map of heads (see pasban.LabelNode). Nodes never change:
// an update makes new ones along the paths that it touches, so that older roots
// stay whole. nil is an empty subtree, whose hash is 32 zero bytes.
type node struct {
	hash        pasban.MapHash
	left, right *node
	label       *pasban.Label // set if, and only if, this is the node of a label
	value       *pasban.MapHash
}

func (n *node) sum() pasban.MapHash {
	if n == nil {
		return pasban.MapHash{}
	}
	return n.hash
}

// leaf is the new node of a label.
func leaf(label pasban.Label, value pasban.MapHash) *node {
	return &node{hash: pasban.LabelNode(label, value), label: &label, value: &value}
}

// update returns the map with these label nodes added or exchanged. They are
// sorted in place; of two with one label the later counts.
func (n *node) update(leaves []*node) *node {
	slices.SortStableFunc(leaves, func(a, b *node) int { return bytes.Compare(a.label[:], b.label[:]) })
	last := leaves[:0]
	for i, l := range leaves {
		if i+1 == len(leaves) || *leaves[i+1].label != *l.label {
			last = append(last, l)
		}
	}
	return n.merge(last, 0)
}

// merge is update for sorted leaves without duplicates, at a depth.
func (n *node) merge(leaves []*node, depth int) *node {
	switch {
	case len(leaves) == 0:
		return n
	case n == nil && len(leaves) == 1:
		return leaves[0]
	case n != nil && n.label != nil:
		at, same := slices.BinarySearchFunc(leaves, n.label, func(l *node, label *pasban.Label) int { return bytes.Compare(l.label[:], label[:]) })
		if !same {
			leaves = slices.Insert(slices.Clone(leaves), at, n)
		}
		return (*node)(nil).merge(leaves, depth)
	}
	right := slices.IndexFunc(leaves, func(l *node) bool { return bit(l.label, depth) })
	if right < 0 {
		right = len(leaves)
	}
	inner := &node{}
	if n != nil {
		inner.left, inner.right = n.left, n.right
	}
	inner.left = inner.left.merge(leaves[:right], depth+1)
	inner.right = inner.right.merge(leaves[right:], depth+1)
	inner.hash = pasban.InnerNode(inner.left.sum(), inner.right.sum())
	return inner
}

// prove follows a label down the map and returns the siblings from its place
// upwards, and the node in that place: its own, another label's, or nil.
func (n *node) prove(label pasban.Label) (proof []tlog.Hash, at *node) {
	proof = []tlog.Hash{}
	for depth := 0; n != nil && n.label == nil; depth++ {
		if bit(&label, depth) {
			proof, n = append(proof, tlog.Hash(n.left.sum())), n.right
		} else {
			proof, n = append(proof, tlog.Hash(n.right.sum())), n.left
		}
	}
	slices.Reverse(proof)
	return proof, n
}

// count returns how many labels the map has.
func (n *node) count() int64 {
	switch {
	case n == nil:
		return 0
	case n.label != nil:
		return 1
	}
	return n.left.count() + n.right.count()
}

// bit is the label's bit at a depth, most significant first.
func bit(label *pasban.Label, depth int) bool { return label[depth/8]>>(7-depth%8)&1 == 1 }
