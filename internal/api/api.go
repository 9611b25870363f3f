// Package api serves declared services as a JSON API: what portal and desk do
// with pages, programs do here, through the same registry and the same guard.
//
// # Data flow
//
// A request under /api/v1/ is checked (media type, size, origin), its JSON is
// decoded strictly, and what it wants is asked of the registry on behalf of
// whoever is signed in, for the purpose and case that the headers
// Pasban-Purpose, Pasban-Case and Pasban-Hide-Until or the session give. The answer carries one
// Pasban-Promise header per citizen. [API.OpenAPI] writes the description
// (OpenAPI 3.1) of exactly the services that are declared.
//
// # Guarantees
//
// Nothing of a record is answered unless the registry disclosed it. Errors are
// problem documents (RFC 9457); those about answers of a form list every field.
// A request that bears a session's cookie and does not show that it comes from
// this origin changes nothing. No CNIC is ever part of an address.
//
// # What this package must never do
//
// Decide about access, open a field, or write to the store.
package api

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"pasban"
	"pasban/internal/identity"
	"pasban/internal/page"
	"pasban/internal/registry"
)

// Visitor is who is signed in, and what they work on.
type Visitor struct {
	Actor   pasban.Actor
	Purpose pasban.Purpose // Code and Case; zero if none was chosen
}

// Options are the parts of an API. All are required.
type Options struct {
	Registry *registry.Registry
	Pages    *page.Pages
	Visitor  func(ctx context.Context) (Visitor, bool) // who is signed in, from a request's context
	Agency   string                                    // the agency's name in English, for the description
}

// API serves /api/. It is safe for concurrent use.
type API struct{ o Options }

// New returns an API.
func New(o Options) (*API, error) {
	if o.Registry == nil || o.Pages == nil || o.Visitor == nil {
		return nil, errors.New("api: a registry, pages and a visitor are required")
	}
	return &API{o: o}, nil
}

// Bounds of a request's body, in bytes.
const (
	maxBody  = 256 << 10
	pageSize = 50 // records of a list, if the request does not say
)

// Handler serves /api/openapi.json and /api/v1/.
func (a *API) Handler() http.Handler {
	mux := http.NewServeMux()
	type handler func(http.ResponseWriter, *http.Request) error
	handle := func(path string, methods map[string]handler) {
		var allow []string
		for method, h := range methods {
			mux.HandleFunc(method+" "+path, func(w http.ResponseWriter, r *http.Request) {
				if err := h(w, r); err != nil {
					a.fail(w, r, err)
				}
			})
			allow = append(allow, method)
		}
		slices.Sort(allow)
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", strings.Join(allow, ", "))
			a.problem(w, r, page.Problem{Status: http.StatusMethodNotAllowed, Kind: string(pasban.Invalid),
				Detail: "this address takes " + strings.Join(allow, " and ") + " only"})
		})
	}
	handle("/api/openapi.json", map[string]handler{"GET": a.openAPI})
	handle("/api/v1/services", map[string]handler{"GET": a.services})
	handle("/api/v1/services/{service}", map[string]handler{"GET": a.service})
	handle("/api/v1/services/{service}/records", map[string]handler{"GET": a.list, "POST": a.create})
	handle("/api/v1/services/{service}/search", map[string]handler{"POST": a.search})
	handle("/api/v1/services/{service}/records/{id}", map[string]handler{"GET": a.open})
	handle("/api/v1/services/{service}/records/{id}/steps", map[string]handler{"POST": a.step})
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		a.o.Pages.Error(w, r, &pasban.Error{Kind: pasban.NotFound, Msg: "there is nothing at this address", Hint: "see /api/openapi.json"})
	})
	return a.o.Pages.SameOrigin(mux)
}

// fieldError says what is wrong with one field of a form.
type fieldError struct {
	Field  string `json:"field"`
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`
}

// formProblem is a problem document that lists fields (an extension member, as
// of RFC 9457, section 3.2).
type formProblem struct {
	page.Problem
	Errors []fieldError `json:"errors"`
}

func (a *API) problem(w http.ResponseWriter, r *http.Request, p page.Problem) {
	p.Type, p.Title = "about:blank", http.StatusText(p.Status)
	a.o.Pages.JSON(w, r, p.Status, "application/problem+json", p)
}

// fail answers with what went wrong. Joined errors about fields are listed.
func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		a.o.Pages.Error(w, r, err)
		return
	}
	p := formProblem{Problem: page.Problem{Type: "about:blank", Title: http.StatusText(http.StatusBadRequest),
		Status: http.StatusBadRequest, Kind: string(pasban.Invalid), Detail: "some answers cannot be taken"}}
	for _, one := range joined.Unwrap() {
		e, ok := errors.AsType[*pasban.Error](one)
		if !ok || e.Kind != pasban.Invalid {
			a.o.Pages.Error(w, r, err)
			return
		}
		p.Errors = append(p.Errors, fieldError{Field: e.Where, Detail: e.Msg, Hint: e.Hint})
	}
	a.o.Pages.JSON(w, r, p.Status, "application/problem+json", p)
}

// ask returns who asks, why and from where. Without a session it is nobody.
func (a *API) ask(r *http.Request) (registry.Ask, error) {
	visitor, ok := a.o.Visitor(r.Context())
	if !ok {
		return registry.Ask{}, &pasban.Error{Kind: pasban.Unauthenticated, Msg: "sign in first"}
	}
	purpose, err := registry.PurposeOf(r.Header, visitor.Purpose)
	return registry.Ask{Actor: visitor.Actor, Purpose: purpose, Client: identity.ClientOf(r)}, err
}

// promise puts the promises of a disclosure into the answer's header, one line
// per citizen.
func promise(w http.ResponseWriter, d registry.Disclosure) {
	for _, p := range d.Promises() {
		w.Header().Add(pasban.PromiseHeader, p.Header())
	}
}

// services answers with what is declared; anybody may know that.
func (a *API) services(w http.ResponseWriter, r *http.Request) error {
	out := []serviceJSON{}
	for _, s := range a.o.Registry.Services() {
		out = append(out, serviceOf(s))
	}
	a.o.Pages.JSON(w, r, http.StatusOK, "", map[string]any{"services": out})
	return nil
}

func (a *API) service(w http.ResponseWriter, r *http.Request) error {
	s, err := a.o.Registry.Service(r.PathValue("service"))
	if err != nil {
		return err
	}
	a.o.Pages.JSON(w, r, http.StatusOK, "", serviceOf(s))
	return nil
}

// list answers with the work list to officers and with their own applications
// to citizens: without anybody's data.
func (a *API) list(w http.ResponseWriter, r *http.Request) error {
	ask, err := a.ask(r)
	if err != nil {
		return err
	}
	s, err := a.o.Registry.Service(r.PathValue("service"))
	if err != nil {
		return err
	}
	if ask.Actor.Role == pasban.RoleCitizen {
		return a.own(w, r, s, ask.Actor)
	}
	f, err := filterOf(r)
	if err != nil {
		return err
	}
	records, err := a.o.Registry.List(r.Context(), ask, s.ID, f)
	if err != nil {
		return err
	}
	out := listJSON{Records: summariesOf(s, records)}
	if len(records) == f.Max {
		out.Next = cursor(records[len(records)-1])
	}
	a.o.Pages.JSON(w, r, http.StatusOK, "", out)
	return nil
}

func (a *API) own(w http.ResponseWriter, r *http.Request, s *registry.Service, actor pasban.Actor) error {
	all, err := a.o.Registry.Own(r.Context(), actor)
	if err != nil {
		return err
	}
	records := slices.DeleteFunc(all, func(o registry.Summary) bool { return o.Service != s.ID })
	a.o.Pages.JSON(w, r, http.StatusOK, "", listJSON{Records: summariesOf(s, records)})
	return nil
}

// filterOf reads a list's query: state, limit, after.
func filterOf(r *http.Request) (registry.Filter, error) {
	q := r.URL.Query()
	f := registry.Filter{State: q.Get("state"), Max: pageSize}
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 200 {
			return f, &pasban.Error{Kind: pasban.Invalid, Where: "limit", Msg: "limit is a number from 1 to 200"}
		}
		f.Max = n
	}
	if text := q.Get("after"); text != "" {
		ms, id, ok := strings.Cut(text, "~")
		at, err := strconv.ParseInt(ms, 10, 64)
		if !ok || err != nil || id == "" {
			return f, &pasban.Error{Kind: pasban.Invalid, Where: "after", Msg: "after is the next of the list before"}
		}
		f.After = &registry.Summary{ID: strings.ToValidUTF8(strings.TrimSpace(id[:min(len(id), 64)]), "\ufffd"), CreatedAt: time.UnixMilli(at)}
	}
	return f, nil
}

func cursor(s registry.Summary) string {
	return strconv.FormatInt(s.CreatedAt.UnixMilli(), 10) + "~" + s.ID
}

// create hands in an application.
func (a *API) create(w http.ResponseWriter, r *http.Request) error {
	ask, err := a.ask(r)
	if err != nil {
		return err
	}
	var in struct {
		Values map[string]string `json:"values"`
	}
	if err := decode(w, r, &in); err != nil {
		return err
	}
	rec, d, err := a.o.Registry.Apply(r.Context(), ask, r.PathValue("service"), in.Values)
	if err != nil {
		return err
	}
	promise(w, d)
	w.Header().Set("Location", "/api/v1/services/"+rec.Service+"/records/"+rec.ID)
	return a.answer(w, r, http.StatusCreated, rec)
}

// answer writes a record without its values.
func (a *API) answer(w http.ResponseWriter, r *http.Request, status int, rec registry.Summary) error {
	s, err := a.o.Registry.Service(rec.Service)
	if err != nil {
		return err
	}
	a.o.Pages.JSON(w, r, status, "", summaryOf(s, rec))
	return nil
}

// search finds records by a lookup field. The value travels in the body, so
// that it is in no log of addresses.
func (a *API) search(w http.ResponseWriter, r *http.Request) error {
	ask, err := a.ask(r)
	if err != nil {
		return err
	}
	var in struct {
		Field string `json:"field"`
		Value string `json:"value"`
	}
	if err := decode(w, r, &in); err != nil {
		return err
	}
	s, err := a.o.Registry.Service(r.PathValue("service"))
	if err != nil {
		return err
	}
	records, d, err := a.o.Registry.Find(r.Context(), ask, s.ID, in.Field, in.Value)
	if err != nil {
		return err
	}
	promise(w, d)
	a.o.Pages.JSON(w, r, http.StatusOK, "", listJSON{Records: summariesOf(s, records)})
	return nil
}

// open opens a record.
func (a *API) open(w http.ResponseWriter, r *http.Request) error {
	ask, err := a.ask(r)
	if err != nil {
		return err
	}
	s, err := a.o.Registry.Service(r.PathValue("service"))
	if err != nil {
		return err
	}
	var fields []string
	if text := r.URL.Query().Get("fields"); text != "" {
		for name := range strings.SplitSeq(text, ",") {
			if _, ok := s.Field(name); !ok {
				return &pasban.Error{Kind: pasban.Invalid, Where: "fields", Msg: "fields names a field that the service does not have"}
			}
			fields = append(fields, name)
		}
	}
	rec, err := a.o.Registry.Open(r.Context(), ask, s.ID, r.PathValue("id"), fields...)
	if err != nil {
		return err
	}
	promise(w, rec.Disclosure)
	a.o.Pages.JSON(w, r, http.StatusOK, "", recordOf(s, rec, ask.Actor.Role))
	return nil
}

// step takes a step of the workflow.
func (a *API) step(w http.ResponseWriter, r *http.Request) error {
	ask, err := a.ask(r)
	if err != nil {
		return err
	}
	var in struct {
		Step string `json:"step"`
	}
	if err := decode(w, r, &in); err != nil {
		return err
	}
	rec, d, err := a.o.Registry.Advance(r.Context(), ask, r.PathValue("service"), r.PathValue("id"), in.Step)
	if err != nil {
		return err
	}
	promise(w, d)
	return a.answer(w, r, http.StatusOK, rec)
}

// isJSON reports whether a request says that its body is JSON. A form of
// another site cannot say so without being asked first (CORS preflight).
func isJSON(r *http.Request) bool {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && media == "application/json"
}
