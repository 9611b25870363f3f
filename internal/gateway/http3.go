package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"pasban"
)

// Bounds of HTTP/3 beside those of all connections.
const (
	quicHandshake = 5 * time.Second
	quicStreams   = 100         // requests at once on one connection, as with HTTP/2
	quicStream    = 512 << 10   // bytes of one request in flight
	quicConn      = 2 << 20     // bytes of one connection's requests in flight
	quicLinger    = time.Second // the end of an answer has so long to arrive before its connection is closed
	altSvcAge     = 24 * time.Hour
)

var errCrowded = errors.New("too many connections")

// http3Front answers HTTP/3 (RFC 9114) on the UDP port with the number of addr.
// Connections count with those of TCP. Data sent before the handshake's end
// (0-RTT) is not taken: it can be replayed.
func (g *Gateway) http3Front(addr net.Addr, handler http.Handler) (front, error) {
	packets, err := net.ListenPacket("udp", addr.String())
	if err != nil {
		return front{}, &pasban.Error{Kind: pasban.Unavailable, Where: g.o.Config.File + ": http3", Msg: "cannot listen on UDP " + addr.String(), Err: err,
			Hint: "free the port, or set http3: false"}
	}
	transport := &quic.Transport{
		Conn:                packets,
		VerifySourceAddress: g.limiter.Doubtful,
		ConnContext: func(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
			leave, ok := g.limiter.Enter(info.RemoteAddr)
			if !ok {
				return nil, errCrowded
			}
			context.AfterFunc(ctx, leave)
			return ctx, nil
		},
	}
	ln, err := transport.Listen(http3.ConfigureTLSConfig(tlsConfig(g.certificate)), &quic.Config{
		HandshakeIdleTimeout:       quicHandshake,
		MaxIdleTimeout:             idleTime,
		MaxIncomingStreams:         quicStreams,
		MaxIncomingUniStreams:      8, // control and the two of QPACK, and some to spare
		MaxStreamReceiveWindow:     quicStream,
		MaxConnectionReceiveWindow: quicConn,
		Allow0RTT:                  false,
	})
	if err != nil {
		packets.Close()
		return front{}, &pasban.Error{Kind: pasban.Unavailable, Msg: "HTTP/3 cannot be served", Err: err}
	}
	f := &http3Server{transport: transport, ln: ln, streamsEnd: g.streams.end}
	f.grace, f.stop = context.WithCancel(context.Background())
	f.srv = &http3.Server{
		Handler:        asOthers(handler),
		MaxHeaderBytes: g.state.Load().config.Limits.Header,
		IdleTimeout:    idleTime,
		Logger:         slog.New(slog.DiscardHandler), // what clients do wrong is theirs
		ConnContext: func(ctx context.Context, _ *quic.Conn) context.Context {
			// Without it ReverseProxy thinks that nobody would see its panic, and ends
			// an answer that the service broke off as if it were whole.
			return context.WithValue(ctx, http.ServerContextKey, new(http.Server))
		},
	}
	return front{serve: f.serve, drain: f.drain, abort: f.abort}, nil
}

// http3Server takes connections and their streams itself: http3.Server sets no
// limit to the time that a request's header may take.
type http3Server struct {
	srv        *http3.Server
	transport  *quic.Transport
	ln         *quic.Listener
	streamsEnd func()
	grace      context.Context // until the end begins
	stop       context.CancelFunc
	conns      sync.WaitGroup
}

func (s *http3Server) serve() error {
	for {
		conn, err := s.ln.Accept(s.grace)
		if s.grace.Err() != nil {
			return http.ErrServerClosed
		}
		if err != nil {
			return err
		}
		s.conns.Go(func() { s.serveConn(conn) })
	}
}

// serveConn answers the requests of one connection until it ends, or until
// the server does and the requests under way have ended.
func (s *http3Server) serveConn(conn *quic.Conn) {
	raw, err := s.srv.NewRawServerConn(conn)
	if err != nil {
		conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeInternalError), "")
		return
	}
	go func() {
		for {
			str, err := conn.AcceptUniStream(conn.Context())
			if err != nil {
				return
			}
			go raw.HandleUnidirectionalStream(str)
		}
	}()
	var requests sync.WaitGroup
	var last atomic.Int64 // when a request ended, in nanoseconds since 1970
	for {
		str, err := conn.AcceptStream(s.grace)
		if err != nil {
			break
		}
		str.SetReadDeadline(time.Now().Add(headerTime))
		requests.Go(func() {
			raw.HandleRequestStream(str)
			last.Store(time.Now().UnixNano())
		})
	}
	// What comes now is safe to send again elsewhere (RFC 9114, section 5.2).
	go func() {
		for {
			str, err := conn.AcceptStream(conn.Context())
			if err != nil {
				return
			}
			str.CancelRead(quic.StreamErrorCode(http3.ErrCodeRequestRejected))
			str.CancelWrite(quic.StreamErrorCode(http3.ErrCodeRequestRejected))
		}
	}()
	requests.Wait()
	select {
	case <-conn.Context().Done():
	case <-time.After(time.Until(time.Unix(0, last.Load()).Add(quicLinger))):
	}
	raw.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
}

// drain takes no more connections and requests and waits for those under way.
func (s *http3Server) drain(ctx context.Context) error {
	s.stop()
	s.streamsEnd()
	s.ln.Close()
	done := make(chan struct{})
	go func() {
		s.conns.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// abort ends all connections.
func (s *http3Server) abort() error {
	s.stop()
	s.ln.Close()
	err := s.transport.Close()
	if cerr := s.transport.Conn.Close(); !errors.Is(cerr, net.ErrClosed) {
		err = errors.Join(err, cerr)
	}
	s.conns.Wait()
	return err
}

// asOthers has requests and answers be what they are in HTTP/1 and HTTP/2. A
// stream says only by its end that a request has no body. And quic-go tells the
// length of the body that was written, which is none if the request was HEAD.
func asOthers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength < 0 && r.Body != nil {
			var first [1]byte
			if n, err := io.ReadFull(r.Body, first[:]); err == io.EOF {
				r.Body.Close()
				r.Body, r.ContentLength = http.NoBody, 0
			} else {
				r.Body = readCloser{io.MultiReader(bytes.NewReader(first[:n]), r.Body), r.Body}
			}
		}
		if r.Method == http.MethodHead {
			w.Header()["Content-Length"] = nil // unless the handler knows it
		}
		next.ServeHTTP(w, r)
	})
}

type readCloser struct {
	io.Reader
	io.Closer
}

// advertise tells those who came by TCP that HTTP/3 is there (RFC 7838): on the
// port that they asked for, which is not the one of listen where ports are
// mapped.
func advertise(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		port := "443"
		if _, p, err := net.SplitHostPort(r.Host); err == nil {
			if n, err := strconv.ParseUint(p, 10, 16); err == nil {
				port = strconv.FormatUint(n, 10)
			}
		}
		w.Header().Set("Alt-Svc", `h3=":`+port+`"; ma=`+strconv.Itoa(int(altSvcAge/time.Second)))
		next.ServeHTTP(w, r)
	})
}
