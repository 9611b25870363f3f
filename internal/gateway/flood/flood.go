// Package flood keeps one client, or many, from using up what all share:
// requests in a second, connections, and the time that a connection may take.
//
// A [Limiter] holds token buckets for each client (an IPv4 address or an IPv6
// /64, the smallest block that one subscriber is given) and for the larger
// blocks that clients are in, and counts connections. [Limiter.Listener] bounds
// connections where they are accepted and closes those that are not read,
// [Limiter.Streams] those that abuse HTTP/2, [Limiter.Handler] bounds requests
// by the work that they make, [Pace] cuts off those who send or read too slowly.
//
// # Guarantees
//
// Memory is bounded: at most Limits.Clients buckets are kept, those not seen
// for longest go first. A flood does not become a flood of reports: a client
// causes one when it starts and then at most one in Window, with the count of
// what was refused; when too many clients do so at once, one report speaks for
// the rest. Every refusal carries the id of the report it belongs to.
//
// # What this package must never do
//
// It does not look at what a request asks for, and it does not block the
// innocent for long: a bucket that is left alone fills again.
package flood

import (
	"cmp"
	"maps"
	"math"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"pasban"
)

// Window is how long refusals of one client are gathered before they are
// reported again.
const Window = 10 * time.Second

// maxReports is how many clients are reported singly in one window.
const maxReports = 100

// Limits says how much is too much. The zero value of a field means its default.
type Limits struct {
	Rate           float64 // requests in a second of one client; default 50
	Burst          int     // requests that a client may make at once; default 200
	Clients        int     // clients remembered; default 65,536
	Conns          int     // connections in all; default 4,096
	ConnsPerClient int     // connections of one client; default 128
	DialRate       float64 // new connections in a second of one client; default 50
	DialBurst      int     // new connections that a client may make at once; default 200
	// Balancer reports whether connections from an address are a balancer's, and
	// many people's: only Conns bounds them. Nil: none are.
	Balancer func(netip.Addr) bool
}

func (l Limits) withDefaults() Limits {
	l.Rate = cmp.Or(l.Rate, 50)
	l.Burst = cmp.Or(l.Burst, 200)
	l.Clients = cmp.Or(l.Clients, 65536)
	l.Conns = cmp.Or(l.Conns, 4096)
	l.ConnsPerClient = cmp.Or(l.ConnsPerClient, 128)
	l.DialRate = cmp.Or(l.DialRate, 50)
	l.DialBurst = cmp.Or(l.DialBurst, 200)
	return l
}

func (l Limits) balancer(a netip.Addr) bool { return l.Balancer != nil && l.Balancer(a) }

func (l Limits) requests() share { return share{l.Rate, float64(l.Burst)} }
func (l Limits) dials() share    { return share{l.DialRate, float64(l.DialBurst)} }

// Report tells of refusals. The first of a client's window has Count 1 and is
// made at once; the next follow at the end of each window that had more.
type Report struct {
	ID     string       // incident id, as the refused were told it, if First
	First  bool         // the flood begins; otherwise it went on in the last window
	Client netip.Prefix // who; the zero Prefix stands for many clients together
	What   string       // with what, such as "requests" or "connections"
	Count  int          // how many were refused
}

// Limiter bounds clients. It is safe for concurrent use.
type Limiter struct {
	report func(Report)
	lists  atomic.Pointer[Lists]

	mu      sync.Mutex // covers everything below
	limits  Limits
	buckets buckets // of requests
	dials   buckets // of new connections
	heavy   heavy
	conns   map[netip.Prefix]int // open connections of each block
	all     map[*conn]struct{}   // open connections
	pressed time.Time            // when the sweep last found too many of them
	windows map[key]*window
	refused map[string]int // by what, since the start
	closed  bool
}

// key names a window: a client and what it floods with.
type key struct {
	client netip.Prefix
	what   string
}

// window gathers the refusals of one client since its last report.
type window struct {
	id    string
	count int
	timer *time.Timer
}

// New makes a limiter. Reports are made without any lock held, on the
// goroutine of the refused request, or on one of its own; report must be safe
// for concurrent use.
func New(l Limits, report func(Report)) *Limiter {
	l = l.withDefaults()
	return &Limiter{report: report, limits: l, buckets: newBuckets(l.Clients), dials: newBuckets(l.Clients), heavy: newHeavy(),
		conns: map[netip.Prefix]int{}, all: map[*conn]struct{}{}, windows: map[key]*window{}, refused: map[string]int{}}
}

// Set changes the limits for everything that comes from now on. Buckets that
// are there keep their tokens.
func (l *Limiter) Set(limits Limits) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limits = limits.withDefaults()
	l.buckets.lru.Resize(max(l.limits.Clients, 1))
	l.dials.lru.Resize(max(l.limits.Clients, 1))
}

// Close stops the timers of open windows, whose refusals are reported now.
func (l *Limiter) Close() {
	l.mu.Lock()
	l.closed = true
	var last []Report
	for k, w := range l.windows {
		w.timer.Stop()
		if w.count > 0 {
			last = append(last, Report{ID: pasban.NewID(), Client: k.client, What: k.what, Count: w.count})
		}
	}
	clear(l.windows)
	l.mu.Unlock()
	for _, r := range last {
		l.report(r)
	}
}

// Client is the block of addresses that counts as one client: an IPv4
// address, or an IPv6 /64. The zero Addr, a client whose address is not
// known, gives the zero Prefix.
func Client(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// Allow takes a token from the buckets of the client and of the blocks that it
// is in. If there is none, wait is how long until there will be.
// Clients who make a flood while there is one pay more tokens.
func (l *Limiter) Allow(client netip.Addr, ja4 string) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heavy.add(client, ja4)
	n := 1.0
	if l.heavy.is(client, ja4, l.limits.Rate) {
		n = heavyTakes
	}
	return l.buckets.take(client, "", l.limits.requests(), n)
}

// AllowKnown is Allow for a client who is known: what its neighbours use up is
// not held against it.
func (l *Limiter) AllowKnown(client netip.Addr) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buckets.takeOf(levels(client)[:1], "", l.limits.requests(), 1)
}

// Bucket holds the requests of one client for one thing, such as a route, to a
// rate of its own. key must be one of few.
func (l *Limiter) Bucket(client netip.Addr, key string, rate float64, burst int) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lists.Load().of(client).allowed {
		return 0, true
	}
	return l.buckets.take(client, key, share{rate, float64(burst)}, 1)
}

// Session takes a token from the bucket of a session that holds, wherever its
// requests come from: it has the rate of a client. id is a hash of its token.
func (l *Limiter) Session(id string) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key, s := bucketKey{what: "session " + id}, l.limits.requests()
	b := l.buckets.get(key, s, time.Now())
	l.buckets.hot.asked(key, b, s, 1)
	if b.tokens < 1 {
		return time.Duration((1 - b.tokens) / s.rate * float64(time.Second)), false
	}
	b.spend(1)
	return 0, true
}

// Met reports whether a session has lately been given to Session.
func (l *Limiter) Met(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buckets.lru.Contains(bucketKey{what: "session " + id})
}

// Refuse counts a request that was refused for a client by Bucket or Session,
// and returns what to tell it.
func (l *Limiter) Refuse(client netip.Addr, what string, wait time.Duration) Refusal {
	return Refusal{ID: l.refuse(Client(client), what), RetryAfter: retryAfter(wait)}
}

// Refusal is what the page for a refused request says.
type Refusal struct {
	ID         string        // incident id
	RetryAfter time.Duration // when to try again, in whole seconds, at least one; 0 if Listed
	Listed     string        // the list that the client is on; "" if it asks too often
}

// Handler passes on what is within the limits and not on a list, and charges
// the client for the work that it made. For the rest it calls refused, which
// answers. known says whether a request shows that its client is known; it is
// asked when there is not enough for all of a network, and must be cheap. Nil
// knows nobody.
func (l *Limiter) Handler(next http.Handler, known func(*http.Request) bool, refused func(http.ResponseWriter, *http.Request, Refusal)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		addr := ClientAddr(r)
		v := l.lists.Load().of(addr)
		if v.allowed {
			next.ServeHTTP(w, r)
			return
		}
		if v.blocked != "" {
			refused(w, r, Refusal{ID: l.refuse(Client(addr), ListPrefix+v.blocked), Listed: v.blocked})
			return
		}
		wait, ok := l.Allow(addr, Fingerprint(r))
		if !ok && known != nil && known(r) {
			wait, ok = l.AllowKnown(addr)
		}
		if ok {
			l.work(next, w, r, addr)
			return
		}
		if c := connOf(r.Context()); c != nil {
			c.strike("requests")
		}
		refused(w, r, Refusal{ID: l.refuse(Client(addr), "requests"), RetryAfter: retryAfter(wait)})
	})
}

// ClientAddr is the address that a request comes from; the zero Addr if it is
// not known.
func ClientAddr(r *http.Request) netip.Addr {
	addr, _ := netip.ParseAddrPort(r.RemoteAddr)
	return addr.Addr().Unmap().WithZone("")
}

func retryAfter(wait time.Duration) time.Duration {
	return time.Duration(max(1, math.Ceil(wait.Seconds()))) * time.Second
}

// Shed counts a request for which a service had no room, and returns the
// incident id that it belongs to. All of a service's are one.
func (l *Limiter) Shed(service string) string {
	return l.refuse(netip.Prefix{}, ShedPrefix+service)
}

// ShedPrefix begins a report's What about a service that had no room.
const ShedPrefix = "requests for "

// refuse counts a refused request and returns the incident id that it belongs
// to; the report of a new incident has been made when it returns.
func (l *Limiter) refuse(client netip.Prefix, what string) string {
	id, begin := l.note(client, what)
	if begin != nil {
		l.report(*begin)
	}
	return id
}

// note counts a refusal. The first of a window comes with the report to make.
func (l *Limiter) note(client netip.Prefix, what string) (id string, begin *Report) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !strings.HasPrefix(what, ListPrefix) { // a listed client is no flood
		l.heavy.turned = time.Now()
	}
	reason, _, _ := strings.Cut(what, ": ") // of lists and services there may be many
	if strings.HasPrefix(what, ShedPrefix) {
		reason = "room"
	}
	l.refused[reason]++
	k := key{client, what}
	if _, ok := l.windows[k]; !ok && len(l.windows) >= maxReports {
		k.client = netip.Prefix{}
	}
	if w, ok := l.windows[k]; ok {
		w.count++
		return w.id, nil
	}
	w := &window{id: pasban.NewID()}
	if !l.closed {
		w.timer = time.AfterFunc(Window, func() { l.next(k) })
		l.windows[k] = w
	}
	return w.id, &Report{ID: w.id, First: true, Client: k.client, What: what, Count: 1}
}

// Refused returns how many connections and requests were refused since the
// start, by reason.
func (l *Limiter) Refused() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.refused)
}

// next ends a window: it reports what came since, or lets the client go if
// nothing did.
func (l *Limiter) next(k key) {
	l.mu.Lock()
	w, ok := l.windows[k]
	if !ok {
		l.mu.Unlock()
		return
	}
	count := w.count
	if count == 0 {
		delete(l.windows, k)
		l.mu.Unlock()
		return
	}
	w.count = 0
	w.timer.Reset(Window)
	l.mu.Unlock()
	l.report(Report{ID: pasban.NewID(), Client: k.client, What: k.what, Count: count})
}
