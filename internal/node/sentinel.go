package node

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"pasban/internal/config"
	"pasban/internal/ledger"
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

// guardTables runs the guard until ctx is done, also when another process has it
// for a while: the command line, or another node of the same data directory.
func guardTables(ctx context.Context, s *sentinel.Sentinel, log *slog.Logger) {
	for ctx.Err() == nil {
		if err := s.Run(ctx); ctx.Err() == nil && !errors.Is(err, sentinel.ErrElsewhere) {
			log.Error("the guard of tables stopped", "err", err)
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// guarded is each guarded table's state, for metrics, and its word on whether it
// is guarded. A table that is not does not close guarded routes: they do not
// rest on it.
func (n *Node) guarded(ctx context.Context) (list []sentinel.Status, parts []Part) {
	if n.sentinel == nil {
		return nil, nil
	}
	list, err := n.sentinel.Status(ctx)
	if err != nil {
		return nil, []Part{{Part: "guarded tables", Reason: err.Error()}}
	}
	for _, s := range list {
		parts = append(parts, Part{Part: "guarded table " + s.Table, OK: s.OK(), Reason: strings.Join(s.Problems(), "; ")})
	}
	return list, parts
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
		if work {
			guardTables(ctx, s.Sentinel, log)
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
// found, with the receipt of its fact from the ledger's files.
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
	storage, err := ledgerStorage(cfg)
	if err != nil {
		return out, err
	}
	defer storage.Close()
	out.Receipt, err = ledger.ReadReceipt(ctx, storage, v, e)
	out.Receipt.Restricted = &e.RestrictedOpening
	return out, err
}
