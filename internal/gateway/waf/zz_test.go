package waf

import (
	"net/http"
	"net/http/httptest"
	"pasban/internal/gateway/waf/waftest"
	"testing"
)

func TestZZ(t *testing.T) {
	e, err := New(Options{Body: 1 << 20, Letters: []string{ArabicScript}})
	if err != nil {
		t.Fatal(err)
	}
	h := e.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("ok")) }), Hooks{Blocked: func(w http.ResponseWriter, r *http.Request, rep Report) {}, Failed: func(w http.ResponseWriter, r *http.Request, err error) {}, Observed: func(*http.Request, Report) {}})
	for i := range 3 {
		h.ServeHTTP(httptest.NewRecorder(), waftest.Letter("http://x", i))
	}
}
