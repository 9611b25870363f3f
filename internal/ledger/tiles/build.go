package tiles

import (
	"crypto/sha256"

	"golang.org/x/mod/sumdb/tlog"
)

// Builder makes the tiles of a tree from its leaf hashes, in order.
type Builder struct {
	emit   func(t tlog.Tile, data []byte) error
	n      int64 // leaves so far
	levels []level
}

// level is what is not yet a full tile on one level.
type level struct {
	tiles int64 // full ones so far
	data  []byte
}

// NewBuilder returns a builder that hands every full tile to emit as soon as
// it is full. The data is emit's to keep.
func NewBuilder(emit func(t tlog.Tile, data []byte) error) *Builder {
	return &Builder{emit: emit}
}

// Add appends the hash of the next leaf. Its error is emit's.
func (b *Builder) Add(leaf tlog.Hash) error {
	b.n++
	return b.add(0, leaf)
}

// AddTile appends the hash of a whole level-0 tile of leaves that is not to be
// emitted itself. All leaves before it must have been added by the tile too.
func (b *Builder) AddTile(root tlog.Hash) error {
	b.n += Width
	return b.add(1, root)
}

func (b *Builder) add(l int, h tlog.Hash) error {
	for ; ; l++ {
		for len(b.levels) <= l {
			b.levels = append(b.levels, level{})
		}
		at := &b.levels[l]
		at.data = append(at.data, h[:]...)
		if len(at.data) < Width*tlog.HashSize {
			return nil
		}
		full := at.data
		if err := b.emit(tlog.Tile{H: Height, L: l, N: at.tiles, W: Width}, full); err != nil {
			return err
		}
		h = DataHash(full)
		at.tiles, at.data = at.tiles+1, nil
	}
}

// Partial hands the tiles that are not full to emit, as a tree of the present
// size has them. The builder can go on.
func (b *Builder) Partial() error {
	for l, at := range b.levels {
		if w := len(at.data) / tlog.HashSize; w > 0 {
			if err := b.emit(tlog.Tile{H: Height, L: l, N: at.tiles, W: w}, append([]byte(nil), at.data...)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Tree returns the size and root so far.
func (b *Builder) Tree() tlog.Tree { return b.treeWith(nil) }

// treeWith returns size and root when an incomplete level-0 tile of the given
// hashes follows what was added by AddTile.
func (b *Builder) treeWith(tail []byte) tlog.Tree {
	rest := tail
	n := b.n + int64(len(tail)/tlog.HashSize)
	if n == 0 {
		return tlog.Tree{Hash: sha256.Sum256(nil)}
	}
	for _, at := range b.levels {
		data := at.data
		if len(rest) > 0 {
			h := DataHash(rest)
			data = append(data[:len(data):len(data)], h[:]...)
		}
		rest = data
	}
	return tlog.Tree{N: n, Hash: DataHash(rest)}
}

// DataHash returns the root over a tile's hashes (RFC 6962, section 2.1, with
// the hashes in place of leaves). A list of complete subtrees of one height
// and one incomplete one behind them has the root of the tree that they make.
func DataHash(data []byte) tlog.Hash {
	n := len(data) / tlog.HashSize
	switch n {
	case 0:
		return tlog.Hash{}
	case 1:
		return tlog.Hash(data[:tlog.HashSize])
	}
	k := 1
	for 2*k < n {
		k *= 2
	}
	return tlog.NodeHash(DataHash(data[:k*tlog.HashSize]), DataHash(data[k*tlog.HashSize:]))
}
