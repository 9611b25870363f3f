package screen

import (
	"fmt"
	"slices"

	"github.com/corazawaf/coraza/v3/experimental"
	"github.com/corazawaf/coraza/v3/types"
)

// Of a rule set at a low paranoia level most rules are idle: what is configured
// keeps them from ever being evaluated, or from ever matching. That does not
// depend on whether others match, so that the whole rule set need not have them.

// trim makes the rule set without its idle rules.
func (s *Screen) trim(l *light, compile Compile) error {
	idle, err := l.idle(compile)
	if err != nil {
		return err
	}
	w, err := compile(l.removing(func(r *rule) bool { return idle[r] && !s.counted[r] }, false))
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
func (l *light) idle(compile Compile) (map[*rule]bool, error) {
	settled, moves, err := l.settled()
	if err != nil {
		return nil, err
	}
	matched, err := l.outcomes(settled, compile)
	if err != nil {
		return nil, err
	}
	idle, by := map[*rule]bool{}, l.skippers(settled, matched)
	for _, r := range l.rules {
		if r.mark != "" || r.id == 0 || r.asks() || r.phase < types.PhaseRequestHeaders || r.phase > types.PhaseResponseBody {
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
func (l *light) settled() (settled map[*rule]bool, moves []move, err error) {
	settled = map[*rule]bool{}
	sure := map[*rule]bool{} // what they set is the same, too
	for _, r := range l.rules {
		if r.mark == "" && r.id != 0 && r.phase >= types.PhaseRequestHeaders && r.phase <= types.PhaseResponseBody && r.constant() {
			settled[r], sure[r] = true, true
		}
	}
	for changed := true; changed; {
		changed = false
		if moves, err = l.moves(settled); err != nil {
			return nil, nil, err
		}
		writes := slices.Clone(l.given)
		for _, r := range l.rules {
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

// outcomes runs the settled rules alone: those that match, by id. It fails if
// that depends on the phase after which a transaction ends.
func (l *light) outcomes(settled map[*rule]bool, compile Compile) (map[int]bool, error) {
	w, err := compile(l.removing(func(r *rule) bool { return !settled[r] }, false))
	if err != nil {
		return nil, err
	}
	if c, ok := w.(experimental.WAFCloser); ok {
		defer c.Close()
	}
	all, err := l.run(w, types.PhaseResponseBody)
	if err != nil {
		return nil, err
	}
	for last := types.PhaseRequestHeaders; last < types.PhaseResponseBody; last++ {
		matched, err := l.run(w, last)
		if err != nil {
			return nil, err
		}
		for r := range settled {
			if r.phase <= last && matched[r.id] != all[r.id] {
				return nil, fmt.Errorf("rule %d depends on how long a request is inspected", r.id)
			}
		}
	}
	return all, nil
}

// skippers are the settled rules by the rules that they skip.
func (l *light) skippers(settled map[*rule]bool, matched map[int]bool) map[*rule]*rule {
	by := map[*rule]*rule{}
	for p := types.PhaseRequestHeaders; p <= types.PhaseResponseBody; p++ {
		var skipper *rule
		after := ""
		for _, r := range l.rules {
			switch {
			case r.mark != "":
				if r.mark == after {
					skipper, after = nil, ""
				}
			case r.phase != p:
			case skipper != nil:
				by[r] = skipper
			case settled[r] && matched[r.id]:
				for _, a := range r.links[0].actions {
					if a.name == "skipafter" {
						skipper, after = r, a.value
					}
				}
			}
		}
	}
	return by
}
