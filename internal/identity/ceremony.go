package identity

import (
	"container/list"
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

	key      string
	until    time.Time
	all, own *list.Element // its places in ceremonies.order and of its client
}

// ceremonies are the open challenges, by the hash of the cookie that the
// browser got with it. They live in memory: a restart ends them.
type ceremonies struct {
	mu      sync.Mutex // covers what follows
	open    map[string]*ceremony
	order   list.List             // oldest first
	clients map[string]*list.List // oldest first; no empty ones
}

// put keeps a challenge under a key until it is taken or ceremonyLife is over.
func (c *ceremonies) put(key string, n *ceremony) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		c.open, c.clients = map[string]*ceremony{}, map[string]*list.List{}
	}
	now := time.Now()
	n.key, n.until = key, now.Add(ceremonyLife)
	for e := c.order.Front(); e != nil; e = c.order.Front() {
		oldest := e.Value.(*ceremony)
		if now.Before(oldest.until) && len(c.open) < maxCeremonies {
			break
		}
		c.end(oldest)
	}
	if own := c.clients[n.client]; own != nil && own.Len() >= maxPerClient {
		c.end(own.Front().Value.(*ceremony))
	}
	own := c.clients[n.client]
	if own == nil {
		own = list.New()
		c.clients[n.client] = own
	}
	c.open[key] = n
	n.all, n.own = c.order.PushBack(n), own.PushBack(n)
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

// end forgets an open challenge.
func (c *ceremonies) end(n *ceremony) {
	delete(c.open, n.key)
	c.order.Remove(n.all)
	own := c.clients[n.client]
	if own.Remove(n.own); own.Len() == 0 {
		delete(c.clients, n.client)
	}
}
