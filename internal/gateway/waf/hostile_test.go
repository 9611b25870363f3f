package waf

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"pasban/internal/gateway/waf/waftest"
)

// BenchmarkHostile inspects bodies that are built to thrash matchers, and
// beside them ordinary ones of the same size: compare their cpu-ns/byte. The
// names of ordinary kinds begin with "ordinary".
func BenchmarkHostile(b *testing.B) {
	e := newEngine(b, Options{Letters: []string{ArabicScript}})
	h := e.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write(bytes.Repeat([]byte("ok "), 20))
	}), Hooks{
		Blocked: func(w http.ResponseWriter, r *http.Request, rep Report) { w.WriteHeader(rep.Status) },
		Failed: func(w http.ResponseWriter, r *http.Request, err error) {
			if !errors.Is(err, ErrArguments) { // some bodies are nothing but parameters
				b.Error(err)
			}
			w.WriteHeader(http.StatusBadRequest)
		},
	})
	for _, body := range waftest.Bodies() {
		kind := "ordinary "
		if body.Hostile {
			kind = ""
		}
		for _, n := range []int{4000, 64000} {
			b.Run(fmt.Sprintf("%s/%d", strings.ReplaceAll(kind+body.Name, " ", "-"), n), func(b *testing.B) {
				b.ReportAllocs()
				size, i, used := 0, 0, time.Duration(0)
				for b.Loop() {
					b.StopTimer()
					r := body.Request("http://land.example", i, n)
					r.RequestURI, r.RemoteAddr = r.URL.RequestURI(), "192.0.2.7:4711"
					r.Header.Set("Content-Length", strconv.FormatInt(r.ContentLength, 10)) // as it comes over the wire
					size += int(r.ContentLength)
					i++
					b.StartTimer()
					before := spent()
					h.ServeHTTP(httptest.NewRecorder(), r)
					used += spent() - before
				}
				b.ReportMetric(float64(used.Nanoseconds())/float64(size), "cpu-ns/byte")
			})
		}
	}
}
