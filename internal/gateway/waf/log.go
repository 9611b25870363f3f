package waf

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/corazawaf/coraza/v3/types"

	"pasban"
	"pasban/internal/gateway/logfile"
)

// maxValue is how much of a message or of matched data a line carries, in bytes.
const maxValue = 280

// Log is the file of matched rules, one line each, in the form of
// ModSecurity's error log, which existing tools read:
//
//	[Mon Nov 23 19:54:40.123456 2026] [security2:error] [client 192.0.2.7] ModSecurity: Warning. SQL Injection … [file "…"] [line "46"] [id "942100"] [msg "…"] [data "…"] [severity "CRITICAL"] [ver "…"] [tag "…"] [hostname "…"] [uri "…"] [unique_id "…"]
//
// A nil Log writes nothing. Numbers that read as a CNIC are masked, addresses are
// written without their query, and of cookies, credentials and fields whose names
// say that they are secret not even the part that matched. Lines may still carry
// other personal data that an attacker found in or put into a request: the file
// is readable by its owner only.
type Log struct {
	file *logfile.File
	mask func(string) string // what is left of text from a request
}

// OpenLog opens the file to append to it and makes it if needed (mode 0600,
// its directory 0700). Text from requests is written as mask leaves it: it
// hides secrets; nil hides nothing more than CNICs.
func OpenLog(path string, mask func(string) string) (*Log, error) {
	l := &Log{file: logfile.New(path), mask: pasban.MaskCNICs}
	if mask != nil {
		l.mask = func(s string) string { return mask(pasban.MaskCNICs(s)) }
	}
	if err := l.file.Open(); err != nil {
		return nil, &pasban.Error{Kind: pasban.Unavailable, Msg: "the WAF's log is not writable", Where: path, Err: err}
	}
	return l, nil
}

// Reopen has the next line go to a new file, if somebody set the old one aside.
func (l *Log) Reopen() { l.file.Reopen() }

// Close closes the file. The log must not be used afterwards.
func (l *Log) Close() error {
	if l == nil {
		return nil
	}
	return l.file.Close()
}

// write appends one line for each match that is meant to be logged. A log
// that cannot be written does not stop traffic: verdicts are in the journal.
func (l *Log) write(r *http.Request, tx types.Transaction) {
	if l == nil {
		return
	}
	var lines []byte
	now := time.Now()
	blocked := 0
	if it := tx.Interruption(); it != nil {
		blocked = it.RuleID
	}
	for _, m := range tx.MatchedRules() {
		if logged(m) {
			lines = appendLine(lines, now, r.Host, m, blocked, l.mask)
		}
	}
	if len(lines) == 0 {
		return
	}
	_, _ = l.file.Write(lines) // it says in the node's log what it does not take
}

// appendLine writes one match. Everything that comes from the request is
// quoted, so that no request can start a line of its own. blocked is the id of
// the rule that blocked the request, 0 if none did.
func appendLine(b []byte, now time.Time, host string, m types.MatchedRule, blocked int, mask func(string) string) []byte {
	rule := m.Rule()
	b = now.AppendFormat(b, "[Mon Jan 02 15:04:05.000000 2006] ")
	b = append(b, "[security2:error] [client "...)
	b = append(b, plain(m.ClientIPAddress())...)
	b = append(b, "] ModSecurity: "...)
	if rule.ID() == blocked {
		b = fmt.Appendf(b, "Access denied (phase %d). ", rule.Phase())
	} else {
		b = append(b, "Warning. "...)
	}
	if data := m.MatchedDatas(); len(data) > 0 && rule.Operator() != "" {
		at := data[0].Variable().Name()
		if key := data[0].Key(); key != "" {
			at += ":" + key
		}
		b = fmt.Appendf(b, "Matched %s at %s. ", plain(cut(rule.Operator())), plain(cut(at)))
	}
	for _, field := range [][2]string{
		{"file", rule.File()}, {"line", strconv.Itoa(rule.Line())}, {"id", strconv.Itoa(rule.ID())},
		{"rev", rule.Revision()}, {"msg", cut(mask(told(m, m.Message())))}, {"data", cut(mask(told(m, m.Data())))},
		{"severity", severity(rule.Severity())}, {"ver", rule.Version()},
	} {
		if field[1] != "" {
			b = append(appendField(b, field[0], field[1]), ' ')
		}
	}
	for _, tag := range rule.Tags() {
		b = append(appendField(b, "tag", tag), ' ')
	}
	uri, _, _ := strings.Cut(m.URI(), "?")
	b = append(appendField(b, "hostname", cut(host)), ' ')
	b = append(appendField(b, "uri", cut(mask(uri))), ' ')
	return append(appendField(b, "unique_id", m.TransactionID()), '\n')
}

// appendField writes a name and a quoted text in brackets.
func appendField(b []byte, name, text string) []byte {
	b = append(append(append(b, '['), name...), ' ')
	return append(strconv.AppendQuote(b, text), ']')
}

// secretName finds the names of fields and headers whose values are nobody's
// business; every cookie is one.
var secretName = regexp.MustCompile(`(?i)pass(?:w|phrase|code)|pwd|secret|token|otp|\bpin\b|authoriz|authent|\bauth\b|cookie|session|api[_-]?key|csrf`)

// told is what a line says of a rule's text, which may quote what matched:
// nothing where that is a secret, and no query.
func told(m types.MatchedRule, text string) string {
	quotes := text == m.Data() // a message may, data does
	for _, d := range m.MatchedDatas() {
		secret := false
		switch d.Variable().Name() {
		case "REQUEST_COOKIES":
			secret = true
		case "ARGS", "ARGS_GET", "ARGS_POST", "REQUEST_HEADERS":
			if secret = secretName.MatchString(d.Key()); strings.EqualFold(d.Key(), "referer") {
				text, _, _ = strings.Cut(text, " found within ") // an address with a query, as below
			}
		case "QUERY_STRING", "REQUEST_URI", "REQUEST_URI_RAW", "REQUEST_LINE", "REQUEST_BODY", "FULL_REQUEST":
			text, _, _ = strings.Cut(text, " found within ") // many values, of which one matched
		}
		if secret && (quotes || d.Value() != "" && strings.Contains(text, d.Value())) {
			return ""
		}
	}
	if _, query, ok := strings.Cut(m.URI(), "?"); ok && query != "" {
		text = strings.ReplaceAll(text, query, "…")
	}
	return text
}

// severity names a severity as ModSecurity does, "" if the rule has none.
func severity(s types.RuleSeverity) string {
	names := [...]string{"EMERGENCY", "ALERT", "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG"}
	if s < 0 || int(s) >= len(names) {
		return ""
	}
	return names[s]
}

// plain is s as it is if it can stand unquoted in a line, else without what
// could break the line.
func plain(s string) string {
	q := strconv.Quote(s)
	return q[1 : len(q)-1]
}

func cut(s string) string {
	if len(s) > maxValue {
		return s[:maxValue]
	}
	return s
}
