package pass

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Reason is why a site is under attack mode, as the public is told it.
type Reason string

const (
	Overload Reason = "overload" // far more requests than the service can answer
	Guessing Reason = "guessing" // passwords or numbers are being tried out
	Caution  Reason = "caution"  // an attack is expected
)

// Reasons lists the reasons to choose from.
func Reasons() []Reason { return []Reason{Overload, Guessing, Caution} }

// MaxMode is the longest that a mode may be started for at once.
const MaxMode = 24 * time.Hour

// Mode is one site under attack mode.
type Mode struct {
	Site   string    `json:"site"` // its name, as facts carry it
	Reason Reason    `json:"reason"`
	Note   string    `json:"note,omitempty"` // in the analyst's words; not for the public
	By     string    `json:"by,omitempty"`   // id of the analyst; "" if it started by itself
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until"`
}

// Auto reports whether the mode started by itself.
func (m Mode) Auto() bool { return m.By == "" }

// Modes says which sites are under attack. It is safe for concurrent use.
type Modes struct {
	path string
	mu   sync.Mutex // taken to write
	now  atomic.Pointer[map[string]Mode]
}

// OpenModes reads the modes from the file at path, which need not be there yet.
func OpenModes(path string) (*Modes, error) {
	m := &Modes{path: path}
	all := map[string]Mode{}
	if err := readState(path, &all); err != nil {
		return nil, err
	}
	m.now.Store(&all)
	return m, nil
}

// Of returns the mode that a site is in. It is one load: every request asks.
func (m *Modes) Of(site string, now time.Time) (Mode, bool) {
	mode, ok := (*m.now.Load())[site]
	return mode, ok && now.Before(mode.Until)
}

// All lists the sites under attack, by name.
func (m *Modes) All(now time.Time) []Mode {
	var all []Mode
	for _, mode := range *m.now.Load() {
		if now.Before(mode.Until) {
			all = append(all, mode)
		}
	}
	slices.SortFunc(all, func(a, b Mode) int { return strings.Compare(a.Site, b.Site) })
	return all
}

// Start puts a site under attack mode, or changes the mode that it is in. It
// returns after that is durable; the mode is in force even if it is not.
func (m *Modes) Start(mode Mode) error {
	return m.change(func(all map[string]Mode) { all[mode.Site] = mode })
}

// End ends a site's mode and returns it; ok is false if there was none.
func (m *Modes) End(site string) (mode Mode, ok bool, err error) {
	err = m.change(func(all map[string]Mode) {
		mode, ok = all[site]
		delete(all, site)
	})
	return mode, ok, err
}

// Expired removes the modes whose time is over and returns them.
func (m *Modes) Expired(now time.Time) (over []Mode, err error) {
	for _, mode := range *m.now.Load() {
		if !now.Before(mode.Until) {
			over = append(over, mode)
		}
	}
	if over == nil {
		return nil, nil
	}
	over = nil
	err = m.change(func(all map[string]Mode) {
		for site, mode := range all {
			if !now.Before(mode.Until) {
				over = append(over, mode)
				delete(all, site)
			}
		}
	})
	return over, err
}

func (m *Modes) change(f func(all map[string]Mode)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := maps.Clone(*m.now.Load())
	f(all)
	m.now.Store(&all)
	return writeState(m.path, all)
}

// Counts are what a site has seen since the gateway began.
type Counts struct {
	Asked int64 // requests
	// Away are those of them that were turned away for want of room (shed, a
	// service that did not answer, a challenge), less the visitors who came back
	// with a pass: a crowd of honest strangers is no attack. A client beyond its
	// own rate is not counted: its bucket stops it, and takes no one's room.
	Away int64
}

// When a site goes under attack mode by itself. It starts when, over the
// window, many are turned away and they are most of all; it goes on while more
// than a few are. The gap between the two keeps it from flapping.
const (
	watchWindow = 10               // samples, one a second
	startAway   = 20               // turned away in a second
	goOnAway    = 5                // likewise
	startShare  = 1.0 / 2          // of all that asked
	AutoLife    = 10 * time.Minute // it ends when it did not have to go on for so long
	restAfter   = 10 * time.Minute // that it does not start again after a person has ended it
)

// Watch decides by itself when one site is under attack. One goroutine owns it.
type Watch struct {
	samples [watchWindow + 1]Counts
	n       int
	rest    time.Time
}

// Verdict is what a Watch says.
type Verdict byte

const (
	Calm  Verdict = iota // nothing to do
	Press                // an attack mode that is on should go on
	Alarm                // start one
)

// Step takes the counts of one second more.
func (w *Watch) Step(now time.Time, c Counts) Verdict {
	w.samples[w.n%len(w.samples)] = c
	w.n++
	if w.n < len(w.samples) {
		return Calm
	}
	first := w.samples[w.n%len(w.samples)]
	asked, away := float64(c.Asked-first.Asked)/watchWindow, float64(c.Away-first.Away)/watchWindow
	switch {
	case away >= startAway && away >= asked*startShare && !now.Before(w.rest):
		return Alarm
	case away >= goOnAway:
		return Press
	}
	return Calm
}

// Rest keeps the watch from starting again for a while: a person knows better.
func (w *Watch) Rest(now time.Time) { w.rest = now.Add(restAfter) }
