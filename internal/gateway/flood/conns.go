package flood

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// What one connection may do in vain before it is closed.
const (
	strikeRate  = 10.0 // refused or abandoned requests a second
	strikeBurst = 100.0
	// Bytes that led to no request: HTTP/2's control frames. The burst is more
	// than a body that nobody reads (the connection's flow-control window).
	idleRate       = 16 << 10 // a second
	idleBurst      = 2 << 20
	requestCredit  = 16 << 10 // for the header of each request
	downloadCredit = 16       // a reader may send one byte (WINDOW_UPDATE) for so many that it gets
	abuseDebt      = 10 * time.Second
	wastePerDial   = 4 << 10 // such bytes cost as much as a new connection
	// Who connects too often is left waiting: one that comes back as soon as it
	// is refused would cost a fifth of a core.
	holdTime = time.Second
	maxHeld  = 512
)

// Listener accepts connections while they are within the limits, and closes
// the others at once. Connections that are open and not read are reset, until
// the listener is closed.
func (l *Limiter) Listener(ln net.Listener) net.Listener {
	done := make(chan struct{})
	out := &listener{Listener: ln, limiter: l, stop: sync.OnceFunc(func() { close(done) })}
	go out.sweep(done)
	return out
}

type listener struct {
	net.Listener
	limiter *Limiter
	stop    func()
	held    atomic.Int64 // refused connections that are not closed yet
}

func (ln *listener) Close() error {
	ln.stop()
	return ln.Listener.Close()
}

// Accept returns the next connection that is within the limits.
func (ln *listener) Accept() (net.Conn, error) {
	for {
		inner, err := ln.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &conn{Conn: inner, limiter: ln.limiter, from: ln, addr: addrOf(inner), since: time.Now()}
		c.leave = sync.OnceFunc(func() { ln.limiter.leave(c) })
		c.idle.Store(idleBurst)
		what, ok := ln.limiter.enter(c)
		if ok {
			return c, nil
		}
		ln.refuse(inner, what)
		if _, begin := ln.limiter.note(Client(c.addr), what); begin != nil {
			go ln.limiter.report(*begin) // others wait to be accepted
		}
	}
}

// refuse closes a connection, after a while if its client connects too often.
func (ln *listener) refuse(c net.Conn, what string) {
	if what != "handshakes" || ln.held.Load() >= maxHeld {
		c.Close()
		return
	}
	ln.held.Add(1)
	time.AfterFunc(holdTime, func() {
		c.Close()
		ln.held.Add(-1)
	})
}

// conn is an open connection and what it has done in vain. It gives its place
// back when it is closed.
type conn struct {
	net.Conn // nil: a place that Enter has taken
	limiter  *Limiter
	from     *listener // nil: QUIC, which has its own buffers
	addr     netip.Addr
	since    time.Time
	leave    func()
	closed   atomic.Bool // for abuse

	h2      atomic.Bool // HTTP/2 was agreed on
	ja4     atomic.Pointer[string]
	written atomic.Int64
	idle    atomic.Int64 // bytes that it may still send without asking for anything

	mu      sync.Mutex // covers strikes
	strikes bucket

	sent  int64     // the sweep's: bytes that had arrived when they last moved on
	moved time.Time // the sweep's: when that was; zero if nothing is on its way
}

func (c *conn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// CloseWrite tells the client that no more comes; net/http does so before it
// closes a connection that the client still writes to.
func (c *conn) CloseWrite() error {
	if t, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return t.CloseWrite()
	}
	return nil
}

// Read counts what an HTTP/2 client sends against what it asks for.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && c.h2.Load() && c.idle.Add(-int64(n)) < 0 && !c.refill() {
		c.abuse("frames")
	}
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.discard()
	}
	if c.h2.Load() {
		c.credit(n / downloadCredit)
	}
	return n, err
}

// credit lets the connection send n bytes more.
func (c *conn) credit(n int) {
	if c.idle.Add(int64(n)) > idleBurst {
		c.idle.Store(idleBurst)
	}
}

// refill gives what time has brought since the last refill; it reports whether
// that is enough. Only Read calls it: since has one owner.
func (c *conn) refill() bool {
	now := time.Now()
	c.credit(int(min(now.Sub(c.since).Seconds()*idleRate, idleBurst)))
	c.since = now
	return c.idle.Load() >= 0
}

// strike counts something in vain; too much of it in a short time closes the
// connection.
func (c *conn) strike(what string) {
	c.mu.Lock()
	now := time.Now()
	if c.strikes.at.IsZero() {
		c.strikes = bucket{tokens: strikeBurst, at: now}
	}
	c.strikes.fill(share{strikeRate, strikeBurst}, now)
	c.strikes.tokens--
	enough := c.strikes.tokens < 0
	c.mu.Unlock()
	if enough {
		c.abuse(what)
	}
}

// abuse resets the connection. Its client has used up the new connections of
// the next ten seconds.
func (c *conn) abuse(what string) {
	if c.closed.Swap(true) {
		return
	}
	c.discard()
	c.Close()
	l := c.limiter
	l.mu.Lock()
	if !l.limits.balancer(c.addr) {
		s := l.limits.dials()
		l.dials.charge(c.addr, "", s, s.burst+s.rate*abuseDebt.Seconds())
	}
	l.mu.Unlock()
	if what != "requests" { // those are reported where they are refused
		l.refuse(Client(c.addr), what)
	}
}

// discard has the kernel throw away what was not read when the connection is
// closed. It would keep megabytes for minutes otherwise.
func (c *conn) discard() {
	if t, ok := c.Conn.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
}

func addrOf(c net.Conn) netip.Addr {
	addr, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return addr.AddrPort().Addr().Unmap().WithZone("")
}

type connKey struct{}

// ConnContext is for http.Server's field of that name: requests know their
// connection.
func ConnContext(ctx context.Context, nc net.Conn) context.Context {
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	if c, ok := nc.(*conn); ok {
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

func connOf(ctx context.Context) *conn {
	c, _ := ctx.Value(connKey{}).(*conn)
	return c
}

// enter counts a connection in, or says what there is too much of.
func (l *Limiter) enter(c *conn) (what string, ok bool) {
	v := l.lists.Load().of(c.addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all) >= l.limits.Conns {
		return "connections", false
	}
	if !l.limits.balancer(c.addr) && !v.allowed {
		if v.blocked != "" && l.shut(Client(c.addr), v.blocked) {
			return ListPrefix + v.blocked, false
		}
		if _, ok := l.dials.take(c.addr, "", l.limits.dials(), 1); !ok {
			return "handshakes", false
		}
		for _, lv := range levels(c.addr) {
			if l.conns[lv.prefix] >= l.share(lv) {
				return "connections", false
			}
		}
	}
	l.all[c] = struct{}{}
	for _, lv := range levels(c.addr) {
		l.conns[lv.prefix]++
	}
	return "", true
}

// share is how many connections a block may have: a larger one never more than
// half of all.
func (l *Limiter) share(lv level) int {
	n := int(float64(l.limits.ConnsPerClient) * lv.times)
	if lv.times > 1 {
		n = min(n, max(l.limits.Conns/2, l.limits.ConnsPerClient))
	}
	return n
}

// Connections is how many connections are open.
func (l *Limiter) Connections() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.all)
}

func (l *Limiter) leave(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, c)
	for _, lv := range levels(c.addr) {
		if l.conns[lv.prefix]--; l.conns[lv.prefix] <= 0 {
			delete(l.conns, lv.prefix)
		}
	}
	// The server's own limits may have closed it before ours: what was sent in
	// vain is paid for all the same.
	if n := (idleBurst - c.idle.Load()) / wastePerDial; n > 0 && c.h2.Load() && !l.limits.balancer(c.addr) {
		l.dials.charge(c.addr, "", l.limits.dials(), float64(n))
	}
}
