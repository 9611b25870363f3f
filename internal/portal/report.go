package portal

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"pasban"
	"pasban/internal/journal"
	"pasban/internal/page"
)

// reportMax is the longest text of a report, in characters.
const reportMax = 1000

// reasons are why a citizen may report an entry.
func reasons() []string { return []string{"unknown", "purpose", "person", "something"} }

// ReportView is the data of the report's form and of its confirmation.
type ReportView struct {
	Entry   Entry
	Reasons []string
	Reason  string
	Text    string
	Max     int
	Errors  []FieldError
	ID      string // of the recorded report; "" on the form
}

// FieldError is one line of an error summary.
type FieldError struct {
	Field string // id of the input
	Msg   string
}

// ErrorOf returns the message of a field, or "".
func (v ReportView) ErrorOf(field string) string { return errorOf(v.Errors, field) }

func errorOf(all []FieldError, field string) string {
	if i := slices.IndexFunc(all, func(e FieldError) bool { return e.Field == field }); i >= 0 {
		return all[i].Msg
	}
	return ""
}

// mine finds the citizen's entry that a path names; any other is not found.
func (p *Portal) mine(r *http.Request, v Visitor) (journal.Entry, error) {
	index, err := strconv.ParseUint(r.PathValue("index"), 10, 63)
	if err != nil {
		return journal.Entry{}, noReceipt
	}
	e, err := p.o.Journal.ByIndex(r.Context(), index)
	if err != nil {
		return journal.Entry{}, err
	}
	if e.Shredded || e.Fact.Subject.ID != v.Actor.Subject {
		return journal.Entry{}, noReceipt
	}
	return e, nil
}

func (p *Portal) reportForm(w http.ResponseWriter, r *http.Request, v Visitor) {
	e, err := p.mine(r, v)
	if err != nil {
		p.o.Pages.Error(w, r, err)
		return
	}
	p.showReport(w, r, v, http.StatusOK, ReportView{Entry: card(p.phrases(page.Lang(r)), e, p.o.Size(), p.o.Now())})
}

func (p *Portal) showReport(w http.ResponseWriter, r *http.Request, v Visitor, status int, data ReportView) {
	data.Reasons, data.Max, data.Entry.Alone = reasons(), reportMax, true
	title := p.say(r, "report.title")
	if len(data.Errors) > 0 {
		title = p.say(r, "form.error_prefix") + " " + title
	}
	p.render(w, r, status, &v, page.View{Name: "report", Title: title, Data: data, Back: p.back(r, "back.mydata", "/my-data")})
}

// report records what a citizen says of an entry, as an alarm: detection reads
// it like any other fact, and the security centre is told.
func (p *Portal) report(w http.ResponseWriter, r *http.Request, v Visitor) {
	e, err := p.mine(r, v)
	if err != nil {
		p.o.Pages.Error(w, r, err)
		return
	}
	if err := parseForm(w, r); err != nil {
		p.o.Pages.Error(w, r, err)
		return
	}
	data := ReportView{Entry: card(p.phrases(page.Lang(r)), e, p.o.Size(), p.o.Now()), Reason: r.PostForm.Get("reason"), Text: strings.TrimSpace(r.PostForm.Get("text"))}
	if !slices.Contains(reasons(), data.Reason) {
		data.Errors = append(data.Errors, FieldError{"reason-unknown", p.say(r, "report.error.reason")})
	}
	if utf8.RuneCountInString(data.Text) > reportMax || !utf8.ValidString(data.Text) {
		data.Errors = append(data.Errors, FieldError{"text", p.say(r, "report.error.text", "Max", reportMax)})
	}
	if len(data.Errors) > 0 {
		p.showReport(w, r, v, http.StatusBadRequest, data)
		return
	}
	f := pasban.NewFact(pasban.KindAlarm, p.o.Agency, v.Actor, p.o.Now())
	f.Subject = e.Fact.Subject
	f.Body.Service, f.Body.Resource, f.Body.Action = e.Told(p.o.Now()).Service, strconv.FormatInt(e.Index, 10), "report"
	f.Restricted.Method, f.Restricted.Path = r.Method, r.URL.Path
	f.Restricted.More = map[string]string{"entry": e.Fact.Body.ID, "reason": data.Reason, "text": data.Text, "reported_actor": e.Fact.Restricted.Actor}
	if _, err := p.o.Journal.Record(r.Context(), f); err != nil {
		p.o.Pages.Error(w, r, err)
		return
	}
	data.ID = f.Body.ID
	p.render(w, r, http.StatusOK, &v, page.View{Name: "report-done", Title: p.say(r, "report.done.title"), Data: data, Back: p.back(r, "back.mydata", "/my-data")})
}

// formMax is the largest form that the portal reads, in bytes.
const formMax = 256 << 10

// parseForm reads a posted form within its limit.
func parseForm(w http.ResponseWriter, r *http.Request) error {
	r.Body = http.MaxBytesReader(w, r.Body, formMax)
	if err := r.ParseForm(); err != nil {
		return &pasban.Error{Kind: pasban.Invalid, Msg: "the form cannot be read", Hint: "at most 256 kB of form fields", Err: err}
	}
	return nil
}
