package waf

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	coreruleset "github.com/corazawaf/coraza-coreruleset/v4"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types"

	"pasban"
	"pasban/internal/config"
)

// Ids of the rules that this package writes itself. Nobody's custom rules may
// have one of 8,000,000 to 8,099,999; the marker's is the one that the Core
// Rule Set's documentation gives it.
const (
	firstExclusion = 8_000_000
	firstWatched   = 8_090_000
	maxExclusions  = 10_000
	markerID       = 999_999
)

// routeVariable is where the rules find which route a request takes. The
// engine sets it before the first rule runs, from what the gateway's own
// multiplexer says: rules never compare a path themselves, so that no path can
// look like another's.
const routeVariable = "pasban_route"

// routeToken stands for a route's pattern in SecLang, where the pattern itself
// would need escapes.
func routeToken(pattern string) string {
	if pattern == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(pattern))
	return hex.EncodeToString(sum[:16])
}

// setRoute tells the rules which route the request takes. If it cannot,
// nothing is excluded.
func setRoute(tx types.Transaction, pattern string) {
	if state, ok := tx.(plugintypes.TransactionState); ok && pattern != "" {
		state.Variables().TX().Set(routeVariable, []string{routeToken(pattern)})
	}
}

// tuning returns the SecLang text of the options' exclusions, watched routes
// and test markers. It is read before all rules that it is about. Each
// exclusion compares the time itself, so that it ends without a reload.
//
//	SecRule TX:pasban_route "@streq 5f2c…" "id:8000000,phase:1,pass,t:none,nolog,chain"
//	SecRule REQUEST_METHOD "@streq POST" "t:none,chain"
//	SecRule TIME_EPOCH "@lt 1803859200" "t:none,ctl:ruleRemoveTargetById=942100;ARGS:note"
//
// Nothing of a reason gets there, and everything else has a form that needs no
// escapes: an exclusion with a fault is refused.
func tuning(o Options) (string, error) {
	var b strings.Builder
	if len(o.Exclusions) > maxExclusions {
		return "", &pasban.Error{Kind: pasban.Invalid, Msg: fmt.Sprintf("%d exclusions for one site", len(o.Exclusions)), Hint: fmt.Sprintf("at most %d", maxExclusions)}
	}
	if o.Markers {
		fmt.Fprintf(&b, `SecRule REQUEST_HEADERS:X-CRS-Test "@rx ^.*$" "id:%d,phase:1,pass,t:none,log,msg:'X-CRS-Test %%{MATCHED_VAR}',ctl:ruleRemoveById=1-%d"`+"\n", markerID, markerID)
	}
	for i, e := range o.Exclusions {
		if faults := e.Faults(); len(faults) > 0 {
			return "", &pasban.Error{Kind: pasban.Invalid, Msg: "an exclusion is not usable: " + faults[0].Msg, Where: faults[0].Field, Hint: faults[0].Hint}
		}
		var conditions []string
		if e.Route != "" {
			conditions = append(conditions, onRoute(e.Route))
		}
		if e.Method != "" {
			conditions = append(conditions, fmt.Sprintf(`REQUEST_METHOD "@streq %s"`, e.Method))
		}
		conditions = append(conditions, fmt.Sprintf(`TIME_EPOCH "@lt %d"`, e.Until().Unix()))
		chain(&b, firstExclusion+i, conditions, removals(e))
	}
	for i, route := range o.Watched {
		chain(&b, firstWatched+i, []string{onRoute(route)}, []string{"ctl:ruleEngine=DetectionOnly"})
	}
	return b.String(), nil
}

func onRoute(pattern string) string {
	return fmt.Sprintf(`TX:%s "@streq %s"`, routeVariable, routeToken(pattern))
}

// chain writes rules of which the last one acts if all of them match.
func chain(b *strings.Builder, id int, conditions, acts []string) {
	for i, c := range conditions {
		actions := []string{"t:none"}
		if i == 0 {
			actions = []string{fmt.Sprintf("id:%d,phase:1,pass,t:none,nolog", id)}
		}
		if i < len(conditions)-1 {
			actions = append(actions, "chain")
		} else {
			actions = append(actions, acts...)
		}
		fmt.Fprintf(b, "SecRule %s \"%s\"\n", c, strings.Join(actions, ","))
	}
}

// removals are the actions of an exclusion.
func removals(e config.Exclusion) (acts []string) {
	action, what := "ctl:ruleRemove%sByTag=", []string{e.Tag}
	if e.Tag == "" {
		action, what = "ctl:ruleRemove%sById=", nil
		for _, r := range e.Rules {
			what = append(what, string(r))
		}
	}
	for _, w := range what {
		if e.Target == "" {
			acts = append(acts, fmt.Sprintf(action, "")+w)
			continue
		}
		for _, t := range targets(e.Target) {
			acts = append(acts, fmt.Sprintf(action, "Target")+w+";"+t)
		}
	}
	return acts
}

// targets are the variables that a target stands for: a parameter is the same
// however it is sent, and rules name it in three ways.
func targets(target string) []string {
	variable, member, _ := config.ParseTarget(target)
	variables := []string{variable}
	switch variable {
	case "ARGS":
		variables = append(variables, "ARGS_GET", "ARGS_POST")
	case "ARGS_NAMES":
		variables = append(variables, "ARGS_GET_NAMES", "ARGS_POST_NAMES")
	}
	if member != "" {
		for i := range variables {
			variables[i] += ":" + member
		}
	}
	return variables
}

// watches reports whether matches on the route are noted but block nothing.
func (o Options) watches(pattern string) bool {
	return o.Detect || pattern != "" && slices.Contains(o.Watched, pattern)
}

var (
	idOfRule  = regexp.MustCompile(`\bid:'?(\d+)`)
	idOfOurs  = regexp.MustCompile(`\bid:'?80\d{5}\b`)
	tagOfRule = regexp.MustCompile(`\btag:'([^']+)'`)
)

// Unknown says, for each exclusion that names a rule or tag which none of the
// options' rules has, what that is.
func Unknown(o Options) (problems []string) {
	if len(o.Exclusions) == 0 {
		return nil
	}
	var ids []int
	tags := map[string]bool{}
	read := func(text []byte, err error) {
		if err != nil {
			return // New says so
		}
		for _, m := range idOfRule.FindAllSubmatch(text, -1) {
			if n, err := strconv.Atoi(string(m[1])); err == nil {
				ids = append(ids, n)
			}
		}
		for _, m := range tagOfRule.FindAllSubmatch(text, -1) {
			tags[string(m[1])] = true
		}
	}
	files, _ := fs.Glob(coreruleset.FS, "@owasp_crs/*.conf") // the pattern is well-formed
	for _, name := range files {
		read(fs.ReadFile(coreruleset.FS, name))
	}
	for _, name := range slices.Concat(o.Before, o.After) {
		read(os.ReadFile(name))
	}
	for _, e := range o.Exclusions {
		if e.Tag != "" && !tags[e.Tag] {
			problems = append(problems, fmt.Sprintf("an exclusion names tag %q, which no rule has", e.Tag))
		}
		for _, r := range e.Rules {
			first, last, _ := r.Bounds()
			if !slices.ContainsFunc(ids, func(id int) bool { return id >= first && id <= last }) {
				problems = append(problems, fmt.Sprintf("an exclusion names rule %s, which is not there", r))
			}
		}
	}
	return problems
}
