package gateway

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/corazawaf/coraza/v3/experimental/plugins"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/registry"
)

// listener is a service that answers everything, and keeps how its requests
// were framed.
type listener struct {
	net.Listener
	mu    sync.Mutex // covers all below
	heads []string   // request lines with headers, as they came
	whole int        // requests that came to their end
	bad   []error    // what a strict reader finds wrong
}

func newListener(t testing.TB) *listener {
	l := &listener{Listener: listen(t)}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go l.serve(c)
		}
	}()
	return l
}

func (l *listener) serve(c net.Conn) {
	defer c.Close()
	var seen bytes.Buffer // from the beginning of the request under way
	r := bufio.NewReader(io.TeeReader(c, &seen))
	for {
		req, err := http.ReadRequest(r)
		head, _, _ := strings.Cut(seen.String(), "\r\n\r\n")
		l.note(head, err)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return // the gateway gave it up
		}
		seen.Next(seen.Len() - r.Buffered())
		l.mu.Lock()
		l.whole++
		l.mu.Unlock()
		if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"); err != nil {
			return
		}
	}
}

func (l *listener) note(head string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.heads = append(l.heads, head)
		err = oneFraming(head)
	} else if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) {
		return
	}
	if err != nil {
		l.bad = append(l.bad, err)
	}
}

// take returns what came so far and forgets it.
func (l *listener) take() (heads string, whole int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	heads, whole, err = strings.Join(l.heads, "\n"), l.whole, errors.Join(l.bad...)
	l.heads, l.whole, l.bad = nil, 0, nil
	return heads, whole, err
}

// oneFraming reports what is ambiguous in the head of a request.
func oneFraming(head string) error {
	framed := 0
	for i, line := range strings.Split(head, "\r\n") {
		if strings.ContainsAny(line, "\r\n\x00") {
			return fmt.Errorf("a bare control character in %q", line)
		}
		name, _, _ := strings.Cut(line, ":")
		if i > 0 && (strings.EqualFold(name, "Content-Length") || strings.EqualFold(name, "Transfer-Encoding")) {
			framed++
		}
	}
	if framed > 1 {
		return fmt.Errorf("framed in two ways: %q", head)
	}
	return nil
}

// exchangeRaw sends bytes and returns the first response's status, 0 if there was none.
// client is the last number of its loopback address; cut says that nothing
// more will come, for which net/http takes the client as gone.
func exchangeRaw(t testing.TB, addr string, client int, raw []byte, cut bool) (status int) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, byte(client>>8), byte(client))}}
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	go func() {
		if conn.Write(raw); cut {
			conn.(*net.TCPConn).CloseWrite()
		}
	}()
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0
	}
	return res.StatusCode
}

// rawCases are requests that two servers may read differently, or that ask for
// more work than any honest one.
var rawCases = []struct {
	name, raw string
	status    int
	reason    string // of the event
}{
	{"honest", "GET /open HTTP/1.1\r\nHost: a.example\r\n\r\n", 200, ""},
	{"honest form", "POST /open HTTP/1.1\r\nHost: a.example\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\na=1&b=%41", 200, ""},
	{"honest chunks", "POST /open HTTP/1.1\r\nHost: a.example\r\nContent-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na=1\r\n0\r\n\r\n", 200, ""},
	{"two framings", "POST /open HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x", 400, faultTwoLengths},
	{"two framings, other order", "POST /open HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400, faultTwoLengths},
	{"two lengths", "POST /open HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400, "400 Bad Request"},
	{"length list", "POST /open HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1, 1\r\n\r\na", 400, "400 Bad Request"},
	{"signed length", "POST /open HTTP/1.1\r\nHost: a.example\r\nContent-Length: +1\r\n\r\na", 400, "400 Bad Request"},
	{"two codings", "POST /open HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501, "501 Not Implemented"},
	{"coding in disguise", "POST /open HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501, "501 Not Implemented"},
	{"coding with blanks", "POST /open HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400, "400 Bad Request"},
	{"folded line", "GET /open HTTP/1.1\r\nHost: a.example\r\nX-A: 1\r\n 2\r\n\r\n", 400, faultFold},
	{"bare LF", "GET /open HTTP/1.1\nHost: a.example\n\n", 400, faultBareLF},
	{"bare LF in one line", "GET /open HTTP/1.1\r\nHost: a.example\r\nX-A: 1\nX-B: 2\r\n\r\n", 400, faultBareLF},
	{"bare CR", "GET /open HTTP/1.1\r\nHost: a.example\r\nX-A: 1\rX-B: 2\r\n\r\n", 400, "400 Bad Request"},
	{"NUL in a value", "GET /open HTTP/1.1\r\nHost: a.example\r\nX-A: 1\x002\r\n\r\n", 400, "400 Bad Request"},
	{"blank in a name", "GET /open HTTP/1.1\r\nHost: a.example\r\nX A: 1\r\n\r\n", 400, "400 Bad Request"},
	{"no host", "GET /open HTTP/1.1\r\n\r\n", 400, "400 Bad Request: missing required Host header"},
	{"two hosts", "GET /open HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n", 400, "400 Bad Request"},
	{"host with a user", "GET /open HTTP/1.1\r\nHost: a@b.example\r\n\r\n", 400, "400 Bad Request: malformed Host header"},
	{"host with a parameter", "GET /open HTTP/1.1\r\nHost: a.example;b\r\n\r\n", 400, "not a host"},
	{"whole address", "GET http://b.example/open HTTP/1.1\r\nHost: a.example\r\n\r\n", 400, "a request to a proxy"},
	{"tunnel", "CONNECT b.example:443 HTTP/1.1\r\nHost: b.example:443\r\n\r\n", 400, "a request to a proxy"},
	{"no version", "GET /open\r\n\r\n", 400, "400 Bad Request"},
	{"HTTP/9", "GET /open HTTP/9.1\r\nHost: a.example\r\n\r\n", 505, "505"},
	{"nonsense", "\x16\x03\x01\x02\x00\r\n\r\n", 400, "400 Bad Request"},
	{"huge header", "GET /open HTTP/1.1\r\nHost: a.example\r\nX-A: " + strings.Repeat("a", 64<<10) + "\r\n\r\n", 431, "431"},
	{"unknown expectation", "POST /open HTTP/1.1\r\nHost: a.example\r\nExpect: the-unexpected\r\nContent-Length: 1\r\n\r\na", 417, ""},
	{"body too large", "POST /open HTTP/1.1\r\nHost: a.example\r\nExpect: 100-continue\r\nContent-Length: 1048577\r\n\r\n", 413, "body too large"},
	{"chunks too large", "POST /open HTTP/1.1\r\nHost: a.example\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n100001\r\n" + strings.Repeat("a", 1<<20+1) + "\r\n0\r\n\r\n", 413, "body too large"},
	{"chunk that is none", "POST /open HTTP/1.1\r\nHost: a.example\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n", 400, "body that breaks off or is not framed"},
	{"huge chunk extension", "POST /open HTTP/1.1\r\nHost: a.example\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n1;" + strings.Repeat("a", 64<<10) + "\r\na\r\n0\r\n\r\n", 400, "body that breaks off or is not framed"},
	{"many chunk extensions", "POST /open HTTP/1.1\r\nHost: a.example\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1;"+strings.Repeat("b", 512)+"\r\na\r\n", 200) + "0\r\n\r\n", 400, "body that breaks off or is not framed"},
	{"body that breaks off", "POST /open HTTP/1.1\r\nHost: a.example\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\nabc", 400, "body that breaks off or is not framed"},
	{"compressed", "POST /open HTTP/1.1\r\nHost: a.example\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", 415, "compressed body"},
	{"compressed twice", "POST /open HTTP/1.1\r\nHost: a.example\r\nContent-Encoding: identity\r\nContent-Encoding: br\r\nContent-Length: 3\r\n\r\nabc", 415, "compressed body"},
	{"two types", "POST /open HTTP/1.1\r\nHost: a.example\r\nContent-Type: text/plain\r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\nabc", 400, "two content types"},
	{"many parameters", "GET /open?" + strings.Repeat("a&", 2000) + " HTTP/1.1\r\nHost: a.example\r\n\r\n", 400, "too many parameters"},
	{"many fields", form(strings.Repeat("a=1&", 10000)), 400, "too many parameters"},
	{"many parts", post("multipart/form-data; boundary=b", strings.Repeat("--b\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n", 2000)+"--b--\r\n"), 400, "too many parameters"},
	{"path not UTF-8", "GET /open%ff HTTP/1.1\r\nHost: a.example\r\n\r\n", 400, "address that is not UTF-8"},
	{"query not UTF-8", "GET /open?a=%c0%af HTTP/1.1\r\nHost: a.example\r\n\r\n", 400, "query that is not UTF-8"},
	{"form not UTF-8", form("a=%ff"), 400, "form that is not UTF-8"},
	{"form that ends in a character", form("a=%d8"), 400, "form that is not UTF-8"},
	{"form in Urdu", form("a=%D8%A7%D8%B1%D8%AF%D9%88"), 200, ""},
	{"JSON not UTF-8", post("application/json", "{\"a\":\"\xff\"}"), 400, "JSON that is not UTF-8"},
	{"JSON in UTF-16", post("application/json", "{\x00}\x00"), 400, "JSON that is not UTF-8"},
	{"deep JSON", post("application/json", strings.Repeat("[", 100)+strings.Repeat("]", 100)), 400, "JSON that is nested too deep"},
	{"wide JSON", post("application/json", "["+strings.Repeat(`{"a":"[[[\"[[["},`, 500)+"0]"), 200, ""},
	{"deep XML", post("text/xml", strings.Repeat("<a>", 100)+strings.Repeat("</a>", 100)), 400, "XML that is nested too deep"},
	{"deep XML in disguise", post("text/xml", strings.Repeat(`<a b="/>">`, 100)), 400, "XML that is nested too deep"},
	{"wide XML", post("application/soap+xml", `<?xml version="1.0"?><!-- <a><a> --><r>`+strings.Repeat(`<a b="1"/><b>x</b><![CDATA[<a><a>]]>`, 300)+"</r>"), 200, ""},
	{"XML entities", post("text/xml", `<!DOCTYPE r [<!ENTITY a "aaaa">]><r>&a;</r>`), 400, "XML with a document type"},
	{"trailer", "POST /open HTTP/1.1\r\nHost: a.example\r\nContent-Type: application/x-www-form-urlencoded\r\nTrailer: X-Forwarded-For\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n", 200, ""},
}

func post(media, body string) string {
	return fmt.Sprintf("POST /open HTTP/1.1\r\nHost: a.example\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", media, len(body), body)
}

func form(body string) string { return post("application/x-www-form-urlencoded", body) }

// TestMalformed sends bytes to a gateway without its firewall, and with one that
// watches or blocks: what is malformed is answered 4xx (5xx where HTTP has it
// so), becomes an event, and does not reach the service; what is mended
// reaches it in one framing.
func TestMalformed(t *testing.T) {
	for _, mode := range []string{"off", "detect", "block"} {
		service := newListener(t)
		site := siteOf("http://"+service.Addr().String(), config.Route{Match: "/", SignIn: "none"})
		site.WAF.Mode = mode
		g, p := newGateway(t, nil, site)
		addr := serve(t, g)
		for i, c := range rawCases {
			p.take()
			// A client of its own: facts of one are gathered.
			cut := c.name == "body that breaks off"
			got := exchangeRaw(t, addr, i+2, []byte(c.raw), cut)
			if got != c.status {
				t.Errorf("waf %s, %s: answered %d, want %d", mode, c.name, got, c.status)
				continue
			}
			sent, whole, err := service.take()
			if err != nil {
				t.Errorf("waf %s, %s: %v", mode, c.name, err)
			}
			if strings.Contains(sent, "203.0.113.9") {
				t.Errorf("waf %s, %s: a trailer speaks for the gateway: %q", mode, c.name, sent)
			}
			var reasons []string
			if c.reason != "" {
				waitFor(t, func() bool {
					for _, f := range p.take() {
						if f.Body.Action == "malformed" {
							reasons = append(reasons, f.Restricted.Reasons...)
						}
					}
					return len(reasons) > 0
				})
			}
			if c.reason != "" && (len(reasons) != 1 || !strings.HasPrefix(reasons[0], c.reason)) {
				t.Errorf("waf %s, %s: told as %q, want %q", mode, c.name, reasons, c.reason)
			}
			if (c.status == 200) != (whole == 1) {
				t.Errorf("waf %s, %s: the service got %d whole requests: %q", mode, c.name, whole, sent)
			}
			// What was asked before may come late: its client is another one.
			if own := fmt.Sprintf("X-Forwarded-For: 127.0.0.%d\r\n", i+2); c.status != 200 && !strings.Contains(c.raw, "Transfer-Encoding") && strings.Contains(sent, own) {
				t.Errorf("waf %s, %s: the service was asked before the body was seen: %q", mode, c.name, sent)
			}
		}
	}
}

// panicking is an operator that fails as a broken rule engine does.
type panicking struct{}

func (panicking) Evaluate(_ plugintypes.TransactionState, value string) bool {
	if value == "boom" {
		panic("a part of the request: " + value)
	}
	return false
}

var registerPanicking = sync.OnceFunc(func() {
	plugins.RegisterOperator("pasbanTestPanic", func(plugintypes.OperatorOptions) (plugintypes.Operator, error) { return panicking{}, nil })
})

// TestPanic: an inspection, a guard and a service of our own that panic deny
// that one request, raise an alarm that quotes nothing of it, and the node goes
// on.
func TestPanic(t *testing.T) {
	registerPanicking()
	rule := filepath.Join(t.TempDir(), "panic.conf")
	text := `SecRule REQUEST_HEADERS:X-Test "@pasbanTestPanic x" "id:9100,phase:1,deny"` + "\n" +
		`SecRule ARGS_POST:a "@pasbanTestPanic x" "id:9102,phase:2,deny"` + "\n" +
		`SecRule RESPONSE_HEADERS:X-Test "@pasbanTestPanic x" "id:9101,phase:3,deny"` + "\n" +
		`SecRule RESPONSE_BODY "@pasbanTestPanic x" "id:9103,phase:4,deny"` + "\n" +
		`SecRule REQUEST_HEADERS:X-Late "@pasbanTestPanic x" "id:9104,phase:5,pass"` + "\n"
	if err := os.WriteFile(rule, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	upstream := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Test", r.URL.Query().Get("answer"))
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, cmp.Or(r.URL.Query().Get("body"), "ok"))
	})
	site := siteOf(upstream, config.Route{Match: "GET /records/{cnic}", SignIn: "officer", Subject: "cnic", Action: "view", Purposes: []string{"mutation"}},
		config.Route{Match: "/", SignIn: "none"})
	site.WAF.Mode, site.WAF.Custom = "block", []string{rule}
	g, p := newGateway(t, nil, site)
	p.officer()
	p.hook = func(registry.Look) { panic("boom") }
	addr := serve(t, g)
	ask := func(path, header, form string) int {
		t.Helper()
		req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://"+addr+path, nil)
		if form != "" {
			req, _ = http.NewRequestWithContext(t.Context(), "POST", "http://"+addr+path, strings.NewReader(form))
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		req.Header.Set(cmp.Or(header, "X-None"), "boom")
		req.Close = true // what has no answer on a new connection is not sent again
		req.Header.Set("Accept", "*/*")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != 200 && (bytes.Contains(body, []byte("boom")) || res.Header.Get(IncidentHeader) == "") {
			t.Errorf("%s: incident %q, page %s", path, res.Header.Get(IncidentHeader), body)
		}
		return res.StatusCode
	}
	var alarms []pasban.Fact
	for name, c := range map[string]struct {
		path, header, form string
		status             int
		where              string // it came from
	}{
		"request rule":      {"/x", "X-Test", "", 503, "panicking.Evaluate"},
		"form rule":         {"/x", "", "a=boom", 503, "panicking.Evaluate"},
		"response rule":     {"/x?answer=boom", "", "", 503, "panicking.Evaluate"},
		"answer's rule":     {"/x?body=boom", "", "", 503, "panicking.Evaluate"},
		"rule for the log":  {"/x", "X-Late", "", 0, "panicking.Evaluate"},                                                          // the answer was under way
		"the same, blocked": {"/x?a=" + url.QueryEscape("1' OR '1'='1' UNION SELECT 1--"), "X-Late", "", 403, "panicking.Evaluate"}, // its page is whole before
		"guard":             {"/records/35202-1234567-1", "", "", 500, "TestPanic"},
	} {
		before := panicsCounted(t, g)
		if got := ask(c.path, c.header, c.form); got != c.status {
			t.Errorf("%s: answered %d, want %d", name, got, c.status)
		}
		if after := panicsCounted(t, g); after != before+1 {
			t.Errorf("%s: %v panics were counted", name, after-before)
		}
		if got := ask("/x", "", ""); got != 200 {
			t.Errorf("after %s: answered %d", name, got)
		}
		for _, f := range p.take() {
			if f.Body.Action == "panic" {
				alarms = append(alarms, f)
				if f.Body.Kind != pasban.KindAlarm || !strings.Contains(fmt.Sprint(f.Restricted.Reasons), c.where) {
					t.Errorf("%s: alarm %+v", name, f)
				}
			}
		}
	}
	if len(alarms) != 1 || strings.Contains(fmt.Sprint(alarms[0].Restricted.Reasons), "boom") {
		t.Errorf("alarms: %+v", alarms) // the first speaks for those within its window
	}
}

// FuzzRaw throws bytes at the server: a response, if there is one, is a whole
// one; the service gets requests in one framing; the server goes on.
func FuzzRaw(f *testing.F) {
	for _, c := range rawCases {
		if len(c.raw) < 4096 {
			f.Add([]byte(c.raw))
		}
	}
	service := newListener(f)
	site := siteOf("http://"+service.Addr().String(), config.Route{Match: "GET /open", SignIn: "none"}, config.Route{Match: "POST /open", SignIn: "none"})
	g, _ := newGateway(f, nil, site)
	addr := serve(f, g)
	good := []int{200, 301, 303, 307, 308, 400, 403, 404, 405, 408, 413, 415, 417, 431, 501, 502, 505} // 502: the client was gone after its request was whole
	f.Fuzz(func(t *testing.T, raw []byte) {
		if got := exchangeRaw(t, addr, 2, raw, true); got != 0 && !slices.Contains(good, got) {
			t.Errorf("%q: answered %d", raw, got)
		}
		if _, _, err := service.take(); err != nil {
			t.Errorf("%q: %v", raw, err)
		}
		if got := exchangeRaw(t, addr, 3, []byte("GET /open HTTP/1.1\r\nHost: a.example\r\n\r\n"), false); got != 200 {
			t.Errorf("after %q: answered %v", raw, got)
		}
		service.take()
	})
}

// FuzzShapes reads bodies in pieces: what is wrong does not depend on how they
// arrive, and nothing panics.
func FuzzShapes(f *testing.F) {
	f.Add("application/json", []byte(`{"a":["\"[",{}]}`), 3)
	f.Add("text/xml", []byte(`<?x?><!-- <a> --><a b="/>"><![CDATA[<]]></a>`), 1)
	f.Add("application/x-www-form-urlencoded", []byte("a=%D8%A7&b=%"), 2)
	f.Add("multipart/form-data; boundary=b", []byte("--b\r\n\r\n\r\n--b--"), 2)
	limits := config.Limits{Parameters: 3, Depth: 3}
	f.Fuzz(func(t *testing.T, media string, body []byte, step int) {
		read := func(step int) (string, string) {
			r := &http.Request{Header: http.Header{"Content-Type": {media}}, URL: &url.URL{}}
			in := shaped(io.NopCloser(&pieces{body, max(1, step)}), r, limits)
			out, err := io.ReadAll(in)
			why := ""
			if e, ok := errors.AsType[*fault](err); ok {
				why = e.reason
			} else if !bytes.Equal(out, body) {
				t.Errorf("%q became %q", body, out)
			}
			return why, string(out)
		}
		whole, _ := read(len(body))
		if parts, _ := read(step % 64); parts != whole {
			t.Errorf("%s %q: whole %q, in pieces %q", media, body, whole, parts)
		}
	})
}

// pieces gives its bytes a few at a time.
type pieces struct {
	left []byte
	step int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.left) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.left[:min(p.step, len(p.left))])
	p.left = p.left[n:]
	return n, nil
}

func panicsCounted(t *testing.T, g *Gateway) float64 {
	t.Helper()
	return testutil.ToFloat64(g.metrics.requests.WithLabelValues(countPanicked))
}
