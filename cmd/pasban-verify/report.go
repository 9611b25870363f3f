package main

import (
	"fmt"
	"io"
	"strings"
)

// verdict is the outcome of a check, and of all together.
type verdict string

const (
	holds        verdict = "holds"
	doesNotHold  verdict = "does_not_hold"
	couldNotTell verdict = "could_not_tell"
)

func (v verdict) exit() int {
	return map[verdict]int{holds: 0, doesNotHold: 1, couldNotTell: 2}[v]
}

// String is how the verdict begins a line.
func (v verdict) String() string {
	return map[verdict]string{holds: "holds", doesNotHold: "DOES NOT HOLD", couldNotTell: "could not tell"}[v]
}

// check is one line of the report.
type check struct {
	Check   string  `json:"check"` // signature, witnesses, consistency, receipt, statement, entry, disclosure, file or tree
	Verdict verdict `json:"verdict"`
	Where   string  `json:"where"`
	Detail  string  `json:"detail"`
}

// report is everything that was found out.
type report struct {
	Schema  string  `json:"schema"`
	Command string  `json:"command"`
	Key     string  `json:"key"`
	Verdict verdict `json:"verdict"`
	Size    int64   `json:"size,omitempty"` // of the ledger, where one was read
	Root    string  `json:"root,omitempty"`
	// Kinds is how many leaves the audited ledger has of each kind; "" is any
	// kind that is not known here.
	Kinds  map[string]int64 `json:"kinds,omitempty"`
	Checks []check          `json:"checks"`

	out   io.Writer // where lines go, nil for none
	cause error     // of the first check that could not be told
}

func (r *report) add(what string, v verdict, where, detail string) {
	where, detail = plain(where), plain(detail)
	r.Checks = append(r.Checks, check{what, v, where, detail})
	if r.out != nil {
		fmt.Fprintf(r.out, "%s: %s: %s\n", v, where, detail)
	}
}

// untold adds a check that could not be told.
func (r *report) untold(what, where string, err error) {
	if r.cause == nil {
		r.cause = err
	}
	r.add(what, couldNotTell, where, err.Error())
}

// conclude sums up: one check that does not hold decides, then one that could
// not be told; no check at all tells nothing.
func (r *report) conclude() {
	r.Verdict = holds
	if len(r.Checks) == 0 {
		r.Verdict = couldNotTell
	}
	for _, c := range r.Checks {
		if c.Verdict == doesNotHold || c.Verdict == couldNotTell && r.Verdict == holds {
			r.Verdict = c.Verdict
		}
	}
}

// plain keeps text from elsewhere on its line and out of the terminal's
// control: a receipt must not be able to print "holds".
func plain(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c >= 0x7f && c < 0xa0 || c >= 0x200b && c <= 0x200f || c >= 0x2028 && c <= 0x202e || c >= 0x2066 && c <= 0x2069 {
			return '\uFFFD'
		}
		return c
	}, s)
}
