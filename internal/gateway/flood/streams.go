package flood

import (
	"crypto/tls"
	"io"
	"net/http"
	"slices"
	"time"
)

// early is how soon after its opening a stream's reset counts as abandoned.
const early = time.Second

// Streams closes HTTP/2 connections whose client opens streams to reset them
// at once (CVE-2023-44487), and gives each request credit for its bytes. It
// belongs outermost, so that a stream that is gone already costs nothing.
func (l *Limiter) Streams(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := connOf(r.Context())
		if c == nil || r.ProtoMajor != 2 {
			next.ServeHTTP(w, r)
			return
		}
		c.credit(requestCredit)
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = &creditBody{r.Body, c}
		}
		begin := time.Now()
		if r.Context().Err() == nil {
			next.ServeHTTP(w, r)
		}
		if r.Context().Err() != nil && time.Since(begin) < early {
			c.strike("stream resets")
		}
	})
}

// Hello looks at the beginning of a TLS connection; it is for tls.Config's
// GetConfigForClient. It changes nothing.
func (l *Limiter) Hello(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if c, ok := hello.Conn.(*conn); ok {
		fingerprint := JA4(hello)
		c.ja4.Store(&fingerprint)
		c.h2.Store(slices.Contains(hello.SupportedProtos, "h2"))
	}
	return nil, nil
}

// creditBody gives the connection credit for what is read of a body.
type creditBody struct {
	io.ReadCloser
	conn *conn
}

func (b *creditBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.conn.credit(n + n/8) // frames and records around it
	return n, err
}
