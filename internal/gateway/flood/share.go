package flood

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Several gateways before one service share what they know. Each goes on with
// its own buckets; of those of which much is asked, tokens are leased from one
// that all have in common, twice a second and never while a request waits. And
// they tell each other who makes a flood.

// Bounds of sharing.
const (
	exchangeEvery = 500 * time.Millisecond
	exchangeTime  = 2 * time.Second // that one may take
	// leasePatience is how long leased buckets wait for an exchange. Then time fills
	// them until the answer comes.
	leasePatience = 250 * time.Millisecond
	mostLeases    = 256 // buckets in one exchange: those of which most is asked
	mostPenalties = 256 // in one exchange, each way
	// cool is how many exchanges in a row little is asked of a bucket until it
	// is this gateway's own again.
	cool = 10
)

// Lease is what a gateway asks of a common bucket.
type Lease struct {
	Key         string  // names the bucket
	Rate, Burst float64 // tokens a second, and at most, less what this gateway holds
	Used        float64 // tokens that were spent here without a lease
	Want        float64 // tokens until the next exchange
}

// Penalty names one of the few who make a flood: a network, or a fingerprint.
type Penalty struct {
	Prefix netip.Prefix // valid, or
	JA4    string       // not empty
}

// penalties are those in force, with their ends.
type penalties map[Penalty]time.Time

func (p penalties) has(who Penalty, now time.Time) bool {
	until, ok := p[who]
	return ok && now.Before(until)
}

// Exchange is what a gateway tells the others, and asks of them.
type Exchange struct {
	Leases    []Lease
	Penalties map[Penalty]time.Duration // how long each still holds
}

// Answer is what it learns.
type Answer struct {
	Gateways  int                       // that took part lately, this one among them
	Granted   map[string]float64        // tokens, by the key of the bucket
	Penalties map[Penalty]time.Duration // that others found
}

// Commons is where gateways meet.
type Commons interface {
	Exchange(ctx context.Context, e Exchange) (Answer, error)
}

// demand is what was asked of a bucket since the last exchange.
type demand struct {
	since       time.Time
	asked, used float64
	idle        int // exchanges in a row in which little was asked
}

// hot are the buckets that take part in exchanges. The limiter's lock covers it.
type hot struct {
	gateways int
	of       map[bucketKey]share
}

// asked counts tokens that are asked of a bucket. It takes part from when one
// of several gateways is asked for half of what would be its part. A nil hot
// counts nothing.
func (h *hot) asked(key bucketKey, b *bucket, s share, n float64) {
	if h == nil || h.gateways == 1 {
		return
	}
	if _, ok := h.of[key]; !ok {
		if b.at.Sub(b.demand.since) > exchangeEvery {
			b.demand = demand{since: b.at}
		}
		if b.demand.asked+n >= h.much(s) && len(h.of) < 16*mostLeases {
			h.of[key] = s
		}
	}
	b.demand.asked += n
}

// much is when so much is asked of a bucket within an exchange that it takes
// part in it.
func (h *hot) much(s share) float64 {
	return s.rate * exchangeEvery.Seconds() / 2 / float64(h.gateways)
}

// want is how many tokens are asked for: so many that half as much again as was
// asked, and half of this gateway's part of the burst, are there until the next
// exchange. A larger part would let those who ask every gateway have the burst
// nearly twice.
func (h *hot) want(b *bucket, s share) float64 {
	reserve := s.burst / 2 / float64(h.gateways)
	return max(0, min(max(1.5*b.demand.asked, reserve), s.most())-b.held())
}

// Share exchanges with the other gateways until ctx ends. While that fails, the
// gateway goes by its own buckets; state is told when it begins to fail, with
// the error, and with nil when it succeeds.
func (l *Limiter) Share(ctx context.Context, with Commons, state func(error)) {
	l.mu.Lock()
	l.buckets.hot, l.heavy.found = &hot{gateways: 1, of: map[bucketKey]share{}}, penalties{}
	l.mu.Unlock()
	defer l.unshare()
	t := time.NewTicker(exchangeEvery)
	defer t.Stop()
	failed := false
	for first := true; ; first = false {
		err := l.exchange(ctx, with)
		if ctx.Err() != nil {
			return
		}
		if (err != nil) != failed || first {
			state(err)
		}
		if failed = err != nil; failed {
			l.alone()
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (l *Limiter) exchange(ctx context.Context, with Commons) error {
	ctx, cancel := context.WithTimeout(ctx, exchangeTime)
	defer cancel()
	e, keys := l.collect()
	late := time.AfterFunc(leasePatience, l.release)
	a, err := with.Exchange(ctx, e)
	late.Stop()
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buckets.hot.gateways = max(1, a.Gateways)
	for name, n := range a.Granted {
		b, ok := l.buckets.lru.Peek(keys[name])
		s, hot := l.buckets.hot.of[keys[name]]
		if !ok || !hot {
			continue
		}
		if !b.leased {
			b.leased, b.tokens = true, min(b.tokens, 0) // what it had was its own; what it owes it still owes
		}
		b.tokens = min(b.tokens+n, s.most())
	}
	now := time.Now()
	l.heavy.told = penalties{}
	for who, left := range a.Penalties {
		l.heavy.told[who] = now.Add(left)
	}
	return nil
}

// collect takes what is to be told, and the buckets by the names under which
// that is.
func (l *Limiter) collect() (e Exchange, keys map[string]bucketKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.buckets.hot
	keys = map[string]bucketKey{}
	asked := map[string]float64{}
	for key, s := range h.of {
		b, ok := l.buckets.lru.Peek(key)
		if !ok {
			delete(h.of, key)
			continue
		}
		lease := Lease{Key: key.String(), Rate: s.rate, Burst: max(0, s.burst-max(0, b.held())), Used: b.demand.used, Want: h.want(b, s)}
		if b.demand.idle++; b.demand.asked >= h.much(s) {
			b.demand.idle = 0
		}
		if b.demand.idle > cool || h.gateways == 1 {
			b.own()
			delete(h.of, key)
			continue
		}
		keys[lease.Key], asked[lease.Key] = key, b.demand.asked
		e.Leases = append(e.Leases, lease)
	}
	slices.SortFunc(e.Leases, func(a, b Lease) int {
		return cmp.Or(cmp.Compare(asked[b.Key]/b.Rate, asked[a.Key]/a.Rate), strings.Compare(a.Key, b.Key))
	})
	for _, lease := range e.Leases[min(len(e.Leases), mostLeases):] {
		// Nothing is granted to those for which there is no room: time fills them.
		// What is asked of them adds up until it is their turn.
		b, _ := l.buckets.lru.Peek(keys[lease.Key])
		b.own()
	}
	e.Leases = e.Leases[:min(len(e.Leases), mostLeases)]
	for _, lease := range e.Leases {
		b, _ := l.buckets.lru.Peek(keys[lease.Key])
		b.demand.asked, b.demand.used = 0, 0
	}
	now := time.Now()
	e.Penalties = map[Penalty]time.Duration{}
	for who, until := range l.heavy.found {
		if left := until.Sub(now); left > 0 {
			e.Penalties[who] = left
		} else {
			delete(l.heavy.found, who)
		}
	}
	return e, keys
}

// release lets time fill the leased buckets of an exchange that takes long. What
// is spent meanwhile is told in the next.
func (l *Limiter) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.buckets.hot == nil {
		return
	}
	for key := range l.buckets.hot.of {
		if b, ok := l.buckets.lru.Peek(key); ok {
			b.own()
		}
	}
}

// alone gives the buckets back to time.
func (l *Limiter) alone() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key := range l.buckets.hot.of {
		if b, ok := l.buckets.lru.Peek(key); ok {
			b.own()
			b.demand = demand{}
		}
	}
	clear(l.buckets.hot.of)
	l.buckets.hot.gateways = 1
	l.heavy.told = nil
}

func (l *Limiter) unshare() {
	l.alone()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buckets.hot, l.heavy.found = nil, nil
}

// Sharing returns how many gateways share their limits, 1 if this one is alone,
// and how many of its buckets are leased.
func (l *Limiter) Sharing() (gateways, leased int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.buckets.hot == nil {
		return 1, 0
	}
	for key := range l.buckets.hot.of {
		if b, ok := l.buckets.lru.Peek(key); ok && b.leased {
			leased++
		}
	}
	return l.buckets.hot.gateways, leased
}

// String names the bucket for other gateways: a network, or a session by its
// hash, and what is counted.
func (k bucketKey) String() string {
	if !k.prefix.IsValid() {
		return k.what
	}
	return strings.TrimSpace(k.prefix.String() + " " + k.what)
}
