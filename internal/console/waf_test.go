package console

import (
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/page"
)

// stopped is the fact of a request that the firewall stopped at two places.
func stopped(route, target string) pasban.Fact {
	f := block("942100", "203.0.113.7", "/apply")
	f.Restricted.Method, f.Restricted.Host = "POST", "land.example:8443"
	f.Restricted.More = map[string]string{"engine": "waf", "route": route,
		"matches": `[{"rule":942100,"msg":"SQL <b>found</b>","at":"` + target + `","shape":"9' or x<img>","score":5},{"rule":920350,"msg":"Host is a number","at":"REQUEST_HEADERS:Host","shape":"9.9","score":3}]`}
	return f
}

// TestExclusionFromBlock goes an analyst's way: the event, the form, the
// preview, the list, and the end.
func TestExclusionFromBlock(t *testing.T) {
	r := newRig(t)
	r.sites = []config.Site{{Host: "land.example", Routes: []config.Route{{Match: "POST /apply"}, {Match: "/"}},
		WAF: config.WAF{Exclusions: []config.Exclusion{{Tag: "attack-xss", Reason: "from the file", Expires: "2020-01-01"}}}}, {Host: "*"}}
	other := stopped("/", "ARGS:other")
	event := r.record(stopped("POST /apply", "ARGS:note"), stopped("POST /apply", "ARGS:note"), stopped("/", "ARGS:note"), other)[0].Fact.Body.ID

	body := r.get("/soc/events/" + event)
	for _, want := range []string{"942100", "ARGS:note", "9&#39; or x&lt;img&gt;", "SQL &lt;b&gt;found", "/soc/waf/new?event=" + event} {
		if !strings.Contains(body, want) {
			t.Errorf("the event's page lacks %q", want)
		}
	}
	for _, lang := range page.Langs() {
		body = r.get("/soc/waf/new?event=" + event + "&lang=" + lang)
		if strings.Contains(body, ">console.") || strings.Contains(body, "<img>") || strings.Count(body, " checked") != 3 {
			t.Errorf("the form in %s:\n%s", lang, body)
		}
	}
	expires := time.Now().UTC().AddDate(0, 0, 30).Format(time.DateOnly)
	form := url.Values{"event": {event}, "rule": {"942100"}, "target": {"ARGS:note"}, "scope": {"route"}, "reason": {"notes are\nfree text"}, "expires": {expires}}
	w := r.do(http.MethodPost, "/soc/waf/preview", form)
	body = w.Body.String()
	for _, want := range []string{"Rule 942100 will not look at ARGS:note of POST /apply until " + expires, "Of the last 4 requests", "2 had matches", "2 would have been let through", `name="reason"`} {
		if w.Code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("the preview (%d) lacks %q:\n%s", w.Code, want, body)
		}
	}
	if list, _ := r.alerts.Exclusions(t.Context()); len(list) != 0 || r.tuned != 0 {
		t.Errorf("the preview did something: %+v", list)
	}

	if w := r.do(http.MethodPost, "/soc/waf", form); w.Code != http.StatusSeeOther || r.tuned != 1 {
		t.Fatalf("status %d, tuned %d\n%s", w.Code, r.tuned, w.Body)
	}
	list, err := r.alerts.Exclusions(t.Context())
	if err != nil || len(list) != 1 || list[0].Host != "land.example" || list[0].Reason != "notes are free text" || list[0].Event != event {
		t.Fatalf("%+v %v", list, err)
	}
	for _, lang := range page.Langs() {
		if body := r.get("/soc/waf?lang=" + lang); !strings.Contains(body, "notes are free text") || !strings.Contains(body, "from the file") || !strings.Contains(body, expires) ||
			strings.Count(body, `/end"`) != 1 || strings.Contains(body, ">console.") {
			t.Errorf("the list in %s:\n%s", lang, body)
		}
	}
	if w := r.do(http.MethodPost, "/soc/waf/"+list[0].ID+"/end", url.Values{}); w.Code != http.StatusSeeOther || r.tuned != 2 {
		t.Errorf("status %d, tuned %d", w.Code, r.tuned)
	}
	if body := r.get("/soc/waf"); strings.Contains(body, `/end"`) || !strings.Contains(body, "ended early") {
		t.Errorf("after its end:\n%s", body)
	}
}

// TestExclusionChoices: what is sent must be what the block offers, by an analyst.
func TestExclusionChoices(t *testing.T) {
	r := newRig(t)
	r.sites = []config.Site{{Host: "land.example", Routes: []config.Route{{Match: "/apply"}}}}
	entries := r.record(stopped("/apply", "ARGS:note"), stopped("/gone", "ARGS:note"), block("942100", "203.0.113.8", "/"))
	event, gone, plain := entries[0].Fact.Body.ID, entries[1].Fact.Body.ID, entries[2].Fact.Body.ID
	expires := time.Now().UTC().AddDate(0, 0, 30).Format(time.DateOnly)
	good := url.Values{"event": {event}, "rule": {"942100"}, "target": {"ARGS:note"}, "scope": {"route"}, "reason": {"synthetic"}, "expires": {expires}}
	for name, c := range map[string]struct {
		field, value string
		want         int
	}{
		"another rule":      {"rule", "942110", 400},
		"another place":     {"target", "ARGS:other", 400},
		"a route that went": {"event", gone, 400},
		"another event":     {"event", plain, 404},
		"no event":          {"event", "x", 404},
		"no rule":           {"rule", "", 400},
		"no reason":         {"reason", " ", 422},
		"yesterday":         {"expires", "2020-01-01", 422},
		"no day":            {"expires", "'", 422},
	} {
		form := url.Values{}
		maps.Copy(form, good)
		form.Set(c.field, c.value)
		for _, path := range []string{"/soc/waf/preview", "/soc/waf"} {
			if w := r.do(http.MethodPost, path, form); w.Code != c.want {
				t.Errorf("%s to %s: %d, want %d", name, path, w.Code, c.want)
			}
		}
	}
	r.visitor = &supervisor
	if w := r.do(http.MethodPost, "/soc/waf", good); w.Code != http.StatusForbidden {
		t.Errorf("a supervisor: %d", w.Code)
	}
	if w := r.do(http.MethodGet, "/soc/waf/new?event="+event, nil); w.Code != http.StatusForbidden {
		t.Errorf("a supervisor: %d", w.Code)
	}
	if strings.Contains(r.get("/soc/events/"+event), "/soc/waf/new") {
		t.Error("a supervisor is offered what they may not do")
	}
	r.visitor = &analyst
	if w := r.do(http.MethodPost, "/soc/waf", good, "Sec-Fetch-Site", "cross-site"); w.Code != http.StatusForbidden {
		t.Errorf("from another site: %d", w.Code)
	}
	if list, _ := r.alerts.Exclusions(t.Context()); len(list) != 0 || r.tuned != 0 {
		t.Errorf("something was made: %+v", list)
	}
	if w := r.do(http.MethodPost, "/soc/waf", good); w.Code != http.StatusSeeOther {
		t.Fatalf("the good one: %d", w.Code)
	}
	if list, _ := r.alerts.Exclusions(t.Context()); len(list) != 1 || list[0].Method != "POST" || list[0].Route != "/apply" {
		t.Errorf("a route that takes every method is excluded for all of them: %+v", list)
	}
}
