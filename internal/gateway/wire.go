package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"

	"pasban/internal/gateway/flood"
)

// What is said of requests whose framing or header lines two servers may read
// differently. net/http mends some of them silently (RFC 9112, sections 2.2,
// 5.2 and 6.3): we refuse them, so that they are seen.
const (
	faultTwoLengths = "content-length beside transfer-encoding"
	faultFold       = "folded header line"
	faultBareLF     = "line without carriage return"
	faultProxy      = "a request to a proxy" // RFC 9112, section 3.2.2: net/http takes its host for ours
)

// wire looks at the header lines of HTTP/1 requests as they were sent, and at
// what net/http answers to those that it cannot read, which no handler sees.
// Requests that a client pipelines, which browsers do not, are not looked at.
type wire struct {
	net.Conn
	unreadable func(client net.Addr, answer string)

	// Of the goroutine that reads: net/http's own until the header is whole.
	head  head
	ahead []byte // the first byte of the next request, if it came too early
}

type wireKey struct{}

// faultOf is what is wrong with a request's header lines, "" if nothing is, or
// if they are not those that were looked at: a client that pipelines has sent
// them with the request before.
func faultOf(r *http.Request) string {
	w, ok := r.Context().Value(wireKey{}).(*wire)
	if !ok || !w.head.done || !bytes.HasPrefix(w.head.first, []byte(r.Method+" ")) {
		return ""
	}
	return w.head.fault
}

// Read implements net.Conn.
func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	switch {
	case !w.head.done:
		w.head.feed(p[:n])
	case len(p) == 1:
		// So net/http waits for the end of a connection while it answers: the
		// next request may begin before the answer's end is told.
		w.ahead = append(w.ahead[:0], p[:n]...)
	default:
		w.ahead = w.ahead[:0]
	}
	return n, err
}

// again prepares for the next request: nobody reads now.
func (w *wire) again() {
	w.head = head{first: w.head.first[:0], line: w.head.line[:0]}
	w.head.feed(w.ahead)
	w.ahead = w.ahead[:0]
}

// refusal is how the answers end that net/http gives by itself.
var refusal = []byte("\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n")

// Write implements net.Conn.
func (w *wire) Write(p []byte) (int, error) {
	if bytes.HasPrefix(p, []byte("HTTP/1.1 4")) || bytes.HasPrefix(p, []byte("HTTP/1.1 5")) {
		line, rest, _ := bytes.Cut(p[len("HTTP/1.1 "):], []byte("\r\n"))
		if bytes.HasPrefix(rest, refusal[2:]) {
			w.unreadable(w.RemoteAddr(), string(line))
		}
	}
	return w.Conn.Write(p)
}

// CloseWrite tells the client that no more comes; net/http does so before it
// closes a connection that the client still writes to.
func (w *wire) CloseWrite() error {
	if c, ok := w.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// secure is a wire inside TLS.
type secure struct {
	*wire
	conn *tls.Conn
}

// ConnectionState lets net/http fill Request.TLS.
func (s secure) ConnectionState() tls.ConnectionState { return s.conn.ConnectionState() }

// wireOf is the wire below a connection that net/http was given, nil if there
// is none: HTTP/2 has no lines.
func wireOf(c net.Conn) *wire {
	switch c := c.(type) {
	case *wire:
		return c
	case secure:
		return c.wire
	}
	return nil
}

// watchWires has srv's connections looked at.
func (g *Gateway) watchWires(srv *http.Server) {
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if w := wireOf(c); w != nil {
			ctx, c = context.WithValue(ctx, wireKey{}, w), w.Conn
		}
		return flood.ConnContext(ctx, g.ownConn(c))
	}
	srv.ConnState = func(c net.Conn, to http.ConnState) {
		if w := wireOf(c); w != nil && to == http.StateIdle {
			w.again()
		}
	}
}

// head reads the lines of a header as they come.
type head struct {
	done  bool
	fault string

	first      []byte // the beginning of the request line
	line       []byte // the beginning of the line under way
	size       int    // of the line under way
	last       byte   // of the line under way
	lines      int    // before it
	length, te bool   // what was named
}

// maxName is how much of a line is kept: the longest name that is looked for.
const maxName = len("transfer-encoding:")

func (h *head) feed(p []byte) {
	for len(p) > 0 && !h.done {
		i := bytes.IndexByte(p, '\n')
		part := p
		if i >= 0 {
			part = p[:i]
		}
		if room := maxName - len(h.line); room > 0 {
			h.line = append(h.line, part[:min(room, len(part))]...)
		}
		if h.size += len(part); len(part) > 0 {
			h.last = part[len(part)-1]
		}
		if i < 0 {
			return
		}
		h.end()
		p = p[i+1:]
	}
}

// end takes a line that is whole.
func (h *head) end() {
	size := h.size
	if size > 0 && h.last == '\r' {
		size--
	} else {
		h.fault = faultBareLF
	}
	switch {
	case size == 0 && h.lines == 0: // an empty line before a request is no part of it
		h.line, h.size, h.last = h.line[:0], 0, 0
		return
	case size == 0:
		h.done, h.line = true, h.line[:0]
		if h.length && h.te {
			h.fault = faultTwoLengths
		}
		return
	case h.lines == 0:
		h.first = append(h.first[:0], h.line...)
		if _, target, ok := bytes.Cut(h.line, []byte(" ")); ok && len(target) > 0 && target[0] != '/' && target[0] != '*' {
			h.fault = faultProxy
		}
	case h.line[0] == ' ' || h.line[0] == '\t':
		h.fault = faultFold
	default:
		name, _, _ := bytes.Cut(h.line, []byte(":"))
		name = bytes.TrimSpace(name)
		h.length = h.length || bytes.EqualFold(name, []byte("content-length"))
		h.te = h.te || bytes.EqualFold(name, []byte("transfer-encoding"))
	}
	h.lines++
	h.line, h.size, h.last = h.line[:0], 0, 0
}

// wires wraps the connections of a listener.
type wires struct {
	net.Listener
	unreadable func(net.Addr, string)
}

// Accept implements net.Listener.
func (l wires) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &wire{Conn: c, unreadable: l.unreadable}, nil
}

// secureWires makes TLS connections of a listener's: one that speaks HTTP/2 is
// net/http's own, any other is looked at inside. Handshakes do not wait for
// each other.
type secureWires struct {
	wires
	config *tls.Config
	ready  chan net.Conn
	failed chan error
	closed chan struct{}
	once   sync.Once
}

func newSecureWires(ln net.Listener, config *tls.Config, unreadable func(net.Addr, string)) *secureWires {
	l := &secureWires{wires: wires{ln, unreadable}, config: config,
		ready: make(chan net.Conn), failed: make(chan error), closed: make(chan struct{})}
	go l.accept()
	return l
}

func (l *secureWires) accept() {
	for {
		c, err := l.Listener.Accept()
		if err == nil {
			go l.handshake(c)
			continue
		}
		select {
		case l.failed <- err: // net/http knows which errors pass, and waits
		case <-l.closed:
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

// plainHTTP is how requests begin.
var plainHTTP = []string{"GET /", "HEAD ", "POST ", "PUT /", "OPTIO"}

// handshake ends within headerTime and hands the connection over.
func (l *secureWires) handshake(c net.Conn) {
	conn := tls.Server(c, l.config)
	ctx, cancel := context.WithTimeout(context.Background(), headerTime)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		if re, ok := errors.AsType[tls.RecordHeaderError](err); ok && re.Conn != nil && slices.Contains(plainHTTP, string(re.RecordHeader[:])) {
			io.WriteString(re.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nThis is an https address.\n")
			l.unreadable(c.RemoteAddr(), "400 Bad Request: no TLS")
		}
		c.Close()
		return
	}
	var out net.Conn = conn
	if p := conn.ConnectionState().NegotiatedProtocol; p == "" || p == "http/1.1" {
		out = secure{&wire{Conn: conn, unreadable: l.unreadable}, conn}
	}
	select {
	case l.ready <- out:
	case <-l.closed:
		conn.Close()
	}
}

// Accept implements net.Listener.
func (l *secureWires) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case err := <-l.failed:
		return nil, err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *secureWires) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}
