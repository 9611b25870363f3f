package tiles

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"pasban"
)

// Finding is one file that is not what the root commits to.
type Finding struct {
	Path    string // within the ledger
	Problem string
}

// Report is what an audit saw.
type Report struct {
	Leaves   int64            // rehashed
	Files    int64            // compared
	Kinds    map[string]int64 // leaves by kind; "" are leaves of no kind known here
	Findings []Finding        // sorted by path; empty if everything holds
}

// tooBad is how many chunks of 256 leaves may be unreadable in bundle and tile
// before an audit ends: a key can sign any size, and files that are not there
// cost only time.
const tooBad = 1000

// Audit rehashes every leaf and every tile of the tree and, where src can list
// its files, the older partial tiles that are still there. It returns an error
// only where it could not tell. A ledger of which next to nothing is there is
// not read to its end; the last finding says so. progress, if not nil, is called with the
// leaves done now and then.
func Audit(ctx context.Context, src Source, tree tlog.Tree, progress func(done int64)) (Report, error) {
	a := &audit{ctx: ctx, src: src, tree: tree, report: Report{Kinds: map[string]int64{}}}
	if err := a.readChunks(progress); err != nil {
		return a.report, err
	}
	if a.lost >= tooBad {
		a.disagree()
	} else if truth, ok := a.truth(); !ok {
		a.disagree()
	} else if err := a.compare(truth); err != nil {
		return a.report, err
	}
	if a.lost < tooBad {
		if err := a.older(); err != nil {
			return a.report, err
		}
	}
	slices.SortFunc(a.report.Findings, func(x, y Finding) int { return strings.Compare(x.Path, y.Path) })
	return a.report, nil
}

// chunk is up to 256 leaves: an entry bundle and the level-0 tile above it.
type chunk struct {
	bundle, tile tlog.Hash // roots by each; zero if it cannot be read
	bundleBad    error     // why it cannot
	tileBad      error
	first        int64 // first leaf in which the two differ, -1 if none or not comparable
	tail         []byte
	tileTail     []byte // level-0 hashes by each, of the last chunk if it is not full
}

type audit struct {
	ctx    context.Context
	src    Source
	tree   tlog.Tree
	chunks []chunk
	lost   int // chunks of which neither bundle nor tile can be read
	report Report
}

func (a *audit) found(path, problem string) {
	a.report.Findings = append(a.report.Findings, Finding{path, problem})
}

// tiles0 returns the level-0 tile (or, with Entries, the bundle) of chunk i.
func (a *audit) tile0(level, i int) tlog.Tile {
	return Grown(tlog.Tile{H: Height, L: level, N: int64(i)}, a.tree.N)
}

// readChunks reads every bundle and level-0 tile once.
func (a *audit) readChunks(progress func(int64)) error {
	n := int(a.tree.N / Width)
	if a.tree.N%Width > 0 {
		n++
	}
	for i := range n {
		if err := a.ctx.Err(); err != nil {
			return err
		}
		c := chunk{first: -1}
		fromBundle, err := a.leafHashes(i)
		if c.bundleBad = err; err != nil && !isProblem(err) {
			return err
		}
		fromTile, err := ReadTile(a.ctx, a.src, a.tile0(0, i))
		if c.tileBad = err; err != nil && !isProblem(err) {
			return err
		}
		c.bundle, c.tile = DataHash(fromBundle), DataHash(fromTile)
		if c.bundleBad == nil && c.tileBad == nil && c.bundle != c.tile {
			for k := 0; ; k++ {
				if at := k * tlog.HashSize; !bytes.Equal(fromBundle[at:at+tlog.HashSize], fromTile[at:at+tlog.HashSize]) {
					c.first = int64(i)*Width + int64(k)
					break
				}
			}
		}
		if a.tile0(0, i).W < Width {
			c.tail, c.tileTail = fromBundle, fromTile
		}
		a.chunks = append(a.chunks, c)
		if c.bundleBad != nil && c.tileBad != nil {
			if a.lost++; a.lost == tooBad {
				return nil
			}
		}
		a.report.Files += 2
		a.report.Leaves += int64(a.tile0(0, i).W)
		if progress != nil {
			progress(a.report.Leaves)
		}
	}
	return nil
}

// leafHashes hashes the leaves of bundle i.
func (a *audit) leafHashes(i int) ([]byte, error) {
	leaves, err := ReadBundle(a.ctx, a.src, a.tile0(Entries, i))
	if err != nil {
		return nil, err
	}
	hashes := make([]byte, 0, len(leaves)*tlog.HashSize)
	for _, leaf := range leaves {
		h := tlog.RecordHash(leaf)
		hashes = append(hashes, h[:]...)
		kind := ""
		if len(leaf) == pasban.LeafSize {
			kind = string(pasban.Leaf(leaf).Kind())
		}
		a.report.Kinds[kind]++
	}
	return hashes, nil
}

// truth returns the roots of the chunks that the signed root commits to. The
// bundles, the level-0 tiles and the level-1 tiles each say what they are;
// whoever gives the signed root is right, and then the others can be judged.
// If each is damaged in places, chunk by chunk the majority is tried.
func (a *audit) truth() (roots []tlog.Hash, ok bool) {
	above := a.level1()
	full := len(above)
	for _, pick := range []func(i int, c chunk) tlog.Hash{
		func(_ int, c chunk) tlog.Hash { return c.bundle },
		func(_ int, c chunk) tlog.Hash { return c.tile },
		func(i int, c chunk) tlog.Hash { return above[i] },
		func(i int, c chunk) tlog.Hash {
			switch {
			case c.bundle == c.tile && c.bundleBad == nil:
				return c.bundle
			case above[i] != tlog.Hash{}:
				return above[i]
			case c.bundleBad == nil:
				return c.bundle
			}
			return c.tile
		},
	} {
		roots = roots[:0]
		b := NewBuilder(func(tlog.Tile, []byte) error { return nil })
		for i := range full {
			h := pick(i, a.chunks[i])
			roots = append(roots, h)
			_ = b.AddTile(h) // the emit above does not fail
		}
		if full == len(a.chunks) {
			if b.Tree() == a.tree {
				return roots, true
			}
			continue
		}
		last := a.chunks[full]
		for _, tail := range [][]byte{last.tail, last.tileTail} {
			if len(tail) > 0 && b.treeWith(tail) == a.tree {
				return append(roots, DataHash(tail)), true
			}
		}
	}
	return nil, false
}

// level1 returns what the level-1 tiles say about each full chunk; zero where
// they cannot be read.
func (a *audit) level1() []tlog.Hash {
	full := a.tree.N / Width
	out := make([]tlog.Hash, 0, full)
	for n := int64(0); n*Width < full; n++ {
		w := int(min(Width, full-n*Width))
		data, err := ReadTile(a.ctx, a.src, tlog.Tile{H: Height, L: 1, N: n, W: w})
		if err != nil {
			data = make([]byte, w*tlog.HashSize)
		}
		for k := range w {
			out = append(out, tlog.Hash(data[k*tlog.HashSize:(k+1)*tlog.HashSize]))
		}
	}
	return out
}

// disagree reports what can be said when no reading gives the signed root.
func (a *audit) disagree() {
	if a.lost >= tooBad {
		a.found(Checkpoint, fmt.Sprintf("so many files of the %d leaves that were signed cannot be used that the audit ended at leaf %d", a.tree.N, len(a.chunks)*Width))
	} else {
		a.found(Checkpoint, "the files do not give the root that was signed")
	}
	for i, c := range a.chunks {
		for level, bad := range map[int]error{Entries: c.bundleBad, 0: c.tileBad} {
			if bad != nil {
				a.found(Path(a.tile0(level, i)), bad.Error())
			}
		}
		if c.first >= 0 {
			a.found(Path(a.tile0(Entries, i)), fmt.Sprintf("leaf %d is not the one of %s; one of the two was changed", c.first, Path(a.tile0(0, i))))
		}
	}
}

// compare names every bundle and tile that differs from the truth.
func (a *audit) compare(truth []tlog.Hash) error {
	for i, c := range a.chunks {
		judge := func(level int, got tlog.Hash, bad error) {
			switch path := Path(a.tile0(level, i)); {
			case bad != nil:
				a.found(path, bad.Error())
			case got != truth[i] && c.first >= 0:
				a.found(path, fmt.Sprintf("leaf %d is not the one that the root commits to", c.first))
			case got != truth[i]:
				a.found(path, "is not what the root commits to")
			}
		}
		judge(Entries, c.bundle, c.bundleBad)
		judge(0, c.tile, c.tileBad)
	}
	b := NewBuilder(func(t tlog.Tile, want []byte) error {
		a.report.Files++
		data, err := ReadTile(a.ctx, a.src, t)
		switch {
		case err != nil && !isProblem(err):
			return err
		case err != nil:
			a.found(Path(t), err.Error())
		case !bytes.Equal(data, want):
			a.found(Path(t), "is not what the root commits to")
		}
		return nil
	})
	for i, h := range truth {
		if a.tile0(0, i).W < Width {
			break
		}
		if err := b.AddTile(h); err != nil {
			return err
		}
	}
	return b.Partial()
}

// older compares partial tiles of earlier sizes, which readers of earlier
// checkpoints still ask for, with the tiles that they grew into. Those are
// judged above; an older one is right if it is their beginning.
func (a *audit) older() error {
	l, ok := a.src.(Lister)
	if !ok {
		return nil
	}
	judged := map[string]bool{}
	for _, f := range a.report.Findings {
		judged[f.Path] = true
	}
	return l.List(a.ctx, func(name string) error {
		t, err := ParsePath(name)
		if err != nil || t.W == Width || !InTree(t, a.tree.N) || judged[name] {
			return nil // not a tile, or not yet under the checkpoint, or reported
		}
		grown := Grown(t, a.tree.N)
		if grown.W == t.W || judged[Path(grown)] {
			return nil // current, or nothing to compare with
		}
		old, err := a.src.ReadFile(a.ctx, name)
		if err != nil {
			return nil // cleaned up meanwhile
		}
		a.report.Files++
		now, _, err := read(a.ctx, a.src, grown)
		if err != nil {
			if isProblem(err) {
				return nil // it was there a moment ago: the next audit tells
			}
			return err
		}
		if !bytes.HasPrefix(now, old) || len(old) == 0 || t.L >= 0 && len(old) != t.W*tlog.HashSize || t.L == Entries && entries(old) != t.W {
			a.found(name, "is not the beginning of "+Path(grown))
		}
		return nil
	})
}

func entries(bundle []byte) int {
	leaves, err := ParseBundle(bundle)
	if err != nil {
		return -1
	}
	return len(leaves)
}

func isProblem(err error) bool {
	_, ok := errors.AsType[Problem](err)
	return ok
}
