package waf

import (
	"bytes"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"github.com/corazawaf/coraza/v3/experimental/plugins"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"

	"pasban/internal/gateway/waf/dfa"
)

// Two thirds of what the Core Rule Set costs are regular expressions that do
// not match. Engines use an operator of this package in place of @rx: it asks
// a deterministic automaton first, which answers no at a fraction of the cost,
// and has the standard expression find the captures when the answer is yes. It
// decides exactly as Coraza's @rx does; TestIdentity and FuzzScan compare them.
const scanOperator = "rxScan"

// registerScan makes the operator known to Coraza under a name that its own
// rules do not use, so that rule sets without it stay untouched.
func registerScan() { plugins.RegisterOperator(scanOperator, newScan) }

// scan is @rx with an automaton before it.
type scan struct {
	re  *regexp.Regexp
	dfa *dfa.DFA // nil if the expression has none
}

var _ plugintypes.Operator = (*scan)(nil)

// scanFlags are the flags with which Coraza's @rx compiles every expression.
const scanFlags = "(?sm)"

func newScan(o plugintypes.OperatorOptions) (plugintypes.Operator, error) {
	build := func() (any, error) {
		re, err := regexp.Compile(scanFlags + o.Arguments)
		if err != nil {
			return nil, err
		}
		d, err := dfa.Compile(scanFlags + o.Arguments)
		if err != nil {
			d = nil // too many classes of characters: the standard expression alone
		}
		return &scan{re: re, dfa: d}, nil
	}
	if o.Memoizer == nil {
		s, err := build()
		if err != nil {
			return nil, err
		}
		return s.(*scan), nil
	}
	s, err := o.Memoizer.Do(scanOperator+":"+o.Arguments, build)
	if err != nil {
		return nil, err
	}
	return s.(*scan), nil
}

// Evaluate reports whether the expression matches and, if the rule captures,
// leaves the groups where Coraza's @rx leaves them.
func (s *scan) Evaluate(tx plugintypes.TransactionState, value string) bool {
	if s.dfa != nil {
		switch s.dfa.Match(value) {
		case dfa.No:
			return false
		case dfa.Yes:
			if !tx.Capturing() {
				return true
			}
		}
	}
	if !tx.Capturing() {
		return s.re.MatchString(value)
	}
	groups := s.re.FindStringSubmatchIndex(value)
	if groups == nil {
		return false
	}
	for i := 0; i < len(groups)/2 && i < 9; i++ {
		group := ""
		if groups[2*i] >= 0 {
			group = value[groups[2*i]:groups[2*i+1]]
		}
		tx.CaptureField(i, group)
	}
	return true
}

var (
	rxOperator = regexp.MustCompile(`("!?)@rx ([^\n]*)`)
	// highBytes are escapes that may stand for bytes beyond ASCII: Coraza takes
	// another package for expressions that are not UTF-8.
	highBytes = regexp.MustCompile(`\\x(?:\{|[89a-fA-F])`)
)

// scanRules is a rule set with the operator exchanged.
type scanRules struct{ fs.FS }

// ReadFile implements fs.ReadFileFS, through which Coraza reads every file.
func (r scanRules) ReadFile(name string) ([]byte, error) {
	data, err := fs.ReadFile(r.FS, name)
	if err != nil || !strings.HasSuffix(name, ".conf") {
		return data, err
	}
	return rxOperator.ReplaceAllFunc(data, func(rule []byte) []byte {
		if highBytes.Match(rule) {
			return rule
		}
		return bytes.Replace(rule, []byte("@rx "), fmt.Appendf(nil, "@%s ", scanOperator), 1)
	}), nil
}
