package tiles_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"pasban/internal/ledger/tiles"
)

// BenchmarkAudit rehashes a ledger of 1,000,000 leaves on disk as pasban-verify
// does, and reports how many of them a second of processor time gets through.
func BenchmarkAudit(b *testing.B) {
	const leaves = 1_000_000
	dir := b.TempDir()
	put := func(name string, data []byte) error {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		return os.WriteFile(path, data, 0o600)
	}
	build := tiles.NewBuilder(func(t tlog.Tile, data []byte) error { return put(tiles.Path(t), data) })
	var bundle []byte
	for i := range int64(leaves) {
		leaf := make([]byte, 34)
		leaf[0], leaf[1] = 1, 1
		binary.BigEndian.PutUint64(leaf[2:], uint64(i))
		bundle = tiles.AppendEntry(bundle, leaf)
		if err := build.Add(tlog.RecordHash(leaf)); err != nil {
			b.Fatal(err)
		}
		if w := int(i%tiles.Width) + 1; w == tiles.Width || i+1 == leaves {
			if err := put(tiles.Path(tlog.Tile{L: tiles.Entries, N: i / tiles.Width, W: w}), bundle); err != nil {
				b.Fatal(err)
			}
			bundle = nil
		}
	}
	if err := build.Partial(); err != nil {
		b.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer root.Close()
	before, n := processor(b), 0
	for b.Loop() {
		report, err := tiles.Audit(b.Context(), tiles.Dir{Root: root}, build.Tree(), nil)
		if err != nil || report.Leaves != leaves || len(report.Findings) > 0 {
			b.Fatalf("%+v, %v", report, err)
		}
		n++
	}
	b.ReportMetric(float64(leaves*n)/(processor(b)-before), "leaves/cpu-s")
}

// processor is the processor time of this process in seconds.
func processor(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}
