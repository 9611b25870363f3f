package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"pasban/internal/config"
	"pasban/internal/page"
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
					var judged strings.Builder
					for _, f := range p.take() {
						if f.Body.ID == id || id == "" {
							judged.WriteString(f.Body.Action + " ")
						}
					}
					switch {
					case err != nil:
						t.Error(err)
					case whole == 0 && res.StatusCode >= 400 && res.StatusCode < 500 && judged.String() != "": // refused, and told of
					case whole == 1 && mode == "detect" && judged.String() == "waf ": // let through, and told of
					default:
						t.Errorf("%s, %s, %d, chunked %t: answered %d, the service got %d, facts %q", mode, name, n, chunked, res.StatusCode, whole, judged.String())
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
	for i := 1; ; i++ { // and has no more connections than anybody
		c, err := tls.DialWithDialer(&net.Dialer{LocalAddr: d.LocalAddr, Timeout: 2 * time.Second}, "tcp", addr, trusting(t, g))
		if err != nil {
			break
		}
		defer c.Close()
		if i == 20 {
			t.Fatal("a stranger has twenty connections because there is a balancer")
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

// TestWholeBodyAgain has upstreams fail at every point of a request with a body
// that the light rule set, or after it the whole one, has read: what may be sent
// again reaches the next one byte for byte, what may not reaches nobody else.
func TestWholeBodyAgain(t *testing.T) {
	var seen trace
	got := func(name string, body []byte) {
		seen.add(fmt.Sprintf("%s %d %x", name, len(body), sha256.Sum256(body)))
	}
	first := map[string]string{
		"read all, then closed": upstreamOf(t, func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			conn, _, _ := http.NewResponseController(w).Hijack()
			conn.Close()
		}),
		"read some, then closed": upstreamOf(t, func(w http.ResponseWriter, r *http.Request) {
			io.ReadFull(r.Body, make([]byte, 10))
			conn, _, _ := http.NewResponseController(w).Hijack()
			conn.Close()
		}),
		"busy": upstreamOf(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }),
	}
	second := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got("second", body)
	})
	rule := filepath.Join(t.TempDir(), "whole.conf")
	text := `SecRule REQUEST_HEADERS:X-Whole "@streq yes" "id:9200,phase:2,pass,log,msg:'whole'"` + "\n"
	if err := os.WriteFile(rule, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for how, upstream := range first {
		site := siteOf(upstream, config.Route{Match: "/", SignIn: "none"})
		site.Upstream = append(site.Upstream, second)
		site.WAF.Mode, site.WAF.Custom = "block", []string{methodsAllowed(t), rule}
		g, _ := newGateway(t, nil, site)
		addr, pool := serve(t, g), g.state.Load().sites["*"].proxy.pool
		try := func(method, whole string, size int, chunked bool) {
			pool.next.Store(0)
			pool.budget.tokens = retryMost
			for _, target := range pool.targets {
				target.served()
			}
			body := bytes.Repeat([]byte("asyntheticlineof+"), size/17+1)
			for i := range size / 1000 { // no two places are alike
				copy(body[i*1000:], strconv.Itoa(i))
			}
			sum := fmt.Sprintf("second %d %x", len(body)+2, sha256.Sum256([]byte("a="+string(body))))
			raw := strings.Replace(framed(method, "application/x-www-form-urlencoded", "a="+string(body), chunked), "\r\n", "\r\nX-Whole: "+whole+"\r\n", 1)
			res, _ := ask(t, addr, 2, raw)
			want, status := []string{sum}, http.StatusOK
			if method == "POST" {
				want, status = nil, map[bool]int{true: 503, false: 502}[how == "busy"]
			}
			if now := seen.take(); res == nil || res.StatusCode != status || !slices.Equal(now, want) {
				t.Errorf("%s, %s, whole rule set %s, %d bytes, chunked %t: answered %v, %q, want %q", how, method, whole, size, chunked, res.StatusCode, now, want)
			}
		}
		for _, whole := range []string{"no", "yes"} {
			for _, size := range []int{3, 300 << 10} { // more than a request may hold without asking
				for _, method := range []string{"PUT", "POST"} {
					try(method, whole, size, false)
					try(method, whole, size, true)
				}
			}
		}
	}
}

// TestPostIsSentOnce: a service takes a form over a connection that was used
// before and closes it. net/http would send the form again if the visitor gave
// it a key that says it may.
func TestPostIsSentOnce(t *testing.T) {
	ln := listen(t)
	defer ln.Close()
	var posts atomic.Int64
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					body, _ := io.ReadAll(req.Body)
					if req.Method == "POST" {
						if string(body) != "a=1" || req.Header.Get("Idempotency-Key") != "k" || req.Header.Get("X-Idempotency-Key") != "k" {
							t.Errorf("the service got %q, %v", body, req.Header)
						}
						posts.Add(1)
						return
					}
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				}
			}()
		}
	}()
	for _, mode := range []string{"off", "block"} {
		posts.Store(0)
		site := siteOf("http://"+ln.Addr().String(), config.Route{Match: "/", SignIn: "none"})
		site.WAF.Mode = mode
		g, _ := newGateway(t, nil, site)
		addr := serve(t, g)
		if res, _ := ask(t, addr, 2, "GET /open HTTP/1.1\r\nHost: a.example\r\nUser-Agent: synthetic\r\nAccept: */*\r\n\r\n"); res == nil || res.StatusCode != 200 {
			t.Fatalf("%+v", res)
		}
		raw := strings.Replace(framed("POST", "application/x-www-form-urlencoded", "a=1", false), "\r\n", "\r\nIdempotency-Key: k\r\nX-Idempotency-Key: k\r\n", 1)
		if res, _ := ask(t, addr, 2, raw); res == nil || res.StatusCode != http.StatusBadGateway || posts.Load() != 1 {
			t.Errorf("%s: answered %+v, the service got %d forms", mode, res, posts.Load())
		}
	}
}

// TestFailedReloadChangesNothing: of a configuration that cannot be built not
// even what sites share over reloads comes into force.
func TestFailedReloadChangesNothing(t *testing.T) {
	conf := func(rate float64, most int, start, rules string) []config.Site {
		s := siteOf("http://127.0.0.1:1", config.Route{Match: "GET /tax/", SignIn: "none", Queue: &config.Queue{Admit: rate, Stay: time.Minute}})
		s.Concurrency, s.Attack.Start = most, start
		bad := config.Site{Host: "bad.example", WAF: config.WAF{Mode: "off"}}
		if rules != "" {
			bad.WAF = config.WAF{Mode: "block", Paranoia: 1, Custom: []string{rules}}
		}
		return []config.Site{s, bad}
	}
	g, _ := newGateway(t, nil, conf(1, 7, "manual", "")...)
	name := g.state.Load().other.name
	force := func() string {
		room := g.gate.rooms.Room(name+" GET /tax/", 0, time.Now())
		for range 1000 {
			room.Join(time.Now())
		}
		wait := room.Turn(1+uint64(room.Waiting(time.Now())), time.Now()).Wait
		return fmt.Sprint(g.state.Load().other.load.Load().Limit, g.gate.load(name).auto.Load(), wait > 5*time.Minute)
	}
	if got := force(); got != "7 false true" {
		t.Fatalf("in force: %s", got)
	}
	c := *g.o.Config
	c.Sites = conf(1000, 3, "auto", "/nowhere.conf")
	if err := g.Reload(&c); err == nil {
		t.Fatal("rules that are not there were accepted")
	}
	if got := force(); got != "7 false true" {
		t.Errorf("after a reload that failed: %s", got)
	}
	c.Sites = conf(1000, 3, "auto", "")
	if err := g.Reload(&c); err != nil {
		t.Fatal(err)
	}
	if got := force(); got != "3 true false" {
		t.Errorf("after one that did not: %s", got)
	}
	c.Sites = conf(1000, 3, "auto", "")[1:] // the site is gone
	if err := g.Reload(&c); err != nil || g.gate.load(name).auto.Load() {
		t.Errorf("%v: a site that is gone may still start its attack mode", err)
	}
}

// TestLogsTellNoSecret has attacks in every place where secrets are: the rules
// that they match are in the log, what was sent there is in none.
func TestLogsTellNoSecret(t *testing.T) {
	const attack = "' OR '1'='1' UNION SELECT cnic FROM owners--"
	for _, form := range []string{"combined", "json"} {
		site := siteOf(upstreamOf(t, fixedPage), config.Route{Match: "/", SignIn: "none"})
		site.WAF.Mode, site.WAF.Paranoia = "detect", 4
		g, p := newGateway(t, withLog(form), site)
		h := g.Handler()
		places := 0
		for _, change := range map[string]func(r *http.Request){
			"query":         func(r *http.Request) { r.URL.RawQuery = "token=SECRET&q=" + url.QueryEscape(attack) },
			"cookie":        func(r *http.Request) { r.Header.Set("Cookie", "sid=SECRET"+attack) },
			"own cookie":    func(r *http.Request) { r.Header.Set("Cookie", page.SessionCookie+"=SECRET"+attack) },
			"authorization": func(r *http.Request) { r.Header.Set("Authorization", "Bearer SECRET"+attack) },
			"token":         func(r *http.Request) { r.Header.Set(TokenHeader, "SECRET"+attack) },
			"password":      func(r *http.Request) { r.URL.RawQuery = "password=" + url.QueryEscape("SECRET"+attack) },
			"link": func(r *http.Request) {
				r.URL.Path = "/pasban/enrol/SECRET"
				r.URL.RawQuery = "q=" + url.QueryEscape(attack)
			},
			"referrer": func(r *http.Request) { r.Header.Set("Referer", "https://a.example/x?token=SECRET&q="+attack) },
		} {
			r := httptest.NewRequest("GET", "/x", nil)
			r.Header.Set("User-Agent", "synthetic")
			r.Header.Set("Accept", "text/html")
			change(r)
			r.RequestURI = r.URL.RequestURI()
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			for _, f := range p.take() {
				if f.Body.Action == "waf" {
					places++
				}
			}
		}
		if places < 8 {
			t.Errorf("only %d of the attacks were seen", places)
		}
		lines := logged(t, g)
		waf, err := os.ReadFile(filepath.Join(g.o.Config.Data, "log", "waf.log"))
		if err != nil || !bytes.Contains(waf, []byte(`[uri "/x"]`)) {
			t.Fatalf("%v: %s", err, waf)
		}
		for line := range strings.Lines(strings.Join(lines, "\n") + "\n" + string(waf)) {
			if strings.Contains(strings.ToUpper(line), "SECRET") {
				t.Errorf("%s: %s", form, line)
			}
		}
	}
}

// TestMalformedOverHTTP2 sends what is malformed in content, not in framing,
// over HTTP/2 through a firewall that blocks: it is refused as over HTTP/1, told
// of, and reaches no service, which speaks HTTP/1.
func TestMalformedOverHTTP2(t *testing.T) {
	service := newListener(t)
	site := siteOf("http://"+service.Addr().String(), config.Route{Match: "/", SignIn: "none"})
	site.WAF.Mode = "block"
	g, p := newGateway(t, withTLS, site)
	addr := serve(t, g)
	sent := 0
	for i, c := range rawCases {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(c.raw)))
		if err != nil || r.Host != "a.example" || len(r.TransferEncoding) > 0 || r.Method == "CONNECT" || r.URL.Host != "" || r.Proto != "HTTP/1.1" || c.status == 417 ||
			c.reason == faultFold || c.reason == faultBareLF || strings.HasPrefix(c.reason, "body that breaks") || strings.HasPrefix(c.reason, "431") || strings.HasPrefix(c.reason, "400") {
			continue // framing, which HTTP/2 has of its own
		}
		sent++
		body, err := io.ReadAll(r.Body)
		if err != nil {
			body = make([]byte, r.ContentLength) // too large to be written down
		}
		out, _ := http.NewRequestWithContext(t.Context(), r.Method, "https://localhost"+r.RequestURI, bytes.NewReader(body))
		out.Header, out.Host = r.Header, r.Host
		out.Header.Del("Expect")
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 4, 0, byte(i+1))}}
		tr := &http.Transport{TLSClientConfig: trusting(t, g), ForceAttemptHTTP2: true}
		tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
		res, err := tr.RoundTrip(out)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		tr.CloseIdleConnections()
		_, whole, err := service.take()
		if err != nil || res.ProtoMajor != 2 || res.StatusCode != c.status || (whole == 1) != (c.status == 200) {
			t.Errorf("%s: %s %d, want %d; the service got %d, %v", c.name, res.Proto, res.StatusCode, c.status, whole, err)
		}
		var reasons []string
		for _, f := range p.take() {
			reasons = append(reasons, f.Restricted.Reasons...)
		}
		if c.reason != "" && (len(reasons) != 1 || reasons[0] != c.reason) || c.reason == "" && len(reasons) > 0 {
			t.Errorf("%s: told as %q, want %q", c.name, reasons, c.reason)
		}
	}
	if sent < 22 {
		t.Errorf("only %d cases were sent", sent)
	}
}
