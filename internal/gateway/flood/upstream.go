package flood

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"math"
	"net/http"
	"sync"
	"time"
)

// How an upstream's limit is found.
const (
	minLimit     = 4
	firstLimit   = 32
	defaultLimit = 1000
	// tolerance is how much longer than at its best an upstream may take: what
	// is beyond is taken for a queue of our making.
	tolerance    = 1.5
	windowTime   = 250 * time.Millisecond
	windowAnswer = 10 // answers that a window needs at least
	// Windows are noisy, so the limit follows them by a part: a small one while it
	// grows, a large one when answers queue, for everybody waits in that queue.
	growing   = 0.3
	shrinking = 0.7
	// steepest is the least part of the limit that a window leaves. A flood may
	// begin when the limit is many times what the service can do, and everybody
	// waits until it is not: that takes two windows. One that is slow for another
	// reason, once, does not close the service.
	steepest = 0.2
	// minQueue is how many may wait however small the limit is: when it shrinks,
	// those with priority wait until the requests before it are done.
	minQueue = 32
	// awaited is how much of a body must be here before the service is asked.
	awaited = 64 << 10
	// firstPart is what there is room for before anything of a body has come.
	firstPart = 4 << 10
)

// Upstream bounds how many requests a service is asked at once. It finds the
// bound by itself: while the service answers about as fast as it can, the bound
// grows; when answers take longer because they queue, it shrinks (a gradient
// limit, after Netflix's concurrency-limits). Requests beyond it wait for a
// short time. When too many wait, those of low priority are shed, and among
// equals those who have waited longest: they will not stay anyway.
//
// A request counts until its answer begins. It is safe for concurrent use.
type Upstream struct {
	mu       sync.Mutex // covers everything below
	min, max float64
	limit    float64
	inflight int
	waiting  [ranks][]*waiter // by rank, oldest first
	queued   int              // sum of waiting
	shed     [ranks]int

	best  float64 // seconds that an answer takes when nothing queues; 0 if not known
	begin time.Time
	sum   float64 // seconds of the answers of this window
	n     int
	peak  int // most requests at once in this window
}

// ranks are the priorities, after the lowest one: strangers who make a flood.
const ranks = int(Essential) + 2

// patience is how long a request of each rank waits.
func patience(rank int) time.Duration {
	return [ranks]time.Duration{0, 250 * time.Millisecond, time.Second, 2 * time.Second, 3 * time.Second}[rank]
}

// waiter is a request that waits; turn gets true when it may go, false when it
// is shed.
type waiter struct {
	rank int
	turn chan bool
}

// NewUpstream makes the limit of a service that is always asked as many
// requests at once as least says and never more than most; 0 is 4 and 1,000.
func NewUpstream(least, most int) *Upstream {
	u := &Upstream{limit: firstLimit, begin: time.Now()}
	u.SetBounds(least, most)
	return u
}

// SetBounds changes the least and the most requests at once.
func (u *Upstream) SetBounds(least, most int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.max = float64(cmp.Or(most, defaultLimit))
	u.min = min(float64(max(least, minLimit)), u.max)
	u.limit = min(max(u.limit, u.min), u.max)
}

// Load is what an upstream is doing.
type Load struct {
	Limit, InFlight, Waiting int
	Shed                     map[string]int // since the start, by priority; "heavy" are strangers who make a flood
}

// Load returns what the upstream is doing.
func (u *Upstream) Load() Load {
	u.mu.Lock()
	defer u.mu.Unlock()
	l := Load{Limit: int(u.limit), InFlight: u.inflight, Waiting: u.queued, Shed: map[string]int{"heavy": u.shed[0]}}
	for p := Stranger; p <= Essential; p++ {
		l.Shed[p.String()] = u.shed[int(p)+1]
	}
	return l
}

// Caller says who makes a request, if there is not room for everybody.
type Caller struct {
	Priority Priority
	Heavy    bool // one of the few that make the flood: a stranger of the last rank
}

func (c Caller) rank() int {
	if c.Heavy && c.Priority == Stranger {
		return 0
	}
	return int(min(c.Priority, Essential)) + 1
}

// Handler passes on the requests for which the service has room; shed answers
// the others. caller is asked only while there is not room for everybody. broken
// answers those whose body cannot be read: they take no place.
func (u *Upstream) Handler(next http.Handler, caller func(*http.Request) Caller, shed func(http.ResponseWriter, *http.Request, Caller), broken func(http.ResponseWriter, *http.Request, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := await(r); err != nil {
			broken(w, r, err)
			return
		}
		done := Waiting(r.Context())
		defer done()
		var who Caller
		if !u.enter(r.Context(), func() int { who = caller(r); return who.rank() }) {
			shed(w, r, who)
			return
		}
		p := &permit{ResponseWriter: w, upstream: u}
		defer p.release(false)
		k := workOf(r.Context())
		if k == nil { // a client whose work nobody counts
			k = &work{}
			r = r.WithContext(context.WithValue(r.Context(), workKey{}, k))
		}
		k.permit = p
		next.ServeHTTP(p, r)
		if !p.begun && r.Context().Err() == nil { // an empty answer of status 200
			p.release(true)
		}
	})
}

// await reads the beginning of a body that may not be here yet: a slow client
// must not hold a place, nor room for more than it has sent. A small one is here
// whole then, and GetBody gives it as often as it is wanted, in one piece with the
// request's head. Bodies of unknown length are left alone: they may be one half of
// a conversation. It fails as the body does.
func await(r *http.Request) error {
	if r.ContentLength <= 0 || r.Body == nil || r.ContentLength > awaited && r.GetBody != nil {
		return nil // or somebody has read it all
	}
	var begun bytes.Buffer
	begun.Grow(int(min(r.ContentLength, firstPart)) + bytes.MinRead)
	// One byte more: that a small body ends is read too.
	if _, err := begun.ReadFrom(io.LimitReader(r.Body, min(r.ContentLength, awaited)+1)); err != nil {
		return err
	}
	if int64(begun.Len()) != min(r.ContentLength, awaited+1) {
		return io.ErrUnexpectedEOF
	}
	if r.ContentLength > awaited {
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(&begun, r.Body), r.Body}
		return nil
	}
	var err error
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(begun.Bytes())), nil }
	r.Body, err = r.GetBody()
	return err
}

// enter waits for a place, for as long as the caller's rank allows.
func (u *Upstream) enter(ctx context.Context, rank func() int) bool {
	if u.try() {
		return true
	}
	w := &waiter{rank: rank(), turn: make(chan bool, 1)} // may ask a database: no lock is held
	if !u.queue(w) {
		return false
	}
	t := time.NewTimer(patience(w.rank))
	defer t.Stop()
	select {
	case ok := <-w.turn:
		return ok
	case <-ctx.Done():
	case <-t.C:
	}
	return u.leave(w)
}

func (u *Upstream) try() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.queued > 0 || u.inflight >= int(u.limit) {
		return false
	}
	u.start()
	return true
}

// start counts a request in. The caller locks.
func (u *Upstream) start() {
	u.inflight++
	u.peak = max(u.peak, u.inflight)
}

// queue puts a request into the queue, in the place of a lesser one if it is
// full, and serves who is next.
func (u *Upstream) queue(w *waiter) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if patience(w.rank) == 0 && u.inflight >= int(u.limit) {
		u.shed[w.rank]++
		return false
	}
	u.waiting[w.rank] = append(u.waiting[w.rank], w)
	u.queued++
	u.next()
	if u.queued > max(minQueue, int(u.limit)) {
		u.drop()
	}
	return true
}

// drop sheds the oldest of the lowest rank. The caller locks.
func (u *Upstream) drop() {
	for rank, ws := range u.waiting {
		if len(ws) == 0 {
			continue
		}
		u.waiting[rank] = ws[1:]
		u.queued--
		u.shed[rank]++
		ws[0].turn <- false
		return
	}
}

// next lets in whom there is room for: the highest rank first, and of that the
// youngest. The caller locks.
func (u *Upstream) next() {
	for rank := ranks - 1; rank >= 0; rank-- {
		for ws := u.waiting[rank]; len(ws) > 0 && u.inflight < int(u.limit); ws = u.waiting[rank] {
			last := len(ws) - 1
			u.waiting[rank] = ws[:last]
			u.queued--
			u.start()
			ws[last].turn <- true
			ws[last] = nil
		}
	}
}

// leave takes a request out of the queue that has waited long enough. Its turn
// may have come meanwhile.
func (u *Upstream) leave(w *waiter) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	select {
	case ok := <-w.turn:
		return ok
	default:
	}
	ws := u.waiting[w.rank]
	for i := range ws {
		if ws[i] == w {
			u.waiting[w.rank] = append(ws[:i], ws[i+1:]...)
			u.queued--
			break
		}
	}
	u.shed[w.rank]++
	return false
}

// done counts a request out. took is how long the answer took to begin; 0 if
// that says nothing about the upstream.
func (u *Upstream) done(took time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.inflight--
	if took > 0 {
		u.sum += took.Seconds()
		u.n++
		mean, enough := u.sum/float64(u.n), windowTime
		if mean > 2*tolerance*u.best {
			enough /= 2 // everybody stands in that queue now
		}
		if now := time.Now(); u.n >= windowAnswer && now.Sub(u.begin) >= enough {
			u.adapt(mean)
			u.begin, u.sum, u.n, u.peak = now, 0, 0, u.inflight
		}
	}
	u.next()
}

// adapt sets the limit after a window in which answers took mean seconds.
func (u *Upstream) adapt(mean float64) {
	if u.best == 0 || mean < u.best {
		u.best = mean
	}
	if u.peak*2 < int(u.limit) { // nothing queues: what it takes is normal
		u.best += (mean - u.best) / 10
		return
	}
	gradient := min(1, max(steepest, tolerance*u.best/mean))
	next := u.limit*gradient + math.Sqrt(u.limit)
	part := growing
	if next < u.limit {
		part = shrinking
	}
	u.limit = min(u.max, max(u.min, u.limit+part*(next-u.limit)))
	if gradient < 1 && u.limit < 2*minLimit {
		// With so few at once the queue is not ours: the service has become slower.
		u.best = mean
	}
}

// permit gives its place back when the answer begins.
type permit struct {
	http.ResponseWriter
	upstream *Upstream
	begin    time.Time // when the upstream was asked; zero if it was not
	begun    bool
	over     bool
}

// Asked says that the upstream is asked now: the time until the answer begins
// is its own. Requests that are answered without it say nothing about it.
func Asked(ctx context.Context) {
	if k := workOf(ctx); k != nil && k.permit != nil {
		k.permit.begin = time.Now()
	}
}

// release gives the place back, once. answered says that the time until now is
// what the upstream took.
func (p *permit) release(answered bool) {
	if p.over {
		return
	}
	p.over = true
	var took time.Duration
	if answered && !p.begin.IsZero() {
		took = max(1, time.Since(p.begin))
	}
	p.upstream.done(took)
}

func (p *permit) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		p.begun = true
		// A refusal by the proxy itself is fast; a timeout tells that the
		// service is slow.
		p.release(status < 500 || status == http.StatusGatewayTimeout)
	}
	p.ResponseWriter.WriteHeader(status)
}

func (p *permit) Write(b []byte) (int, error) {
	p.begun = true
	p.release(true)
	return p.ResponseWriter.Write(b)
}

// Flush sends what is buffered.
func (p *permit) Flush() {
	p.begun = true
	p.release(true)
	http.NewResponseController(p.ResponseWriter).Flush()
}

// Unwrap lets a ResponseController reach the connection.
func (p *permit) Unwrap() http.ResponseWriter { return p.ResponseWriter }
