package eventstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"strconv"
	"sync"
	"time"

	"pasban"
	"pasban/internal/durable"
)

// ErrAgain is the error of Feed.Add after the engine was started again: what it
// had not written to disk may be gone, and is read again.
var ErrAgain = errors.New("the event engine was started again")

// settleServer is how long a server has had to write events when a position is
// saved: its word that it took them is not its word that they are on disk.
// VictoriaLogs writes every 5 s (-inmemoryDataFlushInterval).
const settleServer = 15 * time.Second

// saveEvery is how often a position is saved at most.
const saveEvery = time.Second

// Positions is the file that says how far each feed has got. It lies beside the
// events: whoever deletes them both has them filled again from the journal.
type Positions struct {
	path string
	mu   sync.Mutex // covers doc and the file
	doc  positions
}

type positions struct {
	Feeds map[string]uint64 `json:"feeds"`
	// Floor is the first instant that is still taken, see Window.
	Floor time.Time `json:"floor"`
}

// OpenPositions reads the file, if there is one.
func OpenPositions(path string) (*Positions, error) {
	p := &Positions{path: path}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		p.doc.Feeds = map[string]uint64{}
		return p, nil
	} else if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &p.doc); err != nil || p.doc.Feeds == nil {
		return nil, &pasban.Error{Kind: pasban.Unavailable, Where: path, Msg: "damaged", Err: err, Hint: "remove it: the journal is read again, and what the store has is not added twice"}
	}
	return p, nil
}

func (p *Positions) save(change func(*positions)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := positions{Feeds: maps.Clone(p.doc.Feeds), Floor: p.doc.Floor}
	change(&next)
	text, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(p.path, append(text, '\n'), 0o600); err != nil {
		return err
	}
	p.doc = next
	return nil
}

func (p *Positions) of(name string) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.doc.Feeds[name]
}

// Floor is the first instant of which events are taken.
func (p *Positions) Floor() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.doc.Floor
}

// SetFloor puts the floor on disk.
func (p *Positions) SetFloor(t time.Time) error {
	return p.save(func(d *positions) { d.Floor = t })
}

// Feed hands the events of one ordered source to a store, again and again until
// they are taken, and keeps its position: what a crash leaves in doubt is added
// again, unless the store has it.
//
// Run is called once at a time, and Add from within it.
type Feed struct {
	store     Store
	positions *Positions
	name      string
	low, high uint64 // the numbers of the source's events: low <= Event.Seq < high
	settle    time.Duration
	log       *slog.Logger
	onSaved   func(uint64) error // may be nil

	busy  sync.Mutex // covers what follows
	epoch uint64
	marks []mark // taken and not yet saved, in order
	doubt uint64 // an event with a number below it may be in the store already
	saved time.Time

	mu     sync.Mutex // covers status
	status FeedStatus
}

// mark says that everything up to at was taken at some time.
type mark struct {
	at    uint64
	taken time.Time
}

// FeedStatus is how a feed is doing.
type FeedStatus struct {
	Added   uint64    // events since the start
	Again   uint64    // events since the start that were found to be in the store already
	Lag     time.Time // when the oldest event that waits came in; zero if none is known to wait
	Failing time.Time // since when the store takes nothing, or the source gives none; zero if all is well
	Err     error     // why
}

// FeedOptions are what a feed needs.
type FeedOptions struct {
	Store     Store
	Positions *Positions
	Name      string // in the file of positions
	Low, High uint64 // the numbers of its events: Low <= Event.Seq < High
	Log       *slog.Logger
	OnSaved   func(position uint64) error // called with every position saved; may be nil
}

// NewFeed returns the feed of one source.
func NewFeed(o FeedOptions) *Feed {
	f := &Feed{store: o.Store, positions: o.Positions, name: o.Name, low: o.Low, high: o.High, settle: settleServer, log: o.Log, onSaved: o.OnSaved}
	if own, ok := o.Store.(epocher); ok {
		f.settle = own.Settled()
	}
	if f.log == nil {
		f.log = slog.Default()
	}
	return f
}

// epocher is a store that may lose what it took when its epoch changes.
type epocher interface {
	Epoch() uint64
	Settled() time.Duration
}

func (f *Feed) now() uint64 {
	if e, ok := f.store.(epocher); ok {
		return e.Epoch()
	}
	return 0
}

// Name is the feed's name in the file of positions.
func (f *Feed) Name() string { return f.name }

// Position is where the source is to be read from: everything up to it is in the
// store, and on its disk.
func (f *Feed) Position() uint64 { return f.positions.of(f.name) }

// Run has read hand the source's events to Add, from a position on, until ctx is
// done. read is called again when it failed, and when the engine was started
// again; it ends when its context does.
func (f *Feed) Run(ctx context.Context, read func(ctx context.Context, from uint64) error) {
	for ctx.Err() == nil {
		if err := f.begin(ctx); err != nil {
			continue // the engine was started again, or ctx is done
		}
		reading, stop := context.WithCancel(ctx)
		var settling sync.WaitGroup
		settling.Go(func() { f.settleOften(reading, stop) })
		err := read(reading, f.Position())
		cut := reading.Err() != nil
		stop()
		settling.Wait()
		if cut || errors.Is(err, ErrAgain) {
			continue
		}
		f.failed(err, time.Time{})
		f.log.ErrorContext(ctx, "a source of events cannot be read, trying again", "feed", f.name, "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// settleOften saves positions also while nothing comes, and stops the reading if
// the engine was started again. While the reading goes on and no Add is in its
// way, all is well.
func (f *Feed) settleOften(ctx context.Context, stop context.CancelFunc) {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			f.busy.Lock()
			err := f.settleNow(now)
			if err == nil {
				f.well(0, 0)
			}
			f.busy.Unlock()
			if err != nil {
				stop()
				return
			}
		}
	}
}

// numberMargin is by how much more numbers are asked for: the engine compares them
// as floating point.
const numberMargin = 4096

// numbered is the filter for the source's events from one number to before another.
func (f *Feed) numbered(from, to uint64) string {
	from, to = max(from, f.low+numberMargin)-numberMargin, min(to, f.high-numberMargin)+numberMargin
	return fmt.Sprintf("%s:>=%d %s:<%d", FieldSeq, from, FieldSeq, to)
}

// begin finds out up to which number the store has events beyond the position, and
// tries until it knows or ctx is done.
func (f *Feed) begin(ctx context.Context) error {
	f.busy.Lock()
	defer f.busy.Unlock()
	f.marks = nil
	return f.insist(ctx, "events in the store are not found", time.Now(), func() error {
		f.epoch, f.doubt = f.now(), 0
		q := Query{LogsQL: fmt.Sprintf("%s | stats max(%s) as highest", f.numbered(f.low+f.Position(), f.high), FieldSeq)}
		return f.store.Search(ctx, q, 0, func(r Row) error {
			highest := r.Get("highest")
			if highest == "" {
				return nil
			}
			n, err := strconv.ParseUint(highest, 10, 64)
			if err != nil {
				return fmt.Errorf("an event in the store has the number %q", highest)
			}
			f.doubt = n + numberMargin
			return nil
		})
	})
}

// fresh returns the events that the store does not have. It asks lot by lot: a
// store whose positions were lost has more than the node could remember.
func (f *Feed) fresh(ctx context.Context, events []Event) (fresh []Event, err error) {
	if len(events) == 0 || events[0].Seq >= f.doubt {
		return events, nil
	}
	stored := map[string]bool{}
	q := Query{LogsQL: fmt.Sprintf("%s | fields %s, %s", f.numbered(events[0].Seq, events[len(events)-1].Seq+1), FieldTime, FieldID)}
	err = f.insist(ctx, "events in the store are not listed", came(events[0]), func() error {
		return f.store.Search(ctx, q, 0, func(r Row) error { stored[r.Get(FieldID)] = true; return nil })
	})
	for _, ev := range events {
		if !stored[ev.ID] {
			fresh = append(fresh, ev)
		}
	}
	return fresh, err
}

// came is when an event came in.
func came(ev Event) time.Time {
	if ev.Received.IsZero() {
		return ev.Time
	}
	return ev.Received
}

// Add hands events to the store and returns when it has taken them. next is the
// position once they are on disk. It returns ErrAgain if the engine was started
// again since the reading began, and ctx's error.
func (f *Feed) Add(ctx context.Context, events []Event, next uint64) error {
	f.busy.Lock()
	defer f.busy.Unlock()
	if f.now() != f.epoch {
		return ErrAgain
	}
	fresh, err := f.fresh(ctx, events)
	if err != nil {
		return err
	}
	if len(fresh) > 0 {
		if err := f.insist(ctx, "events are not taken", came(fresh[0]), func() error { return f.store.Add(ctx, fresh) }); err != nil {
			return err
		}
	}
	if f.now() != f.epoch {
		return ErrAgain
	}
	f.well(len(fresh), len(events)-len(fresh))
	f.marks = append(f.marks, mark{next, time.Now()})
	return f.settleNow(time.Now())
}

// settleNow saves the position that the store has had time to write.
func (f *Feed) settleNow(now time.Time) error {
	if f.now() != f.epoch {
		return ErrAgain
	}
	if now.Sub(f.saved) < saveEvery {
		return nil
	}
	n := 0
	for n < len(f.marks) && now.Sub(f.marks[n].taken) >= f.settle {
		n++
	}
	if n == 0 {
		return nil
	}
	at := f.marks[n-1].at
	f.marks = append(f.marks[:0], f.marks[n:]...)
	f.saved = now
	if at == f.Position() {
		return nil
	}
	err := f.positions.save(func(d *positions) { d.Feeds[f.name] = at })
	if err == nil && f.onSaved != nil {
		err = f.onSaved(at)
	}
	if err != nil { // tried again with the next; until then a crash has more added twice
		f.log.Warn("the position of events is not saved", "feed", f.name, "err", err)
	}
	return nil
}

// Reset puts the position to at, for a source that is not the one that was read
// before. Return ErrAgain to read from there.
func (f *Feed) Reset(at uint64) error {
	return f.positions.save(func(d *positions) { d.Feeds[f.name] = at })
}

// insist tries until it is done, the engine was started again, or ctx is done.
func (f *Feed) insist(ctx context.Context, what string, since time.Time, try func() error) error {
	var told time.Time // of a store that stays away the log tells once a minute
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		err := try()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		f.failed(err, since)
		if time.Since(told) > time.Minute {
			told = time.Now()
			f.log.WarnContext(ctx, what+", trying again", "feed", f.name, "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		if f.now() != f.epoch {
			return ErrAgain
		}
	}
}

// well notes that nothing is in the way, and what became of events.
func (f *Feed) well(added, again int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status = FeedStatus{Added: f.status.Added + uint64(added), Again: f.status.Again + uint64(again)}
}

// failed notes what is in the way, and since when events wait for it. What fails
// again and again fails since the first time.
func (f *Feed) failed(err error, waiting time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status.Err, f.status.Lag = err, waiting
	if f.status.Failing.IsZero() {
		f.status.Failing = time.Now()
	}
}

// Status says how the feed is doing.
func (f *Feed) Status() FeedStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status
}

// Gather lets a source give its events in small lots, and adds them in larger
// ones: what is there when the store is free goes together. What was given is
// Gather's.
func (f *Feed) Gather(ctx context.Context, read func(ctx context.Context, give func(events []Event, next uint64) error) error) error {
	type lot struct {
		events []Event
		next   uint64
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	waiting := make(chan lot, 1)
	var adding sync.WaitGroup
	adding.Go(func() {
		for l := range waiting {
			if err := f.Add(ctx, l.events, l.next); err != nil {
				cancel(err)
				return
			}
		}
	})
	err := read(ctx, func(events []Event, next uint64) error {
		l := lot{events, next}
		select {
		case before := <-waiting: // it grows
			if len(before.events) < addTogether {
				l.events = append(before.events, events...)
			} else {
				waiting <- before // nobody else sends: there is room
			}
		default:
		}
		select {
		case waiting <- l:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	close(waiting)
	adding.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// addTogether is from how many events on a lot does not grow.
const addTogether = 2000
