package node

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/ledger/tiles"
	"pasban/internal/sentinel"
	"pasban/internal/sentinel/rowtree"
)

// openSentinel wires the guard of tables.
func openSentinel(ctx context.Context, c *core, cfg *config.Config, log *slog.Logger) (*sentinel.Sentinel, error) {
	return sentinel.Open(ctx, sentinel.Options{
		Agency: cfg.Agency.ID, Dir: filepath.Join(cfg.Data, "sentinel"), Store: c.store, Journal: c.journal, Sealer: c.vault,
		Tables: cfg.Guard, Log: log,
	})
}

// guardTables runs the guard, also when another process has it for a while: the
// command line, or another node of the same data directory.
func (n *Node) guardTables(ctx context.Context) {
	if n.sentinel == nil {
		return
	}
	for ctx.Err() == nil {
		err := n.sentinel.Run(ctx)
		if ctx.Err() != nil {
			return
		}
		if !errors.Is(err, sentinel.ErrElsewhere) {
			n.log.Error("the guard of tables stopped", "err", err)
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// guardedParts is each guarded table's word on whether it is guarded. A table
// that is not does not close guarded routes: they do not rest on it.
func (n *Node) guardedParts(ctx context.Context) []Part {
	if n.sentinel == nil {
		return nil
	}
	list, err := n.sentinel.Status(ctx)
	if err != nil {
		return []Part{{Part: "guarded tables", Reason: err.Error()}}
	}
	var out []Part
	for _, s := range list {
		out = append(out, Part{Part: "guarded table " + s.Table, OK: s.OK(), Reason: strings.Join(s.Problems(), "; ")})
	}
	return out
}

// guardedTables are the tables as metrics tell of them: none if that cannot be
// read, which the parts say.
func (n *Node) guardedTables(ctx context.Context) []sentinel.Status {
	if n.sentinel == nil {
		return nil
	}
	list, err := n.sentinel.Status(ctx)
	if err != nil {
		return nil
	}
	return list
}

// Sentinel is a node's guard of tables, opened for the command line. Whichever
// process has the guard does the work: the running node, or this one.
type Sentinel struct {
	*sentinel.Sentinel
	core *core
	stop context.CancelFunc
	ran  chan struct{}
}

// OpenSentinel opens the guard of the node that cfg describes. With work set it
// also guards, for as long as no other process does.
func OpenSentinel(ctx context.Context, cfg *config.Config, log *slog.Logger, work bool) (*Sentinel, error) {
	c, err := openCore(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	s := &Sentinel{core: c, ran: make(chan struct{})}
	if s.Sentinel, err = openSentinel(ctx, c, cfg, log); err != nil {
		return nil, errors.Join(err, c.close())
	}
	ctx, s.stop = context.WithCancel(ctx)
	go func() {
		defer close(s.ran)
		for work && ctx.Err() == nil {
			if err := s.Run(ctx); ctx.Err() == nil && !errors.Is(err, sentinel.ErrElsewhere) {
				log.Error("the guard of tables stopped", "err", err)
			}
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
		}
	}()
	return s, nil
}

// Close gives the guard and the data directory up.
func (s *Sentinel) Close() error {
	s.stop()
	<-s.ran
	return s.core.close()
}

// Proof makes a proof that needs nothing of the running node: what the guard
// found, with the receipt of its fact from the ledger's directory.
func (s *Sentinel) Proof(ctx context.Context, cfg *config.Config, p sentinel.Proven) (rowtree.TableProof, error) {
	out := rowtree.TableProof{Schema: rowtree.ProofSchema, Row: p.Row, Change: p.Change}
	e, err := s.core.journal.ByID(ctx, p.Fact)
	if err != nil {
		return out, err
	}
	v, err := note.NewVerifier(s.core.vkey)
	if err != nil {
		return out, err
	}
	root, err := os.OpenRoot(filepath.Join(cfg.Data, "ledger"))
	if err != nil {
		return out, err
	}
	defer root.Close()
	raw, err := tiles.Dir{Root: root}.ReadFile(ctx, tiles.Checkpoint)
	if err != nil {
		return out, err
	}
	cp, err := pasban.OpenCheckpoint(raw, v)
	if err != nil {
		return out, err
	}
	if e.Index >= cp.N {
		return out, &pasban.Error{Kind: pasban.Unavailable, Msg: "the fact is not under a checkpoint yet", Hint: "the running node publishes it within two seconds"}
	}
	proof, err := tlog.ProveRecord(cp.N, e.Index, tiles.HashReader(ctx, tiles.Dir{Root: root}, cp.Tree))
	if err != nil {
		return out, err
	}
	out.Receipt = pasban.Receipt{Schema: pasban.ReceiptSchema, Origin: cp.Origin, Index: uint64(e.Index), Kind: e.Opening.Kind,
		Salt: e.Opening.Salt, Body: e.Opening.Body, Proof: proof, Checkpoint: string(raw), Restricted: &e.RestrictedOpening}
	_, err = out.Receipt.Verify(v)
	return out, err
}
