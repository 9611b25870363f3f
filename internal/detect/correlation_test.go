package detect

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

// correlationOf is the body of a correlation over rules a and b, which match F: a and F: b.
func correlationOf(body string) []string {
	base := func(name string) string { return "name: " + name + "\n" + searches("s: {F: "+name+"}\ncondition: s") }
	return []string{base("a"), base("b"), "correlation:\n" + indent(body)}
}

func loadCorrelation(t *testing.T, body string) *Engine {
	t.Helper()
	e, err := loadCorrelationErr(t, body)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func loadCorrelationErr(t *testing.T, body string) (*Engine, error) {
	t.Helper()
	parts := correlationOf(body)
	last := len(parts) - 1
	// A correlation has no logsource.
	e, err := loadRaw(t, fmt.Sprintf(head, 0)+parts[0], fmt.Sprintf(head, 1)+parts[1],
		strings.Replace(fmt.Sprintf(head, 2), "logsource:\n  product: test\n", "", 1)+parts[last])
	return e, err
}

func loadRaw(t *testing.T, docs ...string) (*Engine, error) {
	t.Helper()
	return load([]source{{"rules.yml", []byte(strings.Join(docs, "\n---\n"))}}, nil, nil)
}

var zero = time.Date(2024, 11, 23, 9, 0, 0, 0, time.UTC)

// feed is one event: F's value, who, after how long since zero, and a value to count.
type feed struct {
	f, who string
	at     time.Duration
	value  string
}

func (e *Engine) feed(seq int, f feed) []Match {
	ev := event("F", f.f, "Who", f.who, "time", zero.Add(f.at).UnixMilli(), "Seq", uint64(seq))
	if f.value != "" {
		ev["V"] = f.value
		ev["L"] = []string{f.value, "always"}
	}
	return e.Match(ev)
}

// fired feeds events, and writes for each how many matches it made.
func fired(e *Engine, feeds ...feed) string {
	var b strings.Builder
	for i, f := range feeds {
		fmt.Fprint(&b, len(e.feed(i+1, f)))
	}
	return b.String()
}

func TestCorrelations(t *testing.T) {
	const m = time.Minute
	for _, c := range []struct {
		name, body string
		feeds      []feed
		want       string // matches after each event
	}{
		{"event_count", "type: event_count\nrules: [a]\ngroup-by: [Who]\ntimespan: 5m\ncondition: {gte: 3}",
			[]feed{{"a", "x", 0, ""}, {"a", "x", m, ""}, {"a", "y", m, ""}, {"b", "x", m, ""}, {"a", "x", 2 * m, ""}, {"a", "x", 3 * m, ""}, {"a", "x", 20 * m, ""}}, "0000110"},
		{"gt", "type: event_count\nrules: [a]\ntimespan: 5m\ncondition: {gt: 2}",
			[]feed{{"a", "x", 0, ""}, {"a", "y", m, ""}, {"a", "z", m, ""}}, "001"},
		{"a window ends before its length", "type: event_count\nrules: [a]\ntimespan: 5m\ncondition: {gte: 2}",
			[]feed{{"a", "x", 0, ""}, {"a", "x", 5 * m, ""}, {"a", "x", 10*m - 1, ""}}, "001"},
		{"value_count", "type: value_count\nrules: [a, b]\ngroup-by: [Who]\ntimespan: 5m\ncondition: {field: V, gte: 3}",
			[]feed{{"a", "x", 0, "1"}, {"a", "x", m, "1"}, {"b", "x", m, "2"}, {"a", "x", m, ""}, {"a", "x", 2 * m, "3"}, {"a", "x", 6 * m, "3"}}, "000010"},
		{"value_count counts every value of a list", "type: value_count\nrules: [a]\ntimespan: 5m\ncondition: {field: L, gte: 3}",
			[]feed{{"a", "x", 0, "1"}, {"a", "x", m, "2"}}, "01"},
		{"temporal", "type: temporal\nrules: [a, b]\ngroup-by: [Who]\ntimespan: 5m",
			[]feed{{"b", "x", 0, ""}, {"b", "y", 0, ""}, {"a", "x", m, ""}, {"a", "z", m, ""}, {"a", "y", 9 * m, ""}}, "00100"},
		{"value_count of two fields", "type: value_count\nrules: [a]\ntimespan: 5m\ncondition: {field: [Who, V], gte: 2}",
			[]feed{{"a", "x", 0, "1"}, {"a", "x", m, "1"}, {"a", "y", m, ""}, {"a", "y", 2 * m, "1"}}, "0001"},
		{"value_sum", "type: value_sum\nrules: [a]\ngroup-by: [Who]\ntimespan: 5m\ncondition: {field: V, gt: 10.5}",
			[]feed{{"a", "x", 0, "5"}, {"a", "x", m, "5.5"}, {"a", "x", m, "none"}, {"a", "x", 2 * m, "0.1"}, {"a", "x", 5 * m, "1"}}, "00010"},
		{"temporal with fewer", "type: temporal\nrules: [a, b]\ntimespan: 5m\ncondition: {gte: 1}",
			[]feed{{"a", "x", 0, ""}, {"b", "x", m, ""}}, "11"},
		{"temporal_ordered from the newest beginning", "type: temporal_ordered\nrules: [a, b]\ntimespan: 5m",
			[]feed{{"a", "x", 0, ""}, {"a", "x", 4 * m, ""}, {"b", "x", 8 * m, ""}, {"b", "x", 9*m + 1, ""}}, "0010"},
		{"temporal_ordered with an event that comes late", "type: temporal_ordered\nrules: [a, b]\ntimespan: 5m",
			[]feed{{"b", "x", 2 * m, ""}, {"a", "x", m, ""}, {"b", "x", 0, ""}}, "011"},
		{"temporal_ordered", "type: temporal_ordered\nrules: [a, b]\ngroup-by: [Who]\ntimespan: 5m",
			[]feed{{"b", "x", 0, ""}, {"a", "x", m, ""}, {"b", "x", 2 * m, ""}}, "001"},
		{"generate lets the rules fire too", "type: event_count\nrules: [a]\ntimespan: 5m\ncondition: {gte: 2}\ngenerate: true",
			[]feed{{"a", "x", 0, ""}, {"a", "x", 0, ""}}, "12"},
		{"events that come late count where they belong", "type: event_count\nrules: [a]\ntimespan: 5m\ncondition: {gte: 3}",
			[]feed{{"a", "x", 4 * m, ""}, {"a", "x", 2 * m, ""}, {"a", "x", 3 * m, ""}, {"a", "x", -10 * m, ""}}, "0010"},
		{"aliases", "type: temporal\nrules: [a, b]\naliases:\n  who: {a: Who, b: V}\ngroup-by: [who]\ntimespan: 5m",
			[]feed{{"a", "x", 0, ""}, {"b", "z", m, "x"}, {"b", "x", m, "y"}}, "010"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := loadCorrelation(t, c.body)
			// Rule b is loud where the correlation does not refer to it: not counted.
			got := fired(e, c.feeds...)
			if !strings.Contains(c.body, "b]") {
				for i, f := range c.feeds {
					if f.f == "b" {
						got = got[:i] + string(got[i]-1) + got[i+1:]
					}
				}
			}
			if got != c.want {
				t.Errorf("matches %s, want %s", got, c.want)
			}
		})
	}
}

// A correlation that goes on firing names each event once.
func TestCorrelationNamesEventsOnce(t *testing.T) {
	e := loadCorrelation(t, "type: event_count\nrules: [a]\ngroup-by: [Who]\ntimespan: 5m\ncondition: {gte: 3}")
	var named []uint64
	for i := range 6 {
		for _, m := range e.feed(i+1, feed{"a", "x", time.Duration(i) * time.Second, ""}) {
			for _, ref := range m.Refs {
				named = append(named, ref.Seq)
			}
			if m.Entity != "x" || !strings.Contains(m.Why[0], "for x within 5 minutes (the rule's limit is 3)") {
				t.Errorf("match is %s: %q", m.Entity, m.Why)
			}
		}
	}
	if fmt.Sprint(named) != "[1 2 3 4 5 6]" {
		t.Errorf("events named are %v", named)
	}
}

func TestCorrelationOfCorrelation(t *testing.T) {
	base := fmt.Sprintf(head, 1) + "name: a\n" + searches("s: {F: a}\ncondition: s")
	often := "title: often\nid: 00000000-0000-4000-8000-000000000002\nname: often\ncorrelation:\n  type: event_count\n  rules: [a]\n  group-by: [Who]\n  timespan: 1m\n  condition: {gte: 2}\n"
	wide := "title: wide\nid: 00000000-0000-4000-8000-000000000003\ncorrelation:\n  type: value_count\n  rules: [often]\n  timespan: 1h\n  condition: {field: Who, gte: 2}\n"
	e, err := loadRaw(t, base, often, wide)
	if err != nil {
		t.Fatal(err)
	}
	if got := fired(e, feed{"a", "x", 0, ""}, feed{"a", "x", 1, ""}, feed{"a", "y", 2, ""}, feed{"a", "y", 3, ""}); got != "0001" {
		t.Errorf("matches %s", got)
	}
	circle := strings.Replace(often, "rules: [a]", "rules: [00000000-0000-4000-8000-000000000003]", 1)
	if _, err := loadRaw(t, base, circle, wide); err == nil || !strings.Contains(err.Error(), "in a circle") {
		t.Errorf("a circle gives %v", err)
	}
}

func TestCorrelationMistakes(t *testing.T) {
	for body, want := range map[string]string{
		"type: event_cuont\nrules: [a]\ntimespan: 5m\ncondition: {gte: 1}":                       `unknown correlation type "event_cuont" (did you mean "event_count"?)`,
		"type: event_count\nrules: [c]\ntimespan: 5m\ncondition: {gte: 1}":                       `refers to "c", which is not loaded`,
		"type: event_count\nrules: []\ntimespan: 5m\ncondition: {gte: 1}":                        "refers to no rules",
		"type: event_count\nrules: [a]\ntimespan: soon\ncondition: {gte: 1}":                     `"soon" is not a timespan`,
		"type: event_count\nrules: [a]\ncondition: {gte: 1}":                                     "has no timespan",
		"type: event_count\nrules: [a]\ntimespan: 5m":                                            "has no condition",
		"type: event_count\nrules: [a]\ntimespan: 5m\ncondition: {lt: many}":                     `"many" is not a number`,
		"type: event_count\nrules: [a]\ntimespan: 5m\ncondition: {gte: 0}":                       "is not a count from 1",
		"type: event_count\nrules: [a]\ntimespan: 5m\ncondition: {gte: 1000000}":                 "is not a count from 1",
		"type: event_count\nrules: [a]\ntimespan: 5m\ncondition: some":                           "is a mapping",
		"type: event_count\nrules: [a]\ntimespan: 5m\ncondition: {field: V, gte: 2}":             "field belongs to value_count",
		"type: value_count\nrules: [a]\ntimespan: 5m\ncondition: {gte: 2}":                       "field belongs to value_count",
		"type: temporal\nrules: [a]\ntimespan: 5m":                                               "needs at least two rules",
		"type: value_percentile\nrules: [a]\ntimespan: 5m\ncondition: {field: V, gte: 2}":        "does not say which percentile",
		"type: value_sum\nrules: [a]\ntimespan: 5m\ncondition: {field: [V, W], gte: 2}":          "is over one field",
		"type: event_count\nrules: [a]\ntimespan: 5m\ncondition: {gte: 1}\ngroupby: [x]":         `unknown key "groupby" (did you mean "group-by"?)`,
		"type: event_count\nrules: [a]\ntimespan: 5m\ncondition: {gte: 1}\naliases: {x: {c: F}}": `"c" is not among the correlation's rules`,
		"type: event_count\nrules: [a]\ntimespan: 5m\ncondition: {gte: 1}\ngenerate: perhaps":    "generate is true or false",
	} {
		_, err := loadCorrelationErr(t, body)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "rules.yml:") {
			t.Errorf("%s\ngives %v\nwant %s", body, err, want)
		}
	}
	own := "title: own\nid: 00000000-0000-4000-8000-000000000009\nname: own\nlogsource: {product: pasban, service: gateway}\ndetection: {s: {Kind: block}, condition: s}\n"
	by := "title: by\nid: 00000000-0000-4000-8000-000000000008\ncorrelation: {type: event_count, rules: [own], group-by: [SrcIp], timespan: 5m, condition: {gte: 2}}\n"
	if _, err := loadRaw(t, own, by); err == nil || !strings.Contains(err.Error(), `no field "SrcIp" (did you mean "SrcIP"?)`) {
		t.Errorf("an unknown field to group by gives %v", err)
	}
}

// A single event with very many values leaves no room behind that stays taken.
func TestManyValuesAreForgotten(t *testing.T) {
	e := loadCorrelation(t, "type: value_count\nrules: [a]\ngroup-by: [Who]\ntimespan: 1h\ncondition: {field: V, gte: 3}")
	many := make([]any, maxKept/32)
	for i := range many {
		many[i] = i
	}
	at := zero.UnixMilli()
	for _, v := range []any{many, 1} {
		if m := e.Match(event("F", "a", "Who", "x", "time", at, "V", v)); len(m) != 1 {
			t.Fatalf("%d matches", len(m))
		}
	}
	if n := cap(e.set().memory.counted); n > maxKept/64 {
		t.Errorf("room for %d hits is kept", n)
	}
}

// TestBounds: memory stays within its limits, whatever comes.
func TestBounds(t *testing.T) {
	for _, body := range []string{
		"type: value_count\nrules: [a]\ngroup-by: [Who]\ntimespan: 1h\ncondition: {field: V, gte: 3}",
		"type: event_count\nrules: [a]\ngroup-by: [Who]\ntimespan: 1h\ncondition: {eq: 3}",
	} {
		e := loadCorrelation(t, body)
		limits := Limits{Groups: 5, Hits: 4, Total: 60, Late: time.Minute, Ahead: DefaultLimits().Ahead}
		e.set().memory = newMemory(limits)
		for i := range 500 {
			e.feed(i+1, feed{"a", fmt.Sprint(i * i % 17), time.Duration(i) * time.Second, fmt.Sprint(i)})
			m, total := e.set().memory, 0
			for g := m.order.next; g != &m.order; g = g.next {
				total += len(g.hits) + g.weight
				if len(g.hits) > limits.Hits {
					t.Fatalf("a group has %d hits", len(g.hits))
				}
			}
			if got := e.Memory(); total != got.Hits || total > limits.Total || got.Groups > limits.Groups {
				t.Fatalf("%d hits, counted as %d, in %d groups", total, got.Hits, got.Groups)
			}
		}
		if e.Memory().Forgotten == 0 {
			t.Error("nothing was forgotten")
		}
		if strings.HasPrefix(body, "type: value") {
			if got := fired(e, feed{"a", "q", time.Hour, "1"}, feed{"a", "q", time.Hour, "2"}, feed{"a", "q", time.Hour, "3"}); got != "001" {
				t.Errorf("after the flood matches are %s", got)
			}
		}
	}
}

// Windows that close: what is asked of them is answered once, when no event of
// theirs is to come any more.
func TestClosedWindows(t *testing.T) {
	const m = time.Minute
	a := func(at time.Duration, v string) feed { return feed{"a", "x", at, v} }
	for _, c := range []struct {
		name, body string
		feeds      []feed
		want       string // matches after each event, and at the end
		why        string
	}{
		{"lt", "type: event_count\nrules: [a]\ntimespan: 5m\ncondition: {lt: 3}",
			[]feed{a(0, ""), a(m, ""), a(2*m, ""), a(5*m, ""), a(11*m, "")}, "000011", "1 events within 5 minutes (the rule asks for under 3)"},
		{"eq counts what comes late", "type: event_count\nrules: [a]\ntimespan: 5m\ncondition: {eq: 2}",
			[]feed{a(0, ""), a(5*m+1, ""), a(m, ""), a(6*m, "")}, "00011", ""},
		{"too late", "type: event_count\nrules: [a]\ntimespan: 5m\ncondition: {eq: 1}",
			[]feed{a(0, ""), a(6*m, ""), a(m, "")}, "0101", ""},
		{"a range", "type: event_count\nrules: [a]\ntimespan: 5m\ncondition: {gt: 1, lte: 3}",
			[]feed{a(0, ""), a(m, ""), a(6*m, ""), a(7*m, ""), a(7*m, ""), a(8*m, "")}, "0010000", "2 events within 5 minutes (the rule asks for over 1 and at most 3)"},
		{"neq", "type: event_count\nrules: [a]\ntimespan: 5m\ncondition: {neq: 2}",
			[]feed{a(0, ""), a(m, ""), a(6*m, "")}, "0001", ""},
		{"value_count eq", "type: value_count\nrules: [a]\ntimespan: 5m\ncondition: {field: V, eq: 2}",
			[]feed{a(0, "p"), a(m, "q"), a(m, "q"), a(m, "")}, "00001", "2 different values of V"},
		{"value_avg", "type: value_avg\nrules: [a]\ntimespan: 5m\ncondition: {field: V, gte: 20}",
			[]feed{a(0, "30"), a(m, "10"), a(m, "none"), a(6*m, "19")}, "00010", "the average of V is 20 within 5 minutes (the rule asks for at least 20)"},
		{"value_median", "type: value_median\nrules: [a]\ntimespan: 5m\ncondition: {field: V, lt: 10}",
			[]feed{a(0, "1"), a(0, "0x2"), a(0, "900")}, "0001", "the median of V is 2 "},
		{"value_percentile", "type: value_percentile\nrules: [a]\ntimespan: 5m\ncondition: {field: V, percentile: 90, gte: 9}",
			[]feed{a(0, "1"), a(0, "2"), a(0, "3"), a(0, "4"), a(0, "5"), a(0, "6"), a(0, "7"), a(0, "8"), a(0, "9"), a(0, "100")}, "00000000001", "the 90th percentile of V is 9 "},
		{"value_max", "type: value_max\nrules: [a]\ntimespan: 5m\ncondition: {field: V, gt: 5}",
			[]feed{a(0, "6"), a(0, "1"), a(6*m, "5")}, "0010", "the greatest of V is 6 "},
		{"value_min", "type: value_min\nrules: [a]\ntimespan: 5m\ncondition: {field: V, lte: -1}",
			[]feed{a(0, "6"), a(0, "-1.5")}, "001", "the least of V is -1.5 "},
		{"temporal", "type: temporal\nrules: [a, b]\ntimespan: 5m\ncondition: {eq: 1}",
			[]feed{a(0, ""), {"b", "x", m, ""}, a(6*m, "")}, "0001", ""},
		{"temporal_ordered", "type: temporal_ordered\nrules: [a, b]\ntimespan: 5m\ncondition: {lte: 1}",
			[]feed{{"b", "x", 0, ""}, a(m, ""), a(6*m, ""), {"b", "x", 7 * m, ""}}, "00100", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := loadCorrelation(t, c.body)
			var got, why strings.Builder
			note := func(ms []Match) {
				fmt.Fprint(&got, len(ms))
				for _, m := range ms {
					why.WriteString(m.Why[0] + "\n")
					if len(m.Refs) == 0 || m.Time.IsZero() || m.Event == nil {
						t.Errorf("a match without its events: %+v", m)
					}
				}
			}
			for i, f := range c.feeds {
				note(e.feed(i+1, f))
			}
			note(e.Close())
			if got.String() != c.want || !strings.Contains(why.String(), c.why) {
				t.Errorf("matches %s, want %s, because %s", &got, c.want, &why)
			}
			if again := e.Close(); len(again) > 0 {
				t.Errorf("closed twice: %v", again)
			}
		})
	}
}

// A time that cannot be does not move windows.
func TestImpossibleTimes(t *testing.T) {
	e := loadCorrelation(t, "type: event_count\nrules: [a]\ntimespan: 5m\ncondition: {gte: 3}")
	year := func(y int) time.Duration { return time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC).Sub(zero) }
	if got := fired(e, feed{"a", "x", 0, ""}, feed{"a", "x", year(1766), ""}, feed{"a", "x", year(2240), ""}, feed{"a", "x", time.Minute, ""}); got != "0011" {
		t.Errorf("matches %s", got)
	}
}

func TestSwapKeepsMemory(t *testing.T) {
	body := "type: event_count\nrules: [a]\ntimespan: 5m\ncondition: {gte: 2}"
	e := loadCorrelation(t, body)
	fired(e, feed{"a", "x", 0, ""})
	e.Swap(loadCorrelation(t, body))
	if got := fired(e, feed{"a", "x", 1, ""}); got != "1" {
		t.Errorf("an unchanged correlation forgot: %s", got)
	}
	e.Swap(loadCorrelation(t, strings.Replace(body, "5m", "6m", 1)))
	if got := fired(e, feed{"a", "x", 2, ""}, feed{"a", "x", 3, ""}); got != "01" {
		t.Errorf("a changed correlation: %s", got)
	}
}

// BenchmarkCorrelations feeds events in JSON to 1,000 correlations of five
// kinds, each grouping by one of 100,000 users: every event counts for one.
func BenchmarkCorrelations(b *testing.B) {
	const rules, users = 1000, 100_000
	var docs strings.Builder
	for i := range rules {
		kinds := []string{
			"{type: event_count, rules: [n%d], group-by: [User], timespan: 1h, condition: {gte: 5}}",
			"{type: value_count, rules: [n%d], group-by: [User], timespan: 1h, condition: {field: Host, gte: 5}}",
			"{type: temporal_ordered, rules: [n%d, n0], group-by: [User], timespan: 1h}",
			"{type: value_sum, rules: [n%d], group-by: [User], timespan: 1h, condition: {field: Size, gt: 100000}}",
			"{type: event_count, rules: [n%d], group-by: [User], timespan: 1m, condition: {gte: 5}}",
		}
		fmt.Fprintf(&docs, "title: r%d\nid: 00000000-0000-4000-8000-%012d\nname: n%d\nlogsource: {product: test}\ndetection: {s: {Kind: k%d}, condition: s}\n---\n", i, i, i, i)
		fmt.Fprintf(&docs, "title: c%d\nid: 00000000-0000-4000-9000-%012d\ncorrelation: "+kinds[i%len(kinds)]+"\n---\n", i, i, i)
	}
	engine, err := load([]source{{"r.yml", []byte(docs.String())}}, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	source := Logsource{Product: "test"}
	raw := make([][]byte, 1<<16)
	seed, fired, n := uint32(1), 0, 0
	began := cpuTime(b)
	var stopped time.Duration
	for b.Loop() {
		if n%len(raw) == 0 {
			b.StopTimer()
			at := cpuTime(b)
			for i := range raw {
				seed = seed*1664525 + 1013904223
				raw[i] = fmt.Appendf(raw[i][:0], `{"Kind":"k%d","User":"user-%d","Host":"h%d","Size":%d,"time":%d}`,
					1+seed>>8%(rules-1), seed>>4%users, seed>>16%50, seed>>12%5000, zero.UnixMilli()+int64(n+i)/100)
			}
			stopped += cpuTime(b) - at
			b.StartTimer()
		}
		matches, err := engine.MatchJSON(raw[n%len(raw)], source)
		if err != nil {
			b.Fatal(err)
		}
		fired += len(matches)
		n++
	}
	spent := cpuTime(b) - began - stopped
	b.ReportMetric(float64(n)/spent.Seconds(), "events/cpu-s")
	before := cpuTime(b)
	for i := range n {
		if _, err := engine.Scan(raw[i%len(raw)], source); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/(spent-(cpuTime(b)-before)).Seconds(), "correlated/cpu-s")
	m := engine.Memory()
	b.ReportMetric(float64(m.Groups), "groups")
	b.ReportMetric(float64(m.Forgotten)/float64(n), "forgotten/op")
	b.ReportMetric(float64(fired)/float64(n), "fired/op")
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	b.ReportMetric(float64(ms.HeapAlloc)/(1<<20), "heap-MiB")
}
