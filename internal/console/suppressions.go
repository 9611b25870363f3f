package console

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"pasban"
	"pasban/internal/detect"
	"pasban/internal/page"
	"pasban/internal/soc"
)

const (
	// offered is how many fields of an event the form offers, and offeredValue
	// how long their values may be, in bytes.
	offered      = 60
	offeredValue = 300
)

// previewDays is how far back a preview looks, unless the form says otherwise.
const previewDays = 7

// terms are how many days a suppression may last, and previews look back.
func terms() []int        { return []int{1, 7, 30, 90} }
func previewSpans() []int { return []int{1, 7, 30} }

// SuppressionRow is one suppression in a list.
type SuppressionRow struct {
	soc.Suppression
	State      string // waiting, on, over, ended or refused
	Ends       string
	Who        string
	MayEnd     bool
	MayDecide  bool
	Conditions []string
}

// SuppressionsView is the data of the list of suppressions.
type SuppressionsView struct{ Rows []SuppressionRow }

// suppressionRows lists suppressions, those of one rule if it is not "".
func (c *Console) suppressionRows(ctx context.Context, lang string, v Visitor, rule string) ([]SuppressionRow, error) {
	list, err := c.o.Alerts.Suppressions(ctx, rule)
	if err != nil {
		return nil, err
	}
	now := c.o.Now()
	var out []SuppressionRow
	for _, s := range list {
		row := SuppressionRow{Suppression: s, State: stateOf(s, now), Ends: stamp(s.Until), Who: s.By, Conditions: c.conditionWords(lang, s)}
		if s.ApprovedBy != "" {
			row.Who += " → " + s.ApprovedBy
		}
		if s.EndedBy != "" {
			row.Who += " → " + s.EndedBy
		}
		open := row.State == "on" || row.State == "waiting"
		row.MayEnd = open && (v.Actor.Role == pasban.RoleAnalyst || row.State == "on")
		row.MayDecide = row.State == "waiting" && v.Actor.Role == pasban.RoleSupervisor && v.Actor.ID != s.By
		out = append(out, row)
	}
	return out, nil
}

// conditionWords says what is suppressed.
func (c *Console) conditionWords(lang string, s soc.Suppression) []string {
	var out []string
	if s.Entity != "" {
		out = append(out, c.say(lang, "suppress.about", "Entity", s.Entity))
	}
	for _, one := range s.Conditions {
		out = append(out, one.String())
	}
	return out
}

func stateOf(s soc.Suppression, now time.Time) string {
	switch {
	case !s.Ended.IsZero() && s.Approved.IsZero():
		return "refused"
	case !s.Ended.IsZero():
		return "ended"
	case !now.Before(s.Until):
		return "over"
	case s.Approved.IsZero():
		return "waiting"
	}
	return "on"
}

// suppressions lists all suppressions.
func (c *Console) suppressions(w http.ResponseWriter, r *http.Request, v Visitor) error {
	rows, err := c.suppressionRows(r.Context(), page.Lang(r), v, "")
	if err != nil {
		return err
	}
	c.render(w, r, v, http.StatusOK, "suppressions", "suppress.title", SuppressionsView{rows})
	return nil
}

// SuppressView is the data of the form for a suppression.
type SuppressView struct {
	Alert    Row
	Critical bool
	Entity   bool // only what is about the alert's entity
	Fields   []OfferedField
	Hows     []string
	Terms    []Choice
	Spans    []Choice
	Reason   string
	Problem  string // what was wrong with what was sent
	Preview  *SuppressPreview
	Hidden   []Hidden
}

// OfferedField is a field of the alert's newest event, as a condition to choose.
type OfferedField struct {
	Name, How, Value string
	Chosen           bool
}

// SuppressPreview says what a suppression would have done.
type SuppressPreview struct {
	soc.Preview
	Rows  []Row
	Days  int
	Words []string
	Ends  string
}

// suppressing is what a request is about: the alert that a suppression is made
// from, its rule, and an event behind it.
func (c *Console) suppressing(ctx context.Context, id string) (a soc.Alert, rule *detect.Rule, ev pasban.Event, err error) {
	if a, err = c.o.Alerts.Get(ctx, id); err != nil {
		return a, nil, nil, err
	}
	if rule = c.rule(a.RuleID); rule == nil {
		return a, nil, nil, &pasban.Error{Kind: pasban.NotFound, Msg: "the alert's rule is no longer loaded, so there is nothing to suppress"}
	}
	ev, err = c.o.Alerts.Example(ctx, id)
	return a, rule, ev, err
}

// offer lists the fields of an event that may be chosen. What tells one event
// from every other is of no use.
func offer(ev pasban.Event) []OfferedField {
	single := []string{"Seq", "Incident", "EventTime", "Subject", "Entity", "time", detect.LogsourceKey, soc.Cut}
	var flat []string // of Pasban's own events, which say all of it again as OCSF
	if s, ok := ev[detect.LogsourceKey].(detect.Logsource); ok && s.Product == detect.Product {
		for _, f := range detect.Fields() {
			flat = append(flat, f.Name)
		}
	}
	names := slices.SortedFunc(maps.Keys(ev), func(a, b string) int {
		return cmp.Or(strings.Count(a, ".")-strings.Count(b, "."), cmp.Compare(a, b))
	})
	var out []OfferedField
	for _, name := range names {
		switch ev[name].(type) {
		case map[string]any, pasban.Event, nil:
			continue
		}
		value := show(ev[name])
		if list, ok := ev[name].([]string); ok && len(list) > 0 {
			value = list[0]
		}
		if list, ok := ev[name].([]any); ok && len(list) > 0 {
			value = show(list[0])
		}
		if flat != nil && !slices.Contains(flat, name) || slices.Contains(single, name) || value == "" || len(value) > offeredValue || maskRow(value) != value || strings.HasPrefix(name, "metadata.") {
			continue
		}
		if out = append(out, OfferedField{Name: name, Value: value}); len(out) == offered {
			break
		}
	}
	return out
}

func choices(days []int, chosen int) (out []Choice) {
	for _, n := range days {
		out = append(out, Choice{Value: strconv.Itoa(n), Chosen: n == chosen})
	}
	return out
}

func suppressView(a soc.Alert, rule *detect.Rule, ev pasban.Event) SuppressView {
	return SuppressView{Alert: rowOf(a), Critical: rule.Level >= detect.Critical, Entity: a.Entity != "", Fields: offer(ev), Hows: detect.Hows(),
		Terms: choices(terms(), 7), Spans: choices(previewSpans(), previewDays)}
}

// suppressionForm shows the form for a suppression from an alert.
func (c *Console) suppressionForm(w http.ResponseWriter, r *http.Request, v Visitor) error {
	a, rule, ev, err := c.suppressing(r.Context(), r.URL.Query().Get("alert"))
	if err != nil {
		return err
	}
	c.render(w, r, v, http.StatusOK, "suppress", "suppress.new", suppressView(a, rule, ev))
	return nil
}

// asked reads the form, and the page that shows it again.
func (c *Console) asked(w http.ResponseWriter, r *http.Request) (s soc.Suppression, view SuppressView, days int, err error) {
	if err := readForm(w, r); err != nil {
		return s, view, 0, err
	}
	f := r.PostForm
	a, rule, ev, err := c.suppressing(r.Context(), f.Get("alert"))
	if err != nil {
		return s, view, 0, err
	}
	view = suppressView(a, rule, ev)
	s = soc.Suppression{Rule: rule.ID, Title: rule.Title, Level: rule.Level, Alert: a.ID, Reason: strings.Join(strings.Fields(f.Get("reason")), " ")}
	if view.Entity = f.Get("entity") != ""; view.Entity {
		s.Entity = a.Entity
	}
	for i := range view.Fields {
		field := &view.Fields[i]
		if f.Has("value " + field.Name) {
			field.How, field.Value = f.Get("how "+field.Name), f.Get("value "+field.Name)
		}
		if field.Chosen = slices.Contains(f["use"], field.Name); field.Chosen {
			s.Conditions = append(s.Conditions, detect.Condition{Field: field.Name, How: field.How, Values: []string{field.Value}})
		}
	}
	term, _ := strconv.Atoi(f.Get("days"))
	if slices.Contains(terms(), term) {
		s.Until = c.o.Now().UTC().Add(time.Duration(term) * day)
	}
	if days, _ = strconv.Atoi(f.Get("back")); !slices.Contains(previewSpans(), days) {
		days = previewDays
	}
	view.Reason, view.Terms, view.Spans = s.Reason, choices(terms(), term), choices(previewSpans(), days)
	return s, view, days, nil
}

// wrongWith says what is wrong with a suppression for which these fields were
// chosen. Each has become a condition, or the suppression would hide more than
// it was chosen to: the newest event changes from one form to the next.
func (c *Console) wrongWith(s soc.Suppression, view SuppressView, chosen []string) error {
	if err := soc.CheckSuppression(s, c.o.Now()); err != nil {
		return err
	}
	for _, name := range chosen {
		if !slices.ContainsFunc(view.Fields, func(o OfferedField) bool { return o.Name == name }) {
			return &pasban.Error{Kind: pasban.Invalid, Where: "field", Msg: "the newest event behind the alert has no field " + name}
		}
	}
	return nil
}

// suppressionPreview says what the suppression in the form would have done.
func (c *Console) suppressionPreview(w http.ResponseWriter, r *http.Request, v Visitor) error {
	s, view, days, err := c.asked(w, r)
	if err != nil {
		return err
	}
	if err := c.wrongWith(s, view, r.PostForm["use"]); err != nil {
		c.suppressionRefused(w, r, v, view, err)
		return nil
	}
	p, err := c.o.Alerts.PreviewSuppression(r.Context(), s, c.o.Now().Add(-time.Duration(days)*day))
	if err != nil {
		return err
	}
	view.Preview = &SuppressPreview{Preview: p, Days: days, Words: c.conditionWords(page.Lang(r), s), Ends: stamp(s.Until)}
	for _, a := range p.Shown {
		view.Preview.Rows = append(view.Preview.Rows, rowOf(a))
	}
	for _, name := range slices.Sorted(maps.Keys(r.PostForm)) {
		field, ok := strings.CutPrefix(name, "value ")
		how, isHow := strings.CutPrefix(name, "how ")
		if ok && !slices.Contains(r.PostForm["use"], field) || isHow && !slices.Contains(r.PostForm["use"], how) {
			continue
		}
		for _, value := range r.PostForm[name] {
			view.Hidden = append(view.Hidden, Hidden{name, value})
		}
	}
	c.render(w, r, v, http.StatusOK, "suppress", "suppress.new", view)
	return nil
}

// suppressionRefused shows the form again with what is wrong.
func (c *Console) suppressionRefused(w http.ResponseWriter, r *http.Request, v Visitor, view SuppressView, err error) {
	view.Problem = err.Error()
	if e, ok := err.(*pasban.Error); ok && c.o.Pages.Has("console.suppress.wrong."+e.Where) {
		view.Problem = c.say(page.Lang(r), "suppress.wrong."+e.Where)
	}
	c.render(w, r, v, http.StatusUnprocessableEntity, "suppress", "suppress.new", view)
}

// suppress keeps the suppression in the form.
func (c *Console) suppress(w http.ResponseWriter, r *http.Request, v Visitor) error {
	s, view, _, err := c.asked(w, r)
	if err != nil {
		return err
	}
	if err := c.wrongWith(s, view, r.PostForm["use"]); err != nil {
		c.suppressionRefused(w, r, v, view, err)
		return nil
	}
	_, err = c.o.Alerts.Suppress(r.Context(), v.Actor, s)
	return goOn(w, r, err, "/soc/suppressions")
}

// endSuppression ends one early.
func (c *Console) endSuppression(w http.ResponseWriter, r *http.Request, v Visitor) error {
	return goOn(w, r, c.o.Alerts.EndSuppression(r.Context(), v.Actor, r.PathValue("id")), "/soc/suppressions")
}

// decideSuppression is a supervisor's word on one that waits.
func (c *Console) decideSuppression(w http.ResponseWriter, r *http.Request, v Visitor) error {
	approve, err := decision(w, r)
	if err == nil {
		err = c.o.Alerts.DecideSuppression(r.Context(), v.Actor, r.PathValue("id"), approve)
	}
	return goOn(w, r, err, "/soc/suppressions")
}

// suppressionHref is the form for alerts like this one.
func suppressionHref(alert string) string {
	return "/soc/suppressions/new?alert=" + url.QueryEscape(alert)
}
