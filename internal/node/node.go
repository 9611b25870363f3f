// Package node turns a configuration into a running node: it is the only room
// that knows every room.
//
// # Main types
//
// [Load] reads and checks everything an operator wrote and returns a [Setup].
// [New] opens the data directory and wires the rooms with plain constructors,
// passing each the neighbours that it named as small interfaces. [Node.Run]
// listens. [Node.Reload] exchanges what may change while it runs. [People] is
// the part that the command line needs without a listener.
//
// # Order
//
// Rooms are opened from the lowest floor up and closed the other way round.
// Nothing listens before everything is open: a node that cannot keep its
// promises does not answer. When it stops, the listener drains first, then the
// readers of the journal stop, then the ledger publishes what it has, and the
// store closes last.
//
// # What this package must never do
//
// It decides nothing about a request and holds no data of its own.
package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"

	"pasban"
	"pasban/internal/access"
	"pasban/internal/config"
	"pasban/internal/detect"
	"pasban/internal/detect/ingest"
	"pasban/internal/gateway"
	"pasban/internal/identity"
	"pasban/internal/ledger"
	"pasban/internal/ledger/directory"
	"pasban/internal/ledger/disclosure"
	"pasban/internal/registry"
	"pasban/internal/sentinel"
	"pasban/internal/soc"
	"pasban/internal/store"
)

// Options are what does not come from the configuration. The zero value is
// what `pasban serve` uses, but for the log.
type Options struct {
	Log *slog.Logger // nil is slog.Default()
	// RebuildLedger lets a ledger whose storage is older than what was signed,
	// or gone, be made again from the journal: an operator's decision, for one
	// start.
	RebuildLedger bool
	// EventEngine is the command that runs package eventstore/engine: its name
	// and first arguments. Without it the embedded store of events is not opened.
	EventEngine []string
	// Extend is called when the node is put together and before it listens;
	// the handler that it returns is mounted at the path. Only the demo sets
	// it: `pasban serve` has no such path.
	Extend func(ctx context.Context, n *Node) (path string, h http.Handler, err error)
}

// Node is one agency's Pasban.
type Node struct {
	*core
	log     *slog.Logger
	started time.Time
	setup   atomic.Pointer[Setup]

	ledger   *ledger.Ledger
	lists    *directory.Directory
	hidden   *disclosure.Disclosure
	watch    *watch // nil if it is no witness
	budgets  *access.Budgets
	guard    *registry.Guard
	registry *registry.Registry
	soc      *soc.Center
	sentinel *sentinel.Sentinel // nil if no table is guarded
	rules    *detect.Engine     // keeps its memory over reloads
	gateway  *gateway.Gateway
	logs     *ingest.Receiver // nil if no logs of others are received
	events   *events          // nil if events are not kept

	rebuild   bool // the ledger's storage, at this start
	engine    []string
	detection part                            // how the detection reader is
	refused   atomic.Pointer[config.Problems] // in the rules, by the last reload
	reloading sync.Mutex
	tuning    string // version of the exclusions in force; covered by reloading
}

// part is the last word of a background reader on itself.
type part struct{ err atomic.Pointer[error] }

func (p *part) set(err error) { p.err.Store(&err) }

func (p *part) get() error {
	if e := p.err.Load(); e != nil {
		return *e
	}
	return nil
}

// New opens everything that the setup needs and wires it. On error nothing
// stays open and nothing has listened.
func New(ctx context.Context, s *Setup, o Options) (_ *Node, err error) {
	n := &Node{log: o.Log, started: time.Now(), rules: s.Rules, rebuild: o.RebuildLedger, engine: o.EventEngine}
	if n.log == nil {
		n.log = slog.Default()
	}
	n.setup.Store(s)
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	if n.core, err = openCore(ctx, s.Config, n.log); err != nil {
		return nil, err
	}
	if err := n.openRooms(ctx, s); err != nil {
		return nil, err
	}
	own := http.NewServeMux()
	if err := n.mount(own, s); err != nil {
		return nil, err
	}
	if o.Extend != nil {
		path, h, err := o.Extend(ctx, n)
		if err != nil {
			return nil, err
		}
		own.Handle(path, h)
	}
	tuned, version, err := n.tuned(ctx, s.Config)
	if err != nil {
		return nil, err
	}
	n.tuning = version
	key, err := n.ring.PassKey()
	if err != nil {
		return nil, err
	}
	n.gateway, err = gateway.New(gateway.Options{
		Config: tuned, Guard: n.guard, Subjects: n.vault, Facts: n.journal, Sessions: n.identity,
		Pages: n.pages, Own: own, Pass: key,
	})
	return n, err
}

// openRooms opens the second and third floors.
func (n *Node) openRooms(ctx context.Context, s *Setup) (err error) {
	cfg := s.Config
	witnesses, err := cosigners(cfg)
	if err != nil {
		return err
	}
	storage, err := ledgerStorage(cfg)
	if err != nil {
		return err
	}
	n.ledger, err = ledger.Open(ctx, storage, n.store, n.journal, n.signer, n.vkey, ledger.Options{
		Agency: cfg.Agency.ID, AuditEvery: cfg.Ledger.Audit, Rebuild: n.rebuild, Witnesses: witnesses,
		Damaged: filepath.Join(cfg.Data, "ledger.damaged"),
	})
	if err != nil {
		return err
	}
	n.promises.ledger.Store(n.ledger)
	if n.watch, err = openWatch(cfg, n.ring, n.journal, n.ledger, n.log); err != nil {
		return err
	}
	verifier, err := note.NewVerifier(n.vkey)
	if err != nil {
		return err
	}
	n.lists, err = directory.Open(ctx, n.store, directory.Options{
		Agency: cfg.Agency.ID, Journal: n.journal, Prover: n.ledger, Verifier: verifier, Key: n.ring.LabelKey(), Every: cfg.Ledger.Epoch,
	})
	if err != nil {
		return err
	}
	n.hidden = disclosure.New(cfg.Agency.ID, n.journal, nil)
	if n.soc, err = soc.Open(ctx, n.store, n.journal, n.vault, cfg.Agency.ID); err != nil {
		return err
	}
	if len(cfg.Guard) > 0 {
		if n.sentinel, err = openSentinel(ctx, n.core, cfg, n.log); err != nil {
			return err
		}
	}
	if n.logs, err = openLogs(cfg, n.log); err != nil {
		return err
	}
	if n.events, err = openEvents(n, cfg); err != nil {
		return err
	}
	if n.budgets, err = access.NewBudgets(ctx, n.store, cfg.Access.Budgets); err != nil {
		return err
	}
	n.guard, err = registry.NewGuard(registry.GuardOptions{
		Agency: cfg.Agency.ID, Rules: registry.Rules{Policies: s.Policies, Budgets: n.budgets},
		Journal: n.journal, Ledger: accountable{n.store, n.ledger}, Log: n.log,
	})
	if err != nil {
		return err
	}
	n.registry, err = registry.New(ctx, n.store, registry.Options{Guard: n.guard, Vault: n.vault, Services: s.Services})
	return err
}

// accountable says whether a look could be accounted for right now. A store
// that refused its last write answers for itself until it heals: nobody waits
// out a locked database once for every request.
type accountable struct {
	store  *store.Store
	ledger *ledger.Ledger
}

// Healthy implements registry.Ledger. It does no I/O.
func (a accountable) Healthy() error { return cmp.Or(a.store.Healthy(), a.ledger.Healthy()) }

// Identity is the node's register of people.
func (n *Node) Identity() *identity.Identity { return n.identity }

// Registry is the node's declared services.
func (n *Node) Registry() *registry.Registry { return n.registry }

// Ledger is the node's public log.
func (n *Node) Ledger() *ledger.Ledger { return n.ledger }

// Config is the configuration in force.
func (n *Node) Config() *config.Config { return n.setup.Load().Config }

// Run listens and serves until ctx is done, then stops in order. It returns nil
// after a clean stop. It closes the node: call it once.
func (n *Node) Run(ctx context.Context) error {
	cfg := n.Config()
	public, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return errors.Join(&pasban.Error{Kind: pasban.Unavailable, Where: cfg.File + ": listen", Msg: "cannot listen on " + cfg.Listen, Err: err}, n.close())
	}
	adminListener, err := net.Listen("tcp", cfg.Admin)
	if err != nil {
		return errors.Join(&pasban.Error{Kind: pasban.Unavailable, Where: cfg.File + ": admin", Msg: "cannot listen on " + cfg.Admin, Err: err}, public.Close(), n.close())
	}

	receive, err := n.listenForLogs(ctx)
	if err != nil {
		return errors.Join(err, public.Close(), adminListener.Close(), n.close())
	}

	// The readers outlive the listener: what its last requests did is still
	// read, sequenced and published.
	readers, stopReaders := context.WithCancel(context.WithoutCancel(ctx))
	defer stopReaders()
	var wg sync.WaitGroup
	wg.Go(func() { n.follow(readers) })
	wg.Go(func() { n.followExclusions(readers) })
	wg.Go(func() { n.countRules(readers) })
	wg.Go(func() { keepLean(readers) })
	wg.Go(func() { n.lists.Run(readers) })
	wg.Go(func() { n.hidden.Run(readers) })
	wg.Go(func() { receive(ctx, readers) })
	wg.Go(func() { n.events.run(readers) })
	if n.sentinel != nil {
		wg.Go(func() { guardTables(readers, n.sentinel, n.log) })
	}
	ledgerDone := make(chan error, 1)
	wg.Go(func() { ledgerDone <- n.ledger.Run(readers) })

	admin := &http.Server{Handler: n.admin(), ReadHeaderTimeout: 5 * time.Second}
	wg.Go(func() { admin.Serve(adminListener) })

	n.log.Info("serving", "listen", public.Addr().String(), "admin", adminListener.Addr().String(), "base", BaseURL(cfg), "vkey", n.vkey)
	err = n.gateway.Serve(ctx, public)

	stopReaders()
	admin.Close()
	wg.Wait()
	if e := <-ledgerDone; e != nil && !errors.Is(e, context.Canceled) {
		err = errors.Join(err, fmt.Errorf("ledger: %w", e))
	}
	err = errors.Join(err, n.close())
	if err != nil {
		n.log.Error("stopped", "err", err)
		return err
	}
	n.log.Info("stopped")
	return nil
}

// follow runs detection over the journal. If it cannot, the node says so and
// tries again: requests do not wait for detection, but nobody is told that it
// works when it does not.
func (n *Node) follow(ctx context.Context) {
	for ctx.Err() == nil {
		// What stops it stops it at once: if it goes on for a while, it works again.
		again := time.AfterFunc(2*time.Second, func() { n.detection.set(nil) })
		err := n.rules.Run(ctx, n.journal, n.soc.Handle)
		again.Stop()
		if ctx.Err() != nil {
			return
		}
		n.detection.set(fmt.Errorf("detection stopped: %w", err))
		n.log.Error("detection stopped", "err", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

func (n *Node) close() error {
	var errs []error
	if n.gateway != nil {
		errs = append(errs, n.gateway.Close())
	}
	errs = append(errs, n.watch.close())
	errs = append(errs, n.events.close(), n.closeLogs())
	if n.ledger != nil {
		errs = append(errs, n.ledger.Close())
	}
	if n.core != nil {
		errs = append(errs, n.core.close())
	}
	return errors.Join(errs...)
}
