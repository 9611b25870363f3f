package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/page"
	"pasban/internal/registry"
)

func recordRoutes() []config.Route {
	purposes := []string{"mutation", "dispute"}
	return []config.Route{
		{Match: "GET /records/{cnic}", SignIn: "officer", Subject: "cnic", Purposes: purposes, Basis: "Synthetic Act 2026", Fields: []string{"owner", "share"}},
		{Match: "GET /search", SignIn: "officer", Subject: "response", Purposes: purposes},
		{Match: "POST /transfer", SignIn: "officer", Subject: "form.cnic", Purposes: purposes},
		{Match: "GET /mine/{cnic}", SignIn: "citizen", Subject: "cnic"},
		{Match: "GET /", SignIn: "none"},
	}
}

// get asks the gateway's handler as a browser would, with more headers in pairs.
func get(g *Gateway, method, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	r.Header.Set("Accept", "text/html")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	g.Handler().ServeHTTP(w, r)
	return w
}

func TestLookBeforeUpstream(t *testing.T) {
	var seen trace
	upstream := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) {
		seen.add("upstream")
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("Pasban-Promise", "1; leaf=forged; sig=forged")
		w.Header().Set("Set-Cookie", page.SessionCookie+"=stolen; Path=/; Secure")
		w.Header().Add("Set-Cookie", "legacy=1")
		fmt.Fprintf(w, "<p>%s</p>", first)
	})
	g, p := newGateway(t, nil, siteOf(upstream, recordRoutes()...))
	p.officer()
	p.hook = func(registry.Look) { seen.add("journal") }

	w := get(g, "GET", "/records/"+first, "If-None-Match", `"v1"`, "Range", "bytes=0-1")
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), first) {
		t.Fatalf("answer %d: %s", w.Code, w.Body)
	}
	if got := seen.take(); !slices.Equal(got, []string{"journal", "upstream"}) {
		t.Errorf("order: %v", got)
	}
	l := p.looks[0]
	if len(l.Subjects) != 1 || l.Subjects[0].CNIC != first || l.Kind != pasban.KindLook || l.Action != "view" ||
		l.Resource != "GET /records/{cnic}" || l.Service != "localhost" || l.Mode != pasban.ModePerson ||
		l.Purpose != (pasban.Purpose{Code: "mutation", Case: "SYN/2026/1", Basis: "Synthetic Act 2026"}) ||
		!slices.Equal(l.Fields, []string{"owner", "share"}) || l.Client.Path != "/records/"+first || l.Client.IP == "" {
		t.Errorf("look: %+v", l)
	}
	cookies := slices.DeleteFunc(w.Header().Values("Set-Cookie"), func(c string) bool { return strings.HasPrefix(c, passCookie+"=") })
	if h := w.Header(); h.Get("Cache-Control") != "no-store" || h.Get("ETag") != "" ||
		!slices.Equal(h.Values("Pasban-Promise"), []string{p.promise(0)}) || !slices.Equal(cookies, []string{"legacy=1"}) {
		t.Errorf("headers: %v", h)
	}
	if w := get(g, "HEAD", "/records/"+first); w.Code != http.StatusOK || len(p.asked()) != 2 {
		t.Errorf("HEAD answered %d without its look", w.Code)
	}
}

// promise is the header of the first promise that the stand-in gave.
func (p *parts) promise(i int) string {
	return pasban.Promise{Origin: "test.example/ledger", Index: uint64(1 + i), Sig: []byte("signed")}.Header()
}

func TestRefusedShowsNothing(t *testing.T) {
	var seen trace
	upstream := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) {
		seen.add(r.URL.Path)
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("X-Owner", first)
		io.WriteString(w, "secret of "+first)
	})
	g, p := newGateway(t, nil, siteOf(upstream, recordRoutes()...))
	p.officer()
	for _, c := range []struct {
		err    error
		status int
	}{
		{&pasban.Error{Kind: pasban.Forbidden, Msg: "not your case", ID: "0123"}, http.StatusForbidden},
		{&pasban.Error{Kind: pasban.Unavailable, Msg: "the ledger is behind", ID: "4567"}, http.StatusServiceUnavailable},
		{io.ErrUnexpectedEOF, http.StatusServiceUnavailable},
	} {
		p.refuse = c.err
		for _, target := range []string{"/records/" + first, "/search?q=x"} {
			for _, method := range []string{"GET", "HEAD"} {
				w := get(g, method, target, "Accept", "application/json")
				if w.Code != c.status || strings.Contains(w.Body.String(), "secret") || w.Header().Get("X-Owner") != "" || w.Header().Get("Pasban-Promise") != "" {
					t.Errorf("%s %s, %v: answered %d %v %s", method, target, c.err, w.Code, w.Header(), w.Body)
				}
				if e := asError(c.err); w.Header().Get(IncidentHeader) != e.ID || method == "GET" && !strings.Contains(w.Body.String(), e.ID) {
					t.Errorf("%s %s: incident %q not shown: %s", method, target, e.ID, w.Body)
				}
			}
		}
		if slices.Contains(seen.take(), "/records/"+first) {
			t.Error("the service was asked although the look was refused")
		}
	}
}

func TestLookAfterAnswer(t *testing.T) {
	answer := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		switch r.URL.Query().Get("q") {
		case "two":
			fmt.Fprintf(w, "<td>%s</td><td>%s</td>", first, second)
		case "none":
			io.WriteString(w, "<p>nobody</p>")
		case "redirect":
			w.Header().Set("Location", "/records/"+second)
			w.WriteHeader(http.StatusFound)
		case "pdf":
			w.Header().Set("Content-Type", "application/pdf")
			io.WriteString(w, "%PDF "+first)
		case "gzip":
			w.Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, "\x1f\x8b")
		case "long":
			w.Write(make([]byte, maxAnswer+1))
		case "crowd":
			for i := range maxCitizens + 1 {
				fmt.Fprintf(w, "35202-%07d-1 ", i)
			}
		case "part":
			w.WriteHeader(http.StatusPartialContent)
			io.WriteString(w, first)
		case "hints":
			w.Header().Set("Link", "</records/"+first+">")
			w.WriteHeader(http.StatusEarlyHints)
			io.WriteString(w, first)
		case "dies":
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, first)
		}
	}
	g, p := newGateway(t, nil, siteOf(upstreamOf(t, answer), recordRoutes()...))
	p.officer()
	for q, c := range map[string]struct {
		status int
		asked  []pasban.CNIC
		looks  int
	}{
		"two": {200, []pasban.CNIC{first, second}, 1}, "none": {200, nil, 1}, "redirect": {302, []pasban.CNIC{second}, 1},
		"pdf": {502, nil, 0}, "gzip": {502, nil, 0}, "long": {502, nil, 0}, "part": {502, nil, 0}, "dies": {502, nil, 0},
		"crowd": {403, nil, 0}, "hints": {200, []pasban.CNIC{first}, 1},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			w := get(g, method, "/search?q="+q)
			looks := p.asked()
			if w.Code != c.status || len(looks) != c.looks || c.looks > 0 && !slices.Equal(looks[0], c.asked) {
				t.Errorf("%s %s: answered %d, looks %v; want %d, %v", method, q, w.Code, looks, c.status, c.asked)
			}
			if c.looks == 0 && strings.Contains(w.Body.String()+fmt.Sprint(w.Header()), "35202") {
				t.Errorf("%s %s: shown without a look: %s", method, q, w.Body)
			}
			if n := len(w.Header().Values("Pasban-Promise")); c.looks > 0 && n != max(1, len(c.asked)) {
				t.Errorf("%s %s: %d promises", method, q, n)
			}
		}
	}
	facts := p.take()
	if i := slices.IndexFunc(facts, func(f pasban.Fact) bool { return f.Body.Kind == pasban.KindDecision }); i < 0 {
		t.Error("the refused crowd is not in the journal")
	}
}

func TestWhoMayComeHere(t *testing.T) {
	var seen trace
	upstream := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) { seen.add(r.URL.Path) })
	g, p := newGateway(t, nil, siteOf(upstream, recordRoutes()...))

	// Nobody is signed in.
	w := get(g, "GET", "/records/"+first+"?a=1")
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/pasban/signin?next=%2Frecords%2F35202-1234567-1%3Fa%3D1" {
		t.Errorf("a page: %d to %q", w.Code, w.Header().Get("Location"))
	}
	if w := get(g, "GET", "/records/"+first, "Accept", "application/json"); w.Code != http.StatusUnauthorized {
		t.Errorf("a program: %d", w.Code)
	}
	// A citizen on an officers' page: a decision.
	p.visitor = &Visitor{Actor: pasban.Actor{ID: "citizen:synthetic", Kind: pasban.ActorCitizen, Role: pasban.RoleCitizen}}
	w = get(g, "GET", "/records/"+first)
	f := p.take()
	if w.Code != http.StatusForbidden || len(f) != 1 || f[0].Body.Kind != pasban.KindDecision || f[0].Body.Outcome != pasban.Denied ||
		f[0].Restricted.Actor != "citizen:synthetic" || w.Header().Get(IncidentHeader) != f[0].Body.ID {
		t.Errorf("wrong role: %d, facts %+v", w.Code, f)
	}
	// A citizen on their own page needs no purpose.
	if w := get(g, "GET", "/mine/"+first); w.Code != http.StatusOK || len(p.asked()) != 1 {
		t.Errorf("own page: %d", w.Code)
	}
	seen.take()
	// An officer who works on nothing.
	p.officer()
	p.visitor.Purpose = pasban.Purpose{}
	w = get(g, "GET", "/records/"+first)
	if w.Code != http.StatusSeeOther || !strings.HasPrefix(w.Header().Get("Location"), "/desk/work?next=%2Frecords%2F") {
		t.Errorf("no purpose: %d to %q", w.Code, w.Header().Get("Location"))
	}
	w = get(g, "GET", "/records/"+first, "Accept", "application/json")
	var problem page.Problem
	if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil || w.Code != http.StatusForbidden || problem.Hint == "" {
		t.Errorf("no purpose, a program: %d %s %v", w.Code, w.Body, err)
	}
	if len(seen.take()) > 0 || len(p.asked()) > 0 {
		t.Error("the service was asked")
	}
	// … and one who says it with the request.
	w = get(g, "GET", "/records/"+first, "Pasban-Purpose", "dispute", "Pasban-Case", "SYN/9")
	if w.Code != http.StatusOK || p.looks[0].Purpose.Code != "dispute" || p.looks[0].Purpose.Case != "SYN/9" {
		t.Errorf("purpose by header: %d, %+v", w.Code, p.looks)
	}
	// Who asks for secrecy is understood or refused.
	w = get(g, "GET", "/records/"+first, "Pasban-Purpose", "dispute", "Pasban-Case", "SYN/9", "Pasban-Hide-Until", "2027-05-01")
	if until := p.looks[len(p.looks)-1].Purpose.HideUntil; w.Code != http.StatusOK || until.Format(time.RFC3339) != "2027-05-01T00:00:00+05:00" {
		t.Errorf("hidden until: %d, %v", w.Code, until)
	}
	asked := len(p.looks)
	w = get(g, "GET", "/records/"+first, "Pasban-Purpose", "dispute", "Pasban-Case", "SYN/9", "Pasban-Hide-Until", "next May")
	if w.Code != http.StatusBadRequest || len(p.looks) != asked {
		t.Errorf("hidden until no date: %d, %d looks", w.Code, len(p.looks)-asked)
	}
	for _, bad := range []string{"/records/not-a-number", "/records/1234"} {
		if w := get(g, "GET", bad, "Pasban-Purpose", "dispute", "Pasban-Case", "SYN/9"); w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d", bad, w.Code)
		}
	}
	if w := get(g, "GET", "/records/"+first, "Upgrade", "websocket", "Connection", "Upgrade", "Pasban-Purpose", "dispute", "Pasban-Case", "SYN/9"); w.Code != http.StatusBadRequest {
		t.Errorf("upgrade: %d", w.Code)
	}
}

func TestForm(t *testing.T) {
	var seen trace
	upstream := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen.add(fmt.Sprint(r.ContentLength, " ", string(body)))
	})
	site := siteOf(upstream, recordRoutes()...)
	site.WAF.Mode = "block"
	g, p := newGateway(t, nil, site)
	p.officer()
	post := func(body string, header ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("POST", "/transfer", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		g.Handler().ServeHTTP(w, r)
		return w
	}
	form := "cnic=" + first + "&share=1%2F2"
	if w := post(form); w.Code != http.StatusOK {
		t.Fatalf("answered %d: %s", w.Code, w.Body)
	}
	if got := seen.take(); !slices.Equal(got, []string{fmt.Sprint(len(form), " ", form)}) {
		t.Errorf("the service got %q", got)
	}
	if l := p.looks; len(l) != 1 || l[0].Kind != pasban.KindChange || l[0].Action != "change" || l[0].Subjects[0].CNIC != first {
		t.Errorf("looks: %+v", l)
	}
	if w := post(form, "Sec-Fetch-Site", "cross-site"); w.Code != http.StatusForbidden || len(seen.take()) > 0 {
		t.Errorf("a form of another site was let through: %d", w.Code)
	}
}

func TestProxyHeaders(t *testing.T) {
	got := make(chan *http.Request, 1)
	upstream := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) { got <- r })
	g, _ := newGateway(t, nil, siteOf(upstream, config.Route{Match: "GET /", SignIn: "none"}))
	get(g, "GET", "/a%20b?x=1;y=2&z=%zz", "Cookie", "a=1; "+page.SessionCookie+"=secret; b=2", "X-Forwarded-For", "198.51.100.9",
		"X-Forwarded-Prefix", "/x", "Forwarded", "for=198.51.100.9", "X-HTTP-Method-Override", "DELETE", "X-Original-URL", "/records/1",
		"Pasban-Purpose", "x", "Pasban_Case", "x", "X_Forwarded_For", "198.51.100.9", "Connection", "X-Hop", "X-Hop", "1",
		"Accept-Encoding", "gzip", "X-Requested-With", "XMLHttpRequest")
	r := <-got
	if r.RequestURI != "/a%20b?x=1;y=2&z=%zz" || r.Host != "example.com" {
		t.Errorf("forwarded as %q to %q", r.RequestURI, r.Host)
	}
	if c := r.Header.Get("Cookie"); c != "a=1; b=2" {
		t.Errorf("cookies: %q", c)
	}
	if r.Header.Get("X-Forwarded-For") != "192.0.2.1" || r.Header.Get("X-Forwarded-Host") != "example.com" || r.Header.Get("X-Forwarded-Proto") != "http" ||
		r.Header.Get("X-Requested-With") == "" {
		t.Errorf("headers: %v", r.Header)
	}
	for name := range r.Header {
		if !forwardable(name) && !strings.HasPrefix(name, "X-Forwarded-") || name == "X-Hop" || name == "Accept-Encoding" {
			t.Errorf("%s reached the service", name)
		}
	}
}

func TestUpstreamDown(t *testing.T) {
	dead := httptest.NewServer(nil)
	dead.Close()
	var seen trace
	alive := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) { seen.add(r.URL.Path) })
	hang := make(chan struct{})
	slow := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) { <-hang })
	t.Cleanup(func() { close(hang) })

	site := siteOf(dead.URL, recordRoutes()...)
	g, p := newGateway(t, nil, site)
	p.officer()
	for _, target := range []string{"/", "/records/" + first, "/search"} {
		for lang, word := range map[string]string{"en": `lang="en"`, "ur": `lang="ur"`} {
			w := get(g, "GET", target, "Accept-Language", lang)
			if w.Code != http.StatusBadGateway || !strings.Contains(w.Body.String(), word) {
				t.Errorf("%s in %s: %d %s", target, lang, w.Code, w.Body)
			}
		}
	}
	waitFor(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return slices.ContainsFunc(p.facts, func(f pasban.Fact) bool {
			return f.Body.Kind == pasban.KindAlarm && slices.Contains(f.Restricted.Reasons, "upstream unreachable")
		})
	})

	site.Upstream = []string{dead.URL, alive}
	g, _ = newGateway(t, nil, site)
	for range 4 {
		if w := get(g, "GET", "/over"); w.Code != http.StatusOK {
			t.Errorf("not taken over: %d", w.Code)
		}
	}
	if n := len(seen.take()); n != 4 {
		t.Errorf("the living one was asked %d times", n)
	}

	site.Upstream, site.Timeout = []string{slow}, 50*time.Millisecond
	g, _ = newGateway(t, nil, site)
	if w := get(g, "GET", "/"); w.Code != http.StatusGatewayTimeout {
		t.Errorf("slow: %d", w.Code)
	}
}

func TestBehindBalancer(t *testing.T) {
	got := make(chan http.Header, 1)
	upstream := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) { got <- r.Header })
	g, p := newGateway(t, nil, siteOf(upstream, config.Route{Match: "GET /page", SignIn: "none"}))
	for _, c := range []struct{ peer, header, want, proto string }{
		{"10.0.0.5:1000", "198.51.100.1, 198.51.100.9", "198.51.100.9", "https"},
		{"[::1]:1000", "2001:db8::9", "2001:db8::9", "https"},
		{"10.0.0.5:1000", "nonsense", "10.0.0.5", "http"},
		{"10.0.0.5:1000", "", "10.0.0.5", "http"},
		{"203.0.113.7:1000", "198.51.100.9", "203.0.113.7", "http"}, // not the balancer
	} {
		ask := func(target string) {
			r := httptest.NewRequest("GET", target, nil)
			r.RemoteAddr = c.peer
			if c.header != "" {
				r.Header.Set("X-Forwarded-For", c.header)
			}
			g.Handler().ServeHTTP(httptest.NewRecorder(), r)
		}
		ask("/page")
		if h := <-got; h.Get("X-Forwarded-For") != c.want || h.Get("X-Forwarded-Proto") != c.proto {
			t.Errorf("%+v: the service is told %q, %q", c, h.Get("X-Forwarded-For"), h.Get("X-Forwarded-Proto"))
		}
		ask("/nowhere")
		if f := p.take(); len(f) != 1 || f[0].Restricted.IP != c.want {
			t.Errorf("%+v: facts %+v", c, f)
		}
	}
}

// TestAttackerIsNamed checks that an attack by someone who is signed in is a
// fact about them.
func TestAttackerIsNamed(t *testing.T) {
	site := siteOf(upstreamOf(t, fixedPage), recordRoutes()...)
	site.WAF.Mode = "block"
	g, p := newGateway(t, nil, site)
	p.officer()
	get(g, "GET", "/?q=%3Cscript%3Ealert(1)%3C/script%3E", "Cookie", page.SessionCookie+"=x", "User-Agent", "synthetic")
	if f := p.take(); len(f) != 1 || f[0].Restricted.Actor != "officer:synthetic-001" || f[0].Body.Who.Staff != "001" {
		t.Errorf("facts: %+v", f)
	}
}
