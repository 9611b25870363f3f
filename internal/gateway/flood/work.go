package flood

import (
	"context"
	"io"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"
)

// What a request costs beyond its one token, at most maxCost: tokens for the
// bytes that were inspected and for the time that the gateway itself was busy.
const (
	bytesPerToken = 16 << 10
	timePerToken  = 50 * time.Millisecond
	maxCost       = 20
)

// work is what one request has made so far.
type work struct {
	bytes  atomic.Int64 // of the body
	waited atomic.Int64 // nanoseconds in which others were waited for: the client, the upstream
	permit *permit      // the place that it has at its upstream, nil before it has one
}

type workKey struct{}

// workOf is the work that a context belongs to, nil if it is not counted.
func workOf(ctx context.Context) *work {
	k, _ := ctx.Value(workKey{}).(*work)
	return k
}

// work serves a request and charges the client for it.
func (l *Limiter) work(next http.Handler, w http.ResponseWriter, r *http.Request, client netip.Addr) {
	var k work
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &workBody{r.Body, &k}
	}
	begin := time.Now()
	next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), workKey{}, &k)))
	if cost := k.cost(time.Since(begin)); cost > 0 {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.buckets.charge(client, "", l.limits.requests(), cost)
	}
}

func (k *work) cost(took time.Duration) float64 {
	own := max(0, took-time.Duration(k.waited.Load()))
	return min(maxCost, float64(k.bytes.Load()/bytesPerToken)+float64(own/timePerToken))
}

// Waiting marks the time until the function that it returns is called as
// waited for others: it is not charged to the request's client.
func Waiting(ctx context.Context) (done func()) {
	k := workOf(ctx)
	if k == nil {
		return func() {}
	}
	begin := time.Now()
	return func() { k.waited.Add(int64(time.Since(begin))) }
}

// workBody counts what is read of a request's body.
type workBody struct {
	io.ReadCloser
	work *work
}

func (b *workBody) Read(p []byte) (int, error) {
	begin := time.Now()
	n, err := b.ReadCloser.Read(p)
	b.work.bytes.Add(int64(n))
	b.work.waited.Add(int64(time.Since(begin)))
	return n, err
}
