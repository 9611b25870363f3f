package detect

import "slices"

// filter narrows rules that others wrote: they hold only for events for which
// its condition holds too. To shut something out, as most filters do, it says
// so: "condition: not selection" (Sigma filters specification, as pySigma
// applies it).
type filter struct {
	names     []string // of the rules, as written; nil for all of the filter's logsource
	condition expr
	at        *node
}

// filter reads the body of a filter.
func (p *parser) filter(r *Rule, n *node) *filter {
	f := &filter{at: n}
	if n.kind != mapNode {
		p.problem(n, "filter", "", "a filter is a mapping of rules, search identifiers and a condition")
		return f
	}
	rules := n.get("rules")
	if any := rules != nil && rules.kind == scalarNode && rules.text == "any"; rules != nil && !any {
		if f.names = p.texts(n, "rules"); len(f.names) == 0 {
			p.problem(n, "filter.rules", "any stands for all rules of the logsource", "the filter names no rules")
		}
	}
	body := *n
	body.entries = slices.DeleteFunc(slices.Clone(n.entries), func(e entry) bool { return e.key.text == "rules" })
	if d := p.detection(r, &body); d != nil {
		f.condition = d.condition
	}
	return f
}

// applyFilters joins the filters' conditions to those of the rules over single
// events. Rules themselves do not change.
func (l *linker) applyFilters() {
	conditions := map[*Rule]expr{}
	for _, r := range l.set.events {
		conditions[r] = r.detection.condition
	}
	for _, r := range l.rules {
		f := r.filter
		if f == nil {
			continue
		}
		var targets []*Rule
		for _, name := range f.names {
			target := l.byName[name]
			switch {
			case target == nil:
				l.complain(r, f.at, "rules are named by id or name", "the filter refers to %q, which is not loaded", name)
			case target.detection == nil:
				l.complain(r, f.at, "filter the rules that it correlates", "the filter refers to %q, which is not a rule over single events", name)
			case !r.Source.Covers(target.Source):
				l.complain(r, f.at, "", "the filter refers to %q, whose events are of another logsource", name)
			default:
				targets = append(targets, target)
			}
		}
		if f.names == nil {
			for _, target := range l.set.events {
				if r.Source.Covers(target.Source) {
					targets = append(targets, target)
				}
			}
		}
		for _, target := range targets {
			conditions[target] = allOf{conditions[target], f.condition}
		}
	}
	for _, r := range l.set.events {
		l.set.conditions = append(l.set.conditions, conditions[r])
	}
}
