package detect

import (
	"time"

	"pasban"
)

// TallyStep is the length of one part of a [Tally].
const TallyStep = 15 * time.Minute

// tallyParts are kept: one day.
const tallyParts = 96

// Tally counts what went through the journal in one part of the day.
type Tally struct {
	Start   time.Time // the part is [Start, Start+TallyStep)
	Served  int       // looks and changes that were allowed
	Blocked int       // requests turned away, by the gateway or by policy
}

// tally is the ring of counts. The engine's mutex covers it.
type tally struct {
	parts [tallyParts]Tally
	first time.Time // every event from then on is counted
}

// count adds one event of the journal to the tally.
func (e *Engine) count(ev pasban.Event) {
	t := Time(ev)
	if t.IsZero() {
		return
	}
	kind, _ := ev["Kind"].(string)
	outcome, _ := ev["Outcome"].(string)
	served, blocked := 0, 0
	switch pasban.Kind(kind) {
	case pasban.KindLook, pasban.KindChange:
		served = 1
	case pasban.KindBlock, pasban.KindDecision:
		if outcome == string(pasban.Denied) {
			blocked = 1
		}
		if n, ok := ev["Count"].(int); ok && n > 1 {
			blocked = n
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	start := t.Truncate(TallyStep)
	part := &e.tally.parts[start.Unix()/int64(TallyStep/time.Second)%tallyParts]
	if part.Start.Before(start) {
		*part = Tally{Start: start}
	}
	if part.Start.Equal(start) {
		part.Served += served
		part.Blocked += blocked
	}
	if e.tally.first.IsZero() || t.Before(e.tally.first) {
		e.tally.first = t
	}
}

// countsFrom says that every event from then on has been counted.
func (e *Engine) countsFrom(t time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tally.first = t
}

// Tally returns the counts of the day that ends now, oldest first, in parts of
// [TallyStep]. Parts that are not known are left out: what happened before a
// restart is read again from the journal as far as [Engine.Run] reads it, at
// most 50,000 entries. It is empty until the first event has been counted.
func (e *Engine) Tally(now time.Time) []Tally {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []Tally
	last := now.Truncate(TallyStep)
	for i := range tallyParts {
		start := last.Add(-time.Duration(tallyParts-1-i) * TallyStep)
		if e.tally.first.IsZero() || start.Before(e.tally.first.Truncate(TallyStep)) {
			continue
		}
		part := e.tally.parts[start.Unix()/int64(TallyStep/time.Second)%tallyParts]
		if !part.Start.Equal(start) {
			part = Tally{Start: start}
		}
		out = append(out, part)
	}
	return out
}
