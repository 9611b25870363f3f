package detect

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
)

// matcher decides over one value of an event.
type matcher interface {
	// match looks at a value of the record that has text.
	match(r *record, at int32) bool
	// words says what is asked, to follow the field's name: `contains "x"`.
	words() string
	// key is equal for matchers that ask the same.
	key() string
	// cost guesses what match costs.
	cost() float64
}

type patternMatcher struct {
	*pattern
	verb string
}

func (m patternMatcher) match(r *record, at int32) bool {
	if m.cased {
		return m.pattern.match(r, r.text(at))
	}
	return m.pattern.match(r, r.lower(at))
}

func (m patternMatcher) words() string { return fmt.Sprintf("%s %q", m.verb, m.text) }

func (m patternMatcher) cost() float64 {
	if m.isPlain {
		return 1
	}
	return 20
}

// numberMatcher is an unquoted number: it equals the same number written in
// another way, so 16 also matches "0x10".
type numberMatcher struct {
	text   string
	number float64
}

func (m numberMatcher) match(r *record, at int32) bool {
	f, ok := r.number(at)
	return ok && f == m.number
}

func (m numberMatcher) words() string { return "is " + m.text }
func (m numberMatcher) key() string   { return "number " + m.text }
func (m numberMatcher) cost() float64 { return 1 }

// regexpMatcher is a regular expression. It is run only on values that have
// the plain texts that it cannot match without.
type regexpMatcher struct {
	re    *regexp.Regexp
	needs [][]string // see required
}

func newRegexpMatcher(text string) (regexpMatcher, error) {
	re, err := regexp.Compile(text)
	if err != nil {
		return regexpMatcher{}, err
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return regexpMatcher{}, err
	}
	return regexpMatcher{re, required(parsed.Simplify())}, nil
}

func (m regexpMatcher) match(r *record, at int32) bool {
	if !r.values[at].wide && !m.might(r.lower(at)) {
		return false
	}
	return m.re.Match(r.text(at))
}

// might reports whether a text, which is ASCII in lower case, has what the
// expression needs. Taking the earliest place of each text never spoils a later one.
func (m regexpMatcher) might(text []byte) bool {
	for _, list := range m.needs {
		end := -1
		for _, t := range list {
			if i := bytes.Index(text, []byte(t)); i >= 0 && (end < 0 || i+len(t) < end) {
				end = i + len(t)
			}
		}
		if end < 0 {
			return false
		}
		text = text[end:]
	}
	return true
}

func (m regexpMatcher) words() string { return fmt.Sprintf("matches %q", m.re) }
func (m regexpMatcher) key() string   { return "re " + strconv.Quote(m.re.String()) }
func (m regexpMatcher) cost() float64 { return 200 }

type cidrMatcher struct{ prefix netip.Prefix }

func (m cidrMatcher) match(r *record, at int32) bool {
	text := r.text(at)
	if len(text) > 64 { // longer than any address
		return false
	}
	addr, err := netip.ParseAddr(string(text))
	return err == nil && m.prefix.Contains(addr.Unmap().WithZone(""))
}

func (m cidrMatcher) words() string { return "is within " + m.prefix.String() }
func (m cidrMatcher) key() string   { return "cidr " + m.prefix.String() }
func (m cidrMatcher) cost() float64 { return 5 }

// compareMatcher is gt, gte, lt or lte.
type compareMatcher struct {
	op     string
	number float64
	text   string
}

func (m compareMatcher) match(r *record, at int32) bool {
	f, ok := r.number(at)
	return ok && compare(m.op, f, m.number)
}

// compare applies an operator of Sigma: gt, gte, lt, lte, eq or neq.
func compare(op string, a, b float64) bool {
	switch op {
	case "gt":
		return a > b
	case "gte":
		return a >= b
	case "lt":
		return a < b
	case "lte":
		return a <= b
	case "eq":
		return a == b
	default:
		return a != b
	}
}

// compareWords says an operator in words.
func compareWords(op string) string {
	switch op {
	case "gt":
		return "over"
	case "gte":
		return "at least"
	case "lt":
		return "under"
	case "lte":
		return "at most"
	case "eq":
		return "exactly"
	default:
		return "not"
	}
}

func (m compareMatcher) words() string { return "is " + compareWords(m.op) + " " + m.text }
func (m compareMatcher) key() string   { return m.op + " " + m.text }
func (m compareMatcher) cost() float64 { return 1 }

// timeMatcher is minute, hour, day, week, month or year: that part of a time, in UTC.
type timeMatcher struct {
	part   string
	number int
}

func (m timeMatcher) match(r *record, at int32) bool {
	text := r.text(at)
	if len(text) > 64 {
		return false
	}
	t, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return false
	}
	return m.partOf(t.UTC()) == m.number
}

func (m timeMatcher) partOf(t time.Time) int {
	switch m.part {
	case "minute":
		return t.Minute()
	case "hour":
		return t.Hour()
	case "day":
		return t.Day()
	case "month":
		return int(t.Month())
	case "year":
		return t.Year()
	}
	_, week := t.ISOWeek()
	return week
}

func (m timeMatcher) words() string { return fmt.Sprintf("has %s %d (UTC)", m.part, m.number) }
func (m timeMatcher) key() string   { return fmt.Sprint(m.part, m.number) }
func (m timeMatcher) cost() float64 { return 10 }

// compares applies a fieldref to two texts.
func (t *refTest) compares(text, other []byte) bool {
	switch t.verb {
	case "contains":
		return bytes.Contains(text, other)
	case "startswith":
		return bytes.HasPrefix(text, other)
	case "endswith":
		return bytes.HasSuffix(text, other)
	}
	return bytes.Equal(text, other)
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
