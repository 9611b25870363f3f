package journal_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"pasban"
	"pasban/internal/journal"
	"pasban/internal/store"
	"pasban/internal/store/storetest"
)

// failing commits facts that are staged and then taken back.
func (r *rig) failing(t *testing.T, why string) error {
	_, err := r.Commit(t.Context(), func(tx *store.Tx) ([]pasban.Fact, error) {
		if _, err := tx.Exec(`INSERT INTO no_such_table VALUES (1)`); err == nil {
			t.Error("there is no such table")
		}
		return []pasban.Fact{look(ayesha, 0)}, nil // the failed statement is not mentioned
	})
	return err
}

func try(st *store.Store, q string) error {
	return st.Write(context.Background(), func(tx *store.Tx) error {
		_, err := tx.Exec(q)
		return err
	})
}

// The database itself refuses to change a row.
func TestAppendOnly(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		j := open(t, st)
		if _, err := j.Record(t.Context(), look(ayesha, 1)); err != nil {
			t.Fatal(err)
		}
		statements := []string{
			`UPDATE journal SET subject = ''`, `DELETE FROM journal`, `UPDATE journal_head SET seq = 0`,
			`UPDATE journal_head SET leaves = 0`, `DELETE FROM journal_head`,
			`INSERT INTO journal (seq, leaf_index, id, kind, time, subject, leaf, opening, restricted)
				SELECT seq, leaf_index, id, kind, time, subject, leaf, opening, restricted FROM journal`,
		}
		if st.Dialect() == store.Postgres {
			statements = append(statements, `TRUNCATE journal`, `TRUNCATE journal_head`)
		} else {
			statements = append(statements, `INSERT OR REPLACE INTO journal SELECT * FROM journal`)
		}
		for _, q := range statements {
			if err := try(st, q); err == nil {
				t.Errorf("the database allows %s", q)
			}
		}
		if _, err := j.ByIndex(t.Context(), 0); err != nil {
			t.Error(err)
		}
	})
}

// tamper does what someone with the database's own rights can.
func tamper(t *testing.T, st *store.Store, q string) {
	t.Helper()
	disarm := []string{`DROP TRIGGER IF EXISTS journal_no_update`, `DROP TRIGGER IF EXISTS journal_no_delete`, `DROP TRIGGER IF EXISTS journal_head_forward`}
	if st.Dialect() == store.Postgres {
		disarm = []string{`ALTER TABLE journal DISABLE TRIGGER ALL`, `ALTER TABLE journal_head DISABLE TRIGGER ALL`}
	}
	for _, q := range append(disarm, q) {
		if err := try(st, q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
}

// Whatever is done to a row, no way of reading gives it out as a fact; the
// error names the row, and a tailing reader is not stopped by it.
func TestDamageIsNamed(t *testing.T) {
	const row = ` WHERE seq = 2`
	exchange := func(column string) string {
		return fmt.Sprintf(`UPDATE journal SET %[1]s = (SELECT o.%[1]s FROM journal o WHERE o.seq = 3) WHERE seq = 2`, column)
	}
	damages := map[string]string{
		"time":                `UPDATE journal SET time = '2001-01-01T00:00:00.000Z'` + row,
		"id":                  `UPDATE journal SET id = 'another'` + row,
		"kind":                `UPDATE journal SET kind = 'change'` + row,
		"kind not a leaf's":   `UPDATE journal SET kind = 'block'` + row,
		"subject":             `UPDATE journal SET subject = '0b'` + row,
		"subject removed":     `UPDATE journal SET subject = ''` + row,
		"leaf of another":     exchange("leaf"),
		"body of another":     exchange("opening"),
		"restricted of other": exchange("restricted"),
		"body too short":      `UPDATE journal SET opening = SUBSTR(opening, 1, 20)` + row,
		"no leaf":             `UPDATE journal SET leaf = NULL` + row,
		"no leaf, no index":   `UPDATE journal SET leaf = NULL, leaf_index = NULL` + row,
		"removed":             `DELETE FROM journal` + row,
	}
	for name, q := range damages {
		t.Run(name, func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, st *store.Store) {
				j := open(t, st)
				facts := []pasban.Fact{look(ayesha, 1), look(ayesha, 2), look(ayesha, 3)}
				if _, err := j.Record(t.Context(), facts...); err != nil {
					t.Fatal(err)
				}
				tamper(t, st, q)
				if entries, err := j.Since(t.Context(), 0, 10); err == nil || !strings.Contains(err.Error(), "journal row 2") {
					t.Errorf("since: %d entries, error %v; want one naming row 2", len(entries), err)
				}
				if e, err := j.ByIndex(t.Context(), 1); err == nil {
					t.Errorf("by index: %+v", e)
				}
				if e, err := j.ByID(t.Context(), facts[1].Body.ID); err == nil {
					t.Errorf("by id: %+v", e)
				}
				if mine, err := j.BySubject(t.Context(), ayesha.ID, 0, 10); err == nil && len(mine) == 3 {
					t.Errorf("by subject: %d entries", len(mine))
				}
				checkTail(t, j)
			})
		})
	}
}

// checkTail expects rows 1 and 3 whole and row 2 marked as damaged.
func checkTail(t *testing.T, j *rig) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var got []journal.Entry
	err := j.Tail(ctx, "reader", func(_ context.Context, entries []journal.Entry) error {
		if got = append(got, entries...); len(got) == 3 {
			stop()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || len(got) != 3 {
		t.Fatalf("tail: %d entries, %v", len(got), err)
	}
	for i, e := range got {
		if e.Seq != uint64(i)+1 || (e.Damage != nil) != (i == 1) {
			t.Errorf("tail: entry %d is row %d, damage %v", i, e.Seq, e.Damage)
		}
	}
	if body := got[1].Fact.Body; body.ID != "" || got[1].Opening.Body != nil {
		t.Errorf("tail: a damaged row is handed on as %+v", body)
	}
}

// Rows cut off the end, or a head set back, are noticed when the journal opens;
// missing leaves when the sequencer asks for them.
func TestTruncationIsNoticed(t *testing.T) {
	for name, q := range map[string]string{
		"last row removed": `DELETE FROM journal WHERE seq = 3`,
		"all removed":      `DELETE FROM journal`,
		"head set back":    `UPDATE journal_head SET seq = 1, leaves = 1`,
		"row added":        `UPDATE journal SET seq = 9 WHERE seq = 3`,
	} {
		t.Run(name, func(t *testing.T) {
			dsn := storetest.SQLiteDSN(t)
			st := storetest.Open(t, dsn)
			j := open(t, st)
			if _, err := j.Record(t.Context(), look(ayesha, 1), look(ayesha, 2), look(bilal, 3)); err != nil {
				t.Fatal(err)
			}
			tamper(t, st, q)
			st.Close()
			again := storetest.Open(t, dsn)
			_, err := journal.Open(t.Context(), again, journal.Options{Signer: j.signer, Sealer: j.sealer})
			if pasban.KindOf(err) != pasban.Unavailable || err == nil {
				t.Errorf("error %v, want unavailable", err)
			}
		})
	}
	st := storetest.SQLite(t)
	j := open(t, st)
	if _, err := j.Record(t.Context(), look(ayesha, 1), look(ayesha, 2), look(bilal, 3)); err != nil {
		t.Fatal(err)
	}
	tamper(t, st, `DELETE FROM journal WHERE leaf_index = 1`)
	if leaves, err := j.Leaves(t.Context(), 0, 10); err == nil || !strings.Contains(err.Error(), "leaf 1") {
		t.Errorf("%v, %v; want an error naming leaf 1", leaves, err)
	}
}

// When a citizen's key is destroyed, what the journal says of them can be read
// by nobody, its leaf stays, and other citizens' facts are as they were.
func TestShredded(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		j := open(t, st)
		entries, err := j.Record(t.Context(), look(ayesha, 1), look(bilal, 2))
		if err != nil {
			t.Fatal(err)
		}
		j.sealer.shred(ayesha.ID)
		gone, err := j.ByIndex(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		want := pasban.Body{Version: 1, ID: entries[0].Fact.Body.ID, Kind: pasban.KindLook, Time: entries[0].Fact.Body.Time, List: pasban.Place{Number: 1}}
		if !gone.Shredded || fmt.Sprint(gone.Fact.Body) != fmt.Sprint(want) || gone.Opening.Body != nil || gone.Fact.Restricted.IP != "" {
			t.Errorf("read %+v", gone)
		}
		kept, err := j.ByIndex(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, kept, entries[1])
		leaves, err := j.Leaves(t.Context(), 0, 10)
		if err != nil || len(leaves) != 2 || leaves[0].Leaf.Hash() != entries[0].Promise.Leaf {
			t.Errorf("%v, %v", leaves, err)
		}
	})
}

// Facts that could not be kept as they should be are refused before anything
// is written.
func TestRecordRefuses(t *testing.T) {
	j := open(t, storetest.SQLite(t))
	var empty pasban.Fact
	for name, f := range map[string]pasban.Fact{
		"zero":                  empty,
		"citizen without an id": look(pasban.Subject{CNIC: "35202-0000003-1"}, 1),
		"citizen without a key": look(pasban.Subject{ID: "0c"}, 1),
	} {
		if _, err := j.Record(t.Context(), look(ayesha, 1), f); err == nil {
			t.Errorf("%s: recorded", name)
		}
	}
	if seq, _, err := j.Head(t.Context()); err != nil || seq != 0 {
		t.Errorf("%d facts, %v", seq, err)
	}
	if entries, err := j.Record(t.Context()); err != nil || entries != nil {
		t.Errorf("no facts: %v, %v", entries, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := j.Record(ctx, block(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want cancelled", err)
	}
}

// TestHealthy has the table refuse rows for a while: the journal says so for
// just as long, even if nobody records anything meanwhile.
func TestHealthy(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := open(t, st)
		ok := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		ok(r.Healthy(t.Context()))
		if st.Dialect() == store.Postgres {
			ok(try(st, `ALTER TABLE journal ADD CONSTRAINT broken CHECK (kind = '') NOT VALID`))
		} else {
			ok(try(st, `CREATE TRIGGER broken BEFORE INSERT ON journal BEGIN SELECT RAISE(ABORT, 'synthetic failure'); END`))
		}
		if _, err := r.Record(t.Context(), block(1)); err == nil || pasban.KindOf(err) != pasban.Unavailable {
			t.Fatalf("recorded into a table that takes no rows: %v", err)
		}
		ok(try(st, `UPDATE journal_head SET seq = seq WHERE id = 1`)) // the store itself works
		for range 2 {
			if err := r.Healthy(t.Context()); err == nil || pasban.KindOf(err) != pasban.Unavailable {
				t.Errorf("a journal that takes no rows is healthy: %v", err)
			}
		}
		if st.Dialect() == store.Postgres {
			ok(try(st, `ALTER TABLE journal DROP CONSTRAINT broken`))
		} else {
			ok(try(st, `DROP TRIGGER broken`))
		}
		ok(r.Healthy(t.Context()))
		e, err := r.Record(t.Context(), block(2))
		ok(err)
		if e[0].Seq != 1 {
			t.Errorf("the first row is number %d: the attempts left something behind", e[0].Seq)
		}
	})
}

// TestFactsAreTheCallers: what a caller shares between facts, such as the
// fields of a route of the configuration, is not written to.
func TestFactsAreTheCallers(t *testing.T) {
	r := open(t, storetest.SQLite(t))
	shared := []string{"name", "holdings"}
	f := look(ayesha, 0)
	f.Body.Fields = shared
	e, err := r.Record(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	e[0].Fact.Body.Fields[0] = "changed"
	if shared[0] != "name" {
		t.Error("the entry's fields are the caller's own")
	}
}

// TestSubmittedTwice: a fact that is recorded already is refused when it comes
// again, alone or among others, and nobody else is.
func TestSubmittedTwice(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		j := open(t, st)
		if err := st.Write(t.Context(), func(tx *store.Tx) error {
			_, err := tx.Exec(`CREATE TABLE data (n BIGINT)`)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		once := look(ayesha, 1)
		first, err := j.Record(t.Context(), once)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				if i%8 == 0 {
					if e, err := j.Record(t.Context(), once); err == nil {
						t.Errorf("recorded again as %d", e[0].Seq)
					} else if pasban.KindOf(err) != pasban.Conflict {
						t.Errorf("refused with %v", err)
					}
					return
				}
				var err error
				if i%8 == 1 { // with data of its own, which is there once
					_, err = j.Commit(t.Context(), func(tx *store.Tx) ([]pasban.Fact, error) {
						_, err := tx.Exec(`INSERT INTO data (n) VALUES (?)`, i)
						return []pasban.Fact{look(ayesha, i)}, err
					})
				} else {
					_, err = j.Record(t.Context(), look(ayesha, i))
				}
				if err != nil {
					t.Errorf("another fact: %v", err)
				}
			})
		}
		wg.Wait()
		var rows, kinds int
		if err := st.QueryRow(t.Context(), `SELECT COUNT(*), COUNT(DISTINCT n) FROM data`).Scan(&rows, &kinds); err != nil || rows != 8 || kinds != 8 {
			t.Errorf("%d rows of data, %d different, %v; want 8", rows, kinds, err)
		}
		twin := look(ayesha, 2)
		if _, err := j.Record(t.Context(), twin, twin); err == nil || pasban.KindOf(err) != pasban.Conflict {
			t.Errorf("twice at once: %v", err)
		}
		if _, err := j.Commit(t.Context(), func(*store.Tx) ([]pasban.Fact, error) { return []pasban.Fact{once}, nil }); err == nil || pasban.KindOf(err) != pasban.Conflict {
			t.Errorf("committed again: %v", err)
		}
		if err := st.Healthy(); err != nil {
			t.Errorf("the store after a refusal: %v", err)
		}
		if err := j.Healthy(t.Context()); err != nil {
			t.Errorf("after a refusal: %v", err)
		}
		seq, leaves, err := j.Head(t.Context())
		if err != nil || seq != 57 || leaves != 57 {
			t.Errorf("%d facts, %d leaves, %v; want 57", seq, leaves, err)
		}
		if e, err := j.ByID(t.Context(), once.Body.ID); err != nil || e.Seq != first[0].Seq || e.Leaf != first[0].Leaf {
			t.Errorf("the first is now %+v, %v", e, err)
		}
	})
}
