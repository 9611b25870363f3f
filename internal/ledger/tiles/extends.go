package tiles

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/mod/sumdb/tlog"
)

// Extends checks that the tree now contains all of old, each leaf unchanged and
// in its place (RFC 6962, section 2.1.2). Its error is a Problem if it does not,
// or if the ledger's files do not prove it; any other error means that it could
// not be told.
func Extends(ctx context.Context, src Source, old, now tlog.Tree) error {
	switch {
	case old.N > now.N:
		return Problem(fmt.Sprintf("the ledger has lost leaves: %d were signed for, %d are left", old.N, now.N))
	case old.N == now.N && old.Hash != now.Hash:
		return Problem(fmt.Sprintf("two roots were signed for %s: the ledger was forked", Leaves(old.N)))
	case old.N == now.N || old.N == 0:
		return nil
	}
	watched := &watched{Source: src}
	proof, err := tlog.ProveTree(now.N, old.N, HashReader(ctx, watched, now))
	switch {
	case watched.err != nil:
		return watched.err
	case err != nil:
		return Problem(fmt.Sprintf("the ledger's files do not prove that it contains the earlier checkpoint: %v (audit names the file)", err))
	}
	if err := tlog.CheckTree(proof, now.N, now.Hash, old.N, old.Hash); err != nil {
		return Problem(fmt.Sprintf("the ledger does not contain the earlier checkpoint of %s: its past was changed", Leaves(old.N)))
	}
	return nil
}

// Leaves says a number of leaves.
func Leaves(n int64) string {
	if n == 1 {
		return "1 leaf"
	}
	return fmt.Sprintf("%d leaves", n)
}

// watched keeps the first error that is not about the contents of a file.
type watched struct {
	Source
	err error
}

// ReadFile implements Source.
func (w *watched) ReadFile(ctx context.Context, name string) ([]byte, error) {
	data, err := w.Source.ReadFile(ctx, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && w.err == nil {
		w.err = err
	}
	return data, err
}
