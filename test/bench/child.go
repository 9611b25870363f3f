package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"runtime/debug"

	coreruleset "github.com/corazawaf/coraza-coreruleset/v4"
	"github.com/corazawaf/coraza/v3"
	corazahttp "github.com/corazawaf/coraza/v3/http"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"pasban/internal/gateway/waf"
)

// bodyLimit is the largest request body that every peer takes, in bytes.
const bodyLimit = 1 << 20

// Servers that this program itself is when it is called as `bench child KIND
// UPSTREAM ADDR METRICS`: one plain reverse proxy, and before it nothing,
// Coraza or Pasban's firewall.
const (
	childPlain    = "plain"
	childCoraza   = "coraza"
	childFirewall = "firewall"
)

// child serves until the process is ended.
func child(kind, upstream, addr, metrics string) error {
	u, err := url.Parse(upstream)
	if err != nil {
		return err
	}
	quiet := slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost, transport.DisableCompression = 64, true
	var h http.Handler = &httputil.ReverseProxy{Transport: transport, ErrorLog: quiet, Rewrite: func(pr *httputil.ProxyRequest) {
		pr.SetURL(u)
		pr.Out.Host = pr.In.Host
		pr.Out.URL.RawQuery = pr.In.URL.RawQuery
		pr.SetXForwarded()
	}}
	switch kind {
	case childPlain:
	case childCoraza:
		directives, err := waf.Directives(waf.Options{Body: bodyLimit})
		if err != nil {
			return err
		}
		w, err := coraza.NewWAF(coraza.NewWAFConfig().WithRootFS(coreruleset.FS).WithDirectives(directives))
		if err != nil {
			return err
		}
		h = corazahttp.WrapHandler(w, h)
	case childFirewall:
		e, err := waf.New(waf.Options{Body: bodyLimit, Letters: []string{waf.ArabicScript}})
		if err != nil {
			return err
		}
		h = e.Handler(h, waf.Hooks{
			Blocked: func(w http.ResponseWriter, r *http.Request, rep waf.Report) { w.WriteHeader(rep.Status) },
			Failed: func(w http.ResponseWriter, r *http.Request, err error) {
				http.Error(w, err.Error(), http.StatusBadRequest)
			},
			Observed: func(*http.Request, waf.Report) {},
		})
	default:
		return fmt.Errorf("no server of kind %q", kind)
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector())
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	figures, err := net.Listen("tcp", metrics)
	if err != nil {
		return err
	}
	go http.Serve(figures, mux)
	debug.FreeOSMemory() // as a gateway does once its rules are compiled
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return (&http.Server{Handler: h, ErrorLog: quiet}).Serve(ln)
}
