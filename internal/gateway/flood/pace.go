package flood

import (
	"io"
	"net/http"
	"time"
)

// bodyRate is the least that a request's body must bring, in bytes a second,
// after the time that Pace gives it: half of what the slowest phone networks do.
const bodyRate = 1 << 10

// Pace gives each write of a response the time limit write. A request's body
// may keep us waiting for the time body and, beyond that, for as long as what
// it has brought takes at a kilobyte a second: a client that does not read is
// cut off, and so is one that trickles its request, while a stream may last as
// long as it is read. (A server's ReadTimeout and WriteTimeout would end streams.)
func Pace(next http.Handler, write, body time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := &paced{ResponseWriter: w, rc: http.NewResponseController(w), limit: write, stream: r.ProtoMajor >= 2}
		if r.Body != nil && r.Body != http.NoBody {
			p.rc.SetReadDeadline(time.Now().Add(body))
			r.Body = &timedBody{ReadCloser: r.Body, rc: p.rc, left: body}
		}
		// An HTTP/1 connection keeps its deadline after the handler, where the
		// server flushes what is left; a handler may write nothing at all.
		if !p.stream {
			p.extend()
		}
		next.ServeHTTP(p, r)
		if !p.stream || r.ProtoMajor == 3 { // HTTP/3 flushes what is left on the handler's goroutine, too
			p.extend()
		}
	})
}

type paced struct {
	http.ResponseWriter
	rc     *http.ResponseController
	limit  time.Duration
	stream bool      // HTTP/2: a deadline that passes ends the stream, even an idle one
	since  time.Time // the deadline counts from here, zero if there is none
}

// extend sets the deadline anew, unless it was set a moment ago: most answers
// are written in one.
func (p *paced) extend() {
	if now := time.Now(); now.Sub(p.since) >= p.limit/16 {
		p.since = now
		p.rc.SetWriteDeadline(now.Add(p.limit))
	}
}

// start sets the deadline of a write; its result ends it.
func (p *paced) start() func() {
	p.extend()
	if !p.stream {
		return func() {}
	}
	return func() {
		p.since = time.Time{}
		p.rc.SetWriteDeadline(time.Time{})
	}
}

func (p *paced) WriteHeader(status int) {
	defer p.start()()
	p.ResponseWriter.WriteHeader(status)
}

func (p *paced) Write(b []byte) (int, error) {
	defer p.start()()
	return p.ResponseWriter.Write(b)
}

func (p *paced) FlushError() error {
	defer p.start()()
	return p.rc.Flush()
}

// Flush sends what is buffered.
func (p *paced) Flush() { p.FlushError() }

// Unwrap lets a ResponseController reach the connection.
func (p *paced) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// timedBody holds a body to its rate. Only the time in which it is waited for
// counts. It lifts the read deadline when the body has ended: what the
// connection sends next is another request.
type timedBody struct {
	io.ReadCloser
	rc   *http.ResponseController
	left time.Duration // for which it may still be waited for
}

func (b *timedBody) Read(p []byte) (int, error) {
	begin := time.Now()
	b.rc.SetReadDeadline(begin.Add(b.left))
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.rc.SetReadDeadline(time.Time{})
	}
	b.left += time.Duration(n)*time.Second/bodyRate - time.Since(begin)
	return n, err
}
