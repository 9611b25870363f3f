package gateway

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pasban/internal/config"
	"pasban/internal/gateway/waf"
)

// people is the seeded list from which the benign mix draws: synthetic all.
const people = 10_000

// benign writes request i of the benign mix: four kinds in turn, with names,
// numbers and sessions that vary.
func benign(base string, i int) *http.Request {
	rng := rand.New(rand.NewPCG(2026, uint64(i/4%people)))
	cnic := fmt.Sprintf("%05d-%07d-%d", 10000+rng.IntN(89999), rng.IntN(1e7), rng.IntN(10))
	name := []string{"Ayesha", "Bilal", "Fatima", "Hamza", "Khadija", "Omar", "Sana", "Usman"}[rng.IntN(8)] + " Synthetic"
	var r *http.Request
	switch i % 4 {
	case 0:
		r, _ = http.NewRequest("GET", fmt.Sprintf("%s/records/search?district=rawalpindi&mouza=Adiala&khasra=%d%%2F%d&page=%d",
			base, 1+rng.IntN(900), 1+rng.IntN(9), 1+rng.IntN(9)), nil)
	case 1:
		r, _ = http.NewRequest("GET", fmt.Sprintf("%s/static/app.js?v=1.2.%d", base, rng.IntN(9)), nil)
	case 2:
		form := url.Values{"name": {name}, "father_name": {name}, "cnic": {cnic}, "address": {fmt.Sprintf("House %d, Street %d, Satellite Town", rng.IntN(99), rng.IntN(40))},
			"mobile": {fmt.Sprintf("0300-%07d", rng.IntN(1e7))}, "email": {fmt.Sprintf("synthetic%d@example.org", rng.IntN(1e4))}, "purpose": {"mutation"},
			"note": {"The plot was inherited in equal shares and the family asks that the transfer be entered before the next harvest season begins"}}
		r, _ = http.NewRequest("POST", base+"/apply", strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	case 3:
		body := fmt.Sprintf(`{"taxpayer":{"name":%q,"cnic":%q,"year":2026},"incomes":[{"source":"salary","employer":"Synthetic Mills","amount":%d},`+
			`{"source":"rent","district":"Rawalpindi","amount":%d}],"deductions":[{"kind":"zakat","amount":%d},{"kind":"education","amount":%d}],`+
			`"declaration":"I declare that the particulars given in this return are correct and complete to the best of my knowledge and belief."}`,
			name, cnic, rng.IntN(1e6), rng.IntN(1e5), rng.IntN(1e4), rng.IntN(1e4))
		r, _ = http.NewRequest("POST", base+"/api/tax/returns", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
	}
	r.Host = "land.example"
	r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36")
	r.Header.Set("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
	r.Header.Set("Accept-Language", "en-US,en;q=0.5")
	r.Header.Set("Cookie", fmt.Sprintf("session=%016x%016x; lang=ur", rng.Uint64(), rng.Uint64()))
	r.Header.Set("Referer", "http://land.example/records/search?district=rawalpindi&page=1")
	return r
}

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
			g, _ := newGateway(b, nil, site)
			measure(b, "http://"+serve(b, g), benign)
		})
	}
	b.Run("coraza-alone", func(b *testing.B) {
		directives, err := waf.Directives(waf.Options{Body: 1 << 20})
		if err != nil {
			b.Fatal(err)
		}
		measure(b, "http://"+corazaAlone(b, upstream, directives), benign)
	})
	b.Run("plain-proxy", func(b *testing.B) {
		u, err := url.Parse(upstream)
		if err != nil {
			b.Fatal(err)
		}
		s := httptest.NewServer(httputil.NewSingleHostReverseProxy(u))
		defer s.Close()
		measure(b, s.URL, benign)
	})
}

// recordPage asks for the record of one of a thousand synthetic citizens.
func recordPage(base string, i int) *http.Request {
	r := benign(base, 4*i)
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
