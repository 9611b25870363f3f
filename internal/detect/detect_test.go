package detect

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
	"unicode/utf8"

	"pasban"
	"pasban/internal/config"
)

const head = "title: A rule\nid: 00000000-0000-4000-8000-%012d\nlogsource:\n  product: test\n"

// loadText loads documents, each with a head of its own before its body.
func loadText(t *testing.T, bodies ...string) (*Engine, error) {
	t.Helper()
	var docs []string
	for i, b := range bodies {
		docs = append(docs, fmt.Sprintf(head, i)+b)
	}
	return LoadFS(fstest.MapFS{"rules.yml": {Data: []byte(strings.Join(docs, "\n---\n"))}})
}

func searches(body string) string {
	return "detection:\n" + indent(body)
}

func indent(s string) string {
	return "  " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n  ") + "\n"
}

func event(pairs ...any) pasban.Event {
	ev := pasban.Event{LogsourceKey: Logsource{Product: "test"}}
	for i := 0; i < len(pairs); i += 2 {
		ev[pairs[i].(string)] = pairs[i+1]
	}
	return ev
}

// TestDetections: what matches and what does not, by the specification.
func TestDetections(t *testing.T) {
	for _, c := range []struct {
		name, body string
		yes, no    []pasban.Event
	}{
		{"letters match in either case", "s: {F: Abc}\ncondition: s",
			[]pasban.Event{event("F", "aBC"), event("F", []string{"x", "abc"})}, []pasban.Event{event("F", "abcd"), event("G", "abc"), event()}},
		{"cased", "s: {F|cased: Abc}\ncondition: s", []pasban.Event{event("F", "Abc")}, []pasban.Event{event("F", "abc")}},
		{"a mapping is and, a list is or", "s: {F: [a, b], G: 1}\ncondition: s",
			[]pasban.Event{event("F", "b", "G", 1), event("F", "a", "G", "1"), event("F", "a", "G", 1.0)}, []pasban.Event{event("F", "c", "G", 1), event("F", "a")}},
		{"a list of mappings is or", "s:\n  - F: a\n  - G: b\ncondition: s", []pasban.Event{event("G", "b")}, []pasban.Event{event("F", "b")}},
		{"wildcards", `s: {F: 'a*c?e'}` + "\ncondition: s", []pasban.Event{event("F", "ac.e"), event("F", "AxxcCxe")}, []pasban.Event{event("F", "ace"), event("F", "xac.e")}},
		{"escaped wildcards", `s: {F: 'a\*\?'}` + "\ncondition: s", []pasban.Event{event("F", "a*?")}, []pasban.Event{event("F", "ab?")}},
		{"a backslash before other characters is itself", `s: {F|endswith: '\cmd.exe'}` + "\ncondition: s", []pasban.Event{event("F", `C:\Windows\CMD.EXE`)}, []pasban.Event{event("F", "cmd.exe")}},
		{"two backslashes are one, before a star too", `s: {F: '\\\\host\\*'}` + "\ncondition: s", []pasban.Event{event("F", `\\host\share`)}, []pasban.Event{event("F", `\host\share`)}},
		{"contains, startswith, endswith", "s: {F|contains: b, G|startswith: x, H|endswith: z}\ncondition: s",
			[]pasban.Event{event("F", "abc", "G", "xy", "H", "yz")}, []pasban.Event{event("F", "abc", "G", "yx", "H", "yz")}},
		{"all", "s: {F|contains|all: [a, b]}\ncondition: s", []pasban.Event{event("F", "ba")}, []pasban.Event{event("F", "b")}},
		{"re", `s: {F|re: '^a\d+$'}` + "\ncondition: s", []pasban.Event{event("F", "a12")}, []pasban.Event{event("F", "A12"), event("F", "a12x")}},
		{"re with flags", `s: {F|re|i|m: '^a$'}` + "\ncondition: s", []pasban.Event{event("F", "x\nA\ny")}, []pasban.Event{event("F", "xA")}},
		{"cidr", "s: {F|cidr: [10.0.0.0/8, '2001:db8::/32']}\ncondition: s",
			[]pasban.Event{event("F", "10.1.2.3"), event("F", "::ffff:10.1.2.3"), event("F", "2001:db8::1")}, []pasban.Event{event("F", "11.0.0.1"), event("F", "x")}},
		{"exists", "s: {F|exists: true, G|exists: false}\ncondition: s", []pasban.Event{event("F", "")}, []pasban.Event{event("F", 1, "G", 1), event()}},
		{"null and empty", "s: {F: null, G: ''}\ncondition: s", []pasban.Event{event("G", ""), event("F", nil, "G", "")}, []pasban.Event{event("F", "", "G", ""), event("F", nil)}},
		{"null among values", "s: {F: [null, a]}\ncondition: s", []pasban.Event{event(), event("F", "a")}, []pasban.Event{event("F", "b")}},
		{"numbers", "s: {F|gte: 10, G|lt: 2.5}\ncondition: s", []pasban.Event{event("F", 10, "G", "2.4"), event("F", "0x10", "G", int64(-1))}, []pasban.Event{event("F", 9, "G", 1), event("F", "ten", "G", 1)}},
		{"a number is also its hexadecimal form", "s: {F: 16}\ncondition: s", []pasban.Event{event("F", "0x10"), event("F", uint64(16))}, []pasban.Event{event("F", "0x16")}},
		{"truth", "s: {F: true}\ncondition: s", []pasban.Event{event("F", true), event("F", "True")}, []pasban.Event{event("F", false)}},
		{"neq", "s: {F|neq: [a, b]}\ncondition: s", []pasban.Event{event("F", "c")}, []pasban.Event{event("F", "a")}},
		{"fieldref", "s: {F|fieldref: G}\ncondition: s", []pasban.Event{event("F", "a*", "G", "A*")}, []pasban.Event{event("F", "ab", "G", "a*"), event("F", "a")}},
		{"fieldref with startswith", "s: {F|fieldref|startswith: G}\ncondition: s", []pasban.Event{event("F", "abc", "G", "ab")}, []pasban.Event{event("F", "ab", "G", "abc")}},
		{"base64", "s: {F|base64|contains: 'foo bar'}\ncondition: s", []pasban.Event{event("F", "x Zm9vIGJhcg== y")}, []pasban.Event{event("F", "foo bar")}},
		{"base64offset", "s: {F|base64offset|contains: foobar}\ncondition: s",
			[]pasban.Event{event("F", "eGZvb2Jhcng="), event("F", "Zm9vYmFy"), event("F", "eHhmb29iYXI=")}, []pasban.Event{event("F", "Zm9vYmF6")}},
		{"wide base64", "s: {F|wide|base64offset|contains: ping}\ncondition: s", []pasban.Event{event("F", "cABpAG4AZwA=")}, []pasban.Event{event("F", "cGluZw==")}},
		{"windash", "s: {F|windash|contains: ' -enc'}\ncondition: s", []pasban.Event{event("F", "x /ENC y"), event("F", "x –enc y"), event("F", "x -enc")}, []pasban.Event{event("F", "x enc"), event("F", "x +enc")}},
		{"parts of times", "s: {F|hour: 5}\ncondition: s", []pasban.Event{event("F", "2026-11-23T10:00:00+05:00")}, []pasban.Event{event("F", "2026-11-23T10:00:00Z"), event("F", "x")}},
		{"keywords", "k: [evil, 'w?rm']\ncondition: k", []pasban.Event{event("F", "an EVIL thing"), event("F", map[string]any{"deep": []any{"worm"}})}, []pasban.Event{event("F", "good")}},
		{"all keywords", "k:\n  '|all': [a1, b2]\ncondition: k", []pasban.Event{event("F", "a1", "G", "b2")}, []pasban.Event{event("F", "a1")}},
		{"dotted paths", "s: {a.b.c: x}\ncondition: s",
			[]pasban.Event{event("a", map[string]any{"b": []any{map[string]any{"c": "X"}}}), event("a.b.c", "x"), event("a.b", map[string]any{"c": "x"})}, []pasban.Event{event("a", map[string]any{"b": "x"})}},
	} {
		t.Run(c.name, func(t *testing.T) { checkEvents(t, searches(c.body), c.yes, c.no) })
	}
}

func checkEvents(t *testing.T, body string, yes, no []pasban.Event) {
	t.Helper()
	e, err := loadText(t, body)
	if err != nil {
		t.Fatal(err)
	}
	for _, ev := range yes {
		if ms := e.Match(ev); len(ms) != 1 || len(ms[0].Why) == 0 {
			t.Errorf("%v gave %d matches, want one with reasons", ev, len(ms))
		}
	}
	for _, ev := range no {
		if ms := e.Match(ev); len(ms) != 0 {
			t.Errorf("%v matches: %v", ev, ms[0].Why)
		}
	}
}

func TestConditions(t *testing.T) {
	ids := "a: {A: 1}\nb1: {B: 1}\nb2: {C: 1}\n_hidden: {H: 1}\ncondition: "
	on := func(fields ...string) pasban.Event {
		ev := event()
		for _, f := range fields {
			ev[f] = 1
		}
		return ev
	}
	all := " and _hidden or (a and b1 and b2 and _hidden)" // every identifier is used
	for _, c := range []struct {
		condition string
		yes, no   []pasban.Event
	}{
		{"a and not b1", []pasban.Event{on("A", "H")}, []pasban.Event{on("A", "B", "H"), on("H")}},
		{"(a or b1) and b2", []pasban.Event{on("A", "C", "H"), on("B", "C", "H")}, []pasban.Event{on("A", "H")}},
		{"1 of b*", []pasban.Event{on("C", "H")}, []pasban.Event{on("A", "H")}},
		{"any of b*", []pasban.Event{on("C", "H")}, []pasban.Event{on("A", "H")}},
		{"all of b*", []pasban.Event{on("B", "C", "H")}, []pasban.Event{on("B", "H")}},
		{"ALL of them", []pasban.Event{on("A", "B", "C", "H")}, []pasban.Event{on("A", "B", "H")}},
		{"not 1 of b*", []pasban.Event{on("A", "H"), on("H")}, []pasban.Event{on("B", "H")}},
		{"not not a", []pasban.Event{on("A", "H")}, []pasban.Event{on("H")}},
		{"not (a and b1)", []pasban.Event{on("A", "H")}, []pasban.Event{on("A", "B", "H")}},
	} {
		t.Run(c.condition, func(t *testing.T) { checkEvents(t, searches(ids+"("+c.condition+")"+all), c.yes, c.no) })
	}
	checkEvents(t, searches("a: {A: 1}\nb: {B: 1}\ncondition:\n  - a\n  - b"), []pasban.Event{on("A"), on("B")}, []pasban.Event{on()})
	// "and" binds closer than "or".
	checkEvents(t, searches("a: {A: 1}\nb: {B: 1}\nc: {C: 1}\ncondition: a or b and c"), []pasban.Event{on("A"), on("B", "C")}, []pasban.Event{on("B"), on("C")})
}

func TestLogsources(t *testing.T) {
	e, err := LoadFS(fstest.MapFS{"r.yml": {Data: []byte(strings.Replace(fmt.Sprintf(head, 1), "product: test", "product: windows\n  category: process_creation", 1) + "detection: {s: {F: 1}, condition: s}\n")}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		source any
		want   int
	}{
		{Logsource{"windows", "process_creation", "sysmon"}, 1},
		{[]Logsource{{"windows", "", "sysmon"}, {"windows", "process_creation", ""}}, 1},
		{map[string]any{"product": "windows", "category": "process_creation"}, 1},
		{Logsource{Product: "windows"}, 0},
		{Logsource{"linux", "process_creation", ""}, 0},
		{nil, 0},
	} {
		if got := len(e.Match(pasban.Event{LogsourceKey: c.source, "F": 1})); got != c.want {
			t.Errorf("%v gave %d matches, want %d", c.source, got, c.want)
		}
	}
}

// TestMistakes: nothing is silently dead, and every mistake has its place.
func TestMistakes(t *testing.T) {
	own := "title: A rule\nid: 00000000-0000-4000-8000-000000000001\nlogsource:\n  product: pasban\n  service: gateway\n"
	full := fmt.Sprintf(head, 1)
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "r.yml: the file holds no rule"},
		{"not YAML", "a: [", "r.yml:1:"},
		{"not a mapping", "- a\n", "r.yml:1:1: a rule is a mapping"},
		{"misspelt key", full + "levl: high\ndetection: {s: {F: 1}, condition: s}\n", `r.yml:5:1: levl: unknown key "levl" (did you mean "level"?)`},
		{"no title", strings.Replace(full, "title: A rule\n", "", 1) + "detection: {s: {F: 1}, condition: s}\n", "the rule has no title"},
		{"bad id", strings.Replace(full, "-8000-", "-", 1) + "detection: {s: {F: 1}, condition: s}\n", "is not a UUID"},
		{"bad level", full + "level: hihg\ndetection: {s: {F: 1}, condition: s}\n", `r.yml:5:8: level: unknown level "hihg" (did you mean "high"?)`},
		{"bad tag", full + "tags: [attack t1110]\ndetection: {s: {F: 1}, condition: s}\n", `"attack t1110" is not a tag`},
		{"bad date", full + "date: yesterday\ndetection: {s: {F: 1}, condition: s}\n", "is not a date"},
		{"no logsource", "title: x\nid: 00000000-0000-4000-8000-000000000001\ndetection: {s: {F: 1}, condition: s}\n", "does not say which events"},
		{"detects nothing", full, "neither detection nor correlation"},
		{"key twice", full + "detection:\n  s: {F: 1}\n  s: {G: 1}\n  condition: s\n", "r.yml:7:3:"},
		{"no condition", full + "detection: {s: {F: 1}}\n", "has no condition"},
		{"unknown identifier", full + "detection:\n  selection: {F: 1}\n  condition: selektion\n", `r.yml:7:14: detection.condition: the condition names "selektion", which the detection does not define (did you mean "selection"?)`},
		{"unused identifier", full + "detection:\n  s: {F: 1}\n  filter: {G: 1}\n  condition: s\n", `r.yml:7:3: detection.filter: the condition never uses "filter"`},
		{"pattern that fits nothing", full + "detection: {s: {F: 1}, condition: s and 1 of x*}\n", `no search identifier fits "x*"`},
		{"open parenthesis", full + "detection: {s: {F: 1}, condition: (s}\n", "is not closed"},
		{"ends too early", full + "detection: {s: {F: 1}, condition: s and}\n", "a search identifier is missing"},
		{"goes on", full + "detection: {s: {F: 1}, condition: s s}\n", `goes on with "s"`},
		{"aggregation", full + "detection: {s: {F: 1}, condition: 's | count() > 5'}\n", "write a correlation rule"},
		{"timeframe", full + "detection: {s: {F: 1}, timeframe: 5m, condition: s}\n", "write a correlation with timespan"},
		{"unknown modifier", full + "detection:\n  s: {F|contain: 1}\n  condition: s\n", `unknown modifier "contain" (did you mean "contains"?)`},
		{"modifiers that do not go together", full + "detection: {s: {F|re|contains: x}, condition: s}\n", "do not go together"},
		{"flags without re", full + "detection: {s: {F|contains|i: x}, condition: s}\n", "follows re"},
		{"bad regular expression", full + "detection: {s: {F|re: '(?<=x)y'}, condition: s}\n", "RE2"},
		{"bad network", full + "detection: {s: {F|cidr: 10.0.0.0/33}, condition: s}\n", "is not a network"},
		{"not a number", full + "detection: {s: {F|gt: many}, condition: s}\n", "is not a number"},
		{"placeholder", full + "detection: {s: {F|expand: '%users%'}, condition: s}\n", "expand"},
		{"wide alone", full + "detection: {s: {F|wide: x}, condition: s}\n", "follow it by base64"},
		{"no values", full + "detection: {s: {F: []}, condition: s}\n", "has no values"},
		{"nested value", full + "detection: {s: {F: {G: 1}}, condition: s}\n", "a value is text"},
		{"empty keyword", full + "detection: {k: ['*'], condition: k}\n", "a keyword is text, and not empty"},
		{"anchors", full + "detection: {s: &x {F: 1}, t: *x, condition: s or t}\n", "rules have no YAML"},
		{"unknown field of ours", own + "detection:\n  s: {SrcIp: x}\n  condition: s\n", `Pasban's events have no field "SrcIp" (did you mean "SrcIP"?)`},
		{"unknown service of ours", strings.Replace(own, "gateway", "gatway", 1) + "detection: {s: {SrcIP: x}, condition: s}\n", `Pasban has no service "gatway" (did you mean "gateway"?)`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := LoadFS(fstest.MapFS{"r.yml": {Data: []byte(c.text)}})
			if err == nil {
				t.Fatal("loads")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is\n%v\nwant\n%s", err, c.want)
			}
			if pasban.KindOf(err) != pasban.Invalid {
				t.Errorf("kind %s", pasban.KindOf(err))
			}
		})
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	good := fmt.Sprintf(head, 1) + "detection: {s: {F: 1}, condition: s}\n"
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a.yml", good)
	write("deep/b.yaml", strings.Replace(good, "000001", "000002", 1))
	write("a.test.yml", "cases: nonsense")
	write("README.md", "# rules")
	e, err := Load([]string{dir})
	if err != nil || len(e.Rules()) != 2 {
		t.Fatalf("%v, %v", e, err)
	}
	if e, err := Load([]string{filepath.Join(dir, "a.yml")}); err != nil || len(e.Rules()) != 1 {
		t.Errorf("one file: %v, %v", e, err)
	}
	write("c.yml", strings.Replace(good, "000001", "000001", 1))
	write("d.yml", "title: x\n")
	_, err = Load([]string{dir, filepath.Join(dir, "nothing")})
	problems, ok := err.(config.Problems)
	if !ok || len(problems) < 4 {
		t.Fatalf("error is %v", err)
	}
	for _, want := range []string{"the id 00000000-0000-4000-8000-000000000001 is that of " + filepath.Join(dir, "a.yml") + ":1 too", filepath.Join(dir, "d.yml") + ":1", "no such file"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
	if e, err := Load(nil); err != nil || len(e.Rules()) != 0 {
		t.Errorf("no rules: %v, %v", e, err)
	}
}

func TestExplain(t *testing.T) {
	e, err := loadText(t, "fields: [I, J]\n"+searches("s: {H: 2, F|contains: union, G: x}\nf: {H: 1}\ncondition: s and not f"))
	if err != nil {
		t.Fatal(err)
	}
	long := "a UNION b" + strings.Repeat("x", 300)
	why := e.Match(event("F", long, "G", "X", "H", 2, "I", []string{"p", "q"}))[0].Why
	if len(why) != 4 || !strings.HasPrefix(why[0], `F contains "union": "a UNION b`) || len(why[0]) > 200 || why[1] != `G is "x": "X"` || why[2] != `I: "p", "q"` || why[3] != "H is 2" {
		t.Errorf("reasons are %q", why)
	}
}

func TestTime(t *testing.T) {
	at := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	for _, v := range []any{at.UnixMilli(), float64(at.UnixMilli()), int(at.UnixMilli())} {
		if got := Time(pasban.Event{"time": v}); !got.Equal(at) {
			t.Errorf("%T gives %v", v, got)
		}
	}
	if got := Time(pasban.Event{"time": "soon"}); !got.IsZero() {
		t.Errorf("text gives %v", got)
	}
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob(ownRules + "/*.yml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("title: x\nid: 00000000-0000-4000-8000-000000000001\nlogsource: {product: p}\ndetection: {s: {'F|re|i': 'a', 'G|base64offset|contains': b}, k: [x], condition: 1 of them}\n"))
	ev := event("F", "a", "G", []any{"b", nil, map[string]any{"x": 1}}, "time", int64(1))
	f.Fuzz(func(t *testing.T, data []byte) {
		rules, problems := parseFile("f.yml", data, nil)
		if len(rules) == 0 && len(problems) == 0 {
			t.Fatal("neither a rule nor a problem")
		}
		l := link(rules, DefaultLimits())
		if len(l.problems) > 0 {
			return
		}
		e := &Engine{}
		e.rules.Store(l.compile(nil))
		for _, m := range e.Match(ev) {
			if len(m.Why) == 0 {
				t.Fatal("a match without reasons")
			}
		}
	})
}

func FuzzPattern(f *testing.F) {
	f.Add("a*b?c", "axxbyc")
	f.Add(`\*\\?`, `*\x`)
	f.Add("**", "")
	f.Fuzz(func(t *testing.T, text, s string) {
		if !utf8.ValidString(text) || !utf8.ValidString(s) {
			t.Skip("patterns and events are UTF-8")
		}
		cs := scan(text)
		p := newPattern(text, cs, true)
		if got, want := p.match(&record{}, []byte(s)), slowMatch(cs, []rune(s)); got != want {
			t.Fatalf("%q against %q: %v, want %v", text, s, got, want)
		}
		if got, want := glob(cs, []rune(s)), slowMatch(cs, []rune(s)); got != want {
			t.Fatalf("the reference, %q against %q: %v, want %v", text, s, got, want)
		}
	})
}

func TestRulesAreSorted(t *testing.T) {
	e, err := Load([]string{ownRules})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(e.Rules(), func(a, b *Rule) int { return strings.Compare(a.Title, b.Title) }) {
		t.Error("Rules is not sorted by title")
	}
}
