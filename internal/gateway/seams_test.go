package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"pasban/internal/config"
)

// The parts of the gateway were made one by one. The tests of this file send
// what one part alone would get right through all of them.

// mark is in every attack of these tests; a service must never see it.
const mark = "owners--"

// framed is a request with a body, in one piece or in chunks.
func framed(method, media, body string, chunked bool) string {
	head := method + " /open HTTP/1.1\r\nHost: a.example\r\nUser-Agent: synthetic\r\nAccept: */*\r\nContent-Type: " + media + "\r\n"
	if !chunked {
		return fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
	}
	var b strings.Builder
	b.WriteString(head + "Transfer-Encoding: chunked\r\n\r\n")
	for len(body) > 0 {
		n := min(len(body), 7000)
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	return b.String() + "0\r\n\r\n"
}

// ask sends raw bytes from the loopback address of that number and returns the
// answer, with its body, nil if there is none.
func ask(t testing.TB, addr string, client int, raw string) (*http.Response, string) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 2, byte(client>>8), byte(client))}}
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	go io.WriteString(conn, raw)
	method, _, _ := strings.Cut(raw, " ")
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return nil, ""
	}
	body, _ := io.ReadAll(res.Body)
	return res, string(body)
}

// padded are bodies and queries with n harmless values and an attack after them.
func padded(n int) map[string]struct{ target, media, body string } {
	const attack = "1' OR '1'='1' UNION SELECT cnic FROM " + mark
	const escaped = "1%27%20OR%20%271%27=%271%27%20UNION%20SELECT%20cnic%20FROM%20" + mark
	type request = struct{ target, media, body string }
	all := map[string]request{
		"query":          {"/open?" + strings.Repeat("a=1&", n) + "a=" + escaped, "text/plain", "x"},
		"form":           {"/open", "application/x-www-form-urlencoded", strings.Repeat("a=1&", n) + "a=" + escaped},
		"form, odd type": {"/open", "application/x-www-form-urlencoded; a=1; a=2", strings.Repeat("a=1&", n) + "a=" + escaped},
		"form, no type":  {"/open", "application/x-www-form-urlencoded-", strings.Repeat("a=1&", n) + "a=" + escaped},
		"JSON":           {"/open", "application/json", "{" + strings.Repeat(`"a":"1",`, n) + `"a":"` + attack + `"}`},
		"JSON array":     {"/open", "application/json", "[" + strings.Repeat(`1,`, n) + `"` + attack + `"]`},
		"JSON, deep":     {"/open", "application/vnd.x+json", "[" + strings.Repeat(`{"a":[1]},`, n) + `{"a":["` + attack + `"]}]`},
		"multipart": {"/open", "multipart/form-data; boundary=b",
			strings.Repeat("--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n", n) +
				"--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n" + attack + "\r\n--b--\r\n"},
		"XML": {"/open", "text/xml", "<r>" + strings.Repeat("<a>1</a>", n) + "<a>" + attack + "</a></r>"},
	}
	return all
}

// TestBehindManyArguments hides an attack behind more values than Coraza
// keeps, and behind more bytes than it takes: it never reaches the service
// without having been judged, whether the firewall blocks or only watches.
func TestBehindManyArguments(t *testing.T) {
	for _, mode := range []string{"block", "detect"} {
		service := newListener(t)
		site := siteOf("http://"+service.Addr().String(), config.Route{Match: "/", SignIn: "none"})
		site.WAF.Mode = mode
		g, p := newGateway(t, func(c *config.Config) { c.Limits.Header, c.Limits.Body = 64<<10, 256<<10 }, site)
		addr := serve(t, g)
		client := 1
		for _, n := range []int{5, 998, 999, 1000, 1001, 5000} {
			for name, c := range padded(n) {
				for _, chunked := range []bool{false, true} {
					client++
					p.take()
					service.take()
					raw := strings.Replace(framed("POST", c.media, c.body, chunked), "/open", c.target, 1)
					res, _ := ask(t, addr, client, raw)
					if res == nil {
						t.Errorf("%s, %s, %d, chunked %t: no answer", mode, name, n, chunked)
						continue
					}
					_, whole, err := service.take()
					id := res.Header.Get(IncidentHeader)
					judged := ""
					for _, f := range p.take() {
						if f.Body.ID == id || id == "" {
							judged += f.Body.Action + " "
						}
					}
					switch {
					case err != nil:
						t.Error(err)
					case whole == 0 && res.StatusCode >= 400 && res.StatusCode < 500 && judged != "": // refused, and told of
					case whole == 1 && mode == "detect" && judged == "waf ": // let through, and told of
					default:
						t.Errorf("%s, %s, %d, chunked %t: answered %d, the service got %d, facts %q", mode, name, n, chunked, res.StatusCode, whole, judged)
					}
				}
			}
		}
		for _, chunked := range []bool{false, true} { // and behind the largest body
			client++
			form := strings.Repeat("a", 256<<10) + "=1&" + padded(0)["form"].body
			res, _ := ask(t, addr, client, framed("POST", "application/x-www-form-urlencoded", form, chunked))
			if _, whole, _ := service.take(); res == nil || res.StatusCode != http.StatusRequestEntityTooLarge || whole != 0 {
				t.Errorf("%s, large body, chunked %t: %+v, the service got %d", mode, chunked, res, whole)
			}
		}
	}
}

// behindLoopback is a gateway with TLS behind a proxy on 127.0.0.1.
func behindLoopback(where string) func(*config.Config) {
	return func(c *config.Config) {
		withTLS(c)
		c.Proxies, c.ClientAddress = []string{"127.0.0.1"}, where
		c.Limits.Rate = config.Rate{PerSecond: 0.001, Burst: 20}
		c.Limits.ConnectionsPerClient, c.Limits.Handshakes = 4, config.Handshakes{PerSecond: 0.001, Burst: 4}
	}
}

// TestBalancerIsNotStruck has one visitor of a balancer's flood over the
// connection that others share: they are answered on it, the flooder alone is
// refused, and is the one who is told of. Whoever is no proxy speaks for nobody.
func TestBalancerIsNotStruck(t *testing.T) {
	g, p := newGateway(t, behindLoopback(""), siteOf(upstreamOf(t, fixedPage), config.Route{Match: "/", SignIn: "none"}))
	addr := serve(t, g)
	for _, proto := range []string{"http/1.1", "h2"} {
		conns := 0
		p1, client := new(http.Protocols), &http.Client{Timeout: 30 * time.Second}
		p1.SetHTTP1(proto == "http/1.1")
		p1.SetHTTP2(proto == "h2")
		tr := &http.Transport{TLSClientConfig: trusting(t, g), Protocols: p1}
		tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			conns++
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}
		client.Transport = tr
		defer tr.CloseIdleConnections()
		as := func(visitor string) int {
			t.Helper()
			req, _ := http.NewRequestWithContext(t.Context(), "GET", "https://localhost/", nil)
			req.Header.Set("X-Forwarded-For", visitor)
			res, err := client.Do(req)
			if err != nil {
				t.Fatalf("%s: %v", proto, err)
			}
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
			return res.StatusCode
		}
		flooder, other := "198.51.100.1", "203.0.113.1"
		if proto == "h2" {
			flooder, other = "198.51.101.1", "203.0.114.1"
		}
		refused := 0
		for range 300 {
			if as(flooder) == http.StatusTooManyRequests {
				refused++
			}
		}
		if got := as(other); got != http.StatusOK || refused < 270 || conns != 1 {
			t.Errorf("%s: another visitor was answered %d, the flooder refused %d times, %d connections", proto, got, refused, conns)
		}
		facts := p.take()
		if len(facts) != 1 || facts[0].Restricted.IP != flooder {
			t.Errorf("%s: facts %+v", proto, facts)
		}
	}
	var open []net.Conn // more than one client may have
	for range 20 {
		c, err := tls.Dial("tcp", addr, trusting(t, g))
		if err != nil {
			t.Fatalf("connection %d of the balancer: %v", len(open), err)
		}
		defer c.Close()
		open = append(open, c)
	}
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 3, 0, 1)}}
	c, err := tls.DialWithDialer(d, "tcp", addr, trusting(t, g))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	for i := range 21 { // always another claim
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.%d\r\n\r\n", i)
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
		if i == 0 && res.StatusCode != http.StatusOK || i == 20 && res.StatusCode != http.StatusTooManyRequests {
			t.Errorf("request %d of a stranger who claims to be others: %d", i, res.StatusCode)
		}
	}
}

// TestFloodOverProxyProtocol: a connection that begins with a PROXY header is
// one visitor's, and is watched like any other.
func TestFloodOverProxyProtocol(t *testing.T) {
	g, p := newGateway(t, func(c *config.Config) {
		behindLoopback(inProxyProtocol)(c)
		c.Limits.Rate = config.Rate{PerSecond: 1e6, Burst: 1e6}
	}, siteOf(upstreamOf(t, fixedPage), config.Route{Match: "/", SignIn: "none"}))
	addr := serve(t, g)
	dial := func(client string) net.Conn {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		h := proxyproto.HeaderProxyFromAddrs(2, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(client+":1")),
			net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:443")))
		if _, err := h.WriteTo(c); err != nil {
			t.Fatal(err)
		}
		return c
	}
	for i := range 10 { // each its own visitor: no cap of the proxy's
		c := tls.Client(dial(fmt.Sprintf("198.51.%d.1", i)), trusting(t, g))
		defer c.Close()
		io.WriteString(c, "GET /a//b HTTP/1.1\r\nHost: localhost\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || res.StatusCode != http.StatusBadRequest {
			t.Fatalf("visitor %d: %v, %v", i, res, err)
		}
	}
	for i, f := range p.take() {
		if f.Restricted.IP != fmt.Sprintf("198.51.%d.1", i) || f.Restricted.More["ja4"] == "" {
			t.Errorf("fact %d: %+v", i, f.Restricted)
		}
	}
	struck := func() int { r := g.limiter.Refused(); return r["frames"] + r["stream resets"] }
	for name, frames := range h2Attacks() {
		before := struck()
		waitFor(t, func() bool { // net/http has limits too, and may be the first
			c := dial("203.0.113.9")
			c.SetDeadline(time.Now().Add(20 * time.Second))
			if sent, err := h2AttackOver(c, trusting(t, g), frames); err != nil {
				t.Fatalf("%s: %d frames, %v", name, sent, err)
			}
			return struck() > before
		})
	}
}
