// Package logs reads the logs that an agency really has and turns each entry
// into an event that Sigma rules understand.
//
// # Main types
//
// A [Stream] finds out by content what a file or connection holds and gives one
// event after another; its [Report] says what was read and what was refused. A
// [Mapping] is the declarative part (mappings/*.yml): how events are told apart,
// which of their fields carry which name of Sigma's taxonomy, and which
// logsource they are of.
//
// # The way of an entry
//
//	bytes → gunzip → format → entry → Mapping → pasban.Event with its logsource
//
// The formats are Windows event logs (EVTX), JSON (one object a line, written
// over several lines, or in a list), syslog (RFC 5424, RFC 3164 and what syslog
// daemons write to files), access logs (common and combined), Linux auditd
// (records of one event joined by their serial number), and plain lines.
//
// # What it guarantees
//
//   - Every entry becomes an event or is counted as refused, with its place and
//     a sample: see [Report]. Bad bytes cost an entry, not those behind it.
//   - Memory is bounded by [Limits], however large the input and its entries.
//   - What an entry says is kept: a name that an object has twice becomes a list,
//     so that a rule sees both values.
//
// # What it must never do
//
// It never decides what is worth looking at, and never cuts a value: an entry
// over a limit is refused whole and visibly.
package logs

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"pasban"
	"pasban/internal/detect"
	"pasban/internal/detect/evtx"

	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// Format is a kind of log.
type Format string

// The formats.
const (
	EVTX   Format = "evtx"
	JSON   Format = "json"
	Syslog Format = "syslog"
	Access Format = "access"
	Auditd Format = "auditd"
	Lines  Format = "lines" // plain text, of which nothing more is known
)

// Limits bound one entry. What is larger is refused.
type Limits struct {
	Bytes  int // of one entry
	Fields int // values of one entry, at all depths
	Depth  int // of objects and lists in one another
}

// DefaultLimits let pass an event with 10,000 fields and values of 1 MiB.
func DefaultLimits() Limits { return Limits{Bytes: 16 << 20, Fields: 20_000, Depth: 64} }

const (
	// peekSize is how much of a stream is looked at to tell its format; an event
	// log with a destroyed header shows itself at byte 4096.
	peekSize = 64 << 10
	// detectLines is how many lines of text are looked at.
	detectLines = 20
	// maxSamples is how many refusals a report describes; all are counted.
	maxSamples = 100
	// sampleSize is how many bytes of a refused entry are kept.
	sampleSize = 200
)

// Refusal is an entry, or a part of the input, that could not be read.
type Refusal struct {
	Offset int64  `json:"offset"` // in the unpacked input, bytes
	Why    string `json:"why"`
	Sample string `json:"sample,omitempty"` // how it begins; "" if it is not text
}

// Report says what was read.
type Report struct {
	Format  Format
	Events  int
	Refused int       // entries and damaged places
	Samples []Refusal // the first hundred
}

// Options of [Open].
type Options struct {
	Mapping *Mapping
	Format  Format             // "" finds out
	Source  []detect.Logsource // what the events are; nil lets the mapping say
	Limits  Limits             // zero means [DefaultLimits]
	// Packed says that gzip is an entry like any other, not to be unpacked: of
	// what a stranger sends, the size must stay the one that was received.
	Packed bool
	// Now is what times without a year, or beyond belief, are held against;
	// zero means the present.
	Now time.Time
}

// Stream gives the events of one input in their order.
type Stream struct {
	opt    Options
	report Report
	next   func() (map[string]any, error) // the format's reader; io.EOF at the end
	finish func()                         // called once at the end; may be nil
	last   time.Time                      // of the event before

	buf *bufio.Reader // these two are given to another stream at the end
	dec *decoder      // nil if the format holds no JSON
}

// buffers are readers of peekSize that no stream uses now.
var buffers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, peekSize) }}

// ErrBinary is the error of [Open] for what is neither text nor an event log.
var ErrBinary = errors.New("neither text nor a Windows event log")

// Open looks at the input's beginning and prepares to read it. The error is
// the input's own, or ErrBinary: all text is a format, if only [Lines].
func Open(in io.Reader, opt Options) (*Stream, error) {
	if opt.Limits == (Limits{}) {
		opt.Limits = DefaultLimits()
	}
	if opt.Now.IsZero() {
		opt.Now = time.Now()
	}
	s := &Stream{opt: opt, buf: buffers.Get().(*bufio.Reader)}
	buf := s.buf
	buf.Reset(in)
	for range 2 { // a compressed file may have been compressed again in transit
		head, err := buf.Peek(2)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if string(head) != "\x1f\x8b" || opt.Packed {
			break
		}
		zr, err := gzip.NewReader(buf)
		if err != nil {
			return nil, fmt.Errorf("it begins like gzip, but cannot be unpacked: %w", err)
		}
		buf = bufio.NewReaderSize(zr, peekSize)
	}
	head, err := buf.Peek(buf.Size())
	if err != nil && !errors.Is(err, io.EOF) && len(head) == 0 {
		return nil, err
	}
	if bytes.HasPrefix(head, []byte("\xff\xfe")) || bytes.HasPrefix(head, []byte("\xfe\xff")) {
		buf = bufio.NewReaderSize(transform.NewReader(buf, unicode.BOMOverride(unicode.UTF8.NewDecoder())), peekSize)
		head, _ = buf.Peek(buf.Size())
	}
	s.report.Format = opt.Format
	if opt.Format == "" {
		s.report.Format = Detect(head)
		if s.report.Format == Lines && bytes.IndexByte(head, 0) >= 0 {
			return nil, ErrBinary
		}
	}
	return s, s.start(buf)
}

// start chooses the format's reader.
func (s *Stream) start(buf *bufio.Reader) error {
	lines := &lineReader{in: buf, max: s.opt.Limits.Bytes, refuse: s.refuse}
	switch s.report.Format {
	case EVTX:
		return s.startEVTX(buf)
	case JSON:
		objects := &objectReader{in: buf, max: s.opt.Limits.Bytes, refuse: s.refuse}
		s.dec = newDecoder(s.opt.Limits)
		s.next = func() (map[string]any, error) { return s.nextObject(objects) }
	case Syslog:
		s.dec = newDecoder(s.opt.Limits)
		j := &auditJoiner{refuse: s.refuse, mapping: s.opt.Mapping}
		j.fromSyslog(lines, s.each(lines, newSyslogParser(s.opt, s.dec).parse))
		s.next = j.next
	case Access:
		s.next = s.each(lines, parseAccess)
	case Auditd:
		j := &auditJoiner{refuse: s.refuse, mapping: s.opt.Mapping}
		j.fromLines(lines)
		s.next = j.next
	default:
		s.next = s.each(lines, func(line string) (map[string]any, error) {
			return map[string]any{"message": line}, nil
		})
	}
	return nil
}

func (s *Stream) startEVTX(in io.Reader) error {
	r, err := evtx.NewReader(in)
	if err != nil {
		return err
	}
	s.dec = newDecoder(s.opt.Limits)
	s.next = func() (map[string]any, error) {
		rec, err := r.Next()
		if err != nil {
			return nil, err
		}
		return s.dec.object(rec.JSON)
	}
	s.finish = func() {
		rep := r.Report()
		s.report.Refused += rep.BadChunks + rep.BadRecords
		for _, d := range rep.Damage {
			s.sample(Refusal{Offset: d.Offset, Why: d.What})
		}
	}
	return nil
}

// each reads line by line.
func (s *Stream) each(lines *lineReader, parse func(string) (map[string]any, error)) func() (map[string]any, error) {
	return func() (map[string]any, error) {
		for {
			line, err := lines.next()
			if err != nil {
				return nil, err
			}
			ev, err := parse(line)
			if err == nil {
				return ev, nil
			}
			s.refuse(lines.offset, err.Error(), line)
		}
	}
}

func (s *Stream) nextObject(objects *objectReader) (map[string]any, error) {
	for {
		if ev := s.dec.queued(); ev != nil {
			return ev, nil
		}
		text, err := objects.next()
		if err != nil {
			return nil, err
		}
		ev, err := s.dec.object(text)
		if err == nil {
			if s.dec.unwrap(ev) {
				continue
			}
			return ev, nil
		}
		s.refuse(objects.offset, err.Error(), string(text[:min(len(text), sampleSize)]))
	}
}

// Next returns the next event with its logsource, or io.EOF after the last, or
// the input's error. A compressed input that ends too early is no error: it is
// counted in the report, and what was there has been given.
func (s *Stream) Next() (pasban.Event, error) {
	raw, err := s.next()
	switch {
	case err == nil:
	case isDamage(err):
		s.refuse(-1, "the compressed input is damaged: "+err.Error(), "")
		err = io.EOF
		fallthrough
	default:
		s.end(err)
		return nil, err
	}
	s.report.Events++
	ev := s.opt.Mapping.event(s.report.Format, raw)
	if s.opt.Source != nil {
		ev[detect.LogsourceKey] = s.opt.Source
	}
	s.believe(ev)
	return ev, nil
}

// end lets go of the input: from now on there is only err.
func (s *Stream) end(err error) {
	if s.finish != nil {
		s.finish()
	}
	if s.buf != nil {
		s.buf.Reset(nil)
		buffers.Put(s.buf)
	}
	if s.dec != nil {
		s.dec.release()
	}
	s.finish, s.buf, s.dec = nil, nil, nil
	s.next = func() (map[string]any, error) { return nil, err }
}

// isDamage reports whether an error is about the compressed bytes themselves.
func isDamage(err error) bool {
	_, corrupt := errors.AsType[flate.CorruptInputError](err)
	return corrupt || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, gzip.ErrChecksum) || errors.Is(err, gzip.ErrHeader)
}

// Report says what was read so far.
func (s *Stream) Report() Report { return s.report }

// believe puts an event whose time cannot be right where it was found: at the
// time of the event before it. The fields keep what the log says. A clock that
// runs a century ahead must not close the windows of every correlation.
func (s *Stream) believe(ev pasban.Event) {
	t := detect.Time(ev)
	if t.IsZero() || t.Year() < 1980 || t.After(s.opt.Now.Add(48*time.Hour)) {
		delete(ev, "time")
		if !s.last.IsZero() {
			ev["time"] = s.last.UnixMilli()
		}
		return
	}
	s.last = t
}

// refuse counts what could not be read.
func (s *Stream) refuse(offset int64, why, text string) {
	s.report.Refused++
	text = text[:min(len(text), sampleSize)]
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		text = strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), "")
	}
	s.sample(Refusal{offset, why, text})
}

func (s *Stream) sample(r Refusal) {
	if len(s.report.Samples) < maxSamples {
		s.report.Samples = append(s.report.Samples, r)
	}
}

// Detect tells a format by how an input begins.
func Detect(head []byte) Format {
	if evtx.IsEVTX(head) {
		return EVTX
	}
	text := strings.TrimPrefix(string(head), "\ufeff")
	if isJSON(text) {
		return JSON
	}
	n := 0
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) == "" {
			continue
		}
		switch {
		case isAudit(line):
			return Auditd
		case isSyslog(line):
			return Syslog
		case isAccess(line):
			return Access
		}
		if n++; n == detectLines {
			break
		}
	}
	return Lines
}

// isJSON reports whether text begins an object or a list of objects.
func isJSON(text string) bool {
	text = strings.TrimLeft(text, " \t\r\n\x1e")
	if rest, ok := strings.CutPrefix(text, "["); ok {
		text = strings.TrimLeft(rest, " \t\r\n")
	}
	rest, ok := strings.CutPrefix(text, "{")
	rest = strings.TrimLeft(rest, " \t\r\n")
	return ok && (rest == "" || rest[0] == '"' || rest[0] == '}')
}
