package rulebook_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pasban"
	"pasban/internal/detect"
	"pasban/internal/detect/corpus"
	"pasban/internal/detect/logs"
	"pasban/internal/detect/rulebook"
)

const rule = `title: A rule
id: 0c9f2f5c-3f0e-4f3a-9f0e-2a4c6a1c7e01
status: test
logsource: {product: windows}
detection: {selection: {A: b}, condition: selection}
`

// unpack writes a corpus of SigmaHQ into a directory, or skips the test.
func unpack(t *testing.T, name, into string) {
	t.Helper()
	for file, data := range corpus.Tar(t, name) {
		put(t, filepath.Join(into, file), string(data))
	}
}

func put(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestSigmaHQCases runs SigmaHQ's regression cases as a person would: from the
// event log and from its JSON, found by the path that each rule names.
func TestSigmaHQCases(t *testing.T) {
	dir := t.TempDir()
	unpack(t, "sigma/rules.tar.gz", dir)
	unpack(t, "sigma/regression.tar.gz", dir)
	var paths []string
	for _, sub := range []string{"rules", "rules-emerging-threats", "rules-threat-hunting", "regression_data"} {
		paths = append(paths, filepath.Join(dir, sub))
	}
	cases, err := rulebook.Cases(paths)
	if err != nil {
		t.Fatal(err)
	}
	files, err := rulebook.Files(paths)
	if err != nil {
		t.Fatal(err)
	}
	byID := map[string]string{}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		_, id, _ := strings.Cut(string(data), "\nid: ")
		id, _, _ = strings.Cut(id, "\n")
		byID[strings.Trim(id, " \r'\"")] = f
	}
	mapping, err := logs.NewMapping()
	if err != nil {
		t.Fatal(err)
	}
	forms := map[string]int{}
	for _, c := range cases {
		engine, err := detect.Load([]string{byID[c.Rule]})
		if err != nil {
			t.Errorf("%s: %v", c.Info, err)
			continue
		}
		got, err := c.Run(engine, mapping)
		if err != nil || !c.Holds(got) {
			t.Errorf("%s: %d matches, want %d (%v)", c.Input, got, c.Want, err)
		}
		forms[filepath.Ext(c.Input)]++
	}
	if forms[".evtx"] == 0 || forms[".evtx"] != forms[".json"] {
		t.Errorf("cases by form: %v", forms)
	}
	t.Logf("cases by form: %v", forms)
}

func TestLoadLeavesOutWhatRefersToIt(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "good.yml"), rule)
	put(t, filepath.Join(dir, "bad.yml"), strings.NewReplacer("e01", "e02", "condition: selection", "condition: x", "status", "name: base\nstatus").Replace(rule))
	put(t, filepath.Join(dir, "user.yml"), "title: Many\nid: 0c9f2f5c-3f0e-4f3a-9f0e-2a4c6a1c7e03\nstatus: test\ncorrelation: {type: event_count, rules: [base], group-by: [A], timespan: 1m, condition: {gte: 2}}\n")
	put(t, filepath.Join(dir, "info.yml"), "rule_metadata: []\n")
	put(t, filepath.Join(dir, "map.yml"), "a: 1\n")
	engine, problems, err := rulebook.Load([]string{dir})
	if err != nil {
		t.Fatal(err)
	}
	if got := engine.Rules(); len(got) != 1 || got[0].Title != "A rule" {
		t.Errorf("rules %v", got)
	}
	bad := map[string]bool{}
	for _, p := range problems {
		bad[filepath.Base(p.File)] = true
	}
	if len(bad) != 2 || !bad["bad.yml"] || !bad["user.yml"] {
		t.Errorf("problems %v", problems)
	}
}

// member is one entry of an archive.
type member struct {
	name, text string
	link       string
}

func tarball(t *testing.T, name string, members ...member) string {
	t.Helper()
	var out bytes.Buffer
	zw := gzip.NewWriter(&out)
	tw := tar.NewWriter(zw)
	for _, m := range members {
		head := &tar.Header{Name: m.name, Mode: 0o644, Size: int64(len(m.text)), Typeflag: tar.TypeReg}
		if m.link != "" {
			head.Typeflag, head.Linkname = tar.TypeSymlink, m.link
		}
		if err := tw.WriteHeader(head); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, m.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), zw.Close()); err != nil {
		t.Fatal(err)
	}
	name = filepath.Join(t.TempDir(), name)
	put(t, name, out.String())
	return name
}

func zipball(t *testing.T, name string, members ...member) string {
	t.Helper()
	var out bytes.Buffer
	zw := zip.NewWriter(&out)
	for _, m := range members {
		w, err := zw.Create(m.name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	name = filepath.Join(t.TempDir(), name)
	put(t, name, out.String())
	return name
}

func TestInstall(t *testing.T) {
	good := member{name: "sigma/windows/a.yml", text: rule}
	licence := member{name: "sigma/LICENSE", text: "terms"}
	for _, tt := range []struct {
		name string
		from string
		want string // files in the installed directory
		kind pasban.ErrorKind
		msg  string
	}{
		{name: "tar", from: tarball(t, "x.tar.gz", good, licence), want: "sigma/LICENSE sigma/windows/a.yml"},
		{name: "zip", from: zipball(t, "x.zip", good, licence), want: "sigma/LICENSE sigma/windows/a.yml"},
		{name: "links are passed over", from: tarball(t, "x.tgz", good, member{name: "passwd.yml", link: "/etc/passwd"}, member{name: "dir", link: "/tmp"}, member{name: "dir/LICENSE", text: "x"}), want: "dir/LICENSE sigma/windows/a.yml"},
		{name: "out of the directory", from: tarball(t, "x.tar.gz", good, member{name: "../../evil.yml", text: rule}), kind: pasban.Invalid, msg: "outside its own directory"},
		{name: "absolute", from: tarball(t, "x.tar.gz", good, member{name: "/etc/evil.yml", text: rule}), kind: pasban.Invalid, msg: "outside its own directory"},
		{name: "out of the directory, zip", from: zipball(t, "x.zip", good, member{name: "a/../../evil.yml", text: rule}), kind: pasban.Invalid, msg: "outside its own directory"},
		{name: "a rule too large", from: tarball(t, "x.tar.gz", good, member{name: "big.yml", text: rule + strings.Repeat("#", 600<<10)}), want: "sigma/windows/a.yml"},
		{name: "nothing", from: tarball(t, "x.tar.gz", licence), kind: pasban.Invalid, msg: "no rule that loads"},
		{name: "cut off", from: cut(t, tarball(t, "x.tar.gz", good, licence)), kind: pasban.Invalid, msg: "damaged"},
	} {
		dir := filepath.Join(t.TempDir(), "rules")
		done, err := rulebook.Install(tt.from, dir, "")
		if tt.msg != "" {
			e, ok := errors.AsType[*pasban.Error](err)
			if !ok || e.Kind != tt.kind || !strings.Contains(e.Error(), tt.msg) {
				t.Errorf("%s: %v, want %s: %s", tt.name, err, tt.kind, tt.msg)
			}
			if left := tree(t, filepath.Dir(dir)); left != "" {
				t.Errorf("%s: left behind: %s", tt.name, left)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if got := tree(t, done.Dir); got != "installed.json "+tt.want && got != strings.Replace(tt.want, " ", " installed.json ", 1) || done.Rules != 1 {
			t.Errorf("%s: %+v: %s", tt.name, done, got)
		}
	}
}

func cut(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	put(t, name, string(data[:len(data)-30]))
	return name
}

// tree lists the files below dir.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, name)
			out = append(out, filepath.ToSlash(rel))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, " ")
}

// FuzzInstall: whatever an archive holds, nothing is written outside.
func FuzzInstall(f *testing.F) {
	f.Add([]byte("PK\x03\x04"), true)
	f.Add([]byte("x"), false)
	f.Fuzz(func(t *testing.T, data []byte, zipped bool) {
		dir := t.TempDir()
		from := filepath.Join(dir, "x.tar")
		if zipped {
			from = filepath.Join(dir, "x.zip")
		}
		put(t, from, string(data))
		if _, err := rulebook.Install(from, filepath.Join(dir, "rules"), "x"); err != nil {
			if left := tree(t, dir); left != filepath.Base(from) {
				t.Fatalf("left behind: %s", left)
			}
		}
	})
}
