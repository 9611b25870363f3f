package waf

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/corazawaf/coraza/v3/types"

	"pasban"
	"pasban/internal/config"
)

const (
	// maxMatches is how many places a report names.
	maxMatches = 32
	// maxShape is how long a shape is, in characters.
	maxShape = 96
	// certain is the score of a rule that blocks alone.
	certain = 100
)

// Match is one place in a request at which a rule matched.
type Match struct {
	Rule   int    `json:"rule"`
	Msg    string `json:"msg,omitempty"`
	Target string `json:"at"`    // ARGS:note, REQUEST_HEADERS:Referer …
	Shape  string `json:"shape"` // the matched part as Shape leaves it
	Level  int    `json:"level,omitempty"`
	Score  int    `json:"score,omitempty"` // what it adds to the anomaly score; 100 if the rule blocks alone
}

// judges reports whether a rule looks at the request itself: others set up the
// rule set or add up what those found.
func judges(id int) bool {
	_, _, ok := config.RuleRange(strconv.Itoa(id)).Bounds()
	return ok
}

// matchesOf lists the places at which a rule matched. In a chain, each link
// has its own level, and the score stands at the last one.
func (e *Engine) matchesOf(m types.MatchedRule) (all []Match) {
	score := map[types.RuleSeverity]int{types.RuleSeverityCritical: 5, types.RuleSeverityError: 4, types.RuleSeverityWarning: 3, types.RuleSeverityNotice: 2}[m.Rule().Severity()]
	if e.blocks(m.Rule()) {
		score = certain
	}
	last := 0
	for _, d := range m.MatchedDatas() {
		last = max(last, d.ChainLevel())
	}
	for _, d := range m.MatchedDatas() {
		one := Match{Rule: m.Rule().ID(), Target: targetOf(d), Shape: Shape(matchedPart(m, d)), Level: d.ChainLevel()}
		if d.ChainLevel() == last {
			one.Score = score
			one.Msg = pasban.MaskCNICs(strings.ToValidUTF8(cutRunes(m.Message(), 200), "\ufffd"))
		}
		all = append(all, one)
	}
	return all
}

// targetOf names the place as an exclusion would.
func targetOf(d types.MatchData) string {
	name := d.Variable().Name()
	switch name {
	case "ARGS_GET", "ARGS_POST":
		name = "ARGS"
	case "ARGS_GET_NAMES", "ARGS_POST_NAMES":
		name = "ARGS_NAMES"
	}
	if key := d.Key(); key != "" {
		name += ":" + pasban.MaskCNICs(strings.ToValidUTF8(cutRunes(key, 128), "\ufffd"))
	}
	return name
}

// matchedPart is what of the value made the rule match, where its message
// tells ("Matched Data: … found within ARGS:note: …"), else the value.
func matchedPart(m types.MatchedRule, d types.MatchData) string {
	if raw := m.Rule().Raw(); strings.Contains(raw, "@detectSQLi") || strings.Contains(raw, "@detectXSS") {
		return d.Value() // of libinjection's operators the message has only the fingerprint
	}
	data := d.Data()
	if data == "" {
		data = m.Data()
	}
	if part, ok := strings.CutPrefix(data, "Matched Data: "); ok {
		if part, _, ok := strings.Cut(part, " found within "); ok {
			return part
		}
	}
	return d.Value()
}

func cutRunes(s string, n int) string {
	for i := range s {
		if n--; n < 0 {
			return s[:i]
		}
	}
	return s
}

// Shape returns what can be shown of text from a request without showing
// anyone's data: punctuation stands, words that attacks are written in stand
// (select, script, passwd …), every other word is x, every number 9. So
// "1' OR name='Synthetic' --" is "9' OR x='x' --": enough to tell an attack
// from a sentence, and no name, number or address is left in it.
func Shape(text string) string {
	var b strings.Builder
	n := 0
	put := func(s string) {
		if b.WriteString(s); s != "" {
			n += utf8.RuneCountInString(s)
		}
	}
	for len(text) > 0 {
		if n >= maxShape {
			b.WriteString("…")
			break
		}
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case wordly(r):
			end := strings.IndexFunc(text, func(r rune) bool { return !wordly(r) })
			if end < 0 {
				end = len(text)
			}
			put(wordShape(text[:end]))
			size = end
		case unicode.IsSpace(r):
			size = len(text) - len(strings.TrimLeftFunc(text, unicode.IsSpace))
			put(" ")
		case r > ' ' && r < 0x7f:
			put(string(r))
		default:
			put("·")
		}
		text = text[size:]
	}
	return b.String()
}

func wordly(r rune) bool {
	return r == '_' || unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsNumber(r) ||
		unicode.Is(unicode.Cf, r) // joiners, which Urdu is written with
}

func wordShape(word string) string {
	switch {
	case vocabulary[strings.ToLower(word)]:
		return word
	case strings.IndexFunc(word, func(r rune) bool { return !unicode.IsNumber(r) }) < 0:
		return "9"
	}
	return "x"
}

// vocabulary are words of the languages that attacks are written in: none of
// them says anything about a person.
var vocabulary = setOf(`select union insert update delete drop alter create truncate replace from where having group order by limit offset
	into values set table database schema information_schema column_name table_name all distinct and or not xor like rlike regexp between in is null
	true false case when then else end if ifnull exists as join on waitfor delay sleep benchmark pg_sleep char chr concat ascii substr substring
	cast convert declare exec execute xp_cmdshell load_file outfile dumpfile version user session_user current_user
	script javascript vbscript alert prompt confirm eval function return var let const new this window document cookie location
	onerror onload onclick onmouseover onfocus img src href iframe svg body input style object embed form action data text html
	etc passwd shadow proc self environ bin sh bash zsh cmd powershell cat ls id whoami uname wget curl nc ping echo rm chmod
	php asp aspx jsp cgi include require system passthru shell_exec popen proc_open base64_decode base64 phpinfo
	http https ftp file gopher ldap ldaps rmi dns jndi expect localhost
	class runtime java lang process processbuilder getruntime ognl constructor __proto__ prototype
	xml doctype entity system public cdata get post put patch options head trace connect`)

func setOf(words string) map[string]bool {
	set := map[string]bool{}
	for w := range strings.FieldsSeq(words) {
		set[w] = true
	}
	return set
}
