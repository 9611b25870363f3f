package detect

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const ownRules = "../../examples/rules"

// TestOwnRules runs the cases beside the rules that Pasban ships, and sees that
// every rule that fires has a true and a false one.
func TestOwnRules(t *testing.T) {
	if err := CheckCases([]string{ownRules}); err != nil {
		t.Fatal(err)
	}
	e, err := Load([]string{ownRules})
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(ownRules + "/*.test.yml")
	if err != nil {
		t.Fatal(err)
	}
	var cases []byte
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		cases = append(cases, data...)
	}
	loud := 0
	for _, r := range e.Rules() {
		if e.set().quiet[r] {
			continue
		}
		loud++
		var yes, no bool
		for part := range bytes.SplitSeq(cases, []byte("  - name: ")) {
			if bytes.Contains(part, []byte("rule: "+r.ID)) {
				yes = yes || bytes.Contains(part, []byte("match: true"))
				no = no || bytes.Contains(part, []byte("match: false"))
			}
		}
		if !yes || !no {
			t.Errorf("%s (%s): true case %v, false case %v", r.Title, r.File, yes, no)
		}
		if len(r.Techniques()) == 0 || r.Author != "Pasban" || r.Status == "" || r.Description == "" || r.Date == "" || len(r.FalsePositives) == 0 {
			t.Errorf("%s (%s) does not say all that it should", r.Title, r.File)
		}
		if strings.TrimSpace(r.Description) == r.Title {
			t.Errorf("%s: the description says nothing more", r.Title)
		}
	}
	if loud < 25 {
		t.Errorf("%d rules fire by themselves, want at least 25", loud)
	}
	t.Logf("%d rules, %d of them fire by themselves", len(e.Rules()), loud)
}
