package page

import (
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"pasban"
)

// SessionCookie is the name of the session's cookie: a request that bears it
// is a browser's, and must show where it comes from before it changes
// anything.
const SessionCookie = "__Host-pasban"

// Status is the HTTP status of a kind of error: the one place that knows.
func Status(k pasban.ErrorKind) int {
	switch k {
	case pasban.Invalid:
		return http.StatusBadRequest
	case pasban.Unauthenticated:
		return http.StatusUnauthorized
	case pasban.Forbidden:
		return http.StatusForbidden
	case pasban.NotFound:
		return http.StatusNotFound
	case pasban.Conflict:
		return http.StatusConflict
	case pasban.Limited:
		return http.StatusTooManyRequests
	case pasban.Upstream:
		return http.StatusBadGateway
	}
	return http.StatusServiceUnavailable
}

// kinds lists every kind of error, for the tests that look for its messages.
func kinds() []pasban.ErrorKind {
	return []pasban.ErrorKind{pasban.Invalid, pasban.Unauthenticated, pasban.Forbidden, pasban.NotFound,
		pasban.Conflict, pasban.Limited, pasban.Unavailable, pasban.Upstream}
}

// Problem is a problem document (RFC 9457).
type Problem struct {
	Type     string `json:"type"`               // always about:blank: the status says it
	Title    string `json:"title"`              // the status in words
	Status   int    `json:"status"`             //
	Detail   string `json:"detail,omitempty"`   // what is wrong, for a person
	Hint     string `json:"hint,omitempty"`     // what to do about it
	Instance string `json:"instance,omitempty"` // urn:pasban:incident:<id>
	Kind     string `json:"kind"`               // pasban.ErrorKind
}

// problem says of err what may be told. The words of an error that is the
// visitor's to mend are shown; of one that is ours, only that it is.
func problem(err error) (Problem, *pasban.Error) {
	kind := pasban.KindOf(err)
	e, ok := errors.AsType[*pasban.Error](err)
	if !ok {
		e = &pasban.Error{Kind: kind}
	}
	pr := Problem{Type: "about:blank", Status: Status(kind), Kind: string(kind)}
	pr.Title = http.StatusText(pr.Status)
	if kind != pasban.Unavailable && kind != pasban.Upstream {
		pr.Detail, pr.Hint = e.Msg, e.Hint
	}
	if e.ID != "" {
		pr.Instance = "urn:pasban:incident:" + e.ID
	}
	return pr, e
}

// retryAfter is the number of seconds after which it is worth trying again,
// told with every Unavailable and Limited answer.
const retryAfter = "5"

// ErrorView is the Data of the error page.
type ErrorView struct {
	Status int
	Title  string
	Text   string
	Detail string // in English, shown as such; "" if Text says it
	Hint   string // likewise
	ID     string // incident id
	SignIn string // where to sign in, for Unauthenticated
}

// Error answers with what went wrong: a problem document (RFC 9457) for
// machines, a page in the visitor's language for people. A visitor who is not
// signed in and only wanted to look is sent to sign in. Causes are logged,
// never shown.
func (p *Pages) Error(w http.ResponseWriter, r *http.Request, err error) {
	pr, e := problem(err)
	if pr.Status >= 500 {
		p.log.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "status", pr.Status, "incident", e.ID, "err", err)
	} else {
		p.log.DebugContext(r.Context(), "request refused", "method", r.Method, "path", r.URL.Path, "status", pr.Status, "incident", e.ID, "err", err)
	}
	if pr.Status == http.StatusServiceUnavailable || pr.Status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", retryAfter)
	}
	if WantsJSON(r) {
		p.JSON(w, r, pr.Status, "application/problem+json", pr)
		return
	}
	signIn := "/pasban/signin?next=" + url.QueryEscape(r.URL.RequestURI())
	if e.Kind == pasban.Unauthenticated && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		SetHeaders(w.Header(), r.TLS != nil, "")
		http.Redirect(w, r, signIn, http.StatusSeeOther)
		return
	}
	v := p.errorView(Lang(r), pr)
	v.ID, v.SignIn = e.ID, signIn
	p.Render(w, r, pr.Status, View{Surface: surfaceOf(r.URL.Path), Name: "error", Title: v.Title, Data: v})
}

// OnPortal reports whether the error page of a request is the portal's, which
// [Pages.StampError] makes, and not a problem document or another surface's.
func OnPortal(r *http.Request) bool { return surfaceOf(r.URL.Path) == Portal && !WantsJSON(r) }

// surfaceOf is the surface that a path belongs to, for its error pages.
func surfaceOf(path string) string {
	for prefix, surface := range map[string]string{"/desk": Desk, "/soc": Console, "/trust": Trust} {
		if path == prefix || strings.HasPrefix(path, prefix+"/") {
			return surface
		}
	}
	return Portal
}

// WantsJSON reports whether r asks for JSON rather than a page: it is under
// /api/ or /taxii2/, or Accept names JSON and not HTML. Under /ledger/, where
// programs ask and people follow links, it is JSON unless Accept names HTML.
func WantsJSON(r *http.Request) bool {
	for _, prefix := range []string{"/api/", "/taxii2/"} {
		if strings.HasPrefix(r.URL.Path, prefix) {
			return true
		}
	}
	json := strings.HasPrefix(r.URL.Path, "/ledger/")
	for part := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		media, _, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		switch {
		case media == "text/html" || media == "application/xhtml+xml":
			return false
		case media == "application/json" || strings.HasSuffix(media, "+json"):
			json = true
		}
	}
	return json
}

// SameOrigin lets a request that changes something through only if it comes
// from this origin (http.CrossOriginProtection). A request that bears a
// session's cookie and says nothing of where it comes from (neither
// Sec-Fetch-Site nor Origin) is refused too: every browser says one of them.
func (p *Pages) SameOrigin(next http.Handler) http.Handler {
	guard := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := guard.Check(r)
		if err == nil && !safe(r.Method) && r.Header.Get("Sec-Fetch-Site") == "" && r.Header.Get("Origin") == "" {
			if _, missing := r.Cookie(SessionCookie); missing == nil {
				err = errors.New("a session's request without Sec-Fetch-Site and Origin")
			}
		}
		if err != nil {
			p.Error(w, r, &pasban.Error{Kind: pasban.Forbidden, Msg: "the request did not come from this site", Err: err})
			return
		}
		next.ServeHTTP(w, r)
	})
}

func safe(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}
