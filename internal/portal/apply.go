package portal

import (
	"context"
	"errors"
	"net/http"
	"net/mail"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"pasban"
	"pasban/internal/page"
)

// Services is what the portal needs of the declared services.
type Services interface {
	// Declared lists the services that citizens may apply for.
	Declared() []Service
	// Apply files an application of the actor and returns it; it is durable
	// then. An error of kind Invalid whose Where is a field's name is shown
	// beside that field; several may be joined.
	Apply(ctx context.Context, a pasban.Actor, service string, values map[string]string) (Application, error)
	// Applications lists the actor's own, newest first, without their values.
	Applications(ctx context.Context, a pasban.Actor) ([]Application, error)
	// Open opens one of the actor's own applications with its values; the look
	// is accounted for. Someone else's is not found.
	Open(ctx context.Context, a pasban.Actor, service, id string) (Application, error)
}

// Text is a text by language.
type Text map[string]string

// In is the text in a language, else in English.
func (t Text) In(lang string) string {
	if s := t[lang]; s != "" {
		return s
	}
	return t["en"]
}

// Service is a declared service as a citizen is told it.
type Service struct {
	ID      string
	Name    Text
	Summary Text
	Basis   Text // the law it rests on
	Days    int  // working days until it is decided; 0 says nothing
	Fields  []Field
}

// Field is one question of a service's form.
type Field struct {
	Name     string
	Label    Text
	Hint     Text
	Kind     string // text, textarea, cnic, mobile, email, date, number or choice
	Required bool
	Max      int // longest answer in characters; 0 is 200, for textarea 2000
	Choices  []FieldChoice
}

// FieldChoice is one answer to choose.
type FieldChoice struct {
	Value string
	Text  Text
}

func (f Field) max() int {
	switch {
	case f.Max > 0:
		return f.Max
	case f.Kind == "textarea":
		return 2000
	}
	return 200
}

// Application is a citizen's application.
type Application struct {
	Service   string
	ID        string // its reference number
	State     Text   // where it stands, in words
	Done      bool   // decided: nothing more will happen
	Submitted time.Time
	Values    map[string]string // by field; nil in a list
}

// Question is a field with its answer, as templates show it.
type Question struct {
	Field
	Value string // as the citizen wrote it
	Shown string // as it is shown back: a choice by its text
	Error string
}

// ApplyView is the data of the form and of "check your answers".
type ApplyView struct {
	Service   Service
	Questions []Question
	Errors    []FieldError
	Path      string // where the form goes
}

// ApplicationView is the data of one application and of the confirmation.
type ApplicationView struct {
	Application Application
	Service     Service
	Questions   []Question
	Due         time.Time // zero if nothing is promised
}

// ApplicationsView is the data of the list.
type ApplicationsView struct {
	Applications []ApplicationView
	Services     []Service
}

// service finds the declared service that a path names.
func (p *Portal) service(r *http.Request) (Service, error) {
	return p.declared(r.PathValue("service"))
}

func (p *Portal) declared(id string) (Service, error) {
	all := p.o.Services.Declared()
	if i := slices.IndexFunc(all, func(s Service) bool { return s.ID == id }); i >= 0 {
		return all[i], nil
	}
	return Service{}, &pasban.Error{Kind: pasban.NotFound, Msg: "there is no such service"}
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
func (p *Portal) showForm(w http.ResponseWriter, r *http.Request, v Visitor, status int, s Service, values map[string]string, wrong []FieldError) {
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
func questions(s Service, lang string, values map[string]string) []Question {
	all := make([]Question, len(s.Fields))
	for i, f := range s.Fields {
		q := Question{Field: f, Value: values[f.Name], Shown: values[f.Name]}
		for _, c := range f.Choices {
			if c.Value == q.Value {
				q.Shown = c.Text.In(lang)
			}
		}
		all[i] = q
	}
	return all
}

// submit takes the form: step "check" shows the answers back, "edit" returns
// to the form with them, "send" files the application. The answers travel in
// the page between the steps and are checked at each, so nothing half-filled
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
		values[f.Name] = tidy(f, r.PostForm.Get(f.Name))
	}
	step := r.PostForm.Get("step")
	if step == "edit" {
		p.showForm(w, r, v, http.StatusOK, s, values, nil)
		return
	}
	if wrong := p.wrong(r, s, values); len(wrong) > 0 {
		p.showForm(w, r, v, http.StatusBadRequest, s, values, wrong)
		return
	}
	lang := page.Lang(r)
	if step != "send" {
		data := ApplyView{Service: s, Questions: questions(s, lang, values), Path: "/" + lang + "/apply/" + url.PathEscape(s.ID)}
		p.render(w, r, http.StatusOK, &v, page.View{Name: "apply-check", Title: p.say(r, "apply.check.title"), Data: data})
		return
	}
	for name, value := range values {
		if value == "" {
			delete(values, name)
		}
	}
	a, err := p.o.Services.Apply(r.Context(), v.Actor, s.ID, values)
	if err != nil {
		if wrong := fieldErrors(s, err); len(wrong) > 0 {
			p.showForm(w, r, v, http.StatusBadRequest, s, values, wrong)
			return
		}
		p.o.Pages.Error(w, r, err)
		return
	}
	page.SetHeaders(w.Header(), r.TLS != nil, "")
	http.Redirect(w, r, "/"+lang+"/applications/"+url.PathEscape(s.ID)+"/"+url.PathEscape(a.ID)+"?sent=1", http.StatusSeeOther)
}

// fieldErrors finds the errors that name a field of the service, in err and
// in whatever it joins.
func fieldErrors(s Service, err error) []FieldError {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []FieldError
		for _, e := range joined.Unwrap() {
			all = append(all, fieldErrors(s, e)...)
		}
		return all
	}
	e, ok := errors.AsType[*pasban.Error](err)
	if !ok || e.Kind != pasban.Invalid || !slices.ContainsFunc(s.Fields, func(f Field) bool { return f.Name == e.Where }) {
		return nil
	}
	return []FieldError{{Field: e.Where, Msg: e.Msg}}
}

// tidy brings an answer into its plain form: no space around it, and Latin
// digits where a number is asked for.
func tidy(f Field, s string) string {
	s = strings.TrimSpace(strings.ReplaceAll(s, "\r\n", "\n"))
	switch f.Kind {
	case "cnic":
		if c, err := pasban.ParseCNIC(s); err == nil {
			return string(c)
		}
	case "mobile", "number", "date":
		return latinDigits(s)
	}
	return s
}

// latinDigits writes Urdu (۰–۹) and Arabic (٠–٩) digits in Latin.
func latinDigits(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= '۰' && r <= '۹':
			return r - '۰' + '0'
		case r >= '٠' && r <= '٩':
			return r - '٠' + '0'
		}
		return r
	}, s)
}

// wrong lists what is wrong with the answers, in the visitor's language.
func (p *Portal) wrong(r *http.Request, s Service, values map[string]string) []FieldError {
	var all []FieldError
	for _, f := range s.Fields {
		if key := flaw(f, values[f.Name]); key != "" {
			all = append(all, FieldError{f.Name, p.say(r, "apply.error."+key, "Label", f.Label.In(page.Lang(r)), "Max", f.max())})
		}
	}
	return all
}

// flaw is the key of the message about what is wrong with an answer, "" if
// nothing is.
func flaw(f Field, value string) string {
	control := func(r rune) bool { return unicode.IsControl(r) && (r != '\n' || f.Kind != "textarea") }
	switch {
	case value == "" && f.Required && f.Kind == "choice":
		return "choose"
	case value == "" && f.Required:
		return "missing"
	case value == "":
		return ""
	case !utf8.ValidString(value) || strings.ContainsFunc(value, control):
		return "characters"
	case utf8.RuneCountInString(value) > f.max():
		return "long"
	}
	ok := true
	switch f.Kind {
	case "cnic":
		_, err := pasban.ParseCNIC(value)
		ok = err == nil
	case "mobile":
		ok = mobile(value)
	case "email":
		a, err := mail.ParseAddress(value)
		ok = err == nil && a.Address == value
	case "date":
		_, err := time.Parse(time.DateOnly, value)
		ok = err == nil
	case "number":
		n, err := strconv.ParseFloat(value, 64)
		ok = err == nil && n >= 0 && n < 1e15
	case "choice":
		ok = slices.ContainsFunc(f.Choices, func(c FieldChoice) bool { return c.Value == value })
	default:
		return ""
	}
	if ok {
		return ""
	}
	return f.Kind
}

// mobile reports whether s is a mobile number of Pakistan: 03001234567 or
// +923001234567, with or without spaces and hyphens.
func mobile(s string) bool {
	d := strings.NewReplacer(" ", "", "-", "").Replace(s)
	d = strings.TrimPrefix(d, "+")
	if rest, ok := strings.CutPrefix(d, "92"); ok {
		d = "0" + rest
	}
	return len(d) == 11 && strings.HasPrefix(d, "03") && strings.Trim(d, "0123456789") == ""
}

// applications lists the citizen's own.
func (p *Portal) applications(w http.ResponseWriter, r *http.Request, v Visitor) {
	all, err := p.o.Services.Applications(r.Context(), v.Actor)
	if err != nil {
		p.o.Pages.Error(w, r, err)
		return
	}
	data := ApplicationsView{Services: p.o.Services.Declared()}
	for _, a := range all {
		data.Applications = append(data.Applications, p.applicationView(r, a))
	}
	p.render(w, r, http.StatusOK, &v, page.View{Name: "applications", Title: p.say(r, "applications.title"), Data: data, Back: p.back(r, "back.home", "/")})
}

func (p *Portal) applicationView(r *http.Request, a Application) ApplicationView {
	s, err := p.declared(a.Service)
	if err != nil { // no longer offered: its code stands for its name
		s = Service{ID: a.Service, Name: Text{"en": a.Service}}
	}
	view := ApplicationView{Application: a, Service: s, Questions: questions(s, page.Lang(r), a.Values)}
	if s.Days > 0 && !a.Done {
		view.Due = workingDays(a.Submitted, s.Days)
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
// filed, the confirmation, for which nothing is opened.
func (p *Portal) application(w http.ResponseWriter, r *http.Request, v Visitor) {
	service, id := r.PathValue("service"), r.PathValue("id")
	if r.URL.Query().Has("sent") {
		all, err := p.o.Services.Applications(r.Context(), v.Actor)
		if err != nil {
			p.o.Pages.Error(w, r, err)
			return
		}
		i := slices.IndexFunc(all, func(a Application) bool { return a.Service == service && a.ID == id })
		if i < 0 {
			p.missing(w, r)
			return
		}
		p.render(w, r, http.StatusOK, &v, page.View{Name: "apply-done", Title: p.say(r, "apply.done.title"), Data: p.applicationView(r, all[i])})
		return
	}
	a, err := p.o.Services.Open(r.Context(), v.Actor, service, id)
	if err != nil {
		p.o.Pages.Error(w, r, err)
		return
	}
	data := p.applicationView(r, a)
	p.render(w, r, http.StatusOK, &v, page.View{Name: "application", Title: data.Service.Name.In(page.Lang(r)), Data: data, Back: p.back(r, "back.applications", "/applications")})
}
