package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/detect"
	"pasban/internal/detect/ingest"
)

// spooled is the directory of a spool of so many frames, each of one event.
func spooled(t *testing.T, frames int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	s := openSpool(t, dir, 1<<20)
	for i := range frames {
		if err := s.Append("a", time.Now(), fmt.Appendf(nil, `{"n":"%d"}`+"\n", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// reopened is a receiver with a spool that is there.
func reopened(t *testing.T, dir string) *ingest.Receiver {
	t.Helper()
	r, err := ingest.New(dir, config.Logs{Spool: 1 << 20}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestMatchingDoesNotWaitForSink: while the sink is at work all frames are
// matched, and what was found goes on in order, once.
func TestMatchingDoesNotWaitForSink(t *testing.T) {
	const frames = 20
	r := reopened(t, spooled(t, frames))
	defer r.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	matched, all := 0, make(chan struct{})
	match := matcher(func(ev pasban.Event) []detect.Match {
		if matched++; matched == frames {
			close(all)
		}
		return []detect.Match{{Event: ev}}
	})
	var got []string
	sink := func(ctx context.Context, matches []detect.Match) error {
		select {
		case <-all:
		case <-ctx.Done():
			return ctx.Err()
		}
		for _, m := range matches {
			got = append(got, fmt.Sprint(m.Event["n"]))
		}
		if len(got) == frames {
			cancel()
		}
		return nil
	}
	var running sync.WaitGroup
	running.Go(func() { r.Run(ctx, match, sink) })
	running.Wait()
	if len(got) != frames || got[0] != "0" || got[frames-1] != fmt.Sprint(frames-1) {
		t.Errorf("handed on: %v", got)
	}
}

// TestNotTaken: what the sink has not taken when the node ends is matched again at
// the next start, also if what came behind it was of no interest.
func TestNotTaken(t *testing.T) {
	const frames = 20
	dir := spooled(t, frames)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r := reopened(t, dir)
	asked, matched := make(chan struct{}), 0
	r.Run(ctx, matcher(func(ev pasban.Event) []detect.Match {
		if matched++; matched == 1 {
			return []detect.Match{{Event: ev}}
		}
		if <-asked; matched == frames {
			cancel()
		}
		return nil
	}), func(context.Context, []detect.Match) error {
		select {
		case <-asked:
		default:
			close(asked)
		}
		return errors.New("the sink is full")
	})
	if err := r.Close(); err != nil || matched != frames {
		t.Fatalf("%d events, %v", matched, err)
	}
	r = reopened(t, dir)
	defer r.Close()
	ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r.Run(ctx, matcher(func(ev pasban.Event) []detect.Match {
		if ev["n"] != "0" {
			t.Errorf("the first event is %v", ev["n"])
		}
		cancel()
		return nil
	}), nil)
	if ctx.Err() != context.Canceled {
		t.Error("nothing came again")
	}
}
