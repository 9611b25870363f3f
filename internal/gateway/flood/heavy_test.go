package flood

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// TestSketch finds the few among many more than it has room for.
func TestSketch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSketch[string](100)
		rng := rand.New(rand.NewPCG(1, 2))
		for i := range 100_000 {
			s.add(fmt.Sprint("many ", rng.IntN(5000)))
			if i%20 == 0 {
				s.add("few")
			}
		}
		if n := s.least("few"); n < 4000 || n > 5000 {
			t.Errorf("at least %.0f of 5000", n)
		}
		if n := s.least("many 7"); n > 1000 {
			t.Errorf("one of many has at least %.0f", n)
		}
		if len(s.keys) != 100 || len(s.heap) != 100 {
			t.Errorf("%d keys, %d counters", len(s.keys), len(s.heap))
		}
		time.Sleep(2 * halfLife)
		if n := s.least("few"); n < 1000 || n > 1250 {
			t.Errorf("after two half-lives: %.0f", n)
		}
	})
}

func TestHeavy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeavy()
		loud, quiet := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("203.0.113.1")
		bot := netip.MustParseAddr("2001:db8::1")
		for i := range 1000 { // 20 s
			time.Sleep(20 * time.Millisecond)
			h.add(loud, "browser")
			if i%50 == 0 {
				h.add(quiet, "browser")
				h.known.add("browser")
			}
			for j := range byte(4) {
				h.add(netip.AddrFrom4([4]byte{192, byte(i), j, 7}), "tool")
			}
		}
		if h.is(loud, "browser", 50) {
			t.Error("heavy although there is no flood")
		}
		h.turned = time.Now()
		for name, c := range map[string]struct {
			got, want bool
		}{
			"loud":       {h.is(loud, "browser", 50), true},
			"loud, rare": {h.is(loud, "browser", 1000), false}, // far from its rate
			"quiet":      {h.is(quiet, "browser", 50), false},
			"bot":        {h.is(bot, "tool", 50), true}, // never seen, but built alike
			"browser":    {h.is(bot, "browser", 50), false},
			"unknown":    {h.is(bot, "", 50), false},
		} {
			if c.got != c.want {
				t.Errorf("%s: heavy is %v", name, c.got)
			}
		}
		time.Sleep(floodTime + time.Second)
		if h.is(loud, "browser", 50) {
			t.Error("heavy although the flood is over")
		}
	})
}
