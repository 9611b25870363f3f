package waf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"pasban"
)

// findings gathers what an engine reports.
type findings struct {
	mu       sync.Mutex
	blocked  []Report
	observed []Report
	failed   []error
}

func (f *findings) hooks() Hooks {
	return Hooks{
		Blocked: func(w http.ResponseWriter, r *http.Request, rep Report) {
			f.mu.Lock()
			f.blocked = append(f.blocked, rep)
			f.mu.Unlock()
			w.WriteHeader(rep.Status)
			io.WriteString(w, "incident "+rep.ID)
		},
		Observed: func(r *http.Request, rep Report) { f.observed = append(f.observed, rep) },
		Failed: func(w http.ResponseWriter, r *http.Request, err error) {
			f.failed = append(f.failed, err)
			w.WriteHeader(http.StatusServiceUnavailable)
		},
	}
}

func newEngine(t testing.TB, o Options) *Engine {
	t.Helper()
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func ask(h http.Handler, method, target, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = "land.example"
	r.Header.Set("User-Agent", "synthetic")
	r.Header.Set("Accept", "text/html")
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Content-Length", strconv.Itoa(len(body)))
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const attack = "/search?q=1%27%20OR%20%271%27=%271%27%20UNION%20SELECT%20cnic%20FROM%20owners--"

func TestBlock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log", "waf.log")
	log, err := OpenLog(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	var f findings
	reached := 0
	h := newEngine(t, Options{Log: log}).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached++
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%d %s", r.ContentLength, body)
	}), f.hooks())

	if w := ask(h, "POST", "/apply", "name=synthetic&note=hello"); w.Code != 200 || w.Body.String() != "25 name=synthetic&note=hello" {
		t.Errorf("a harmless form: %d %q", w.Code, w.Body)
	}
	for _, w := range []*httptest.ResponseRecorder{ask(h, "GET", attack, ""), ask(h, "POST", "/apply", "q=<script>alert(document.cookie)</script>")} {
		if w.Code != http.StatusForbidden {
			t.Errorf("an attack: %d %q", w.Code, w.Body)
		}
	}
	ask(h, "GET", attack+"%0a[id%20%22000000%22]%0d%0a%22", "") // tries to write a line of its own
	f.blocked = f.blocked[:min(2, len(f.blocked))]
	if reached != 1 || len(f.blocked) != 2 {
		t.Fatalf("%d requests reached the handler, %d were blocked", reached, len(f.blocked))
	}
	sqli, xss := f.blocked[0], f.blocked[1]
	if !sqli.Blocked || sqli.Phase != 2 || !slices.Contains(sqli.Rules, "942100") || !slices.Contains(sqli.Rules, "949110") ||
		!slices.Contains(sqli.Attacks, "sqli") || !slices.Contains(xss.Attacks, "xss") || len(sqli.Reasons) == 0 {
		t.Errorf("reports: %+v\n%+v", sqli, xss)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^\[\w{3} \w{3} \d\d \d\d:\d\d:\d\d\.\d{6} \d{4}\] \[security2:error\] \[client 192\.0\.2\.1\] ModSecurity: .* \[id "942100"\] .*\[severity "CRITICAL"\] .*\[tag "attack-sqli"\] .*\[hostname "land\.example"\] \[uri "[^"]+"\] \[unique_id "` + sqli.ID + `"\]$`)
	if !line.Match(text) {
		t.Errorf("the log has no line of rule 942100:\n%s", text)
	}
	whole := regexp.MustCompile(`^\[\w{3} .*\[id "\d{6}"\] .*\[unique_id "[0-9a-f]{32}"\]\n$`)
	for l := range bytes.Lines(text) {
		if !whole.Match(l) || bytes.HasPrefix(l, []byte(`[id "000000"]`)) {
			t.Errorf("not a line of the log: %s", l)
		}
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("the log's mode is %v", info.Mode())
	}
}

func TestDetect(t *testing.T) {
	var f findings
	h := newEngine(t, Options{Detect: true}).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "page") }), f.hooks())
	if w := ask(h, "GET", attack, ""); w.Code != 200 || w.Body.String() != "page" {
		t.Errorf("detect mode blocked: %d", w.Code)
	}
	if len(f.observed) != 1 || f.observed[0].Blocked || !slices.Contains(f.observed[0].Rules, "942100") || f.observed[0].Status != 403 {
		t.Errorf("observed: %+v", f.observed)
	}
	if ask(h, "GET", "/search?q=rawalpindi", ""); len(f.observed) != 1 {
		t.Errorf("a harmless request was observed: %+v", f.observed[1:])
	}
}

func TestResponse(t *testing.T) {
	leak := "<p>You have an error in your SQL syntax; check the manual that corresponds to your MySQL server version</p>"
	handler := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("X-Secret", "yes")
		switch r.URL.Path {
		case "/leak":
			io.WriteString(w, leak)
		case "/aborts": // as a proxy does when its copy fails
			if _, err := io.WriteString(w, leak+strings.Repeat(" ", answerLimit)); err != nil {
				panic(http.ErrAbortHandler)
			}
		case "/long":
			io.WriteString(w, strings.Repeat("a", answerLimit-10))
			io.WriteString(w, strings.Repeat("b", 30))
		case "/events":
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, "data: 1\n\n")
			w.(http.Flusher).Flush()
			if rec := r.Context().Value(recorderKey{}).(*httptest.ResponseRecorder); !rec.Flushed || rec.Body.String() != "data: 1\n\n" {
				t.Errorf("the stream is held back: %q", rec.Body)
			}
		case "/early":
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusTeapot)
		case "/silent":
		}
	}
	var f findings
	inner := newEngine(t, Options{}).Handler(http.HandlerFunc(handler), f.hooks())
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner.ServeHTTP(w, r.WithContext(withRecorder(r.Context(), w.(*httptest.ResponseRecorder))))
	})
	for _, path := range []string{"/leak", "/aborts"} {
		w := ask(h, "GET", path, "")
		if w.Code != http.StatusForbidden || strings.Contains(w.Body.String(), "SQL") || w.Header().Get("X-Secret") != "" {
			t.Errorf("%s: %d %v %q", path, w.Code, w.Header(), w.Body)
		}
	}
	if len(f.blocked) != 2 || f.blocked[0].Phase != 4 || !slices.Contains(f.blocked[0].Rules, "951230") {
		t.Errorf("reports: %+v", f.blocked)
	}
	if w := ask(h, "GET", "/long", ""); w.Code != 200 || w.Body.Len() != answerLimit+20 {
		t.Errorf("a long page: %d, %d bytes", w.Code, w.Body.Len())
	}
	if w := ask(h, "GET", "/early", ""); w.Code != http.StatusTeapot {
		t.Errorf("early hints: %d", w.Code)
	}
	if w := ask(h, "GET", "/silent", ""); w.Code != 200 || w.Header().Get("X-Secret") != "yes" {
		t.Errorf("no body: %d", w.Code)
	}
	ask(h, "GET", "/events", "")
}

func TestBodies(t *testing.T) {
	var f findings
	reached := 0
	e := newEngine(t, Options{Body: 1 << 20})
	h := e.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { reached++ }), f.hooks())
	post := func(body io.Reader, length int64, ctx ...context.Context) {
		r := httptest.NewRequest("POST", "/", body)
		for _, c := range ctx {
			r = r.WithContext(c)
		}
		r.ContentLength = length
		r.Header.Set("Content-Type", "application/octet-stream")
		r.Header.Set("User-Agent", "synthetic")
		r.Header.Set("Content-Length", "1")
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	unread := iotestReader{}
	post(&unread, 2<<20)
	if len(f.failed) != 1 || !errors.Is(f.failed[0], ErrTooLarge) || unread.read {
		t.Errorf("declared too large: %v, read %v", f.failed, unread.read)
	}
	post(io.LimitReader(zeros{}, 2<<20), -1)
	if len(f.failed) != 2 || !errors.Is(f.failed[1], ErrTooLarge) {
		t.Errorf("too large: %v", f.failed)
	}
	post(io.MultiReader(strings.NewReader("half"), &iotestReader{err: io.ErrUnexpectedEOF}), 100)
	if len(f.failed) != 3 || pasban.KindOf(f.failed[2]) != pasban.Invalid {
		t.Errorf("cut off: %v", f.failed)
	}
	e.held.Store(allBodies)
	post(io.LimitReader(zeros{}, 1<<20), -1)
	if len(f.failed) != 4 || pasban.KindOf(f.failed[3]) != pasban.Unavailable {
		t.Errorf("no room: %v", f.failed)
	}
	if e.held.Load() != allBodies {
		t.Errorf("%d bytes were not given back", e.held.Load()-allBodies)
	}
	e.held.Store(0)
	for range cap(e.large) {
		e.large <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	post(io.LimitReader(zeros{}, largeBody+1), -1, ctx)
	if len(f.failed) != 5 || pasban.KindOf(f.failed[4]) != pasban.Unavailable {
		t.Errorf("no turn: %v", f.failed)
	}
	if reached != 0 {
		t.Errorf("%d requests went on that were not inspected", reached)
	}
	var kept io.ReadCloser
	ask(e.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { kept = r.Body }), f.hooks()), "POST", "/", "mine=1")
	if n, err := kept.Read(make([]byte, 10)); n != 0 || !errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Errorf("the body can be read after the request: %d, %v", n, err)
	}
}

func TestRules(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	before := write("before.conf", `SecRule REQUEST_URI "@beginsWith /free" "id:1000,phase:1,pass,nolog,ctl:ruleEngine=Off"`)
	after := write("after.conf", "SecRuleRemoveById 942100-942999")
	own := write("own.conf", `SecRule ARGS:stop "@streq now" "id:1001,phase:2,deny,status:451,log,msg:'stopped'"`)
	var f findings
	ok := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {})
	h := newEngine(t, Options{Before: []string{before}, After: []string{own}}).Handler(ok, f.hooks())
	if w := ask(h, "GET", "/free"+attack, ""); w.Code != 200 {
		t.Errorf("the exception before the rules is not heeded: %d", w.Code)
	}
	echo := newEngine(t, Options{Before: []string{before}}).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }), f.hooks())
	if w := ask(echo, "POST", "/free", "body=whole"); w.Body.String() != "body=whole" {
		t.Errorf("a body that is not inspected came as %q", w.Body)
	}
	if w := ask(h, "GET", "/x?stop=now", ""); w.Code != 451 {
		t.Errorf("the rule after is not heeded: %d", w.Code)
	}
	h = newEngine(t, Options{After: []string{after}}).Handler(ok, f.hooks())
	if w := ask(h, "GET", "/search?q=1%27%20OR%20%271%27=%271%27", ""); w.Code != 200 {
		t.Errorf("the removed rules are still there: %d", w.Code)
	}
	for name, o := range map[string]Options{
		"level":     {Paranoia: 5},
		"no file":   {Before: []string{filepath.Join(dir, "nowhere")}},
		"nonsense":  {After: []string{write("bad.conf", "SecNonsense On")}},
		"prefilter": {Before: []string{write("pre.conf", "SecRxPreFilter On")}},
	} {
		if _, err := New(o); pasban.KindOf(err) != pasban.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBlame checks that an operator is told the file and the line.
func TestBlame(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good.conf")
	if err := os.WriteFile(good, []byte("SecRuleRemoveById 942100\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text string
		line int
	}{
		"unknown directive": {"# ours\n\nSecRule ARGS \"@rx a\" \"id:1,phase:2,pass\"\nSecNonsense On\n", 4},
		"bad expression":    {"SecRule ARGS \"@rx a\" \\\n  \"id:1,phase:2,pass\"\n\nSecRule ARGS \\\n  \"@rx (\" \\\n  \"id:2,phase:2,pass\"\nSecRuleRemoveById 1\n", 4},
		"taken id":          {"SecRule ARGS \"@rx a\" \"id:949110,phase:2,pass\"", 1},
		"prefilter":         {"\n  SecRxPreFilter On\n", 2},
	} {
		bad := filepath.Join(dir, "bad.conf")
		if err := os.WriteFile(bad, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := New(Options{Before: []string{good}, After: []string{bad}})
		e, ok := errors.AsType[*RuleError](err)
		if !ok || e.File != bad || e.Line != c.line || !strings.Contains(err.Error(), fmt.Sprintf("bad.conf:%d", c.line)) {
			t.Errorf("%s: %v, want line %d", name, err, c.line)
		}
	}
}

func TestLogIsSetAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "waf.log")
	log, err := OpenLog(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	var f findings
	h := newEngine(t, Options{Log: log}).Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), f.hooks())
	ask(h, "GET", attack, "")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	log.Reopen()
	ask(h, "GET", attack, "")
	for _, name := range []string{path, path + ".1"} {
		if text, err := os.ReadFile(name); err != nil || !bytes.Contains(text, []byte(`[id "942100"]`)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestConcurrent lets many requests through one engine; each gets its own
// body back and its own report. It matters under -race.
func TestConcurrent(t *testing.T) {
	var f findings
	h := newEngine(t, Options{}).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		io.Copy(w, r.Body)
	}), f.hooks())
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 10 {
				body := fmt.Sprintf("name=synthetic-%d-%d", i, j)
				if w := ask(h, "POST", "/apply", body); w.Body.String() != body {
					t.Errorf("%q came back as %q", body, w.Body)
				}
			}
		})
	}
	all.Wait()
}
