package demo

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestJudge(t *testing.T) {
	for name, test := range map[string]struct {
		beat Beat
		want string
	}{
		"all well":            {Beat{Tried: 3, Blocked: 3, Detected: 3, Requests: 9}, ""},
		"no attack":           {Beat{Requests: 9}, ""},
		"got through":         {Beat{Tried: 3, Blocked: 2, Detected: 3}, "1 of 3 attacks got through"},
		"not detected":        {Beat{Tried: 3, Blocked: 3}, "3 of 3 attacks were not detected"},
		"legitimate refused":  {Beat{Requests: 9, RefusedLegitimate: 1}, "1 of 9 legitimate requests were refused"},
		"failed another way":  {Beat{Failures: []string{"a promise was lost"}}, "a promise was lost"},
		"more than one thing": {Beat{Tried: 1, RefusedLegitimate: 2, Requests: 2}, "2 of 2 legitimate"},
	} {
		b := test.beat
		b.judge()
		if b.Passed != (test.want == "") || !strings.Contains(strings.Join(b.Failures, "\n"), test.want) {
			t.Errorf("%s: passed %v, %q", name, b.Passed, b.Failures)
		}
	}
}

// TestSummaryJSON holds the names that the contract gives.
func TestSummaryJSON(t *testing.T) {
	data, err := json.Marshal(Summary{Schema: Schema, Beats: []Beat{{Name: "x", Tried: 1, Blocked: 1, Detected: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Schema string
		Beats  []map[string]any
	}
	if err := json.Unmarshal(data, &doc); err != nil || doc.Schema != "pasban.demo.v1" {
		t.Fatalf("%s, %v", data, err)
	}
	for _, name := range []string{"name", "tried", "blocked", "detected", "refused_legitimate"} {
		if _, ok := doc.Beats[0][name]; !ok {
			t.Errorf("no %q in %s", name, data)
		}
	}
}

func TestPaper(t *testing.T) {
	var out bytes.Buffer
	p := newPaper(&out)
	p.heading(1, "A beat")
	p.say("tried", "%s", strings.Repeat("word ", 60))
	p.verdict(Beat{Tried: 2, Blocked: 1, Detected: 2, Failures: []string{"one got through"}})
	p.summary(Summary{Beats: []Beat{{Title: "A beat with a title that is longer than its column", Tried: 2}}})
	if strings.Contains(out.String(), "\x1b") {
		t.Error("escape codes off a terminal")
	}
	for _, want := range []string{"FAILED", "one got through", "It did not hold.", "…"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	for line := range strings.Lines(out.String()) {
		if len([]rune(line)) > width+1 {
			t.Errorf("too wide: %q", line)
		}
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if newPaper(file).color {
		t.Error("a file is no terminal")
	}
}
