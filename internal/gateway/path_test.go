package gateway

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"

	"pasban/internal/config"
)

func TestPathFault(t *testing.T) {
	good := []string{"/", "/records", "/records/35202-1234567-1", "/a/b/", "/%D8%B1%DB%8C%DA%A9%D8%A7%D8%B1%DA%88", "/a%20b",
		"/.well-known/x", "/a.b/c..d/...", "/~user/a_b-c", "/a+b@c:d,e=f!$&'()*"}
	bad := []string{"//", "/a//b", "/./a", "/a/..", "/a/../b", "/a/.", "/a%2fb", "/a%2Fb", "/a%5cb", `/a\b`, "/a%00b", "/a%0ab",
		"/a;b", "/a%3bb", "/%2e%2e/a", "/%2e/", "/%61dmin", "/a%25b", "/a%252fb", "/a%2", "/a%zz", "/a\tb", "/a%7f"}
	for _, p := range good {
		if why := pathFault(p); why != "" {
			t.Errorf("pathFault(%q) = %q, want none", p, why)
		}
	}
	for _, p := range bad {
		if pathFault(p) == "" {
			t.Errorf("pathFault(%q) found nothing", p)
		}
	}
}

// FuzzPath checks that a path which passes is read alike by everyone: nothing
// to clean, nothing hidden in escapes, forwarded as it came.
func FuzzPath(f *testing.F) {
	for _, p := range []string{"/", "/records/1", "/a%20b/", "/../x", "/a%2fb", "/%e2%80%ae", "/a;b=c/d", "/%2E%2e", "/a\x00", "/é"} {
		f.Add(p)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(http.ResponseWriter, *http.Request) {})
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := url.ParseRequestURI(raw)
		if err != nil || !strings.HasPrefix(raw, "/") || strings.Contains(raw, "?") {
			return
		}
		r := &http.Request{Method: "GET", URL: u, RequestURI: raw, Host: "test.example"}
		if checkPath(r) != nil {
			return
		}
		if u.EscapedPath() != raw {
			t.Errorf("%q would be forwarded as %q", raw, u.EscapedPath())
		}
		if clean := path.Clean(u.Path); clean != u.Path && clean+"/" != u.Path {
			t.Errorf("%q is cleaned to %q", u.Path, clean)
		}
		if strings.ContainsAny(u.Path, "\\;\x00\r\n") {
			t.Errorf("%q passed", u.Path)
		}
		if again, err := url.PathUnescape(u.Path); err == nil && again != u.Path {
			t.Errorf("%q is escaped twice", raw)
		}
		if _, pattern := mux.Handler(r); pattern != "/" {
			t.Errorf("%q is not routed as it is", raw)
		}
	})
}

// TestPathConfusion tries to reach a guarded page over an open route, by
// addresses that the guarded service reads more leniently than we do.
func TestPathConfusion(t *testing.T) {
	var seen trace
	upstream := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) {
		seen.add(r.Method + " " + r.RequestURI)
	})
	g, _ := newGateway(t, nil, siteOf(upstream,
		config.Route{Match: "GET /records/{cnic}", SignIn: "officer", Subject: "cnic", Purposes: []string{"mutation"}},
		config.Route{Match: "GET /search", SignIn: "officer", Subject: "response", Purposes: []string{"mutation"}},
		config.Route{Match: "/", SignIn: "none"},
	))
	addr := serve(t, g)
	for _, line := range []string{
		"GET /records/35202-1234567-1", "HEAD /records/35202-1234567-1", "GET /Records/35202-1234567-1", "GET /records/35202-1234567-1/",
		"GET //records/35202-1234567-1", "GET /x/../records/35202-1234567-1", "GET /./records/35202-1234567-1", "GET /records%2f35202-1234567-1",
		"GET /%72ecords/35202-1234567-1", `GET /records\35202-1234567-1`, "GET /records/35202-1234567-1;x", "GET /records;x/35202-1234567-1",
		"GET /records./35202-1234567-1", "GET /records%20/35202-1234567-1", "GET /RECORDS/35202-1234567-1/", "GET /search/", "GET /SEARCH",
		"GET /search.", "GET /search%20", "GET /records/35202-1234567-1%00", "POST /records/35202-1234567-1", "PUT /search", "DELETE /Search/",
		"GET http://other.example/records/35202-1234567-1", "GET http://other.example//records/1", "GET /search%2", "CONNECT /records/1",
	} {
		res := send(t, addr, []byte(line+" HTTP/1.1\r\nHost: test.example\r\nX-Original-URL: /records/1\r\nConnection: close\r\n\r\n"))
		if reached := seen.take(); len(reached) > 0 || res == nil || res.StatusCode < 300 {
			t.Errorf("%s reached the service as %q: %v", line, reached, res)
		}
	}
	for _, line := range []string{"GET /", "GET /static/app.js?v=1.2.3", "POST /apply", "GET /searching", "GET /record"} {
		res := send(t, addr, []byte(line+" HTTP/1.1\r\nHost: test.example\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
		if res == nil || res.StatusCode != http.StatusOK || !slices.Contains(seen.take(), line) {
			t.Errorf("%s did not reach the service as it is", line)
		}
	}
}

func TestRootLeadsToPortal(t *testing.T) {
	g, facts := newGateway(t, nil)
	for lang, want := range map[string]string{"en": "/en/", "ur-PK,en;q=0.5": "/ur/"} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept-Language", lang)
		g.Handler().ServeHTTP(w, r)
		if w.Code != http.StatusSeeOther || w.Header().Get("Location") != want {
			t.Errorf("%s: %d to %q, want %q", lang, w.Code, w.Header().Get("Location"), want)
		}
	}
	w := httptest.NewRecorder()
	g.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/wp-login.php", nil))
	if w.Code != http.StatusNotFound || facts.action(w.Header().Get(IncidentHeader)) != "route" {
		t.Errorf("an address without route answered %d, incident %q", w.Code, w.Header().Get(IncidentHeader))
	}
	w = httptest.NewRecorder()
	g.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/desk", nil))
	if w.Body.String() != "own /desk" {
		t.Errorf("/desk is not Pasban's own: %q", w.Body)
	}
}
