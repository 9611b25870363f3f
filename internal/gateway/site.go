package gateway

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/gateway/flood"
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
	load    *flood.Upstream
	door    door    // what the gate knows of it
	halls   []*hall // the waiting rooms of its routes
	front   atomic.Pointer[defence]
}

// defence is what a site does first with a request; Tune exchanges it.
type defence struct {
	own    http.Handler // Pasban's own surfaces; the firewall stands before them for strangers
	theirs http.Handler // the guarded service, firewall included
}

// route is one line of the config: where it leads.
type route struct {
	config.Route
	http.Handler
	hall *hall // its waiting room, nil without
}

// newSite builds a site of the configuration; engine is nil if its firewall is
// off.
func (g *Gateway) newSite(conf config.Site, c *config.Config, engine *waf.Engine, old *site) (*site, error) {
	s := &site{g: g, conf: conf, name: nameOf(conf, c), mux: http.NewServeMux(), load: flood.NewUpstream(conf.ConcurrencyFloor, conf.Concurrency)}
	s.door = g.gate.door(s.name, conf.Attack)
	if old != nil {
		s.load = old.load // what was learnt of the service stays
	}
	if len(conf.Upstream) > 0 {
		var before *pool
		if old != nil && old.proxy != nil {
			before = old.proxy.pool
		}
		pool, err := newPool(conf, before, &g.metrics, &g.streams, s.upstreamChanged)
		if err != nil {
			return nil, err
		}
		s.proxy = newProxy(conf, pool, g.fail, s.count)
	}
	for _, r := range conf.Routes {
		rt := &route{Route: r, hall: g.gate.hall(s.name, r)}
		if rt.hall != nil {
			s.halls = append(s.halls, rt.hall)
		}
		if err := checkRoute(r); err != nil {
			return nil, err
		}
		if r.SignIn == "none" && r.Subject == "" {
			rt.Handler = s.bounded(r, s.proxy)
		} else {
			s.guarded = true
			rt.Handler = g.o.Sessions.Middleware(g.o.Pages.SameOrigin(s.bounded(r, &guarded{site: s, route: r})))
		}
		if err := register(s.mux, rt); err != nil {
			return nil, err
		}
	}
	s.guardBy(engine)
	return s, nil
}

// guardBy puts a firewall before the site, or none. Requests under way end
// under the one before.
func (s *site) guardBy(engine *waf.Engine) {
	g := s.g
	f := &defence{own: g.o.Sessions.Middleware(g.o.Own), theirs: http.HandlerFunc(s.serve)}
	if engine != nil {
		hooks := waf.Hooks{Blocked: s.wafBlocked, Observed: s.wafObserved, Failed: s.wafFailed}
		f.own = g.o.Sessions.Middleware(g.strangers(engine.RequestHandler(g.o.Own, hooks)))
		hooks.Route = s.routeOf
		f.theirs = inspected(engine.Handler(passed(f.theirs), hooks))
	}
	s.front.Store(f)
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
	case isPublicFile(r) || isCheckpoint(r):
		s.g.o.Own.ServeHTTP(w, r)
	case config.Owns(r.URL.Path):
		s.front.Load().own.ServeHTTP(w, r)
	default:
		s.front.Load().theirs.ServeHTTP(w, r)
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

// isCheckpoint reports whether a request asks this node, as a witness, to cosign
// another's checkpoint (C2SP tlog-witness). The firewall takes its base64 and its
// type for an attack; the witness reads it strictly and shows it to nobody.
func isCheckpoint(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.RawQuery == "" && r.URL.Path == "/ledger/add-checkpoint"
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
	case ok && rt.open():
		rt.ServeHTTP(w, r) // nothing in its path says whom it is about
	case ok:
		visitOf(r.Context()).follows(rt)
		s.mux.ServeHTTP(w, r)
	case pattern != "": // a pattern without route: ServeMux redirects to the path with a slash
		s.mux.ServeHTTP(w, r)
	case r.URL.Path == "/" && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		w.Header().Set("Vary", "Accept-Language, Cookie")
		http.Redirect(w, r, "/"+page.Lang(r)+"/", http.StatusSeeOther)
	default:
		s.refuse(w, r, &pasban.Error{Kind: pasban.NotFound, Msg: "there is nothing at this address"}, "no route")
	}
}

// routeOf returns the pattern of the route that serve will follow, "" if the
// request will be refused or redirected.
func (s *site) routeOf(r *http.Request) string {
	if checkPath(r) != nil {
		return ""
	}
	if h, _ := s.mux.Handler(r); h != nil {
		if rt, ok := h.(*route); ok {
			return rt.Match
		}
	}
	return ""
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

// upstreamChanged records that an upstream does not answer, or that it does
// again (problem is nil).
func (s *site) upstreamChanged(t *target, problem error) {
	f := pasban.NewFact(pasban.KindAlarm, s.g.agency(), pasban.Actor{Kind: pasban.ActorSystem}, time.Now())
	f.Body.Service, f.Body.Action, f.Body.Outcome = s.name, "upstream", pasban.Denied
	f.Restricted.Reasons = []string{"upstream unreachable"}
	f.Restricted.More = map[string]string{"engine": "proxy", "upstream": t.addr}
	if problem == nil {
		f.Body.Outcome = pasban.Allowed
		f.Restricted.Reasons = []string{"upstream back"}
		slog.Info("an upstream is back", "site", s.name, "upstream", t.name)
	} else {
		f.Restricted.More["error"] = clean(problem.Error(), 512)
		slog.Warn("an upstream does not answer", "site", s.name, "upstream", t.name, "err", problem)
	}
	go s.g.record(s.g.ctx, f)
}
