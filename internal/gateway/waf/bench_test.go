package waf

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/corazawaf/coraza/v3/types"

	"pasban/internal/gateway/waf/waftest"
)

// BenchmarkInspect is the firewall alone: one request of the benign mix, and
// its answer, without a network.
func BenchmarkInspect(b *testing.B) {
	var raw [][]byte
	for i := range 4000 {
		var buf bytes.Buffer
		waftest.Benign("http://land.example", i).Write(&buf)
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
			seen, whole := 0, 0
			h := e.handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/html; charset=utf-8")
				w.Write(bytes.Repeat([]byte("ok "), 20))
			}), Hooks{ended: func(tx types.Transaction, light bool) {
				if !light {
					whole++
				}
				if seen > 2000 && seen < 2005 && os.Getenv("SHOW") != "" {
					for _, m := range tx.MatchedRules() {
						fmt.Print(m.Rule().ID(), " ")
					}
					fmt.Println()
				}
				seen++
			}}, requests|responses)
			b.ReportAllocs()
			i := 0
			before := spent()
			for b.Loop() {
				r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw[i%len(raw)])))
				if err != nil {
					b.Fatal(err)
				}
				r.RemoteAddr = "192.0.2.7:4711"
				h.ServeHTTP(httptest.NewRecorder(), r)
				i++
			}
			b.ReportMetric(float64(whole)/float64(i), "whole/op")
			b.ReportMetric(float64((spent()-before).Nanoseconds())/float64(i), "cpu-ns/op")
		})
	}
}

// BenchmarkAttacks is the firewall alone under the attacks of the rules' own
// suite that it refuses, with its log and the report that is journaled; beside
// it Coraza alone, which writes nothing.
func BenchmarkAttacks(b *testing.B) {
	log, err := OpenLog(filepath.Join(b.TempDir(), "waf.log"), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	engines := map[string]*Engine{"own": newEngine(b, Options{Log: log}), "stock": stockEngine(b, Options{})}
	blocked := 0
	send := func(e *Engine, raw []byte) bool {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			return false
		}
		r.RemoteAddr = "192.0.2.7:4711"
		before := blocked
		e.handler(http.NotFoundHandler(), Hooks{
			Blocked: func(w http.ResponseWriter, r *http.Request, rep Report) { blocked++; w.WriteHeader(rep.Status) },
			Failed:  func(w http.ResponseWriter, r *http.Request, err error) { w.WriteHeader(http.StatusBadRequest) },
		}, requests|responses).ServeHTTP(httptest.NewRecorder(), r)
		return blocked > before
	}
	var attacks [][]byte
	for _, c := range waftest.Suite(b) {
		if c.Attack && c.Level == 1 && send(engines["own"], c.Raw) {
			attacks = append(attacks, c.Raw)
		}
	}
	for _, name := range []string{"own", "stock"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			before, i := spent(), 0
			for b.Loop() {
				if !send(engines[name], attacks[i%len(attacks)]) {
					b.Fatalf("let an attack through: %q", attacks[i%len(attacks)])
				}
				i++
			}
			b.ReportMetric(float64((spent()-before).Nanoseconds())/float64(i), "cpu-ns/op")
		})
	}
}

// spent is the processor time of this process.
func spent() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
