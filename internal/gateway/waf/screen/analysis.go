package screen

import (
	"fmt"
	"slices"
	"strings"

	"github.com/corazawaf/coraza/v3"
	"github.com/corazawaf/coraza/v3/experimental"
	"github.com/corazawaf/coraza/v3/types"
)

// analysis is what every conclusion about a rule set begins with.
type analysis struct {
	rules  []*rule
	kinds  map[string]string // of ctl
	given  []write           // variables that are set before the first rule
	takers []move            // what rules take out by ctl
}

// analyse begins the analysis of a rule set before whose first rule the variables
// given are set.
func analyse(rules []*rule, given []string) (*analysis, error) {
	kinds, err := ctlKinds()
	if err != nil {
		return nil, err
	}
	an := &analysis{rules: rules, kinds: kinds}
	for _, key := range given {
		an.given = append(an.given, write{key: strings.ToLower(key)})
	}
	an.findTakers()
	return an, nil
}

// outcomes runs some rules alone: those that match, by id, in transactions that
// end after each phase.
func (an *analysis) outcomes(of func(*rule) bool, compile Compile) (matched [types.PhaseResponseBody + 1]map[int]bool, err error) {
	w, err := compile(an.removing(func(r *rule) bool { return !of(r) }, false))
	if err != nil {
		return matched, err
	}
	if c, ok := w.(experimental.WAFCloser); ok {
		defer c.Close()
	}
	for last := range matched {
		if matched[last], err = an.run(w, types.RulePhase(last)); err != nil {
			return matched, err
		}
	}
	return matched, nil
}

// run is a transaction of rules alone that ends after a phase: the rules that it
// matches, none of which may be logged or stop it.
func (an *analysis) run(w coraza.WAF, last types.RulePhase) (map[int]bool, error) {
	tx := w.NewTransaction()
	defer tx.Close()
	for p := types.PhaseRequestHeaders; p <= last; p++ {
		var err error
		switch p {
		case types.PhaseRequestHeaders:
			tx.ProcessRequestHeaders()
		case types.PhaseRequestBody:
			_, err = tx.ProcessRequestBody()
		case types.PhaseResponseHeaders:
			tx.ProcessResponseHeaders(200, "HTTP/1.1")
		case types.PhaseResponseBody:
			_, err = tx.ProcessResponseBody()
		}
		if err != nil {
			return nil, err
		}
	}
	tx.ProcessLogging()
	matched := map[int]bool{}
	for _, m := range tx.MatchedRules() {
		matched[m.Rule().ID()] = true
	}
	for _, r := range an.rules {
		if matched[r.id] && (r.log || r.stops()) {
			return nil, fmt.Errorf("rule %d matches every request", r.id)
		}
	}
	return matched, nil
}

// skippers are, of some rules that go the same way every time, those that skip
// others, by what they skip.
func (an *analysis) skippers(of func(*rule) bool, matched map[int]bool) map[*rule]*rule {
	by := map[*rule]*rule{}
	for p := types.PhaseRequestHeaders; p <= types.PhaseResponseBody; p++ {
		var skipper *rule
		after := ""
		for _, r := range an.rules {
			switch {
			case r.mark != "":
				if r.mark == after {
					skipper, after = nil, ""
				}
			case r.phase != p:
			case skipper != nil:
				by[r] = skipper
			case of(r) && matched[r.id]:
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

// removing are the directives that remove rules, in ranges of ids, and
// perhaps all markers, which have the id 0.
func (an *analysis) removing(which func(*rule) bool, markers bool) string {
	rules := slices.DeleteFunc(slices.Clone(an.rules), func(r *rule) bool { return r.mark != "" || r.id == 0 })
	slices.SortFunc(rules, func(a, b *rule) int { return a.id - b.id })
	var b strings.Builder
	if markers {
		b.WriteString("SecRuleRemoveById 0-0\n")
	}
	for i := 0; i < len(rules); i++ {
		first := i
		for i < len(rules) && which(rules[i]) {
			i++
		}
		if first < i {
			fmt.Fprintf(&b, "SecRuleRemoveById %d-%d\n", rules[first].id, rules[i-1].id)
		}
	}
	return b.String()
}

// ctlKinds maps the numbers that Coraza gives to the kinds of ctl, as text, to
// their names.
func ctlKinds() (map[string]string, error) {
	examples := map[string]string{
		"requestBodyProcessor": "JSON", "forceRequestBodyVariable": "On", "ruleRemoveById": "1", "ruleRemoveByTag": "x", "ruleRemoveByMsg": "x",
		"ruleEngine": "On", "ruleRemoveTargetById": "1;ARGS", "ruleRemoveTargetByTag": "x;ARGS", "ruleRemoveTargetByMsg": "x;ARGS",
	}
	var b strings.Builder
	var names []string
	for name, value := range examples {
		names = append(names, name)
		fmt.Fprintf(&b, "SecAction \"id:%d,phase:1,pass,nolog,ctl:%s=%s\"\n", len(names), name, value)
	}
	w, err := coraza.NewWAF(coraza.NewWAFConfig().WithDirectives(b.String()))
	if err != nil {
		return nil, err
	}
	rules, err := read(w)
	if err != nil {
		return nil, err
	}
	kinds := map[string]string{}
	for i, r := range rules {
		for _, a := range r.links[0].actions {
			if a.name == "ctl" {
				kinds[a.key] = names[i]
			}
		}
	}
	if len(kinds) != len(examples) {
		return nil, fmt.Errorf("this Coraza has other kinds of ctl")
	}
	return kinds, nil
}
