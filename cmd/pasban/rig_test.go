package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"pasban"
	"pasban/examples/landregistry"
	"pasban/internal/config"
	"pasban/internal/identity"
	"pasban/internal/identity/identitytest"
	"pasban/internal/node"
)

// patience is how long a test waits for what must come. It is that long for
// machines with too much to do: nothing waits for it to pass.
const patience = 90 * time.Second

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// await asks again and again until it gets no error, or patience is over.
func await(ask func() error) error {
	for end := time.Now().Add(patience); ; {
		err := ask()
		if err == nil || time.Now().After(end) {
			return err
		}
		<-time.After(20 * time.Millisecond)
	}
}

func replaceAll(text, old, with string) string { return strings.ReplaceAll(text, old, with) }

// freeAddress is a loopback address at which nobody listens, with a port that
// no outgoing connection gets by chance.
func freeAddress() (string, error) {
	for range 100 {
		at := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000))
		if l, err := net.Listen("tcp", at); err == nil {
			return at, l.Close()
		}
	}
	return "", errors.New("no free port")
}

// build builds a command of this module as it is shipped, without the race
// detector, and returns its path.
func build(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, "../"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	return path
}

// readyz asks a node how it is; it is an error if it does not answer 200.
func readyz(admin string) (s node.Status, err error) {
	resp, err := (&http.Client{Timeout: 15 * time.Second}).Get("http://" + admin + "/readyz")
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		return s, fmt.Errorf("readyz: %w", err)
	}
	if resp.StatusCode != http.StatusOK || !s.Ready {
		return s, fmt.Errorf("not ready: %d %+v", resp.StatusCode, s.Parts)
	}
	return s, nil
}

// serving is a node that runs as `pasban serve`, in a process of its own.
type serving struct {
	t      testing.TB
	dir    string // of pasban.yaml and data
	config string
	base   string // https://localhost:port
	listen string
	admin  string

	mu   sync.Mutex // covers what follows
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	err  error         // how it ended
}

// origin is the ledger of every node in these tests.
const origin = "test.land.example/ledger"

// setting is the configuration of a test's node: NAMES in it are replaced.
const setting = `agency: {id: land-records, name: {en: Board of Revenue (test), ur: بورڈ آف ریونیو (آزمائش)}}
data: DIR/data
listen: LISTEN
admin: ADMIN
ledger: {origin: ` + origin + `}
events: off
identity: {rp: localhost, origins: ["BASE"]}
access: {budgets: [{role: officer, subjects: 100000, per: 1h}]}
limits: {rate: {per_second: 100000, burst: 100000}}
sites:
  - host: "*"
    upstream: [UPSTREAM]
    timeout: 2s
    waf: {mode: WAF}
    routes:
      - {match: "GET /{$}", signin: none}
      - {match: "GET /records/search", signin: none}
      - match: "GET /records/{cnic}"
        signin: officer
        subject: cnic
        purposes: [mutation, dispute]
        basis: Punjab Land Revenue Act 1967
        fields: [name, father, address, mobile, holdings]
      - match: "GET /plots/{district}/{mouza}/{khasra}"
        signin: officer
        subject: response
        purposes: [mutation, dispute]
        fields: [name, share]
services: [EXAMPLES/services/*.yaml]
policies: [EXAMPLES/policies/*.cedar]
rules: [EXAMPLES/rules]
`

// newNode writes the configuration of a node in front of a service. Nothing
// runs yet.
func newNode(t testing.TB, upstream, waf string) *serving {
	t.Helper()
	s := &serving{t: t, dir: t.TempDir(), listen: must(freeAddress()), admin: must(freeAddress())}
	check(t, os.Chmod(s.dir, 0o700))
	_, port, err := net.SplitHostPort(s.listen)
	check(t, err)
	s.base, s.config = "https://localhost:"+port, filepath.Join(s.dir, "pasban.yaml")
	examples, err := filepath.Abs("../../examples")
	check(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the node said:\n%s", tail(s.log()))
		}
	})
	s.write(strings.NewReplacer("DIR", s.dir, "LISTEN", s.listen, "ADMIN", s.admin, "BASE", s.base,
		"UPSTREAM", upstream, "WAF", waf, "EXAMPLES", examples).Replace(setting))
	return s
}

func (s *serving) write(text string) {
	s.t.Helper()
	check(s.t, os.WriteFile(s.config, []byte(text), 0o600))
}

// edit replaces part of the configuration file.
func (s *serving) edit(old, with string) {
	s.t.Helper()
	text := string(must(os.ReadFile(s.config)))
	if !strings.Contains(text, old) {
		s.t.Fatalf("%q is not in the configuration", old)
	}
	s.write(replaceAll(text, old, with))
}

// data is the path of a file under data/.
func (s *serving) data(name string) string { return filepath.Join(s.dir, "data", name) }

// log is what the node has written to standard error.
func (s *serving) log() string { return string(must(os.ReadFile(filepath.Join(s.dir, "node.log")))) }

// start runs the node, with more flags perhaps, and returns without waiting.
func (s *serving) start(flags ...string) {
	s.t.Helper()
	out, err := os.OpenFile(filepath.Join(s.dir, "node.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	check(s.t, err)
	defer out.Close()
	cmd := exec.Command("pasban", append([]string{"serve", "-c", s.config}, flags...)...)
	cmd.Stdout, cmd.Stderr = out, out
	check(s.t, cmd.Start())
	done := make(chan struct{})
	s.mu.Lock()
	s.cmd, s.done = cmd, done
	s.mu.Unlock()
	go func() {
		err := cmd.Wait()
		s.mu.Lock()
		s.err = err
		s.mu.Unlock()
		close(done)
	}()
	s.t.Cleanup(func() {
		cmd.Process.Kill()
		<-done
	})
}

// tail is the end of a log, or all of it from a data race on.
func tail(text string) string {
	if at := strings.Index(text, "WARNING: DATA RACE"); at >= 0 {
		return text[at:min(len(text), at+16000)]
	}
	return text[max(0, len(text)-4000):]
}

// up starts the node and waits until it is ready.
func (s *serving) up() *serving {
	s.t.Helper()
	s.start()
	s.ready()
	return s
}

func (s *serving) ready() node.Status {
	s.t.Helper()
	var status node.Status
	err := await(func() (err error) {
		select {
		case <-s.done:
			s.t.Fatalf("the node ended: %v\n%s", s.err, tail(s.log()))
		default:
		}
		status, err = readyz(s.admin)
		return err
	})
	if err != nil {
		s.t.Fatalf("%v\n%s", err, tail(s.log()))
	}
	return status
}

func (s *serving) signal(sig os.Signal) {
	s.t.Helper()
	check(s.t, s.cmd.Process.Signal(sig))
}

// ended waits for the process and returns how it ended.
func (s *serving) ended() error {
	s.t.Helper()
	select {
	case <-s.done:
	case <-time.After(patience):
		s.t.Fatal("the node does not end")
	}
	return s.err
}

// stop ends the node in good order.
func (s *serving) stop() {
	s.t.Helper()
	s.signal(syscall.SIGTERM)
	if err := s.ended(); err != nil {
		s.t.Fatalf("the node ended with %v\n%s", err, tail(s.log()))
	}
}

// kill ends it as a power cut would.
func (s *serving) kill() {
	s.t.Helper()
	s.signal(syscall.SIGKILL)
	s.ended()
}

// verifier is the key with which the node's ledger is checked.
func (s *serving) verifier() note.Verifier {
	s.t.Helper()
	text, err := os.ReadFile(s.data("ledger/vkey"))
	check(s.t, err)
	v, err := note.NewVerifier(strings.TrimSpace(string(text)))
	check(s.t, err)
	return v
}

// add adds people through the register, as `pasban user add` does, and returns
// the paths of their enrolment links. The node need not run.
func (s *serving) add(people ...identity.NewPerson) (links []string) {
	s.t.Helper()
	cfg, err := config.Load(s.config)
	check(s.t, err)
	register, err := node.OpenPeople(s.t.Context(), cfg, slog.New(slog.DiscardHandler))
	check(s.t, err)
	defer register.Close()
	added, err := register.AddPeople(s.t.Context(), node.Operator(), people...)
	check(s.t, err)
	for _, p := range added {
		token, _, err := register.Enrol(s.t.Context(), node.Operator(), p.ID)
		check(s.t, err)
		links = append(links, identity.EnrolPath+token)
	}
	return links
}

func staff(role pasban.Role, number string) identity.NewPerson {
	return identity.NewPerson{Role: role, NameEn: "Synthetic " + number, NameUr: "مصنوعی", Staff: number}
}

// visitor is somebody's browser or program.
type visitor struct {
	t    testing.TB
	base string
	http *http.Client
}

// visitor returns one who trusts the node's authority and nobody else.
func (s *serving) visitor() *visitor {
	s.t.Helper()
	pem, err := os.ReadFile(s.data("ca/root.pem"))
	check(s.t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots}}
	s.t.Cleanup(tr.CloseIdleConnections)
	return &visitor{s.t, s.base, &http.Client{Jar: must(cookiejar.New(nil)), Transport: tr, Timeout: patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// enrolled is a visitor who has used the link and is signed in with a passkey.
func (s *serving) enrolled(link string) *visitor {
	s.t.Helper()
	v, key := s.visitor(), must(identitytest.New(s.base))
	v.want(200, v.post(link+"/finish", must(key.Create(v.want(200, v.post(link+"/begin", nil)).body))))
	v.want(200, v.post("/pasban/signin/finish", must(key.Get(v.want(200, v.post("/pasban/signin/begin", nil)).body))))
	return v
}

// must is for what fails only if the test itself is wrong.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	proto  string
	body   []byte
	tls    *tls.ConnectionState
}

// promises are those that came with the answer; they verify.
func (a answer) promises(t testing.TB, v note.Verifier) (out []pasban.Promise) {
	t.Helper()
	for _, h := range a.header.Values(pasban.PromiseHeader) {
		p, err := pasban.ParsePromise(v.Name(), h)
		check(t, err)
		check(t, p.Verify(v))
		out = append(out, p)
	}
	return out
}

// working are the headers with which an officer's program says why it asks.
var working = []string{"Pasban-Purpose", "mutation", "Pasban-Case", "M-2026-17"}

func (v *visitor) ask(ctx context.Context, method, path string, body []byte, header ...string) (a answer, err error) {
	req, err := http.NewRequestWithContext(ctx, method, v.base+path, bytes.NewReader(body))
	if err != nil {
		return a, err
	}
	req.Header.Set("User-Agent", "Mozilla/5.0 (synthetic)")
	req.Header.Set("Accept", "text/html,*/*;q=0.8")
	if method == http.MethodPost {
		req.Header.Set("Accept", "application/json")
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Origin", v.base)
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := v.http.Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	a = answer{status: resp.StatusCode, header: resp.Header, proto: resp.Proto, tls: resp.TLS}
	a.body, err = io.ReadAll(resp.Body)
	return a, err
}

func (v *visitor) get(path string, header ...string) answer {
	v.t.Helper()
	a, err := v.ask(v.t.Context(), http.MethodGet, path, nil, header...)
	check(v.t, err)
	return a
}

func (v *visitor) post(path string, body []byte, header ...string) answer {
	v.t.Helper()
	a, err := v.ask(v.t.Context(), http.MethodPost, path, body, header...)
	check(v.t, err)
	return a
}

// want ends the test unless the answer has the status.
func (v *visitor) want(status int, a answer) answer {
	v.t.Helper()
	if a.status != status {
		v.t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	return a
}

// legacy is the land registry, as it runs behind every node here. It can be
// made slow.
type legacy struct {
	*httptest.Server
	owners []landregistry.Owner

	mu   sync.Mutex // covers gate
	gate *gate
}

// gate holds requests up.
type gate struct {
	open    chan struct{} // closed when they may go on
	arrived chan string   // the address that each who waits asks for
}

// hold makes the registry answer nobody until release is called.
func (l *legacy) hold() (arrived <-chan string, release func()) {
	g := &gate{open: make(chan struct{}), arrived: make(chan string, 100)}
	l.mu.Lock()
	l.gate = g
	l.mu.Unlock()
	return g.arrived, sync.OnceFunc(func() {
		l.mu.Lock()
		l.gate = nil
		l.mu.Unlock()
		close(g.open)
	})
}

// newLegacy starts the land registry with its sample of synthetic owners.
func newLegacy(t testing.TB) *legacy {
	t.Helper()
	app, err := landregistry.New(t.Context(), landregistry.Options{DSN: filepath.Join(t.TempDir(), "land.db")})
	check(t, err)
	t.Cleanup(func() { app.Close() })
	owners, holdings, err := landregistry.Sample()
	check(t, err)
	check(t, app.Seed(t.Context(), owners, holdings))
	l := &legacy{owners: owners}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		gate := l.gate
		l.mu.Unlock()
		if gate != nil {
			gate.arrived <- r.URL.RequestURI()
			select {
			case <-gate.open:
			case <-r.Context().Done():
				return
			}
		}
		app.ServeHTTP(w, r)
	}))
	t.Cleanup(l.Close)
	return l
}

// record is the path of the nth owner's page.
func (l *legacy) record(n int) string { return "/records/" + l.owners[n%len(l.owners)].CNIC }

// honoured says whether a receipt proves what was promised.
func honoured(receipt []byte, p pasban.Promise, v note.Verifier) error {
	r, err := pasban.ParseReceipt(receipt)
	if err != nil {
		return err
	}
	if _, err := r.Verify(v); err != nil {
		return err
	}
	body, err := pasban.Canonical(r.Body)
	if err != nil {
		return err
	}
	leaf, err := pasban.Opening{Kind: r.Kind, Salt: r.Salt, Body: body}.Leaf()
	if err != nil {
		return err
	}
	if r.Index != p.Index || leaf.Hash() != p.Leaf {
		return fmt.Errorf("the receipt is of leaf %d, %s, not of what was promised, %s", r.Index, leaf.Hash(), p.Leaf)
	}
	return p.Verify(v)
}
