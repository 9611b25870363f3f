// Package ledger turns accountable facts into a public, append-only log: a
// C2SP tlog-tiles directory that anyone can copy, check and serve, kept by
// Tessera's POSIX driver.
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
//     here and not from the directory, and only after size and root have been
//     written to the store. So the key never signs two roots for one size, nor a
//     tree that does not extend what it signed before, whatever happens to the
//     directory: a directory that is older than what was signed is refused.
//   - With witnesses ([Witnesses]), nothing is signed after a start before they
//     have said what they saw last, and nothing any more once one of them holds
//     what this ledger has not signed: a copy restored from an old backup, or a
//     second holder of the key, is noticed.
//   - What is published and handed out bears the cosignatures that came; a
//     checkpoint is final once there are enough, which is durable.
//   - [Ledger.Healthy] fails as soon as facts wait longer than the limits:
//     the journal never becomes a place where facts wait for days.
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
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
	"k8s.io/klog/v2"

	"pasban"
	"pasban/internal/durable"
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
	Interval   time.Duration // between checkpoints; default 1 s, at least 100 ms (the driver's minimum)
	MaxLag     uint64        // leaves not yet under a checkpoint before Healthy fails; default 100,000
	MaxDelay   time.Duration // age of the oldest of them before Healthy fails; default 10 s
	AuditEvery time.Duration // pause between audits; default 1 min, and never less than fifty times what the last audit took
	// Rebuild lets Open restore a directory that is older than what was
	// signed, or gone, from the journal's leaves. It is an operator's
	// decision, for one start.
	Rebuild bool
	// Witnesses cosign the checkpoints.
	Witnesses Witnesses
}

func (o *Options) defaults() {
	if o.Interval == 0 {
		o.Interval = time.Second
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

// Ledger is one open log. It is safe for concurrent use; one process can have
// it open.
type Ledger struct {
	dir      string
	root     *os.Root
	lock     *os.File
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
	heal      chan struct{}              // asks Run to restore the directory
	cosigner  *cosigner                  // nil without witnesses
	provers   chan *prover               // those that make no receipt at this moment

	seqMu sync.Mutex // one at a time: adding leaves, restoring files
	next  int64      // index of the next leaf to add; covered by seqMu
	dirty bool       // the directory may hold leaves at wrong places behind next; covered by seqMu

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

// Open opens the log in dir, which belongs to the journal j on the store st,
// and makes it on first use. signer and vkey are the ledger's key. It refuses
// (kind Unavailable or Conflict, with a hint) a directory that another process
// has open, that is another ledger's, or that is older than what was signed.
// Nothing is added until Run is called.
func Open(ctx context.Context, dir string, st *store.Store, j *journal.Journal, signer note.Signer, vkey string, o Options) (_ *Ledger, err error) {
	o.defaults()
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, fmt.Errorf("the ledger's verifier key: %w", err)
	}
	if err := st.Migrate(ctx, "ledger", migrations); err != nil {
		return nil, err
	}
	l := &Ledger{dir: dir, st: st, j: j, o: o, verifier: verifier, heal: make(chan struct{}, 1), wake: make(chan struct{})}
	l.guard = &guard{key: signer, st: st, onDisk: l.onDisk, storeTime: max(o.MaxDelay, time.Second), wrong: l.askHeal, news: make(chan struct{}, 1)}
	defer func() {
		if err != nil {
			l.release()
		}
	}()
	if err := l.claim(vkey); err != nil {
		return nil, err
	}
	l.provers = newProvers(tiles.Dir{Root: l.root}, verifier)
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

// claim makes the directory if need be, takes it for this process, and checks
// whose ledger it is.
func (l *Ledger) claim(vkey string) error {
	if err := durable.MkdirAll(filepath.Join(l.dir, ".state"), 0o700); err != nil {
		return unavailable("the directory cannot be made", err)
	}
	info, err := os.Stat(l.dir)
	if err != nil {
		return unavailable("the directory cannot be read", err)
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return &pasban.Error{Kind: pasban.Unavailable, Where: l.dir, Msg: fmt.Sprintf("the directory has mode %04o: others can write to it", mode), Hint: fmt.Sprintf("chmod %04o %s", mode&^0o022, l.dir)}
	}
	if l.root, err = os.OpenRoot(l.dir); err != nil {
		return unavailable("the directory cannot be opened", err)
	}
	if l.lock, err = l.root.OpenFile(".state/pasban.lock", os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return unavailable("the directory cannot be written", err)
	}
	if err := syscall.Flock(int(l.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return &pasban.Error{Kind: pasban.Conflict, Where: l.dir, Msg: "another process has this ledger open", Err: err, Hint: "one node at a time: stop the other one"}
	}
	had, err := l.root.ReadFile("vkey")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return durable.WriteFile(filepath.Join(l.dir, "vkey"), []byte(vkey+"\n"), 0o644)
	case err != nil:
		return unavailable("the directory's verifier key cannot be read", err)
	case string(had) != vkey+"\n":
		return &pasban.Error{Kind: pasban.Conflict, Where: filepath.Join(l.dir, "vkey"), Msg: "the directory is the ledger of another key", Hint: "keys and ledger belong together: restore both from the same backup"}
	}
	return nil
}

// recall compares the directory's checkpoint with what was signed last. It
// runs before the driver does, which would make a new log of an empty directory.
func (l *Ledger) recall(ctx context.Context) error {
	record, known, err := loadSeen(ctx, l.st)
	if err != nil {
		return err
	}
	l.guard.signed, l.guard.known = record, known
	cp, err := l.readCheckpoint()
	missing := errors.Is(err, fs.ErrNotExist)
	older := known && record.n > 0 && (missing || err == nil && cp.N < record.published)
	if older && l.o.Rebuild {
		return l.rebuild(ctx, record)
	}
	refuse := func(msg, hint string) error {
		return &pasban.Error{Kind: pasban.Unavailable, Where: l.dir, Msg: "refused to sign for this ledger: " + msg, Err: err, Hint: hint}
	}
	const restore = "restore a newer copy of the directory, or start once with --rebuild-ledger to make it again from the journal"
	switch {
	case older && missing:
		return refuse(fmt.Sprintf("the directory has no checkpoint, but one of %d leaves was signed", record.n), restore)
	case older:
		return refuse(fmt.Sprintf("the directory's checkpoint is of %d leaves, but it has held one of %d: it was rolled back", cp.N, record.published), restore)
	case missing:
		return nil // a new log
	case err != nil:
		return refuse("the directory's checkpoint cannot be used", "restore the file checkpoint from a copy of the ledger")
	case cp.N > record.n || !known && cp.N > 0:
		return refuse(fmt.Sprintf("the directory's checkpoint is of %d leaves, but the store knows of %d: the store was rolled back or exchanged", cp.N, record.n), "restore the store that belongs to this ledger")
	case cp.N == record.n && cp.Tree != record.tree():
		return refuse(fmt.Sprintf("the directory's checkpoint of %d leaves is not the one that was signed: it was forked", cp.N), "keep both as evidence and restore the directory from a backup")
	}
	l.published.Store(&cp)
	return nil
}

// start starts the driver. What it signs from now on goes through the guard.
func (l *Ledger) start(ctx context.Context) error {
	driver, err := posix.New(ctx, posix.Config{Path: l.dir})
	if err != nil {
		return unavailable("the log's driver does not start", err)
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stopLog = stop
	opts := tessera.NewAppendOptions().
		WithCheckpointSigner(l.guard).
		WithCheckpointInterval(l.o.Interval).
		WithCheckpointRepublishInterval(0).
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
	n, err := l.integrated(ctx)
	if err != nil {
		return err
	}
	record, _ := l.guard.state()
	_, leaves, err := l.j.Head(ctx)
	if err != nil {
		return err
	}
	refuse := func(msg, hint string) error {
		return &pasban.Error{Kind: pasban.Unavailable, Where: l.dir, Msg: "refused to sign for this ledger: " + msg, Hint: hint}
	}
	if n < record.n {
		return refuse(fmt.Sprintf("the directory holds %d leaves, but a checkpoint of %d was signed: it was rolled back", n, record.n), "restore a newer copy of the directory")
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
	if tree, ok := l.guard.at(n); ok && tree.N > 0 {
		if _, err := tiles.HashReader(ctx, tiles.Dir{Root: l.root}, tree).ReadHashes(lastLeaf(n)); err != nil {
			slog.ErrorContext(ctx, "ledger: the directory's right edge is damaged", "dir", l.dir, "err", err)
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
// published, and gives the directory up. What was not published then is
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
		slog.Warn("ledger: closed before the last leaves were published", "dir", l.dir, "err", err)
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
	// rest when the directory's checkpoint is the one that was signed last.
	l.guard.close()
	record, _ := l.guard.state()
	for l.onDisk() != record.n {
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
	if l.lock != nil {
		l.lock.Close()
	}
	if l.root != nil {
		l.root.Close()
	}
}

// readCheckpoint reads and verifies the directory's checkpoint.
func (l *Ledger) readCheckpoint() (checkpoint, error) { return readCheckpoint(l.root, l.verifier) }

func readCheckpoint(root *os.Root, v note.Verifier) (checkpoint, error) {
	raw, err := tiles.Dir{Root: root}.ReadFile(context.Background(), tiles.Checkpoint)
	if err != nil {
		return checkpoint{}, err
	}
	cp, err := pasban.OpenCheckpoint(raw, v)
	return checkpoint{cp, raw, time.Now()}, err
}

// onDisk returns the size of the directory's checkpoint, 0 if it cannot be used.
func (l *Ledger) onDisk() int64 {
	cp, err := l.readCheckpoint()
	if err != nil {
		return 0
	}
	return cp.N
}

// integrated returns how many leaves the directory's tree has.
func (l *Ledger) integrated(ctx context.Context) (int64, error) {
	n, err := l.reader.IntegratedSize(ctx)
	if err != nil {
		return 0, unavailable("the log's state cannot be read", err)
	}
	return int64(n), nil
}
