package journal_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"pasban"
	"pasban/internal/journal"
	"pasban/internal/store"
	"pasban/internal/store/storetest"
)

// sealer is AES-256-GCM under keys held in memory: what the vault does, without its tables.
type sealer struct {
	mu   sync.Mutex
	keys map[pasban.SubjectID]cipher.AEAD
}

func newSealer(subjects ...pasban.SubjectID) *sealer {
	s := &sealer{keys: map[pasban.SubjectID]cipher.AEAD{}}
	for _, id := range append(subjects, "") {
		key := sha256.Sum256([]byte("a synthetic key for " + id)) // the same in every process of a test
		s.keys[id] = gcm(key[:])
	}
	return s
}

func gcm(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return aead
}

func (s *sealer) key(id pasban.SubjectID) (cipher.AEAD, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.keys[id]; k != nil {
		return k, nil
	}
	return nil, &pasban.Error{Kind: pasban.NotFound, Msg: "no key for this citizen"}
}

func (s *sealer) shred(id pasban.SubjectID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, id)
}

func (s *sealer) Seal(_ context.Context, id pasban.SubjectID, plain, aad []byte) ([]byte, error) {
	k, err := s.key(id)
	if err != nil {
		return nil, err
	}
	return k.Seal(nil, nil, plain, aad), nil
}

func (s *sealer) Open(_ context.Context, id pasban.SubjectID, sealed, aad []byte) ([]byte, error) {
	k, err := s.key(id)
	if err != nil {
		return nil, err
	}
	return k.Open(nil, nil, sealed, aad)
}

const origin = "synthetic.example/ledger"

var (
	ayesha = pasban.Subject{ID: "0a", CNIC: "35202-0000001-1"} // synthetic
	bilal  = pasban.Subject{ID: "0b", CNIC: "35202-0000002-1"} // synthetic
	clerk  = pasban.Actor{ID: "officer:lhr-032", Kind: pasban.ActorPerson, Role: pasban.RoleOfficer, Staff: "LHR-0032"}
)

func look(s pasban.Subject, n int) pasban.Fact {
	f := pasban.NewFact(pasban.KindLook, "land-records", clerk, time.Now())
	f.Subject, f.Body.Action, f.Body.Resource = s, "view", fmt.Sprint(n)
	f.Restricted.IP = "192.0.2.7"
	return f
}

func block(n int) pasban.Fact {
	f := pasban.NewFact(pasban.KindBlock, "land-records", pasban.Actor{}, time.Now())
	f.Body.Resource, f.Body.Outcome = fmt.Sprint(n), pasban.Denied
	return f
}

// rig is an open journal and what it was opened with.
type rig struct {
	*journal.Journal
	st       *store.Store
	sealer   *sealer
	signer   note.Signer
	verifier note.Verifier
}

// open opens a journal that has keys for ayesha, bilal and the others.
func open(t testing.TB, st *store.Store, others ...pasban.SubjectID) *rig {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{st: st, sealer: newSealer(append(others, ayesha.ID, bilal.ID)...)}
	if r.signer, err = note.NewSigner(skey); err != nil {
		t.Fatal(err)
	}
	if r.verifier, err = note.NewVerifier(vkey); err != nil {
		t.Fatal(err)
	}
	if r.Journal, err = journal.Open(t.Context(), st, journal.Options{Signer: r.signer, Sealer: r.sealer}); err != nil {
		t.Fatal(err)
	}
	return r
}

func signatureOf(e journal.Entry) []byte {
	return e.Promise.Sig[len(e.Promise.Sig)-ed25519.SignatureSize:]
}

// What is recorded is read back the same by every way, and its promise holds.
func TestRecord(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		j := open(t, st)
		facts := []pasban.Fact{look(ayesha, 0), block(1), look(bilal, 2), look(ayesha, 3)}
		entries, err := j.Record(t.Context(), facts...)
		if err != nil {
			t.Fatal(err)
		}
		wantIndex := []int64{0, -1, 1, 2}
		for i, e := range entries {
			if e.Seq != uint64(i)+1 || e.Index != wantIndex[i] {
				t.Errorf("fact %d is row %d, leaf %d; want row %d, leaf %d", i, e.Seq, e.Index, i+1, wantIndex[i])
			}
			if err := e.Promise.Verify(j.verifier); (err == nil) != (e.Index >= 0) {
				t.Errorf("fact %d: promise: %v", i, err)
			}
			read, err := j.ByID(t.Context(), facts[i].Body.ID)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, read, e)
			if e.Index < 0 {
				continue
			}
			leaf, err := e.Opening.Leaf()
			if err != nil || leaf.Hash() != e.Promise.Leaf || e.Promise.Index != uint64(e.Index) {
				t.Errorf("fact %d: the promise is of leaf %d %v, %v", i, e.Promise.Index, e.Promise.Leaf, err)
			}
			if read, err = j.ByIndex(t.Context(), uint64(e.Index)); err != nil {
				t.Fatal(err)
			}
			equal(t, read, e)
		}
		for _, i := range []int{2, 3} {
			if a, b := signatureOf(entries[0]), signatureOf(entries[i]); !bytes.Equal(a, b) {
				t.Errorf("facts 0 and %d of one commit have signatures %x and %x", i, a, b)
			}
		}
		since, err := j.Since(t.Context(), 1, 2)
		if err != nil || len(since) != 2 {
			t.Fatalf("%d entries, %v", len(since), err)
		}
		equal(t, since[0], entries[1])
		equal(t, since[1], entries[2])
		mine, err := j.BySubject(t.Context(), ayesha.ID, 0, 10)
		if err != nil || len(mine) != 2 {
			t.Fatalf("%d entries, %v", len(mine), err)
		}
		equal(t, mine[0], entries[3])
		equal(t, mine[1], entries[0])
		if older, err := j.BySubject(t.Context(), ayesha.ID, mine[0].Seq, 10); err != nil || len(older) != 1 {
			t.Fatalf("%d entries, %v", len(older), err)
		}
		leaves, err := j.Leaves(t.Context(), 1, 10)
		if err != nil || len(leaves) != 2 || leaves[0].Index != 1 || leaves[0].Leaf.Hash() != entries[2].Promise.Leaf {
			t.Fatalf("%v, %v", leaves, err)
		}
		if seq, n, err := j.Head(t.Context()); err != nil || seq != 4 || n != 3 {
			t.Fatalf("head %d, %d, %v", seq, n, err)
		}
		for _, ask := range []func() (journal.Entry, error){
			func() (journal.Entry, error) { return j.ByIndex(t.Context(), 3) },
			func() (journal.Entry, error) { return j.ByID(t.Context(), "none") },
		} {
			if _, err := ask(); pasban.KindOf(err) != pasban.NotFound {
				t.Errorf("error %v, want not found", err)
			}
		}
	})
}

// equal compares but for the promise, which is not stored.
func equal(t *testing.T, got, want journal.Entry) {
	t.Helper()
	want.Promise = pasban.Promise{}
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		t.Errorf("got  %s\nwant %s", g, w)
	}
}

// Data and the facts about it are there together or not at all.
func TestCommit(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		j := open(t, st)
		write := func(q string) error {
			return st.Write(t.Context(), func(tx *store.Tx) error { _, err := tx.Exec(q); return err })
		}
		if err := write(`CREATE TABLE plot (id BIGINT PRIMARY KEY)`); err != nil {
			t.Fatal(err)
		}
		change := func(id int, facts []pasban.Fact, err error) ([]journal.Entry, error) {
			return j.Commit(t.Context(), func(tx *store.Tx) ([]pasban.Fact, error) {
				if _, err := tx.Exec(`INSERT INTO plot (id) VALUES (?)`, id); err != nil {
					return nil, err
				}
				return facts, err
			})
		}
		entries, err := change(1, []pasban.Fact{look(ayesha, 1)}, nil)
		if err != nil || len(entries) != 1 || entries[0].Promise.Verify(j.verifier) != nil {
			t.Fatalf("%v, %v", entries, err)
		}
		mine := errors.New("mine")
		if _, err := change(2, []pasban.Fact{look(ayesha, 2)}, mine); err != mine {
			t.Errorf("error %v, want the step's own", err)
		}
		if _, err := change(1, []pasban.Fact{look(ayesha, 3)}, nil); !st.Unique(err) {
			t.Errorf("error %v, want that of the unique key", err)
		}
		unsealable := look(pasban.Subject{ID: "no key"}, 4)
		if _, err := change(3, []pasban.Fact{unsealable}, nil); err == nil {
			t.Error("no error for a fact that cannot be sealed")
		}
		// A fact that the table refuses fails the group, and the data with it.
		again := entries[0].Fact
		if _, err := change(4, []pasban.Fact{again}, nil); pasban.KindOf(err) != pasban.Conflict {
			t.Errorf("error %v, want a conflict", err)
		}
		var rows int
		if err := st.QueryRow(t.Context(), `SELECT COUNT(*) FROM plot`).Scan(&rows); err != nil || rows != 1 {
			t.Errorf("%d rows of data, %v; want 1", rows, err)
		}
		if seq, leaves, err := j.Head(t.Context()); err != nil || seq != 1 || leaves != 1 {
			t.Errorf("head %d, %d, %v; want 1, 1", seq, leaves, err)
		}
		if none, err := change(5, nil, nil); err != nil || len(none) != 0 {
			t.Errorf("%v, %v", none, err)
		}
	})
}
