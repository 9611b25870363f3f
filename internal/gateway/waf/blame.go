package waf

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sort"
	"strings"

	coreruleset "github.com/corazawaf/coraza-coreruleset/v4"

	"pasban"
)

// RuleError says where own rules are wrong.
type RuleError struct {
	File string
	Line int // where the directive begins, from 1; 0 if the file as a whole is
	Err  error
}

// Error returns the cause; the place is in the error around it.
func (e *RuleError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *RuleError) Unwrap() error { return e.Err }

func ruleError(file string, line int, err error) error {
	where := file
	if line > 0 {
		where = fmt.Sprintf("%s:%d", file, line)
	}
	return &pasban.Error{Kind: pasban.Invalid, Msg: "the WAF's own rules are not usable", Where: where,
		Err: &RuleError{File: file, Line: line, Err: err}}
}

// blame finds the directive because of which the rules do not compile: Coraza
// does not say where it was. It compiles the rules again and again with less
// of the files, so it is for failures only.
func blame(o Options, cause error) error {
	texts := map[string][]byte{}
	fails := func() bool {
		d, err := directives(o, func(name string) ([]byte, error) { return texts[name], nil })
		if err != nil {
			return true
		}
		_, err = compile(letters(o, coreruleset.FS), d)
		return err != nil
	}
	for _, name := range slices.Concat(o.Before, o.After) {
		whole, err := os.ReadFile(name)
		if err != nil {
			return ruleError(name, 0, err)
		}
		if texts[name] = whole; !fails() {
			continue
		}
		lines := strings.SplitAfter(string(whole), "\n")
		begins, ends := split(lines)
		n := sort.Search(len(ends), func(i int) bool {
			texts[name] = []byte(strings.Join(lines[:ends[i]], ""))
			return fails()
		})
		if n == len(ends) {
			return ruleError(name, 0, plainCause(cause))
		}
		return ruleError(name, begins[n]+1, plainCause(cause))
	}
	return &pasban.Error{Kind: pasban.Invalid, Msg: "the WAF does not accept its rules", Err: cause}
}

// split returns the lines at which directives begin and after which they end:
// a directive goes on after a backslash, and in an action list between
// backticks.
func split(lines []string) (begins, ends []int) {
	inside, quoted := false, false
	for i, line := range lines {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if !inside {
			begins = append(begins, i)
		}
		switch {
		case quoted:
			quoted = !strings.HasPrefix(line, "`")
		case strings.HasSuffix(line, "`"):
			quoted = true
		}
		inside = quoted || strings.HasSuffix(line, `\`)
		if !inside {
			ends = append(ends, i+1)
		}
	}
	return begins, ends
}

// plainCause leaves out what Coraza says of its own workings.
func plainCause(err error) error {
	text := strings.TrimPrefix(err.Error(), "invalid WAF config from string: ")
	return errors.New(text)
}
