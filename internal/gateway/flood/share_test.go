package flood

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// others are two gateways' common buckets that grant what is wanted, until they hang.
type others struct{ hang chan bool }

func (o *others) Exchange(ctx context.Context, e Exchange) (Answer, error) {
	select {
	case <-o.hang:
		<-ctx.Done()
		return Answer{}, ctx.Err()
	default:
	}
	a := Answer{Gateways: 2, Granted: map[string]float64{}}
	for _, l := range e.Leases {
		a.Granted[l.Key] = min(l.Want, l.Rate*exchangeEvery.Seconds())
	}
	return a, nil
}

func shared(t *testing.T, l Limits) (*Limiter, *others) {
	x, o := New(l, func(Report) {}), &others{make(chan bool)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan bool)
	go func() { defer close(done); x.Share(ctx, o, func(error) {}) }()
	t.Cleanup(func() { cancel(); <-done; x.Close() })
	synctest.Wait()
	return x, o
}

func TestHungExchangeGivesBucketsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, o := shared(t, Limits{Rate: 100, Burst: 100})
		a := netip.MustParseAddr("192.0.2.1")
		ask := func(long time.Duration) (passed int) {
			for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
				if _, ok := x.Allow(a, ""); ok {
					passed++
				}
			}
			return passed
		}
		ask(5 * time.Second)
		synctest.Wait() // an exchange of this very moment has ended
		if _, leased := x.Sharing(); leased == 0 {
			t.Fatal("nothing is leased")
		}
		close(o.hang)
		ask(time.Second) // the next exchange hangs, and patience ends
		if got := ask(time.Second); got < 90 || got > 110 {
			t.Errorf("%d of a client's 100 requests passed while the database hung", got)
		}
	})
}

func TestMoreHotBucketsThanLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, _ := shared(t, Limits{Rate: 10, Burst: 10})
		const clients = 2 * mostLeases
		ask := func(from, times int) (passed [clients]int) {
			for range times {
				for i := from; i < clients; i++ {
					a := netip.MustParseAddr(fmt.Sprintf("10.%d.%d.1", i/200, i%200))
					if _, ok := x.Allow(a, ""); ok {
						passed[i]++
					}
				}
				time.Sleep(50 * time.Millisecond)
			}
			return passed
		}
		ask(clients-mostLeases, 200)    // these are leased, and their bursts gone
		for i, n := range ask(0, 200) { // others come, whose names are first
			if n < 60 {
				t.Errorf("client %d got %d requests in ten seconds, at ten a second", i, n)
			}
		}
		synctest.Wait() // an exchange of this very moment has ended
		if _, leased := x.Sharing(); leased == 0 || leased > mostLeases {
			t.Errorf("%d buckets are leased, want some and at most %d", leased, mostLeases)
		}
	})
}
