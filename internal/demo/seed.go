package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"pasban"
	"pasban/internal/identity"
	"pasban/internal/ledger"
	"pasban/internal/registry"
)

// Node is the part of a node that the demo extends.
type Node interface {
	Identity() *identity.Identity
	Registry() *registry.Registry
	Ledger() *ledger.Ledger
}

// Extend makes a node the demo's: it returns the handler of persona links and
// the path to mount it at, and, as soon as the node serves, adds the
// population that dir's settings name, files some applications, and writes
// persona links to DIR/personas.json, which tells the demo that the node is
// ready. A node that is seeded already only gets new links. All of it
// ends with ctx.
//
// Only the demo's own node may be extended: persona links open the door
// without a passkey.
func Extend(ctx context.Context, dir string, n Node) (path string, h http.Handler, err error) {
	settings, err := LoadSettings(dir)
	if err != nil {
		return "", nil, err
	}
	personas := NewPersonas(n.Identity(), settings.Base)
	go func() {
		err := seed(ctx, n, settings, personas)
		if err := personas.WriteFile(filepath.Join(dir, personasFile), err); err != nil {
			slog.ErrorContext(ctx, "persona links could not be written", "err", err)
		}
	}()
	return PersonaPath, personas, nil
}

// landTransfer is the declared service that the demo's citizens apply for.
const landTransfer = "land-transfer"

const (
	seededApplications = 40 // that are there when the story begins
	linkedCitizens     = 50 // who get a persona link
)

// seed fills the node, unless it is filled, and issues persona links.
func seed(ctx context.Context, n Node, settings Settings, personas *Personas) error {
	if err := awaitLedger(ctx, n.Ledger()); err != nil {
		return err
	}
	p := NewPopulation(settings.Seed, settings.Citizens)
	if err := p.seed(ctx, n); err != nil {
		return fmt.Errorf("seed the demo's node: %w", err)
	}
	for _, s := range p.Staff {
		personas.Issue(Link{Person: s.ID, Role: s.Role, Name: s.Name, NameUr: s.NameUr, Number: s.Number})
	}
	for _, c := range p.Citizens[:min(linkedCitizens, len(p.Citizens))] {
		personas.Issue(Link{Person: c.ID, Role: pasban.RoleCitizen, Name: c.Name, NameUr: c.NameUr, Number: string(c.CNIC)})
	}
	return nil
}

// awaitLedger waits until the node follows its journal: applications before
// that would be refused.
func awaitLedger(ctx context.Context, l *ledger.Ledger) error {
	for {
		err := l.Healthy()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// seed adds everybody, and applications of some.
func (p Population) seed(ctx context.Context, n Node) error {
	list := make([]identity.NewPerson, 0, len(p.Staff)+len(p.Citizens))
	for _, s := range p.Staff {
		list = append(list, identity.NewPerson{ID: s.ID, Role: s.Role, NameEn: s.Name, NameUr: s.NameUr, Staff: s.Number})
	}
	for _, c := range p.Citizens {
		list = append(list, identity.NewPerson{ID: c.ID, Role: pasban.RoleCitizen, NameEn: c.Name, NameUr: c.NameUr, CNIC: c.CNIC})
	}
	added, err := n.Identity().AddPeople(ctx, pasban.Actor{ID: "system:demo", Kind: pasban.ActorSystem}, list...)
	if e, ok := errors.AsType[*pasban.Error](err); ok && e.Kind == pasban.Conflict {
		return nil // seeded before the restart
	}
	if err != nil {
		return err
	}
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(16)
	citizens := added[len(p.Staff):]
	for k := range min(seededApplications, len(citizens)) {
		i := len(citizens) - 1 - k // those at work in the story come from the front
		work.Go(func() error {
			ask := registry.Ask{Actor: citizens[i].Actor(time.Time{})}
			_, _, err := n.Registry().Apply(ctx, ask, landTransfer, p.Application(i))
			return err
		})
	}
	return work.Wait()
}
