// Package console is the analysts' surface at /soc: what is going on, which
// alerts wait, why each fired, the events behind it, what else is among all
// events, and how the ledger is.
//
// # Main types
//
// [Console] answers everything under /soc. It reads alerts, suppressions and the
// rules' hit rates from a soc.Center, events from the journal and from the store
// of events, figures from detection and the ledger.
//
// # The way of an alert
//
//	soc.Subscribe → one row of HTML → server-sent event → first row of the table
//
// New rows appear by themselves only on the overview. In the queue they wait
// behind a counter, so that nothing moves under the reader's hand.
//
// # Guarantees
//
//   - Analysts read and act; supervisors read, and decide on what is asked for
//     about guarded tables and on suppressions of critical rules; nobody else
//     sees anything.
//   - No page holds a CNIC or a citizen's name: events are shown as detection
//     gets them.
//   - Every figure is measured. A part that does not exist has no panel.
//   - Whatever attackers sent is shown as text, in rows that arrive live too, and
//     stays a value in every query that a link adds it to.
//   - Who searches the events, for what, and who exports them, is a fact before
//     anything is shown.
//   - Every page works without scripts; scripts add live rows and the chart.
//
// # What it must never do
//
// It opens no citizen's record, and changes nothing without a fact that says
// who did it: changes go through soc and the journal.
package console

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"time"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/detect"
	"pasban/internal/journal"
	"pasban/internal/ledger"
	"pasban/internal/page"
	"pasban/internal/soc"
)

//go:embed templates/*.html
var templates embed.FS

// Journal is what the console reads and writes of the journal.
type Journal interface {
	ByID(ctx context.Context, factID string) (journal.Entry, error)
	Head(ctx context.Context) (seq, leaves uint64, err error)
	Record(ctx context.Context, facts ...pasban.Fact) ([]journal.Entry, error)
}

// Ledger is what the console asks of the ledger.
type Ledger interface {
	Status() ledger.Status
	Audit(ctx context.Context) error
}

// Detection is what the console asks of the running rules.
type Detection interface {
	Rules() []*detect.Rule
	Delay() (median, p99 time.Duration, ok bool)
	Tally(now time.Time) []detect.Tally
	Costs() map[string]detect.Cost
}

var (
	_ Journal   = (*journal.Journal)(nil)
	_ Ledger    = (*ledger.Ledger)(nil)
	_ Detection = (*detect.Engine)(nil)
)

// Visitor is who is signed in.
type Visitor struct {
	Actor pasban.Actor
	Name  map[string]string // by language
}

// Options are the parts that the console works with. All are required but
// Shield, Tables, Logs, Events, Refused and Now.
type Options struct {
	Pages     *page.Pages
	Agency    string // the agency's id, as facts carry it
	Alerts    *soc.Center
	Journal   Journal
	Ledger    Ledger
	Detection func() Detection // the rules in force
	VKey      string           // the ledger's verifier key
	Visitor   func(r *http.Request) (Visitor, bool)
	Sites     func() []config.Site            // in the configuration in force
	Tune      func(ctx context.Context) error // puts exclusions in force
	Shield    Shield                          // nil shows none
	Tables    Tables                          // nil if no table is guarded
	Logs      Logs                            // nil if no logs are received
	Events    Events                          // nil if no events are kept
	Refused   func() config.Problems          // the rules that the last reload refused; nil if it took all
	Now       func() time.Time                // nil is time.Now
}

// Console answers the analysts' pages.
type Console struct {
	o   Options
	mux *http.ServeMux

	fields fieldNames // that completion offers
}

// New makes the console and hands its templates to pages.
func New(o Options) (*Console, error) {
	if o.Pages == nil || o.Alerts == nil || o.Journal == nil || o.Ledger == nil || o.Detection == nil || o.Visitor == nil || o.Sites == nil || o.Tune == nil {
		return nil, errors.New("console: pages, alerts, journal, ledger, detection, visitor, sites and tune are required")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Refused == nil {
		o.Refused = func() config.Problems { return nil }
	}
	sub, err := fs.Sub(templates, "templates")
	if err != nil {
		return nil, err
	}
	if err := o.Pages.Add(page.Console, sub); err != nil {
		return nil, err
	}
	c := &Console{o: o, mux: http.NewServeMux()}
	read := func(pattern string, h handler) {
		c.mux.HandleFunc("GET "+pattern, c.may(h, pasban.RoleAnalyst, pasban.RoleSupervisor))
	}
	act := func(pattern string, h handler) {
		c.mux.HandleFunc("POST "+pattern, c.may(h, pasban.RoleAnalyst))
	}
	read("/soc", c.overview)
	read("/soc/{$}", c.overview)
	read("/soc/live", c.live)
	read("/soc/live/count", c.liveCount)
	read("/soc/alerts", c.queue)
	read("/soc/alerts.json", c.alertsJSON)
	read("/soc/alerts/{id}", c.alert)
	read("/soc/events/{id}", c.event)
	read("/soc/find", c.find)
	read("/soc/attack", c.attack)
	read("/soc/layer.json", c.layer)
	read("/soc/waf", c.waf)
	read("/soc/ledger", c.ledger)
	read("/soc/ledger/vkey", c.vkey)
	act("/soc/alerts", c.change)
	act("/soc/alerts/{id}/notes", c.addNote)
	act("/soc/ledger/audit", c.audit)
	c.mux.HandleFunc("GET /soc/waf/new", c.may(c.exclusionForm, pasban.RoleAnalyst))
	act("/soc/waf/preview", c.exclusionPreview)
	act("/soc/waf", c.exclude)
	act("/soc/waf/{id}/end", c.endExclusion)
	if o.Shield != nil {
		act("/soc/shield", c.startShield)
		act("/soc/shield/end", c.endShield)
	}
	if o.Tables != nil {
		read("/soc/tables", c.tables)
		c.mux.HandleFunc("POST /soc/tables", c.may(c.askTables, pasban.RoleAnalyst, pasban.RoleSupervisor))
		c.mux.HandleFunc("POST /soc/tables/{id}", c.may(c.decideTables, pasban.RoleSupervisor))
	}
	if o.Logs != nil {
		read("/soc/sources", c.logSources)
	}
	if o.Events != nil {
		read("/soc/hunt", c.hunt)
		read("/soc/hunt/event", c.huntEvent)
		read("/soc/hunt/complete.json", c.complete)
		read("/soc/hunt/saved", c.saved)
		read("/soc/hunt/rule", c.draftPage)
		read("/soc/hunt/rule.yml", c.draftFile)
		act("/soc/hunt/saved", c.saveHunt)
		c.mux.HandleFunc("POST /soc/hunt/saved/{id}/delete", c.may(c.deleteHunt, pasban.RoleAnalyst, pasban.RoleSupervisor))
		c.mux.HandleFunc("POST /soc/hunt/export", c.may(c.export, pasban.RoleAnalyst, pasban.RoleSupervisor))
	}
	c.mountRules(read, act)
	c.mux.HandleFunc("/soc/", func(w http.ResponseWriter, r *http.Request) {
		c.o.Pages.Error(w, r, &pasban.Error{Kind: pasban.NotFound, Msg: "there is no such page"})
	})
	return c, nil
}

// Handler answers /soc and everything below. Requests that change something
// from another origin are refused.
func (c *Console) Handler() http.Handler { return c.o.Pages.SameOrigin(c.mux) }

// handler answers a visitor's request, or returns why it cannot: an error page says
// so.
type handler func(http.ResponseWriter, *http.Request, Visitor) error

// may lets visitors of the given roles through.
func (c *Console) may(next handler, roles ...pasban.Role) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var err error
		switch v, ok := c.o.Visitor(r); {
		case !ok:
			err = &pasban.Error{Kind: pasban.Unauthenticated, Msg: "sign in to see this page"}
		case !slices.Contains(roles, v.Actor.Role):
			err = &pasban.Error{Kind: pasban.Forbidden, Msg: "this is for analysts", Hint: "supervisors may read"}
		default:
			err = next(w, r, v)
		}
		if err != nil {
			c.o.Pages.Error(w, r, err)
		}
	}
}

// render shows one of the console's pages. title is a message of the console,
// or a text as it stands.
func (c *Console) render(w http.ResponseWriter, r *http.Request, v Visitor, status int, name, title string, data any) {
	lang := page.Lang(r)
	if c.o.Pages.Has("console." + title) {
		title = c.say(lang, title)
	}
	user := v.Name[lang]
	if user == "" {
		user = v.Name["en"]
	}
	c.o.Pages.Render(w, r, status, page.View{Surface: page.Console, Name: name, Title: title, Data: data, User: user, Nav: c.nav(r, lang)})
}

// nav is the console's menu, with the number of alerts that are not closed.
func (c *Console) nav(r *http.Request, lang string) []page.Link {
	links := []page.Link{
		{Text: c.say(lang, "nav.overview"), Href: "/soc"},
		{Text: c.say(lang, "nav.alerts"), Href: "/soc/alerts"},
		{Text: c.say(lang, "nav.rules"), Href: "/soc/rules"},
		{Text: c.say(lang, "nav.attack"), Href: "/soc/attack"},
		{Text: c.say(lang, "nav.waf"), Href: "/soc/waf"},
		{Text: c.say(lang, "nav.ledger"), Href: "/soc/ledger"},
	}
	if c.o.Events != nil {
		links = slices.Insert(links, 2, page.Link{Text: c.say(lang, "nav.hunt"), Href: "/soc/hunt"})
	}
	if c.o.Tables != nil {
		links = append(links, page.Link{Text: c.say(lang, "nav.tables"), Href: "/soc/tables"})
	}
	if c.o.Logs != nil {
		links = append(links, page.Link{Text: c.say(lang, "nav.sources"), Href: "/soc/sources"})
	}
	if open, err := c.o.Alerts.Open(r.Context()); err == nil {
		links[1].Count = page.Num(lang, total(open))
	}
	for i := range links {
		links[i].Current = r.URL.Path == links[i].Href || links[i].Href != "/soc" && strings.HasPrefix(r.URL.Path, links[i].Href+"/")
	}
	return links
}

func total(open map[detect.Level]int) (n int) {
	for _, count := range open {
		n += count
	}
	return n
}

// say is a message of the console.
func (c *Console) say(lang, key string, args ...any) string {
	return c.o.Pages.T(lang, "console."+key, args...)
}

// ago says how long ago something was, in its largest unit.
func (c *Console) ago(lang string, d time.Duration) string {
	key, n := c.unit(d)
	return c.say(lang, "ago."+key, "N", n)
}

// span says how long something takes: tenths of a second below ten seconds.
func (c *Console) span(lang string, d time.Duration) string {
	if d < 10*time.Second {
		return c.say(lang, "span.s", "N", fmt.Sprintf("%.1f", d.Seconds()))
	}
	key, n := c.unit(d)
	return c.say(lang, "span."+key, "N", n)
}

func (c *Console) unit(d time.Duration) (key string, n int) {
	switch d = max(d, 0); {
	case d < 2*time.Minute:
		return "s", int(d.Seconds())
	case d < 2*time.Hour:
		return "m", int(d.Minutes())
	case d < 48*time.Hour:
		return "h", int(d.Hours())
	}
	return "d", int(d.Hours() / 24)
}

// goOn answers a form with the page that it leads to, unless err says why it failed.
func goOn(w http.ResponseWriter, r *http.Request, err error, to string) error {
	if err == nil {
		http.Redirect(w, r, to, http.StatusSeeOther)
	}
	return err
}

// formMax is the largest form that the console reads, in bytes.
const formMax = 64 << 10

// readForm reads what a form sent into r.PostForm.
func readForm(w http.ResponseWriter, r *http.Request) error {
	r.Body = http.MaxBytesReader(w, r.Body, formMax)
	if err := r.ParseForm(); err != nil {
		return &pasban.Error{Kind: pasban.Invalid, Msg: "the form cannot be read", Err: err}
	}
	return nil
}

// decision is a supervisor's word in a form.
func decision(w http.ResponseWriter, r *http.Request) (approve bool, err error) {
	if err := readForm(w, r); err != nil {
		return false, err
	}
	do := r.PostForm.Get("do")
	if do != "approve" && do != "refuse" {
		return false, &pasban.Error{Kind: pasban.Invalid, Msg: "approve or refuse"}
	}
	return do == "approve", nil
}
