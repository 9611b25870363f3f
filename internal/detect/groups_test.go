package detect

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestGroupTable holds the table to a map, with keys of which many share a slot.
func TestGroupTable(t *testing.T) {
	table, want := newGroupTable(), map[string]*group{}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 50_000 {
		key := fmt.Appendf(nil, "%d", rnd.IntN(3000))
		hash := table.hash(key)
		if rnd.IntN(2) == 0 {
			hash %= 64 // as if the keys had been chosen to collide
		}
		g := want[string(key)]
		if g != nil {
			hash = g.hash
		}
		if got := table.get(key, hash); got != g {
			t.Fatalf("%s: %p, want %p", key, got, g)
		}
		switch {
		case g == nil:
			g = &group{key: key, hash: hash}
			table.put(g)
			want[string(key)] = g
		case rnd.IntN(2) == 0:
			table.drop(g)
			delete(want, string(key))
		}
		if table.count != len(want) {
			t.Fatalf("%d groups, want %d", table.count, len(want))
		}
	}
}

// TestDistinct holds the counts of values to a map.
func TestDistinct(t *testing.T) {
	var d distinct
	want := map[string]int{}
	rnd := rand.New(rand.NewPCG(1, 3))
	for i := range 5000 {
		if i%500 == 0 {
			d.reset()
			clear(want)
		}
		v, n := fmt.Sprint(rnd.IntN(4+i%500/20)), 1
		if want[v] > 0 && rnd.IntN(2) == 0 {
			n = -1
		}
		d.add(v, n)
		if want[v] += n; want[v] == 0 {
			delete(want, v)
		}
		if d.len() != len(want) || d.has(v) != (want[v] > 0) {
			t.Fatalf("%d values, want %d; %s is there: %v", d.len(), len(want), v, d.has(v))
		}
	}
}
