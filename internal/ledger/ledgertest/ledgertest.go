// Package ledgertest has what tests stand a ledger on: keys, a store and a
// journal in one directory. Nothing here is for production code.
package ledgertest

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"pasban/internal/journal"
	"pasban/internal/keys"
	"pasban/internal/store"
)

// Origin is the ledger's name in tests.
const Origin = "land.example/ledger"

// Parts are what a ledger needs but its storage.
type Parts struct {
	Ring     *keys.Ring
	Signer   note.Signer
	VKey     string
	Verifier note.Verifier
	Store    *store.Store
	Journal  *journal.Journal
}

// Open opens the parts: the keys in dir, the store that dsn names, the journal
// with this sealer. Opened again, they are the same.
func Open(ctx context.Context, dir, dsn string, sealer journal.Sealer) (*Parts, error) {
	p := &Parts{}
	err := p.open(ctx, dir, dsn, sealer)
	if err != nil {
		return nil, errors.Join(err, p.CloseParts())
	}
	return p, nil
}

func (p *Parts) open(ctx context.Context, dir, dsn string, sealer journal.Sealer) (err error) {
	if p.Ring, err = keys.Open(ctx, filepath.Join(dir, "keys"), keys.Options{}); err != nil {
		return err
	}
	if p.Signer, p.VKey, err = p.Ring.LedgerSigner(Origin); err != nil {
		return err
	}
	if p.Verifier, err = note.NewVerifier(p.VKey); err != nil {
		return err
	}
	if p.Store, err = store.Open(ctx, dsn); err != nil {
		return err
	}
	p.Journal, err = journal.Open(ctx, p.Store, journal.Options{Signer: p.Signer, Sealer: sealer})
	return err
}

// New is Open for as long as the test runs.
func New(t testing.TB, dir, dsn string, sealer journal.Sealer) *Parts {
	t.Helper()
	p, err := Open(context.WithoutCancel(t.Context()), dir, dsn, sealer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.CloseParts(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// CloseParts closes what was opened.
func (p *Parts) CloseParts() error {
	var errs []error
	if p.Store != nil {
		errs = append(errs, p.Store.Close())
	}
	if p.Ring != nil {
		errs = append(errs, p.Ring.Close())
	}
	return errors.Join(errs...)
}
