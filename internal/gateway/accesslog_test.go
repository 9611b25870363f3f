package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pasban/internal/config"
)

// logged closes the gateway and returns the lines of its access log.
func logged(t *testing.T, g *Gateway) []string {
	t.Helper()
	if err := g.access.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(g.o.Config.Data, "log", "access.log")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

func withLog(form string) func(*config.Config) {
	return func(c *config.Config) { c.AccessLog = form }
}

func TestAccessLog(t *testing.T) {
	g, p := newGateway(t, withLog("combined"), siteOf(upstreamOf(t, fixedPage), recordRoutes()...))
	p.officer()
	get(g, "GET", "/a/b?token=secret", "User-Agent", `synthetic "quoted"`, "Referer", "https://a.example/x?q=secret")
	get(g, "GET", "/records/"+first)
	w := get(g, "GET", "/a//b")
	id := w.Header().Get(IncidentHeader)
	lines := logged(t, g)
	for i, want := range []string{
		`192.0.2.1 - - [TIME] "GET /a/b HTTP/1.1" 200 60 "https://a.example/x" "synthetic \"quoted\"" * - SECONDS http://127.0.0.1:PORT SECONDS 0`,
		`192.0.2.1 - - [TIME] "GET /records/{cnic} HTTP/1.1" 200 60 "-" "-" * - SECONDS http://127.0.0.1:PORT SECONDS 0`,
		`192.0.2.1 - - [TIME] "GET /a//b HTTP/1.1" 400 BYTES "-" "-" * ` + id + ` SECONDS - 0.000 0`,
	} {
		want = strings.NewReplacer("TIME", `[^\]]+`, "SECONDS", `\d+\.\d{3}`, "PORT", `\d+`, "BYTES", `\d+`).Replace(regexp.QuoteMeta(want))
		if i >= len(lines) || !regexp.MustCompile("^"+want+"$").MatchString(lines[i]) {
			t.Errorf("line %d of\n%s\nis not\n%s", i, strings.Join(lines, "\n"), want)
		}
	}
	if id == "" {
		t.Error("no incident id")
	}
}

// TestAccessLogTellsNothing asks with numbers and secrets in every place and
// spelling: none may be in the log.
func TestAccessLogTellsNothing(t *testing.T) {
	number := first
	plain := strings.ReplaceAll(number, "-", "")
	urdu := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r - '0' + '۰'
		}
		return r
	}, number)
	for _, form := range []string{"combined", "json"} {
		g, _ := newGateway(t, withLog(form), siteOf(upstreamOf(t, fixedPage), recordRoutes()...))
		for _, target := range []string{
			"/x/" + number, "/x/" + plain, "/x/" + strings.ReplaceAll(number, "-", "%2D"), "/x/" + strings.ReplaceAll(number, "-", "%252D"),
			"/x/" + strings.ReplaceAll(number, "-", "%20"), "/x/%33" + number[1:], "/x?cnic=" + number, "/records/" + number, "/x/" + urdu,
			"/x/" + strings.ReplaceAll(number, "-", "\u2011"), "/x/" + strings.Repeat("y", accessText-10) + number,
			"/pasban/enrol/SECRET", "/x?token=SECRET",
		} {
			r := httptest.NewRequest("GET", "/", nil)
			r.URL.Path, r.URL.RawQuery, _ = strings.Cut(target, "?")
			if u, err := r.URL.Parse(target); err == nil {
				r.URL = u
			}
			r.Header.Set("Referer", "https://a.example"+target)
			r.Header.Set("User-Agent", "synthetic "+number)
			g.Handler().ServeHTTP(httptest.NewRecorder(), r)
		}
		for _, line := range logged(t, g) {
			bare := plainText([]byte(line))
			if bare == nil {
				bare = []byte(line)
			}
			digits := regexp.MustCompile(`%25|%2D|%20|[^0-9]`).ReplaceAllString(string(bare), "")
			if strings.Contains(digits, plain) || strings.Contains(digits, plain[:10]) || strings.Contains(line, "SECRET") || strings.Contains(line, number[1:]) {
				t.Errorf("%s: %s", form, line)
			}
		}
	}
}

func TestAccessLogJSON(t *testing.T) {
	g, _ := newGateway(t, withLog("json"), siteOf(upstreamOf(t, fixedPage), config.Route{Match: "/", SignIn: "none"}))
	get(g, "POST", "/a%20b", "User-Agent", "synthetic\t\"line")
	lines := logged(t, g)
	var rec accessRecord
	if err := json.Unmarshal([]byte(lines[0]), &rec); err != nil || len(lines) != 1 {
		t.Fatalf("%v: %q", err, lines)
	}
	if rec.UserAgent != "synthetic\t\"line" || rec.Path != "/a%20b" {
		t.Errorf("%+v", rec)
	}
	if rec.Method != "POST" || rec.Status != 200 || rec.Bytes != 60 || rec.Client != "192.0.2.1" || rec.Site != "*" || rec.Upstream == "" ||
		rec.Protocol != "HTTP/1.1" {
		t.Errorf("%+v", rec)
	}
	if _, err := time.Parse(time.RFC3339Nano, rec.Time); err != nil {
		t.Error(err)
	}
}

// TestAccessLogNeverWaits has a disk that takes nothing (a pipe that nobody
// reads): requests go on, and what is left out is counted.
func TestAccessLogNeverWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skip("this file system has no pipes: ", err)
	}
	reader, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	l := openAccessLog(path)
	v := &visit{ResponseWriter: httptest.NewRecorder(), status: 200}
	r := httptest.NewRequest("GET", "/", nil)
	for l.dropped.Load() < 100 {
		l.write("json", v, r, time.Second)
	}
	go func() { // the disk is back: what waited is written
		b := make([]byte, 64<<10)
		for {
			if _, err := reader.Read(b); err != nil {
				return
			}
		}
	}()
	l.Close()
	reader.Close()
}

// Who leaves while the service works is no fault of the service: 499, as nginx
// has it.
func TestVisitorWhoLeaves(t *testing.T) {
	ctx, leave := context.WithCancel(t.Context())
	upstream := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) {
		leave()
		<-r.Context().Done()
	})
	g, _ := newGateway(t, withLog("combined"), siteOf(upstream, config.Route{Match: "/", SignIn: "none"}))
	g.Handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/slow", nil).WithContext(ctx))
	if lines := logged(t, g); len(lines) != 1 || !strings.Contains(lines[0], `"GET /slow HTTP/1.1" 499 `) {
		t.Errorf("%q", lines)
	}
}

// TestLogsAreSetAside: another program sets both logs aside and says so; what
// comes then is in new files, and nothing in two.
func TestLogsAreSetAside(t *testing.T) {
	site := siteOf(upstreamOf(t, fixedPage), config.Route{Match: "/", SignIn: "none"})
	site.WAF.Mode = "block"
	g, _ := newGateway(t, withLog("combined"), site)
	written := func(path string) (text []byte) { // requests do not wait for the access log
		for end := time.Now().Add(time.Minute); len(text) == 0; time.Sleep(10 * time.Millisecond) {
			var err error
			if text, err = os.ReadFile(path); err != nil && !errors.Is(err, fs.ErrNotExist) || time.Now().After(end) {
				t.Fatal(path, " stays empty: ", err)
			}
		}
		return text
	}
	for name, other := range map[string]string{"first": "second", "second": "first"} {
		get(g, "GET", "/"+name+"?q=%3Cscript%3Ealert(1)%3C/script%3E")
		for _, file := range []string{"access.log", "waf.log"} {
			path := filepath.Join(g.o.Config.Data, "log", file)
			text := written(path)
			if !bytes.Contains(text, []byte("/"+name)) || bytes.Contains(text, []byte("/"+other)) {
				t.Errorf("%s after the %s request: %s", file, name, text)
			}
			if err := os.Rename(path, path+"."+name); err != nil {
				t.Fatal(err)
			}
		}
		g.ReopenLogs()
	}
}

// TestSeriesAreBounded sends what visitors make up: methods, hosts, paths.
func TestSeriesAreBounded(t *testing.T) {
	site := siteOf(upstreamOf(t, fixedPage), config.Route{Match: "/", SignIn: "none"})
	site.Host = "land.example"
	g, _ := newGateway(t, nil, site)
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(g)
	series := func() (n int) {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			n += len(f.GetMetric())
		}
		return n
	}
	ask := func(method, host, path string) {
		r := httptest.NewRequest(method, "http://"+host+path, nil)
		g.Handler().ServeHTTP(httptest.NewRecorder(), r)
	}
	ask("GET", "land.example", "/")
	ask("BREW", "land.example", "/")
	ask("GET", "nowhere.example", "/nothing")
	before := series()
	for _, name := range []string{"a", "b", "c"} {
		ask(strings.ToUpper("X"+name), "land.example", "/"+name)
		ask("GET", name+".example", "/nothing/"+name)
	}
	if after := series(); after != before {
		t.Errorf("%d series became %d", before, after)
	}
	families, _ := reg.Gather()
	found := map[string]bool{}
	for _, f := range families {
		found[f.GetName()] = true
	}
	for _, name := range []string{"http_requests_total", "http_request_duration_seconds", "http_requests_in_flight", "upstream_requests_total",
		"upstream_wait_seconds", "upstream_up", "upgraded_connections", "access_log_dropped_total"} {
		if !found["pasban_gateway_"+name] {
			t.Errorf("no metric %s", name)
		}
	}
}

// What is quoted in haste is what Go quotes.
func TestQuoted(t *testing.T) {
	texts := []string{"", "-", "Mozilla/5.0 (X11; Linux x86_64)", "اردو", "a\xffb"}
	for c := range 256 {
		texts = append(texts, "a"+string([]byte{byte(c)})+"b")
	}
	for _, s := range texts {
		if got := string(quoted(nil, s)); got != strconv.Quote(s) {
			t.Errorf("%q is quoted %s", s, got)
		}
	}
}
