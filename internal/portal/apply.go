package portal

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"pasban"
	"pasban/internal/identity"
	"pasban/internal/page"
	"pasban/internal/registry"
)

// Registry is what the portal needs of the declared services.
type Registry interface {
	Services() []*registry.Service
	Apply(ctx context.Context, a registry.Ask, service string, values map[string]string) (registry.Summary, registry.Disclosure, error)
	Own(ctx context.Context, a pasban.Actor) ([]registry.Summary, error)
	Open(ctx context.Context, a registry.Ask, service, id string, fields ...string) (registry.Record, error)
}

var _ Registry = (*registry.Registry)(nil)

// offered lists the services that citizens may apply for.
func (p *Portal) offered() []*registry.Service {
	if p.o.Registry == nil {
		return nil
	}
	return slices.DeleteFunc(p.o.Registry.Services(), func(s *registry.Service) bool { return !slices.Contains(s.Apply, pasban.RoleCitizen) })
}

// declared finds a declared service; nil if it is no longer there.
func (p *Portal) declared(id string) *registry.Service {
	all := p.o.Registry.Services()
	if i := slices.IndexFunc(all, func(s *registry.Service) bool { return s.ID == id }); i >= 0 {
		return all[i]
	}
	return nil
}

// service finds the service that a path names, if citizens may apply for it.
func (p *Portal) service(r *http.Request) (*registry.Service, error) {
	id := r.PathValue("service")
	all := p.offered()
	if i := slices.IndexFunc(all, func(s *registry.Service) bool { return s.ID == id }); i >= 0 {
		return all[i], nil
	}
	return nil, &pasban.Error{Kind: pasban.NotFound, Msg: "there is no such service"}
}

// ask is what the registry is told of who asks and from where.
func ask(r *http.Request, v Visitor) registry.Ask {
	return registry.Ask{Actor: v.Actor, Client: identity.ClientOf(r)}
}

// Question is a field with its answer, as templates show it.
type Question struct {
	registry.Field
	Value  string // as the citizen wrote it
	Shown  string // as it is shown back: a choice and a date in words
	Error  string
	Closed bool // there is an answer that was not opened
}

// HintIn is the field's hint in a language, or "".
func (q Question) HintIn(lang string) string {
	if q.Hint == nil {
		return ""
	}
	return q.Hint.In(lang)
}

// ApplyView is the data of the form and of "check your answers".
type ApplyView struct {
	Service   *registry.Service
	Questions []Question
	Errors    []FieldError
	Path      string // where the form goes
}

// ApplicationView is the data of one application and of the confirmation.
type ApplicationView struct {
	Summary   registry.Summary
	Name      string // of the service
	State     string // in words
	Final     bool   // nothing more will happen
	Due       time.Time
	Questions []Question // nil in a list
}

// ApplicationsView is the data of the list.
type ApplicationsView struct {
	Applications []ApplicationView
	Services     []*registry.Service
}

// form shows the empty form of a service.
func (p *Portal) form(w http.ResponseWriter, r *http.Request, v Visitor) {
	s, err := p.service(r)
	if err != nil {
		p.o.Pages.Error(w, r, err)
		return
	}
	p.showForm(w, r, v, http.StatusOK, s, nil, nil)
}

// showForm shows the form with answers and what is wrong with them.
func (p *Portal) showForm(w http.ResponseWriter, r *http.Request, v Visitor, status int, s *registry.Service, values map[string]string, wrong []FieldError) {
	lang := page.Lang(r)
	data := ApplyView{Service: s, Questions: questions(s, lang, values), Errors: wrong, Path: "/" + lang + "/apply/" + url.PathEscape(s.ID)}
	title := s.Name.In(lang)
	for i := range data.Questions {
		data.Questions[i].Error = errorOf(wrong, data.Questions[i].Name)
	}
	if len(wrong) > 0 {
		title = p.say(r, "form.error_prefix") + " " + title
	}
	p.render(w, r, status, &v, page.View{Name: "apply", Title: title, Data: data, Back: p.back(r, "back.home", "/")})
}

// questions pairs a service's fields with answers.
func questions(s *registry.Service, lang string, values map[string]string) []Question {
	all := make([]Question, len(s.Fields))
	for i, f := range s.Fields {
		q := Question{Field: f, Value: values[f.Name], Shown: values[f.Name]}
		for _, c := range f.Choices {
			if c.Code == q.Value {
				q.Shown = c.Name.In(lang)
			}
		}
		if day, err := time.ParseInLocation(time.DateOnly, q.Value, page.Zone()); err == nil && f.Kind == "date" {
			q.Shown = page.Date(lang, day)
		}
		all[i] = q
	}
	return all
}

// submit takes the form: step "check" shows the answers back, "edit" returns
// to the form with them, "send" hands the application in. The answers travel
// in the page between the steps and are checked at each, so nothing half-filled
// is kept on the server.
func (p *Portal) submit(w http.ResponseWriter, r *http.Request, v Visitor) {
	s, err := p.service(r)
	if err == nil {
		err = parseForm(w, r)
	}
	if err != nil {
		p.o.Pages.Error(w, r, err)
		return
	}
	values := map[string]string{}
	for _, f := range s.Fields {
		if value := strings.TrimSpace(r.PostForm.Get(f.Name)); value != "" {
			values[f.Name] = value
		}
	}
	step := r.PostForm.Get("step")
	if step == "edit" {
		p.showForm(w, r, v, http.StatusOK, s, values, nil)
		return
	}
	checked, err := s.Check(values)
	if err != nil {
		p.showForm(w, r, v, http.StatusBadRequest, s, values, p.fieldErrors(r, s, values, err))
		return
	}
	lang := page.Lang(r)
	if step != "send" {
		data := ApplyView{Service: s, Questions: questions(s, lang, checked), Path: "/" + lang + "/apply/" + url.PathEscape(s.ID)}
		p.render(w, r, http.StatusOK, &v, page.View{Name: "apply-check", Title: p.say(r, "apply.check.title"), Data: data})
		return
	}
	filed, _, err := p.o.Registry.Apply(r.Context(), ask(r, v), s.ID, checked)
	if err != nil {
		if wrong := p.fieldErrors(r, s, values, err); len(wrong) > 0 {
			p.showForm(w, r, v, http.StatusBadRequest, s, values, wrong)
			return
		}
		p.o.Pages.Error(w, r, err)
		return
	}
	page.SetHeaders(w.Header(), r.TLS != nil, "")
	http.Redirect(w, r, "/"+lang+"/applications/"+url.PathEscape(s.ID)+"/"+url.PathEscape(filed.ID)+"?sent=1", http.StatusSeeOther)
}

// fieldErrors says in the visitor's language what is wrong with the answers
// that err, or what it joins, names. It is empty if err names none.
func (p *Portal) fieldErrors(r *http.Request, s *registry.Service, values map[string]string, err error) []FieldError {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []FieldError
		for _, e := range joined.Unwrap() {
			all = append(all, p.fieldErrors(r, s, values, e)...)
		}
		return all
	}
	e, ok := errors.AsType[*pasban.Error](err)
	if !ok || e.Kind != pasban.Invalid {
		return nil
	}
	f, ok := s.Field(e.Where)
	if !ok {
		return nil
	}
	key := flaw(f, values[f.Name])
	if _, bad := s.Check(values); bad == nil && f.Subject { // what the registry alone can tell
		key = "party"
	}
	return []FieldError{{f.Name, p.say(r, "apply.error."+key, "Label", f.Label.In(page.Lang(r)), "Max", f.Longest())}}
}

// flaw is the key of the message about an answer that the registry refused.
func flaw(f registry.Field, value string) string {
	control := func(c rune) bool { return unicode.IsControl(c) && c != '\n' && c != '\r' }
	switch {
	case value == "" && f.Kind == "choice":
		return "choose"
	case value == "":
		return "missing"
	case !utf8.ValidString(value) || strings.ContainsFunc(value, control):
		return "characters"
	case utf8.RuneCountInString(value) > f.Longest():
		return "long"
	case f.Pattern != "" || f.Kind == "text" || f.Kind == "textarea":
		return "form"
	}
	return f.Kind
}

// applications lists the citizen's own.
func (p *Portal) applications(w http.ResponseWriter, r *http.Request, v Visitor) {
	all, err := p.o.Registry.Own(r.Context(), v.Actor)
	if err != nil {
		p.o.Pages.Error(w, r, err)
		return
	}
	data := ApplicationsView{Services: p.offered()}
	for _, s := range all {
		data.Applications = append(data.Applications, p.applicationView(r, s))
	}
	p.render(w, r, http.StatusOK, &v, page.View{Name: "applications", Title: p.say(r, "applications.title"), Data: data, Back: p.back(r, "back.home", "/")})
}

// applicationView puts a record into words. Of a service that is no longer
// declared the codes stand for the names.
func (p *Portal) applicationView(r *http.Request, sum registry.Summary) ApplicationView {
	lang := page.Lang(r)
	view := ApplicationView{Summary: sum, Name: sum.Service, State: sum.State}
	s := p.declared(sum.Service)
	if s == nil {
		return view
	}
	view.Name = s.Name.In(lang)
	if st, ok := s.State(sum.State); ok {
		view.State, view.Final = st.Name.In(lang), st.Final
	}
	if s.Days > 0 && !view.Final {
		view.Due = workingDays(sum.CreatedAt, s.Days)
	}
	return view
}

// workingDays is n working days after t; Saturdays and Sundays do not count.
func workingDays(t time.Time, n int) time.Time {
	t = t.In(page.Zone())
	for n > 0 {
		t = t.AddDate(0, 0, 1)
		if d := t.Weekday(); d != time.Saturday && d != time.Sunday {
			n--
		}
	}
	return t
}

// application shows one of the citizen's own; with ?sent=1, right after it was
// handed in, the confirmation, for which nothing is opened.
func (p *Portal) application(w http.ResponseWriter, r *http.Request, v Visitor) {
	service, id := r.PathValue("service"), r.PathValue("id")
	if r.URL.Query().Has("sent") {
		all, err := p.o.Registry.Own(r.Context(), v.Actor)
		if err != nil {
			p.o.Pages.Error(w, r, err)
			return
		}
		i := slices.IndexFunc(all, func(s registry.Summary) bool { return s.Service == service && s.ID == id })
		if i < 0 {
			p.missing(w, r)
			return
		}
		p.render(w, r, http.StatusOK, &v, page.View{Name: "apply-done", Title: p.say(r, "apply.done.title"), Data: p.applicationView(r, all[i])})
		return
	}
	rec, err := p.o.Registry.Open(r.Context(), ask(r, v), service, id)
	if err != nil {
		p.o.Pages.Error(w, r, err)
		return
	}
	data := p.applicationView(r, rec.Summary)
	if s := p.declared(service); s != nil {
		for _, q := range questions(s, page.Lang(r), rec.Values) {
			q.Closed = slices.Contains(rec.Closed, q.Name)
			data.Questions = append(data.Questions, q)
		}
	}
	p.render(w, r, http.StatusOK, &v, page.View{Name: "application", Title: data.Name, Data: data, Back: p.back(r, "back.applications", "/applications")})
}
