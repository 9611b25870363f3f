package gateway

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/gateway/flood"
	"pasban/internal/page"
)

// Bounds of talking to an upstream.
const (
	dialTimeout = 3 * time.Second
	stall       = 2 * time.Minute // an answer that stops for longer is given up
)

// proxy hands requests of one site on to its upstreams.
type proxy struct {
	site    config.Site
	pool    *pool
	reverse *httputil.ReverseProxy
	failed  func(w http.ResponseWriter, r *http.Request, status int, err error)
	count   func(outcome string)
}

// exchange is what the guard wants of one proxied request; it travels in the
// request's context.
type exchange struct {
	promises []string                       // values of the Pasban-Promise header
	reveal   func(res *http.Response) error // called with the whole answer before any of it leaves
}

type exchangeKey struct{}

func newProxy(site config.Site, pool *pool, failed func(http.ResponseWriter, *http.Request, int, error), count func(string)) *proxy {
	p := &proxy{site: site, pool: pool, failed: failed, count: count}
	p.reverse = &httputil.ReverseProxy{
		Rewrite:        p.rewrite,
		Transport:      p.pool,
		ModifyResponse: p.modify,
		ErrorHandler:   p.failure,
		ErrorLog:       slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
		BufferPool:     &buffers{},
	}
	return p
}

// ServeHTTP proxies a request that nobody need account for.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	flood.Asked(r.Context())
	p.reverse.ServeHTTP(w, r)
}

// serve proxies a guarded request.
func (p *proxy) serve(w http.ResponseWriter, r *http.Request, x *exchange) {
	flood.Asked(r.Context())
	p.reverse.ServeHTTP(finalOnly{w}, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x)))
}

// finalOnly drops informational answers: they would leave before the final
// one has been accounted for.
type finalOnly struct{ http.ResponseWriter }

func (w finalOnly) WriteHeader(status int) {
	if status >= 200 {
		w.ResponseWriter.WriteHeader(status)
	}
}

// Unwrap lets a ResponseController flush.
func (w finalOnly) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// rewrite makes the request that the upstream gets: the same method, path and
// query; no header that speaks for Pasban, for another client or for another
// address than the one that was matched.
func (p *proxy) rewrite(pr *httputil.ProxyRequest) {
	pr.Out.URL.RawQuery = pr.In.URL.RawQuery
	pr.Out.Host = pr.In.Host
	for name := range pr.Out.Header {
		if !forwardable(name) {
			delete(pr.Out.Header, name)
		}
	}
	stripCookie(pr.Out.Header)
	renameKeys(pr.Out)
	pr.Out.Trailer = nil // headers that come after the body speak for nobody either
	pr.SetXForwarded()
	if proto := viaProto(pr.In); proto != "" {
		pr.Out.Header.Set("X-Forwarded-Proto", proto)
	}
	// The body is here already.
	pr.Out.Header.Del("Expect")
	// Compressed answers could not be inspected.
	pr.Out.Header.Del("Accept-Encoding")
	x, _ := pr.In.Context().Value(exchangeKey{}).(*exchange)
	if x == nil {
		return
	}
	// The answer must be whole: no part of it, and no "not modified" about data
	// that is looked at now.
	for _, name := range []string{"Range", "If-Range", "If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since"} {
		pr.Out.Header.Del(name)
	}
	if x.reveal != nil && pr.Out.Method == http.MethodHead {
		pr.Out.Method = http.MethodGet // who is in the answer can only be read in the answer
	}
}

// renameKeys hides from net/http the headers for which it sends a POST again by
// itself when a connection breaks, though the service may have worked on it. The
// service gets them: names of headers have no case (RFC 9110, section 5.1).
func renameKeys(r *http.Request) {
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		if values, ok := r.Header[name]; ok {
			delete(r.Header, name)
			r.Header[strings.ToLower(name)] = values
		}
	}
}

// ownPrefix begins the names of Pasban's own headers, in lower case.
const ownPrefix = "pasban-"

// Headers by which a client could speak for Pasban, for another client or for
// another address, in lower case.
var (
	spokenPrefixes = []string{ownPrefix, "x-forwarded-", "x-original-", "x-rewrite-"}
	spokenNames    = []string{"forwarded", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip", "cf-connecting-ip", "client-ip",
		"x-http-method", "x-http-method-override", "x-method-override",
		"x-host", "x-accel-redirect", "x-sendfile", "proxy"}
	spokenLetters = firstLetters(spokenPrefixes, spokenNames)
)

func firstLetters(lists ...[]string) (first [256]bool) {
	for _, name := range slices.Concat(lists...) {
		first[name[0]] = true
	}
	return first
}

// forwardable reports whether a client's header may reach the upstream.
// Underscores are hyphens to servers of the CGI family.
func forwardable(name string) bool {
	if name == "" || !spokenLetters[name[0]|0x20] {
		return true // as most are, by their first letter
	}
	name = strings.ToLower(strings.ReplaceAll(name, "_", "-"))
	return !slices.Contains(spokenNames, name) && !slices.ContainsFunc(spokenPrefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// stripCookie removes Pasban's own cookies from a request's headers.
func stripCookie(h http.Header) {
	lines := h.Values("Cookie")
	if !strings.Contains(strings.Join(lines, ";"), page.SessionCookie) {
		return
	}
	var keep []string
	for _, line := range lines {
		for part := range strings.SplitSeq(line, ";") {
			part = strings.TrimSpace(part)
			if name, _, _ := strings.Cut(part, "="); part != "" && !ownCookie(name) {
				keep = append(keep, part)
			}
		}
	}
	h.Del("Cookie")
	if len(keep) > 0 {
		h.Set("Cookie", strings.Join(keep, "; "))
	}
}

func ownCookie(name string) bool {
	return strings.HasPrefix(strings.TrimSpace(name), page.SessionCookie)
}

// modify cleans the upstream's answer, and hands that of a guarded route to
// the guard before any of it leaves.
func (p *proxy) modify(res *http.Response) error {
	for name := range res.Header {
		own := len(name) >= len(ownPrefix) && strings.EqualFold(name[:len(ownPrefix)], ownPrefix)
		if own || !httpguts.ValidHeaderFieldName(name) { // which HTTP/3 would send, and clients take the answer for broken
			delete(res.Header, name)
		}
	}
	res.Header.Del("Alt-Svc") // where visitors connect to is not the service's to say
	if cookies := res.Header.Values("Set-Cookie"); len(cookies) > 0 {
		res.Header.Del("Set-Cookie")
		for _, c := range cookies {
			if name, _, _ := strings.Cut(c, "="); !ownCookie(name) {
				res.Header.Add("Set-Cookie", c)
			}
		}
	}
	if res.StatusCode < 100 { // which net/http reads, but panics at when it is to be written
		return &pasban.Error{Kind: pasban.Upstream, Msg: fmt.Sprintf("the service answered with the status %03d, which there is not", res.StatusCode), Where: p.site.Host}
	}
	if res.StatusCode == http.StatusSwitchingProtocols && !switchAsked(res) {
		// ReverseProxy would refuse it too, and leave the connection open.
		return &pasban.Error{Kind: pasban.Upstream, Msg: "the service switched to a protocol that nobody asked for", Where: p.site.Host}
	}
	x, _ := res.Request.Context().Value(exchangeKey{}).(*exchange)
	if x == nil {
		return nil
	}
	if res.StatusCode == http.StatusSwitchingProtocols || res.StatusCode == http.StatusPartialContent || res.StatusCode == http.StatusNotModified {
		return &pasban.Error{Kind: pasban.Upstream, Msg: fmt.Sprintf("the service answered %d where a whole answer was asked for", res.StatusCode)}
	}
	if x.reveal != nil {
		if err := x.reveal(res); err != nil {
			return err
		}
	}
	res.Trailer = nil
	for _, name := range []string{"Trailer", "Expires", "Pragma", "ETag", "Last-Modified", "Accept-Ranges", "Age"} {
		res.Header.Del(name)
	}
	res.Header.Set("Cache-Control", "no-store")
	for _, promise := range x.promises {
		res.Header.Add(pasban.PromiseHeader, promise)
	}
	return nil
}

// switchAsked reports whether a service switches to the protocol that it was
// asked for.
func switchAsked(res *http.Response) bool {
	to := protocolOf(res.Header)
	return to != "" && strings.EqualFold(to, protocolOf(res.Request.Header))
}

// protocolOf is the protocol that a message switches to or asks for, "" if none
// (RFC 9110, section 7.8).
func protocolOf(h http.Header) string {
	if !httpguts.HeaderValuesContainsToken(h["Connection"], "Upgrade") {
		return ""
	}
	return h.Get("Upgrade")
}

// whole reads the answer to its end and puts it back. It fails if it is longer
// than max bytes.
func whole(res *http.Response, max int64) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(res.Body, max+1))
	res.Body.Close()
	if err != nil {
		return nil, err
	}
	if int64(len(body)) > max {
		return nil, &pasban.Error{Kind: pasban.Upstream, Msg: "the service's answer is too long to be accounted for"}
	}
	res.Body, res.ContentLength, res.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	res.Header.Set("Content-Length", fmt.Sprint(len(body)))
	return body, nil
}

// failure answers for an upstream that did not.
func (p *proxy) failure(w http.ResponseWriter, r *http.Request, err error) {
	if e, ok := errors.AsType[*pasban.Error](err); ok {
		p.failed(w, r, cmp.Or(bodyStatus(err), page.Status(e.Kind)), err)
		return
	}
	if errors.Is(err, errVisitor) {
		err = bodyFault(err)
		p.failed(w, r, bodyStatus(err), err)
		return
	}
	if r.Context().Err() != nil && !errors.Is(r.Context().Err(), context.DeadlineExceeded) {
		visitOf(r.Context()).left()
		p.failed(w, r, http.StatusBadGateway, &pasban.Error{Kind: pasban.Upstream, Msg: "the visitor left", Err: err})
		return
	}
	p.count(countUpstream)
	status, msg := http.StatusBadGateway, "the service cannot be reached"
	if timeout(err) {
		status, msg = http.StatusGatewayTimeout, "the service did not answer in time"
	}
	p.failed(w, r, status, &pasban.Error{Kind: pasban.Upstream, Msg: msg, Where: p.site.Host, Err: err})
}

func timeout(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// buffers lends the copying buffers of all proxied answers.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, 32<<10)
}

func (b *buffers) Put(p []byte) { b.pool.Put(&p) }
