// Package ledger turns accountable facts into a public, append-only log of the
// form C2SP tlog-tiles, which anyone can copy, check and serve, kept by one of
// Tessera's drivers in a [Storage]: a directory, a database, an object store.
//
// # The way of a leaf
//
// The journal has made a fact durable and given it a leaf index. [Ledger.Run]
// takes leaves from there, strictly in order, and adds them to the log; about
// once a second the log's new size and root are signed as a checkpoint. From
// then on, and once its witnesses had their moment to cosign it, [Ledger.Receipt] exchanges the fact's promise for a proof that needs
// nothing of this node to be checked. [Ledger.Handler] serves the public files.
//
// # Guarantees
//
//   - The leaf of the journal's index n is leaf n of the log, across crashes,
//     or nothing is signed any more.
//   - A root is signed only if it is the one of the journal's leaves, computed
//     here and not from the storage, and only after size and root have been
//     written to the store. So the key never signs two roots for one size, nor a
//     tree that does not extend what it signed before, whatever happens to the
//     storage: one that is older than what was signed is refused.
//   - With witnesses ([Witnesses]), nothing is signed after a start before they
//     have said what they saw last, and nothing any more once one of them holds
//     what this ledger has not signed: a copy restored from an old backup, or a
//     second holder of the key, is noticed.
//   - What is published and handed out bears the cosignatures that came; a
//     checkpoint is final once there are enough, which is durable.
//   - [Ledger.Healthy] fails as soon as facts wait longer than the limits, or the
//     storage is silent for so long: the journal never becomes a place where facts
//     wait for days.
//   - [Ledger.Audit] names every file that is not what the checkpoint commits
//     to, and a damaged file is a fact in the journal once, of kind alarm.
//
// # What it must never do
//
// It never stands in the request's way (it follows the journal), never holds a
// plaintext body except in a receipt that was asked for, and never repairs
// anything that the journal's leaves and the signed root do not agree on.
// DESIGN.md says why it is built like this.
package ledger

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/transparency-dev/tessera"
	"golang.org/x/mod/sumdb/note"
	"k8s.io/klog/v2"

	"pasban"
	"pasban/internal/journal"
	"pasban/internal/ledger/tiles"
	"pasban/internal/store"
)

//go:embed migrations
var migrations embed.FS

// Options are the ledger's limits. The zero value of each field stands for its
// default.
type Options struct {
	Agency     string        // the agency's id, for alarms
	Interval   time.Duration // between checkpoints; default interval, and at least what the storage takes
	MaxLag     uint64        // leaves not yet under a checkpoint before Healthy fails; default 100,000
	MaxDelay   time.Duration // age of the oldest of them before Healthy fails; default 10 s
	AuditEvery time.Duration // pause between audits; default 1 min, and never less than fifty times what the last audit took
	// Rebuild lets Open restore a storage that is older than what was
	// signed, or gone, from the journal's leaves. It is an operator's
	// decision, for one start.
	Rebuild bool
	// Damaged is the folder where files that are replaced because they were
	// damaged are kept as evidence. Without it none can be replaced.
	Damaged string
	// Witnesses cosign the checkpoints.
	Witnesses Witnesses
}

// interval is the default between checkpoints. Whatever comes last before a quiet
// moment waits for almost twice as long: the driver finds that it is too early for
// the next one, and then looks after a whole interval again. A receipt is to be there
// within two seconds.
const interval = 700 * time.Millisecond

func (o *Options) defaults() {
	if o.Interval == 0 {
		o.Interval = interval
	}
	if o.MaxLag == 0 {
		o.MaxLag = 100_000
	}
	if o.MaxDelay == 0 {
		o.MaxDelay = 10 * time.Second
	}
	if o.AuditEvery == 0 {
		o.AuditEvery = time.Minute
	}
}

// closeWait is how long Close waits for the last leaves to be published.
const closeWait = 3 * time.Second

// batch is how many leaves are given to the driver at once.
const batch = 1024

// settle is how long the driver waits for more leaves of a batch that is not
// full: long beside the moment that adding one takes, so that it is not cut.
const settle = 10 * time.Millisecond

// VKey is the file that holds the ledger's verifier key, for convenience, and
// says whose ledger a storage holds.
const VKey = "vkey"

// Ledger is one open log. It is safe for concurrent use; one process can have
// it open.
type Ledger struct {
	storage  Storage
	st       *store.Store
	j        *journal.Journal
	o        Options
	verifier note.Verifier
	guard    *guard

	appender  *tessera.Appender
	reader    tessera.LogReader
	shutdown  func(context.Context) error
	stopLog   context.CancelFunc
	published atomic.Pointer[checkpoint] // the newest that is ours
	heal      chan struct{}              // asks Run to restore the storage's files
	cosigner  *cosigner                  // nil without witnesses
	prover    *prover                    // makes receipts

	seqMu  sync.Mutex // one at a time: adding leaves, restoring files
	next   int64      // index of the next leaf to add; covered by seqMu
	unsure int        // leaves from next on of which it is not known whether the driver took them; covered by seqMu
	dirty  bool       // the storage may hold leaves at wrong places behind next; covered by seqMu

	auditMu sync.Mutex // one audit at a time

	mu      sync.Mutex // covers what follows
	health  health
	wake    chan struct{} // closed when a checkpoint is published
	running bool
	stopRun context.CancelFunc
	ran     chan struct{} // closed when Run has returned
	closed  bool
}

// checkpoint is a signed checkpoint as it is served.
type checkpoint struct {
	pasban.Checkpoint
	raw []byte
	at  time.Time // when it was first seen here
}

// RouteLogs sends what the driver logs (through klog, which is one per
// process) to l. It must be called before the first Open, from main.
func RouteLogs(l *slog.Logger) { klog.SetSlogLogger(l.With("part", "tessera")) }

// Open opens the log in s, which belongs to the journal j on the store st, and
// makes it on first use; s is the ledger's to close, also if Open fails. signer
// and vkey are the ledger's key. It refuses (kind Unavailable or Conflict, with a
// hint) a storage that another process has open, that is another ledger's, or
// that is older than what was signed. Nothing is added until Run is called.
func Open(ctx context.Context, s Storage, st *store.Store, j *journal.Journal, signer note.Signer, vkey string, o Options) (_ *Ledger, err error) {
	o.defaults()
	o.Interval = max(o.Interval, s.Interval())
	l := &Ledger{storage: s, st: st, j: j, o: o, heal: make(chan struct{}, 1), wake: make(chan struct{})}
	l.guard = &guard{key: signer, st: st, seenThere: l.seenThere, storeTime: max(o.MaxDelay, time.Second), wrong: l.askHeal, news: make(chan struct{}, 1)}
	defer func() {
		if err != nil {
			l.release()
		}
	}()
	if l.verifier, err = note.NewVerifier(vkey); err != nil {
		return nil, fmt.Errorf("the ledger's verifier key: %w", err)
	}
	if err := st.Migrate(ctx, "ledger", migrations); err != nil {
		return nil, err
	}
	l.prover = newProver(s, l.verifier)
	if err := s.Claim(ctx); err != nil {
		return nil, err
	}
	if err := l.owned(ctx, vkey); err != nil {
		return nil, err
	}
	if err := l.recall(ctx); err != nil {
		return nil, err
	}
	if err := l.start(ctx); err != nil {
		return nil, err
	}
	if err := l.resume(ctx); err != nil {
		return nil, err
	}
	if len(o.Witnesses.Of) > 0 { // they have a word in when the guard opens
		if l.cosigner, err = newCosigner(ctx, l, o.Witnesses); err != nil {
			return nil, err
		}
		return l, nil
	}
	l.guard.open()
	return l, nil
}

// owned checks whose ledger the storage holds, and says so in a new one.
func (l *Ledger) owned(ctx context.Context, vkey string) error {
	had, err := l.storage.ReadFile(ctx, VKey)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return l.storage.WriteFile(ctx, VKey, []byte(vkey+"\n"))
	case err != nil:
		return unavailable("the storage's verifier key cannot be read", err)
	case string(had) != vkey+"\n":
		return &pasban.Error{Kind: pasban.Conflict, Where: filepath.Join(l.storage.Name(), VKey), Msg: "the storage holds the ledger of another key", Hint: "keys and ledger belong together: restore both from the same backup"}
	}
	return nil
}

// recall compares the storage's checkpoint with what was signed last. It runs
// before the driver does, which would make a new log of an empty storage.
func (l *Ledger) recall(ctx context.Context) error {
	record, known, err := loadSeen(ctx, l.st)
	if err != nil {
		return err
	}
	l.guard.signed, l.guard.known = record, known
	cp, err := l.readCheckpoint(ctx)
	missing := errors.Is(err, fs.ErrNotExist)
	older := known && record.n > 0 && (missing || err == nil && cp.N < record.published)
	if older && l.o.Rebuild {
		return l.rebuild(ctx, record)
	}
	refuse := func(msg, hint string) error {
		return &pasban.Error{Kind: pasban.Unavailable, Where: l.storage.Name(), Msg: "refused to sign for this ledger: " + msg, Err: err, Hint: hint}
	}
	const restore = "restore a newer copy of the ledger's storage, or start once with --rebuild-ledger to make it again from the journal"
	switch {
	case older && missing:
		return refuse(fmt.Sprintf("the storage has no checkpoint, but one of %d leaves was signed", record.n), restore)
	case older:
		return refuse(fmt.Sprintf("the storage's checkpoint is of %d leaves, but it has held one of %d: it was rolled back", cp.N, record.published), restore)
	case missing:
		return nil // a new log
	case err != nil:
		return refuse("the storage's checkpoint cannot be used", "restore the file checkpoint from a copy of the ledger")
	case cp.N > record.n || !known && cp.N > 0:
		return refuse(fmt.Sprintf("the storage's checkpoint is of %d leaves, but the store knows of %d: the store was rolled back or exchanged", cp.N, record.n), "restore the store that belongs to this ledger")
	case cp.N == record.n && cp.Tree != record.tree():
		return refuse(fmt.Sprintf("the storage's checkpoint of %d leaves is not the one that was signed: it was forked", cp.N), "keep both as evidence and restore the storage from a backup")
	}
	l.published.Store(&cp)
	return nil
}

// start starts the driver. What it signs from now on goes through the guard.
func (l *Ledger) start(ctx context.Context) error {
	driver, err := l.storage.Driver(ctx)
	if err != nil {
		return unavailable("the log's driver does not start", err)
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stopLog = stop
	opts := tessera.NewAppendOptions().
		WithCheckpointSigner(l.guard).
		WithCheckpointInterval(l.o.Interval).
		WithCheckpointRepublishInterval(0).
		WithPushback(uint(l.o.MaxLag)+batch). // the limits are Healthy's
		WithBatching(batch, settle)
	l.appender, l.shutdown, l.reader, err = tessera.NewAppender(running, driver, opts)
	if err != nil {
		return unavailable("the log's driver does not start", err)
	}
	return nil
}

// resume finds out where the log ended and checks its right edge, which every
// later tile is built on, against the journal's leaves.
func (l *Ledger) resume(ctx context.Context) error {
	n, integrated, err := l.taken(ctx)
	if err != nil {
		return err
	}
	record, _ := l.guard.state()
	_, leaves, err := l.j.Head(ctx)
	if err != nil {
		return err
	}
	refuse := func(msg, hint string) error {
		return &pasban.Error{Kind: pasban.Unavailable, Where: l.storage.Name(), Msg: "refused to sign for this ledger: " + msg, Hint: hint}
	}
	if integrated < record.n {
		return refuse(fmt.Sprintf("the storage holds %d leaves, but a checkpoint of %d was signed: it was rolled back", integrated, record.n), "restore a newer copy of it")
	}
	if leaves < uint64(n) {
		return refuse(fmt.Sprintf("the journal has %d leaves, but the ledger %d: the store was rolled back", leaves, n), "restore the store that belongs to this ledger")
	}
	for at := record.n; at < n; {
		hashes, err := l.hashes(ctx, at, int(min(batch, n-at)))
		if err != nil {
			return err
		}
		l.guard.note(hashes)
		at += int64(len(hashes))
	}
	l.next = n
	if tree, ok := l.guard.at(integrated); ok && tree.N > 0 {
		if _, err := tiles.HashReader(ctx, l.storage, tree).ReadHashes(lastLeaf(integrated)); err != nil {
			slog.ErrorContext(ctx, "ledger: the storage's right edge is damaged", "storage", l.storage.Name(), "err", err)
			l.seqMu.Lock()
			defer l.seqMu.Unlock()
			findings, err := l.restore(ctx)
			if err != nil {
				return err
			}
			return l.alarm(ctx, findings, true)
		}
	}
	return nil
}

// Close stops Run if it is running, waits a moment for the last leaves to be
// published, and gives the storage up. What was not published then is
// published at the next start.
func (l *Ledger) Close() error {
	l.mu.Lock()
	stop, ran := l.stopRun, l.ran
	closed := l.closed
	l.closed = true
	l.mu.Unlock()
	if closed {
		return nil
	}
	if stop != nil {
		stop()
		<-ran
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	l.mu.Lock()
	stopped := l.health.fatal != nil
	l.mu.Unlock()
	if stopped { // nothing more will be published
		cancel()
	}
	if err := l.settle(ctx); err != nil {
		slog.Warn("ledger: closed before the last leaves were published", "storage", l.storage.Name(), "err", err)
	}
	l.release()
	return nil
}

// settle waits until the driver has published all that it has taken.
func (l *Ledger) settle(ctx context.Context) error {
	if err := l.shutdown(ctx); err != nil {
		return err
	}
	// The driver publishes in a goroutine that cannot be waited for: it is at
	// rest when the storage's checkpoint is the one that was signed last.
	l.guard.close()
	record, _ := l.guard.state()
	for {
		if cp, err := l.readCheckpoint(ctx); err == nil && cp.N == record.n {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	if record.published < record.n {
		record.published = record.n
		return saveSeen(ctx, l.st, record)
	}
	return nil
}

// release stops the driver and frees what claim took.
func (l *Ledger) release() {
	l.guard.close()
	if l.stopLog != nil {
		l.stopLog()
	}
	if err := l.storage.Close(); err != nil {
		slog.Warn("ledger: closing the storage", "storage", l.storage.Name(), "err", err)
	}
}

// readCheckpoint reads and verifies the storage's checkpoint. Most often it is
// one that was verified before.
func (l *Ledger) readCheckpoint(ctx context.Context) (checkpoint, error) {
	return readCheckpoint(ctx, l.storage, l.verifier, l.published.Load(), l.shown())
}

func readCheckpoint(ctx context.Context, src tiles.Source, v note.Verifier, known ...*checkpoint) (checkpoint, error) {
	raw, err := src.ReadFile(ctx, tiles.Checkpoint)
	if err != nil {
		return checkpoint{}, err
	}
	for _, cp := range known {
		if cp != nil && bytes.Equal(cp.raw, raw) {
			return *cp, nil
		}
	}
	cp, err := pasban.OpenCheckpoint(raw, v)
	return checkpoint{cp, raw, time.Now()}, err
}

// seenThere returns the size of the newest checkpoint of ours that was seen in
// the storage, 0 if none was. It does no I/O.
func (l *Ledger) seenThere() int64 {
	if cp := l.published.Load(); cp != nil {
		return cp.N
	}
	return 0
}

// taken returns how many leaves the driver has taken for good, and how many of
// them are in the storage's tiles already: it may do the one before the other.
func (l *Ledger) taken(ctx context.Context) (taken, integrated int64, err error) {
	in, err := l.reader.IntegratedSize(ctx) // first, as it only grows
	if err != nil {
		return 0, 0, unavailable("the log's state cannot be read", err)
	}
	n, err := l.reader.NextIndex(ctx)
	if err != nil {
		return 0, 0, unavailable("the log's state cannot be read", err)
	}
	return int64(n), int64(in), nil
}
