package tiles_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"pasban/internal/ledger/tiles"
)

// files is a ledger in memory.
type files map[string][]byte

func (f files) ReadFile(_ context.Context, name string) ([]byte, error) {
	if data, ok := f[name]; ok {
		return data, nil
	}
	return nil, fs.ErrNotExist
}

func (f files) List(_ context.Context, each func(string) error) error {
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if err := each(name); err != nil {
			return err
		}
	}
	return nil
}

func leaf(i int64) []byte {
	return append([]byte{1, byte(i%4) + 1}, fmt.Sprintf("%032d", i)...)
}

// build makes a ledger of n leaves, with the partial tiles that it had at the
// sizes in earlier.
func build(t testing.TB, n int64, earlier ...int64) (files, tlog.Tree) {
	t.Helper()
	f := files{}
	put := func(t tlog.Tile, data []byte) error { f[tiles.Path(t)] = data; return nil }
	b := tiles.NewBuilder(put)
	var bundle []byte
	for i := range n {
		if i%tiles.Width == 0 {
			bundle = nil
		}
		bundle = tiles.AppendEntry(bundle, leaf(i))
		if err := b.Add(tlog.RecordHash(leaf(i))); err != nil {
			t.Fatal(err)
		}
		if w := i%tiles.Width + 1; w == tiles.Width || i+1 == n || slices.Contains(earlier, i+1) {
			f[tiles.Path(tlog.Tile{L: tiles.Entries, N: i / tiles.Width, W: int(w)})] = bytes.Clone(bundle)
		}
		if i+1 == n || slices.Contains(earlier, i+1) {
			if err := b.Partial(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return f, b.Tree()
}

// The builder's roots and tiles are those of x/mod's own tree.
func TestBuilderAgreesWithTlog(t *testing.T) {
	var stored []tlog.Hash
	r := tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(at))
		for i, x := range at {
			out[i] = stored[x]
		}
		return out, nil
	})
	got := files{}
	b := tiles.NewBuilder(func(t tlog.Tile, data []byte) error { got[tiles.Path(t)] = data; return nil })
	const last = 66_000
	for n := int64(0); n <= last; n++ {
		if n < 600 || n > 65_530 && n < 65_545 || n == last {
			want, err := tlog.TreeHash(n, r)
			if err != nil {
				t.Fatal(err)
			}
			if tree := b.Tree(); tree.N != n || tree.Hash != want {
				t.Fatalf("tree of %d: %+v, want root %v", n, tree, want)
			}
		}
		more, err := tlog.StoredHashes(n, leaf(n), r)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, more...)
		if n < last {
			if err := b.Add(tlog.RecordHash(leaf(n))); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := b.Partial(); err != nil {
		t.Fatal(err)
	}
	want := tlog.NewTiles(tiles.Height, 0, last)
	if len(got) != len(want) {
		t.Errorf("%d tiles, want %d", len(got), len(want))
	}
	for _, tile := range want {
		data, err := tlog.ReadTileData(tile, r)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got[tiles.Path(tile)], data) {
			t.Errorf("tile %s differs", tiles.Path(tile))
		}
	}
}

func audit(t *testing.T, f tiles.Source, tree tlog.Tree) []string {
	t.Helper()
	report, err := tiles.Audit(t.Context(), f, tree, nil)
	if err != nil {
		t.Fatal(err)
	}
	if report.Leaves != tree.N {
		t.Errorf("%d leaves rehashed, want %d", report.Leaves, tree.N)
	}
	var names []string
	for _, f := range report.Findings {
		names = append(names, f.Path)
	}
	return names
}

func TestAuditHolds(t *testing.T) {
	for _, n := range []int64{0, 1, 2, 255, 256, 257, 511, 512, 600, 65_536, 65_793} {
		f, tree := build(t, n, n/2, n-1, n/3)
		if found := audit(t, f, tree); found != nil {
			t.Errorf("%d leaves: found %q", n, found)
		}
	}
}

// Whatever single file is changed in whatever way, the audit names it and no other.
func TestAuditNamesTheFile(t *testing.T) {
	for _, n := range []int64{1, 7, 256, 600, 66_000} {
		clean, tree := build(t, n, n/2, n-1)
		for _, name := range slices.Sorted(maps.Keys(clean)) {
			if n > 1000 && !strings.HasPrefix(name, "tile/1/") && !strings.HasPrefix(name, "tile/2/") {
				continue // the smaller ones have tried the rest
			}
			for how, change := range map[string]func([]byte) []byte{
				"first bit":    func(d []byte) []byte { d[0] ^= 0x80; return d },
				"last bit":     func(d []byte) []byte { d[len(d)-1] ^= 1; return d },
				"middle":       func(d []byte) []byte { d[len(d)/2]++; return d },
				"cut short":    func(d []byte) []byte { return d[:len(d)-1] },
				"grown":        func(d []byte) []byte { return append(d, 0) },
				"emptied":      func([]byte) []byte { return nil },
				"of elsewhere": func([]byte) []byte { return []byte("\x00\x04elsewhere") },
			} {
				if n > 1000 && how != "middle" {
					continue
				}
				f := maps.Clone(clean)
				f[name] = change(bytes.Clone(clean[name]))
				if found := audit(t, f, tree); !slices.Equal(found, []string{name}) {
					t.Errorf("%d leaves, %s: %s: found %q", n, name, how, found)
				}
			}
			tile, err := tiles.ParsePath(name)
			if err != nil {
				t.Fatal(err)
			}
			current := tile.W == tiles.Width || !tiles.InTree(tlog.Tile{L: tile.L, N: tile.N, W: tile.W + 1}, n)
			f := maps.Clone(clean)
			delete(f, name)
			if found := audit(t, f, tree); current != slices.Equal(found, []string{name}) || !current && found != nil {
				t.Errorf("%d leaves, %s removed: found %q", n, name, found)
			}
		}
	}
}

// Damage in several files at once is still named file by file, as long as one
// reading of each part is left.
func TestAuditSeveralFiles(t *testing.T) {
	clean, tree := build(t, 2_000)
	for _, names := range [][]string{
		{"tile/0/001", "tile/entries/000"},
		{"tile/0/001", "tile/0/003", "tile/entries/002", "tile/entries/005"},
		{"tile/0/001", "tile/entries/001"},
		{"tile/0/007.p/208", "tile/entries/001"},
		{"tile/1/000.p/7", "tile/entries/001"},
		{"tile/0/002", "tile/1/000.p/7"},
	} {
		f := maps.Clone(clean)
		for _, name := range names {
			f[name] = bytes.Clone(f[name])
			f[name][40] ^= 1
		}
		if found := audit(t, f, tree); !slices.Equal(found, names) {
			t.Errorf("changed %q, found %q", names, found)
		}
	}
	f := maps.Clone(clean) // nothing left to judge by
	for _, name := range []string{"tile/0/007.p/208", "tile/entries/007.p/208"} {
		f[name] = bytes.Clone(f[name])
		f[name][40] ^= 1
	}
	if found := audit(t, f, tree); len(found) == 0 || found[0] != tiles.Checkpoint {
		t.Errorf("every reading changed: found %q", found)
	}
	tree.Hash[0] ^= 1
	if found := audit(t, clean, tree); !slices.Equal(found, []string{tiles.Checkpoint}) {
		t.Errorf("another root: found %q", found)
	}
}

// faulty fails to read one file.
type faulty struct {
	files
	name string
}

var errDisk = errors.New("the disk says no")

func (f faulty) ReadFile(ctx context.Context, name string) ([]byte, error) {
	if name == f.name {
		return nil, errDisk
	}
	return f.files.ReadFile(ctx, name)
}

// What cannot be read is no finding: the audit could not tell.
func TestAuditCouldNotTell(t *testing.T) {
	f, tree := build(t, 600)
	for name := range f {
		if name == "tile/1/000.p/2" {
			continue // read last, below
		}
		if _, err := tiles.Audit(t.Context(), faulty{f, name}, tree, nil); !errors.Is(err, errDisk) {
			t.Errorf("%s unreadable: %v", name, err)
		}
	}
	if _, err := tiles.Audit(t.Context(), faulty{f, "tile/1/000.p/2"}, tree, nil); !errors.Is(err, errDisk) {
		t.Errorf("upper tile unreadable: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tiles.Audit(ctx, f, tree, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A reader of an older checkpoint gets its proof from the tiles of today.
func TestHashReaderFallsBackToFullTiles(t *testing.T) {
	_, tree := build(t, 300)
	f, _ := build(t, 66_000)
	p, err := tlog.ProveRecord(tree.N, 299, tiles.HashReader(t.Context(), f, tree))
	if err != nil {
		t.Fatal(err)
	}
	if err := tlog.CheckRecord(p, tree.N, tree.Hash, 299, tlog.RecordHash(leaf(299))); err != nil {
		t.Error(err)
	}
	f["tile/0/001"] = bytes.Clone(f["tile/0/001"])
	f["tile/0/001"][0] ^= 1
	if _, err := tlog.ProveRecord(tree.N, 299, tiles.HashReader(t.Context(), f, tree)); err == nil {
		t.Error("proved from a changed tile")
	}
}

func TestPaths(t *testing.T) {
	for _, c := range []struct {
		t    tlog.Tile
		name string
	}{
		{tlog.Tile{L: 0, N: 0, W: 256}, "tile/0/000"},
		{tlog.Tile{L: 0, N: 1234067, W: 8}, "tile/0/x001/x234/067.p/8"},
		{tlog.Tile{L: 2, N: 5, W: 1}, "tile/2/005.p/1"},
		{tlog.Tile{L: tiles.Entries, N: 1000, W: 256}, "tile/entries/x001/000"},
		{tlog.Tile{L: tiles.Entries, N: 0, W: 44}, "tile/entries/000.p/44"},
	} {
		if got := tiles.Path(c.t); got != c.name {
			t.Errorf("Path(%+v) = %s, want %s", c.t, got, c.name)
		}
		c.t.H = tiles.Height
		if got, err := tiles.ParsePath(c.name); err != nil || got != c.t {
			t.Errorf("ParsePath(%s) = %+v, %v", c.name, got, err)
		}
	}
	for _, name := range []string{
		"", "checkpoint", "tile/8/0/000", "tile/data/000", "tile/0/0", "tile/0/1000", "tile/0/000.p/256", "tile/0/000.p/0", "tile/0/000.p/01",
		"tile/0/x036/x028/x797/x018/x963/968", "tile/0/x036/x028/x797/x018/x963/x968", "tile/0/x36/028", // 2^55 and beyond
		"tile/0/x000/001", "tile/-1/000", "tile/8/000", "tile/00/000", "tile/0/../0/000", "tile/0/000/", "/tile/0/000", "tile/entries/../../vkey", "tile/0//000",
	} {
		if got, err := tiles.ParsePath(name); err == nil {
			t.Errorf("ParsePath(%q) = %+v", name, got)
		}
	}
}

func FuzzParsePath(f *testing.F) {
	f.Add("tile/0/x001/234.p/7")
	f.Add("tile/entries/000")
	f.Fuzz(func(t *testing.T, name string) {
		if tile, err := tiles.ParsePath(name); err == nil && (tiles.Path(tile) != name || !fs.ValidPath(name)) {
			t.Errorf("%q is read as %+v, written %q", name, tile, tiles.Path(tile))
		}
	})
}

func FuzzParseBundle(f *testing.F) {
	f.Add(tiles.AppendEntry(tiles.AppendEntry(nil, leaf(0)), nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		leaves, err := tiles.ParseBundle(data)
		if err != nil {
			return
		}
		var again []byte
		for _, l := range leaves {
			again = tiles.AppendEntry(again, l)
		}
		if !bytes.Equal(again, data) || len(leaves) > tiles.Width {
			t.Errorf("%x read as %d leaves", data, len(leaves))
		}
	})
}

// A key can sign any size. An audit of what is not there ends, and says so.
func TestAuditOfHardlyAnything(t *testing.T) {
	f, tree := build(t, 600)
	for _, n := range []int64{601, 1 << 20, 1 << 40, math.MaxInt64, math.MaxInt64 - 255} {
		report, err := tiles.Audit(t.Context(), f, tlog.Tree{N: n, Hash: tree.Hash}, nil)
		if err != nil || len(report.Findings) == 0 || len(report.Findings) > 5000 {
			t.Errorf("%d leaves: %d findings, %v", n, len(report.Findings), err)
		} else if last := report.Findings[0]; n > 1<<20 && (last.Path != tiles.Checkpoint || !strings.Contains(last.Problem, "the audit ended at leaf")) {
			t.Errorf("%d leaves: %+v", n, last)
		}
	}
}

// What is not a file is not read, and nobody waits for it.
func TestDirReadsFilesOnly(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "checkpoint"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "tile"), 0o700), os.Symlink("/etc/passwd", filepath.Join(dir, "vkey"))); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, name := range []string{"checkpoint", "tile", "vkey"} {
		if data, err := (tiles.Dir{Root: root}).ReadFile(t.Context(), name); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
}

// FuzzAudit puts anything in the place of any file, and signs any size: an
// audit without findings means that nothing was changed that matters.
func FuzzAudit(f *testing.F) {
	const n = 600
	truth, tree := build(f, n, 300)
	for _, name := range slices.Sorted(maps.Keys(truth)) {
		data := truth[name]
		f.Add(name, data, int64(n))
		f.Add(name, data[:len(data)-1], int64(n))
		f.Add(name, append(bytes.Clone(data), 0), int64(n))
		f.Add(name, []byte(nil), int64(n))
	}
	f.Add("tile/0/000.p/7", []byte("garbage"), int64(n))
	f.Add("tile/entries/x001/000", []byte{0, 0}, int64(1)<<62)
	f.Add("checkpoint", []byte(nil), int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, name string, data []byte, size int64) {
		if size < 0 {
			return // OpenCheckpoint takes no such size
		}
		now := maps.Clone(truth)
		now[name] = data
		report, err := tiles.Audit(t.Context(), now, tlog.Tree{N: size, Hash: tree.Hash}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if was, there := truth[name]; len(report.Findings) == 0 && (size != n || there && !bytes.Equal(was, data)) {
			t.Errorf("%s of %d bytes, size %d: nothing found", name, len(data), size)
		}
	})
}
