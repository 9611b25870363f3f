package ledger_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/transparency-dev/tessera"

	"pasban/internal/ledger"
)

// faulty starts a node whose driver's Add is wrapped.
func faulty(t *testing.T, dir string, wrap func(tessera.AddFn) tessera.AddFn) (*node, <-chan error) {
	t.Helper()
	n, err := parts(t.Context(), dir, filepath.Join(dir, "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.close() })
	n.Ledger, err = ledger.Open(t.Context(), n.ledgerDir(), n.st, n.j, n.signer, n.vkey, options)
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

// A leaf at another index than promised stops the ledger for good; what is
// published stays what it was, and the next start puts the directory right.
func TestWrongIndexStopsForGood(t *testing.T) {
	dir := t.TempDir()
	var once atomic.Bool
	n, ran := faulty(t, dir, func(add tessera.AddFn) tessera.AddFn {
		return func(ctx context.Context, e *tessera.Entry) tessera.IndexFuture {
			if once.CompareAndSwap(false, true) { // somebody else's leaf in between
				add(ctx, tessera.NewEntry([]byte("intruder")))
			}
			return add(ctx, e)
		}
	})
	n.record(t, 5)
	err := <-ran
	if err == nil || !strings.Contains(err.Error(), "was added as leaf") {
		t.Errorf("Run = %v", err)
	}
	if err := n.Healthy(); err == nil || !strings.Contains(err.Error(), "was added as leaf") {
		t.Errorf("Healthy = %v", err)
	}
	if size := n.Status().Size; size != 0 {
		t.Errorf("%d leaves were published", size)
	}
	n.record(t, 5)
	if err := n.close(); err != nil {
		t.Fatal(err)
	}
	n = start(t, dir)
	n.check(t)
}
