package journal_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"pasban"
	"pasban/internal/journal"
	"pasban/internal/store"
	"pasban/internal/store/storetest"
)

// brokenSigner cannot sign.
type brokenSigner struct{ note.Signer }

func (brokenSigner) Name() string { return origin }

func (brokenSigner) Sign([]byte) ([]byte, error) { return nil, errors.New("synthetic") }

// Without a promise nothing may be shown: the caller gets an error, although
// the fact is recorded.
func TestNoPromiseNoEntry(t *testing.T) {
	st := storetest.SQLite(t)
	j, err := journal.Open(t.Context(), st, journal.Options{Signer: brokenSigner{}, Sealer: newSealer(ayesha.ID)})
	if err != nil {
		t.Fatal(err)
	}
	if entries, err := j.Record(t.Context(), look(ayesha, 1)); err == nil || entries != nil {
		t.Errorf("%v, %v; want an error alone", entries, err)
	}
	if seq, leaves, err := j.Head(t.Context()); err != nil || seq != 1 || leaves != 1 {
		t.Errorf("head %d, %d, %v; want the fact", seq, leaves, err)
	}
}

// moody opens nothing while it is away.
type moody struct {
	*sealer
	failures atomic.Int32 // how many calls of Open still fail
}

func (m *moody) Open(ctx context.Context, id pasban.SubjectID, sealed, aad []byte) ([]byte, error) {
	if m.failures.Add(-1) >= 0 {
		return nil, &pasban.Error{Kind: pasban.Unavailable, Msg: "synthetic"}
	}
	return m.sealer.Open(ctx, id, sealed, aad)
}

// Keys that cannot be reached for a moment do not make a row a damaged one.
func TestKeysAway(t *testing.T) {
	st := storetest.SQLite(t)
	m := &moody{sealer: newSealer(ayesha.ID)}
	rig := open(t, storetest.SQLite(t))
	j, err := journal.Open(t.Context(), st, journal.Options{Signer: rig.signer, Sealer: m})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Record(t.Context(), look(ayesha, 1)); err != nil {
		t.Fatal(err)
	}
	m.failures.Store(1)
	if _, err := j.ByIndex(t.Context(), 0); err != nil {
		t.Errorf("one failure of the keys: %v", err)
	}
	m.failures.Store(1 << 30)
	if _, err := j.ByIndex(t.Context(), 0); pasban.KindOf(err) != pasban.Unavailable {
		t.Errorf("error %v, want unavailable", err)
	}
	m.failures.Store(0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := j.ByIndex(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want cancelled", err)
	}
}

// When the storage refuses the group, nothing is recorded or promised, the
// store says so, and what comes after takes the next numbers: no gap is left.
func TestStorageRefuses(t *testing.T) {
	st := storetest.SQLite(t)
	j := open(t, st)
	if _, err := j.Record(t.Context(), look(ayesha, 1)); err != nil {
		t.Fatal(err)
	}
	_, err := j.Commit(t.Context(), func(tx *store.Tx) ([]pasban.Fact, error) {
		_, err := tx.Exec(`PRAGMA query_only = 1`) // the rows of the journal will be refused
		return []pasban.Fact{look(ayesha, 2)}, err
	})
	if pasban.KindOf(err) != pasban.Unavailable || st.Healthy() == nil {
		t.Errorf("error %v, health %v", err, st.Healthy())
	}
	entries, err := j.Record(t.Context(), look(ayesha, 3))
	if err != nil || entries[0].Seq != 2 || entries[0].Index != 1 || st.Healthy() != nil {
		t.Errorf("%v, %v, health %v; want row 2, leaf 1", entries, err, st.Healthy())
	}
}
