package detect

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"pasban/internal/journal"
)

const (
	// reader is the name under which the journal keeps detection's position.
	reader = "detect"
	// warmMax is the most entries that are read again at a start to fill the
	// correlations' windows.
	warmMax = 50_000
	// warmPage is how many of them are read at a time.
	warmPage = 500
	// firstRetry and lastRetry bound the pause before matches are handed on again.
	firstRetry = 100 * time.Millisecond
	lastRetry  = 10 * time.Second
)

// Sink takes the matches of one batch of events. When it returns nil they are
// durable. It may get the same matches again after a crash.
type Sink func(ctx context.Context, matches []Match) error

// Run follows the journal and hands every match to sink, until ctx is done. It
// returns ctx's error, or why the journal cannot be followed.
//
// Before the first new entry it reads the entries of the longest window again
// (at most 50,000), so that a correlation that a restart interrupted goes on
// where it was; what they match is not handed on a second time. While sink
// fails, Run keeps the matches and tries again: no event is passed over, and
// the journal's position stays where it is. After Run has returned it may be
// called again, and goes on with what is in memory.
//
// Where a correlation is asked of windows that have closed, they close with the
// events' times, and by the clock while the journal is quiet.
func (e *Engine) Run(ctx context.Context, j *journal.Journal, sink Sink) error {
	ctx, cancel := context.WithCancel(ctx)
	var quiet sync.WaitGroup
	quiet.Go(func() { e.closeQuiet(ctx, sink) })
	defer quiet.Wait()
	defer cancel()
	return j.Tail(ctx, reader, func(ctx context.Context, entries []journal.Entry) error {
		e.running.Lock()
		defer e.running.Unlock()
		e.busy = true
		if e.seen == 0 && len(entries) > 0 {
			if err := e.warm(ctx, j, entries[0]); err != nil {
				return err
			}
		}
		var times []time.Time
		for _, entry := range entries {
			if entry.Seq <= e.seen {
				continue // handed out again
			}
			e.seen = entry.Seq
			ev := FromEntry(entry)
			e.pending = append(e.pending, e.Match(ev)...)
			e.count(ev)
			times = append(times, Time(ev))
		}
		if err := e.handOn(ctx, sink); err != nil {
			return err
		}
		e.handled(times)
		return nil
	})
}

// handOn gives the matches that wait to sink.
func (e *Engine) handOn(ctx context.Context, sink Sink) error {
	if len(e.pending) == 0 {
		return nil
	}
	if err := insist(ctx, sink, e.pending); err != nil {
		return err
	}
	e.pending = nil
	return nil
}

// quietAfter is how long the journal must have been quiet for windows to close
// by the clock.
const quietAfter = 10 * time.Second

// closeQuiet closes windows by the clock while no entries come, until ctx is done.
func (e *Engine) closeQuiet(ctx context.Context, sink Sink) {
	tick := time.NewTicker(quietAfter)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			e.running.Lock()
			if !e.busy {
				e.pending = append(e.pending, e.closeUntil(now)...)
				_ = e.handOn(ctx, sink) // fails only if ctx is done: then the next Run hands them on
			}
			e.busy = false
			e.running.Unlock()
		}
	}
}

// insist hands matches on until sink takes them or ctx is done.
func insist(ctx context.Context, sink Sink, matches []Match) error {
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		err := sink(ctx, matches)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		slog.ErrorContext(ctx, "detect: matches are not taken, trying again", "matches", len(matches), "in", pause, "err", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// warm matches the entries of the longest window before first without handing
// their matches on.
func (e *Engine) warm(ctx context.Context, j *journal.Journal, first journal.Entry) error {
	span := e.set().maxSpan
	start := Time(FromEntry(first))
	span = max(span, TallyStep*tallyParts)
	if start.IsZero() {
		start = time.Now()
	}
	var pages [][]journal.Entry
	read, before := 0, first.Seq
	for before > 1 && read < warmMax {
		from := uint64(0)
		if before > warmPage+1 {
			from = before - 1 - warmPage
		}
		page, err := j.Since(ctx, from, int(before-1-from))
		if err != nil && ctx.Err() == nil {
			// A damaged row: Tail tells of it. What lies before it is left out.
			slog.WarnContext(ctx, "detect: earlier entries are not readable, correlations start without them", "err", err)
			break
		}
		if err != nil {
			return fmt.Errorf("read earlier entries: %w", err)
		}
		pages = append(pages, page)
		read += len(page)
		before = from + 1
		if len(page) == 0 || start.Sub(Time(FromEntry(page[0]))) > span {
			before = 0 // everything within the span has been read
		}
	}
	if before <= 1 {
		e.countsFrom(start.Add(-span))
	}
	for _, page := range slices.Backward(pages) {
		for _, entry := range page {
			ev := FromEntry(entry)
			e.match(ev, true)
			e.count(ev)
		}
	}
	return nil
}

// delays keeps how long the last events took from happening to being matched
// and their matches durable.
type delays struct {
	last [512]time.Duration
	n    int // how many there were ever
}

func (d *delays) add(t time.Duration) {
	d.last[d.n%len(d.last)] = max(t, 0)
	d.n++
}

// handled notes how long events of these times took.
func (e *Engine) handled(times []time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, t := range times {
		if !t.IsZero() {
			e.delays.add(time.Since(t))
		}
	}
}

// Delay returns the median and the 99th percentile of the time from an event's
// happening to its matches being durable, over the last events (at most 512).
// It returns ok false while there was none since the start.
func (e *Engine) Delay() (median, p99 time.Duration, ok bool) {
	e.mu.Lock()
	sample := slices.Clone(e.delays.last[:min(e.delays.n, len(e.delays.last))])
	e.mu.Unlock()
	if len(sample) == 0 {
		return 0, 0, false
	}
	slices.Sort(sample)
	return sample[len(sample)/2], sample[len(sample)*99/100], true
}
