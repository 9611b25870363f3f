package ingest

import (
	"testing"
	"time"
)

// TestFollowGone: a segment that is removed between the look at the spool and the
// look for the segment is passed over, and is no reason to begin again.
func TestFollowGone(t *testing.T) {
	s, err := OpenSpool(t.TempDir(), 100<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Keep(0); err != nil {
		t.Fatal(err)
	}
	began := s.starts[0]
	for range 3 {
		if err := s.Append("a", time.Now(), make([]byte, segmentSize)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.done(s.end); err != nil {
		t.Fatal(err)
	}
	if err := s.Keep(s.starts[1]); err != nil {
		t.Fatal(err)
	}
	next, err := s.followSegment(t.Context(), new(frameReader), began, s.end, func(Frame) error { t.Error("a frame came"); return nil })
	if err != nil || next != s.starts[0] || next == began {
		t.Errorf("goes on at %d of %v, %v", next, s.starts, err)
	}
}
