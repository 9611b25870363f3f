package waf

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pasban/internal/config"
)

// past and future are the last days of exclusions.
const past, future = "2020-01-01", "2099-01-01"

const injection = "1%27%20OR%20%271%27=%271%27%20UNION%20SELECT%20cnic%20FROM%20owners--"

const form = "note=" + injection

// TestExclusion: an exclusion lets through exactly the rules, parameter, route,
// method and time that it names. Exclusions that cannot meet in one request
// share an engine, for making one takes seconds under the race detector.
func TestExclusion(t *testing.T) {
	sqli := []config.RuleRange{"942000-942999"}
	type request struct {
		route, method, body string
		want                int
	}
	for name, c := range map[string]struct {
		exclusions []config.Exclusion
		asks       map[string]request
	}{
		"rules on the whole site": {
			[]config.Exclusion{{Rules: sqli, Expires: future}},
			map[string]request{"": {"", "POST", form, 200}},
		},
		"a tag on the whole site": {
			[]config.Exclusion{{Tag: "attack-sqli", Expires: future}},
			map[string]request{"": {"", "POST", form, 200}},
		},
		"all parameters": {
			[]config.Exclusion{{Rules: sqli, Target: "ARGS", Expires: future}},
			map[string]request{"": {"", "POST", form, 200}},
		},
		"one parameter each": {
			[]config.Exclusion{
				{Rules: sqli, Target: "ARGS:note", Expires: future},
				{Rules: sqli, Target: "ARGS:UPPER", Expires: future},
				{Tag: "attack-sqli", Target: "ARGS:tagged", Expires: future},
			},
			map[string]request{
				"target":             {"", "POST", form, 200},
				"target, other case": {"", "POST", "upper=" + injection, 200},
				"tag and target":     {"", "POST", "tagged=" + injection, 200},
				"all three":          {"", "POST", form + "&upper=" + injection + "&tagged=" + injection, 200},
				"another parameter":  {"", "POST", "other=" + injection, 403},
				"both parameters":    {"", "POST", form + "&other=" + injection, 403},
			},
		},
		"nothing that helps a POST": {
			[]config.Exclusion{
				{Tag: "attack-xss", Expires: future},
				{Rules: []config.RuleRange{"941100"}, Expires: future},
				{Rules: sqli, Expires: past},
				{Rules: sqli, Route: "POST /apply", Expires: past},
				{Rules: sqli, Method: "PUT", Expires: future},
			},
			map[string]request{
				"another tag, rule or method, expired": {"", "POST", form, 403},
				"expired on a route":                   {"POST /apply", "POST", form, 403},
			},
		},
		"routes": {
			[]config.Exclusion{
				{Rules: sqli, Route: "POST /apply", Expires: future},
				{Rules: sqli, Route: "POST /target", Target: "ARGS:note", Expires: future},
				{Rules: sqli, Route: "/post", Method: "POST", Expires: future},
				{Rules: sqli, Route: "/put", Method: "PUT", Expires: future},
				{Rules: sqli, Route: `POST /"a',b\{x}`, Expires: future},
			},
			map[string]request{
				"route":                    {"POST /apply", "POST", form, 200},
				"route and target":         {"POST /target", "POST", form, 200},
				"route, another parameter": {"POST /target", "POST", "other=" + injection, 403},
				"route and method":         {"/post", "POST", form, 200},
				"another method":           {"/put", "POST", form, 403},
				"route with quotes":        {`POST /"a',b\{x}`, "POST", form, 200},
				"another route":            {"POST /apply/{id}", "POST", form, 403},
				"no route":                 {"", "POST", form, 403},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for i := range c.exclusions {
				c.exclusions[i].Reason = "synthetic"
			}
			route := ""
			hooks := (&findings{}).hooks()
			hooks.Route = func(*http.Request) string { return route }
			h := newEngine(t, Options{Exclusions: c.exclusions}).Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), hooks)
			for name, a := range c.asks {
				route = a.route
				if got := ask(h, a.method, "/apply", a.body).Code; got != a.want {
					t.Errorf("%s: status %d, want %d", name, got, a.want)
				}
			}
		})
	}
}

// TestExclusionEnds: the same engine stops excluding when the day has come.
func TestExclusionEnds(t *testing.T) {
	text, err := Directives(Options{Exclusions: []config.Exclusion{{Rules: []config.RuleRange{"942100"}, Reason: "r", Expires: "2027-03-01"}}})
	if err != nil {
		t.Fatal(err)
	}
	end := time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC).Unix()
	if want := fmt.Sprintf(`SecRule TIME_EPOCH "@lt %d" "id:8000000,phase:1,pass,t:none,nolog,ctl:ruleRemoveById=942100"`, end); !strings.Contains(text, want) {
		t.Errorf("%s\nis not in\n%s", want, text)
	}
}

// TestWatchedRoute: on one route everything is noted and nothing blocked.
func TestWatchedRoute(t *testing.T) {
	var f findings
	hooks := f.hooks()
	route := "POST /apply"
	hooks.Route = func(*http.Request) string { return route }
	h := newEngine(t, Options{Watched: []string{"POST /apply"}}).Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), hooks)
	if w := ask(h, "POST", "/apply", form); w.Code != 200 || len(f.blocked) != 0 || len(f.observed) != 1 {
		t.Errorf("status %d, %d blocked, %d observed", w.Code, len(f.blocked), len(f.observed))
	}
	route = "POST /other"
	if w := ask(h, "POST", "/other", form); w.Code != 403 || len(f.blocked) != 1 || len(f.observed) != 1 {
		t.Errorf("another route: status %d, %d blocked, %d observed", w.Code, len(f.blocked), len(f.observed))
	}
}

// TestMatches: a report says where each rule matched, without saying what the
// visitor wrote.
func TestMatches(t *testing.T) {
	var f findings
	h := newEngine(t, Options{}).Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), f.hooks())
	ask(h, "POST", "/apply", "name=synthetic&note=Zubaida%27%20OR%20%2735202-1234567-1%27=%2735202-1234567-1%27%20UNION%20SELECT%20cnic%20FROM%20owners--")
	if len(f.blocked) != 1 {
		t.Fatal("nothing was blocked")
	}
	rep := f.blocked[0]
	i := slices.IndexFunc(rep.Matches, func(m Match) bool { return m.Rule == 942100 })
	if i < 0 || rep.Matches[i].Target != "ARGS:note" || rep.Matches[i].Shape != "x' OR '9-9-9'='9-9-9' UNION SELECT x FROM x--" || rep.Matches[i].Score != 5 {
		t.Errorf("matches: %+v", rep.Matches)
	}
	for _, m := range rep.Matches {
		if strings.Contains(m.Shape, "Zubaida") || strings.Contains(m.Shape, "35202") || m.Rule == 949110 {
			t.Errorf("%+v shows what nobody may see", m)
		}
	}
}

func TestShape(t *testing.T) {
	for in, want := range map[string]string{
		"":                                "",
		"1' OR name='Synthetic' --":       "9' OR x='x' --",
		"<script>alert(1)</script>":       "<script>alert(9)</script>",
		"35202-1234567-1":                 "9-9-9",
		"۳۵۲۰۲":                           "9",
		"محمد اسلم":                       "x x",
		"a\n\t b\x00\xff":                 "x x··",
		"../../etc/passwd":                "../../etc/passwd",
		"0x1f":                            "x",
		strings.Repeat("(", maxShape+5):   strings.Repeat("(", maxShape) + "…",
		"synthetic@example.test, 0300123": "x@x.x, 9",
	} {
		if got := Shape(in); got != want {
			t.Errorf("Shape(%q) = %q, want %q", in, got, want)
		}
	}
}

// FuzzShape: no shape holds a digit but 9 or a word outside the vocabulary.
func FuzzShape(f *testing.F) {
	f.Add("1' OR name='Synthetic' -- محمد\u200cاسلم")
	f.Fuzz(func(t *testing.T, in string) {
		for w := range strings.FieldsFuncSeq(strings.TrimSuffix(Shape(in), "…"), func(r rune) bool { return !wordly(r) }) {
			if w != "9" && w != "x" && !vocabulary[strings.ToLower(w)] {
				t.Errorf("Shape(%q) holds %q", in, w)
			}
		}
	})
}

// FuzzExclusion: whatever the fields hold, an exclusion is refused or is
// nothing but rules of the form that this package writes.
func FuzzExclusion(f *testing.F) {
	f.Add("942100", "attack-sqli", "ARGS:note", "POST /apply", "POST", "2027-01-01")
	f.Add(`1"`, "a'", `ARGS:a",deny`, "\"\n SecRuleEngine Off", "GET\"", "2027-01-01\n")
	f.Fuzz(func(t *testing.T, rule, tag, target, route, method, expires string) {
		e := config.Exclusion{Tag: tag, Target: target, Route: route, Method: method, Expires: expires, Reason: "r"}
		if rule != "" {
			e.Rules = []config.RuleRange{config.RuleRange(rule)}
		}
		text, err := tuning(Options{Exclusions: []config.Exclusion{e}})
		if err != nil {
			return
		}
		for line := range strings.Lines(text) {
			if !ownRule.MatchString(line) {
				t.Errorf("%+v gives %q", e, line)
			}
		}
	})
}

var ownRule = regexp.MustCompile(`^SecRule (TX:pasban_route "@streq [0-9a-f]{32}"|REQUEST_METHOD "@streq [A-Z]+"|TIME_EPOCH "@lt -?[0-9]+") ` +
	`"(id:8000000,phase:1,pass,t:none,nolog|t:none)(,chain)?(,ctl:ruleRemove(Target)?By(Id|Tag)=[0-9A-Za-z_./-]+(;[A-Z_]+(:[A-Za-z0-9_.$\[\]-]+)?)?)*"\n$`)
