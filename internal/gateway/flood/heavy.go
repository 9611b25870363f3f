package flood

import (
	"net/http"
	"net/netip"
	"slices"
	"time"
)

// When a few make a flood.
const (
	floodTime    = 10 * time.Second // after a request was turned away there is a flood for so long
	heavyPrefix  = 0.02             // of all requests: the part of a block that is one of the few …
	heavyUse     = 0.5              // … if it uses so much of its rate
	heavyJA4     = 0.25             // likewise of a fingerprint, which thousands may share …
	knownJA4     = 0.01             // … unless more than so many of its requests are of known clients
	heavyTakes   = 4                // tokens for each request of the few
	sketchSize   = 512
	leastToJudge = 200 // requests of a fingerprint
)

// heavy knows who makes most requests. The caller locks.
type heavy struct {
	prefixes *sketch[netip.Prefix]
	ja4      *sketch[string]
	known    *sketch[string] // fingerprints of clients who are known
	turned   time.Time       // when a request was last turned away
	told     penalties       // by other gateways
	found    penalties       // here, for them; nil while nothing is shared
}

func newHeavy() heavy {
	return heavy{newSketch[netip.Prefix](sketchSize), newSketch[string](sketchSize), newSketch[string](sketchSize), time.Time{}, nil, nil}
}

func (h *heavy) add(a netip.Addr, ja4 string) {
	for _, lv := range levels(a) {
		h.prefixes.add(lv.prefix)
	}
	if ja4 != "" {
		h.ja4.add(ja4)
	}
}

// is reports whether there is a flood and the client is of the few who make
// it: it asks for much of what it may, which is rate, and that is a large part
// of all, here or at another gateway.
func (h *heavy) is(a netip.Addr, ja4 string, rate float64) bool {
	now := time.Now()
	if len(h.told) > 0 && h.penalised(a, ja4, now) {
		return true
	}
	who, ok := h.find(a, ja4, rate, now)
	if ok && h.found != nil && len(h.found) < mostPenalties {
		h.found[who] = now.Add(floodTime)
	}
	return ok
}

// penalised reports whether another gateway has found the client to be heavy. A
// fingerprint that known clients have here is not held against anyone.
func (h *heavy) penalised(a netip.Addr, ja4 string, now time.Time) bool {
	return ja4 != "" && h.told.has(Penalty{JA4: ja4}, now) && h.known.least(ja4) <= knownJA4*h.ja4.least(ja4) ||
		slices.ContainsFunc(levels(a), func(lv level) bool { return h.told.has(Penalty{Prefix: lv.prefix}, now) })
}

// find is is for what this gateway has seen, and names who it is.
func (h *heavy) find(a netip.Addr, ja4 string, rate float64, now time.Time) (who Penalty, ok bool) {
	if now.Sub(h.turned) > floodTime {
		return who, false
	}
	ls := levels(a)
	all := h.prefixes.sum / float64(len(ls)) // each request is there once for each level
	for _, lv := range ls {
		n := h.prefixes.least(lv.prefix)
		if n >= heavyPrefix*min(lv.times, 4)*all && n >= heavyUse*rate*lv.times*halfLife.Seconds() {
			return Penalty{Prefix: lv.prefix}, true
		}
	}
	n := h.ja4.least(ja4)
	return Penalty{JA4: ja4}, n >= leastToJudge && n >= heavyJA4*all && h.known.least(ja4) < knownJA4*n
}

// Heavy reports whether a request's client is one of the few who make a flood
// that is going on, by its addresses or by what it is built with.
func (l *Limiter) Heavy(r *http.Request) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heavy.is(ClientAddr(r), Fingerprint(r), l.limits.Rate)
}

// Known says that the client of a request is known: it is signed in, or bears
// a pass. A fingerprint that known clients have is not held against strangers.
func (l *Limiter) Known(r *http.Request) {
	if ja4 := Fingerprint(r); ja4 != "" {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.heavy.known.add(ja4)
	}
}

// Fingerprint is the JA4 of a request's client; "" if its connection is not
// one of TLS that a Limiter's listener accepted.
func Fingerprint(r *http.Request) string {
	c := connOf(r.Context())
	if c == nil {
		return ""
	}
	if p := c.ja4.Load(); p != nil {
		return *p
	}
	return ""
}
