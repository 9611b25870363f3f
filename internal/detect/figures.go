package detect

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Figures are what the rules have seen and found since the engine began. They
// only grow, over an exchange of the rules too; what [Engine.Run] reads again
// after a restart is not counted a second time.
type Figures struct {
	Matches  map[string]uint64 // by rule's id: how often it held, for correlations too
	Received []Received
}

// Received is how many events were of one set of logsources.
type Received struct {
	Sources []Logsource
	Events  uint64
}

// Cost is what a rule over single events takes, by measurement of samples since
// the rules were loaded. Finding is shared: one search finds all rules of a
// logsource that might hold for an event, and only those are asked.
type Cost struct {
	Samples   int           // events of the rule's logsource that were measured; 0 if none was
	Asked     int           // of these: how often its condition was asked
	Condition time.Duration // what asking it takes on average, by itself
	Finding   time.Duration // what finding takes on average for an event, for all rules of the logsource together
	Shared    int           // how many rules these are
}

// PerEvent is what the rule costs for an event of its logsource: its condition,
// as often as it is asked, and its share of finding.
func (c Cost) PerEvent() time.Duration {
	if c.Samples == 0 || c.Shared == 0 {
		return 0
	}
	return c.Condition*time.Duration(c.Asked)/time.Duration(c.Samples) + c.Finding/time.Duration(c.Shared)
}

const (
	// sampled is how many events there are for one that is measured.
	sampled = 1024
	// repeats is how often a condition is asked for one measurement: asking it
	// once may take less than reading the clock.
	repeats = 8
	// repeatsEnd is when an expensive condition has been asked long enough.
	repeatsEnd = 20 * time.Microsecond
	// maxReceived is how many sets of logsources are told apart.
	maxReceived = 4096
)

// figures counts. It outlives its rules: those that follow take it over.
type figures struct {
	mu       sync.Mutex
	matches  map[string]uint64
	received map[string]*received
}

type received struct {
	sources []Logsource
	events  atomic.Uint64
}

func newFigures() *figures {
	return &figures{matches: map[string]uint64{}, received: map[string]*received{}}
}

// hit counts a match of a rule.
func (f *figures) hit(r *Rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.matches[r.ID]++
}

// of is the counter for events of some logsources, without those of which
// nothing is known.
func (f *figures) of(sources []Logsource) *received {
	key := string(appendSources(nil, sources))
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.received[key]
	if r == nil {
		r = &received{sources: slices.Clone(sources)}
		if len(f.received) < maxReceived {
			f.received[key] = r
		}
	}
	return r
}

// Figures returns what has been counted. It may be called at any time.
func (e *Engine) Figures() Figures {
	f := e.set().figures
	out := Figures{Matches: map[string]uint64{}}
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.Copy(out.Matches, f.matches)
	for _, r := range f.received {
		if n := r.events.Load(); n > 0 {
			out.Received = append(out.Received, Received{r.sources, n})
		}
	}
	return out
}

// costs are the measurements of one set of rules.
type costs struct {
	every  uint32 // one of so many events is measured
	mu     sync.Mutex
	groups map[Logsource]groupCost
	rules  []ruleCost // by number
}

type groupCost struct {
	samples int
	finding time.Duration
}

type ruleCost struct {
	asked int
	took  time.Duration // of all times, each by itself
}

func newCosts(rules int) *costs {
	return &costs{every: sampled, groups: map[Logsource]groupCost{}, rules: make([]ruleCost, rules)}
}

// due says, by chance, whether this event is measured. It takes two nanoseconds
// or so, and shares nothing between processors.
func (c *costs) due() bool { return rand.Uint32N(c.every) == 0 }

// measured is run for an event that is measured. Every rule that is found is
// asked once more by itself, some times in a row and without the answers that
// rules have from each other.
func (m *machine) measured(rt *route) []int32 {
	finding := make([]time.Duration, len(rt.groups))
	for i, g := range rt.groups {
		start := time.Now()
		m.lookIn(g)
		finding[i] = time.Since(start)
	}
	slices.Sort(m.found)
	asked := slices.Clone(m.found)
	took := make([]time.Duration, len(asked))
	for i, rule := range asked {
		start, n := time.Now(), 0
		for n < repeats && (n == 0 || time.Since(start) < repeatsEnd) {
			m.nextTurn()
			m.holds(m.roots[rule])
			n++
		}
		took[i] = time.Since(start) / time.Duration(n)
	}
	m.nextTurn()
	m.costs.add(rt, finding, asked, took)
	return m.judge()
}

func (c *costs) add(rt *route, finding []time.Duration, asked []int32, took []time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, g := range rt.groups {
		gc := c.groups[g.source]
		c.groups[g.source] = groupCost{gc.samples + 1, gc.finding + finding[i]}
	}
	for i, rule := range asked {
		c.rules[rule].asked++
		c.rules[rule].took += took[i]
	}
}

// Costs returns what the rules over single events cost, by id. Correlations
// cost what remembering takes, which is not measured: they are not listed.
func (e *Engine) Costs() map[string]Cost {
	set := e.set()
	size := map[Logsource]int{}
	for _, r := range set.events {
		size[r.Source]++
	}
	set.costs.mu.Lock()
	defer set.costs.mu.Unlock()
	out := map[string]Cost{}
	for i, r := range set.events {
		own := set.costs.rules[i]
		c := Cost{Asked: own.asked, Shared: size[r.Source]}
		if own.asked > 0 {
			c.Condition = own.took / time.Duration(own.asked)
		}
		if gc := set.costs.groups[r.Source]; gc.samples > 0 {
			c.Samples, c.Finding = gc.samples, gc.finding/time.Duration(gc.samples)
		}
		out[r.ID] = c
	}
	return out
}
