package hunt

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"

	"pasban"
)

// hostile are values that try to end a text, to add a pipe, to be a pattern.
var hostile = []string{
	"", "plain", "and", "or", "not", "*", "x*", "*x*", "two words", `"`, "`", `\`, `a\`, `'`, `"a" or *`, `" | delete x`, "a:b", "(a)", "in(a,b)", "=x", "~.*", "!x", "-x",
	"#comment", "a\nb", "\x00", "\xff", "\xffé", "پاسبان", "\u2028", "_time:5m", "{a=\"b\"}", "options(x=1)", "<script>", "10.0.0.1", "2026-11-28T00:00:00Z", "re(x)", "\ufffd", "\U0010ffff", "? ?", `C:\Windows\*`, `\\host\share`,
}

// matches says whether a filter fits an event, as the engine has it.
func matches(t *testing.T, filter string, event map[string]string) bool {
	t.Helper()
	f, err := logstorage.ParseFilter(filter)
	if err != nil {
		t.Fatalf("%q is not LogsQL: %v", filter, err)
	}
	var row []logstorage.Field
	for name, value := range event {
		row = append(row, logstorage.Field{Name: name, Value: value})
	}
	return f.MatchRow(row)
}

// FuzzIs: whatever the field and its value hold, the condition asks for just
// that value, and a query that it narrows asks for both.
func FuzzIs(f *testing.F) {
	for _, v := range hostile {
		f.Add("Actor", v)
		f.Add(v, "x")
		f.Add("_msg", v)
	}
	f.Fuzz(func(t *testing.T, field, value string) {
		is, ok := Is(field, value)
		not, _ := Not(field, value)
		if !ok {
			if field != "" && !strings.HasSuffix(field, "*") && !strings.HasPrefix(field, "_") {
				t.Fatalf("nothing can be asked of %q", field)
			}
			return
		}
		with := func(value string) map[string]string { return map[string]string{field: value} }
		if !matches(t, is, with(value)) || matches(t, is, with(value+"x")) || matches(t, is, with("x"+value)) || value != "" && matches(t, is, nil) {
			t.Fatalf("%s does not ask for %q = %q", is, field, value)
		}
		if matches(t, not, with(value)) || !matches(t, not, with(value+"x")) {
			t.Fatalf("%s does not exclude %q = %q", not, field, value)
		}
		if any, ok := Anywhere(value); !ok || value != "" && (!matches(t, any, with(value)) || matches(t, any, with(value+"x"))) {
			t.Fatalf("%s does not ask for %q anywhere", any, value)
		}
		if field == "fuzz_a" || field == "fuzz_b" {
			return
		}
		for query, pipes := range map[string]string{"fuzz_a:=1 or fuzz_b:=2": "", "fuzz_a:=1 | limit 3": " | limit 3", `fuzz_a:="1" and !fuzz_b:="|" | filter x:y | fields z`: " | fields z"} {
			parsed, err := Parse(query)
			if err != nil {
				t.Fatal(err)
			}
			narrow := parsed.And(is)
			q, err := logstorage.ParseQuery(narrow)
			if err != nil {
				t.Fatalf("%q narrowed is %q: %v", query, narrow, err)
			}
			head, tail := split(q.String())
			if tail != pipes {
				t.Fatalf("%q narrowed has the pipes %q", query, tail)
			}
			event := map[string]string{"fuzz_a": "1", field: value}
			if strings.Contains(query, "x:y") {
				event["x"] = "y"
				if field == "x" {
					continue
				}
			}
			if !matches(t, head, event) {
				t.Fatalf("%q does not find what it is narrowed by", narrow)
			}
			delete(event, field)
			if value != "" && matches(t, head, event) {
				t.Fatalf("%q finds what it was narrowed to exclude", narrow)
			}
			if matches(t, head, with(value)) {
				t.Fatalf("%q finds what the query had excluded", narrow)
			}
		}
	})
}

// FuzzDraft: a rule that a value is written into holds, and finds that value and
// no other.
func FuzzDraft(f *testing.F) {
	for _, v := range hostile {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, value string) {
		is, ok := Is("CommandLine", value)
		if !ok {
			t.Fatal("nothing can be asked")
		}
		d, err := NewDraft(is, About{Title: value, Description: value})
		if err != nil {
			t.Fatal(err)
		}
		if isList(value) || !utf8.ValidString(value) || strings.ContainsRune(value, utf8.RuneError) {
			if len(d.Differences) != 1 || !d.Differences[0].Lost {
				t.Fatalf("what is not text is not told of: %+v", d)
			}
			return
		}
		if len(d.Problems) > 0 {
			t.Fatalf("the rule does not hold: %v\n%s", d.Problems, d.Rule)
		}
		find := func(value string) bool {
			raw, err := json.Marshal(map[string]any{"CommandLine": value, "logsource": map[string]string{"product": "PRODUCT", "service": "SERVICE"}})
			if err != nil {
				t.Fatal(err)
			}
			rules, err := d.engine.Scan(raw)
			if err != nil {
				t.Fatal(err)
			}
			return len(rules) == 1
		}
		if !find(value) || find(value+"x") || value != "" && find(strings.ToUpper(value)+"x") {
			t.Fatalf("the rule does not find just %q\n%s", value, d.Rule)
		}
	})
}

// FuzzParse: no query makes the reader of filters panic or misread.
func FuzzParse(f *testing.F) {
	for _, q := range append(hostile, queries...) {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, query string) {
		c, err := canonical(query)
		if err != nil {
			return
		}
		head, pipes := split(c)
		if n, err := parse(head); err == nil && n.String() != head {
			t.Fatalf("%q was read as %q", head, n)
		}
		if strings.TrimSpace(head+pipes) != strings.TrimSpace(c) {
			t.Fatalf("%q was split into %q and %q", c, head, pipes)
		}
		if _, err := NewDraft(query, About{}); err != nil && pasban.KindOf(err) != pasban.Invalid {
			t.Fatal(err)
		}
	})
}

var queries = []string{
	"", "*", "foo", `Actor:="x y" and (a or b:c*) | stats by (x) count() n | sort by (n)`, `a:>5 b:>=1.5 c:range(1,5] d:in(a,"b c") e:~"x.*" f:*mid* g:* !h:i("Zz"*) -j:="q"* k:"" l:=""`,
	`_time:5m error`, `_time:[2026-01-01, 2026-02-01) x`, `{source="a|b"} | limit 3`, `x:in(y:z | fields x)`, `ip:ipv4_range(10.0.0.0/8)`, `a:contains_any(x,y) b:seq(a,b) c:len_range(1,2) d:eq_field(e) f:string_range(a,b) g:>abc`,
	`(a or b) and not (c d) | filter x:y`, `foo*:bar *:baz "and":="or" _msg:hi`, `ip:ipv6_range("2001:db8::/32")`, `a:(b or c:d !e)`, `a:value_type(string)`, `a:>"x y" b:<=10KiB c:>2026-01-01`, `a:pattern_match("<N> x")`,
}
