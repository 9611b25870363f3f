// Package tiles reads, builds and audits a ledger's files: the tiles and entry
// bundles of C2SP tlog-tiles. The node and the auditor's verifier share it, so
// it imports nothing but package pasban, x/mod/sumdb and the standard library.
//
// # Types
//
// A [Source] gives files by name, from a directory ([Dir]) or from an address
// ([Site]). [Extends] checks one checkpoint against an earlier one. [HashReader] gives hashes proven to be in a tree. A
// [Builder] makes tiles from leaf hashes. [Audit] rehashes everything against
// a signed size and root, and its [Report] names every file that is not what
// the root commits to.
//
// # Guarantees
//
// Nothing read is believed: hashes come authenticated by the root, an audit
// without findings means that every leaf and every tile is the one that the
// root commits to.
//
// # What it must never do
//
// It writes nothing and trusts no file name that it did not make itself.
package tiles

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"golang.org/x/mod/sumdb/tlog"

	"pasban"
)

const (
	// Height is the height of every tile.
	Height = 8
	// Width is how many hashes a full tile and how many leaves a full bundle has.
	Width = 1 << Height
	// Entries is the level that stands for entry bundles in a tlog.Tile.
	Entries = -1
	// Checkpoint is the name of the signed checkpoint's file.
	Checkpoint = "checkpoint"
	// maxTiles is more than a level has in the largest tree, of 2^63-1 leaves.
	maxTiles = 1 << 55
	// MaxFile bounds any file of a ledger, in bytes: a bundle of the largest entries.
	MaxFile = Width * (2 + 1<<16)
)

// Path returns the name of a tile or entry bundle, such as tile/0/x001/234 or
// tile/entries/000.p/7 (C2SP tlog-tiles).
func Path(t tlog.Tile) string {
	t.H = Height
	name := strings.TrimPrefix(t.Path(), fmt.Sprintf("tile/%d/", Height))
	if rest, ok := strings.CutPrefix(name, "data/"); ok {
		return "tile/entries/" + rest
	}
	return "tile/" + name
}

// ParsePath reads what Path writes, and nothing else.
func ParsePath(name string) (tlog.Tile, error) {
	bad := fmt.Errorf("%q is no tile's name", name)
	rest, ok := strings.CutPrefix(name, "tile/")
	if !ok {
		return tlog.Tile{}, bad
	}
	if r, ok := strings.CutPrefix(rest, "entries/"); ok {
		rest = "data/" + r
	} else if strings.HasPrefix(rest, "data/") {
		return tlog.Tile{}, bad
	}
	t, err := tlog.ParseTilePath(fmt.Sprintf("tile/%d/%s", Height, rest))
	if err != nil || t.L > 7 || t.N < 0 || t.N >= maxTiles || Path(t) != name {
		return tlog.Tile{}, bad
	}
	return t, nil
}

// InTree reports whether a tree of n leaves has all that the tile holds.
func InTree(t tlog.Tile, n int64) bool {
	return t.N*Width+int64(t.W) <= n>>(Height*max(t.L, 0))
}

// Grown returns the tile or bundle as wide as a tree of n leaves has it.
func Grown(t tlog.Tile, n int64) tlog.Tile {
	t.W = int(min(Width, n>>(Height*max(t.L, 0))-t.N*Width))
	return t
}

// Source gives the files of a ledger. Errors for files that are not there
// satisfy errors.Is(err, fs.ErrNotExist); any other error means that it could
// not be told.
type Source interface {
	ReadFile(ctx context.Context, name string) ([]byte, error)
}

// Lister is a Source that can name the files it has under tile/.
type Lister interface {
	List(ctx context.Context, each func(name string) error) error
}

// Dir is a ledger in a directory. Links that lead out of it are not followed,
// and what is not a file (a pipe would keep its reader waiting) is not read.
type Dir struct{ Root *os.Root }

var (
	_ Source = Dir{}
	_ Lister = Dir{}
)

// ReadFile implements Source.
func (d Dir) ReadFile(_ context.Context, name string) ([]byte, error) {
	f, err := d.Root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, &pasban.Error{Kind: pasban.Invalid, Where: name, Msg: "what is there is not a file"}
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err == nil && len(data) > MaxFile {
		err = &pasban.Error{Kind: pasban.Invalid, Where: name, Msg: "the file is larger than any of a ledger"}
	}
	return data, err
}

// List implements Lister.
func (d Dir) List(ctx context.Context, each func(name string) error) error {
	err := fs.WalkDir(d.Root.FS(), "tile", func(name string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // a partial tile that was just cleaned up
			return nil
		case err != nil:
			return err
		case e.IsDir():
			return ctx.Err()
		}
		return each(name)
	})
	return err
}

// Problem says what is wrong with a file. It is an error of its own so that a
// file that does not hold can be told from one that could not be read.
type Problem string

// Error implements error.
func (p Problem) Error() string { return string(p) }

// Problems with single files.
const (
	Missing   Problem = "is missing"
	BadSize   Problem = "does not have the size of its tile"
	BadBundle Problem = "is not an entry bundle of its size"
)

// read returns a tile's or bundle's file, or the full one where the partial
// one has been cleaned up, and then reports it as wide.
func read(ctx context.Context, src Source, t tlog.Tile) (data []byte, wide bool, err error) {
	data, err = src.ReadFile(ctx, Path(t))
	if errors.Is(err, fs.ErrNotExist) && t.W < Width {
		t.W, wide = Width, true
		data, err = src.ReadFile(ctx, Path(t))
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = Missing
	}
	return data, wide, err
}

// ReadTile returns the hashes of a tile. Its error is a Problem if the file is
// there and wrong, or missing.
func ReadTile(ctx context.Context, src Source, t tlog.Tile) ([]byte, error) {
	data, wide, err := read(ctx, src, t)
	if err != nil {
		return nil, err
	}
	if size := t.W * tlog.HashSize; len(data) == size || wide && len(data) == Width*tlog.HashSize {
		return data[:size], nil
	}
	return nil, BadSize
}

// ReadBundle returns the leaves of an entry bundle (t.L is Entries). Its error
// is a Problem if the file is there and wrong, or missing.
func ReadBundle(ctx context.Context, src Source, t tlog.Tile) ([][]byte, error) {
	data, wide, err := read(ctx, src, t)
	if err != nil {
		return nil, err
	}
	want := t.W
	if wide {
		want = Width
	}
	leaves, err := ParseBundle(data)
	if err != nil || len(leaves) != want {
		return nil, BadBundle
	}
	return leaves[:t.W], nil
}

// ParseBundle splits an entry bundle: each leaf is preceded by its length as
// two big-endian bytes (C2SP tlog-tiles, Log Entries).
func ParseBundle(data []byte) ([][]byte, error) {
	var leaves [][]byte
	for len(data) > 0 {
		if len(data) < 2 {
			return nil, BadBundle
		}
		n := int(binary.BigEndian.Uint16(data))
		if data = data[2:]; len(data) < n || len(leaves) == Width {
			return nil, BadBundle
		}
		leaves = append(leaves, data[:n:n])
		data = data[n:]
	}
	return leaves, nil
}

// AppendEntry appends a leaf to an entry bundle. A leaf is at most 65,535 bytes.
func AppendEntry(bundle, leaf []byte) []byte {
	return append(binary.BigEndian.AppendUint16(bundle, uint16(len(leaf))), leaf...)
}

// HashReader returns a reader of hashes that are proven to be in the tree.
func HashReader(ctx context.Context, src Source, tree tlog.Tree) tlog.HashReader {
	return tlog.TileHashReader(tree, &tileReader{ctx, src})
}

// tileReader adapts a Source to x/mod, which has no contexts: it lives as long
// as the call it is made for.
type tileReader struct {
	ctx context.Context
	src Source
}

func (r *tileReader) Height() int                     { return Height }
func (r *tileReader) SaveTiles([]tlog.Tile, [][]byte) {}

func (r *tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	for i, t := range tiles {
		var err error
		if data[i], err = ReadTile(r.ctx, r.src, t); err != nil {
			return nil, fmt.Errorf("%s: %w", Path(t), err)
		}
	}
	return data, nil
}
