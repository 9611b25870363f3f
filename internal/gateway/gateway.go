// Package gateway is where every request enters: it admits, inspects, routes
// and guards.
//
// # The way of a request
//
//	connection limits → wire → who the visitor is → access log, trace → lists →
//	client's rate → form → gate → WAF → own surfaces, or:
//	path check → route → session → room at the upstream → purpose → Guard (decide, journal) → upstream
//
// [Gateway] owns the public listener ([Gateway.Serve]) and can exchange its
// whole configuration between two requests ([Gateway.Reload]). Package flood
// holds the limits (limits.go says who goes first), package pass what visitors
// carry, package waf the firewall; gate.go keeps strangers out while a site is
// under attack and is the door of its waiting rooms, gatepage.go their pages;
// ca.go is the local certificate
// authority, acme.go gets certificates from others, http3.go answers by UDP,
// wire.go and malformed.go refuse what is no good HTTP, proxy.go talks to the
// guarded services through the pool of upstream.go and health.go, visit.go is
// what accesslog.go, metrics.go and trace.go tell of a request, guard.go is the way of a
// request for a citizen's data, path.go and subject.go read what outsiders
// wrote, client.go tells who the visitor is behind proxies. DESIGN.md says
// why it is built like this.
//
// # Guarantees
//
//   - What no route names is refused; nothing is passed on by default.
//   - No byte of a guarded answer leaves before the look is journaled. A route
//     whose citizen the request names is not even asked of the service before.
//     An answer whose citizens cannot be found is not shown.
//   - The path, query and method that a route was matched by are what the
//     service gets; an address that two readers may read differently is refused.
//   - The service never gets Pasban's cookie, nor a client's claim about who or
//     where it is. Visitors never get a promise that Pasban did not give.
//   - If the firewall, the journal or the guard fails or panics, nothing is
//     shown, and the next request is answered.
//   - What reaches a service is framed in one way.
//
// # What this package must never do
//
// It opens no record and decides no access: it asks the Guard. It writes no
// pages of its own beyond errors and those of the gate.
package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"iter"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/durable"
	"pasban/internal/gateway/flood"
	"pasban/internal/gateway/waf"
	"pasban/internal/identity"
	"pasban/internal/journal"
	"pasban/internal/keys"
	"pasban/internal/page"
	"pasban/internal/registry"
	"pasban/internal/store"
)

// Guard decides about a look and journals it: *registry.Guard. It returns only
// after the facts are durable; any error means that nothing may be shown.
type Guard interface {
	Disclose(ctx context.Context, l registry.Look, change func(tx *store.Tx) error) (registry.Disclosure, error)
}

var _ Guard = (*registry.Guard)(nil)

// Subjects knows citizens by their number: *vault.Vault.
type Subjects interface {
	Subject(ctx context.Context, c pasban.CNIC) (pasban.Subject, error)
}

// Facts takes what the gateway itself did, blocks and alarms: *journal.Journal.
type Facts interface {
	Record(ctx context.Context, facts ...pasban.Fact) ([]journal.Entry, error)
}

var _ Facts = (*journal.Journal)(nil)

// Sessions finds the session of a request and leaves it in the context:
// *identity.Identity.
type Sessions interface {
	Middleware(next http.Handler) http.Handler
}

var _ Sessions = (*identity.Identity)(nil)

// Visitor is who is signed in, and what they work on.
type Visitor struct {
	Actor   pasban.Actor
	Purpose pasban.Purpose // Code and Case; zero if none was chosen
}

// signedIn is the visitor whom the session in a context is of.
func signedIn(ctx context.Context) (Visitor, bool) {
	s := identity.FromContext(ctx)
	if s == nil {
		return Visitor{}, false
	}
	return Visitor{Actor: s.Actor(), Purpose: s.Purpose()}, true
}

// Options are the parts that a gateway works with. All but Visitor and Pass are
// required.
type Options struct {
	Config   *config.Config
	Guard    Guard
	Subjects Subjects
	Facts    Facts
	Sessions Sessions
	Pages    *page.Pages
	Own      http.Handler // Pasban's own surfaces, for the paths that config.Owns
	// Visitor says who is signed in, from the context that Sessions leaves; nil
	// asks identity.FromContext.
	Visitor func(ctx context.Context) (Visitor, bool)
	// Pass signs what visitors carry; nil draws a key that ends with the process.
	Pass *keys.PassKey
}

// Gateway is the public side of a node. It is safe for concurrent use.
type Gateway struct {
	o        Options
	ctx      context.Context // ends with Close: for facts that no request carries
	cancel   context.CancelFunc
	limiter  *flood.Limiter
	log      *waf.Log
	temp     string // where parts of uploads lie while they are inspected
	streams  streams
	metrics  metrics
	access   *accessLog
	watching sync.WaitGroup // on upstreams
	acme     *acmeSource    // nil in other modes
	standing standings      // answers to the many
	sprees   *sprees        // what of the firewall's work is told one by one
	gate     *gate
	keeping  sync.WaitGroup // the gate and the lists
	state    atomic.Pointer[state]

	closed  sync.Once
	mu      sync.Mutex          // covers engines
	engines map[*waf.Engine]int // how many states use each
}

// state is everything that a reload exchanges. It is never changed once it is
// in use, and what it holds is closed after the last request that uses it.
type state struct {
	uses        atomic.Int64 // requests under way, and one for being the current state
	config      *config.Config
	certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error) // nil: plain HTTP
	sites       map[string]*site
	other       *site // for hosts that no site names
	engines     map[string]*waf.Engine
	acme        *acmeSettings      // nil in other modes
	proxies     []netip.Prefix     // trusted to say who the visitor is
	tracer      *tracer            // nil: nothing is traced
	stop        context.CancelFunc // ends what begin began
	continued   bool               // the next state has the same sites and tracer; written before it is used
	lists       *flood.Lists
}

// New builds a gateway. It opens the WAF's log and, in TLS mode local, makes
// the certificate authority; it does not listen yet.
func New(o Options) (*Gateway, error) {
	g := &Gateway{o: o, engines: map[*waf.Engine]int{}}
	if g.o.Visitor == nil {
		g.o.Visitor = signedIn
	}
	g.o.Own = g.streams.own(o.Own)
	g.ctx, g.cancel = context.WithCancel(context.Background())
	var err error
	if g.log, err = waf.OpenLog(filepath.Join(o.Config.Data, "log", "waf.log"), hideLinks); err != nil {
		return nil, err
	}
	if g.temp, err = emptyDir(filepath.Join(o.Config.Data, "tmp")); err != nil {
		return nil, errors.Join(err, g.log.Close())
	}
	if g.gate, err = newGate(g, o.Config, o.Pass); err != nil {
		return nil, errors.Join(err, g.log.Close())
	}
	g.limiter = flood.New(limitsOf(o.Config), g.floodReport)
	g.sprees = newSprees(g.moreBlocked)
	g.access = openAccessLog(filepath.Join(o.Config.Data, "log", "access.log"))
	g.metrics = newMetrics(func() float64 { return float64(g.limiter.Connections()) },
		func() float64 { return float64(g.streams.upgraded.Load()) },
		func() float64 { return float64(g.access.dropped.Load()) })
	if o.Config.TLS.Mode == tlsACME {
		if g.acme, err = newACME(filepath.Join(o.Config.Data, "acme"), g.certificateChanged); err != nil {
			g.Close()
			return nil, err
		}
	}
	if g.standing, err = g.newStandings(); err != nil {
		g.Close()
		return nil, err
	}
	st, err := g.build(o.Config, nil)
	if err != nil {
		g.Close()
		return nil, err
	}
	g.begin(st)
	g.use(st)
	g.limiter.SetLists(st.lists)
	g.keeping.Go(func() { g.watchLists(g.ctx) })
	g.keeping.Go(func() { g.gate.run(g.ctx) })
	if dsn := o.Config.SharedLimits(); dsn != "" {
		if err := g.share(dsn); err != nil {
			g.Close()
			return nil, err
		}
	}
	debug.FreeOSMemory() // compiling rules leaves several times as much as stays
	return g, nil
}

// emptyDir makes a private directory, or empties the one that a killed process
// left behind.
func emptyDir(path string) (string, error) {
	err := os.RemoveAll(path)
	if err == nil {
		err = durable.MkdirAll(path, durable.DirMode)
	}
	if err != nil {
		return "", &pasban.Error{Kind: pasban.Unavailable, Msg: "the directory for uploads cannot be made", Where: path, Err: err}
	}
	return path, nil
}

func limitsOf(c *config.Config) flood.Limits {
	l := flood.Limits{Rate: c.Limits.Rate.PerSecond, Burst: c.Limits.Rate.Burst,
		Conns: c.Limits.Connections, ConnsPerClient: c.Limits.ConnectionsPerClient,
		DialRate: c.Limits.Handshakes.PerSecond, DialBurst: c.Limits.Handshakes.Burst}
	switch proxies := c.TrustedProxies(); {
	case len(proxies) > 0:
		l.Balancer = func(a netip.Addr) bool {
			return slices.ContainsFunc(proxies, func(p netip.Prefix) bool { return p.Contains(a) })
		}
	case c.TLS.Mode == tlsOff:
		l.Balancer = func(netip.Addr) bool { return true }
	}
	return l
}

// Close ends what Serve does not: timers, orders of certificates and the WAF's
// log. Call it after Serve has returned; a second call does nothing.
func (g *Gateway) Close() error {
	var err error
	g.closed.Do(func() { err = g.close() })
	return err
}

func (g *Gateway) close() error {
	if g.acme != nil {
		g.acme.close()
	}
	g.limiter.Close()
	g.sprees.close()
	g.cancel()
	g.keeping.Wait()
	if st := g.state.Load(); st != nil {
		st.stop()
		st.tracer.close()
		g.leave(st)
	}
	g.watching.Wait()
	return errors.Join(g.access.Close(), g.log.Close())
}

// all are the sites of a state, that of unknown hosts among them.
func (st *state) all() iter.Seq[*site] {
	return func(yield func(*site) bool) {
		for _, s := range st.sites {
			if s != st.other && !yield(s) {
				return
			}
		}
		yield(st.other)
	}
}

// begin puts in force what sites share over reloads, and starts what a
// configuration does beside requests: asking upstreams whether they are well.
// Before it a state has changed nothing: it may still fail to be built.
func (g *Gateway) begin(st *state) {
	ctx, cancel := context.WithCancel(g.ctx)
	st.stop = cancel
	g.gate.begin(st, time.Now())
	for s := range st.all() {
		s.load.SetBounds(s.conf.ConcurrencyFloor, s.conf.Concurrency)
		if s.proxy != nil {
			g.watching.Go(func() { s.proxy.pool.watch(ctx) })
		}
	}
}

// Reload exchanges the configuration: sites, routes, rules, limits and
// certificates. Requests under way end under the old one, later ones begin
// under the new one; none is dropped. If the new one cannot be built the old
// one stays, and the error says why. Addresses, the data directory and whether
// TLS is on at all do not change while the node runs.
func (g *Gateway) Reload(c *config.Config) error {
	old := g.state.Load()
	if c.Data != old.config.Data || (c.TLS.Mode == tlsOff) != (old.certificate == nil) || (c.TLS.Mode == tlsACME) != (g.acme != nil) ||
		(c.ClientAddress == inProxyProtocol) != (old.config.ClientAddress == inProxyProtocol) || c.SharedLimits() != old.config.SharedLimits() {
		return &pasban.Error{Kind: pasban.Invalid, Msg: "data, tls modes off and acme, client_address: proxy-protocol and limits.shared cannot change while the node runs", Hint: "restart it"}
	}
	st, err := g.build(c, old)
	if err != nil {
		return err
	}
	g.begin(st)
	g.use(st)
	g.limiter.Set(limitsOf(c))
	g.limiter.SetLists(st.lists)
	if g.acme != nil {
		g.acme.apply(st.acme)
	}
	old.stop()
	g.keeping.Go(debug.FreeOSMemory)
	return nil
}

// build makes a state; firewalls whose rules did not change are taken over
// from the old one.
func (g *Gateway) build(c *config.Config, old *state) (*state, error) {
	st := &state{config: c, sites: map[string]*site{}, engines: map[string]*waf.Engine{}, proxies: c.TrustedProxies()}
	t := tlsOptions{mode: c.TLS.Mode, dir: filepath.Join(c.Data, "ca"), cert: c.TLS.Cert, key: c.TLS.Key}
	for _, s := range c.Sites {
		t.hosts = append(t.hosts, s.Host)
	}
	var err error
	if st.acme, err = acmeSettingsOf(c); err != nil {
		return nil, err
	}
	if st.acme != nil {
		st.certificate = g.acme.certificate
	} else if st.certificate, err = t.certificates(); err != nil {
		return nil, err
	}
	if st.lists, err = flood.LoadLists(listsOf(c)); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			st.discard(old)
		}
	}()
	for _, conf := range c.Sites {
		var s *site
		if s, err = g.buildSite(conf, st, old); err != nil {
			return nil, err
		}
		st.sites[conf.Host] = s
	}
	if st.other = st.sites["*"]; st.other == nil {
		none := config.Site{WAF: config.WAF{Paranoia: 1, Mode: "block"}}
		if st.other, err = g.buildSite(none, st, old); err != nil {
			return nil, err
		}
	}
	if c.Traces.OTLP != "" {
		st.tracer = newTracer(c)
	}
	return st, nil
}

// discard closes the firewalls that a failed build has compiled.
func (st *state) discard(old *state) {
	for key, e := range st.engines {
		if old == nil || old.engines[key] != e {
			e.Close()
		}
	}
}

func (g *Gateway) buildSite(conf config.Site, st, old *state) (*site, error) {
	engine, err := g.engine(conf, st, old)
	if err != nil {
		return nil, err
	}
	var before *site
	if old != nil {
		before = old.sites[conf.Host]
	}
	return g.newSite(conf, st.config, engine, before)
}

// engine is the firewall of a site, nil if it is off: one that st or old has
// already, or a new one, which st has then.
func (g *Gateway) engine(conf config.Site, st, old *state) (*waf.Engine, error) {
	if conf.WAF.Mode == "off" {
		return nil, nil
	}
	o := wafOptions(conf, st.config)
	o.TempDir, o.Log = g.temp, g.log
	key, err := waf.Directives(o)
	if err != nil {
		return nil, err
	}
	engine := st.engines[key]
	if engine == nil && old != nil {
		engine = old.engines[key]
	}
	if engine == nil {
		if engine, err = waf.New(o); err != nil {
			return nil, err
		}
	}
	st.engines[key] = engine
	return engine, nil
}

// Handler is the gateway without its listener: who the visitor is, what is told
// of the request, limits of rate, then the site.
func (g *Gateway) Handler() http.Handler {
	return g.clients(g.visited(g.survive(g.limiter.Handler(http.HandlerFunc(g.admitted), g.gate.knows, g.flooded))))
}

// admitted leads an admitted request to its site.
func (g *Gateway) admitted(w http.ResponseWriter, r *http.Request) {
	g.metrics.count(countAdmitted)
	st := g.enter()
	defer g.leave(st)
	s, ok := st.sites[hostOf(r)]
	if !ok {
		s = st.other
	}
	if err := checkRequest(r, st.config.Limits); err != nil {
		if r.ProtoMajor == 1 {
			w.Header().Set("Connection", "close") // where the next request begins is not sure
		}
		g.fail(w, r, bodyStatus(err), err)
		return
	}
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = shaped(http.MaxBytesReader(w, r.Body, st.config.Limits.Body), r, st.config.Limits)
	}
	g.gate.enter(s, w, r)
}

func (g *Gateway) agency() string { return g.o.Config.Agency.ID }

func (g *Gateway) maxBody() int64 { return g.state.Load().config.Limits.Body }
