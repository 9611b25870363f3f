package flood

import (
	"net"
	"net/netip"
	"sync"
)

// unproven is how many connections a client may hold over datagrams before it
// must show that its address is its own. Whoever forges addresses can take no
// more than these places of somebody else's.
const unproven = 8

// Doubtful reports whether a client that wants a connection over datagrams
// (QUIC) must first prove its address with a Retry (RFC 9000, section 8.1.2):
// when it holds some already, or when a quarter of all places is taken.
func (l *Limiter) Doubtful(addr net.Addr) bool {
	client := Client(datagramAddr(addr))
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conns[client] >= unproven || len(l.all) >= l.limits.Conns/4
}

// Enter takes a place for a connection that no Listener accepts, in the same
// counts and within the same limits. leave gives it back; it may be called more
// than once. A refusal is reported as those of Listener are.
func (l *Limiter) Enter(addr net.Addr) (leave func(), ok bool) {
	c := &conn{limiter: l, addr: datagramAddr(addr)}
	what, ok := l.enter(c)
	if ok {
		return sync.OnceFunc(func() { l.leave(c) }), true
	}
	if _, begin := l.note(Client(c.addr), what); begin != nil {
		go l.report(*begin)
	}
	return nil, false
}

func datagramAddr(addr net.Addr) netip.Addr {
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// Note counts something that a client did and that is to be reported as
// refusals are: first is true once in a while, for what the caller then reports
// itself under id; what follows comes as a Report. The zero Prefix is for what
// no client is to blame for.
func (l *Limiter) Note(client netip.Prefix, what string) (id string, first bool) {
	id, begin := l.note(client, what)
	return id, begin != nil
}
