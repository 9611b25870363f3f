package witness

import (
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/durable"
)

// ledger is a log with its hashes in memory, as golang.org/x/mod/sumdb/tlog
// makes them.
type ledger struct {
	t      testing.TB
	signer note.Signer
	hashes []tlog.Hash
	n      int64
}

func newLedger(t testing.TB) (*ledger, note.Verifier) {
	skey, vkey, err := note.GenerateKey(rand.Reader, "land.example/ledger")
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return &ledger{t: t, signer: s}, v
}

// fork is a ledger of the same key with another past after n leaves.
func (l *ledger) fork(n int64) *ledger {
	return &ledger{l.t, l.signer, append([]tlog.Hash(nil), l.hashes[:tlog.StoredHashCount(n)]...), n}
}

func (l *ledger) add(leaves ...string) {
	for _, leaf := range leaves {
		h, err := tlog.StoredHashes(l.n, []byte(leaf), l)
		if err != nil {
			l.t.Fatal(err)
		}
		l.hashes = append(l.hashes, h...)
		l.n++
	}
}

func (l *ledger) ReadHashes(at []int64) ([]tlog.Hash, error) {
	var out []tlog.Hash
	for _, i := range at {
		out = append(out, l.hashes[i])
	}
	return out, nil
}

func (l *ledger) checkpoint(s ...note.Signer) string {
	h, err := tlog.TreeHash(l.n, l)
	if err != nil {
		l.t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: fmt.Sprintf("land.example/ledger\n%d\n%s\n", l.n, h)}, append(s, l.signer)...)
	if err != nil {
		l.t.Fatal(err)
	}
	return string(signed)
}

// request is the body that asks to cosign the ledger as it is.
func (l *ledger) request(old int64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "old %d\n", old)
	if old > 0 && old < l.n {
		proof, err := tlog.ProveTree(l.n, old, l)
		if err != nil {
			l.t.Fatal(err)
		}
		for _, h := range proof {
			fmt.Fprintln(&b, h)
		}
	}
	return b.String() + "\n" + l.checkpoint()
}

func open(t testing.TB, dir string, logs ...note.Verifier) *Witness {
	t.Helper()
	w, err := Open(dir, logs, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func initDir(t testing.TB) (dir, vkey string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "w")
	vkey, err := Init(dir, "witness.example/w1")
	if err != nil {
		t.Fatal(err)
	}
	return dir, vkey
}

func post(t testing.TB, w *Witness, body string) (int, string, http.Header) {
	t.Helper()
	rec := httptest.NewRecorder()
	w.Handler().ServeHTTP(rec, httptest.NewRequest("POST", "/add-checkpoint", strings.NewReader(body)))
	return rec.Code, rec.Body.String(), rec.Result().Header
}

func TestCosigns(t *testing.T) {
	l, v := newLedger(t)
	dir, vkey := initDir(t)
	w := open(t, dir, v)
	p, err := pasban.NewWitnessPolicy(1, []string{vkey})
	if err != nil {
		t.Fatal(err)
	}
	old := int64(0)
	for i := range 20 { // every step, some twice, over restarts
		for range i % 4 {
			l.add(fmt.Sprint("leaf ", l.n))
		}
		status, line, _ := post(t, w, l.request(old))
		if status != 200 {
			t.Fatalf("%d → %d: %d %s", old, l.n, status, line)
		}
		cp, held, err := pasban.OpenCosigned([]byte(l.checkpoint()+line), v, p)
		if err != nil || len(held) != 1 || cp.N != l.n {
			t.Fatalf("%d → %d: %v", old, l.n, err)
		}
		old = l.n
		if i%5 == 4 {
			w.Close()
			w = open(t, dir, v)
		}
	}
}

func TestRefuses(t *testing.T) {
	l, v := newLedger(t)
	dir, _ := initDir(t)
	w := open(t, dir, v)
	l.add("a", "b", "c", "d", "e")
	earlier := l.fork(3)
	if status, msg, _ := post(t, w, l.request(0)); status != 200 {
		t.Fatal(status, msg)
	}
	forked, longer := l.fork(3), l.fork(3)
	forked.add("D", "E")
	longer.add("D", "E", "F", "G")
	stranger, _ := newLedger(t)
	stranger.add("a")
	grown := l.fork(5)
	grown.add("f")
	elsewhere := strings.ReplaceAll(l.request(5), "land.example", "tax.example")

	for name, tc := range map[string]struct {
		body   string
		status int
	}{
		"empty":                    {"", 400},
		"garbage":                  {"\x00\xff\n\n\n\n", 400},
		"no old size":              {strings.Replace(l.request(5), "old ", "new ", 1), 400},
		"a size with zeroes":       {strings.Replace(l.request(5), "old 5", "old 05", 1), 400},
		"a negative size":          {strings.Replace(l.request(5), "old 5", "old -5", 1), 400},
		"an old size too large":    {l.request(6), 400},
		"64 lines of proof":        {"old 5\n" + strings.Repeat(tlog.Hash{}.String()+"\n", 64) + "\n" + grown.checkpoint(), 400},
		"a proof line of garbage":  {"old 5\nx\n\n" + grown.checkpoint(), 400},
		"cut off":                  {l.request(5)[:60], 400},
		"another ledger":           {elsewhere, 404},
		"another key":              {stranger.request(0), 403},
		"a signature changed":      {strings.Replace(l.request(5), "\n5\n", "\n6\n", 1), 403},
		"rolled back":              {earlier.request(3), 409},
		"rolled back, size hidden": {earlier.request(0), 409},
		"from nothing":             {grown.request(0), 409},
		"forked, one size":         {forked.request(5), 409},
		"forked and longer":        {longer.request(5), 422},
		"no proof":                 {"old 5\n\n" + grown.checkpoint(), 422},
		"a proof not needed":       {"old 5\n" + tlog.Hash{}.String() + "\n\n" + l.checkpoint(), 422},
		"too large":                {"old 5\n\n" + strings.Repeat("x", maxRequest), 413},
	} {
		status, body, h := post(t, w, tc.body)
		if status != tc.status {
			t.Errorf("%s: %d %s, want %d", name, status, body, tc.status)
		}
		if status == 409 && (body != "5\n" || h.Get("Content-Type") != "text/x.tlog.size") {
			t.Errorf("%s: 409 with %q, %s", name, body, h.Get("Content-Type"))
		}
		if strings.Contains(body, "—") {
			t.Errorf("%s: a signature was given out", name)
		}
	}
	if s := w.Status().Logs[0]; s.Size != 5 || !s.Forked {
		t.Errorf("status %+v", s)
	}
	// The proof of the fork convinces without the witness.
	proof, err := os.ReadFile(w.logs["land.example/ledger"].path + ".fork")
	if err != nil {
		t.Fatal(err)
	}
	ours := l.checkpoint()
	a, b := proof[:len(ours)], proof[len(ours)+1:]
	ca, errA := pasban.OpenCheckpoint(a, v)
	cb, errB := pasban.OpenCheckpoint(b, v)
	if errA != nil || errB != nil || ca.N != cb.N || ca.Hash == cb.Hash {
		t.Errorf("the proof proves nothing: %v, %v", errA, errB)
	}
	// The honest ledger goes on, after a restart too.
	w.Close()
	w = open(t, dir, v)
	if status, body, _ := post(t, w, grown.request(5)); status != 200 || !w.Status().Logs[0].Forked {
		t.Errorf("%d %s", status, body)
	}
}

// TestOneOfTwo races two pasts of one size: one of them is cosigned at most.
func TestOneOfTwo(t *testing.T) {
	a, v := newLedger(t)
	dir, _ := initDir(t)
	w := open(t, dir, v)
	a.add("a", "b")
	b := a.fork(1)
	b.add("B")
	var mu sync.Mutex
	signed := map[string]bool{}
	var wg sync.WaitGroup
	for i := range 32 {
		l := []*ledger{a, b}[i%2]
		body, name := l.request(0), l.checkpoint()
		wg.Go(func() {
			if status, _, _ := post(t, w, body); status == 200 {
				mu.Lock()
				signed[name] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(signed) != 1 {
		t.Errorf("%d pasts were cosigned", len(signed))
	}
}

// TestRememberedBeforeAnswered takes the directory as a crash at the moment of
// the answer would leave it, and one whose record cannot be written.
func TestRememberedBeforeAnswered(t *testing.T) {
	l, v := newLedger(t)
	dir, _ := initDir(t)
	w := open(t, dir, v)
	l.add("a", "b")
	forked := l.fork(1)
	forked.add("B", "C")
	if _, err := w.cosign([]byte(l.request(0))); err != nil {
		t.Fatal(err)
	}
	w.lock.Close() // nothing else is done at the end of a process
	w = open(t, dir, v)
	if status, _, _ := post(t, w, forked.request(0)); status != 409 {
		t.Errorf("status %d", status)
	}
	if status, _, _ := post(t, w, forked.request(2)); status != 422 {
		t.Errorf("status %d", status)
	}
	l.add("c")
	w.logs["land.example/ledger"].path = filepath.Join(dir, "gone", "x")
	if status, body, _ := post(t, w, l.request(2)); status != 503 || strings.Contains(body, "—") {
		t.Errorf("cosigned without a record: %d %s", status, body)
	}
}

func TestOpenRefuses(t *testing.T) {
	l, v := newLedger(t)
	_, other := newLedger(t) // the origin, another key
	dir, _ := initDir(t)
	w := open(t, dir, v)
	l.add("a")
	if status, _, _ := post(t, w, l.request(0)); status != 200 {
		t.Fatal(status)
	}
	record := w.logs["land.example/ledger"].path + ".checkpoint"
	if _, err := Open(dir, nil, w.log); pasban.KindOf(err) != pasban.Conflict {
		t.Errorf("opened twice: %v", err)
	}
	w.Close()
	try := func(name string, logs ...note.Verifier) {
		t.Helper()
		if w, err := Open(dir, logs, slog.New(slog.DiscardHandler)); err == nil {
			w.Close()
			t.Errorf("%s: opened", name)
		}
	}
	try("another key for the ledger", other)
	try("one ledger twice", v, v)
	good, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"empty": nil, "cut off": good[:len(good)/2], "changed": append([]byte("x"), good...)} {
		if err := durable.WriteFile(record, data, 0o600); err != nil {
			t.Fatal(err)
		}
		try("record "+name, v)
	}
	if _, err := Init(dir, "witness.example/w2"); err == nil {
		t.Error("a witness was made over another")
	}
}

// FuzzRequest gives the witness any body: nothing but the ledger's own
// checkpoint is ever cosigned.
func FuzzRequest(f *testing.F) {
	l, v := newLedger(f)
	dir, _ := initDir(f)
	w := open(f, dir, v)
	l.add("a", "b", "c")
	if status, _, _ := post(f, w, l.request(0)); status != 200 {
		f.Fatal(status)
	}
	want, _, _ := strings.Cut(l.checkpoint(), "\n\n")
	f.Add(l.request(3))
	f.Add("old 3\n" + tlog.Hash{}.String() + "\n\n" + l.checkpoint())
	f.Add("old 0\n\n\n")
	f.Fuzz(func(t *testing.T, body string) {
		status, answer, _ := post(t, w, body)
		switch status {
		case 200:
			if !strings.Contains(body, want) {
				t.Fatalf("cosigned: %q", body)
			}
		case 400, 403, 404, 409, 413, 422:
			if strings.Contains(answer, "—") {
				t.Fatalf("refused with a signature: %q", answer)
			}
		default:
			t.Fatalf("status %d", status)
		}
	})
}

func TestMethods(t *testing.T) {
	_, v := newLedger(t)
	dir, _ := initDir(t)
	srv := httptest.NewServer(open(t, dir, v).Handler())
	defer srv.Close()
	for path, want := range map[string]int{"/add-checkpoint": 405, "/": 200, "/x": 404, "/witness.key": 404} {
		res, err := http.Get(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != want || strings.Contains(string(body), "PRIVATE") {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
		}
	}
}
