package detect

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"pasban"
)

// detection is a rule's search identifiers and the condition over them.
type detection struct {
	condition expr
}

func (d *detection) match(ev pasban.Event) bool { return d.condition.eval(ev) }

// explain says why the event matches: the tests that hold, in words. First come
// those that tell more than a value that the rule names itself, then the fields
// of interest, then the rest.
func (d *detection) explain(ev pasban.Event, fields []string) []string {
	var telling, plain []string
	for _, why := range d.condition.explain(ev, nil) {
		if strings.Contains(why, `": "`) {
			telling = append(telling, why)
		} else {
			plain = append(plain, why)
		}
	}
	for _, field := range fields {
		values, _ := lookup(ev, field)
		var texts []string
		for _, v := range values {
			if text, ok := asText(v); ok {
				texts = append(texts, clip(text))
			}
		}
		if len(texts) > 0 {
			telling = append(telling, field+": "+strings.Join(texts, ", "))
		}
	}
	if telling = append(telling, plain...); len(telling) == 0 {
		return []string{"nothing that the rule excludes is there"}
	}
	return telling
}

// test is a part of a search identifier.
type test interface {
	match(ev pasban.Event) bool
	// explain appends the reasons why a matching event matches.
	explain(ev pasban.Event, why []string) []string
}

// allOf is a mapping: every field must match.
type allOf []test

func (l allOf) match(ev pasban.Event) bool {
	return !slices.ContainsFunc(l, func(t test) bool { return !t.match(ev) })
}

func (l allOf) explain(ev pasban.Event, why []string) []string {
	for _, t := range l {
		why = t.explain(ev, why)
	}
	return why
}

// anyOf is a list: one of its parts must match.
type anyOf []test

func (l anyOf) match(ev pasban.Event) bool {
	return slices.ContainsFunc(l, func(t test) bool { return t.match(ev) })
}

func (l anyOf) explain(ev pasban.Event, why []string) []string {
	for _, t := range l {
		if t.match(ev) {
			return t.explain(ev, why)
		}
	}
	return why
}

// fieldTest asks for the values of one field.
type fieldTest struct {
	field    string
	matchers []matcher
	all      bool // every matcher must find a value, instead of one
	null     bool // null is among the values asked for
	neq      bool // the opposite is asked for
}

func (t *fieldTest) match(ev pasban.Event) bool {
	_, ok := t.find(ev)
	return ok != t.neq
}

// find returns the reason for which the field's values match.
func (t *fieldTest) find(ev pasban.Event) (string, bool) {
	values, _ := lookup(ev, t.field)
	if t.null && !slices.ContainsFunc(values, func(v any) bool { return v != nil }) {
		return "is not there", true
	}
	var first string
	for _, m := range t.matchers {
		got, ok := matchAny(m, values)
		switch {
		case ok && !t.all:
			return got, true
		case !ok && t.all:
			return "", false
		case ok && first == "":
			first = got
		}
	}
	return first, t.all && len(t.matchers) > 0
}

func matchAny(m matcher, values []any) (string, bool) {
	for _, v := range values {
		text, ok := asText(v)
		if !ok || !m.match(text, strings.ToLower(text)) {
			continue
		}
		words := m.words()
		if words != fmt.Sprintf("is %q", text) && words != "is "+text {
			words += ": " + clip(text)
		}
		return words, true
	}
	return "", false
}

// clip shortens a value for a sentence.
func clip(s string) string {
	const limit = 120
	if r := []rune(s); len(r) > limit {
		return strconv.Quote(string(r[:limit]) + "…")
	}
	return strconv.Quote(s)
}

func (t *fieldTest) explain(ev pasban.Event, why []string) []string {
	if t.neq {
		return append(why, t.field+" is none of the values excluded")
	}
	if words, ok := t.find(ev); ok {
		why = append(why, t.field+" "+words)
	}
	return why
}

// keywordTest asks for texts anywhere in the event.
type keywordTest struct {
	matchers []matcher
	all      bool
}

func (t *keywordTest) match(ev pasban.Event) bool {
	has := func(m matcher) bool {
		return !allTexts(ev, func(s string) bool { return !m.match(s, strings.ToLower(s)) })
	}
	if t.all {
		return !slices.ContainsFunc(t.matchers, func(m matcher) bool { return !has(m) })
	}
	return slices.ContainsFunc(t.matchers, has)
}

func (t *keywordTest) explain(ev pasban.Event, why []string) []string {
	for _, m := range t.matchers {
		if (&keywordTest{matchers: []matcher{m}}).match(ev) {
			why = append(why, "the event "+m.words())
			if !t.all {
				break
			}
		}
	}
	return why
}

// existsTest asks whether a field is there.
type existsTest struct {
	field string
	want  bool
}

func (t *existsTest) match(ev pasban.Event) bool {
	_, ok := lookup(ev, t.field)
	return ok == t.want
}

func (t *existsTest) explain(_ pasban.Event, why []string) []string {
	if t.want {
		return append(why, t.field+" is there")
	}
	return append(why, t.field+" is not there")
}

// refTest compares a field with another of the same event.
type refTest struct {
	field, verb string
	others      []string
	cased, neq  bool
}

func (t *refTest) match(ev pasban.Event) bool {
	values, _ := lookup(ev, t.field)
	for _, other := range t.others {
		wanted, _ := lookup(ev, other)
		for _, w := range wanted {
			text, ok := asText(w)
			if !ok {
				continue
			}
			m, _ := stringMatcher(t.verb, text, literals(text), t.cased)
			if _, ok := matchAny(m, values); ok {
				return !t.neq
			}
		}
	}
	return t.neq
}

func (t *refTest) explain(_ pasban.Event, why []string) []string {
	words := "is"
	if t.neq {
		words = "is not"
	}
	return append(why, fmt.Sprintf("%s %s as the field %s says", t.field, words, strings.Join(t.others, " or ")))
}

// modifiers in use for one field.
type modifiers struct {
	names  []string
	verb   string // "", contains, startswith or endswith
	all    bool
	cased  bool
	neq    bool
	exists bool
	ref    bool
	kind   string // re, cidr, gt…, minute…: what the value is, if not a string
	flags  string // of re
	encode []string
	dash   bool
}

var (
	verbModifiers   = []string{"contains", "startswith", "endswith"}
	encodeModifiers = []string{"base64", "base64offset", "wide", "utf16le", "utf16be", "utf16"}
	kindModifiers   = []string{"re", "cidr", "gt", "gte", "lt", "lte", "minute", "hour", "day", "week", "month", "year"}
	otherModifiers  = []string{"all", "cased", "exists", "neq", "windash", "fieldref", "i", "m", "s", "ignorecase", "multiline", "dotall", "expand"}
)

// modifiers reads the part of a key after the field's name.
func (p *parser) modifiers(key *node, names []string) (m modifiers, ok bool) {
	before := len(p.problems)
	m.names = names
	for _, name := range names {
		switch {
		case slices.Contains(verbModifiers, name):
			if m.verb != "" {
				p.problem(key, key.text, "", "%s and %s exclude each other", m.verb, name)
			}
			m.verb = name
		case slices.Contains(encodeModifiers, name):
			m.encode = append(m.encode, name)
		case slices.Contains(kindModifiers, name):
			if m.kind != "" {
				p.problem(key, key.text, "", "%s and %s exclude each other", m.kind, name)
			}
			m.kind = name
		default:
			p.otherModifier(key, name, &m)
		}
	}
	special := 0
	for _, on := range []bool{m.kind != "", m.exists, m.verb != "" || m.dash || len(m.encode) > 0} {
		if on {
			special++
		}
	}
	if special > 1 {
		p.problem(key, key.text, "", "the modifiers %s do not go together", strings.Join(names, ", "))
	}
	return m, len(p.problems) == before
}

func (p *parser) otherModifier(key *node, name string, m *modifiers) {
	switch name {
	case "all":
		m.all = true
	case "cased":
		m.cased = true
	case "exists":
		m.exists = true
	case "neq":
		m.neq = true
	case "windash":
		m.dash = true
	case "fieldref":
		m.ref = true
	case "i", "m", "s", "ignorecase", "multiline", "dotall":
		if m.kind != "re" {
			p.problem(key, key.text, "", "the modifier %s follows re", name)
		}
		m.flags += map[string]string{"ignorecase": "i", "multiline": "m", "dotall": "s"}[name]
		if len(name) == 1 {
			m.flags += name
		}
	case "expand":
		p.problem(key, key.text, "write the values out", "the modifier expand needs placeholder values, which rules here do not have")
	default:
		valid := slices.Concat(verbModifiers, encodeModifiers, kindModifiers, otherModifiers[:len(otherModifiers)-1])
		p.problem(key, key.text, nearestOf(name, valid), "unknown modifier %q", name)
	}
}

// matchers turns one written value into what it stands for: usually one
// matcher, three for base64offset. null is true for a null value.
func (p *parser) matchers(key, v *node, m modifiers) (out []matcher, null bool) {
	switch {
	case v.kind == nullNode && m.kind == "" && len(m.encode) == 0 && m.verb == "":
		return nil, true
	case v.kind != scalarNode:
		p.problem(v, key.text, "", "a value is text, a number, true, false or null")
		return nil, false
	case m.kind != "":
		return p.kindMatcher(key, v, m), false
	}
	if v.number && m.verb == "" && len(m.encode) == 0 && !m.dash {
		f, _ := parseNumber(v.text)
		return []matcher{numberMatcher{v.text, f}}, false
	}
	cs := scan(v.text)
	texts := [][]char{cs}
	if len(m.encode) > 0 {
		plain, ok := literalText(cs)
		if !ok {
			p.problem(v, key.text, `write \* for a star`, "an encoded value has no wildcards")
			return nil, false
		}
		texts = texts[:0]
		for _, s := range p.encoded(key, plain, m.encode) {
			texts = append(texts, literals(s))
		}
	}
	for _, cs := range texts {
		if m.dash {
			cs = windash(cs)
		}
		one, err := stringMatcher(m.verb, v.text, cs, m.cased)
		if err != nil {
			p.problem(v, key.text, "", "%v", err)
			return nil, false
		}
		out = append(out, one)
	}
	return out, false
}

// encoded applies the encoding modifiers in their order.
func (p *parser) encoded(key *node, s string, names []string) []string {
	texts := []string{s}
	for i, name := range names {
		var next []string
		for _, s := range texts {
			switch name {
			case "base64":
				next = append(next, base64.StdEncoding.EncodeToString([]byte(s)))
			case "base64offset":
				next = append(next, base64Offsets(s)...)
			case "wide", "utf16le":
				next = append(next, utf16Bytes(s, false, false))
			case "utf16be":
				next = append(next, utf16Bytes(s, true, false))
			case "utf16":
				next = append(next, utf16Bytes(s, false, true))
			}
		}
		if name != "base64" && name != "base64offset" && i == len(names)-1 {
			p.problem(key, key.text, "follow it by base64 or base64offset", "the modifier %s makes bytes that no field of text holds", name)
		}
		texts = next
	}
	return texts
}

// stringMatcher matches text whole, or by verb at its start, end or anywhere.
func stringMatcher(verb, text string, cs []char, cased bool) (matcher, error) {
	many := char{kind: anyText}
	words := map[string]string{"": "is", "contains": "contains", "startswith": "starts with", "endswith": "ends with"}[verb]
	if verb == "contains" || verb == "endswith" {
		cs = slices.Concat([]char{many}, cs)
	}
	if verb == "contains" || verb == "startswith" {
		cs = slices.Concat(cs, []char{many})
	}
	if verb != "" && len(cs) <= 2 && !slices.ContainsFunc(cs, func(c char) bool { return c.kind != anyText }) {
		return nil, fmt.Errorf("%s with an empty value matches everything", verb)
	}
	p := newPattern(text, cs, cased)
	if verb == "" && (!p.head || !p.tail || !p.isPlain) {
		words = "is like"
	}
	return patternMatcher{p, words}, nil
}

func (p *parser) kindMatcher(key, v *node, m modifiers) []matcher {
	switch m.kind {
	case "re":
		expr := v.text
		if m.flags != "" {
			expr = "(?" + m.flags + ")" + expr
		}
		re, err := regexp.Compile(expr)
		if err != nil {
			p.problem(v, key.text, "regular expressions are RE2: no look-around, no back-references", "%v", err)
			return nil
		}
		return []matcher{regexpMatcher{re}}
	case "cidr":
		prefix, err := netip.ParsePrefix(v.text)
		if err != nil {
			p.problem(v, key.text, "for example 192.0.2.0/24", "%q is not a network", v.text)
			return nil
		}
		return []matcher{cidrMatcher{prefix.Masked()}}
	case "gt", "gte", "lt", "lte":
		f, ok := parseNumber(v.text)
		if !ok {
			p.problem(v, key.text, "", "%q is not a number", v.text)
			return nil
		}
		return []matcher{compareMatcher{m.kind, f, v.text}}
	}
	n, err := strconv.Atoi(v.text)
	if err != nil {
		p.problem(v, key.text, "", "%q is not a whole number", v.text)
		return nil
	}
	return []matcher{timeMatcher{m.kind, n}}
}
