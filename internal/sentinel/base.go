package sentinel

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"pasban"
	"pasban/internal/sentinel/rowtree"
)

// baseMagic begins a base file.
const baseMagic = "pasban sentinel base v1\n"

// indexEntry is the size of a bucket's entry in a base file's index: offset,
// length, rows and hash.
const indexEntry = 8 + 8 + 8 + rowtree.Size

// cryptor seals what lies on disk about one table. It is safe for concurrent use.
type cryptor struct{ aead cipher.AEAD }

func newCryptor(key []byte) (*cryptor, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block) // a key seals far fewer than 2³² pieces
	return &cryptor{aead}, err
}

func (c *cryptor) seal(plain []byte, aad string) []byte {
	return c.aead.Seal(nil, nil, plain, []byte(aad))
}

func (c *cryptor) open(sealed []byte, aad string) ([]byte, error) {
	plain, err := c.aead.Open(nil, nil, sealed, []byte(aad))
	if err != nil {
		return nil, errors.New("what lies on disk was changed, or belongs elsewhere")
	}
	return plain, nil
}

// baseHeader begins a base file. Nothing in it is believed before the ledger's
// fact about this base (anchor) has said the same root and chain.
type baseHeader struct {
	Layout rowtree.Layout `json:"layout"`
	Rows   int64          `json:"rows"`
	Root   []byte         `json:"root"`
	Chain  []byte         `json:"chain"` // of the batches that it contains
	Batch  int64          `json:"batch"` // number of the last of them
	ID     string         `json:"id"`
}

// says is what a fact holds of the base that it commits to.
func (h baseHeader) says() map[string]string {
	return map[string]string{
		"root": hexOf(h.Root), "chain": hexOf(h.Chain), "batch": fmt.Sprint(h.Batch), "rows": fmt.Sprint(h.Rows),
		"source": h.Layout.Table, "layout": layoutText(h.Layout),
	}
}

// base is the rows of a table at one moment, by bucket, sealed. It never
// changes: what came later lies in the log.
type base struct {
	baseHeader
	f      *os.File
	crypt  *cryptor
	start  int64 // of the blocks
	offset []int64
	length []int64
	count  []int64
	hash   []rowtree.Hash
}

// openBase opens a base file and checks that its index leads to its root.
func openBase(name string, crypt *cryptor) (_ *base, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	b := &base{f: f, crypt: crypt}
	defer func() {
		if err != nil {
			f.Close()
			err = fmt.Errorf("the state file %s: %w", filepath.Base(name), err)
		}
	}()
	r := bufio.NewReaderSize(f, 1<<20)
	var fixed [len(baseMagic) + 4]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil || string(fixed[:len(baseMagic)]) != baseMagic {
		return nil, errors.New("not a state file")
	}
	n := binary.BigEndian.Uint32(fixed[len(baseMagic):])
	if n > 1<<20 {
		return nil, errors.New("its header is too long")
	}
	header := make([]byte, n)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(header, &b.baseHeader); err != nil {
		return nil, err
	}
	if err := b.Layout.Check(); err != nil {
		return nil, err
	}
	b.start = int64(len(fixed)) + int64(n) + int64(b.Layout.Buckets)*indexEntry
	var e [indexEntry]byte
	for range b.Layout.Buckets {
		if _, err := io.ReadFull(r, e[:]); err != nil {
			return nil, err
		}
		b.offset = append(b.offset, int64(binary.BigEndian.Uint64(e[0:])))
		b.length = append(b.length, int64(binary.BigEndian.Uint64(e[8:])))
		b.count = append(b.count, int64(binary.BigEndian.Uint64(e[16:])))
		b.hash = append(b.hash, rowtree.Hash(e[24:]))
	}
	root := rowtree.Root(b.Layout.ID(), b.Rows, b.hash)
	if !bytes.Equal(root[:], b.Root) {
		return nil, errors.New("its index does not lead to its root")
	}
	return b, nil
}

func (b *base) close() error { return b.f.Close() }

// bucket reads the lines of one bucket and checks them against its hash.
func (b *base) bucket(i int) ([][]byte, error) {
	if b.count[i] == 0 && b.length[i] == 0 {
		return nil, nil
	}
	if b.length[i] < 0 || b.length[i] > 1<<31 {
		return nil, errors.New("the state file: a block of impossible length")
	}
	sealed := make([]byte, b.length[i])
	if _, err := b.f.ReadAt(sealed, b.start+b.offset[i]); err != nil {
		return nil, fmt.Errorf("the state file: %w", err)
	}
	plain, err := b.crypt.open(sealed, blockAAD(b.ID, i))
	if err != nil {
		return nil, err
	}
	lines, err := splitLines(plain)
	if err != nil {
		return nil, err
	}
	h := rowtree.NewHasher(b.Layout)
	hashes := make([]rowtree.Hash, len(lines))
	for k, line := range lines {
		hashes[k] = h.Row(line)
	}
	if rowtree.Bucket(hashes) != b.hash[i] {
		return nil, fmt.Errorf("the state file: bucket %d is not what its root commits to", i)
	}
	return lines, nil
}

func blockAAD(id string, bucket int) string { return fmt.Sprintf("block %s %d", id, bucket) }

// joinLines and splitLines pack lines with their lengths.
func joinLines(lines [][]byte) []byte {
	var out []byte
	for _, l := range lines {
		out = binary.AppendUvarint(out, uint64(len(l)))
		out = append(out, l...)
	}
	return out
}

func splitLines(data []byte) ([][]byte, error) {
	var out [][]byte
	for len(data) > 0 {
		n, used := binary.Uvarint(data)
		if used <= 0 || n > uint64(len(data)-used) {
			return nil, errors.New("the state file: a block ends in the middle of a row")
		}
		out = append(out, data[used:used+int(n):used+int(n)])
		data = data[used+int(n):]
	}
	return out, nil
}

// baseWriter writes a base file, bucket by bucket in order.
type baseWriter struct {
	f      *os.File
	w      *bufio.Writer
	crypt  *cryptor
	h      *rowtree.Hasher
	head   baseHeader
	index  []byte
	next   int
	at     int64
	hashes []rowtree.Hash
	start  int64
}

// headerRoom is what the JSON of a header is padded to, so that it can be
// written when the root is known.
const headerRoom = 64 << 10

func newBaseWriter(name string, crypt *cryptor, head baseHeader) (*baseWriter, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	head.ID = pasban.NewID()
	w := &baseWriter{f: f, w: bufio.NewWriterSize(f, 1<<20), crypt: crypt, h: rowtree.NewHasher(head.Layout), head: head}
	w.start = int64(len(baseMagic)) + 4 + headerRoom + int64(head.Layout.Buckets)*indexEntry
	if _, err := f.Seek(w.start, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return w, nil
}

// add writes the next bucket.
func (w *baseWriter) add(lines [][]byte) error {
	hashes := make([]rowtree.Hash, len(lines))
	for i, l := range lines {
		hashes[i] = w.h.Row(l)
	}
	var sealed []byte
	if len(lines) > 0 {
		sealed = w.crypt.seal(joinLines(lines), blockAAD(w.head.ID, w.next))
	}
	return w.put(sealed, int64(len(lines)), rowtree.Bucket(hashes))
}

func (w *baseWriter) put(sealed []byte, count int64, hash rowtree.Hash) error {
	for _, n := range []uint64{uint64(w.at), uint64(len(sealed)), uint64(count)} {
		w.index = binary.BigEndian.AppendUint64(w.index, n)
	}
	w.index = append(w.index, hash[:]...)
	w.hashes = append(w.hashes, hash)
	w.head.Rows += count
	w.at += int64(len(sealed))
	w.next++
	_, err := w.w.Write(sealed)
	return err
}

// finish puts the file on stable storage. The file is complete when it returns.
func (w *baseWriter) finish() error {
	root := rowtree.Root(w.head.Layout.ID(), w.head.Rows, w.hashes)
	w.head.Root = root[:]
	header, err := json.Marshal(w.head)
	if err != nil {
		return err
	}
	if len(header) > headerRoom {
		return errors.New("the names of the table's columns are too long")
	}
	header = append(header, bytes.Repeat([]byte{' '}, headerRoom-len(header))...)
	if err := w.w.Flush(); err != nil {
		return err
	}
	front := binary.BigEndian.AppendUint32([]byte(baseMagic), headerRoom)
	if _, err := w.f.WriteAt(slices.Concat(front, header, w.index), 0); err != nil {
		return err
	}
	return errors.Join(w.f.Sync(), w.f.Close())
}

func (w *baseWriter) abandon() {
	w.f.Close()
	os.Remove(w.f.Name())
}
