// Package desk is the officers' surface: what they say they are working on,
// the applications of the declared services, and the steps that they take.
//
// # Main types
//
// [Desk] answers /desk and what is below it. [Records] are the declared
// services ([registry.Registry]), [Work] keeps the purpose and case in the
// officer's session ([identity.Identity]), a [Page] is a link to an existing
// service behind the gateway.
//
// # The way of an opened record
//
//	purpose and case (POST /desk/work) → list, without anybody's data →
//	open (registry: decide, journal, vault) → answers, entry number, steps
//
// # Guarantees
//
// No record is opened before a purpose and a case were given. Every answer that
// shows a citizen's data carries the promises of the looks that allowed it and
// names the entries. Nothing that a form sends by itself decides anything: what
// may be seen and done is decided behind [Records]. Every page works without
// scripts, in English and Urdu; whatever came from citizens shows as text.
//
// # What it must never do
//
// It keeps no record's data beyond the answer it is in, puts no CNIC into an
// address, and decides about no access.
package desk

import (
	"context"
	"embed"
	"errors"
	"io/fs"
	"net/http"
	"net/url"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/identity"
	"pasban/internal/page"
	"pasban/internal/registry"
)

//go:embed templates/*.html
var templates embed.FS

// Records are the declared services and what citizens handed in.
type Records interface {
	Services() []*registry.Service
	Service(id string) (*registry.Service, error)
	List(ctx context.Context, a registry.Ask, service string, f registry.Filter) ([]registry.Summary, error)
	Find(ctx context.Context, a registry.Ask, service, field, value string) ([]registry.Summary, registry.Disclosure, error)
	Open(ctx context.Context, a registry.Ask, service, id string, fields ...string) (registry.Record, error)
	Advance(ctx context.Context, a registry.Ask, service, id, step string) (registry.Summary, registry.Disclosure, error)
}

var _ Records = (*registry.Registry)(nil)

// Work keeps what an officer works on in their session. An empty code and case
// end it. Its errors of kind Invalid have purpose, case or hide as Where.
type Work interface {
	SetWork(ctx context.Context, s *identity.Session, p pasban.Purpose) error
}

var _ Work = (*identity.Identity)(nil)

// Page is a page of an existing service that officers use, guarded by the gateway.
type Page struct {
	Title    config.Text
	URL      string   // a path of this site
	Purposes []string // codes of the purposes that its routes allow
}

// Options are the parts that the desk works with. All but Sites and Hides are
// required.
type Options struct {
	Pages   *page.Pages
	Records Records
	Work    Work
	Sites   func() []Page // asked for every page, since a reload may change them; nil: none
	// Hides says whether any policy lets citizens be told of a look only later;
	// asked for every page as well; nil: none does.
	Hides func() bool
}

// Desk answers the officers' pages.
type Desk struct {
	o   Options
	mux *http.ServeMux
}

// New makes the desk and hands its templates to Pages.
func New(o Options) (*Desk, error) {
	if o.Pages == nil || o.Records == nil || o.Work == nil {
		return nil, errors.New("desk: pages, records and work are required")
	}
	if o.Sites == nil {
		o.Sites = func() []Page { return nil }
	}
	if o.Hides == nil {
		o.Hides = func() bool { return false }
	}
	sub, err := fs.Sub(templates, "templates")
	if err != nil {
		return nil, err
	}
	if err := o.Pages.Add(page.Desk, sub); err != nil {
		return nil, err
	}
	d := &Desk{o: o, mux: http.NewServeMux()}
	d.mux.HandleFunc("GET /desk", d.officer(d.home))
	d.mux.HandleFunc("GET /desk/{$}", d.officer(d.home))
	d.mux.HandleFunc("GET /desk/work", d.officer(d.home)) // where the gateway sends those who have no case yet
	d.mux.HandleFunc("POST /desk/work", d.officer(d.setWork))
	d.mux.HandleFunc("GET /desk/services/{service}", d.officer(d.list))
	d.mux.HandleFunc("POST /desk/services/{service}/find", d.officer(d.working(d.find)))
	d.mux.HandleFunc("GET /desk/services/{service}/{id}", d.officer(d.working(d.open)))
	d.mux.HandleFunc("POST /desk/services/{service}/{id}", d.officer(d.working(d.open)))
	d.mux.HandleFunc("POST /desk/services/{service}/{id}/steps/{step}", d.officer(d.working(d.step)))
	d.mux.HandleFunc("/desk/", d.officer(func(w http.ResponseWriter, r *http.Request, _ *identity.Session) {
		d.o.Pages.Error(w, r, &pasban.Error{Kind: pasban.NotFound, Msg: "there is no such page"})
	}))
	return d, nil
}

// Handler answers /desk and what is below it. Requests that change something
// from another origin are refused. It stands behind identity's Middleware.
func (d *Desk) Handler() http.Handler { return d.o.Pages.SameOrigin(d.mux) }

type handler func(http.ResponseWriter, *http.Request, *identity.Session)

// officer lets signed-in officers and supervisors through. Others are sent to
// sign in, or told that the page is not for them.
func (d *Desk) officer(next handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s := identity.FromContext(r.Context())
		switch {
		case s == nil:
			d.o.Pages.Error(w, r, &pasban.Error{Kind: pasban.Unauthenticated, Msg: "sign in to see this page"})
		case s.Person.Role != pasban.RoleOfficer && s.Person.Role != pasban.RoleSupervisor:
			d.o.Pages.Error(w, r, &pasban.Error{Kind: pasban.Forbidden, Msg: "this page is for officers and supervisors"})
		default:
			next(w, r, s)
		}
	}
}

// working lets through who has said what they are working on. Others are asked
// first and then led on.
func (d *Desk) working(next handler) handler {
	return func(w http.ResponseWriter, r *http.Request, s *identity.Session) {
		if s.Purpose().Code != "" {
			next(w, r, s)
			return
		}
		to := "/desk"
		if r.Method == http.MethodGet {
			to += "?next=" + url.QueryEscape(r.URL.RequestURI())
		}
		d.see(w, r, to)
	}
}

// see sends the browser on.
func (d *Desk) see(w http.ResponseWriter, r *http.Request, to string) {
	page.SetHeaders(w.Header(), r.TLS != nil, "")
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// ask is who wants something of a record, why, and from where.
func ask(r *http.Request, s *identity.Session) registry.Ask {
	return registry.Ask{Actor: s.Actor(), Purpose: s.Purpose(), Client: identity.ClientOf(r)}
}

// render shows one of the desk's pages with the navigation.
func (d *Desk) render(w http.ResponseWriter, r *http.Request, s *identity.Session, status int, v page.View) {
	lang := page.Lang(r)
	v.Surface, v.User = page.Desk, s.Person.Name(lang)
	v.Nav = []page.Link{{Text: d.say(r, "nav.home"), Href: "/desk", Current: v.Name == "home"}}
	for _, service := range d.o.Records.Services() {
		href := "/desk/services/" + service.ID
		v.Nav = append(v.Nav, page.Link{Text: service.Name.In(lang), Href: href, Current: r.URL.Path == href})
	}
	v.Nav = append(v.Nav, page.Link{Text: d.say(r, "nav.account"), Href: "/pasban/account"})
	d.o.Pages.Render(w, r, status, v)
}

// say is a message of the desk in the request's language.
func (d *Desk) say(r *http.Request, key string, args ...any) string {
	return d.o.Pages.T(page.Lang(r), "desk."+key, args...)
}

// Entry is an entry of the ledger that an answer brought about.
type Entry struct {
	Index uint64
	Time  string // RFC 3339
}

// entries names what a disclosure wrote into the ledger, and puts its promises
// into the answer's header.
func entries(w http.ResponseWriter, disclosed registry.Disclosure) []Entry {
	out := make([]Entry, len(disclosed.Entries))
	for i, e := range disclosed.Entries {
		w.Header().Add(pasban.PromiseHeader, e.Promise.Header())
		out[i] = Entry{Index: e.Promise.Index, Time: e.Fact.Body.Time}
	}
	return out
}
