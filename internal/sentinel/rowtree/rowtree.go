// Package rowtree defines how the rows of a table become one hash, and how one
// row is proven under it. The sentinel and the offline verifier share it, so it
// imports the standard library and the log's hashing alone.
//
// # The bytes
//
// A row is the line that PostgreSQL's COPY writes for it in text format, with
// the key's columns first and without the newline: tabs between values, \N for
// NULL, backslash escapes. That form is injective, and NULL and the empty text
// differ. Hashes are SHA-256:
//
//	layout   H("pasban table layout v1" ‖ each of table, n, key…, n, column…, salt, buckets with its length)
//	row      H(0 ‖ layout ‖ line)
//	bucket   H(2 ‖ the hashes of its rows in ascending order)
//	node     H(1 ‖ left ‖ right), over the buckets, whose number is a power of two
//	root     H(3 ‖ layout ‖ number of rows, 8 bytes big-endian ‖ top node)
//
// A row's bucket is chosen by a hash of its key that is spread, not secret. The
// order in which rows come does not matter: a table is read as it lies on disk,
// and no index is believed.
package rowtree

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"
	"runtime"
	"slices"
	"sync"
)

// Size is the length of every hash in bytes.
const Size = sha256.Size

// Hash is a SHA-256 hash.
type Hash = [Size]byte

// The first byte of what is hashed says what it is.
const (
	tagRow    = 0
	tagNode   = 1
	tagBucket = 2
	tagRoot   = 3
)

const (
	// perBucket is how many rows a bucket is meant to hold.
	perBucket = 256
	// MaxBuckets bounds the number of buckets.
	MaxBuckets = 1 << 24
)

// Layout is what the hash of a table depends on besides its rows. Its JSON form
// is part of proofs.
type Layout struct {
	Table   string   `json:"table"`   // schema.table
	Key     []string `json:"key"`     // columns of the key, first in every line
	Columns []string `json:"columns"` // the other watched columns
	Salt    []byte   `json:"salt"`    // 32 random bytes, so that hashes of two tables tell nothing of each other
	Buckets int      `json:"buckets"` // a power of two
}

// BucketsFor is the number of buckets that suits a table of about rows rows.
func BucketsFor(rows int64) int {
	n := 1
	for int64(n)*perBucket < rows && n < MaxBuckets {
		n *= 2
	}
	return n
}

// Check says what is wrong with a layout that comes from outside.
func (l Layout) Check() error {
	switch {
	case l.Table == "" || len(l.Key) == 0 || len(l.Salt) != 32:
		return fmt.Errorf("a layout needs a table, a key and a salt of 32 bytes")
	case l.Buckets < 1 || l.Buckets > MaxBuckets || l.Buckets&(l.Buckets-1) != 0:
		return fmt.Errorf("%d is not a number of buckets", l.Buckets)
	}
	return nil
}

// ID is the layout's hash.
func (l Layout) ID() Hash {
	h := sha256.New()
	h.Write([]byte("pasban table layout v1"))
	put := func(s []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		h.Write(n[:])
		h.Write(s)
	}
	put([]byte(l.Table))
	for _, list := range [][]string{l.Key, l.Columns} {
		put(binary.BigEndian.AppendUint64(nil, uint64(len(list))))
		for _, c := range list {
			put([]byte(c))
		}
	}
	put(l.Salt)
	put(binary.BigEndian.AppendUint64(nil, uint64(l.Buckets)))
	return Hash(h.Sum(nil))
}

// Hasher hashes the rows of one layout. It is not safe for concurrent use.
type Hasher struct {
	keys  int
	shift int
	id    Hash
	buf   []byte
}

// NewHasher returns a hasher of the layout, which must pass Check.
func NewHasher(l Layout) *Hasher {
	id := l.ID()
	return &Hasher{keys: len(l.Key), shift: 64 - bits.Len(uint(l.Buckets-1)), id: id, buf: append([]byte{tagRow}, id[:]...)}
}

// Row is the hash of a row's line.
func (h *Hasher) Row(line []byte) Hash {
	h.buf = append(h.buf[:1+Size], line...)
	return sha256.Sum256(h.buf)
}

// Key is the part of a line that names the row.
func (h *Hasher) Key(line []byte) []byte { return Key(line, h.keys) }

// Bucket is the number of the bucket that a key belongs to.
func (h *Hasher) Bucket(key []byte) int {
	sum := uint64(14695981039346656037) // FNV-1a, then spread to the high bits
	for _, c := range key {
		sum = (sum ^ uint64(c)) * 1099511628211
	}
	sum ^= sum >> 32
	sum *= 0x9e3779b97f4a7c15
	return int(sum >> h.shift) // a shift by 64 is 0
}

// Key returns the first n values of a line.
func Key(line []byte, n int) []byte {
	at := 0
	for range n {
		i := bytes.IndexByte(line[at:], '\t')
		if i < 0 {
			return line
		}
		at += i + 1
	}
	return line[:at-1]
}

// Bucket hashes the rows of one bucket. It sorts them.
func Bucket(rows []Hash) Hash {
	slices.SortFunc(rows, func(a, b Hash) int { return bytes.Compare(a[:], b[:]) })
	buf := make([]byte, 1, 1+len(rows)*Size)
	buf[0] = tagBucket
	for i := range rows {
		buf = append(buf, rows[i][:]...)
	}
	return sha256.Sum256(buf)
}

// Root is the hash of a table of rows rows whose buckets have these hashes.
func Root(layout Hash, rows int64, buckets []Hash) Hash {
	return seal(layout, rows, top(buckets))
}

func seal(layout Hash, rows int64, top Hash) Hash {
	buf := append([]byte{tagRoot}, layout[:]...)
	buf = binary.BigEndian.AppendUint64(buf, uint64(rows))
	return sha256.Sum256(append(buf, top[:]...))
}

func top(level []Hash) Hash {
	level = slices.Clone(level)
	for n := len(level); n > 1; n /= 2 {
		for i := range n / 2 {
			level[i] = node(level[2*i], level[2*i+1])
		}
	}
	return level[0]
}

func node(l, r Hash) Hash {
	var buf [1 + 2*Size]byte
	buf[0] = tagNode
	copy(buf[1:], l[:])
	copy(buf[1+Size:], r[:])
	return sha256.Sum256(buf[:])
}

// Path is what proves that bucket number i is one of buckets: its siblings from
// the bottom up.
func Path(buckets []Hash, i int) []Hash {
	var path []Hash
	level := slices.Clone(buckets)
	for n := len(level); n > 1; n /= 2 {
		path = append(path, level[i^1])
		for k := range n / 2 {
			level[k] = node(level[2*k], level[2*k+1])
		}
		i /= 2
	}
	return path
}

// Proof shows that a row is in the table of a root.
type Proof struct {
	Layout Layout   `json:"layout"`
	Rows   int64    `json:"rows"`   // of the table
	Line   string   `json:"line"`   // the row
	Bucket [][]byte `json:"bucket"` // hashes of the other rows of its bucket
	Path   [][]byte `json:"path"`   // from the bucket to the top
}

// Root computes the root that the proof leads to. It fails if the proof is none.
func (p Proof) Root() (Hash, error) {
	if err := p.Layout.Check(); err != nil {
		return Hash{}, err
	}
	if 1<<len(p.Path) != p.Layout.Buckets {
		return Hash{}, fmt.Errorf("the path has %d steps, but there are %d buckets", len(p.Path), p.Layout.Buckets)
	}
	h := NewHasher(p.Layout)
	rows := []Hash{h.Row([]byte(p.Line))}
	for _, b := range p.Bucket {
		if len(b) != Size {
			return Hash{}, fmt.Errorf("a hash of %d bytes", len(b))
		}
		rows = append(rows, Hash(b))
	}
	at := Bucket(rows)
	i := h.Bucket(h.Key([]byte(p.Line)))
	for _, b := range p.Path {
		if len(b) != Size {
			return Hash{}, fmt.Errorf("a hash of %d bytes", len(b))
		}
		if i%2 == 0 {
			at = node(at, Hash(b))
		} else {
			at = node(Hash(b), at)
		}
		i /= 2
	}
	return seal(p.Layout.ID(), p.Rows, at), nil
}

// Sum hashes rows as they come, 32 bytes of memory a row. It is an io.Writer
// for COPY TO STDOUT: each Write is whole lines.
type Sum struct {
	*Hasher
	Rows    int64
	Buckets [][]Hash
	Bytes   int64
}

// NewSum starts a sum over a layout, which must pass Check.
func NewSum(l Layout) *Sum { return &Sum{Hasher: NewHasher(l), Buckets: make([][]Hash, l.Buckets)} }

// Write implements io.Writer.
func (s *Sum) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		line, next, found := bytes.Cut(rest, []byte{'\n'})
		if !found {
			return 0, fmt.Errorf("a row without its end")
		}
		s.Add(line)
		rest = next
	}
	s.Bytes += int64(len(p))
	return len(p), nil
}

// Add adds one row.
func (s *Sum) Add(line []byte) {
	i := s.Bucket(s.Key(line))
	if s.Buckets[i] == nil {
		s.Buckets[i] = make([]Hash, 0, perBucket+perBucket/8)
	}
	s.Buckets[i] = append(s.Buckets[i], s.Row(line))
	s.Rows++
}

// Hashes are the hashes of the buckets.
func (s *Sum) Hashes() []Hash {
	out := make([]Hash, len(s.Buckets))
	workers := min(runtime.GOMAXPROCS(0), 8)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(out); i += workers {
				out[i] = Bucket(s.Buckets[i])
			}
		})
	}
	wg.Wait()
	return out
}
