package ledger

import (
	"bytes"
	"context"
	"fmt"
	"runtime"

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
//
// Receipts are made by at most half of the processors, and the others wait their
// turn: all who wait for a checkpoint come in the moment that it is published, and
// a promise, for which a page waits, must not stand behind them.
func (l *Ledger) Receipt(ctx context.Context, e journal.Entry) (pasban.Receipt, error) {
	cp := l.shown()
	if cp == nil {
		cp = &checkpoint{}
	}
	select {
	case p := <-l.provers:
		defer func() { l.provers <- p }()
		return p.prove(ctx, *cp, e)
	case <-ctx.Done():
		return pasban.Receipt{}, unavailable("the receipt's turn did not come", ctx.Err())
	}
}

// ReadReceipt is Receipt from the files of a ledger that another process may
// have open.
func ReadReceipt(ctx context.Context, src tiles.Source, v note.Verifier, e journal.Entry) (pasban.Receipt, error) {
	cp, err := readCheckpoint(ctx, src, v)
	if err != nil {
		return pasban.Receipt{}, unavailable("the checkpoint cannot be read", err)
	}
	return (&prover{src: src, key: v}).prove(ctx, cp, e)
}

// newProvers makes as many provers as may work at once.
func newProvers(src tiles.Source, key note.Verifier) chan *prover {
	all := make(chan *prover, max(1, runtime.GOMAXPROCS(0)/2))
	for range cap(all) {
		all <- &prover{src: src, key: key}
	}
	return all
}

// maxKept is the most tiles that a prover keeps, of 8 KiB each.
const maxKept = 256

// prover makes receipts, one after the other. Those that are asked for together
// are under one checkpoint and mostly beside each other, so it keeps what it has
// read and which signature it has verified.
type prover struct {
	src      tiles.Source
	key      note.Verifier
	kept     map[string][]byte // tiles, which never change under their name; believed, see prove
	msg, sig []byte            // of the checkpoint that key verified last
}

// ReadFile is the source's, or what is kept of it.
func (p *prover) ReadFile(ctx context.Context, name string) ([]byte, error) {
	if data, ok := p.kept[name]; ok {
		return data, nil
	}
	data, err := p.src.ReadFile(ctx, name)
	if err == nil && len(data) <= tiles.Width*tlog.HashSize {
		if p.kept == nil || len(p.kept) == maxKept {
			p.kept = map[string][]byte{}
		}
		p.kept[name] = data
	}
	return data, err
}

// Name is the ledger's origin line.
func (p *prover) Name() string { return p.key.Name() }

// KeyHash is the id of the ledger's key.
func (p *prover) KeyHash() uint32 { return p.key.KeyHash() }

// Verify reports whether the ledger's key signed msg.
func (p *prover) Verify(msg, sig []byte) bool {
	if len(p.sig) > 0 && bytes.Equal(msg, p.msg) && bytes.Equal(sig, p.sig) {
		return true
	}
	if !p.key.Verify(msg, sig) {
		return false
	}
	p.msg, p.sig = bytes.Clone(msg), bytes.Clone(sig)
	return true
}

// hashes reads the hashes of a tree as the tiles say them, proven by nothing.
func (p *prover) hashes(ctx context.Context, tree tlog.Tree) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			t := tlog.TileForIndex(tiles.Height, index)
			t.W = int(min(tiles.Width, tree.N>>(t.L*tiles.Height)-t.N*tiles.Width))
			data, err := tiles.ReadTile(ctx, p, t)
			if err == nil {
				out[i], err = tlog.HashFromTile(t, data, index)
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", tiles.Path(t), err)
			}
		}
		return out, nil
	})
}

// prove makes the receipt of an entry under a checkpoint. The tiles are believed
// at first, for the receipt is verified; if it does not hold, they are read again,
// and proven by the root, which says what is wrong with them.
func (p *prover) prove(ctx context.Context, cp checkpoint, e journal.Entry) (pasban.Receipt, error) {
	r, err := p.receipt(cp, e, p.hashes(ctx, cp.Tree))
	if err == nil || pasban.KindOf(err) == pasban.NotFound || e.Index >= cp.N {
		return r, err
	}
	p.kept = nil
	return p.receipt(cp, e, tiles.HashReader(ctx, p.src, cp.Tree))
}

// receipt makes and verifies a receipt by the hashes given.
func (p *prover) receipt(cp checkpoint, e journal.Entry, from tlog.HashReader) (pasban.Receipt, error) {
	if e.Index < 0 {
		return pasban.Receipt{}, &pasban.Error{Kind: pasban.NotFound, Where: "ledger", Msg: fmt.Sprintf("facts of kind %q are not in the ledger", e.Fact.Body.Kind)}
	}
	if e.Shredded || len(e.Opening.Body) == 0 {
		return pasban.Receipt{}, &pasban.Error{Kind: pasban.NotFound, Where: "ledger", Msg: fmt.Sprintf("the body of leaf %d has been erased", e.Index)}
	}
	if e.Index >= cp.N {
		return pasban.Receipt{}, &pasban.Error{Kind: pasban.Unavailable, Where: "ledger", Msg: fmt.Sprintf("leaf %d is not under a checkpoint yet", e.Index), Hint: "try again in two seconds"}
	}
	proof, err := tlog.ProveRecord(cp.N, e.Index, from)
	if err != nil {
		return pasban.Receipt{}, unavailable(fmt.Sprintf("leaf %d cannot be proven from the ledger's files", e.Index), err)
	}
	r := pasban.Receipt{
		Schema: pasban.ReceiptSchema, Origin: cp.Origin, Index: uint64(e.Index), Kind: e.Opening.Kind,
		Salt: e.Opening.Salt, Body: e.Opening.Body, Proof: proof, Checkpoint: string(cp.raw),
	}
	if _, err := r.Verify(p); err != nil {
		return pasban.Receipt{}, unavailable("the receipt does not verify", err)
	}
	return r, nil
}
