package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"pasban/internal/gateway/flood"
)

// Time limits of a connection. What a visitor may take to read is bounded for
// each write, so that event streams may last.
const (
	headerTime = 8 * time.Second // for a TLS handshake too
	bodyTime   = 8 * time.Second // in which nothing need come
	writeTime  = 10 * time.Second
	idleTime   = 90 * time.Second
	drainTime  = 20 * time.Second
)

// Serve answers on ln until ctx ends, then drains: no new requests, those
// under way end in their own time, at most twenty seconds; event streams are
// told to end at once, their readers come back to the next process. It closes
// ln and returns nil after a clean end.
func (g *Gateway) Serve(ctx context.Context, ln net.Listener) error {
	base, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	conf := g.state.Load().config
	srv := &http.Server{
		Handler:           g.limiter.Streams(flood.Pace(g.streams.handler(g.Handler()), writeTime, bodyTime)),
		ConnContext:       flood.ConnContext,
		BaseContext:       func(net.Listener) context.Context { return base },
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    conf.Limits.Header,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 100, MaxReceiveBufferPerConnection: 1 << 20, MaxReceiveBufferPerStream: 256 << 10,
			WriteByteTimeout: writeTime, SendPingTimeout: idleTime},
	}
	srv.RegisterOnShutdown(g.streams.end)

	ln = g.limiter.Listener(ln)
	served := make(chan error, 1)
	go func() {
		if g.state.Load().certificate == nil {
			served <- srv.Serve(ln)
			return
		}
		srv.TLSConfig = tlsConfig(g.certificate)
		srv.TLSConfig.GetConfigForClient = g.limiter.Hello
		served <- srv.ServeTLS(ln, "", "")
	}()
	select {
	case err := <-served:
		srv.Close()
		return err
	case <-ctx.Done():
	}
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	err := srv.Shutdown(patience)
	abandon()
	if err != nil {
		slog.WarnContext(ctx, "requests were cut off at the end", "after", drainTime)
		err = srv.Close()
	}
	if serr := <-served; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	return err
}

// certificate is that of the current configuration.
func (g *Gateway) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return g.state.Load().certificate(hello)
}

// streams knows the event streams that are open, so that they do not hold up
// the end of the server.
type streams struct {
	mu     sync.Mutex // covers both
	open   map[*streamWriter]context.CancelFunc
	ending bool
}

func (s *streams) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		sw := &streamWriter{ResponseWriter: w, all: s, cancel: cancel}
		defer func() {
			s.remove(sw)
			cancel()
		}()
		next.ServeHTTP(sw, r.WithContext(ctx))
	})
}

func (s *streams) add(w *streamWriter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		w.cancel()
		return
	}
	if s.open == nil {
		s.open = map[*streamWriter]context.CancelFunc{}
	}
	s.open[w] = w.cancel
}

func (s *streams) remove(w *streamWriter) {
	if !w.stream {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, w)
}

// end ends all streams, and those that begin later.
func (s *streams) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ending = true
	for _, cancel := range s.open {
		cancel()
	}
}

// streamWriter notices when a response is an event stream.
type streamWriter struct {
	http.ResponseWriter
	all    *streams
	cancel context.CancelFunc
	stream bool
	begun  bool
}

func (w *streamWriter) WriteHeader(status int) {
	w.begin()
	w.ResponseWriter.WriteHeader(status)
}

func (w *streamWriter) Write(p []byte) (int, error) {
	w.begin()
	return w.ResponseWriter.Write(p)
}

func (w *streamWriter) begin() {
	if w.begun {
		return
	}
	w.begun = true
	if strings.HasPrefix(w.Header().Get("Content-Type"), "text/event-stream") {
		w.stream = true
		w.all.add(w)
	}
}

// Flush sends what is buffered.
func (w *streamWriter) Flush() {
	w.begin()
	http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap lets a ResponseController reach the connection.
func (w *streamWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
