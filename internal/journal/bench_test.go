package journal_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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
