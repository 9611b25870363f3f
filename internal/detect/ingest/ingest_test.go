package ingest_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/detect"
	"pasban/internal/detect/ingest"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const token = "0123456789abcdef0123456789abcdef"

// certificate makes a certificate for this machine and returns its files.
func certificate(t *testing.T) (cert, key string, roots *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, form, form, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := errors.Join(os.WriteFile(cert, certPEM, 0o600), os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600)); err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	return cert, key, roots
}

// matcher is detection, for the test.
type matcher func(pasban.Event) []detect.Match

func (m matcher) Match(ev pasban.Event) []detect.Match { return m(ev) }

// rig is a receiver with every kind of listener.
type rig struct {
	*ingest.Receiver
	roots  *x509.CertPool
	events chan pasban.Event
	stop   func()
}

func start(t *testing.T, dir string, spool int64) *rig {
	t.Helper()
	cert, key, roots := certificate(t)
	conf := config.Logs{Spool: spool, Sources: []config.LogSource{
		{Name: "udp", Listen: "udp://127.0.0.1:0"},
		{Name: "tcp", Listen: "tcp://127.0.0.1:0"},
		{Name: "tls", Listen: "tls://127.0.0.1:0", Cert: cert, Key: key},
		{Name: "https", Listen: "https://127.0.0.1:0", Cert: cert, Key: key, Token: token},
	}}
	r, err := ingest.New(dir, conf, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	serve, err := r.Listen(ctx)
	if err != nil {
		t.Fatal(err)
	}
	g := &rig{Receiver: r, roots: roots, events: make(chan pasban.Event, 10_000)}
	var wg sync.WaitGroup
	wg.Go(func() { serve(ctx) })
	wg.Go(func() {
		r.Run(ctx, matcher(func(ev pasban.Event) []detect.Match { g.events <- ev; return nil }), nil)
	})
	g.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(g.stop)
	return g
}

// wait returns the next event.
func (g *rig) wait(t *testing.T) pasban.Event {
	t.Helper()
	select {
	case ev := <-g.events:
		return ev
	case <-time.After(20 * time.Second):
		t.Fatalf("no event came; %+v", g.Figures())
		return nil
	}
}

func (g *rig) figures(name string) ingest.Figures {
	for _, f := range g.Figures() {
		if f.Source == name {
			return f
		}
	}
	return ingest.Figures{}
}

func send(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

const message = "<86>1 2026-11-28T07:05:09Z web1 sshd 77 - - Failed password for root"

func TestSyslog(t *testing.T) {
	g := start(t, t.TempDir(), 1<<20)
	udp, err := net.Dial("udp", g.Addr("udp").String())
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	tcp, err := net.Dial("tcp", g.Addr("tcp").String())
	if err != nil {
		t.Fatal(err)
	}
	secure, err := tls.Dial("tcp", g.Addr("tls").String(), &tls.Config{RootCAs: g.roots})
	if err != nil {
		t.Fatal(err)
	}
	defer secure.Close()
	seen := map[any]bool{}
	for _, tt := range []struct {
		name string
		send func()
		want []string
	}{
		{"datagram", func() { send(t, udp, message) }, []string{"Failed password for root"}},
		{"datagram of two lines", func() { send(t, udp, "<13>Nov 28 07:05:09 h p: a\nb\n") }, []string{"a b"}},
		{"lines", func() { send(t, tcp, message+"1\n"+message+"2\n") }, []string{"Failed password for root1", "Failed password for root2"}},
		{"with lengths", func() { send(t, secure, fmt.Sprintf("%d %s%d %s", len(message), message, len(message)+1, message+"x")) }, []string{"Failed password for root", "Failed password for rootx"}},
		{"not closed by a newline", func() { send(t, tcp, message+"3"); tcp.Close() }, []string{"Failed password for root3"}},
	} {
		tt.send()
		for _, want := range tt.want {
			ev := g.wait(t)
			if ev["message"] != want {
				t.Errorf("%s: message %q, want %q", tt.name, ev["message"], want)
			}
			if seq := ev["Seq"]; seen[seq] || seq.(uint64) < ingest.Base {
				t.Errorf("%s: sequence number %v", tt.name, seq)
			}
			seen[ev["Seq"]] = true
			if id := ev["metadata"].(map[string]any)["uid"].(string); !strings.HasPrefix(id, ingest.IDPrefix) || detect.Time(ev).IsZero() {
				t.Errorf("%s: id %q at %v", tt.name, id, detect.Time(ev))
			}
		}
	}
	bad, err := net.Dial("tcp", g.Addr("tls").String())
	if err != nil {
		t.Fatal(err)
	}
	send(t, bad, message+"\n")
	io.Copy(io.Discard, bad)
	bad.Close()
	if f := g.figures("tls"); f.Refused != 1 || len(f.Samples) != 1 || f.Events != 2 || time.Since(f.Last) > time.Hour {
		t.Errorf("who speaks no TLS is not counted: %+v", f)
	}
}

// post sends a request and returns the answer's status.
func (g *rig) post(t *testing.T, path, contentType, auth string, body []byte, packed bool) int {
	t.Helper()
	req, err := http.NewRequest("POST", "https://"+g.Addr("https").String()+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	if auth != "" {
		req.Header.Set("Authorization", "Bearer "+auth)
	}
	if packed {
		req.Header.Set("Content-Encoding", "gzip")
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: g.roots}, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

func pack(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	zw := gzip.NewWriter(&out)
	if _, err := zw.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func export() plogotlp.ExportRequest {
	in := plog.NewLogs()
	rl := in.ResourceLogs().AppendEmpty()
	rl.Resource().Attributes().PutStr("host.name", "db1")
	records := rl.ScopeLogs().AppendEmpty().LogRecords()
	rec := records.AppendEmpty()
	rec.Body().SetStr("something happened")
	rec.Attributes().PutStr("user", "clerk")
	rec.SetSeverityText("WARN")
	rec.SetTimestamp(1764300000_500000000)
	body := records.AppendEmpty().Body().SetEmptyMap()
	body.PutStr("Channel", "Security")
	body.PutInt("EventID", 4688)
	return plogotlp.NewExportRequestFromLogs(in)
}

func TestHTTP(t *testing.T) {
	g := start(t, t.TempDir(), 64<<20)
	for _, tt := range []struct {
		name   string
		auth   string
		body   []byte
		packed bool
		status int
		events int
	}{
		{"objects", token, []byte("{\"n\":1}\n{\"n\":2}\n"), false, 200, 2},
		{"a list", token, []byte(`[{"n":1},{"n":2},{"n":3}]`), false, 200, 3},
		{"packed", token, pack(t, []byte("{\"n\":1}\n")), true, 200, 1},
		{"no token", "", []byte("{\"n\":1}\n"), false, 401, 0},
		{"another token", "x" + token, []byte("{\"n\":1}\n"), false, 401, 0},
		{"not packed", token, []byte("{\"n\":1}\n"), true, 400, 0},
		{"too large when unpacked", token, pack(t, make([]byte, 17<<20)), true, 413, 0},
		{"packed twice is not unpacked", token, pack(t, pack(t, []byte("{\"n\":1}\n"))), true, 200, 0},
		{"nothing", token, nil, false, 200, 0},
		{"who passes for a part of Pasban", token, []byte(`{"n":1,"logsource":{"product":"pasban","service":"ledger"}}`), false, 200, 1},
		{"a name of the spool's own", token, []byte(`{"n":1,"Seq":7,"metadata":{"uid":"mine"}}`), false, 200, 1},
	} {
		if got := g.post(t, "/", "application/x-ndjson", tt.auth, tt.body, tt.packed); got != tt.status {
			t.Errorf("%s: status %d, want %d", tt.name, got, tt.status)
		}
		for range tt.events {
			if ev := g.wait(t); ev["Seq"].(uint64) < ingest.Base || ev[detect.LogsourceKey] != nil {
				t.Errorf("%s: %v", tt.name, ev)
			}
		}
	}
	if got := g.post(t, "/other", "application/json", token, nil, false); got != 404 {
		t.Errorf("another path: %d", got)
	}
	if f := g.figures("https"); f.Refused != 5 || f.Events != 8 {
		t.Errorf("figures %+v", f)
	}
}

func TestOTLP(t *testing.T) {
	g := start(t, t.TempDir(), 64<<20)
	check := func(name string) {
		t.Helper()
		ev := g.wait(t)
		if ev["message"] != "something happened" || ev["user"] != "clerk" || ev["severity"] != "WARN" || detect.Time(ev).UnixMilli() != 1764300000500 || fmt.Sprint(ev["resource"]) != "map[host.name:db1]" {
			t.Errorf("%s: %v", name, ev)
		}
		want := []detect.Logsource{{Product: "windows", Category: "process_creation", Service: "security"}, {Product: "windows", Service: "security"}}
		if ev := g.wait(t); !reflect.DeepEqual(ev[detect.LogsourceKey], want) {
			t.Errorf("%s: %v", name, ev)
		}
	}
	proto, err := export().MarshalProto()
	if err != nil {
		t.Fatal(err)
	}
	text, err := export().MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if got := g.post(t, "/v1/logs", "application/x-protobuf", token, proto, false); got != 200 {
		t.Errorf("protobuf: %d", got)
	}
	check("protobuf")
	if got := g.post(t, "/v1/logs", "application/json", token, pack(t, text), true); got != 200 {
		t.Errorf("JSON: %d", got)
	}
	check("JSON")
	if got := g.post(t, "/v1/logs", "application/x-protobuf", token, []byte("\xff\xff"), false); got != 400 {
		t.Errorf("noise: %d", got)
	}
	if got := g.post(t, "/v1/logs", "application/x-protobuf", "", proto, false); got != 401 {
		t.Errorf("no token: %d", got)
	}

	conn, err := grpc.NewClient(g.Addr("https").String(), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: g.roots})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := plogotlp.NewGRPCClient(conn)
	if _, err := client.Export(t.Context(), export()); status.Code(err) != codes.Unauthenticated {
		t.Errorf("gRPC without token: %v", err)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
	if _, err := client.Export(ctx, export()); err != nil {
		t.Fatal(err)
	}
	check("gRPC")
}

// TestFullSpool: while nothing is taken out, senders are told or made to wait,
// and what they were told is taken is there later.
func TestFullSpool(t *testing.T) {
	cert, key, roots := certificate(t)
	dir := t.TempDir()
	conf := config.Logs{Spool: 1 << 20, Sources: []config.LogSource{
		{Name: "https", Listen: "https://127.0.0.1:0", Cert: cert, Key: key, Token: token},
		{Name: "tcp", Listen: "tcp://127.0.0.1:0"},
	}}
	r, err := ingest.New(dir, conf, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	serve, err := r.Listen(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { serve(ctx) })
	g := &rig{Receiver: r, roots: roots}
	body := []byte(`{"x":"` + strings.Repeat("x", 100<<10) + `"}`)
	taken := 0
	for range 20 {
		switch got := g.post(t, "/", "application/json", token, body, false); got {
		case 200:
			taken++
		case 503:
		default:
			t.Fatalf("status %d", got)
		}
	}
	if taken != 10 || r.Healthy() == nil || g.figures("https").Dropped != 10 {
		t.Errorf("%d of 20 were taken; %v; %+v", taken, r.Healthy(), g.figures("https"))
	}
	conn, err := net.Dial("tcp", r.Addr("tcp").String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	big := strings.Repeat("y", 100<<10)
	send(t, conn, message+big+"\n")
	run, stopRun := context.WithCancel(context.Background())
	events := make(chan pasban.Event, 100)
	fails := 2
	wg.Go(func() {
		r.Run(run, matcher(func(ev pasban.Event) []detect.Match { return []detect.Match{{Event: ev}} }), func(_ context.Context, matches []detect.Match) error {
			if fails--; fails >= 0 {
				return errors.New("not now")
			}
			for _, m := range matches {
				events <- m.Event
			}
			return nil
		})
	})
	for i := range taken + 1 {
		select {
		case ev := <-events:
			if i == taken && ev["message"] != "Failed password for root"+big {
				t.Errorf("the message that waited is %.60v", ev)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%d events came, want %d", i, taken+1)
		}
	}
	cancel()
	stopRun()
	wg.Wait()
	if err := errors.Join(r.Healthy(), r.Close()); err != nil {
		t.Error(err)
	}
}

func TestBadListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r, err := ingest.New(t.TempDir(), config.Logs{Spool: 1 << 20, Sources: []config.LogSource{{Name: "a", Listen: "tcp://127.0.0.1:0"}, {Name: "b", Listen: "tcp://" + l.Addr().String()}}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Listen(t.Context()); err == nil || !strings.Contains(err.Error(), "logs.sources b") {
		t.Errorf("an address that is taken: %v", err)
	}
	if _, err := ingest.New(t.TempDir(), config.Logs{Spool: 1 << 20, Sources: []config.LogSource{{Name: "a", Listen: "tls://127.0.0.1:0", Cert: "none", Key: "none"}}}, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a certificate that is not there is taken")
	}
}
