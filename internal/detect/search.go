package detect

import (
	"slices"
	"strings"
)

// identifier is one named search identifier of a detection.
type identifier struct {
	name string
	test expr
	key  *node
	used bool // the condition refers to it
}

// detection reads the search identifiers and the condition of a rule.
func (p *parser) detection(r *Rule, n *node) *detection {
	if n.kind != mapNode {
		p.problem(n, "detection", "", "a detection is a mapping of search identifiers and a condition")
		return nil
	}
	var ids []*identifier
	var conditions []*node
	for _, e := range n.entries {
		switch e.key.text {
		case "condition":
			conditions = []*node{e.value}
			if e.value.kind == listNode {
				conditions = e.value.items
			}
		case "timeframe":
			p.problem(e.key, "detection.timeframe", "write a correlation with timespan", "timeframe belongs to the aggregation expressions of Sigma 1")
		default:
			ids = append(ids, &identifier{name: e.key.text, key: e.key, test: named{e.key.text, p.search(r, e.key, e.value)}})
		}
	}
	if len(conditions) == 0 {
		p.problem(n, "detection.condition", "", "the detection has no condition")
		return nil
	}
	var exprs eachOf
	for _, c := range conditions {
		if c.kind != scalarNode {
			p.problem(c, "detection.condition", "", "a condition is text")
			return nil
		}
		x, err := parseCondition(c.text, ids)
		if err != nil {
			p.problem(c, "detection.condition", err.hint, "%s", err.msg)
			continue
		}
		exprs = append(exprs, x)
	}
	if len(exprs) == len(conditions) {
		for _, id := range ids {
			if !id.used {
				p.problem(id.key, "detection."+id.name, "use it in the condition or delete it", "the condition never uses %q", id.name)
			}
		}
	}
	if len(exprs) == 1 {
		return &detection{exprs[0]}
	}
	return &detection{exprs}
}

// search reads one search identifier: a mapping of fields, a list of mappings,
// or keywords.
func (p *parser) search(r *Rule, key, n *node) expr {
	switch n.kind {
	case mapNode:
		return p.fields(r, n)
	case scalarNode:
		return p.keywords(key, []*node{n}, modifiers{})
	case listNode:
		if len(n.items) == 0 {
			break
		}
		var out anyOf
		var words []*node
		for _, item := range n.items {
			switch item.kind {
			case mapNode:
				out = append(out, p.fields(r, item))
			case scalarNode:
				words = append(words, item)
			default:
				p.problem(item, "detection."+key.text, "", "a search identifier lists mappings or keywords")
			}
		}
		if len(words) > 0 {
			out = append(out, p.keywords(key, words, modifiers{}))
		}
		return out
	}
	p.problem(key, "detection."+key.text, "", "the search identifier %q is empty", key.text)
	return anyOf(nil)
}

// keywords reads texts that may stand anywhere in the event.
func (p *parser) keywords(key *node, words []*node, m modifiers) expr {
	if m.verb == "" && m.kind == "" {
		m.verb = "contains"
	}
	var each allOf
	for _, w := range words {
		if w.kind != scalarNode || strings.Trim(w.text, "*") == "" {
			p.problem(w, "detection."+key.text, "", "a keyword is text, and not empty")
			continue
		}
		ms, _ := p.matchers(key, w, m)
		each = append(each, &keywordTest{matchers: ms})
	}
	if m.all {
		return each
	}
	t := &keywordTest{}
	for _, x := range each {
		t.matchers = append(t.matchers, x.(*keywordTest).matchers...)
	}
	return t
}

// fields reads a mapping of fields to values.
func (p *parser) fields(r *Rule, n *node) expr {
	var out allOf
	for _, e := range n.entries {
		name, mods, _ := strings.Cut(e.key.text, "|")
		if name == "" {
			out = append(out, p.unnamed(e, mods))
			continue
		}
		p.knownField(r, e.key, name)
		var names []string
		if mods != "" || strings.Contains(e.key.text, "|") {
			names = strings.Split(mods, "|")
		}
		m, ok := p.modifiers(e.key, names)
		if !ok {
			continue
		}
		out = append(out, p.field(e, name, m))
	}
	if len(n.entries) == 0 {
		p.problem(n, "detection", "", "the mapping is empty")
	}
	return out
}

// knownField refuses a field that Pasban's own events never have.
func (p *parser) knownField(r *Rule, key *node, name string) {
	if r.Source.Product != Product {
		return
	}
	known := fieldNames()
	if !slices.Contains(known, name) && !strings.Contains(name, ".") && !slices.Contains(ocsfKeys, name) {
		p.problem(key, name, nearestOf(name, known), "Pasban's events have no field %q", name)
	}
}

// unnamed reads keywords with modifiers: '|all': [...].
func (p *parser) unnamed(e entry, mods string) expr {
	m, ok := p.modifiers(e.key, strings.Split(mods, "|"))
	if !ok {
		return anyOf(nil)
	}
	if m.exists || m.ref || m.neq || m.kind != "" && m.kind != "re" {
		p.problem(e.key, e.key.text, "for example |all or |re", "keywords are of no field: the modifiers %s say nothing about them", mods)
		return anyOf(nil)
	}
	words := e.value.items
	if e.value.kind == scalarNode {
		words = []*node{e.value}
	}
	if len(words) == 0 {
		p.problem(e.key, e.key.text, "", "there are no keywords")
	}
	return p.keywords(e.key, words, m)
}

// field reads the values of one field.
func (p *parser) field(e entry, name string, m modifiers) expr {
	values := []*node{e.value}
	if e.value.kind == listNode {
		values = e.value.items
	}
	if len(values) == 0 {
		p.problem(e.key, e.key.text, "", "the field has no values")
	}
	switch {
	case m.exists:
		if len(values) != 1 || values[0].text != "true" && values[0].text != "false" {
			p.problem(e.key, e.key.text, "", "exists is true or false")
			return anyOf(nil)
		}
		return &existsTest{name, (values[0].text == "true") != m.neq}
	case m.ref:
		t := &refTest{field: name, verb: m.verb, cased: m.cased, neq: m.neq}
		for _, v := range values {
			if v.kind != scalarNode || v.text == "" {
				p.problem(v, e.key.text, "", "fieldref names a field")
			}
			t.others = append(t.others, v.text)
		}
		return t
	}
	t := &fieldTest{field: name, all: m.all, neq: m.neq}
	var each allOf
	for _, v := range values {
		ms, null := p.matchers(e.key, v, m)
		t.null = t.null || null
		if m.all && len(ms) > 1 { // all of several base64offset values: any offset of each
			each = append(each, &fieldTest{field: name, matchers: ms})
			continue
		}
		t.matchers = append(t.matchers, ms...)
	}
	if len(each) == 0 {
		return t
	}
	t.neq = false
	if len(t.matchers) > 0 || t.null {
		each = append(each, t)
	}
	if m.neq {
		return notOf{each}
	}
	return each
}
