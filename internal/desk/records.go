package desk

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"pasban"
	"pasban/internal/identity"
	"pasban/internal/page"
	"pasban/internal/registry"
)

// Row is an application in a list: nobody's data.
type Row struct {
	ID, Href, State string
	Final           bool
	Handed          time.Time
	Public          []Answer
}

// Answer is a field with what was answered.
type Answer struct {
	Name    string // the field's
	Label   string
	Value   string // as it is shown: a choice by its name
	Code    bool   // digits and signs that read from left to right
	Closed  bool   // there is a sensitive answer, and it was not opened
	Citizen string // label of the field that says whom it is about; "" for public ones
}

// Choice is one of several links or options.
type Choice struct {
	Code, Name string
	Current    bool
}

// ListView is the data of a service's work list and of a search in it.
type ListView struct {
	Work    WorkView
	Service string // its id
	Name    string
	States  []Choice
	Rows    []Row
	Next    string   // address of the following page, "" if there is none
	Lookups []Choice // fields that can be searched by
	Found   bool     // the rows are the result of a search
	Error   string   // what is wrong with the search
	Entries []Entry
}

// perPage is how many applications a page of a list holds.
const perPage = 25

func (d *Desk) listView(r *http.Request, s *identity.Session, service *registry.Service) ListView {
	lang := page.Lang(r)
	v := ListView{Work: d.workOf(r, s), Service: service.ID, Name: service.Name.In(lang)}
	for _, f := range service.Fields {
		if f.Lookup {
			v.Lookups = append(v.Lookups, Choice{Code: f.Name, Name: f.Label.In(lang)})
		}
	}
	state := r.URL.Query().Get("state")
	v.States = []Choice{{Name: d.say(r, "list.all"), Current: state == ""}}
	for _, st := range service.Workflow.States {
		v.States = append(v.States, Choice{st.ID, st.Name.In(lang), state == st.ID})
	}
	return v
}

// rows are the applications as a list shows them.
func rows(lang string, service *registry.Service, list []registry.Summary) []Row {
	out := make([]Row, len(list))
	for i, a := range list {
		out[i] = Row{ID: a.ID, Href: "/desk/services/" + service.ID + "/" + url.PathEscape(a.ID), Handed: a.CreatedAt}
		out[i].State, out[i].Final = stateName(lang, service, a.State)
		for _, f := range service.Fields {
			if value, ok := a.Public[f.Name]; ok {
				out[i].Public = append(out[i].Public, answer(lang, service, f, value))
			}
		}
	}
	return out
}

func stateName(lang string, service *registry.Service, id string) (name string, final bool) {
	if st, ok := service.State(id); ok {
		return st.Name.In(lang), st.Final
	}
	return id, false
}

// answer shows one answer.
func answer(lang string, service *registry.Service, f registry.Field, value string) Answer {
	a := Answer{Name: f.Name, Label: f.Label.In(lang), Value: value,
		Code: slices.Contains([]string{"cnic", "mobile", "email", "number", "date"}, f.Kind)}
	if i := slices.IndexFunc(f.Choices, func(c registry.Code) bool { return c.Code == value }); i >= 0 {
		a.Value = f.Choices[i].Name.In(lang)
	}
	if of, ok := service.Field(f.Of); ok && f.Class != registry.Public {
		a.Citizen = of.Label.In(lang)
	}
	return a
}

// list shows a service's applications, newest first. It needs no case: this is
// where officers find theirs.
func (d *Desk) list(w http.ResponseWriter, r *http.Request, s *identity.Session) {
	service, err := d.o.Records.Service(r.PathValue("service"))
	if err != nil {
		d.o.Pages.Error(w, r, err)
		return
	}
	q := r.URL.Query()
	f := registry.Filter{State: q.Get("state"), Max: perPage + 1}
	if ms, err := strconv.ParseInt(q.Get("before"), 10, 64); err == nil && q.Has("id") {
		f.After = &registry.Summary{ID: q.Get("id"), CreatedAt: time.UnixMilli(ms)}
	}
	found, err := d.o.Records.List(r.Context(), ask(r, s), service.ID, f)
	if err != nil {
		d.o.Pages.Error(w, r, err)
		return
	}
	v := d.listView(r, s, service)
	if len(found) > perPage {
		found = found[:perPage]
		last := found[perPage-1]
		next := url.Values{"before": {strconv.FormatInt(last.CreatedAt.UnixMilli(), 10)}, "id": {last.ID}}
		if f.State != "" {
			next.Set("state", f.State)
		}
		v.Next = "/desk/services/" + service.ID + "?" + next.Encode()
	}
	v.Rows = rows(page.Lang(r), service, found)
	d.render(w, r, s, http.StatusOK, page.View{Name: "list", Title: v.Name, Data: v, Wide: true})
}

// find searches by one answer. It comes as a form, so that no address holds a CNIC.
func (d *Desk) find(w http.ResponseWriter, r *http.Request, s *identity.Session) {
	service, err := d.o.Records.Service(r.PathValue("service"))
	if err != nil {
		d.o.Pages.Error(w, r, err)
		return
	}
	if !d.form(w, r) {
		return
	}
	v := d.listView(r, s, service)
	v.Found = true
	field := r.PostForm.Get("field")
	for i := range v.Lookups {
		v.Lookups[i].Current = v.Lookups[i].Code == field
	}
	status := http.StatusOK
	found, disclosed, err := d.o.Records.Find(r.Context(), ask(r, s), service.ID, field, r.PostForm.Get("value"))
	switch {
	case err != nil && pasban.KindOf(err) == pasban.Invalid:
		status, v.Error = http.StatusBadRequest, d.say(r, "list.find_error")
	case err != nil:
		d.o.Pages.Error(w, r, err)
		return
	default:
		v.Entries, v.Rows = entries(w, disclosed), rows(page.Lang(r), service, found)
	}
	d.render(w, r, s, status, page.View{Name: "list", Title: v.Name, Data: v, Wide: true, Back: d.back(r, service)})
}

func (d *Desk) back(r *http.Request, service *registry.Service) *page.Link {
	return &page.Link{Text: service.Name.In(page.Lang(r)), Href: "/desk/services/" + service.ID}
}

// StepView is a step that the officer could take.
type StepView struct {
	Name, Href, From, To string
	Approve              bool // needs somebody else than who took the step before
}

// TakenView is a step that was taken.
type TakenView struct {
	Name, State string
	Role        pasban.Role
	At          time.Time
}

// RecordView is the data of an opened application.
type RecordView struct {
	Work    WorkView
	Row     Row
	Href    string
	Answers []Answer
	Part    bool // only single answers were opened
	Steps   []StepView
	History []TakenView
	Entries []Entry
}

// open opens an application: with GET all but its sensitive answers, with POST
// those that the form names as well.
func (d *Desk) open(w http.ResponseWriter, r *http.Request, s *identity.Session) {
	service, err := d.o.Records.Service(r.PathValue("service"))
	if err != nil {
		d.o.Pages.Error(w, r, err)
		return
	}
	var fields []string
	if r.Method == http.MethodPost {
		if !d.form(w, r) {
			return
		}
		for _, name := range r.PostForm["field"] {
			if _, ok := service.Field(name); !ok {
				d.o.Pages.Error(w, r, &pasban.Error{Kind: pasban.Invalid, Where: "field", Msg: "the service has no such field"})
				return
			}
			fields = append(fields, name)
		}
	}
	rec, err := d.o.Records.Open(r.Context(), ask(r, s), service.ID, r.PathValue("id"), fields...)
	if err != nil {
		d.o.Pages.Error(w, r, err)
		return
	}
	v := d.recordView(w, r, s, service, rec)
	v.Part = len(fields) > 0
	d.render(w, r, s, http.StatusOK, page.View{Name: "record", Title: v.Row.ID, Data: v, Back: d.back(r, service)})
}

func (d *Desk) recordView(w http.ResponseWriter, r *http.Request, s *identity.Session, service *registry.Service, rec registry.Record) RecordView {
	lang := page.Lang(r)
	v := RecordView{Work: d.workOf(r, s), Row: rows(lang, service, []registry.Summary{rec.Summary})[0], Entries: entries(w, rec.Disclosure)}
	v.Href = v.Row.Href
	for _, f := range service.Fields {
		value, opened := rec.Values[f.Name]
		// After asking for single answers, the others are not shown again.
		closed := f.Class == registry.Sensitive && slices.Contains(rec.Closed, f.Name)
		if opened || closed {
			a := answer(lang, service, f, value)
			a.Closed = closed
			v.Answers = append(v.Answers, a)
		}
	}
	for _, st := range service.StepsFrom(rec.State, s.Person.Role) {
		to, _ := stateName(lang, service, st.To)
		v.Steps = append(v.Steps, StepView{Name: st.Name.In(lang), Href: v.Href + "/steps/" + st.ID, From: v.Row.State, To: to, Approve: st.Action == "approve"})
	}
	for _, t := range rec.History {
		state, _ := stateName(lang, service, t.State)
		name := d.say(r, "record.begun")
		if st, ok := service.Step(t.Step); ok {
			name = st.Name.In(lang)
		}
		v.History = append(v.History, TakenView{Name: name, State: state, Role: t.Role, At: t.At})
	}
	return v
}

// DoneView is the data of the page after a step.
type DoneView struct {
	ID, Href, Step, State string
	Conflict              bool // someone else was faster
	Entries               []Entry
}

// step takes a step of the workflow and says so.
func (d *Desk) step(w http.ResponseWriter, r *http.Request, s *identity.Session) {
	service, err := d.o.Records.Service(r.PathValue("service"))
	if err != nil {
		d.o.Pages.Error(w, r, err)
		return
	}
	lang := page.Lang(r)
	st, ok := service.Step(r.PathValue("step"))
	if !ok {
		d.o.Pages.Error(w, r, &pasban.Error{Kind: pasban.NotFound, Msg: "the service has no such step"})
		return
	}
	id := r.PathValue("id")
	v := DoneView{ID: id, Href: "/desk/services/" + service.ID + "/" + url.PathEscape(id), Step: st.Name.In(lang)}
	after, disclosed, err := d.o.Records.Advance(r.Context(), ask(r, s), service.ID, id, st.ID)
	if e, ok := errors.AsType[*pasban.Error](err); ok && e.Kind == pasban.Conflict {
		v.Conflict = true
		d.render(w, r, s, http.StatusConflict, page.View{Name: "done", Title: d.say(r, "done.conflict"), Data: v, Back: d.back(r, service)})
		return
	}
	if err != nil {
		d.o.Pages.Error(w, r, err)
		return
	}
	v.State, _ = stateName(lang, service, after.State)
	v.Entries = entries(w, disclosed)
	d.render(w, r, s, http.StatusOK, page.View{Name: "done", Title: d.say(r, "done.title"), Data: v, Back: d.back(r, service)})
}
