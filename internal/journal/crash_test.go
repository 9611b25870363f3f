package journal_test

import (
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"pasban"
	"pasban/internal/journal"
	"pasban/internal/store"
	"pasban/internal/store/storetest"
)

func TestMain(m *testing.M) {
	storetest.Main(m, map[string]func(string, func(string)) error{"journal": crashChild})
}

const plots = `CREATE TABLE plot (id BIGINT PRIMARY KEY)`

// crashChild commits data and facts from several goroutines for ever. arg is
// the database and the ledger's key.
func crashChild(arg string, acknowledge func(string)) error {
	dsn, skey, _ := strings.Cut(arg, "\n")
	signer, err := note.NewSigner(skey)
	if err != nil {
		return err
	}
	st, err := store.Open(context.Background(), dsn)
	if err != nil {
		return err
	}
	j, err := journal.Open(context.Background(), st, journal.Options{Signer: signer, Sealer: newSealer(ayesha.ID, bilal.ID)})
	if err != nil {
		return err
	}
	errs := make(chan error)
	for range 8 {
		go func() {
			for {
				plot := mathrand.Int64N(1 << 62)
				entries, err := j.Commit(context.Background(), func(tx *store.Tx) ([]pasban.Fact, error) {
					_, err := tx.Exec(`INSERT INTO plot (id) VALUES (?)`, plot)
					f := look(ayesha, 0)
					f.Body.Resource = fmt.Sprint(plot)
					return []pasban.Fact{f, block(1)}, err
				})
				if err != nil {
					errs <- err
				}
				e := entries[0]
				acknowledge(fmt.Sprintf("%d %d %s\t%s", plot, e.Seq, e.Fact.Body.ID, e.Promise.Header()))
			}
		}()
	}
	return <-errs
}

// Fifty kills at random moments under load: whatever was acknowledged is
// there, with its data, at the place that its promise says; the journal has no
// gap and no half of anything.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	for name, c := range map[string]struct {
		dsn   func(testing.TB) string
		kills int
	}{store.SQLite: {storetest.SQLiteDSN, 50}, store.Postgres: {storetest.PostgresDSN, 10}} {
		t.Run(name, func(t *testing.T) {
			dsn := c.dsn(t)
			skey, vkey, err := note.GenerateKey(rand.Reader, origin)
			if err != nil {
				t.Fatal(err)
			}
			verifier, err := note.NewVerifier(vkey)
			if err != nil {
				t.Fatal(err)
			}
			st := storetest.Open(t, dsn)
			if err := st.Write(t.Context(), func(tx *store.Tx) error { _, err := tx.Exec(plots); return err }); err != nil {
				t.Fatal(err)
			}
			st.Close()
			for range c.kills {
				lines := storetest.KillChild(t, "journal", dsn+"\n"+skey, 100)
				checkKept(t, dsn, lines, verifier)
			}
		})
	}
}

// checkKept opens what a kill left behind and compares it with what was acknowledged.
func checkKept(t *testing.T, dsn string, lines []string, verifier note.Verifier) {
	t.Helper()
	st, err := store.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	j := open(t, st)
	for _, line := range lines {
		var plot, seq uint64
		var id string
		fields, header, _ := strings.Cut(line, "\t")
		if _, err := fmt.Sscan(fields, &plot, &seq, &id); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		promise, err := pasban.ParsePromise(origin, header)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if err := promise.Verify(verifier); err != nil {
			t.Error(err)
		}
		e, err := j.ByIndex(t.Context(), promise.Index)
		if err != nil {
			t.Fatalf("acknowledged leaf %d: %v", promise.Index, err)
		}
		leaf, err := e.Opening.Leaf()
		if err != nil || leaf.Hash() != promise.Leaf || e.Seq != seq || e.Fact.Body.ID != id || e.Fact.Body.Resource != fmt.Sprint(plot) {
			t.Errorf("leaf %d is not the one that was promised: %v", promise.Index, err)
		}
	}
	seq, leaves, err := j.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var data, missing uint64
	if err := st.QueryRow(t.Context(), `SELECT COUNT(*) FROM plot`).Scan(&data); err != nil {
		t.Fatal(err)
	}
	if data != leaves || seq != 2*leaves {
		t.Errorf("%d rows of data, %d leaves, %d facts: want one leaf and two facts for each row", data, leaves, seq)
	}
	if err := st.QueryRow(t.Context(), `SELECT (SELECT MAX(seq) - COUNT(*) FROM journal) + (SELECT MAX(leaf_index) + 1 - COUNT(leaf_index) FROM journal)`).Scan(&missing); err != nil || missing != 0 {
		t.Errorf("%d gaps, %v", missing, err)
	}
}
