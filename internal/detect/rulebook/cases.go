package rulebook

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/detect"
	"pasban/internal/detect/logs"

	"github.com/goccy/go-yaml"
)

// infoName is the file that describes a rule's regression cases. The form is
// SigmaHQ's: it names the rule, and inputs with how many events must match.
const infoName = "info.yml"

// Case is one input that a rule must find a number of events in.
type Case struct {
	Info  string // the file that says so
	Name  string
	Rule  string // id
	Input string // an event log, JSON, or whatever package logs reads
	Want  int    // at least so many; 0 means none
}

// Holds reports whether so many matches are what the case asks for. SigmaHQ's
// cases count what must be found; more than one event of an input may show it.
func (c Case) Holds(got int) bool { return got >= c.Want && (c.Want > 0 || got == 0) }

// info is an info.yml. Other keys are allowed: they are the collection's own.
type info struct {
	Rules []struct {
		ID string `yaml:"id"`
	} `yaml:"rule_metadata"`
	Tests []struct {
		Name  string `yaml:"name"`
		Path  string `yaml:"path"`
		Count *int   `yaml:"match_count"`
	} `yaml:"regression_tests_info"`
}

// Cases finds the cases beside rules: every info.yml in paths, and those that
// rules there name by regression_tests_path, relative to a folder above them.
// An input of which both forms are there, .evtx and .json, makes two cases. The
// error is config.Problems.
func Cases(paths []string) ([]Case, error) {
	infos, err := infoFiles(paths)
	if err != nil {
		return nil, err
	}
	var cases []Case
	var problems config.Problems
	for _, file := range infos {
		found, err := readInfo(file)
		if err != nil {
			problems = append(problems, config.Problem{File: file, Msg: err.Error()})
		}
		cases = append(cases, found...)
	}
	return cases, problems.Err()
}

func infoFiles(paths []string) ([]string, error) {
	var infos []string
	for _, p := range paths {
		err := filepath.WalkDir(p, func(name string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && filepath.Base(name) == infoName {
				infos = append(infos, name)
			}
			return err
		})
		if err != nil {
			return nil, &pasban.Error{Kind: pasban.NotFound, Msg: "cannot read the cases", Where: p, Err: cause(err)}
		}
	}
	files, err := Files(paths)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if name := namedInfo(f); name != "" {
			infos = append(infos, name)
		}
	}
	slices.Sort(infos)
	return slices.CompactFunc(infos, func(a, b string) bool {
		x, err1 := os.Stat(a)
		y, err2 := os.Stat(b)
		return a == b || err1 == nil && err2 == nil && os.SameFile(x, y)
	}), nil
}

var pathKey = regexp.MustCompile(`(?m)^regression_tests_path:[ \t]*["']?([^"'\r\n#]+?)["']?[ \t]*(?:#.*)?\r?$`)

// namedInfo is the info.yml that a rule names, "" if it names none that is there.
func namedInfo(rule string) string {
	data, err := os.ReadFile(rule)
	if err != nil {
		return ""
	}
	m := pathKey.FindSubmatch(data)
	if m == nil || !filepath.IsLocal(string(m[1])) {
		return ""
	}
	abs, err := filepath.Abs(rule)
	if err != nil {
		return ""
	}
	for dir := filepath.Dir(abs); ; dir = filepath.Dir(dir) {
		name := filepath.Join(dir, string(m[1]))
		if st, err := os.Stat(name); err == nil && st.Mode().IsRegular() {
			return name
		}
		if dir == filepath.Dir(dir) {
			return ""
		}
	}
}

func readInfo(file string) (cases []Case, err error) {
	defer func() {
		if r := recover(); r != nil { // the YAML parser panics on some malformed input
			cases, err = nil, fmt.Errorf("not readable as YAML: %v", r)
		}
	}()
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, cause(err)
	}
	var in info
	if err := yaml.Unmarshal(data, &in); err != nil {
		return nil, fmt.Errorf("not readable as YAML: %w", err)
	}
	if len(in.Tests) > 0 && len(in.Rules) == 0 {
		return nil, errors.New("rule_metadata does not say which rule the cases are of")
	}
	for _, t := range in.Tests {
		want := 1
		if t.Count != nil {
			want = *t.Count
		}
		inputs, err := inputsOf(filepath.Dir(file), t.Path)
		if err != nil {
			return cases, fmt.Errorf("case %q: %w", t.Name, err)
		}
		for _, input := range inputs {
			for _, r := range in.Rules {
				cases = append(cases, Case{Info: file, Name: t.Name, Rule: strings.ToLower(r.ID), Input: input, Want: want})
			}
		}
	}
	return cases, nil
}

// inputsOf finds a case's input: beside its info.yml, where its path counts from
// the collection's root. It never leaves that folder.
func inputsOf(dir, path string) ([]string, error) {
	path = filepath.FromSlash(path)
	if path == "" || !filepath.IsLocal(path) {
		return nil, fmt.Errorf("the path %q does not lie beside it", path)
	}
	name := filepath.Join(dir, path)
	if _, err := os.Stat(name); err != nil {
		name = filepath.Join(dir, filepath.Base(path))
	}
	if _, err := os.Stat(name); err != nil {
		return nil, fmt.Errorf("the input %s is not there", name)
	}
	inputs := []string{name}
	if stem, ok := strings.CutSuffix(name, ".evtx"); ok {
		if _, err := os.Stat(stem + ".json"); err == nil {
			inputs = append(inputs, stem+".json")
		}
	}
	return inputs, nil
}

// Run feeds the case's input to the engine and returns how often its rule fires.
func (c Case) Run(engine *detect.Engine, mapping *logs.Mapping) (got int, err error) {
	f, err := os.Open(c.Input)
	if err != nil {
		return 0, cause(err)
	}
	defer f.Close()
	stream, err := logs.Open(f, logs.Options{Mapping: mapping})
	if err != nil {
		return 0, err
	}
	for {
		ev, err := stream.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return got, err
		}
		for _, m := range engine.Match(ev) {
			if m.Rule.ID == c.Rule {
				got++
			}
		}
	}
	if rep := stream.Report(); rep.Refused > 0 {
		return got, fmt.Errorf("%d entries of it cannot be read: %s", rep.Refused, rep.Samples[0].Why)
	}
	return got, nil
}
