package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"pasban"
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

// Serve answers on ln until ctx ends, and with http3 on the UDP port of the
// same number, and with tls.http on that plain address too. Then it drains: no
// new requests, those under way end in their own time, at most twenty seconds;
// event streams are told to end at once, their readers come back to the next
// process. It closes ln and returns nil after a clean end.
func (g *Gateway) Serve(ctx context.Context, ln net.Listener) error {
	base, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	fronts, err := g.fronts(base, ln)
	if err != nil {
		ln.Close()
		return err
	}
	served := make(chan error, len(fronts))
	for _, f := range fronts {
		go func() { served <- f.serve() }()
	}
	go g.watchCertificates(base)
	end := func(stop func(front) error) (err error) {
		stopped := make(chan error, len(fronts))
		for _, f := range fronts {
			go func() { stopped <- stop(f) }()
		}
		for range fronts {
			err = errors.Join(err, <-stopped)
		}
		return err
	}
	left := len(fronts)
	select {
	case err = <-served:
		left--
		abandon()
		end(func(f front) error { return f.abort() })
	case <-ctx.Done():
		patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
		defer cancel()
		err = end(func(f front) error { return f.drain(patience) })
		abandon()
		if err != nil {
			slog.WarnContext(ctx, "requests were cut off at the end", "after", drainTime)
		}
		err = end(func(f front) error { return f.abort() })
	}
	for range left {
		if serr := <-served; !errors.Is(serr, http.ErrServerClosed) {
			err = errors.Join(err, serr)
		}
	}
	return err
}

// front is one listener with its server.
type front struct {
	serve func() error                // until the server ends; http.ErrServerClosed is a clean end
	drain func(context.Context) error // ends it when its requests have ended
	abort func() error                // ends it now
}

// fronts opens what else is listened on and makes the servers.
func (g *Gateway) fronts(base context.Context, ln net.Listener) (all []front, err error) {
	st := g.state.Load()
	handler := flood.Pace(g.Handler(), writeTime, bodyTime)
	addr := ln.Addr()
	if st.certificate != nil && st.config.HTTP3 {
		f, err := g.http3Front(addr, handler)
		if err != nil {
			return nil, err
		}
		all = append(all, f)
		handler = advertise(handler)
	}
	var plain net.Addr
	if st.config.TLS.HTTP != "" {
		pln, err := net.Listen("tcp", st.config.TLS.HTTP)
		if err != nil {
			for _, f := range all {
				f.abort()
			}
			return nil, &pasban.Error{Kind: pasban.Unavailable, Where: st.config.File + ": tls.http", Msg: "cannot listen on " + st.config.TLS.HTTP, Err: err}
		}
		plain = pln.Addr()
		all = append(all, g.plainFront(pln))
	}
	all = append(all, g.publicFront(base, g.proxyProtocol(g.limiter.Listener(ln)), handler))
	if g.acme != nil {
		g.acme.start(g.ctx, st.acme, addr, plain)
	}
	return all, nil
}

// plainFront sends who comes without TLS to where there is.
func (g *Gateway) plainFront(ln net.Listener) front {
	srv := g.plainServer()
	ln = g.proxyProtocol(g.limiter.Listener(ln))
	return front{serve: func() error { return srv.Serve(ln) }, drain: srv.Shutdown, abort: srv.Close}
}

// publicFront answers HTTP/1 and HTTP/2.
func (g *Gateway) publicFront(base context.Context, ln net.Listener, handler http.Handler) front {
	st := g.state.Load()
	srv := &http.Server{
		Handler:           g.limiter.Streams(handler),
		BaseContext:       func(net.Listener) context.Context { return base },
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    st.config.Limits.Header,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 100, MaxReceiveBufferPerConnection: 1 << 20, MaxReceiveBufferPerStream: 256 << 10,
			WriteByteTimeout: writeTime, SendPingTimeout: idleTime},
	}
	g.watchWires(srv)
	srv.HTTP2.CountError = g.unreadableStream
	srv.RegisterOnShutdown(g.streams.end)
	f := front{drain: srv.Shutdown, abort: srv.Close}
	if st.certificate == nil {
		f.serve = func() error { return srv.Serve(wires{ln, g.unreadable}) }
		return f
	}
	srv.TLSConfig = tlsConfig(g.certificate) // tells net/http that HTTP/2 is spoken
	srv.TLSConfig.GetConfigForClient = g.hello
	f.serve = func() error { return srv.Serve(newSecureWires(ln, srv.TLSConfig, g.unreadable)) }
	return f
}

// certificate is that of the current configuration.
func (g *Gateway) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return g.state.Load().certificate(hello)
}
