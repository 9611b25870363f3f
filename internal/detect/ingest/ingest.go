// Package ingest receives logs from other machines: syslog over UDP, TCP and
// TLS, JSON and OpenTelemetry over HTTPS, and OpenTelemetry over gRPC.
//
// # Main types
//
// [Receiver] runs the listeners of a configuration and hands events on. [Spool]
// is the bounded queue on disk between the two.
//
// # The way of an entry
//
//	listener → Spool (durable) → package logs → Matcher → sink (soc)
//
// # What it guarantees
//
//   - What a sender was told is taken (an HTTP or gRPC answer without error) is
//     on stable storage and is matched, also after a crash; then perhaps twice.
//   - Back-pressure instead of loss: while the spool is full, connections are not
//     read and HTTP answers 503. Syslog over UDP has no way back: what is dropped
//     is counted.
//   - Entries that cannot be read are counted by source, and samples are kept.
//   - Memory is bounded by the number of connections and the size of one message.
//
// # What it must never do
//
// It never takes JSON or OpenTelemetry from a sender without the source's token,
// and never writes a token anywhere.
package ingest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/detect"
	"pasban/internal/detect/logs"
)

// Base is where the sequence numbers of received events begin: above every
// number of the journal.
const Base = detect.FirstReceived

// IDPrefix begins the ids of received events; those of the journal's facts are
// hexadecimal digits.
const IDPrefix = "log:"

// together is how many events are handed on at a time.
const together = 500

// samples is how many refused entries of a source are kept.
const samples = 20

// Matcher finds out what an event means. Each event is shown to it once, unless
// the node stops in between.
type Matcher interface {
	Match(ev pasban.Event) []detect.Match
}

var _ Matcher = (*detect.Engine)(nil)

// Receiver runs listeners.
type Receiver struct {
	spool   *Spool
	mapping *logs.Mapping
	log     *slog.Logger
	sources []*source
	byName  map[string]*source
}

// Figures are the counts of one source since the start.
type Figures struct {
	Source  string
	Listen  string    // as the configuration has it
	Last    time.Time // when something was taken; zero if nothing was
	Bytes   int64     // taken
	Events  int64     // handed on
	Refused int64     // entries that could not be read, and senders without the token
	Dropped int64     // for want of room
	Samples []logs.Refusal
}

// source is one listener.
type source struct {
	conf  config.LogSource
	url   *url.URL
	token [sha256.Size]byte
	tls   *tls.Config
	spool *Spool

	bytes, events, refused, dropped atomic.Int64
	last                            atomic.Int64 // when something was taken, Unix nanoseconds

	mu      sync.Mutex // covers samples
	samples []logs.Refusal

	opened net.Addr // where it listens, once it does
}

// New prepares the listeners of a configuration and opens the spool in dir.
func New(dir string, conf config.Logs, log *slog.Logger) (*Receiver, error) {
	r := &Receiver{log: log, byName: map[string]*source{}}
	var err error
	if r.mapping, err = logs.NewMapping(); err != nil {
		return nil, err
	}
	if r.spool, err = OpenSpool(dir, conf.Spool); err != nil {
		return nil, fmt.Errorf("open the spool of received logs: %w", err)
	}
	for _, c := range conf.Sources {
		s := &source{conf: c, spool: r.spool, token: sha256.Sum256([]byte(c.Token.Value()))}
		if s.url, err = url.Parse(c.Listen); err == nil {
			s.tls, err = tlsOf(c, s.url.Scheme)
		}
		if err != nil {
			return nil, errors.Join(&pasban.Error{Kind: pasban.Invalid, Where: "logs.sources " + c.Name, Msg: "cannot be received", Err: err}, r.spool.Close())
		}
		r.sources = append(r.sources, s)
		r.byName[c.Name] = s
	}
	return r, nil
}

// tlsOf reads a source's certificate, and the authority of its senders'.
func tlsOf(c config.LogSource, scheme string) (*tls.Config, error) {
	if scheme != "tls" && scheme != "https" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		return nil, err
	}
	t := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	if c.ClientCA != "" {
		pem, err := os.ReadFile(c.ClientCA)
		if err != nil {
			return nil, err
		}
		t.ClientCAs, t.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !t.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", c.ClientCA)
		}
	}
	return t, nil
}

// Listen opens every listener and returns a function that serves them until its
// context is done. On error none stays open.
func (r *Receiver) Listen(ctx context.Context) (serve func(context.Context), err error) {
	var serving []func(context.Context)
	var closing []io.Closer
	for _, s := range r.sources {
		var one func(context.Context)
		var c io.Closer
		if s.url.Scheme == "udp" {
			var pc net.PacketConn
			if pc, err = (&net.ListenConfig{}).ListenPacket(ctx, "udp", s.url.Host); err == nil {
				s.opened, c = pc.LocalAddr(), pc
				one = func(ctx context.Context) { s.serveUDP(ctx, pc) }
			}
		} else {
			var l net.Listener
			if l, err = (&net.ListenConfig{}).Listen(ctx, "tcp", s.url.Host); err == nil {
				s.opened, c = l.Addr(), l
				one = func(ctx context.Context) { s.serveTCP(ctx, l) }
				if s.url.Scheme == "https" {
					one = func(ctx context.Context) { s.serveHTTP(ctx, l) }
				}
			}
		}
		if err != nil {
			for _, c := range closing {
				c.Close()
			}
			return nil, &pasban.Error{Kind: pasban.Unavailable, Where: "logs.sources " + s.conf.Name, Msg: "cannot listen on " + s.conf.Listen, Err: err}
		}
		serving, closing = append(serving, one), append(closing, c)
	}
	return func(ctx context.Context) {
		var wg sync.WaitGroup
		for _, one := range serving {
			wg.Go(func() { one(ctx) })
		}
		wg.Wait()
	}, nil
}

// Addr is where a source listens, nil before Listen.
func (r *Receiver) Addr(name string) net.Addr {
	if s := r.byName[name]; s != nil {
		return s.opened
	}
	return nil
}

// Run matches the events of the spool and hands the matches on, until ctx is
// done. It returns ctx's error, or why the spool cannot be read. While sink
// fails, the matches are kept and handed on again.
//
// Matching does not wait for sink: what was found while sink was at work goes
// together in the next call. A sink that makes every call durable would bound how
// many requests a second can be matched.
func (r *Receiver) Run(ctx context.Context, m Matcher, sink detect.Sink) error {
	reading, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	waiting := make(chan finding, 1)
	var handing sync.WaitGroup
	handing.Go(func() {
		for f := range waiting {
			if len(f.matches) > 0 && r.insist(ctx, sink, f.source, f.matches) != nil {
				return // ctx is done, and nothing behind these may be noted as taken
			}
			if err := r.spool.done(f.next); err != nil {
				stop(err) // the rest is handed on: nothing is matched twice while the node runs
			}
		}
	})
	put := func(f finding) error {
		select {
		case before := <-waiting: // what was found goes together
			if len(before.matches) > 0 {
				f.source, f.matches = before.source, append(before.matches, f.matches...)
			}
		default:
		}
		waiting <- f // nobody else sends: there is room
		if len(f.matches) < matchesWaiting {
			return nil
		}
		select {
		case waiting <- finding{next: f.next}: // it was taken
			return nil
		case <-reading.Done():
			return context.Cause(reading)
		}
	}
	err := r.spool.read(reading, func(f Frame) error {
		if f.Data != nil {
			if err := r.read(f, true, func(events []pasban.Event) error {
				var matches []detect.Match
				for _, ev := range events {
					matches = append(matches, m.Match(ev)...)
				}
				return put(finding{f.Source, matches, f.Offset})
			}); err != nil {
				return err
			}
		}
		return put(finding{f.Source, nil, f.next})
	})
	close(waiting)
	handing.Wait()
	if cause := context.Cause(reading); cause != nil {
		return cause
	}
	return err
}

// matchesWaiting is from how many matches on the reading waits for the sink: they hold
// on to their events.
const matchesWaiting = 2000

// finding is what was found up to a place in the spool.
type finding struct {
	source  string // of the first match
	matches []detect.Match
	next    uint64
}

// Keep says how far the store of events has got in the spool; see [Spool.Keep].
func (r *Receiver) Keep(at uint64) error { return r.spool.Keep(at) }

// Unkept is how many bytes of the spool the store of events does not have yet,
// and how many it lost for want of room since the start.
func (r *Receiver) Unkept() (waiting, lost int64) { return r.spool.Unkept() }

// Follow reads the spool beside Run and hands the same events to keep, from a
// place in the spool on, until ctx is done or keep fails. next is where to go on
// when these events are kept for good; it is the same place again while more
// events of a frame follow.
func (r *Receiver) Follow(ctx context.Context, from uint64, keep func(f Frame, events []pasban.Event, next uint64) error) error {
	return r.spool.Follow(ctx, from, func(f Frame) error {
		if err := r.read(f, false, func(events []pasban.Event) error { return keep(f, events, f.Offset) }); err != nil {
			return err
		}
		return keep(f, nil, f.next)
	})
}

// insist hands matches on until they are taken or ctx is done.
func (r *Receiver) insist(ctx context.Context, sink detect.Sink, source string, matches []detect.Match) error {
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 10*time.Second) {
		err := sink(ctx, matches)
		if err == nil {
			return nil
		}
		r.log.ErrorContext(ctx, "matches in received logs are not taken, trying again", "source", source, "matches", len(matches), "in", pause, "err", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// read reads a frame and gives its events, some at a time: a frame of empty
// objects is many times as large in memory. Each event gets a sequence number
// and an id that no other has: its place in the spool.
//
// counts is whether the source's figures count what was read, or those of a copy
// that nobody asks: it is read twice if events are kept.
func (r *Receiver) read(f Frame, counts bool, give func([]pasban.Event) error) error {
	s := r.byName[f.Source]
	switch {
	case s == nil: // no longer in the configuration: what it sent is still matched
		s = &source{conf: config.LogSource{Name: f.Source}}
	case !counts:
		s = &source{conf: s.conf}
	}
	opt := logs.Options{Mapping: r.mapping, Format: logs.Format(s.conf.Format), Now: f.Received, Packed: true}
	if l := s.conf.Logsource; l != (config.Logsource{}) {
		opt.Source = []detect.Logsource{{Product: l.Product, Category: l.Category, Service: l.Service}}
	}
	stream, err := logs.Open(bytes.NewReader(f.Data), opt)
	if err != nil || stream.Report().Format == logs.EVTX {
		s.refuse(logs.Refusal{Why: "neither JSON nor lines of text"})
		return nil
	}
	var events []pasban.Event
	for n := uint64(0); ; n++ {
		ev, err := stream.Next()
		if len(events) == together || err != nil && len(events) > 0 {
			s.events.Add(int64(len(events)))
			if err := give(events); err != nil {
				return err
			}
			events = nil
		}
		if err != nil {
			break // the end: bytes in memory do not fail
		}
		number(ev, f, n)
		r.mapping.OCSF(ev)
		events = append(events, ev)
	}
	rep := stream.Report()
	s.refused.Add(int64(rep.Refused - len(rep.Samples)))
	for _, sample := range rep.Samples {
		s.refuse(sample)
	}
	return nil
}

// number says which event of the spool an event is, under the names by which
// detection refers to events.
func number(ev pasban.Event, f Frame, n uint64) {
	ev["Seq"] = Base + f.Offset + n
	meta, _ := ev["metadata"].(map[string]any)
	if meta == nil {
		meta = map[string]any{}
	}
	if uid, has := meta["uid"]; has {
		meta["original_uid"] = uid
	}
	meta["uid"] = fmt.Sprintf("%s%s:%d", IDPrefix, f.Source, f.Offset+n)
	ev["metadata"] = meta
	if detect.Time(ev).IsZero() {
		ev["time"] = f.Received.UnixMilli()
	}
	// What an event is, the mapping or the configuration says, not its sender:
	// nobody passes for a part of Pasban.
	if own, ok := ev[detect.LogsourceKey].(map[string]any); ok {
		ev["original_logsource"] = own
		delete(ev, detect.LogsourceKey)
	}
}

// refuse counts an entry that could not be read and keeps it as a sample.
func (s *source) refuse(sample logs.Refusal) {
	s.refused.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.samples = append(s.samples, sample); len(s.samples) > samples {
		s.samples = s.samples[1:]
	}
}

// allowed compares a sender's token with the source's, in constant time.
func (s *source) allowed(token string) bool {
	sum := sha256.Sum256([]byte(token))
	return token != "" && subtle.ConstantTimeCompare(sum[:], s.token[:]) == 1
}

// take spools what was received.
func (s *source) take(data []byte) error {
	now := time.Now()
	if err := s.spool.Append(s.conf.Name, now, data); err != nil {
		return err
	}
	s.last.Store(now.UnixNano())
	s.bytes.Add(int64(len(data)))
	return nil
}

// Figures returns the counts of every source.
func (r *Receiver) Figures() []Figures {
	var out []Figures
	for _, s := range r.sources {
		s.mu.Lock()
		kept := append([]logs.Refusal(nil), s.samples...)
		s.mu.Unlock()
		var last time.Time
		if at := s.last.Load(); at != 0 {
			last = time.Unix(0, at)
		}
		out = append(out, Figures{Source: s.conf.Name, Listen: s.conf.Listen, Last: last, Bytes: s.bytes.Load(), Events: s.events.Load(), Refused: s.refused.Load(), Dropped: s.dropped.Load(), Samples: kept})
	}
	return out
}

// Waiting is how many bytes wait in the spool, and how many may.
func (r *Receiver) Waiting() (bytes, max int64) { return r.spool.Waiting(), r.spool.max }

// Healthy says what is wrong: senders are made to wait, or frames were lost.
func (r *Receiver) Healthy() error {
	if waiting, max := r.Waiting(); waiting > max*9/10 {
		return fmt.Errorf("the spool is full (%d of %d bytes): senders are made to wait", waiting, max)
	}
	if n := r.spool.Damaged(); n > 0 {
		return fmt.Errorf("%d places of the spool could not be read", n)
	}
	return nil
}

// Close closes the spool. Call it when nothing runs any more.
func (r *Receiver) Close() error { return r.spool.Close() }
