package gateway

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"pasban/internal/config"
)

// TestWire: header lines are looked at inside TLS too, on every request of a
// connection, and honest ones pass however they are cut.
func TestWire(t *testing.T) {
	upstream := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	g, p := newGateway(t, withTLS, siteOf(upstream, config.Route{Match: "/", SignIn: "none"}))
	addr := serve(t, g)
	conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: roots(t, g.o.Config.Data), ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	ask := func(raw string, step, want int) {
		t.Helper()
		for left := raw; left != ""; {
			n := min(step, len(left))
			io.WriteString(conn, left[:n])
			left = left[n:]
		}
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
		if res.StatusCode != want {
			t.Errorf("%q: answered %d, want %d", raw, res.StatusCode, want)
		}
	}
	post := "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\na\nb\n c\r\n\r\nde"
	ask(post, len(post), 200) // what is in a body is no header line
	ask(post, 1, 200)
	ask("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 7, 200)
	ask("POST / HTTP/1.1\r\nHost: localhost\r\ntransfer-encoding: chunked\r\nCONTENT-LENGTH: 3\r\n\r\n0\r\n\r\n", 5, 400)
	if facts := p.take(); len(facts) != 1 || facts[0].Body.Action != "malformed" || facts[0].Restricted.Reasons[0] != faultTwoLengths {
		t.Errorf("facts: %+v", facts)
	}
	if _, err := r.ReadByte(); err == nil {
		t.Error("the connection goes on, although where a request begins is not sure")
	}
}

// TestPipelined: requests that come before the one before them is answered are
// answered, wherever they are cut.
func TestPipelined(t *testing.T) {
	upstream := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) {})
	g, _ := newGateway(t, nil, siteOf(upstream, config.Route{Match: "/", SignIn: "none"}))
	addr := serve(t, g)
	one := "GET / HTTP/1.1\r\nHost: a.example\r\nX-A: b c\r\n\r\n"
	for cut := 1; cut < len(one); cut++ {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(conn)
		io.WriteString(conn, one+one+one[:cut])
		for i := range 3 {
			if i == 2 {
				io.WriteString(conn, one[cut:])
			}
			res, err := http.ReadResponse(r, nil)
			if err != nil || res.StatusCode != 200 {
				t.Fatalf("cut at %d, request %d: %v, %v", cut, i, res, err)
			}
			io.Copy(io.Discard, res.Body)
		}
		conn.Close()
	}
}

// TestMalformedStreams: what HTTP/1 would have taken for framing is refused in
// HTTP/2, and never reaches the service.
func TestMalformedStreams(t *testing.T) {
	service := newListener(t)
	g, _ := newGateway(t, withTLS, siteOf("http://"+service.Addr().String(), config.Route{Match: "/", SignIn: "none"}))
	addr := serve(t, g)
	good := []string{":method", "GET", ":scheme", "https", ":path", "/", ":authority", "localhost"}
	for _, c := range []struct {
		name   string
		fields []string
		status string // "" is a reset
	}{
		{"honest", good, "200"},
		{"transfer-encoding", append(good[:8:8], "transfer-encoding", "chunked"), "400"},
		{"connection", append(good[:8:8], "connection", "x-forwarded-for"), "400"},
		{"upgrade", append(good[:8:8], "upgrade", "h2c"), "400"},
		{"another host", append(good[:8:8], "host", "b.example"), "400"},
		{"the same host", append(good[:8:8], "host", "LOCALHOST"), "200"},
		{"two content types", append(good[:8:8], "content-type", "text/plain", "content-type", "text/html"), "400"},
		{"whole address", []string{":method", "GET", ":scheme", "https", ":path", "http://b.example/", ":authority", "localhost"}, "400"},
		{"line break in a value", append(good[:8:8], "x-a", "1\r\nx-b: 2"), ""},
		{"line break in a name", append(good[:8:8], "x-a\r\nx-b", "1"), ""},
		{"upper case", append(good[:8:8], "X-A", "1"), ""},
		{"second path", append(good[:8:8], ":path", "/b"), ""},
		{"line break in the path", []string{":method", "GET", ":scheme", "https", ":path", "/ HTTP/1.1\r\nx: 1", ":authority", "localhost"}, ""},
		{"tunnel", []string{":method", "CONNECT", ":authority", "b.example:443"}, "400"},
	} {
		if got := stream(t, g, addr, c.fields); got != c.status {
			t.Errorf("%s: answered %q, want %q", c.name, got, c.status)
		}
		if sent, _, err := service.take(); err != nil || c.status != "200" && sent != "" || strings.Contains(sent, "chunked") {
			t.Errorf("%s: the service got %q, %v", c.name, sent, err)
		}
	}
}

// stream sends one HTTP/2 request of the given header fields and returns the
// answer's status, "" if the stream was reset.
func stream(t *testing.T, g *Gateway, addr string, fields []string) string {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: roots(t, g.o.Config.Data), ServerName: "localhost", NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, http2.ClientPreface)
	fr := http2.NewFramer(conn, conn)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	fr.WriteSettings()
	var block strings.Builder
	enc := hpack.NewEncoder(&block)
	for i := 0; i < len(fields); i += 2 {
		enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(block.String()), EndStream: true, EndHeaders: true})
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return ""
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			return f.PseudoValue("status")
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return ""
		}
	}
}

// TestEarlyByte: the first byte of a request may come while the one before it
// is answered.
func TestEarlyByte(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	w := &wire{Conn: server}
	read := func(raw string, n int) {
		t.Helper()
		go io.WriteString(client, raw)
		if _, err := io.ReadFull(w, make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	first := "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
	read(first, len(first))
	second := "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"
	read(second[:1], 1)
	w.again()
	read(second[1:], len(second)-1)
	if w.head.fault != faultTwoLengths || !bytes.HasPrefix(w.head.first, []byte("POST ")) {
		t.Errorf("%q: fault %q", w.head.first, w.head.fault)
	}
}
