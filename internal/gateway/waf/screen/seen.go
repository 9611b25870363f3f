package screen

import (
	"fmt"
	"slices"
	"strings"

	"github.com/corazawaf/coraza/v3/types/variables"
)

// unseen fails if a rule can tell which others were evaluated without matching.
func unseen(rules []*rule) error {
	for _, r := range rules {
		for i, l := range r.links {
			for _, a := range l.actions {
				if strings.Contains(strings.ToLower(a.key+a.value), "%{rule.") {
					return fmt.Errorf("rule %d names the rule that was evaluated last", r.id)
				}
			}
			if slices.ContainsFunc(l.targets, func(t target) bool { return t.variable == variables.Rule || i == 0 && matched(t.variable) }) {
				return fmt.Errorf("rule %d looks at what was evaluated before it", r.id)
			}
			if strings.Contains(strings.ToLower(l.data), "%{matched_") && i == 0 || strings.Contains(strings.ToLower(l.data), "%{rule.") {
				return fmt.Errorf("rule %d compares with what was evaluated before it", r.id)
			}
		}
	}
	return nil
}

func matched(v variables.RuleVariable) bool {
	return v == variables.MatchedVar || v == variables.MatchedVarName || v == variables.MatchedVars || v == variables.MatchedVarsNames
}
