package logs

import (
	"slices"
	"strings"

	"pasban"
	"pasban/internal/detect"
)

// ocsfVersion is the version of the schema that mappings/ocsf.yml names.
const ocsfVersion = "1.2.0"

// ocsfMap says which class an event is of and where its attributes are.
type ocsfMap struct {
	Every   map[string][]string
	Classes []ocsfClass
}

type ocsfClass struct {
	Class      int
	Of         []detect.Logsource
	Where      map[string][]string
	Activity   int
	Attributes map[string][]string
}

// OCSF adds the attributes of the Open Cybersecurity Schema Framework to an
// event: class_uid and what belongs to it, metadata, and the class's attributes
// as far as the event has them. An event of no class that is known is a Base
// Event (class 0). What the event has under a name already stays; an event that
// is OCSF itself stays as it is.
func (m *Mapping) OCSF(ev pasban.Event) {
	if _, has := ev["class_uid"]; has {
		return
	}
	class := m.ocsfClass(ev)
	put(ev, "class_uid", int64(class.Class))
	put(ev, "category_uid", int64(class.Class/1000))
	put(ev, "activity_id", int64(class.Activity))
	put(ev, "type_uid", int64(class.Class*100+class.Activity))
	put(ev, "severity_id", int64(0)) // a log's own severities do not mean the same
	put(ev, "metadata.version", ocsfVersion)
	for _, attributes := range []map[string][]string{class.Attributes, m.ocsf.Every} {
		for name, fields := range attributes {
			for _, f := range fields {
				if v, ok := at(ev, f); ok && scalar(v) {
					put(ev, name, v)
					break
				}
			}
		}
	}
}

func (m *Mapping) ocsfClass(ev pasban.Event) ocsfClass {
	var sources []detect.Logsource
	switch s := ev[detect.LogsourceKey].(type) {
	case detect.Logsource:
		sources = []detect.Logsource{s}
	case []detect.Logsource:
		sources = s
	}
	for _, c := range m.ocsf.Classes {
		of := slices.ContainsFunc(sources, func(s detect.Logsource) bool {
			return slices.ContainsFunc(c.Of, func(o detect.Logsource) bool { return o.Covers(s) })
		})
		for field, values := range c.Where {
			of = of && slices.Contains(values, text(ev[field]))
		}
		if of {
			return c
		}
	}
	return ocsfClass{}
}

// scalar reports whether a value is one: an object could be put into itself.
func scalar(v any) bool {
	switch v.(type) {
	case nil, map[string]any, []any:
		return false
	}
	return true
}

// put sets a dotted path if nothing is there, in the objects that are there
// already. It replaces nothing.
func put(ev map[string]any, where string, v any) {
	first, rest, deeper := strings.Cut(where, ".")
	if !deeper {
		if _, has := ev[where]; !has {
			ev[where] = v
		}
		return
	}
	inner, has := ev[first]
	if !has {
		inner = map[string]any{}
		ev[first] = inner
	}
	if m, ok := inner.(map[string]any); ok {
		put(m, rest, v)
	}
}
