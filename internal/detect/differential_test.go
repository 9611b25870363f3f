package detect

import (
	"bytes"
	"encoding/json"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pasban/internal/detect/corpus"
)

// windowsLog is the events of the shared Windows log, one JSON text each, or
// every stride-th of them.
func windowsLog(t testing.TB, stride int) (out [][]byte) {
	t.Helper()
	n := 0
	for line := range bytes.SplitSeq(corpus.Gzip(t, "logs/windows-otrf-40k.ndjson.gz"), []byte("\n")) {
		if len(line) == 0 {
			continue
		}
		if n%stride == 0 {
			out = append(out, bytes.Clone(line))
		}
		n++
	}
	return out
}

// thorTaxonomy is SigmaHQ's own logsource map for Windows, and the names that
// the shared log's collector gives to two of Windows' fields.
func thorTaxonomy(t testing.TB) (tax Taxonomy) {
	t.Helper()
	logs := thorMap(t)
	channels := map[string][]string{} // by service
	for _, m := range logs {
		for _, s := range m.Sources {
			if m.Service != "" && m.Category == "" && strings.HasPrefix(s, "WinEventLog:") {
				channels[m.Service] = append(channels[m.Service], strings.TrimPrefix(s, "WinEventLog:"))
			}
		}
	}
	for service, list := range channels {
		tax = append(tax, Mapping{Source: Logsource{Product: "windows", Service: service}, When: map[string][]string{"Channel": list}})
	}
	for _, m := range logs {
		if m.Category == "" || m.Product != "windows" {
			continue
		}
		one := Mapping{
			Source: Logsource{Product: "windows", Category: m.Category, Service: m.Rewrite.Service},
			When:   map[string][]string{}, Fields: m.Mappings,
		}
		if list := channels[m.Rewrite.Service]; len(list) > 0 {
			one.When["Channel"] = list
		}
		for field, want := range m.Conditions {
			list, ok := want.([]any)
			if !ok {
				list = []any{want}
			}
			for _, w := range list {
				text, _ := asText(w)
				one.When[field] = append(one.When[field], text)
			}
		}
		tax = append(tax, one)
	}
	tax = append(tax, Mapping{Source: Logsource{Product: "windows"}, Fields: map[string]string{"Provider_Name": "SourceName", "Computer": "Hostname"}})
	return tax
}

// refRoute works out an event's logsources and names by the taxonomy's words.
func refRoute(tax Taxonomy, ev *refEvent) (sources []Logsource) {
	for _, m := range tax {
		fits := true
		for field, values := range m.When {
			fits = fits && slices.ContainsFunc(ev.texts(field), func(v refValue) bool {
				return slices.ContainsFunc(values, func(want string) bool { return strings.ToLower(want) == v.lower })
			})
		}
		if !fits {
			continue
		}
		sources = append(sources, m.Source)
		for to, from := range m.Fields {
			if _, there := ev.fields[to]; !there && !ev.empty[to] {
				if values, ok := ev.fields[from]; ok {
					ev.fields[to] = values
				}
				if ev.empty[from] {
					ev.empty[to] = true
				}
			}
		}
	}
	return sources
}

// reference runs every rule over one event, one after the other. Its logsources
// are those given, else what the taxonomy says.
func reference(rules []*Rule, tax Taxonomy, raw []byte, sources ...Logsource) (hold []*Rule, err error) {
	ev, err := refDecode(raw)
	if err != nil {
		return nil, err
	}
	if len(sources) == 0 {
		sources = refRoute(tax, ev)
	}
	for _, r := range rules {
		if r.Source.fits(sources) && refHolds(r.detection.condition, ev) {
			hold = append(hold, r)
		}
	}
	return hold, nil
}

// windowsRules are the rules for Windows, in a fixed order.
func windowsRules(rules map[string]*Rule) (out []*Rule) {
	for _, r := range rules {
		if r.Source.Product == "windows" && r.detection != nil {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b *Rule) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// sample is an event in JSON, and its logsources if they are known.
type sample struct {
	raw     []byte
	sources []Logsource
}

// attackSamples are the events of SigmaHQ's regression cases.
func attackSamples(t *testing.T) (out []sample) {
	t.Helper()
	logs := thorMap(t)
	for name, data := range corpus.Tar(t, "sigma/regression.tar.gz") {
		if path.Ext(name) != ".json" {
			continue
		}
		events, err := windowsEvents(data, logs)
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range events {
			sources := Logsources(ev)
			delete(ev, LogsourceKey)
			raw, err := json.Marshal(ev)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, sample{raw, sources})
		}
	}
	return out
}

// testReference holds the engine to the reference on real events: attacks, and
// every 400th event of the shared log, or all with PASBAN_DETECT_ALL=1.
func testReference(t *testing.T, rules []*Rule) {
	stride := 400
	if os.Getenv("PASBAN_DETECT_ALL") != "" {
		stride = 1
	}
	tax := thorTaxonomy(t)
	events := attackSamples(t)
	for _, raw := range windowsLog(t, stride) {
		events = append(events, sample{raw, nil})
	}
	engine := engineOf(t, rules, tax)
	matches, differences := 0, 0
	for i, ev := range events {
		want, err := reference(rules, tax, ev.raw, ev.sources...)
		if err != nil {
			t.Fatal(err)
		}
		got, err := engine.Scan(ev.raw, ev.sources...)
		if err != nil {
			t.Fatal(err)
		}
		matches += len(want)
		if !slices.Equal(got, want) {
			differences++
			t.Errorf("event %d: the engine finds %q, the reference %q\n%s", i, titles(got), titles(want), ev.raw)
		}
		if differences == 10 {
			t.Fatal("and so on")
		}
	}
	t.Logf("%d rules, %d events, %d matches, %d differences", len(rules), len(events), matches, differences)
	if matches < 100 {
		t.Error("next to nothing matched: the test says nothing")
	}
}

func titles(rules []*Rule) (out []string) {
	for _, r := range rules {
		out = append(out, r.Title)
	}
	return out
}

// cpuTime is what the process has used of processors: other work on the machine
// does not count.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkWindowsRules runs SigmaHQ's Windows rules over the shared log: the
// events' JSON in, the rules that hold out.
func BenchmarkWindowsRules(b *testing.B) {
	all, _, _ := loadSigmaHQ(b)
	rules, tax := windowsRules(all), thorTaxonomy(b)
	events := windowsLog(b, 1)
	size := 0
	for _, raw := range events {
		size += len(raw)
	}
	b.Run("engine", func(b *testing.B) {
		engine := engineOf(b, rules, tax)
		b.SetBytes(int64(size / len(events)))
		i, began := 0, cpuTime(b)
		for b.Loop() {
			if _, err := engine.Scan(events[i%len(events)]); err != nil {
				b.Fatal(err)
			}
			i++
		}
		b.ReportMetric(float64((cpuTime(b)-began).Nanoseconds())/float64(b.N)/1e3, "cpu-µs/event")
		b.ReportMetric(float64(engine.set().automataSize())/(1<<20), "automata-MiB")
		b.ReportMetric(float64(len(rules)), "rules")
	})
	b.Run("json-scan", func(b *testing.B) {
		b.SetBytes(int64(size / len(events)))
		i, began := 0, cpuTime(b)
		for b.Loop() {
			c := cursor{b: events[i%len(events)]}
			if err := c.skip(0); err != nil {
				b.Fatal(err)
			}
			i++
		}
		b.ReportMetric(float64((cpuTime(b)-began).Nanoseconds())/float64(b.N)/1e3, "cpu-µs/event")
	})
	b.Run("json-valid", func(b *testing.B) {
		i, began := 0, cpuTime(b)
		for b.Loop() {
			if !json.Valid(events[i%len(events)]) {
				b.Fatal("not JSON")
			}
			i++
		}
		b.ReportMetric(float64((cpuTime(b)-began).Nanoseconds())/float64(b.N)/1e3, "cpu-µs/event")
	})
	b.Run("reference", func(b *testing.B) {
		i, began := 0, cpuTime(b)
		for b.Loop() {
			if _, err := reference(rules, tax, events[i*37%len(events)]); err != nil {
				b.Fatal(err)
			}
			i++
		}
		b.ReportMetric(float64((cpuTime(b)-began).Nanoseconds())/float64(b.N)/1e3, "cpu-µs/event")
	})
}
