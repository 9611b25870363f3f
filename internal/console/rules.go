package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/detect"
	"pasban/internal/detect/rulebook"
	"pasban/internal/page"
	"pasban/internal/soc"
)

const (
	// rulesMax is how many rules one page of the list has.
	rulesMax = 50
	// refusedMax is how many mistakes of refused rules are shown.
	refusedMax = 20
	// ruleAlerts is how many alerts a rule's page names.
	ruleAlerts = 10
)

// mountRules answers the pages about rules and suppressions.
func (c *Console) mountRules(read, act func(string, handler)) {
	read("/soc/rules", c.rules)
	read("/soc/rules/{id}", c.oneRule)
	read("/soc/suppressions", c.suppressions)
	c.mux.HandleFunc("GET /soc/suppressions/new", c.may(c.suppressionForm, pasban.RoleAnalyst))
	act("/soc/suppressions/preview", c.suppressionPreview)
	act("/soc/suppressions", c.suppress)
	c.mux.HandleFunc("POST /soc/suppressions/{id}/end", c.may(c.endSuppression, pasban.RoleAnalyst, pasban.RoleSupervisor))
	c.mux.HandleFunc("POST /soc/suppressions/{id}", c.may(c.decideSuppression, pasban.RoleSupervisor))
}

// RuleRow is one rule with its figures.
type RuleRow struct {
	Title, ID, Description string
	Level, Class, Glyph    string
	Techniques             []string
	Logsource              string // "" for a correlation
	Correlates             bool
	Fed                    bool // events come that it can hold for
	soc.RuleFigures
	Noise int // percent, -1 if nobody has given a verdict
	Cost  time.Duration
	level detect.Level
}

// CostText is what the rule costs for an event, "" if it is not known.
func (r RuleRow) CostText() string { return costText(r.Cost) }

func costText(d time.Duration) string {
	switch {
	case d <= 0:
		return ""
	case d < time.Microsecond:
		return fmt.Sprintf("%d ns", d.Nanoseconds())
	}
	return fmt.Sprintf("%.1f µs", float64(d.Nanoseconds())/1e3)
}

// RulesView is the data of the list of rules.
type RulesView struct {
	Rows          []RuleRow
	Total, Loaded int // rules that fit, and all
	Blind         int // of all: those that no data comes for
	Filter        RuleFilter
	Levels        []string
	Products      []string
	Shows         []string
	Heads         []Head
	From, To      int
	Back, Next    string // addresses of the pages before and after, "" if there are none
	Refused       config.Problems
	RefusedMore   int
	Suppressions  int // that are in force or wait
}

// RuleFilter is what the list shows, as its address says.
type RuleFilter struct {
	Text, Level, Product, Technique, Show, Sort string
	Page                                        int
}

// Head is the heading of a column by which the list can be sorted.
type Head struct {
	Key, Href string
	Sorted    bool
	Num       bool
}

func ruleShows() []string {
	return []string{"matching", "waiting", "noisy", "suppressed", "blind", "silent"}
}

func ruleSorts() []string {
	return []string{"level", "title", "matches", "alerts", "noise", "suppressed", "cost"}
}

// ruleFilterOf keeps what is valid of a query.
func ruleFilterOf(q url.Values) RuleFilter {
	f := RuleFilter{Text: strings.TrimSpace(q.Get("q")), Product: q.Get("product")}
	if r := []rune(f.Text); len(r) > 100 {
		f.Text = string(r[:100])
	}
	if _, ok := detect.ParseLevel(q.Get("level")); ok {
		f.Level = q.Get("level")
	}
	if t := q.Get("technique"); techniqueForm.MatchString(t) {
		f.Technique = t
	}
	if s := q.Get("show"); slices.Contains(ruleShows(), s) {
		f.Show = s
	}
	if f.Sort = "matches"; slices.Contains(ruleSorts(), q.Get("sort")) {
		f.Sort = q.Get("sort")
	}
	if n, err := strconv.Atoi(q.Get("page")); err == nil {
		f.Page = min(max(n, 1), 10_000) - 1
	}
	return f
}

// href is the address of the list with this filter, sorted so, at this page.
func (f RuleFilter) href(sort string, at int) string {
	q := url.Values{}
	for key, value := range map[string]string{"q": f.Text, "level": f.Level, "product": f.Product, "technique": f.Technique, "show": f.Show} {
		if value != "" {
			q.Set(key, value)
		}
	}
	if sort != "matches" {
		q.Set("sort", sort)
	}
	if at > 0 {
		q.Set("page", strconv.Itoa(at+1))
	}
	return "/soc/rules?" + q.Encode()
}

// fits reports whether the list shows a rule.
func (f RuleFilter) fits(rule *detect.Rule, row RuleRow) bool {
	if least, ok := detect.ParseLevel(f.Level); ok && row.level < least {
		return false
	}
	if f.Product != "" && rule.Source.Product != f.Product && !(f.Product == "-" && rule.Source.Product == "") {
		return false
	}
	if f.Technique != "" && !slices.ContainsFunc(row.Techniques, func(t string) bool { return t == f.Technique || strings.HasPrefix(t, f.Technique+".") }) {
		return false
	}
	if text := strings.ToLower(f.Text); text != "" && !strings.Contains(strings.ToLower(rule.Title), text) && !strings.Contains(rule.ID, text) &&
		!strings.Contains(row.Logsource, text) && !slices.ContainsFunc(rule.Tags, func(t string) bool { return strings.Contains(t, text) }) {
		return false
	}
	switch f.Show {
	case "matching":
		return row.Matches.Week > 0
	case "waiting":
		return row.Waiting > 0
	case "noisy":
		return row.Noise > 0
	case "suppressed":
		return row.Suppressed > 0
	case "blind":
		return !row.Fed
	case "silent":
		return row.Fed && row.Matches.Week == 0
	}
	return true
}

// less orders rows: what asks for attention first.
func (f RuleFilter) less(a, b RuleRow) int {
	order := 0
	switch f.Sort {
	case "level":
	case "title":
		return cmp.Or(cmp.Compare(strings.ToLower(a.Title), strings.ToLower(b.Title)), cmp.Compare(a.ID, b.ID))
	case "alerts":
		order = cmp.Or(b.Alerts-a.Alerts, b.Waiting-a.Waiting)
	case "noise":
		order = cmp.Or(b.Noise-a.Noise, b.Closed[soc.FalsePositive]-a.Closed[soc.FalsePositive])
	case "suppressed":
		order = b.Suppressed - a.Suppressed
	case "cost":
		order = cmp.Compare(b.Cost, a.Cost)
	default:
		order = cmp.Or(b.Matches.Day-a.Matches.Day, b.Matches.Week-a.Matches.Week)
	}
	return cmp.Or(order, int(b.level-a.level), cmp.Compare(a.Title, b.Title), cmp.Compare(a.ID, b.ID))
}

// ruleKnowledge is what is known of the running rules.
type ruleKnowledge struct {
	figures  map[string]soc.RuleFigures
	received [][]detect.Logsource
	costs    map[string]detect.Cost
}

// knowledge reads the figures of all rules.
func (c *Console) knowledge(ctx context.Context) (k ruleKnowledge, err error) {
	if k.figures, err = c.o.Alerts.RuleFigures(ctx, c.o.Now()); err != nil {
		return k, err
	}
	k.costs = c.o.Detection().Costs()
	k.received, err = c.received(ctx)
	return k, err
}

// received are the logsources of which events came in the last week.
func (c *Console) received(ctx context.Context) ([][]detect.Logsource, error) {
	list, err := c.o.Alerts.Received(ctx, c.o.Now())
	return sourcesOf(list), err
}

func sourcesOf(list []soc.Received) (out [][]detect.Logsource) {
	for _, r := range list {
		out = append(out, r.Sources)
	}
	return out
}

func (k ruleKnowledge) row(rule *detect.Rule) RuleRow {
	row := RuleRow{Title: rule.Title, ID: rule.ID, Description: strings.Join(strings.Fields(rule.Description), " "), Level: rule.Level.String(), level: rule.Level,
		Techniques: rule.Techniques(), Correlates: rule.Correlates(), Logsource: rule.Source.String(), Fed: rule.Fed(k.received),
		RuleFigures: k.figures[rule.ID], Noise: -1, Cost: k.costs[rule.ID].PerEvent()}
	if percent, ok := row.RuleFigures.Noise(); ok {
		row.Noise = percent
	}
	row.Class, row.Glyph = severity(rule.Level)
	return row
}

// rules lists the loaded rules that the address asks for.
func (c *Console) rules(w http.ResponseWriter, r *http.Request, v Visitor) error {
	k, err := c.knowledge(r.Context())
	if err != nil {
		return err
	}
	f := ruleFilterOf(r.URL.Query())
	view := RulesView{Filter: f, Shows: ruleShows()}
	view.Levels = levels()
	var rows []RuleRow
	for _, rule := range c.o.Detection().Rules() {
		row := k.row(rule)
		view.Loaded++
		if !row.Fed {
			view.Blind++
		}
		if p := rule.Source.Product; p != "" && !slices.Contains(view.Products, p) {
			view.Products = append(view.Products, p)
		}
		if f.fits(rule, row) {
			rows = append(rows, row)
		}
	}
	slices.Sort(view.Products)
	slices.SortFunc(rows, f.less)
	view.Total = len(rows)
	f.Page = min(f.Page, max(0, (len(rows)-1)/rulesMax))
	from, to := f.Page*rulesMax, min((f.Page+1)*rulesMax, len(rows))
	view.Rows, view.From, view.To = rows[from:to], min(from+1, to), to
	if f.Page > 0 {
		view.Back = f.href(f.Sort, f.Page-1)
	}
	if to < len(rows) {
		view.Next = f.href(f.Sort, f.Page+1)
	}
	for _, key := range ruleSorts() {
		view.Heads = append(view.Heads, Head{Key: key, Href: f.href(key, 0), Sorted: key == f.Sort, Num: key != "level" && key != "title"})
	}
	if view.Refused = c.o.Refused(); len(view.Refused) > refusedMax {
		view.RefusedMore = len(view.Refused) - refusedMax
		view.Refused = view.Refused[:refusedMax]
	}
	if view.Suppressions, err = c.o.Alerts.OpenSuppressions(r.Context()); err != nil {
		return err
	}
	c.render(w, r, v, http.StatusOK, "rules", "nav.rules", view)
	return nil
}

// RuleView is the data of one rule's page.
type RuleView struct {
	RuleRow
	Rule         *detect.Rule
	Asks         *AsksView
	Names        []Technique
	Measured     detect.Cost
	CostParts    CostParts
	Text         string
	Changed      bool   // the file is not what was loaded
	Unread       string // why its file cannot be read
	Cases        []detect.CaseInfo
	Regression   []rulebook.Case
	CasesProblem string
	Recent       []Row // its newest alerts
	Suppressions []SuppressionRow
}

// CostParts is what a rule costs, in words.
type CostParts struct{ Condition, Asked, Finding string }

// oneRule shows a rule: what it says, what it found, and what was made of that.
func (c *Console) oneRule(w http.ResponseWriter, r *http.Request, v Visitor) error {
	rule := c.rule(r.PathValue("id"))
	if rule == nil {
		return &pasban.Error{Kind: pasban.NotFound, Msg: "no rule with this id is loaded"}
	}
	k, err := c.knowledge(r.Context())
	if err != nil {
		return err
	}
	lang := page.Lang(r)
	view := RuleView{RuleRow: k.row(rule), Rule: rule, Asks: c.asksView(lang, rule, ""), Measured: k.costs[rule.ID]}
	if m := view.Measured; m.Samples > 0 {
		view.CostParts = CostParts{costText(m.Condition), fmt.Sprintf("%.2f", float64(m.Asked)*100/float64(m.Samples)), costText(m.Finding)}
	}
	for _, id := range rule.Techniques() {
		view.Names = append(view.Names, techniqueOf(id))
	}
	view.Text, view.Changed, err = rule.Text()
	if err != nil {
		view.Unread = unread(err)
	}
	view.Cases, err = rule.Cases()
	if err == nil && view.Unread == "" {
		view.Regression, err = rulebook.Cases([]string{rule.File})
	}
	if err != nil {
		view.CasesProblem = unread(err)
	}
	alerts, err := c.o.Alerts.List(r.Context(), soc.Query{Rule: rule.ID, Max: ruleAlerts, Newest: true})
	if err != nil {
		return err
	}
	for _, a := range alerts {
		view.Recent = append(view.Recent, rowOf(a))
	}
	if view.Suppressions, err = c.suppressionRows(r.Context(), lang, v, rule.ID); err != nil {
		return err
	}
	c.render(w, r, v, http.StatusOK, "rule", rule.Title, view)
	return nil
}

// unread is an error about a file without the path, which the page names.
func unread(err error) string {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err.Error()
	}
	return err.Error()
}
