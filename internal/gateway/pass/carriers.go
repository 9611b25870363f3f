package pass

import (
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"
)

// What one pass or admission carries. A person who opens a page with a
// hundred parts stays below it; a flood behind one copied pass does not.
const (
	carryRate  = 10 // requests in a second, for long
	carryBurst = 150
	maxCarried = 1 << 16 // passes whose buckets are remembered

	// A phone on the move changes its network now and then. Copies of one pass
	// on a thousand machines change it with every request.
	maxAway   = 4
	awayReset = time.Hour
)

// How many new passes, tickets and places one network may have: enough for
// many households behind one address.
const (
	mintRate  = 5
	mintBurst = 300
)

// Carriers bounds what a pass can carry, by whomever it is shown. It is safe
// for concurrent use.
type Carriers struct {
	mu      sync.Mutex // covers everything
	carried *simplelru.LRU[ID, *carrier]
	mints   *simplelru.LRU[Network, *rate.Limiter]
}

type carrier struct {
	bucket *rate.Limiter
	away   []Network // where it was shown beside its home
	since  time.Time // when away was last emptied
}

// NewCarriers makes an empty one.
func NewCarriers() *Carriers {
	carried, _ := simplelru.NewLRU[ID, *carrier](maxCarried, nil) // fails only for sizes below one
	mints, _ := simplelru.NewLRU[Network, *rate.Limiter](maxCarried, nil)
	return &Carriers{carried: carried, mints: mints}
}

// Carry takes one request out of the bucket of a pass or admission that is
// shown from a network. It reports false if the bucket is empty, or if the
// pass has been shown from too many networks lately and this is a new one.
func (c *Carriers) Carry(id ID, home, from Network, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.carried.Get(id)
	if !ok {
		k = &carrier{bucket: rate.NewLimiter(carryRate, carryBurst), since: now}
		c.carried.Add(id, k)
	}
	return k.welcome(home, from, now) && k.bucket.AllowN(now, 1)
}

func (k *carrier) welcome(home, from Network, now time.Time) bool {
	if from == home {
		return true
	}
	if now.Sub(k.since) > awayReset {
		k.away, k.since = nil, now
	}
	if slices.Contains(k.away, from) {
		return true
	}
	if len(k.away) == maxAway {
		return false
	}
	k.away = append(k.away, from)
	return true
}

// Mint reports whether one more pass, ticket or place may be given to a network.
func (c *Carriers) Mint(to Network, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	m, ok := c.mints.Get(to)
	if !ok {
		m = rate.NewLimiter(mintRate, mintBurst)
		c.mints.Add(to, m)
	}
	return m.AllowN(now, 1)
}
