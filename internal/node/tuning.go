package node

import (
	"context"
	"time"

	"pasban/internal/config"
	"pasban/internal/soc"
)

// tuningPause is how often a node looks for exclusions that another node of the
// same store has made or ended.
const tuningPause = 5 * time.Second

// tuned returns the configuration with the analysts' exclusions in it, and
// notes their version. The caller holds reloading, or is alone.
func (n *Node) tuned(ctx context.Context, c *config.Config) (*config.Config, error) {
	version, err := n.soc.ExclusionsVersion(ctx) // before the list: a change in between is seen again
	if err != nil {
		return nil, err
	}
	list, err := n.soc.Exclusions(ctx)
	if err != nil {
		return nil, err
	}
	n.tuning = version
	return soc.WithExclusions(c, list, time.Now()), nil
}

// tune puts the analysts' exclusions in force, without dropping a request, if
// they changed.
func (n *Node) tune(ctx context.Context) error {
	n.reloading.Lock()
	defer n.reloading.Unlock()
	version, err := n.soc.ExclusionsVersion(ctx)
	if err != nil || version == n.tuning {
		return err
	}
	before := n.tuning
	tuned, err := n.tuned(ctx, n.Config())
	if err == nil {
		err = n.gateway.Reload(tuned)
	}
	if err != nil {
		n.tuning = before // tried again
		return err
	}
	n.log.Info("exclusions of the firewall are in force", "version", n.tuning)
	return nil
}

// followExclusions keeps the firewall up with other nodes, and tries again what
// failed.
func (n *Node) followExclusions(ctx context.Context) {
	tick := time.NewTicker(tuningPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := n.tune(ctx); err != nil && ctx.Err() == nil {
				n.log.Error("the exclusions of the firewall could not be put in force", "err", err)
			}
		}
	}
}

// warnings tells of exclusions that end soon or have ended.
func (n *Node) warnings(ctx context.Context) []string {
	c := n.Config()
	now := time.Now()
	if list, err := n.soc.Exclusions(ctx); err == nil {
		c = soc.WithExclusions(c, list, now)
	}
	return c.Warnings(now)
}
