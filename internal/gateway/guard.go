package gateway

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/page"
	"pasban/internal/registry"
)

// Bounds of an answer in which citizens are looked for.
const (
	maxAnswer   = 2 << 20 // bytes
	maxCitizens = 256     // different ones in one answer
)

// guarded serves one guarded route. The guarded service knows nothing of it.
type guarded struct {
	site  *site
	route config.Route
}

// ServeHTTP is the way of a guarded request: who asks, for what, about whom;
// decide and journal; only then is anything shown.
func (gd *guarded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g := gd.site.g
	w.Header().Set("Cache-Control", "no-store")
	// Who is asking? The page for those who are not signed in leads to where they can.
	visitor, ok := g.o.Visitor(r.Context())
	if !ok {
		g.fail(w, r, http.StatusUnauthorized, &pasban.Error{Kind: pasban.Unauthenticated, Msg: "sign in first"})
		return
	}
	// May someone of this role come here at all?
	if !gd.route.Admits(visitor.Actor.Role) {
		id := gd.deny(r, visitor.Actor, "the route is for "+gd.route.SignIn)
		g.fail(w, r, 0, &pasban.Error{Kind: pasban.Forbidden, Msg: "this page is not for your role", ID: id})
		return
	}
	// For what purpose? Staff say it before they look.
	purpose, err := registry.PurposeOf(r.Header, visitor.Purpose)
	if err != nil {
		g.fail(w, r, http.StatusBadRequest, err)
		return
	}
	purpose.Basis = gd.route.Basis
	if gd.needsPurpose(visitor) && (purpose.Code == "" || purpose.Case == "") {
		gd.askPurpose(w, r)
		return
	}
	// A connection that is handed over could carry anything.
	if r.Header.Get("Upgrade") != "" {
		g.fail(w, r, http.StatusBadRequest, invalid("this page has no other protocol", nil))
		return
	}
	look := registry.Look{
		Actor: visitor.Actor, Service: gd.site.name, Resource: gd.route.Match, Action: gd.route.Does(),
		Fields: gd.route.Fields, Purpose: purpose, Kind: gd.route.Kind(), Mode: pasban.ModePerson,
		AllowedPurposes: gd.route.Purposes, Client: clientOf(r),
	}
	// About whom? Either the request says it, and the decision is made and
	// journaled before the service is even asked …
	if from, _ := gd.route.SubjectSource(); from != config.FromResponse {
		gd.lookThenAsk(w, r, look)
		return
	}
	// … or only the answer says it: then the answer waits.
	gd.askThenLook(w, r, look)
}

// lookThenAsk accounts for the look at the citizen whom the request names and
// then hands the request on.
func (gd *guarded) lookThenAsk(w http.ResponseWriter, r *http.Request, look registry.Look) {
	g := gd.site.g
	cnic, err := citizenOf(gd.route, r, g.maxBody())
	if err != nil {
		g.fail(w, r, bodyStatus(err), err)
		return
	}
	if cnic != "" {
		subject, err := g.o.Subjects.Subject(r.Context(), cnic)
		if err != nil {
			g.fail(w, r, 0, err)
			return
		}
		look.Subjects = []pasban.Subject{subject}
	}
	shown, err := g.disclose(r.Context(), look)
	if err != nil {
		g.metrics.count(countDenied)
		g.fail(w, r, 0, err)
		return
	}
	g.metrics.count(countShown)
	gd.site.proxy.serve(w, r, &exchange{promises: headers(shown)})
}

// askThenLook asks the service, keeps the whole answer back, accounts for a
// look at every citizen in it, and only then lets the first byte go. An answer
// that cannot be read is not shown.
func (gd *guarded) askThenLook(w http.ResponseWriter, r *http.Request, look registry.Look) {
	g := gd.site.g
	x := &exchange{}
	x.reveal = func(res *http.Response) error {
		body, err := whole(res, maxAnswer)
		if err != nil {
			return err
		}
		if len(body) > 0 && !readable(res.Header.Get("Content-Type"), res.Header.Get("Content-Encoding")) {
			return &pasban.Error{Kind: pasban.Upstream, Msg: "the service's answer is of a type in which citizens cannot be found"}
		}
		found, more := citizensIn(res.Header, body, maxCitizens)
		if more {
			return &pasban.Error{Kind: pasban.Forbidden, Msg: "the answer names too many citizens at once", Hint: "search more narrowly",
				ID: gd.deny(r, look.Actor, "the answer names too many citizens")}
		}
		for _, cnic := range found {
			subject, err := g.o.Subjects.Subject(r.Context(), cnic)
			if err != nil {
				return asError(err) // ours, not the service's
			}
			look.Subjects = append(look.Subjects, subject)
		}
		shown, err := g.disclose(r.Context(), look)
		if err != nil {
			g.metrics.count(countDenied)
			return asError(err)
		}
		g.metrics.count(countShown)
		x.promises = headers(shown)
		return nil
	}
	gd.site.proxy.serve(w, r, x)
}

// disclose asks the guard, as a step of the request's trace.
func (g *Gateway) disclose(ctx context.Context, look registry.Look) (registry.Disclosure, error) {
	ctx, span := visitOf(ctx).span(ctx, "guard", spanInternal)
	defer span.end()
	shown, err := g.o.Guard.Disclose(ctx, look, nil)
	if err != nil {
		span.failed()
	}
	return shown, err
}

// headers are the promises of a disclosure, as the visitor gets them.
func headers(d registry.Disclosure) []string {
	all := make([]string, len(d.Entries))
	for i, p := range d.Promises() {
		all[i] = p.Header()
	}
	return all
}

// needsPurpose reports whether the visitor must say why. Citizens who look at
// their own data need no reason; policies decide whether it is their own.
func (gd *guarded) needsPurpose(v Visitor) bool {
	return len(gd.route.Purposes) > 0 && v.Actor.Role != pasban.RoleCitizen
}

// askPurpose sends people to where they say what they work on, and tells
// programs what is missing.
func (gd *guarded) askPurpose(w http.ResponseWriter, r *http.Request) {
	gd.site.g.metrics.count(countDenied)
	if !page.WantsJSON(r) && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		http.Redirect(w, r, "/desk/work?next="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
		return
	}
	gd.site.g.fail(w, r, http.StatusForbidden, &pasban.Error{Kind: pasban.Forbidden, Msg: "say the purpose and the case first",
		Hint: "choose them at /desk/work, or send the headers Pasban-Purpose and Pasban-Case"})
}

// deny records that the gateway itself refused someone who is signed in, as
// the decision that it is, and returns the incident id.
func (gd *guarded) deny(r *http.Request, who pasban.Actor, reason string) string {
	g := gd.site.g
	g.metrics.count(countDenied)
	f := pasban.NewFact(pasban.KindDecision, g.agency(), who, time.Now())
	f.Body.Service, f.Body.Resource, f.Body.Action = gd.site.name, gd.route.Match, gd.route.Does()
	f.Body.Outcome = pasban.Denied
	f.Restricted = clientOf(r)
	f.Restricted.Actor, f.Restricted.Status = who.ID, http.StatusForbidden
	f.Restricted.Reasons = []string{reason}
	g.record(r.Context(), f)
	return f.Body.ID
}
