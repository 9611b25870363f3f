package detect

import (
	"encoding/base64"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// detection is a rule's search identifiers and the condition over them.
type detection struct {
	condition expr
}

// clip shortens a value for a sentence.
func clip(s string) string {
	const limit = 120
	if r := []rune(s); len(r) > limit {
		return strconv.Quote(string(r[:limit]) + "…")
	}
	return strconv.Quote(s)
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
	expand bool
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
		m.expand = true
	default:
		valid := slices.Concat(verbModifiers, encodeModifiers, kindModifiers, otherModifiers)
		p.problem(key, key.text, nearestOf(name, valid), "unknown modifier %q", name)
	}
}

// matchers turns one written value into what it stands for: usually one
// matcher, several for base64offset and expand. null is true for a null value.
func (p *parser) matchers(key, v *node, m modifiers) (out []matcher, null bool) {
	switch {
	case m.expand && v.kind == scalarNode:
		m.expand = false
		for _, v := range p.expand(key, v) {
			more, _ := p.matchers(key, v, m)
			out = append(out, more...)
		}
		return out, false
	case v.kind == nullNode && m.kind == "" && len(m.encode) == 0 && m.verb == "":
		return nil, true
	case v.kind != scalarNode:
		p.problem(v, key.text, "", "a value is text, a number, true, false or null")
		return nil, false
	case m.kind != "":
		return p.kindMatcher(key, v, m), false
	}
	if v.number && m.verb == "" && len(m.encode) == 0 && !m.dash {
		f, _ := parseNumber([]byte(v.text))
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
		out = append(out, stringMatcher(m.verb, v.text, cs, m.cased))
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
func stringMatcher(verb, text string, cs []char, cased bool) matcher {
	many := char{kind: anyText}
	words := map[string]string{"": "is", "contains": "contains", "startswith": "starts with", "endswith": "ends with"}[verb]
	if verb == "contains" || verb == "endswith" {
		cs = slices.Concat([]char{many}, cs)
	}
	if verb == "contains" || verb == "startswith" {
		cs = slices.Concat(cs, []char{many})
	}
	p := newPattern(text, cs, cased)
	if verb == "" && (!p.head || !p.tail || !p.isPlain) {
		words = "is like"
	}
	return patternMatcher{p, words}
}

func (p *parser) kindMatcher(key, v *node, m modifiers) []matcher {
	switch m.kind {
	case "re":
		expr := v.text
		if m.flags != "" {
			expr = "(?" + m.flags + ")" + expr
		}
		m, err := newRegexpMatcher(expr)
		if err != nil {
			p.problem(v, key.text, "regular expressions are RE2: no look-around, no back-references", "%v", err)
			return nil
		}
		return []matcher{m}
	case "cidr":
		prefix, err := netip.ParsePrefix(v.text)
		if err != nil {
			p.problem(v, key.text, "for example 192.0.2.0/24", "%q is not a network", v.text)
			return nil
		}
		return []matcher{cidrMatcher{prefix.Masked()}}
	case "gt", "gte", "lt", "lte":
		f, ok := parseNumber([]byte(v.text))
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
