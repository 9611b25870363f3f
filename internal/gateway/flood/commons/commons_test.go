package commons

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pasban"
	"pasban/internal/gateway/flood"
	"pasban/internal/store/storetest"
)

func open(t testing.TB, dsn string) *Commons {
	t.Helper()
	c, err := Open(dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func exchange(t testing.TB, c *Commons, e flood.Exchange) flood.Answer {
	t.Helper()
	a, err := c.Exchange(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestLeases(t *testing.T) {
	dsn := storetest.PostgresDSN(t)
	a, b := open(t, dsn), open(t, dsn)
	ask := func(c *Commons, used, want float64) float64 {
		t.Helper()
		// A rate that gives nothing back while the test runs.
		got := exchange(t, c, flood.Exchange{Leases: []flood.Lease{{Key: "192.0.2.1/32", Rate: 1e-6, Burst: 10, Used: used, Want: want}}})
		return got.Granted["192.0.2.1/32"]
	}
	near := func(got, want float64) bool { return got > want-1e-3 && got < want+1e-3 }
	for i, c := range []struct {
		of                *Commons
		used, want, grant float64
	}{
		{a, 0, 4, 4}, // of 10
		{b, 2, 3, 3}, // the other gateway spent two by itself
		{a, 0, 9, 1}, // what is left
		{b, 0, 1, 0},
		{b, 5, 1, 0}, // now it owes
	} {
		if got := ask(c.of, c.used, c.want); !near(got, c.grant) {
			t.Errorf("exchange %d: granted %v, want %v", i, got, c.grant)
		}
	}
	if got := exchange(t, a, flood.Exchange{}); got.Gateways != 2 || len(got.Granted) != 0 {
		t.Errorf("an empty exchange: %+v", got)
	}
	// A bucket fills with time, and a debt is paid first.
	lease := flood.Lease{Key: "route", Rate: 1000, Burst: 1000, Used: 1500, Want: 100}
	if got := exchange(t, a, flood.Exchange{Leases: []flood.Lease{lease}}).Granted["route"]; got != 0 {
		t.Errorf("granted %v of a bucket that owes 500", got)
	}
	lease.Used = 0
	total := 0.0
	waitFor(t, func() bool {
		got := exchange(t, b, flood.Exchange{Leases: []flood.Lease{lease}}).Granted["route"]
		total += got
		return got > 0 && total >= 100
	})
}

func TestPenaltiesAreTold(t *testing.T) {
	dsn := storetest.PostgresDSN(t)
	a, b := open(t, dsn), open(t, dsn)
	prefix, ja4 := flood.Penalty{Prefix: netip.MustParsePrefix("2001:db8::/48")}, flood.Penalty{JA4: "t13d1516h2_8daaf6152771_e5627efa2ab1"}
	exchange(t, a, flood.Exchange{Penalties: map[flood.Penalty]time.Duration{prefix: 10 * time.Second, ja4: 5 * time.Second}})
	got := exchange(t, b, flood.Exchange{}).Penalties
	if len(got) != 2 || got[prefix] <= 5*time.Second || got[prefix] > 10*time.Second || got[ja4] <= 0 || got[ja4] > 5*time.Second {
		t.Errorf("heard %v", got)
	}
	if got := exchange(t, a, flood.Exchange{}).Penalties; len(got) != 0 {
		t.Errorf("the one who told is told %v", got)
	}
}

func TestTablesComeBack(t *testing.T) {
	dsn := storetest.PostgresDSN(t)
	c := open(t, dsn)
	exchange(t, c, flood.Exchange{})
	if _, err := c.db.ExecContext(t.Context(), `DROP TABLE limit_gateways`); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exchange(t.Context(), flood.Exchange{}); err == nil {
		t.Error("an exchange without a table succeeded")
	}
	exchange(t, c, flood.Exchange{})
}

func TestOldRowsAreDeleted(t *testing.T) {
	dsn := storetest.PostgresDSN(t)
	c := open(t, dsn)
	lease := flood.Lease{Key: "192.0.2.1/32", Rate: 1, Burst: 1}
	exchange(t, c, flood.Exchange{Leases: []flood.Lease{lease}, Penalties: map[flood.Penalty]time.Duration{{JA4: "x"}: time.Second}})
	for _, q := range []string{`UPDATE limit_buckets SET at = at - interval '1 hour'`, `UPDATE limit_penalties SET until = until - interval '1 hour'`,
		`INSERT INTO limit_gateways VALUES ('gone', now() - interval '1 hour')`} {
		if _, err := c.db.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	for c.n%cleanEvery != 0 {
		exchange(t, c, flood.Exchange{})
	}
	var rows int
	if err := c.db.QueryRowContext(t.Context(), `SELECT (SELECT count(*) FROM limit_buckets) + (SELECT count(*) FROM limit_penalties) + (SELECT count(*) FROM limit_gateways WHERE gateway = 'gone')`).Scan(&rows); err != nil || rows != 0 {
		t.Errorf("%d old rows are left, %v", rows, err)
	}
}

func TestBadAddress(t *testing.T) {
	_, err := Open("postgres://user:hunter2@[/x")
	if pasban.KindOf(err) != pasban.Invalid || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
	c := open(t, "postgres://nobody@127.0.0.1:1/none?connect_timeout=1")
	if _, err := c.Exchange(t.Context(), flood.Exchange{}); err == nil {
		t.Error("nobody answered, and it was no error")
	}
}

// switched is a way to the others that can be cut.
type switched struct {
	flood.Commons
	cut atomic.Bool
}

func (s *switched) Exchange(ctx context.Context, e flood.Exchange) (flood.Answer, error) {
	if s.cut.Load() {
		return flood.Answer{}, errors.New("cut")
	}
	return s.Commons.Exchange(ctx, e)
}

// node is one gateway's limiter.
type node struct {
	*flood.Limiter
	way    *switched
	shared chan error
}

// nodes are gateways that have met each other.
func nodes(t *testing.T, n int, l flood.Limits) (all []*node) {
	dsn := storetest.PostgresDSN(t)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	for range n {
		x := &node{flood.New(l, func(flood.Report) {}), &switched{Commons: open(t, dsn)}, make(chan error, 10)}
		t.Cleanup(x.Close)
		running.Go(func() { x.Share(ctx, x.way, func(err error) { x.shared <- err }) })
		if err := <-x.shared; err != nil {
			t.Fatal(err)
		}
		all = append(all, x)
	}
	for _, x := range all {
		waitFor(t, func() bool { met, _ := x.Sharing(); return met == n })
	}
	return all
}

// ask sends from one address to the gateways in turn for so long, and returns
// how many requests were let through.
func ask(all []*node, from string, long, pause time.Duration) (passed int) {
	addr := netip.MustParseAddr(from)
	for end, i := time.Now().Add(long), 0; time.Now().Before(end); i++ {
		if _, ok := all[i%len(all)].Allow(addr, ""); ok {
			passed++
		}
		time.Sleep(pause)
	}
	return passed
}

func TestOneRateForAllGateways(t *testing.T) {
	const rate, burst = 30, 20
	all := nodes(t, 3, flood.Limits{Rate: rate, Burst: burst})
	const long = 6 * time.Second
	if got, most := ask(all, "192.0.2.1", long, 2*time.Millisecond), 1.3*(burst+rate*long.Seconds()); float64(got) > most || got < rate {
		t.Errorf("%d requests of one client passed three gateways in %s, want at most %.0f", got, long, most)
	}
	// Somebody polite notices nothing.
	if got := ask(all, "198.51.100.1", 2*time.Second, 100*time.Millisecond); got < 15 {
		t.Errorf("of a polite client's requests %d passed", got)
	}
	// Without the database each gateway goes by its own buckets, and back.
	for _, x := range all {
		x.way.cut.Store(true)
		if err := <-x.shared; err == nil {
			t.Error("it did not say that nothing is shared")
		}
	}
	alone := ask(all, "192.0.2.2", 3*time.Second, 2*time.Millisecond)
	if least := 3 * burst; alone < least {
		t.Errorf("alone, three gateways let %d pass, want at least %d", alone, least)
	}
	for _, x := range all {
		x.way.cut.Store(false)
		if err := <-x.shared; err != nil {
			t.Error(err)
		}
	}
}

// A gateway that finds out who makes a flood tells the others, which have not
// seen it.
func TestPenaltyElsewhere(t *testing.T) {
	all := nodes(t, 2, flood.Limits{Rate: 10, Burst: 20})
	from := func(addr string) *http.Request {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = addr + ":4000"
		return r
	}
	h := all[0].Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), nil, func(http.ResponseWriter, *http.Request, flood.Refusal) {})
	for range 2000 {
		h.ServeHTTP(httptest.NewRecorder(), from("203.0.113.9"))
	}
	if !all[0].Heavy(from("203.0.113.9")) {
		t.Fatal("the gateway that is flooded does not see who does it")
	}
	waitFor(t, func() bool { return all[1].Heavy(from("203.0.113.9")) })
	if all[1].Heavy(from("198.51.100.7")) {
		t.Error("somebody else is penalised")
	}
}

func waitFor(t *testing.T, what func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if what() {
			return
		}
	}
	t.Fatal("it did not come to be")
}

// A client who asks for part of its rate, so that its bucket is leased, still
// has its part of the burst at once and the whole soon after.
func TestLeasedBucketKeepsItsBurst(t *testing.T) {
	const rate, burst = 20, 100
	all := nodes(t, 2, flood.Limits{Rate: rate, Burst: burst})
	if got := ask(all[:1], "192.0.2.1", 4*time.Second, 100*time.Millisecond); got < 30 {
		t.Errorf("of a client's 40 requests %d passed", got)
	}
	if _, leased := all[0].Sharing(); leased == 0 {
		t.Fatal("nothing is leased")
	}
	addr, at := netip.MustParseAddr("192.0.2.1"), 0
	for range burst {
		if _, ok := all[0].Allow(addr, ""); ok {
			at++
		}
	}
	if at < burst/5 {
		t.Errorf("%d of a burst of %d passed at once", at, burst)
	}
	if got := at + ask(all[:1], "192.0.2.1", 2*time.Second, 2*time.Millisecond); got < burst || float64(got) > burst+1.3*rate*2+10 {
		t.Errorf("%d passed within two seconds, of a burst of %d and %d a second", got, burst, rate)
	}
}

// With two and three gateways: whoever asks all of them gets little more than
// one rate, and whoever keeps to one gets the whole.
func TestBoundOverTenSeconds(t *testing.T) {
	const rate, burst, long = 30, 20, 10 * time.Second
	for _, n := range []int{2, 3} {
		all := nodes(t, n, flood.Limits{Rate: rate, Burst: burst})
		var spread, one int
		var both sync.WaitGroup
		both.Go(func() { spread = ask(all, "192.0.2.1", long, 2*time.Millisecond) })
		both.Go(func() { one = ask(all[:1], "198.51.100.1", long, 2*time.Millisecond) })
		both.Wait()
		t.Logf("%d gateways: spread %d, one %d", n, spread, one)
		if most := 1.3*rate*long.Seconds() + burst; float64(spread) > most {
			t.Errorf("%d requests of one client passed %d gateways, want at most %.0f", spread, n, most)
		}
		if least := 0.9 * rate * long.Seconds(); float64(one) < least {
			t.Errorf("%d requests of a client at one of %d gateways passed, want at least %.0f", one, n, least)
		}
	}
}
