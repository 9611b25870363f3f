package commons

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"pasban/internal/gateway/flood"
	"pasban/internal/store/storetest"
)

// counter counts what passes while somebody goes on asking.
type counter struct {
	passed atomic.Int64
	stop   func()
}

// asking asks the gateways in turn, 500 times a second, until it is stopped.
// Each time it asks those of now.
func asking(from string, now func() []*node) *counter {
	c := &counter{}
	done, ended := make(chan bool), make(chan bool)
	c.stop = sync.OnceFunc(func() { close(done); <-ended })
	go func() {
		defer close(ended)
		addr, tick := netip.MustParseAddr(from), time.NewTicker(2*time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			all := now()
			if _, ok := all[i%len(all)].Allow(addr, ""); ok {
				c.passed.Add(1)
			}
		}
	}()
	return c
}

// during returns how many requests passed until what happens has happened, and
// at least so long, and how long that was in seconds.
func (c *counter) during(least time.Duration, happens func()) (passed, seconds float64) {
	start, before := time.Now(), c.passed.Load()
	happens()
	time.Sleep(least - time.Since(start))
	return float64(c.passed.Load() - before), time.Since(start).Seconds()
}

// gateway starts one that shares through dsn. gone takes it away in good order or
// not: its tokens and its row stay where they are.
func gateway(t *testing.T, dsn string, l flood.Limits) (x *node, gone func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	x = &node{flood.New(l, func(flood.Report) {}), &switched{Commons: open(t, dsn)}, make(chan error, 100)}
	gone = sync.OnceFunc(func() { cancel(); running.Wait(); x.Close() })
	t.Cleanup(gone)
	running.Go(func() { x.Share(ctx, x.way, func(err error) { x.shared <- err }) })
	return x, gone
}

// met waits until all gateways know how many they are.
func met(t *testing.T, all []*node) {
	t.Helper()
	for _, x := range all {
		waitFor(t, func() bool { n, _ := x.Sharing(); return n == len(all) })
	}
}

// TestDatabaseGoesAway: the database of the limits is killed and comes back
// with empty tables, and hangs, while one client asks all gateways for far more
// than its rate and another keeps to one of them. Nobody gets less than the
// rate, give or take what is leased at once; the greedy one gets at most as many
// times the rate as there are gateways while the database is away, and the rate
// again afterwards, once it has paid back what it got beyond its rate.
func TestDatabaseGoesAway(t *testing.T) {
	t.Parallel()
	const rate, burst, n = 30, 20, 3
	pg := storetest.NewCluster(t, "")
	var all []*node
	for range n {
		x, _ := gateway(t, pg.DSN("postgres", pg.User), flood.Limits{Rate: rate, Burst: burst})
		all = append(all, x)
	}
	met(t, all)
	greedy := asking("192.0.2.1", func() []*node { return all })
	defer greedy.stop()
	loyal := asking("198.51.100.1", func() []*node { return all[:1] })
	defer loyal.stop()
	// check lets it go on for two seconds; the greedy client may have so many
	// times the rate, and so many bursts.
	check := func(what string, times, bursts float64) {
		t.Helper()
		var g, l, took float64
		var wg sync.WaitGroup
		wg.Go(func() { g, took = greedy.during(2*time.Second, func() {}) })
		wg.Go(func() { l, _ = loyal.during(2*time.Second, func() {}) })
		wg.Wait()
		one := rate * took
		// What was leased at once was spent before the window begins; then half a
		// second passes, and a quarter if the database hangs.
		const leased = 0.75 * rate
		t.Logf("%s: greedy %.0f, loyal %.0f, at the rate %.0f", what, g, l, one)
		if g < 0.9*one-leased || g > 1.1*times*one+bursts*burst+leased {
			t.Errorf("%s: the greedy client got %.0f of three gateways, want about %.0f to %.0f", what, g, one, times*one+bursts*burst)
		}
		if l < 0.9*one-leased || l > 1.1*one+burst+leased {
			t.Errorf("%s: the loyal client got %.0f of one gateway, want about %.0f", what, l, one)
		}
	}
	settle := func() { // until tokens are leased, and what each gateway gave by itself is paid back
		met(t, all)
		for _, x := range all {
			waitFor(t, func() bool { _, leased := x.Sharing(); return leased > 0 })
		}
		waitFor(t, func() bool { got, took := greedy.during(time.Second, func() {}); return got >= 0.8*rate*took })
	}
	settle()
	check("shared", 1, 0)
	pg.Stop(t, "QUIT")
	check("away", n, n)
	pg.Start(t)
	settle()
	check("back", 1, 0)
	stop, cont := hang(t, pg)
	stop()
	check("hanging", n, n)
	cont()
	settle()
	check("after it hung", 1, 0)
}

// hang stops and continues every process of the server.
func hang(t *testing.T, pg *storetest.Cluster) (stop, cont func()) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(pg.Data, "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	head, err := strconv.Atoi(strings.Fields(string(text))[0])
	if err != nil {
		t.Fatal(err)
	}
	all := []int{head}
	children, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(head), "task", strconv.Itoa(head), "children"))
	if err != nil {
		t.Skip("the server's processes cannot be listed: ", err)
	}
	for pid := range strings.FieldsSeq(string(children)) {
		one, err := strconv.Atoi(pid)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
	send := func(sig syscall.Signal) func() {
		return func() {
			for _, pid := range all {
				syscall.Kill(pid, sig) // some may have ended
			}
		}
	}
	t.Cleanup(send(syscall.SIGCONT))
	return send(syscall.SIGSTOP), send(syscall.SIGCONT)
}

// TestGatewaysComeAndGo: gateways join and leave under load. A client who asks
// all that there are gets one rate and the bursts of those that are new, and one
// that is left alone gives the whole rate.
func TestGatewaysComeAndGo(t *testing.T) {
	t.Parallel()
	const rate, burst = 30, 20
	dsn := storetest.PostgresDSN(t)
	limits := flood.Limits{Rate: rate, Burst: burst}
	var current atomic.Pointer[[]*node]
	first, _ := gateway(t, dsn, limits)
	all, leave := []*node{first}, []func(){}
	current.Store(&all)
	greedy := asking("192.0.2.1", func() []*node { return *current.Load() })
	defer greedy.stop()
	check := func(what string, long time.Duration, extra float64) {
		t.Helper()
		got, took := greedy.during(long, func() {})
		want := rate * took
		t.Logf("%s: %.0f, at the rate %.0f", what, got, want)
		if got > 1.3*want+extra || got < 0.7*want {
			t.Errorf("%s: %.0f passed, want about %.0f and at most %.0f for bursts", what, got, want, extra)
		}
	}
	check("alone", 2*time.Second, burst)
	for range 3 {
		x, gone := gateway(t, dsn, limits)
		now := append(append([]*node{}, *current.Load()...), x)
		leave = append(leave, gone)
		current.Store(&now)
	}
	check("three joined", 4*time.Second, 3*burst+4*rate/2) // until they have met
	met(t, *current.Load())
	check("four", 3*time.Second, burst)
	rest := (*current.Load())[:1]
	current.Store(&rest)
	for _, gone := range leave {
		gone()
	}
	check("three left", 4*time.Second, burst) // those count for three seconds
	met(t, rest)
	check("alone again", 2*time.Second, burst)
}

// TestClockOfTheDatabase: what was written before the clock was set back is of
// a time to come, and says nothing.
func TestClockOfTheDatabase(t *testing.T) {
	dsn := storetest.PostgresDSN(t)
	a, b := open(t, dsn), open(t, dsn)
	who := flood.Penalty{Prefix: netip.MustParsePrefix("192.0.2.0/24")}
	lease := flood.Lease{Key: "192.0.2.1/32", Rate: 1000, Burst: 10, Want: 10}
	exchange(t, a, flood.Exchange{Leases: []flood.Lease{lease}, Penalties: map[flood.Penalty]time.Duration{who: 10 * time.Second}})
	if got := exchange(t, b, flood.Exchange{}); got.Gateways != 2 || len(got.Penalties) != 1 {
		t.Fatalf("before: %+v", got)
	}
	for _, q := range []string{`UPDATE limit_buckets SET at = at + interval '1 day'`, `UPDATE limit_penalties SET until = until + interval '1 day'`,
		`UPDATE limit_gateways SET at = at + interval '1 day'`} {
		if _, err := b.db.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	if got := exchange(t, b, flood.Exchange{}); got.Gateways != 1 || len(got.Penalties) != 0 {
		t.Errorf("a day back: %+v", got)
	}
	exchange(t, a, flood.Exchange{Penalties: map[flood.Penalty]time.Duration{who: 10 * time.Second}})
	if got := exchange(t, b, flood.Exchange{}); got.Gateways != 2 || got.Penalties[who] <= 0 || got.Penalties[who] > 10*time.Second {
		t.Errorf("told anew: %+v", got)
	}
	waitFor(t, func() bool { // the bucket fills from now on, not from tomorrow
		return exchange(t, b, flood.Exchange{Leases: []flood.Lease{lease}}).Granted[lease.Key] > 5
	})
}
