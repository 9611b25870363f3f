package gateway

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/pires/go-proxyproto"

	"pasban/internal/config"
)

// behind is a gateway with TLS that trusts 10.0.0.0/8 and one IPv6 proxy.
func behind(where string) func(*config.Config) {
	return func(c *config.Config) {
		withTLS(c)
		c.Proxies, c.ClientAddress = []string{"10.0.0.0/8", "2001:db8::1"}, where
	}
}

// TestTrustedProxies: proxies that are trusted say who the visitor is, and no
// visitor can.
func TestTrustedProxies(t *testing.T) {
	got := make(chan http.Header, 1)
	upstream := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) { got <- r.Header })
	for _, c := range []struct{ where, peer, header, want, proto string }{
		{"", "10.0.0.5:1", "198.51.100.9", "198.51.100.9", "https"},
		{"", "10.0.0.5:1", "198.51.100.1, 198.51.100.9, 10.1.1.1", "198.51.100.9", "https"}, // past a second proxy
		{"", "10.0.0.5:1", "1.1.1.1,  198.51.100.9:4711 ,[2001:db8::1]:5", "198.51.100.9", "https"},
		{"", "[::ffff:10.0.0.5]:1", "::ffff:198.51.100.9", "198.51.100.9", "https"},
		{"", "[2001:db8::1]:1", "2001:db8::2", "2001:db8::2", "https"},
		{"", "10.0.0.5:1", "10.0.0.7", "10.0.0.7", "https"},                    // nobody but proxies: the farthest
		{"", "10.0.0.5:1", "198.51.100.1, unknown", "10.0.0.5", "https"},       // what stands before cannot be told
		{"", "10.0.0.5:1", "198.51.100.1, <x>, 10.0.0.7", "10.0.0.7", "https"}, // as far as a trusted one says
		{"", "203.0.113.7:1", "198.51.100.9", "203.0.113.7", "https"},          // a visitor's claim
		{"", "192.168.0.1:1", "198.51.100.9", "192.168.0.1", "https"},          // private, but not listed
		{"", "10.0.0.5:1", "", "10.0.0.5", "https"},                            // the proxy itself
		{inForwarded, "10.0.0.5:1", "for=198.51.100.9;proto=http", "198.51.100.9", "http"},
		{inForwarded, "10.0.0.5:1", `For="[2001:db8::9]:80";by=_x, for=10.3.3.3;host="a,b"`, "2001:db8::9", "https"},
		{inForwarded, "10.0.0.5:1", "for=1.1.1.1, for=198.51.100.9", "198.51.100.9", "https"},
		{inForwarded, "10.0.0.5:1", `for=1.1.1.1, for=_hidden`, "10.0.0.5", "https"},
		{inForwarded, "10.0.0.5:1", `for=1.1.1.1;for=2.2.2.2`, "10.0.0.5", "https"},            // twice
		{inForwarded, "10.0.0.5:1", `for="1.1.1.1, for=198.51.100.9`, "198.51.100.9", "https"}, // a quote that does not end
		{inForwarded, "203.0.113.7:1", "for=198.51.100.9", "203.0.113.7", "https"},
	} {
		g, _ := newGateway(t, behind(c.where), siteOf(upstream, config.Route{Match: "/", SignIn: "none"}))
		r := httptest.NewRequest("GET", "https://example.com/", nil)
		r.RemoteAddr = c.peer
		// The header that is not configured is what an attacker sends through a
		// proxy that does not know it.
		r.Header.Set("Forwarded", "for=6.6.6.6")
		r.Header.Set("X-Forwarded-For", "6.6.6.6")
		name := "X-Forwarded-For"
		if c.where == inForwarded {
			name = "Forwarded"
		}
		r.Header.Del(name)
		if c.header != "" {
			r.Header.Set(name, c.header)
		}
		r.Header.Set("X-Real-Ip", "6.6.6.6")
		g.Handler().ServeHTTP(httptest.NewRecorder(), r)
		if h := <-got; h.Get("X-Forwarded-For") != c.want || h.Get("X-Forwarded-Proto") != c.proto || h.Get("Forwarded")+h.Get("X-Real-Ip") != "" {
			t.Errorf("%+v: the service is told %q, %q, %q", c, h.Get("X-Forwarded-For"), h.Get("X-Forwarded-Proto"), h.Get("Forwarded"))
		}
	}
}

// TestProxyProtocol sends PROXY headers of both versions before TLS, over
// connections that are trusted and that are not.
func TestProxyProtocol(t *testing.T) {
	upstream := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Header.Get("X-Forwarded-For")) })
	for _, trusted := range []bool{true, false} {
		g, _ := newGateway(t, func(c *config.Config) {
			withTLS(c)
			c.Proxies, c.ClientAddress = []string{"203.0.113.1"}, inProxyProtocol
			if trusted {
				c.Proxies = []string{"127.0.0.1"}
			}
		}, siteOf(upstream, config.Route{Match: "/", SignIn: "none"}))
		addr := serve(t, g)
		for version, want := range map[byte]string{0: "127.0.0.1", 1: "198.51.100.9", 2: "198.51.100.9"} {
			got, err := throughProxy(t, g, addr, version)
			if ok := trusted == (version != 0); ok != (err == nil) || ok && got != want {
				t.Errorf("trusted %t, version %d: %q, %v", trusted, version, got, err)
			}
		}
	}
}

// throughProxy asks over a connection that begins with a PROXY header, or
// without if version is 0.
func throughProxy(t *testing.T, g *Gateway, addr string, version byte) (string, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	writeProxyHeader(t, conn, version)
	secure := tls.Client(conn, trusting(t, g))
	if _, err := io.WriteString(secure, "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: close\r\n\r\n"); err != nil {
		return "", err
	}
	res, err := http.ReadResponse(bufio.NewReader(secure), nil)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}

// writeProxyHeader begins a connection with a PROXY header, or with none if
// version is 0.
func writeProxyHeader(t *testing.T, conn net.Conn, version byte) {
	t.Helper()
	if version > 0 {
		h := proxyproto.HeaderProxyFromAddrs(version, net.TCPAddrFromAddrPort(netip.MustParseAddrPort("198.51.100.9:1")),
			net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:443")))
		if _, err := h.WriteTo(conn); err != nil {
			t.Fatal(err)
		}
	}
}

// TestProxyProtocolWithoutTLS: the listener that sends visitors to https takes what
// balancers send as the other one does.
func TestProxyProtocolWithoutTLS(t *testing.T) {
	g, _ := newGateway(t, func(c *config.Config) {
		withTLS(c)
		c.Proxies, c.ClientAddress = []string{"127.0.0.1"}, inProxyProtocol
	})
	ln := listen(t)
	f := g.plainFront(ln)
	done := make(chan error, 1)
	go func() { done <- f.serve() }()
	defer func() {
		f.abort()
		<-done
	}()
	for version, want := range map[byte]int{0: 0, 1: http.StatusPermanentRedirect, 2: http.StatusPermanentRedirect} {
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		writeProxyHeader(t, conn, version)
		io.WriteString(conn, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if got := err == nil; got != (want != 0) || got && res.StatusCode != want {
			t.Errorf("version %d: %v, %v", version, res, err)
		}
		conn.Close()
	}
}

// FuzzForwarded: whatever a visitor writes before what the trusted proxy adds,
// the visitor's address is what the proxy says.
func FuzzForwarded(f *testing.F) {
	for _, s := range []string{"", "1.1.1.1", "for=1.1.1.1", `for="[::1]:1`, `for=a;for=b,"`, "unknown, 10.0.0.1", `"\`, ";=,", "[", "for=\"10.0.0.1\\"} {
		f.Add(s)
	}
	st := &state{config: &config.Config{}, proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	client := netip.MustParseAddr("198.51.100.9")
	f.Fuzz(func(t *testing.T, claim string) {
		if got := st.forwardedFor(claim + ", 198.51.100.9, 10.0.0.1"); got != client {
			t.Errorf("X-Forwarded-For: %q makes %v", claim, got)
		}
		if got, _ := st.forwarded(claim + ", for=198.51.100.9, for=10.0.0.1"); got != client {
			t.Errorf("Forwarded: %q makes %v", claim, got)
		}
		st.forwarded(claim)
		if a := st.forwardedFor(claim); a.Is4In6() || a.Zone() != "" {
			t.Errorf("%q makes %v", claim, a)
		}
	})
}
