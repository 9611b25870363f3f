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

// share runs work b.N times in all, on n goroutines that take turns.
func share(b *testing.B, n int, work func() error) {
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	start := time.Now()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := work(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "rows/s")
}

// BenchmarkJournal is Record as the gateway calls it, one fact at a time: a
// look is canonicalised, sealed twice, numbered, inserted, synced and promised.
func BenchmarkJournal(b *testing.B) {
	for _, n := range writers {
		b.Run(fmt.Sprintf("writers=%d", n), func(b *testing.B) {
			j := open(b, storetest.SQLite(b))
			share(b, n, func() error {
				_, err := j.Record(b.Context(), look(ayesha, 1))
				return err
			})
		})
	}
}

// BenchmarkJournalMany is Record with 16 facts per call.
func BenchmarkJournalMany(b *testing.B) {
	for _, n := range writers {
		b.Run(fmt.Sprintf("writers=%d", n), func(b *testing.B) {
			j := open(b, storetest.SQLite(b))
			b.N = max(16, b.N/16*16)
			facts := func() []pasban.Fact {
				out := make([]pasban.Fact, 16)
				for i := range out {
					out[i] = block(i)
				}
				return out
			}
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			start := time.Now()
			var wg sync.WaitGroup
			for range n {
				wg.Go(func() {
					for left.Add(-16) >= 0 {
						if _, err := j.Record(b.Context(), facts()...); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "rows/s")
		})
	}
}

// BenchmarkBareFsync appends as many bytes as a row has to a bare file and
// syncs it, each writer a file of its own: what a row costs without grouping.
func BenchmarkBareFsync(b *testing.B) {
	for _, n := range writers {
		b.Run(fmt.Sprintf("writers=%d", n), func(b *testing.B) {
			dir, line := b.TempDir(), make([]byte, 1000)
			files := make(chan *os.File, n)
			for i := range n {
				f, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
				if err != nil {
					b.Fatal(err)
				}
				defer f.Close()
				files <- f
			}
			share(b, n, func() error {
				f := <-files
				defer func() { files <- f }()
				if _, err := f.Write(line); err != nil {
					return err
				}
				return f.Sync()
			})
		})
	}
}
