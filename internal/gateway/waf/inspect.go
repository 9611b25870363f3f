package waf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/corazawaf/coraza/v3/experimental"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types"

	"pasban"
)

// Report is what the rules have to say about one request.
type Report struct {
	ID      string   // incident id: the unique_id of its lines in the log
	Blocked bool     // false in detect mode: it would have been
	Status  int      // HTTP status that the blocking rule asks for, 403 as a rule
	Phase   int      // 1 or 2: the request, 3 or 4: the response
	Rules   []string // ids of the rules that matched, in order, each once
	Reasons []string // their messages, in order, each once
	Matches []Match  // where they matched, in order
	Attacks []string // classes of attack that the rules are tagged with: "sqli", "xss" …
}

// Hooks is what a handler does with the engine's findings. Blocked and Failed
// write the answer; nothing of the response has been written before.
type Hooks struct {
	Blocked  func(w http.ResponseWriter, r *http.Request, rep Report)
	Observed func(r *http.Request, rep Report) // detect mode: would have been blocked
	Failed   func(w http.ResponseWriter, r *http.Request, err error)
	// Route returns the pattern of the route that a request takes, "" if none;
	// nil means that no rule depends on it.
	Route func(r *http.Request) string

	ended func(tx types.Transaction, light bool) // for tests: all phases are over
}

// What part of the traffic a handler inspects.
const (
	requests  = 1 << iota // phases 1 and 2
	responses             // phases 3 and 4
)

// Handler inspects requests on their way to next and responses on their way back.
func (e *Engine) Handler(next http.Handler, h Hooks) http.Handler {
	return e.handler(next, h, requests|responses)
}

// RequestHandler inspects requests on their way to next; responses pass as
// they are.
func (e *Engine) RequestHandler(next http.Handler, h Hooks) http.Handler {
	return e.handler(next, h, requests)
}

func (e *Engine) handler(next http.Handler, h Hooks, parts int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		in := e.inspect(r.WithContext(ctx), h)
		defer in.close()
		if h.Route != nil {
			in.route = h.Route(r)
		}

		it, err := in.request(w)
		switch {
		case err != nil:
			h.Failed(w, in.r, err)
		case it != nil:
			h.Blocked(w, in.r, in.report(it))
		case parts&responses == 0:
			next.ServeHTTP(w, in.r)
		default:
			iw := &responseWriter{ResponseWriter: w, in: in, cancel: cancel}
			iw.serve(next)
		}
	})
}

// inspection is one request on its way through the rules. It belongs to the
// request's goroutine, apart from body, which has its own lock.
type inspection struct {
	*Engine
	tx       types.Transaction
	first    types.Transaction // the light transaction that tx has taken over from; nil if none
	light    bool              // tx is a light one
	stage    stage             // what tx has been led through
	answered bool              // phase 4 among it
	r        *http.Request
	hooks    Hooks
	route    string  // pattern of the route that the request takes
	body     *replay // nil if the request has none
	taken    int64   // its bytes
	mine     int64   // bytes granted to this request's body
	panicked bool    // an earlier phase did, and was told of
}

func (e *Engine) inspect(r *http.Request, h Hooks) *inspection {
	in := &inspection{Engine: e, r: r, hooks: h, light: e.light != nil}
	options := experimental.Options{ID: pasban.NewID(), Context: r.Context()}
	if in.light {
		in.tx = e.light.NewTransactionWithOptions(options)
	} else {
		in.tx = e.waf.NewTransactionWithOptions(options)
	}
	return in
}

// request runs phases 1 and 2 and leaves the body readable for the handler.
// Any error means that the request was not inspected and must not go on.
func (in *inspection) request(w http.ResponseWriter) (it *types.Interruption, err error) {
	defer func() {
		if p := recover(); p != nil {
			in.panicked = true
			it, err = nil, &pasban.Error{Kind: pasban.Unavailable, Msg: "the WAF failed", Err: panicked(p)}
		}
	}()
	if in.r.ContentLength > in.Engine.body {
		return nil, tooLarge(in.Engine.body)
	}
	if it, err = in.requestPhases(w); it == nil && err == nil && in.cutShort() {
		err = &pasban.Error{Kind: pasban.Invalid, Msg: "the request has more parameters than can be inspected",
			Hint: fmt.Sprintf("at most %d in the query and as many in the body; those of JSON are its values", maxArguments), Err: ErrArguments}
	}
	return it, err
}

// cutShort reports whether Coraza has left out parameters: it keeps so many of
// the query, a form or JSON, and no rule sees those that follow. A body of an
// unknown type, such as a picture, it reads as a form too; there nothing was one.
func (in *inspection) cutShort() bool {
	if in.tx.IsRuleEngineOff() {
		return false // a rule of the operator's wants nothing inspected
	}
	state, ok := in.tx.(plugintypes.TransactionState)
	if !ok {
		return true
	}
	v := state.Variables()
	if v.ArgumentsLimitReached().Get() != "1" {
		return false
	}
	if v.RequestBodyProcessor().Get() != "URLENCODED" || len(v.ArgsGet().FindAll()) >= maxArguments {
		return true
	}
	media := strings.TrimSpace(strings.ToLower(in.r.Header.Get("Content-Type"))) // as Coraza reads it
	return strings.HasPrefix(media, "application/x-www-form-urlencoded")
}

// requestPhases runs phases 1 and 2.
func (in *inspection) requestPhases(w http.ResponseWriter) (*types.Interruption, error) {
	r, tx := in.r, in.tx
	setRoute(tx, in.route)
	client, _ := netip.ParseAddrPort(r.RemoteAddr)
	tx.ProcessConnection(clientText(client, r.RemoteAddr), int(client.Port()), "", 0)
	tx.ProcessURI(r.URL.String(), r.Method, r.Proto)
	for name, values := range r.Header {
		for _, v := range values {
			tx.AddRequestHeader(name, v)
		}
	}
	// net/http takes these two out of the headers; rules look for them there.
	if r.Host != "" {
		tx.AddRequestHeader("Host", r.Host)
		tx.SetServerName(r.Host)
	}
	for _, te := range r.TransferEncoding {
		tx.AddRequestHeader("Transfer-Encoding", te)
	}
	if it, err := in.lead(requestHeaders); it != nil || err != nil {
		return it, err
	}
	if r.Body == nil || r.Body == http.NoBody {
		return in.lead(requestBody)
	}
	if !in.tx.IsRequestBodyAccessible() || in.tx.IsRuleEngineOff() {
		r.Body = http.MaxBytesReader(w, r.Body, in.Engine.body)
		return in.lead(requestBody)
	}
	return in.requestBody(w)
}

// requestBody reads the whole body into the transaction, inspects it and
// replaces it by what was read.
func (in *inspection) requestBody(w http.ResponseWriter) (*types.Interruption, error) {
	r, tx := in.r, in.tx
	source := http.MaxBytesReader(w, r.Body, in.Engine.body)
	it, n, err := take(tx, &granted{Reader: source, in: in})
	if err != nil {
		return nil, bodyError(err)
	}
	if it != nil {
		return it, nil
	}
	reader, err := tx.RequestBodyReader()
	if err != nil {
		return nil, &pasban.Error{Kind: pasban.Unavailable, Msg: "the WAF gave the request's body not back", Err: err}
	}
	in.body, in.taken = &replay{Reader: reader}, int64(n)
	r.Body, r.ContentLength, r.TransferEncoding = in.body, int64(n), nil
	r.GetBody = in.fresh
	if n > largeBody {
		if err := in.turn(); err != nil {
			return nil, err
		}
		defer func() { <-in.large }()
	}
	return in.lead(requestBody)
}

// take has the transaction take a body to its end.
func take(tx types.Transaction, body io.Reader) (it *types.Interruption, n int, err error) {
	err = each(body, func(part []byte) error {
		stop, taken, err := tx.WriteRequestBody(part)
		n += taken
		switch {
		case err != nil:
			return err
		case stop != nil:
			it = stop
			return io.EOF
		case taken < len(part):
			return &pasban.Error{Kind: pasban.Limited, Msg: "the request is larger than a rule of the WAF allows", Err: ErrTooLarge}
		}
		return nil
	})
	return it, n, err
}

// fresh gives the body from its beginning, for a request that is sent a second
// time. The reader before reads no more. Only the request's goroutine calls it.
func (in *inspection) fresh() (io.ReadCloser, error) {
	in.body.Close()
	reader, err := in.tx.RequestBodyReader()
	if err != nil {
		return nil, err
	}
	in.body = &replay{Reader: reader}
	return in.body, nil
}

// turn waits until a large body may be inspected.
func (in *inspection) turn() error {
	timer := time.NewTimer(largeWait)
	defer timer.Stop()
	select {
	case in.large <- struct{}{}:
		return nil
	case <-in.r.Context().Done():
	case <-timer.C:
	}
	return errNoRoom
}

// close runs phase 5, writes the log and gives back what was held. The body is
// closed first: a transport may still be reading it, and the transaction's
// buffer will serve another request.
func (in *inspection) close() {
	defer in.release()
	if in.body != nil {
		in.body.Close()
	}
	if err := in.conclude(); errors.Is(err, ErrPanic) && !in.panicked {
		defer panic(err) // nobody knows of it yet; what is held is given back before
	} else if err != nil {
		slog.Error("what the WAF has found could not be settled", "incident", in.tx.ID(), "err", err)
	}
	if in.hooks.ended != nil {
		in.hooks.ended(in.tx, in.light)
	}
	if in.o.watches(in.route) {
		if rep := in.report(nil); rep.Status != 0 && in.hooks.Observed != nil {
			in.hooks.Observed(in.r, rep)
		}
	}
	in.log.write(in.r, in.tx)
}

// release gives back what was held, whatever else fails.
func (in *inspection) release() {
	in.held.Add(-in.mine)
	if in.screen != nil {
		in.screen.Forget(in.tx)
	}
	if in.first != nil {
		in.first.Close()
	}
	in.tx.Close()
}

// conclude runs phase 5. A rule that panicked before may do so again here,
// where the whole rule set judges what the light one could not.
func (in *inspection) conclude() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicked(p)
		}
	}()
	_, err = in.lead(logging)
	return err
}

// disruptive finds the actions that block in the text of a rule.
var disruptive = regexp.MustCompile(`(?i)[\s,"'](?:deny|drop)[\s,"'\\]`)

// blocks reports whether a rule's own action blocks. It keeps the answer by the
// rule's id: texts are long.
func (e *Engine) blocks(rule types.RuleMetadata) bool {
	if known, ok := e.blocking.Load(rule.ID()); ok {
		return known.(bool)
	}
	does := disruptive.MatchString(rule.Raw())
	e.blocking.Store(rule.ID(), does)
	return does
}

// report sums up the rules that matched so far. it is nil in detect mode,
// where the status stays 0 unless a rule would have blocked.
func (in *inspection) report(it *types.Interruption) Report {
	rep := Report{ID: in.tx.ID()}
	for _, m := range in.tx.MatchedRules() {
		if it != nil && m.Rule().ID() == it.RuleID {
			rep.Phase = int(m.Rule().Phase())
		}
		if !logged(m) {
			continue
		}
		if it == nil && in.blocks(m.Rule()) {
			rep.Phase, rep.Status = int(m.Rule().Phase()), http.StatusForbidden
		}
		rep.Rules = appendNew(rep.Rules, strconv.Itoa(m.Rule().ID()))
		rep.Reasons = appendNew(rep.Reasons, m.Message())
		if len(rep.Matches) < maxMatches && judges(m.Rule().ID()) {
			rep.Matches = append(rep.Matches, in.matchesOf(m)...)
		}
		for _, tag := range m.Rule().Tags() {
			if class, ok := strings.CutPrefix(tag, "attack-"); ok {
				rep.Attacks = appendNew(rep.Attacks, class)
			}
		}
	}
	if it != nil {
		rep.Blocked, rep.Status = true, it.Status
		if it.Status < 400 || it.Status > 599 {
			rep.Status = http.StatusForbidden
		}
	}
	return rep
}

// logged reports whether a match is one for the log: bookkeeping rules are not.
func logged(m types.MatchedRule) bool {
	l, ok := m.(interface{ Log() bool })
	return !ok || l.Log()
}

func appendNew(list []string, s string) []string {
	if s == "" || slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// clientText is the client's address as rules see it: without zone, and IPv4
// addresses never in IPv6 form.
func clientText(client netip.AddrPort, raw string) string {
	if !client.IsValid() {
		return raw
	}
	return client.Addr().Unmap().WithZone("").String()
}

// granted counts a body's bytes and asks the engine for memory as it grows.
type granted struct {
	io.Reader
	in *inspection
	n  int64
}

var errNoRoom = &pasban.Error{Kind: pasban.Unavailable, Msg: "too many large uploads at once", Hint: "try again in a minute"}

func (g *granted) Read(p []byte) (int, error) {
	n, err := g.Reader.Read(p)
	for g.n += int64(n); g.n > freeBody+g.in.mine; {
		if g.in.held.Add(grant) > allBodies {
			g.in.held.Add(-grant)
			return 0, errNoRoom
		}
		g.in.mine += grant
	}
	return n, err
}

// replay is a request body that was read before. Once closed it never reads
// again, even in a goroutine that outlives the request.
type replay struct {
	io.Reader
	mu     sync.Mutex // covers closed and every Read
	closed bool
}

func (b *replay) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	return b.Reader.Read(p)
}

func (b *replay) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return nil
}

// ErrPanic is in the chain of the error of a request in whose inspection a rule,
// or Coraza, panicked.
var ErrPanic = errors.New("panic")

// panicked keeps where a panic came from, and not what it said: that may be a
// part of the request.
func panicked(p any) error {
	var from string
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(4, pcs[:])])
	for f, more := frames.Next(); more; f, more = frames.Next() {
		if !strings.HasPrefix(f.Function, "runtime.") {
			from = fmt.Sprintf("%s:%d", f.Function, f.Line)
			break
		}
	}
	return fmt.Errorf("%w of type %T in %s", ErrPanic, p, from)
}

// ErrTooLarge is in the chain of the error of a request whose body is larger
// than allowed (HTTP status 413).
var ErrTooLarge = errors.New("request body too large")

// ErrArguments is in the chain of the error of a request with more parameters
// than rules are shown.
var ErrArguments = errors.New("too many parameters")

// ErrLate is in the chain of the error of a request whose body did not arrive
// in time (HTTP status 408).
var ErrLate = errors.New("request body too slow")

func tooLarge(limit int64) error {
	return &pasban.Error{Kind: pasban.Limited, Msg: "the request is too large", Err: ErrTooLarge,
		Hint: fmt.Sprintf("at most %d bytes", limit)}
}

// bodyError sorts the errors of reading a request's body.
func bodyError(err error) error {
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge(e.Limit)
	}
	if e, ok := errors.AsType[*pasban.Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return &pasban.Error{Kind: pasban.Invalid, Msg: "the request did not arrive in time", Err: errors.Join(ErrLate, err)}
	}
	return &pasban.Error{Kind: pasban.Invalid, Msg: "the request did not arrive whole", Err: err}
}
