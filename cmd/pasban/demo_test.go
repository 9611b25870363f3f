package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pasban"
	"pasban/internal/demo"
)

// TestDemo plays the story as a script would, and looks afterwards whether the
// node has written down in clear who its citizens are.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("the story takes half a minute")
	}
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "demo")
	cmd := exec.Command(build(t, "pasban"), "demo", "--once", "--json", "--citizens", "150", "--dir", dir)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "node.log"))
		t.Fatalf("%v\n%s\n%s\n%s", err, out.String(), errs.String(), tail(string(log)))
	}

	// What scripts rely on.
	var doc struct {
		Schema string
		Beats  []struct {
			Name                     string
			Tried, Blocked, Detected *int
			RefusedLegitimate        *int `json:"refused_legitimate"`
		}
	}
	check(t, json.Unmarshal(out.Bytes(), &doc))
	if doc.Schema != demo.Schema || len(doc.Beats) < 7 {
		t.Errorf("%s", out.String())
	}
	attacks := 0
	for _, b := range doc.Beats {
		if b.Name == "" || b.Tried == nil || b.Blocked == nil || b.Detected == nil || b.RefusedLegitimate == nil {
			t.Fatalf("a beat lacks a figure: %s", out.String())
		}
		if *b.Blocked != *b.Tried || *b.Detected < *b.Tried || *b.RefusedLegitimate != 0 {
			t.Errorf("%s: %d tried, %d blocked, %d detected, %d legitimate refused", b.Name, *b.Tried, *b.Blocked, *b.Detected, *b.RefusedLegitimate)
		}
		attacks += *b.Tried
	}
	if attacks == 0 {
		t.Error("a story without an attack")
	}
	anonymous(t, dir)
}

// anonymous looks for the citizens who got persona links in everything that
// the demo's node wrote.
func anonymous(t *testing.T, dir string) {
	t.Helper()
	var file struct{ Personas []demo.Link }
	check(t, json.Unmarshal(must(os.ReadFile(filepath.Join(dir, "personas.json"))), &file))
	var texts [][]byte
	for _, l := range file.Personas {
		texts = append(texts, []byte(l.URL[strings.LastIndexByte(l.URL, '/')+1:]))
		if l.Role == pasban.RoleCitizen {
			texts = append(texts, []byte(l.Number), []byte(strings.ReplaceAll(l.Number, "-", "")), []byte(l.Name), []byte(l.NameUr))
		}
	}
	if len(texts) < 50 {
		t.Fatalf("only %d texts to look for", len(texts))
	}
	look := func(name string) {
		data, err := os.ReadFile(name)
		check(t, err)
		if i := slices.IndexFunc(texts, func(text []byte) bool { return bytes.Contains(data, text) }); i >= 0 {
			t.Errorf("%s: %q is legible", name, texts[i])
		}
	}
	look(filepath.Join(dir, "node.log"))
	check(t, filepath.WalkDir(filepath.Join(dir, "data"), func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			look(name)
		}
		return err
	}))
}
