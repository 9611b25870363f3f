package flood

import (
	"net/netip"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// level is one of the blocks of addresses that a client is in, and how many
// times a client's share the whole block gets.
type level struct {
	prefix netip.Prefix
	times  float64
}

// levels returns the blocks that an address is in, smallest first: IPv4 /32
// and /24; IPv6 /64 (what one subscriber is given at least), /56 and /48 (what
// one subscriber is given at most, RFC 6177). A block gets far less than the
// sum of its addresses, and enough for the many who share a carrier's addresses.
func levels(a netip.Addr) []level {
	a = a.Unmap().WithZone("")
	switch {
	case a.Is4():
		return []level{{masked(a, 32), 1}, {masked(a, 24), 32}}
	case a.Is6():
		return []level{{masked(a, 64), 1}, {masked(a, 56), 4}, {masked(a, 48), 16}}
	}
	return []level{{netip.Prefix{}, 1}}
}

func masked(a netip.Addr, bits int) netip.Prefix {
	p, _ := a.Prefix(bits) // bits are those of the address's family
	return p
}

// bucketKey names a bucket: a block of addresses or a session, and what is
// counted ("" for everything, or a route).
type bucketKey struct {
	prefix netip.Prefix
	what   string
}

// share is what a bucket is filled by and how much it holds.
type share struct {
	rate  float64 // tokens a second
	burst float64 // tokens at most
}

func (s share) times(n float64) share { return share{s.rate * n, s.burst * n} }

// most is how much a leased bucket may hold.
func (s share) most() float64 { return max(s.rate, s.burst) }

// bucket is a token bucket that may be charged beyond what it holds.
type bucket struct {
	tokens float64
	at     time.Time // when tokens was true
	leased bool      // filled by what is leased of the bucket of all gateways, not by time
	demand demand
}

// maxDebt is how long a bucket stays empty at most after the last charge.
const maxDebt = time.Minute

func (b *bucket) fill(s share, now time.Time) {
	if b.leased {
		b.at = now
		return
	}
	b.tokens = min(s.burst, b.tokens+s.rate*now.Sub(b.at).Seconds())
	b.at = now
}

// own lets time fill the bucket, from now on if it was leased.
func (b *bucket) own() {
	if b.leased {
		b.leased, b.at = false, time.Now()
	}
}

// held is what is left of what was leased, or owed of it.
func (b *bucket) held() float64 {
	if !b.leased {
		return 0
	}
	return b.tokens
}

// spend takes tokens that are there, or are owed.
func (b *bucket) spend(n float64) {
	b.tokens -= n
	if !b.leased { // what was leased is spent already where it is common
		b.demand.used += n
	}
}

// buckets are a bounded set of token buckets: those not used for longest go
// first. The caller locks.
type buckets struct {
	lru *simplelru.LRU[bucketKey, *bucket]
	// hot gets those of which so much is asked that other gateways have to know;
	// nil while nothing is shared.
	hot *hot
}

func newBuckets(size int) buckets {
	lru, _ := simplelru.NewLRU[bucketKey, *bucket](max(size, 1), nil) // fails only below 1
	return buckets{lru: lru}
}

func (b buckets) get(k bucketKey, s share, now time.Time) *bucket {
	x, ok := b.lru.Get(k)
	if !ok {
		x = &bucket{tokens: s.burst, at: now}
		b.lru.Add(k, x)
	}
	x.fill(s, now)
	return x
}

// take takes n tokens from the bucket of each block that the address is in, or
// from none; then wait is how long until they are there.
func (b buckets) take(a netip.Addr, what string, s share, n float64) (wait time.Duration, ok bool) {
	return b.takeOf(levels(a), what, s, n)
}

func (b buckets) takeOf(ls []level, what string, s share, n float64) (wait time.Duration, ok bool) {
	now := time.Now()
	var all [3]*bucket
	for i, lv := range ls {
		sh := s.times(lv.times)
		key := bucketKey{lv.prefix, what}
		all[i] = b.get(key, sh, now)
		b.hot.asked(key, all[i], sh, n)
		if missing := min(n, sh.burst) - all[i].tokens; missing > 0 {
			wait = max(wait, time.Duration(missing/sh.rate*float64(time.Second)))
		}
	}
	if wait > 0 {
		return wait, false
	}
	for i := range ls {
		all[i].spend(n)
	}
	return 0, true
}

// charge takes n tokens of the address's blocks whether they are there or not.
func (b buckets) charge(a netip.Addr, what string, s share, n float64) {
	now := time.Now()
	for _, lv := range levels(a) {
		sh := s.times(lv.times)
		x := b.get(bucketKey{lv.prefix, what}, sh, now)
		x.spend(n)
		x.tokens = max(x.tokens, -sh.rate*maxDebt.Seconds())
	}
}
