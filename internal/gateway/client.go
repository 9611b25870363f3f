package gateway

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"pasban"
	"pasban/internal/page"
)

type balancerKey struct{}

// behindBalancer takes the visitor's address from the balancer that TLS mode
// off is for: the last element of X-Forwarded-For, which the balancer itself
// has added, if the connection comes from a private or loopback address. From
// elsewhere the header says nothing.
func behindBalancer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil || !peer.Addr().Unmap().IsPrivate() && !peer.Addr().Unmap().IsLoopback() {
			next.ServeHTTP(w, r)
			return
		}
		lines := r.Header.Values("X-Forwarded-For")
		if len(lines) == 0 {
			next.ServeHTTP(w, r)
			return
		}
		last := lines[len(lines)-1]
		client, err := netip.ParseAddr(strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:]))
		if err != nil {
			next.ServeHTTP(w, r)
			return
		}
		proto := r.Header.Get("X-Forwarded-Proto")
		if proto != "http" {
			proto = "https"
		}
		r = r.WithContext(context.WithValue(r.Context(), balancerKey{}, proto))
		r.RemoteAddr = net.JoinHostPort(client.Unmap().WithZone("").String(), "0")
		next.ServeHTTP(w, r)
	})
}

// balancerProto is the scheme that the visitor spoke to the balancer, "" if
// there is none.
func balancerProto(r *http.Request) string {
	proto, _ := r.Context().Value(balancerKey{}).(string)
	return proto
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
