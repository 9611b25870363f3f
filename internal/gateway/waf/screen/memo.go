package screen

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/corazawaf/coraza/v3/collection"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types"
	"github.com/corazawaf/coraza/v3/types/variables"
)

// memo remembers for what values of its variables a native rule did not match.
// Beside them it looks at nothing but what constant rules have set, so that it
// will not match for them again.
type memo struct {
	rule    *rule
	targets []target
	guards  []guard
	known   remembered
}

// memorized are the variables that come again with other requests.
var memorized = map[variables.RuleVariable]bool{
	variables.RequestMethod: true, variables.RequestProtocol: true, variables.RequestHeadersNames: true,
	variables.RequestBasename: true, variables.RequestHeaders: true,
}

// memorize finds the native rules of phase 1 that can be remembered.
func (l *light) memorize() {
	for _, r := range l.rules {
		if r.mark == "" && l.roles[r] == native && r.phase == types.PhaseRequestHeaders && !r.asks() && !l.quiet(r) {
			if m := memoOf(r); m != nil {
				l.memos[r] = m
			}
		}
	}
	for changed := true; changed; {
		changed = false
		for r := range l.memos {
			if l.entangled(r) {
				delete(l.memos, r)
				changed = true
			}
		}
	}
}

// entangled reports whether the rule looks at what another native rule sets,
// or sets what another looks at. Where that depends on the names of variables
// that are made of what was sent, it notes what to look out for.
func (l *light) entangled(r *rule) bool {
	m := l.memos[r]
	m.guards = nil
	if slices.ContainsFunc(r.reads(l.quiet(r)), func(rd look) bool { return rd.any(l.given) }) {
		return true
	}
	return slices.ContainsFunc(l.rules, func(o *rule) bool {
		if o == r || o.mark != "" || l.roles[o] != native {
			return false
		}
		if slices.ContainsFunc(r.looks(l.quiet(r)), func(rd look) bool { return rd.any(o.writes(l.quiet(o))) }) {
			return true
		}
		if l.memos[o] != nil {
			return false
		}
		return slices.ContainsFunc(o.looks(l.quiet(o)), func(rd look) bool {
			return rd.any(slices.DeleteFunc(r.writes(false), func(w write) bool {
				if w.prefix && rd.pattern != nil {
					m.guards = append(m.guards, guard{w.key, rd.pattern})
					return true
				}
				return false
			}))
		})
	})
}

// guard is a variable of TX whose name a rule makes of what was sent, and the
// names that another one looks for.
type guard struct {
	prefix  string
	pattern *regexp.Regexp
}

// guarded reports whether none of the variables that the rule has set are for
// others to see.
func (m *memo) guarded(tx plugintypes.TransactionState) bool {
	return len(m.guards) == 0 || !slices.ContainsFunc(tx.Collection(variables.TX).FindAll(), func(v types.MatchData) bool {
		key := strings.ToLower(v.Key())
		return slices.ContainsFunc(m.guards, func(g guard) bool {
			return strings.HasPrefix(key, g.prefix) && (g.pattern.MatchString(key) || g.pattern.MatchString(v.Key()))
		})
	})
}

// looks are the variables of TX that the rule looks at, but for what its own
// expressions have captured just before.
func (r *rule) looks(matching bool) []look {
	captured := 0
	for _, l := range r.links {
		if s, ok := l.operator.(*scan); ok && l.capture && !l.negated {
			captured = max(captured, min(s.groups, 9))
		}
	}
	return slices.DeleteFunc(r.reads(matching), func(rd look) bool {
		n, err := strconv.Atoi(rd.key)
		return err == nil && rd.pattern == nil && n < captured && r.links[0].capture
	})
}

func memoOf(r *rule) *memo {
	m := &memo{rule: r}
	for _, l := range r.links {
		if l.operator == nil || !pure[l.function] || l.foreign() {
			return nil
		}
		for _, a := range l.actions {
			if a.kind == plugintypes.ActionTypeNondisruptive && !harmless[a.name] && a.name != "setvar" || a.kind == plugintypes.ActionTypeFlow && a.name != "chain" {
				return nil
			}
		}
		for _, t := range l.targets {
			switch {
			case t.variable == variables.TX:
			case !memorized[t.variable], t.variable == variables.RequestHeaders && (t.key == "" || t.pattern != nil || secret[strings.ToLower(t.key)]):
				return nil
			default:
				m.targets = append(m.targets, t)
			}
		}
	}
	if len(m.targets) == 0 {
		return nil
	}
	return m
}

// memorable are the memos, and the constant rules that are needed for them alone.
func (l *light) memorable() (memos []*memo, eased []int) {
	for _, r := range l.rules {
		if m := l.memos[r]; m != nil {
			memos = append(memos, m)
		}
		if l.keep[r] && !l.always[r] {
			eased = append(eased, r.id)
		}
	}
	return memos, eased
}

// recall takes the rules out of a light transaction whose outcome is known. It
// is asked when phase 1 begins, and learns when phase 2 does.
func (s *Screen) recall(tx plugintypes.TransactionState) {
	p := tx.LastPhase()
	if p > types.PhaseRequestBody || len(s.memos) == 0 {
		return
	}
	w := s.works.Get().(*work)
	defer s.works.Put(w)
	remover, ok := tx.(interface{ RemoveRuleByID(id int) })
	if !ok {
		return
	}
	whole, ok := tx.(types.Transaction)
	learn := p == types.PhaseRequestBody && ok && s.Clean(whole)
	all := true
	for _, m := range s.memos {
		key, ok := m.key(tx, w)
		switch {
		case p == types.PhaseRequestHeaders && ok && m.known.met(key):
			remover.RemoveRuleByID(m.rule.id)
		case p == types.PhaseRequestHeaders:
			all = false
		case learn && ok && !m.known.met(key) && m.guarded(tx):
			m.known.add(nil, string(key))
		}
	}
	if p == types.PhaseRequestHeaders && all {
		for _, id := range s.eased {
			remover.RemoveRuleByID(id)
		}
	}
}

// key is what the rule looks at, in one text; without ok it is not to be kept.
func (m *memo) key(tx plugintypes.TransactionState, w *work) ([]byte, bool) {
	w.key, w.names = w.key[:0], w.names[:0]
	for _, t := range m.targets {
		col := tx.Collection(t.variable)
		switch c := col.(type) {
		case collection.Single:
			w.names = append(w.names, c.Get())
		case collection.Keyed:
			if t.key != "" {
				w.names = append(w.names, c.Get(t.key)...)
				break
			}
			from := len(w.names)
			for _, found := range c.FindAll() {
				w.names = append(w.names, found.Value())
			}
			slices.Sort(w.names[from:]) // a map has no order
		default:
			return nil, false
		}
		w.names = append(w.names, "\x00")
	}
	for _, n := range w.names {
		w.key = append(append(w.key, n...), '\n')
	}
	return w.key, len(w.key) <= longestKnow && !personal(w.key)
}

// personal reports whether a text has five digits in a row, as the numbers
// have that people are known by.
func personal[T string | []byte](text T) bool {
	run := 0
	for i := range len(text) {
		if c := text[i]; c < '0' || c > '9' {
			run = 0
		} else if run++; run == 5 {
			return true
		}
	}
	return false
}
