package sentinel

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/journal"
	"pasban/internal/store"
)

// table is one guarded table while the sentinel runs.
type table struct {
	s   *Sentinel
	g   config.GuardedTable
	src *source
	log *slog.Logger

	audits  chan chan auditDone // asks for an audit now; nil channel wants no answer
	restart chan struct{}       // a new baseline was taken

	mu     sync.Mutex // covers what follows
	st     *state     // nil without a baseline, or if the files are not believed
	rec    record
	status Status
	marks  map[string]chan struct{} // closed when the stream has come to the mark
	orders map[string]order         // repairs under way
	near   uint64                   // a transaction id of about now
	views  int                      // audits that may ask for old versions
	paused bool                     // a baseline is being taken

	guarding sync.Mutex // held while the table is followed

	toldMu sync.Mutex           // covers told
	told   map[string]time.Time // conditions that an alarm has told of
}

// order is what two people decided on: a repair, with the rows that it may make,
// or a change order, with the role that may carry it out.
type order struct {
	login string            // "" for a repair
	rows  map[string][]byte // by key; nil if the row is to go
	until time.Time
	// closed is where the server's log was when a change order ended; 0 before. The
	// server's clock, by which changes are dated, can be set back.
	closed uint64
}

func newTable(s *Sentinel, g config.GuardedTable) *table {
	return &table{
		s: s, g: g, src: newSource(s.o.Agency, g), log: s.o.Log.With("part", "sentinel", "table", g.Name),
		audits: make(chan chan auditDone, 16), restart: make(chan struct{}, 1),
		status: Status{Table: g.Name, Source: g.Table}, told: map[string]time.Time{}, marks: map[string]chan struct{}{}, orders: map[string]order{},
	}
}

// retryPause is how long the guard waits before it tries again what failed.
const retryPause = time.Second

// run guards the table until ctx is done.
func (t *table) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := t.open(ctx); err != nil {
			t.trouble(ctx, err)
		}
		t.mu.Lock()
		ready := t.st != nil && !t.paused
		t.mu.Unlock()
		if ready {
			t.guard(ctx)
		}
		t.writeStatus(ctx)
		select {
		case <-ctx.Done():
		case <-t.restart:
		case <-time.After(retryPause):
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closeState()
}

func (t *table) closeState() {
	if t.st != nil {
		t.st.close()
		t.st = nil
	}
}

// guard follows, watches and audits until one of them cannot go on, or a new
// baseline is taken.
func (t *table) guard(ctx context.Context) {
	t.guarding.Lock()
	defer t.guarding.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { t.keepAuditing(ctx) })
	wg.Go(func() { t.keepWatching(ctx) })
	wg.Go(func() {
		defer cancel()
		if err := t.follow(ctx); err != nil && ctx.Err() == nil {
			t.trouble(ctx, err)
		}
	})
	select {
	case <-t.restart:
		cancel()
	case <-ctx.Done():
	}
	wg.Wait()
}

// open reads the state and checks it against the ledger.
func (t *table) open(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.st != nil || t.paused {
		return nil
	}
	rec, crypt, err := t.s.load(ctx, t.g.Name)
	if err != nil || crypt == nil {
		return err
	}
	t.rec = rec
	for id, o := range rec.Orders {
		t.orders[id] = order{login: o.Login, until: o.Until, closed: o.Closed}
	}
	if t.status.AuditFact, err = t.s.lastAudit(ctx, t.g.Name); err != nil {
		return err
	}
	t.fill()
	a, err := t.anchored(ctx)
	if err != nil {
		return err
	}
	st, err := openState(t.s.o.Dir, t.g.Name, rec.Gen, crypt, a)
	if errors.Is(err, errState) {
		return t.disbelieve(ctx, err)
	}
	if err != nil {
		return unavailable("open the state", err)
	}
	t.st = st
	sweep(t.s.o.Dir, t.g.Name, rec.Gen)
	t.status.Problem = ""
	return nil
}

// disbelieve raises an alarm about the sentinel's own files, once. Only a new
// baseline helps, or the files from a backup.
func (t *table) disbelieve(ctx context.Context, cause error) error {
	err := &pasban.Error{Kind: pasban.Unavailable, Where: "guarded table " + t.g.Name, Msg: cause.Error(),
		Hint: "keep the files as evidence; restore data/sentinel from a backup, or take a new baseline"}
	return errors.Join(err, t.alarm(ctx, "table-blind", "files", []string{cause.Error()}, nil))
}

// anchored reads what the ledger says of the state: from the facts themselves,
// which the journal has checked against their leaves.
func (t *table) anchored(ctx context.Context) (a anchorage, err error) {
	base, err := t.s.o.Journal.ByID(ctx, t.rec.Anchor)
	if err != nil {
		return a, err
	}
	last := base
	if t.rec.Last != "" {
		if last, err = t.s.o.Journal.ByID(ctx, t.rec.Last); err != nil {
			return a, err
		}
	}
	bytesOf := func(e journal.Entry, key string) (b []byte) {
		if err == nil {
			b, err = hex.DecodeString(e.Fact.Restricted.More[key])
		}
		return b
	}
	a.Root, a.Chain, a.Last = bytesOf(base, "root"), bytesOf(base, "chain"), bytesOf(last, "chain")
	a.Settled = t.rec.Settled
	if err == nil {
		_, err = fmt.Sscan(last.Fact.Restricted.More["batch"], &a.Batch)
	}
	if base.Fact.Body.Resource != t.g.Name || last.Fact.Body.Resource != t.g.Name || base.Fact.Body.Service != Service {
		err = errors.New("the facts are about another table")
	}
	return a, unavailable("read what the ledger says of the state", err)
}

// fill copies what is kept to the status. The caller holds mu.
func (t *table) fill() {
	s := &t.status
	s.Baseline, s.Taken, s.Origin, s.Attests, s.Attested, s.Blind = t.rec.Baseline, t.rec.Taken, t.rec.Origin, t.rec.Attests, t.rec.Attested, t.rec.Blind
	s.Contest, s.Rows = len(t.rec.Contested), t.rec.Rows
}

// trouble says what keeps the guard from working, and raises an alarm if that
// lasts.
func (t *table) trouble(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	t.log.Error("the table is not followed", "err", err)
	t.mu.Lock()
	t.status.Problem, t.status.Follows = err.Error(), false
	t.mu.Unlock()
	t.writeStatus(ctx) // who comes because of the alarm sees why
	if err := t.alarm(ctx, "table-lag", "trouble", []string{err.Error()}, nil); err != nil {
		t.log.Error("the alarm could not be recorded", "err", err)
	}
}

// tellAgain is how long a condition that lasts raises no second alarm.
const tellAgain = 10 * time.Minute

// alarm records an alarm about a condition, unless it was told of lately.
func (t *table) alarm(ctx context.Context, action, condition string, reasons []string, more map[string]string) error {
	t.toldMu.Lock()
	defer t.toldMu.Unlock()
	if at, ok := t.told[condition]; ok && time.Since(at) < tellAgain {
		return nil
	}
	f := t.alarmFact(action, reasons, more)
	if _, err := t.s.o.Journal.Record(ctx, f); err != nil {
		return err
	}
	t.told[condition] = time.Now()
	return nil
}

// over forgets that a condition was told of: if it comes again, it is news.
func (t *table) over(condition string) {
	t.toldMu.Lock()
	defer t.toldMu.Unlock()
	delete(t.told, condition)
}

func (t *table) alarmFact(action string, reasons []string, more map[string]string) pasban.Fact {
	f := t.s.fact(pasban.KindAlarm, t.g.Name, action)
	f.Restricted.Reasons = bound(reasons, 20)
	maps.Copy(f.Restricted.More, more)
	return f
}

// overAll is over for every condition that begins so.
func (t *table) overAll(prefix string) {
	t.toldMu.Lock()
	defer t.toldMu.Unlock()
	maps.DeleteFunc(t.told, func(name string, _ time.Time) bool { return strings.HasPrefix(name, prefix) })
}

// writeStatus puts the status where other processes read it.
func (t *table) writeStatus(ctx context.Context) {
	t.mu.Lock()
	s := t.status
	t.mu.Unlock()
	text, err := json.Marshal(s)
	if err == nil {
		err = t.s.o.Store.Write(context.WithoutCancel(ctx), func(tx *store.Tx) error {
			_, err := tx.Exec(`UPDATE sentinel_table SET status = ? WHERE name = ?`, string(text), t.g.Name)
			return err
		})
	}
	if err != nil {
		t.log.Warn("the guard's status could not be written", "err", err)
	}
}

// blinded notes that changes may have been missed: an alarm, and an audit as
// soon as the stream runs. change brings the record up to date.
func (t *table) blinded(ctx context.Context, why string, change func(*record)) error {
	t.log.Error("the table was not seen for a while", "why", why)
	t.mu.Lock()
	defer t.mu.Unlock()
	rec := t.rec
	change(&rec)
	rec.Blind = why
	if t.st != nil {
		rec.Settled = t.st.batch
	}
	f := t.alarmFact("table-blind", []string{why}, nil)
	_, err := t.s.o.Journal.Commit(ctx, func(tx *store.Tx) ([]pasban.Fact, error) {
		return []pasban.Fact{f}, t.s.save(ctx, tx, t.g.Name, rec)
	})
	if err != nil {
		return unavailable("record that the table was not seen", err)
	}
	t.rec, t.status.Blind = rec, why
	if t.st != nil {
		t.st.settle()
	}
	t.askAudit()
	return nil
}

// askAudit asks for an audit without waiting for it.
func (t *table) askAudit() {
	select {
	case t.audits <- nil:
	default:
	}
}
