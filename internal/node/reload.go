package node

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"pasban"
	"pasban/internal/access"
	"pasban/internal/config"
	"pasban/internal/detect"
	"pasban/internal/registry"
)

// Reload reads the configuration file again and puts it in force without
// dropping a request: sites, routes, limits, services, policies, budgets and
// rules. If anything in it is bad, or if it changes what cannot change while
// the node runs, everything stays as it was and the error says why. Both are
// logged; a reload is also a fact in the ledger. Log files that somebody set
// aside begin anew in either case.
func (n *Node) Reload(ctx context.Context) error {
	n.reloading.Lock()
	defer n.reloading.Unlock()
	n.gateway.ReopenLogs()
	err := n.reload(ctx)
	n.noteRefused(err)
	if err != nil {
		n.log.Error("the configuration was not reloaded; the old one stays in force", "err", err)
		return err
	}
	n.log.Info("the configuration was reloaded", "file", n.Config().File)
	return nil
}

func (n *Node) reload(ctx context.Context) error {
	old := n.setup.Load()
	next, err := Load(old.Config.File, detect.Reuse(n.rules))
	if err != nil {
		return err
	}
	if fixed := changedFixed(old.Config, next.Config); len(fixed) > 0 {
		return &pasban.Error{
			Kind: pasban.Invalid, Where: next.Config.File,
			Msg:  "these keys cannot change while the node runs: " + strings.Join(fixed, ", "),
			Hint: "restart the node to change them",
		}
	}

	// The fact comes first: a change of the rules that cannot be accounted for
	// does not happen.
	f := pasban.NewFact(pasban.KindAdmin, next.Config.Agency.ID, Operator(), time.Now())
	f.Body.Action, f.Body.Resource = "config.reload", "pasban.yaml"
	f.Restricted.More = map[string]string{
		"services": fmt.Sprint(len(next.Services)), "policies": fmt.Sprint(next.Policies.Len()), "rules": fmt.Sprint(len(next.Rules.Rules())),
	}
	if _, err := n.journal.Record(ctx, f); err != nil {
		return err
	}
	tuned, version, err := n.tuned(ctx, next.Config)
	if err != nil {
		return err
	}
	if err := n.gateway.Reload(tuned); err != nil {
		return err
	}
	n.tuning = version
	n.guard.Reload(registry.Rules{Policies: next.Policies, Budgets: access.WithLimits(next.Config.Access.Budgets)})
	n.registry.Reload(next.Services)
	n.rules.Swap(next.Rules)
	next.Rules = n.rules
	n.setup.Store(next)
	return nil
}

// changedFixed lists the keys that differ and that a running node has already
// acted on for good.
func changedFixed(a, b *config.Config) []string {
	differ := map[string]bool{
		"agency.id":      a.Agency.ID != b.Agency.ID,
		"data":           a.Data != b.Data,
		"listen":         a.Listen != b.Listen,
		"admin":          a.Admin != b.Admin,
		"http3":          a.HTTP3 != b.HTTP3,
		"tls.mode":       a.TLS.Mode != b.TLS.Mode,
		"tls.http":       a.TLS.HTTP != b.TLS.HTTP,
		"store":          a.StoreDSN() != b.StoreDSN(),
		"keys.identity":  a.Keys.Identity != b.Keys.Identity,
		"ledger.origin":  a.Ledger.Origin != b.Ledger.Origin,
		"ledger.storage": a.Ledger.Storage != b.Ledger.Storage,
	}
	differ["ledger.witnesses"] = !reflect.DeepEqual(a.Ledger.Witnesses, b.Ledger.Witnesses)
	differ["witness"] = !reflect.DeepEqual(a.Witness, b.Witness)
	differ["guard"] = !reflect.DeepEqual(a.Guard, b.Guard)
	differ["events"] = a.Events != b.Events
	differ["logs"] = !reflect.DeepEqual(a.Logs, b.Logs)
	rpA, originsA := a.RelyingParty()
	rpB, originsB := b.RelyingParty()
	differ["identity"] = rpA != rpB || !slices.Equal(originsA, originsB)
	maps.DeleteFunc(differ, func(_ string, changed bool) bool { return !changed })
	return slices.Sorted(maps.Keys(differ))
}
