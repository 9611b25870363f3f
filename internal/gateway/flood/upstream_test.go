package flood

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// service answers with so many workers, each request taking a worker's time.
type service struct {
	workers chan struct{}
	takes   atomic.Int64 // nanoseconds
	busy    atomic.Int64 // nanoseconds of work done
}

func newService(workers int, takes time.Duration) *service {
	s := &service{workers: make(chan struct{}, workers)}
	s.takes.Store(int64(takes))
	return s
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	Asked(r.Context())
	s.workers <- struct{}{}
	time.Sleep(time.Duration(s.takes.Load()))
	s.busy.Add(s.takes.Load())
	<-s.workers
}

// crowd asks at a steady rate for a while and counts who is answered.
func crowd(h http.Handler, rate int, during time.Duration, header string) (asked, answered int64, slowest time.Duration) {
	var all sync.WaitGroup
	var ok, longest atomic.Int64
	n := int(during.Seconds() * float64(rate))
	for range n {
		time.Sleep(time.Second / time.Duration(rate))
		all.Go(func() {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Who", header)
			w := httptest.NewRecorder()
			begin := time.Now()
			h.ServeHTTP(w, r)
			if w.Code == 200 {
				ok.Add(1)
				for took := int64(time.Since(begin)); ; {
					if old := longest.Load(); took <= old || longest.CompareAndSwap(old, took) {
						break
					}
				}
			}
		})
	}
	all.Wait()
	return int64(n), ok.Load(), time.Duration(longest.Load())
}

func callerOf(r *http.Request) Caller {
	switch r.Header.Get("Who") {
	case "heavy":
		return Caller{Heavy: true}
	case "visitor":
		return Caller{Priority: Visitor}
	case "signed-in":
		return Caller{Priority: SignedIn, Heavy: true}
	}
	return Caller{}
}

func shed(w http.ResponseWriter, _ *http.Request, _ Caller) { w.WriteHeader(503) }

func broken(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(400) }

// TestKnee floods a service of ten workers at ten times what it can do: it
// stays busy with useful work, the limit stays near the knee, and who has
// priority does not notice.
func TestKnee(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(10, 50*time.Millisecond) // 200 a second
		u := NewUpstream(0, 0)
		h := u.Handler(s, callerOf, shed, broken)
		if asked, ok, _ := crowd(h, 100, 20*time.Second, "stranger"); ok != asked {
			t.Errorf("without a flood %d of %d were answered", ok, asked)
		}
		begin, before := time.Now(), s.busy.Load()
		var all sync.WaitGroup
		all.Go(func() { crowd(h, 2000, 30*time.Second, "stranger") })
		time.Sleep(5 * time.Second)
		asked, ok, slowest := crowd(h, 50, 20*time.Second, "visitor")
		if ok*1000 < asked*999 || slowest > 150*time.Millisecond {
			t.Errorf("%d of %d visitors were answered, the slowest after %v", ok, asked, slowest)
		}
		l := u.Load()
		if l.Limit < 10 || l.Limit > 30 {
			t.Errorf("the limit is %d before ten workers", l.Limit)
		}
		all.Wait()
		if used := float64(s.busy.Load()-before) / float64(time.Since(begin)) / 10; used < 0.95 {
			t.Errorf("the service was busy for %.2f of the time", used)
		}
		if l := u.Load(); l.InFlight != 0 || l.Waiting != 0 || l.Shed["stranger"] == 0 || l.Shed["visitor"] > 1 {
			t.Errorf("at the end: %+v", l)
		}
	})
}

// TestOnset begins a flood, ten times what the service can do, before the limit
// has seen any load: those with priority stand in the service's queue for a
// moment only.
func TestOnset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := NewUpstream(0, 0)
		h := u.Handler(newService(4, 20*time.Millisecond), callerOf, shed, broken) // 200 a second
		crowd(h, 50, 5*time.Second, "visitor")
		begin := time.Now()
		var all sync.WaitGroup
		all.Go(func() { crowd(h, 2000, 3*time.Second, "stranger") })
		var late atomic.Int64 // nanoseconds after the beginning
		for i := range 150 {
			if i%10 == 0 { // they come ten at a time
				time.Sleep(200 * time.Millisecond)
			}
			all.Go(func() {
				came := time.Now()
				if _, ok, took := crowd(h, 1e6, time.Microsecond, "visitor"); ok != 1 {
					t.Errorf("a visitor who came after %v was not answered", came.Sub(begin))
				} else if took > 100*time.Millisecond { // ten take 60 ms by themselves
					late.Store(max(late.Load(), int64(came.Sub(begin))))
				}
			})
		}
		all.Wait()
		if d := time.Duration(late.Load()); d > 600*time.Millisecond {
			t.Errorf("who came %v after the beginning still waited; %+v", d, u.Load())
		}
	})
}

// TestSlowerService makes a service slower for good: that becomes normal.
func TestSlowerService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(20, 10*time.Millisecond)
		u := NewUpstream(0, 0)
		h := u.Handler(s, callerOf, shed, broken)
		crowd(h, 2500, 5*time.Second, "stranger")
		s.takes.Store(int64(100 * time.Millisecond))
		crowd(h, 400, 40*time.Second, "stranger")
		before := s.busy.Load()
		crowd(h, 400, 10*time.Second, "stranger")
		if used := float64(s.busy.Load()-before) / float64(10*time.Second) / 20; used < 0.8 {
			t.Errorf("the service was busy for %.2f of the time; %+v", used, u.Load())
		}
	})
}

// TestDisplaced fills the only place and the queue, and looks at who goes on.
func TestDisplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := NewUpstream(0, 1)
		hold := make(chan bool)
		order := make(chan string, 2*minQueue)
		h := u.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			order <- r.Header.Get("Name")
			<-hold
		}), callerOf, func(w http.ResponseWriter, r *http.Request, _ Caller) { order <- "shed " + r.Header.Get("Name") }, broken)
		ask := func(name, who string) {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Name", name)
			r.Header.Set("Who", who)
			go h.ServeHTTP(httptest.NewRecorder(), r)
			synctest.Wait()
		}
		ask("first", "stranger")
		ask("heavy", "heavy")
		for i := range minQueue {
			ask(fmt.Sprint(i+1), "stranger")
		}
		ask("visitor", "visitor")
		ask("signed-in", "signed-in")
		for range minQueue + 1 {
			hold <- true
			synctest.Wait()
		}
		close(order)
		var got []string
		for s := range order {
			got = append(got, s)
		}
		want := []string{"first", "shed heavy", "shed 1", "shed 2", "signed-in", "visitor"}
		for i := minQueue; i > 2; i-- {
			want = append(want, fmt.Sprint(i))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// TestWaiting ends in time, with the visitor's patience or with the visitor.
func TestWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := NewUpstream(0, 1)
		rank := func() int { return Caller{}.rank() }
		if !u.enter(t.Context(), rank) {
			t.Fatal("there is room")
		}
		begin := time.Now()
		if u.enter(t.Context(), rank) || time.Since(begin) != patience(1) {
			t.Errorf("waited for %v", time.Since(begin))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		begin = time.Now()
		if u.enter(ctx, rank) || time.Since(begin) != time.Millisecond {
			t.Errorf("waited for %v after the visitor left", time.Since(begin))
		}
		u.done(0)
		if !u.enter(t.Context(), rank) {
			t.Error("the place was not given back")
		}
	})
}

// TestStreamsGiveTheirPlaceBack holds an event stream open: it takes no place.
func TestStreamsGiveTheirPlaceBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := NewUpstream(0, 1)
		end := make(chan bool)
		h := u.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(200)
			<-end
		}), callerOf, shed, broken)
		go h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		synctest.Wait()
		if l := u.Load(); l.InFlight != 0 {
			t.Errorf("%+v", l)
		}
		close(end)
	})
}

// TestAwait: what of a body is here before a place is taken, and how it reads then.
func TestAwait(t *testing.T) {
	bad := errors.New("bad")
	of := func(n int, end error) io.Reader {
		return io.MultiReader(bytes.NewReader(make([]byte, n)), iotest.ErrReader(end))
	}
	for name, c := range map[string]struct {
		body   io.Reader
		length int64
		again  bool  // it can be read twice
		err    error // why the service is not asked
	}{
		"none":                      {http.NoBody, 0, false, nil},
		"unknown length":            {of(5, io.EOF), -1, false, nil},
		"small":                     {of(5, io.EOF), 5, true, nil},
		"small, a byte at a time":   {iotest.OneByteReader(of(5, io.EOF)), 5, true, nil},
		"small, end with last byte": {iotest.DataErrReader(of(5, io.EOF)), 5, true, nil},
		"small, bad":                {of(3, bad), 5, false, bad},
		"small, bad at its end":     {of(5, bad), 5, false, bad},
		"small, short":              {of(3, io.EOF), 5, false, io.ErrUnexpectedEOF},
		"small, missing":            {of(0, io.EOF), 5, false, io.ErrUnexpectedEOF},
		"small, long":               {of(6, io.EOF), 5, false, io.ErrUnexpectedEOF},
		"largest":                   {of(awaited, io.EOF), awaited, true, nil},
		"large":                     {of(awaited+1, io.EOF), awaited + 1, false, nil},
		"large, bad soon":           {of(5, bad), awaited + 1, false, bad},
		"large, bad late":           {of(awaited+1, bad), awaited + 2, false, nil},
		"large, short":              {of(5, io.EOF), awaited + 1, false, io.ErrUnexpectedEOF},
	} {
		r := httptest.NewRequest("POST", "/", c.body)
		r.ContentLength = c.length
		if err := await(r); err != c.err || (r.GetBody != nil) != c.again {
			t.Errorf("%s: %v, again %v", name, err, r.GetBody != nil)
		}
		if c.err != nil {
			continue
		}
		whole, err := io.ReadAll(r.Body)
		if want := max(c.length, 0); c.length > 0 && err == nil && int64(len(whole)) != want || err != nil && err != bad {
			t.Errorf("%s: %d bytes, %v", name, len(whole), err)
		}
		if !c.again {
			continue
		}
		body, err := r.GetBody()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := io.ReadAll(body); err != nil || !bytes.Equal(again, whole) {
			t.Errorf("%s: %d bytes the second time, %v", name, len(again), err)
		}
	}
}

// TestBrokenTakesNoPlace: a request whose body is bad is answered without the
// service.
func TestBrokenTakesNoPlace(t *testing.T) {
	u := NewUpstream(0, 1)
	h := u.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the service was asked") }), callerOf, shed, broken)
	r := httptest.NewRequest("POST", "/", iotest.ErrReader(errors.New("bad")))
	r.ContentLength = 5
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if l := u.Load(); w.Code != http.StatusBadRequest || l.InFlight != 0 {
		t.Errorf("%d, %+v", w.Code, l)
	}
}
