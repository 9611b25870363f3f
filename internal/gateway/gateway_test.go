package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/gateway/waf"
	"pasban/internal/journal"
	"pasban/internal/page"
	"pasban/internal/registry"
	"pasban/internal/store"
)

// parts stands for the gateway's neighbours: it records what they are asked
// and answers as it is told.
type parts struct {
	own     http.HandlerFunc // answers for Pasban's own pages, if it is set
	mu      sync.Mutex
	facts   []pasban.Fact
	looks   []registry.Look
	refuse  error    // what Disclose answers, nil to allow
	visitor *Visitor // who is signed in
	hook    func(registry.Look)
}

func (p *parts) Record(_ context.Context, facts ...pasban.Fact) ([]journal.Entry, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.facts = append(p.facts, facts...)
	return make([]journal.Entry, len(facts)), nil
}

func (p *parts) Disclose(_ context.Context, l registry.Look, _ func(*store.Tx) error) (registry.Disclosure, error) {
	if p.hook != nil {
		p.hook(l)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.looks = append(p.looks, l)
	if p.refuse != nil {
		return registry.Disclosure{}, p.refuse
	}
	entries := make([]journal.Entry, max(1, len(l.Subjects)))
	for i := range entries {
		entries[i].Promise = pasban.Promise{Origin: "test.example/ledger", Index: uint64(len(p.looks) + i), Sig: []byte("signed")}
	}
	return registry.Disclosure{Entries: entries}, nil
}

func (p *parts) Subject(_ context.Context, c pasban.CNIC) (pasban.Subject, error) {
	sum := sha256.Sum256([]byte(c))
	return pasban.Subject{ID: pasban.SubjectID(hex.EncodeToString(sum[:8])), CNIC: c}, nil
}

func (p *parts) Middleware(next http.Handler) http.Handler { return next }

func (p *parts) who(context.Context) (Visitor, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.visitor == nil {
		return Visitor{}, false
	}
	return *p.visitor, true
}

// take returns the facts so far and forgets them.
func (p *parts) take() []pasban.Fact {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.facts
	p.facts = nil
	return f
}

// asked returns the citizens' numbers of all looks so far and forgets them.
func (p *parts) asked() (all [][]pasban.CNIC) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.looks {
		var numbers []pasban.CNIC
		for _, s := range l.Subjects {
			numbers = append(numbers, s.CNIC)
		}
		all = append(all, numbers)
	}
	p.looks = nil
	return all
}

// officer signs in a synthetic officer who works on a case.
func (p *parts) officer() {
	p.visitor = &Visitor{
		Actor:   pasban.Actor{ID: "officer:synthetic-001", Kind: pasban.ActorPerson, Role: pasban.RoleOfficer, Staff: "SYN-001"},
		Purpose: pasban.Purpose{Code: "mutation", Case: "SYN/2026/1"},
	}
}

// siteOf is a site for any host with the firewall off.
func siteOf(upstream string, routes ...config.Route) config.Site {
	return config.Site{Host: "*", Upstream: []string{upstream}, Timeout: 5 * time.Second,
		WAF: config.WAF{Paranoia: 1, Mode: "off", Letters: []string{waf.ArabicScript}}, Routes: routes}
}

// newGateway builds a gateway for plain HTTP with stand-ins for its
// neighbours; hosts without a site get no firewall to save time.
func newGateway(t testing.TB, change func(*config.Config), sites ...config.Site) (*Gateway, *parts) {
	t.Helper()
	if !slices.ContainsFunc(sites, func(s config.Site) bool { return s.Host == "*" }) {
		sites = append(sites, config.Site{Host: "*", WAF: config.WAF{Mode: "off"}})
	}
	c := &config.Config{
		Agency: config.Agency{ID: "synthetic-agency"}, Data: t.TempDir(), TLS: config.TLS{Mode: "off"}, Sites: sites,
		Limits: config.Limits{Rate: config.Rate{PerSecond: 1e6, Burst: 1e6}, Body: 1 << 20, Header: 32 << 10, Connections: 4096},
	}
	if change != nil {
		change(c)
	}
	pages, err := page.New(page.Options{Agency: map[string]string{"en": "Synthetic Agency", "ur": "Synthetic Agency"},
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	p := &parts{}
	own := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.own != nil {
			p.own(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		w.Write([]byte("own " + r.URL.Path))
	})
	g, err := New(Options{Config: c, Guard: p, Subjects: p, Facts: p, Sessions: p, Visitor: p.who, Pages: pages, Own: own})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g, p
}

// upstreamOf runs a guarded service.
func upstreamOf(t testing.TB, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// serve runs the gateway on a loopback port and returns its address.
func serve(t testing.TB, g *Gateway) string {
	t.Helper()
	ln := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return ln.Addr().String()
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func copyBody(to io.Writer, r *http.Request) (int64, error) { return io.Copy(to, r.Body) }

// trace gathers what an upstream saw.
type trace struct {
	mu   sync.Mutex
	seen []string
}

func (tr *trace) add(s string) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.seen = append(tr.seen, s)
}

func (tr *trace) take() []string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	s := tr.seen
	tr.seen = nil
	return s
}

// waitFor waits until something that happens on another goroutine has.
func waitFor(t testing.TB, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(30 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("it did not happen")
		}
	}
}
