package screen

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// move is what an action of a rule leaves out for rules that come after it.
type move struct {
	of     map[*rule]bool
	whole  bool // they are not evaluated then; otherwise their targets are narrowed
	untold bool // which ones cannot be told
}

// moveOf is the move of an action, if it is one.
func (an *analysis) moveOf(r *rule, a action) (m move, ok bool) {
	kind := an.kinds[a.key]
	switch {
	case a.name == "ctl" && strings.HasPrefix(kind, "ruleRemove"), a.name == "skip", a.name == "skipafter":
	default:
		return m, false
	}
	affected, told := an.affected(r, a)
	m = move{of: map[*rule]bool{}, whole: a.name != "ctl" || !strings.HasPrefix(kind, "ruleRemoveTarget"), untold: !told}
	for _, o := range affected {
		if o.phase > r.phase || o.phase == r.phase && slices.Index(an.rules, o) > slices.Index(an.rules, r) {
			m.of[o] = true
		}
	}
	return m, true
}

// affected are the rules that an action takes out or narrows.
func (an *analysis) affected(r *rule, a action) (all []*rule, ok bool) {
	if a.name != "ctl" {
		return an.skipped(r, a), true
	}
	kind := an.kinds[a.key]
	if !strings.HasPrefix(kind, "ruleRemove") {
		return nil, false
	}
	first, last := 0, -1
	if strings.HasSuffix(kind, "ById") {
		from, to, isRange := strings.Cut(a.value, "-")
		if !isRange {
			to = from
		}
		var err1, err2 error
		first, err1 = strconv.Atoi(strings.TrimSpace(from))
		last, err2 = strconv.Atoi(strings.TrimSpace(to))
		if err1 != nil || err2 != nil {
			return nil, false
		}
	}
	for _, o := range an.rules {
		if o.mark == "" && (o.id >= first && o.id <= last || strings.HasSuffix(kind, "ByTag") && slices.Contains(o.tags, a.value) ||
			strings.HasSuffix(kind, "ByMsg") && o.msg == a.value) {
			all = append(all, o)
		}
	}
	return all, true
}

// skipped are the rules that a skip or skipAfter of a rule may pass over. What
// others have left out is not counted by skip, so that it goes on to the next.
func (an *analysis) skipped(r *rule, a action) (all []*rule) {
	left := a.count
	for _, o := range an.rules[slices.Index(an.rules, r)+1:] {
		switch {
		case a.name == "skip" && left == 0, a.name == "skipafter" && o.mark == a.value:
			return all
		case o.mark != "":
			left--
		case o.phase == r.phase:
			all = append(all, o)
			if !an.leftOut(o, r) {
				left--
			}
		}
	}
	return all
}

// leftOut reports whether another rule may take o out of a transaction, and not r
// with it.
func (an *analysis) leftOut(o, r *rule) bool {
	return slices.ContainsFunc(an.takers, func(m move) bool { return m.untold || m.of[o] && !m.of[r] })
}

// findTakers finds what rules take out by ctl.
func (an *analysis) findTakers() {
	for _, r := range an.rules {
		for a := range r.actions() {
			if a.name != "ctl" {
				continue
			}
			if m, ok := an.moveOf(r, a); ok && m.whole {
				an.takers = append(an.takers, m)
			}
		}
	}
}

// counted are the rules that a rule before them may skip by number: leaving one of
// them out would have another one skipped.
func (an *analysis) counted() map[*rule]bool {
	all := map[*rule]bool{}
	for _, r := range an.rules {
		for a := range r.actions() {
			if a.name == "skip" {
				for _, o := range an.skipped(r, a) {
					all[o] = true
				}
			}
		}
	}
	return all
}

func moved(moves []move, r *rule) bool {
	return slices.ContainsFunc(moves, func(m move) bool { return m.of[r] })
}

// moves are what rules leave out that are not settled, or that others may leave
// out.
func (an *analysis) moves(settled map[*rule]bool) (moves []move, err error) {
	done := map[*rule]bool{}
	for changed := true; changed; {
		changed = false
		for _, r := range an.rules {
			if r.mark != "" || done[r] || settled[r] && !moved(moves, r) {
				continue
			}
			done[r] = true
			more, err := an.movesOf(r)
			if err != nil {
				return nil, err
			}
			moves, changed = append(moves, more...), changed || len(more) > 0
		}
	}
	return moves, nil
}

// movesOf are those of one rule.
func (an *analysis) movesOf(r *rule) (moves []move, err error) {
	for a := range r.actions() {
		if a.name == "allow" {
			return nil, fmt.Errorf("rule %d lets a request pass over the rules that follow", r.id)
		}
		m, ok := an.moveOf(r, a)
		if m.untold {
			return nil, fmt.Errorf("rule %d leaves out others that cannot be told", r.id)
		}
		if ok {
			moves = append(moves, m)
		}
	}
	return moves, nil
}
