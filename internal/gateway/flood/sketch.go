package flood

import (
	"container/heap"
	"time"
)

// sketch counts who asks most, in bounded memory: space-saving (Metwally,
// Agrawal, El Abbadi 2005), all counts halved at each half-life. A key's count
// is at most sum/size too high. The caller locks.
type sketch[K comparable] struct {
	size int
	keys map[K]*counter[K]
	heap counters[K]
	sum  float64
	at   time.Time // of the last halving
}

const halfLife = 10 * time.Second

type counter[K comparable] struct {
	key   K
	count float64
	err   float64 // how much of count may be another's
	place int
}

func newSketch[K comparable](size int) *sketch[K] {
	return &sketch[K]{size: size, keys: map[K]*counter[K]{}, at: time.Now()}
}

// add counts one for a key.
func (s *sketch[K]) add(k K) {
	s.age()
	s.sum++
	c, ok := s.keys[k]
	switch {
	case ok:
		c.count++
		heap.Fix(&s.heap, c.place)
	case len(s.heap) < s.size:
		c = &counter[K]{key: k, count: 1}
		s.keys[k] = c
		heap.Push(&s.heap, c)
	default: // the place of the least
		c = s.heap[0]
		delete(s.keys, c.key)
		c.key, c.err = k, c.count
		c.count++
		s.keys[k] = c
		heap.Fix(&s.heap, 0)
	}
}

// least is how many a key has at least.
func (s *sketch[K]) least(k K) float64 {
	s.age()
	c, ok := s.keys[k]
	if !ok {
		return 0
	}
	return c.count - c.err
}

// age halves what is old.
func (s *sketch[K]) age() {
	now := time.Now()
	n := int(now.Sub(s.at) / halfLife)
	if n == 0 {
		return
	}
	s.at = s.at.Add(time.Duration(n) * halfLife)
	f := 1 / float64(uint64(1)<<min(n, 60))
	s.sum *= f
	for _, c := range s.heap {
		c.count *= f
		c.err *= f
	}
}

type counters[K comparable] []*counter[K]

func (h counters[K]) Len() int           { return len(h) }
func (h counters[K]) Less(i, j int) bool { return h[i].count < h[j].count }
func (h counters[K]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

// Push adds a counter; it is heap's.
func (h *counters[K]) Push(x any) {
	c := x.(*counter[K])
	c.place = len(*h)
	*h = append(*h, c)
}

// Pop removes the last counter; it is heap's.
func (h *counters[K]) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
