package console

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"pasban"
	"pasban/internal/eventstore"
	"pasban/internal/soc"
)

const (
	// around is how much time before and after something a hunt around it looks at.
	around = 15 * time.Minute
	// fieldForm is how browsers write the time of <input type=datetime-local>.
	fieldForm = "2006-01-02T15:04:05.999"
)

// spans are the periods up to now that a hunt is offered.
func spans() []time.Duration {
	return []time.Duration{15 * time.Minute, time.Hour, 6 * time.Hour, day, 7 * day, 30 * day}
}

// spanName is a period in an address: 15m, 24h, 7d.
func spanName(d time.Duration) string {
	for i, name := range []string{"15m", "1h", "6h", "24h", "7d", "30d"} {
		if spans()[i] == d {
			return name
		}
	}
	return d.String()
}

// parseSpan reads a period of an address.
func parseSpan(s string) (time.Duration, bool) {
	for _, d := range spans() {
		if spanName(d) == s {
			return d, true
		}
	}
	d, err := time.ParseDuration(s)
	return d, err == nil && d > 0
}

// huntState is what the hunting page shows, as its address says.
type huntState struct {
	query    string
	run      bool // the address asks for results
	span     time.Duration
	from, to time.Time // if there is no span; zero is open
	columns  []string
	field    string    // whose values are counted; "" none
	before   time.Time // only rows before it: the next page; zero for the first
}

// readHunt reads an address. An error says which of the times cannot be read;
// the rest of the state is there nevertheless.
func readHunt(q url.Values) (s huntState, err error) {
	s = huntState{query: strings.TrimSpace(q.Get("q")), run: q.Has("q"), field: q.Get("field")}
	for _, c := range q["col"] {
		if c != "" && !slices.Contains(s.columns, c) && len(s.columns) < soc.MaxColumns {
			s.columns = append(s.columns, c)
		}
	}
	for name, to := range map[string]*time.Time{"from": &s.from, "to": &s.to, "before": &s.before} {
		if text := strings.TrimSpace(q.Get(name)); text != "" {
			var ok bool
			if *to, ok = parseInstant(text); !ok {
				err = &pasban.Error{Kind: pasban.Invalid, Where: name, Msg: "this is not a time", Hint: "for example 2026-11-28T14:05:00Z"}
			}
		}
	}
	if set, ok := parseSpan(q.Get("set")); ok { // a button, which counts more than the fields beside it
		s.span, s.from, s.to = set, time.Time{}, time.Time{}
	} else if s.from.IsZero() && s.to.IsZero() {
		if s.span, ok = parseSpan(q.Get("span")); !ok {
			s.span = day
		}
	}
	if err == nil && !s.from.IsZero() && !s.to.IsZero() && !s.from.Before(s.to) {
		err = &pasban.Error{Kind: pasban.Invalid, Where: "to", Msg: "the time ends before it begins"}
	}
	return s, err
}

// parseInstant reads a time in UTC, as RFC 3339 or as browsers write it.
func parseInstant(s string) (time.Time, bool) {
	for _, form := range []string{time.RFC3339Nano, fieldForm, "2006-01-02T15:04", "2006-01-02 15:04:05.999999999", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.Parse(form, s); err == nil {
			return t.UTC(), t.Year() >= 1970 && t.Year() < 2200
		}
	}
	return time.Time{}, false
}

// values is the state as a query of an address.
func (s huntState) values() url.Values {
	q := url.Values{"q": {s.query}}
	for name, t := range map[string]time.Time{"from": s.from, "to": s.to, "before": s.before} {
		if !t.IsZero() {
			q.Set(name, t.UTC().Format(time.RFC3339Nano))
		}
	}
	if s.span > 0 {
		q.Set("span", spanName(s.span))
	}
	if s.field != "" {
		q.Set("field", s.field)
	}
	if len(s.columns) > 0 {
		q["col"] = s.columns
	}
	return q
}

func (s huntState) href() string { return "/soc/hunt?" + s.values().Encode() }

// ruleHref is the address of the hunt as a rule draft: the page rule, or the file
// rule.yml. saved is the hunt's id; "" if it is not kept.
func (s huntState) ruleHref(name, saved string) string {
	q := s.values()
	if saved != "" {
		q.Set("saved", saved)
	}
	return "/soc/hunt/" + name + "?" + q.Encode()
}

// with is the first page of another query, or of another time.
func (s huntState) with(query string) huntState {
	s.query, s.before = query, time.Time{}
	return s
}

func (s huntState) between(from, to time.Time) huntState {
	s.span, s.from, s.to, s.before = 0, from, to, time.Time{}
	return s
}

// window is when the events are from.
func (s huntState) window(now time.Time) (from, to time.Time) {
	if s.span > 0 {
		return now.Add(-s.span), now
	}
	if to = s.to; to.IsZero() {
		to = now
	}
	return s.from, to
}

// ask is the state as a question to the store.
func (s huntState) ask(now time.Time) eventstore.Query {
	from, to := s.window(now)
	return eventstore.Query{LogsQL: s.query, From: from, To: to}
}

// kept is the state as soc keeps it.
func (s huntState) kept() soc.Hunt {
	return soc.Hunt{Query: s.query, Span: s.span, From: s.from, To: s.to, Columns: s.columns}
}

// huntOf is a hunt that was kept as the page shows it.
func huntOf(h soc.Hunt) huntState {
	s := huntState{query: h.Query, run: true, span: h.Span, from: h.From, to: h.To, columns: h.Columns}
	if s.span == 0 && s.from.IsZero() && s.to.IsZero() {
		s.span = day
	}
	return s
}

// aroundHref is the address of the events that fit a condition, from a quarter
// of an hour before to a quarter of an hour after; "" if there is no condition.
func aroundHref(filter string, ok bool, first, last time.Time) string {
	if !ok || first.IsZero() {
		return ""
	}
	return huntState{query: filter}.between(first.Add(-around), last.Add(around)).href()
}
