package gateway

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pasban"
	"pasban/internal/config"
)

// Bounds of asking again.
const (
	retryPart = 0.2 // retries for each request: an outage is not multiplied
	retryMost = 10  // saved up for the first failures
	maxTries  = 3   // of one request that may have reached an upstream
)

// pool is the transport over a site's upstreams. It asks one that is well, as
// the site's balance says, and another one if that is safe.
type pool struct {
	host    string // the site's
	targets []*target
	balance string
	health  *config.Health // nil: nobody asks
	next    atomic.Uint32
	budget  budget
	report  func(t *target, problem error) // an upstream went (problem) or came back (nil)
	metrics *metrics
	streams *streams
}

// target is one upstream. Its condition is shared with the target that takes
// its place at a reload.
type target struct {
	*condition
	name      string // as configured
	scheme    string // http or https
	addr      string // host:port
	transport *http.Transport
	waits     prometheus.Observer // how long it took to begin each answer
}

// newPool makes the pool of a site; upstreams that old has too keep their
// condition.
func newPool(site config.Site, old *pool, m *metrics, open *streams, report func(*target, error)) (*pool, error) {
	p := &pool{host: site.Host, balance: site.Balance, health: site.Health, metrics: m, streams: open, report: report, budget: budget{tokens: retryMost}}
	conf, err := upstreamTLS(site.UpstreamTLS)
	if err != nil {
		return nil, err
	}
	for _, raw := range site.Upstream {
		u, err := url.Parse(raw)
		if err != nil || u.Host == "" {
			return nil, &pasban.Error{Kind: pasban.Invalid, Msg: "not the address of a service", Where: raw, Err: err}
		}
		t := &target{condition: &condition{}, name: raw, scheme: u.Scheme, addr: u.Host, transport: newTransport(site, conf), waits: m.waits.WithLabelValues(site.Host, raw)}
		if u.Scheme == "h2c" {
			t.scheme = "http"
			t.transport.Protocols = new(http.Protocols)
			t.transport.Protocols.SetUnencryptedHTTP2(true)
		}
		if old != nil {
			if i := slices.IndexFunc(old.targets, func(o *target) bool { return o.name == raw }); i >= 0 {
				t.condition = old.targets[i].condition
			}
		}
		p.targets = append(p.targets, t)
	}
	if len(p.targets) == 0 {
		return nil, &pasban.Error{Kind: pasban.Invalid, Msg: "the site has no upstream", Where: site.Host}
	}
	return p, nil
}

func newTransport(site config.Site, conf *tls.Config) *http.Transport {
	return &http.Transport{
		DialContext:           (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:       conf,
		TLSHandshakeTimeout:   dialTimeout,
		ResponseHeaderTimeout: site.Timeout,
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConns:          256,
		MaxIdleConnsPerHost:   64,
		DisableCompression:    true,
		ForceAttemptHTTP2:     true,
		// Proxy stays nil: the environment does not reroute guarded traffic.
		MaxResponseHeaderBytes: 256 << 10,
	}
}

// upstreamTLS is how https upstreams are recognised.
func upstreamTLS(c config.UpstreamTLS) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if c.CA == "" {
		return conf, nil
	}
	pem, err := os.ReadFile(c.CA)
	if err != nil {
		return nil, &pasban.Error{Kind: pasban.Invalid, Msg: "the upstreams' authority is not readable", Where: c.CA, Err: err}
	}
	conf.RootCAs = x509.NewCertPool()
	if !conf.RootCAs.AppendCertsFromPEM(pem) {
		return nil, &pasban.Error{Kind: pasban.Invalid, Msg: "no certificate of an authority", Where: c.CA, Hint: "certificates in PEM"}
	}
	return conf, nil
}

func (t *target) at(path string) string { return t.scheme + "://" + t.addr + path }

// close gives up connections that nobody uses.
func (p *pool) close() {
	for _, t := range p.targets {
		t.transport.CloseIdleConnections()
	}
}

// RoundTrip sends the request to an upstream. It asks another one if nothing
// was sent, or if the request is idempotent, its body can be sent again and
// retries are within their budget. Nothing of an answer has left before.
func (p *pool) RoundTrip(r *http.Request) (*http.Response, error) {
	body := r.Body
	p.budget.earn()
	order := p.order(r.RemoteAddr)
	for i, t := range order {
		if r.GetBody != nil && body != nil && body != http.NoBody {
			var err error
			if body, err = r.GetBody(); err != nil {
				return nil, err
			}
		}
		res, err := p.send(r, t, body)
		if !p.another(r, res, err, i+1, order[i+1:]) {
			if err != nil && body != nil {
				body.Close()
			}
			return res, err
		}
		if res != nil {
			res.Body.Close()
		}
		visitOf(r.Context()).retried()
	}
	return nil, errors.New("no upstream") // not reached: a pool has one
}

// another decides whether one of the others is asked after tries that came to
// this.
func (p *pool) another(r *http.Request, res *http.Response, err error, tries int, others []*target) bool {
	again := again(r, res, err)
	if again == never || r.Context().Err() != nil || len(others) == 0 {
		return false
	}
	if again == carefully {
		if tries >= maxTries || others[0].isDown() {
			return false
		}
		if !p.budget.spend() {
			p.metrics.retries.WithLabelValues(p.host, "over_budget").Inc()
			return false
		}
	}
	p.metrics.retries.WithLabelValues(p.host, "sent").Inc()
	return true
}

// Whether a request may go to another upstream.
const (
	never     = iota
	carefully // it may have been worked on: only what may be done twice, and within the budget
	freely    // nothing of it was sent
)

// again says whether a request may go to another upstream after it came to this.
func again(r *http.Request, res *http.Response, err error) int {
	if err == nil && !gatewayError(res.StatusCode) || errors.Is(err, errVisitor) {
		return never
	}
	if refused(err) {
		return freely
	}
	if !idempotent(r.Method) || !replayable(r) || r.Header.Get("Upgrade") != "" || timeout(err) {
		return never
	}
	return carefully
}

// replayable reports whether the request's body, if it has one, can be given
// again.
func replayable(r *http.Request) bool {
	return r.Body == nil || r.Body == http.NoBody || r.GetBody != nil
}

// idempotent reports whether a request with the method may be sent twice
// (RFC 9110, section 9.2.2).
func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

func gatewayError(status int) bool {
	return status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout
}

// refused reports whether a failure means that nothing was sent.
func refused(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// send sends the request to one upstream and notes how that went.
func (p *pool) send(r *http.Request, t *target, body io.ReadCloser) (*http.Response, error) {
	ctx, span := visitOf(r.Context()).span(r.Context(), "upstream", spanClient)
	defer span.end()
	out := r.WithContext(ctx) // a RoundTripper must not change its request
	u := *r.URL
	u.Scheme, u.Host = t.scheme, t.addr
	out.URL = &u
	from := sourceOf(out, body)
	span.inject(out, t.name)
	t.busy.Add(1)
	begin := time.Now()
	res, err := t.transport.RoundTrip(out)
	p.measure(r.Context(), t, begin, res, span)
	if err != nil {
		t.busy.Add(-1)
		span.failed()
		if from.blame(r.Context().Err()) {
			return nil, errors.Join(errVisitor, err)
		}
		if r.Context().Err() == nil && t.failed(err, refused(err)) {
			p.report(t, err)
		}
		return nil, err
	}
	if gatewayError(res.StatusCode) {
		if err := fmt.Errorf("%w: %d", errGateway, res.StatusCode); t.failed(err, false) {
			p.report(t, err)
		}
	} else if t.served() {
		p.report(t, nil)
	}
	res.Body = p.leased(res, t)
	return res, nil
}

// errVisitor marks a failure that is the visitor's: the request's body did not
// arrive, or was longer than allowed. No upstream is to blame for that.
var errVisitor = errors.New("the request did not arrive whole")

// source is a request's body on its way to an upstream, from the visitor.
// Closing it leaves the body open: a failed dial does.
type source struct {
	io.Reader
	ended, broken atomic.Bool
}

// sourceOf gives the request its body. Nothing watches one that can be given
// again, which is here: it comes whole whatever the visitor does.
func sourceOf(r *http.Request, body io.ReadCloser) *source {
	r.Body = body
	if replayable(r) {
		return nil
	}
	s := &source{Reader: body}
	r.Body = s
	return s
}

// blame reports whether a request failed because of its body. Who leaves in the
// middle of one is known to have left before or after the body is known to be
// broken.
func (s *source) blame(left error) bool {
	return s != nil && (s.broken.Load() || !s.ended.Load() && errors.Is(left, context.Canceled))
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	switch {
	case err == io.EOF:
		s.ended.Store(true)
	case err != nil:
		s.broken.Store(true)
	}
	return n, err
}

func (s *source) Close() error { return nil }

// measure notes how long an upstream took to begin its answer.
func (p *pool) measure(ctx context.Context, t *target, begin time.Time, res *http.Response, span *span) {
	took, code := time.Since(begin), "error"
	if res != nil {
		code = codeClass(res.StatusCode)
		span.status(res.StatusCode)
	}
	p.metrics.upstreams.WithLabelValues(p.host, t.name, code).Inc()
	t.waits.Observe(took.Seconds())
	if v := visitOf(ctx); v != nil {
		v.upstream, v.upstreamTime = t.name, v.upstreamTime+took
	}
}

// order lists the upstreams in the order in which they are asked: as the
// balance says, those that are down last.
func (p *pool) order(client string) []*target {
	n := len(p.targets)
	if n == 1 {
		return p.targets
	}
	first := int(p.next.Add(1)-1) % n
	all := append(append(make([]*target, 0, n), p.targets[first:]...), p.targets[:first]...)
	switch p.balance {
	case "least_requests":
		slices.SortStableFunc(all, func(a, b *target) int { return cmp.Compare(a.busy.Load(), b.busy.Load()) })
	case "random_two":
		rand.Shuffle(n, func(i, j int) { all[i], all[j] = all[j], all[i] })
	case "client":
		if host, _, err := net.SplitHostPort(client); err == nil {
			client = host
		}
		slices.SortFunc(all, func(a, b *target) int { return cmp.Compare(affinity(client, b.name), affinity(client, a.name)) })
	}
	// Those that are well come first, each group in its order.
	down := make([]*target, 0, n)
	well := all[:0]
	for _, t := range all {
		if t.isDown() {
			down = append(down, t)
		} else {
			well = append(well, t)
		}
	}
	if p.balance == "random_two" && len(well) > 1 && well[1].busy.Load() < well[0].busy.Load() {
		well[0], well[1] = well[1], well[0]
	}
	return append(well, down...)
}

// affinity is how much a client belongs to an upstream (rendezvous hashing):
// the same on every node, and one upstream that goes moves its own clients only.
func affinity(client, upstream string) uint64 {
	h := fnv.New64a()
	io.WriteString(h, client)
	h.Write([]byte{0})
	io.WriteString(h, upstream)
	x := h.Sum64() // FNV hardly mixes its last bytes upwards
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// budget bounds retries to a part of the requests.
type budget struct {
	mu     sync.Mutex
	tokens float64
}

func (b *budget) earn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(b.tokens+retryPart, retryMost)
}

func (b *budget) spend() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// leased is the body of an answer of t, which is busy until it is closed. An
// answer that stops for longer than stall is given up; event streams may be
// silent for as long as they like, and so may upgraded connections, but they end
// with the server.
func (p *pool) leased(res *http.Response, t *target) io.ReadCloser {
	b := &answerBody{ReadCloser: res.Body, target: t}
	conn, ok := res.Body.(io.ReadWriteCloser)
	switched := ok && res.StatusCode == http.StatusSwitchingProtocols
	if !switched && !isEventStream(res.Header) {
		b.timer = time.AfterFunc(stall, func() { b.ReadCloser.Close() })
		return b
	}
	b.ended = p.streams.add(func() { b.ReadCloser.Close() })
	if !switched {
		return b
	}
	p.streams.upgraded.Add(1)
	remove := b.ended
	b.ended = func() {
		remove()
		p.streams.upgraded.Add(-1)
	}
	return &upgraded{b, conn}
}

type answerBody struct {
	io.ReadCloser
	target *target
	timer  *time.Timer // nil: it may stop
	ended  func()      // nil: it is no stream
	closed atomic.Bool
}

// Read implements io.Reader.
func (b *answerBody) Read(p []byte) (int, error) {
	if b.timer != nil {
		b.timer.Reset(stall)
	}
	return b.ReadCloser.Read(p)
}

// Close implements io.Closer.
func (b *answerBody) Close() error {
	if b.closed.CompareAndSwap(false, true) {
		if b.timer != nil {
			b.timer.Stop()
		}
		if b.ended != nil {
			b.ended()
		}
		b.target.busy.Add(-1)
	}
	return b.ReadCloser.Close()
}

// upgraded is the connection to an upstream that speaks another protocol now.
type upgraded struct {
	*answerBody
	io.Writer
}
