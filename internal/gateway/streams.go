package gateway

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
)

// streams knows the event streams and the upgraded connections that are open,
// so that they do not hold up the end of the server, or outlive it.
type streams struct {
	upgraded atomic.Int64 // connections

	mu     sync.Mutex // covers both
	open   map[*func()]bool
	ending bool
}

// add has a stream ended by stop, which may take its time, when the server ends:
// that may be now. remove forgets a stream that has ended by itself.
func (s *streams) add(stop func()) (remove func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		go stop()
		return func() {}
	}
	if s.open == nil {
		s.open = map[*func()]bool{}
	}
	s.open[&stop] = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, &stop)
	}
}

// end ends all streams, and those that begin later.
func (s *streams) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ending = true
	for stop := range s.open {
		go (*stop)()
	}
}

// own serves Pasban's own pages: the context of one that is an event stream
// ends with the server. (A service's streams end where its answers are read.)
func (s *streams) own(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		remove := func() {}
		defer func() {
			remove()
			cancel()
		}()
		next.ServeHTTP(&streamWriter{ResponseWriter: w, begun: func() { remove = s.add(cancel) }}, r.WithContext(ctx))
	})
}

// isEventStream reports whether an answer is one of Server-Sent Events.
func isEventStream(h http.Header) bool {
	return strings.HasPrefix(h.Get("Content-Type"), "text/event-stream")
}

// streamWriter notices when a response is an event stream.
type streamWriter struct {
	http.ResponseWriter
	begun func() // called if it is
	known bool
}

func (w *streamWriter) begin() {
	if w.known {
		return
	}
	w.known = true
	if isEventStream(w.Header()) {
		w.begun()
	}
}

// WriteHeader implements http.ResponseWriter.
func (w *streamWriter) WriteHeader(status int) {
	w.begin()
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *streamWriter) Write(p []byte) (int, error) {
	w.begin()
	return w.ResponseWriter.Write(p)
}

// Flush sends what is buffered.
func (w *streamWriter) Flush() {
	w.begin()
	http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap lets a ResponseController reach the connection.
func (w *streamWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
