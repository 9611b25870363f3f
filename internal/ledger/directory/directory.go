// Package directory commits, once per epoch, where every citizen's list of
// entries ends, so that a list can be shown to be whole.
//
// # The way of an epoch
//
// The journal chains each citizen's facts. [Directory.Run] takes, every so
// often, the heads of the lists that changed, puts them into a map from blinded
// labels to heads (package pasban defines its hashes), and commits the map's
// root as an accountable fact of kind heads: the root is a leaf of the ledger
// like any other, and each names the one before. [Directory.Statement] proves
// from it that a citizen's list is whole; it is checked by package pasban alone.
//
// # Guarantees
//
//   - An epoch's root is computed from the journal as of the size that it names,
//     and depends on nothing else but the key of the labels.
//   - A citizen has one label, provably: nobody can be kept two lists in one map.
//   - What an epoch costs grows with the lists that changed, not with all.
//   - No statement is given out that does not verify.
//
// # What it must never do
//
// It never holds up a request or a fact: statements are older when it cannot
// follow. It never writes a citizen's number anywhere. DESIGN.md says what the
// map leaks and what it cannot show.
package directory

import (
	"context"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"

	"pasban"
	"pasban/internal/journal"
	"pasban/internal/store"
	"pasban/internal/vrf"
)

//go:embed migrations
var migrations embed.FS

// Options are the parts that a directory works with. All but Every are required.
type Options struct {
	Agency   string // the agency's id
	Journal  *journal.Journal
	Prover   Prover
	Verifier note.Verifier // the ledger's key
	Key      *vrf.Key      // of the labels
	Every    time.Duration // between epochs; default 1 min
}

// Prover proves that a fact is in the ledger.
type Prover interface {
	// Receipt is of kind Unavailable while e is not yet under a checkpoint.
	Receipt(ctx context.Context, e journal.Entry) (pasban.Receipt, error)
}

// Directory is the map of heads. It is safe for concurrent use.
type Directory struct {
	st *store.Store
	o  Options

	now, before atomic.Pointer[epoch] // the last two that were committed; nil if there are none

	mu   sync.Mutex // one step at a time; covers what follows
	work *node      // the map as it is in the table
	read uint64     // leaves of the journal that are in work
	// grown are the blinds of the lists that grew since the last epoch, by label.
	grown map[pasban.Label][32]byte
	anew  bool // the table is not believed: labels are computed
}

// epoch is a committed map.
type epoch struct {
	heads pasban.Heads
	entry journal.Entry // its fact
	root  *node
}

// Open makes the directory's tables if need be and reads the map. The map is
// made again from the journal if it is not the one that was committed last.
func Open(ctx context.Context, st *store.Store, o Options) (*Directory, error) {
	if o.Journal == nil || o.Prover == nil || o.Verifier == nil || o.Key == nil {
		return nil, errors.New("directory: journal, prover, verifier and key are required")
	}
	if o.Every == 0 {
		o.Every = time.Minute
	}
	if err := st.Migrate(ctx, "directory", migrations); err != nil {
		return nil, err
	}
	d := &Directory{st: st, o: o, grown: map[pasban.Label][32]byte{}}
	return d, d.load(ctx)
}

// Run commits epochs until ctx is done and returns its error. What fails is
// logged and tried again at the next epoch.
func (d *Directory) Run(ctx context.Context) error {
	tick := time.NewTicker(d.o.Every)
	defer tick.Stop()
	for {
		if err := d.Step(ctx); err != nil && ctx.Err() == nil {
			slog.ErrorContext(ctx, "directory: no epoch could be committed", "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// Step commits an epoch if any list has changed since the last one.
func (d *Directory) Step(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, size, err := d.o.Journal.Head(ctx)
	if err != nil {
		return err
	}
	changed, err := d.follow(ctx, size)
	if err != nil {
		return err
	}
	last := d.now.Load()
	if !changed && last != nil && last.root == d.work || d.work == nil {
		return nil
	}
	root := d.work.sum()
	h := pasban.Heads{
		Epoch: 1, Size: int64(d.read), Labels: d.work.count(),
		Root: base64.RawURLEncoding.EncodeToString(root[:]),
		Key:  base64.RawURLEncoding.EncodeToString(d.o.Key.Public()),
	}
	if last != nil {
		hash := last.entry.Leaf.Hash()
		h.Epoch, h.Previous = last.heads.Epoch+1, base64.RawURLEncoding.EncodeToString(hash[:])
	}
	return d.commit(ctx, h)
}

// errOther says that another node has committed an epoch meanwhile.
var errOther = errors.New("another node committed an epoch")

// commit makes the epoch durable: its number and its fact together.
func (d *Directory) commit(ctx context.Context, h pasban.Heads) error {
	now := time.Now()
	f := pasban.NewFact(pasban.KindHeads, d.o.Agency, pasban.Actor{Kind: pasban.ActorSystem}, now)
	labels := d.labels(h.Epoch, now)
	h.Watch = pasban.WatchDigest(labels)
	f.Body.Action, f.Body.Heads = "commit", h
	entries, err := d.o.Journal.Commit(ctx, func(tx *store.Tx) ([]pasban.Fact, error) {
		res, err := tx.Exec(`UPDATE directory_epoch SET epoch = ?, fact = ? WHERE id = 1 AND epoch = ?`, h.Epoch, f.Body.ID, h.Epoch-1)
		if err != nil {
			return nil, err
		}
		if n, err := res.RowsAffected(); err != nil || n != 1 {
			return nil, errors.Join(errOther, err)
		}
		if _, err := tx.Exec(`INSERT INTO directory_watch (epoch, fact, labels) VALUES (?, ?, ?)`, h.Epoch, f.Body.ID, labels); err != nil {
			return nil, err
		}
		return []pasban.Fact{f}, nil
	})
	if errors.Is(err, errOther) {
		return d.load(ctx)
	}
	if err != nil {
		return err
	}
	clear(d.grown)
	d.before.Store(d.now.Load())
	d.now.Store(&epoch{heads: h, entry: entries[0], root: d.work})
	return nil
}

// span is how many leaves are read from the journal at once.
const span = 50_000

// follow brings the map up to a size of the ledger. mu is held.
func (d *Directory) follow(ctx context.Context, size uint64) (changed bool, err error) {
	for d.read < size {
		to := min(size, d.read+span)
		heads, err := d.o.Journal.Heads(ctx, d.read, to)
		if err != nil {
			return changed, err
		}
		work, err := d.put(ctx, d.work, heads)
		if err != nil {
			return changed, err
		}
		changed = changed || work != d.work
		d.work, d.read = work, to
	}
	return changed, nil
}

// rowsPerWrite keeps the store's writer free for others.
const rowsPerWrite = 64

// put returns the map with these heads, which are in the table by then.
func (d *Directory) put(ctx context.Context, root *node, heads []journal.Head) (*node, error) {
	rows := make([]row, 0, len(heads))
	leaves := make([]*node, 0, len(heads))
	for _, h := range heads {
		r, ok, err := d.label(ctx, h)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		d.grown[r.label] = r.blind
		rows = append(rows, r)
		leaves = append(leaves, r.node())
	}
	for rest := rows; len(rest) > 0; {
		n := min(rowsPerWrite, len(rest))
		if err := d.keep(ctx, rest[:n]); err != nil {
			return nil, err
		}
		rest = rest[n:]
	}
	return root.update(leaves), nil
}

// label finds or computes the label of a list's citizen; ok is false for a list
// whose citizen nobody can tell any more: their key was destroyed before they
// had a label.
func (d *Directory) label(ctx context.Context, h journal.Head) (r row, ok bool, err error) {
	r = row{subject: h.Subject, number: h.Number, leaf: h.Leaf}
	if ok, err = d.known(ctx, &r); err != nil || ok && !d.anew {
		return r, ok, err
	}
	e, err := d.o.Journal.ByIndex(ctx, h.Index)
	if err != nil || e.Shredded || e.Fact.Subject.CNIC == "" {
		return r, ok, err // of an erased citizen the table alone knows the label
	}
	value, _, err := d.o.Key.Prove([]byte(e.Fact.Subject.CNIC))
	if err != nil {
		return r, false, fmt.Errorf("compute the label of a citizen: %w", err)
	}
	r.label, r.blind = pasban.SplitLabel(value)
	return r, true, nil
}
