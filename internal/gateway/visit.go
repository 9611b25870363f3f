package gateway

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// visit is one request as the access log, metrics and traces tell of it, and as
// the gate knows its visitor. It belongs to the request's goroutine, but for
// written, which the goroutines of an upgraded connection count too.
type visit struct {
	http.ResponseWriter
	begin        time.Time
	site         string        // host of the site; "other" if none is configured
	route        string        // pattern of the guarded route, "" if it is not one
	upstream     string        // address of the one that was asked last
	upstreamTime time.Duration // until answers began, over all tries
	retries      int
	status       int // 0 until it is known
	written      atomic.Int64
	upgraded     bool
	guest        *guest  // nil before the gate
	traced       *traced // nil: not traced
}

type visitKey struct{}

// visitOf is the visit that a context belongs to; nil, which every method
// takes, if there is none.
func visitOf(ctx context.Context) *visit {
	v, _ := ctx.Value(visitKey{}).(*visit)
	return v
}

func (v *visit) retried() {
	if v != nil {
		v.retries++
	}
}

// follows notes a route that is not open; what it is about is in the journal, not
// in logs.
func (v *visit) follows(rt *route) {
	if v != nil {
		v.route = rt.Match
	}
}

// visited tells the access log, metrics and traces of every request.
func (g *Gateway) visited(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		st := g.state.Load()
		v := &visit{ResponseWriter: w, begin: time.Now(), site: "other"}
		if s, ok := st.sites[hostOf(r)]; ok {
			v.site = s.conf.Host
		} else if st.other.conf.Host != "" {
			v.site = st.other.conf.Host
		}
		ctx := context.WithValue(r.Context(), visitKey{}, v)
		if st.tracer != nil {
			ctx = v.trace(ctx, st.tracer, r)
		}
		g.metrics.inFlight.Inc()
		whole := false
		defer func() {
			g.metrics.inFlight.Dec()
			if v.status == 0 {
				if v.status = statusClosed; whole {
					v.status = http.StatusOK
				}
			}
			took := time.Since(v.begin)
			g.metrics.visited(v, r, took)
			v.traced.end(v.status)
			if form := st.config.AccessLog; form != "" && form != "off" {
				g.access.write(form, v, r, took)
			}
		}()
		next.ServeHTTP(v, r.WithContext(ctx))
		whole = true
	})
}

// left notes that the visitor is gone: whatever is written now nobody gets.
func (v *visit) left() {
	if v != nil && v.status == 0 {
		v.status = statusClosed
	}
}

// statusClosed is what the access log says of a request that ended without an
// answer, as nginx does.
const statusClosed = 499

// WriteHeader notes the status.
func (v *visit) WriteHeader(status int) {
	if v.status == 0 && status >= 200 {
		v.status = status
	}
	v.ResponseWriter.WriteHeader(status)
}

// Write counts.
func (v *visit) Write(p []byte) (int, error) {
	if v.status == 0 {
		v.status = http.StatusOK
	}
	n, err := v.ResponseWriter.Write(p)
	v.written.Add(int64(n))
	return n, err
}

// Flush sends what is buffered.
func (v *visit) Flush() { v.FlushError() }

// FlushError sends what is buffered.
func (v *visit) FlushError() error {
	if v.status == 0 {
		v.status = http.StatusOK
	}
	return http.NewResponseController(v.ResponseWriter).Flush()
}

// Hijack hands the connection over and goes on counting.
func (v *visit) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(v.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	v.status, v.upgraded = http.StatusSwitchingProtocols, true
	return &countedConn{Conn: conn, written: &v.written}, rw, nil
}

// Unwrap lets a ResponseController reach the connection.
func (v *visit) Unwrap() http.ResponseWriter { return v.ResponseWriter }

type countedConn struct {
	net.Conn
	written *atomic.Int64
}

func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	return n, err
}
