package detect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/detect/corpus"
)

// What the engine reaches on SigmaHQ's repository today. Raise these when it
// reaches more; a fall is a bug.
const (
	wantRules = 3780 // of 3,780 rule files
	wantCases = 121  // of the 121 regression cases in JSON form
)

// loadSigmaHQ parses every rule and returns those that load, by id, and what is
// wrong with the others.
func loadSigmaHQ(t testing.TB) (rules map[string]*Rule, problems config.Problems, total int) {
	ph := placeholders{} // whatever the rules leave to those who use them
	var files []source
	for name, data := range corpus.Tar(t, "sigma/rules.tar.gz") {
		if strings.HasPrefix(name, "rules") && isRuleFile(name) {
			files = append(files, source{name, data})
		}
		for _, m := range placeholderForm.FindAllSubmatch(data, -1) {
			ph[string(m[1])] = []*node{{kind: scalarNode, text: "value of " + string(m[1])}}
		}
	}
	found, problems := parseFiles(files, ph, nil)
	rules = map[string]*Rule{}
	for _, r := range found {
		rules[r.ID] = r
	}
	return rules, problems, len(files)
}

func engineOf(t testing.TB, rules []*Rule, tax Taxonomy) *Engine {
	t.Helper()
	l := link(rules, DefaultLimits())
	if len(l.problems) > 0 {
		t.Fatal(l.problems)
	}
	e := &Engine{}
	e.rules.Store(l.compile(tax))
	return e
}

// TestSigmaHQ runs SigmaHQ's rules: that they load, that they find what its
// regression cases say, and that the engine finds what the reference finds.
func TestSigmaHQ(t *testing.T) {
	rules, problems, total := loadSigmaHQ(t)
	t.Run("rules", func(t *testing.T) {
		for _, p := range problems {
			t.Logf("does not load: %v", p)
		}
		t.Logf("%d of %d rules load", len(rules), total)
		if len(rules) < wantRules {
			t.Errorf("%d rules load, they were %d", len(rules), wantRules)
		}
	})
	t.Run("regression cases", func(t *testing.T) { testRegressionCases(t, rules) })
	t.Run("reference", func(t *testing.T) { testReference(t, windowsRules(rules)) })
}

// mapping is one entry of SigmaHQ's own logsource map (tests/thor.yml).
type mapping struct {
	Product    string
	Category   string
	Service    string
	Conditions map[string]any
	Rewrite    struct{ Product, Service string }
	Sources    []string
	Mappings   map[string]string `yaml:"fieldmappings"`
}

// thorMap reads SigmaHQ's own logsource map.
func thorMap(t testing.TB) map[string]mapping {
	t.Helper()
	var thor struct{ Logsources map[string]mapping }
	if err := yaml.Unmarshal(corpus.Tar(t, "sigma/rules.tar.gz")["tests/thor.yml"], &thor); err != nil {
		t.Fatal(err)
	}
	return thor.Logsources
}

// evtxRecord is an EVTX record in JSON form.
type evtxRecord struct {
	Event struct {
		System    map[string]any
		EventData map[string]any
		UserData  map[string]map[string]any
	}
}

// windowsEvents flattens the EVTX records of a file and finds their logsources.
func windowsEvents(data []byte, logs map[string]mapping) (events []pasban.Event, err error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	for {
		var r evtxRecord
		if err := dec.Decode(&r); err == io.EOF {
			return events, nil
		} else if err != nil {
			return nil, err
		}
		events = append(events, windowsEvent(r, logs))
	}
}

func windowsEvent(record evtxRecord, logs map[string]mapping) pasban.Event {
	ev := pasban.Event{}
	for _, data := range append(slices.Collect(maps.Values(record.Event.UserData)), record.Event.EventData) {
		for key, value := range data {
			ev[strings.ReplaceAll(key, " ", "")] = value // Sigma's names have no spaces
		}
	}
	system := record.Event.System
	for _, key := range []string{"EventID", "Channel", "Computer", "Level", "Keywords"} {
		ev[key] = system[key]
	}
	attribute := func(of, name string) string {
		m, _ := system[of].(map[string]any)
		a, _ := m["#attributes"].(map[string]any)
		s, _ := a[name].(string)
		return s
	}
	if id, ok := system["EventID"].(map[string]any); ok {
		ev["EventID"] = id["#text"]
	}
	ev["Provider_Name"] = attribute("Provider", "Name")
	if at, err := time.Parse(time.RFC3339Nano, attribute("TimeCreated", "SystemTime")); err == nil {
		ev["time"] = at.UnixMilli()
	}
	ev[LogsourceKey] = windowsSources(ev, logs)
	return ev
}

func windowsSources(ev pasban.Event, logs map[string]mapping) []Logsource {
	channel, _ := ev["Channel"].(string)
	var services []string
	for _, m := range logs {
		if m.Service != "" && m.Category == "" && slices.ContainsFunc(m.Sources, func(s string) bool { return strings.EqualFold(strings.TrimPrefix(s, "WinEventLog:"), channel) }) {
			services = append(services, m.Service)
		}
	}
	var out []Logsource
	for _, s := range services {
		out = append(out, Logsource{Product: "windows", Service: s})
	}
	for _, m := range logs {
		if m.Category == "" || m.Rewrite.Service != "" && !slices.Contains(services, m.Rewrite.Service) {
			continue
		}
		fits := true
		for field, want := range m.Conditions {
			fits = fits && conditionFits(ev[field], want)
		}
		if fits {
			out = append(out, Logsource{Product: "windows", Category: m.Category, Service: m.Rewrite.Service})
			for to, from := range m.Mappings {
				if _, there := ev[to]; !there {
					ev[to] = ev[from]
				}
			}
		}
	}
	return out
}

func conditionFits(got, want any) bool {
	if list, ok := want.([]any); ok {
		return slices.ContainsFunc(list, func(w any) bool { return conditionFits(got, w) })
	}
	return fmt.Sprint(got) == fmt.Sprint(want)
}

// matchCount is how many of a case's events its info.yml says the rule matches
// at least: one where it does not say.
func matchCount(t *testing.T, info []byte) int {
	var meta struct {
		Tests []struct {
			Count int `yaml:"match_count"`
		} `yaml:"regression_tests_info"`
	}
	if err := yaml.Unmarshal(info, &meta); err != nil {
		t.Fatal(err)
	}
	if len(meta.Tests) == 0 {
		return 1
	}
	return max(1, meta.Tests[0].Count)
}

func testRegressionCases(t *testing.T, rules map[string]*Rule) {
	engine := engineOf(t, slices.Collect(maps.Values(rules)), nil)
	logs := thorMap(t)
	files := corpus.Tar(t, "sigma/regression.tar.gz")
	cases, matched := 0, 0
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if path.Ext(name) != ".json" {
			continue
		}
		id := strings.TrimSuffix(path.Base(name), ".json")
		rule := rules[id]
		if rule == nil {
			t.Logf("rule not loaded: %s", name)
			continue
		}
		cases++
		events, err := windowsEvents(files[name], logs)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := 0
		for _, ev := range events {
			for _, m := range engine.Match(ev) {
				if m.Rule != rule {
					continue
				}
				got++
				if len(m.Why) == 0 || slices.Contains(m.Why, "") {
					t.Errorf("%s: no reasons: %q", name, m.Why)
				}
			}
		}
		if want := matchCount(t, files[path.Join(path.Dir(name), "info.yml")]); got < want {
			t.Logf("%d of %d events match, want %d: %s", got, len(events), want, name)
			continue
		}
		matched++
	}
	t.Logf("%d of %d cases match", matched, cases)
	if matched < wantCases {
		t.Errorf("%d cases match, they were %d", matched, wantCases)
	}
}
