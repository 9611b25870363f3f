package ingest

import (
	"testing"
	"time"
)

// TestFollowWhatWasRemoved: the second reader may have chosen a place to go on
// from just before that segment was removed. It goes on with what is there.
func TestFollowWhatWasRemoved(t *testing.T) {
	s, err := OpenSpool(t.TempDir(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	chosen := s.end - 100
	if err := s.Append("a", time.Now(), []byte("x")); err != nil {
		t.Fatal(err)
	}
	got := 0
	next, err := s.followSegment(t.Context(), chosen, s.end, func(Frame) error { got++; return nil })
	if err != nil || next != s.end || got != 1 {
		t.Errorf("%d frames up to %d of %d: %v", got, next, s.end, err)
	}
}
