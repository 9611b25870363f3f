package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"

	"pasban/internal/config"
	"pasban/internal/durable"
	"pasban/internal/identity"
	"pasban/internal/journal"
	"pasban/internal/keys"
	"pasban/internal/ledger"
	"pasban/internal/page"
	"pasban/internal/store"
	"pasban/internal/vault"

	"golang.org/x/mod/sumdb/note"
)

// core is the part of a node that needs no listener: what `pasban user` works
// with as well. Its parts are opened in the order of the fields and closed in
// the opposite one.
type core struct {
	store    *store.Store
	ring     *keys.Ring
	signer   note.Signer
	promises *promises // the signer as the journal has it
	vkey     string
	vault    *vault.Vault
	journal  *journal.Journal
	pages    *page.Pages
	identity *identity.Identity
}

// openCore opens the data directory. On error nothing stays open.
func openCore(ctx context.Context, cfg *config.Config, log *slog.Logger) (_ *core, err error) {
	c := &core{}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	for _, dir := range []string{"", "keys", "log"} {
		if err := privateDir(filepath.Join(cfg.Data, dir)); err != nil {
			return nil, err
		}
	}
	if c.store, err = store.Open(ctx, cfg.StoreDSN()); err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	if c.ring, err = keys.Open(ctx, filepath.Join(cfg.Data, "keys"), keys.Options{Identity: cfg.Keys.Identity}); err != nil {
		return nil, err
	}
	if c.signer, c.vkey, err = c.ring.LedgerSigner(cfg.Ledger.Origin); err != nil {
		return nil, err
	}
	verifier, err := note.NewVerifier(c.vkey)
	if err != nil {
		return nil, fmt.Errorf("read the ledger's verifier key: %w", err)
	}
	if c.vault, err = vault.Open(ctx, c.store, c.ring, verifier); err != nil {
		return nil, err
	}
	c.promises = &promises{Signer: c.signer}
	if c.journal, err = journal.Open(ctx, c.store, journal.Options{Signer: c.promises, Sealer: c.vault}); err != nil {
		return nil, err
	}
	if c.pages, err = page.New(page.Options{Agency: names(cfg.Agency.Name), Log: log}); err != nil {
		return nil, err
	}
	rp, origins := cfg.RelyingParty()
	c.identity, err = identity.New(ctx, c.store, identity.Options{
		Agency: cfg.Agency.ID, Journal: c.journal, Sealer: c.vault, Subjects: c.vault, Pages: c.pages,
		RPID: rp, RPName: cfg.Agency.Name.En, Origins: origins,
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// promises signs promises until the ledger that would have to keep them has stopped
// for good: a copy restored from an old backup would promise numbers again that
// were given before. A fact that is refused its promise is in the journal all the
// same; whoever asked for it gets an error.
type promises struct {
	note.Signer
	ledger atomic.Pointer[ledger.Ledger] // nil until there is one: the command line has none
}

// Sign implements note.Signer.
func (p *promises) Sign(msg []byte) ([]byte, error) {
	if l := p.ledger.Load(); l != nil {
		if err := l.Stopped(); err != nil {
			return nil, err
		}
	}
	return p.Signer.Sign(msg)
}

func (c *core) close() error {
	var errs []error
	if c.vault != nil {
		errs = append(errs, c.vault.Close())
	}
	if c.store != nil {
		errs = append(errs, c.store.Close())
	}
	if c.ring != nil {
		errs = append(errs, c.ring.Close())
	}
	return errors.Join(errs...)
}

// privateDir makes a directory for this user alone, or refuses one that others
// can read.
func privateDir(dir string) error {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return durable.CheckMode(dir)
}

// names returns a text by language, as pages want it.
func names(t config.Text) map[string]string {
	return map[string]string{"en": t.En, "ur": t.Ur}
}
