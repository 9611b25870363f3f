package detect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// The reference: Sigma as its specification reads, one rule after another, one
// value after another, with nothing to make it fast. The engine must agree
// with it on every rule and every event.

// refValue is a value of an event: text, null, or something without text.
type refValue struct {
	text, lower string
	isText      bool
	isNull      bool
}

// refEvent is an event's values by the path to them.
type refEvent struct {
	fields map[string][]refValue
	empty  map[string]bool // paths of empty lists
}

// refDecode reads an event from JSON with the standard library's decoder.
func refDecode(raw []byte) (*refEvent, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	ev := &refEvent{fields: map[string][]refValue{}, empty: map[string]bool{}}
	first, err := dec.Token()
	if err != nil {
		return nil, err
	}
	if first != json.Delim('{') {
		return nil, fmt.Errorf("not an object")
	}
	if err := ev.object(dec, ""); err != nil {
		return nil, err
	}
	if dec.More() {
		return nil, fmt.Errorf("something follows")
	}
	return ev, nil
}

func (ev *refEvent) object(dec *json.Decoder, prefix string) error {
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		if err := ev.value(dec, prefix+key.(string)); err != nil {
			return err
		}
	}
	_, err := dec.Token()
	return err
}

func (ev *refEvent) value(dec *json.Decoder, path string) error {
	tok, err := dec.Token()
	if err != nil {
		return err
	}
	switch x := tok.(type) {
	case json.Delim:
		if x == '{' {
			ev.fields[path] = append(ev.fields[path], refValue{})
			return ev.object(dec, path+".")
		}
		if !dec.More() {
			ev.empty[path] = true
		}
		for dec.More() {
			if err := ev.value(dec, path); err != nil {
				return err
			}
		}
		_, err := dec.Token()
		return err
	case nil:
		ev.fields[path] = append(ev.fields[path], refValue{isNull: true})
	default:
		text, _ := asText(tok)
		ev.fields[path] = append(ev.fields[path], refValue{text: text, lower: strings.Map(unicode.ToLower, text), isText: true})
	}
	return nil
}

// texts are the values of a field that have text.
func (ev *refEvent) texts(field string) (out []refValue) {
	for _, v := range ev.fields[field] {
		if v.isText {
			out = append(out, v)
		}
	}
	return out
}

// refHolds decides whether a rule's condition holds for an event.
func refHolds(x expr, ev *refEvent) bool {
	holds := func(x expr) bool { return refHolds(x, ev) }
	switch t := x.(type) {
	case allOf:
		return !slices.ContainsFunc(t, func(x expr) bool { return !holds(x) })
	case anyOf:
		return slices.ContainsFunc(t, holds)
	case eachOf:
		return slices.ContainsFunc(t, holds)
	case named:
		return holds(t.x)
	case notOf:
		return !holds(t.x)
	case *existsTest:
		_, there := ev.fields[t.field]
		return (there || ev.empty[t.field]) == t.want
	case *fieldTest:
		return refField(t, ev) != t.neq
	case *keywordTest:
		anywhere := func(m matcher) bool {
			for _, values := range ev.fields {
				if slices.ContainsFunc(values, func(v refValue) bool { return v.isText && refMatches(m, v) }) {
					return true
				}
			}
			return false
		}
		return slices.ContainsFunc(t.matchers, anywhere)
	case *refTest:
		return refRef(t, ev) != t.neq
	}
	panic(fmt.Sprintf("an expression of type %T", x))
}

func refField(t *fieldTest, ev *refEvent) bool {
	if t.null && !slices.ContainsFunc(ev.fields[t.field], func(v refValue) bool { return !v.isNull }) {
		return true
	}
	some := func(m matcher) bool {
		return slices.ContainsFunc(ev.texts(t.field), func(v refValue) bool { return refMatches(m, v) })
	}
	if t.all {
		return len(t.matchers) > 0 && !slices.ContainsFunc(t.matchers, func(m matcher) bool { return !some(m) })
	}
	return slices.ContainsFunc(t.matchers, some)
}

func refRef(t *refTest, ev *refEvent) bool {
	for _, other := range t.others {
		for _, w := range ev.texts(other) {
			for _, v := range ev.texts(t.field) {
				a, b := v.lower, w.lower
				if t.cased {
					a, b = v.text, w.text
				}
				if map[string]func(string, string) bool{
					"": func(a, b string) bool { return a == b }, "contains": strings.Contains,
					"startswith": strings.HasPrefix, "endswith": strings.HasSuffix,
				}[t.verb](a, b) {
					return true
				}
			}
		}
	}
	return false
}

func refMatches(m matcher, v refValue) bool {
	switch m := m.(type) {
	case patternMatcher:
		text := v.lower
		if m.cased {
			text = v.text
		}
		return refPattern(m.pattern, text)
	case numberMatcher:
		f, ok := refNumber(v.text)
		return ok && f == m.number
	case compareMatcher:
		f, ok := refNumber(v.text)
		return ok && map[string]bool{"gt": f > m.number, "gte": f >= m.number, "lt": f < m.number, "lte": f <= m.number}[m.op]
	case regexpMatcher:
		return m.re.MatchString(v.text)
	case cidrMatcher:
		addr, err := netip.ParseAddr(v.text)
		return err == nil && m.prefix.Contains(addr.Unmap().WithZone(""))
	case timeMatcher:
		at, err := time.Parse(time.RFC3339, v.text)
		_, week := at.UTC().ISOWeek()
		return err == nil && m.number == map[string]int{
			"minute": at.UTC().Minute(), "hour": at.UTC().Hour(), "day": at.UTC().Day(),
			"week": week, "month": int(at.UTC().Month()), "year": at.UTC().Year(),
		}[m.part]
	}
	panic(fmt.Sprintf("a matcher of type %T", m))
}

func refNumber(s string) (float64, bool) {
	s = strings.TrimSpace(s)
	if hex, ok := strings.CutPrefix(strings.ToLower(s), "0x"); ok {
		u, err := strconv.ParseUint(hex, 16, 64)
		return float64(u), err == nil
	}
	if s == "" || !strings.ContainsRune("+-.0123456789", rune(s[0])) || strings.Contains(strings.ToLower(s), "inf") || len(s) > 64 {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil
}

// refPattern decides a pattern: text without wildcards by what strings has for
// it, any other character by character.
func refPattern(p *pattern, s string) bool {
	if p.isPlain {
		switch {
		case p.head && p.tail:
			return s == p.plain
		case p.head:
			return strings.HasPrefix(s, p.plain)
		case p.tail:
			return strings.HasSuffix(s, p.plain)
		}
		return strings.Contains(s, p.plain)
	}
	var cs []char
	for i, seg := range p.segments {
		if i > 0 || !p.head {
			cs = append(cs, char{kind: anyText})
		}
		cs = append(cs, seg...)
	}
	if !p.tail {
		cs = append(cs, char{kind: anyText})
	}
	return glob(cs, []rune(s))
}

// glob matches a pattern with wildcards. Where it fails it goes back to the last
// star, which then takes one character more.
func glob(cs []char, s []rune) bool {
	i, j, star, mark := 0, 0, -1, 0
	for j < len(s) {
		switch {
		case i < len(cs) && cs[i].kind == anyText:
			star, mark = i, j
			i++
		case i < len(cs) && one(cs[i], s[j]):
			i++
			j++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	for i < len(cs) && cs[i].kind == anyText {
		i++
	}
	return i == len(cs)
}

// one reports whether a place of a pattern takes a character.
func one(c char, r rune) bool {
	return c.kind == anyOne || c.kind == anyDash && strings.ContainsRune(dashes, r) || c.kind == literal && c.r == r
}

// slowMatch is the definition of wildcards: every way of cutting is tried.
func slowMatch(cs []char, s []rune) bool {
	states := map[int]bool{0: true}
	widen := func() {
		for i := range cs {
			if states[i] && cs[i].kind == anyText {
				states[i+1] = true
			}
		}
	}
	widen()
	for _, r := range s {
		next := map[int]bool{}
		for i := range states {
			if i == len(cs) {
				continue
			}
			switch {
			case cs[i].kind == anyText:
				next[i] = true
			case one(cs[i], r):
				next[i+1] = true
			}
		}
		if states = next; len(states) == 0 {
			return false
		}
		widen()
	}
	return states[len(cs)]
}
