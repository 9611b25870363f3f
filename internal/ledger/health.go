package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"pasban"
	"pasban/internal/ledger/tiles"
)

// health is what Run's goroutines saw last. Covered by Ledger.mu.
type health struct {
	step     error         // why the last leaves could not be added
	fatal    error         // why nothing is signed any more
	leaves   uint64        // in the journal
	observed time.Time     // when that was
	observe  error         // why it could not be
	waiting  []mark        // leaves not yet under a checkpoint, by when they were seen; oldest first
	reached  time.Time     // when the storage last gave its checkpoint, or said that there is none
	reach    error         // why it could not since
	answers  time.Duration // how long that took the last time

	audited  time.Time // when the last audit ended
	took     time.Duration
	auditErr error           // why it could not tell
	findings []tiles.Finding // what it found
}

// mark says that the journal had so many leaves at a time.
type mark struct {
	leaves uint64
	at     time.Time
}

// marksEvery is how finely the age of waiting leaves is known.
const marksEvery = 100 * time.Millisecond

// Status is the ledger as an operator sees it.
type Status struct {
	Origin     string
	Size       uint64        // leaves under the newest checkpoint
	Root       string        // its root, base64
	Published  time.Time     // when it was first seen here; zero if there is none
	Lag        uint64        // leaves of the journal not yet under a checkpoint
	LagTime    time.Duration // age of the oldest of them
	LastAudit  time.Time     // end of the last audit, zero if there was none
	AuditErr   error         // why it could not tell
	Damaged    []tiles.Finding
	Storage    string        // where the files are
	Answers    time.Duration // how long the storage took to give the checkpoint the last time
	StorageAt  time.Time     // when that was
	StorageErr error         // why it has not since
	Witnesses  Witnessing
	Err        error // what Healthy returns
}

// Status returns the present state. It does no I/O.
func (l *Ledger) Status() Status {
	s := Status{Origin: l.verifier.Name(), Storage: l.storage.Name(), Err: l.Healthy()}
	if cp := l.shown(); cp != nil {
		s.Size, s.Root, s.Published = uint64(cp.N), cp.Hash.String(), cp.at
	}
	if l.cosigner != nil {
		s.Witnesses = l.cosigner.status()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.health
	s.Lag, s.LagTime = h.lag(s.Size)
	s.LastAudit, s.AuditErr, s.Damaged = h.audited, h.auditErr, h.findings
	s.Answers, s.StorageAt, s.StorageErr = h.answers, h.reached, h.reach
	return s
}

// Healthy returns nil, or why routes that need the ledger must answer 503: it
// is not running, it stopped for good, its storage fails, or facts have waited
// longer than the limits. Damaged files alone are no reason: they are alarms.
// It does no I/O.
func (l *Ledger) Healthy() error {
	size := uint64(l.seenThere())
	_, refused := l.guard.state()
	var pending error
	if l.cosigner != nil {
		pending = l.cosigner.pending()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.health
	lag, age := h.lag(size)
	switch {
	case h.fatal != nil:
		return h.fatal
	case !l.running:
		return unavailable("the ledger is not running", nil)
	case pending != nil:
		return pending
	case h.step != nil:
		return h.step
	case refused != nil:
		return unavailable("no checkpoint is signed", refused)
	case h.observe != nil:
		return unavailable("the ledger cannot be watched", h.observe)
	case time.Since(h.observed) > l.o.MaxDelay:
		return unavailable(fmt.Sprintf("the ledger has not been watched for %s", time.Since(h.observed).Round(time.Second)), nil)
	case time.Since(h.reached) > l.o.MaxDelay:
		return unavailable(fmt.Sprintf("the ledger's storage has not answered for %s", time.Since(h.reached).Round(time.Second)), h.reach)
	case lag > l.o.MaxLag:
		return unavailable(fmt.Sprintf("%d facts wait for the ledger, the limit is %d", lag, l.o.MaxLag), nil)
	case age > l.o.MaxDelay:
		return unavailable(fmt.Sprintf("facts have waited %s for the ledger, the limit is %s", age.Round(time.Second), l.o.MaxDelay), nil)
	}
	return nil
}

// Stopped returns why nothing is signed any more, for good; nil otherwise. It
// does no I/O.
func (l *Ledger) Stopped() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.health.fatal
}

// lag returns how many leaves are not among the first size, and how long the
// oldest of them has waited.
func (h *health) lag(size uint64) (uint64, time.Duration) {
	if h.leaves <= size {
		return 0, 0
	}
	for _, m := range h.waiting {
		if m.leaves > size {
			return h.leaves - size, time.Since(m.at)
		}
	}
	return h.leaves - size, 0
}

// stepped takes down the outcome of a step.
func (l *Ledger) stepped(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.health.step = err
	if f, ok := errors.AsType[fatal](err); ok {
		l.health.fatal = f
	}
}

const (
	// soon is how often a checkpoint that has just been signed is looked for.
	soon = 10 * time.Millisecond
	// soonFor is for how long; then it is looked for as often as ever.
	soonFor = 500 * time.Millisecond
)

// watch observes the journal and the storage until ctx is done, each by itself and
// apart from the goroutine that adds leaves: whichever hangs, the lag is still
// seen.
func (l *Ledger) watch(ctx context.Context) {
	every := min(l.o.Interval/2, 500*time.Millisecond)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { l.watchStorage(ctx, every) })
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			l.observe(ctx)
		}
	}
}

// watchStorage looks at the storage: the driver publishes a checkpoint in the
// moment after it was signed, and tells nobody.
func (l *Ledger) watchStorage(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	var until time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.guard.news:
			until = time.Now().Add(soonFor)
			tick.Reset(soon)
		case now := <-tick.C:
			l.lookAtStorage(ctx)
			if record, _ := l.guard.state(); !until.IsZero() && (now.After(until) || l.seenThere() == record.n) {
				until = time.Time{}
				tick.Reset(every)
			}
		}
	}
}

// observe looks at the journal's head.
func (l *Ledger) observe(ctx context.Context) {
	_, leaves, err := l.j.Head(ctx)
	if ctx.Err() != nil {
		return
	}
	size := uint64(l.seenThere())

	l.mu.Lock()
	defer l.mu.Unlock()
	h := &l.health
	if h.observe = err; err != nil {
		return
	}
	now := time.Now()
	h.leaves, h.observed = leaves, now
	for len(h.waiting) > 0 && h.waiting[0].leaves <= size {
		h.waiting = h.waiting[1:]
	}
	n := len(h.waiting)
	if leaves > size && (n == 0 || leaves > h.waiting[n-1].leaves && now.Sub(h.waiting[n-1].at) >= marksEvery) {
		h.waiting = append(h.waiting, mark{leaves, now})
	}
}

// lookAtStorage looks at the storage's checkpoint, and takes down how that went.
func (l *Ledger) lookAtStorage(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, l.o.MaxDelay)
	defer cancel()
	start := time.Now()
	cp, err := l.readCheckpoint(ctx)
	took := time.Since(start)
	if errors.Is(err, context.Canceled) {
		return
	}
	there := err == nil || errors.Is(err, fs.ErrNotExist) || pasban.KindOf(err) == pasban.Invalid
	l.mu.Lock()
	if there {
		l.health.reached, l.health.answers, l.health.reach = time.Now(), took, nil
	} else {
		l.health.reach = err
	}
	l.mu.Unlock()
	if there {
		l.lookAtCheckpoint(ctx, cp, err)
	}
}

// lookAtCheckpoint takes over a checkpoint that the driver has published, which
// was just read, and puts ours back in place of any other.
func (l *Ledger) lookAtCheckpoint(ctx context.Context, cp checkpoint, err error) {
	had := l.published.Load()
	if err == nil && had != nil && cp.Tree == had.Tree { // cosignatures come and go
		l.backFromTheFuture(ctx)
		return
	}
	record, _ := l.guard.state()
	problem := ""
	switch {
	case errors.Is(err, fs.ErrNotExist):
		problem = "is missing"
	case err != nil:
		problem = "cannot be used: " + err.Error()
	case cp.N > record.n || cp.N == record.n && cp.Tree != record.tree():
		problem = "is not the one that was signed"
	case had != nil && (cp.N < had.N || cp.N == had.N && cp.Tree != had.Tree):
		problem = fmt.Sprintf("was rolled back to %d leaves after %d", cp.N, had.N)
	}
	if problem == "" {
		l.published.Store(&cp)
		l.tell()
		return
	}
	if had == nil {
		return
	}
	if shown := l.shown(); shown != nil && shown.Tree == had.Tree {
		had = shown // with its cosignatures
	}
	err = l.storage.WriteFile(ctx, tiles.Checkpoint, had.raw)
	if err == nil {
		err = l.alarm(ctx, []tiles.Finding{{Path: tiles.Checkpoint, Problem: problem}}, true)
	}
	if err != nil {
		slog.ErrorContext(ctx, "ledger: a damaged checkpoint", "problem", problem, "err", err)
	}
}

// tell lets those know who wait for a new checkpoint: the witnesses first.
func (l *Ledger) tell() {
	if l.cosigner == nil {
		l.wakeAll()
		return
	}
	select {
	case l.cosigner.published <- struct{}{}:
	default:
	}
}

// wakeAll wakes whoever awaits what the public is shown now.
func (l *Ledger) wakeAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.wake)
	l.wake = make(chan struct{})
}

// shown is the checkpoint that the public is shown, nil if there is none: the
// newest, once its witnesses had their moment.
func (l *Ledger) shown() *checkpoint {
	if l.cosigner != nil {
		return l.cosigner.served.Load()
	}
	return l.published.Load()
}

// backFromTheFuture has the driver forget that it published at a time to come. It
// signs nothing before the last checkpoint is as old as the interval: if the
// machine's clock was set back by a day, or a copy was restored whose clock ran
// ahead, it would sign nothing for that long.
func (l *Ledger) backFromTheFuture(ctx context.Context) {
	now := time.Now()
	was, moved, err := l.storage.SetBack(ctx, now.Add(l.o.Interval), now)
	if moved {
		slog.WarnContext(ctx, "ledger: the checkpoint is of a time to come: the clock was set back", "storage", l.storage.Name(), "checkpoint", was.UTC(), "now", now.UTC(), "err", err)
	}
}

// Await returns when the leaf with this index is under a published checkpoint,
// or with ctx's error. Run must be running.
func (l *Ledger) Await(ctx context.Context, index uint64) error {
	for {
		l.mu.Lock()
		wake := l.wake
		l.mu.Unlock()
		if cp := l.shown(); cp != nil && index < uint64(cp.N) {
			return nil
		}
		select {
		case <-ctx.Done():
			return &pasban.Error{Kind: pasban.Unavailable, Where: "ledger", Msg: fmt.Sprintf("leaf %d is not under a checkpoint yet", index), Err: ctx.Err()}
		case <-wake:
		}
	}
}
