package detect

import (
	"bytes"
	"encoding/binary"
)

// shapes remembers which keys events have, and which follow one another:
// a source writes the same keys in the same order again and again. A key that
// was foreseen is compared, not read, and its field need not be looked up.
//
// It is about the keys of the event itself, not of objects within.
type shapes struct {
	keys  []shapeKey // [0] is the beginning of an event
	known map[string]int32
}

// shapeKey is a key as it stands in JSON.
type shapeKey struct {
	raw   []byte // from behind the comma before it to its colon
	head  uint64 // its first eight bytes
	mask  uint64 // those of the eight that it has
	name  []byte // what is between the quotes
	field int32
	inner bool
	next  [3]int32 // what followed lately, the last first; 0 for none
}

const (
	// maxShapeKeys bounds how many keys are remembered. Of more, all are
	// forgotten: what comes again is soon learnt again.
	maxShapeKeys = 4096
	maxShapeKey  = 128 // bytes of one
)

func newShapes() shapes { return shapes{keys: make([]shapeKey, 1), known: map[string]int32{}} }

// foresee returns the key that follows at in a text, 0 if it is none that did before.
func (s *shapes) foresee(at int32, text []byte) int32 {
	if len(text) < 8 {
		return 0
	}
	head, k := binary.LittleEndian.Uint64(text), &s.keys[at]
	for i, n := range k.next {
		if next := &s.keys[n]; next.head == head&next.mask && n != 0 && bytes.HasPrefix(text, next.raw) {
			k.next[i], k.next[0] = k.next[0], n
			return n
		}
	}
	return 0
}

// learn notes that a key follows at, and returns it; 0 if it is not to be remembered.
func (s *shapes) learn(at int32, raw []byte, key span, names *vocabulary) int32 {
	n := s.known[string(raw)]
	if n == 0 {
		if key.escaped || key.wide || len(raw) > maxShapeKey {
			return 0
		}
		if len(s.keys) == maxShapeKeys {
			*s, at = newShapes(), 0
		}
		n = int32(len(s.keys))
		k := shapeKey{raw: bytes.Clone(raw), name: bytes.Clone(key.text)}
		k.field, k.inner = names.find(key.text)
		for i, c := range raw[:min(len(raw), 8)] {
			k.head |= uint64(c) << (8 * i)
			k.mask |= 0xff << (8 * i)
		}
		s.keys = append(s.keys, k)
		s.known[string(raw)] = n
	}
	next := &s.keys[at].next
	next[2], next[1], next[0] = next[1], next[0], n
	return n
}

// members reads the members of the event itself.
func (r *record) members(c *cursor) error {
	more, err := c.begin(0)
	for at := int32(0); more && err == nil; {
		start := c.i
		next := r.shapes.foresee(at, c.b[start:])
		if next != 0 {
			c.i += len(r.shapes.keys[next].raw)
		} else {
			key, bad := c.key()
			if bad != nil {
				return bad
			}
			if next = r.shapes.learn(at, c.b[start:c.i], key, r.names); next == 0 {
				err = r.member(c, key, 0, 1)
			}
		}
		if at = next; at != 0 {
			err = r.memberOf(c, &r.shapes.keys[at])
		}
		if err == nil {
			more, err = c.more('{')
		}
	}
	return err
}

// memberOf reads the value of a key that is known.
func (r *record) memberOf(c *cursor, k *shapeKey) error {
	if k.inner {
		r.path = append(r.path[:0], k.name...)
	}
	return r.known(c, k.field, k.inner, 1)
}
