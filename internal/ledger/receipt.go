package ledger

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/singleflight"

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
	return l.prover.prove(ctx, *cp, e)
}

// ReadReceipt is Receipt from the files of a ledger that another process may
// have open.
func ReadReceipt(ctx context.Context, src tiles.Source, v note.Verifier, e journal.Entry) (pasban.Receipt, error) {
	cp, err := readCheckpoint(ctx, src, v)
	if err != nil {
		return pasban.Receipt{}, unavailable("the checkpoint cannot be read", err)
	}
	return newProver(src, v).prove(ctx, cp, e)
}

// maxKept is the most tiles that a prover keeps, of 8 KiB each.
const maxKept = 256

// prover makes receipts. Those that are asked for together are under one
// checkpoint and mostly beside each other, so it keeps what it has read and which
// signature it has verified.
type prover struct {
	src   tiles.Source
	key   note.Verifier
	turns chan struct{}      // one for each receipt that is being made, but while it waits for src
	reads singleflight.Group // by the name of a tile

	mu       sync.Mutex        // covers what follows
	kept     map[string][]byte // tiles, which never change under their name; believed, see prove
	msg, sig []byte            // of the checkpoint that key verified last
}

func newProver(src tiles.Source, key note.Verifier) *prover {
	return &prover{src: src, key: key, turns: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), kept: map[string][]byte{}}
}

// ReadFile is the source's, or what is kept of it. Whoever waits for the source
// lets others have the turn, and those who want the same wait for the same.
func (p *prover) ReadFile(ctx context.Context, name string) ([]byte, error) {
	if data, ok := p.known(name); ok {
		return data, nil
	}
	<-p.turns
	defer func() { p.turns <- struct{}{} }()
	read := p.reads.DoChan(name, func() (any, error) {
		if data, ok := p.known(name); ok { // read since
			return data, nil
		}
		data, err := p.src.ReadFile(context.WithoutCancel(ctx), name) // others wait for it when the first has gone
		if err == nil && len(data) <= tiles.Width*tlog.HashSize {
			p.keep(name, data)
		}
		return data, err
	})
	select {
	case r := <-read:
		data, _ := r.Val.([]byte)
		return data, r.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *prover) known(name string) ([]byte, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	data, ok := p.kept[name]
	return data, ok
}

func (p *prover) keep(name string, data []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.kept) == maxKept {
		clear(p.kept)
	}
	p.kept[name] = data
}

func (p *prover) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.kept)
}

// afresh is the source as it is now, read in nobody's turn.
type afresh struct{ *prover }

// ReadFile is the source's.
func (a afresh) ReadFile(ctx context.Context, name string) ([]byte, error) {
	<-a.turns
	defer func() { a.turns <- struct{}{} }()
	return a.src.ReadFile(ctx, name)
}

// Name is the ledger's origin line.
func (p *prover) Name() string { return p.key.Name() }

// KeyHash is the id of the ledger's key.
func (p *prover) KeyHash() uint32 { return p.key.KeyHash() }

// Verify reports whether the ledger's key signed msg.
func (p *prover) Verify(msg, sig []byte) bool {
	p.mu.Lock()
	known := len(p.sig) > 0 && bytes.Equal(msg, p.msg) && bytes.Equal(sig, p.sig)
	p.mu.Unlock()
	if known {
		return true
	}
	if !p.key.Verify(msg, sig) {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.msg, p.sig = bytes.Clone(msg), bytes.Clone(sig)
	return true
}

// hashes reads the hashes of a tree as the tiles say them, proven by nothing.
func (p *prover) hashes(ctx context.Context, tree tlog.Tree) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			t := tiles.Grown(tlog.TileForIndex(tiles.Height, index), tree.N)
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
	select {
	case p.turns <- struct{}{}:
		defer func() { <-p.turns }()
	case <-ctx.Done():
		return pasban.Receipt{}, unavailable("the receipt's turn did not come", ctx.Err())
	}
	r, err := p.receipt(cp, e, p.hashes(ctx, cp.Tree))
	if err == nil || pasban.KindOf(err) == pasban.NotFound || e.Index >= cp.N || ctx.Err() != nil {
		return r, err
	}
	p.forget()
	return p.receipt(cp, e, tiles.HashReader(ctx, afresh{p}, cp.Tree))
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
