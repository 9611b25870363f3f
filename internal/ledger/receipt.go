package ledger

import (
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/journal"
	"pasban/internal/ledger/tiles"
)

// Receipt exchanges an entry's promise for its receipt, which has been
// verified as its holder will verify it. It fails with kind Unavailable while
// the leaf is not under a checkpoint (a second or two; [Ledger.Await] waits),
// with NotFound for an entry without a leaf or whose body has been erased.
//
// The restricted part is not in it. For an auditor the caller sets
// Receipt.Restricted to the entry's RestrictedOpening.
func (l *Ledger) Receipt(ctx context.Context, e journal.Entry) (pasban.Receipt, error) {
	cp := l.shown()
	if cp == nil {
		cp = &checkpoint{}
	}
	return prove(ctx, l.storage, *cp, l.verifier, e)
}

// ReadReceipt is Receipt from the files of a ledger that another process may
// have open.
func ReadReceipt(ctx context.Context, src tiles.Source, v note.Verifier, e journal.Entry) (pasban.Receipt, error) {
	cp, err := readCheckpoint(ctx, src, v)
	if err != nil {
		return pasban.Receipt{}, unavailable("the checkpoint cannot be read", err)
	}
	return prove(ctx, src, cp, v, e)
}

// prove makes the receipt of an entry under a checkpoint.
func prove(ctx context.Context, src tiles.Source, cp checkpoint, v note.Verifier, e journal.Entry) (pasban.Receipt, error) {
	if e.Index < 0 {
		return pasban.Receipt{}, &pasban.Error{Kind: pasban.NotFound, Where: "ledger", Msg: fmt.Sprintf("facts of kind %q are not in the ledger", e.Fact.Body.Kind)}
	}
	if e.Shredded || len(e.Opening.Body) == 0 {
		return pasban.Receipt{}, &pasban.Error{Kind: pasban.NotFound, Where: "ledger", Msg: fmt.Sprintf("the body of leaf %d has been erased", e.Index)}
	}
	if e.Index >= cp.N {
		return pasban.Receipt{}, &pasban.Error{Kind: pasban.Unavailable, Where: "ledger", Msg: fmt.Sprintf("leaf %d is not under a checkpoint yet", e.Index), Hint: "try again in two seconds"}
	}
	proof, err := tlog.ProveRecord(cp.N, e.Index, tiles.HashReader(ctx, src, cp.Tree))
	if err != nil {
		return pasban.Receipt{}, unavailable(fmt.Sprintf("leaf %d cannot be proven from the ledger's files", e.Index), err)
	}
	r := pasban.Receipt{
		Schema: pasban.ReceiptSchema, Origin: cp.Origin, Index: uint64(e.Index), Kind: e.Opening.Kind,
		Salt: e.Opening.Salt, Body: e.Opening.Body, Proof: proof, Checkpoint: string(cp.raw),
	}
	if _, err := r.Verify(v); err != nil {
		return pasban.Receipt{}, unavailable("the receipt does not verify", err)
	}
	return r, nil
}
