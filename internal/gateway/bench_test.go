package gateway

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"syscall"
	"testing"
	"time"

	"pasban/internal/config"
	"pasban/internal/gateway/waf"
	"pasban/internal/gateway/waf/waftest"
)

// answer is the upstream's fixed page of 60 bytes.
var answer = append(bytes.Repeat([]byte("ok "), 19), "ok\n"...)

func fixedPage(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Write(answer)
}

// measure sends the requests one after another over one keep-alive pool and
// reports the CPU time of the whole process for each, client and upstream
// included: compare lines of one run.
func measure(b *testing.B, base string, request func(string, int) *http.Request) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	defer client.CloseIdleConnections()
	i := 0
	var times []time.Duration
	do := func() {
		begin := time.Now()
		res, err := client.Do(request(base, i))
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			b.Fatalf("request %d was answered %d", i, res.StatusCode)
		}
		i++
		times = append(times, time.Since(begin))
	}
	do()
	before := cpu()
	for b.Loop() {
		do()
	}
	b.ReportMetric(float64((cpu()-before).Microseconds())/float64(i), "cpu-µs/op")
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-µs")
}

func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkMix sends the benign mix through the gateway with its firewall on
// and off, beside Coraza's own middleware and a plain proxy before the same
// upstream.
func BenchmarkMix(b *testing.B) {
	upstream := upstreamOf(b, fixedPage)
	for _, mode := range []string{"off", "block"} {
		b.Run("gateway/waf="+mode, func(b *testing.B) {
			site := siteOf(upstream, config.Route{Match: "/", SignIn: "none"})
			site.WAF.Mode = mode
			g, _ := newGateway(b, func(c *config.Config) { c.AccessLog = "combined" }, site)
			measure(b, "http://"+serve(b, g), waftest.Benign)
		})
	}
	b.Run("coraza-alone", func(b *testing.B) {
		directives, err := waf.Directives(waf.Options{Body: 1 << 20})
		if err != nil {
			b.Fatal(err)
		}
		measure(b, "http://"+corazaAlone(b, upstream, directives), waftest.Benign)
	})
	b.Run("plain-proxy", func(b *testing.B) {
		u, err := url.Parse(upstream)
		if err != nil {
			b.Fatal(err)
		}
		s := httptest.NewServer(httputil.NewSingleHostReverseProxy(u))
		defer s.Close()
		measure(b, s.URL, waftest.Benign)
	})
}

// recordPage asks for the record of one of a thousand synthetic citizens.
func recordPage(base string, i int) *http.Request {
	r := waftest.Benign(base, 4*i)
	u, _ := url.Parse(fmt.Sprintf("%s/records/35202-%07d-1", base, i%1000))
	r.URL = u
	return r
}

// BenchmarkGuardedPage asks for a legacy page that is about a citizen, with
// the real guard, vault and journal on SQLite, firewall on and off; beside it
// the same page on an open route (the difference is the journal), and behind
// Coraza alone.
func BenchmarkGuardedPage(b *testing.B) {
	upstream := upstreamOf(b, fixedPage)
	for _, c := range []struct{ name, mode, signin string }{
		{"guarded/waf=off", "off", "officer"}, {"guarded/waf=block", "block", "officer"},
		{"open/waf=off", "off", "none"}, {"open/waf=block", "block", "none"},
	} {
		b.Run(c.name, func(b *testing.B) {
			rt := config.Route{Match: "GET /records/{cnic}", SignIn: c.signin}
			if c.signin != "none" {
				rt.Subject, rt.Purposes = "cnic", []string{"mutation"}
			}
			site := siteOf(upstream, rt)
			site.WAF.Mode = c.mode
			g, p := newGateway(b, nil, site)
			p.officer()
			newSpine(b, 1_000_000).behind(g)
			measure(b, "http://"+serve(b, g), recordPage)
		})
	}
	b.Run("coraza-alone", func(b *testing.B) {
		directives, err := waf.Directives(waf.Options{Body: 1 << 20})
		if err != nil {
			b.Fatal(err)
		}
		measure(b, "http://"+corazaAlone(b, upstream, directives), recordPage)
	})
}
