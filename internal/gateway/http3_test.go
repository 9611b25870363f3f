package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"pasban"
	"pasban/internal/config"
)

func withHTTP3(c *config.Config) { c.TLS, c.HTTP3 = config.TLS{Mode: "local"}, true }

// client3 speaks HTTP/3 with the gateway at addr, whatever a request's host.
func client3(t *testing.T, g *Gateway, addr string) *http.Client {
	return clientOfHTTP3(t, addr, roots(t, g.o.Config.Data))
}

func clientOfHTTP3(t *testing.T, addr string, trusted *x509.CertPool) *http.Client {
	tr := &http3.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted, ServerName: "localhost"},
		Dial: func(ctx context.Context, _ string, tc *tls.Config, qc *quic.Config) (*quic.Conn, error) {
			return quic.DialAddr(ctx, addr, tc, qc)
		}}
	t.Cleanup(func() { tr.Close() })
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

// TestHTTP3 leads requests by HTTP/3 through the same chain as all others.
func TestHTTP3(t *testing.T) {
	upstream := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Alt-Svc", `h3="elsewhere.example:443"`)
		fmt.Fprintf(w, "%s %s %d %q", r.Method, r.URL.Path, r.ContentLength, body)
	})
	site := siteOf(upstream, config.Route{Match: "GET /records/{cnic}", SignIn: "officer", Subject: "cnic", Action: "view", Purposes: []string{"mutation"}},
		config.Route{Match: "/open", SignIn: "none"})
	site.WAF.Mode = "block"
	g, p := newGateway(t, withHTTP3, site)
	p.officer()
	addr := serve(t, g)
	client := client3(t, g, addr)
	ask := func(method, path string, body io.Reader) (*http.Response, string) {
		t.Helper()
		req, _ := http.NewRequestWithContext(t.Context(), method, "https://localhost"+path, body)
		req.Header.Set("Accept", "*/*")
		req.Header.Set("User-Agent", "synthetic")
		if body != nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil || res.ProtoMajor != 3 {
			t.Errorf("%s %s: %s, %v", method, path, res.Proto, err)
		}
		return res, string(text)
	}
	res, text := ask("GET", "/records/35202-1234567-1", nil)
	if res.StatusCode != 200 || text != `GET /records/35202-1234567-1 0 ""` || res.Header.Get(pasban.PromiseHeader) == "" {
		t.Errorf("guarded: %d %q, promise %q", res.StatusCode, text, res.Header.Get(pasban.PromiseHeader))
	}
	if looks := p.asked(); len(looks) != 1 {
		t.Errorf("%d looks were accounted for", len(looks))
	}
	if res.Header.Get("Alt-Svc") != "" {
		t.Errorf("the service says where to connect to: %q", res.Header.Get("Alt-Svc"))
	}
	if res, text := ask("POST", "/open", io.MultiReader(strings.NewReader("a=1"))); res.StatusCode != 200 || text != `POST /open 3 "a=1"` {
		t.Errorf("a form: %d %q", res.StatusCode, text)
	}
	res, _ = ask("GET", "/open?id="+"1%27%20OR%20%271%27=%271%27%20UNION%20SELECT%20password%20FROM%20users--", nil)
	if res.StatusCode != 403 || res.Header.Get(IncidentHeader) == "" {
		t.Errorf("an attack was answered %d", res.StatusCode)
	}
	if facts := p.take(); len(facts) != 1 || facts[0].Body.Action != "waf" {
		t.Errorf("facts: %+v", facts)
	}
	if res, _ := ask("POST", "/open", strings.NewReader("a="+strings.Repeat("a", 2<<20))); res.StatusCode != 413 {
		t.Errorf("a body beyond the limit was answered %d", res.StatusCode)
	}

	// Those who come by TCP are told.
	tcp := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots(t, g.o.Config.Data)}}}
	defer tcp.CloseIdleConnections()
	first, err := tcp.Get("https://" + addr + "/open")
	if err != nil {
		t.Fatal(err)
	}
	first.Body.Close()
	_, port, _ := net.SplitHostPort(addr)
	if got := first.Header.Values("Alt-Svc"); len(got) != 1 || got[0] != `h3=":`+port+`"; ma=86400` {
		t.Errorf("Alt-Svc: %q", got)
	}
}

// TestHTTP3Limits: connections over UDP take places of the same count as those
// over TCP, give them back, and data before the handshake is not taken.
func TestHTTP3Limits(t *testing.T) {
	upstream := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) {})
	g, p := newGateway(t, func(c *config.Config) { withHTTP3(c); c.Limits.Connections = 3 }, siteOf(upstream, config.Route{Match: "/", SignIn: "none"}))
	addr := serve(t, g)
	tcp, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	waitFor(t, func() bool { return g.limiter.Connections() == 1 })
	dial := func() (*quic.Conn, error) {
		return quic.DialAddr(t.Context(), addr, &tls.Config{RootCAs: roots(t, g.o.Config.Data), ServerName: "localhost", NextProtos: []string{"h3"}}, nil)
	}
	var open []*quic.Conn
	for range 2 {
		c, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		if c.ConnectionState().TLS.CurveID != tls.X25519MLKEM768 || c.ConnectionState().Used0RTT {
			t.Errorf("group %v, 0-RTT %v", c.ConnectionState().TLS.CurveID, c.ConnectionState().Used0RTT)
		}
		open = append(open, c)
	}
	if c, err := dial(); err == nil {
		c.CloseWithError(0, "")
		t.Error("a connection beyond the limit was taken")
	}
	waitFor(t, func() bool { f := p.take(); return len(f) > 0 && f[0].Restricted.More["what"] == "connections" })
	for _, c := range open {
		c.CloseWithError(0, "")
	}
	waitFor(t, func() bool { return g.limiter.Connections() == 1 })
	if !g.limiter.Doubtful(net.UDPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:1"))) {
		t.Error("with a quarter of all places taken, addresses must be proven")
	}
}

// TestHTTP3Shed: whoever is turned away over HTTP/3 is told so.
func TestHTTP3Shed(t *testing.T) {
	begun, finish := make(chan bool), make(chan bool)
	upstream := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) {
		begun <- true
		<-finish
	})
	site := siteOf(upstream, config.Route{Match: "GET /", SignIn: "none"})
	site.Concurrency = 1
	g, _ := newGateway(t, withHTTP3, site)
	client := client3(t, g, serve(t, g))
	done := make(chan error)
	go func() { _, err := fetch(client, "https://localhost/"); done <- err }()
	<-begun
	res, err := client.Get("https://localhost/")
	if err != nil {
		t.Errorf("turned away without an answer: %v", err)
	} else {
		res.Body.Close()
		if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" || res.ProtoMajor != 3 {
			t.Errorf("%s %s %v", res.Proto, res.Status, res.Header)
		}
	}
	finish <- true
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestHTTP3Answers: what a service answers arrives over HTTP/3 as it does over
// HTTP/1 and HTTP/2, also where it answers oddly or breaks off.
func TestHTTP3Answers(t *testing.T) {
	raw := func(w http.ResponseWriter, answer string) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(conn, answer)
		conn.Close()
	}
	upstream := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/broken":
			io.WriteString(w, strings.Repeat("the first half", 1000))
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "/flushed":
			io.WriteString(w, "in parts")
			http.NewResponseController(w).Flush()
		case "/known":
			w.Header().Set("Content-Length", "5")
			io.WriteString(w, "whole")
		case "/nothing":
			w.WriteHeader(http.StatusNoContent)
		case "/hints":
			w.Header().Set("Link", "</a.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			io.WriteString(w, "after hints")
		case "/name":
			raw(w, "HTTP/1.1 200 OK\r\nNo Name: 1\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\n\r\nok")
		case "/status":
			raw(w, "HTTP/1.1 099 Odd\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	plain, inspected := siteOf(upstream, config.Route{Match: "/", SignIn: "none"}), siteOf(upstream, config.Route{Match: "/", SignIn: "none"})
	plain.Host, inspected.Host, inspected.WAF.Mode = "plain.example", "inspected.example", "block"
	g, _ := newGateway(t, withHTTP3, plain, inspected)
	addr := serve(t, g)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots(t, g.o.Config.Data), ServerName: "localhost"}}
	transport2 := transport.Clone()
	transport2.ForceAttemptHTTP2 = true
	defer transport.CloseIdleConnections()
	defer transport2.CloseIdleConnections()
	clients := []*http.Client{{Transport: transport}, {Transport: transport2}, client3(t, g, addr)}
	const brokenOff = "broken off"
	for _, host := range []string{plain.Host, inspected.Host} {
		for _, tt := range []struct{ method, path, want string }{
			{"GET", "/broken", brokenOff}, {"HEAD", "/broken", `200 "" length ""`},
			{"HEAD", "/flushed", `200 "" length ""`},
			{"GET", "/known", `200 "whole" length "5"`}, {"HEAD", "/known", `200 "" length "5"`},
			{"GET", "/nothing", `204 "" length ""`},
			{"GET", "/hints", `200 "after hints" length "11"`},
			{"GET", "/name", `200 "ok" length "2"`},
			{"GET", "/status", "502"},
		} {
			for i, client := range clients {
				req, _ := http.NewRequestWithContext(t.Context(), tt.method, "https://"+addr+tt.path, nil)
				req.Host = host
				req.Header.Set("Accept", "*/*")
				req.Header.Set("User-Agent", "synthetic")
				got := brokenOff
				if res, err := client.Do(req); err == nil {
					body, err := io.ReadAll(res.Body)
					res.Body.Close()
					switch {
					case res.ProtoMajor != i+1:
						t.Fatalf("%s where HTTP/%d was to be spoken", res.Proto, i+1)
					case res.StatusCode == http.StatusBadGateway:
						got = "502"
					case err == nil:
						got = fmt.Sprintf("%d %q length %q", res.StatusCode, body, res.Header.Get("Content-Length"))
					}
				}
				if got != tt.want {
					t.Errorf("HTTP/%d, %s: %s %s: %s, want %s", i+1, host, tt.method, tt.path, got, tt.want)
				}
			}
		}
	}
}

// TestHTTP3Drain ends the server while a request is under way.
func TestHTTP3Drain(t *testing.T) {
	began, finish := make(chan bool), make(chan bool)
	upstream := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) {
		began <- true
		<-finish
		io.WriteString(w, "done")
	})
	g, _ := newGateway(t, withHTTP3, siteOf(upstream, config.Route{Match: "/", SignIn: "none"}))
	ln := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- g.Serve(ctx, ln) }()
	waitFor(t, func() bool {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	client := client3(t, g, ln.Addr().String())
	answer := make(chan string, 1)
	go func() {
		res, err := client.Get("https://localhost/slow")
		if err != nil {
			answer <- err.Error()
			return
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		answer <- fmt.Sprint(string(body), err)
	}()
	<-began
	cancel()
	finish <- true
	if got := <-answer; got != "done<nil>" {
		t.Errorf("the request under way was answered %q", got)
	}
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
}
