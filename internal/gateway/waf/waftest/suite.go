// Package waftest has the requests with which firewalls are compared: the
// regression suite of the OWASP Core Rule Set, which ships with the rules, as
// bytes on the wire, and mutations of them.
//
// It is for tests alone.
package waftest

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
	"testing"

	coreruleset "github.com/corazawaf/coraza-coreruleset/v4"
	crstests "github.com/corazawaf/coraza-coreruleset/v4/tests"
	"github.com/goccy/go-yaml"
)

// Case is one request of the Core Rule Set's regression suite.
type Case struct {
	Name   string // rule, test and stage
	Level  int    // paranoia level of the rule it is about
	Attack bool   // the suite expects the rule to match
	Raw    []byte // as it goes over the wire
	Expect []int  // rules that must be in the log
	Refuse []int  // rules that must not
}

// file is the part of a go-ftw test file that makes a request.
type file struct {
	RuleID int `yaml:"rule_id"`
	Tests  []struct {
		TestID int `yaml:"test_id"`
		Stages []struct {
			Input struct {
				Method       string        `yaml:"method"`
				URI          *string       `yaml:"uri"`
				Version      string        `yaml:"version"`
				Headers      yaml.MapSlice `yaml:"headers"`
				Data         string        `yaml:"data"`
				Encoded      string        `yaml:"encoded_request"`
				Autocomplete *bool         `yaml:"autocomplete_headers"`
			} `yaml:"input"`
			Output struct {
				Log struct {
					ExpectIDs []int `yaml:"expect_ids"`
					RefuseIDs []int `yaml:"no_expect_ids"`
				} `yaml:"log"`
			} `yaml:"output"`
		} `yaml:"stages"`
	} `yaml:"tests"`
}

// Suite reads the whole suite that ships with the rules.
func Suite(t testing.TB) (cases []Case) {
	t.Helper()
	levels := levelsOf(t)
	err := fs.WalkDir(crstests.FS, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, ".yaml") {
			return err
		}
		text, err := fs.ReadFile(crstests.FS, name)
		if err != nil {
			return err
		}
		var f file
		if err := yaml.Unmarshal(text, &f); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for _, test := range f.Tests {
			for i, stage := range test.Stages {
				in := stage.Input
				c := Case{Name: fmt.Sprintf("%d-%d.%d", f.RuleID, test.TestID, i), Level: max(1, levels[f.RuleID]),
					Attack: len(stage.Output.Log.ExpectIDs) > 0, Expect: stage.Output.Log.ExpectIDs, Refuse: stage.Output.Log.RefuseIDs}
				if in.Encoded != "" {
					if c.Raw, err = base64.StdEncoding.DecodeString(strings.Join(strings.Fields(in.Encoded), "")); err != nil {
						return fmt.Errorf("%s: %w", c.Name, err)
					}
				} else {
					uri := "/"
					if in.URI != nil {
						uri = *in.URI
					}
					c.Raw = request(in.Method, uri, in.Version, in.Headers, in.Data, in.Autocomplete == nil || *in.Autocomplete)
				}
				cases = append(cases, c)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return cases
}

var (
	ruleText = regexp.MustCompile(`(?s)"id:(\d+),.*?"\n`)
	levelTag = regexp.MustCompile(`paranoia-level/(\d)`)
	repeat   = regexp.MustCompile(`\{\{ "(.)" \| repeat (\d+) \}\}`)
)

// levelsOf maps rules to the paranoia level that they are tagged with.
func levelsOf(t testing.TB) map[int]int {
	levels := map[int]int{}
	files, err := fs.Glob(coreruleset.FS, "@owasp_crs/*.conf")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		text, err := fs.ReadFile(coreruleset.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range ruleText.FindAllSubmatch(text, -1) {
			if l := levelTag.FindSubmatch(m[0]); l != nil {
				id, _ := strconv.Atoi(string(m[1]))
				levels[id], _ = strconv.Atoi(string(l[1]))
			}
		}
	}
	return levels
}

// request writes a request as go-ftw does: the given headers, and unless
// told otherwise those that a request needs to end.
func request(method, uri, version string, headers yaml.MapSlice, data string, complete bool) []byte {
	data = repeat.ReplaceAllStringFunc(data, func(s string) string {
		m := repeat.FindStringSubmatch(s)
		n, _ := strconv.Atoi(m[2])
		return strings.Repeat(m[1], n)
	})
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s %s\r\n", or(method, "GET"), uri, or(version, "HTTP/1.1"))
	has := map[string]bool{}
	for _, h := range headers {
		name := fmt.Sprint(h.Key)
		has[strings.ToLower(name)] = true
		value := ""
		if h.Value != nil {
			value = fmt.Sprint(h.Value)
		}
		fmt.Fprintf(&b, "%s: %s\r\n", name, value)
	}
	if complete {
		if data != "" && !has["content-length"] && !has["transfer-encoding"] {
			fmt.Fprintf(&b, "Content-Length: %d\r\n", len(data))
		}
		if data != "" && !has["content-type"] {
			b.WriteString("Content-Type: application/x-www-form-urlencoded\r\n")
		}
		if !has["connection"] {
			b.WriteString("Connection: close\r\n")
		}
	}
	b.WriteString("\r\n")
	b.WriteString(data)
	return b.Bytes()
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
