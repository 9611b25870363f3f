package node

import (
	"context"
	"time"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/console"
	"pasban/internal/gateway/pass"
	"pasban/internal/trust"
)

// shield lets analysts put the gateway's sites under attack mode.
type shield struct{ n *Node }

var _ console.Shield = shield{}

// Sites implements console.Shield.
func (s shield) Sites() []console.SiteMode {
	cfg := s.n.Config()
	var out []console.SiteMode
	for _, name := range s.n.gateway.SiteNames() {
		out = append(out, console.SiteMode{Site: name, Title: names(titleOf(cfg, name))})
	}
	for _, m := range s.n.gateway.Attacks() {
		for i := range out {
			if out[i].Site == m.Site {
				out[i].On, out[i].Auto, out[i].Reason, out[i].Note, out[i].By = true, m.Auto(), string(m.Reason), m.Note, m.By
				out[i].Since, out[i].Until = m.Since, m.Until
			}
		}
	}
	return out
}

// Start implements console.Shield.
func (s shield) Start(ctx context.Context, who pasban.Actor, site, reason, note string, length time.Duration) error {
	return s.n.gateway.StartAttack(ctx, who, site, pass.Reason(reason), note, length)
}

// End implements console.Shield.
func (s shield) End(ctx context.Context, who pasban.Actor, site string) error {
	return s.n.gateway.EndAttack(ctx, who, site)
}

// titleOf is what people call the site that facts name so.
func titleOf(cfg *config.Config, name string) config.Text {
	for _, site := range cfg.Sites {
		if site.Host == name {
			return siteName(cfg, site)
		}
	}
	for _, site := range cfg.Sites { // the site for any other host has the name that passkeys are bound to
		if site.Host == "*" {
			return siteName(cfg, site)
		}
	}
	return cfg.Agency.Name
}

// trustAttacks is what the public is told of attack modes: not who started
// them, and not what analysts wrote for each other.
func (n *Node) trustAttacks() []trust.Attack {
	cfg := n.Config()
	var out []trust.Attack
	for _, m := range n.gateway.Attacks() {
		out = append(out, trust.Attack{Service: names(titleOf(cfg, m.Site)), Reason: string(m.Reason), Since: m.Since, Until: m.Until})
	}
	return out
}
