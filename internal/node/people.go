package node

import (
	"context"
	"log/slog"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/identity"
)

// People is a node's register of people, opened for the command line beside a
// running node or without one: the store serialises the two.
type People struct {
	*identity.Identity
	core *core
	base string
}

// OpenPeople opens the register of the node that cfg describes.
func OpenPeople(ctx context.Context, cfg *config.Config, log *slog.Logger) (*People, error) {
	c, err := openCore(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	return &People{Identity: c.identity, core: c, base: BaseURL(cfg)}, nil
}

// EnrolURL is the address of a one-time enrolment link.
func (p *People) EnrolURL(token string) string { return p.base + "/pasban/enrol/" + token }

// Close closes the data directory.
func (p *People) Close() error { return p.core.close() }

// Operator is the actor in whose name the command line acts: whoever can read
// the node's keys. Facts about what it did say so.
func Operator() pasban.Actor {
	return pasban.Actor{ID: "operator:console", Kind: pasban.ActorPerson, Role: pasban.RoleAdmin}
}

// BaseURL is the node's public address as people type it.
func BaseURL(cfg *config.Config) string {
	_, origins := cfg.RelyingParty()
	return origins[0]
}
