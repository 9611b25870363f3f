package ingest

import (
	"context"
	"sync"

	"pasban/internal/detect"
)

// matchesWaiting is from how many matches on the reading waits for the sink: they
// hold on to their events.
const matchesWaiting = 2000

// findings gathers what was found between one who matches and one who hands on.
type findings struct {
	added, freed chan struct{} // with room for one: something changed
	ended        chan struct{} // closed when nothing more comes

	mu      sync.Mutex // covers what follows
	source  string     // of the first match
	matches []detect.Match
	next    uint64 // up to where in the spool this is
	any     bool
}

func newFindings() *findings {
	return &findings{added: make(chan struct{}, 1), freed: make(chan struct{}, 1), ended: make(chan struct{})}
}

// put adds matches, and waits while there are too many. It returns the cause of
// ctx's end.
func (f *findings) put(ctx context.Context, source string, matches []detect.Match, next uint64) error {
	f.mu.Lock()
	if len(f.matches) == 0 {
		f.source = source
	}
	f.matches, f.next, f.any = append(f.matches, matches...), next, true
	f.mu.Unlock()
	tell(f.added)
	for f.waiting() >= matchesWaiting {
		select {
		case <-f.freed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (f *findings) waiting() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.matches)
}

// take waits for something and takes all of it. ok is false when ctx is done, and
// when there is nothing and nothing more comes.
func (f *findings) take(ctx context.Context) (source string, matches []detect.Match, next uint64, ok bool) {
	for last := false; ; {
		f.mu.Lock()
		source, matches, next, ok = f.source, f.matches, f.next, f.any
		f.matches, f.any = nil, false
		f.mu.Unlock()
		if ok || last {
			tell(f.freed)
			return source, matches, next, ok
		}
		select {
		case <-f.added:
		case <-f.ended:
			last = true
		case <-ctx.Done():
			return "", nil, 0, false
		}
	}
}

// tell says that something changed; who was told and has not looked yet need not
// be told again.
func tell(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
