package eventstore

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"pasban"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
)

// maxQuery is the longest query that is read, in bytes. The parser recurses.
const maxQuery = 16 << 10

// Check reads a LogsQL expression and returns an error of the kind Invalid that
// says where it is wrong. A nil error means that Search takes it.
func Check(logsQL string) error {
	_, err := parse(Query{LogsQL: logsQL})
	return err
}

// parsed is a query that was read.
type parsed struct {
	text string // in the parser's own words
	// events is whether the rows are events still: pipes may have made others.
	events bool
	// ordered is whether the order of a row's fields is the query's.
	ordered bool
	filter  string // the query without its pipes
}

// parse reads a query with the parser of the engine that this module is built
// with. A pipe or filter that this parser does not know is refused here, also
// if a cluster of a later version would run it: of those that it knows none
// writes, and none leaves the tenant. Options of the query are refused, because
// they could lift its bounds: the time, the number of threads, the answers of
// all nodes of a cluster.
func parse(q Query) (p parsed, err error) {
	defer func() { // the parser is someone else's, the input is anyone's
		if r := recover(); r != nil {
			err = mistake(1, "cannot be read", fmt.Errorf("%v", r))
		}
	}()
	text := cmp.Or(strings.TrimSpace(q.LogsQL), "*")
	if len(text) > maxQuery {
		return parsed{}, mistake(maxQuery, fmt.Sprintf("longer than %d bytes", maxQuery), nil)
	}
	parsedQuery, err := logstorage.ParseQueryAtTimestamp(text, time.Now().UnixNano())
	if err != nil {
		return parsed{}, mistake(column(text, err.Error()), plainMistake(err.Error()), nil)
	}
	p = parsed{text: parsedQuery.String(), events: parsedQuery.CanReturnLastNResults(), ordered: parsedQuery.IsFixedOutputFieldsOrder()}
	if at := optionsAt(p.text); at >= 0 {
		return parsed{}, &pasban.Error{Kind: pasban.Invalid, Where: fmt.Sprintf("column %d", max(1, optionsAt(text)+1)),
			Msg: "options() are not allowed here", Hint: `to look for the word, write it in quotes: "options"`}
	}
	parsedQuery.DropAllPipes()
	p.filter = parsedQuery.String()
	return p, nil
}

// mistake is an error of whoever wrote the query. Columns count bytes from 1.
func mistake(column int, msg string, err error) error {
	return &pasban.Error{Kind: pasban.Invalid, Where: fmt.Sprintf("column %d", column), Msg: msg, Err: err}
}

// column finds where the parser stopped: it quotes up to 50 bytes before it.
func column(text, msg string) int {
	_, context, ok := strings.Cut(msg, "context: [")
	if !ok {
		return 1
	}
	// What follows depends on the mistake; the context itself may hold brackets.
	for end := len(context); end > 0; end-- {
		if context[end-1] != ']' {
			continue
		}
		if c := context[:end-1]; len(c) < 50 && strings.HasPrefix(text, c) {
			return len(c) + 1
		} else if at := strings.Index(text, c); len(c) == 50 && at >= 0 {
			return at + len(c) + 1
		}
	}
	return 1
}

// plainMistake is the parser's message without what only its developers need.
func plainMistake(msg string) string {
	for _, tail := range []string{"; context: [", "; see https://", ": see https://"} {
		msg, _, _ = strings.Cut(msg, tail)
	}
	return msg
}

// optionsAt returns where options( stands outside of quotes, or -1.
func optionsAt(text string) int {
	quote := byte(0)
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quote != 0 && c == '\\' && quote != '`':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'' || c == '`':
			quote = c
		case c == 'o' || c == 'O':
			word := len("options")
			if len(text) > i+word && strings.EqualFold(text[i:i+word], "options") &&
				(i == 0 || strings.IndexByte(" (,|\t\n", text[i-1]) >= 0) && strings.HasPrefix(strings.TrimLeft(text[i+word:], " \t\r\n"), "(") {
				return i
			}
		}
	}
	return -1
}
