// Package storagetest is the suite that every storage of the ledger passes
// ([RunTests]), and gives tests real servers behind a [Gate] that makes them slow
// or lets them not be reached. Nothing here is for production code.
package storagetest

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/ledger"
	"pasban/internal/ledger/tiles"
)

// Engine is one new log, in a storage that is made anew as often as it is opened.
type Engine struct {
	Open func(t testing.TB) ledger.Storage
	Gate *Gate // stands before the server, if there is one
}

// RunTests runs the suite on an engine: what a storage promises by itself, and a
// whole ledger over it. make gives a new log each time.
func RunTests(t *testing.T, make func(t *testing.T) Engine) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for name, test := range map[string]func(*testing.T, func(*testing.T) Engine){
		"files": testFiles, "ledger": testLedger, "copies": testCopies, "outage": testOutage,
	} {
		wg.Go(func() { // all at once: a ledger waits most of its time
			t.Run(name, func(t *testing.T) { test(t, make) })
		})
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// leaf is the i-th leaf of a ledger that no journal has.
func leaf(i int64) []byte {
	return append([]byte{1, 1}, bytes.Repeat([]byte{byte(i), byte(i >> 8)}, pasban.LeafSize/2-1)...)
}

// write writes the files of a tree of n leaves and returns it.
func write(t testing.TB, s ledger.Storage, n int64) tlog.Tree {
	t.Helper()
	put := func(tile tlog.Tile, data []byte) error { return s.WriteFile(t.Context(), tiles.Path(tile), data) }
	b := tiles.NewBuilder(put)
	var bundle []byte
	for i := range n {
		if i%tiles.Width == 0 {
			bundle = nil
		}
		bundle = tiles.AppendEntry(bundle, leaf(i))
		check(t, b.Add(tlog.RecordHash(leaf(i))))
		if w := i%tiles.Width + 1; w == tiles.Width || i+1 == n {
			check(t, put(tlog.Tile{H: tiles.Height, L: tiles.Entries, N: i / tiles.Width, W: int(w)}, bundle))
		}
	}
	check(t, b.Partial())
	return b.Tree()
}

// A storage by itself: what was written is read, listed, replaced and removed;
// one process has it.
func testFiles(t *testing.T, make func(*testing.T) Engine) {
	e := make(t)
	s := e.Open(t)
	defer s.Close()
	check(t, s.Claim(t.Context()))
	check(t, s.Ready(t.Context()))
	if strings.Contains(s.Name(), password) || s.Name() == "" {
		t.Errorf("it is called %q", s.Name())
	}
	other := e.Open(t)
	if err := other.Claim(t.Context()); pasban.KindOf(err) != pasban.Conflict || strings.Contains(err.Error(), password) {
		t.Errorf("claimed twice: %v", err)
	}
	for _, name := range []string{tiles.Checkpoint, ledger.VKey, "tile/0/000", "tile/entries/000.p/7", "tile/1/x001/234"} {
		if data, err := s.ReadFile(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s of a new log: %q, %v", name, data, err)
		}
		if name != tiles.Checkpoint && name != ledger.VKey {
			check(t, s.Remove(t.Context(), name))
		}
	}
	var tree tlog.Tree
	for _, n := range []int64{200, 300} {
		found, err := s.Restore(t.Context(), func(context.Context) (tlog.Tree, error) {
			tree = write(t, s, n)
			return tree, nil
		})
		if err != nil {
			t.Fatal(found, err)
		}
		report, err := tiles.Audit(t.Context(), s, tree, nil)
		if err != nil || len(report.Findings) > 0 {
			t.Errorf("%d leaves: %+v, %v", n, report, err)
		}
	}
	if found, err := s.Restore(t.Context(), func(context.Context) (tlog.Tree, error) { return tree, nil }); err != nil || len(found) > 0 {
		t.Errorf("restored what is right: %v, %v", found, err)
	}
	failed := errors.New("no")
	if _, err := s.Restore(t.Context(), func(context.Context) (tlog.Tree, error) { return tlog.Tree{}, failed }); !errors.Is(err, failed) {
		t.Errorf("a failed restoration: %v", err)
	}
	if got := list(t, s); !slices.Contains(got, "tile/0/000") || !slices.Contains(got, "tile/0/001.p/44") || !slices.Contains(got, "tile/entries/001.p/44") {
		t.Errorf("it has %q", got)
	}
	part, err := s.ReadFile(t.Context(), "tile/entries/001.p/44")
	check(t, err)
	if _, err := s.ReadFile(t.Context(), "tile/entries/001.p/45"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("more than there is: %v", err)
	}
	mended(t, s)
	check(t, s.Remove(t.Context(), "tile/entries/001.p/44"))
	if _, err := s.ReadFile(t.Context(), "tile/entries/001.p/44"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed: %v", err)
	}
	check(t, s.WriteFile(t.Context(), "tile/entries/001.p/44", part))
	checkpoint(t, s)
	check(t, s.Close())
	check(t, other.Claim(t.Context()))
	if data, err := other.ReadFile(t.Context(), "tile/entries/001.p/44"); err != nil || !bytes.Equal(data, part) {
		t.Errorf("opened again: %x, %v", data, err)
	}
	check(t, other.Close())
}

// mended tries whether what somebody wrote behind a file's end is seen, and goes
// when the file is written again.
func mended(t *testing.T, s ledger.Storage) {
	t.Helper()
	entry := string(tiles.AppendEntry(nil, leaf(9)))
	for _, c := range []struct{ name, more string }{
		{"tile/0/000", "x"}, {"tile/0/000", strings.Repeat("x", tlog.HashSize)}, {"tile/0/001.p/44", "x"},
		{"tile/entries/000", "x"}, {"tile/entries/000", entry}, {"tile/entries/001.p/44", "x"}, {"tile/entries/001.p/44", entry},
	} {
		whole, err := s.ReadFile(t.Context(), c.name)
		check(t, err)
		longer := append(bytes.Clone(whole), c.more...)
		for _, data := range [][]byte{longer, whole} {
			check(t, s.WriteFile(t.Context(), c.name, data))
			if got, err := s.ReadFile(t.Context(), c.name); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s of %d bytes is read as %d, %v", c.name, len(data), len(got), err)
			}
		}
	}
}

// checkpoint tries how a checkpoint is replaced.
func checkpoint(t *testing.T, s ledger.Storage) {
	t.Helper()
	is := func(want string) {
		t.Helper()
		if got, err := s.ReadFile(t.Context(), tiles.Checkpoint); err != nil || string(got) != want {
			t.Errorf("the checkpoint is %q, want %q: %v", got, want, err)
		}
	}
	for _, text := range []string{"one", "two"} {
		check(t, s.WriteFile(t.Context(), tiles.Checkpoint, []byte(text)))
		is(text)
	}
	check(t, s.ReplaceCheckpoint(t.Context(), []byte("never"), func() bool { return false }))
	is("two")
	check(t, s.ReplaceCheckpoint(t.Context(), []byte("three"), func() bool { return true }))
	is("three")
	if _, moved, err := s.SetBack(t.Context(), time.Now().Add(time.Hour), time.Now()); moved || err != nil {
		t.Errorf("a time that is not to come was set back: %v", err)
	}
	is("three")
}

func list(t testing.TB, s ledger.Storage) (names []string) {
	t.Helper()
	check(t, s.List(t.Context(), func(name string) error {
		names = append(names, name)
		return nil
	}))
	return names
}
