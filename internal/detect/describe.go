package detect

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Asks is what a correlation asks of other rules' matches.
type Asks struct {
	Kind    string // a correlation type of Sigma's: event_count, temporal, …
	Rules   []*Rule
	GroupBy []string      // fields: matches count together that have the same values there
	Within  time.Duration // the window
	Fields  []string      // whose values are counted or reckoned with
	Bounds  []string      // comparisons that must hold: "at least 10"
}

// Asks returns what a correlation asks; ok is false for a rule over single events.
func (r *Rule) Asks() (a Asks, ok bool) {
	c := r.correlation
	if c == nil {
		return a, false
	}
	a = Asks{Kind: c.kind, Rules: c.rules, GroupBy: c.groupBy, Within: c.span, Fields: c.fields}
	for _, b := range c.bounds {
		a.Bounds = append(a.Bounds, compareWords(b.op)+" "+strconv.FormatFloat(b.value, 'f', -1, 64))
	}
	return a, true
}

// Fed reports whether events come that the rule can hold for, given of which
// logsources events are that came. Pasban's own events always come. Of the rules
// that a correlation refers to one must be fed or, if it waits for each of them,
// all.
func (r *Rule) Fed(received [][]Logsource) bool {
	if c := r.correlation; c != nil {
		unfed := func(r *Rule) bool { return !r.Fed(received) }
		if c.kind == temporal || c.kind == temporalOrdered {
			return !slices.ContainsFunc(c.rules, unfed)
		}
		return slices.ContainsFunc(c.rules, func(r *Rule) bool { return !unfed(r) })
	}
	return r.Source.Product == Product || slices.ContainsFunc(received, r.Source.fits)
}

// Text returns the rule as it stands in its file now, and whether the file has
// changed since it was loaded. The error says why it cannot be read.
func (r *Rule) Text() (text string, changed bool, err error) {
	data, err := os.ReadFile(r.File)
	if err != nil {
		return "", false, err
	}
	changed = sha256.Sum256(data) != r.asRead
	lines := strings.SplitAfter(string(data), "\n")
	if changed || r.Line < 1 || r.Line > len(lines) {
		return string(data), changed, nil
	}
	separates := func(line string) bool { return strings.HasPrefix(line, "---") }
	from, to := r.Line-1, r.Line
	for from > 0 && !separates(lines[from-1]) {
		from--
	}
	for to < len(lines) && !separates(lines[to]) {
		to++
	}
	return strings.Join(lines[from:to], ""), false, nil
}

// CaseInfo is a case beside a rule: facts for which it must fire, or must not.
type CaseInfo struct {
	Name  string
	Match bool
	Facts int
}

// Cases lists the cases of a rule in the file name.test.yml beside its own. The
// error says why they cannot be read; that there is no such file is none.
func (r *Rule) Cases() ([]CaseInfo, error) {
	name := strings.TrimSuffix(r.File, filepath.Ext(r.File)) + ".test.yml"
	data, err := os.ReadFile(name)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	cf, _, problems := readCases(name, data)
	var out []CaseInfo
	for _, c := range cf.Cases {
		if c.Rule != r.ID {
			continue
		}
		info := CaseInfo{Name: c.Name, Match: c.Match}
		for _, f := range c.Facts {
			info.Facts += max(1, f.Repeat)
		}
		out = append(out, info)
	}
	return out, problems.Err()
}
