package page

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"pasban"
)

func TestHeadersOfEverySurface(t *testing.T) {
	p := newPages(t)
	seen := map[string]bool{}
	for _, surface := range []string{Portal, Desk, Console, Trust} {
		if err := p.Add(surface, fstest.MapFS{"plain.html": {Data: []byte(`{{define "content"}}<h1>x</h1>{{end}}`)}}); err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodGet, "/x", nil)
		r.TLS = &tls.ConnectionState{}
		w := httptest.NewRecorder()
		p.Render(w, r, http.StatusOK, View{Surface: surface, Name: "plain", Title: "x"})
		h := w.Header()
		csp := h.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'", "require-trusted-types-for 'script'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("%s: the policy lacks %q: %s", surface, want, csp)
			}
		}
		if strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") || seen[csp] && surface != Trust {
			t.Errorf("%s: policy is loose or its nonce was used before: %s", surface, csp)
		}
		seen[csp] = true
		scripts := map[string]string{Portal: "trusted-types 'none'", Desk: "trusted-types htmx", Console: "trusted-types htmx", Trust: "script-src 'none'"}
		if !strings.Contains(csp, scripts[surface]) {
			t.Errorf("%s: the policy lacks %q: %s", surface, scripts[surface], csp)
		}
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store", "Strict-Transport-Security": "max-age=63072000; includeSubDomains",
		} {
			if h.Get(name) != want {
				t.Errorf("%s: %s is %q, want %q", surface, name, h.Get(name), want)
			}
		}
		if surface == Trust && strings.Contains(w.Body.String(), "<script") {
			t.Error("the trust surface has a script")
		}
	}
}

func TestLang(t *testing.T) {
	for _, c := range []struct{ target, accept, cookie, want string }{
		{"/", "", "", "en"}, {"/ur/my-data", "en", "en", "ur"}, {"/en/x?lang=ur", "ur", "ur", "en"}, {"/desk?lang=ur", "en", "en", "ur"},
		{"/desk?lang=fr", "", "ur", "ur"}, {"/desk", "ur-PK,ur;q=0.9,en;q=0.8", "", "ur"}, {"/desk", "de,fr;q=0.5", "", "en"},
		{"/urgent", "", "", "en"}, {"/desk", ";;;q=,", "nonsense", "en"}, {"/desk", "en;q=0.1,ur;q=0.9", "", "ur"},
	} {
		r := httptest.NewRequest(http.MethodGet, c.target, nil)
		r.Header.Set("Accept-Language", c.accept)
		r.AddCookie(&http.Cookie{Name: langCookie, Value: c.cookie})
		if got := Lang(r); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

func FuzzRequestReading(f *testing.F) {
	f.Add("ur-PK,ur;q=0.9", "text/html,application/json;q=0.9", "gzip;q=0, br")
	f.Add(";;", "*/*", "gzip ; q=0.0")
	f.Fuzz(func(t *testing.T, language, accept, encoding string) {
		r := &http.Request{Method: http.MethodGet, URL: mustURL("/x"), Header: http.Header{"Accept-Language": {language}, "Accept": {accept}, "Accept-Encoding": {encoding}}}
		if l := Lang(r); !known(l) {
			t.Errorf("language %q", l)
		}
		if acceptsGzip(r) && !strings.Contains(strings.ToLower(encoding), "gzip") {
			t.Errorf("gzip for %q", encoding)
		}
		WantsJSON(r)
	})
}

// TestErrorsBecomeHTTP: each kind has its own status and words, a page or a
// problem document, and never tells the cause.
func TestErrorsBecomeHTTP(t *testing.T) {
	p, err := New(Options{Agency: map[string]string{"en": "A"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	want := map[pasban.ErrorKind]int{pasban.Invalid: 400, pasban.Unauthenticated: 401, pasban.Forbidden: 403, pasban.NotFound: 404,
		pasban.Conflict: 409, pasban.Limited: 429, pasban.Unavailable: 503, pasban.Upstream: 502}
	for _, kind := range kinds() {
		e := &pasban.Error{Kind: kind, Msg: "the <b>message</b>", Hint: "a hint", Where: "/etc/secret", ID: "abc123", Err: errors.New("password=hunter2")}
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.Error(w, r, fmt.Errorf("wrapped: %w", e)) })
		for _, target := range []string{"/en/x", "/ur/x", "/desk/x", "/soc/x", "/trust/x", "/api/v1/x"} {
			r := httptest.NewRequest(http.MethodPost, target, nil)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			body := w.Body.String()
			if w.Code != want[kind] || !strings.Contains(body, "abc123") {
				t.Errorf("%s %s: status %d\n%s", kind, target, w.Code, body)
			}
			ours := kind == pasban.Unavailable || kind == pasban.Upstream
			if strings.Contains(body, "hunter2") || strings.Contains(body, "secret") || strings.Contains(body, "<b>message") || strings.Contains(body, "error."+string(kind)) || ours && strings.Contains(body, "message") {
				t.Errorf("%s %s tells too much:\n%s", kind, target, body)
			}
			if target == "/api/v1/x" {
				var pr Problem
				if err := json.Unmarshal(w.Body.Bytes(), &pr); err != nil || pr.Status != want[kind] || pr.Kind != string(kind) || w.Header().Get("Content-Type") != "application/problem+json" {
					t.Errorf("%s: problem %+v, %v", kind, pr, err)
				}
			}
			if (kind == pasban.Unavailable || kind == pasban.Limited) != (w.Header().Get("Retry-After") != "") {
				t.Errorf("%s: Retry-After %q", kind, w.Header().Get("Retry-After"))
			}
		}
	}
	w := get(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.Error(w, r, &pasban.Error{Kind: pasban.Unauthenticated})
	}), "/en/my-data?p=7")
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/pasban/signin?next=%2Fen%2Fmy-data%3Fp%3D7" {
		t.Errorf("a look without a session: %d to %q", w.Code, w.Header().Get("Location"))
	}
	if got := Status("made up"); got != http.StatusServiceUnavailable {
		t.Errorf("an unknown kind has status %d, want 503", got)
	}
}

// TestErrorsAreSaid: what people meet who did nothing odd is told in their
// language alone, and somebody still says it.
func TestErrorsAreSaid(t *testing.T) {
	p := newPages(t)
	var sources strings.Builder
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || path == "../page/said.go" {
			return err
		}
		text, err := os.ReadFile(path)
		sources.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for msg, name := range said {
		told["error."+name+".title"], told["error."+name+".text"] = true, true
		if !strings.Contains(sources.String(), strconv.Quote(msg)) {
			t.Errorf("no error says %q any more", msg)
		}
		for _, lang := range Langs() {
			h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				p.Error(w, r, &pasban.Error{Kind: pasban.Forbidden, Msg: msg, Hint: "a hint", ID: "abc123"})
			})
			body := get(t, h, "/"+lang+"/x").Body.String()
			title, text := html.EscapeString(p.T(lang, "error."+name+".title")), html.EscapeString(p.T(lang, "error."+name+".text"))
			if !strings.Contains(body, title) || !strings.Contains(body, text) || strings.Contains(body, "a hint") || !strings.Contains(body, "abc123") {
				t.Errorf("%q in %s:\n%s", msg, lang, body)
			}
		}
	}
	for key := range p.words.keys["en"] {
		if strings.HasPrefix(key, "error.said.") && !told[key] {
			t.Errorf("%s is never told", key)
		}
	}
}

func TestWantsJSON(t *testing.T) {
	for _, c := range []struct {
		path, accept string
		want         bool
	}{
		{"/en/", "text/html,application/xhtml+xml,*/*;q=0.8", false}, {"/en/", "application/json", true}, {"/en/", "application/problem+json", true},
		{"/en/", "", false}, {"/en/", "*/*", false}, {"/en/", "application/json, text/html", false}, {"/api/v1/x", "text/html", true}, {"/ledger/receipt/1", "", true}, {"/ledger/receipt/1", "*/*", true}, {"/ledger/receipt/1", "text/html,*/*;q=0.8", false},
	} {
		r := httptest.NewRequest(http.MethodGet, c.path, nil)
		r.Header.Set("Accept", c.accept)
		if got := WantsJSON(r); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestSameOrigin(t *testing.T) {
	p := newPages(t)
	h := p.SameOrigin(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	for _, c := range []struct {
		name, method string
		header       map[string]string
		want         int
	}{
		{"a browser's form", "POST", map[string]string{"Sec-Fetch-Site": "same-origin"}, 204},
		{"another site's form", "POST", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"an older browser, same origin", "POST", map[string]string{"Origin": "http://example.com"}, 204},
		{"an older browser, other origin", "POST", map[string]string{"Origin": "http://evil.example"}, 403},
		{"a program without a session", "POST", nil, 204},
		{"a program with a session", "POST", map[string]string{"Cookie": SessionCookie + "=x"}, 403},
		{"reading from elsewhere", "GET", map[string]string{"Sec-Fetch-Site": "cross-site", "Cookie": SessionCookie + "=x"}, 204},
	} {
		r := httptest.NewRequest(c.method, "/x", nil)
		for k, v := range c.header {
			r.Header.Set(k, v)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s: %d, want %d", c.name, w.Code, c.want)
		}
	}
}

func TestStaticIsNamedByContent(t *testing.T) {
	p := newPages(t)
	for name, f := range p.assets.plain {
		at, err := p.Asset(name)
		if err != nil {
			t.Fatal(err)
		}
		w := get(t, p.Static(), at, "Accept-Encoding", "gzip")
		body := w.Body.Bytes()
		if w.Header().Get("Content-Encoding") == "gzip" {
			z, err := gzip.NewReader(bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if body, err = io.ReadAll(z); err != nil {
				t.Fatal(err)
			}
		}
		if w.Code != http.StatusOK || !bytes.Equal(body, f.body) || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") || w.Header().Get("Content-Type") == "" {
			t.Errorf("%s: %d %v", at, w.Code, w.Header())
		}
	}
	for _, bad := range []string{StaticPath + "portal.css", StaticPath + "../page.go", StaticPath, StaticPath + "portal.000000000000.css"} {
		if w := get(t, p.Static(), bad); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d, want 404", bad, w.Code)
		}
	}
	if _, err := p.Asset("nothing.css"); err == nil {
		t.Error("there is an address for a file that is not there")
	}
	css := string(p.assets.plain["nastaliq.css"].body)
	if font := p.assets.plain["nastaliq.woff2"].name; !strings.Contains(css, "url("+font+")") {
		t.Errorf("the style sheet does not name the font %s: %s", font, css)
	}
}

// TestWeight keeps what a visitor loads within its budget: a citizen's page
// with style and scripts, and the same with the Urdu font.
func TestWeight(t *testing.T) {
	p := newPages(t)
	wire := func(name string) int {
		f := p.assets.plain[name]
		if f.gzip != nil {
			return len(f.gzip)
		}
		return len(f.body)
	}
	page := 9 << 10 // compressed; internal/portal's tests hold its pages to that
	scripts := wire("data.js") + wire("verify.js")
	english := page + wire("portal.css") + scripts + wire("icon.svg")
	urdu := page + wire("portal.rtl.css") + wire("nastaliq.css") + scripts + wire("icon.svg") + wire("nastaliq.woff2")
	if english > 30_000 || urdu > 138_240 {
		t.Errorf("a citizen's page weighs %d bytes (budget 30,000), %d in Urdu (budget 135 KiB)", english, urdu)
	}
	for _, name := range []string{"data.js", "verify.js"} {
		if n := len(p.assets.plain[name].body); n == 0 || n > 6<<10 {
			t.Errorf("%s has %d bytes, the budget is 6144", name, n)
		}
	}
}

func TestPagesAreCompressedWhole(t *testing.T) {
	p := newPages(t)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.Render(w, r, http.StatusOK, View{Surface: Portal, Name: "error", Title: "x", Data: ErrorView{Status: 404, Title: "x"}, Public: 5 * time.Second})
	})
	plain := get(t, h, "/en/x").Body.Len()
	w := get(t, h, "/en/x", "Accept-Encoding", "gzip")
	z, err := gzip.NewReader(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(z)
	if err != nil || len(body) != plain || w.Header().Get("Cache-Control") != "public, max-age=5" {
		t.Errorf("%d bytes, want %d; %v; %q", len(body), plain, err, w.Header().Get("Cache-Control"))
	}
}

func TestLanguageIsRemembered(t *testing.T) {
	p := newPages(t)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.Render(w, r, http.StatusOK, View{Surface: Desk, Name: "error", Title: "x", Data: ErrorView{Status: 404}})
	})
	if c := get(t, h, "/desk?lang=ur").Header().Get("Set-Cookie"); !strings.HasPrefix(c, "__Host-lang=ur; Path=/;") || !strings.Contains(c, "HttpOnly; Secure; SameSite=Lax") {
		t.Errorf("cookie %q", c)
	}
	if c := get(t, h, "/desk").Header().Get("Set-Cookie"); c != "" {
		t.Errorf("a cookie without a choice: %q", c)
	}
	body := get(t, h, "/desk?lang=ur").Body.String()
	if !strings.Contains(body, `href="/desk?lang=en" lang="en"`) || !strings.Contains(body, "nastaliq") {
		t.Errorf("no way back to English, or no font:\n%s", body)
	}
	if light := get(t, h, "/desk?lang=ur", "Save-Data", "on").Body.String(); strings.Contains(light, "nastaliq") {
		t.Error("a font for a visitor who asks for little data")
	}
	chosen := get(t, h, "/desk?lang=ur&script=simple")
	if body := chosen.Body.String(); strings.Contains(body, "nastaliq.") || !strings.Contains(body, "script=nastaliq") {
		t.Errorf("a font for a visitor who chose the simple script, or no way back:\n%s", body)
	}
	if c := chosen.Header().Values("Set-Cookie"); len(c) != 2 || !strings.HasPrefix(c[1], "__Host-script=simple;") {
		t.Errorf("the choice is not kept: %q", c)
	}
	if again := get(t, h, "/ur/x", "Cookie", "__Host-script=simple; __Host-lang=ur").Body.String(); strings.Contains(again, "nastaliq.") {
		t.Error("the choice of the simple script was forgotten")
	}
}
