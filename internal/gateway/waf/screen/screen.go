// Package screen tells which rules of a loaded Coraza rule set cannot match a
// request, so that Coraza need not evaluate them.
//
// [New] reads the rules as Coraza has loaded them, with every default,
// exclusion and update, and finds the links that can be decided from what a
// request or an answer contains: targets, transformations and operators are
// the loaded ones. A [Screen] decides them at the beginning of a phase: each
// value is transformed once for each distinct text, and one automaton answers
// for many expressions. Rules of [Directives], which go before all others, take
// out of a transaction every rule of which a link is proven to fail.
//
// [Rules] is a rule set with Coraza's @rx, @pm and @pmFromFile exchanged for
// operators of this package, which decide the same and show what they look for.
//
// # Guarantees
//
// Leaving a rule out changes nothing: it would not have matched, and its links
// before the failing one leave nothing behind. A rule that cannot be analysed
// is never left out. If the rules cannot be read, or if one of them can see
// which others were evaluated, nothing is left out at all. Memory is bounded.
//
// # What this package must never do
//
// It does not match rules: whatever may match is Coraza's to decide.
package screen

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/corazawaf/coraza/v3"
	"github.com/corazawaf/coraza/v3/collection"
	"github.com/corazawaf/coraza/v3/debuglog"
	"github.com/corazawaf/coraza/v3/experimental"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types"
	"github.com/corazawaf/coraza/v3/types/variables"
)

// Screen is the analysis of one rule set. It is safe for concurrent use.
type Screen struct {
	// Whole is the rule set without the rules that never match; Untrimmed says why
	// it has them if they cannot be told.
	Whole     coraza.WAF
	Untrimmed error
	// Light is the rule set for requests that match nothing, nil if there is
	// none; Why says why then.
	Light coraza.WAF
	Why   error

	phases   [types.PhaseResponseBody + 1]*phase
	harmless map[int]bool   // rules that a clean transaction of Light may match
	counted  map[*rule]bool // rules that others count: they are never taken out
	memos    []*memo        // of native rules of phase 1
	eased    []int          // constant rules that only those look at the results of
	works    sync.Pool
	passed   passed
}

// phase is what can be told of the rules of one phase.
type phase struct {
	program *program
	rules   []screened
	known   remembered
}

// screened is a rule and the conditions that must all hold for it to match.
type screened struct {
	*rule
	conditions []int
}

// New analyses the rules of w and arms the operators in them that ask the
// screen. given are the variables of TX that are set before the first rule.
// compile makes the same rule set again. Its error says why nothing can
// be told.
func New(w coraza.WAF, given []string, compile Compile) (*Screen, error) {
	rules, err := read(w)
	if err != nil {
		return nil, err
	}
	if err := unseen(rules); err != nil {
		return nil, err
	}
	an, err := analyse(rules, given)
	if err != nil {
		return nil, err
	}
	s := &Screen{counted: an.counted()}
	s.works.New = func() any { return &work{} }
	conditions := s.decidable(rules)
	if s.Why = s.lighten(an, conditions, compile); s.Why == nil {
		// Rules that ordinary requests come near to are cheaper evaluated than
		// asked about in vain.
		near, err := s.near()
		if err != nil {
			return nil, err
		}
		for r := range near {
			delete(conditions, r)
		}
		s.Why = s.lighten(an, conditions, compile)
	}
	if s.Why != nil {
		if err := s.arrange(rules, conditions); err != nil {
			return nil, err
		}
	}
	arm(rules, func(sp *spare) { sp.screen = s })
	s.Whole = w
	s.Untrimmed = s.trim(an, compile)
	return s, nil
}

// lighten makes the light rule set and leaves to the screen what it must
// decide beside it.
func (s *Screen) lighten(an *analysis, conditions map[*rule][]*link, compile Compile) error {
	decidable, decides := map[*rule]bool{}, map[*rule][]*link{}
	for r := range conditions {
		decidable[r] = true
	}
	l, err := newLight(an, decidable, compile)
	if err != nil {
		return err
	}
	for r, links := range conditions {
		if l.roles[r] == decided {
			decides[r] = links
		}
	}
	if err := s.arrange(an.rules, decides); err != nil {
		return err
	}
	w, err := compile(l.lighter())
	if err != nil {
		return err
	}
	own, err := read(w)
	if err != nil {
		return err
	}
	arm(own, func(sp *spare) { sp.screen, sp.tells = s, true })
	if c, ok := s.Light.(experimental.WAFCloser); ok {
		c.Close() // of an earlier attempt
	}
	s.Light, s.harmless = w, l.harmlessIDs()
	s.memos, s.eased = l.memorable()
	return nil
}

// arrange makes the programs of all phases.
func (s *Screen) arrange(rules []*rule, conditions map[*rule][]*link) (err error) {
	for p := range s.phases {
		if s.phases[p], err = newPhase(types.RulePhase(p), rules, conditions); err != nil {
			return err
		}
	}
	return nil
}

func arm(rules []*rule, set func(*spare)) {
	for _, r := range rules {
		for _, l := range r.links {
			if sp, ok := l.operator.(*spare); ok {
				set(sp)
			}
		}
	}
}

// decidable are the rules with links that can be decided when their phase
// begins, and those links.
func (s *Screen) decidable(rules []*rule) map[*rule][]*link {
	narrowed := targeted(rules)
	all := map[*rule][]*link{}
	for _, r := range rules {
		if !r.judges() {
			continue
		}
		of := slices.DeleteFunc(conditionsOf(r), func(l *link) bool {
			return slices.ContainsFunc(l.targets, func(t target) bool { return t.count && narrowed[t.variable] })
		})
		if len(of) > 0 {
			all[r] = of
		}
	}
	return all
}

// newPhase arranges what is to be decided of one phase's rules.
func newPhase(p types.RulePhase, rules []*rule, conditions map[*rule][]*link) (*phase, error) {
	ph := &phase{}
	var links []*link
	for _, r := range rules {
		of := conditions[r]
		if r.phase != p || len(of) == 0 {
			continue
		}
		sc := screened{rule: r}
		for _, l := range of {
			sc.conditions = append(sc.conditions, len(links))
			links = append(links, l)
		}
		ph.rules = append(ph.rules, sc)
	}
	if ph.program = newProgram(links); ph.program == nil {
		return nil, fmt.Errorf("phase %d has more than %d chains of transformations", p, mostChains)
	}
	return ph, nil
}

// Clean reports whether a transaction of the light rule set has so far the
// outcome that one of the whole rule set would have: no rule that is logged or
// that stops a request has matched.
func (s *Screen) Clean(tx types.Transaction) bool {
	return !tx.IsInterrupted() && !slices.ContainsFunc(tx.MatchedRules(), func(m types.MatchedRule) bool { return !s.harmless[m.Rule().ID()] })
}

// targeted are the variables of which a rule may leave values out for others
// while requests are inspected: how many there are depends on it.
func targeted(rules []*rule) map[variables.RuleVariable]bool {
	all := map[variables.RuleVariable]bool{}
	for _, r := range rules {
		for _, l := range r.links {
			for _, a := range l.actions {
				if a.name == "ctl" && a.ctl.variable != variables.Unknown {
					all[a.ctl.variable] = true
				}
			}
		}
	}
	return all
}

// may decides the rules of a phase that has begun for tx: whether each may
// match or is proven not to.
func (s *Screen) may(tx plugintypes.TransactionState, p types.RulePhase, each func(r *rule, may bool)) {
	s.decide(tx, p, func(ph *phase, found bits) {
		for i := range ph.rules {
			each(ph.rules[i].rule, ph.rules[i].may(found))
		}
	})
}

// any is whether any rule of the phase may match. If so, the decision is kept
// for the transaction that takes over.
func (s *Screen) any(tx plugintypes.TransactionState, p types.RulePhase) (some bool) {
	s.decide(tx, p, func(ph *phase, found bits) {
		if some = slices.ContainsFunc(ph.rules, func(r screened) bool { return r.may(found) }); some {
			s.passed.keep(tx, decision{p, slices.Clone(found)})
		}
	})
	return some
}

// decide finds the conditions of a phase that has begun for tx, if there are
// any, for use.
func (s *Screen) decide(tx plugintypes.TransactionState, p types.RulePhase, use func(ph *phase, found bits)) {
	if int(p) >= len(s.phases) || len(s.phases[p].rules) == 0 {
		return
	}
	ph := s.phases[p]
	w := s.works.Get().(*work)
	defer s.works.Put(w)
	w.found = append(w.found[:0], make(bits, len(ph.program.conditions)/64+1)...)
	if d, ok := s.passed.take(tx, p); ok {
		copy(w.found, d.found)
	} else {
		ph.decide(tx, w, w.found)
	}
	use(ph, w.found)
}

func (r *screened) may(found bits) bool {
	return !slices.ContainsFunc(r.conditions, func(c int) bool { return !found.has(c) })
}

// decide finds the conditions of the phase that may hold.
func (ph *phase) decide(tx plugintypes.TransactionState, w *work, found bits) {
	p := ph.program
	for _, v := range p.variables {
		col := tx.Collection(v.id)
		if col == nil {
			continue
		}
		if one, ok := col.(collection.Single); ok {
			ph.look(v, "", one.Get(), w, found)
			continue
		}
		for _, m := range col.FindAll() {
			ph.look(v, m.Key(), m.Value(), w, found)
		}
	}
	for _, c := range p.counts {
		col := tx.Collection(c.target.variable)
		if col == nil || found.has(c.condition.index) {
			continue
		}
		number := c.target.number(col)
		for _, st := range c.condition.steps {
			if out, _, err := st.function(number); err == nil {
				number = out
			}
		}
		if c.condition.multi || c.condition.holds(number) {
			found.set(c.condition.index)
		}
	}
}

// look finds the conditions that a value of a variable may fulfil.
func (ph *phase) look(v *variable, key, value string, w *work, found bits) {
	p := ph.program
	pl := p.planFor(v, key)
	if len(pl.groups) == 0 && len(pl.others) == 0 {
		return
	}
	if !v.cached || len(value) > longestKnow || !repeats(v.id, key) || personal(value) {
		p.decide(pl, value, w, found)
		return
	}
	if ph.known.has(pl, value) {
		return
	}
	mine := make(bits, len(found))
	p.decide(pl, value, w, mine)
	if !mine.any() {
		ph.known.add(pl, value)
	}
	found.join(mine)
}

func (b bits) any() bool { return slices.ContainsFunc(b, func(w uint64) bool { return w != 0 }) }

func (b bits) join(other bits) {
	for i := range b {
		b[i] |= other[i]
	}
}

// spareOperator takes the rules that cannot match out of the transaction and
// never matches itself. A rule with it goes before all others of its phase.
const spareOperator = "spareRules"

// Directives are the rules that ask the screen, to be read before all others;
// ids of them begin with id.
func Directives(id int) string {
	var b strings.Builder
	for p := types.PhaseRequestHeaders; p <= types.PhaseResponseBody; p++ {
		n := int(p)
		b.WriteString("SecRule UNIQUE_ID \"@" + spareOperator + "\" \"id:" + itoa(id+n) + ",phase:" + itoa(n) + ",pass,nolog,t:none\"\n")
	}
	return b.String()
}

type spare struct {
	screen *Screen
	tells  bool // of the light rule set: it matches if a rule may
}

func newSpare(plugintypes.OperatorOptions) (plugintypes.Operator, error) { return &spare{}, nil }

// Evaluate spares the transaction what cannot match, or tells whether
// something may.
func (s *spare) Evaluate(tx plugintypes.TransactionState, _ string) bool {
	if s.screen == nil {
		return s.tells
	}
	if s.tells {
		s.screen.recall(tx)
		return s.screen.any(tx, tx.LastPhase())
	}
	if remover, ok := tx.(interface{ RemoveRuleByID(id int) }); ok {
		s.screen.may(tx, tx.LastPhase(), func(r *rule, may bool) {
			if !may && !s.screen.counted[r] {
				remover.RemoveRuleByID(r.id)
			}
		})
	}
	return false
}

// quiet is the transaction that operators see which are asked about a value
// alone: it does not capture.
type quiet struct{ plugintypes.TransactionState }

func (quiet) Capturing() bool              { return false }
func (quiet) CaptureField(int, string)     {}
func (quiet) DebugLogger() debuglog.Logger { return debuglog.Noop() }
