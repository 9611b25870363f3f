package console

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"pasban"
	"pasban/internal/detect"
	"pasban/internal/page"
	"pasban/internal/soc"
	"pasban/internal/soc/hunt"
)

const (
	// queueMax is how many alerts one page of the queue has.
	queueMax = 50
	// shownEvents is how many events an alert's page tells of in full.
	shownEvents = 25
)

// QueueView is the data of the alert queue.
type QueueView struct {
	Rows     []Row
	Filter   Filter
	Levels   []string // to choose from
	States   []string
	Periods  []string
	Next     string // address of the next page, "" if there is none
	Query    string // the filters as a query, for the form that changes alerts
	Live     string // address of the counter of new alerts
	Rule     string // title of the rule that the filter names
	MayAct   bool
	Verdicts []soc.Verdict
}

// Filter is what the queue shows, as its address says.
type Filter struct {
	Level     string // this level and graver; "" all
	State     string // "open" (not closed), one state, or "all"
	Period    string // 1h, 24h, 7d or "" for all
	Technique string
	Rule      string // a rule's id
}

var techniqueForm = regexp.MustCompile(`^T[0-9]{4}(\.[0-9]{3})?$`)

// ruleForm is a rule's id.
var ruleForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

func periods() []string { return []string{"1h", "24h", "7d"} }

// levels are the levels to choose from, gravest first.
func levels() (out []string) {
	for l := detect.Critical; l >= detect.Informational; l-- {
		out = append(out, l.String())
	}
	return out
}

// queueQuery keeps the filters of a query, and of those only what is valid.
func queueQuery(q url.Values) url.Values {
	out := url.Values{}
	if _, ok := detect.ParseLevel(q.Get("level")); ok {
		out.Set("level", q.Get("level"))
	}
	if s := q.Get("state"); s == "all" || slices.Contains(soc.States(), soc.State(s)) {
		out.Set("state", s)
	}
	if p := q.Get("period"); slices.Contains(periods(), p) {
		out.Set("period", p)
	}
	if t := q.Get("technique"); techniqueForm.MatchString(t) {
		out.Set("technique", t)
	}
	if id := q.Get("rule"); ruleForm.MatchString(id) {
		out.Set("rule", id)
	}
	return out
}

// filterOf reads the filters into what the page shows and what soc is asked.
func filterOf(q url.Values, now time.Time) (Filter, soc.Query) {
	valid := queueQuery(q)
	f := Filter{Level: valid.Get("level"), State: valid.Get("state"), Period: valid.Get("period"), Technique: valid.Get("technique"), Rule: valid.Get("rule")}
	query := soc.Query{Technique: f.Technique, Rule: f.Rule, After: q.Get("after")}
	query.MinLevel, _ = detect.ParseLevel(f.Level)
	switch f.State {
	case "all":
	case "":
		f.State = "open"
		query.States = []soc.State{soc.New, soc.Acknowledged}
	default:
		query.States = []soc.State{soc.State(f.State)}
	}
	if f.Period != "" {
		query.Since = now.Add(-map[string]time.Duration{"1h": time.Hour, "24h": day, "7d": 7 * day}[f.Period])
	}
	return f, query
}

// queue shows the alerts that the address asks for, gravest first.
func (c *Console) queue(w http.ResponseWriter, r *http.Request, v Visitor) error {
	filter, query := filterOf(r.URL.Query(), c.o.Now())
	query.Max = queueMax + 1
	alerts, err := c.o.Alerts.List(r.Context(), query)
	if err != nil {
		return err
	}
	keep := queueQuery(r.URL.Query())
	view := QueueView{Filter: filter, Periods: periods(), Query: keep.Encode(), Live: "/soc/live/count?" + keep.Encode(), MayAct: v.Actor.Role == pasban.RoleAnalyst, Verdicts: soc.Verdicts(), Levels: levels()}
	if filter.Rule != "" {
		view.Rule = filter.Rule
		if rule := c.rule(filter.Rule); rule != nil {
			view.Rule = rule.Title
		}
	}
	for _, s := range soc.States() {
		view.States = append(view.States, string(s))
	}
	if len(alerts) > queueMax {
		alerts = alerts[:queueMax]
		next, _ := url.ParseQuery(keep.Encode())
		next.Set("after", alerts[queueMax-1].Cursor())
		view.Next = "/soc/alerts?" + next.Encode()
	}
	for _, a := range alerts {
		view.Rows = append(view.Rows, rowOf(a))
	}
	c.render(w, r, v, http.StatusOK, "alerts", "nav.alerts", view)
	return nil
}

// alertJSON is one alert for programs.
type alertJSON struct {
	ID          string      `json:"id"`
	RuleID      string      `json:"rule_id"`
	Title       string      `json:"title"`
	Level       string      `json:"level"`
	Tags        []string    `json:"tags"`
	Techniques  []string    `json:"techniques"`
	Entity      string      `json:"entity"`
	Why         []string    `json:"why"`
	First       time.Time   `json:"first"`
	Last        time.Time   `json:"last"`
	Count       int         `json:"count"`
	State       soc.State   `json:"state"`
	Verdict     soc.Verdict `json:"verdict,omitempty"`
	Suppression string      `json:"suppression,omitempty"`
}

// alertsJSON is the queue as one JSON document, at most 500 alerts, with the
// queue's filters; all states unless one is asked for.
func (c *Console) alertsJSON(w http.ResponseWriter, r *http.Request, _ Visitor) error {
	q := r.URL.Query()
	if !q.Has("state") {
		q.Set("state", "all")
	}
	_, query := filterOf(q, c.o.Now())
	query.Max = 500
	alerts, err := c.o.Alerts.List(r.Context(), query)
	if err != nil {
		return err
	}
	doc := struct {
		Schema string      `json:"schema"`
		Alerts []alertJSON `json:"alerts"`
	}{"pasban.alerts.v1", []alertJSON{}}
	for _, a := range alerts {
		doc.Alerts = append(doc.Alerts, alertJSON{a.ID, a.RuleID, a.Title, a.Level.String(), a.Tags, a.Techniques(), a.Entity, a.Why, a.First, a.Last, a.Count, a.State, a.Verdict, a.Suppression})
	}
	c.o.Pages.JSON(w, r, http.StatusOK, "", doc)
	return nil
}

// AlertView is the data of one alert's page.
type AlertView struct {
	Row
	First, Last string
	Why         []Reason
	Asks        *AsksView    // nil unless the rule correlates
	Rule        *detect.Rule // nil if the rule is no longer loaded
	RuleID      string
	Names       []Technique
	Events      []EventRow
	Older       string // address of the page with older events, "" if there are none
	Unnamed     int    // events that are counted but not named
	Notes       []NoteRow
	MayAct      bool
	Next        []soc.State // states that it may go to
	Hunt        string      // address of the events around it, "" if none are kept
	Verdicts    []soc.Verdict
	Suppression string // the id of what suppresses it
	Suppress    string // address of the form that suppresses alerts like it, "" if there is none
}

// Reason is why an alert fired, and by which search of the rule.
type Reason struct{ Part, Text string }

// AsksView is what a correlation asks.
type AsksView struct {
	Kind, Bounds, Within, Fields string
	Groups                       string // the fields, with the alert's values
	Rules                        []*detect.Rule
}

// NoteRow is one line of an alert's history.
type NoteRow struct {
	At      string
	State   soc.State
	Verdict soc.Verdict
	Who     string
	Text    string
}

func (c *Console) alert(w http.ResponseWriter, r *http.Request, v Visitor) error {
	a, err := c.o.Alerts.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	view := AlertView{Row: rowOf(a), First: stamp(a.First), Last: stamp(a.Last), RuleID: a.RuleID, MayAct: v.Actor.Role == pasban.RoleAnalyst,
		Verdicts: soc.Verdicts(), Suppression: a.Suppression, Rule: c.rule(a.RuleID)}
	for i, why := range a.Why {
		reason := Reason{Text: why}
		if i < len(a.Parts) {
			reason.Part = a.Parts[i]
		}
		view.Why = append(view.Why, reason)
	}
	if view.Rule != nil {
		view.Asks = c.asksView(page.Lang(r), view.Rule, a.Entity)
		if view.MayAct {
			view.Suppress = suppressionHref(a.ID)
		}
	}
	if is, ok := hunt.Anywhere(a.Entity); c.o.Events != nil && a.Entity != "" {
		view.Hunt = aroundHref(is, ok, a.First, a.Last)
	}
	for _, id := range a.Techniques() {
		view.Names = append(view.Names, techniqueOf(id))
	}
	for _, s := range []soc.State{soc.New, soc.Acknowledged, soc.Closed} {
		if s != a.State {
			view.Next = append(view.Next, s)
		}
	}
	before, _ := strconv.ParseUint(r.URL.Query().Get("before"), 10, 64)
	if err := c.story(r.Context(), a, before, &view); err != nil {
		return err
	}
	c.render(w, r, v, http.StatusOK, "alert", a.Title, view)
	return nil
}

// rule is a loaded rule, nil if there is none of this id.
func (c *Console) rule(id string) *detect.Rule {
	rules := c.o.Detection().Rules()
	if i := slices.IndexFunc(rules, func(r *detect.Rule) bool { return r.ID == id }); i >= 0 {
		return rules[i]
	}
	return nil
}

// asksView says what a correlation asks; entity is the alert's, if there is one.
func (c *Console) asksView(lang string, rule *detect.Rule, entity string) *AsksView {
	asks, ok := rule.Asks()
	if !ok {
		return nil
	}
	view := &AsksView{Kind: asks.Kind, Bounds: strings.Join(asks.Bounds, ", "), Fields: strings.Join(asks.Fields, ", "),
		Within: c.span(lang, asks.Within), Groups: strings.Join(asks.GroupBy, ", "), Rules: asks.Rules}
	if view.Groups != "" && entity != "" {
		view.Groups += ": " + entity
	}
	return view
}

// story adds the events behind an alert, those before a number if it is not 0,
// and what was done about it.
func (c *Console) story(ctx context.Context, a soc.Alert, before uint64, view *AlertView) error {
	events, err := c.o.Alerts.Events(ctx, a.ID)
	if err != nil {
		return err
	}
	kept, err := c.o.Alerts.Kept(ctx, a.ID)
	if err != nil {
		return err
	}
	view.Unnamed = a.Count - len(events)
	if before > 0 {
		events = slices.DeleteFunc(events, func(e soc.Event) bool { return e.Seq >= before })
	}
	if len(events) > shownEvents {
		events = events[len(events)-shownEvents:]
		view.Older = "/soc/alerts/" + url.PathEscape(a.ID) + "?before=" + strconv.FormatUint(events[0].Seq, 10) + "#ev"
	}
	for _, e := range events {
		row, err := c.eventRow(ctx, e, kept[e.Seq])
		if err != nil {
			return err
		}
		view.Events = append(view.Events, row)
	}
	slices.Reverse(view.Events)
	notes, err := c.o.Alerts.Notes(ctx, a.ID)
	if err != nil {
		return err
	}
	for _, n := range notes {
		view.Notes = append(view.Notes, NoteRow{stamp(n.At), n.State, n.Verdict, n.Who, n.Text})
	}
	return nil
}

// stamp is a time as analysts read it: UTC to the second.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") }

// change sets the state of the alerts that a form names and goes back to where
// it came from: the queue with its filters, or the alert.
func (c *Console) change(w http.ResponseWriter, r *http.Request, v Visitor) error {
	if err := readForm(w, r); err != nil {
		return err
	}
	ids := r.PostForm["id"]
	change := soc.Change{State: soc.State(r.PostForm.Get("state")), Note: r.PostForm.Get("note")}
	if change.State == soc.Closed { // the form has one for every button
		change.Verdict = soc.Verdict(r.PostForm.Get("verdict"))
	}
	if err := c.o.Alerts.SetState(r.Context(), v.Actor, ids, change); err != nil {
		return err
	}
	back := "/soc/alerts"
	if r.PostForm.Has("one") && len(ids) == 1 {
		back = "/soc/alerts/" + url.PathEscape(ids[0])
	} else if q, err := url.ParseQuery(r.PostForm.Get("query")); err == nil {
		if keep := queueQuery(q).Encode(); keep != "" {
			back += "?" + keep
		}
	}
	http.Redirect(w, r, back, http.StatusSeeOther)
	return nil
}

func (c *Console) addNote(w http.ResponseWriter, r *http.Request, v Visitor) error {
	id := r.PathValue("id")
	err := readForm(w, r)
	if err == nil {
		err = c.o.Alerts.AddNote(r.Context(), v.Actor, id, r.PostForm.Get("note"))
	}
	return goOn(w, r, err, "/soc/alerts/"+url.PathEscape(id))
}
