package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/gateway/waf"
)

const sqliForm = "note=1%27%20OR%20%271%27=%271%27%20UNION%20SELECT%20cnic%20FROM%20owners--"

// lastDay is far away.
const lastDay = "2099-01-01"

// askForm sends a form as a visitor would; the target goes onto the request
// line as it is.
func askForm(h http.Handler, method, target, form string) int {
	r := httptest.NewRequest(method, "/", strings.NewReader(form))
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return http.StatusBadRequest
	}
	r.URL, r.RequestURI, r.Host = u, target, "land.example"
	r.Header.Set("User-Agent", "synthetic")
	r.Header.Set("Accept", "text/html")
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Content-Length", strconv.Itoa(len(form)))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

// TestExclusionOfRoute: an exclusion of one route lets its requests through
// and no others, however similar their address is.
func TestExclusionOfRoute(t *testing.T) {
	var seen trace
	up := upstreamOf(t, func(_ http.ResponseWriter, r *http.Request) { seen.add(r.Method + " " + r.RequestURI) })
	s := siteOf(up, config.Route{Match: "/apply", SignIn: "none",
		WAF: config.RouteWAF{Exclusions: []config.Exclusion{{Rules: []config.RuleRange{"942000-942999"}, Target: "ARGS:note", Method: "POST", Reason: "synthetic", Expires: lastDay}}}},
		config.Route{Match: "/apply/{id}", SignIn: "none"}, config.Route{Match: "/files/{name...}", SignIn: "none"},
		config.Route{Match: "POST /watched", SignIn: "none", WAF: config.RouteWAF{Mode: "detect"}}, config.Route{Match: "/", SignIn: "none"})
	s.Host, s.WAF.Mode = "land.example", "block"
	g, p := newGateway(t, nil, s)
	h := g.Handler()

	if code := askForm(h, "POST", "/apply", sqliForm); code != 200 {
		t.Errorf("the excluded request: %d", code)
	}
	if got := seen.take(); !slices.Equal(got, []string{"POST /apply"}) {
		t.Errorf("the service saw %q", got)
	}
	for _, target := range []string{"/apply/1", "/apply/", "/Apply", "/", "/search", "/files/apply", "/files/../apply", "/./apply", "//apply", "/%61pply",
		"/apply%2f", "/apply;x=1", "/apply%00", "/apply.", "/apply%20", "/en/apply", "/soc", "/pasban/apply", "/files/POST%20%2Fapply"} {
		if code := askForm(h, "POST", target, sqliForm); code < 400 {
			t.Errorf("%s: %d", target, code)
		}
	}
	for what, code := range map[string]int{
		"another method":           askForm(h, "PUT", "/apply", sqliForm),
		"another parameter":        askForm(h, "POST", "/apply", strings.Replace(sqliForm, "note", "other", 1)),
		"another attack":           askForm(h, "POST", "/apply", "note=%3Cscript%3Ealert(document.cookie)%3C/script%3E"),
		"the route in a header":    askForm(h, "POST", "/search?pasban_route=x&tx.pasban_route=x", sqliForm),
		"the excluded one, in GET": askForm(h, "GET", "/apply?"+sqliForm, ""),
	} {
		if code != http.StatusForbidden {
			t.Errorf("%s: %d", what, code)
		}
	}
	if got := seen.take(); len(got) != 0 {
		t.Errorf("the service saw %q", got)
	}
	p.take()
	if code := askForm(h, "POST", "/watched", sqliForm); code != 200 {
		t.Errorf("a route that is watched only: %d", code)
	}
	facts := p.take()
	if len(facts) != 1 || facts[0].Body.Outcome != pasban.Allowed || facts[0].Restricted.More["mode"] != "detect" || facts[0].Restricted.More["route"] != "POST /watched" {
		t.Fatalf("facts: %+v", facts)
	}
	var matches []waf.Match
	if err := json.Unmarshal([]byte(facts[0].Restricted.More["matches"]), &matches); err != nil || len(matches) == 0 || matches[0].Target != "ARGS:note" {
		t.Errorf("matches: %v %v", matches, err)
	}
}

// TestTune: exclusions come and go while requests do, without one dropped.
func TestTune(t *testing.T) {
	up := upstreamOf(t, func(http.ResponseWriter, *http.Request) {})
	s := siteOf(up, config.Route{Match: "POST /apply", SignIn: "none"})
	s.WAF.Mode = "block"
	g, _ := newGateway(t, nil, s)
	h := g.Handler()
	if code := askForm(h, "POST", "/apply", sqliForm); code != 403 {
		t.Fatalf("before: %d", code)
	}
	ctx, cancel := context.WithCancel(t.Context())
	bad := make(chan error, 1)
	go func() {
		defer close(bad)
		for ctx.Err() == nil {
			if code := askForm(h, "POST", "/apply", "note=synthetic"); code != 200 {
				bad <- fmt.Errorf("a harmless request: %d", code)
				return
			}
		}
	}()
	c := *g.state.Load().config
	c.Sites = slices.Clone(c.Sites)
	c.Sites[0].WAF.Exclusions = []config.Exclusion{{Tag: "attack-sqli", Route: "POST /apply", Reason: "synthetic", Expires: lastDay}}
	if err := g.Tune(&c); err != nil {
		t.Fatal(err)
	}
	if code := askForm(h, "POST", "/apply", sqliForm); code != 200 {
		t.Errorf("excluded: %d", code)
	}
	wrong := c
	wrong.Sites = slices.Clone(c.Sites)
	wrong.Sites[0].WAF.Exclusions = []config.Exclusion{{Rules: []config.RuleRange{"949110"}, Reason: "synthetic", Expires: lastDay}}
	if err := g.Tune(&wrong); err == nil || askForm(h, "POST", "/apply", sqliForm) != 200 {
		t.Errorf("one that cannot be: %v", err)
	}
	d := c
	d.Sites = slices.Clone(c.Sites)
	d.Sites[0].WAF.Exclusions = nil
	if err := g.Tune(&d); err != nil {
		t.Fatal(err)
	}
	if code := askForm(h, "POST", "/apply", sqliForm); code != 403 {
		t.Errorf("ended: %d", code)
	}
	cancel()
	if err := <-bad; err != nil {
		t.Error(err)
	}
}

// TestCheckUnknownRule: an exclusion that would do nothing is a problem.
func TestCheckUnknownRule(t *testing.T) {
	s := siteOf("http://127.0.0.1:1", config.Route{Match: "/", SignIn: "none"})
	s.WAF.Mode = "block"
	for want, e := range map[string]config.Exclusion{
		"rule 942111":     {Rules: []config.RuleRange{"942111"}},
		`tag "attack-sq"`: {Tag: "attack-sq"},
		"":                {Rules: []config.RuleRange{"942100-942199"}},
	} {
		e.Reason, e.Expires = "synthetic", lastDay
		s.WAF.Exclusions = []config.Exclusion{e}
		err := Check(&config.Config{Sites: []config.Site{s}, Limits: config.Limits{Body: 1 << 20}})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}
