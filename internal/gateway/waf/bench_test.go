package waf

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/corazawaf/coraza/v3/types"
)

func benign(base string, i int) *http.Request {
	rng := rand.New(rand.NewPCG(2026, uint64(i/4%10000)))
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

// BenchmarkInspect is the firewall alone: one request of the benign mix, and
// its answer, without a network.
func BenchmarkInspect(b *testing.B) {
	var raw [][]byte
	for i := range 4000 {
		var buf bytes.Buffer
		benign("http://land.example", i).Write(&buf)
		raw = append(raw, buf.Bytes())
	}
	o := Options{}
	if f := os.Getenv("AFTER"); f != "" {
		o.After = []string{f}
	}
	engines := map[string]*Engine{"own": newEngine(b, o), "stock": stockEngine(b, o)}
	for _, name := range []string{"own", "stock"} {
		b.Run(name, func(b *testing.B) {
			e := engines[name]
			seen := 0
			h := e.handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/html; charset=utf-8")
				w.Write(bytes.Repeat([]byte("ok "), 20))
			}), Hooks{ended: func(tx types.Transaction) {
				if seen < 4 && os.Getenv("SHOW") != "" {
					for _, m := range tx.MatchedRules() {
						fmt.Print(m.Rule().ID(), " ")
					}
					fmt.Println()
				}
				seen++
			}}, requests|responses)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw[i%len(raw)])))
				if err != nil {
					b.Fatal(err)
				}
				r.RemoteAddr = "192.0.2.7:4711"
				h.ServeHTTP(httptest.NewRecorder(), r)
				i++
			}
		})
	}
}
