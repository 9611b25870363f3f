package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"math/bits"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/store"
)

// frontier is a Merkle tree that can only grow: its size and the roots of the
// perfect subtrees that make it up, largest first (RFC 6962, section 2.1).
type frontier struct {
	n     int64
	peaks []tlog.Hash
}

func (f *frontier) add(leaf tlog.Hash) {
	for n := f.n; n&1 == 1; n >>= 1 {
		last := len(f.peaks) - 1
		leaf = tlog.NodeHash(f.peaks[last], leaf)
		f.peaks = f.peaks[:last]
	}
	f.peaks = append(f.peaks, leaf)
	f.n++
}

func (f *frontier) clone() frontier { return frontier{f.n, slices.Clone(f.peaks)} }

func (f *frontier) tree() tlog.Tree {
	if f.n == 0 {
		return tlog.Tree{Hash: sha256.Sum256(nil)}
	}
	h := f.peaks[len(f.peaks)-1]
	for _, p := range slices.Backward(f.peaks[:len(f.peaks)-1]) {
		h = tlog.NodeHash(p, h)
	}
	return tlog.Tree{N: f.n, Hash: h}
}

// seen is the record of what was signed, kept in the store and so apart from
// the ledger's storage.
type seen struct {
	frontier
	published int64 // a size that the storage is known to have held
}

// loadSeen reads the record; a ledger that never signed has none, ok is false.
func loadSeen(ctx context.Context, st *store.Store) (s seen, ok bool, err error) {
	var root, peaks []byte
	err = st.QueryRow(ctx, `SELECT size, root, peaks, published FROM ledger_seen WHERE id = 1`).Scan(&s.n, &root, &peaks, &s.published)
	if errors.Is(err, sql.ErrNoRows) {
		return seen{}, false, nil
	}
	if err != nil {
		return seen{}, false, unavailable("the ledger's last-seen record cannot be read", err)
	}
	for p := range slices.Chunk(peaks, tlog.HashSize) {
		if len(p) == tlog.HashSize {
			s.peaks = append(s.peaks, tlog.Hash(p))
		}
	}
	whole := s.n >= 0 && s.published <= s.n && len(peaks) == bits.OnesCount64(uint64(s.n))*tlog.HashSize
	if !whole || !bytes.Equal(root, hashOf(s.frontier)) {
		return seen{}, false, &pasban.Error{Kind: pasban.Unavailable, Where: "ledger_seen", Msg: "the ledger's last-seen record contradicts itself",
			Hint: "it was changed behind Pasban's back: restore the store from a backup"}
	}
	return s, true, nil
}

func hashOf(f frontier) []byte {
	h := f.tree().Hash
	return h[:]
}

// saveSeen replaces the record and returns when that is durable. It never goes
// back: a row of a greater size, written by another node, is an error.
func saveSeen(ctx context.Context, st *store.Store, s seen) error {
	var peaks []byte
	for _, p := range s.peaks {
		peaks = append(peaks, p[:]...)
	}
	if peaks == nil {
		peaks = []byte{}
	}
	return st.Write(ctx, func(tx *store.Tx) error {
		res, err := tx.Exec(`INSERT INTO ledger_seen (id, size, root, peaks, published) VALUES (1, ?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET size = excluded.size, root = excluded.root, peaks = excluded.peaks, published = excluded.published
			WHERE ledger_seen.size < excluded.size OR ledger_seen.size = excluded.size AND ledger_seen.root = excluded.root`,
			s.n, hashOf(s.frontier), peaks, s.published)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n != 1 {
			return errors.Join(errors.New("the last-seen record is ahead: another process signs for this ledger"), err)
		}
		return nil
	})
}

func unavailable(msg string, err error) *pasban.Error {
	return &pasban.Error{Kind: pasban.Unavailable, Where: "ledger", Msg: msg, Err: err}
}
