package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"pasban/internal/config"
)

// How requests tell that an upstream is ill.
const (
	tolerated  = 5               // failures in a row, other than a refused connection
	ejectFirst = 5 * time.Second // how long it is asked last the first time; doubled each time after
	ejectMost  = 5 * time.Minute
	alarmEvery = 10 * time.Second // at most one alarm of one upstream in that time
)

// condition is how an upstream does. It outlives a reload that keeps the
// upstream. busy may be read without the lock.
type condition struct {
	busy atomic.Int64 // requests under way

	mu       sync.Mutex // covers everything below
	failures int        // in a row
	ejected  int        // times, without a long quiet between them
	until    time.Time  // asked last until then
	ill      bool       // so say the questions of config.Health
	row      int        // answers in a row that speak against ill
	down     bool       // as was reported
	reported time.Time  // the last alarm
	why      error      // the last failure
}

// isDown reports whether the upstream is asked last.
func (c *condition) isDown() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ill || time.Now().Before(c.until)
}

// problem is why the upstream is asked last, nil if it is not.
func (c *condition) problem() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ill || time.Now().Before(c.until) {
		return c.why
	}
	return nil
}

// served notes a request that was answered, and reports whether the upstream
// is back.
func (c *condition) served() (back bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures, c.until = 0, time.Time{}
	return c.changed()
}

// failed notes a request that was not, and reports whether it is time for an
// alarm. A refused connection is certain; of other failures it takes several in
// a row. After an ejection one is enough.
func (c *condition) failed(err error, refused bool) (gone bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.why = err
	c.failures++
	if !refused && c.failures < tolerated || now.Before(c.until) {
		return c.changed()
	}
	if now.Sub(c.until) > ejectMost {
		c.ejected = 0
	}
	c.until = now.Add(min(ejectFirst<<min(c.ejected, 16), ejectMost))
	c.ejected++
	return c.changed()
}

// asked notes the answer to a question; err is what was wrong with it. It
// reports whether that changed anything.
func (c *condition) asked(err error, h *config.Health) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if (err == nil) != c.ill {
		c.row = 0
	} else {
		c.row++
	}
	switch {
	case err != nil && !c.ill && c.row >= h.Fall:
		c.ill, c.row, c.why = true, 0, err
	case err == nil && c.ill && c.row >= h.Rise:
		c.ill, c.row, c.failures, c.until = false, 0, 0, time.Time{}
	}
	return c.changed()
}

// changed reports whether there is something to report. An upstream that comes
// and goes is reported once in a while, not each time. The caller holds the lock.
func (c *condition) changed() bool {
	now := time.Now()
	down := c.ill || now.Before(c.until)
	if down == c.down || down && now.Sub(c.reported) < alarmEvery {
		return false
	}
	if down {
		c.reported = now
	}
	c.down = down
	return true
}

// watch asks all upstreams at intervals until ctx ends.
func (p *pool) watch(ctx context.Context) {
	if p.health == nil {
		return
	}
	var all sync.WaitGroup
	for _, t := range p.targets {
		all.Go(func() {
			tick := time.NewTicker(p.health.Interval)
			defer tick.Stop()
			for {
				if err := p.ask(ctx, t); ctx.Err() == nil && t.asked(err, p.health) {
					p.report(t, t.problem())
				}
				select {
				case <-tick.C:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	all.Wait()
}

// ask asks one upstream whether it can serve.
func (p *pool) ask(ctx context.Context, t *target) error {
	ctx, cancel := context.WithTimeout(ctx, p.health.Timeout)
	defer cancel()
	u := t.at(p.health.Path)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return err
	}
	if p.host != "*" {
		req.Host = p.host
	}
	req.Header.Set("User-Agent", "pasban-health")
	res, err := t.transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10)); err != nil {
		return err
	}
	if res.StatusCode != p.health.Status {
		return fmt.Errorf("%s answered %d, want %d", p.health.Path, res.StatusCode, p.health.Status)
	}
	return nil
}

// UpstreamHealth is how one upstream of a site does.
type UpstreamHealth struct {
	Site     string // the site's host
	Upstream string // its address
	Problem  error  // why it is asked last; nil if it is well
}

// Upstreams says how the upstreams of all sites do, in the order of the config.
func (g *Gateway) Upstreams() []UpstreamHealth {
	st := g.state.Load()
	var all []UpstreamHealth
	for _, conf := range st.config.Sites {
		s := st.sites[conf.Host]
		if s == nil || s.proxy == nil {
			continue
		}
		for _, t := range s.proxy.pool.targets {
			all = append(all, UpstreamHealth{Site: conf.Host, Upstream: t.name, Problem: t.problem()})
		}
	}
	return all
}

// errGateway is the failure of an upstream that answers that it cannot.
var errGateway = errors.New("the upstream answered with a gateway's error")
