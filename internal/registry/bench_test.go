package registry_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"pasban"
	"pasban/internal/access"
	"pasban/internal/registry"
	"pasban/internal/store/storetest"
)

// clients runs work on n goroutines, each of which takes the next turn when it
// has finished one, and reports how many turns a second there were.
func clients(b *testing.B, n int, work func() error) {
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
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "opens/s")
}

// BenchmarkOpen opens a declared record: decided, journaled for each citizen
// in it, and each of its answers decrypted against the promise.
func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("clients=%d", n), func(b *testing.B) {
			r := open(b, storetest.SQLite(b))
			rec := r.apply(b)
			clients(b, n, func() error {
				_, err := r.Open(b.Context(), forACase(r.officer), "land-transfer", rec.ID)
				return err
			})
		})
	}
}

// BenchmarkPlainRead reads the rows of the same record and opens, decides and
// journals nothing: what a service without Pasban does.
func BenchmarkPlainRead(b *testing.B) {
	for _, n := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("clients=%d", n), func(b *testing.B) {
			r := open(b, storetest.SQLite(b))
			rec := r.apply(b)
			clients(b, n, func() error {
				for _, q := range []string{
					`SELECT id, state FROM registry_record WHERE id = ?`,
					`SELECT field, number FROM registry_party WHERE record = ?`,
					`SELECT field, sealed FROM registry_field WHERE record = ?`,
					`SELECT step, state FROM registry_step WHERE record = ?`,
				} {
					rows, err := r.st.Query(b.Context(), q, rec.ID)
					if err != nil {
						return err
					}
					var name, value []byte
					for rows.Next() {
						if err := rows.Scan(&name, &value); err != nil {
							return err
						}
					}
					if err := rows.Close(); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
}

// BenchmarkDisclose measures looks at 64 at once: what the journal adds.
func BenchmarkDisclose(b *testing.B) {
	for name, budget := range map[string]int{"budget=none": 0, "budget=50": 50} {
		b.Run(name, func(b *testing.B) {
			r := open(b, storetest.SQLite(b))
			if budget > 0 {
				r.budget(budget)
			}
			subject, err := r.vault.Subject(b.Context(), sellerCNIC)
			if err != nil {
				b.Fatal(err)
			}
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					_, err := r.guard.Disclose(b.Context(), registry.Look{Actor: r.officer, Subjects: []pasban.Subject{subject}, Service: "land.example", Resource: "GET /records/{cnic}",
						Action: access.View, Purpose: pasban.Purpose{Code: "mutation", Case: "1"}, AllowedPurposes: []string{"mutation"}}, nil)
					if err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
