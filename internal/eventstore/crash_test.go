package eventstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"pasban/internal/eventstore"
	"pasban/internal/eventstore/eventstoretest"
)

// numbered are the events of a source that numbers them from 1.
func numbered(from, to uint64, at time.Time) (out []eventstore.Event) {
	for n := from; n <= to; n++ {
		out = append(out, eventstore.Event{ID: fmt.Sprint("fact-", n), Seq: n, Time: at, Source: eventstore.SourceJournal, Message: "m"})
	}
	return out
}

// enginePID finds the engine of a store by the directory that it was given.
func enginePID(t testing.TB, dir string) int {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(names) == 0 {
		t.Skip("no /proc to find the engine's process in")
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil || !bytes.Contains(text, []byte("-storageDataPath="+filepath.Join(dir, "events")+"/")) {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(name, "/proc/%d/", &pid); err == nil {
			return pid
		}
	}
	t.Fatal("no engine runs")
	return 0
}

// TestKill: the engine is killed again and again while a feed adds. It is
// started again, and in the end every event is there, once.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openEmbedded(t, dir, eventstore.TenantOf("a"))
	at := time.Now().Add(-time.Hour)
	const all, lot = 3000, 10
	var added atomic.Uint64
	positions, feed := openFeed(t, dir, s)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		feed.Run(ctx, func(ctx context.Context, from uint64) error {
			for n := from + 1; n <= all; n += lot {
				if err := feed.Add(ctx, numbered(n, min(n+lot-1, all), at), min(n+lot-1, all)); err != nil {
					return err
				}
				added.Store(n)
			}
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	for _, kill := range []uint64{all / 3, all * 2 / 3} {
		eventstoretest.Await(t, func() bool { return added.Load() >= kill })
		if err := syscall.Kill(enginePID(t, dir), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		epoch := s.Epoch()
		eventstoretest.Await(t, func() bool { return s.Epoch() > epoch })
	}
	eventstoretest.Await(t, func() bool { return feed.Position() == all })
	cancel()
	<-done
	once(t, s, all)

	// The node is killed before a position is saved: what was added is found.
	if err := positions.SetFloor(at.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := feed.Reset(1000); err != nil {
		t.Fatal(err)
	}
	_, second := openFeed(t, dir, s)
	ctx, cancel = context.WithCancel(t.Context())
	second.Run(ctx, func(ctx context.Context, from uint64) error {
		defer cancel()
		if from != 1000 {
			t.Errorf("the feed goes on from %d", from)
		}
		return second.Add(ctx, numbered(from+1, all+5, at), all+5)
	})
	if st := second.Status(); st.Again != all-1000 || st.Added != 5 {
		t.Errorf("%+v", st)
	}
	once(t, s, all+5)
}

func openFeed(t *testing.T, dir string, s eventstore.Store) (*eventstore.Positions, *eventstore.Feed) {
	t.Helper()
	p, err := eventstore.OpenPositions(filepath.Join(dir, "position.json"))
	if err != nil {
		t.Fatal(err)
	}
	return p, eventstore.NewFeed(eventstore.FeedOptions{Store: s, Positions: p, Name: "journal", High: 1 << 62})
}

// once checks that the events 1 to n are there, each once.
func once(t *testing.T, s eventstore.Store, n int) {
	t.Helper()
	seen := map[string]int{}
	eventstoretest.Await(t, func() bool {
		clear(seen)
		err := s.Search(t.Context(), eventstore.Query{}, 0, func(r eventstore.Row) error { seen[r.Get(eventstore.FieldID)]++; return nil })
		return err == nil && len(seen) >= n
	})
	for i := 1; i <= n; i++ {
		if c := seen[fmt.Sprint("fact-", i)]; c != 1 {
			t.Errorf("event %d is there %d times", i, c)
		}
	}
}

// TestDamage: files of one day are damaged while the node is down. The day is
// set aside, its name is told, and the others are served.
func TestDamage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Now().UTC().Truncate(24 * time.Hour).Add(-12 * time.Hour)
	open := func() *eventstore.Embedded {
		s, err := eventstore.OpenEmbedded(eventstore.EmbeddedOptions{Dir: filepath.Join(dir, "events"), Command: eventstoretest.Command(t),
			Tenant: eventstore.TenantOf("a"), Window: &eventstore.Window{Retention: eventstoretest.Retention}})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Add(t.Context(), append(numbered(1, 5, now), numbered(6, 10, now.Add(-48*time.Hour))...)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	day := now.Add(-48 * time.Hour).Format("20060102")
	damaged := 0
	err := filepath.WalkDir(filepath.Join(dir, "events", "store", "partitions", day, "datadb"), func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && filepath.Base(name) == "metadata.json" {
			damaged++
			return os.WriteFile(name, []byte("{"), 0o600)
		}
		return err
	})
	if err != nil || damaged == 0 {
		t.Fatalf("%d files were damaged, %v", damaged, err)
	}
	s = open()
	defer s.Close()
	eventstoretest.Await(t, func() bool {
		n := 0
		err := s.Search(t.Context(), eventstore.Query{}, 0, func(eventstore.Row) error { n++; return nil })
		return err == nil && n == 5
	})
	if err := s.Healthy(); err == nil || !strings.Contains(err.Error(), day) {
		t.Errorf("what is damaged is not told: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "events", "damaged", day)); err != nil {
		t.Error(err)
	}
}

// A directory that others can read is refused, and so is a file of positions
// that is damaged.
func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "events"), 0o755); err != nil {
		t.Fatal(err)
	}
	if s, err := eventstore.OpenEmbedded(eventstore.EmbeddedOptions{Dir: filepath.Join(dir, "events"), Command: []string{"/bin/false"}, Window: &eventstore.Window{}}); err == nil {
		s.Close()
		t.Error("a directory of everybody's was taken")
	}
	name := filepath.Join(dir, "position.json")
	for _, text := range []string{"", "{", "null", `{"feeds":{"a":-1}}`} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := eventstore.OpenPositions(name); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

// An engine that does not come up is told of, and closes.
func TestNoEngine(t *testing.T) {
	s, err := eventstore.OpenEmbedded(eventstore.EmbeddedOptions{Dir: filepath.Join(t.TempDir(), "events"), Command: []string{"/bin/false"}, Window: &eventstore.Window{Retention: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	eventstoretest.Await(t, func() bool { return s.Healthy() != nil })
	if err := s.Add(t.Context(), numbered(1, 1, time.Now())); err == nil {
		t.Error("an event was taken")
	}
	if err := s.Close(); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestFullDisk: while the disk has too little room the engine takes nothing and
// says so, and the feed waits; what is there is served.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := eventstoretest.Open(t, eventstore.EmbeddedOptions{Dir: filepath.Join(dir, "events"), Tenant: eventstore.TenantOf("a"),
		Window: &eventstore.Window{Retention: time.Hour}, MinFree: 1 << 60})
	_, feed := openFeed(t, dir, s)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		feed.Run(ctx, func(ctx context.Context, from uint64) error { return feed.Add(ctx, numbered(1, 1, time.Now()), 1) })
	}()
	eventstoretest.Await(t, func() bool {
		st := feed.Status()
		return st.Err != nil && strings.Contains(st.Err.Error(), "read-only") && !st.Failing.IsZero() && !st.Lag.IsZero()
	})
	cancel()
	<-done
	if feed.Position() != 0 {
		t.Error("a position was saved")
	}
	if err := s.Search(t.Context(), eventstore.Query{}, 1, func(eventstore.Row) error { return nil }); err != nil {
		t.Error(err)
	}
}
