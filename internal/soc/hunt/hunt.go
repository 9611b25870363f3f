// Package hunt is the language of hunts: it narrows a query in LogsQL by a
// value that somebody else may have sent, and writes a hunt as a Sigma rule.
//
// # Main types
//
// [Is] and [Not] say in LogsQL that a field has, or has not, just this value;
// [Query.And] adds such a condition to a query. [NewDraft] turns a query into a
// [Draft]: the text of a rule, what of the hunt it says otherwise and what it
// cannot say, and whether the rule holds; [Draft.Try] runs it over events.
//
// # The way of a query
//
//	text → logstorage.ParseQuery → its canonical form → parts (filter.go) → Sigma (sigma.go)
//
// The engine itself reads every query. Only the canonical form that it writes
// is read here, which has far fewer forms than people write; and what was read
// is written again and compared, so that nothing is misread in silence.
//
// # Guarantees
//
//   - A value or a field's name, whatever is in it, never changes what the rest
//     of a query asks.
//   - A draft lists all that it does not say as the hunt says it.
//
// # What it must never do
//
// It installs no rule and searches nothing.
package hunt

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"

	"pasban"
	"pasban/internal/eventstore"
)

// special are the fields whose conditions LogsQL writes in forms of their own.
func special() []string {
	return []string{eventstore.FieldTime, eventstore.FieldStream, "_stream_id"}
}

// Is says in LogsQL that a field has just this value. ok is false if LogsQL
// cannot say it of this field: a name that ends in a star stands for all fields
// that begin so, however it is quoted.
func Is(field, value string) (filter string, ok bool) {
	if field == "" || strings.HasSuffix(field, "*") || slices.Contains(special(), field) {
		return "", false
	}
	f, err := logstorage.ParseFilter(strconv.Quote(field) + ":=" + strconv.Quote(value))
	if err != nil {
		return "", false
	}
	return f.String(), true
}

// Not says in LogsQL that a field has not this value. ok is as for [Is].
func Not(field, value string) (filter string, ok bool) {
	is, ok := Is(field, value)
	return "!" + is, ok
}

// Anywhere says in LogsQL that some field, whichever, has just this value.
func Anywhere(value string) (filter string, ok bool) {
	f, err := logstorage.ParseFilter("*:=" + strconv.Quote(value))
	if err != nil {
		return "", false
	}
	return f.String(), true
}

// Query is a query that was read.
type Query struct {
	filter, pipes string // in canonical form
	or            bool   // the filter is alternatives at its top
}

// Parse reads a query; "" asks for everything. Errors: Invalid, with where the
// mistake is.
func Parse(query string) (Query, error) {
	whole, err := canonical(query)
	if err != nil {
		return Query{}, err
	}
	q := Query{}
	q.filter, q.pipes = split(whole)
	n, err := parse(q.filter)
	q.or = err != nil || n.kind == orNode // one that is not understood gets brackets too
	return q, nil
}

// Filter is the query without its pipes.
func (q Query) Filter() string { return q.filter }

// Unpiped is the query without its pipes.
func (q Query) Unpiped() Query {
	q.pipes = ""
	return q
}

// Piped reports whether pipes follow the filter.
func (q Query) Piped() bool { return q.pipes != "" }

// And is the query with one more condition, as [Is] writes it: its pipes get
// only the events that fit both.
func (q Query) And(filter string) string {
	switch {
	case q.filter == "*":
		return filter + q.pipes
	case q.or:
		return "(" + q.filter + ") " + filter + q.pipes
	}
	return q.filter + " " + filter + q.pipes
}

// canonical is a query as the engine writes it. "" asks for everything.
func canonical(query string) (string, error) {
	if err := eventstore.Check(query); err != nil {
		return "", err
	}
	q, err := logstorage.ParseQuery(cmp.Or(strings.TrimSpace(query), "*"))
	if err != nil {
		return "", &pasban.Error{Kind: pasban.Invalid, Msg: "the query is not LogsQL", Err: err}
	}
	return q.String(), nil
}

// split parts a canonical query into its filter and its pipes, which keep the
// bar before them; "" if there are none.
func split(query string) (filter, pipes string) {
	depth := 0
	for i := 0; i < len(query); {
		switch query[i] {
		case '"', '`':
			if quoted, err := strconv.QuotedPrefix(query[i:]); err == nil {
				i += len(quoted)
				continue
			}
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			depth--
		case '|':
			if depth == 0 {
				return strings.TrimSpace(query[:i]), " " + query[i:]
			}
		}
		i++
	}
	return query, ""
}
