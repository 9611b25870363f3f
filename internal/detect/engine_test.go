package detect

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"pasban/internal/config"
	"pasban/internal/detect/corpus"
)

// rulesOf writes rules r0, r1, … with the given detections.
func rulesOf(detections ...string) []byte {
	var docs []string
	for i, d := range detections {
		docs = append(docs, fmt.Sprintf("title: r%d\nid: 00000000-0000-4000-8000-%012d\nlogsource: {product: test}\n%s", i, i, d))
	}
	return []byte(strings.Join(docs, "\n---\n"))
}

// languageRules use every modifier, form of value and condition.
func languageRules() []byte {
	var out []string
	for _, d := range []string{
		"{s: {F: abc}, condition: s}",
		"{s: {F: 'a*c?e'}, condition: s}",
		`{s: {F: 'a\*c'}, condition: s}`,
		`{s: {F|contains: '\\'}, condition: s}`,
		"{s: {F|contains: [abc, 'b?d', 'x*y']}, condition: s}",
		"{s: {F|contains|all: [ab, bc]}, condition: s}",
		"{s: {F|startswith: ab}, condition: s}",
		"{s: {F|endswith: [bc, 'é']}, condition: s}",
		"{s: {F|cased|contains: AbC}, condition: s}",
		"{s: {F|re: '^a.{1,3}c$'}, condition: s}",
		"{s: {F|re|i: 'kis(s|t)+[0-9]'}, condition: s}",
		"{s: {F|re|m|s: '^b.*c$'}, condition: s}",
		"{s: {F|cidr: [10.0.0.0/8, '2001:db8::/32']}, condition: s}",
		"{s: {F|base64: abc}, condition: s}",
		"{s: {F|base64offset|contains: abcdef}, condition: s}",
		"{s: {F|wide|base64offset|contains: abc}, condition: s}",
		"{s: {F|utf16|base64|contains: ab}, t: {F|utf16be|base64|contains: ab}, condition: 1 of them}",
		"{s: {F|windash|contains: ' -abc'}, condition: s}",
		"{s: {F|fieldref: G}, condition: s}",
		"{s: {F|fieldref|contains: G}, condition: s}",
		"{s: {F|fieldref|startswith|cased: G}, t: {F|fieldref|endswith|neq: G}, condition: all of them}",
		"{s: {F|exists: true, G|exists: false}, condition: s}",
		"{s: {F|neq: [abc, 7]}, condition: s}",
		"{s: {F|gt: 7, F|lte: 100}, condition: s}",
		"{s: {F|gte: 7}, t: {F|lt: -1.5}, condition: s or t}",
		"{s: {F: [1, 16, '3']}, condition: s}",
		"{s: {F|minute: 5}, condition: s}",
		"{s: {F|hour: 9}, t: {F|day: 23}, u: {F|week: 48}, v: {F|month: 11}, w: {F|year: 2026}, condition: s and t and u and v and w}",
		"{s: {F: null}, condition: s}",
		"{s: {F: [null, '', abc]}, condition: s}",
		"{s: {F: ''}, condition: s}",
		"{s: {F|contains: ''}, condition: s}",
		"{k: [abc, '*de?f*'], condition: k}",
		"{k: ['kelvin', 'dpapi::mask', 'long/er'], condition: k}",
		"{k: {'|all': [abc, de]}, condition: k}",
		"{k: {'|re': 'a+bc'}, condition: k}",
		"{s1: {F: abc}, s2: {G: abc}, x: {H: 1}, condition: 1 of s* and not x}",
		"{s1: {F: abc}, s2: {G: abc}, condition: all of s*}",
		"{s: {F: abc}, t: [{G: 1}, {G|contains: x, H: 2}], condition: not (s or t) and not 1 of t}",
		"{s: {a.b: 1}, t: {a.b.c|contains: x}, condition: s or t}",
	} {
		out = append(out, "detection: "+d)
	}
	// Of another group, whose keywords are all long enough to be skimmed for.
	return append(rulesOf(out...), "\n---\ntitle: long\nid: 00000000-0000-4000-8000-0000000000aa\nlogsource: {product: test, service: long}\n"+
		"detection: {k: [sekurlsa, 'kelvins', 'dpapi::mask*x', 'c:\\back\\slash', 'أردو word'], condition: k}"...)
}

// languageSource is a logsource that all of them are about.
func languageSource() Logsource { return Logsource{Product: "test", Service: "long"} }

func languageEngine(t testing.TB) *Engine {
	t.Helper()
	e, err := load([]source{{"rules.yml", languageRules()}}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// FuzzReference holds the engine to the reference, and its reader of JSON to
// the standard library's, on whatever comes.
func FuzzReference(f *testing.F) {
	for _, s := range []string{
		`{"F":"abc"}`, `{"F":"aBC","G":"abc"}`, `{"F":"axxcye"}`, `{"F":"a*c"}`, `{"F":"x\\y"}`, `{"F":["xbcdx",7,null]}`, `{"F":"ÀÉ"}`,
		`{"F":"10.1.2.3"}`, `{"F":"2001:db8::1"}`, `{"F":"YWJj"}`, `{"F":"zzYWJjZGVm"}`, `{"F":"run \u2013abc"}`, `{"F":16}`, `{"F":"0x10"}`, `{"F":-2}`,
		`{"F":"2026-11-23T09:05:00Z"}`, `{"F":"2026-11-23T09:05:00+00:00"}`, `{"F":null}`, `{"F":""}`, `{"F":{}}`, `{"F":[]}`, `{"G":{"x":["abc",{"y":"de"}]}}`,
		`{"x":"\u212aelvin"}`, `{"x":"\u004belvin KiſT1"}`, `{"F":"kiſt9"}`, `{"x":"dpapi::mask"}`, `{"x":"dpapi\u003a:mask"}`, `{"x":"long\/er"}`,
		`{"a":{"b":1}}`, `{"a.b":[{"c":"x"}]}`, `{"a":[{"b":{"c":"x"}},{"b":2}],"a.b.c":null}`, `{"":{"F":"abc"}}`, `{"F":"abc","F":"def"}`,
		`{"F":"\ud83d\ude00\ud83d"}`, "{\"F\":\"\xff\xfe\"}", `{"F":1e3}`, `{"F":"ab\u0000c"}`, `{"F":"ab`, `{"F":01}`, `[]`, `{"F":1}x`, "{\"F\":\"a\tb\"}",
		`{"x":"\u0073ekurlsa","y":"` + strings.Repeat("long ", 50) + `Sekurlsa"}`, `{"x":"ſekurlSA"}`, `{"x":"` + strings.Repeat("x", 90) + `KELVINS"}`, `{"x":"\u212aelvins"}`,
		`{"x":"C:\\Back\\slash"}`, `{"x":"dpapi::mask and then x"}`, `{"x":"أردو Word"}`, `{"sekurlsa":1}`, `{"x":"sekur` + `lsa` + strings.Repeat(" ", 64) + `"}`,
	} {
		f.Add([]byte(s))
	}
	engine := languageEngine(f)
	rules := engine.set().events
	f.Fuzz(func(t *testing.T, raw []byte) {
		source := languageSource()
		got, err := engine.Scan(raw, source)
		if valid := json.Valid(raw) && strings.HasPrefix(strings.TrimLeft(string(raw), " \t\r\n"), "{"); valid != (err == nil) {
			if !valid || !strings.Contains(err.Error(), "nest too deep") {
				t.Fatalf("error %v, while the standard library says valid: %v", err, valid)
			}
		}
		if err != nil {
			return
		}
		ev, err := refDecode(raw)
		if err != nil {
			t.Fatal(err)
		}
		var want []*Rule
		for _, r := range rules {
			if refHolds(r.detection.condition, ev) {
				want = append(want, r)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("the engine finds %v, the reference %v", titles(got), titles(want))
		}
		matches, err := engine.MatchJSON(raw, source)
		if err != nil || len(matches) != len(want) {
			t.Fatalf("%d matches, %v", len(matches), err)
		}
		for _, m := range matches {
			if len(m.Why) == 0 || m.Event == nil {
				t.Fatalf("%s matches without reasons", m.Rule.Title)
			}
		}
	})
}

// TestLanguage feeds the same events as maps: the engine's other way in.
func TestLanguage(t *testing.T) {
	engine := languageEngine(t)
	fired := map[string]bool{}
	for _, raw := range []string{
		`{"F":"abc"}`, `{"F":"axxcye"}`, `{"F":"a*c"}`, `{"F":"x\\y"}`, `{"F":["xbcdx",7,null]}`, `{"F":"xÉ"}`, `{"F":"an AbC"}`, `{"F":"kist9"}`, `{"F":"b\nc"}`,
		`{"F":"10.1.2.3"}`, `{"F":"YWJj"}`, `{"F":"zzYWJjZGVm"}`, `{"F":"YQBiAGMA"}`, `{"F":"/v9hAGIA"}`, `{"F":"//5hAGIA"}`, `{"F":"run \u2013abc"}`, `{"F":"gg","G":"g"}`, `{"F":"G1","G":"G"}`,
		`{"F":16}`, `{"F":"0x10"}`, `{"F":-2}`, `{"F":"2026-11-23T09:05:00Z"}`, `{"F":""}`, `{}`, `{"x":{"y":["abc de",true]}}`, `{"x":"kelvin"}`, `{"a":{"b":1}}`,
		`{"F":"abc","G":"abc"}`, `{"G":"yyy"}`, `{"x":"SEKURLSA"}`,
	} {
		var ev map[string]any
		if err := json.Unmarshal([]byte(raw), &ev); err != nil {
			t.Fatal(err)
		}
		ev[LogsourceKey] = languageSource()
		fromMap := engine.Match(ev)
		fromJSON, err := engine.MatchJSON([]byte(raw), languageSource())
		if err != nil {
			t.Fatal(err)
		}
		if len(fromMap) != len(fromJSON) {
			t.Errorf("%s: %d matches as a map, %d as JSON", raw, len(fromMap), len(fromJSON))
		}
		for i, m := range fromMap {
			fired[m.Rule.Title] = true
			if i < len(fromJSON) && (m.Rule != fromJSON[i].Rule || !slices.Equal(m.Why, fromJSON[i].Why)) {
				t.Errorf("%s: %q as a map, %q as JSON", raw, m.Why, fromJSON[i].Why)
			}
		}
	}
	for _, r := range engine.Rules() {
		if !fired[r.Title] {
			t.Errorf("no event fires %s:%d", r.Title, r.Line)
		}
	}
}

func TestFilters(t *testing.T) {
	rules := rulesOf("name: first\ndetection: {s: {F: a}, condition: s}", "detection: {s: {F: [a, b]}, condition: s}") // r0, r1
	filter := func(body string) string {
		return "\n---\ntitle: calm\nid: 00000000-0000-4000-8000-0000000000ff\n" + body
	}
	for _, c := range []struct{ name, filter, want string }{
		{"by id and name", "logsource: {product: test}\nfilter: {rules: [first, 00000000-0000-4000-8000-000000000001], adm: {User|startswith: adm_}, condition: not adm}", "ab/"},
		{"one of them", "logsource: {product: test}\nfilter: {rules: [first], adm: {User|startswith: adm_}, condition: not adm}", "ab/r1 r1"},
		{"any", "logsource: {product: test}\nfilter: {rules: any, adm: {User|startswith: adm_}, condition: not adm}", "ab/"},
		{"none named", "logsource: {product: test}\nfilter: {adm: {User|startswith: adm_}, condition: not adm}", "ab/"},
		{"another logsource", "logsource: {product: other}\nfilter: {rules: any, adm: {User|startswith: adm_}, condition: not adm}", "ab/r0 r1 r1"},
		{"only those", "logsource: {product: test}\nfilter: {rules: any, adm: {User|startswith: adm_}, condition: adm}", "/r0 r1 r1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := load([]source{{"r.yml", append(slices.Clone(rules), filter(c.filter)...)}}, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			var adm []string
			for _, f := range []string{"a", "b"} {
				for _, m := range e.Match(event("F", f, "User", "ADM_x")) {
					adm = append(adm, m.Rule.Title)
				}
			}
			var plain strings.Builder
			for _, f := range []string{"a", "b"} {
				if len(e.Match(event("F", f, "User", "clerk"))) > 0 {
					plain.WriteString(f)
				}
			}
			if got := plain.String() + "/" + strings.Join(adm, " "); got != c.want {
				t.Errorf("fires %s, want %s", got, c.want)
			}
			if len(e.Rules()) != 2 {
				t.Errorf("%d rules: a filter is none", len(e.Rules()))
			}
		})
	}
	for body, want := range map[string]string{
		"logsource: {product: test}\nfilter: {rules: [nobody], s: {F: a}, condition: s}": `refers to "nobody", which is not loaded`,
		"logsource: {product: x}\nfilter: {rules: [first], s: {F: a}, condition: s}":     "another logsource",
		"filter: {rules: [first], s: {F: a}, condition: s}":                              "which events it is about",
		"logsource: {product: test}\nfilter: {rules: [], s: {F: a}, condition: s}":       "names no rules",
		"logsource: {product: test}\nfilter: {rules: any, s: {F: a}}":                    "has no condition",
	} {
		if _, err := load([]source{{"r.yml", append(slices.Clone(rules), filter(body)...)}}, nil, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngives %v\nwant %s", body, err, want)
		}
	}
}

func TestPlaceholders(t *testing.T) {
	rule := string(rulesOf("detection: {s: {User|expand: '%Admins%', Port|expand: '%Ports%', Host|contains|expand: '%Zone%-%Zone%'}, condition: s}"))
	load := func(placeholders string) (*Engine, error) {
		return LoadFS(fstest.MapFS{"a/rules.yml": {Data: []byte(rule)}, "a/placeholders.yml": {Data: []byte(placeholders)}})
	}
	e, err := load("Admins: ['adm_*', root]\nPorts: [22, 3389]\nZone: [p, q]\n")
	if err != nil {
		t.Fatal(err)
	}
	for want, ev := range map[bool]map[string]any{
		true:  event("User", "ADM_1", "Port", "0x16", "Host", "x.p-q.x"),
		false: event("User", "adm", "Port", 22, "Host", "p-q"),
	} {
		if got := len(e.Match(ev)) == 1; got != want {
			t.Errorf("%v: %v, want %v", ev, got, want)
		}
	}
	for text, want := range map[string]string{
		"Admins: [a]\nPorts: [1]\n":            "a/rules.yml:4:78: User|expand",
		"Admins: {x: y}\nPorts: 1\nZone: z\n":  "a/placeholders.yml:1",
		"Admins: []\nPorts: 1\nZone: z\n":      `the placeholder "Admins" has no values`,
		"Admins: a\nPorts: 1\nZone: z\nb: [~]": "text or a number",
	} {
		_, err := load(text)
		if want == "a/rules.yml:4:78: User|expand" {
			want = "the placeholder %Zone% has no values"
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngives %v\nwant %s", text, err, want)
		}
	}
}

func TestSkipBad(t *testing.T) {
	text := string(rulesOf("detection: {s: {F: a}, condition: s}", "detection: {s: {F|contians: a}, condition: s}")) +
		"\n---\ntitle: c\nid: 00000000-0000-4000-8000-000000000009\ncorrelation: {type: event_count, rules: [00000000-0000-4000-8000-000000000001], timespan: 5m, condition: {gte: 2}}" +
		"\n---\ntitle: d\nid: 00000000-0000-4000-8000-00000000000a\ncorrelation: {type: event_count, rules: [00000000-0000-4000-8000-000000000009], timespan: 5m, condition: {gte: 2}}"
	var problems config.Problems
	e, err := LoadFS(fstest.MapFS{"r.yml": {Data: []byte(text)}}, SkipBad(func(ps config.Problems) { problems = ps }))
	if err != nil || len(e.Rules()) != 1 || len(problems) != 3 {
		t.Fatalf("%v, %v, %v", e, err, problems)
	}
	if len(e.Match(event("F", "a"))) != 1 {
		t.Error("the good rule does not fire")
	}
}

func TestTaxonomy(t *testing.T) {
	e, err := LoadFS(fstest.MapFS{"r.yml": {Data: []byte(
		"title: start\nid: 00000000-0000-4000-8000-000000000001\nlogsource: {product: windows, category: process_creation}\ndetection: {s: {Image|endswith: '\\x.exe'}, condition: s}\n---\n" +
			"title: log\nid: 00000000-0000-4000-8000-000000000002\nlogsource: {product: windows, service: security}\ndetection: {s: {EventID: 4688}, condition: s}\n")}},
		WithTaxonomy(Taxonomy{
			{Source: Logsource{Product: "windows", Service: "security"}, When: map[string][]string{"Channel": {"Security"}}},
			{Source: Logsource{Product: "windows", Category: "process_creation", Service: "security"},
				When: map[string][]string{"Channel": {"Security"}, "EventID": {"4688"}}, Fields: map[string]string{"Image": "NewProcessName"}},
		}))
	if err != nil {
		t.Fatal(err)
	}
	for raw, want := range map[string]string{
		`{"Channel":"security","EventID":4688,"NewProcessName":"C:\\x.exe"}`:                    "start log",
		`{"Channel":"security","EventID":"4688","NewProcessName":"C:\\x.exe","Image":"y.exe"}`:  "log",
		`{"Channel":["Security"],"EventID":4689,"NewProcessName":"C:\\x.exe"}`:                  "",
		`{"Channel":"System","EventID":4688,"NewProcessName":"C:\\x.exe"}`:                      "",
		`{"EventID":4688,"NewProcessName":"C:\\x.exe","logsource":{"product":"windows"}}`:       "",
		`{"Channel":"Security","EventID":4688,"NewProcessName":{"a":"C:\\x.exe"},"b":[1,2,{}]}`: "log",
	} {
		for range 2 { // the second time by the route remembered
			got, err := e.Scan([]byte(raw))
			if err != nil || strings.Join(titles(got), " ") != want {
				t.Errorf("%s\ngives %v, %v, want %s", raw, titles(got), err, want)
			}
		}
		if _, err := e.MatchJSON([]byte(raw)); err != nil {
			t.Error(err)
		}
	}
	got, err := e.Scan([]byte(`{"Image":"\\x.exe"}`), Logsource{Product: "windows", Category: "process_creation"})
	if err != nil || len(got) != 1 {
		t.Errorf("logsources that are given count: %v, %v", titles(got), err)
	}
}

// The limits of an event: it is refused as a whole, with a reason.
func TestEventLimits(t *testing.T) {
	e := languageEngine(t)
	source := Logsource{Product: "test"}
	deep := func(n int) string {
		return `{"F":"abc","x":` + strings.Repeat("[", n) + strings.Repeat("]", n) + "}"
	}
	for _, c := range []struct{ name, raw, want string }{
		{"many fields", `{` + strings.Repeat(`"x":1,`, 10_000) + `"F":"abc"}`, ""},
		{"a long value", `{"x":"` + strings.Repeat("a", 1<<20) + `","F":"abc"}`, ""},
		{"deep enough", deep(63), ""},
		{"too deep", deep(64), "values nest too deep"},
		{"too long", `{"F":"` + strings.Repeat("a", MaxEvent) + `"}`, "at most 16777216 are read"},
		{"cut off", `{"F":"abc`, "byte 9: the text ends inside a string"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := e.Scan([]byte(c.raw), source)
			if c.want == "" && (err != nil || !slices.Contains(titles(got), "r0")) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, %v, want %q", titles(got), err, c.want)
			}
		})
	}
}

// TestReload: a reload reads what changed, while events go on being matched;
// none is missed, and correlations remember.
func TestReload(t *testing.T) {
	files := fstest.MapFS{
		"a.yml": {Data: rulesOf("name: a\ndetection: {s: {F: a}, condition: s}")},
		"c.yml": {Data: []byte("title: c\nid: 00000000-0000-4000-8000-00000000000c\ncorrelation: {type: event_count, rules: [a], timespan: 5m, condition: {gte: 1000}, generate: true}")},
	}
	e, err := LoadFS(files)
	if err != nil {
		t.Fatal(err)
	}
	const events = 5000
	done := make(chan int)
	go func() {
		fired := 0
		for i := range events {
			fired += len(e.feed(i, feed{"a", "x", 0, ""}))
		}
		done <- fired
	}()
	for n := range 20 {
		files["b.yml"] = &fstest.MapFile{Data: fmt.Appendf(nil, "title: b%d\nid: 00000000-0000-4000-8000-00000000000b\nlogsource: {product: test}\ndetection: {s: {G: a}, condition: s}", n)}
		next, err := LoadFS(files, Reuse(e))
		if err != nil {
			t.Fatal(err)
		}
		e.Swap(next)
	}
	if fired := <-done; fired != events+events-999 {
		t.Errorf("%d matches, want %d", fired, events+events-999)
	}
	if titles := titles(e.Rules()); !slices.Equal(titles, []string{"b19", "c", "r0"}) {
		t.Errorf("the rules are %v", titles)
	}
	if _, err := LoadFS(files, WithLimits(Limits{Groups: 10, Hits: 999, Total: 1000})); err == nil || !strings.Contains(err.Error(), "at most 999 hits of a group are remembered") {
		t.Errorf("a correlation that cannot fire gives %v", err)
	}
	bad := fstest.MapFS{"a.yml": files["a.yml"], "c.yml": {Data: append(rulesOf("detection: {s: {F|contians: a}, condition: s}"), "\n---\n"+string(files["c.yml"].Data)...)}}
	var first, second config.Problems
	some, err := LoadFS(bad, SkipBad(func(p config.Problems) { first = p }))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := LoadFS(bad, Reuse(some), SkipBad(func(p config.Problems) { second = p })); err != nil || len(first) != 1 || fmt.Sprint(first) != fmt.Sprint(second) {
		t.Errorf("mistakes are %v, and after a reload %v, %v", first, second, err)
	}
}

// BenchmarkReload loads SigmaHQ's rules for the first time, and again.
func BenchmarkReload(b *testing.B) {
	files := fstest.MapFS{}
	for name, data := range corpus.Tar(b, "sigma/rules.tar.gz") {
		if strings.HasPrefix(name, "rules") && !strings.HasPrefix(name, "rules-placeholder") && isRuleFile(name) {
			files[name] = &fstest.MapFile{Data: data}
		}
	}
	ignore := SkipBad(func(config.Problems) {})
	b.Run("first", func(b *testing.B) {
		began := cpuTime(b)
		for b.Loop() {
			if _, err := LoadFS(files, ignore); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric((cpuTime(b)-began).Seconds()/float64(b.N), "cpu-s/op")
	})
	e, err := LoadFS(files, ignore)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("again", func(b *testing.B) {
		began := cpuTime(b)
		for b.Loop() {
			next, err := LoadFS(files, ignore, Reuse(e))
			if err != nil {
				b.Fatal(err)
			}
			e.Swap(next)
		}
		b.ReportMetric((cpuTime(b)-began).Seconds()/float64(b.N), "cpu-s/op")
		b.ReportMetric(float64(len(e.Rules())), "rules")
	})
}
