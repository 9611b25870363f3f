package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/gateway/flood"
	"pasban/internal/gateway/pass"
	"pasban/internal/page"
	"pasban/internal/store/storetest"
)

// TestShed fills a service of one place and looks at who is answered.
func TestShed(t *testing.T) {
	begun, finish := make(chan bool, 100), make(chan bool)
	upstream := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) {
		begun <- true
		<-finish
	})
	site := siteOf(upstream, config.Route{Match: "GET /", SignIn: "none"})
	site.Concurrency = 1
	g, p := newGateway(t, nil, site)
	h := g.Handler()
	ask := func(accept string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "/x", nil)
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	done := make(chan int)
	go func() { done <- ask("text/html").Code }()
	<-begun
	for accept, want := range map[string]string{"text/html": "text/html", "application/json": "application/problem+json"} {
		w := ask(accept)
		id := w.Header().Get(IncidentHeader)
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || !strings.HasPrefix(w.Header().Get("Content-Type"), want) {
			t.Errorf("%s: %d %v", accept, w.Code, w.Header())
		}
		if id == "" || !strings.Contains(w.Body.String(), id) || strings.Contains(w.Body.String(), "PASBANHOLE") {
			t.Errorf("%s: the answer does not name incident %q", accept, id)
		}
	}
	p.officer() // signed in now: waits, and is answered when there is room
	signedIn := make(chan int)
	go func() { signedIn <- ask("text/html").Code }()
	finish <- true
	<-begun
	finish <- true
	if a, b := <-done, <-signedIn; a != 200 || b != 200 {
		t.Errorf("answered %d and %d", a, b)
	}
	facts := p.take()
	if len(facts) != 1 || facts[0].Restricted.More["engine"] != "flood" || facts[0].Restricted.Status != http.StatusServiceUnavailable {
		t.Errorf("facts: %+v", facts)
	}
}

// TestRatesOfItsOwn bounds a route and a session beside the client.
func TestRatesOfItsOwn(t *testing.T) {
	upstream := upstreamOf(t, fixedPage)
	costly := config.Route{Match: "GET /costly", SignIn: "none", Rate: &config.Rate{PerSecond: 0.001, Burst: 2}}
	mine := config.Route{Match: "GET /mine", SignIn: "officer"}
	g, p := newGateway(t, func(c *config.Config) { c.Limits.Rate = config.Rate{PerSecond: 0.001, Burst: 3} },
		siteOf(upstream, costly, mine, config.Route{Match: "GET /", SignIn: "none"}))
	h := g.Handler()
	ask := func(path, ip, session string) int {
		r := httptest.NewRequest("GET", path, nil)
		r.RemoteAddr = ip + ":1"
		if session != "" {
			r.AddCookie(&http.Cookie{Name: page.SessionCookie, Value: session})
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	for i, want := range []int{200, 200, 429} {
		if got := ask("/costly", "192.0.2.1", ""); got != want {
			t.Errorf("request %d of the costly route: %d", i, got)
		}
	}
	if got := ask("/costly", "198.51.100.1", ""); got != 200 {
		t.Errorf("another client: %d", got)
	}
	p.officer()
	for i, want := range []int{200, 200, 200, 429} { // each from another network
		if got := ask("/mine", fmt.Sprintf("203.0.%d.1", i), "one"); got != want {
			t.Errorf("request %d of the session: %d", i, got)
		}
	}
	if got := ask("/mine", "203.0.9.1", "other"); got != 200 {
		t.Errorf("another session: %d", got)
	}
	metrics := make(chan prometheus.Metric, 100)
	g.Collect(metrics)
	close(metrics)
	var seen strings.Builder
	for m := range metrics {
		var out dto.Metric
		m.Write(&out)
		seen.WriteString(out.String())
	}
	for _, want := range []string{"requests of one route", "requests of one session", "stranger", "essential"} {
		if !strings.Contains(seen.String(), want) {
			t.Errorf("no metric has %q", want)
		}
	}
}

func TestCaller(t *testing.T) {
	g, p := newGateway(t, nil)
	open, essential := config.Route{}, config.Route{Essential: true}
	get, post := httptest.NewRequest("GET", "/", nil), httptest.NewRequest("POST", "/", nil)
	want := func(what string, got flood.Caller, want flood.Priority) {
		t.Helper()
		if got.Priority != want || got.Heavy {
			t.Errorf("%s: %+v", what, got)
		}
	}
	want("stranger", g.caller(open, post), flood.Stranger)
	want("stranger, essential", g.caller(essential, get), flood.Visitor)
	claimed := httptest.NewRequest("GET", "/", nil)
	claimed.AddCookie(&http.Cookie{Name: page.SessionCookie, Value: "made up"})
	want("a cookie that is no session", g.caller(open, claimed), flood.Stranger)
	passed := context.WithValue(t.Context(), visitKey{}, &visit{guest: &guest{holds: true, asked: true}})
	want("pass", g.caller(open, post.WithContext(passed)), flood.Visitor)
	want("pass, essential", g.caller(essential, get.WithContext(passed)), flood.Essential)
	p.officer()
	want("session", g.caller(open, get), flood.SignedIn)
	want("session, in the middle of something", g.caller(open, post), flood.Essential)
}

func TestListedIsRefused(t *testing.T) {
	upstream := upstreamOf(t, fixedPage)
	feed := filepath.Join(t.TempDir(), "feed.txt")
	os.WriteFile(feed, []byte("127.0.0.1"), 0o600)
	g, p := newGateway(t, func(c *config.Config) { c.Limits.BlockFiles = []string{feed} }, siteOf(upstream, config.Route{Match: "GET /", SignIn: "none"}))
	addr := serve(t, g)
	res, err := http.Get("http://" + addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	facts := p.take()
	if res.StatusCode != http.StatusForbidden || len(facts) != 1 || facts[0].Restricted.More["engine"] != "list" ||
		facts[0].Body.ID != res.Header.Get(IncidentHeader) || facts[0].Body.Kind != pasban.KindBlock {
		t.Errorf("%d, %+v", res.StatusCode, facts)
	}
	c := *g.o.Config
	c.Limits.BlockFiles = nil
	if err := g.Reload(&c); err != nil {
		t.Fatal(err)
	}
	if res, err = http.Get("http://" + addr + "/"); err != nil || res.StatusCode != 200 {
		t.Fatalf("after the list was removed: %v", err)
	}
	res.Body.Close()
	os.WriteFile(feed, []byte("nonsense"), 0o600)
	c.Limits.BlockFiles = []string{feed}
	if err := Check(&c); err == nil || !strings.Contains(err.Error(), "feed.txt:1") {
		t.Errorf("a broken list passes the check: %v", err)
	}
	if err := g.Reload(&c); err == nil {
		t.Error("a broken list was accepted")
	}
}

// A flood from a network must not lock out who is known there: neither does
// what neighbours do empty a citizen's own bucket, nor does a pass fill it.
func TestNeighboursOfAFlood(t *testing.T) {
	upstream := upstreamOf(t, fixedPage)
	g, p := newGateway(t, func(c *config.Config) { c.Limits.Rate = config.Rate{PerSecond: 1, Burst: 3} },
		siteOf(upstream, config.Route{Match: "GET /", SignIn: "none"}))
	h := g.Handler()
	ask := func(from, cookie, value string) int {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = from + ":4000"
		if cookie != "" {
			r.AddCookie(&http.Cookie{Name: cookie, Value: value})
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	for _, net := range []string{"192.0.2.%d", "[2001:db8:0:%x::1]"} {
		p.officer()
		if code := ask(fmt.Sprintf(net, 250), page.SessionCookie, "good"+net); code != http.StatusOK {
			t.Fatalf("a session before the flood: %d", code)
		}
		p.visitor = nil
		refused := 0
		for i := range 300 {
			if ask(fmt.Sprintf(net, i%200), "", "") == http.StatusTooManyRequests {
				refused++
			}
		}
		if refused < 100 {
			t.Fatalf("%s: only %d of the flood were refused", net, refused)
		}
		now := time.Now()
		from := netip.MustParseAddrPort(fmt.Sprintf(net, 240) + ":4000").Addr()
		earned := g.gate.book.Seal(pass.Earned(pass.Solved, pass.ID{7}, pass.NetworkOf(from), now))
		unearned := g.gate.book.Seal(pass.Meet(pass.NetworkOf(from), now))
		if code := ask(fmt.Sprintf(net, 241), "", ""); code != http.StatusTooManyRequests {
			t.Errorf("%s: a stranger among the flood: %d", net, code)
		}
		if code := ask(fmt.Sprintf(net, 241), passCookie, unearned); code != http.StatusTooManyRequests {
			t.Errorf("%s: a pass that is not earned yet: %d", net, code)
		}
		if code := ask(fmt.Sprintf(net, 241), passCookie, earned+"x"); code != http.StatusTooManyRequests {
			t.Errorf("%s: a forged pass: %d", net, code)
		}
		if code := ask(fmt.Sprintf(net, 241), page.SessionCookie, "made up"); code != http.StatusTooManyRequests {
			t.Errorf("%s: a session that nobody has: %d", net, code)
		}
		if code := ask(fmt.Sprintf(net, 251), page.SessionCookie, "good"+net); code != http.StatusOK {
			t.Errorf("%s: a session that is good: %d", net, code)
		}
		for i := range 5 {
			code, want := ask(fmt.Sprintf(net, 240), passCookie, earned), http.StatusOK
			if i >= 3 {
				want = http.StatusTooManyRequests // its own share still holds
			}
			if code != want {
				t.Errorf("%s: request %d with a pass: %d", net, i+1, code)
			}
		}
	}
}

// Two gateways with one database find each other, one without is alone.
func TestGatewaysShareLimits(t *testing.T) {
	dsn := storetest.PostgresDSN(t)
	share := func(c *config.Config) { c.Limits.Shared = config.Secret(dsn) }
	a, _ := newGateway(t, share)
	b, _ := newGateway(t, share)
	waitFor(t, func() bool {
		na, _ := a.limiter.Sharing()
		nb, _ := b.limiter.Sharing()
		return na == 2 && nb == 2
	})
	alone, _ := newGateway(t, nil)
	if n, _ := alone.limiter.Sharing(); n != 1 {
		t.Errorf("one without a database knows of %d", n)
	}
	c := *a.o.Config
	c.Limits.Shared = "off"
	if err := a.Reload(&c); pasban.KindOf(err) != pasban.Invalid {
		t.Errorf("a reload that changes where limits are shared: %v", err)
	}
}

// BenchmarkShed answers requests for which there is no room: by the standing
// page, through the whole chain before it.
func BenchmarkShed(b *testing.B) {
	finish := make(chan bool)
	begun := make(chan bool, 1)
	upstream := upstreamOf(b, func(w http.ResponseWriter, r *http.Request) {
		begun <- true
		<-finish
	})
	site := siteOf(upstream, config.Route{Match: "/", SignIn: "none"})
	site.Concurrency = 1
	g, _ := newGateway(b, nil, site)
	h := g.Handler()
	go h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	<-begun
	s := g.state.Load().other
	b.Run("answer", func(b *testing.B) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept", "text/html")
		begin := cpu()
		n := 0
		for b.Loop() {
			w := httptest.NewRecorder()
			s.shed(w, r, flood.Caller{})
			n++
		}
		b.ReportMetric(float64((cpu()-begin).Nanoseconds())/float64(n)/1e3, "cpu-µs/op")
	})
	b.Run("waits-then-shed", func(b *testing.B) { // many at once: the queue is full
		begin := cpu()
		n := 0
		b.SetParallelism(64)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				r := httptest.NewRequest("GET", "/", nil)
				r.Header.Set("Accept", "text/html")
				h.ServeHTTP(httptest.NewRecorder(), r)
			}
		})
		n = b.N
		b.ReportMetric(float64((cpu()-begin).Nanoseconds())/float64(n)/1e3, "cpu-µs/op")
	})
	close(finish)
}
