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
// their version.
func (n *Node) tuned(ctx context.Context, c *config.Config) (_ *config.Config, version string, err error) {
	if version, err = n.soc.ExclusionsVersion(ctx); err != nil { // before the list: a change in between is seen again
		return nil, "", err
	}
	list, err := n.soc.Exclusions(ctx)
	if err != nil {
		return nil, "", err
	}
	return soc.WithExclusions(c, list, time.Now()), version, nil
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
	tuned, version, err := n.tuned(ctx, n.Config())
	if err != nil {
		return err
	}
	if err := n.gateway.Tune(tuned); err != nil {
		return err
	}
	n.tuning = version
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
