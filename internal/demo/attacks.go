package demo

import (
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	coreruleset "github.com/corazawaf/coraza-coreruleset/v4"
	crstests "github.com/corazawaf/coraza-coreruleset/v4/tests"
	"github.com/goccy/go-yaml"
)

// attack is what an attacker types into a field: a case of the OWASP Core Rule
// Set's regression suite, taken out of its request so that it can be put into
// a field of the guarded application.
type attack struct {
	ID      string // rule and number of the case, such as 942100-3
	Payload string
}

// Folders of the suite.
const (
	sqliCases = "REQUEST-942-APPLICATION-ATTACK-SQLI"
	xssCases  = "REQUEST-941-APPLICATION-ATTACK-XSS"
)

// crsCase is the part of a file of the suite that matters here.
type crsCase struct {
	Rule  int `yaml:"rule_id"`
	Tests []struct {
		ID     int `yaml:"test_id"`
		Stages []struct {
			Input struct {
				Method  string            `yaml:"method"`
				URI     string            `yaml:"uri"`
				Headers map[string]string `yaml:"headers"`
				Data    string            `yaml:"data"`
			} `yaml:"input"`
			Output struct {
				Log struct {
					Expect []int `yaml:"expect_ids"`
				} `yaml:"log"`
			} `yaml:"output"`
		} `yaml:"stages"`
	} `yaml:"tests"`
}

// elsewhere reports whether the attack of a case is not in the value that
// payload took: it is in a header, in the name of a parameter, or cut in two by
// an &. What is left of such a case is no attack. A test holds this list to
// what Coraza alone says of the rest.
func (a attack) elsewhere() bool {
	left := []string{"", "2", "6557", "4440,1))),0x7170716271,FLOOR", "vardata", "text/xml", "bar", "sdffdsa"}
	return a.Payload == a.ID || slices.Contains(left, a.Payload)
}

// attacks returns the attack cases of a folder of the suite, in its order:
// those of rules at paranoia level 1 that expect the rule to match and carry
// the attack as the value of a parameter. A payload comes once.
func attacks(folder string) ([]attack, error) {
	level1, err := rulesAtLevel1(folder)
	if err != nil {
		return nil, err
	}
	names, err := fs.Glob(crstests.FS, folder+"/*.yaml")
	if err != nil {
		return nil, err
	}
	var found []attack
	seen := map[string]bool{}
	for _, name := range names {
		data, err := fs.ReadFile(crstests.FS, name)
		if err != nil {
			return nil, err
		}
		var c crsCase
		if err := yaml.Unmarshal(data, &c); err != nil {
			return nil, fmt.Errorf("read the attack cases of %s: %w", path.Base(name), err)
		}
		if !level1[c.Rule] {
			continue
		}
		for _, t := range c.Tests {
			if len(t.Stages) != 1 || !slices.Contains(t.Stages[0].Output.Log.Expect, c.Rule) {
				continue
			}
			in := t.Stages[0].Input
			a := attack{fmt.Sprintf("%d-%d", c.Rule, t.ID), payload(in.Method, in.URI, in.Headers, in.Data)}
			if a.elsewhere() || seen[a.Payload] {
				continue
			}
			seen[a.Payload] = true
			found = append(found, a)
		}
	}
	return found, nil
}

// payload returns the longest value of the request's parameters, "" if the
// attack is not in one of them.
func payload(method, uri string, headers map[string]string, data string) string {
	_, raw, _ := strings.Cut(uri, "?")
	if method == "POST" && data != "" {
		for name, value := range headers {
			if strings.EqualFold(name, "Content-Type") && !strings.HasPrefix(value, "application/x-www-form-urlencoded") {
				return ""
			}
		}
		raw = data
	}
	longest := ""
	for pair := range strings.SplitSeq(raw, "&") {
		_, value, _ := strings.Cut(pair, "=")
		if plain, err := url.QueryUnescape(value); err == nil {
			value = plain
		}
		if len(value) > len(longest) {
			longest = value
		}
	}
	return longest
}

var crsRuleID = regexp.MustCompile(`"?\bid:(\d+)`)

// rulesAtLevel1 reads from the rules themselves which are of paranoia level 1.
func rulesAtLevel1(folder string) (map[int]bool, error) {
	conf, err := fs.ReadFile(coreruleset.FS, "@owasp_crs/"+folder+".conf")
	if err != nil {
		return nil, err
	}
	rules := map[int]bool{}
	id := 0
	for line := range strings.Lines(string(conf)) {
		if m := crsRuleID.FindStringSubmatch(line); m != nil {
			if id, err = strconv.Atoi(m[1]); err != nil {
				return nil, fmt.Errorf("read the rules of %s: %w", folder, err)
			}
		}
		if strings.Contains(line, "paranoia-level/1'") {
			rules[id] = true
		}
	}
	return rules, nil
}
