package archive_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pasban/internal/eventstore"
	"pasban/internal/eventstore/archive"
	"pasban/internal/eventstore/eventstoretest"
	"pasban/internal/eventstore/parquet"
)

func TestMain(m *testing.M) { eventstoretest.Main(m) }

// TestKeeper: days go when they are too old or too many, into files that hold
// all of their rows; while the archive cannot be written none goes.
func TestKeeper(t *testing.T) {
	dir := t.TempDir()
	window := &eventstore.Window{Retention: 10 * 24 * time.Hour}
	s := eventstoretest.Open(t, eventstore.EmbeddedOptions{Dir: filepath.Join(dir, "events"), Tenant: eventstore.TenantOf("a"), Window: window})
	today := time.Now().UTC().Truncate(24 * time.Hour)
	var all []eventstore.Event
	for day := range 6 {
		for i := range 30 {
			all = append(all, eventstore.Event{ID: fmt.Sprintf("%d-%d", day, i), Seq: uint64(day*100 + i + 1), Source: "s", Message: strings.Repeat("m", i),
				Time: today.Add(-time.Duration(day) * 24 * time.Hour).Add(-time.Duration(i) * time.Minute), Fields: []eventstore.Field{{Name: "Image", Value: "cmd"}}})
		}
	}
	if err := s.Add(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	count := func() (n int) {
		if err := s.Search(t.Context(), eventstore.Query{}, 0, func(eventstore.Row) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	// The engine finds an event's stream a little later than the event: flushed, both are there to stay.
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventstoretest.Await(t, func() bool { return count() == len(all) })
	positions, err := eventstore.OpenPositions(filepath.Join(dir, "position.json"))
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(dir, "archive")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	// What a crash left of a file goes.
	if err := os.WriteFile(filepath.Join(folder, ".events-7.tmp"), []byte("PAR1"), 0o600); err != nil {
		t.Fatal(err)
	}
	keep := func(retention time.Duration, max int64) *archive.Keeper {
		k, err := archive.New(archive.Options{Store: s, Dir: folder, Retention: retention, MaxBytes: max, Window: window, Positions: positions})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	now := time.Now()
	// Nothing is too old.
	if err := keep(10*24*time.Hour, 1<<40).Once(t.Context(), now); err != nil || count() != len(all) {
		t.Fatalf("%d events, %v", count(), err)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) != 0 {
		t.Errorf("in the archive are %v, %v", left, err)
	}
	// The archive cannot be written: nothing is deleted.
	k := keep(3*24*time.Hour, 1<<40)
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	if err := k.Once(t.Context(), now); err == nil || k.Status().Err == nil || count() != len(all) {
		t.Fatalf("%d events, %v", count(), err)
	}
	// By time. Of the days at least three days old all is in files.
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := k.Once(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	left := count()
	if in := archived(t, folder); left == len(all) || left+in != len(all) {
		t.Fatalf("%d events are left, %d in the archive", left, in)
	}
	// A day that went takes no more events: what comes late is kept under its receipt.
	if err := s.Add(t.Context(), []eventstore.Event{{ID: "late", Seq: 1000, Time: all[len(all)-1].Time, Received: now}}); err != nil {
		t.Fatal(err)
	}
	eventstoretest.Await(t, func() bool { return count() == left+1 })
	// By size: everything but today goes, and then it is said that today is too large.
	if err := keep(10*24*time.Hour, 1).Once(t.Context(), now); err == nil || !strings.Contains(err.Error(), "today alone") {
		t.Fatalf("%v", err)
	}
	if in := archived(t, folder); in != len(all)-count()+1 {
		t.Fatalf("%d events are left, %d in the archive", count(), in)
	}
	days, err := s.Days(t.Context())
	if err != nil || len(days) != 1 || days[0] != now.UTC().Format("20060102") {
		t.Errorf("%v, %v", days, err)
	}
}

func archived(t *testing.T, folder string) (n int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		info, _ := f.Stat()
		if err := parquet.Read(f, info.Size(), func(eventstore.Row) error { n++; return nil }); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		f.Close()
	}
	return n
}
