package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pasban/internal/detect/ingest"
)

func openSpool(t testing.TB, dir string, max int64) *ingest.Spool {
	t.Helper()
	s, err := ingest.OpenSpool(dir, max)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// drain takes everything that waits.
func drain(t *testing.T, s *ingest.Spool) (out []string, offsets []uint64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for s.Waiting() > 0 {
		err := s.Each(ctx, func(f ingest.Frame) error {
			out, offsets = append(out, f.Source+":"+string(f.Data)), append(offsets, f.Offset)
			if s.Waiting() == int64(8+2+len(f.Source)+8+len(f.Data)) {
				cancel() // that was the last one
			}
			return nil
		})
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	return out, offsets
}

func TestSpool(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, dir, 100<<20)
	var want []string
	for i := range 40 { // three segments
		data := fmt.Sprintf("%d %s", i, strings.Repeat("x", 1<<20))
		if err := s.Append("a", time.Now(), []byte(data)); err != nil {
			t.Fatal(err)
		}
		want = append(want, "a:"+data)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openSpool(t, dir, 100<<20)
	got, offsets := drain(t, s)
	if !slices.Equal(got, want) || !slices.IsSorted(offsets) {
		t.Errorf("%d frames, want %d", len(got), len(want))
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*.seg")); len(files) > 1 {
		t.Errorf("what was taken is still there: %v", files)
	}
	last := offsets[len(offsets)-1]
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openSpool(t, dir, 100<<20)
	defer s.Close()
	if err := s.Append("b", time.Now(), []byte("later")); err != nil {
		t.Fatal(err)
	}
	if got, offsets := drain(t, s); len(got) != 1 || got[0] != "b:later" || offsets[0] <= last {
		t.Errorf("after a restart: %q at %v, the last was at %d", got, offsets, last)
	}
}

// TestSpoolAfterCrash: a torn frame at the end is cut off, the others are there;
// a damaged one in the middle costs its segment, and is counted.
func TestSpoolAfterCrash(t *testing.T) {
	for _, tt := range []struct {
		name    string
		damage  func(b []byte) []byte
		want    string
		damaged int
	}{
		{"whole", func(b []byte) []byte { return b }, "a:1 a:2 a:3 a:4", 0},
		{"torn", func(b []byte) []byte { return b[:len(b)-2] }, "a:1 a:2 a:4", 0},
		{"torn within the head", func(b []byte) []byte { return b[:len(b)-18] }, "a:1 a:2 a:4", 0},
		{"zeros behind", func(b []byte) []byte { return append(b, make([]byte, 100)...) }, "a:1 a:2 a:3 a:4", 0},
		{"nothing", func([]byte) []byte { return nil }, "a:4", 0},
	} {
		dir := t.TempDir()
		s := openSpool(t, dir, 1<<20)
		for _, text := range []string{"1", "2", "3"} {
			if err := s.Append("a", time.Now(), []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		s.Close()
		os.Remove(filepath.Join(dir, "position")) // the crash came before it was written
		files, _ := filepath.Glob(filepath.Join(dir, "*.seg"))
		b, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(files[0], tt.damage(b), 0o600); err != nil {
			t.Fatal(err)
		}
		s = openSpool(t, dir, 1<<20)
		if err := s.Append("a", time.Now(), []byte("4")); err != nil {
			t.Fatal(err)
		}
		if got, _ := drain(t, s); strings.Join(got, " ") != tt.want || s.Damaged() != tt.damaged {
			t.Errorf("%s: %q, want %s; %d damaged", tt.name, got, tt.want, s.Damaged())
		}
		s.Close()
	}
}

func TestSpoolDamagedInTheMiddle(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, dir, 100<<20)
	for i := range 20 { // two segments
		if err := s.Append("a", time.Now(), fmt.Appendf(nil, "%d %s", i, strings.Repeat("x", 1<<20))); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	files, _ := filepath.Glob(filepath.Join(dir, "*.seg"))
	f, err := os.OpenFile(files[0], os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteAt([]byte("damage"), 3<<20)
	f.Close()
	s = openSpool(t, dir, 100<<20)
	defer s.Close()
	got, _ := drain(t, s)
	if s.Damaged() != 1 || len(got) < 4 || !strings.HasPrefix(got[0], "a:0 ") || !strings.HasPrefix(got[len(got)-1], "a:19 ") {
		t.Errorf("%d frames, %d damaged", len(got), s.Damaged())
	}
}

func TestSpoolIsBounded(t *testing.T) {
	s := openSpool(t, t.TempDir(), 1000)
	defer s.Close()
	n := 0
	for s.Append("a", time.Now(), make([]byte, 100)) == nil {
		n++
	}
	if err := s.Append("a", time.Now(), make([]byte, 100)); !errors.Is(err, ingest.ErrFull) || n != 8 {
		t.Errorf("%d frames, then %v", n, err)
	}
	if drain(t, s); s.Append("a", time.Now(), make([]byte, 100)) != nil {
		t.Error("no room after everything was taken")
	}
}

func TestSpoolManyWriters(t *testing.T) {
	s := openSpool(t, t.TempDir(), 100<<20)
	defer s.Close()
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 50 {
				if err := s.Append("a", time.Now(), fmt.Appendf(nil, "%d-%d", w, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got, _ := drain(t, s)
	slices.Sort(got)
	if got = slices.Compact(got); len(got) != 400 {
		t.Errorf("%d frames, want 400", len(got))
	}
}
