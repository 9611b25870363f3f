package gateway

import (
	"errors"
	"log/slog"
	"net/http"
	"strconv"

	"pasban"
	"pasban/internal/gateway/waf"
	"pasban/internal/page"
)

// IncidentHeader is the response header of a refused request that carries its
// incident id, beside the page or problem document that shows it.
const IncidentHeader = "Pasban-Incident"

// fail answers with an error's page or problem document. status is the HTTP
// status where it is finer than that of the error's kind (408, 413, 504, or
// what a WAF rule asks for); 0 is the kind's.
func (g *Gateway) fail(w http.ResponseWriter, r *http.Request, status int, err error) {
	e := asError(err)
	if e.ID == "" {
		told := *e
		if errors.Is(err, waf.ErrPanic) {
			told.ID = g.panicAlarm(r, panicSite(e.Err))
		} else if reason := g.reportable(err); reason != "" {
			told.ID = g.reportMalformed(r, reason, status)
		}
		if told.ID != "" {
			err, e = &told, &told
		}
	}
	if e.ID != "" {
		w.Header().Set(IncidentHeader, e.ID)
	}
	if status == 0 || status == page.Status(e.Kind) {
		g.o.Pages.Error(w, r, err)
		return
	}
	slog.DebugContext(r.Context(), "request refused", "path", r.URL.Path, "status", status, "incident", e.ID, "err", err)
	if !page.WantsJSON(r) {
		g.o.Pages.Error(statusWriter{w, status}, r, err)
		return
	}
	problem := page.Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Kind: string(e.Kind), Detail: e.Msg, Hint: e.Hint}
	if e.ID != "" {
		problem.Instance = "urn:pasban:incident:" + e.ID
	}
	g.o.Pages.JSON(w, r, status, "application/problem+json", problem)
}

// asError returns the first pasban.Error in err's chain; what is none is ours.
func asError(err error) *pasban.Error {
	if e, ok := errors.AsType[*pasban.Error](err); ok {
		return e
	}
	return &pasban.Error{Kind: pasban.Unavailable, Msg: "something went wrong", Err: err}
}

// statusWriter answers with another status than the page was made for.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w statusWriter) WriteHeader(int) { w.ResponseWriter.WriteHeader(w.status) }

// retryWriter says when to try again.
type retryWriter struct {
	http.ResponseWriter
	seconds int
}

func (w retryWriter) WriteHeader(status int) {
	w.Header().Set("Retry-After", strconv.Itoa(w.seconds))
	w.ResponseWriter.WriteHeader(status)
}

// bodyStatus is the status of a request whose body could not be taken, 0 if
// that is not what is wrong.
func bodyStatus(err error) int {
	if f, ok := errors.AsType[*fault](err); ok {
		return f.status
	}
	switch {
	case errors.Is(err, waf.ErrTooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, waf.ErrLate):
		return http.StatusRequestTimeout
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return http.StatusRequestEntityTooLarge
	}
	return 0
}
