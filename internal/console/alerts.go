package console

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"time"

	"pasban"
	"pasban/internal/detect"
	"pasban/internal/soc"
	"pasban/internal/soc/hunt"
)

const (
	// queueMax is how many alerts one page of the queue has.
	queueMax = 50
	// shownEvents is how many events an alert's page tells of in full.
	shownEvents = 25
	// formMax is the largest form that the console reads, in bytes.
	formMax = 64 << 10
)

// QueueView is the data of the alert queue.
type QueueView struct {
	Rows    []Row
	Filter  Filter
	Levels  []string // to choose from
	States  []string
	Periods []string
	Next    string // address of the next page, "" if there is none
	Query   string // the filters as a query, for the form that changes alerts
	Live    string // address of the counter of new alerts
	MayAct  bool
}

// Filter is what the queue shows, as its address says.
type Filter struct {
	Level     string // this level and graver; "" all
	State     string // "open" (not closed), one state, or "all"
	Period    string // 1h, 24h, 7d or "" for all
	Technique string
}

var techniqueForm = regexp.MustCompile(`^T[0-9]{4}(\.[0-9]{3})?$`)

func periods() []string { return []string{"1h", "24h", "7d"} }

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
	return out
}

// filterOf reads the filters into what the page shows and what soc is asked.
func filterOf(q url.Values, now time.Time) (Filter, soc.Query) {
	valid := queueQuery(q)
	f := Filter{Level: valid.Get("level"), State: valid.Get("state"), Period: valid.Get("period"), Technique: valid.Get("technique")}
	query := soc.Query{Technique: f.Technique, After: q.Get("after")}
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
func (c *Console) queue(w http.ResponseWriter, r *http.Request, v Visitor) {
	filter, query := filterOf(r.URL.Query(), c.o.Now())
	query.Max = queueMax + 1
	alerts, err := c.o.Alerts.List(r.Context(), query)
	if err != nil {
		c.fail(w, r, err)
		return
	}
	keep := queueQuery(r.URL.Query())
	view := QueueView{Filter: filter, Periods: periods(), Query: keep.Encode(), Live: "/soc/live/count?" + keep.Encode(), MayAct: v.Actor.Role == pasban.RoleAnalyst}
	for l := detect.Critical; l >= detect.Informational; l-- {
		view.Levels = append(view.Levels, l.String())
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
}

// alertJSON is one alert for programs.
type alertJSON struct {
	ID         string    `json:"id"`
	RuleID     string    `json:"rule_id"`
	Title      string    `json:"title"`
	Level      string    `json:"level"`
	Tags       []string  `json:"tags"`
	Techniques []string  `json:"techniques"`
	Entity     string    `json:"entity"`
	Why        []string  `json:"why"`
	First      time.Time `json:"first"`
	Last       time.Time `json:"last"`
	Count      int       `json:"count"`
	State      soc.State `json:"state"`
}

// alertsJSON is the queue as one JSON document, at most 500 alerts, with the
// queue's filters; all states unless one is asked for.
func (c *Console) alertsJSON(w http.ResponseWriter, r *http.Request, _ Visitor) {
	q := r.URL.Query()
	if !q.Has("state") {
		q.Set("state", "all")
	}
	_, query := filterOf(q, c.o.Now())
	query.Max = 500
	alerts, err := c.o.Alerts.List(r.Context(), query)
	if err != nil {
		c.fail(w, r, err)
		return
	}
	doc := struct {
		Schema string      `json:"schema"`
		Alerts []alertJSON `json:"alerts"`
	}{"pasban.alerts.v1", []alertJSON{}}
	for _, a := range alerts {
		doc.Alerts = append(doc.Alerts, alertJSON{a.ID, a.RuleID, a.Title, a.Level.String(), a.Tags, a.Techniques(), a.Entity, a.Why, a.First, a.Last, a.Count, a.State})
	}
	c.o.Pages.JSON(w, r, http.StatusOK, "", doc)
}

// AlertView is the data of one alert's page.
type AlertView struct {
	Row
	First, Last string
	Why         []string
	Rule        *detect.Rule // nil if the rule is no longer loaded
	RuleID      string
	Names       []Technique
	Events      []EventRow
	More        int // events that are counted but not shown
	Notes       []NoteRow
	MayAct      bool
	Next        []soc.State // states that it may go to
	Hunt        string      // address of the events around it, "" if none are kept
}

// NoteRow is one line of an alert's history.
type NoteRow struct {
	At    string
	State soc.State
	Who   string
	Text  string
}

func (c *Console) alert(w http.ResponseWriter, r *http.Request, v Visitor) {
	a, err := c.o.Alerts.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		c.fail(w, r, err)
		return
	}
	view := AlertView{Row: rowOf(a), First: stamp(a.First), Last: stamp(a.Last), Why: a.Why, RuleID: a.RuleID, MayAct: v.Actor.Role == pasban.RoleAnalyst}
	for _, rule := range c.o.Detection().Rules() {
		if rule.ID == a.RuleID {
			view.Rule = rule
		}
	}
	if is, ok := hunt.Anywhere(a.Entity); c.o.Events != nil && a.Entity != "" {
		view.Hunt = aroundHref(is, ok, a.First, a.Last)
	}
	for _, id := range a.Techniques() {
		view.Names = append(view.Names, techniqueOf(id))
	}
	for _, s := range soc.States() {
		if s != a.State {
			view.Next = append(view.Next, s)
		}
	}
	if err := c.story(r.Context(), a, &view); err != nil {
		c.fail(w, r, err)
		return
	}
	c.render(w, r, v, http.StatusOK, "alert", a.Title, view)
}

// story adds the events behind an alert and what was done about it.
func (c *Console) story(ctx context.Context, a soc.Alert, view *AlertView) error {
	events, err := c.o.Alerts.Events(ctx, a.ID)
	if err != nil {
		return err
	}
	for _, e := range events[max(0, len(events)-shownEvents):] {
		row, err := c.eventRow(ctx, e)
		if err != nil {
			return err
		}
		view.Events = append(view.Events, row)
	}
	slices.Reverse(view.Events)
	view.More = a.Count - len(view.Events)
	notes, err := c.o.Alerts.Notes(ctx, a.ID)
	if err != nil {
		return err
	}
	for _, n := range notes {
		view.Notes = append(view.Notes, NoteRow{stamp(n.At), n.State, n.Who, n.Text})
	}
	return nil
}

// stamp is a time as analysts read it: UTC to the second.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") }

// change sets the state of the alerts that a form names and goes back to where
// it came from: the queue with its filters, or the alert.
func (c *Console) change(w http.ResponseWriter, r *http.Request, v Visitor) {
	r.Body = http.MaxBytesReader(w, r.Body, formMax)
	if err := r.ParseForm(); err != nil {
		c.fail(w, r, &pasban.Error{Kind: pasban.Invalid, Msg: "the form cannot be read", Err: err})
		return
	}
	ids := r.PostForm["id"]
	if err := c.o.Alerts.SetState(r.Context(), v.Actor, ids, soc.State(r.PostForm.Get("state")), r.PostForm.Get("note")); err != nil {
		c.fail(w, r, err)
		return
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
}

func (c *Console) addNote(w http.ResponseWriter, r *http.Request, v Visitor) {
	r.Body = http.MaxBytesReader(w, r.Body, formMax)
	if err := r.ParseForm(); err != nil {
		c.fail(w, r, &pasban.Error{Kind: pasban.Invalid, Msg: "the form cannot be read", Err: err})
		return
	}
	id := r.PathValue("id")
	if err := c.o.Alerts.AddNote(r.Context(), v.Actor, id, r.PostForm.Get("note")); err != nil {
		c.fail(w, r, err)
		return
	}
	http.Redirect(w, r, "/soc/alerts/"+url.PathEscape(id), http.StatusSeeOther)
}
