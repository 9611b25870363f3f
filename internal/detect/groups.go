package detect

import (
	"bytes"
	"hash/maphash"
)

// groupTable finds groups by their keys. It is a hash table of its own because
// every hit looks for a group among many, and most floods make new ones: here
// that costs one look at memory, and forgetting a group needs no second key.
// The hash is keyed at random, so that nobody can choose keys that collide.
type groupTable struct {
	seed  maphash.Seed
	slots []groupSlot // a power of two of them, at most half full
	count int
}

type groupSlot struct {
	hash uint64
	g    *group // nil for none
}

func newGroupTable() groupTable {
	return groupTable{seed: maphash.MakeSeed(), slots: make([]groupSlot, 64)}
}

func (t *groupTable) hash(key []byte) uint64 { return maphash.Bytes(t.seed, key) }

// get returns the group of a key with the given hash, nil if there is none.
func (t *groupTable) get(key []byte, hash uint64) *group {
	for i := hash & uint64(len(t.slots)-1); t.slots[i].g != nil; i = (i + 1) & uint64(len(t.slots)-1) {
		if s := &t.slots[i]; s.hash == hash && bytes.Equal(s.g.key, key) {
			return s.g
		}
	}
	return nil
}

// put adds a group that is not there, under its key and hash.
func (t *groupTable) put(g *group) {
	if t.count++; 2*t.count > len(t.slots) {
		old := t.slots
		t.slots = make([]groupSlot, 2*len(old))
		for _, s := range old {
			if s.g != nil {
				t.place(s)
			}
		}
	}
	t.place(groupSlot{g.hash, g})
}

func (t *groupTable) place(s groupSlot) {
	i := s.hash & uint64(len(t.slots)-1)
	for t.slots[i].g != nil {
		i = (i + 1) & uint64(len(t.slots)-1)
	}
	t.slots[i] = s
}

// drop takes a group out. What stands behind it moves up, so that no mark of it
// stays.
func (t *groupTable) drop(g *group) {
	mask := uint64(len(t.slots) - 1)
	i := g.hash & mask
	for t.slots[i].g != g {
		i = (i + 1) & mask
	}
	for j := i; ; {
		j = (j + 1) & mask
		if t.slots[j].g == nil {
			break
		}
		if home := t.slots[j].hash & mask; (j-home)&mask >= (j-i)&mask {
			t.slots[i] = t.slots[j]
			i = j
		}
	}
	t.slots[i] = groupSlot{}
	t.count--
}

// distinct counts how often there are which values: a few in a list, more in a map.
type distinct struct {
	few  []valueTimes
	many map[string]int // if it is not nil, all are here
}

type valueTimes struct {
	value string
	times int
}

// maxFew is how many values a list has.
const maxFew = 8

// add counts a value n times more, or less. What is there no times is not there.
func (d *distinct) add(value string, n int) {
	if d.many != nil {
		if d.many[value] += n; d.many[value] == 0 {
			delete(d.many, value)
		}
		return
	}
	for i := range d.few {
		if v := &d.few[i]; v.value == value {
			if v.times += n; v.times == 0 {
				*v = d.few[len(d.few)-1]
				d.few[len(d.few)-1] = valueTimes{}
				d.few = d.few[:len(d.few)-1]
			}
			return
		}
	}
	if len(d.few) < maxFew {
		d.few = append(d.few, valueTimes{value, n})
		return
	}
	d.many = map[string]int{value: n}
	for _, v := range d.few {
		d.many[v.value] = v.times
	}
	d.few = nil
}

func (d *distinct) has(value string) bool {
	if d.many != nil {
		return d.many[value] != 0
	}
	for i := range d.few {
		if d.few[i].value == value {
			return true
		}
	}
	return false
}

// len is how many values there are.
func (d *distinct) len() int { return len(d.few) + len(d.many) }

// reset forgets all values.
func (d *distinct) reset() {
	clear(d.few)
	d.few, d.many = d.few[:0], nil
}
