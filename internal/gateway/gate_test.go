package gateway

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/gateway/flood"
	"pasban/internal/gateway/pass"
	"pasban/internal/keys"
)

// browser is a visitor who keeps cookies and asks for pages.
type browser struct {
	t       *testing.T
	h       http.Handler
	from    string
	cookies map[string]string
	header  http.Header
}

func newBrowser(t *testing.T, g *Gateway) *browser {
	return &browser{t: t, h: g.Handler(), from: "198.51.100.7:4711", cookies: map[string]string{}, header: http.Header{"Accept": {"text/html,*/*;q=0.8"}}}
}

func (b *browser) do(method, target, form string) *httptest.ResponseRecorder {
	b.t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(form))
	r.Host, r.RemoteAddr = "land.example", b.from
	r.Header = b.header.Clone()
	if form != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	w := httptest.NewRecorder()
	b.h.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		if !c.Secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" {
			b.t.Errorf("cookie %s could leak: %+v", c.Name, c)
		}
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = c.Value
		}
	}
	return w
}

func (b *browser) get(target string) *httptest.ResponseRecorder {
	b.t.Helper()
	return b.do("GET", target, "")
}

// want fails unless an answer has the status and leads to the place.
func want(t *testing.T, w *httptest.ResponseRecorder, status int, location string) {
	t.Helper()
	if w.Code != status || w.Header().Get("Location") != location {
		t.Fatalf("answered %d to %q, want %d to %q\n%.400s", w.Code, w.Header().Get("Location"), status, location, w.Body)
	}
}

var challengeIn = regexp.MustCompile(`name="challenge" value="([^"]+)"`)

func analyst() pasban.Actor {
	return pasban.Actor{ID: "analyst:synthetic-001", Kind: pasban.ActorPerson, Role: pasban.RoleAnalyst, Staff: "SYN-019"}
}

// attacked is a gateway in front of a small service, under attack mode.
func attacked(t *testing.T, change func(*config.Config), routes ...config.Route) (*Gateway, *parts, *trace) {
	t.Helper()
	tr := &trace{}
	up := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) {
		tr.add(r.Method + " " + r.URL.RequestURI() + " " + r.Header.Get("Cookie") + r.Header.Get(TokenHeader))
		io.WriteString(w, "served")
	})
	site := siteOf(up, append(routes, config.Route{Match: "/", SignIn: "none"})...)
	site.Host = "land.example"
	site.Attack.Tokens = []config.Secret{"synthetic-token-0123456789"}
	g, p := newGateway(t, change, site)
	if err := g.StartAttack(t.Context(), analyst(), "land.example", pass.Overload, "synthetic", time.Hour); err != nil {
		t.Fatal(err)
	}
	return g, p, tr
}

func TestChallenge(t *testing.T) {
	g, _, tr := attacked(t, nil)
	b := newBrowser(t, g)
	asked := "/records/search?district=lahore"
	to := gatePath + destination{path: asked}.token()
	want(t, b.get(asked), 303, to)
	w := b.get(to)
	want(t, w, 503, "")
	if w.Header().Get("Retry-After") == "" || !strings.Contains(w.Header().Get("Content-Security-Policy"), "worker-src 'self'") ||
		strings.Contains(w.Body.String(), "PASBANHOLE") || !strings.Contains(w.Body.String(), "/pasban/pass/") {
		t.Errorf("the page of the challenge: %v\n%s", w.Header(), w.Body)
	}
	challenge := challengeIn.FindStringSubmatch(w.Body.String())[1]
	form := url.Values{"challenge": {challenge}, "answer": {pass.Work(challenge)}}.Encode()
	wrong := url.Values{"challenge": {challenge}, "answer": {"1.2.3"}}.Encode()
	want(t, b.do("POST", to, wrong), 303, to)
	if b.cookies[passCookie] != "" {
		t.Fatal("a pass for no work")
	}
	thief := newBrowser(t, g)
	thief.from = "203.0.113.9:1"
	thief.cookies[ticketCookie] = b.cookies[ticketCookie]
	want(t, thief.do("POST", to, form), 303, to)
	if thief.cookies[passCookie] != "" {
		t.Fatal("the work of one network is good for another")
	}
	ticket := b.cookies[ticketCookie]
	want(t, b.do("POST", to, form), 303, asked)
	if w := b.get(asked); w.Code != 200 || w.Body.String() != "served" {
		t.Fatalf("with a pass: %d %s", w.Code, w.Body)
	}
	if seen := tr.take(); len(seen) != 1 || seen[0] != "GET "+asked+" " {
		t.Errorf("the service saw %q: want the one request, without cookies of ours", seen)
	}
	again := newBrowser(t, g)
	again.cookies[ticketCookie] = ticket
	want(t, again.do("POST", to, form), 303, to)
	if again.cookies[passCookie] != "" {
		t.Error("the work is good twice")
	}
	for outcome, n := range map[string]float64{"issued": 1, "failed": 2, "solved": 1, "replayed": 1} {
		if got := counted(t, g, "pasban_pass_challenges_total", outcome); got != n {
			t.Errorf("%s: %v, want %v", outcome, got, n)
		}
	}
}

// counted is the value of a metric by the value of its one label.
func counted(t *testing.T, g *Gateway, name, label string) float64 {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(g)
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range all {
		for _, m := range family.GetMetric() {
			if family.GetName() == name && m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

// Whose browser keeps no cookie is told so, and not sent in a circle.
func TestNoCookies(t *testing.T) {
	g, _, _ := attacked(t, nil)
	b := newBrowser(t, g)
	to := gatePath + destination{path: "/"}.token()
	challenge := challengeIn.FindStringSubmatch(b.get(to).Body.String())[1]
	clear(b.cookies)
	w := b.do("POST", to, url.Values{"challenge": {challenge}, "answer": {pass.Work(challenge)}}.Encode())
	if w.Code != 400 || !strings.Contains(w.Body.String(), "needs a cookie") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// Who only waits gets through too, once, and not too early.
func TestWaitingInPlaceOfWork(t *testing.T) {
	g, _, _ := attacked(t, nil)
	b := newBrowser(t, g)
	to := gatePath + destination{path: "/"}.token()
	w := b.get(to)
	ticket := b.cookies[ticketCookie]
	if w.Code != 503 || ticket == "" || !regexp.MustCompile(`<noscript><meta http-equiv="refresh" content="\d+">`).MatchString(w.Body.String()) {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	b.header.Set("Accept", "application/json")
	if w := b.get(to); !strings.Contains(w.Body.String(), `"ready":true`) || b.cookies[passCookie] != "" {
		t.Errorf("the script of a waiting room's page is not told to look again: %s", w.Body)
	}
	b.header.Set("Accept", "text/html")
	b.get(to)
	if b.cookies[ticketCookie] != ticket {
		t.Error("a reload begins the wait anew")
	}
	now := time.Now()
	b.cookies[ticketCookie] = g.gate.book.SealTicket(pass.Ticket{ID: pass.ID{1}, Ready: now.Add(-time.Second)})
	want(t, b.get(to), 303, "/")
	want(t, b.get("/"), 200, "")
	b.cookies = map[string]string{ticketCookie: g.gate.book.SealTicket(pass.Ticket{Ready: now.Add(-time.Hour)})}
	if b.get(to); b.cookies[passCookie] != "" {
		t.Error("a ticket is good for ever")
	}
}

func TestWhoGetsThroughAnAttack(t *testing.T) {
	g, p, tr := attacked(t, nil)
	html := gatePath + destination{path: "/a"}.token()
	for _, c := range []struct {
		name   string
		path   string
		header http.Header
		cookie string
		signed bool
		status int
		to     string
	}{
		{name: "a stranger", path: "/a", status: 303, to: html},
		{name: "a stranger's script", path: "/a", header: http.Header{"Accept": {"*/*"}}, status: 429},
		{name: "a program with the token", path: "/a", header: http.Header{TokenHeader: {"synthetic-token-0123456789"}}, status: 200},
		{name: "a program with another token", path: "/a", header: http.Header{TokenHeader: {"synthetic-token-012345678X"}}, status: 429},
		{name: "somebody signed in", path: "/a", cookie: "x", signed: true, status: 200},
		{name: "somebody who says so", path: "/a", cookie: "x", header: http.Header{"Accept": {"text/html"}}, status: 303, to: html},
		{name: "the portal", path: "/en/", status: 303, to: gatePath + destination{path: "/en/"}.token()},
		{name: "the portal in Urdu", path: "/ur/", status: 303, to: gatePath + destination{path: "/ur/"}.token() + "?lang=ur"},
		{name: "signing in", path: "/pasban/signin", status: 200},
		{name: "the console", path: "/soc", status: 200},
		{name: "the trust page", path: "/trust", status: 200},
		{name: "a file of ours", path: "/pasban/static/x.css", status: 200},
	} {
		b := newBrowser(t, g)
		if c.header != nil {
			b.header = c.header
		}
		if c.cookie != "" {
			b.cookies["__Host-pasban"] = c.cookie
		}
		p.mu.Lock()
		if p.visitor = nil; c.signed {
			p.visitor = &Visitor{Actor: analyst()}
		}
		p.mu.Unlock()
		w := b.get(c.path)
		if w.Code != c.status || w.Header().Get("Location") != c.to {
			t.Errorf("%s: %d to %q, want %d to %q", c.name, w.Code, w.Header().Get("Location"), c.status, c.to)
		}
		if c.status == 429 {
			var problem struct {
				Status int
				Hint   string
			}
			if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil || problem.Status != 429 || !strings.Contains(problem.Hint, TokenHeader) || w.Header().Get("Retry-After") == "" {
				t.Errorf("%s is not told what to do: %v %s", c.name, err, w.Body)
			}
		}
		if strings.Contains(w.Body.String()+w.Header().Get("Location"), "synthetic-token") {
			t.Errorf("%s: the token is in the answer", c.name)
		}
	}
	if seen := strings.Join(tr.take(), "\n"); strings.Contains(seen, "synthetic-token") {
		t.Errorf("the token reached the service: %s", seen)
	}
}

// A form that does not get through is not lost silently.
func TestLostForm(t *testing.T) {
	g, _, tr := attacked(t, nil)
	b := newBrowser(t, g)
	b.header.Set("Referer", "http://land.example/apply?step=2")
	w := b.do("POST", "/apply", "name=synthetic")
	to := gatePath + destination{path: "/apply?step=2", lost: true}.token()
	want(t, w, 303, to)
	if w := b.get(to); !strings.Contains(w.Body.String(), "did not reach the service") {
		t.Errorf("nothing is said of the form: %s", w.Body)
	}
	b.cookies[ticketCookie] = g.gate.book.SealTicket(pass.Ticket{ID: pass.ID{1}, Ready: time.Now()})
	w = b.get(to)
	if w.Code != 200 || !strings.Contains(w.Body.String(), "send it again") || !strings.Contains(w.Body.String(), `href="/apply?step=2"`) {
		t.Errorf("through: %d %s", w.Code, w.Body)
	}
	if seen := tr.take(); len(seen) != 0 {
		t.Errorf("the service saw %q", seen)
	}
	b.cookies = map[string]string{}
	b.header.Set("Referer", "http://elsewhere.example/x")
	want(t, b.do("POST", "/apply", "name=synthetic"), 303, gatePath+destination{lost: true}.token())
}

func TestAttackIsAFactAndSurvives(t *testing.T) {
	dir := t.TempDir()
	g, p, _ := attacked(t, func(c *config.Config) { c.Data = dir })
	f := p.take()
	if len(f) != 1 || f[0].Body.Kind != pasban.KindAdmin || f[0].Body.Action != "attack.start" || f[0].Body.Service != "land.example" ||
		f[0].Restricted.Actor != analyst().ID || f[0].Restricted.More["note"] != "synthetic" || f[0].Restricted.More["until"] == "" {
		t.Fatalf("facts of the start: %+v", f)
	}
	g.Close()
	again, p := newGateway(t, func(c *config.Config) { c.Data = dir }, config.Site{Host: "land.example", WAF: config.WAF{Mode: "off"}})
	if all := again.Attacks(); len(all) != 1 || all[0].Note != "synthetic" {
		t.Fatalf("after a restart: %+v", all)
	}
	if err := again.EndAttack(t.Context(), analyst(), "land.example"); err != nil {
		t.Fatal(err)
	}
	if f := p.take(); len(f) != 1 || f[0].Body.Action != "attack.end" {
		t.Errorf("facts of the end: %+v", f)
	}
	if err := again.EndAttack(t.Context(), analyst(), "land.example"); pasban.KindOf(err) != pasban.Conflict {
		t.Errorf("ended twice: %v", err)
	}
	for name, err := range map[string]error{
		"no such site":   again.StartAttack(t.Context(), analyst(), "x.example", pass.Caution, "", time.Hour),
		"no such reason": again.StartAttack(t.Context(), analyst(), "land.example", "boredom", "", time.Hour),
		"for ever":       again.StartAttack(t.Context(), analyst(), "land.example", pass.Caution, "", 1000*time.Hour),
		"nobody":         again.StartAttack(t.Context(), pasban.Actor{}, "land.example", pass.Caution, "", time.Hour),
	} {
		if err == nil {
			t.Errorf("%s: started", name)
		}
	}
	if len(again.Attacks()) != 0 || len(p.take()) != 0 {
		t.Error("a refused start did something")
	}
}

func TestAttackStartsByItself(t *testing.T) {
	site := config.Site{Host: "land.example", WAF: config.WAF{Mode: "off"}, Attack: config.Attack{Start: "auto"}}
	hand := config.Site{Host: "tax.example", WAF: config.WAF{Mode: "off"}, Attack: config.Attack{Start: "hand"}}
	g, p := newGateway(t, nil, site, hand)
	g.cancel() // its own seconds would be among ours
	g.keeping.Wait()
	g.ctx = t.Context()
	now := time.Now()
	seconds := func(n int, away int64) {
		for range n {
			now = now.Add(time.Second)
			for _, s := range []string{"land.example", "tax.example"} {
				g.gate.load(s).asked.Add(100)
				g.gate.load(s).away.Add(away)
			}
			g.gate.second(now)
		}
	}
	seconds(20, 10)
	if all := g.gate.modes.All(now); len(all) != 0 {
		t.Fatalf("on a busy day: %+v", all)
	}
	seconds(20, 90)
	all := g.gate.modes.All(now)
	if len(all) != 1 || all[0].Site != "land.example" || !all[0].Auto() || all[0].Reason != pass.Overload {
		t.Fatalf("in a flood: %+v", all)
	}
	if f := p.take(); len(f) != 1 || f[0].Body.Action != "attack.start" || f[0].Body.Who.Kind != pasban.ActorSystem {
		t.Errorf("facts: %+v", f)
	}
	first := all[0].Until
	seconds(400, 90)
	if m, on := g.gate.modes.Of("land.example", now); !on || !m.Until.After(first) {
		t.Errorf("the flood goes on, the mode not: %+v %v", m, on)
	}
	seconds(20, 0)
	m, _ := g.gate.modes.Of("land.example", now)
	now = m.Until
	seconds(1, 0)
	if f := p.take(); len(f) != 1 || f[0].Body.Action != "attack.end" {
		t.Errorf("facts when it is over: %+v", f)
	}
	if len(g.gate.modes.All(now)) != 0 {
		t.Error("it does not end")
	}
}

// Strangers who come back with a pass were none: a crowd is no attack.
func TestSolvingIsNotAttacking(t *testing.T) {
	g, _, _ := attacked(t, nil)
	b := newBrowser(t, g)
	b.get("/")
	b.cookies[ticketCookie] = g.gate.book.SealTicket(pass.Ticket{ID: pass.ID{1}, Ready: time.Now()})
	b.get(gatePath + destination{path: "/"}.token())
	l := g.gate.load("land.example")
	if away := l.away.Load() - l.saved.Load(); away != 0 {
		t.Errorf("%d turned away for good, want 0", away)
	}
}

func TestPassIsEarnedByBehaving(t *testing.T) {
	up := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/shared":
			w.Header().Set("Cache-Control", "public, max-age=60")
		case "/bad":
			w.WriteHeader(404)
		}
		io.WriteString(w, "x")
	})
	site := siteOf(up, config.Route{Match: "/", SignIn: "none"})
	site.Host = "land.example"
	g, _ := newGateway(t, nil, site)
	b := newBrowser(t, g)
	for _, path := range []string{"/shared", "/bad"} {
		if b.get(path); len(b.cookies) != 0 {
			t.Errorf("%s gave a cookie", path)
		}
	}
	b.header.Set("Accept", "image/*")
	if b.get("/"); len(b.cookies) != 0 {
		t.Error("a picture gave a cookie")
	}
	b.header.Set("Accept", "text/html")
	b.get("/")
	p, ok := g.gate.book.Open(b.cookies[passCookie], time.Now())
	if !ok || p.Gives() {
		t.Fatalf("after one page: %+v, %v", p, ok)
	}
	p.Issued, p.Count = p.Issued.Add(-time.Hour), 2 // as after an hour
	b.cookies[passCookie] = g.gate.book.Seal(p)
	b.get("/")
	known, ok := g.gate.book.Open(b.cookies[passCookie], time.Now())
	if !ok || known.Level != pass.Known || known.ID != p.ID {
		t.Fatalf("later: %+v, %v", known, ok)
	}
	if err := g.StartAttack(t.Context(), analyst(), "land.example", pass.Caution, "", time.Hour); err != nil {
		t.Fatal(err)
	}
	want(t, b.get("/"), 200, "")
	before := b.cookies[passCookie]
	if b.get("/"); b.cookies[passCookie] != before {
		t.Error("a pass grows during an attack")
	}
	seen := flood.Stranger
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = b.from
	r.AddCookie(&http.Cookie{Name: passCookie, Value: before})
	r = r.WithContext(context.WithValue(r.Context(), visitKey{}, &visit{guest: g.gate.guestOf(r, time.Now())}))
	if seen = priorityOf(r); seen != flood.Visitor {
		t.Errorf("a known visitor goes first as %v", seen)
	}
	if got := priorityOf(httptest.NewRequest("GET", "/", nil)); got != flood.Stranger {
		t.Errorf("a stranger goes first as %v", got)
	}
}

func TestWaitingRoom(t *testing.T) {
	dir := t.TempDir()
	key := keys.NewPassKey()
	up := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "served") })
	site := siteOf(up, config.Route{Match: "GET /tax/", SignIn: "none", Queue: &config.Queue{Admit: 0.05, Stay: time.Minute}},
		config.Route{Match: "GET /", SignIn: "none"})
	site.Host = "land.example"
	open := func() *Gateway {
		g, _ := newGateway(t, func(c *config.Config) { c.Data = dir }, site)
		g.gate.key, g.gate.book = key, pass.Book{Key: key}
		return g
	}
	g := open()
	to := gatePath + destination{path: "/tax/2026"}.token()
	first := newBrowser(t, g)
	want(t, first.get("/tax/2026"), 200, "") // nobody waits
	want(t, first.get("/tax/other"), 200, "")
	second, third := newBrowser(t, g), newBrowser(t, g)
	second.from, third.from = "198.51.100.8:1", "203.0.113.9:1"
	want(t, second.get("/tax/2026"), 303, to)
	want(t, third.get("/tax/2026"), 303, to)
	want(t, third.get("/open"), 200, "")
	w := third.get(to)
	if w.Code != 503 || !strings.Contains(w.Body.String(), "1 person is ahead of you") {
		t.Errorf("the third: %d %s", w.Code, w.Body)
	}
	if w := second.get(to); !strings.Contains(w.Body.String(), "nearly your turn") {
		t.Errorf("the second: %s", w.Body)
	}
	tabs := newBrowser(t, g)
	tabs.cookies, tabs.from = maps.Clone(third.cookies), third.from
	if w := tabs.get(to + "?lang=ur"); !strings.Contains(w.Body.String(), "آپ سے پہلے 1 شخص") {
		t.Errorf("another tab, in Urdu: %s", w.Body)
	}
	third.header.Set("Accept", "application/json")
	var status queueStatus
	if err := json.Unmarshal(third.get(to).Body.Bytes(), &status); err != nil || status.Ready || status.Say == "" || status.Refresh < minRefresh {
		t.Errorf("for the script: %+v, %v", status, err)
	}
	want(t, third.get("/tax/2026"), 429, "")
	third.header.Set("Accept", "text/html")

	g.Close() // and start again
	g = open()
	late := newBrowser(t, g)
	want(t, late.get("/tax/2026"), 303, to)
	for _, b := range []*browser{first, second, third} {
		b.h = g.Handler()
	}
	want(t, first.get("/tax/2026"), 200, "")
	if w := third.get(to); !strings.Contains(w.Body.String(), "1 person is ahead of you") {
		t.Errorf("the third after a restart: %s", w.Body)
	}
	if w := late.get(to); !strings.Contains(w.Body.String(), "2 people are ahead of you") {
		t.Errorf("who came last: %s", w.Body)
	}
	// The second one's turn comes.
	g.gate.rooms.Room("land.example GET /tax/", 1, time.Now()).Admit(1000, time.Now())
	deadline := time.Now().Add(10 * time.Second)
	for second.get("/tax/2026").Code != 200 {
		if time.Now().After(deadline) {
			t.Fatal("the second never comes in")
		}
	}
	if second.cookies[newHallNames(g).place] != "" || second.cookies[newHallNames(g).inside] == "" {
		t.Errorf("cookies inside: %v", second.cookies)
	}
}

func newHallNames(g *Gateway) *hall {
	return g.state.Load().sites["land.example"].hallOf("GET", &url.URL{Path: "/tax/"}, "land.example")
}

func FuzzDestination(f *testing.F) {
	for _, p := range []string{"/", "/a?b=c", "//evil.example", "/\\evil.example", "https://evil.example", "/\t/evil.example", "/pasban/pass/x", "", "/%2f%2fevil.example", "/a#b"} {
		f.Add(destination{path: p}.token())
		f.Add(destination{path: p, lost: true}.token())
	}
	f.Add("g")
	f.Add("\ncC90")
	f.Fuzz(func(t *testing.T, token string) {
		d, ok := parseDestination(token)
		if !ok || d.path == "" {
			return
		}
		base := &url.URL{Scheme: "https", Host: "land.example", Path: "/pasban/pass/x"}
		u, err := base.Parse(d.path)
		if err != nil || u.Host != base.Host || u.Scheme != base.Scheme || strings.HasPrefix(u.Path, gatePath) && !strings.Contains(d.path, "%") || d.token() != token {
			t.Errorf("%q leads to %v (%v)", d.path, u, err)
		}
	})
}

func TestLocalPath(t *testing.T) {
	for p, want := range map[string]bool{
		"/": true, "/a?b=c%20d": true, "/a//b": true, "/?x=https://elsewhere.example": true,
		"//elsewhere.example": false, "/\\elsewhere.example": false, "\\elsewhere.example": false, "/a#b": false, "/a b": false,
		"/a\nb": false, "/اردو": false, "/pasban/pass/x": false, "/" + strings.Repeat("a", maxNext): false, "/%zz": false,
	} {
		if got := localPath(p); got != want {
			t.Errorf("localPath(%q) = %v", p, got)
		}
	}
}

func BenchmarkTurnedAway(b *testing.B) {
	g, _ := newGateway(b, nil, config.Site{Host: "land.example", WAF: config.WAF{Mode: "off"}})
	if err := g.StartAttack(b.Context(), analyst(), "land.example", pass.Overload, "", time.Hour); err != nil {
		b.Fatal(err)
	}
	h := g.Handler()
	for name, target := range map[string]string{"first": "/records/search?district=lahore", "page": gatePath + destination{path: "/"}.token()} {
		b.Run(name, func(b *testing.B) {
			r := httptest.NewRequest("GET", target, nil)
			r.Host = "land.example"
			r.Header.Set("Accept", "text/html")
			addr := netip.MustParseAddr("198.51.100.1")
			for b.Loop() {
				addr = addr.Next()
				r.RemoteAddr = netip.AddrPortFrom(addr, 1).String()
				h.ServeHTTP(httptest.NewRecorder(), r)
			}
		})
	}
}
