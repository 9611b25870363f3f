package flood

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"
)

func TestLevels(t *testing.T) {
	for in, want := range map[string][]string{
		"192.0.2.7":           {"192.0.2.7/32", "192.0.2.0/24"},
		"::ffff:192.0.2.7":    {"192.0.2.7/32", "192.0.2.0/24"},
		"2001:db8:1:2f2:3::6": {"2001:db8:1:2f2::/64", "2001:db8:1:200::/56", "2001:db8:1::/48"},
		"fe80::1%eth0":        {"fe80::/64", "fe80::/56", "fe80::/48"},
	} {
		got := levels(netip.MustParseAddr(in))
		if len(got) != len(want) {
			t.Fatalf("%s is in %v", in, got)
		}
		for i := range want {
			if got[i].prefix.String() != want[i] {
				t.Errorf("%s is in %v, want %s", in, got[i].prefix, want[i])
			}
		}
	}
	if ls := levels(netip.Addr{}); len(ls) != 1 || ls[0].prefix.IsValid() {
		t.Errorf("an unknown address is in %v", ls)
	}
}

// TestParents floods from addresses of one block, each of which is polite.
func TestParents(t *testing.T) {
	for name, addr := range map[string]func(i int) netip.Addr{
		"/24": func(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}) },
		"/48": func(i int) netip.Addr {
			return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 1, byte(i), byte(i)})
		},
	} {
		l := New(Limits{Rate: 0.001, Burst: 1}, func(Report) {})
		through := 0
		for i := range 250 {
			if _, ok := l.Allow(addr(i), ""); ok {
				through++
			}
		}
		if through < 16 || through > 32 {
			t.Errorf("%s: %d of 250 addresses got through", name, through)
		}
		if _, ok := l.Allow(netip.MustParseAddr("203.0.113.1"), ""); !ok {
			t.Errorf("%s: others pay for it", name)
		}
	}
}

// server runs handlers behind a limiter's listener.
func server(t *testing.T, l *Limiter, h http.Handler) string {
	return serve(t, l, h).Addr().String()
}

func serve(t *testing.T, l *Limiter, h http.Handler) *listener {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h, ConnContext: ConnContext}
	ln := l.Listener(inner).(*listener)
	go srv.Serve(ln)
	t.Cleanup(func() {
		srv.Close()
		l.Close()
	})
	return ln
}

// dialFrom connects from one of the loopback network's addresses.
func dialFrom(t *testing.T, ip, to string) net.Conn {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	c, err := d.DialContext(t.Context(), "tcp", to)
	if err != nil {
		t.Skipf("no connection from %s: %v", ip, err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// answers reports whether a request over the connection is answered.
func answers(c net.Conn) bool {
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	_, err := c.Read(make([]byte, 1))
	return err == nil
}

func TestConnectionsOfABlock(t *testing.T) {
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	l := New(Limits{Conns: 6, ConnsPerClient: 2}, func(Report) {})
	to := server(t, l, ok)
	for i, want := range []bool{true, true, true, false} { // half of all for a /24
		if got := answers(dialFrom(t, "127.1.1."+string(rune('1'+i)), to)); got != want {
			t.Errorf("connection %d of the block: answered %v", i, got)
		}
	}
	if !answers(dialFrom(t, "127.1.2.1", to)) {
		t.Error("another block pays for it")
	}
}

func TestHandshakes(t *testing.T) {
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	got := make(chan Report, 10)
	l := New(Limits{DialRate: 0.001, DialBurst: 3}, func(r Report) { got <- r })
	to := server(t, l, ok)
	for i, want := range []bool{true, true, true, false} {
		c := dialFrom(t, "127.1.3.1", to)
		if answers(c) != want {
			t.Errorf("connection %d in a row: want %v", i, want)
		}
		c.Close()
	}
	if rep := <-got; rep.What != "handshakes" || rep.Client.String() != "127.1.3.1/32" {
		t.Errorf("report: %+v", rep)
	}
	if !answers(dialFrom(t, "127.1.3.2", to)) {
		t.Error("a neighbour pays for it")
	}
}

// TestSlowReader asks for more than the kernel holds and reads nothing. The
// sweep is called with the times at which it would run, and not by itself.
func TestSlowReader(t *testing.T) {
	l := New(Limits{Conns: 4, ConnsPerClient: 4}, func(Report) {})
	written := make(chan bool)
	ln := serve(t, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			return
		}
		w.Write(make([]byte, 64<<20))
		close(written)
	}))
	ln.stop()
	to := ln.Addr().String()
	quiet := dialFrom(t, "127.1.4.2", to) // reads what it gets; asks for no more
	io.WriteString(quiet, "GET /quiet HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := quiet.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	slow := dialFrom(t, "127.1.4.1", to)
	slow.(*net.TCPConn).SetReadBuffer(4096)
	io.WriteString(slow, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	var out []*conn
	for now := time.Now(); len(out) == 0; now = now.Add(sweepEvery) { // the kernel takes a little at first
		out = ln.stalled(now)
		time.Sleep(time.Millisecond) // until the server has written
		if now.After(time.Now().Add(5 * time.Hour)) {
			t.Fatal("nobody is stalled")
		}
	}
	if len(out) != 1 || out[0].addr.String() != "127.1.4.1" {
		t.Fatalf("stalled: %d, %s", len(out), out[0].addr)
	}
	out[0].abuse("slow reading")
	<-written // the handler is free
	if l.Connections() != 1 {
		t.Errorf("%d connections are open", l.Connections())
	}
}
