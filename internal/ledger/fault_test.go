package ledger_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/transparency-dev/tessera"

	"pasban/internal/ledger"
	"pasban/internal/ledger/storage/posix"
)

// faulty starts a node whose driver's Add is wrapped.
func faulty(t *testing.T, dir string, wrap func(tessera.AddFn) tessera.AddFn) (*node, <-chan error) {
	t.Helper()
	n, err := parts(t.Context(), dir, filepath.Join(dir, "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.close() })
	o := options
	o.Damaged = n.ledgerDir() + ".damaged"
	n.Ledger, err = ledger.Open(t.Context(), posix.New(n.ledgerDir()), n.Store, n.Journal, n.Signer, n.VKey, o)
	if err != nil {
		t.Fatal(err)
	}
	n.WrapAdd(wrap)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- n.Run(ctx) }()
	n.stop = func() error { cancel(); return nil }
	return n, ran
}

var errDisk = errors.New("the disk says no")

// A storage that takes some leaves of a batch and not others leaves no trace.
func TestStorageTakesSomeLeaves(t *testing.T) {
	for name, fails := range map[string]func(call int64) bool{
		"none":        func(call int64) bool { return call < 50 },
		"the first":   func(call int64) bool { return call < 30 },
		"the last":    func(call int64) bool { return call >= 30 && call < 50 },
		"the middle":  func(call int64) bool { return call >= 10 && call < 20 },
		"every other": func(call int64) bool { return call < 50 && call%2 == 0 },
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int64
			n, _ := faulty(t, t.TempDir(), func(add tessera.AddFn) tessera.AddFn {
				return func(ctx context.Context, e *tessera.Entry) tessera.IndexFuture {
					if fails(calls.Add(1) - 1) {
						return func() (tessera.Index, error) { return tessera.Index{}, errDisk }
					}
					return add(ctx, e)
				}
			})
			n.record(t, 50)
			n.check(t)
			until(t, func() bool { return n.Healthy() == nil })
			n.record(t, 10)
			n.check(t)
		})
	}
}

// A leaf at another index than promised is never signed: the directory is put
// right from the journal, and the ledger goes on.
func TestWrongIndexIsTakenBack(t *testing.T) {
	dir := t.TempDir()
	var once atomic.Bool
	n, _ := faulty(t, dir, func(add tessera.AddFn) tessera.AddFn {
		return func(ctx context.Context, e *tessera.Entry) tessera.IndexFuture {
			if once.CompareAndSwap(false, true) { // somebody else's leaf in between
				add(ctx, tessera.NewEntry([]byte("intruder")))
			}
			return add(ctx, e)
		}
	})
	n.record(t, 5)
	n.check(t)
	until(t, func() bool { return n.Healthy() == nil })
	n.record(t, 5)
	n.check(t)
	if err := n.close(); err != nil {
		t.Fatal(err)
	}
	n = start(t, dir)
	n.check(t)
}

// Batches that overtake each other are taken back likewise, as often as it happens.
func TestBatchesOutOfOrder(t *testing.T) {
	var calls atomic.Int64
	n, _ := faulty(t, t.TempDir(), func(add tessera.AddFn) tessera.AddFn {
		type held struct {
			ctx context.Context
			e   *tessera.Entry
			out chan tessera.IndexFuture
		}
		var late []held
		return func(ctx context.Context, e *tessera.Entry) tessera.IndexFuture {
			i := calls.Add(1) - 1
			switch {
			case i < 20: // these wait until the following ones have been added
				h := held{ctx, e, make(chan tessera.IndexFuture, 1)}
				late = append(late, h)
				return func() (tessera.Index, error) { return (<-h.out)() }
			case i == 49:
				f := add(ctx, e)
				for _, h := range late {
					h.out <- add(h.ctx, h.e)
				}
				return f
			}
			return add(ctx, e)
		}
	})
	n.record(t, 50)
	n.check(t)
	until(t, func() bool { return n.Healthy() == nil })
	n.record(t, 10)
	n.check(t)
}
