package sentinel

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/durable"
	"pasban/internal/sentinel/rowtree"
)

// change is one change of a row as the log keeps it: what the ledger commits to,
// and the row itself.
type change struct {
	rowtree.Change
	Line []byte `json:"line,omitempty"` // the row afterwards; nil if it is gone
	Ord  int64  `json:"ord"`            // place in its transaction, from 1
}

// batch is one record of the log: the changes under one leaf.
type batch struct {
	N       int64    `json:"n"`    // from 1, without gaps
	Fact    string   `json:"fact"` // id of the fact whose leaf commits to it
	Changes []change `json:"changes"`
}

// storedHashes are the hashes of a tree in the order of tlog.StoredHashIndex.
type storedHashes []tlog.Hash

// ReadHashes implements tlog.HashReader.
func (s storedHashes) ReadHashes(at []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(at))
	for i, n := range at {
		out[i] = s[n]
	}
	return out, nil
}

// root is the RFC 6962 root over the batch's changes, and the hashes for proofs.
func (b *batch) root() (tlog.Hash, storedHashes, error) {
	var stored storedHashes
	for i, c := range b.Changes {
		more, err := tlog.StoredHashesForRecordHash(int64(i), tlog.RecordHash(c.Bytes()), stored)
		if err != nil {
			return tlog.Hash{}, nil, err
		}
		stored = append(stored, more...)
	}
	root, err := tlog.TreeHash(int64(len(b.Changes)), stored)
	return root, stored, err
}

// link is the chain after a batch: what was before, and the batch's root.
func link(chain []byte, root tlog.Hash) []byte {
	h := sha256.New()
	h.Write([]byte("pasban sentinel chain v1"))
	h.Write(chain)
	h.Write(root[:])
	return h.Sum(nil)
}

// version is a row as one transaction left it.
type version struct {
	xid   uint64
	line  []byte // nil if the row is gone
	ok    bool   // authorised
	batch int64
	at    int // in the batch
}

// state is what the sentinel knows of one table: base and log on disk, and what
// the log says by key. The owner serialises access.
type state struct {
	dir, name string
	gen       int64
	crypt     *cryptor
	*base
	h     *rowtree.Hasher
	log   *os.File
	size  int64 // of the log's part that the ledger knows
	batch int64 // number of the last batch
	chain []byte
	over  map[string][]version // by key, oldest first
	bytes int64                // of over, about
	facts map[int64]string     // of the log's batches
	// settled is the last batch of which every snapshot sees all, whatever its
	// transactions are numbered: the server that numbered them may be set back.
	settled int64
}

func stateFile(dir, name string, gen int64, ext string) string {
	return filepath.Join(dir, fmt.Sprintf("%s.%d.%s", name, gen, ext))
}

// anchorage is what the ledger says of a state.
type anchorage struct {
	Root  []byte // of the base
	Chain []byte // of the base
	Batch int64  // last batch that became a leaf
	Last  []byte // the chain after it

	Settled int64 // see state
}

var errState = errors.New("the sentinel's files are not what the ledger commits to")

// openState opens the files of a generation and checks them against the ledger:
// the base by its root, the log by the chain of its batches. What the log holds
// beyond the last leaf was never acknowledged and is cut off.
func openState(dir, name string, gen int64, crypt *cryptor, a anchorage) (_ *state, err error) {
	s := &state{dir: dir, name: name, gen: gen, crypt: crypt, over: map[string][]version{}, facts: map[int64]string{}}
	if s.base, err = openBase(stateFile(dir, name, gen, "base"), crypt); err != nil {
		return nil, fmt.Errorf("%w: %w", errState, err)
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if !bytes.Equal(s.Root, a.Root) || !bytes.Equal(s.base.Chain, a.Chain) {
		return nil, fmt.Errorf("%w: the base is another one", errState)
	}
	s.h = rowtree.NewHasher(s.Layout)
	s.batch, s.chain, s.settled = s.base.Batch, s.base.Chain, a.Settled
	if s.log, err = os.OpenFile(stateFile(dir, name, gen, "log"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	if err := s.replay(a); err != nil {
		return nil, err
	}
	return s, s.log.Truncate(s.size)
}

// replay reads the log up to the last batch that became a leaf.
func (s *state) replay(a anchorage) error {
	for s.batch < a.Batch {
		b, n, err := s.readBatch(s.size)
		if err != nil {
			return fmt.Errorf("%w: the log ends at batch %d, the ledger knows %d: %w", errState, s.batch, a.Batch, err)
		}
		if b.N != s.batch+1 {
			return fmt.Errorf("%w: batch %d follows batch %d", errState, b.N, s.batch)
		}
		root, _, err := b.root()
		if err != nil {
			return err
		}
		s.chain = link(s.chain, root)
		s.size += n
		s.take(b)
	}
	if s.batch != a.Batch || !bytes.Equal(s.chain, a.Last) {
		return fmt.Errorf("%w: the log's batches are others", errState)
	}
	return nil
}

// readBatch reads the record at an offset, and its length.
func (s *state) readBatch(at int64) (*batch, int64, error) {
	var head [4]byte
	if _, err := s.log.ReadAt(head[:], at); err != nil {
		return nil, 0, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > 1<<30 {
		return nil, 0, errors.New("a record of impossible length")
	}
	sealed := make([]byte, n)
	if _, err := s.log.ReadAt(sealed, at+4); err != nil {
		return nil, 0, err
	}
	plain, err := s.crypt.open(sealed, "log "+s.ID)
	if err != nil {
		return nil, 0, err
	}
	var b batch
	return &b, 4 + int64(n), json.Unmarshal(plain, &b)
}

// write puts a batch on stable storage, behind what the ledger knows. It
// becomes part of the state with keep.
func (s *state) write(b *batch) (size int64, err error) {
	plain, err := json.Marshal(b)
	if err != nil {
		return 0, err
	}
	sealed := s.crypt.seal(plain, "log "+s.ID)
	record := append(binary.BigEndian.AppendUint32(nil, uint32(len(sealed))), sealed...)
	if _, err := s.log.WriteAt(record, s.size); err != nil {
		return 0, err
	}
	return int64(len(record)), s.log.Sync()
}

// keep makes a written batch part of the state, when its leaf is durable.
func (s *state) keep(b *batch, size int64, chain []byte) {
	s.size += size
	s.chain = chain
	s.take(b)
}

// take puts a batch's changes into memory.
func (s *state) take(b *batch) {
	s.batch = b.N
	s.facts[b.N] = b.Fact
	for i, c := range b.Changes {
		if b.N <= s.settled {
			c.XID = 0
		}
		if c.Op == opTruncate {
			continue
		}
		if c.Op == opRevoke {
			for k := range s.over[string(c.Key)] {
				if v := &s.over[string(c.Key)][k]; v.xid >= c.XID {
					v.ok = false
				}
			}
		}
		s.over[string(c.Key)] = append(s.over[string(c.Key)], version{c.XID, c.Line, c.Verdict == "", b.N, i})
		s.bytes += int64(len(c.Key) + len(c.Line) + 96)
	}
}

// tainted reports whether the row in the table, as far as the stream has told,
// carries a change that nobody authorised.
func (s *state) tainted(key []byte) bool {
	vs := s.over[string(key)]
	return len(vs) > 0 && !vs[len(vs)-1].ok
}

// authorised is the last authorised version of a row; its version is zero if
// the base has it.
func (s *state) authorised(key []byte) (line []byte, v version, err error) {
	return s.authorisedBefore(key, 1<<63)
}

// authorisedBefore passes over what transactions from xid on did.
func (s *state) authorisedBefore(key []byte, xid uint64) (line []byte, v version, err error) {
	vs := s.over[string(key)]
	for i := len(vs) - 1; i >= 0; i-- {
		if vs[i].ok && vs[i].xid < xid {
			return vs[i].line, vs[i], nil
		}
	}
	line, err = s.inBase(key)
	return line, version{}, err
}

func (s *state) inBase(key []byte) ([]byte, error) {
	lines, err := s.bucket(s.h.Bucket(key))
	if err != nil {
		return nil, err
	}
	for i := len(lines) - 1; i >= 0; i-- {
		if bytes.Equal(s.h.Key(lines[i]), key) {
			return lines[i], nil
		}
	}
	return nil, nil
}

// at returns the authorised version that a snapshot sees; known is false if the
// base has it.
func at(vs []version, seen func(xid uint64) bool) (line []byte, known bool) {
	for i := len(vs) - 1; i >= 0; i-- {
		if vs[i].ok && seen(vs[i].xid) {
			return vs[i].line, true
		}
	}
	return nil, false
}

// touched lists, by bucket, the keys that the log speaks of.
func (s *state) touched() map[int][]string {
	out := map[int][]string{}
	for key := range s.over {
		i := s.h.Bucket([]byte(key))
		out[i] = append(out[i], key)
	}
	return out
}

// merged is a bucket's lines by key, as a snapshot should see them.
func (s *state) merged(i int, keys []string, seen func(uint64) bool) (map[string][]byte, error) {
	lines, err := s.bucket(i)
	if err != nil {
		return nil, err
	}
	rows := make(map[string][]byte, len(lines)+len(keys))
	for _, l := range lines {
		rows[string(s.h.Key(l))] = l
	}
	for _, key := range keys {
		line, known := at(s.over[key], seen)
		switch {
		case !known:
		case line == nil:
			delete(rows, key)
		default:
			rows[key] = line
		}
	}
	return rows, nil
}

// settle has every snapshot see all that is recorded so far: it is a new
// history from here on.
func (s *state) settle() {
	s.settled = s.batch
	for _, vs := range s.over {
		for i := range vs {
			vs[i].xid = 0
		}
	}
}

// prune forgets versions that no later snapshot can ask for: those before the
// newest authorised one that every snapshot from now on sees.
func (s *state) prune(horizon uint64) {
	for key, vs := range s.over {
		keep := 0
		for i, v := range vs {
			if v.ok && v.xid < horizon {
				keep = i
			}
		}
		if keep > 0 {
			for _, v := range vs[:keep] {
				s.bytes -= int64(len(key) + len(v.line) + 96)
			}
			s.over[key] = slices.Clone(vs[keep:])
		}
	}
}

// compact writes a new base that contains the log's batches up to the last one
// of which every transaction is seen, and a new log with the rest. Nothing of
// the state changes before adopt.
func (s *state) compact(seen func(uint64) bool) (next *state, err error) {
	fold, err := s.foldable(seen)
	if err != nil || fold.batch == s.base.Batch {
		return nil, err
	}
	gen := s.gen + 1
	head := baseHeader{Layout: s.Layout, Chain: fold.chain, Batch: fold.batch}
	w, err := newBaseWriter(stateFile(s.dir, s.name, gen, "base"), s.crypt, head)
	if err != nil {
		return nil, err
	}
	touched := s.touched()
	for i := range s.Layout.Buckets {
		rows, err := s.merged(i, touched[i], func(uint64) bool { return false }) // the base alone
		if err == nil {
			for _, key := range touched[i] {
				vs := s.over[key]
				for k := len(vs) - 1; k >= 0; k-- {
					if !vs[k].ok || vs[k].batch > fold.batch {
						continue
					}
					if rows[key] = vs[k].line; vs[k].line == nil {
						delete(rows, key)
					}
					break
				}
			}
			err = w.add(slices.Collect(maps.Values(rows)))
		}
		if err != nil {
			w.abandon()
			return nil, err
		}
	}
	if err := w.finish(); err != nil {
		return nil, err
	}
	return s.successor(gen, fold)
}

// fold says up to where a log can be put into a new base.
type fold struct {
	batch int64
	chain []byte
	at    int64 // offset in the log
}

func (s *state) foldable(seen func(uint64) bool) (fold, error) {
	f := fold{batch: s.base.Batch, chain: s.base.Chain}
	for f.at < s.size {
		b, n, err := s.readBatch(f.at)
		if err != nil {
			return f, err
		}
		if slices.ContainsFunc(b.Changes, func(c change) bool { return b.N > s.settled && !seen(c.XID) || c.Verdict != "" && s.open(c) }) {
			return f, nil
		}
		root, _, err := b.root()
		if err != nil {
			return f, err
		}
		f = fold{b.N, link(f.chain, root), f.at + n}
	}
	return f, nil
}

// open reports whether an unauthorised change is still in the table, as far as
// is known: the log must remember it.
func (s *state) open(c change) bool { return c.Op != opTruncate && s.tainted(c.Key) }

// successor opens the new generation with what the old log has beyond fold.
func (s *state) successor(gen int64, f fold) (_ *state, err error) {
	n := &state{dir: s.dir, name: s.name, gen: gen, crypt: s.crypt, h: s.h, over: map[string][]version{}, facts: map[int64]string{}, batch: f.batch, chain: f.chain, settled: s.settled}
	if n.base, err = openBase(stateFile(s.dir, s.name, gen, "base"), s.crypt); err != nil {
		return nil, err
	}
	if n.log, err = os.OpenFile(stateFile(s.dir, s.name, gen, "log"), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		n.close()
		return nil, err
	}
	for at := f.at; at < s.size; {
		used, err := s.carry(at, n)
		if err != nil {
			n.close()
			return nil, err
		}
		at += used
	}
	return n, nil
}

func (s *state) close() error {
	var errs []error
	if s.base != nil {
		errs = append(errs, s.base.close())
	}
	if s.log != nil {
		errs = append(errs, s.log.Close())
	}
	return errors.Join(errs...)
}

// carry copies the batch at an offset of the log into the log of n. It returns
// its length here.
func (s *state) carry(at int64, n *state) (used int64, err error) {
	b, used, err := s.readBatch(at)
	if err != nil {
		return 0, err
	}
	root, _, err := b.root()
	if err != nil {
		return 0, err
	}
	size, err := n.write(b)
	if err != nil {
		return 0, err
	}
	n.keep(b, size, link(n.chain, root))
	return used, nil
}

// sweep removes the files of other generations.
func sweep(dir, name string, gen int64) {
	files, err := filepath.Glob(filepath.Join(dir, name+".*"))
	if err != nil {
		return
	}
	for _, f := range files {
		if f != stateFile(dir, name, gen, "base") && f != stateFile(dir, name, gen, "log") {
			os.Remove(f)
		}
	}
}

// proveBase proves that a line is in the base.
func (s *state) proveBase(line []byte) (rowtree.Proof, error) {
	i := s.h.Bucket(s.h.Key(line))
	lines, err := s.bucket(i)
	if err != nil {
		return rowtree.Proof{}, err
	}
	p := rowtree.Proof{Layout: s.Layout, Rows: s.Rows, Line: string(line), Bucket: [][]byte{}, Path: [][]byte{}}
	found := false
	for _, l := range lines {
		if !found && bytes.Equal(l, line) {
			found = true
			continue
		}
		h := s.h.Row(l)
		p.Bucket = append(p.Bucket, h[:])
	}
	if !found {
		return p, &pasban.Error{Kind: pasban.NotFound, Msg: "the row is not in the base"}
	}
	for _, h := range rowtree.Path(s.hash, i) {
		p.Path = append(p.Path, h[:])
	}
	return p, nil
}

// batchOf reads a batch of the log by its number.
func (s *state) batchOf(n int64) (*batch, error) {
	for at := int64(0); at < s.size; {
		b, size, err := s.readBatch(at)
		if err != nil {
			return nil, err
		}
		if b.N == n {
			return b, nil
		}
		at += size
	}
	return nil, io.ErrUnexpectedEOF
}

// makeDir makes the folder of the sentinel's files.
func makeDir(dir string) error {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return durable.CheckMode(dir)
}
