package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pasban"
	"pasban/internal/config"
)

// poolOf is the pool of a site whose upstreams have these addresses.
func poolOf(t testing.TB, site config.Site, report func(*target, error)) *pool {
	t.Helper()
	m := newMetrics(nil, nil, nil)
	p, err := newPool(site, nil, &m, new(streams), report)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p
}

func TestEjection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &condition{}
		reset := errors.New("connection reset")
		for i := range tolerated - 1 {
			if c.failed(reset, false) || c.isDown() {
				t.Fatalf("down after %d failures", i+1)
			}
		}
		c.served()
		for range tolerated - 1 {
			c.failed(reset, false)
		}
		if c.isDown() {
			t.Error("a success did not count")
		}
		if !c.failed(reset, false) || !c.isDown() || c.problem() != reset {
			t.Error("not down after failures in a row")
		}
		for _, wait := range []time.Duration{5, 10, 20, 40, 80, 160, 300, 300} {
			time.Sleep(wait*time.Second - time.Nanosecond) // synctest: no time passes
			if !c.isDown() {
				t.Errorf("up before %d seconds", wait)
			}
			time.Sleep(time.Nanosecond)
			if c.isDown() {
				t.Errorf("down after %d seconds", wait)
			}
			c.failed(reset, false) // one is enough now
		}
		if !c.served() || c.isDown() {
			t.Error("a success did not bring it back")
		}
		time.Sleep(2 * ejectMost)
		if !c.failed(reset, true) {
			t.Error("a refused connection did not count at once")
		}
		time.Sleep(ejectFirst)
		if c.isDown() {
			t.Error("an ejection long ago still counts")
		}
	})
}

// TestAlarmsAreFew: an upstream that comes and goes is not an alarm each time,
// and nobody is told that it is back who was not told that it had gone.
func TestAlarmsAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, gone, back := &condition{}, 0, 0
		for range 60 {
			if c.failed(io.EOF, true) {
				gone++
			}
			if c.served() {
				back++
			}
			time.Sleep(time.Second)
		}
		if gone != 6 || back != 6 {
			t.Errorf("%d times gone, %d times back in a minute", gone, back)
		}
	})
}

// pipes is a listener in memory, so that time can be synctest's.
type pipes struct {
	conns chan net.Conn
	ctx   context.Context
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.ctx.Done():
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var status atomic.Int64
		status.Store(200)
		ln := &pipes{conns: make(chan net.Conn), ctx: ctx}
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/up" || r.Host != "land.example" {
				t.Errorf("asked for %s of %s", r.URL, r.Host)
			}
			if status.Load() == 0 {
				<-r.Context().Done() // no answer
				return
			}
			w.WriteHeader(int(status.Load()))
		})}
		go srv.Serve(ln)
		defer srv.Close()
		var said []string
		site := config.Site{Host: "land.example", Upstream: []string{"http://a"}, Timeout: time.Minute,
			Health: &config.Health{Path: "/up", Interval: 10 * time.Second, Timeout: 2 * time.Second, Status: 200, Rise: 2, Fall: 3}}
		p := poolOf(t, site, func(_ *target, problem error) { said = append(said, fmt.Sprint(problem)) })
		p.targets[0].transport.DialContext = ln.dial
		done := make(chan bool)
		go func() { p.watch(ctx); close(done) }()

		step := func(to int64, seconds int, down bool) {
			t.Helper()
			status.Store(to)
			time.Sleep(time.Duration(seconds) * time.Second)
			if p.targets[0].isDown() != down {
				t.Errorf("answering %d for %d s: down is %t", to, seconds, !down)
			}
		}
		step(200, 5, false)
		step(500, 20, false) // two bad answers
		step(500, 10, true)
		step(200, 10, true) // one good one
		step(200, 10, false)
		step(0, 20+3, false)
		step(0, 10, true)
		cancel()
		<-done
		if want := []string{"/up answered 500, want 200", "<nil>"}; len(said) != 3 || !slices.Equal(said[:2], want) {
			t.Errorf("said %q", said)
		}
		srv.Close()
		p.close()
	})
}

func TestBalance(t *testing.T) {
	names := []string{"http://a", "http://b", "http://c"}
	first := func(p *pool, client string) string { return p.order(client)[0].name }
	site := config.Site{Host: "*", Upstream: names}
	for _, balance := range []string{"", "round_robin"} {
		site.Balance = balance
		p := poolOf(t, site, nil)
		if got := first(p, "") + first(p, "") + first(p, "") + first(p, ""); got != "http://ahttp://bhttp://chttp://a" {
			t.Errorf("in turn: %s", got)
		}
		p.targets[1].failed(io.EOF, true)
		for range 6 {
			if o := p.order(""); len(o) != 3 || o[2].name != "http://b" {
				t.Errorf("the one that is down is not last: %s", o[2].name)
			}
		}
	}
	site.Balance = "least_requests"
	p := poolOf(t, site, nil)
	p.targets[0].busy.Store(2)
	p.targets[1].busy.Store(1)
	p.targets[2].busy.Store(3)
	for range 5 {
		if o := p.order(""); o[0].name+o[1].name+o[2].name != "http://bhttp://ahttp://c" {
			t.Errorf("least: %s first", o[0].name)
		}
	}
	site.Balance = "random_two"
	p = poolOf(t, site, nil)
	p.targets[2].busy.Store(9)
	seen := map[string]int{}
	for range 200 {
		seen[first(p, "")]++
	}
	if seen["http://c"] != 0 || seen["http://a"] == 0 || seen["http://b"] == 0 {
		t.Errorf("of two: %v", seen) // the busiest is the less busy one of no pair
	}
	site.Balance = "client"
	p = poolOf(t, site, nil)
	seen = map[string]int{}
	moved := 0
	for i := range 300 {
		client := fmt.Sprintf("192.0.%d.%d", i/250, i%250)
		home := first(p, client+":1000")
		if again := first(p, client+":2000"); again != home {
			t.Errorf("%s went to %s and %s", client, home, again)
		}
		seen[home]++
		p.targets[0].condition = &condition{}
		p.targets[0].failed(io.EOF, true)
		if away := first(p, client+":3000"); home != "http://a" && away != home {
			moved++
		}
		p.targets[0].condition = &condition{}
	}
	if moved != 0 || len(seen) != 3 || seen["http://a"] < 60 || seen["http://b"] < 60 || seen["http://c"] < 60 {
		t.Errorf("clients: %v, %d moved for nothing", seen, moved)
	}
}

// cutOff takes requests, reads them whole and drops the connection.
func cutOff(seen *trace) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen.add("cut " + r.Method + " " + string(body))
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			conn.Close()
		}
	}
}

func TestRetry(t *testing.T) {
	var seen trace
	ill := upstreamOf(t, cutOff(&seen))
	busy := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, "busy")
	})
	well := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen.add("well " + r.Method + " " + string(body))
		io.WriteString(w, "answer")
	})
	for _, c := range []struct {
		first, waf, method, body string // a body after "…" is of unknown length
		status                   int
		want                     []string
	}{
		{ill, "off", "GET", "", 200, []string{"cut GET ", "well GET "}},
		{ill, "block", "DELETE", "", 200, []string{"cut DELETE ", "well DELETE "}},
		{ill, "block", "PUT", "a=1", 200, []string{"cut PUT a=1", "well PUT a=1"}},
		{ill, "off", "PUT", "a=1", 200, []string{"cut PUT a=1", "well PUT a=1"}},
		{ill, "off", "PUT", "…a=1", 502, []string{"cut PUT …a=1"}}, // its body is gone
		{ill, "block", "POST", "a=1", 502, []string{"cut POST a=1"}},
		{ill, "block", "PATCH", "a=1", 502, []string{"cut PATCH a=1"}},
		{busy, "off", "GET", "", 200, []string{"well GET "}},
		{busy, "block", "PUT", "a=1", 200, []string{"well PUT a=1"}},
		{busy, "off", "POST", "a=1", 503, nil},
	} {
		site := siteOf(c.first, config.Route{Match: "/", SignIn: "none"})
		site.Upstream, site.WAF.Mode = append(site.Upstream, well), c.waf
		site.WAF.Custom = []string{methodsAllowed(t)}
		g, _ := newGateway(t, nil, site)
		req, _ := http.NewRequestWithContext(t.Context(), c.method, "http://"+serve(t, g)+"/a", strings.NewReader(c.body))
		if strings.HasPrefix(c.body, "…") {
			req.ContentLength = -1
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Accept", "*/*")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if got := seen.take(); res.StatusCode != c.status || !slices.Equal(got, c.want) {
			t.Errorf("%s, waf %s: %d, %q", c.method, c.waf, res.StatusCode, got)
		}
	}
}

// TestOneWrite: a request with a small body leaves for the service in one piece.
func TestOneWrite(t *testing.T) {
	upstream := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Write(body)
	})
	for _, mode := range []string{"off", "block"} {
		site := siteOf(upstream, config.Route{Match: "/", SignIn: "none"})
		site.WAF.Mode = mode
		g, _ := newGateway(t, nil, site)
		transport := g.state.Load().sites["*"].proxy.pool.targets[0].transport
		dial, writes := transport.DialContext, new(atomic.Int64)
		transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(ctx, network, addr)
			return writeCounter{conn, writes}, err
		}
		body := strings.Repeat("a=1&", 500) + "b=2"
		res, err := http.Post("http://"+serve(t, g)+"/", "application/x-www-form-urlencoded", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || string(got) != body || writes.Load() != 1 {
			t.Errorf("waf %s: %d bytes came back, %d writes, %v", mode, len(got), writes.Load(), err)
		}
	}
}

// writeCounter counts the writes to a connection.
type writeCounter struct {
	net.Conn
	writes *atomic.Int64
}

func (c writeCounter) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// methodsAllowed are rules that let the methods of an API pass.
func methodsAllowed(t *testing.T) string {
	file := filepath.Join(t.TempDir(), "methods.conf")
	rule := `SecAction "id:1,phase:1,pass,nolog,setvar:'tx.allowed_methods=GET HEAD POST OPTIONS PUT PATCH DELETE'"` + "\n"
	if err := os.WriteFile(file, []byte(rule), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestRetryIsOneLook: the service is asked twice, the look is journaled once.
func TestRetryIsOneLook(t *testing.T) {
	var seen trace
	site := siteOf(upstreamOf(t, cutOff(&seen)), recordRoutes()...)
	site.Upstream = append(site.Upstream, upstreamOf(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, first)
	}))
	for _, target := range []string{"/records/" + first, "/search"} {
		g, p := newGateway(t, nil, site)
		p.officer()
		if w := get(g, "GET", target); w.Code != http.StatusOK {
			t.Errorf("%s: %d", target, w.Code)
		}
		if looks := p.asked(); len(looks) != 1 {
			t.Errorf("%s: looks %v", target, looks)
		}
	}
}

// TestRetryBudget: when everything is ill, retries are a small part of the
// requests.
func TestRetryBudget(t *testing.T) {
	var asked atomic.Int64
	busy := func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	site := siteOf(upstreamOf(t, busy), config.Route{Match: "/", SignIn: "none"})
	site.Upstream = append(site.Upstream, upstreamOf(t, busy), upstreamOf(t, busy))
	g, _ := newGateway(t, nil, site)
	pool := g.state.Load().sites["*"].proxy.pool
	const n = 300
	for range n {
		for _, target := range pool.targets { // ejection would end retries too
			target.served()
		}
		if w := get(g, "GET", "/"); w.Code != http.StatusServiceUnavailable {
			t.Fatalf("answered %d", w.Code)
		}
	}
	if got := asked.Load(); got < n+n/10 || got > n+n/5+retryMost {
		t.Errorf("upstreams were asked %d times for %d requests", got, n)
	}
}

// TestUpstreamReturns restarts an upstream at the same address: it goes, which
// is a fact, and comes back, which is one too.
func TestUpstreamReturns(t *testing.T) {
	ln := listen(t)
	addr := ln.Addr().String()
	up := &http.Server{Handler: http.HandlerFunc(fixedPage)}
	go up.Serve(ln)
	g, p := newGateway(t, nil, siteOf("http://"+addr, config.Route{Match: "/", SignIn: "none"}))
	said := func(reason string) func() bool {
		return func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return slices.ContainsFunc(p.facts, func(f pasban.Fact) bool { return slices.Contains(f.Restricted.Reasons, reason) })
		}
	}
	if w := get(g, "GET", "/"); w.Code != 200 || g.Upstreams()[0].Problem != nil {
		t.Fatalf("%d, %v", w.Code, g.Upstreams())
	}
	up.Close()
	waitFor(t, func() bool {
		return get(g, "GET", "/").Code == http.StatusBadGateway && g.Upstreams()[0].Problem != nil
	})
	waitFor(t, said("upstream unreachable"))
	again, err := net.Listen("tcp", addr)
	if err != nil {
		t.Skip("the port was taken by somebody else: ", err)
	}
	up = &http.Server{Handler: http.HandlerFunc(fixedPage)}
	go up.Serve(again)
	defer up.Close()
	waitFor(t, func() bool { return get(g, "GET", "/").Code == http.StatusOK })
	waitFor(t, said("upstream back"))
	if err := g.Upstreams()[0].Problem; err != nil {
		t.Error(err)
	}
}

// TestReloadKeepsConditions: what is known of an upstream outlives a reload.
func TestReloadKeepsConditions(t *testing.T) {
	dead := httptest.NewServer(nil)
	dead.Close()
	site := siteOf(dead.URL, config.Route{Match: "/", SignIn: "none"})
	g, _ := newGateway(t, nil, site)
	get(g, "GET", "/")
	c := *g.o.Config
	site.Upstream = append([]string{upstreamOf(t, fixedPage)}, site.Upstream...)
	c.Sites = []config.Site{site}
	if err := g.Reload(&c); err != nil {
		t.Fatal(err)
	}
	if u := g.Upstreams(); len(u) != 2 || u[0].Problem != nil || u[1].Problem == nil {
		t.Errorf("after a reload: %+v", u)
	}
}

func TestUpstreamTLS(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(fixedPage))
	defer s.Close()
	s.Config.ErrorLog = nil
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		conf config.UpstreamTLS
		want int
	}{{config.UpstreamTLS{}, 502}, {config.UpstreamTLS{CA: ca}, 200}, {config.UpstreamTLS{CA: ca, ServerName: "example.com"}, 200},
		{config.UpstreamTLS{CA: ca, ServerName: "other.example"}, 502}} {
		site := siteOf(s.URL, config.Route{Match: "/", SignIn: "none"})
		site.UpstreamTLS = c.conf
		g, _ := newGateway(t, nil, site)
		if w := get(g, "GET", "/"); w.Code != c.want {
			t.Errorf("%+v: %d", c.conf, w.Code)
		}
	}
}

// TestTrailers: a service that speaks HTTP/2 without TLS answers with trailers,
// as gRPC does, while the request still streams.
func TestTrailers(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 || r.Header.Get("Te") != "trailers" {
			t.Errorf("%s, TE %q", r.Proto, r.Header.Get("Te"))
		}
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		in := bufio.NewReader(r.Body)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				break
			}
			io.WriteString(w, "echo "+line)
			http.NewResponseController(w).Flush()
		}
		w.Header().Set("Grpc-Status", "0")
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	defer s.Close()
	g, _ := newGateway(t, withTLS, siteOf(strings.Replace(s.URL, "http:", "h2c:", 1), config.Route{Match: "POST /", SignIn: "none"}))
	out, in := io.Pipe()
	req, _ := http.NewRequestWithContext(t.Context(), "POST", "https://"+serve(t, g)+"/", out)
	req.Header.Set("TE", "trailers")
	client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: trusting(t, g)}}
	defer client.CloseIdleConnections()
	go io.WriteString(in, "one\n")
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body := bufio.NewReader(res.Body)
	if line, err := body.ReadString('\n'); line != "echo one\n" {
		t.Errorf("%q, %v", line, err)
	}
	io.WriteString(in, "two\n")
	if line, err := body.ReadString('\n'); line != "echo two\n" {
		t.Errorf("%q, %v", line, err)
	}
	in.Close()
	io.Copy(io.Discard, body)
	if got := res.Trailer.Get("Grpc-Status"); got != "0" {
		t.Errorf("trailer: %q", got)
	}
}

// TestUploadStreams: without a firewall the service reads a body while the
// visitor still writes it.
func TestUploadStreams(t *testing.T) {
	got := make(chan string)
	upstream := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) {
		in := bufio.NewReader(r.Body)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			got <- line
		}
	})
	g, _ := newGateway(t, nil, siteOf(upstream, config.Route{Match: "POST /", SignIn: "none"}))
	out, in := io.Pipe()
	req, _ := http.NewRequestWithContext(t.Context(), "POST", "http://"+serve(t, g)+"/", out)
	ended := make(chan error, 1)
	go func() {
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			res.Body.Close()
		}
		ended <- err
	}()
	for _, line := range []string{"one\n", "two\n"} {
		io.WriteString(in, line)
		if l := <-got; l != line {
			t.Errorf("%q", l)
		}
	}
	in.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// switchingTo runs a service that answers every request by switching protocols,
// with these header lines; left is closed when its connection has ended.
func switchingTo(t *testing.T, header string) (upstream string, left chan bool) {
	left = make(chan bool)
	return upstreamOf(t, func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n"+header+"\r\n")
		io.Copy(io.Discard, rw)
		close(left)
	}), left
}

// TestUpgradeEnds: an upgraded connection is counted, and it does not outlive
// the server, which has forgotten it.
func TestUpgradeEnds(t *testing.T) {
	upstream, left := switchingTo(t, "Connection: Upgrade\r\nUpgrade: websocket\r\n")
	site := siteOf(upstream, config.Route{Match: "GET /", SignIn: "none"})
	site.WAF.Mode = "block"
	g, _ := newGateway(t, nil, site)
	ctx, stop := context.WithCancel(t.Context())
	ln := listen(t)
	served := make(chan error, 1)
	go func() { served <- g.Serve(ctx, ln) }()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET /socket HTTP/1.1\r\nHost: test.example\r\nAccept: */*\r\nUser-Agent: synthetic\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	r := bufio.NewReader(conn)
	if res, err := http.ReadResponse(r, nil); err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", res, err)
	}
	if n := g.streams.upgraded.Load(); n != 1 || g.Upstreams() == nil || g.limiter.Connections() != 1 {
		t.Errorf("%d upgraded, %d connections", n, g.limiter.Connections())
	}
	stop()
	if _, err := r.ReadByte(); err != io.EOF && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") {
		t.Errorf("the connection is still there: %v", err)
	}
	<-left
	if err := <-served; err != nil {
		t.Error(err)
	}
	waitFor(t, func() bool { return g.streams.upgraded.Load() == 0 && g.limiter.Connections() == 0 })
	if busy := g.state.Load().sites["*"].proxy.pool.targets[0].busy.Load(); busy != 0 {
		t.Errorf("%d requests are under way for ever", busy)
	}
}

// TestUpgradeUnasked: a service that switches to another protocol than was asked
// for is refused, and nothing of it stays open.
func TestUpgradeUnasked(t *testing.T) {
	for _, c := range []struct{ asks, answers string }{
		{"", "Connection: Upgrade\r\nUpgrade: websocket\r\n"},
		{"", ""},
		{"Connection: Upgrade\r\nUpgrade: websocket\r\n", ""},
		{"Connection: Upgrade\r\nUpgrade: websocket\r\n", "Connection: Upgrade\r\nUpgrade: other\r\n"},
	} {
		upstream, left := switchingTo(t, c.answers)
		g, _ := newGateway(t, nil, siteOf(upstream, config.Route{Match: "GET /", SignIn: "none"}))
		addr := serve(t, g)
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, "GET /socket HTTP/1.1\r\nHost: test.example\r\nAccept: */*\r\nUser-Agent: synthetic\r\n"+c.asks+"\r\n")
		if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || res.StatusCode != http.StatusBadGateway {
			t.Errorf("%+v: %v, %v", c, res, err)
		}
		<-left
		waitFor(t, func() bool { return g.state.Load().sites["*"].proxy.pool.targets[0].busy.Load() == 0 })
		if n := g.streams.upgraded.Load(); n != 0 || len(g.streams.open) != 0 {
			t.Errorf("%+v: %d upgraded connections, %d streams are left", c, n, len(g.streams.open))
		}
	}
}

// TestBodyAgain: what a service gets the second time is the whole body.
func TestBodyAgain(t *testing.T) {
	big := bytes.Repeat([]byte("a=1&"), 20_000) // more than fits the sockets' buffers at once is not needed: it was read whole
	var seen trace
	site := siteOf(upstreamOf(t, cutOff(&seen)), config.Route{Match: "/", SignIn: "none"})
	site.Upstream = append(site.Upstream, upstreamOf(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprint(w, bytes.Equal(body, big))
	}))
	site.WAF.Mode, site.WAF.Custom = "detect", []string{methodsAllowed(t)}
	g, _ := newGateway(t, nil, site)
	r := httptest.NewRequest("PUT", "/", bytes.NewReader(big))
	r.Header.Set("Content-Type", "text/plain")
	w := httptest.NewRecorder()
	g.Handler().ServeHTTP(w, r)
	if w.Body.String() != "true" {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
}

// TestVisitorsFault: uploads that are too long do not make an upstream ill.
func TestVisitorsFault(t *testing.T) {
	upstream := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	g, _ := newGateway(t, func(c *config.Config) { c.Limits.Body = 1024 }, siteOf(upstream, config.Route{Match: "/", SignIn: "none"}))
	addr := serve(t, g)
	for range 2 * tolerated {
		req, _ := http.NewRequestWithContext(t.Context(), "PUT", "http://"+addr+"/", io.MultiReader(bytes.NewReader(make([]byte, 4096))))
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("answered %d", res.StatusCode)
		}
	}
	if p := g.Upstreams()[0].Problem; p != nil {
		t.Errorf("the upstream is blamed: %v", p)
	}
}
