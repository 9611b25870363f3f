package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pasban"
	"pasban/internal/config"
)

func withTLS(c *config.Config) { c.TLS = config.TLS{Mode: "local"} }

// roots trusts the gateway's own authority, as an operator who exported it does.
func roots(t testing.TB, dir string) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "ca", "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatal("root.pem is not a certificate")
	}
	return pool
}

// trusting is a client's configuration that trusts the gateway's own authority.
func trusting(t testing.TB, g *Gateway) *tls.Config {
	return &tls.Config{RootCAs: roots(t, g.o.Config.Data), ServerName: "localhost"}
}

func TestTLS(t *testing.T) {
	upstream := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header.Get("X-Forwarded-Proto")) })
	site := siteOf(upstream, config.Route{Match: "GET /", SignIn: "none"})
	site.Host = "land.example"
	g, _ := newGateway(t, withTLS, site)
	addr := serve(t, g)
	trusted := roots(t, g.o.Config.Data)

	for _, name := range []string{"localhost", "127.0.0.1", "land.example"} {
		conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: trusted, ServerName: name, NextProtos: []string{"h2"}})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		state := conn.ConnectionState()
		conn.Close()
		if state.Version != tls.VersionTLS13 || state.CurveID != tls.X25519MLKEM768 || state.NegotiatedProtocol != "h2" {
			t.Errorf("%s: version %x, group %s, protocol %q", name, state.Version, state.CurveID, state.NegotiatedProtocol)
		}
	}
	if conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: trusted, ServerName: "localhost", MaxVersion: tls.VersionTLS12}); err == nil {
		conn.Close()
		t.Error("TLS 1.2 was accepted")
	}
	if _, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: trusted, ServerName: "other.example"}); err == nil {
		t.Error("the certificate is valid for a name that is none of ours")
	}
	client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: trusted, ServerName: "land.example"}}}
	defer client.CloseIdleConnections()
	req, _ := http.NewRequestWithContext(t.Context(), "GET", "https://"+addr+"/", nil)
	req.Host = "land.example"
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, _ := io.ReadAll(res.Body); res.ProtoMajor != 2 || string(body) != "https" {
		t.Errorf("%s: %q", res.Proto, body)
	}
}

func TestAuthority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "ca")
		ca, err := openCA(dir, []string{"land.example", "*"}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		begin, err := ca.certificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(leafLife - leafRenew - time.Hour) // synctest: no time passes
		if same, _ := ca.certificate(nil); same != begin {
			t.Error("the leaf was renewed too early")
		}
		time.Sleep(2 * time.Hour)
		if renewed, _ := ca.certificate(nil); renewed == begin || time.Until(renewed.Leaf.NotAfter) != leafLife {
			t.Error("the leaf was not renewed")
		}
		again, err := openCA(dir, []string{"land.example"}, time.Now())
		if err != nil || !again.root.Equal(ca.root) {
			t.Errorf("the root is another after a restart: %v", err)
		}
		wider, err := openCA(dir, []string{"land.example", "tax.example"}, time.Now())
		if err != nil || wider.root.Equal(ca.root) {
			t.Errorf("the root stayed although a site was added: %v", err)
		}
		if kept, _ := filepath.Glob(filepath.Join(dir, "root-before-*.pem")); len(kept) != 1 {
			t.Errorf("the root before is not kept: %v", kept)
		}
		time.Sleep(rootLife - rootRenew)
		if later, err := openCA(dir, []string{"land.example"}, time.Now()); err != nil || later.root.Equal(wider.root) {
			t.Errorf("the root was not replaced before its end: %v", err)
		}
	})
}

func TestAuthorityIsConstrained(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	ca, err := openCA(dir, []string{"land.example"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "root.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := openCA(dir, nil, time.Now()); err == nil || !strings.Contains(err.Error(), "root.key") {
		t.Errorf("a key that others can read was accepted: %v", err)
	}
	// Even a stolen key signs nothing for other names.
	ca.names = append(ca.names, "bank.example")
	leaf, err := ca.issue(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.root)
	if _, err := leaf.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: "bank.example"}); err == nil {
		t.Error("the root vouches for a name that it was not made for")
	}
}

func TestTLSFiles(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	os.WriteFile(cert, []byte("nonsense"), 0o600)
	os.WriteFile(key, []byte("nonsense"), 0o600)
	_, err := tlsOptions{mode: "files", cert: cert, key: key}.certificates()
	if e, ok := errors.AsType[*pasban.Error](err); !ok || e.Kind != pasban.Invalid || e.Where != cert {
		t.Errorf("nonsense as a certificate: %v", err)
	}
	if _, err := (tlsOptions{mode: "acme"}).certificates(); pasban.KindOf(err) != pasban.Invalid {
		t.Errorf("acme: %v", err)
	}
}

// TestReloadUnderLoad exchanges the configuration again and again while
// clients ask: every request is answered, by the old routes or by the new ones.
func TestReloadUnderLoad(t *testing.T) {
	old := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "old") })
	young := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "new") })
	site := siteOf(old, config.Route{Match: "GET /", SignIn: "none"})
	g, _ := newGateway(t, withTLS, site)
	addr := serve(t, g)
	before := *g.o.Config
	after := before
	changed := site
	changed.Upstream = []string{young}
	after.Sites = []config.Site{changed}

	client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots(t, before.Data)}}}
	defer client.CloseIdleConnections()
	var stop atomic.Bool
	var answers [2]atomic.Int64
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for !stop.Load() {
				res, err := client.Get("https://" + addr + "/")
				if err != nil {
					t.Errorf("dropped: %v", err)
					return
				}
				body, err := io.ReadAll(res.Body)
				res.Body.Close()
				switch {
				case err != nil || res.StatusCode != 200:
					t.Errorf("answered %d, %v", res.StatusCode, err)
				case string(body) == "old":
					answers[0].Add(1)
				case string(body) == "new":
					answers[1].Add(1)
				}
			}
		})
	}
	for i := range 10 {
		n := answers[0].Load() + answers[1].Load()
		waitFor(t, func() bool { return answers[0].Load()+answers[1].Load() > n+5 })
		c := []*config.Config{&after, &before}[i%2]
		if err := g.Reload(c); err != nil {
			t.Fatal(err)
		}
	}
	stop.Store(true)
	clients.Wait()
	if answers[0].Load() == 0 || answers[1].Load() == 0 {
		t.Errorf("answers: %d old, %d new", answers[0].Load(), answers[1].Load())
	}
	bad := before
	bad.Sites = []config.Site{{Host: "*", Upstream: []string{old}, WAF: config.WAF{Mode: "block", Paranoia: 1, Custom: []string{"/nowhere"}}}}
	if err := g.Reload(&bad); err == nil {
		t.Error("rules that are not there were accepted")
	}
	if res, err := client.Get("https://" + addr + "/"); err != nil || res.StatusCode != 200 {
		t.Errorf("after a failed reload: %v", err)
	} else {
		res.Body.Close()
	}
}

// TestDrain ends the server while a request is under way and two event streams
// are open, the service's and one of Pasban's own: the request is answered, the
// streams end, and Serve returns. One that comes too late ends at once.
func TestDrain(t *testing.T) {
	began, finish := make(chan bool), make(chan bool)
	stream := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: 1\n\n")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	upstream := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/events" {
			stream(w, r)
			return
		}
		began <- true
		<-finish
		io.WriteString(w, "done")
	})
	site := siteOf(upstream, config.Route{Match: "GET /", SignIn: "none"})
	site.WAF.Mode = "block"
	g, p := newGateway(t, nil, site)
	p.own = stream
	ln := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- g.Serve(ctx, ln) }()

	var streams []*bufio.Scanner
	for _, path := range []string{"/events", "/pasban/console/events"} {
		events, err := http.Get("http://" + ln.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer events.Body.Close()
		lines := bufio.NewScanner(events.Body)
		if !lines.Scan() || lines.Text() != "data: 1" {
			t.Fatalf("%s is held back: %q", path, lines.Text())
		}
		streams = append(streams, lines)
	}
	answer := make(chan string, 1)
	go func() {
		res, err := http.Get("http://" + ln.Addr().String() + "/slow")
		if err != nil {
			answer <- err.Error()
			return
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		answer <- string(body)
	}()
	<-began
	cancel()
	for _, lines := range streams { // they end although their upstream does not
		for lines.Scan() {
		}
	}
	late := httptest.NewServer(g.Handler())
	defer late.Close()
	for _, path := range []string{"/events", "/pasban/console/events"} {
		if res, err := http.Get(late.URL + path); err == nil { // it may be cut off before it begins
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	}
	if _, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		t.Error("new connections are still accepted")
	}
	finish <- true
	if got := <-answer; got != "done" {
		t.Errorf("the request under way was answered %q", got)
	}
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
}

func TestUpgradePasses(t *testing.T) {
	upstream := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		line, _ := rw.ReadString('\n')
		io.WriteString(conn, "echo "+line)
	})
	site := siteOf(upstream, config.Route{Match: "GET /", SignIn: "none"})
	site.WAF.Mode = "block"
	g, _ := newGateway(t, nil, site)
	conn, err := net.Dial("tcp", serve(t, g))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET /socket HTTP/1.1\r\nHost: test.example\r\nAccept: */*\r\nUser-Agent: synthetic\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", res, err)
	}
	io.WriteString(conn, "hello\n")
	if line, err := r.ReadString('\n'); line != "echo hello\n" {
		t.Errorf("%q, %v", line, err)
	}
}

func TestTooLarge(t *testing.T) {
	var seen trace
	upstream := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		seen.add(fmt.Sprint(n))
	})
	for _, mode := range []string{"off", "block"} {
		site := siteOf(upstream, config.Route{Match: "/", SignIn: "none"})
		site.WAF.Mode = mode
		g, _ := newGateway(t, func(c *config.Config) { c.Limits.Body = 4096 }, site)
		addr := serve(t, g)
		for name, c := range map[string]struct {
			size   int
			known  bool
			status int
		}{"fits": {4096, true, 200}, "fits, chunked": {4096, false, 200}, "too large": {4097, true, 413}, "too large, chunked": {1 << 20, false, 413}} {
			var body io.Reader = strings.NewReader(strings.Repeat("a", c.size))
			if !c.known {
				body = io.MultiReader(body)
			}
			req, _ := http.NewRequestWithContext(t.Context(), "POST", "http://"+addr+"/upload", body)
			req.Header.Set("Content-Type", "text/plain")
			if mode == "block" {
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Errorf("waf %s, %s: %v", mode, name, err)
				continue
			}
			res.Body.Close()
			if res.StatusCode != c.status {
				t.Errorf("waf %s, %s: answered %d, want %d", mode, name, res.StatusCode, c.status)
			}
		}
	}
}
