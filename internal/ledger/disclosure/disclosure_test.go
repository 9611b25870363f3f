package disclosure_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"pasban"
	"pasban/internal/journal"
	"pasban/internal/ledger/disclosure"
	"pasban/internal/store"
	"pasban/internal/store/storetest"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

// sealer is AES-256-GCM under one key: what the vault does, without its tables.
type sealer struct {
	cipher.AEAD
	gone map[pasban.SubjectID]bool
}

func (s sealer) Seal(_ context.Context, id pasban.SubjectID, plain, aad []byte) ([]byte, error) {
	return s.AEAD.Seal(nil, nil, plain, slices.Concat([]byte(id), aad)), nil
}

func (s sealer) Open(_ context.Context, id pasban.SubjectID, sealed, aad []byte) ([]byte, error) {
	if s.gone[id] {
		return nil, &pasban.Error{Kind: pasban.NotFound, Msg: "shredded"}
	}
	plain, err := s.AEAD.Open(nil, nil, sealed, slices.Concat([]byte(id), aad))
	if err != nil {
		return nil, &pasban.Error{Kind: pasban.Invalid, Msg: "not what was sealed", Err: err}
	}
	return plain, nil
}

var ayesha = pasban.Subject{ID: "0a", CNIC: "35202-0000001-1"} // synthetic

// rig is a journal and a clock that the test moves.
type rig struct {
	*disclosure.Disclosure
	t      *testing.T
	j      *journal.Journal
	st     *store.Store
	sealer sealer
	at     time.Time
}

func open(t *testing.T, st *store.Store) *rig {
	t.Helper()
	skey, _, err := note.GenerateKey(rand.Reader, "synthetic.example/ledger")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, st: st, sealer: sealer{aead, map[pasban.SubjectID]bool{}}, at: time.Now().Truncate(time.Millisecond)}
	if r.j, err = journal.Open(t.Context(), st, journal.Options{Signer: signer, Sealer: r.sealer}); err != nil {
		t.Fatal(err)
	}
	r.Disclosure = r.another()
	return r
}

// another is the disclosure of another node, or of this one after a restart.
func (r *rig) another() *disclosure.Disclosure {
	return disclosure.New("land-records", r.j, func() time.Time { return r.at })
}

// hide records a look that is hidden for so long.
func (r *rig) hide(d time.Duration) string {
	r.t.Helper()
	f := pasban.NewFact(pasban.KindLook, "land-records", pasban.Actor{ID: "supervisor:1", Kind: pasban.ActorPerson}, r.at)
	f.Subject, f.Body.Action, f.Body.Purpose = ayesha, "view", "inquiry"
	f.Body.Hidden.Until = r.at.Add(d).UTC().Format(pasban.TimeFormat)
	if _, err := r.j.Record(r.t.Context(), f); err != nil {
		r.t.Fatal(err)
	}
	return f.Body.ID
}

func (r *rig) step() {
	r.t.Helper()
	if err := r.Step(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// told lists what the facts of a kind say of their resource, oldest first.
func (r *rig) told(kind pasban.Kind) (resources []string) {
	r.t.Helper()
	rows, err := r.st.Query(r.t.Context(), `SELECT id FROM journal WHERE kind = ? ORDER BY seq`, string(kind))
	if err != nil {
		r.t.Fatal(err)
	}
	defer rows.Close()
	var ids []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			r.t.Fatal(err)
		}
		ids = append(ids, id)
	}
	for _, id := range ids {
		e, err := r.j.ByID(r.t.Context(), id)
		if err != nil {
			r.t.Fatal(err)
		}
		resources = append(resources, e.Fact.Body.Resource)
	}
	return resources
}

func TestOpensAtItsDate(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := open(t, st)
		r.hide(2 * time.Hour)
		r.hide(time.Hour)
		first := r.at
		r.step()
		if s := r.Status(); s.Hidden != 2 || s.Overdue != 0 || !s.Next.Equal(first.Add(time.Hour)) {
			t.Errorf("%+v", s)
		}
		if got := r.told(pasban.KindOpening); got != nil {
			t.Errorf("opened %v before their dates", got)
		}
		r.at = first.Add(time.Hour)
		r.step()
		r.step()
		if got := r.told(pasban.KindOpening); !slices.Equal(got, []string{"2"}) {
			t.Errorf("opened %v, want the second entry of the list", got)
		}
		// A node that was down opens what was due meanwhile, once.
		r.at = first.Add(30 * 24 * time.Hour)
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() { _ = r.another().Step(t.Context()) }) // one of them comes too late and says so
		}
		both.Wait()
		r.step()
		if got := r.told(pasban.KindOpening); !slices.Equal(got, []string{"2", "1"}) {
			t.Errorf("opened %v, want each once", got)
		}
		if s := r.Status(); s.Hidden != 0 || s.Overdue != 0 || !s.Next.IsZero() || s.Err != nil {
			t.Errorf("%+v", s)
		}
		mine, err := r.j.BySubject(t.Context(), ayesha.ID, 0, 10)
		if err != nil || len(mine) != 4 || mine[0].Fact.Body.List.Number != 4 || mine[0].Fact.Body.Who.Kind != pasban.ActorSystem {
			t.Errorf("the citizen's list is %+v, %v", mine, err)
		}
	})
}

// What is due and does not open is an alarm, once, and stays on the public page.
func TestOverdue(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := open(t, st)
		id := r.hide(time.Hour)
		disarm := []string{`DROP TRIGGER journal_hidden_once`}
		if st.Dialect() == store.Postgres {
			disarm = []string{`ALTER TABLE journal_hidden DISABLE TRIGGER ALL`}
		}
		for _, q := range append(disarm, `UPDATE journal_hidden SET subject = '0b'`) {
			if err := st.Write(t.Context(), func(tx *store.Tx) error { _, err := tx.Exec(q); return err }); err != nil {
				t.Fatal(q, err)
			}
		}
		begin := r.at
		for _, c := range []struct {
			after           time.Duration
			overdue, alarms int
			opens           bool
		}{{0, 0, 0, true}, {time.Hour, 0, 0, false}, {2*time.Hour + time.Minute, 1, 1, false}, {3 * time.Hour, 1, 1, false}} {
			r.at = begin.Add(c.after)
			err := r.Step(t.Context())
			if (err == nil) != c.opens || err != nil && !strings.Contains(err.Error(), "hidden part") {
				t.Errorf("after %v: error %v", c.after, err)
			}
			if s := r.Status(); s.Hidden != 1 || s.Overdue != int64(c.overdue) {
				t.Errorf("after %v: %+v", c.after, s)
			}
			alarms := r.told(pasban.KindAlarm)
			if len(alarms) != c.alarms || c.alarms == 1 && alarms[0] != id {
				t.Errorf("after %v: alarms about %v", c.after, alarms)
			}
		}
	})
}

func TestErased(t *testing.T) {
	r := open(t, storetest.SQLite(t))
	r.hide(time.Hour)
	r.sealer.gone[ayesha.ID] = true
	r.at = r.at.Add(time.Hour)
	r.step()
	if s := r.Status(); s.Hidden != 0 || r.told(pasban.KindOpening) != nil {
		t.Errorf("%+v, told %v", s, r.told(pasban.KindOpening))
	}
}
