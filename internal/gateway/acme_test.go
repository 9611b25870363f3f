package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"

	"pasban"
	"pasban/internal/config"
)

// authority is Pebble, the ACME server that Let's Encrypt tests clients with.
type authority struct {
	*httptest.Server
	roots  *x509.CertPool // of the certificates that it gives
	config config.ACME
}

const eabKey = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W" // Pebble's own example

// newAuthority runs Pebble; all names lead to 127.0.0.1, where it expects
// TLS-ALPN-01 on tlsPort and HTTP-01 on httpPort.
func newAuthority(t *testing.T, tlsPort, httpPort int) *authority {
	t.Helper()
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	t.Setenv("PEBBLE_WFE_NONCEREJECT", "0")
	quiet := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	if err := store.AddExternalAccountKeyByID("kid-1", eabKey); err != nil {
		t.Fatal(err)
	}
	issuing := ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {Description: "default"}})
	checking := va.New(quiet, httpPort, tlsPort, true, nameServer(t), store)
	front := wfe.New(quiet, store, checking, issuing, []string{"pebble.test.example"}, true, true, 1, 1)
	a := &authority{Server: httptest.NewTLSServer(front.Handler()), roots: x509.NewCertPool()}
	t.Cleanup(a.Close)
	a.roots.AddCert(issuing.GetRootCert(0).Cert)
	file := filepath.Join(t.TempDir(), "authority.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	a.config = config.ACME{Directory: a.URL + wfe.DirectoryPath, Email: "webmaster@land.example", CAFile: file, Agree: true,
		EAB: config.EAB{KID: "kid-1", HMAC: config.Secret(eabKey)}}
	return a
}

// nameServer answers that every name is 127.0.0.1.
func nameServer(t *testing.T) string {
	t.Helper()
	ln := listen(t)
	srv := &dns.Server{Listener: ln, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		if q.Question[0].Qtype == dns.TypeA {
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1},
				A: net.IPv4(127, 0, 0, 1)})
		}
		w.WriteMsg(m)
	})}
	go srv.ActivateAndServe()
	t.Cleanup(func() { srv.Shutdown() })
	return ln.Addr().String()
}

func acmeSite(t *testing.T, host string) config.Site {
	upstream := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, host) })
	s := siteOf(upstream, config.Route{Match: "GET /", SignIn: "none"})
	s.Host = host
	return s
}

// acmeGateway builds a gateway that keeps everything under data. Hosts without
// a site have none: no name is "*".
func acmeGateway(t *testing.T, data string, a config.ACME, plain string, sites ...config.Site) (*Gateway, *parts) {
	return newGatewayWith(t, func(c *config.Config) {
		c.Data, c.TLS, c.Sites = data, config.TLS{Mode: "acme", ACME: a, HTTP: plain}, sites
		c.Limits.Handshakes = config.Handshakes{PerSecond: 1e5, Burst: 1e5} // the tests ask again and again
	})
}

// newGatewayWith is newGateway for tests that make all of the sites.
func newGatewayWith(t *testing.T, change func(*config.Config)) (*Gateway, *parts) {
	return newGateway(t, change, config.Site{Host: "*", WAF: config.WAF{Mode: "off"}})
}

// run serves on ln until the returned function is called.
func run(t *testing.T, g *Gateway, ln net.Listener) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Serve(ctx, ln) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		g.Close()
	})
	t.Cleanup(stop)
	return stop
}

// handshake asks for a name and returns the certificate that it gets.
func handshake(addr, name string, roots *x509.CertPool) (*x509.Certificate, error) {
	conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: roots, ServerName: name})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0], nil
}

// TestACME gets certificates from a real ACME server by TLS-ALPN-01: for the
// site that is there, for one that a reload adds; it keeps them over a restart
// at which the authority is gone.
func TestACME(t *testing.T) {
	ln := listen(t)
	addr := ln.Addr().String()
	a := newAuthority(t, ln.Addr().(*net.TCPAddr).Port, 1)
	data := t.TempDir()
	land, tax := acmeSite(t, "land.example"), acmeSite(t, "tax.example")
	g, p := acmeGateway(t, data, a.config, "", land)
	stop := run(t, g, ln)

	var first *x509.Certificate
	waitFor(t, func() (ok bool) {
		c, err := handshake(addr, "land.example", a.roots)
		first = c
		return err == nil
	})
	if _, err := handshake(addr, "tax.example", a.roots); err == nil {
		t.Error("there is a certificate for a name that is none of ours")
	}
	if all := g.Certificates(); len(all) != 1 || all[0].Problem != "" || !all[0].NotAfter.Equal(first.NotAfter) || all[0].Issuer == "" {
		t.Errorf("certificates: %+v", all)
	}
	after := *g.o.Config
	after.Sites = []config.Site{land, tax}
	if err := g.Reload(&after); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { _, err := handshake(addr, "tax.example", a.roots); return err == nil })
	if again, err := handshake(addr, "land.example", a.roots); err != nil || !again.Equal(first) {
		t.Errorf("the reload changed the certificate of a site that stayed: %v", err)
	}
	for _, f := range p.take() {
		t.Errorf("an alarm although all went well: %v", f.Restricted.Reasons)
	}
	stop()

	secret := 0
	filepath.WalkDir(filepath.Join(data, "acme"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			t.Fatal(err)
		}
		info, err := d.Info()
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: mode %v, %v", path, info.Mode(), err)
		}
		if strings.HasSuffix(path, ".key") {
			secret++
		}
		return nil
	})
	if secret != 3 { // two certificates and the account
		t.Errorf("%d keys under data/acme, want 3", secret)
	}

	a.Close()
	ln = listen(t)
	again, _ := acmeGateway(t, data, a.config, "", land)
	run(t, again, ln)
	waitFor(t, func() bool {
		c, err := handshake(ln.Addr().String(), "land.example", a.roots)
		return err == nil && c.Equal(first)
	})
}

// TestACMEByHTTP gets a certificate through the plain listener alone, which
// sends everybody else to https.
func TestACMEByHTTP(t *testing.T) {
	plain := listen(t)
	_, port, _ := net.SplitHostPort(plain.Addr().String())
	a := newAuthority(t, 1, plain.Addr().(*net.TCPAddr).Port)
	plain.Close() // Serve opens it
	ln := listen(t)
	g, _ := acmeGateway(t, t.TempDir(), a.config, "127.0.0.1:"+port, acmeSite(t, "land.example"))
	g.o.Config.Listen = "127.0.0.1:8443"
	run(t, g, ln)
	waitFor(t, func() bool { _, err := handshake(ln.Addr().String(), "land.example", a.roots); return err == nil })

	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, c := range []struct {
		method, host, path string
		status             int
		to                 string
	}{
		{"GET", "land.example", "/records?page=2", 308, "https://land.example:8443/records?page=2"},
		{"GET", "evil.example", "/", 308, "https://land.example:8443/"},
		{"GET", "land.example", "//evil.example/", 308, "https://land.example:8443//evil.example/"},
		{"POST", "land.example", "/", 403, ""},
		{"GET", "land.example", "/.well-known/acme-challenge/unknown", 308, "https://land.example:8443/.well-known/acme-challenge/unknown"},
	} {
		req, _ := http.NewRequestWithContext(t.Context(), c.method, "http://127.0.0.1:"+port+c.path, nil)
		req.Host = c.host
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != c.status || res.Header.Get("Location") != c.to {
			t.Errorf("%s %s%s: %d to %q, want %d to %q", c.method, c.host, c.path, res.StatusCode, res.Header.Get("Location"), c.status, c.to)
		}
	}
}

// TestACMEUnreachable: without its authority the node starts, says what is
// wrong in its status, its metrics and an alarm, and never quotes the secret.
func TestACMEUnreachable(t *testing.T) {
	a := newAuthority(t, 1, 1)
	a.Close()
	ln := listen(t)
	g, p := acmeGateway(t, t.TempDir(), a.config, "", acmeSite(t, "land.example"))
	run(t, g, ln)
	var facts []pasban.Fact
	waitFor(t, func() bool { facts = append(facts, p.take()...); return len(facts) > 0 })
	f := facts[0]
	if f.Body.Kind != pasban.KindAlarm || f.Body.Action != "certificate" || f.Body.Service != "land.example" || len(f.Restricted.Reasons) != 1 {
		t.Errorf("%+v", f)
	}
	all := g.Certificates()
	if len(all) != 1 || !strings.Contains(all[0].Problem, "there is no certificate: ") {
		t.Errorf("%+v", all)
	}
	if text := all[0].Problem + f.Restricted.Reasons[0]; strings.Contains(text, eabKey) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(eabKey))) {
		t.Error("the secret is in a message")
	}
	if _, err := handshake(ln.Addr().String(), "land.example", a.roots); err == nil {
		t.Error("a handshake without a certificate")
	}
}

func TestDescribeCertificates(t *testing.T) {
	now := time.Now()
	leaf := func(from, to time.Duration) *x509.Certificate {
		return &x509.Certificate{NotBefore: now.Add(from), NotAfter: now.Add(to), DNSNames: []string{"land.example"}}
	}
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		host             string
		leaf             *x509.Certificate
		err              error
		problem, warning string
	}{
		"none":         {"land.example", nil, nil, "no certificate yet", ""},
		"refused":      {"land.example", nil, io.ErrUnexpectedEOF, "unexpected EOF", ""},
		"good":         {"land.example", leaf(-day, 60*day), nil, "", ""},
		"any host":     {"*", leaf(-day, 60*day), nil, "", ""},
		"other host":   {"tax.example", leaf(-day, 60*day), nil, "not for this host", ""},
		"ends soon":    {"land.example", leaf(-80*day, 10*day), nil, "", "ends on"},
		"short-lived":  {"land.example", leaf(-2*day, 4*day), nil, "", ""},
		"not renewed":  {"land.example", leaf(-70*day, 20*day), io.ErrUnexpectedEOF, "", "unexpected EOF"},
		"expired":      {"land.example", leaf(-90*day, -day), nil, "expired", ""},
		"of tomorrow":  {"land.example", leaf(day, 90*day), nil, "not valid yet", ""},
		"soon, failed": {"land.example", leaf(-80*day, 10*day), io.ErrUnexpectedEOF, "", "no new one: unexpected EOF"},
	} {
		got := describe(c.host, c.leaf, c.err, now)
		if (c.problem == "") != (got.Problem == "") || !strings.Contains(got.Problem, c.problem) ||
			(c.warning == "") != (got.Warning == "") || !strings.Contains(got.Warning, c.warning) {
			t.Errorf("%s: problem %q, warning %q", name, got.Problem, got.Warning)
		}
	}
}
