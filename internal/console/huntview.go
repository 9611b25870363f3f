package console

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"pasban"
	"pasban/internal/eventstore"
	"pasban/internal/page"
	"pasban/internal/soc"
	"pasban/internal/soc/hunt"
)

// HuntChart is how many events there were over time, as a chart, a sentence and
// a table.
type HuntChart struct {
	Total    int64
	Sentence string
	Step     string // in words
	Data     chartData
	Table    []HuntBucket
}

// HuntBucket is one row of the chart's table.
type HuntBucket struct {
	Time  string
	Count int64
	Href  string // the hunt in this time alone; "" if nothing is in it
}

// chartBuckets is about how many steps a chart has.
const chartBuckets = 60

// stepOf is the step of a chart over a time.
func stepOf(window time.Duration) time.Duration {
	steps := []time.Duration{time.Second, 5 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute,
		30 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, day}
	for _, step := range steps {
		if window <= step*chartBuckets {
			return step
		}
	}
	return day * ((window + day*chartBuckets - 1) / (day * chartBuckets))
}

func (c *Console) huntChart(ctx context.Context, lang string, s huntState, q eventstore.Query) (*HuntChart, error) {
	if q.From.IsZero() { // since when there are events is not known: as far back as any may lie
		q.From = q.To.Add(-366 * day)
	}
	step := stepOf(q.To.Sub(q.From))
	buckets, err := c.o.Events.Histogram(ctx, q, step)
	if err != nil {
		return nil, err
	}
	ch := &HuntChart{Step: c.period(lang, step)}
	form := "15:04"
	ch.Data.Cut = [2]int{11, 16}
	switch {
	case step < time.Minute:
		form, ch.Data.Cut = "15:04:05", [2]int{11, 19}
	case q.To.Sub(q.From) > day:
		form, ch.Data.Cut = "2006-01-02 15:04", [2]int{0, 16}
	}
	line := chartSeries{Label: c.say(lang, "hunt.events"), Colour: "--brand"}
	var peak eventstore.Bucket
	for _, b := range buckets {
		row := HuntBucket{Time: b.Start.UTC().Format(form), Count: b.Count}
		if b.Count > 0 {
			row.Href = s.between(later(b.Start, q.From), earlier(b.Start.Add(step), q.To)).href()
		}
		ch.Table = append(ch.Table, row)
		ch.Data.Times, line.Values = append(ch.Data.Times, b.Start.Unix()), append(line.Values, int(b.Count))
		ch.Total += b.Count
		if b.Count > peak.Count {
			peak = b
		}
	}
	ch.Data.Time, ch.Data.Series, ch.Data.Bars = c.say(lang, "overview.time"), []chartSeries{line}, true
	ch.Sentence = c.say(lang, "hunt.none_found")
	if ch.Total > 0 {
		ch.Sentence = c.say(lang, "hunt.found", "Count", int(ch.Total), "N", page.Num(lang, ch.Total), "Peak", peak.Start.UTC().Format(form), "PeakN", page.Num(lang, peak.Count), "Step", ch.Step)
	}
	return ch, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// HuntField is a field of the events found.
type HuntField struct {
	Name    string
	Count   int64
	Share   string
	Values  string // address that counts its values; "" if a query cannot name it
	Column  string // address that shows it as a column, or no longer
	Shown   bool   // it is a column
	Current bool   // its values are counted
}

// huntFields lists fields with what can be done with them: those that tell most
// first, then the most frequent.
func huntFields(s huntState, counts []eventstore.FieldCount, total int64) (out []HuntField) {
	for _, f := range counts {
		if f.Name == eventstore.FieldStream || f.Name == "_stream_id" {
			continue
		}
		counted, column := s, s
		counted.field = f.Name
		row := HuntField{Name: f.Name, Count: f.Count, Share: share(f.Count, total), Shown: slices.Contains(s.columns, f.Name), Current: f.Name == s.field}
		if _, ok := hunt.Is(f.Name, ""); ok {
			row.Values = counted.href() + "#values"
		}
		column.columns = toggled(s.columns, f.Name)
		row.Column = column.href()
		out = append(out, row)
	}
	order := told()
	rank := func(f HuntField) int {
		if i := slices.Index(order, f.Name); i >= 0 {
			return i
		}
		return len(order)
	}
	slices.SortStableFunc(out, func(a, b HuntField) int { return cmp.Compare(rank(a), rank(b)) })
	return out
}

// toggled adds a column, or takes it away.
func toggled(columns []string, name string) []string {
	if i := slices.Index(columns, name); i >= 0 {
		return slices.Delete(slices.Clone(columns), i, i+1)
	}
	return append(slices.Clone(columns), name)
}

// share is a part in percent; "" if the whole is not known.
func share(n, total int64) string {
	if total <= 0 {
		return ""
	}
	return fmt.Sprintf("%.1f %%", float64(min(n, total))*100/float64(total))
}

// HuntValues are the most frequent values of a field.
type HuntValues struct {
	Field string
	Rows  []HuntValue
	Close string // address without them
}

// HuntValue is a value with what can be asked of it.
type HuntValue struct {
	Value  string
	Count  int64
	Share  string
	Is     string // address of the hunt with this value alone; "" if a query cannot say it
	Not    string // without it
	Around string // of all events with it, around this one's time; "" for none
}

func (c *Console) huntValues(ctx context.Context, s huntState, q hunt.Query, filter eventstore.Query) (*HuntValues, error) {
	counts, err := c.o.Events.Values(ctx, filter, s.field, topValues)
	if err != nil {
		return nil, err
	}
	plain := s
	plain.field = ""
	out := &HuntValues{Field: s.field, Close: plain.href()}
	for _, v := range counts {
		row := pivots(plain, q, s.field, v.Value, time.Time{})
		row.Count = v.Count
		out.Rows = append(out.Rows, row)
	}
	return out, nil
}

func (v *HuntValues) share(total int64) {
	for i := range v.Rows {
		v.Rows[i].Share = share(v.Rows[i].Count, total)
	}
}

// pivots are the ways on from a value that an event at some time has.
func pivots(s huntState, q hunt.Query, field, value string, at time.Time) HuntValue {
	v := HuntValue{Value: value}
	is, ok := hunt.Is(field, value)
	if !ok || len(value) > pivotMax {
		return v
	}
	not, _ := hunt.Not(field, value)
	v.Is, v.Not = s.with(q.And(is)).href(), s.with(q.And(not)).href()
	if !at.IsZero() {
		v.Around = huntState{query: is, columns: s.columns}.between(at.Add(-around), at.Add(around)).href()
	}
	return v
}

// HuntColumn is a column of the results.
type HuntColumn struct {
	Name   string
	Remove string // address without it
}

// HuntRow is one event, or one row that pipes made.
type HuntRow struct {
	Time  string // to the millisecond, UTC; "" if the row has none
	ISO   string
	Cells []HuntCell
	Whole string // address of all its fields; "" if the row is no event
}

// HuntCell is a field of an event.
type HuntCell struct {
	Name string
	HuntValue
}

// told are the fields that tell best what happened, in the order of telling.
func told() []string {
	return []string{"Kind", "Action", "Outcome", "Actor", "Subject", "SrcIP", "Method", "Host", "Path", "Status", "Resource", "Problem",
		"EventID", "Computer", "User", "Image", "CommandLine", "TargetUserName", "IpAddress", "c-ip", "cs-method", "cs-uri-stem", "sc-status"}
}

const (
	// tellMax is how many fields a row tells of before it is opened.
	tellMax = 7
	// pivotMax is the longest value that links ask for, in bytes: addresses have
	// an end.
	pivotMax = 1000
	// shownValue is how much of a long value is shown, in characters; it is
	// whole in exports.
	shownValue = 2000
)

// take turns the rows of a page into what is shown of them.
func (res *HuntResults) take(s huntState, q hunt.Query, asked eventstore.Query, fields []eventstore.FieldCount, p huntPage) {
	plain := s
	plain.field, plain.before = "", time.Time{}
	columns := s.columns
	if res.Piped && len(columns) == 0 { // what pipes made is shown whole
		for _, row := range p.rows {
			for _, f := range row {
				if !slices.Contains(columns, f.Name) && len(columns) < soc.MaxColumns {
					columns = append(columns, f.Name)
				}
			}
		}
	}
	for _, name := range columns {
		without := s
		without.columns = toggled(s.columns, name)
		col := HuntColumn{Name: name}
		if slices.Contains(s.columns, name) {
			col.Remove = without.href()
		}
		res.Columns = append(res.Columns, col)
	}
	for _, row := range p.rows {
		res.Rows = append(res.Rows, huntRow(plain, q, row, columns, fields))
	}
	res.Cut = p.cut
	if !p.next.IsZero() {
		older := s.between(asked.From, asked.To) // a period stays what it was on the first page
		older.before = p.next
		res.Older = older.href()
	}
	if !s.before.IsZero() {
		res.Newest = plain.href()
	}
}

// huntRow is a row with the ways on from its values. From what pipes made these
// lead to the events themselves, for fields that events have.
func huntRow(s huntState, q hunt.Query, row eventstore.Row, columns []string, fields []eventstore.FieldCount) HuntRow {
	piped := q.Piped()
	at := rowTime(row)
	out := HuntRow{}
	if !at.IsZero() {
		out.Time, out.ISO = at.Format("2006-01-02 15:04:05.000"), at.Format(time.RFC3339Nano)
	}
	if id := row.Get(eventstore.FieldID); id != "" && !at.IsZero() && !piped {
		open := s.values()
		open.Set("id", id)
		open.Set("at", out.ISO)
		out.Whole = "/soc/hunt/event?" + open.Encode()
	}
	cell := func(name, value string) HuntCell {
		if piped && !slices.ContainsFunc(fields, func(f eventstore.FieldCount) bool { return f.Name == name }) {
			return HuntCell{name, HuntValue{Value: clip(value)}}
		}
		return cellOf(s, q.Unpiped(), name, value, time.Time{}) // "around it" stands beside all fields
	}
	for _, name := range columns {
		out.Cells = append(out.Cells, cell(name, row.Get(name)))
	}
	if len(columns) == 0 {
		for _, name := range told() {
			if value := row.Get(name); value != "" && len(out.Cells) < tellMax {
				out.Cells = append(out.Cells, cell(name, value))
			}
		}
		if len(out.Cells) == 0 {
			out.Cells = append(out.Cells, cell(eventstore.FieldMessage, row.Get(eventstore.FieldMessage)))
		}
	}
	return out
}

// cellOf is a field of an event with the ways on from it.
func cellOf(s huntState, q hunt.Query, name, value string, at time.Time) HuntCell {
	c := HuntCell{name, HuntValue{}}
	if value != "" {
		c.HuntValue = pivots(s, q, name, value, at)
	}
	c.Value = clip(value)
	return c
}

// clip shortens a long value.
func clip(value string) string {
	if r := []rune(value); len(r) > shownValue {
		return string(r[:shownValue]) + "…"
	}
	return value
}

// HuntEvent is the data of one event that was found: all its fields.
type HuntEvent struct {
	Time   string
	Back   string // address of the hunt
	Fact   string // the fact's id, for an event of the journal
	Fields []HuntCell
}

// huntEvent shows all fields of one event: as a page, or as the part of one that
// htmx puts into its row. That it was opened is a fact like a search.
func (c *Console) huntEvent(w http.ResponseWriter, r *http.Request, v Visitor) error {
	s, err := readHunt(r.URL.Query())
	var q hunt.Query
	if err == nil {
		q, err = hunt.Parse(s.query)
	}
	id := r.URL.Query().Get("id")
	at, ok := parseInstant(r.URL.Query().Get("at"))
	is, named := hunt.Is(eventstore.FieldID, id)
	if err == nil && (!ok || !named || id == "") {
		err = &pasban.Error{Kind: pasban.Invalid, Msg: "the address names no event"}
	}
	if err == nil {
		err = c.o.Alerts.RecordSearch(r.Context(), v.Actor, soc.Hunt{Query: is, From: at, To: at.Add(1)})
	}
	ctx, cancel := context.WithTimeout(r.Context(), huntTime)
	defer cancel()
	var row eventstore.Row
	if err == nil {
		err = c.o.Events.Search(ctx, eventstore.Query{LogsQL: is, From: at, To: at.Add(1)}, 1, func(found eventstore.Row) error { row = found; return nil })
	}
	if err == nil && row == nil {
		err = &pasban.Error{Kind: pasban.NotFound, Msg: "this event is not kept, or no longer"}
	}
	if err != nil {
		return err
	}
	view := HuntEvent{Time: at.Format("2006-01-02 15:04:05.000"), Back: s.href()}
	if row.Get(eventstore.FieldSource) == eventstore.SourceJournal && idForm.MatchString(id) {
		view.Fact = id
	}
	for _, f := range row {
		if f.Name != eventstore.FieldStream && f.Name != "_stream_id" && f.Name != eventstore.FieldTime && f.Value != "" {
			view.Fields = append(view.Fields, cellOf(s, q, f.Name, f.Value, at))
		}
	}
	if r.Header.Get("HX-Request") == "true" {
		c.o.Pages.Fragment(w, r, http.StatusOK, page.View{Surface: page.Console, Name: "huntevent", Data: view}, "fragment")
		return nil
	}
	c.render(w, r, v, http.StatusOK, "huntevent", "event.title", view)
	return nil
}
