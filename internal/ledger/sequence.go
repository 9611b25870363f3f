package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/transparency-dev/tessera"
	"golang.org/x/mod/sumdb/tlog"

	"pasban/internal/journal"
)

const (
	// gather is how long leaves are collected before they are added: fewer,
	// larger batches write fewer partial tiles.
	gather = 100 * time.Millisecond
	// poll is how soon leaves are seen that another process committed, and how
	// soon a failed step is tried again.
	poll = 500 * time.Millisecond
)

// fatal is an error after which nothing may be signed any more.
type fatal struct{ error }

func (f fatal) Unwrap() error { return f.error }

// lastLeaf names the stored hash of the last of n leaves.
func lastLeaf(n int64) []int64 { return []int64{tlog.StoredHashIndex(0, n-1)} }

// Run adds leaves, watches checkpoints and audits, until ctx is done (it
// returns ctx's error) or something is wrong that must not be gone over: a
// journal that does not count its leaves without gaps. Errors of the storage
// are tried again, and leaves that it took at other places than promised, none
// of which was signed, are taken out again first. It can be called once.
func (l *Ledger) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	l.mu.Lock()
	if l.closed || l.ran != nil {
		l.mu.Unlock()
		return errors.New("the ledger is closed or has run before")
	}
	l.running, l.stopRun, l.ran = true, stop, make(chan struct{})
	l.health.reached = time.Now() // Open has just read it
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.running = false
		close(l.ran)
	}()

	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop() // before waiting
	l.observe(ctx)
	l.lookAtStorage(ctx)
	wg.Go(func() { l.watch(ctx) })
	if l.cosigner != nil {
		wg.Go(func() {
			if bad := l.cosigner.run(ctx); bad != nil {
				l.refuse(ctx, bad)
				stop()
			}
		})
		select {
		case <-l.cosigner.confirmed:
		case <-ctx.Done():
			return l.ended(ctx)
		}
	}
	wg.Go(func() { l.audits(ctx) })
	if err := l.sequence(ctx); ctx.Err() == nil {
		return err
	}
	return l.ended(ctx)
}

// ended is why Run returns when its context is done.
func (l *Ledger) ended(ctx context.Context) error {
	return cmp.Or(l.Stopped(), ctx.Err())
}

// sequence adds leaves as the journal gets them.
func (l *Ledger) sequence(ctx context.Context) error {
	for {
		woken := l.j.Wait() // before reading, or a commit in between is missed
		n, err := l.step(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		l.stepped(err)
		if f, ok := errors.AsType[fatal](err); ok {
			l.guard.close()
			slog.ErrorContext(ctx, "ledger: stopped for good", "storage", l.storage.Name(), "err", err)
			return f
		}
		pause := time.After(gather)
		if err != nil {
			slog.ErrorContext(ctx, "ledger: leaves cannot be added", "storage", l.storage.Name(), "err", err)
			woken, pause = nil, time.After(poll)
		}
		if n == batch {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.heal:
			l.healNow(ctx)
		case <-woken:
			select { // the others of this moment
			case <-ctx.Done():
				return ctx.Err()
			case <-pause:
			}
		case <-time.After(poll):
		}
	}
}

// step adds the next leaves, at most one batch, and returns when they are
// durably in the log at the indices that they were promised.
func (l *Ledger) step(ctx context.Context) (int, error) {
	l.seqMu.Lock()
	defer l.seqMu.Unlock()
	if l.unsure > 0 {
		if err := l.ask(ctx, l.unsure); err != nil {
			return 0, err
		}
	}
	if l.dirty { // nothing behind what is known to be right was signed
		if _, err := l.restore(ctx); err != nil {
			return 0, err
		}
		l.dirty = false
	}
	leaves, err := l.j.Leaves(ctx, uint64(l.next), batch)
	if err != nil || len(leaves) == 0 {
		return 0, err
	}
	if err := l.storage.Ready(ctx); err != nil {
		return 0, err
	}
	hashes := make([]tlog.Hash, len(leaves))
	for i, row := range leaves {
		if row.Index != uint64(l.next)+uint64(i) {
			return 0, fatal{unavailable(fmt.Sprintf("the journal gave leaf %d where %d was due", row.Index, l.next+int64(i)), nil)}
		}
		hashes[i] = row.Leaf.Hash()
	}
	l.guard.note(hashes)

	// The driver does not look at the context between Add and its future, and
	// a future that is not waited for would leave us not knowing.
	futures := make([]tessera.IndexFuture, len(leaves))
	for i, row := range leaves {
		futures[i] = l.appender.Add(context.WithoutCancel(ctx), tessera.NewEntry(row.Leaf[:]))
	}
	return l.settled(ctx, leaves, futures)
}

// settled waits for the indices that the driver gave to leaves. seqMu is held.
func (l *Ledger) settled(ctx context.Context, leaves []journal.LeafRow, futures []tessera.IndexFuture) (int, error) {
	var failed error
	for i, future := range futures {
		index, err := future()
		switch {
		case err != nil:
			failed = cmp.Or(failed, err) // the others say the same
		case failed != nil:
			l.dirty = true // taken behind one that was not: at the wrong place
		case index.Index != leaves[i].Index || index.IsDup:
			// The driver's queue hands over a batch that it cuts by age and the
			// rest behind it from two goroutines: now and then the second wins.
			failed = fmt.Errorf("leaf %d was added as leaf %d", leaves[i].Index, index.Index)
			l.dirty = true
		}
	}
	if failed == nil {
		l.next += int64(len(leaves))
		return len(leaves), nil
	}
	failed = unavailable("the log's storage does not take leaves", failed)
	return 0, errors.Join(failed, l.ask(context.WithoutCancel(ctx), len(leaves)))
}

// ask finds out how many of the leaves that were added last the driver has taken:
// some may have been before it failed. Until the storage answers, nothing is added.
// seqMu is held.
func (l *Ledger) ask(ctx context.Context, added int) error {
	n := l.next
	if !l.dirty {
		taken, _, err := l.taken(ctx)
		if err != nil {
			l.unsure = added
			return err
		}
		if l.dirty = taken < l.next || taken > l.next+int64(added); !l.dirty {
			n = taken
		}
	}
	l.unsure = 0
	var err error
	l.next, err = l.guard.rewind(n)
	return err
}

// hashes returns the leaf hashes from the journal, at least one.
func (l *Ledger) hashes(ctx context.Context, from int64, max int) ([]tlog.Hash, error) {
	rows, err := l.j.Leaves(ctx, uint64(from), max)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, unavailable(fmt.Sprintf("the journal has no leaf %d", from), nil)
	}
	out := make([]tlog.Hash, len(rows))
	for i, row := range rows {
		out[i] = row.Leaf.Hash()
	}
	return out, nil
}
