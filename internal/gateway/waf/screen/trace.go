package screen

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/corazawaf/coraza/v3"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types"
	"github.com/corazawaf/coraza/v3/types/variables"
)

// Most requests match nothing, and then what is left of a rule set is
// bookkeeping: rules that look at nothing but what rules before them have set
// (levels, thresholds, scores) go the same way every time. The light rule set
// is without those and without all that the screen decides. A transaction of
// it that has matched nothing but quiet rules has the outcome that the whole
// rule set would have; any other is judged by the whole.

// role is what becomes of a rule in the light rule set.
type role uint8

const (
	native    role = iota // it stays: it looks at more than the screen can tell
	decided               // the screen decides it
	constant              // it looks at nothing but what constant rules have set
	droppable             // it only ever spares decided rules something
	dormant               // constant rules skip it
)

// light is the analysis behind a light rule set.
type light struct {
	*analysis
	roles map[*rule]role

	keep   map[*rule]bool  // constant rules that native ones look at the results of
	always map[*rule]bool  // and those that others than memos do
	memos  map[*rule]*memo // native rules whose outcome can be remembered
}

// Compile makes the same rule set with more directives at its end.
type Compile func(more string) (coraza.WAF, error)

// newLight sorts the rules into roles; decidable are those that the screen can
// decide. Its error says why there is no light rule set.
func newLight(of *analysis, decidable map[*rule]bool, compile Compile) (*light, error) {
	l := &light{analysis: of, roles: map[*rule]role{}, memos: map[*rule]*memo{}}
	for _, r := range l.rules {
		switch {
		case r.mark != "" || r.id == 0:
		case r.constant():
			l.roles[r] = constant
		case decidable[r] && !l.quiet(r):
			l.roles[r] = decided
		}
	}
	for _, r := range l.rules {
		if r.mark == "" && l.roles[r] != constant && l.droppable(r) {
			l.roles[r] = droppable
		}
	}
	l.unset()
	l.settle()
	if err := l.trace(compile); err != nil {
		return nil, err
	}
	l.memorize()
	l.keep = l.need(func(*rule) bool { return true })
	l.always = l.need(func(r *rule) bool { return l.memos[r] == nil })
	return l, nil
}

// unset finds the rules that wait for a variable which no rule sets.
func (l *light) unset() {
	writes := slices.Clone(l.given)
	for _, r := range l.rules {
		writes = append(writes, r.writes(true)...)
	}
	for _, r := range l.rules {
		if r.mark != "" || l.roles[r] != native || r.links[0].operator == nil || !pure[r.links[0].function] || r.links[0].foreign() {
			continue
		}
		first := r.links[0]
		if !slices.ContainsFunc(first.targets, func(t target) bool {
			set := t.variable != variables.TX || look{strings.ToLower(t.key), t.pattern, t.key == "" && t.pattern == nil}.any(writes)
			return set || t.count && (len(first.steps) > 0 || strings.Contains(first.data, "%{") || first.operator.Evaluate(quiet{}, "0") != first.negated)
		}) {
			l.roles[r] = dormant
		}
	}
}

// settle takes the role of a constant from rules that look at what native ones
// may set without matching, or may set quietly.
func (l *light) settle() {
	for changed := true; changed; {
		changed = false
		writes := slices.Clone(l.given)
		for _, r := range l.rules {
			if r.mark == "" && l.roles[r] == native {
				writes = append(writes, r.writes(l.quiet(r))...)
			}
		}
		for _, r := range l.rules {
			if l.roles[r] == constant && slices.ContainsFunc(r.reads(true), func(rd look) bool { return rd.any(writes) }) {
				l.roles[r], changed = native, true
			}
		}
	}
}

// trace runs the constant rules alone and finds what they skip. A transaction
// may end after any phase.
func (l *light) trace(compile Compile) error {
	isConstant := func(r *rule) bool { return l.roles[r] == constant }
	matched, err := l.outcomes(isConstant, compile)
	if err != nil {
		return err
	}
	for r := range l.skippers(isConstant, matched[types.PhaseResponseBody]) {
		l.roles[r] = dormant
	}
	return nil
}

// need finds the constant rules that native ones look at the results of, of
// those that are asked for.
func (l *light) need(of func(*rule) bool) map[*rule]bool {
	keep := map[*rule]bool{}
	for changed := true; changed; {
		changed = false
		var reads []look
		for _, r := range l.rules {
			if r.mark == "" && (l.roles[r] == native && of(r) || keep[r]) {
				reads = append(reads, r.reads(keep[r] || l.quiet(r))...)
			}
		}
		for _, r := range l.rules {
			if l.roles[r] == constant && !keep[r] && slices.ContainsFunc(reads, func(rd look) bool { return rd.any(r.writes(true)) }) {
				keep[r], changed = true, true
			}
		}
	}
	return keep
}

// lighter are the directives that make the light rule set of the whole one.
func (l *light) lighter() string {
	markers := true // only rules that skip need them
	for r := range l.keep {
		markers = markers && !slices.ContainsFunc(r.links[0].actions, func(a action) bool { return a.name == "skipafter" })
	}
	return l.removing(func(r *rule) bool { return l.roles[r] != native && !l.keep[r] && !r.asks() }, markers)
}

// harmlessIDs are the rules whose match leaves a light transaction clean.
func (l *light) harmlessIDs() map[int]bool {
	ids := map[int]bool{}
	for _, r := range l.rules {
		if r.mark == "" && !r.asks() && (l.keep[r] || l.roles[r] == native && l.quiet(r)) {
			ids[r.id] = true
		}
	}
	return ids
}

// constant reports whether the rule looks at nothing but TX.
func (r *rule) constant() bool {
	for _, l := range r.links {
		if l.capture || l.operator != nil && !pure[l.function] || l.foreign() {
			return false
		}
		for _, t := range l.targets {
			if t.variable != variables.TX {
				return false
			}
		}
		for _, a := range l.actions {
			switch {
			case a.kind == plugintypes.ActionTypeMetadata, a.kind == plugintypes.ActionTypeData, harmless[a.name]:
			case a.name == "setvar", a.name == "skipafter", a.name == "pass", a.name == "deny", a.name == "block", a.name == "drop":
			default:
				return false
			}
		}
	}
	return true
}

// stops reports whether the rule ends a transaction, or part of it.
func (r *rule) stops() bool {
	return slices.ContainsFunc(r.links, func(l *link) bool {
		return slices.ContainsFunc(l.actions, func(a action) bool { return a.kind == plugintypes.ActionTypeDisruptive && a.name != "pass" })
	})
}

// asks reports whether the rule is one of Directives.
func (r *rule) asks() bool {
	_, ok := r.links[0].operator.(*spare)
	return ok
}

// quiet reports whether a match of the rule changes nothing but variables that
// rules look at and how a body is read.
func (l *light) quiet(r *rule) bool {
	if r.log || r.stops() {
		return false
	}
	for _, k := range r.links {
		for _, a := range k.actions {
			switch {
			case a.kind == plugintypes.ActionTypeMetadata, a.kind == plugintypes.ActionTypeData, harmless[a.name]:
			case a.name == "setvar", a.name == "pass":
			case a.name == "ctl" && (l.kinds[a.key] == "requestBodyProcessor" || l.kinds[a.key] == "forceRequestBodyVariable"):
			default:
				return false
			}
		}
	}
	return true
}

// droppable reports whether the rule does nothing but spare decided rules
// something, or have nothing stopped: without it they are asked more, never
// less.
func (l *light) droppable(r *rule) bool {
	if r.log || r.stops() {
		return false
	}
	spares := false
	for _, k := range r.links {
		if k.capture {
			return false
		}
		for _, a := range k.actions {
			switch {
			case a.kind == plugintypes.ActionTypeMetadata, a.kind == plugintypes.ActionTypeData, harmless[a.name], a.name == "pass":
			case a.name == "ctl" && l.kinds[a.key] == "ruleEngine" && strings.EqualFold(a.value, "DetectionOnly"):
				spares = true // stops nothing where nothing would
			case a.name == "ctl" || a.name == "skip" || a.name == "skipafter":
				affected, ok := l.affected(r, a)
				if !ok || slices.ContainsFunc(affected, func(o *rule) bool { return l.roles[o] != decided }) {
					return false
				}
				spares = true
			default:
				return false
			}
		}
	}
	return spares
}

// write is a variable of TX that is set: a key, or all keys that begin so.
type write struct {
	key    string
	prefix bool
}

// look is a variable of TX that is looked at: a key, or all that match.
type look struct {
	key     string
	pattern *regexp.Regexp
	all     bool
}

func (rd look) any(writes []write) bool {
	return slices.ContainsFunc(writes, func(w write) bool {
		switch {
		case rd.all:
			return true
		case rd.pattern != nil && w.prefix:
			begin, anchored := beginning(rd.pattern)
			return !anchored || strings.HasPrefix(w.key, begin) || strings.HasPrefix(begin, w.key)
		case rd.pattern != nil:
			return rd.pattern.MatchString(w.key)
		case w.prefix:
			return strings.HasPrefix(rd.key, w.key)
		}
		return rd.key == w.key
	})
}

// beginning is what every match of an expression begins with, if it is bound
// to the beginning of the text.
func beginning(re *regexp.Regexp) (text string, anchored bool) {
	rest, anchored := strings.CutPrefix(re.String(), "^")
	if !anchored || strings.ContainsAny(rest, "|(") {
		return "", false
	}
	tail, err := regexp.Compile(rest)
	if err != nil {
		return "", false
	}
	text, _ = tail.LiteralPrefix()
	return text, true
}

// writes are the variables that the rule may set: without matching as a whole,
// or, with matching, by its last link too.
func (r *rule) writes(matching bool) (all []write) {
	for i, l := range r.links {
		if l.capture {
			for n := range 10 {
				all = append(all, write{key: strconv.Itoa(n)})
			}
		}
		if i == len(r.links)-1 && !matching {
			break
		}
		for _, a := range l.actions {
			if a.name == "setvar" {
				key, _, macro := strings.Cut(a.key, "%{")
				all = append(all, write{key, macro})
			}
		}
	}
	return all
}

var macros = regexp.MustCompile(`%\{([^}]*)\}`)

// reads are the variables of TX that the rule looks at: without matching as a
// whole, or, with matching, to do what its last link does too.
func (r *rule) reads(matching bool) (all []look) {
	for i, l := range r.links {
		for _, t := range l.targets {
			if t.variable == variables.TX {
				all = append(all, look{strings.ToLower(t.key), t.pattern, t.key == "" && t.pattern == nil})
			}
		}
		acts := matching || i < len(r.links)-1
		for _, m := range macros.FindAllStringSubmatch(l.macroTexts(acts), -1) {
			if name, key, _ := strings.Cut(strings.ToLower(m[1]), "."); name == "tx" {
				all = append(all, look{key: key, all: key == ""})
			}
		}
		for _, a := range l.actions {
			if acts && a.name == "setvar" && (strings.HasPrefix(a.value, "+") || strings.HasPrefix(a.value, "-")) {
				key, _, macro := strings.Cut(a.key, "%{")
				all = append(all, look{key: key, all: macro})
			}
		}
	}
	return all
}

// foreign reports whether the link expands variables other than those of TX.
func (l *link) foreign() bool {
	return slices.ContainsFunc(macros.FindAllStringSubmatch(l.macroTexts(true), -1), func(m []string) bool {
		return !strings.HasPrefix(strings.ToLower(m[1]), "tx.")
	})
}

// macroTexts are the texts of the link that are expanded: the operator's
// argument and, if it acts, what it sets.
func (l *link) macroTexts(acts bool) string {
	texts := l.data
	if !acts {
		return texts
	}
	for _, a := range l.actions {
		texts += "\n" + a.key + "\n" + a.value
	}
	return texts
}
