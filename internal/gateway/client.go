package gateway

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/pires/go-proxyproto"

	"pasban"
	"pasban/internal/page"
)

// Where trusted proxies write the visitor's address, as the config names it.
const (
	inForwarded     = "forwarded"
	inProxyProtocol = "proxy-protocol"
)

type viaKey struct{}

// via says that a request came through a proxy that is trusted.
type via struct {
	proto string // the scheme that the visitor spoke to it; "" if the proxy does not say
}

// clients takes the visitor's address from the proxies that the configuration
// trusts. From elsewhere the headers say nothing.
func (g *Gateway) clients(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		st := g.state.Load()
		if len(st.proxies) > 0 || st.certificate == nil {
			r = st.client(r)
		}
		next.ServeHTTP(w, r)
	})
}

// client returns the request as it came from the visitor.
func (st *state) client(r *http.Request) *http.Request {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !st.trusts(peer.Addr()) || st.config.ClientAddress == inProxyProtocol {
		return r
	}
	var found netip.Addr
	proto := r.Header.Get("X-Forwarded-Proto")
	if st.config.ClientAddress == inForwarded {
		found, proto = st.forwarded(strings.Join(r.Header.Values("Forwarded"), ","))
	} else {
		found = st.forwardedFor(strings.Join(r.Header.Values("X-Forwarded-For"), ","))
	}
	if !found.IsValid() && len(st.proxies) == 0 {
		return r
	}
	if proto != "http" {
		proto = "https"
	}
	r = r.WithContext(context.WithValue(r.Context(), viaKey{}, via{proto: proto}))
	if found.IsValid() {
		r.RemoteAddr = net.JoinHostPort(found.String(), "0")
	}
	return r
}

// trusts reports whether a proxy at the address is believed. Without a list it
// is the balancer that tls.mode off is for: any private neighbour.
func (st *state) trusts(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if len(st.proxies) == 0 {
		return st.certificate == nil && (a.IsPrivate() || a.IsLoopback())
	}
	return slices.ContainsFunc(st.proxies, func(p netip.Prefix) bool { return p.Contains(a) })
}

// forwardedFor reads X-Forwarded-For from its end, where the nearest proxy has
// written: past proxies that are trusted, to the first address that is not one.
// What stands before that is the visitor's own claim. If an element is no
// address, the trusted proxy that wrote it is as far as can be told; the zero
// Addr if that is the peer.
func (st *state) forwardedFor(list string) (client netip.Addr) {
	for {
		i := strings.LastIndexByte(list, ',')
		a, ok := hop(strings.TrimSpace(list[i+1:]))
		if !ok {
			return client
		}
		client = a
		if i < 0 || len(st.proxies) == 0 || !st.trusts(a) {
			return client
		}
		list = list[:i]
	}
}

// forwarded reads Forwarded (RFC 7239) likewise. proto is what the same
// element says of the scheme.
func (st *state) forwarded(list string) (client netip.Addr, proto string) {
	for more, element := true, ""; more; {
		list, element, more = lastElement(list)
		a, p, ok := forwardedElement(element)
		if !ok {
			return client, proto
		}
		client, proto = a, p
		if len(st.proxies) == 0 || !st.trusts(a) || len(list) == 0 {
			break
		}
	}
	return client, proto
}

// lastElement cuts the last element off a list in which commas may be quoted.
// It reads backwards, so that a quote that a visitor left open does not hide
// what a proxy has added.
func lastElement(list string) (rest, last string, more bool) {
	quoted := false
	for i := len(list) - 1; i >= 0; i-- {
		switch {
		case list[i] == '"' && (i == 0 || list[i-1] != '\\'):
			quoted = !quoted
		case list[i] == ',' && !quoted:
			return list[:i], list[i+1:], true
		}
	}
	return "", list, false
}

// forwardedElement reads what one proxy says: for and proto, each at most once.
func forwardedElement(element string) (client netip.Addr, proto string, ok bool) {
	pairs, ok := splitQuoted(element, ';')
	if !ok {
		return client, "", false
	}
	seen := map[string]bool{}
	for _, pair := range pairs {
		name, value, found := strings.Cut(strings.TrimSpace(pair), "=")
		if name = strings.ToLower(name); !found || seen[name] {
			return netip.Addr{}, "", false
		}
		seen[name] = true
		if inner, quoted := strings.CutPrefix(value, `"`); quoted {
			value = strings.ReplaceAll(strings.TrimSuffix(inner, `"`), `\`, "")
		}
		switch name {
		case "for":
			if client, found = hop(value); !found {
				return netip.Addr{}, "", false
			}
		case "proto":
			proto = strings.ToLower(value)
		}
	}
	return client, proto, client.IsValid()
}

// splitQuoted splits at a separator outside quoted strings; ok is false if a
// quote does not end.
func splitQuoted(s string, sep byte) (parts []string, ok bool) {
	from, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == sep && !quoted:
			parts = append(parts, s[from:i])
			from = i + 1
		}
	}
	return append(parts, s[from:]), !quoted
}

// hop reads the address of one hop, with or without a port, IPv6 with or
// without brackets. "unknown" and the names that RFC 7239 lets proxies make up
// are none.
func hop(text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
	if err != nil {
		p, err := netip.ParseAddrPort(text)
		if err != nil {
			return netip.Addr{}, false
		}
		a = p.Addr()
	}
	return a.Unmap().WithZone(""), true
}

// viaProto is the scheme that the visitor spoke to a trusted proxy, "" if
// there is none.
func viaProto(r *http.Request) string {
	v, _ := r.Context().Value(viaKey{}).(via)
	return v.proto
}

// viaProxy reports whether the request came through a trusted proxy.
func viaProxy(r *http.Request) bool {
	_, ok := r.Context().Value(viaKey{}).(via)
	return ok
}

// proxyProtocol has the connections of trusted proxies begin with a PROXY
// header of version 1 or 2, which says who the visitor is; one that does not is
// closed. Other connections are visitors' own. It stands between the limits of
// connections, which are the peers', and TLS.
func (g *Gateway) proxyProtocol(ln net.Listener) net.Listener {
	if g.state.Load().config.ClientAddress != inProxyProtocol {
		return ln
	}
	return &proxyproto.Listener{Listener: ln, ReadHeaderTimeout: headerTime,
		ConnPolicy: func(o proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
			peer, err := netip.ParseAddrPort(o.Upstream.String())
			if st := g.state.Load(); err == nil && len(st.proxies) > 0 && st.trusts(peer.Addr()) {
				return proxyproto.REQUIRE, nil
			}
			return proxyproto.SKIP, nil
		}}
}

// ownConn is a connection as the limiter knows it, if there is one visitor at
// its end. On a trusted proxy's come the requests of many: nil, because what one
// of them does in vain must not end it, and what it is built with is the proxy's.
func (g *Gateway) ownConn(c net.Conn) net.Conn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if p, ok := c.(*proxyproto.Conn); ok { // the proxy opens one for each of its visitors'
		return p.Raw()
	}
	st := g.state.Load()
	if peer, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil && st.config.ClientAddress != inProxyProtocol && st.trusts(peer.Addr()) {
		return nil
	}
	return c
}

// hello shows the limiter how a TLS connection begins.
func (g *Gateway) hello(h *tls.ClientHelloInfo) (*tls.Config, error) {
	own := *h
	own.Conn = g.ownConn(h.Conn)
	return g.limiter.Hello(&own)
}

// actorOf is who is signed in, for a fact about a request that ends before its
// session is looked at; nobody if that cannot be told.
func (g *Gateway) actorOf(r *http.Request) (who pasban.Actor) {
	if _, err := r.Cookie(page.SessionCookie); err != nil {
		return pasban.Actor{}
	}
	find := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if v, ok := g.o.Visitor(r.Context()); ok {
			who = v.Actor
		}
	})
	g.o.Sessions.Middleware(find).ServeHTTP(nowhere{}, r)
	return who
}

// nowhere is a response that nobody reads.
type nowhere struct{}

func (nowhere) Header() http.Header         { return http.Header{} }
func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) WriteHeader(int)             {}
