package directory

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"pasban"
)

// naive is the map's definition, word for word.
func naive(leaves map[pasban.Label]pasban.MapHash, depth int) pasban.MapHash {
	switch len(leaves) {
	case 0:
		return pasban.MapHash{}
	case 1:
		for l, v := range leaves {
			return pasban.LabelNode(l, v)
		}
	}
	half := [2]map[pasban.Label]pasban.MapHash{{}, {}}
	for l, v := range leaves {
		half[l[depth/8]>>(7-depth%8)&1][l] = v
	}
	return pasban.InnerNode(naive(half[0], depth+1), naive(half[1], depth+1))
}

func random(r *rand.Rand, close bool) (l pasban.Label) {
	for i := range l {
		l[i] = byte(r.Uint32())
	}
	if close { // long common prefixes
		clear(l[:31])
		l[31] &= 0x1f
	}
	return l
}

// Updates one after the other give the map that its definition gives, older
// roots stay as they were, and every label is proven.
func TestTrie(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var root *node
	all := map[pasban.Label]pasban.MapHash{}
	for round := range 60 {
		before, was := root.sum(), root
		var leaves []*node
		for range r.IntN(20) {
			l, v := random(r, round%2 == 0), pasban.MapHash(random(r, false))
			all[l] = v
			leaves = append(leaves, leaf(l, v))
		}
		root = root.update(leaves)
		if root.sum() != naive(all, 0) || root.count() != int64(len(all)) {
			t.Fatalf("round %d: %d labels, want %d, or another root", round, root.count(), len(all))
		}
		if was.sum() != before {
			t.Fatal("an older root has changed")
		}
	}
	for l, v := range all {
		proof, at := root.prove(l)
		if at == nil || *at.label != l || *at.value != v || climb(l, pasban.LabelNode(l, v), proof) != root.sum() {
			t.Fatalf("%x is not proven", l)
		}
		for i := range 256 { // a neighbour that is not there: what is in its place is proven
			near := l
			near[i/8] ^= 0x80 >> (i % 8)
			if _, there := all[near]; there {
				continue
			}
			if proof, at := root.prove(near); at != nil && *at.label == near || climb(near, at.sum(), proof) != root.sum() {
				t.Fatalf("%x is proven and not there, or its absence is not", near)
			}
		}
	}
}

func climb(l pasban.Label, h pasban.MapHash, proof []tlog.Hash) pasban.MapHash {
	for i, p := range proof {
		if bit(&l, len(proof)-1-i) {
			h = pasban.InnerNode(pasban.MapHash(p), h)
		} else {
			h = pasban.InnerNode(h, pasban.MapHash(p))
		}
	}
	return h
}

// BenchmarkUpdate changes 10,000 labels of a map in memory.
func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprintf("labels=%d", n), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 2))
			labels := make([]pasban.Label, n)
			leaves := make([]*node, n)
			for i := range labels {
				labels[i] = random(r, false)
				leaves[i] = leaf(labels[i], pasban.MapHash{})
			}
			root := (*node)(nil).update(leaves)
			var turn uint64
			for b.Loop() {
				changed := make([]*node, 10_000)
				turn++
				var v pasban.MapHash
				binary.BigEndian.PutUint64(v[:], turn)
				for i := range changed {
					changed[i] = leaf(labels[r.IntN(n)], v)
				}
				root = root.update(changed)
			}
			proof, _ := root.prove(labels[0])
			b.ReportMetric(float64(len(proof)), "hashes/proof")
		})
	}
}
