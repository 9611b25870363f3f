package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pasban/internal/config"
)

// issuer writes certificates as an agency's own authority does.
type issuer struct {
	ca        *localCA
	cert, key string
}

func newIssuer(t *testing.T) *issuer {
	dir := t.TempDir()
	ca, err := openCA(filepath.Join(dir, "ca"), nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{ca, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
}

// renew replaces the files and returns the new serial number.
func (i *issuer) renew(t *testing.T) *big.Int {
	leaf, err := i.ca.issue(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{i.cert: {Type: "CERTIFICATE", Bytes: leaf.Certificate[0]}, i.key: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return leaf.Leaf.SerialNumber
}

func (i *issuer) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(i.ca.root)
	return pool
}

// slowService answers with its name when it is told to, and knows what is open.
type slowService struct {
	*httptest.Server
	waiting, conns atomic.Int64
	release        atomic.Pointer[barrier]
}

// barrier is shut until it is opened.
type barrier struct {
	open func()
	wait chan struct{}
}

func newSlowService(t *testing.T, name string) *slowService {
	s := &slowService{}
	s.hold()
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hold := s.release.Load()
		s.waiting.Add(1)
		<-hold.wait
		s.waiting.Add(-1)
		io.WriteString(w, name)
	}))
	s.Config.ConnState = func(_ net.Conn, to http.ConnState) {
		switch to {
		case http.StateNew:
			s.conns.Add(1)
		case http.StateClosed, http.StateHijacked:
			s.conns.Add(-1)
		}
	}
	s.Start()
	t.Cleanup(func() {
		s.release.Load().open()
		s.Close()
	})
	return s
}

func (s *slowService) hold() {
	c := make(chan struct{})
	s.release.Store(&barrier{sync.OnceFunc(func() { close(c) }), c})
}

// TestReloadInFlight reloads sites, upstreams, firewall rules and certificates
// while some hundred requests over HTTP/1, 2 and 3 wait for their answers: all
// get them from where they began; what came after gets the new ones; rule sets
// and connections that only they used are then closed.
func TestReloadInFlight(t *testing.T) {
	const each = 90 // requests of each protocol at once
	files := newIssuer(t)
	serial := files.renew(t)
	services := []*slowService{newSlowService(t, "even"), newSlowService(t, "odd")}
	rules := []string{filepath.Join(t.TempDir(), "even.conf"), filepath.Join(t.TempDir(), "odd.conf")}
	for i, name := range rules {
		os.WriteFile(name, fmt.Appendf(nil, "SecAction \"id:%d,phase:1,pass,nolog\"\n", 9000+i), 0o600)
	}
	conf := func(c *config.Config, i int) {
		c.TLS, c.HTTP3 = config.TLS{Mode: "files", Cert: files.cert, Key: files.key}, true
		s := siteOf(services[i].URL, config.Route{Match: "GET /", SignIn: "none"})
		s.WAF.Mode, s.WAF.Custom, s.Timeout = "block", rules[i:i+1], time.Minute
		s.ConcurrencyFloor = 3 * each // they all wait on purpose
		c.Sites = []config.Site{s}
		if i == 1 {
			s.Host = "added.example"
			c.Sites = append(c.Sites, s)
		}
	}
	g, _ := newGatewayWith(t, func(c *config.Config) { conf(c, 0) })
	addr := serve(t, g)
	clients := protocolClients(t, addr, files.roots())

	for name, client := range clients { // so that HTTP/2 and 3 have their one connection
		if text, err := fetch(client, "https://localhost/pasban/"); err != nil {
			t.Fatal(name, text, err)
		}
	}
	var inFlight sync.WaitGroup
	for round := range 4 {
		service, want := services[round%2], []string{"even", "odd"}[round%2]
		for name, client := range clients {
			for range each {
				inFlight.Go(func() {
					if text, err := fetch(client, "https://localhost/"); text != want {
						t.Errorf("round %d, %s: %q, %v", round, name, text, err)
					}
				})
			}
		}
		waitFor(t, func() bool { return service.waiting.Load() == int64(each*len(clients)) })
		serial = files.renew(t)
		next := *g.o.Config
		conf(&next, (round+1)%2)
		if err := g.Reload(&next); err != nil {
			t.Fatal(err)
		}
		g.mu.Lock()
		if n := len(g.engines); n != 2 {
			t.Errorf("round %d: %d rule sets are open, want the new one and that of those under way", round, n)
		}
		g.mu.Unlock()
		service.release.Load().open()
		inFlight.Wait()
		service.hold()
		waitFor(t, func() bool { return service.conns.Load() == 0 })
		waitFor(t, func() bool { g.mu.Lock(); defer g.mu.Unlock(); return len(g.engines) == 1 })
	}
	conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: files.roots(), ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.ConnectionState().PeerCertificates[0].SerialNumber; got.Cmp(serial) != 0 {
		t.Error("the certificate's file was not read again")
	}
}

// TestReloadRush reloads as fast as it can while clients of all protocols ask
// as fast as they can: no request fails.
func TestReloadRush(t *testing.T) {
	files := newIssuer(t)
	files.renew(t)
	upstreams := []string{
		upstreamOf(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "even") }),
		upstreamOf(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "odd") }),
	}
	conf := func(c *config.Config, i int) {
		c.TLS, c.HTTP3 = config.TLS{Mode: "files", Cert: files.cert, Key: files.key}, true
		site := siteOf(upstreams[i], config.Route{Match: "GET /", SignIn: "none"})
		site.ConcurrencyFloor = 100 // room for all who ask: on a busy machine the limit that is found may turn some away
		c.Sites = []config.Site{site}
	}
	g, _ := newGatewayWith(t, func(c *config.Config) { conf(c, 0) })
	addr := serve(t, g)
	var stop atomic.Bool
	var answers [2]atomic.Int64
	var asking sync.WaitGroup
	for name, client := range protocolClients(t, addr, files.roots()) {
		for range 8 {
			asking.Go(func() {
				for !stop.Load() {
					text, err := fetch(client, "https://localhost/")
					switch text {
					case "even":
						answers[0].Add(1)
					case "odd":
						answers[1].Add(1)
					default:
						t.Errorf("%s: %q, %v", name, text, err)
						return
					}
				}
			})
		}
	}
	for i := range 60 {
		before := answers[(i+1)%2].Load()
		next := *g.o.Config
		conf(&next, (i+1)%2)
		if i%10 == 0 {
			files.renew(t)
		}
		if err := g.Reload(&next); err != nil {
			t.Fatal(err)
		}
		waitFor(t, func() bool { return answers[(i+1)%2].Load() > before || t.Failed() })
	}
	stop.Store(true)
	asking.Wait()
}

// protocolClients speak HTTP/1, 2 and 3 with addr, whatever a request's host.
func protocolClients(t *testing.T, addr string, trusted *x509.CertPool) map[string]*http.Client {
	clients := map[string]*http.Client{"h3": clientOfHTTP3(t, addr, trusted)}
	for name, major := range map[string]int{"h1": 1, "h2": 2} {
		p := new(http.Protocols)
		p.SetHTTP1(major == 1)
		p.SetHTTP2(major == 2)
		tr := &http.Transport{Protocols: p, MaxIdleConnsPerHost: 100, TLSClientConfig: &tls.Config{RootCAs: trusted, ServerName: "localhost"}}
		var d net.Dialer
		tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return d.DialContext(ctx, network, addr)
		}
		t.Cleanup(tr.CloseIdleConnections)
		clients[name] = &http.Client{Transport: tr, Timeout: time.Minute}
	}
	return clients
}

func fetch(client *http.Client, url string) (string, error) {
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Accept", "*/*")
	req.Header.Set("User-Agent", "synthetic")
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != 200 {
		err = fmt.Errorf("status %d", res.StatusCode)
	}
	return string(body), err
}
