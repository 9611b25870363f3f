package waf

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pasban/internal/gateway/waf/waftest"
)

// BenchmarkHostile inspects bodies that are built to thrash matchers, and
// ordinary ones of the same sizes with an engine of their own, so that what
// hostile ones leave behind does not lift what they are held against. Each round
// has every kind once, one after the other, as an attacker would mix them: what
// one kind has made, others take the place of. The metrics are the worst kind's
// cost per byte as a multiple of the median over ordinary ones; all are logged.
// With KIND only hostile kinds of which the name contains it are inspected.
func BenchmarkHostile(b *testing.B) {
	var calm, strained http.Handler
	for _, h := range []*http.Handler{&calm, &strained} {
		*h = hostileHandler(b, newEngine(b, Options{Letters: []string{ArabicScript}}))
	}
	bodies := slices.DeleteFunc(waftest.Bodies(), func(body waftest.Body) bool {
		return body.Hostile && !strings.Contains(body.Name, os.Getenv("KIND"))
	})
	at := 0
	for _, n := range []int{4000, 64000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			usual, kinds := map[string][]float64{}, map[string][]float64{}
			round := func(keep bool) {
				for _, body := range bodies {
					h, into := calm, usual
					if body.Hostile {
						h, into = strained, kinds
					}
					cost := bodyCost(h, body, at, n)
					at += 1000
					if keep {
						into[body.Name] = append(into[body.Name], cost)
					}
				}
			}
			round(false) // what is made only once
			for b.Loop() {
				round(true)
			}
			var costs []float64
			for _, list := range usual {
				costs = append(costs, middle(list))
			}
			one := middle(costs)
			worst := slices.SortedFunc(maps.Keys(kinds), func(x, y string) int { return cmp.Compare(middle(kinds[y]), middle(kinds[x])) })
			for _, name := range worst {
				b.Logf("%6.2f (%.2f–%.2f) %s", middle(kinds[name])/one, slices.Min(kinds[name])/one, slices.Max(kinds[name])/one, name)
			}
			b.ReportMetric(one, "usual-ns/byte")
			b.ReportMetric(middle(kinds[worst[0]])/one, "worst/usual")
		})
	}
}

func middle(list []float64) float64 { return slices.Sorted(slices.Values(list))[len(list)/2] }

// bodyCost is the processor time for each byte of bodies of a kind, in
// nanoseconds.
func bodyCost(h http.Handler, body waftest.Body, from, n int) float64 {
	var list []*http.Request
	size := 0
	for i := range max(3, 160_000/n) {
		r := body.Request("http://land.example", from+i, n)
		r.RequestURI, r.RemoteAddr = r.URL.RequestURI(), "192.0.2.7:4711"
		r.Header.Set("Content-Length", strconv.FormatInt(r.ContentLength, 10)) // as it comes over the wire
		size += int(r.ContentLength)
		list = append(list, r)
	}
	before := spent()
	for _, r := range list {
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	return float64((spent() - before).Nanoseconds()) / float64(size)
}

func hostileHandler(b *testing.B, e *Engine) http.Handler {
	return e.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write(bytes.Repeat([]byte("ok "), 20))
	}), Hooks{
		Blocked: func(w http.ResponseWriter, r *http.Request, rep Report) { w.WriteHeader(rep.Status) },
		Failed: func(w http.ResponseWriter, r *http.Request, err error) {
			if !errors.Is(err, ErrArguments) { // some bodies are nothing but parameters
				b.Error(fmt.Errorf("%s: %w", r.URL, err))
			}
			w.WriteHeader(http.StatusBadRequest)
		},
	})
}
