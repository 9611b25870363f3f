package ledger_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"pasban"
	"pasban/internal/ledger"
)

// BenchmarkCatchUp gives a ledger that was away a backlog of PASBAN_BENCH_LEAVES
// leaves (100,000 without it; an hour at 1,000 a second is 3,600,000), and times
// how soon all of it is in tiles and under a signed checkpoint.
func BenchmarkCatchUp(b *testing.B) {
	leaves := 100_000
	if s := os.Getenv("PASBAN_BENCH_LEAVES"); s != "" {
		var err error
		if leaves, err = strconv.Atoi(s); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		b.StopTimer()
		ctx := context.WithoutCancel(b.Context())
		dir := b.TempDir()
		n, err := parts(ctx, dir, dir+"/store.db")
		if err != nil {
			b.Fatal(err)
		}
		facts := make([]pasban.Fact, 500)
		for done := 0; done < leaves; done += len(facts) {
			for i := range facts {
				facts[i] = pasban.NewFact(pasban.KindAdmin, "land-records", pasban.Actor{Kind: pasban.ActorSystem}, time.Now())
			}
			if _, err := n.Journal.Record(ctx, facts[:min(len(facts), leaves-done)]...); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
		start := time.Now()
		if err := n.open(ctx, ledger.Options{Agency: "land-records"}); err != nil {
			b.Fatal(err)
		}
		for n.Status().Size < uint64(leaves) {
			time.Sleep(5 * time.Millisecond)
		}
		b.ReportMetric(float64(leaves)/time.Since(start).Seconds(), "leaves/s")
		b.StopTimer()
		if err := n.close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkPromises records 1,000 facts a second for five seconds, whatever the
// journal makes of it, and times from when each was due: until it was promised,
// and until its receipt was there. Everything is as it is by default.
func BenchmarkPromises(b *testing.B) {
	const rate, length = 1000, 5 * time.Second
	for b.Loop() {
		ctx := context.WithoutCancel(b.Context())
		dir := b.TempDir()
		n, err := parts(ctx, dir, dir+"/store.db")
		if err != nil {
			b.Fatal(err)
		}
		if err := n.open(ctx, ledger.Options{Agency: "land-records"}); err != nil {
			b.Fatal(err)
		}
		total := int(rate * length / time.Second)
		promised, proven := make([]time.Duration, total), make([]time.Duration, total)
		var wg sync.WaitGroup
		start := time.Now()
		for i := range total {
			due := start.Add(time.Duration(i) * time.Second / rate)
			time.Sleep(time.Until(due))
			wg.Go(func() {
				f := pasban.NewFact(pasban.KindLook, "land-records", pasban.Actor{ID: "officer:1", Kind: pasban.ActorPerson}, time.Now())
				f.Subject = pasban.Subject{ID: pasban.SubjectID(fmt.Sprintf("%032x", i%1000)), CNIC: "35202-0000001-1"} // synthetic
				entries, err := n.Journal.Record(ctx, f)
				if err != nil {
					b.Error(err)
					return
				}
				promised[i] = time.Since(due)
				if err := n.Await(ctx, uint64(entries[0].Index)); err != nil {
					b.Error(err)
					return
				}
				if _, err := n.Receipt(ctx, entries[0]); err != nil {
					b.Error(err)
				}
				proven[i] = time.Since(due) - promised[i]
			})
		}
		wg.Wait()
		slices.Sort(promised)
		slices.Sort(proven)
		ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
		b.ReportMetric(ms(promised[total/2]), "p50-ms")
		b.ReportMetric(ms(promised[total*99/100]), "p99-ms")
		b.ReportMetric(ms(proven[total/2]), "receipt-p50-ms")
		b.ReportMetric(ms(proven[total-1]), "receipt-slowest-ms")
		if err := n.close(); err != nil {
			b.Fatal(err)
		}
	}
}
