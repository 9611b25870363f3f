package gateway

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/gateway/flood"
	"pasban/internal/gateway/waf"
)

// faultParameters is said of requests with more parameters than the firewall
// reads.
const faultParameters = "too many parameters"

// What the limiter gathers beside floods.
const (
	whatMalformed = "malformed requests"
	whatPanics    = "panics"
)

// fault is in the chain of the error of a request that is refused for its
// form, before or beside the firewall. It becomes an event.
type fault struct {
	reason string // for analysts
	status int
}

func (f *fault) Error() string { return f.reason }

func malformed(status int, reason, hint string) error {
	kind := pasban.Invalid
	if status == http.StatusRequestEntityTooLarge {
		kind = pasban.Limited
	}
	return &pasban.Error{Kind: kind, Msg: "the request is not well formed: " + reason, Hint: hint, Err: &fault{reason, status}}
}

// checkRequest refuses requests that two servers may read differently, and
// those that ask for more work than any honest one. The body is not read yet.
func checkRequest(r *http.Request, l config.Limits) error {
	bad := func(reason string) error { return malformed(http.StatusBadRequest, reason, "") }
	if reason := faultOf(r); reason != "" {
		return bad(reason)
	}
	if r.Method == http.MethodConnect || r.ProtoMajor >= 2 && r.URL.Host != "" {
		return bad(faultProxy)
	}
	if hosts := r.Header["Host"]; len(hosts) > 1 || len(hosts) == 1 && !strings.EqualFold(hosts[0], r.Host) {
		return bad("two hosts")
	}
	if strings.ContainsFunc(r.Host, notOfHost) {
		return bad("not a host")
	}
	if len(r.Header["Content-Type"]) > 1 {
		return bad("two content types")
	}
	if r.ContentLength > l.Body {
		return &pasban.Error{Kind: pasban.Limited, Msg: "the request is too large", Hint: fmt.Sprintf("at most %d bytes", l.Body),
			Err: &fault{"body too large", http.StatusRequestEntityTooLarge}}
	}
	for _, coding := range r.Header["Content-Encoding"] {
		if !strings.EqualFold(strings.TrimSpace(coding), "identity") && r.ContentLength != 0 {
			return malformed(http.StatusUnsupportedMediaType, "compressed body", "send it as it is")
		}
	}
	if !utf8.ValidString(r.URL.Path) {
		return bad("address that is not UTF-8")
	}
	if n := parameters(r.URL.RawQuery); n > cmp.Or(l.Parameters, maxParameters) {
		return bad(faultParameters)
	}
	if plain, err := url.QueryUnescape(r.URL.RawQuery); err == nil && !utf8.ValidString(plain) {
		return bad("query that is not UTF-8")
	}
	return nil
}

// maxParameters is how many parameters the firewall reads, maxDepth how deep
// it is safe to read.
const (
	maxParameters = 999
	maxDepth      = 64
)

func parameters(query string) int {
	if query == "" {
		return 0
	}
	return 1 + strings.Count(query, "&")
}

// notOfHost reports whether a character is in no host with port (RFC 3986,
// section 3.2.2, without what no name in use has).
func notOfHost(c rune) bool {
	return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-._:[]", c)
}

// shaped is the request's body with its form checked while it is read,
// whoever reads it: what is wrong ends it with an error, before the rules of
// the firewall run over it.
func shaped(body io.ReadCloser, r *http.Request, l config.Limits) io.ReadCloser {
	s := &shape{ReadCloser: body}
	media, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil { // others are content with its beginning
		media, _, _ = strings.Cut(strings.ToLower(r.Header.Get("Content-Type")), ";")
		media = strings.TrimSpace(media)
	}
	charset := strings.ToLower(params["charset"])
	depth, left := cmp.Or(l.Depth, maxDepth), cmp.Or(l.Parameters, maxParameters)-parameters(r.URL.RawQuery)
	switch {
	case media == "application/x-www-form-urlencoded":
		s.look = (&formShape{left: left - 1, text: charset == "" || charset == "utf-8"}).look
	case media == "multipart/form-data" && err == nil: // without a boundary there are no parts
		s.look = (&partsShape{left: left, mark: []byte("\n--" + params["boundary"]), tail: []byte("\n")}).look
	case media == "application/json", media == "text/json", strings.HasSuffix(media, "+json"):
		s.look = (&jsonShape{max: depth}).look
	case media == "application/xml", media == "text/xml", strings.HasSuffix(media, "+xml"):
		s.look = (&xmlShape{max: depth}).look
	}
	return s
}

// shape is a body of which look is shown every part in turn; at its end it is
// shown nil.
type shape struct {
	io.ReadCloser
	look func(p []byte) string // what is wrong, "" while nothing is
	err  error
}

// Read implements io.Reader.
func (s *shape) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.ReadCloser.Read(p)
	reason := ""
	if s.look != nil && n > 0 {
		reason = s.look(p[:n])
	}
	if s.look != nil && err == io.EOF && reason == "" {
		reason = s.look(nil)
	}
	if reason != "" {
		n, err = 0, malformed(http.StatusBadRequest, reason, "")
	} else if err != nil && err != io.EOF {
		err = bodyFault(err)
	}
	s.err = err
	return n, err
}

// bodyFault names why a body could not be read to its end, unless the error does:
// net/http refuses chunks that are none, among others.
func bodyFault(err error) error {
	if _, ok := errors.AsType[*pasban.Error](err); ok {
		return err
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &pasban.Error{Kind: pasban.Limited, Msg: "the request is too large", Err: errors.Join(err, waf.ErrTooLarge, &fault{"body too large", http.StatusRequestEntityTooLarge})}
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return &pasban.Error{Kind: pasban.Invalid, Msg: "the request did not arrive in time", Err: errors.Join(err, waf.ErrLate, &fault{"body too slow", http.StatusRequestTimeout})}
	}
	return &pasban.Error{Kind: pasban.Invalid, Msg: "the request did not arrive whole", Err: errors.Join(err, &fault{"body that breaks off or is not framed", http.StatusBadRequest})}
}

// formShape counts the fields of a form and wants its text in UTF-8.
type formShape struct {
	left   int // fields that may still come
	text   bool
	escape []byte // an escape that is not whole yet
	utf    utf8Shape
}

func (f *formShape) look(p []byte) string {
	if f.left -= bytes.Count(p, []byte("&")); f.left < 0 {
		return faultParameters
	}
	if !f.text {
		return ""
	}
	if p == nil && !f.utf.ended() {
		return "form that is not UTF-8"
	}
	for _, b := range p {
		if len(f.escape) > 0 || b == '%' {
			if f.escape = append(f.escape, b); len(f.escape) < 3 {
				continue
			}
			n, err := strconv.ParseUint(string(f.escape[1:]), 16, 8)
			f.escape = f.escape[:0]
			if err != nil {
				continue // no escape: the firewall has rules about those
			}
			b = byte(n)
		}
		if !f.utf.add(b) {
			return "form that is not UTF-8"
		}
	}
	return ""
}

// utf8Shape reads UTF-8 (RFC 3629) a byte at a time.
type utf8Shape struct {
	rune [utf8.UTFMax]byte
	n    int
}

// add reports whether the text may go on with b.
func (u *utf8Shape) add(b byte) bool {
	if u.n == 0 && b < utf8.RuneSelf {
		return true
	}
	u.rune[u.n] = b
	u.n++
	if !utf8.FullRune(u.rune[:u.n]) {
		return true
	}
	r, size := utf8.DecodeRune(u.rune[:u.n])
	u.n = 0
	return r != utf8.RuneError || size > 1
}

func (u *utf8Shape) ended() bool { return u.n == 0 }

// partsShape counts the parts of a multipart form.
type partsShape struct {
	left int
	mark []byte
	tail []byte // what came last, shorter than mark
}

func (m *partsShape) look(p []byte) string {
	text := append(m.tail, p...)
	if m.left -= bytes.Count(text, m.mark); m.left < -1 { // the last one ends the form
		return faultParameters
	}
	if i := bytes.LastIndex(text, m.mark); i >= 0 {
		text = text[i+len(m.mark):]
	}
	m.tail = bytes.Clone(text[max(0, len(text)-len(m.mark)+1):])
	return ""
}

// jsonShape bounds how deep JSON is nested and wants it in UTF-8 (RFC 8259,
// section 8.1).
type jsonShape struct {
	max, depth     int
	quoted, escape bool
	utf            utf8Shape
}

func (j *jsonShape) look(p []byte) string {
	if p == nil && !j.utf.ended() {
		return "JSON that is not UTF-8"
	}
	for _, b := range p {
		if b == 0 || !j.utf.add(b) {
			return "JSON that is not UTF-8"
		}
		switch {
		case j.escape:
			j.escape = false
		case j.quoted:
			j.escape, j.quoted = b == '\\', b != '"'
		case b == '"':
			j.quoted = true
		case b == '[' || b == '{':
			if j.depth++; j.depth > j.max {
				return "JSON that is nested too deep"
			}
		case b == ']' || b == '}':
			j.depth--
		}
	}
	return ""
}

// xmlShape bounds how deep XML is nested, and refuses document types: they
// define entities, which name files and grow without bound.
type xmlShape struct {
	max, depth  int
	markup      []byte // from "<" on, as far as it decides
	in          string // what ends the markup under way
	quote, last byte   // quote: inside an attribute of a tag
	utf         utf8Shape
}

func (x *xmlShape) look(p []byte) string {
	if p == nil && !x.utf.ended() {
		return "XML that is not UTF-8"
	}
	for _, b := range p {
		if b == 0 || !x.utf.add(b) {
			return "XML that is not UTF-8"
		}
		if reason := x.add(b); reason != "" {
			return reason
		}
		x.last = b
	}
	return ""
}

// add takes a character. Markup is comments, CDATA, processing instructions
// and tags; only tags nest.
func (x *xmlShape) add(b byte) string {
	if len(x.markup) == 0 {
		if b == '<' {
			x.markup = append(x.markup, b)
		}
		return ""
	}
	const kept = len("<![CDATA[")
	if x.in == "" || len(x.markup) < kept {
		x.markup = append(x.markup, b)
	} else {
		copy(x.markup[len(x.markup)-3:], x.markup[len(x.markup)-2:])
		x.markup[len(x.markup)-1] = b
	}
	text := string(x.markup)
	if x.in == "" {
		switch {
		case strings.HasPrefix("<!--", text), strings.HasPrefix("<![CDATA[", text):
			if text == "<!--" {
				x.in = "-->"
			} else if text == "<![CDATA[" {
				x.in = "]]>"
			}
			return ""
		case text == "<?":
			x.in = "?>"
			return ""
		case strings.HasPrefix(text, "<!"):
			return "XML with a document type"
		default:
			x.in = ">"
			if text[1] != '/' {
				if x.depth++; x.depth > x.max {
					return "XML that is nested too deep"
				}
			}
		}
	}
	if x.in == ">" {
		switch {
		case x.quote == b:
			x.quote = 0
			return ""
		case x.quote == 0 && (b == '"' || b == '\''):
			x.quote = b
		}
	}
	if x.quote != 0 || !strings.HasSuffix(text, x.in) {
		return ""
	}
	if x.in == ">" && (text[1] == '/' || x.last == '/') {
		x.depth--
	}
	x.markup, x.in = x.markup[:0], ""
	return ""
}

// survive turns a panic into a refusal and an alarm: one request is lost, not
// the node. What was being inspected or guarded is not passed on.
func (g *Gateway) survive(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := &begunWriter{ResponseWriter: w}
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if p == http.ErrAbortHandler {
				panic(p)
			}
			e := &pasban.Error{Kind: pasban.Unavailable, Msg: "something went wrong", ID: g.panicAlarm(r, panicSite(p))}
			if begun.yes {
				panic(http.ErrAbortHandler) // the visitor must not take the part for the whole
			}
			clear(w.Header())
			g.fail(w, r, http.StatusInternalServerError, e)
		}()
		next.ServeHTTP(begun, r)
	})
}

// begunWriter knows whether a response has begun.
type begunWriter struct {
	http.ResponseWriter
	yes bool
}

func (w *begunWriter) WriteHeader(status int) {
	w.yes = w.yes || status >= 200 || status == http.StatusSwitchingProtocols
	w.ResponseWriter.WriteHeader(status)
}

func (w *begunWriter) Write(p []byte) (int, error) {
	w.yes = true
	return w.ResponseWriter.Write(p)
}

// Flush sends what is buffered.
func (w *begunWriter) Flush() {
	w.yes = true
	http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap lets a ResponseController reach the connection.
func (w *begunWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// panicSite is where a panic came from. What it said is left out: it may be a
// part of the request.
func panicSite(p any) string {
	if err, ok := p.(error); ok && errors.Is(err, waf.ErrPanic) {
		return err.Error() // the firewall has looked already
	}
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	for f, more := frames.Next(); more; f, more = frames.Next() {
		if !strings.HasPrefix(f.Function, "runtime.") {
			return fmt.Sprintf("panic of type %T in %s:%d", p, f.Function, f.Line)
		}
	}
	return fmt.Sprintf("panic of type %T", p)
}

// panicAlarm records a panic, for the detection rule "inspection-panic". Many
// are one alarm in a while.
func (g *Gateway) panicAlarm(r *http.Request, where string) string {
	g.metrics.count(countPanicked)
	slog.ErrorContext(r.Context(), "a request was refused because its handling panicked", "where", where)
	id, first := g.limiter.Note(netip.Prefix{}, whatPanics)
	if first {
		f := pasban.NewFact(pasban.KindAlarm, g.agency(), pasban.Actor{Kind: pasban.ActorSystem}, time.Now())
		f.Body.ID, f.Body.Action, f.Body.Outcome = id, "panic", pasban.Denied
		f.Restricted = clientOf(r)
		f.Restricted.Reasons = []string{where}
		f.Restricted.More = map[string]string{"engine": "gateway"}
		g.record(r.Context(), f)
	}
	return id
}

// reportable is the reason of an event that an error stands for, "" if none.
func (g *Gateway) reportable(err error) string {
	if f, ok := errors.AsType[*fault](err); ok {
		return f.reason
	}
	switch {
	case errors.Is(err, waf.ErrTooLarge):
		return "body too large"
	case errors.Is(err, waf.ErrArguments):
		return faultParameters
	case errors.Is(err, waf.ErrLate):
		return "body too slow"
	}
	return ""
}

// reportMalformed records a request that was refused for its form: the first
// of a client with all that is known, those that follow as a count.
func (g *Gateway) reportMalformed(r *http.Request, reason string, status int) string {
	g.metrics.count(countMalformed)
	id, first := g.limiter.Note(flood.Client(flood.ClientAddr(r)), whatMalformed)
	if first {
		f := g.blockFact(r, hostOf(r), reason)
		f.Body.ID, f.Body.Action, f.Restricted.Status = id, "malformed", cmp.Or(status, http.StatusBadRequest)
		f.Body.Service = clean(f.Body.Service, 255)
		f.Restricted.More = map[string]string{"engine": "http"}
		g.record(r.Context(), f)
	}
	return id
}

// unreadable notes what net/http answered by itself.
func (g *Gateway) unreadable(client net.Addr, answer string) {
	g.metrics.count(countMalformed)
	addr, _ := netip.ParseAddrPort(client.String())
	id, first := g.limiter.Note(flood.Client(addr.Addr()), whatMalformed)
	if !first {
		return
	}
	f := pasban.NewFact(pasban.KindBlock, g.agency(), pasban.Actor{}, time.Now())
	f.Body.ID, f.Body.Action, f.Body.Outcome = id, "malformed", pasban.Denied
	f.Restricted.IP = addr.Addr().Unmap().WithZone("").String()
	f.Restricted.Reasons = []string{clean(answer, 256)}
	f.Restricted.Status, _ = strconv.Atoi(answer[:min(3, len(answer))])
	f.Restricted.More = map[string]string{"engine": "http"}
	go g.record(g.ctx, f)
}

// unreadableStream counts what HTTP/2 refuses by itself. Whose it was is not
// told.
func (g *Gateway) unreadableStream(string) { g.metrics.count(countMalformed) }

// moreMalformed records what followed, as a count.
func (g *Gateway) moreMalformed(rep flood.Report) {
	kind, action, who := pasban.KindBlock, "malformed", pasban.Actor{}
	if rep.What == whatPanics {
		kind, action, who = pasban.KindAlarm, "panic", pasban.Actor{Kind: pasban.ActorSystem}
	}
	f := pasban.NewFact(kind, g.agency(), who, time.Now())
	f.Body.ID, f.Body.Action, f.Body.Outcome = rep.ID, action, pasban.Denied
	f.Restricted.Reasons = []string{"more " + rep.What}
	f.Restricted.More = map[string]string{"engine": "http", "what": rep.What, "count": strconv.Itoa(rep.Count)}
	if rep.Client.IsValid() {
		f.Restricted.IP = rep.Client.Addr().String()
	}
	g.record(g.ctx, f)
}
