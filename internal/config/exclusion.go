package config

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// RuleRange is the id of a rule, or a range of ids within one thousand:
// 942100 or 942100-942199.
type RuleRange string

// Bounds returns the first and the last id of the range; ok is false if it is
// none, or one that an exclusion may not name: rules that set up the Core Rule
// Set or judge by the score (901000 to 910999, 949000 to 949999, 959000 to
// 959999, 980000 to 980999), and the ids of Pasban's own rules.
func (r RuleRange) Bounds() (first, last int, ok bool) {
	a, b, isRange := strings.Cut(string(r), "-")
	if !isRange {
		b = a
	}
	first, ok1 := ruleID(a)
	last, ok2 := ruleID(b)
	return first, last, ok1 && ok2 && first <= last && first/1000 == last/1000 && !reserved(first/1000)
}

func ruleID(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && n > 0 && n < 100_000_000 && strconv.Itoa(n) == s
}

// reserved reports whether no exclusion may name rules of a thousand.
func reserved(thousand int) bool {
	return thousand >= 900 && thousand <= 910 || thousand == 949 || thousand == 959 || thousand == 980 || thousand == 999 ||
		thousand >= 8000 && thousand < 8100 || thousand == 99_999
}

// maxReason is the longest reason of an exclusion, in characters.
const maxReason = 500

var (
	tagForm    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_./-]{0,99}$`)
	targetForm = regexp.MustCompile(`^([A-Z_]+)(?::([A-Za-z0-9_.$\[\]-]{1,128}))?$`)
)

// targetKeyed are the variables that an exclusion may name, with whether one
// of their members can be named.
func targetKeyed(name string) (keyed, ok bool) {
	switch name {
	case "ARGS", "ARGS_NAMES", "REQUEST_HEADERS", "REQUEST_HEADERS_NAMES", "REQUEST_COOKIES", "REQUEST_COOKIES_NAMES",
		"FILES", "FILES_NAMES", "MULTIPART_PART_HEADERS", "RESPONSE_HEADERS":
		return true, true
	case "XML", "REQUEST_URI", "REQUEST_FILENAME", "REQUEST_BASENAME", "REQUEST_LINE", "QUERY_STRING", "REQUEST_BODY", "RESPONSE_BODY":
		return false, true
	}
	return false, false
}

// ParseTarget splits a target such as ARGS:note into its variable and the
// member's name, "" if it stands for all of them. ok is false if it is none.
func ParseTarget(s string) (variable, member string, ok bool) {
	m := targetForm.FindStringSubmatch(s)
	if m == nil {
		return "", "", false
	}
	keyed, known := targetKeyed(m[1])
	return m[1], m[2], known && (keyed || m[2] == "")
}

// Until returns when the exclusion stops working: the beginning of its last
// day, in UTC. It is zero if Expires is not a day.
func (e Exclusion) Until() time.Time {
	t, err := time.Parse(time.DateOnly, e.Expires)
	if err != nil {
		return time.Time{}
	}
	return t
}

// Fault is what is wrong with one field of an exclusion.
type Fault struct{ Field, Msg, Hint string }

// Faults lists what is wrong with an exclusion. What the configuration alone
// can tell, whether there is such a route, is for the caller.
func (e Exclusion) Faults() (faults []Fault) {
	bad := func(field, hint, format string, args ...any) {
		faults = append(faults, Fault{field, fmt.Sprintf(format, args...), hint})
	}
	if (len(e.Rules) == 0) == (e.Tag == "") {
		bad("rules", "such as rules: [942100]", "want rules or a tag, one of them")
	}
	for i, r := range e.Rules {
		if _, _, ok := r.Bounds(); !ok {
			bad(fmt.Sprintf("rules[%d]", i), "an id, or a range within one thousand: 942100-942199; to switch blocking off use mode: detect",
				"not a rule that can be excluded: %q", string(r))
		}
	}
	if e.Tag != "" && !tagForm.MatchString(e.Tag) {
		bad("tag", "such as attack-sqli", "not a rule's tag: %q", e.Tag)
	}
	if _, _, ok := ParseTarget(e.Target); e.Target != "" && !ok {
		bad("target", "such as ARGS:note, REQUEST_COOKIES:lang or REQUEST_BODY", "not a part of a request: %q", e.Target)
	}
	if e.Method != "" && !slices.Contains(knownMethods(), e.Method) {
		bad("method", didYouMean(e.Method, knownMethods()), "unknown method %q", e.Method)
	}
	if r := e.Reason; strings.TrimSpace(r) == "" || utf8.RuneCountInString(r) > maxReason || !utf8.ValidString(r) || strings.ContainsFunc(r, unicode.IsControl) {
		bad("reason", fmt.Sprintf("one line of at most %d characters", maxReason), "say why, so that whoever reads it later can judge")
	}
	if e.Until().IsZero() {
		bad("expires", "a day, such as 2027-03-01", "not a day: %q", e.Expires)
	}
	return faults
}

// exclusions checks those of a site or, with route, of one of its routes.
func (k *checker) exclusions(path string, list []Exclusion, s *Site, route bool) {
	for i, e := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		missing := map[string]bool{"reason": e.Reason == "", "expires": e.Expires == ""}
		for _, f := range e.Faults() {
			if !missing[f.Field] { // reported already
				k.bad(at+"."+f.Field, f.Hint, "%s", f.Msg)
			}
		}
		switch {
		case e.Route != "" && route:
			k.bad(at+".route", "leave it out", "the exclusion stands under its route already")
		case e.Route != "" && !slices.ContainsFunc(s.Routes, func(r Route) bool { return r.Match == e.Route }):
			var known []string
			for _, r := range s.Routes {
				known = append(known, r.Match)
			}
			k.bad(at+".route", didYouMean(e.Route, known), "no route of this site has match %q", e.Route)
		}
	}
}

// soon is how long before its end an exclusion is warned about.
const soon = 14 * 24 * time.Hour

// Warnings tells of exclusions that have ended at the given time or will end
// within fourteen days. Such a configuration holds: the rules decide by
// themselves when an exclusion stops working.
func (c *Config) Warnings(now time.Time) (warnings []string) {
	tell := func(host string, e Exclusion) {
		until := e.Until()
		if until.IsZero() || until.Sub(now) > soon {
			return
		}
		verb := "ends on"
		if !now.Before(until) {
			verb = "has ended on"
		}
		warnings = append(warnings, fmt.Sprintf("site %s: the exclusion of %s %s %s: %s", host, e.Subject(), verb, e.Expires, e.Reason))
	}
	for _, s := range c.Sites {
		for _, e := range s.Exclusions() {
			tell(s.Host, e)
		}
	}
	return warnings
}

// Subject says in a few words what is excluded: "rules 942100, 942200 for ARGS:note on POST /apply".
func (e Exclusion) Subject() string {
	var b strings.Builder
	if e.Tag != "" {
		b.WriteString("rules tagged " + e.Tag)
	}
	for i, r := range e.Rules {
		b.WriteString([]string{"rule ", ", "}[min(i, 1)] + string(r))
	}
	if e.Target != "" {
		b.WriteString(" for " + e.Target)
	}
	if e.Method != "" {
		b.WriteString(" with method " + e.Method)
	}
	if e.Route != "" {
		b.WriteString(" on " + e.Route)
	}
	return b.String()
}

// Exclusions lists the site's exclusions and those of its routes, whose Route
// is filled in.
func (s Site) Exclusions() []Exclusion {
	all := slices.Clone(s.WAF.Exclusions)
	for _, r := range s.Routes {
		for _, e := range r.WAF.Exclusions {
			e.Route = r.Match
			all = append(all, e)
		}
	}
	return all
}
