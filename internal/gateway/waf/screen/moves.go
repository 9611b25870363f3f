package screen

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// move is what a rule leaves out for others when it matches.
type move struct {
	of     map[*rule]bool
	whole  bool // they are not evaluated then; otherwise their targets are narrowed
	untold bool // which ones cannot be told
}

// affected are the rules that an action takes out or narrows.
func (l *light) affected(r *rule, a action) (all []*rule, ok bool) {
	if a.name != "ctl" {
		return l.skipped(r, a), true
	}
	kind := l.kinds[a.key]
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
	for _, o := range l.rules {
		if o.mark == "" && (o.id >= first && o.id <= last || strings.HasSuffix(kind, "ByTag") && slices.Contains(o.tags, a.value) ||
			strings.HasSuffix(kind, "ByMsg") && o.msg == a.value) {
			all = append(all, o)
		}
	}
	return all, true
}

// skipped are the rules that a skip or skipAfter of a rule may pass over. What
// others have left out is not counted by skip, so that it goes on to the next.
func (l *light) skipped(r *rule, a action) (all []*rule) {
	left := a.count
	for _, o := range l.rules[slices.Index(l.rules, r)+1:] {
		switch {
		case a.name == "skip" && left == 0, a.name == "skipafter" && o.mark == a.value:
			return all
		case o.mark != "":
			left--
		case o.phase == r.phase:
			all = append(all, o)
			if !l.leftOut(o, r) {
				left--
			}
		}
	}
	return all
}

// leftOut reports whether another rule may take o out of a transaction, and not r
// with it.
func (l *light) leftOut(o, r *rule) bool {
	return slices.ContainsFunc(l.takers, func(m move) bool { return m.untold || m.of[o] && !m.of[r] })
}

// findTakers finds what rules take out by ctl.
func (l *light) findTakers() {
	for _, r := range l.rules {
		for _, k := range r.links {
			for _, a := range k.actions {
				kind := l.kinds[a.key]
				if a.name != "ctl" || !strings.HasPrefix(kind, "ruleRemove") || strings.HasPrefix(kind, "ruleRemoveTarget") {
					continue
				}
				taken, ok := l.affected(r, a)
				m := move{of: map[*rule]bool{}, whole: true, untold: !ok}
				for _, o := range taken {
					m.of[o] = true
				}
				l.takers = append(l.takers, m)
			}
		}
	}
}

// counted are the rules that a rule before them may skip by number: leaving one of
// them out would have another one skipped.
func (l *light) counted() map[*rule]bool {
	all := map[*rule]bool{}
	for _, r := range l.rules {
		for _, k := range r.links {
			for _, a := range k.actions {
				if a.name == "skip" {
					for _, o := range l.skipped(r, a) {
						all[o] = true
					}
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
func (l *light) moves(settled map[*rule]bool) (moves []move, err error) {
	done := map[*rule]bool{}
	for changed := true; changed; {
		changed = false
		for i, r := range l.rules {
			if r.mark != "" || done[r] || settled[r] && !moved(moves, r) {
				continue
			}
			done[r] = true
			more, err := l.movesOf(i)
			if err != nil {
				return nil, err
			}
			moves, changed = append(moves, more...), changed || len(more) > 0
		}
	}
	return moves, nil
}

// movesOf are those of rule i: it leaves out only what comes after it.
func (l *light) movesOf(i int) (moves []move, err error) {
	r := l.rules[i]
	for _, k := range r.links {
		for _, a := range k.actions {
			kind := l.kinds[a.key]
			switch {
			case a.name == "allow":
				return nil, fmt.Errorf("rule %d lets a request pass over the rules that follow", r.id)
			case a.name == "ctl" && strings.HasPrefix(kind, "ruleRemove"), a.name == "skip", a.name == "skipafter":
			default:
				continue
			}
			affected, ok := l.affected(r, a)
			if !ok {
				return nil, fmt.Errorf("rule %d leaves out others that cannot be told", r.id)
			}
			m := move{of: map[*rule]bool{}, whole: a.name != "ctl" || !strings.HasPrefix(kind, "ruleRemoveTarget")}
			for _, o := range affected {
				if o.phase > r.phase || o.phase == r.phase && slices.Contains(l.rules[i+1:], o) {
					m.of[o] = true
				}
			}
			moves = append(moves, m)
		}
	}
	return moves, nil
}
