package gateway

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"pasban/internal/config"
)

// h2Attacks are floods of HTTP/2 frames; each writes its i-th frames.
func h2Attacks() map[string]func(f *http2.Framer, block []byte, i int) error {
	return map[string]func(f *http2.Framer, block []byte, i int) error{
		"rapid reset": func(f *http2.Framer, block []byte, i int) error {
			id := uint32(2*i + 1)
			if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndStream: true, EndHeaders: true}); err != nil {
				return err
			}
			return f.WriteRSTStream(id, http2.ErrCodeCancel)
		},
		"settings": func(f *http2.Framer, _ []byte, _ int) error { return f.WriteSettings() },
		"ping":     func(f *http2.Framer, _ []byte, _ int) error { return f.WritePing(false, [8]byte{}) },
	}
}

// h2Attack floods one connection from the address ip until it is closed, and
// returns how many frames (or pairs of them) it could send.
func h2Attack(ip, to string, trust *tls.Config, frames func(*http2.Framer, []byte, int) error) (int, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: 5 * time.Second}
	c, err := d.Dial("tcp", to)
	if err != nil {
		return 0, err
	}
	return h2AttackOver(c, trust, frames)
}

// h2AttackOver is h2Attack over a connection that is there already.
func h2AttackOver(raw net.Conn, trust *tls.Config, frames func(*http2.Framer, []byte, int) error) (int, error) {
	defer raw.Close()
	conf := trust.Clone()
	conf.NextProtos = []string{"h2"}
	c := tls.Client(raw, conf)
	if err := c.Handshake(); err != nil {
		return 0, err
	}
	go io.Copy(io.Discard, c) // its client reads: only what it sends is abuse
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "localhost"}, {":path", "/"}} {
		enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	var out bytes.Buffer
	out.WriteString(http2.ClientPreface)
	f := http2.NewFramer(&out, nil)
	f.WriteSettings()
	for i := 0; ; i++ {
		if err := frames(f, block.Bytes(), i); err != nil {
			return i, err
		}
		if out.Len() > 8<<10 {
			if _, err := out.WriteTo(c); err != nil {
				return i, nil
			}
		}
	}
}

func TestH2Floods(t *testing.T) {
	upstream := upstreamOf(t, fixedPage)
	g, p := newGateway(t, withTLS, siteOf(upstream, config.Route{Match: "GET /", SignIn: "none"}))
	addr := serve(t, g)
	trust := &tls.Config{RootCAs: roots(t, g.o.Config.Data), ServerName: "localhost"}
	good := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: trust.Clone()}}
	defer good.CloseIdleConnections()
	n := 0
	for name, frames := range h2Attacks() {
		n++
		ip := fmt.Sprintf("127.1.9.%d", n)
		refused := make(chan string, 1)
		go func() { // comes back until it is not let in
			for conns := 1; ; conns++ {
				if sent, err := h2Attack(ip, addr, trust, frames); err != nil {
					refused <- fmt.Sprint(conns, " connections, the last: ", sent, err)
					return
				}
			}
		}()
		for range 20 {
			res, err := good.Get("https://" + addr + "/")
			if err != nil {
				t.Fatalf("%s: a good client failed: %v", name, err)
			}
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		select {
		case s := <-refused:
			t.Logf("%s: refused after %s", name, s)
		case <-time.After(30 * time.Second):
			t.Fatalf("%s: the attacker is still there", name)
		}
		waitFor(t, func() bool {
			for _, f := range p.take() {
				if f.Restricted.More["client"] == ip+"/32" {
					return true
				}
			}
			return false
		})
	}
}

// TestH2Attacker is no test: BenchmarkRapidReset runs it as a process of its own.
func TestH2Attacker(t *testing.T) {
	to := os.Getenv("H2_ATTACK")
	if to == "" {
		t.Skip("the benchmark's attacker")
	}
	pem, err := os.ReadFile(os.Getenv("H2_ROOT"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	trust := &tls.Config{RootCAs: pool, ServerName: "localhost"}
	frames := h2Attacks()[os.Getenv("H2_KIND")]
	streams, conns := 0, 0
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); conns++ {
		n, _ := h2Attack(os.Getenv("H2_FROM"), to, trust, frames)
		streams += n
	}
	fmt.Printf("ATTACK %d frames over %d connections\n", streams, conns)
}

// BenchmarkH2Floods has two clients flood the gateway for ten seconds each
// way, and reports the cores that it costs the gateway's process, the good
// client's requests included, and their slowest.
func BenchmarkH2Floods(b *testing.B) {
	upstream := upstreamOf(b, fixedPage)
	for name := range h2Attacks() {
		b.Run(strings.ReplaceAll(name, " ", "-"), func(b *testing.B) {
			g, _ := newGateway(b, withTLS, siteOf(upstream, config.Route{Match: "GET /", SignIn: "none"}))
			addr := serve(b, g)
			trust := &tls.Config{RootCAs: roots(b, g.o.Config.Data), ServerName: "localhost"}
			good := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: trust.Clone()}}
			defer good.CloseIdleConnections()
			for b.Loop() {
				h2FloodOnce(b, name, addr, g.o.Config.Data, good)
			}
		})
	}
}

func h2FloodOnce(b *testing.B, kind, addr, data string, good *http.Client) {
	var attackers []*exec.Cmd
	var outs []*bytes.Buffer
	for i := range 2 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestH2Attacker$", "-test.v")
		cmd.Env = append(os.Environ(), "H2_ATTACK="+addr, "H2_KIND="+kind, fmt.Sprintf("H2_FROM=127.1.9.%d", 101+i),
			"H2_ROOT="+filepath.Join(data, "ca", "root.pem"))
		out := &bytes.Buffer{}
		cmd.Stdout = out
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		attackers, outs = append(attackers, cmd), append(outs, out)
	}
	begin, before := time.Now(), cpu()
	var slowest time.Duration
	failed, n := 0, 0
	for time.Since(begin) < 10*time.Second {
		one := time.Now()
		res, err := good.Get("https://" + addr + "/")
		if err != nil {
			failed++
			continue
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		n++
		slowest = max(slowest, time.Since(one))
		time.Sleep(100 * time.Millisecond)
	}
	b.ReportMetric((cpu()-before).Seconds()/time.Since(begin).Seconds(), "cores")
	b.ReportMetric(float64(failed), "good-failed")
	b.ReportMetric(float64(slowest.Milliseconds()), "good-slowest-ms")
	for i, cmd := range attackers {
		cmd.Wait()
		for line := range strings.Lines(outs[i].String()) {
			if strings.HasPrefix(line, "ATTACK") {
				b.Log(strings.TrimSpace(line))
			}
		}
	}
}
