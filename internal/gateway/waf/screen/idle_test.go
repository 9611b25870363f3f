package screen

import (
	"fmt"
	"slices"
	"testing"

	coreruleset "github.com/corazawaf/coraza-coreruleset/v4"
	"github.com/corazawaf/coraza/v3"
)

// idleOf are the ids of the idle rules of the Core Rule Set at a paranoia level,
// with rules before it.
func idleOf(t *testing.T, level int, before string) ([]int, error) {
	t.Helper()
	register.Do(Register)
	directives := fmt.Sprintf("Include @coraza.conf-recommended\nInclude @crs-setup.conf.example\nSecAction \"id:900000,phase:1,pass,t:none,nolog,setvar:tx.blocking_paranoia_level=%d\"\n%s\nInclude @owasp_crs/*.conf\n", level, before)
	compile := func(more string) (coraza.WAF, error) {
		return coraza.NewWAF(coraza.NewWAFConfig().WithRootFS(Rules{coreruleset.FS}).WithDirectives(directives + more))
	}
	w, err := compile("")
	if err != nil {
		t.Fatal(err)
	}
	rules, err := read(w)
	if err != nil {
		t.Fatal(err)
	}
	l, err := analyse(rules, []string{"route"})
	if err != nil {
		t.Fatal(err)
	}
	idle, err := l.idle(compile)
	var ids []int
	for r, is := range idle {
		if is {
			ids = append(ids, r.id)
		}
	}
	return ids, err
}

func TestIdle(t *testing.T) {
	// Rule 942013 skips those of level 2 and above of its file in phase 1, and
	// 942014 in phase 2, where 942120 is one; 942015 and 942016 those above 2.
	// 942011 would skip them all at level 0; 949053 adds the scores of level 2,
	// 942100 is of level 1.
	for _, c := range []struct {
		name   string
		level  int
		before string
		idle   []int
		not    []int
	}{
		{"level 1", 1, "", []int{942011, 942012, 942120, 942015, 949053, 949063}, []int{942100, 942013, 942014, 949052, 949110, 980041, 901125}},
		{"level 2", 2, "", []int{942011, 942013, 942017, 949054}, []int{942100, 942120, 942015, 949053}},
		{"level 4", 4, "", []int{942011, 942017}, []int{942421, 949055}},
		{"a gate that may be taken out", 1, `SecRule ARGS:a "1" "id:1,phase:1,pass,nolog,ctl:ruleRemoveById=942014"`, []int{942011, 941181}, []int{942120}},
		{"a gate whose target may be taken out", 1, `SecRule ARGS:a "1" "id:1,phase:1,pass,nolog,ctl:ruleRemoveTargetById=942014;TX"`, []int{941181}, []int{942120}},
		{"a gate and what it skips that may be taken out", 1, `SecRule ARGS:a "1" "id:1,phase:1,pass,nolog,ctl:ruleRemoveById=942000-942999"`, []int{942120}, []int{942100}},
		{"a gate that may be skipped", 1, `SecRule ARGS:a "1" "id:1,phase:1,pass,nolog,skipAfter:END-SAMPLING"`, nil, []int{942120, 942011, 949053}},
		// 920539 skips the next one by number, which is 920540, or 920014 without it; 920271 is of level 2.
		{"a gate that may be skipped by number", 1, `SecRule ARGS:a "1" "id:1,phase:1,pass,nolog,ctl:ruleRemoveByTag=attack-protocol"`, []int{942120}, []int{920271}},
		{"no gate that may be skipped by number", 1, `SecRule ARGS:a "1" "id:1,phase:1,pass,nolog,ctl:ruleRemoveByTag=attack-rce"`, []int{920271}, []int{942100}},
		{"a level that may be set", 1, `SecRule ARGS:a "1" "id:1,phase:1,pass,nolog,setvar:tx.detection_paranoia_level=2"`, nil, []int{942120, 942015, 942011}},
		{"any variable may be set", 1, `SecRule ARGS:a "1" "id:1,phase:1,pass,nolog,setvar:tx.%{ARGS.b}=2"`, nil, []int{942120, 942011, 949053}},
		{"a level that may not be set", 1, `SecRule ARGS:a "1" "id:1,phase:1,pass,nolog,ctl:ruleRemoveById=901125"`, nil, []int{942120, 942011}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ids, err := idleOf(t, c.level, c.before)
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range c.idle {
				if !slices.Contains(ids, id) {
					t.Errorf("rule %d is idle, and that was not found", id)
				}
			}
			for _, id := range c.not {
				if slices.Contains(ids, id) {
					t.Errorf("rule %d is not idle", id)
				}
			}
		})
	}
	if _, err := idleOf(t, 1, `SecRule ARGS:a "1" "id:1,phase:1,allow:phase,nolog"`); err == nil {
		t.Error("a request may pass over the rules that set the levels, and rules are idle")
	}
}
