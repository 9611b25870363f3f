package detect

import (
	"encoding/json"

	"pasban"
)

const (
	// recentBytes is how much of received events is kept at hand, about.
	recentBytes = 16 << 20
	// recentMost is the largest event of which a copy is kept at hand.
	recentMost = 1 << 20
)

// recent holds the newest received events in which some rule found something.
// The journal has its own events for ever; these are gone once they have been
// matched, so a match takes along those that it names. A correlation names
// events of its window: on a busy node the oldest may have made room for
// others. The engine's mutex covers it. The zero value is empty.
type recent struct {
	events map[uint64]pasban.Event
	order  []recentEvent // oldest first
	size   int
}

type recentEvent struct {
	seq  uint64
	size int
}

// add keeps an event. It changes nothing if it is there.
func (r *recent) add(seq uint64, ev pasban.Event) {
	size := sizeOf(map[string]any(ev))
	if _, there := r.events[seq]; there || size > recentMost {
		return
	}
	if r.events == nil {
		r.events = map[uint64]pasban.Event{}
	}
	r.events[seq], r.order, r.size = ev, append(r.order, recentEvent{seq, size}), r.size+size
	for r.size > recentBytes {
		delete(r.events, r.order[0].seq)
		r.size -= r.order[0].size
		r.order = r.order[1:]
	}
}

// attach gives matches the received events that they name.
func (r *recent) attach(matches []Match) []Match {
	for i := range matches {
		m := &matches[i]
		for _, ref := range m.Refs {
			if ev, ok := r.events[ref.Seq]; ok {
				if m.Received == nil {
					m.Received = map[uint64]pasban.Event{}
				}
				m.Received[ref.Seq] = ev
			}
		}
	}
	return matches
}

// sizeOf guesses how much memory a value takes, in bytes.
func sizeOf(v any) (n int) {
	const each = 48 // of a map's entry or a list's, with what leads there
	switch v := v.(type) {
	case string:
		return len(v)
	case json.Number:
		return len(v)
	case map[string]any:
		for key, e := range v {
			n += each + len(key) + sizeOf(e)
		}
	case []any:
		for _, e := range v {
			n += each + sizeOf(e)
		}
	case []string:
		for _, e := range v {
			n += each + len(e)
		}
	}
	return n + 8
}
