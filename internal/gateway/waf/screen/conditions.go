package screen

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/corazawaf/coraza/v3/collection"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types"
	"github.com/corazawaf/coraza/v3/types/variables"
)

// condition is a link of a rule that can be decided from what a request or an
// answer contains, before the rules of the phase run.
type condition struct {
	*link
	index int    // its bit
	chain int    // index of the chain of transformations
	needs string // bytes of which a value has one if the operator matches; "" if any value may
}

// settled are the variables that hold the same from the beginning of a phase to
// its end: nothing that a rule does changes them.
var settled = map[variables.RuleVariable]bool{
	variables.Args: true, variables.ArgsCombinedSize: true, variables.ArgsGet: true, variables.ArgsGetNames: true, variables.ArgsNames: true,
	variables.ArgsPost: true, variables.ArgsPostNames: true, variables.ArgumentsLimitReached: true, variables.Files: true,
	variables.FilesCombinedSize: true, variables.FilesNames: true, variables.FilesSizes: true, variables.FullRequestLength: true,
	variables.MultipartDataAfter: true, variables.MultipartDuplicatePartHeader: true, variables.MultipartFilename: true,
	variables.MultipartInvalidQuoting: true, variables.MultipartName: true, variables.MultipartPartHeaders: true,
	variables.MultipartStrictError: true, variables.OutboundDataError: true, variables.InboundDataError: true,
	variables.QueryString: true, variables.RemoteAddr: true, variables.RemotePort: true, variables.ReqbodyError: true,
	variables.ReqbodyErrorMsg: true, variables.ReqbodyProcessorError: true, variables.ReqbodyProcessorErrorMsg: true,
	variables.RequestBasename: true, variables.RequestBody: true, variables.RequestBodyLength: true, variables.RequestCookies: true,
	variables.RequestCookiesNames: true, variables.RequestFilename: true, variables.RequestHeaders: true,
	variables.RequestHeadersNames: true, variables.RequestLine: true, variables.RequestMethod: true, variables.RequestProtocol: true,
	variables.RequestURI: true, variables.RequestURIRaw: true, variables.RequestXML: true, variables.ResponseBody: true,
	variables.ResponseContentLength: true, variables.ResponseContentType: true, variables.ResponseHeaders: true,
	variables.ResponseHeadersNames: true, variables.ResponseProtocol: true, variables.ResponseStatus: true, variables.ResponseXML: true,
	variables.ServerAddr: true, variables.ServerName: true, variables.ServerPort: true, variables.StatusLine: true,
	variables.URIParseError: true, variables.UrlencodedError: true, variables.XML: true,
}

// pure are the operators whose answer depends on their argument and the value alone.
var pure = map[string]bool{
	"beginsWith": true, "contains": true, "detectSQLi": true, "detectXSS": true, "endsWith": true, "eq": true, "ge": true, "gt": true,
	"ipMatch": true, "le": true, "lt": true, "noMatch": true, "pm": true, "pmFromFile": true, "pmf": true, "rx": true,
	"streq": true, "strmatch": true, "unconditionalMatch": true, "validateByteRange": true, "validateUrlEncoding": true,
	"validateUtf8Encoding": true, "within": true, ScanOperator: true, PhraseOperator: true, PhraseFileOperator: true,
}

// decidable reports whether the link can be decided when phase p begins.
func (l *link) decidable(p types.RulePhase) bool {
	if l.operator == nil || !pure[l.function] || l.negated && l.capture {
		return false
	}
	// The arguments of other operators can have macros; expressions have none.
	if l.function != ScanOperator && l.function != "rx" && strings.Contains(l.data, "%{") {
		return false
	}
	for _, t := range l.targets {
		// How a body is read cannot change once it has been.
		if !settled[t.variable] && (t.variable != variables.ReqbodyProcessor || p < types.PhaseRequestBody) {
			return false
		}
	}
	return true
}

// expression is the regular expression that the link's operator looks for, if
// it is one of those, and whether it takes texts for bytes.
func (l *link) expression() (expr string, inBytes, ok bool) {
	if s, ok := l.operator.(*scan); ok {
		return s.expr, false, true
	}
	if l.function != "rx" {
		return "", false, false
	}
	// Coraza has two types for @rx.
	switch fmt.Sprintf("%T", l.operator) {
	case "*operators.rx":
		return scanFlags + l.data, false, true
	case "*operators.binaryRX":
		ascii := !strings.ContainsFunc(l.data, func(r rune) bool { return r >= utf8.RuneSelf })
		return l.data, true, ascii
	}
	return "", false, false
}

// harmless are the actions that leave nothing behind when the rest of the
// chain does not match.
var harmless = map[string]bool{
	"log": true, "nolog": true, "auditlog": true, "noauditlog": true, "capture": true, "chain": true, "t": true, "multimatch": true,
	"msg": true, "logdata": true, "tag": true, "severity": true, "status": true, "id": true, "phase": true, "rev": true, "ver": true,
	"maturity": true, "accuracy": true,
}

// leaves reports whether the link leaves something behind when it matches,
// whatever becomes of the rule.
func (l *link) leaves() bool {
	if l.capture || l.operator == nil {
		return true
	}
	for _, a := range l.actions {
		if a.kind == plugintypes.ActionTypeNondisruptive && !harmless[a.name] {
			return true
		}
	}
	return false
}

// conditionsOf lists the links of which each must match for the rule to match
// or to leave anything behind. There are none if that cannot be told before
// the phase.
func conditionsOf(r *rule) (all []*link) {
	for _, l := range r.links {
		if l.decidable(r.phase) {
			all = append(all, l)
		}
		if l.leaves() {
			break
		}
	}
	return all
}

// applies reports whether the target may stand for a value with this key.
func (t *target) applies(key, lower string) bool {
	switch {
	case key == "":
	case t.pattern != nil:
		if !t.pattern.MatchString(key) && !t.pattern.MatchString(lower) {
			return false
		}
	case t.key != "":
		if strings.ToLower(t.key) != lower {
			return false
		}
	}
	return !t.excepts(lower)
}

// excepts reports whether an exception leaves the key out, as Coraza decides it.
func (t *target) excepts(lower string) bool {
	for _, e := range t.exceptions {
		if e.pattern != nil && e.pattern.MatchString(lower) || e.pattern == nil && (e.key == "" || strings.ToLower(e.key) == lower) {
			return true
		}
	}
	return false
}

// number is the value of a target that counts.
func (t *target) number(col collection.Collection) string {
	var found []types.MatchData
	keyed, ok := col.(collection.Keyed)
	switch {
	case t.pattern != nil && ok:
		found = keyed.FindRegex(t.pattern)
	case t.pattern != nil:
	case t.key != "" && ok:
		found = keyed.FindString(t.key)
	case t.key != "":
	default:
		found = col.FindAll()
	}
	n := 0
	for _, m := range found {
		if !t.excepts(strings.ToLower(m.Key())) {
			n++
		}
	}
	return strconv.Itoa(n)
}
