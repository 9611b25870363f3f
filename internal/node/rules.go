package node

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"pasban/internal/config"
)

// countPause is how often what the rules found is written down: so much is lost
// of the counts if the node is killed.
const countPause = 5 * time.Second

// countRules keeps the hit rates of rules, and which logs come, beyond a restart.
func (n *Node) countRules(ctx context.Context) {
	tick := time.NewTicker(countPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			// The last seconds too: the store is still open.
			if err := n.soc.Count(context.WithoutCancel(ctx), n.rules.Figures()); err != nil {
				n.log.Error("the last figures of rules are not counted", "err", err)
			}
			return
		case <-tick.C:
			if err := n.soc.Count(ctx, n.rules.Figures()); err != nil && ctx.Err() == nil {
				n.log.Error("the figures of rules could not be counted; they are tried again", "err", err)
			}
		}
	}
}

// noteRefused remembers what the last reload found wrong with the rules: those
// in force are then older than the files.
func (n *Node) noteRefused(err error) {
	var refused config.Problems
	if all, ok := errors.AsType[config.Problems](err); ok {
		refused = slices.DeleteFunc(slices.Clone(all), func(p config.Problem) bool { return !ofRules(n.Config().Rules, p.File) })
	}
	n.refused.Store(&refused)
}

// refusedRules are the mistakes in rules for which the last reload was refused.
func (n *Node) refusedRules() config.Problems {
	if p := n.refused.Load(); p != nil {
		return *p
	}
	return nil
}

// ofRules reports whether a file is one of the rules', or in their directories.
func ofRules(paths []string, file string) bool {
	return slices.ContainsFunc(paths, func(dir string) bool {
		rel, err := filepath.Rel(dir, file)
		return err == nil && filepath.IsLocal(rel)
	})
}
