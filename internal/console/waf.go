package console

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/page"
	"pasban/internal/soc"
)

const (
	// term is how long an exclusion lasts unless the analyst says otherwise.
	term = 30 * day
	// tried is how many recorded blocks a preview looks at.
	tried = 200
	// shownBlocks is how many blocks a page names.
	shownBlocks = 20
)

// BlockView tells of a request that the firewall stopped.
type BlockView struct {
	Hits []soc.Hit
	Make string // address of the form for an exclusion, "" if none can be made
}

func (c *Console) blockView(b soc.Block, v Visitor) *BlockView {
	view := &BlockView{Hits: b.Hits}
	if _, ok := c.siteOf(b.Host); ok && v.Actor.Role == pasban.RoleAnalyst {
		view.Make = "/soc/waf/new?event=" + url.QueryEscape(b.Event)
	}
	return view
}

// siteOf is the site that answers for the host that a client asked for.
func (c *Console) siteOf(host string) (config.Site, bool) {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	sites := c.o.Sites()
	for _, name := range []string{host, "*"} {
		if i := slices.IndexFunc(sites, func(s config.Site) bool { return s.Host == name }); i >= 0 {
			return sites[i], true
		}
	}
	return config.Site{}, false
}

// WafView is the data of the firewall's page.
type WafView struct {
	Exclusions []ExclusionRow
	Blocks     []BlockRow
	MayAct     bool
}

// ExclusionRow is one exclusion in the list.
type ExclusionRow struct {
	ID       string // "" if it stands in the configuration
	Host     string
	Subject  string
	Reason   string
	Who      string
	Expires  string
	State    string // on, soon, over or ended
	Event    string
	Sentence string
}

// BlockRow is one recorded block.
type BlockRow struct {
	Event string
	Time  string
	Where string // host and route
	Rules string
}

func blockRow(b soc.Block) BlockRow {
	row := BlockRow{Event: b.Event, Time: strings.TrimSuffix(strings.Replace(b.Time, "T", " ", 1), "Z"), Where: b.Host + " " + cmp.Or(b.Route, b.Method)}
	var rules []string
	for _, h := range b.Hits {
		if id := fmt.Sprint(h.Rule); !slices.Contains(rules, id) {
			rules = append(rules, id)
		}
	}
	row.Rules = strings.Join(rules, ", ")
	return row
}

// waf lists exclusions, the analysts' and those of the configuration, and the
// newest blocks to make one from.
func (c *Console) waf(w http.ResponseWriter, r *http.Request, v Visitor) error {
	now := c.o.Now()
	lang := page.Lang(r)
	view := WafView{MayAct: v.Actor.Role == pasban.RoleAnalyst}
	list, err := c.o.Alerts.Exclusions(r.Context())
	if err != nil {
		return err
	}
	row := func(host string, e config.Exclusion) ExclusionRow {
		out := ExclusionRow{Host: host, Subject: e.Subject(), Reason: e.Reason, Expires: e.Expires, State: "on", Sentence: c.sentence(lang, host, e)}
		switch left := e.Until().Sub(now); {
		case left <= 0:
			out.State = "over"
		case left <= 14*day:
			out.State = "soon"
		}
		return out
	}
	for _, e := range list {
		one := row(e.Host, e.Exclusion)
		one.ID, one.Who, one.Event = e.ID, e.By, e.Event
		if !e.Ended.IsZero() {
			one.State, one.Who = "ended", e.By+" → "+e.EndedBy
		}
		view.Exclusions = append(view.Exclusions, one)
	}
	for _, s := range c.o.Sites() {
		for _, e := range s.Exclusions() {
			view.Exclusions = append(view.Exclusions, row(s.Host, e))
		}
	}
	blocks, err := c.o.Alerts.Blocks(r.Context(), shownBlocks)
	if err != nil {
		return err
	}
	for _, b := range blocks {
		view.Blocks = append(view.Blocks, blockRow(b))
	}
	c.render(w, r, v, http.StatusOK, "waf", "nav.waf", view)
	return nil
}

// sentence says what an exclusion does.
func (c *Console) sentence(lang, host string, e config.Exclusion) string {
	var rules strings.Builder
	rules.WriteString(e.Tag)
	for i, r := range e.Rules {
		if i > 0 {
			rules.WriteString(c.say(lang, "comma"))
		}
		rules.WriteString(string(r))
	}
	key := "waf.does."
	if e.Target == "" {
		key += "all_"
	} else {
		key += "target_"
	}
	if e.Route == "" {
		key += "site"
	} else {
		key += "route"
	}
	where := e.Route
	if e.Method != "" {
		where = strings.TrimSpace(where + " (" + e.Method + ")")
	}
	return c.say(lang, key, "Rules", rules.String(), "Target", e.Target, "Route", where, "Host", host, "Expires", e.Expires)
}

// ExcludeView is the data of the form for an exclusion.
type ExcludeView struct {
	Event    string
	Where    string
	Rules    []Choice
	Targets  []Choice
	Odd      bool   // a rule matched at a place that no exclusion can name
	Route    string // "" if the block took none
	Site     string
	Whole    bool // the whole site is chosen
	Reason   string
	Expires  string
	First    string // days between which it may end
	Last     string
	Problem  string // what was wrong with what was sent
	Preview  *PreviewView
	Sentence string
}

// Choice is something to choose.
type Choice struct {
	Value, Text string
	Chosen      bool
}

// PreviewView says what an exclusion would have done.
type PreviewView struct {
	Tried, Touched, Freed int
	Blocks                []BlockRow // that would have been let through
	Fields                []Hidden
}

// Hidden is a field of the form that puts the exclusion in force.
type Hidden struct{ Name, Value string }

// block is the one that an exclusion is made from, and its site.
func (c *Console) block(ctx context.Context, event string) (soc.Block, config.Site, error) {
	entry, err := c.o.Journal.ByID(ctx, event)
	if err != nil {
		return soc.Block{}, config.Site{}, err
	}
	b, ok := soc.BlockOf(entry)
	if !ok {
		return b, config.Site{}, &pasban.Error{Kind: pasban.NotFound, Msg: "this event is not about a request that the firewall stopped"}
	}
	site, ok := c.siteOf(b.Host)
	if !ok {
		return b, site, &pasban.Error{Kind: pasban.NotFound, Msg: "no site answers for the host of this request"}
	}
	if !slices.ContainsFunc(site.Routes, func(r config.Route) bool { return r.Match == b.Route }) {
		b.Route = "" // it is gone
	}
	return b, site, nil
}

// excludeView offers what a block's rules can be excluded by. e is what was
// chosen before; nil chooses what is narrowest.
func (c *Console) excludeView(b soc.Block, site config.Site, e *soc.Exclusion) ExcludeView {
	now := c.o.Now().UTC()
	view := ExcludeView{Event: b.Event, Where: blockRow(b).Where, Route: b.Route, Site: site.Host, Whole: b.Route == "",
		First: now.Add(day).Format(time.DateOnly), Last: now.Add(365 * day).Format(time.DateOnly), Expires: now.Add(term).Format(time.DateOnly)}
	target := ""
	for _, h := range b.Hits {
		if _, _, ok := config.ParseTarget(h.Target); !ok {
			view.Odd = true
			continue
		}
		target = cmp.Or(target, h.Target)
		if !slices.ContainsFunc(view.Targets, func(o Choice) bool { return o.Value == h.Target }) {
			view.Targets = append(view.Targets, Choice{Value: h.Target, Text: h.Target})
		}
	}
	if e != nil {
		target, view.Whole, view.Reason, view.Expires = e.Target, e.Route == "", e.Reason, e.Expires
	}
	for _, h := range b.Hits {
		id := h.RuleOf()
		chosen := h.Target == target || target == ""
		if e != nil {
			chosen = slices.Contains(e.Rules, id)
		}
		i := slices.IndexFunc(view.Rules, func(o Choice) bool { return o.Value == string(id) })
		if i < 0 {
			i = len(view.Rules)
			view.Rules = append(view.Rules, Choice{Value: string(id), Text: h.Msg})
		}
		view.Rules[i].Text = cmp.Or(view.Rules[i].Text, h.Msg)
		view.Rules[i].Chosen = view.Rules[i].Chosen || chosen
	}
	for i := range view.Targets {
		view.Targets[i].Chosen = view.Targets[i].Value == target
	}
	view.Targets = append(view.Targets, Choice{Chosen: target == ""})
	return view
}

// exclusionForm shows the form for an exclusion from a block.
func (c *Console) exclusionForm(w http.ResponseWriter, r *http.Request, v Visitor) error {
	b, site, err := c.block(r.Context(), r.URL.Query().Get("event"))
	if err != nil {
		return err
	}
	c.render(w, r, v, http.StatusOK, "exclude", "waf.new", c.excludeView(b, site, nil))
	return nil
}

// chosen reads the form. What it chooses must be the block's: rules, place,
// route and site cannot be typed in.
func (c *Console) chosen(w http.ResponseWriter, r *http.Request) (e soc.Exclusion, b soc.Block, site config.Site, err error) {
	if err := readForm(w, r); err != nil {
		return e, b, site, err
	}
	if b, site, err = c.block(r.Context(), r.PostForm.Get("event")); err != nil {
		return e, b, site, err
	}
	f := r.PostForm
	e = soc.Exclusion{Host: site.Host, Event: b.Event, Exclusion: config.Exclusion{
		Target: f.Get("target"), Reason: strings.Join(strings.Fields(f.Get("reason")), " "), Expires: f.Get("expires")}}
	for _, id := range f["rule"] {
		if !slices.ContainsFunc(b.Hits, func(h soc.Hit) bool { return string(h.RuleOf()) == id }) {
			return e, b, site, &pasban.Error{Kind: pasban.Invalid, Msg: "that rule did not match this request"}
		}
		e.Rules = append(e.Rules, config.RuleRange(id))
	}
	if e.Target != "" && !slices.ContainsFunc(b.Hits, func(h soc.Hit) bool { return h.Target == e.Target }) {
		return e, b, site, &pasban.Error{Kind: pasban.Invalid, Msg: "no rule matched there"}
	}
	if f.Get("scope") != "site" {
		if b.Route == "" {
			return e, b, site, &pasban.Error{Kind: pasban.Invalid, Msg: "the request took no route of the site"}
		}
		if e.Route = b.Route; (config.Route{Match: b.Route}).Method() == "" {
			e.Method = b.Method
		}
	}
	return e, b, site, nil
}

// exclusionPreview says what the exclusion in the form does, and what it would
// have done to the requests that were blocked last.
func (c *Console) exclusionPreview(w http.ResponseWriter, r *http.Request, v Visitor) error {
	e, b, site, err := c.chosen(w, r)
	if err != nil {
		return err
	}
	view := c.excludeView(b, site, &e)
	if err := soc.CheckExclusion(e, c.o.Now()); err != nil {
		c.refused(w, r, v, view, err)
		return nil
	}
	view.Sentence = c.sentence(page.Lang(r), e.Host, e.Exclusion)
	if view.Preview, err = c.preview(r.Context(), e); err != nil {
		return err
	}
	for _, name := range []string{"event", "rule", "target", "scope", "reason", "expires"} {
		for _, value := range r.PostForm[name] {
			view.Preview.Fields = append(view.Preview.Fields, Hidden{name, value})
		}
	}
	c.render(w, r, v, http.StatusOK, "exclude", "waf.new", view)
	return nil
}

// refused shows the form again with what is wrong.
func (c *Console) refused(w http.ResponseWriter, r *http.Request, v Visitor, view ExcludeView, err error) {
	view.Problem = c.say(page.Lang(r), "waf.wrong.form")
	if e, ok := err.(*pasban.Error); ok && slices.Contains([]string{"rules", "target", "reason", "expires"}, e.Where) {
		view.Problem = c.say(page.Lang(r), "waf.wrong."+e.Where)
	}
	c.render(w, r, v, http.StatusUnprocessableEntity, "exclude", "waf.new", view)
}

func (c *Console) preview(ctx context.Context, e soc.Exclusion) (*PreviewView, error) {
	blocks, err := c.o.Alerts.Blocks(ctx, tried)
	if err != nil {
		return nil, err
	}
	view := &PreviewView{}
	for _, b := range blocks {
		if s, ok := c.siteOf(b.Host); !ok || s.Host != e.Host {
			continue
		}
		view.Tried++
		touched, freed := b.Frees(e.Exclusion)
		if touched {
			view.Touched++
		}
		if freed {
			view.Freed++
			if len(view.Blocks) < shownBlocks {
				view.Blocks = append(view.Blocks, blockRow(b))
			}
		}
	}
	return view, nil
}

// exclude keeps the exclusion and puts it in force.
func (c *Console) exclude(w http.ResponseWriter, r *http.Request, v Visitor) error {
	e, b, site, err := c.chosen(w, r)
	if err != nil {
		return err
	}
	if err := soc.CheckExclusion(e, c.o.Now()); err != nil {
		c.refused(w, r, v, c.excludeView(b, site, &e), err)
		return nil
	}
	_, err = c.o.Alerts.Exclude(r.Context(), v.Actor, e)
	return c.retuned(w, r, err)
}

// endExclusion ends an exclusion early.
func (c *Console) endExclusion(w http.ResponseWriter, r *http.Request, v Visitor) error {
	return c.retuned(w, r, c.o.Alerts.EndExclusion(r.Context(), v.Actor, r.PathValue("id")))
}

// retuned puts what was kept in force and goes to the list.
func (c *Console) retuned(w http.ResponseWriter, r *http.Request, err error) error {
	if err == nil {
		err = c.o.Tune(context.WithoutCancel(r.Context()))
	}
	return goOn(w, r, err, "/soc/waf")
}
