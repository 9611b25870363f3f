package console

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"pasban/internal/detect"
	"pasban/internal/page"
	"pasban/internal/soc"
)

// day is what the overview looks back on.
const day = 24 * time.Hour

// liveRows is how many alerts the overview's table starts with.
const liveRows = 20

// maxWhy is how much of the reasons a row shows, in bytes, but always the first;
// the alert's page has them all.
const maxWhy = 120

// OverviewView is the data of the overview.
type OverviewView struct {
	Open      int
	ByLevel   string // "1 critical, 4 high"
	Spark     string // points of the polyline
	SparkText string // the same in words
	Blocked   int    // requests turned away in the day
	Served    int
	Delay     string // p99, "" while nothing was measured
	DelayText string
	Ledger    LedgerView
	Chart     *Chart // nil while nothing was counted
	Rows      []Row
	Tactics   []Tactic
	Shield    *ShieldView // nil without sites
}

// Chart is the time series and the table with the same figures.
type Chart struct {
	Sentence string
	Data     chartData
	Table    []ChartRow
}

// ChartRow is one row of the chart's table.
type ChartRow struct {
	Time            string
	Served, Blocked int
}

// chartData is what chart.js draws.
type chartData struct {
	Time   string        `json:"time"`
	Times  []int64       `json:"times"`
	Series []chartSeries `json:"series"`
	Cut    [2]int        `json:"cut"`            // the part of an ISO time that labels show
	Bars   bool          `json:"bars,omitempty"` // instead of lines; a bar is a link of the table
}

type chartSeries struct {
	Label  string `json:"label"`
	Colour string `json:"colour"`
	Dash   []int  `json:"dash,omitempty"`
	Values []int  `json:"values"`
}

func (c *Console) overview(w http.ResponseWriter, r *http.Request, v Visitor) error {
	view, err := c.overviewOf(r.Context(), page.Lang(r))
	if err != nil {
		return err
	}
	view.Shield = c.shieldView(page.Lang(r), v)
	c.render(w, r, v, http.StatusOK, "overview", "nav.overview", view)
	return nil
}

func (c *Console) overviewOf(ctx context.Context, lang string) (OverviewView, error) {
	now := c.o.Now()
	var view OverviewView
	open, err := c.o.Alerts.Open(ctx)
	if err != nil {
		return view, err
	}
	view.Open, view.ByLevel = total(open), c.byLevel(lang, open)
	raised, err := c.o.Alerts.Raised(ctx, now.Add(-day), now, 24)
	if err != nil {
		return view, err
	}
	sum := 0
	for _, n := range raised {
		sum += n
	}
	view.Spark, view.SparkText = spark(raised, 90, 28), c.say(lang, "overview.raised", "N", page.Num(lang, sum))
	latest, err := c.o.Alerts.Latest(ctx, liveRows)
	if err != nil {
		return view, err
	}
	for _, a := range latest {
		view.Rows = append(view.Rows, rowOf(a))
	}
	seen, err := c.o.Alerts.Techniques(ctx, now.Add(-day))
	if err != nil {
		return view, err
	}
	d := c.o.Detection()
	received, err := c.received(ctx)
	if err != nil {
		return view, err
	}
	view.Tactics = grid(d.Rules(), seen, func(r *detect.Rule) bool { return r.Fed(received) })
	if median, p99, ok := d.Delay(); ok {
		view.Delay = c.span(lang, p99)
		view.DelayText = c.say(lang, "overview.delay_text", "Median", c.span(lang, median))
	}
	view.Chart = c.chart(lang, d.Tally(now))
	if view.Chart != nil {
		for _, row := range view.Chart.Table {
			view.Blocked += row.Blocked
			view.Served += row.Served
		}
	}
	view.Ledger, err = c.ledgerView(ctx, lang)
	return view, err
}

// byLevel counts open alerts in words, gravest first, of the two gravest levels that have any.
func (c *Console) byLevel(lang string, open map[detect.Level]int) string {
	var parts []string
	for l := detect.Critical; l >= detect.Informational && len(parts) < 2; l-- {
		if n := open[l]; n > 0 {
			parts = append(parts, page.Num(lang, n)+" "+c.say(lang, "level."+l.String()))
		}
	}
	if len(parts) == 0 {
		return c.say(lang, "overview.none")
	}
	return strings.Join(parts, c.say(lang, "comma"))
}

// spark draws values as the points of an SVG polyline.
func spark(values []int, width, height float64) string {
	top := 1
	for _, v := range values {
		top = max(top, v)
	}
	var points []string
	for i, v := range values {
		x := float64(i) * width / float64(max(1, len(values)-1))
		y := height - 2 - float64(v)/float64(top)*(height-4)
		points = append(points, fmt.Sprintf("%.1f,%.1f", x, y))
	}
	return strings.Join(points, " ")
}

// chart makes the time series of what was served and blocked, the table with
// the same figures and the sentence that is computed from them.
func (c *Console) chart(lang string, tally []detect.Tally) *Chart {
	if len(tally) == 0 {
		return nil
	}
	ch := &Chart{Data: chartData{Cut: [2]int{11, 16}}}
	served := chartSeries{Label: c.say(lang, "overview.served"), Colour: "--brand"}
	blocked := chartSeries{Label: c.say(lang, "overview.blocked"), Colour: "--c1", Dash: []int{5, 4}}
	var all, peak detect.Tally
	for _, t := range tally {
		ch.Data.Times = append(ch.Data.Times, t.Start.Unix())
		served.Values, blocked.Values = append(served.Values, t.Served), append(blocked.Values, t.Blocked)
		ch.Table = append(ch.Table, ChartRow{t.Start.UTC().Format("15:04"), t.Served, t.Blocked})
		all.Served, all.Blocked = all.Served+t.Served, all.Blocked+t.Blocked
		if t.Blocked > peak.Blocked {
			peak = t
		}
	}
	ch.Data.Time, ch.Data.Series = c.say(lang, "overview.time"), []chartSeries{served, blocked}
	span := c.say(lang, "overview.in_day")
	if tally[0].Start.After(tally[len(tally)-1].Start.Add(detect.TallyStep - day)) {
		span = c.say(lang, "overview.since", "Since", tally[0].Start.UTC().Format("15:04"))
	}
	key := "overview.quiet"
	if peak.Blocked > 0 {
		key = "overview.peak"
	}
	ch.Sentence = c.say(lang, key, "Peak", peak.Start.UTC().Format("15:04"), "PeakN", page.Num(lang, peak.Blocked),
		"Span", span, "Served", page.Num(lang, all.Served), "Blocked", page.Num(lang, all.Blocked))
	return ch
}

// Row is one alert in a table.
type Row struct {
	ID         string
	Class      string // s1 … s5
	Glyph      string // a shape for each level
	Level      string
	ISO        string
	Day, Time  string // of the newest event, UTC
	Title      string
	Why        string
	Entity     string
	Techniques []string
	State      soc.State
	Verdict    soc.Verdict
	Count      int
	Fresh      bool // arrived just now
}

func rowOf(a soc.Alert) Row {
	row := Row{
		ID: a.ID, Level: a.Level.String(), ISO: a.Last.UTC().Format(time.RFC3339),
		Day: a.Last.UTC().Format("2006-01-02"), Time: a.Last.UTC().Format("15:04:05"),
		Title: a.Title, Entity: a.Entity, Techniques: a.Techniques(), State: a.State, Verdict: a.Verdict, Count: a.Count,
	}
	row.Class, row.Glyph = severity(a.Level)
	for i, why := range a.Why {
		if i > 0 && len(row.Why)+len(why) > maxWhy {
			break
		}
		if i > 0 {
			row.Why += "; "
		}
		row.Why += why
	}
	return row
}

// severity is a level's colour class and shape: no state is told by colour alone.
func severity(l detect.Level) (class, glyph string) {
	switch l {
	case detect.Critical:
		return "s1", "◆"
	case detect.High:
		return "s2", "▲"
	case detect.Medium:
		return "s3", "●"
	case detect.Low:
		return "s4", "○"
	}
	return "s5", "·"
}
