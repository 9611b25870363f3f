package desk

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"pasban"
	"pasban/internal/identity"
	"pasban/internal/page"
	"pasban/internal/registry"
)

// Purpose is a reason that an officer can give.
type Purpose struct {
	Code string
	Name string // in the visitor's language
}

// purposes are those of the declared services, by their names there, and those
// of the existing services' routes.
func (d *Desk) purposes(lang string) []Purpose {
	var out []Purpose
	add := func(code, name string) {
		if !slices.ContainsFunc(out, func(p Purpose) bool { return p.Code == code }) {
			out = append(out, Purpose{code, name})
		}
	}
	for _, s := range d.o.Records.Services() {
		for _, p := range s.Purposes {
			add(p.Code, p.Name.In(lang))
		}
	}
	for _, site := range d.o.Sites() {
		for _, code := range site.Purposes {
			add(code, d.o.Pages.Label(lang, "desk.purpose", code))
		}
	}
	return out
}

// purposeName is what a purpose's code is called.
func (d *Desk) purposeName(lang, code string) string {
	for _, p := range d.purposes(lang) {
		if p.Code == code {
			return p.Name
		}
	}
	return d.o.Pages.Label(lang, "desk.purpose", code)
}

// WorkView is what the officer works on, as every page shows it.
type WorkView struct {
	Purpose string // its name; "" if none was chosen
	Now     string // a sentence with purpose, case, and until when they hold
	Hidden  string // a sentence that citizens are told of it later; "" if at once
}

func (d *Desk) workOf(r *http.Request, s *identity.Session) WorkView {
	p := s.Purpose()
	if p.Code == "" {
		return WorkView{}
	}
	lang := page.Lang(r)
	name := d.purposeName(lang, p.Code)
	v := WorkView{Purpose: name, Now: d.say(r, "work.now", "Purpose", name, "Case", p.Case, "Until", page.Clock(lang, s.Work.Until))}
	if !p.HideUntil.IsZero() {
		v.Hidden = d.say(r, "work.hidden", "Date", page.Date(lang, p.HideUntil))
	}
	return v
}

// ServiceLink leads to a declared service's list.
type ServiceLink struct{ Name, Summary, Href string }

// SiteLink leads to a page of an existing service.
type SiteLink struct{ Name, Href string }

// HomeView is the data of the desk's first page.
type HomeView struct {
	Work     WorkView
	Purposes []Purpose
	Purpose  string // chosen or sent
	Case     string
	Hides    bool              // whether hiding is offered
	Hide     string            // the date that was chosen or sent, as a date field has it
	Earliest string            // that can be chosen
	Errors   map[string]string // by field: purpose, case or hide
	Next     string            // where to go on
	Services []ServiceLink
	Sites    []SiteLink
}

func (d *Desk) homeView(r *http.Request, s *identity.Session) HomeView {
	lang := page.Lang(r)
	p := s.Purpose()
	v := HomeView{Work: d.workOf(r, s), Purposes: d.purposes(lang), Purpose: p.Code, Case: p.Case, Errors: map[string]string{}}
	if v.Hides = d.o.Hides(); v.Hides {
		v.Earliest = time.Now().In(page.Zone()).AddDate(0, 0, 1).Format(time.DateOnly)
		if !p.HideUntil.IsZero() {
			v.Hide = p.HideUntil.In(page.Zone()).Format(time.DateOnly)
		}
	}
	for _, service := range d.o.Records.Services() {
		v.Services = append(v.Services, ServiceLink{service.Name.In(lang), service.Summary.In(lang), "/desk/services/" + service.ID})
	}
	for _, site := range d.o.Sites() {
		v.Sites = append(v.Sites, SiteLink{site.Title.In(lang), site.URL})
	}
	return v
}

func (d *Desk) home(w http.ResponseWriter, r *http.Request, s *identity.Session) {
	v := d.homeView(r, s)
	v.Next = identity.SafeNext(r.URL.Query().Get("next"))
	d.render(w, r, s, http.StatusOK, page.View{Name: "home", Title: d.say(r, "home.title"), Data: v})
}

// setWork keeps the chosen purpose and case, or ends the work.
func (d *Desk) setWork(w http.ResponseWriter, r *http.Request, s *identity.Session) {
	if !d.form(w, r) {
		return
	}
	next := identity.SafeNext(r.PostForm.Get("next"))
	if next == "" {
		next = "/desk"
	}
	p := pasban.Purpose{Code: r.PostForm.Get("purpose"), Case: r.PostForm.Get("case")}
	var err error
	if p.HideUntil, err = registry.ParseHideUntil(r.PostForm.Get("hide")); err != nil {
		d.workAgain(w, r, s, "hide")
		return
	}
	if r.PostForm.Has("end") {
		p, next = pasban.Purpose{}, "/desk"
	} else if !slices.ContainsFunc(d.purposes("en"), func(known Purpose) bool { return known.Code == p.Code }) {
		d.workAgain(w, r, s, "purpose")
		return
	} else if p.Case == "" {
		d.workAgain(w, r, s, "case")
		return
	}
	err = d.o.Work.SetWork(r.Context(), s, p)
	e, ok := errors.AsType[*pasban.Error](err)
	switch {
	case err == nil:
		d.see(w, r, next)
	case ok && e.Kind == pasban.Invalid && (e.Where == "purpose" || e.Where == "case" || e.Where == "hide"):
		d.workAgain(w, r, s, e.Where)
	default:
		d.o.Pages.Error(w, r, err)
	}
}

// workAgain shows the form with what was sent and what is wrong with it.
func (d *Desk) workAgain(w http.ResponseWriter, r *http.Request, s *identity.Session, field string) {
	v := d.homeView(r, s)
	v.Purpose, v.Case, v.Next = r.PostForm.Get("purpose"), r.PostForm.Get("case"), identity.SafeNext(r.PostForm.Get("next"))
	v.Hide = r.PostForm.Get("hide")
	v.Errors[field] = d.say(r, "work.error."+field)
	d.render(w, r, s, http.StatusBadRequest, page.View{Name: "home", Title: d.say(r, "home.title"), Data: v})
}

// maxForm is the largest form in bytes.
const maxForm = 16 << 10

// form reads the request's form, or answers that it cannot be read.
func (d *Desk) form(w http.ResponseWriter, r *http.Request) bool {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		d.o.Pages.Error(w, r, &pasban.Error{Kind: pasban.Invalid, Msg: "the form cannot be read", Err: err})
		return false
	}
	return true
}
