package pasban

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Promise is the ledger key's word that a committed fact will be leaf number
// Index of the ledger, given before any plaintext leaves (the idea of the SCT
// of RFC 6962, section 3.2). Only a committed journal row yields one. A
// promise that is not honoured within the ledger's merge delay is evidence.
//
// Facts that are committed together are promised with one signature, as
// Roughtime signs the answers of one moment (draft-ietf-ntp-roughtime): the key
// signs the root of the Merkle tree of their leaves, and each promise has the
// path from its own to it. A promise can be checked without the others, and shows
// nothing of them but hashes that the ledger publishes anyway.
type Promise struct {
	Origin string    // the ledger's origin line
	Index  uint64    // leaf index = accountable sequence number
	Leaf   tlog.Hash // Merkle leaf hash
	// Sig is its place among those that were promised with it, counted from 0
	// (1 byte), how many those are (1), big-endian Unix milliseconds (6), the path
	// (32 bytes a hash, the nearest first; RFC 6962, section 2.1.1) and the
	// signature. A promise that was given alone has no path, and begins with eight
	// bytes of Unix milliseconds.
	Sig []byte
}

// mostPromised is how many promises have one signature at most. More would save
// little of what is left of it, and make headers longer: a path has four hashes.
const mostPromised = 16

// How the first eight bytes of Sig are divided.
const (
	beforePath = 8
	msBits     = 48
	msMask     = 1<<msBits - 1
)

// promiseSig is what Sig says.
type promiseSig struct {
	at, size int       // the promise's place among how many that were given together
	ms       uint64    // Unix milliseconds
	root     tlog.Hash // of the tree of their leaves
	sig      []byte
}

// parts reads Sig; ok is false if it is none. On the way up, a node without a
// neighbour is the one above.
func (p Promise) parts() (s promiseSig, ok bool) {
	if len(p.Sig) < beforePath {
		return s, false
	}
	head := binary.BigEndian.Uint64(p.Sig)
	s = promiseSig{int(head >> 56), int(head>>msBits&0xff) + 1, head & msMask, p.Leaf, p.Sig[beforePath:]}
	for at, size := s.at, s.size; size > 1; at, size = at/2, (size+1)/2 {
		if at^1 >= size {
			continue
		}
		if len(s.sig) < tlog.HashSize {
			return s, false
		}
		left, right := s.root, tlog.Hash(s.sig)
		if at%2 == 1 {
			left, right = right, left
		}
		s.root, s.sig = tlog.NodeHash(left, right), s.sig[tlog.HashSize:]
	}
	return s, s.at < s.size && uint64(s.at) <= p.Index && len(s.sig) > 0
}

// promised is the text that is signed. Its first line is not a checkpoint's
// origin and its second not a tree size, so neither can pass for the other.
func promised(origin string, first uint64, size int, root tlog.Hash, ms uint64) []byte {
	b64 := base64.StdEncoding.EncodeToString(root[:])
	if size == 1 {
		return fmt.Appendf(nil, "pasban/promise/v1\n%s\n%d\n%s\n%d\n", origin, first, b64, ms)
	}
	return fmt.Appendf(nil, "pasban/promises/v1\n%s\n%d\n%d\n%s\n%d\n", origin, first, size, b64, ms)
}

// SignPromises signs the promises for leaves that follow each other from index
// first on, with one signature for up to 16 of them. Only the journal calls it,
// after their rows are durable.
func SignPromises(s note.Signer, first uint64, leaves []tlog.Hash, now time.Time) ([]Promise, error) {
	all := make([]Promise, 0, len(leaves))
	ms := uint64(now.UnixMilli()) & msMask
	for some := range slices.Chunk(leaves, mostPromised) {
		tree := treeOf(some)
		sig, err := s.Sign(promised(s.Name(), first, len(some), tree[len(tree)-1][0], ms))
		if err != nil {
			return nil, fmt.Errorf("sign the promises for leaves %d to %d: %w", first, first+uint64(len(some))-1, err)
		}
		for at, leaf := range some {
			out := make([]byte, beforePath, beforePath+len(tree)*tlog.HashSize+len(sig))
			binary.BigEndian.PutUint64(out, uint64(at)<<56|uint64(len(some)-1)<<msBits|ms)
			out = append(appendPath(out, tree, at), sig...)
			all = append(all, Promise{Origin: s.Name(), Index: first + uint64(at), Leaf: leaf, Sig: out})
		}
		first += uint64(len(some))
	}
	return all, nil
}

// appendPath appends the hashes that lead from a leaf of a tree to its root.
func appendPath(out []byte, tree [][]tlog.Hash, at int) []byte {
	for _, level := range tree {
		if beside := at ^ 1; beside < len(level) {
			out = append(out, level[beside][:]...)
		}
		at /= 2
	}
	return out
}

// treeOf is the Merkle tree of leaves by its levels, the root last (RFC 6962,
// section 2.1, from below).
func treeOf(leaves []tlog.Hash) [][]tlog.Hash {
	tree := [][]tlog.Hash{leaves}
	for level := leaves; len(level) > 1; tree = append(tree, level) {
		var up []tlog.Hash
		for pair := range slices.Chunk(level, 2) {
			if len(pair) == 2 {
				up = append(up, tlog.NodeHash(pair[0], pair[1]))
			} else {
				up = append(up, pair[0])
			}
		}
		level = up
	}
	return tree
}

// Verify reports whether the ledger whose key v holds gave this promise.
// The zero Promise never verifies.
func (p Promise) Verify(v note.Verifier) error {
	s, ok := p.parts()
	if !ok || p.Origin == "" {
		return &Error{Kind: Invalid, Msg: "the promise is not signed"}
	}
	if p.Origin != v.Name() {
		return &Error{Kind: Invalid, Msg: fmt.Sprintf("the promise is of ledger %q, the key of %q", p.Origin, v.Name())}
	}
	if !v.Verify(promised(p.Origin, p.Index-uint64(s.at), s.size, s.root, s.ms), s.sig) {
		return &Error{Kind: Invalid, Msg: "the signature of the promise does not verify"}
	}
	return nil
}

// Time is when the promise was given; zero if it is not signed.
func (p Promise) Time() time.Time {
	if len(p.Sig) < beforePath {
		return time.Time{}
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(p.Sig) & msMask)).UTC()
}

// PromiseHeader is the response header that carries a promise.
const PromiseHeader = "Pasban-Promise"

// Header writes the promise as the value of a Pasban-Promise header:
// <index>; leaf=<base64url>; sig=<base64url>.
func (p Promise) Header() string {
	e := base64.RawURLEncoding
	return fmt.Sprintf("%d; leaf=%s; sig=%s", p.Index, e.EncodeToString(p.Leaf[:]), e.EncodeToString(p.Sig))
}

// ParsePromise reads the value of a Pasban-Promise header. The origin is not
// in the header: the reader knows whose ledger it asked.
func ParsePromise(origin, header string) (Promise, error) {
	bad := &Error{Kind: Invalid, Msg: "not a promise: want <index>; leaf=<base64url>; sig=<base64url>"}
	part := strings.Split(header, "; ")
	if len(part) != 3 {
		return Promise{}, bad
	}
	index, err := strconv.ParseUint(part[0], 10, 63)
	if err != nil {
		return Promise{}, bad
	}
	leaf, okLeaf := strings.CutPrefix(part[1], "leaf=")
	sig, okSig := strings.CutPrefix(part[2], "sig=")
	if !okLeaf || !okSig {
		return Promise{}, bad
	}
	p := Promise{Origin: origin, Index: index}
	raw, err := base64.RawURLEncoding.DecodeString(leaf)
	if err != nil || copy(p.Leaf[:], raw) != tlog.HashSize || len(raw) != tlog.HashSize {
		return Promise{}, bad
	}
	if p.Sig, err = base64.RawURLEncoding.DecodeString(sig); err != nil {
		return Promise{}, bad
	}
	if p.Header() != header { // one promise, one way to write it
		return Promise{}, bad
	}
	return p, nil
}
