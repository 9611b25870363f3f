package detect

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"

	"pasban"
)

// matcher decides over one value of an event.
type matcher interface {
	// match gets the value as text, and again in lower case.
	match(text, lower string) bool
	// words says what is asked, to follow the field's name: `contains "x"`.
	words() string
}

type patternMatcher struct {
	*pattern
	verb string
}

func (m patternMatcher) match(text, lower string) bool {
	if m.cased {
		return m.pattern.match(text)
	}
	return m.pattern.match(lower)
}

func (m patternMatcher) words() string { return fmt.Sprintf("%s %q", m.verb, m.text) }

// numberMatcher is an unquoted number: it equals the same number written in
// another way, so 16 also matches "0x10".
type numberMatcher struct {
	text   string
	number float64
}

func (m numberMatcher) match(text, _ string) bool {
	if text == m.text {
		return true
	}
	f, ok := parseNumber(text)
	return ok && f == m.number
}

func (m numberMatcher) words() string { return "is " + m.text }

type regexpMatcher struct{ re *regexp.Regexp }

func (m regexpMatcher) match(text, _ string) bool { return m.re.MatchString(text) }
func (m regexpMatcher) words() string             { return fmt.Sprintf("matches %q", m.re) }

type cidrMatcher struct{ prefix netip.Prefix }

func (m cidrMatcher) match(text, _ string) bool {
	addr, err := netip.ParseAddr(text)
	return err == nil && m.prefix.Contains(addr.Unmap().WithZone(""))
}

func (m cidrMatcher) words() string { return "is within " + m.prefix.String() }

// compareMatcher is gt, gte, lt or lte.
type compareMatcher struct {
	op     string
	number float64
	text   string
}

func (m compareMatcher) match(text, _ string) bool {
	f, ok := parseNumber(text)
	if !ok {
		return false
	}
	return compare(m.op, f, m.number)
}

func compare(op string, a, b float64) bool {
	switch op {
	case "gt":
		return a > b
	case "gte":
		return a >= b
	case "lt":
		return a < b
	default:
		return a <= b
	}
}

var compareWords = map[string]string{"gt": "is over", "gte": "is at least", "lt": "is under", "lte": "is at most"}

func (m compareMatcher) words() string { return compareWords[m.op] + " " + m.text }

// timeMatcher is minute, hour, day, week, month or year: that part of a time, in UTC.
type timeMatcher struct {
	part   string
	number int
}

func (m timeMatcher) match(text, _ string) bool {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return false
	}
	t = t.UTC()
	_, week := t.ISOWeek()
	got := map[string]int{"minute": t.Minute(), "hour": t.Hour(), "day": t.Day(), "week": week, "month": int(t.Month()), "year": t.Year()}
	return got[m.part] == m.number
}

func (m timeMatcher) words() string { return fmt.Sprintf("has %s %d (UTC)", m.part, m.number) }

// parseNumber reads a number as logs write it: decimal, or hexadecimal after 0x.
func parseNumber(s string) (float64, bool) {
	s = strings.TrimSpace(s)
	if hex, ok := strings.CutPrefix(strings.ToLower(s), "0x"); ok {
		u, err := strconv.ParseUint(hex, 16, 64)
		return float64(u), err == nil
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil && !math.IsNaN(f)
}

// lookup returns the values of a field: the key itself, else the path of its
// dotted parts through nested objects and the lists on the way. A list gives
// all its elements. present is false if there is no such field.
func lookup(ev map[string]any, field string) (values []any, present bool) {
	if v, ok := ev[field]; ok {
		return flatten(nil, v), true
	}
	for i := range len(field) {
		if field[i] != '.' {
			continue
		}
		inner, ok := ev[field[:i]]
		if !ok {
			continue
		}
		for _, v := range flatten(nil, inner) {
			if m, ok := v.(map[string]any); ok {
				if found, ok := lookup(m, field[i+1:]); ok {
					values, present = append(values, found...), true
				}
			}
		}
		if present {
			return values, true
		}
	}
	return nil, false
}

func flatten(out []any, v any) []any {
	switch list := v.(type) {
	case []any:
		for _, e := range list {
			out = flatten(out, e)
		}
		return out
	case []string:
		for _, e := range list {
			out = append(out, e)
		}
		return out
	}
	return append(out, v)
}

// asText writes a scalar as rules see it. Objects and null have no text.
func asText(v any) (string, bool) {
	switch x := v.(type) {
	case string:
		return x, true
	case bool:
		return strconv.FormatBool(x), true
	case int:
		return strconv.Itoa(x), true
	case int64:
		return strconv.FormatInt(x, 10), true
	case uint64:
		return strconv.FormatUint(x, 10), true
	case float64:
		return strconv.FormatFloat(x, 'f', -1, 64), true
	case json.Number:
		return x.String(), true
	}
	return "", false
}

// allTexts calls yield with every scalar of the event, however deep, until it
// returns false. A keyword is searched in these.
func allTexts(v any, yield func(string) bool) bool {
	switch x := v.(type) {
	case pasban.Event:
		return allTexts(map[string]any(x), yield)
	case map[string]any:
		for _, e := range x {
			if !allTexts(e, yield) {
				return false
			}
		}
	case []any:
		for _, e := range x {
			if !allTexts(e, yield) {
				return false
			}
		}
	case []string:
		return !slices.ContainsFunc(x, func(s string) bool { return !yield(s) })
	default:
		if s, ok := asText(v); ok {
			return yield(s)
		}
	}
	return true
}

// encodings of the value modifiers.

func utf16Bytes(s string, big, bom bool) string {
	var b strings.Builder
	units := utf16.Encode([]rune(s))
	if bom {
		units = append([]uint16{0xfeff}, units...)
	}
	for _, u := range units {
		if big {
			b.WriteByte(byte(u >> 8))
			b.WriteByte(byte(u))
		} else {
			b.WriteByte(byte(u))
			b.WriteByte(byte(u >> 8))
		}
	}
	return b.String()
}

// base64Offsets writes s in base64 as it appears at each of the three offsets
// inside a longer text, without the characters that the neighbours change.
func base64Offsets(s string) []string {
	start, end := [3]int{0, 2, 3}, [3]int{0, 3, 2}
	out := make([]string, 0, 3)
	for i := range 3 {
		enc := base64.StdEncoding.EncodeToString([]byte(strings.Repeat(" ", i) + s))
		enc = enc[start[i] : len(enc)-end[(len(s)+i)%3]]
		if enc != "" {
			out = append(out, enc)
		}
	}
	return out
}
