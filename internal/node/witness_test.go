package node

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/detect"
	"pasban/internal/keys"
	"pasban/internal/trust"
)

// ministry is a node that witnesses and is witnessed, and can be started again.
type ministry struct {
	t     *testing.T
	id    string
	addr  string
	tls   string // mode
	waf   string // mode, off if it is empty: a firewall takes seconds to start
	path  string // of pasban.yaml
	extra string // of it
	vkey  string
	key   string // as a witness
	*Node
	stop func()
}

func newMinistry(t *testing.T, id, tls string) *ministry {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") // a port for its address, which others must know before it listens
	check(t, err)
	defer l.Close()
	m := &ministry{t: t, id: id, addr: l.Addr().String(), tls: tls, path: filepath.Join(t.TempDir(), "pasban.yaml")}
	rules := filepath.Join(filepath.Dir(m.path), "rules")
	check(t, os.CopyFS(rules, os.DirFS("../../examples/rules")))
	ring, err := keys.Open(t.Context(), filepath.Join(filepath.Dir(m.path), "data/keys"), keys.Options{})
	check(t, err)
	defer ring.Close()
	check(t, os.Chmod(filepath.Join(filepath.Dir(m.path), "data"), 0o700))
	_, m.vkey, err = ring.LedgerSigner(id + "/ledger")
	check(t, err)
	return m
}

// base is where others reach it.
func (m *ministry) base() string {
	if m.tls == "off" {
		return "http://" + m.addr
	}
	_, port, err := net.SplitHostPort(m.addr)
	check(m.t, err)
	return "https://localhost:" + port
}

// look opens the node without running it.
func (m *ministry) look() {
	m.t.Helper()
	check(m.t, os.WriteFile(m.path, fmt.Appendf(nil, `agency: {id: %s, name: {en: %s, ur: ادارہ}}
listen: %s
admin: 127.0.0.1:0
tls: {mode: %s}
sites:
  - host: "*"
    upstream: [http://127.0.0.1:9]
    waf: {mode: %s}
    routes: [{match: "GET /", signin: none}]
%s`, m.id, m.id, m.addr, m.tls, cmp.Or(m.waf, "off"), m.extra), 0o600))
	var err error
	m.Node, err = New(m.t.Context(), load(m.t, m.path), quiet())
	check(m.t, err)
}

// start runs the node until stop is called.
func (m *ministry) start() {
	m.t.Helper()
	m.look()
	ctx, cancel := context.WithCancel(context.WithoutCancel(m.t.Context()))
	ended, n := make(chan error, 1), m.Node
	go func() { ended <- n.Run(ctx) }()
	stopped := false
	m.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		<-ended
	}
	m.t.Cleanup(m.stop)
}

func (m *ministry) until(what string, cond func() bool) {
	m.t.Helper()
	for end := time.Now().Add(time.Minute); !cond(); <-time.After(10 * time.Millisecond) {
		if time.Now().After(end) {
			m.t.Fatalf("%s: not %s: %+v", m.id, what, m.Status(m.t.Context()))
		}
	}
}

// account records something and waits until it is final.
func (m *ministry) account() {
	m.t.Helper()
	entries, err := m.journal.Record(m.t.Context(), adminFact(m.id))
	check(m.t, err)
	m.until("final", func() bool { return m.ledger.Status().Witnesses.Size > uint64(entries[0].Index) })
}

// part is the part's word, "" if it is well.
func (m *ministry) part(name string) string {
	m.t.Helper()
	parts := m.Status(m.t.Context()).Parts
	i := slices.IndexFunc(parts, func(p Part) bool { return p.Part == name })
	if i < 0 {
		m.t.Fatalf("no part %s: %+v", name, parts)
	}
	if parts[i].OK != (parts[i].Reason == "") {
		m.t.Errorf("%+v", parts[i])
	}
	return parts[i].Reason
}

// get asks the node over its public listener.
func (m *ministry) get(path string) string {
	m.t.Helper()
	pool := x509.NewCertPool()
	if m.tls != "off" {
		pem, err := os.ReadFile(m.root())
		check(m.t, err)
		pool.AppendCertsFromPEM(pem)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport}).Get(m.base() + path)
	check(m.t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	check(m.t, err)
	if res.StatusCode != 200 {
		m.t.Fatalf("%s: %d %s", path, res.StatusCode, body)
	}
	return string(body)
}

func (m *ministry) root() string { return filepath.Join(filepath.Dir(m.path), "data/ca/root.pem") }

// TestWitnessEachOther is two ministries that watch each other, one of them behind
// a certificate of its own authority: from the exchange of keys over an outage and
// a fork to a data directory restored from an old backup.
func TestWitnessEachOther(t *testing.T) {
	land, tax := newMinistry(t, "land", "off"), newMinistry(t, "tax", "local")
	for _, m := range []*ministry{land, tax} { // each watches the other's ledger
		other := map[*ministry]*ministry{land: tax, tax: land}[m]
		m.extra = "witness: {logs: [{key: " + other.vkey + "}]}\n"
		m.look()
		m.key = m.watch.key
		check(t, m.close())
	}
	land.extra += fmt.Sprintf("ledger: {witnesses: {need: 1, of: [{key: %s, url: %q}], ca_file: %s}}\n", tax.key, tax.base()+"/ledger", tax.root())
	tax.extra += fmt.Sprintf("ledger: {witnesses: {need: 1, of: [{key: %s, url: %q}]}}\n", land.key, land.base()+"/ledger")

	// Alone, nothing is signed and guarded routes are closed, with the reason.
	land.waf = "block" // it lets checkpoints through
	land.start()
	land.until("asking", func() bool { return strings.Contains(land.part("witness "+witnessName(tax)), "it cannot be reached") })
	if why := land.part("ledger"); land.Status(t.Context()).Ready || !strings.Contains(why, "before the witnesses have said what they saw") {
		t.Errorf("ready without the witness's word: %s", why)
	}

	// Together both are, and all that they do becomes final.
	tax.start()
	for _, m := range []*ministry{land, tax} {
		m.until("ready", func() bool { return m.Status(t.Context()).Ready })
		m.account()
		m.account()
	}
	told(t, land, tax)
	told(t, tax, land)

	// One is away: the other goes on, and says what is missing.
	copied := filepath.Join(t.TempDir(), "tax")
	tax.stop()
	copyPrivate(t, filepath.Join(filepath.Dir(tax.path), "data"), copied)
	_, err := land.journal.Record(t.Context(), adminFact(land.id))
	check(t, err)
	land.until("missing its witness", func() bool {
		s := land.Status(t.Context())
		return s.Ready && s.Figures.Witnesses.LagSeconds > 0 && s.Figures.Witnesses.Of[0].Problem != "" && s.Figures.Checkpoint == 3
	})
	if s := land.Status(t.Context()); s.Figures.Witnesses.Final != 2 {
		t.Errorf("%+v", s.Figures.Witnesses)
	}

	// It comes back, and forks: refused, kept as proof, and alarmed.
	tax.start()
	tax.account()
	land.account()
	forks(t, land, tax)

	// It is restored from the old backup: it notices before it signs anything, says
	// so, and does not cosign what it may have forgotten.
	tax.stop()
	data := filepath.Join(filepath.Dir(tax.path), "data")
	check(t, os.RemoveAll(data))
	copyPrivate(t, copied, data)
	tax.start()
	tax.until("stopped", func() bool { return tax.ledger.Stopped() != nil })
	if why := tax.part("ledger"); tax.Status(t.Context()).Ready || !strings.Contains(why, "has cosigned a checkpoint of 4 leaves") {
		t.Errorf("ready as an old copy: %s", why)
	}
	tax.until("alarmed", func() bool { return critical(t, tax) == 1 })
	if entries, err := tax.journal.Record(t.Context(), adminFact(tax.id)); err == nil {
		t.Errorf("an old copy promises: %+v", entries)
	}
	res, err := http.Post(land.base()+"/ledger/add-checkpoint", "text/plain", strings.NewReader("old 0\n\n"))
	check(t, err)
	res.Body.Close()
	if res.StatusCode != http.StatusBadRequest {
		t.Errorf("garbage: %s", res.Status)
	}
	w := httptest.NewRecorder()
	own := http.NewServeMux()
	tax.watch.mount(own)
	own.ServeHTTP(w, httptest.NewRequest("POST", "/ledger/add-checkpoint", strings.NewReader("old 0\n\n")))
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("an old copy cosigns: %d %s", w.Code, w.Body)
	}
}

// TestWitnessesNeedARestart: a running ledger has acted on its witnesses for good.
func TestWitnessesNeedARestart(t *testing.T) {
	plain := strings.Replace(minimal, "routes:", "waf: {mode: off}\n    routes:", 1)
	path := place(t, map[string]string{"pasban.yaml": plain})
	n := running(t, path)
	for want, more := range map[string]string{
		"witness":          "witness: {logs: [{key: a.example/ledger+c700755f+AZVYL90sssCJI09nPPMgtehWReWaQzx9y27zXlN1b6E7}]}\n",
		"ledger.witnesses": "ledger: {witnesses: {need: 1, of: [{key: b.example/w+b8f2b27d+BC5Yy3FKFdu5VODxxtvWmUFPx+xy+s100FKOUOUQ3dTQ, url: https://b.example/w}]}}\n",
	} {
		check(t, os.WriteFile(path, []byte(plain+more), 0o600))
		if err := n.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot change while the node runs: "+want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// TestWitnessMemory: a node's key as a witness and its memory of what it cosigned
// are made together, and neither is made again for the other.
func TestWitnessMemory(t *testing.T) {
	m := newMinistry(t, "land", "off")
	other := newMinistry(t, "tax", "off")
	m.extra = "witness: {logs: [{key: " + other.vkey + "}]}\n"
	m.look()
	key := m.watch.key
	check(t, m.close())
	m.look()
	if m.watch.key != key {
		t.Errorf("another key after a restart: %s, %s", m.watch.key, key)
	}
	check(t, m.close())

	data := filepath.Join(filepath.Dir(m.path), "data")
	age := filepath.Join(data, "keys/witness.age")
	refused := func(what string, kind pasban.ErrorKind) {
		t.Helper()
		n, err := New(t.Context(), load(t, m.path), quiet())
		if e, ok := errors.AsType[*pasban.Error](err); n != nil || !ok || e.Kind != kind || e.Hint == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
	check(t, os.Rename(filepath.Join(data, "witness"), filepath.Join(data, "away")))
	refused("a key without a memory", pasban.Conflict)
	check(t, os.Rename(filepath.Join(data, "away"), filepath.Join(data, "witness")))
	check(t, os.Rename(age, age+".away"))
	refused("a memory without a key", pasban.Invalid)

	check(t, os.RemoveAll(filepath.Join(data, "witness"))) // a new witness, as the manual says
	m.look()
	defer m.close()
	if m.watch.key == key {
		t.Error("a new witness has the old key")
	}
}

func witnessName(m *ministry) string { name, _, _ := strings.Cut(m.key, "+"); return name }

func adminFact(agency string) pasban.Fact {
	f := pasban.NewFact(pasban.KindAdmin, agency, Operator(), time.Now())
	f.Body.Action = "person.add"
	return f
}

func critical(t *testing.T, m *ministry) int {
	t.Helper()
	open, err := m.soc.Open(t.Context())
	check(t, err)
	return open[detect.Critical]
}

// told checks what m says of itself to its operator and to the public.
func told(t *testing.T, m, other *ministry) {
	t.Helper()
	v, err := note.NewVerifier(m.vkey)
	check(t, err)
	p, err := pasban.NewWitnessPolicy(1, []string{other.key})
	check(t, err)
	cp, held, err := pasban.OpenCosigned([]byte(m.get("/ledger/checkpoint")), v, p)
	if err != nil || cp.N != 2 || held[0].Witness != witnessName(other) {
		t.Errorf("%s publishes %+v: %v", m.id, cp, err)
	}
	var a trust.Agency
	check(t, json.Unmarshal([]byte(m.get("/.well-known/pasban.json")), &a))
	if !slices.Equal(a.Witnesses, []string{other.key}) || a.Need != 1 || a.Witness.VKey != m.key || !slices.Equal(a.Witness.Logs, []string{other.id + "/ledger"}) {
		t.Errorf("%+v", a)
	}
	if body := m.get("/ledger/witness"); !strings.Contains(body, `"origin":"`+other.id+`/ledger","size":`) {
		t.Errorf("what it watches: %s", body)
	}
	if body := m.get("/trust"); !strings.Contains(body, witnessName(other)) || !strings.Contains(body, m.key) {
		t.Errorf("the trust page:\n%s", body)
	}
	s := m.Status(t.Context())
	if w := s.Figures.Witnesses; w == nil || w.Need != 1 || w.Final != 2 || w.FinalSeconds == nil || w.Of[0].Size != 2 || w.Of[0].Seconds == nil || w.Of[0].Problem != "" {
		t.Errorf("%+v", w)
	}
	if m.part("witnesses")+m.part("witness "+witnessName(other)) != "" {
		t.Errorf("%+v", s.Parts)
	}
	rec := httptest.NewRecorder()
	m.admin().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	for _, line := range []string{"pasban_ledger_final_leaves 2", "pasban_ledger_final_lag_seconds 0", fmt.Sprintf("pasban_witness_cosigned_leaves{witness=%q} 2", witnessName(other)), fmt.Sprintf("pasban_witness_cosigned_age_seconds{witness=%q} ", witnessName(other))} {
		if !strings.Contains(rec.Body.String(), "\n"+line) {
			t.Errorf("/metrics lacks %q", line)
		}
	}
}

// forks has tax sign another root for the size that land has cosigned.
func forks(t *testing.T, land, tax *ministry) {
	t.Helper()
	size := tax.ledger.Status().Size
	signed, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s/ledger\n%d\n%s\n", tax.id, size, tlog.RecordHash([]byte("fork")))}, tax.signer)
	check(t, err)
	before := critical(t, land)
	res, err := http.Post(land.base()+"/ledger/add-checkpoint", "text/plain", strings.NewReader(fmt.Sprintf("old %d\n\n%s", size, signed)))
	check(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	check(t, err)
	if res.StatusCode != http.StatusConflict || string(body) != fmt.Sprintf("%d\n", size) {
		t.Errorf("a fork: %s %s", res.Status, body)
	}
	land.until("alarmed", func() bool { return critical(t, land) == before+1 })
	if !strings.Contains(land.get("/ledger/witness"), `"forked":true`) {
		t.Error("the witness does not tell of the fork")
	}
	tax.account() // the honest one goes on
}

// copyPrivate copies a data directory as a backup does.
func copyPrivate(t *testing.T, from, to string) {
	t.Helper()
	check(t, os.CopyFS(to, os.DirFS(from)))
	check(t, filepath.WalkDir(to, func(name string, d os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return os.Chmod(name, 0o700)
		}
		return os.Chmod(name, 0o600)
	}))
}
