package ingest_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pasban/internal/detect/ingest"
)

// follow reads frames until n have come.
func follow(t *testing.T, s *ingest.Spool, from uint64, n int) (out []string, next uint64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.Follow(ctx, from, func(f ingest.Frame) error {
		out = append(out, string(f.Data[:min(len(f.Data), 8)]))
		next = f.Offset + uint64(8+2+len(f.Source)+8+len(f.Data))
		if len(out) == n {
			cancel()
		}
		return nil
	})
	return out, next
}

// TestSecondReader: what detection has taken stays until the second reader has it
// as well, over a restart too.
func TestSecondReader(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, dir, 200<<20)
	if err := s.Keep(0); err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 40 { // three segments
		if err := s.Append("a", time.Now(), fmt.Appendf(nil, "%08d%s", i, strings.Repeat("x", 1<<20))); err != nil {
			t.Fatal(err)
		}
		want = append(want, fmt.Sprintf("%08d", i))
	}
	drain(t, s)
	first, at := follow(t, s, 0, 5)
	if err := s.Keep(at); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openSpool(t, dir, 200<<20)
	defer s.Close()
	if err := s.Keep(at); err != nil {
		t.Fatal(err)
	}
	rest, at := follow(t, s, at, 35)
	if got := append(first, rest...); !slices.Equal(got, want) {
		t.Fatalf("%d frames: %v", len(got), got)
	}
	if waiting, lost := s.Unkept(); waiting < 35<<20 || lost != 0 || s.Waiting() != 0 {
		t.Errorf("%d bytes wait for the second reader, %d lost, %d wait for detection", waiting, lost, s.Waiting())
	}
	if err := s.Keep(at); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.seg")); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}

// TestSecondReaderBehind: a second reader that does not get on takes no room from
// the first. It loses the oldest frames, and they are counted.
func TestSecondReaderBehind(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, dir, 40<<20)
	defer s.Close()
	if err := s.Keep(0); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if err := s.Append("a", time.Now(), fmt.Appendf(nil, "%08d%s", i, strings.Repeat("x", 1<<20))); err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
		drain(t, s)
	}
	waiting, lost := s.Unkept()
	if lost == 0 || waiting+lost < 100<<20 || waiting > 41<<20 {
		t.Errorf("%d bytes wait, %d were lost", waiting, lost)
	}
	got, _ := follow(t, s, 0, 1)
	if got[0] == "00000000" {
		t.Error("what was lost came")
	}
	var size int64
	names, _ := filepath.Glob(filepath.Join(dir, "*.seg"))
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if size > 60<<20 {
		t.Errorf("%d bytes on disk", size)
	}
}
