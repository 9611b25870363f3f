package ingest_test

import (
	"context"
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

// TestMatchingDoesNotWaitForSink: while the sink is at work all frames are
// matched, and what was found goes on in order, once.
func TestMatchingDoesNotWaitForSink(t *testing.T) {
	const frames = 20
	dir := t.TempDir()
	s := openSpool(t, dir, 1<<20)
	for i := range frames {
		if err := s.Append("a", time.Now(), fmt.Appendf(nil, `{"n":"%d"}`+"\n", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := ingest.New(dir, config.Logs{Spool: 1 << 20}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
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
