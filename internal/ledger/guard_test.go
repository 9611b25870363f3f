package ledger

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/store"
	"pasban/internal/store/storetest"
)

func newGuard(t *testing.T, st *store.Store) *guard {
	t.Helper()
	skey, _, err := note.GenerateKey(rand.Reader, "land.example/ledger")
	if err != nil {
		t.Fatal(err)
	}
	key, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Migrate(t.Context(), "ledger", migrations); err != nil {
		t.Fatal(err)
	}
	return &guard{key: key, st: st, seenThere: func() int64 { return 0 }, storeTime: time.Minute, ready: true}
}

func leafHashes(from, to int) []tlog.Hash {
	var out []tlog.Hash
	for i := range to - from {
		out = append(out, tlog.RecordHash(fmt.Append(nil, from+i)))
	}
	return out
}

func text(n int, leaves []tlog.Hash) []byte {
	var f frontier
	for _, h := range leaves[:n] {
		f.add(h)
	}
	return fmt.Appendf(nil, "land.example/ledger\n%d\n%s\n", n, f.tree().Hash)
}

// The key signs roots of the journal's leaves, each size once, and writes them
// down first; it signs nothing else.
func TestGuard(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		g := newGuard(t, st)
		leaves := leafHashes(0, 20)
		forked := append(leafHashes(0, 3), leafHashes(50, 70)...)
		g.note(leaves)
		sign := func(msg []byte) error { _, err := g.Sign(msg); return err }
		for _, c := range []struct {
			name string
			msg  []byte
			ok   bool
		}{
			{"the empty log", text(0, leaves), true},
			{"growth", text(7, leaves), true},
			{"the same again", text(7, leaves), true},
			{"a fork of one size", text(7, forked), false},
			{"a fork of a greater size", text(9, forked), false},
			{"going back", text(6, leaves), false},
			{"more than the journal gave", text(21, append(leaves, tlog.Hash{})), false},
			{"a promise", []byte("pasban/promise/v1\nland.example/ledger\n7\nAAAA\n1\n"), false},
			{"another ledger", append([]byte("x"), text(8, leaves)...), false},
			{"an extension", append(text(8, leaves), "more\n"...), false},
			{"nothing", nil, false},
			{"further growth", text(20, leaves), true},
		} {
			if err := sign(c.msg); (err == nil) != c.ok {
				t.Errorf("%s: %v", c.name, err)
			}
			if _, refused := g.state(); (refused == nil) != c.ok {
				t.Errorf("%s: refused is %v", c.name, refused)
			}
		}
		record, known, err := loadSeen(t.Context(), st)
		if err != nil || !known || string(text(20, leaves)) != fmt.Sprintf("land.example/ledger\n%d\n%s\n", record.n, record.tree().Hash) {
			t.Errorf("written down: %+v, %v, %v", record, known, err)
		}

		other := newGuard(t, st) // another process with an older idea
		other.note(forked)
		if _, err := other.Sign(text(10, forked)); err == nil {
			t.Error("signed behind another process's back")
		}
		g.close()
		if err := sign(text(20, leaves)); err == nil {
			t.Error("signed after close")
		}
	})
}

// What cannot be written down is not signed.
func TestGuardWritesFirst(t *testing.T) {
	st := storetest.SQLite(t)
	g := newGuard(t, st)
	g.note(leafHashes(0, 5))
	if err := st.Write(t.Context(), func(tx *store.Tx) error { _, err := tx.Exec(`DROP TABLE ledger_seen`); return err }); err != nil {
		t.Fatal(err)
	}
	if sig, err := g.Sign(text(5, leafHashes(0, 5))); err == nil || sig != nil {
		t.Errorf("signed %x, %v", sig, err)
	}
}

func TestGuardBeforeTheDirectoryIsChecked(t *testing.T) {
	g := newGuard(t, storetest.SQLite(t))
	g.ready = false
	g.note(leafHashes(0, 5))
	if _, err := g.Sign(text(0, nil)); err != nil {
		t.Errorf("a new log cannot begin: %v", err)
	}
	for _, n := range []int{0, 5} {
		if _, err := g.Sign(text(n, leafHashes(0, 5))); !errors.Is(err, errNotReady) {
			t.Errorf("size %d: %v", n, err)
		}
	}
}

// A record that was changed behind our back is not believed.
func TestSeenContradicts(t *testing.T) {
	for _, change := range []string{
		`UPDATE ledger_seen SET size = 7`,
		`UPDATE ledger_seen SET size = -1`,
		`UPDATE ledger_seen SET root = zeroblob(32)`,
		`UPDATE ledger_seen SET peaks = x'00'`,
		`UPDATE ledger_seen SET peaks = zeroblob(64)`,
		`UPDATE ledger_seen SET published = 9`,
	} {
		st := storetest.SQLite(t)
		g := newGuard(t, st)
		g.note(leafHashes(0, 5))
		if _, err := g.Sign(text(5, leafHashes(0, 5))); err != nil {
			t.Fatal(err)
		}
		if _, known, err := loadSeen(t.Context(), st); err != nil || !known {
			t.Fatal(known, err)
		}
		if err := st.Write(t.Context(), func(tx *store.Tx) error { _, err := tx.Exec(change); return err }); err != nil {
			t.Fatal(err)
		}
		if s, known, err := loadSeen(t.Context(), st); err == nil || known || pasban.KindOf(err) != pasban.Unavailable {
			t.Errorf("%s: %+v, %v, %v", change, s, known, err)
		}
	}
}

func TestFrontierAgreesWithTlog(t *testing.T) {
	var stored []tlog.Hash
	r := tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(at))
		for i, x := range at {
			out[i] = stored[x]
		}
		return out, nil
	})
	var f frontier
	for i, h := range leafHashes(0, 600) {
		want, err := tlog.TreeHash(int64(i), r)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.tree(); got.N != int64(i) || got.Hash != want {
			t.Fatalf("%d leaves: %+v, want %v", i, got, want)
		}
		more, err := tlog.StoredHashesForRecordHash(int64(i), h, r)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, more...)
		f.add(h)
	}
}

// Who asks how the ledger is, as every guarded route does, does not wait until the
// store has written down what is about to be signed, and the sequencer goes on.
func TestGuardAnswersWhileTheStoreIsSlow(t *testing.T) {
	st := storetest.SQLite(t)
	g := newGuard(t, st)
	g.note(leafHashes(0, 5))
	busy, release := make(chan struct{}), make(chan struct{})
	wrote := make(chan error, 1)
	go func() {
		wrote <- st.Write(context.Background(), func(*store.Tx) error {
			close(busy)
			<-release
			return nil
		})
	}()
	<-busy
	signed := make(chan error, 1)
	go func() {
		_, err := g.Sign(text(5, leafHashes(0, 5)))
		signed <- err
	}()
	for st.Queued() == 0 {
		runtime.Gosched()
	}
	if record, err := g.state(); record.n != 0 || err != nil {
		t.Errorf("signed already: %+v, %v", record, err)
	}
	g.note(leafHashes(5, 6))
	close(release)
	if err := errors.Join(<-wrote, <-signed); err != nil {
		t.Error(err)
	}
	if tree, ok := g.at(6); !ok || tree.N != 6 {
		t.Error("a leaf that was noted meanwhile is lost")
	}
	if n, err := g.rewind(3); n != 5 || err != nil { // what was signed is kept
		t.Errorf("rewound to %d, %v", n, err)
	}
	if _, err := g.Sign(text(6, leafHashes(0, 6))); err == nil {
		t.Error("signed a leaf that was taken back")
	}
}
