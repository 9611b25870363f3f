package gateway

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/gateway/waf"
	"pasban/internal/page"
)

// site is one guarded service: its firewall, its routes, its upstreams. A host
// that has no site gets one without routes.
type site struct {
	g       *Gateway
	conf    config.Site
	name    string         // in facts and decisions
	mux     *http.ServeMux // of *route
	guarded bool           // some route is
	proxy   *proxy         // nil without upstreams
	own     http.Handler   // Pasban's own surfaces; the firewall stands before them for strangers
	theirs  http.Handler   // the guarded service, firewall included
	door    door           // what the gate knows of it
	halls   bool           // some route has a waiting room
}

// route is one line of the config: where it leads.
type route struct {
	config.Route
	http.Handler
	hall *hall // its waiting room, nil without
}

// newSite builds a site of the configuration; engine is nil if its firewall is
// off.
func (g *Gateway) newSite(conf config.Site, c *config.Config, engine *waf.Engine) (*site, error) {
	s := &site{g: g, conf: conf, name: nameOf(conf, c), mux: http.NewServeMux()}
	s.door = g.gate.door(s.name, conf.Attack)
	if len(conf.Upstream) > 0 {
		var err error
		if s.proxy, err = newProxy(conf, s.upstreamAlarm, g.fail, s.count); err != nil {
			return nil, err
		}
	}
	for _, r := range conf.Routes {
		rt := &route{Route: r, hall: g.gate.hall(s.name, r)}
		s.halls = s.halls || rt.hall != nil
		if err := checkRoute(r); err != nil {
			return nil, err
		}
		if r.SignIn == "none" && r.Subject == "" {
			rt.Handler = s.proxy
		} else {
			s.guarded = true
			rt.Handler = g.o.Sessions.Middleware(g.o.Pages.SameOrigin(&guarded{site: s, route: r}))
		}
		if err := register(s.mux, rt); err != nil {
			return nil, err
		}
	}
	s.own = g.o.Sessions.Middleware(g.o.Own)
	s.theirs = http.HandlerFunc(s.serve)
	if engine != nil {
		hooks := waf.Hooks{Blocked: s.wafBlocked, Observed: s.wafObserved, Failed: s.wafFailed}
		s.own = g.o.Sessions.Middleware(g.strangers(engine.RequestHandler(g.o.Own, hooks)))
		s.theirs = engine.Handler(s.theirs, hooks)
	}
	return s, nil
}

// count counts what became of a request. A service that does not answer is a
// sign of an attack.
func (s *site) count(outcome string) {
	s.g.metrics.count(outcome)
	if outcome == countUpstream {
		s.turnedAway()
	}
}

// turnedAway tells the gate that a request was not served for want of room.
func (s *site) turnedAway() { s.door.load.away.Add(1) }

// strangers has the firewall inspect what visitors without a session send to
// Pasban's own surfaces. People who are signed in write about attacks: an
// analyst's note quotes one, and a citizen's report is in their own words. Those
// pages show all of it as text. Answers are not inspected for the same reason:
// the attacks that they show would look like leaks.
func (g *Gateway) strangers(inspected http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := g.o.Visitor(r.Context()); ok {
			g.o.Own.ServeHTTP(w, r)
			return
		}
		inspected.ServeHTTP(w, r)
	})
}

// register adds a route; ServeMux panics about patterns that it does not take.
func register(mux *http.ServeMux, rt *route) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &pasban.Error{Kind: pasban.Invalid, Msg: "the route's pattern is not usable: " + strings.TrimSpace(fmt.Sprint(p)), Where: rt.Match}
		}
	}()
	mux.Handle(rt.Match, rt)
	return nil
}

// ServeHTTP takes a request that was admitted: Pasban's own surfaces, or the
// guarded service.
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case isPublicFile(r):
		s.g.o.Own.ServeHTTP(w, r)
	case config.Owns(r.URL.Path):
		s.own.ServeHTTP(w, r)
	default:
		s.theirs.ServeHTTP(w, r)
	}
}

// isPublicFile reports whether a request asks for one of Pasban's own files
// that are the same for everybody: there is nothing in it to inspect.
func isPublicFile(r *http.Request) bool {
	if r.URL.RawQuery != "" || r.Method != http.MethodGet && r.Method != http.MethodHead || r.ContentLength != 0 {
		return false
	}
	return strings.HasPrefix(r.URL.Path, "/pasban/static/") || strings.HasPrefix(r.URL.Path, "/ledger/tile/") || r.URL.Path == "/ledger/checkpoint"
}

// serve finds the route of a request and follows it. What no route names is
// refused.
func (s *site) serve(w http.ResponseWriter, r *http.Request) {
	if err := checkPath(r); err != nil {
		s.refuse(w, r, err, "ambiguous path")
		return
	}
	h, pattern := s.mux.Handler(r)
	rt, ok := h.(*route)
	switch {
	case ok && s.confusable(rt, r):
		s.refuse(w, r, ambiguous("it resembles a guarded one"), "path resembles a guarded route")
	case ok, pattern != "": // a pattern without route: ServeMux redirects to the path with a slash
		s.mux.ServeHTTP(w, r)
	case r.URL.Path == "/" && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		w.Header().Set("Vary", "Accept-Language, Cookie")
		http.Redirect(w, r, "/"+page.Lang(r)+"/", http.StatusSeeOther)
	default:
		s.refuse(w, r, &pasban.Error{Kind: pasban.NotFound, Msg: "there is nothing at this address"}, "no route")
	}
}

// confusable reports whether a request for an open route would be for a
// guarded one if the upstream read its path (or, where the route names no
// method, its method) more leniently than we do.
func (s *site) confusable(rt *route, r *http.Request) bool {
	if !s.guarded || !rt.open() {
		return false
	}
	path := r.URL.EscapedPath()
	methods := []string{r.Method}
	paths := likenesses(path)
	if rt.Method() == "" {
		methods = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}
		paths = append(paths, path)
	}
	return slices.ContainsFunc(paths, func(p string) bool {
		u, err := url.ParseRequestURI(p)
		return err != nil || slices.ContainsFunc(methods, func(m string) bool {
			h, _ := s.mux.Handler(&http.Request{Method: m, URL: u, Host: r.Host})
			other, ok := h.(*route)
			return ok && !other.open()
		})
	})
}

func (rt *route) open() bool { return rt.SignIn == "none" && rt.Subject == "" }

// refuse turns a request away for the gateway's own reasons and records it.
func (s *site) refuse(w http.ResponseWriter, r *http.Request, err error, reason string) {
	s.g.metrics.count(countRefused)
	e := *asError(err)
	f := s.g.blockFact(r, s.name, reason)
	f.Body.Action, f.Restricted.Status = "route", page.Status(e.Kind)
	e.ID = f.Body.ID
	s.g.record(r.Context(), f)
	s.g.fail(w, r, page.Status(e.Kind), &e)
}

// nameOf is the site's name in facts and decisions. The site for any host has
// the name that passkeys are bound to, unless another site has that: what a
// client calls us decides nothing.
func nameOf(conf config.Site, c *config.Config) string {
	if conf.Host != "*" && conf.Host != "" {
		return conf.Host
	}
	name, _ := c.RelyingParty()
	if slices.ContainsFunc(c.Sites, func(s config.Site) bool { return s.Host == name }) {
		return "*"
	}
	return name
}

// hostOf is the host that was asked for: lower case, without port.
func hostOf(r *http.Request) string {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.TrimSuffix(strings.ToLower(host), ".")
}

// upstreamAlarm records that an upstream does not answer.
func (s *site) upstreamAlarm(upstream *url.URL, err error) {
	// One alarm stands for the failures of some seconds.
	f := pasban.NewFact(pasban.KindAlarm, s.g.agency(), pasban.Actor{Kind: pasban.ActorSystem}, time.Now())
	f.Body.Service, f.Body.Action, f.Body.Outcome = s.name, "upstream", pasban.Denied
	f.Restricted.Reasons = []string{"upstream unreachable"}
	f.Restricted.More = map[string]string{"engine": "proxy", "upstream": upstream.Host, "error": clean(err.Error(), 512)}
	go s.g.record(s.g.ctx, f)
}
