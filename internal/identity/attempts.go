package identity

import (
	"sync"
	"time"
)

const (
	// attemptEvery is the time after which a client gets another attempt.
	attemptEvery = 3 * time.Second
	// maxClients is how many clients are remembered; those that have all of
	// their attempts again are forgotten first.
	maxClients = 50_000
)

// attempts bounds the failures of each client. Attempts that succeed cost
// nothing, so that a whole office behind one address can sign in.
type attempts struct {
	burst float64

	mu      sync.Mutex // covers what follows
	clients map[string]*bucket
}

type bucket struct {
	left float64 // attempts
	at   time.Time
	told bool // that it ran out has been recorded
}

// take spends an attempt. ok is false if the client has none left; first
// reports that it is the first refusal since it last had one.
func (a *attempts) take(client string) (ok, first bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.clients == nil {
		a.clients = map[string]*bucket{}
	}
	now := time.Now()
	b := a.clients[client]
	if b == nil {
		if len(a.clients) >= maxClients {
			a.forget(now)
		}
		b = &bucket{left: a.burst, at: now}
		a.clients[client] = b
	}
	b.left = min(a.burst, b.left+now.Sub(b.at).Seconds()/attemptEvery.Seconds())
	b.at = now
	if b.left < 1 {
		first = !b.told
		b.told = true
		return false, first
	}
	b.left--
	b.told = false
	return true, false
}

// giveBack returns an attempt that succeeded.
func (a *attempts) giveBack(client string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if b := a.clients[client]; b != nil {
		b.left = min(a.burst, b.left+1)
	}
}

// forget drops every client that has all of its attempts again, and as many
// others as make room for a while, whichever they are.
func (a *attempts) forget(now time.Time) {
	full := time.Duration(a.burst) * attemptEvery
	for client, b := range a.clients {
		if now.Sub(b.at) >= full {
			delete(a.clients, client)
		}
	}
	for client := range a.clients {
		if len(a.clients) < maxClients*9/10 {
			return
		}
		delete(a.clients, client)
	}
}
