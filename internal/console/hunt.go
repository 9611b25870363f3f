package console

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"pasban"
	"pasban/internal/eventstore"
	"pasban/internal/page"
	"pasban/internal/soc/hunt"
)

// Events is what the console asks of the store of events.
type Events interface {
	Search(ctx context.Context, q eventstore.Query, limit int, each func(eventstore.Row) error) error
	Histogram(ctx context.Context, q eventstore.Query, step time.Duration) ([]eventstore.Bucket, error)
	Fields(ctx context.Context, q eventstore.Query) ([]eventstore.FieldCount, error)
	Values(ctx context.Context, q eventstore.Query, field string, limit int) ([]eventstore.ValueCount, error)
}

var _ Events = eventstore.Store(nil)

const (
	// huntRows is how many events a page of results has.
	huntRows = 50
	// instantRows is how many events of one and the same instant a page has, and
	// how many rows that pipes made.
	instantRows = 1000
	// huntTime is how long the store may take for one page.
	huntTime = 30 * time.Second
	// topValues is how many values of a field are counted.
	topValues = 20
	// firstFields is how many fields are listed before the rest.
	firstFields = 15
)

// HuntView is the data of the hunting page.
type HuntView struct {
	Query    string
	From, To string // as browsers write times; "" if a period is chosen
	Window   string // when the events are from, in words
	Spans    []Choice
	State    []Hidden // of the forms that go on from here
	Problem  *HuntProblem
	Results  *HuntResults  // nil if nothing was asked for, or nothing could be
	Saved    []SavedRow    // where nothing was asked for
	Examples []HuntExample // where there are no results
	Rule     string        // address of the rule draft
	MayAct   bool
}

// HuntProblem is what is wrong with a query, beside the place.
type HuntProblem struct {
	Where, Msg, Hint string
	Before, Rest     string // the query, parted where the mistake is; both "" if that is not known
}

// HuntExample is a query to learn from.
type HuntExample struct{ Key, Query, Href string }

// HuntResults is what was found.
type HuntResults struct {
	Chart   *HuntChart
	Fields  []HuntField // the most frequent
	More    []HuntField
	Values  *HuntValues
	Columns []HuntColumn
	Rows    []HuntRow
	Piped   bool   // the rows are what pipes made
	Older   string // address of the next page, "" if there is none
	Newest  string // address of the first page, "" if this is it
	Cut     bool   // there are more rows than a page holds, and no way to page
	Failed  []string
}

// huntExamples are worked examples: the words are messages, the queries run.
func huntExamples() []HuntExample {
	out := []HuntExample{
		{Key: "blocks", Query: `Kind:=block | stats by (SrcIP) count() as blocks | sort by (blocks desc) | limit 20`},
		{Key: "officer", Query: `Kind:=look Role:=officer !LocalHour:range[8, 18)`},
		{Key: "signin", Query: `Kind:=signin Outcome:=deny`},
		{Key: "tool", Query: `UserAgent:~"(?i)sqlmap|nikto|nuclei"`},
		{Key: "windows", Query: `logsource_product:=windows CommandLine:*-enc*`},
	}
	for i := range out {
		out[i].Href = huntState{query: out[i].Query, span: day}.href()
	}
	return out
}

// hunt shows the form, and what the address asks for. That somebody looked, and
// for what, is a fact before anything is shown.
func (c *Console) hunt(w http.ResponseWriter, r *http.Request, v Visitor) error {
	s, err := readHunt(r.URL.Query())
	if err == nil && r.URL.Query().Has("set") {
		http.Redirect(w, r, s.href(), http.StatusSeeOther)
		return nil
	}
	lang, now := page.Lang(r), c.o.Now().UTC()
	view := c.huntView(lang, s, v)
	status := http.StatusOK
	switch {
	case err != nil:
		view.Problem, status = problemOf(s.query, err), http.StatusUnprocessableEntity
	case s.run:
		status = c.runHunt(r, v, lang, s, now, &view)
	default:
		if view.Saved, err = c.savedRows(r.Context(), lang, v); err != nil {
			return err
		}
	}
	if view.Results == nil {
		view.Examples = huntExamples()
	}
	c.render(w, r, v, status, "hunt", "nav.hunt", view)
	return nil
}

// huntView is the form as the address has it.
func (c *Console) huntView(lang string, s huntState, v Visitor) HuntView {
	view := HuntView{Query: s.query, Window: c.windowOf(lang, s), MayAct: v.Actor.Role == pasban.RoleAnalyst, Rule: s.ruleHref("rule", "")}
	for _, d := range spans() {
		view.Spans = append(view.Spans, Choice{Value: spanName(d), Text: c.period(lang, d), Chosen: d == s.span})
	}
	field := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.Format(fieldForm)
	}
	view.From, view.To = field(s.from), field(s.to)
	plain := s.with(s.query)
	plain.field = ""
	for name, values := range plain.values() {
		for _, value := range values {
			view.State = append(view.State, Hidden{name, value})
		}
	}
	slices.SortFunc(view.State, func(a, b Hidden) int { return strings.Compare(a.Name+a.Value, b.Name+b.Value) })
	return view
}

// windowOf says when the events of a hunt are from.
func (c *Console) windowOf(lang string, s huntState) string {
	if s.span > 0 {
		return c.say(lang, "hunt.last", "Span", c.period(lang, s.span))
	}
	words := func(t time.Time) string {
		if t.IsZero() {
			return "…"
		}
		return stamp(t)
	}
	return c.say(lang, "hunt.between", "From", words(s.from), "To", words(s.to))
}

// period says how long a time is, in the largest unit that says it exactly.
func (c *Console) period(lang string, d time.Duration) string {
	switch {
	case d > day && d%day == 0:
		return c.say(lang, "span.d", "N", int(d/day))
	case d%time.Hour == 0:
		return c.say(lang, "span.h", "N", int(d/time.Hour))
	case d%time.Minute == 0:
		return c.say(lang, "span.m", "N", int(d/time.Minute))
	}
	return c.say(lang, "span.s", "N", int(d.Round(time.Second)/time.Second))
}

// problemOf says what is wrong with a query, and where in it.
func problemOf(query string, err error) *HuntProblem {
	p := &HuntProblem{Msg: err.Error()}
	e, ok := errors.AsType[*pasban.Error](err)
	if !ok {
		return p
	}
	p.Where, p.Msg, p.Hint = e.Where, e.Msg, e.Hint
	at, ok := strings.CutPrefix(e.Where, "column ")
	if column, err := strconv.Atoi(at); ok && err == nil {
		n := min(max(column-1, 0), len(query))
		for n > 0 && n < len(query) && !utf8.RuneStart(query[n]) {
			n--
		}
		p.Before, p.Rest = query[:n], query[n:]
	}
	return p
}

// runHunt records that it is asked for, and asks. It returns the answer's status.
func (c *Console) runHunt(r *http.Request, v Visitor, lang string, s huntState, now time.Time, view *HuntView) int {
	q, err := hunt.Parse(s.query)
	if err == nil {
		err = c.o.Alerts.RecordSearch(r.Context(), v.Actor, s.kept())
	}
	if err == nil {
		ctx, cancel := context.WithTimeout(r.Context(), huntTime)
		defer cancel()
		view.Results, err = c.results(ctx, lang, s, q, now)
	}
	switch {
	case err == nil:
		return http.StatusOK
	case pasban.KindOf(err) == pasban.Invalid:
		view.Problem = problemOf(s.query, err)
		return http.StatusUnprocessableEntity
	}
	view.Problem = &HuntProblem{Msg: c.say(lang, "hunt.unavailable")}
	if e, ok := errors.AsType[*pasban.Error](err); ok {
		view.Problem.Msg, view.Problem.Hint = e.Msg, e.Hint
	}
	if pasban.KindOf(err) == pasban.Limited {
		return http.StatusTooManyRequests
	}
	return http.StatusServiceUnavailable
}

// results asks the store for everything on the page at once. Only the events
// themselves are needed: what else fails is named in their place.
func (c *Console) results(ctx context.Context, lang string, s huntState, q hunt.Query, now time.Time) (*HuntResults, error) {
	res := &HuntResults{Piped: q.Piped()}
	whole := s.ask(now)
	filter := whole
	filter.LogsQL = q.Filter()
	var parts sync.WaitGroup
	var rows huntPage
	var fields []eventstore.FieldCount
	var errs [4]error
	parts.Go(func() { rows, errs[0] = c.huntPage(ctx, s, whole, q.Piped()) })
	parts.Go(func() { res.Chart, errs[1] = c.huntChart(ctx, lang, s, filter) })
	parts.Go(func() { fields, errs[2] = c.o.Events.Fields(ctx, filter) })
	if s.field != "" {
		parts.Go(func() { res.Values, errs[3] = c.huntValues(ctx, s, q, filter) })
	}
	parts.Wait()
	if errs[0] != nil {
		return nil, errs[0]
	}
	for i, key := range []string{"chart", "fields", "values"} {
		if errs[i+1] != nil {
			res.Failed = append(res.Failed, c.say(lang, "hunt.failed."+key))
		}
	}
	total := int64(-1) // not known
	if res.Chart != nil {
		total = res.Chart.Total
	}
	if res.Values != nil {
		res.Values.share(total)
	}
	all := huntFields(s, fields, total)
	res.Fields = all[:min(len(all), firstFields)]
	res.More = all[len(res.Fields):]
	res.take(s, q, whole, fields, rows)
	return res, nil
}

// huntPage is the rows of one page.
type huntPage struct {
	rows []eventstore.Row
	next time.Time // the page after it ends before this; zero if there is none
	cut  bool
}

// huntPage asks for a page of events. A page ends between two instants, so that
// the next one can begin there whatever came meanwhile: no event is on two
// pages, and none on neither.
func (c *Console) huntPage(ctx context.Context, s huntState, q eventstore.Query, piped bool) (p huntPage, err error) {
	search := func(q eventstore.Query, limit int) error {
		p.rows = nil
		return c.o.Events.Search(ctx, q, limit, func(row eventstore.Row) error { p.rows = append(p.rows, row); return nil })
	}
	whole := func(q eventstore.Query) error { // what cannot be paged
		err := search(q, instantRows+1)
		if p.cut = len(p.rows) > instantRows; p.cut {
			p.rows = p.rows[:instantRows]
		}
		return err
	}
	if piped {
		err = whole(q)
		return p, err
	}
	if !s.before.IsZero() && s.before.Before(q.To) {
		q.To = s.before
	}
	if err = search(q, huntRows+1); err != nil || len(p.rows) <= huntRows {
		return p, err
	}
	last := rowTime(p.rows[huntRows])
	end := slices.IndexFunc(p.rows, func(row eventstore.Row) bool { return !rowTime(row).After(last) })
	if end > 0 {
		p.rows, p.next = p.rows[:end], last.Add(1)
		return p, nil
	}
	q.From, q.To, p.next = last, last.Add(1), last // more than a page of one instant
	err = whole(q)
	return p, err
}

// rowTime is when an event happened; the zero time if the row is none.
func rowTime(row eventstore.Row) time.Time {
	t, _ := time.Parse(time.RFC3339Nano, row.Get(eventstore.FieldTime))
	return t.UTC()
}
