package ledger

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"

	"pasban"
	"pasban/internal/durable"
	"pasban/internal/ledger/tiles"
)

// Repair rebuilds, from the journal's leaves, every tile and bundle that is not
// what they give, after checking that they give the root that was signed last;
// if they do not, nothing is touched. It returns the files that it replaced.
// What was there is kept in Options.Damaged.
func (l *Ledger) Repair(ctx context.Context) ([]tiles.Finding, error) {
	l.seqMu.Lock()
	defer l.seqMu.Unlock()
	findings, err := l.restore(ctx)
	if err != nil {
		return findings, err
	}
	if err := l.alarm(ctx, findings, true); err != nil {
		return findings, err
	}
	l.mu.Lock()
	l.health.findings = nil
	l.mu.Unlock()
	return findings, nil
}

// askHeal asks Run to restore the files; the guard calls it when the
// driver, misled by a changed tile, wants a wrong root signed.
func (l *Ledger) askHeal() {
	select {
	case l.heal <- struct{}{}:
	default:
	}
}

func (l *Ledger) healNow(ctx context.Context) {
	findings, err := l.Repair(ctx)
	slog.ErrorContext(ctx, "ledger: files were changed and have been restored from the journal", "storage", l.storage.Name(), "files", len(findings), "err", err)
}

// rebuild makes the files anew from the journal, up to the checkpoint that
// was signed last, and puts that checkpoint back. The driver has not started.
func (l *Ledger) rebuild(ctx context.Context, record seen) error {
	l.seqMu.Lock()
	defer l.seqMu.Unlock()
	l.next = record.n
	findings, err := l.restore(ctx)
	if err != nil {
		return err
	}
	cp, err := l.again(record)
	if err != nil {
		return err
	}
	if err := l.storage.WriteFile(ctx, tiles.Checkpoint, cp.raw); err != nil {
		return unavailable("put the checkpoint back", err)
	}
	l.published.Store(&cp)
	slog.WarnContext(ctx, "ledger: rebuilt from the journal", "storage", l.storage.Name(), "leaves", cp.N, "files", len(findings))
	made := len(findings) // a storage that is new lacks all of them: that is one alarm
	findings = slices.DeleteFunc(findings, func(f tiles.Finding) bool { return f.Problem == missing })
	problem := fmt.Sprintf("was missing or rolled back, and so were %d other files, in %s", made-len(findings), l.storage.Name())
	return l.alarm(ctx, append(findings, tiles.Finding{Path: tiles.Checkpoint, Problem: problem}), true)
}

// restorer compares the files with the journal's leaves and replaces what differs.
type restorer struct {
	l       *Ledger
	record  seen                     // what was signed last
	damaged string                   // where what was there is kept
	widths  map[[2]int64][]tlog.Tile // partial tiles and bundles that are there, by level and number

	mu       sync.Mutex // covers findings
	findings []tiles.Finding
}

// missing is the problem of a file that was not there.
const missing = "was missing"

// together is how many whole tiles and bundles are looked at at once: a storage
// that is reached over a network takes its time for each.
const together = 16

// restore makes the storage what the first l.next leaves of the journal give.
// seqMu is held, so the driver is given nothing meanwhile.
func (l *Ledger) restore(ctx context.Context) ([]tiles.Finding, error) {
	record, _ := l.guard.state()
	if err := l.agrees(ctx, record); err != nil {
		return nil, err
	}
	l.next = max(l.next, record.n) // what was signed is right, and stays
	if l.o.Damaged == "" {
		return nil, unavailable("there is no folder to keep damaged files in", nil)
	}
	r := &restorer{l: l, record: record, damaged: filepath.Join(l.o.Damaged, time.Now().UTC().Format("20060102T150405.000Z")), widths: map[[2]int64][]tlog.Tile{}}
	found, err := l.storage.Restore(ctx, r.files)
	slices.SortFunc(r.findings, func(a, b tiles.Finding) int { return strings.Compare(a.Path, b.Path) })
	return append(r.findings, found...), err
}

// files makes the files right and returns the tree that they are then.
func (r *restorer) files(ctx context.Context) (tlog.Tree, error) {
	if err := r.survey(ctx); err != nil {
		return tlog.Tree{}, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(together)
	tree, err := r.grow(ctx, func(t tlog.Tile, data []byte) error {
		if t.W < tiles.Width { // in order: one may be the beginning of the other
			return r.put(ctx, t, data)
		}
		group.Go(func() error { return r.put(ctx, t, data) })
		return ctx.Err()
	})
	return tree, cmp.Or(group.Wait(), err)
}

// survey removes what lies beyond the tree and takes down the partial tiles that
// are there.
func (r *restorer) survey(ctx context.Context) error {
	l := r.l
	var beyond []string // the driver got further, but not in order; nothing of it was signed
	err := l.storage.List(ctx, func(name string) error {
		t, err := tiles.ParsePath(name)
		switch {
		case err != nil: // not the ledger's
		case !tiles.InTree(t, l.next):
			beyond = append(beyond, name)
		case t.W < tiles.Width:
			r.widths[[2]int64{int64(t.L), t.N}] = append(r.widths[[2]int64{int64(t.L), t.N}], t)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return unavailable("go through the ledger's files", err)
	}
	for _, name := range beyond {
		if err := l.storage.Remove(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// grow hands put every tile and bundle of the tree of the journal's leaves, at its
// present size and at the one that was signed, and returns it.
func (r *restorer) grow(ctx context.Context, put func(tlog.Tile, []byte) error) (tlog.Tree, error) {
	l := r.l
	b := tiles.NewBuilder(put)
	var bundle []byte
	for at := int64(0); at < l.next; {
		rows, err := l.j.Leaves(ctx, uint64(at), int(min(batch, l.next-at)))
		if err != nil {
			return tlog.Tree{}, err
		}
		if len(rows) == 0 {
			return tlog.Tree{}, unavailable(fmt.Sprintf("the journal has no leaf %d", at), nil)
		}
		for _, row := range rows {
			bundle = tiles.AppendEntry(bundle, row.Leaf[:])
			if err := b.Add(row.Leaf.Hash()); err != nil {
				return tlog.Tree{}, err
			}
			at++
			whole, shown := at%tiles.Width == 0, at == l.next || at == r.record.n
			if whole || shown {
				if err := put(bundleAt(at), bundle); err != nil {
					return tlog.Tree{}, err
				}
			}
			if shown {
				if err := b.Partial(); err != nil {
					return tlog.Tree{}, err
				}
			}
			if whole {
				bundle = nil
			}
		}
	}
	return b.Tree(), nil
}

// bundleAt returns the bundle that ends with the n-th leaf.
func bundleAt(n int64) tlog.Tile {
	return tiles.Grown(tlog.Tile{H: tiles.Height, L: tiles.Entries, N: (n - 1) / tiles.Width}, n)
}

// agrees checks that the journal's leaves give the root that was signed.
func (l *Ledger) agrees(ctx context.Context, record seen) error {
	var f frontier
	for f.n < record.n {
		hashes, err := l.hashes(ctx, f.n, int(min(batch, record.n-f.n)))
		if err != nil {
			return err
		}
		for _, h := range hashes {
			f.add(h)
		}
	}
	if f.tree() != record.tree() {
		return &pasban.Error{Kind: pasban.Unavailable, Where: "ledger", Msg: "the journal's leaves do not give the root that was signed: nothing was repaired",
			Hint: "the store was changed behind Pasban's back: restore it from a backup"}
	}
	return nil
}

// put replaces a tile or bundle by data if it differs, and the older partial
// ones that are still there by their beginning of data.
func (r *restorer) put(ctx context.Context, t tlog.Tile, data []byte) error {
	if err := r.file(ctx, tiles.Path(t), data); err != nil {
		return err
	}
	size := tlog.HashSize
	if t.L == tiles.Entries {
		size = 2 + pasban.LeafSize
	}
	for _, older := range r.widths[[2]int64{int64(t.L), t.N}] {
		if older.W < t.W {
			if err := r.file(ctx, tiles.Path(older), data[:older.W*size]); err != nil {
				return err
			}
		}
	}
	return nil
}

// file replaces one file if it differs, and keeps what was there.
func (r *restorer) file(ctx context.Context, name string, want []byte) error {
	had, err := r.l.storage.ReadFile(ctx, name)
	switch {
	case err == nil && bytes.Equal(had, want):
		return nil
	case err == nil:
		kept := filepath.Join(r.damaged, name)
		if err := durable.MkdirAll(filepath.Dir(kept), 0o700); err != nil {
			return unavailable("keep a damaged file", err)
		}
		if err := durable.WriteFile(kept, had, 0o600); err != nil {
			return unavailable("keep a damaged file", err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return unavailable("read "+name, err)
	}
	if err := r.l.storage.WriteFile(ctx, name, want); err != nil {
		return unavailable("restore "+name, err)
	}
	problem := "was not what the journal's leaves give"
	if err != nil {
		problem = missing
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.findings = append(r.findings, tiles.Finding{Path: name, Problem: problem})
	return nil
}
