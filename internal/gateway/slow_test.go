package gateway

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"pasban/internal/config"
)

// BenchmarkSlowClients has 2,000 clients of as many addresses send a header, or
// a body, byte by byte, or read an answer so. It reports after what time all of
// them were closed, from the last one's beginning, and what became of a good
// client meanwhile.
func BenchmarkSlowClients(b *testing.B) {
	page := make([]byte, 128<<10)
	upstream := upstreamOf(b, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/big" {
			w.Write(page)
			return
		}
		fixedPage(w, r)
	})
	for name, c := range map[string]struct {
		first string
		read  bool
	}{
		"header": {first: "GET / HTTP/1.1\r\nHost: land.example\r\n"},
		"body":   {first: "POST /apply HTTP/1.1\r\nHost: land.example\r\nContent-Type: text/plain\r\nContent-Length: 8192\r\n\r\n"},
		"read":   {first: "GET /big HTTP/1.1\r\nHost: land.example\r\n\r\n", read: true},
	} {
		b.Run(name, func(b *testing.B) {
			g, _ := newGateway(b, func(c *config.Config) { c.Limits.Connections = 4096 }, siteOf(upstream, config.Route{Match: "/", SignIn: "none"}))
			addr := serve(b, g)
			for b.Loop() {
				slowOnce(b, g, addr, c.first, c.read)
			}
		})
	}
}

func slowOnce(b *testing.B, g *Gateway, addr, first string, read bool) {
	const clients, ramp = 2000, 4 * time.Second
	begin := time.Now()
	var all sync.WaitGroup
	over := make(chan bool)
	for i := range clients {
		all.Go(func() {
			time.Sleep(time.Duration(i) * ramp / clients)
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(20+i/200), byte(1+i%200))}}
			c, err := d.Dial("tcp", addr)
			if err != nil {
				b.Error(err)
				return
			}
			defer c.Close()
			slowClient(c, first, read, over)
		})
	}
	good := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
	defer good.CloseIdleConnections()
	failed, n, most, slowest := 0, 0, 0, time.Duration(0)
	for time.Since(begin) < time.Minute {
		one := time.Now()
		res, err := good.Get("http://" + addr + "/")
		if n++; err != nil {
			failed++
			b.Log(err)
		} else {
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if res.StatusCode != http.StatusOK {
				failed++
				b.Log(res.Status)
			}
			slowest = max(slowest, time.Since(one))
		}
		open := g.limiter.Connections()
		if most = max(most, open); time.Since(begin) > ramp && open <= 1 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	b.ReportMetric((time.Since(begin) - ramp).Seconds(), "all-closed-s")
	close(over)
	all.Wait()
	b.ReportMetric(float64(most), "most-open")
	b.ReportMetric(float64(failed), "good-failed")
	b.ReportMetric(float64(n), "good-asked")
	b.ReportMetric(float64(slowest.Milliseconds()), "good-slowest-ms")
}

// slowClient trickles until it is closed, or all are.
func slowClient(c net.Conn, first string, read bool, over <-chan bool) {
	if read {
		c.(*net.TCPConn).SetReadBuffer(4096)
	}
	io.WriteString(c, first)
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for i := 0; ; i++ {
		select {
		case <-over:
			return
		case <-t.C:
		}
		var err error
		if read {
			_, err = c.Read(make([]byte, 32))
		} else {
			_, err = fmt.Fprintf(c, "X-%d: a\r\n", i)
		}
		if err != nil {
			return
		}
	}
}
