package gateway

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"pasban"
	"pasban/internal/gateway/pass"
)

// maxNote bounds an analyst's note about an attack mode, in bytes.
const maxNote = 500

// SiteNames lists the sites that can be put under attack mode, by the names
// that facts carry.
func (g *Gateway) SiteNames() []string {
	st := g.state.Load()
	if st == nil {
		return nil
	}
	names := []string{st.other.name}
	for _, s := range st.sites {
		names = append(names, s.name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Attacks lists the sites that are under attack mode now.
func (g *Gateway) Attacks() []pass.Mode { return g.gate.modes.All(time.Now()) }

// StartAttack puts a site under attack mode, or changes the one that it is in,
// for the length of time given. It returns after the fact that says who did it
// and why is durable, and the mode with it: it survives a restart.
func (g *Gateway) StartAttack(ctx context.Context, who pasban.Actor, site string, reason pass.Reason, note string, length time.Duration) error {
	note = strings.TrimSpace(note)
	switch {
	case !slices.Contains(g.SiteNames(), site):
		return &pasban.Error{Kind: pasban.NotFound, Msg: "there is no such site"}
	case !slices.Contains(pass.Reasons(), reason):
		return invalid("choose a reason", nil)
	case length < time.Minute || length > pass.MaxMode:
		return invalid(fmt.Sprintf("an attack mode lasts from a minute to %s", pass.MaxMode), nil)
	case len(note) > maxNote:
		return invalid("the note is too long", nil)
	case who.ID == "":
		return &pasban.Error{Kind: pasban.Unauthenticated, Msg: "sign in first"}
	}
	now := time.Now()
	m := pass.Mode{Site: site, Reason: reason, Note: clean(note, maxNote), By: who.ID, Since: now, Until: now.Add(length)}
	if _, err := g.o.Facts.Record(ctx, g.gate.modeFact(who, "attack.start", m)); err != nil {
		return err
	}
	return g.gate.modes.Start(m)
}

// EndAttack ends a site's attack mode. It does not start again by itself for a
// while: whoever ends it has looked.
func (g *Gateway) EndAttack(ctx context.Context, who pasban.Actor, site string) error {
	m, ok := g.gate.modes.Of(site, time.Now())
	if !ok {
		return &pasban.Error{Kind: pasban.Conflict, Msg: "the site is not under attack mode any more"}
	}
	if _, err := g.o.Facts.Record(ctx, g.gate.modeFact(who, "attack.end", m)); err != nil {
		return err
	}
	g.gate.load(site).rest.Store(true)
	_, _, err := g.gate.modes.End(site)
	return err
}
