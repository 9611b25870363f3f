package detect

import (
	"bytes"
	"slices"
	"strings"
)

// Taxonomy says of which logsources an event is by what it holds, and which of
// its fields go by another name in Sigma's taxonomy.
type Taxonomy []Mapping

// Mapping is one entry of a taxonomy. An event may fit several: a process
// creation is also an event of its log.
type Mapping struct {
	Source Logsource
	// When names fields, each of which must have one of the values; case is
	// ignored. A mapping without any fits every event.
	When map[string][]string
	// Fields gives, by Sigma's name of a field, the field that events have
	// instead. It counts where the event has no field of Sigma's name.
	Fields map[string]string
}

// fields are the names that the taxonomy needs to know of an event.
func (t Taxonomy) fields() (out []string) {
	for _, m := range t {
		for field := range m.When {
			out = append(out, field)
		}
		for to, from := range m.Fields {
			out = append(out, to, from)
		}
	}
	return out
}

// boundTaxonomy is a taxonomy whose fields are known by number.
type boundTaxonomy struct {
	asked    []int32 // the fields that some mapping asks for
	mappings []boundMapping
}

type boundMapping struct {
	source  Logsource
	when    []boundCondition
	aliases []alias
}

type boundCondition struct {
	field  int32
	values []string // lower case
}

func (t Taxonomy) bind(names *vocabulary) (b boundTaxonomy) {
	for _, m := range t {
		bound := boundMapping{source: m.Source}
		for field, values := range m.When {
			c := boundCondition{field: names.ids[field]}
			for _, v := range values {
				c.values = append(c.values, strings.ToLower(v))
			}
			bound.when = append(bound.when, c)
			b.asked = append(b.asked, c.field)
		}
		for to, from := range m.Fields {
			bound.aliases = append(bound.aliases, alias{names.ids[to], names.ids[from]})
		}
		slices.SortFunc(bound.aliases, func(x, y alias) int { return int(x.to - y.to) })
		b.mappings = append(b.mappings, bound)
	}
	slices.Sort(b.asked)
	b.asked = slices.Compact(b.asked)
	return b
}

// classify returns the route of the event in the record. Events that hold the
// same in the fields that the taxonomy asks for go the same way, so it is
// worked out once.
func (m *machine) classify(t *boundTaxonomy) *route {
	r := m.record
	m.key = append(m.key[:0], 1)
	for _, field := range t.asked {
		for at := r.first[field]; at != 0; at = r.values[at].next {
			if r.values[at].kind >= textValue {
				m.key = append(m.key, r.text(at)...)
				m.key = append(m.key, 2)
			}
		}
		m.key = append(m.key, 3)
	}
	if rt := m.routes[string(m.key)]; rt != nil {
		return rt
	}
	var sources []Logsource
	var aliases []alias
	for _, mp := range t.mappings {
		if slices.ContainsFunc(mp.when, func(c boundCondition) bool { return !c.fits(r) }) {
			continue
		}
		if !slices.Contains(sources, mp.source) {
			sources = append(sources, mp.source)
		}
		aliases = append(aliases, mp.aliases...)
	}
	rt := m.newRoute(sources)
	rt.aliases = aliases
	if len(m.key) <= maxRouteKey {
		m.remember(rt)
	}
	return rt
}

// maxRouteKey is the longest key of a route that is remembered.
const maxRouteKey = 512

func (c *boundCondition) fits(r *record) bool {
	for at := r.first[c.field]; at != 0; at = r.values[at].next {
		if r.values[at].kind >= textValue && slices.ContainsFunc(c.values, func(v string) bool { return bytes.Equal(r.lower(at), []byte(v)) }) {
			return true
		}
	}
	return false
}
