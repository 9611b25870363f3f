// Package parquet writes rows of the event store as Apache Parquet files and
// reads them back: the archive's files, and what an analyst exports.
//
// # Main types
//
// [Writer] takes rows and writes a file; [Read] gives them back, the same
// fields and values. [Digest] tells whether two sets of rows are the same.
//
// # The file
//
// Columns: time (timestamp, nanoseconds, UTC), id, seq, source, product,
// category, service, message, one for each of the fields that rules and hunters
// ask for most, and fields, a map of text to text with all others. Pages are compressed with Zstandard; a row
// group has at most 50,000 rows or about 64 MiB, which is what writer and
// reader hold in memory.
//
// # What it must never do
//
// Read never trusts a file: a damaged one is an error, not a panic.
package parquet

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"pasban/internal/eventstore"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"
)

const (
	groupRows  = 50_000
	groupBytes = 64 << 20
)

// record is one row of a file. Its tags are the file's columns.
type record struct {
	Time     *time.Time        `parquet:"time,optional,timestamp(nanosecond)"`
	ID       *string           `parquet:"id,optional"`
	Seq      *int64            `parquet:"seq,optional"`
	Source   *string           `parquet:"source,optional,dict"`
	Product  *string           `parquet:"product,optional,dict"`
	Category *string           `parquet:"category,optional,dict"`
	Service  *string           `parquet:"service,optional,dict"`
	Message  *string           `parquet:"message,optional"`
	EventID  *string           `parquet:"EventID,optional,dict"`
	Channel  *string           `parquet:"Channel,optional,dict"`
	Computer *string           `parquet:"Computer,optional,dict"`
	User     *string           `parquet:"User,optional,dict"`
	Image    *string           `parquet:"Image,optional,dict"`
	Command  *string           `parquet:"CommandLine,optional"`
	Parent   *string           `parquet:"ParentImage,optional,dict"`
	Target   *string           `parquet:"TargetUserName,optional,dict"`
	SourceIP *string           `parquet:"SourceIp,optional,dict"`
	DestIP   *string           `parquet:"DestinationIp,optional,dict"`
	SrcIP    *string           `parquet:"SrcIP,optional,dict"`
	Host     *string           `parquet:"hostname,optional,dict"`
	Kind     *string           `parquet:"Kind,optional,dict"`
	Actor    *string           `parquet:"Actor,optional,dict"`
	Action   *string           `parquet:"Action,optional,dict"`
	Outcome  *string           `parquet:"Outcome,optional,dict"`
	Fields   map[string]string `parquet:"fields"`
}

// known says where a field's value goes: first the store's own but for the time
// and the number, then those that rules and hunters ask for most.
var known = []struct {
	name string
	at   func(*record) **string
}{
	{eventstore.FieldMessage, func(r *record) **string { return &r.Message }}, {eventstore.FieldID, func(r *record) **string { return &r.ID }},
	{eventstore.FieldSource, func(r *record) **string { return &r.Source }}, {eventstore.FieldProduct, func(r *record) **string { return &r.Product }},
	{eventstore.FieldCategory, func(r *record) **string { return &r.Category }}, {eventstore.FieldService, func(r *record) **string { return &r.Service }},
	{"EventID", func(r *record) **string { return &r.EventID }}, {"Channel", func(r *record) **string { return &r.Channel }},
	{"Computer", func(r *record) **string { return &r.Computer }}, {"User", func(r *record) **string { return &r.User }},
	{"Image", func(r *record) **string { return &r.Image }}, {"CommandLine", func(r *record) **string { return &r.Command }},
	{"ParentImage", func(r *record) **string { return &r.Parent }}, {"TargetUserName", func(r *record) **string { return &r.Target }},
	{"SourceIp", func(r *record) **string { return &r.SourceIP }}, {"DestinationIp", func(r *record) **string { return &r.DestIP }},
	{"SrcIP", func(r *record) **string { return &r.SrcIP }}, {"hostname", func(r *record) **string { return &r.Host }},
	{"Kind", func(r *record) **string { return &r.Kind }}, {"Actor", func(r *record) **string { return &r.Actor }},
	{"Action", func(r *record) **string { return &r.Action }}, {"Outcome", func(r *record) **string { return &r.Outcome }},
}

// Writer writes one file.
type Writer struct {
	w       *parquet.GenericWriter[record]
	columns map[string]func(*record) **string
	rows    int // in the row group
	bytes   int
}

// NewWriter returns a writer of a file. Nothing is a file before Close.
func NewWriter(w io.Writer) *Writer {
	out := &Writer{columns: map[string]func(*record) **string{}, w: parquet.NewGenericWriter[record](w,
		parquet.Compression(&zstd.Codec{Level: zstd.SpeedDefault}), parquet.CreatedBy("pasban", "1", ""), parquet.DataPageStatistics(false))}
	for _, k := range known {
		out.columns[k.name] = k.at
	}
	return out
}

// Write adds a row. FieldStream is left out: it says again what other columns
// say.
func (w *Writer) Write(row eventstore.Row) error {
	var r record
	for _, f := range row {
		if f.Name == eventstore.FieldStream {
			continue
		}
		w.bytes += len(f.Name) + len(f.Value)
		if f.Name == eventstore.FieldTime {
			if t, err := time.Parse(time.RFC3339Nano, f.Value); err == nil && t.UTC().Format(time.RFC3339Nano) == f.Value && inRange(t) {
				r.Time = &t
				continue
			}
		}
		if f.Name == eventstore.FieldSeq {
			if n, err := strconv.ParseInt(f.Value, 10, 64); err == nil && strconv.FormatInt(n, 10) == f.Value {
				r.Seq = &n
				continue
			}
		}
		if at := w.columns[f.Name]; at != nil && *at(&r) == nil {
			*at(&r) = &f.Value
			continue
		}
		if r.Fields == nil {
			r.Fields = map[string]string{}
		}
		r.Fields[f.Name] = f.Value
	}
	if _, err := w.w.Write([]record{r}); err != nil {
		return err
	}
	if w.rows++; w.rows >= groupRows || w.bytes >= groupBytes {
		w.rows, w.bytes = 0, 0
		return w.w.Flush()
	}
	return nil
}

// inRange reports whether a time fits into 64 bits of nanoseconds.
func inRange(t time.Time) bool { return t.Year() > 1677 && t.Year() < 2262 }

// Close ends the file.
func (w *Writer) Close() error { return w.w.Close() }

// Read gives the rows of a file that Writer wrote, in their order.
func Read(r io.ReaderAt, size int64, each func(eventstore.Row) error) (err error) {
	defer func() { // the library is someone else's, the file is anyone's
		if p := recover(); p != nil {
			err = fmt.Errorf("the Parquet file is damaged: %v", p)
		}
	}()
	file, err := parquet.OpenFile(r, size)
	if err != nil {
		return fmt.Errorf("the Parquet file is not readable: %w", err)
	}
	if want := parquet.SchemaOf(record{}); !parquet.EqualNodes(file.Schema(), want) {
		return errors.New("the Parquet file has other columns than Pasban's")
	}
	in := parquet.NewGenericReader[record](file)
	defer in.Close()
	batch := make([]record, 256)
	for {
		clear(batch)
		n, err := in.Read(batch)
		for i := range n {
			if err := each(batch[i].row()); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("the Parquet file is damaged: %w", err)
		}
	}
}

func (r *record) row() eventstore.Row {
	var row eventstore.Row
	if r.Time != nil {
		row = append(row, eventstore.Field{Name: eventstore.FieldTime, Value: r.Time.UTC().Format(time.RFC3339Nano)})
	}
	if r.Seq != nil {
		row = append(row, eventstore.Field{Name: eventstore.FieldSeq, Value: strconv.FormatInt(*r.Seq, 10)})
	}
	for _, k := range known {
		if v := *k.at(r); v != nil {
			row = append(row, eventstore.Field{Name: k.name, Value: *v})
		}
	}
	for name, value := range r.Fields {
		row = append(row, eventstore.Field{Name: name, Value: value})
	}
	return row.Arrange()
}

// Digest is what a set of rows comes to, whatever their order: how many they
// are, and the sum of a hash of each.
type Digest struct {
	Rows int64
	Sum  [4]uint64
}

// Add adds a row.
func (d *Digest) Add(row eventstore.Row) {
	h := sha256.New()
	var n [8]byte
	for _, f := range row.Arrange() {
		if f.Name == eventstore.FieldStream {
			continue
		}
		for _, s := range []string{f.Name, f.Value} {
			binary.BigEndian.PutUint64(n[:], uint64(len(s)))
			h.Write(n[:])
			io.WriteString(h, s)
		}
	}
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	for i := range d.Sum {
		d.Sum[i] += binary.BigEndian.Uint64(sum[8*i:])
	}
	d.Rows++
}
