package ledger_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"pasban"
	"pasban/internal/ledger"
	"pasban/internal/ledger/storage/posix"
	"pasban/internal/ledger/witness"
	"pasban/internal/store"
	"pasban/internal/store/storetest"
)

// watcher is a real witness behind a real server, which can be made to do
// something else instead.
type watcher struct {
	*witness.Client
	url     string
	real    http.Handler
	instead atomic.Pointer[http.HandlerFunc]
	asked   atomic.Int64
}

func (w *watcher) answer(f http.HandlerFunc) {
	if f == nil {
		w.instead.Store(nil)
		return
	}
	w.instead.Store(&f)
}

// down is a witness that does not answer.
func down(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }

func newWatcher(t testing.TB, name string, ledgers ...note.Verifier) *watcher {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "w")
	vkey, err := witness.Init(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	real, err := witness.Open(dir, ledgers, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	w := &watcher{real: real.Handler()}
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.asked.Add(1)
		if f := w.instead.Load(); f != nil {
			(*f)(rw, r)
			return
		}
		w.real.ServeHTTP(rw, r)
	}))
	t.Cleanup(func() { srv.Close(); real.Close() })
	w.url = srv.URL
	if w.Client, err = witness.NewClient(vkey, w.url, nil); err != nil {
		t.Fatal(err)
	}
	return w
}

// witnessed are the options of a ledger with these witnesses.
func witnessed(need int, of ...*watcher) ledger.Options {
	o := options
	o.Witnesses = ledger.Witnesses{Need: need, Timeout: 2 * time.Second, Pause: 20 * time.Millisecond}
	for _, w := range of {
		o.Witnesses.Of = append(o.Witnesses.Of, w.Client)
	}
	return o
}

// begin opens the parts and, with the witnesses that of makes for the
// ledger's key, the ledger. The directories are in dir.
func begin(t testing.TB, dir, dsn string, o func(v note.Verifier) ledger.Options) *node {
	t.Helper()
	if dsn == "" {
		dsn = filepath.Join(dir, "store.db")
	}
	n, err := parts(t.Context(), dir, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.close() })
	if err := n.open(context.WithoutCancel(t.Context()), o(n.Verifier)); err != nil {
		t.Fatal(err)
	}
	return n
}

func policy(t testing.TB, need int, of ...*watcher) *pasban.WitnessPolicy {
	t.Helper()
	var keys []string
	for _, w := range of {
		keys = append(keys, w.Key())
	}
	p, err := pasban.NewWitnessPolicy(need, keys)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// served is the checkpoint that the public is shown.
func (n *node) served(t testing.TB) []byte {
	t.Helper()
	w := httptest.NewRecorder()
	n.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/ledger/checkpoint", nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != 200 {
		t.Fatal(w.Code, err)
	}
	if got, want := w.Header().Get(ledger.FinalHeader), n.Final(body); got != want {
		t.Errorf("%s: %q, want %q", ledger.FinalHeader, got, want)
	}
	return body
}

// finalAt waits until the checkpoint of all that was recorded is final.
func (n *node) finalAt(t testing.TB) ledger.Witnessing {
	t.Helper()
	_, leaves, err := n.Journal.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { return n.Status().Witnesses.Size == leaves })
	return n.Status().Witnesses
}

// witnessedByOne is a ledger in dir that needs the one witness that it has.
func witnessedByOne(t testing.TB, dir string) (n *node, a *watcher) {
	t.Helper()
	n = begin(t, dir, "", func(v note.Verifier) ledger.Options {
		a = newWatcher(t, "a.example/w", v)
		return witnessed(1, a)
	})
	return n, a
}

// actions are the alarms of the journal, by what they are about.
func (n *node) actions(t testing.TB) []string {
	t.Helper()
	return n.alarmed(t, func(b pasban.Body) string { return b.Action })
}

// TestFinal: every checkpoint that is published and every receipt bears the
// cosignatures of the witnesses, on both stores, and over a restart.
func TestFinal(t *testing.T) {
	storetest.Each(t, func(t *testing.T, _ *store.Store) {
		dir := t.TempDir()
		dsn := filepath.Join(dir, "store.db")
		if strings.HasSuffix(t.Name(), store.Postgres) {
			dsn = storetest.PostgresDSN(t)
		}
		var a, b *watcher
		with := func(v note.Verifier) ledger.Options {
			if a == nil {
				a, b = newWatcher(t, "a.example/w", v), newWatcher(t, "b.example/w", v)
			}
			return witnessed(2, a, b)
		}
		n := begin(t, dir, dsn, with)
		p := policy(t, 2, a, b)
		for i := range 5 {
			entries := n.record(t, 30)
			n.settle(t)
			w := n.finalAt(t)
			if w.Need != 2 || len(w.Of) != 2 || w.Of[0].Size != uint64(30*(i+1)) || w.Of[1].Cosigned.IsZero() || w.Problem != nil || w.Lag != 0 {
				t.Errorf("%+v", w)
			}
			if _, held, err := pasban.OpenCosigned(n.served(t), n.Verifier, p); err != nil || len(held) != 2 {
				t.Errorf("what is published: %v", err)
			}
			if final := n.Final(n.served(t)); final != "yes" {
				t.Errorf("what is published is final: %q", final)
			}
			r, err := n.Receipt(t.Context(), entries[7])
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Verify(n.Verifier); err != nil {
				t.Error(err)
			}
			if _, _, err := pasban.OpenCosigned([]byte(r.Checkpoint), n.Verifier, p); err != nil {
				t.Errorf("the receipt: %v", err)
			}
			until(t, func() bool { // the directory, for a static server
				raw, err := os.ReadFile(filepath.Join(n.ledgerDir(), "checkpoint"))
				return err == nil && bytes.Equal(raw, n.served(t))
			})
		}
		n.check(t)
		before := n.Status().Witnesses
		if err := n.close(); err != nil {
			t.Fatal(err)
		}

		// The witnesses are away at the next start: what is final is still known,
		// and shown, but nothing new is signed.
		a.answer(down)
		b.answer(down)
		n = begin(t, dir, dsn, with)
		until(t, func() bool {
			of := n.Status().Witnesses.Of
			return of[0].Err != nil && of[1].Err != nil
		})
		if w := n.Status().Witnesses; w.Size != before.Size || !w.Final.Equal(before.Final.Round(0)) {
			t.Errorf("final %d at %s, was %d at %s", w.Size, w.Final, before.Size, before.Final)
		}
		if _, _, err := pasban.OpenCosigned(n.served(t), n.Verifier, p); err != nil {
			t.Errorf("what is published after a restart: %v", err)
		}
		n.record(t, 1)
		if err := n.Healthy(); err == nil || !strings.Contains(err.Error(), "before the witnesses have said") || !strings.Contains(err.Error(), "a.example/w: it cannot be reached") {
			t.Errorf("healthy without the witnesses' word: %v", err)
		}
		a.answer(nil)
		b.answer(nil)
		n.finalAt(t)
		until(t, func() bool { return n.Healthy() == nil })
		n.check(t)
		if alarms := n.actions(t); len(alarms) != 0 {
			t.Errorf("alarms %v", alarms)
		}
	})
}

// TestWitnessOutage: with enough of them everything stays final; without, the log
// goes on and says that it is not, raises one alarm, and catches up.
func TestWitnessOutage(t *testing.T) {
	var a, b, c *watcher
	n := begin(t, t.TempDir(), "", func(v note.Verifier) ledger.Options {
		a, b, c = newWatcher(t, "a.example/w", v), newWatcher(t, "b.example/w", v), newWatcher(t, "c.example/w", v)
		o := witnessed(2, a, b, c)
		o.Witnesses.Timeout, o.Witnesses.Patience = 200*time.Millisecond, 500*time.Millisecond
		return o
	})
	n.record(t, 5)
	n.finalAt(t)

	c.answer(func(_ http.ResponseWriter, r *http.Request) { // it hangs
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	n.record(t, 5)
	w := n.finalAt(t)
	until(t, func() bool { return n.Status().Witnesses.Of[2].Err != nil })
	if w = n.Status().Witnesses; w.Problem != nil || w.Of[0].Err != nil || w.Of[1].Err != nil {
		t.Errorf("%+v", w)
	}
	if err := n.Healthy(); err != nil {
		t.Error(err)
	}

	b.answer(func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprintln(rw, "— b.example/w AAAA") })
	entries := n.record(t, 5)
	n.settle(t) // published all the same
	until(t, func() bool { return n.Status().Witnesses.Problem != nil })
	problem := n.Status().Witnesses.Problem.Error()
	for _, want := range []string{"1 of the 2 cosignatures", "b.example/w: its answer has no cosignature that holds", "c.example/w: it cannot be reached"} {
		if !strings.Contains(problem, want) {
			t.Errorf("the problem lacks %q: %s", want, problem)
		}
	}
	if w := n.Status().Witnesses; w.Size != 10 || n.Status().Size != 15 {
		t.Errorf("final %d of %d", w.Size, n.Status().Size)
	}
	if err := n.Healthy(); err != nil {
		t.Errorf("a witness's outage closed the ledger: %v", err)
	}
	r, err := n.Receipt(t.Context(), entries[0])
	if err != nil {
		t.Fatal(err)
	}
	if final := n.Final(n.served(t)); final != "no" {
		t.Errorf("what is published is final: %q", final)
	}
	if _, held, err := pasban.OpenCosigned([]byte(r.Checkpoint), n.Verifier, policy(t, 2, a, b, c)); err == nil || len(held) != 1 {
		t.Errorf("a receipt that is not final has %d cosignatures: %v", len(held), err)
	}
	until(t, func() bool { return slices.Equal(n.actions(t), []string{"unwitnessed"}) })

	b.answer(nil)
	n.finalAt(t)
	until(t, func() bool { return n.Status().Witnesses.Problem == nil })
	n.record(t, 5)
	n.finalAt(t)
	if got := n.actions(t); len(got) != 1 {
		t.Errorf("alarms %v", got)
	}
	n.check(t)
}

// signatures notes what the ledger's key signs.
type signatures struct {
	note.Signer
	mu  sync.Mutex
	all []string
}

func (s *signatures) Sign(msg []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, string(msg))
	return s.Signer.Sign(msg)
}

// only fails if anything but this checkpoint was signed.
func (s *signatures) only(t *testing.T, checkpoint []byte) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, msg := range s.all {
		if !bytes.HasPrefix(checkpoint, []byte(msg+"\n")) {
			t.Errorf("signed %q", msg)
		}
	}
}

// restart opens the ledger in dir again, with its key watched.
func restart(t *testing.T, dir string, o ledger.Options) (*node, *signatures) {
	t.Helper()
	n, err := parts(t.Context(), dir, filepath.Join(dir, "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.close() })
	s := &signatures{Signer: n.Signer}
	n.Signer = s
	if err := n.open(context.WithoutCancel(t.Context()), o); err != nil {
		t.Fatal(err)
	}
	return n, s
}

// stopped waits until the ledger has stopped for good, and says why.
func (n *node) stopped(t *testing.T) error {
	t.Helper()
	until(t, func() bool { return len(n.actions(t)) > 0 })
	err := n.stop()
	if h := n.Healthy(); h == nil || err == nil || h.Error() != err.Error() {
		t.Errorf("unhealthy because of %v, stopped because of %v", h, err)
	}
	return err
}

// backedUp is the data directory of a closed ledger of 40 leaves, which its one
// witness has cosigned, and a copy of it with the first 20.
func backedUp(t *testing.T) (dir, old string, a *watcher) {
	t.Helper()
	dir, old = t.TempDir(), filepath.Join(t.TempDir(), "old")
	n, a := witnessedByOne(t, dir)
	more := func() {
		t.Helper()
		n.record(t, 20)
		n.finalAt(t)
		if err := n.close(); err != nil {
			t.Fatal(err)
		}
	}
	more()
	copyTree(t, dir, old)
	n, _ = restart(t, dir, witnessed(1, a))
	more()
	return dir, old, a
}

// TestRestoredLedger: a whole data directory that was restored from an old backup
// looks sound to itself. What the witnesses saw tells, before anything is signed.
func TestRestoredLedger(t *testing.T) {
	for _, c := range []struct {
		name         string
		diverge      int // leaves that the copy gets, away from its witnesses
		action, want string
	}{
		{"restored", 0, "rollback", "has cosigned a checkpoint of 40 leaves"},
		{"restored and used", 5, "rollback", "has signed none of more than 25"},
		{"forked", 20, "fork", "another root for 40 leaves"},
		{"forked and longer", 35, "fork", "55 leaves extend the 40"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, old, a := backedUp(t)
			copyTree(t, old, dir)
			if c.diverge > 0 {
				n, _ := restart(t, dir, options)
				n.record(t, c.diverge)
				n.settle(t)
				if err := n.close(); err != nil {
					t.Fatal(err)
				}
			}
			before, err := os.ReadFile(filepath.Join(dir, "ledger", "checkpoint"))
			if err != nil {
				t.Fatal(err)
			}
			n, signed := restart(t, dir, witnessed(1, a))
			n.record(t, 3)
			if err := n.stopped(t); !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "refused to sign any more") {
				t.Errorf("%v; want %q", err, c.want)
			}
			if got := n.actions(t); !slices.Equal(got, []string{c.action}) {
				t.Errorf("alarms %v", got)
			}
			if after := n.served(t); !bytes.Equal(after, before) {
				t.Errorf("published\n%s\nbefore\n%s", after, before)
			}
			if err := n.close(); err != nil {
				t.Fatal(err)
			}
			signed.only(t, before)
		})
	}
}

// TestLostLedger: the key is there, everything else is gone.
func TestLostLedger(t *testing.T) {
	dir := t.TempDir()
	n, a := witnessedByOne(t, dir)
	n.record(t, 3)
	n.finalAt(t)
	if err := n.close(); err != nil {
		t.Fatal(err)
	}
	stores, err := filepath.Glob(filepath.Join(dir, "store*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(stores, n.ledgerDir()) {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	n, _ = restart(t, dir, witnessed(1, a))
	n.record(t, 3)
	if err := n.stopped(t); !strings.Contains(err.Error(), "checkpoint of 3 leaves") {
		t.Error(err)
	}
	if s := n.Status().Size; s != 0 {
		t.Errorf("%d leaves are published", s)
	}
}

// TestLateWitness: the one who knows better is away at the start and comes later.
func TestLateWitness(t *testing.T) {
	dir, old := t.TempDir(), filepath.Join(t.TempDir(), "old")
	var a, b *watcher
	n := begin(t, dir, "", func(v note.Verifier) ledger.Options {
		a, b = newWatcher(t, "a.example/w", v), newWatcher(t, "b.example/w", v)
		return witnessed(1, a)
	})
	n.record(t, 10)
	n.finalAt(t)
	if err := n.close(); err != nil {
		t.Fatal(err)
	}
	copyTree(t, dir, old)
	n, _ = restart(t, dir, witnessed(1, a))
	n.record(t, 10)
	n.finalAt(t)
	if err := n.close(); err != nil {
		t.Fatal(err)
	}
	copyTree(t, old, dir)
	a.answer(down)
	n, _ = restart(t, dir, witnessed(1, a, b))
	n.record(t, 3)
	n.finalAt(t) // by the word of b, who knows nothing
	a.answer(nil)
	if err := n.stopped(t); !strings.Contains(err.Error(), "a.example/w has cosigned a checkpoint of 20 leaves") {
		t.Error(err)
	}
	size := n.Status().Size
	n.record(t, 3)
	if err := n.close(); err != nil {
		t.Fatal(err)
	}
	if now := n.Status().Size; now != size {
		t.Errorf("%d leaves are published after %d", now, size)
	}
}

// TestSecondHolder: a copy that runs beside the original signs with its key.
func TestSecondHolder(t *testing.T) {
	dir, other := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	n, a := witnessedByOne(t, dir)
	n.record(t, 10)
	n.finalAt(t)
	if err := n.close(); err != nil {
		t.Fatal(err)
	}
	copyTree(t, dir, other)
	n, _ = restart(t, dir, witnessed(1, a))
	n.record(t, 1)
	n.finalAt(t)
	twin, _ := restart(t, other, options) // without witnesses it goes on
	twin.record(t, 9)
	twin.settle(t)
	if err := twin.close(); err != nil {
		t.Fatal(err)
	}
	twin, _ = restart(t, other, witnessed(1, a))
	if err := twin.stopped(t); !strings.Contains(err.Error(), "forked") {
		t.Error(err)
	}
	n.record(t, 1)
	n.finalAt(t) // the original is none the worse
}

// TestWitnessesThatDoNotTell: a new ledger signs no leaf while they do not say that
// they hold nothing of it, whatever else they say.
func TestWitnessesThatDoNotTell(t *testing.T) {
	for name, answer := range map[string]struct {
		f    http.HandlerFunc
		want string
	}{
		"down":           {down, "it cannot be reached"},
		"unknown ledger": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "unknown", http.StatusNotFound) }, "it answers 404: unknown"},
		"unknown key":    {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "who?", http.StatusForbidden) }, "it answers 403: who?"},
		"garbage":        {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "\x00\n\n— ") }, "no cosignature that holds"},
		"broken":         {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, "it answers 500"},
		"a size that cannot be": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/x.tlog.size")
			w.WriteHeader(http.StatusConflict)
			fmt.Fprintln(w, "many")
		}, "but not what"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var a *watcher
			n := begin(t, t.TempDir(), "", func(v note.Verifier) ledger.Options {
				a = newWatcher(t, "a.example/w", v)
				a.answer(answer.f)
				return witnessed(1, a)
			})
			n.record(t, 3)
			until(t, func() bool { return a.asked.Load() > 2 }) // it is asked again and again
			err := n.Healthy()
			if err == nil || !strings.Contains(err.Error(), answer.want) {
				t.Errorf("%v; want %q", err, answer.want)
			}
			if s := n.Status(); s.Size != 0 {
				t.Errorf("%d leaves are published", s.Size)
			}
			a.answer(nil)
			n.finalAt(t)
			n.check(t)
		})
	}
}

// TestSilenceIsAnAlarm: witnesses that do not speak after a start are told of once,
// also where everything is final.
func TestSilenceIsAnAlarm(t *testing.T) {
	dir := t.TempDir()
	n, a := witnessedByOne(t, dir)
	n.record(t, 3)
	n.finalAt(t)
	if err := n.close(); err != nil {
		t.Fatal(err)
	}
	a.answer(down)
	o := witnessed(1, a)
	o.Witnesses.Patience = 100 * time.Millisecond
	n, _ = restart(t, dir, o)
	until(t, func() bool { return slices.Equal(n.actions(t), []string{"unwitnessed"}) })
	if n.Status().Witnesses.Lag != 0 {
		t.Error("what is final lags")
	}
	asked := a.asked.Load()
	until(t, func() bool { return a.asked.Load() > asked+1 })
	a.answer(nil)
	until(t, func() bool { return n.Healthy() == nil })
	n.record(t, 3)
	n.finalAt(t)
	if got := n.actions(t); len(got) != 1 {
		t.Errorf("alarms %v", got)
	}
}

// TestCosignaturesAreRenewed: a ledger that does not grow is still seen by its
// witnesses from time to time.
func TestCosignaturesAreRenewed(t *testing.T) {
	var a *watcher
	n := begin(t, t.TempDir(), "", func(v note.Verifier) ledger.Options {
		a = newWatcher(t, "a.example/w", v)
		o := witnessed(1, a)
		o.Witnesses.Renew = 100 * time.Millisecond
		return o
	})
	n.record(t, 3)
	w := n.finalAt(t)
	until(t, func() bool { return n.Status().Witnesses.Of[0].Cosigned.After(w.Of[0].Cosigned.Add(time.Second)) })
	a.answer(down) // the failure is seen too, and does not take what is final back
	until(t, func() bool { return n.Status().Witnesses.Of[0].Err != nil })
	if w := n.Status().Witnesses; w.Size != 3 || w.Lag != 0 {
		t.Errorf("%+v", w)
	}
}

// TestBadPolicy: what cannot be met is refused at the start.
func TestBadPolicy(t *testing.T) {
	dir := t.TempDir()
	n, err := parts(t.Context(), dir, filepath.Join(dir, "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	a := newWatcher(t, "a.example/w", n.Verifier)
	for _, o := range []ledger.Options{witnessed(0, a), witnessed(2, a), witnessed(1, a, a)} {
		if l, err := ledger.Open(t.Context(), posix.New(n.ledgerDir()), n.Store, n.Journal, n.Signer, n.VKey, o); pasban.KindOf(err) != pasban.Invalid {
			t.Errorf("%+v: %v, %v", o.Witnesses, l, err)
		}
	}
}

// TestRebuildBesideWitnesses: an operator may have a lost directory made again; it
// goes on if the store is the newest, and stops if that is an old copy.
func TestRebuildBesideWitnesses(t *testing.T) {
	for _, old := range []bool{false, true} {
		t.Run(fmt.Sprintf("old store %v", old), func(t *testing.T) {
			t.Parallel()
			dir, copied, a := backedUp(t)
			if old {
				copyTree(t, copied, dir)
			}
			if err := os.RemoveAll(filepath.Join(dir, "ledger")); err != nil {
				t.Fatal(err)
			}
			o := witnessed(1, a)
			o.Rebuild = true
			n, signed := restart(t, dir, o)
			n.record(t, 5)
			if !old {
				n.finalAt(t)
				n.check(t)
				return
			}
			until(t, func() bool { return slices.Contains(n.actions(t), "rollback") })
			if err := n.stop(); err == nil || !strings.Contains(err.Error(), "has signed none of more than 20") {
				t.Error(err)
			}
			before, err := os.ReadFile(filepath.Join(copied, "ledger", "checkpoint"))
			if err != nil {
				t.Fatal(err)
			}
			signed.only(t, before)
		})
	}
}

// BenchmarkReceipt is how long a fact waits for its receipt, alone and with
// witnesses; the interval between checkpoints, 100 ms here, is most of it.
func BenchmarkReceipt(b *testing.B) {
	for _, count := range []int{0, 3} {
		b.Run(fmt.Sprintf("witnesses=%d", count), func(b *testing.B) {
			n := begin(b, b.TempDir(), "", func(v note.Verifier) ledger.Options {
				var of []*watcher
				for i := range count {
					of = append(of, newWatcher(b, fmt.Sprintf("%c.example/w", 'a'+i), v))
				}
				return witnessed(min(count, 2), of...)
			})
			n.record(b, 1)
			n.settle(b)
			for b.Loop() {
				n.record(b, 1)
				n.settle(b)
			}
		})
	}
}

// TestForkWithoutSize: the specification lets a witness that knows another root for
// a size leave the size out of its 409. One that names none before is only broken.
func TestForkWithoutSize(t *testing.T) {
	dir := t.TempDir()
	n, a := witnessedByOne(t, dir)
	n.record(t, 3)
	n.finalAt(t)
	a.answer(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "busy", http.StatusConflict) })
	n.record(t, 1)
	until(t, func() bool { return n.Status().Witnesses.Of[0].Err != nil })
	if err := n.Healthy(); err != nil {
		t.Errorf("stopped by a 409 that says nothing: %v", err)
	}
	a.answer(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || !bytes.HasPrefix(body, []byte("old 0\n")) {
			w.WriteHeader(http.StatusConflict)
			return
		}
		w.Header().Set("Content-Type", "text/x.tlog.size")
		w.WriteHeader(http.StatusConflict)
		fmt.Fprintln(w, 4)
	})
	if err := n.stopped(t); !strings.Contains(err.Error(), "another root for 4 leaves") {
		t.Error(err)
	}
}

// TestNothingToCosign: some witnesses do not cosign a ledger without leaves. That
// they refuse it for itself, and not for what they hold, is their word.
func TestNothingToCosign(t *testing.T) {
	for _, status := range []int{http.StatusBadRequest, http.StatusUnprocessableEntity} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			var a *watcher
			n := begin(t, t.TempDir(), "", func(v note.Verifier) ledger.Options {
				a = newWatcher(t, "a.example/w", v)
				a.answer(func(w http.ResponseWriter, r *http.Request) {
					body, err := io.ReadAll(r.Body)
					if err != nil || bytes.Contains(body, []byte("\n\n"+origin+"\n0\n")) {
						w.WriteHeader(status)
						return
					}
					r.Body = io.NopCloser(bytes.NewReader(body))
					a.real.ServeHTTP(w, r)
				})
				return witnessed(1, a)
			})
			n.record(t, 3)
			n.finalAt(t)
			until(t, func() bool { return n.Status().Witnesses.Of[0].Err == nil })
			if got := n.actions(t); len(got) != 0 {
				t.Errorf("alarms %v", got)
			}
		})
	}
}
