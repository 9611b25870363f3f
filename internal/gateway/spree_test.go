package gateway

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pasban"
	"pasban/internal/config"
)

func TestSprees(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		more := map[string]int{}
		s := newSprees(func(client netip.Prefix, like pasban.Fact, count int) {
			mu.Lock()
			defer mu.Unlock()
			more[client.Addr().String()+" "+like.Body.ID] += count
		})
		scanner, other := netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("192.0.2.8/32")
		blocks := 0
		block := func(client netip.Prefix, kind string) (recorded bool, id string) {
			blocks++
			if id := s.gather(client, kind); id != "" {
				return false, id
			}
			id = kind + strconv.Itoa(blocks)
			f := pasban.Fact{}
			f.Body.ID = id
			s.told(client, kind, f)
			return true, id
		}
		first := ""
		for i := range toldSingly {
			recorded, id := block(scanner, "sqli")
			if !recorded {
				t.Fatalf("block %d was not recorded", i+1)
			}
			if first == "" {
				first = id
			}
		}
		if recorded, id := block(scanner, "sqli"); recorded || id != first {
			t.Errorf("one more of the kind: recorded %v under %s, want it among %s", recorded, id, first)
		}
		if recorded, _ := block(scanner, "xss"); !recorded {
			t.Error("the first of another kind was not recorded")
		}
		if recorded, _ := block(other, "sqli"); !recorded {
			t.Error("another client's first was not recorded")
		}
		for i := range 2 * kindsTold {
			block(scanner, "kind "+strconv.Itoa(i))
		}
		s.mu.Lock()
		if n := len(s.of[scanner].kinds); n != kindsTold {
			t.Errorf("%d kinds are kept", n)
		}
		s.mu.Unlock()
		time.Sleep(spreeLasts + time.Second)
		synctest.Wait()
		total := 0
		for who, n := range more {
			if !strings.HasPrefix(who, "192.0.2.7 ") {
				t.Errorf("more of %s, who came once", who)
			}
			total += n
		}
		// Of the further kinds, those that there was room for were recorded.
		if want := 1 + 2*kindsTold - (kindsTold - 2); total != want || more["192.0.2.7 "+first] != 1 {
			t.Errorf("%d more were told of, want %d: %v", total, want, more)
		}
		if recorded, _ := block(scanner, "sqli"); !recorded {
			t.Error("a new spree does not begin with a fact")
		}
		for range toldSingly {
			block(scanner, "sqli")
		}
		clear(more)
		s.close()
		if len(more) != 1 {
			t.Errorf("the end told of %v", more)
		}
		if recorded, _ := block(scanner, "sqli"); !recorded {
			t.Error("after the end, a block was gathered for nobody to tell of")
		}
	})
}

// A scanner's hundreds of requests become some facts and a count; each is
// refused, and each page names a fact that there is.
func TestSpreeOfAttacks(t *testing.T) {
	upstream := upstreamOf(t, fixedPage)
	site := siteOf(upstream, config.Route{Match: "GET /", SignIn: "none"})
	site.WAF.Mode = "block"
	g, p := newGateway(t, nil, site)
	h := g.Handler()
	told := map[string]bool{}
	const many = 100
	for i := range many {
		r := httptest.NewRequest("GET", "/?q=1%27+union+select+password+from+users--+"+strconv.Itoa(i), nil)
		r.Header.Set("Accept", "text/html")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), w.Header().Get(IncidentHeader)) {
			t.Fatalf("request %d: %d", i, w.Code)
		}
		told[w.Header().Get(IncidentHeader)] = true
	}
	facts := p.take()
	if len(facts) < toldSingly || len(facts) > toldSingly+8 {
		t.Fatalf("%d facts for %d requests", len(facts), many)
	}
	for _, f := range facts {
		delete(told, f.Body.ID)
	}
	if len(told) > 0 {
		t.Errorf("pages name %d facts that there are not", len(told))
	}
	alone, counted := len(facts), 0
	g.Close()
	for _, f := range p.take() {
		n, _ := strconv.Atoi(f.Restricted.More["count"])
		counted += n
		if f.Body.Action != "waf" || f.Body.Outcome != pasban.Denied || len(f.Restricted.Rules) == 0 || f.Restricted.More["engine"] != "waf" || f.Restricted.IP != "192.0.2.1" {
			t.Errorf("the fact about more says %+v %+v", f.Body, f.Restricted)
		}
	}
	if alone+counted != many {
		t.Errorf("%d alone and %d counted, of %d", alone, counted, many)
	}
}
