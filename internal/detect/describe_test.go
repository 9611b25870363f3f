package detect

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDescribe(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "r.yml")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("r.yml", strings.TrimPrefix(bruteforce, "\n"))
	write("r.test.yml", "cases:\n- name: ten\n  rule: 00000000-0000-4000-8000-000000000002\n  match: true\n  facts: [{kind: signin, repeat: 10}]\n- {name: other, rule: 00000000-0000-4000-8000-000000000001, facts: [{kind: signin}]}\n")
	e, err := Load([]string{dir})
	if err != nil {
		t.Fatal(err)
	}
	rules := e.Rules()
	one, many := rules[0], rules[1]
	if _, ok := one.Asks(); ok {
		t.Error("a rule over single events asks for others")
	}
	a, ok := many.Asks()
	if !ok || a.Kind != "event_count" || len(a.Rules) != 1 || a.Rules[0] != one || !slices.Equal(a.GroupBy, []string{"SrcIP"}) || a.Within != 10*time.Minute || !slices.Equal(a.Bounds, []string{"at least 10"}) {
		t.Errorf("the correlation asks %+v", a)
	}
	text, changed, err := many.Text()
	if err != nil || changed || !strings.HasPrefix(text, "title: Many failures\n") || strings.Contains(text, "---") {
		t.Errorf("its text is %q, changed %v, %v", text, changed, err)
	}
	if text, _, _ := one.Text(); !strings.HasPrefix(text, "title: Failed") || strings.Contains(text, "Many") {
		t.Errorf("the first text is %q", text)
	}
	cases, err := many.Cases()
	if err != nil || !slices.Equal(cases, []CaseInfo{{"ten", true, 10}}) {
		t.Errorf("cases are %+v, %v", cases, err)
	}
	write("r.yml", "title: other\n")
	if text, changed, err := many.Text(); err != nil || !changed || text != "title: other\n" {
		t.Errorf("a changed file: %q, %v, %v", text, changed, err)
	}
	write("r.test.yml", "cases: 7\n")
	if _, err := many.Cases(); err == nil {
		t.Error("a bad file of cases is no error")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, _, err := many.Text(); err == nil {
		t.Error("a file that is gone is no error")
	}
}

func TestFed(t *testing.T) {
	sysmon := [][]Logsource{{{Product: "windows", Service: "sysmon"}, {Product: "windows", Category: "process_creation"}}}
	rule := func(l Logsource) *Rule { return &Rule{Source: l, detection: &detection{}} }
	created, linux, own := rule(Logsource{Category: "process_creation"}), rule(Logsource{Product: "linux"}), rule(Logsource{Product: Product, Service: ServiceLedger})
	count := &Rule{correlation: &correlation{kind: eventCount, rules: []*Rule{created, linux}}}
	both := &Rule{correlation: &correlation{kind: temporal, rules: []*Rule{created, linux}}}
	for r, want := range map[*Rule]bool{created: true, linux: false, own: true, count: true, both: false} {
		if r.Fed(sysmon) != want {
			t.Errorf("%+v is fed: %v", r, !want)
		}
	}
	if created.Fed(nil) || !own.Fed(nil) {
		t.Error("without data only rules about Pasban's own events are fed")
	}
}
