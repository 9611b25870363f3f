package screen

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"sync"

	"github.com/corazawaf/coraza/v3/experimental/plugins"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"

	"pasban/internal/gateway/waf/dfa"
)

// The operators that rules have in place of Coraza's @rx, @pm and @pmFromFile.
// They decide exactly as those do and leave the same captures; whether and where
// something matches is told by automata, at a fraction of the cost.
const (
	ScanOperator       = "rxScan"
	PhraseOperator     = "pmScan"
	PhraseFileOperator = "pmFileScan"
)

// Register makes the operators known to Coraza, under names that its own rules
// do not use: rule sets without them stay untouched. Coraza's table is one per
// process and may not be written while rules are compiled.
func Register() {
	plugins.RegisterOperator(ScanOperator, newScan)
	plugins.RegisterOperator(PhraseOperator, newPhrases)
	plugins.RegisterOperator(PhraseFileOperator, newPhraseFile)
	plugins.RegisterOperator(spareOperator, newSpare)
}

// scan is @rx.
type scan struct {
	expr   string
	groups int // what it captures, and the whole
	// Both are made when they are first needed. Most rules are never evaluated,
	// and few expressions ever match: what hundreds of them would keep in memory
	// is more than all else.
	dfa func() *dfa.DFA // nil if the expression has none
	re  func() *regexp.Regexp
}

var _ plugintypes.Operator = (*scan)(nil)

// scanFlags are the flags with which Coraza's @rx compiles every expression.
const scanFlags = "(?sm)"

func newScan(o plugintypes.OperatorOptions) (plugintypes.Operator, error) {
	s, err := once(o.Memoizer, ScanOperator+":"+o.Arguments, func() (any, error) {
		expr := scanFlags + o.Arguments
		parsed, err := syntax.Parse(expr, syntax.Perl)
		if err != nil {
			return nil, err
		}
		return &scan{expr: expr, groups: parsed.MaxCap() + 1,
			re: sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) }),
			dfa: sync.OnceValue(func() *dfa.DFA {
				d, err := dfa.Compile(expr)
				if err != nil {
					return nil // too many classes of characters: the standard expression alone
				}
				return d
			})}, nil
	})
	if err != nil {
		return nil, err
	}
	return s.(*scan), nil
}

func once(m plugintypes.Memoizer, key string, build func() (any, error)) (any, error) {
	if m == nil {
		return build()
	}
	return m.Do(key, build)
}

// matches reports whether the expression matches.
func (s *scan) matches(value string) bool {
	if d := s.dfa(); d != nil {
		if hits, ok := d.Scan(value, 1); ok {
			return hits != 0
		}
	}
	return s.re().MatchString(value)
}

// Evaluate reports whether the expression matches and, if the rule captures,
// leaves the groups where Coraza's @rx leaves them.
func (s *scan) Evaluate(tx plugintypes.TransactionState, value string) bool {
	if !tx.Capturing() {
		return s.matches(value)
	}
	d := s.dfa()
	if d != nil && s.groups == 1 { // as nearly all have
		if begin, end, found, ok := d.Find(value); ok {
			if found {
				tx.CaptureField(0, value[begin:end])
			}
			return found
		}
	}
	if d != nil {
		if from, found, ok := d.Since(value); ok && !found {
			return false
		} else if ok {
			value = value[from:] // finding groups takes many times as long as the automaton
		}
	}
	groups := s.re().FindStringSubmatchIndex(value)
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

// phrases is @pm and @pmFromFile.
type phrases struct {
	list []string
	set  func() *phraseSet // made when a value is first asked about: most lists are looked for together with others
}

var _ plugintypes.Operator = (*phrases)(nil)

func newPhrases(o plugintypes.OperatorOptions) (plugintypes.Operator, error) {
	return phrasesOf(o, strings.Split(strings.ToLower(o.Arguments), " "))
}

// newPhraseFile reads a file of the rule set.
func newPhraseFile(o plugintypes.OperatorOptions) (plugintypes.Operator, error) {
	var data []byte
	err := fs.ErrNotExist
	for _, dir := range o.Path {
		if data, err = fs.ReadFile(o.Root, path.Join(dir, o.Arguments)); err == nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("phrases %s: %w", o.Arguments, err)
	}
	var list []string
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		if line := strings.TrimSpace(lines.Text()); line != "" && line[0] != '#' {
			list = append(list, strings.ToLower(line))
		}
	}
	return phrasesOf(o, list)
}

func phrasesOf(o plugintypes.OperatorOptions, list []string) (plugintypes.Operator, error) {
	if slices.Contains(list, "") {
		return nil, fmt.Errorf("one of the phrases %.40q is empty", o.Arguments)
	}
	p, err := once(o.Memoizer, PhraseOperator+":"+strings.Join(list, "\n"), func() (any, error) {
		return &phrases{list, sync.OnceValue(func() *phraseSet { return newPhraseSet([][]string{list}) })}, nil
	})
	if err != nil {
		return nil, err
	}
	return p.(*phrases), nil
}

// Evaluate reports whether a phrase is in the value and, if the rule captures,
// leaves the first ten where Coraza's @pm leaves them: at each place the longest
// that begins there, whether or not it overlaps with others.
func (p *phrases) Evaluate(tx plugintypes.TransactionState, value string) bool {
	set := p.set()
	if set.find(value, 1) == 0 {
		return false
	}
	if !tx.Capturing() {
		return true
	}
	for n, i := 0, 0; n < 10 && i < len(value); i++ {
		if length := set.longest(value[i:]); length > 0 {
			tx.CaptureField(n, value[i:i+length])
			n++
		}
	}
	return true
}

var (
	stockOperator = regexp.MustCompile(`("!?)@(rx|pm|pmFromFile|pmf) ([^\n]*)`)
	// highBytes are escapes that may stand for bytes beyond ASCII: Coraza takes
	// another package for expressions that are not UTF-8.
	highBytes = regexp.MustCompile(`\\x(?:\{|[89a-fA-F])`)
)

// Rules is a rule set with the operators exchanged.
type Rules struct{ fs.FS }

// ReadFile implements fs.ReadFileFS, through which Coraza reads every file.
func (r Rules) ReadFile(name string) ([]byte, error) {
	data, err := fs.ReadFile(r.FS, name)
	if err != nil || !strings.HasSuffix(name, ".conf") {
		return data, err
	}
	return stockOperator.ReplaceAllFunc(data, func(rule []byte) []byte {
		m := stockOperator.FindSubmatch(rule)
		name := PhraseOperator
		switch string(m[2]) {
		case "rx":
			if name = ScanOperator; highBytes.Match(rule) {
				return rule
			}
		case "pmFromFile", "pmf":
			name = PhraseFileOperator
		}
		return fmt.Appendf(nil, "%s@%s %s", m[1], name, m[3])
	}), nil
}
