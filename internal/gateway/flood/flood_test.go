package flood

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// reports gathers what a limiter tells.
type reports struct {
	mu  sync.Mutex
	all []Report
}

func (r *reports) add(rep Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, rep)
}

func (r *reports) take() []Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.all
	r.all = nil
	return all
}

func TestClient(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7": "192.0.2.7/32", "::ffff:192.0.2.7": "192.0.2.7/32",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64", "::1": "::/64",
	} {
		if got := Client(netip.MustParseAddr(in)).String(); got != want {
			t.Errorf("Client(%s) = %s, want %s", in, got, want)
		}
	}
	if Client(netip.Addr{}).IsValid() {
		t.Error("an unknown address has a prefix")
	}
}

func TestAllow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Limits{Rate: 2, Burst: 3}, func(Report) {})
		a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
		for i := range 3 {
			if _, ok := l.Allow(a, ""); !ok {
				t.Fatalf("request %d of the burst was refused", i)
			}
		}
		wait, ok := l.Allow(a, "")
		if ok || wait != 500*time.Millisecond {
			t.Errorf("beyond the burst: %v, %v", wait, ok)
		}
		if _, ok := l.Allow(b, ""); !ok {
			t.Error("another client pays for the first")
		}
		if _, ok := l.Allow(netip.MustParseAddr("2001:db8::ffff"), ""); !ok {
			t.Error("the same /64 has no burst left")
		}
		time.Sleep(wait)
		if _, ok := l.Allow(a, ""); !ok {
			t.Error("the bucket did not fill")
		}
		l.Set(Limits{Rate: 1000, Burst: 1000})
		time.Sleep(time.Second)
		for range 500 {
			if _, ok := l.Allow(a, ""); !ok {
				t.Fatal("new limits do not hold for clients that are known")
			}
		}
	})
}

func TestClientsAreBounded(t *testing.T) {
	l := New(Limits{Clients: 100}, func(Report) {})
	for i := range 10000 {
		l.Allow(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), "")
	}
	if n := l.buckets.lru.Len(); n != 100 {
		t.Errorf("%d clients are remembered, want 100", n)
	}
}

func TestReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got reports
		l := New(Limits{Rate: 0.001, Burst: 1}, got.add)
		answers := 0
		h := l.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { answers++ }), nil,
			func(w http.ResponseWriter, r *http.Request, ref Refusal) {
				fmt.Fprint(w, ref.ID)
				if ref.RetryAfter < time.Second || ref.RetryAfter%time.Second != 0 {
					t.Errorf("try again after %v", ref.RetryAfter)
				}
			})
		ask := func(ip string) string {
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = ip + ":1234"
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w.Body.String()
		}
		ask("192.0.2.1")
		id := ask("192.0.2.1")
		if rep := got.take(); len(rep) != 1 || !rep[0].First || rep[0].ID != id || rep[0].Count != 1 || rep[0].What != "requests" {
			t.Fatalf("the beginning of a flood: %+v", rep)
		}
		for range 1000 {
			if ask("192.0.2.1") != id {
				t.Fatal("one flood, two incidents")
			}
		}
		if rep := got.take(); len(rep) != 0 {
			t.Fatalf("the flood reached the journal: %d reports", len(rep))
		}
		time.Sleep(Window + time.Second)
		synctest.Wait()
		if rep := got.take(); len(rep) != 1 || rep[0].First || rep[0].Count != 1000 || rep[0].Client.String() != "192.0.2.1/32" {
			t.Fatalf("the flood's window: %+v", rep)
		}
		time.Sleep(3 * Window) // it is over
		synctest.Wait()
		if rep := got.take(); len(rep) != 0 || len(l.windows) != 0 {
			t.Fatalf("after the flood: %+v, %d windows", rep, len(l.windows))
		}
		// Many clients at once: one report speaks for those beyond maxReports.
		for i := range 1000 {
			ip := fmt.Sprintf("198.%d.%d.1", i/250, i%250) // each alone in its /24
			ask(ip)
			ask(ip)
		}
		rep := got.take()
		if len(rep) != maxReports+1 || rep[maxReports].Client.IsValid() {
			t.Fatalf("%d reports of 1000 clients; the last: %+v", len(rep), rep[len(rep)-1])
		}
		l.Close()
		rep = got.take()
		if len(rep) != 1 || rep[0].Client.IsValid() || rep[0].Count != 1000-maxReports-1 {
			t.Fatalf("at the end: %+v", rep)
		}
		if answers != 1001 {
			t.Errorf("%d requests got through, want 1001", answers)
		}
	})
}

func TestConnections(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan Report, 10)
	l := New(Limits{Conns: 10, ConnsPerClient: 2}, func(r Report) { got <- r })
	defer l.Close()
	ln := l.Listener(inner)
	defer ln.Close()
	accepted := make(chan net.Conn)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- c
		}
	}()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	dial()
	first := <-accepted
	dial()
	<-accepted
	third := dial()
	if _, err := third.Read(make([]byte, 1)); err != io.EOF && err == nil {
		t.Errorf("the third connection was not closed: %v", err)
	}
	if rep := <-got; !rep.First || rep.What != "connections" || rep.Client.String() != "127.0.0.1/32" {
		t.Errorf("report: %+v", rep)
	}
	first.Close()
	first.Close() // twice gives back once
	dial()
	<-accepted
	if c, err := dial().Read(make([]byte, 1)); err == nil {
		t.Errorf("the place was given back twice: %d", c)
	}
}

// TestPace cuts off a reader that does not read and a sender that does not
// send, and lets a stream live that is read slowly.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		written := make(chan error, 1)
		h := Pace(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/stream":
				for range 100 {
					time.Sleep(10 * time.Second)
					io.WriteString(w, "data: 1\n\n")
					if err := http.NewResponseController(w).Flush(); err != nil {
						written <- err
						return
					}
				}
				written <- nil
			case "/big":
				for {
					if _, err := w.Write(make([]byte, 32<<10)); err != nil {
						written <- err
						return
					}
				}
			case "/upload":
				_, err := io.Copy(io.Discard, r.Body)
				written <- err
			}
		}), 5*time.Second, time.Minute)
		ln := newPipes()
		srv := &http.Server{Handler: h}
		go srv.Serve(ln)
		defer srv.Close()

		c := ln.dial()
		io.WriteString(c, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
		go io.Copy(io.Discard, c)
		if err := <-written; err != nil {
			t.Errorf("a stream that is read was cut off: %v", err)
		}
		c = ln.dial()
		begin := time.Now()
		io.WriteString(c, "GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
		if err := <-written; err == nil || time.Since(begin) > 6*time.Second {
			t.Errorf("who does not read held the connection for %v: %v", time.Since(begin), err)
		}
		c = ln.dial()
		begin = time.Now()
		io.WriteString(c, "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
		var sender sync.WaitGroup
		sender.Go(func() {
			for range 1000 {
				time.Sleep(time.Second)
				if _, err := io.WriteString(c, "a"); err != nil {
					return
				}
			}
		})
		if err := <-written; err == nil || time.Since(begin) > 61*time.Second {
			t.Errorf("a trickling upload took %v: %v", time.Since(begin), err)
		}
		c.Close()
		sender.Wait()
	})
}

// pipes is a listener of in-memory connections.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }
