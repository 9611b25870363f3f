package journal_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"

	"pasban"
	"pasban/internal/store/storetest"
)

var writers = []int{1, 8, 64}

// share runs work on n goroutines, each of which takes the next turn when it
// has finished one, and reports rows per second.
func share(b *testing.B, n, rowsPerTurn int, work func() error) {
	turns := make(chan struct{}, n)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for range turns {
				if err := work(); err != nil {
					b.Error(err)
				}
			}
		})
	}
	start := time.Now()
	for b.Loop() {
		turns <- struct{}{}
	}
	close(turns)
	wg.Wait()
	b.ReportMetric(float64(b.N*rowsPerTurn)/time.Since(start).Seconds(), "rows/s")
}

// BenchmarkJournal is Record as the gateway calls it, one fact at a time: a
// look is canonicalised, sealed twice, numbered, inserted, synced and promised.
func BenchmarkJournal(b *testing.B) {
	for _, n := range writers {
		b.Run(fmt.Sprintf("writers=%d", n), func(b *testing.B) {
			j := open(b, storetest.SQLite(b))
			share(b, n, 1, func() error {
				_, err := j.Record(b.Context(), look(ayesha, 1))
				return err
			})
		})
	}
}

// BenchmarkJournalCitizens is BenchmarkJournal with each look at another of
// 1,000 citizens, so that a group has as many lists to add to as it has facts.
func BenchmarkJournalCitizens(b *testing.B) {
	subjects := make([]pasban.Subject, 1000)
	ids := make([]pasban.SubjectID, len(subjects))
	for i := range subjects {
		subjects[i] = pasban.Subject{ID: pasban.SubjectID(fmt.Sprintf("%032x", i)), CNIC: pasban.CNIC(fmt.Sprintf("35202-%07d-1", i))} // synthetic
		ids[i] = subjects[i].ID
	}
	for _, n := range writers {
		b.Run(fmt.Sprintf("writers=%d", n), func(b *testing.B) {
			j := open(b, storetest.SQLite(b), ids...)
			var turn atomic.Uint64
			share(b, n, 1, func() error {
				_, err := j.Record(b.Context(), look(subjects[turn.Add(1)%uint64(len(subjects))], 1))
				return err
			})
		})
	}
}

// BenchmarkJournalMany is Record with 16 facts a call, none of them promised.
func BenchmarkJournalMany(b *testing.B) {
	for _, n := range writers {
		b.Run(fmt.Sprintf("writers=%d", n), func(b *testing.B) {
			j := open(b, storetest.SQLite(b))
			share(b, n, 16, func() error {
				facts := make([]pasban.Fact, 16)
				for i := range facts {
					facts[i] = block(i)
				}
				_, err := j.Record(b.Context(), facts...)
				return err
			})
		})
	}
}

// BenchmarkBareFsync appends as many bytes as a row has to one bare file and
// syncs it after each: what a row costs without groups, sealing or a database.
func BenchmarkBareFsync(b *testing.B) {
	for _, n := range writers {
		b.Run(fmt.Sprintf("writers=%d", n), func(b *testing.B) {
			f, err := os.OpenFile(filepath.Join(b.TempDir(), "bare"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			line := make([]byte, 1000)
			share(b, n, 1, func() error {
				if _, err := f.Write(line); err != nil {
					return err
				}
				return f.Sync()
			})
		})
	}
}

// BenchmarkGroupFile appends to one file with group commit: whoever waits while
// the disk syncs goes with the next sync, all together. It is the least that a
// durable row can cost.
func BenchmarkGroupFile(b *testing.B) {
	for _, n := range writers {
		b.Run(fmt.Sprintf("writers=%d", n), func(b *testing.B) {
			f, err := os.OpenFile(filepath.Join(b.TempDir(), "file"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			waiting := make(chan chan error, n)
			defer close(waiting)
			go groupCommit(f, waiting)
			share(b, n, 1, func() error {
				done := make(chan error, 1)
				waiting <- done
				return <-done
			})
		})
	}
}

// groupCommit writes 1,000 bytes for each that waits and syncs them together.
func groupCommit(f *os.File, waiting <-chan chan error) {
	line := make([]byte, 1000)
	for first := range waiting {
		group := []chan error{first}
		all := append([]byte(nil), line...)
		for len(waiting) > 0 {
			group, all = append(group, <-waiting), append(all, line...)
		}
		_, err := f.Write(all)
		if err == nil {
			err = f.Sync()
		}
		for _, done := range group {
			done <- err
		}
	}
}

// BenchmarkPostgresInsert inserts rows of 1,000 bytes, each in a transaction of
// its own as an application does it, a connection for each writer.
func BenchmarkPostgresInsert(b *testing.B) {
	for _, n := range writers {
		b.Run(fmt.Sprintf("writers=%d", n), func(b *testing.B) {
			config, err := pgxpool.ParseConfig(storetest.PostgresDSN(b))
			if err != nil {
				b.Fatal(err)
			}
			config.MaxConns = int32(n)
			pool, err := pgxpool.NewWithConfig(b.Context(), config)
			if err != nil {
				b.Fatal(err)
			}
			defer pool.Close()
			var sync string
			if _, err := pool.Exec(b.Context(), `CREATE TABLE bench (id bigserial PRIMARY KEY, row bytea)`); err != nil {
				b.Fatal(err)
			}
			if err := pool.QueryRow(b.Context(), `SELECT current_setting('fsync') || current_setting('synchronous_commit')`).Scan(&sync); err != nil || sync != "onon" {
				b.Fatalf("the server does not sync: %q, %v", sync, err)
			}
			row := make([]byte, 1000)
			share(b, n, 1, func() error {
				_, err := pool.Exec(b.Context(), `INSERT INTO bench (row) VALUES ($1)`, row)
				return err
			})
		})
	}
}

// BenchmarkTesseraAdd adds leaves to a log on Tessera's POSIX driver alone, each
// writer waiting until its leaf is durable and has its index. A batch goes when
// all writers wait, which is the best that they can do.
func BenchmarkTesseraAdd(b *testing.B) {
	for _, n := range writers {
		b.Run(fmt.Sprintf("writers=%d", n), func(b *testing.B) {
			skey, _, err := note.GenerateKey(rand.Reader, origin)
			if err != nil {
				b.Fatal(err)
			}
			signer, err := note.NewSigner(skey)
			if err != nil {
				b.Fatal(err)
			}
			driver, err := posix.New(b.Context(), posix.Config{Path: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			appender, stop, _, err := tessera.NewAppender(b.Context(), driver, tessera.NewAppendOptions().
				WithCheckpointSigner(signer).WithCheckpointInterval(time.Second).WithBatching(uint(n), 5*time.Millisecond))
			if err != nil {
				b.Fatal(err)
			}
			var turn atomic.Uint64
			share(b, n, 1, func() error {
				_, err := appender.Add(b.Context(), tessera.NewEntry(fmt.Appendf(nil, "leaf %032d", turn.Add(1))))()
				return err
			})
			if err := stop(context.WithoutCancel(b.Context())); err != nil {
				b.Error(err)
			}
		})
	}
}
