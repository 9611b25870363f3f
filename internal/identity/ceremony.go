package identity

import (
	"sync"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"
)

const (
	// ceremonyLife is how long a challenge may be answered.
	ceremonyLife = 5 * time.Minute
	// maxCeremonies is how many challenges are open at once, maxPerClient how
	// many of one client: beyond either, the oldest ends.
	maxCeremonies = 20_000
	maxPerClient  = 200
)

// ceremony is a challenge that was given out and not yet answered.
type ceremony struct {
	data   webauthn.SessionData
	link   string // hash of the enrolment link, as a string; "" for a sign-in
	client string // address that asked
	until  time.Time
	id     string
}

// ceremonies are the open challenges, by the hash of the cookie that the
// browser got with it. They live in memory: a restart ends them.
type ceremonies struct {
	mu      sync.Mutex // covers what follows
	open    map[string]*ceremony
	order   []*ceremony // oldest first; ended ones are skipped
	clients map[string]int
}

// put keeps a challenge under a key until it is taken or ceremonyLife is over.
func (c *ceremonies) put(key string, n *ceremony) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		c.open, c.clients = map[string]*ceremony{}, map[string]int{}
	}
	now := time.Now()
	n.id, n.until = key, now.Add(ceremonyLife)
	for len(c.order) > 0 {
		oldest := c.order[0]
		if c.open[oldest.id] == oldest && now.Before(oldest.until) && len(c.open) < maxCeremonies {
			break
		}
		c.order = c.order[1:]
		c.end(oldest)
	}
	if c.clients[n.client] >= maxPerClient {
		for _, o := range c.order {
			if o.client == n.client && c.open[o.id] == o {
				c.end(o)
				break
			}
		}
	}
	c.open[key] = n
	c.clients[n.client]++
	c.order = append(c.order, n)
}

// take returns the challenge of a key and ends it: it can be answered once,
// rightly or wrongly. It is nil if there is none.
func (c *ceremonies) take(key string) *ceremony {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.open[key]
	if n == nil {
		return nil
	}
	c.end(n)
	if !time.Now().Before(n.until) {
		return nil
	}
	return n
}

// end forgets a challenge, if it is still open.
func (c *ceremonies) end(n *ceremony) {
	if c.open[n.id] != n {
		return
	}
	delete(c.open, n.id)
	if c.clients[n.client]--; c.clients[n.client] == 0 {
		delete(c.clients, n.client)
	}
}
