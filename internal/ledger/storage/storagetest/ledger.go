package storagetest

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/journal"
	"pasban/internal/journal/journaltest"
	"pasban/internal/ledger"
	"pasban/internal/ledger/ledgertest"
	"pasban/internal/ledger/tiles"
)

// node is a ledger over a storage, with what it stands on.
type node struct {
	*ledgertest.Parts
	o ledger.Options
	s ledger.Storage
	*ledger.Ledger
	stop func()
}

func newNode(t *testing.T) *node {
	t.Helper()
	dir := t.TempDir()
	return &node{Parts: ledgertest.New(t, dir, filepath.Join(dir, "store.db"), journaltest.NewSealer("")),
		o: ledger.Options{Agency: "land-records", Interval: 100 * time.Millisecond, AuditEvery: time.Hour, MaxDelay: time.Minute, Damaged: filepath.Join(dir, "damaged")}}
}

// open opens the ledger over s without running it.
func (n *node) open(t *testing.T, s ledger.Storage) error {
	l, err := ledger.Open(t.Context(), s, n.Store, n.Journal, n.Signer, n.VKey, n.o)
	if err != nil {
		return err
	}
	n.Ledger, n.s = l, s
	return nil
}

// run opens the ledger over s and runs it until the test ends or it is closed.
func (n *node) run(t *testing.T, s ledger.Storage) {
	t.Helper()
	check(t, n.open(t, s))
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		_ = n.Run(ctx) // its error is the context's
	}()
	l := n.Ledger
	n.stop = sync.OnceFunc(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		cancel()
		<-ran
	})
	t.Cleanup(n.stop)
}

// record records so many accountable facts.
func (n *node) record(t *testing.T, count int) (out []journal.Entry) {
	t.Helper()
	for chunk := range slices.Chunk(make([]struct{}, count), 200) {
		var facts []pasban.Fact
		for range chunk {
			facts = append(facts, pasban.NewFact(pasban.KindLook, "land-records", pasban.Actor{ID: "officer:1", Kind: pasban.ActorPerson}, time.Now()))
		}
		entries, err := n.Journal.Record(t.Context(), facts...)
		check(t, err)
		out = append(out, entries...)
	}
	return out
}

// settle waits until everything recorded is under a checkpoint.
func (n *node) settle(t *testing.T) {
	t.Helper()
	_, leaves, err := n.Journal.Head(t.Context())
	check(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := n.Await(ctx, leaves-1); err != nil {
		t.Fatal(err, n.Healthy())
	}
}

// until waits for what another goroutine brings about.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(time.Minute)
	for !cond() {
		select {
		case <-limit:
			t.Fatal("not within a minute: " + what)
		case <-tick.C:
		}
	}
}

// damage changes a byte of a file behind everybody's back.
func (n *node) damage(t *testing.T, name string) {
	t.Helper()
	data, err := n.s.ReadFile(t.Context(), name)
	check(t, err)
	data = bytes.Clone(data)
	data[len(data)/2] ^= 0x10
	check(t, n.s.WriteFile(t.Context(), name, data))
}

// A whole ledger: receipts, files over HTTP, what is changed is found and put
// right, and nothing wrong is signed; closed and opened, it goes on.
func testLedger(t *testing.T, make func(*testing.T) Engine) {
	e := make(t)
	n := newNode(t)
	n.run(t, e.Open(t))
	entries := n.record(t, 300)
	n.settle(t)
	if err := n.open(t, e.Open(t)); pasban.KindOf(err) != pasban.Conflict {
		t.Errorf("opened twice: %v", err)
	}
	for _, i := range []int{0, 255, 256, 299} {
		r, err := n.Receipt(t.Context(), entries[i])
		check(t, err)
		if _, err := r.Verify(n.Verifier); err != nil {
			t.Error(err)
		}
	}
	r, err := ledger.ReadReceipt(t.Context(), n.s, n.Verifier, entries[7])
	if err != nil || r.Index != 7 {
		t.Errorf("read from the files: %d, %v", r.Index, err)
	}
	n.served(t)
	check(t, n.Audit(t.Context()))

	n.damage(t, "tile/0/000") // of the past
	if err := n.Audit(t.Context()); err == nil || !strings.Contains(err.Error(), "the file") {
		t.Errorf("a changed tile: %v", err)
	}
	if found, err := n.Repair(t.Context()); err != nil || len(found) != 1 || found[0].Path != "tile/0/000" {
		t.Errorf("repaired %v, %v", found, err)
	}
	n.damage(t, "tile/0/001.p/44") // which the driver grows
	n.record(t, 10)
	n.settle(t) // only a right root gets here
	check(t, n.Audit(t.Context()))
	alarms := n.alarms(t)
	if !slices.Contains(alarms, "tile/0/000") || !slices.Contains(alarms, "tile/0/001.p/44") {
		t.Errorf("alarms %q", alarms)
	}
	check(t, n.s.WriteFile(t.Context(), tiles.Checkpoint, []byte("nonsense")))
	until(t, "the checkpoint is put back", func() bool { return slices.Contains(n.alarms(t), tiles.Checkpoint) })
	n.record(t, 10)
	n.stop()
	n.run(t, e.Open(t))
	n.settle(t)
	check(t, n.Audit(t.Context()))
	if s := n.Status(); s.Size != 320 || s.Err != nil || s.Storage != n.s.Name() || s.StorageAt.IsZero() {
		t.Errorf("%+v", s)
	}
}

// alarms returns what the alarms so far name.
func (n *node) alarms(t *testing.T) (out []string) {
	t.Helper()
	entries, err := n.Journal.Since(t.Context(), 0, 1<<20)
	check(t, err)
	for _, e := range entries {
		if e.Fact.Body.Kind == pasban.KindAlarm {
			out = append(out, e.Fact.Body.Resource)
		}
	}
	return out
}

// served reads the files over HTTP.
func (n *node) served(t *testing.T) {
	t.Helper()
	const forever = "public, max-age=31536000, immutable"
	for name, cache := range map[string]string{"checkpoint": "no-cache", "tile/0/000": forever, "tile/entries/001.p/44": forever, "tile/0/001.p/45": "", "vkey": ""} {
		w := httptest.NewRecorder()
		n.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/ledger/"+name, nil))
		if (w.Code == http.StatusOK) != (cache != "") || w.Header().Get("Cache-Control") != cache {
			t.Errorf("%s: %d, %q", name, w.Code, w.Header())
		}
	}
}

// A storage that is lost, or restored from an old copy, is refused, and made
// again on the operator's word alone; the other way round, so is an old store.
func testCopies(t *testing.T, make func(*testing.T) Engine) {
	n := newNode(t)
	n.run(t, make(t).Open(t))
	n.record(t, 30)
	n.settle(t)
	old := n.Status()
	files := map[string][]byte{}
	for _, name := range append(list(t, n.s), tiles.Checkpoint, ledger.VKey) {
		data, err := n.s.ReadFile(t.Context(), name)
		check(t, err)
		files[name] = data
	}
	n.record(t, 30)
	n.settle(t)
	n.stop()
	signed := n.Status()

	if err := n.open(t, make(t).Open(t)); err == nil || !strings.Contains(err.Error(), "has no checkpoint") {
		t.Errorf("an empty storage: %v", err)
	}
	e := make(t)
	copied := e.Open(t)
	check(t, copied.Claim(t.Context()))
	_, err := copied.Restore(t.Context(), func(ctx context.Context) (tlog.Tree, error) {
		for name, data := range files {
			check(t, copied.WriteFile(ctx, name, data))
		}
		root, err := tlog.ParseHash(old.Root)
		return tlog.Tree{N: int64(old.Size), Hash: root}, err
	})
	check(t, err)
	check(t, copied.Close())
	if err := n.open(t, e.Open(t)); err == nil || !strings.Contains(err.Error(), "rolled back") {
		t.Errorf("an old copy: %v", err)
	}
	n.o.Rebuild = true
	n.run(t, e.Open(t))
	if s := n.Status(); s.Size != signed.Size || s.Root != signed.Root {
		t.Errorf("rebuilt %d %s, signed was %d %s", s.Size, s.Root, signed.Size, signed.Root)
	}
	n.record(t, 5)
	n.settle(t)
	check(t, n.Audit(t.Context()))
	n.stop()

	stranger := newNode(t) // another key
	if err := stranger.open(t, e.Open(t)); pasban.KindOf(err) != pasban.Conflict {
		t.Errorf("another ledger's storage: %v", err)
	}
}

// A storage that is slow without end, or cannot be reached: the ledger says so,
// and at once; what was recorded meanwhile is in it afterwards.
func testOutage(t *testing.T, make func(*testing.T) Engine) {
	e := make(t)
	if e.Gate == nil {
		t.Skip("this storage is not reached over a connection")
	}
	n := newNode(t)
	n.o.MaxDelay = time.Second
	e.Gate.Cut()
	if err := n.open(t, e.Open(t)); pasban.KindOf(err) != pasban.Unavailable || strings.Contains(err.Error(), password) {
		t.Errorf("opened what cannot be reached: %v", err)
	}
	e.Gate.Open()
	n.run(t, e.Open(t))
	n.record(t, 5)
	n.settle(t)
	for name, fail := range map[string]func(){"slow": e.Gate.Hold, "cut": e.Gate.Cut} {
		until(t, "healthy", func() bool { return n.Healthy() == nil })
		fail()
		n.record(t, 5)
		until(t, name+": the lag is seen", func() bool { s := n.Status(); return s.Lag > 0 && s.LagTime > n.o.MaxDelay && s.Err != nil })
		until(t, name+": the storage's silence is seen", func() bool { s := n.Status(); return time.Since(s.StorageAt) > n.o.MaxDelay })
		e.Gate.Open()
		n.settle(t)
	}
	until(t, "healthy", func() bool { return n.Healthy() == nil })
	check(t, n.Audit(t.Context()))
}
