// Package evtx reads Windows event log files (.evtx) and writes each event as
// the JSON object that Sigma's Windows rules are tested with.
//
// # Main types
//
// A [Reader] takes a stream and gives one [Record] after another; its [Report]
// says what was read, and what was damaged and where.
//
// # The way of a record
//
//	64 KiB chunk → record → BinXML → template (parsed once a chunk) + values → JSON
//
// The JSON form is the one of SigmaHQ's regression cases: an element is a
// member under its name; attributes are under "#attributes" and text beside
// them under "#text"; numbers and booleans are JSON numbers and booleans, all
// other values strings; <Data Name="X"> of EventData is the member "X"; what
// stands there twice gets a suffix, "X_1"; an array is a JSON array.
//
// # What it guarantees
//
//   - Any bytes end in events, counted damage or an error, never in a panic, in
//     time linear in their number: what one chunk may cost is bounded.
//   - Memory is bounded by a few chunks, however large the file.
//   - A damaged chunk or record is counted with its place, and the records
//     around it are still read, those of a file that was not closed as well.
//
// # What it must never do
//
// It does not cut values or leave members out to make a record pass: a record
// is given whole, or counted as damaged.
//
// Sources: [MS-EVEN6] 2.2.12–2.2.17 (BinXml) and 3.1.4.7; the file format as
// documented by libyal's libevtx ("Windows XML Event Log (EVTX) format").
package evtx

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"
)

const (
	fileMagic   = "ElfFile\x00"
	chunkMagic  = "ElfChnk\x00"
	recordMagic = "**\x00\x00"

	fileHeader  = 4096
	chunkSize   = 64 << 10
	chunkHeader = 512
	// recordMin is a record's signature, size, identifier, time and copy of size.
	recordMin = 4 + 4 + 8 + 8 + 4

	flagDirty = 1 // of the file: it was not closed
	flagNoCRC = 4 // of the file: checksums are not kept

	// maxWork bounds what one chunk may cost, in nodes looked at and bytes
	// written. Real chunks cost less than a twentieth of it; templates made to
	// multiply themselves run into it.
	maxWork = 16 << 20
	// maxDamage is how many places of damage a report names; all are counted.
	maxDamage = 100
)

// ErrFormat is the error of [NewReader] for what is not an event log.
var ErrFormat = errors.New("not a Windows event log (EVTX) file")

// Record is one event.
type Record struct {
	ID      uint64    // the record's identifier in its log
	Written time.Time // when it was written, UTC
	// JSON is the event as one object. It is valid until the next call of Next.
	JSON []byte
}

// Damage is one place where a file is not as it should be.
type Damage struct {
	Offset int64 // in the file, bytes
	What   string
}

// Report counts what was read.
type Report struct {
	Chunks     int      // that hold something
	BadChunks  int      // whose checksum, header or length is wrong; what is readable in them was read
	Records    int      // given
	BadRecords int      // that could not be given
	Dirty      bool     // the file was not closed by its writer
	Damage     []Damage // the first hundred places
}

// Reader reads the records of one file in their order.
type Reader struct {
	in     io.Reader
	offset int64 // of the next chunk in the file
	noCRC  bool
	buf    []byte
	c      *chunk
	out    renderer
	report Report
}

// IsEVTX reports whether head, at least the first 8 bytes of a file, begins an
// event log, or a chunk of one whose file header is missing. A file whose
// header alone is destroyed shows its first chunk at byte 4096.
func IsEVTX(head []byte) bool {
	return bytes.HasPrefix(head, []byte(fileMagic)) || bytes.HasPrefix(head, []byte(chunkMagic)) ||
		len(head) >= fileHeader+8 && bytes.HasPrefix(head[fileHeader:], []byte(chunkMagic))
}

// NewReader reads the file header. The error is [ErrFormat] if there is none
// and no chunk either, or the stream's own.
func NewReader(in io.Reader) (*Reader, error) {
	r := &Reader{in: in, buf: make([]byte, chunkSize), c: newChunk()}
	head := make([]byte, fileHeader)
	n, err := io.ReadFull(in, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	head = head[:n]
	switch {
	case bytes.HasPrefix(head, []byte(chunkMagic)): // carved chunks without a header
		r.in = io.MultiReader(bytes.NewReader(head), in)
		r.damage(0, "the file header is missing")
		return r, nil
	case n < fileHeader:
		return nil, ErrFormat
	}
	r.offset = fileHeader
	if !bytes.HasPrefix(head, []byte(fileMagic)) {
		next := make([]byte, len(chunkMagic))
		n, _ := io.ReadFull(in, next)
		if string(next[:n]) != chunkMagic {
			return nil, ErrFormat
		}
		r.in = io.MultiReader(bytes.NewReader(next), in)
		r.damage(0, "the file header is destroyed")
		return r, nil
	}
	flags := binary.LittleEndian.Uint32(head[120:])
	r.report.Dirty, r.noCRC = flags&flagDirty != 0, flags&flagNoCRC != 0
	if !r.noCRC && crc32.ChecksumIEEE(head[:120]) != binary.LittleEndian.Uint32(head[124:]) {
		r.damage(0, "the file header's checksum is wrong")
	}
	return r, nil
}

// Next returns the next record, or io.EOF after the last one, or the stream's
// error. Damage is no error: see [Reader.Report].
func (r *Reader) Next() (Record, error) {
	for {
		for r.c.pos < len(r.c.data) {
			if rec, ok := r.record(); ok {
				r.report.Records++
				return rec, nil
			}
		}
		if err := r.load(); err != nil {
			return Record{}, err
		}
	}
}

// Report says what was read so far.
func (r *Reader) Report() Report { return r.report }

// Offset is how far the file is read, in bytes.
func (r *Reader) Offset() int64 { return r.offset }

func (r *Reader) damage(offset int64, format string, args ...any) {
	if len(r.report.Damage) < maxDamage {
		r.report.Damage = append(r.report.Damage, Damage{offset, fmt.Sprintf(format, args...)})
	}
}

// load reads the next chunk and finds out how far it can be trusted.
func (r *Reader) load() error {
	n, err := io.ReadFull(r.in, r.buf)
	if n == 0 {
		return err
	}
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	data := r.buf[:n]
	at := r.offset
	r.offset += int64(n)
	r.c.reset(data, at)
	if zero(data) { // room for chunks to come
		r.c.pos = n
		return nil
	}
	r.report.Chunks++
	if problem := r.c.check(r.noCRC); problem != "" {
		r.report.BadChunks++
		r.damage(at, "chunk: %s", problem)
	}
	r.c.pos = min(chunkHeader, n)
	r.out.work = maxWork
	return nil
}

// record reads the record at the chunk's position and moves on. It returns ok
// false if there is none to give; the chunk is done when its position is its end.
func (r *Reader) record() (rec Record, ok bool) {
	c := r.c
	at := c.pos
	size, id, sound := c.recordAt(at)
	slack := at >= c.free
	if size == 0 || slack && (!sound || id != c.lastID+1) {
		r.skip(slack)
		return rec, false
	}
	body, err := r.out.event(c, at+24, at+size-4)
	if err != nil && slack { // a remainder of what was there before
		c.pos = len(c.data)
		return rec, false
	}
	if sound {
		c.pos = at + size
	} else {
		r.damage(c.offset+int64(at), "record %d: its length is there twice and differs", id)
		c.pos = c.nextRecord(at + 8)
	}
	if err != nil {
		r.report.BadRecords++
		r.damage(c.offset+int64(at), "record %d: %v", id, err)
		return rec, false
	}
	c.lastID = id
	return Record{ID: id, Written: filetime(binary.LittleEndian.Uint64(c.data[at+16:])), JSON: body}, true
}

// skip moves on to the next place that begins a record. What lies between is
// damage, unless it is unused.
func (r *Reader) skip(slack bool) {
	c := r.c
	at := c.pos
	if slack {
		c.pos = len(c.data)
		return
	}
	c.pos = c.nextRecord(at + 1)
	gap := c.data[at:c.pos]
	if c.pos == len(c.data) && len(gap) > 0 && at < c.free {
		gap = c.data[at:min(c.free, len(c.data))]
	}
	if !zero(gap) {
		r.report.BadRecords++
		r.damage(c.offset+int64(at), "no record where one should begin; %d bytes passed over", len(gap))
	}
}

func zero(b []byte) bool {
	for len(b) >= 8 {
		if binary.LittleEndian.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

// chunk is 64 KiB of a file: records that share names and templates by their
// offset in it.
type chunk struct {
	data      []byte
	offset    int64 // in the file
	pos       int   // of the next record
	free      int   // where records should end; what follows is slack
	lastID    uint64
	names     map[uint32]name
	templates map[uint32]*template
	// Where templates and fragments are kept.
	nodes    shelf[node]
	attrs    shelf[attr]
	elements []element
	scratch  []byte
}

// element returns a new element.
func (c *chunk) element() *element {
	if len(c.elements) == cap(c.elements) {
		c.elements = make([]element, 0, shelfSize)
	}
	c.elements = append(c.elements, element{})
	return &c.elements[len(c.elements)-1]
}

func newChunk() *chunk {
	return &chunk{names: map[uint32]name{}, templates: map[uint32]*template{}}
}

func (c *chunk) reset(data []byte, offset int64) {
	c.data, c.offset, c.pos, c.free, c.lastID = data, offset, 0, len(data), 0
	clear(c.names)
	clear(c.templates)
	c.nodes.reset()
	c.attrs.reset()
	c.elements = c.elements[:0]
}

// check says what is wrong with the chunk as a whole, "" if nothing is.
func (c *chunk) check(noCRC bool) string {
	d := c.data
	switch {
	case len(d) < chunkHeader:
		return fmt.Sprintf("the file ends within its header, after %d bytes", len(d))
	case string(d[:8]) != chunkMagic:
		return "its signature is missing"
	}
	free := int(binary.LittleEndian.Uint32(d[48:]))
	if free < chunkHeader || free > chunkSize {
		return fmt.Sprintf("its records should end at byte %d", free)
	}
	if len(d) < chunkSize {
		return fmt.Sprintf("the file ends within it, after %d bytes", len(d))
	}
	if noCRC {
		c.free = free
		return ""
	}
	sum := crc32.Update(crc32.ChecksumIEEE(d[:120]), crc32.IEEETable, d[128:512])
	if sum != binary.LittleEndian.Uint32(d[124:]) {
		return "its header's checksum is wrong"
	}
	c.free = free
	if crc32.ChecksumIEEE(d[chunkHeader:free]) != binary.LittleEndian.Uint32(d[52:]) {
		return "its records' checksum is wrong"
	}
	return ""
}

// recordAt returns the size of the record at a place, 0 if there is none, and
// whether both its lengths agree.
func (c *chunk) recordAt(at int) (size int, id uint64, sound bool) {
	d := c.data[at:]
	if len(d) < recordMin || string(d[:4]) != recordMagic {
		return 0, 0, false
	}
	n := binary.LittleEndian.Uint32(d[4:])
	if n < recordMin || n > uint32(len(d)) {
		return 0, 0, false
	}
	id = binary.LittleEndian.Uint64(d[8:])
	return int(n), id, binary.LittleEndian.Uint32(d[n-4:]) == n
}

// nextRecord returns where the next signature of a record is, or the chunk's end.
func (c *chunk) nextRecord(from int) int {
	for at := from; at < len(c.data); {
		i := bytes.Index(c.data[at:], []byte(recordMagic))
		if i < 0 {
			break
		}
		at += i
		if size, _, _ := c.recordAt(at); size > 0 {
			return at
		}
		at++
	}
	return len(c.data)
}

// filetime converts 100 ns steps since 1601. Times that no calendar of four
// digits holds (after the year 9999) become the zero time.
func filetime(ft uint64) time.Time {
	sec := int64(ft/10_000_000) - 11_644_473_600
	if sec > 253_402_300_799 {
		return time.Time{}
	}
	return time.Unix(sec, int64(ft%10_000_000)*100).UTC()
}
