package screen

import (
	"fmt"
	"slices"

	"github.com/corazawaf/coraza/v3/types"
)

// Of a rule set at a low paranoia level most rules are idle: what is configured
// keeps them from ever being evaluated, or from ever matching. That does not
// depend on whether others match, so that the whole rule set need not have them.

// trim makes the rule set without its idle rules.
func (s *Screen) trim(an *analysis, compile Compile) error {
	idle, err := an.idle(compile)
	if err != nil {
		return err
	}
	w, err := compile(an.removing(func(r *rule) bool { return idle[r] && !s.counted[r] }, false))
	if err != nil {
		return err
	}
	own, err := read(w)
	if err != nil {
		return err
	}
	arm(own, func(sp *spare) { sp.screen = s })
	s.Whole = w
	return nil
}

// idle finds the rules of phases 1 to 4 that never match or are never evaluated,
// whatever a request contains. Its error says why that cannot be told.
func (an *analysis) idle(compile Compile) (map[*rule]bool, error) {
	settled, moves, err := an.settled()
	if err != nil {
		return nil, err
	}
	isSettled := func(r *rule) bool { return settled[r] }
	outcomes, err := an.outcomes(isSettled, compile)
	if err != nil {
		return nil, err
	}
	matched := outcomes[types.PhaseResponseBody]
	for r := range settled {
		for last := r.phase; last < types.PhaseResponseBody; last++ {
			if outcomes[last][r.id] != matched[r.id] {
				return nil, fmt.Errorf("rule %d depends on how long a request is inspected", r.id)
			}
		}
	}
	idle, by := map[*rule]bool{}, an.skippers(isSettled, matched)
	for _, r := range an.rules {
		if !r.judges() || r.asks() {
			continue
		}
		if s := by[r]; s != nil {
			// What keeps the one that skips it from doing so leaves it out as well.
			idle[r] = !slices.ContainsFunc(moves, func(m move) bool { return m.of[s] && !(m.whole && m.of[r]) })
		} else {
			idle[r] = settled[r] && !matched[r.id]
		}
	}
	return idle, nil
}

// settled finds the rules that match for every request or for none, as far as
// they are evaluated: they look only at variables of TX that rules set of which
// the same is true and which nothing leaves out. moves are what others leave
// out.
func (an *analysis) settled() (settled map[*rule]bool, moves []move, err error) {
	settled = map[*rule]bool{}
	sure := map[*rule]bool{} // what they set is the same, too
	for _, r := range an.rules {
		if r.judges() && r.constant() {
			settled[r], sure[r] = true, true
		}
	}
	for changed := true; changed; {
		changed = false
		if moves, err = an.moves(settled); err != nil {
			return nil, nil, err
		}
		writes := slices.Clone(an.given)
		for _, r := range an.rules {
			if r.mark == "" && !sure[r] {
				writes = append(writes, r.writes(true)...)
			}
		}
		looks := func(r *rule, matching bool) bool {
			return slices.ContainsFunc(r.reads(matching), func(rd look) bool { return rd.any(writes) })
		}
		for r := range settled {
			switch {
			case looks(r, false):
				delete(settled, r)
				delete(sure, r)
				changed = true
			case sure[r] && (looks(r, true) || moved(moves, r)):
				delete(sure, r)
				changed = true
			}
		}
	}
	return settled, moves, nil
}
