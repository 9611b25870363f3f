package flood

import (
	"net"
	"net/netip"
	"sync"
)

// Listener accepts connections while they are within the limits, and closes
// the others at once.
func (l *Limiter) Listener(ln net.Listener) net.Listener {
	return &listener{Listener: ln, limiter: l}
}

type listener struct {
	net.Listener
	limiter *Limiter
}

// Accept returns the next connection that is within the limits.
func (ln *listener) Accept() (net.Conn, error) {
	for {
		c, err := ln.Listener.Accept()
		if err != nil {
			return nil, err
		}
		client := clientOf(c)
		if !ln.limiter.enter(client) {
			c.Close()
			if _, begin := ln.limiter.note(client, "connections"); begin != nil {
				go ln.limiter.report(*begin) // others wait to be accepted
			}
			continue
		}
		return &conn{Conn: c, leave: sync.OnceFunc(func() { ln.limiter.leave(client) })}, nil
	}
}

// conn gives its place back when it is closed.
type conn struct {
	net.Conn
	leave func()
}

func (c *conn) Close() error {
	c.leave()
	return c.Conn.Close()
}

func clientOf(c net.Conn) netip.Prefix {
	addr, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Prefix{}
	}
	return Client(addr.Addr())
}

func (l *Limiter) enter(client netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= l.limits.Conns || l.conns[client] >= l.limits.ConnsPerClient {
		return false
	}
	l.open++
	l.conns[client]++
	return true
}

// Connections is how many connections are open.
func (l *Limiter) Connections() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

func (l *Limiter) leave(client netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.conns[client]--; l.conns[client] <= 0 {
		delete(l.conns, client)
	}
}
