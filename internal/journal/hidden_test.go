package journal_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pasban"
	"pasban/internal/journal"
	"pasban/internal/store"
	"pasban/internal/store/storetest"
)

// secret is a look that is hidden until then.
func secret(s pasban.Subject, n int, until time.Time) pasban.Fact {
	f := look(s, n)
	f.Body.Hidden.Until = until.UTC().Format(pasban.TimeFormat)
	return f
}

func TestHidden(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		j := open(t, st)
		date := time.Now().Add(24 * time.Hour).Truncate(time.Millisecond)
		entries, err := j.Record(t.Context(), look(ayesha, 0), secret(ayesha, 1, date), look(ayesha, 2))
		if err != nil {
			t.Fatal(err)
		}
		read, err := j.BySubject(t.Context(), ayesha.ID, 0, 10)
		if err != nil || len(read) != 3 {
			t.Fatalf("%d entries, %v", len(read), err)
		}
		slices.Reverse(read)
		for i, e := range [][2]journal.Entry{{entries[0], read[0]}, {entries[1], read[1]}, {entries[2], read[2]}} {
			for _, e := range e {
				if hides := i == 1; (e.HiddenOpening != nil) != hides || (e.Fact.Body.Who.Kind == pasban.ActorHidden) != hides || e.Fact.Whole().Resource != fmt.Sprint(i) {
					t.Errorf("entry %d: %+v hides %v", i, e.Fact, e.HiddenOpening)
				}
				if n := e.Fact.Body.List.Number; n != int64(i)+1 {
					t.Errorf("entry %d is number %d of the list", i, n)
				}
			}
		}
		// Before its date nothing is told, from then on everything.
		e := read[1]
		for when, told := range map[time.Time]bool{date.Add(-time.Millisecond): false, date: true} {
			b := e.Told(when)
			if (b.Who.Staff == "032") != told || (e.Disclosed(when) != nil) != told {
				t.Errorf("at %v it tells %+v", when, b)
			}
		}
		if b := read[0].Told(time.Time{}); b.Who.Staff != "032" {
			t.Errorf("an ordinary entry tells %+v", b)
		}
		// No row of the database holds the details in clear.
		for _, q := range []string{`SELECT part FROM journal_hidden`, `SELECT opening FROM journal WHERE seq = 2`} {
			var raw []byte
			if err := st.QueryRow(t.Context(), q).Scan(&raw); err != nil || bytes.Contains(raw, []byte("LHR")) || bytes.Contains(raw, []byte("person")) {
				t.Errorf("%s: %q, %v", q, raw, err)
			}
		}
	})
}

func TestDue(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		j := open(t, st)
		date := time.Now().Truncate(time.Millisecond)
		facts := []pasban.Fact{secret(ayesha, 0, date.Add(2*time.Hour)), secret(bilal, 1, date.Add(time.Hour)), secret(ayesha, 2, date.Add(3*time.Hour))}
		if _, err := j.Record(t.Context(), facts...); err != nil {
			t.Fatal(err)
		}
		due := func(after time.Duration) (ids []string) {
			t.Helper()
			all, err := j.Due(t.Context(), date.Add(after), 10)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range all {
				ids = append(ids, c.ID)
			}
			return ids
		}
		a, b := facts[0].Body.ID, facts[1].Body.ID
		if got := due(time.Hour - time.Millisecond); len(got) != 0 {
			t.Errorf("due %v before the first date", got)
		}
		if got := due(2 * time.Hour); !slices.Equal(got, []string{b, a}) {
			t.Errorf("due %v, want %v", got, []string{b, a})
		}
		mark := func(id string) error {
			return st.Write(t.Context(), func(tx *store.Tx) error { return journal.MarkOpened(tx, id, "told") })
		}
		if err := mark(b); err != nil {
			t.Fatal(err)
		}
		if err := mark(b); err == nil {
			t.Error("disclosed twice")
		}
		if err := mark("none"); err == nil {
			t.Error("what is not hidden was disclosed")
		}
		if got := due(2 * time.Hour); !slices.Equal(got, []string{a}) {
			t.Errorf("due %v, want %v", got, []string{a})
		}
		closed, overdue, next, err := j.Hidden(t.Context(), date.Add(150*time.Minute))
		if err != nil || closed != 2 || overdue != 1 || !next.Equal(date.Add(2*time.Hour)) {
			t.Errorf("%d closed, %d overdue, next %v, %v; want 2, 1, %v", closed, overdue, next, err, date.Add(2*time.Hour))
		}
	})
}

func TestHiddenRefused(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		j := open(t, st)
		date := time.Now().Add(time.Hour)
		nobody := secret(pasban.Subject{}, 0, date)
		change := secret(ayesha, 0, date)
		change.Body.Kind = pasban.KindChange
		for name, f := range map[string]pasban.Fact{"about nobody": nobody, "a change": change} {
			if _, err := j.Record(t.Context(), f); pasban.KindOf(err) != pasban.Invalid {
				t.Errorf("%s: error %v, want invalid", name, err)
			}
		}
	})
}

// What is hidden cannot be changed, put off or taken away: the database
// refuses it, and who gets round the database is found out.
func TestHiddenStands(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		j := open(t, st)
		date := time.Now().Add(time.Hour)
		f := secret(ayesha, 0, date)
		if _, err := j.Record(t.Context(), f, secret(ayesha, 1, date)); err != nil {
			t.Fatal(err)
		}
		edits := []string{
			`UPDATE journal_hidden SET until = '2099-01-01T00:00:00.000Z' WHERE id = '` + f.Body.ID + `'`,
			`UPDATE journal_hidden SET part = (SELECT part FROM journal_hidden WHERE id <> '` + f.Body.ID + `') WHERE id = '` + f.Body.ID + `'`,
			`UPDATE journal_hidden SET subject = '0b' WHERE id = '` + f.Body.ID + `'`,
			`DELETE FROM journal_hidden WHERE id = '` + f.Body.ID + `'`,
		}
		for _, q := range edits {
			if err := try(st, q); err == nil {
				t.Errorf("the database allows %s", q)
			}
		}
		for _, disarm := range map[string][]string{
			store.SQLite:   {`DROP TRIGGER journal_hidden_once`, `DROP TRIGGER journal_hidden_no_delete`},
			store.Postgres: {`ALTER TABLE journal_hidden DISABLE TRIGGER ALL`},
		}[st.Dialect()] {
			if err := try(st, disarm); err != nil {
				t.Fatal(err)
			}
		}
		for _, q := range edits {
			if err := try(st, q); err != nil {
				t.Fatal(err)
			}
			if _, err := j.ByID(t.Context(), f.Body.ID); err == nil || !strings.Contains(err.Error(), "hidden part") {
				t.Errorf("after %s: error %v", q, err)
			}
		}
	})
}

// An erased citizen's hidden entry is erased with them.
func TestHiddenShredded(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		j := open(t, st)
		f := secret(ayesha, 0, time.Now())
		if _, err := j.Record(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		j.sealer.shred(ayesha.ID)
		e, err := j.ByID(t.Context(), f.Body.ID)
		if err != nil || !e.Shredded || e.HiddenOpening != nil || e.Fact.Whole().Resource != "" {
			t.Errorf("%+v, %v", e, err)
		}
	})
}
