package waf

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/corazawaf/coraza/v3/types"

	"pasban"
)

// errBlocked ends a handler whose response the rules have blocked.
var errBlocked = errors.New("the WAF blocked this response")

// responseWriter inspects a response on its way to the visitor. Headers wait
// until the rules of phase 3 have seen them; a textual body waits until it is
// whole or longer than is inspected. Event streams, other types and upgraded
// connections pass at once.
type responseWriter struct {
	http.ResponseWriter
	in     *inspection
	cancel context.CancelFunc // ends the upstream's answer when it is blocked

	status  int       // as the handler set it; 0 until then
	sent    bool      // headers are on their way
	direct  bool      // the body passes without waiting
	since   time.Time // first byte held back
	taken   bool      // hijacked
	blocked *types.Interruption
	failed  error
}

// serve runs the handler and then sends what was held back, or the page of
// the hook if the rules blocked it.
func (w *responseWriter) serve(next http.Handler) {
	w.run(next)
	if w.taken {
		return
	}
	if w.blocked == nil && w.failed == nil {
		w.finish()
	}
	if w.blocked == nil && w.failed == nil || w.sent {
		return
	}
	clear(w.Header())
	if w.failed != nil {
		w.in.hooks.Failed(w.ResponseWriter, w.in.r, w.failed)
		return
	}
	w.in.hooks.Blocked(w.ResponseWriter, w.in.r, w.in.report(w.blocked))
}

// run calls the handler. A proxy whose response we cut off panics with
// ErrAbortHandler; that is not an abort for the visitor, who gets our page.
func (w *responseWriter) run(next http.Handler) {
	defer func() {
		if w.blocked == nil && w.failed == nil || w.sent {
			return // a panic goes on from where it came
		}
		if p := recover(); p != nil && p != http.ErrAbortHandler {
			panic(p)
		}
	}()
	next.ServeHTTP(w, w.in.r)
}

// finish inspects what is held back at the end of the response and sends it.
func (w *responseWriter) finish() {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.blocked != nil || w.failed != nil {
		return
	}
	if !w.direct {
		w.release()
		return
	}
	w.send()
}

// WriteHeader runs phase 3. Informational answers other than 101 are not
// passed on: they would leave before anything is decided.
func (w *responseWriter) WriteHeader(status int) {
	if w.status != 0 || status < 200 && status != http.StatusSwitchingProtocols {
		return
	}
	w.status = status
	w.check(responseHeaders, func() (*types.Interruption, error) {
		for name, values := range w.Header() {
			for _, v := range values {
				w.in.tx.AddResponseHeader(name, v)
			}
		}
		return w.in.tx.ProcessResponseHeaders(status, w.in.r.Proto), nil
	})
	tx := w.in.tx
	w.direct = !tx.IsResponseBodyAccessible() || !tx.IsResponseBodyProcessable()
	if status == http.StatusSwitchingProtocols && w.blocked == nil && w.failed == nil {
		w.direct = true
		w.send()
	}
}

// Write holds a textual body back, or passes it on.
func (w *responseWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.blocked != nil || w.failed != nil {
		return 0, errBlocked
	}
	if w.direct {
		w.send()
		return w.ResponseWriter.Write(p)
	}
	if w.since.IsZero() {
		w.since = time.Now()
	}
	n := 0
	w.check(responseWritten, func() (it *types.Interruption, err error) {
		it, n, err = w.in.tx.WriteResponseBody(p)
		return it, err
	})
	if w.blocked != nil || w.failed != nil {
		return 0, errBlocked
	}
	if n == len(p) {
		return n, nil
	}
	// The body is longer than is inspected: its beginning has been.
	if err := w.pass(); err != nil {
		return n, err
	}
	rest, err := w.ResponseWriter.Write(p[n:])
	return n + rest, err
}

// Flush passes on what may leave already. A textual response that has been
// held back for longer than hold is inspected as it is and then streams.
func (w *responseWriter) Flush() {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.blocked != nil || w.failed != nil {
		return
	}
	if !w.direct {
		if w.since.IsZero() || time.Since(w.since) < hold {
			return
		}
		if w.release(); !w.direct {
			return
		}
	}
	w.send()
	http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack hands the connection over; its bytes are not inspected.
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	w.taken = err == nil
	return conn, rw, err
}

// Unwrap lets a ResponseController set deadlines.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// release runs phase 4 over what is held back and passes it on.
func (w *responseWriter) release() {
	w.check(responseBody, func() (*types.Interruption, error) {
		if w.in.light {
			lend(w.in.tx)
		}
		return w.in.tx.ProcessResponseBody()
	})
	if w.blocked == nil && w.failed == nil {
		w.pass()
	}
}

// pass sends the headers and what is held back; from now on the body streams.
func (w *responseWriter) pass() error {
	reader, err := w.in.tx.ResponseBodyReader()
	if err != nil {
		w.fail(err)
		return errBlocked
	}
	w.direct = true
	w.send()
	return pour(w.ResponseWriter, reader)
}

func (w *responseWriter) send() {
	if !w.sent {
		w.sent = true
		w.ResponseWriter.WriteHeader(w.status)
	}
}

// check runs one stage and notes its verdict; an engine that fails or panics
// has blocked.
func (w *responseWriter) check(to stage, run func() (*types.Interruption, error)) {
	defer func() {
		if p := recover(); p != nil {
			w.in.panicked = true
			w.fail(panicked(p))
		}
	}()
	it, err := w.in.settle(to, run)
	switch {
	case err != nil:
		w.fail(err)
	case it != nil:
		w.blocked = it
		w.cancel()
	}
}

func (w *responseWriter) fail(err error) {
	w.failed = &pasban.Error{Kind: pasban.Unavailable, Msg: "the WAF failed", Err: err}
	w.cancel()
}
