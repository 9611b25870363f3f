package gateway

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// What became of a request, as counted.
const (
	countAdmitted = "admitted" // within its client's rate
	countFlooded  = "flooded"  // beyond it
	countListed   = "listed"   // its client is on a list
	countShed     = "shed"     // there was no room at the service
	countBlocked  = "blocked"  // by the firewall
	countDetected = "detected" // would have been blocked; detect mode
	countRefused  = "refused"  // no route, or an ambiguous address
	countDenied   = "denied"   // not shown: role, purpose, policy, budget, journal
	countShown    = "shown"    // guarded, accounted for and handed on
	countUpstream = "upstream" // an upstream failed

	countMalformed = "malformed" // not a request that every server reads alike
	countPanicked  = "panicked"  // something of ours failed while it was handled
)

// metrics counts requests and connections since the start. Every label comes
// from the configuration or from a closed list: no visitor can make a series.
type metrics struct {
	requests  *prometheus.CounterVec
	orders    *prometheus.CounterVec
	conns     prometheus.GaugeFunc
	http      *prometheus.CounterVec   // site, method, code
	durations *prometheus.HistogramVec // site
	inFlight  prometheus.Gauge
	upgrades  prometheus.GaugeFunc
	upstreams *prometheus.CounterVec   // site, upstream, code
	waits     *prometheus.HistogramVec // site, upstream
	retries   *prometheus.CounterVec   // site, result
	dropped   prometheus.CounterFunc
}

// upDesc is the only metric that is asked for when it is read.
func upDesc() *prometheus.Desc {
	return prometheus.NewDesc("pasban_gateway_upstream_up", "1 if the upstream is asked in its turn, 0 if it is asked last.", []string{"site", "upstream"}, nil)
}

func newMetrics(conns, upgrades, dropped func() float64) metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pasban_gateway_" + name, Help: help}, labels)
	}
	seconds := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "pasban_gateway_" + name, Help: help,
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}}, labels)
	}
	gauge := func(name, help string, f func() float64) prometheus.GaugeFunc {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "pasban_gateway_" + name, Help: help}, f)
	}
	return metrics{
		requests: counter("requests_total", "Requests by what became of them; one request can count more than once.", "outcome"),
		orders: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pasban_certificate_orders_total", Help: "Orders of certificates by ACME, by how they ended: obtained or failed.",
		}, []string{"result"}),
		conns:     gauge("connections", "Connections that are open.", conns),
		http:      counter("http_requests_total", "Requests by site, method and class of status.", "site", "method", "code"),
		durations: seconds("http_request_duration_seconds", "Time from the request's header to the end of the answer.", "site"),
		inFlight:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "pasban_gateway_http_requests_in_flight", Help: "Requests under way."}),
		upgrades:  gauge("upgraded_connections", "Connections that were handed over to another protocol, such as WebSocket.", upgrades),
		upstreams: counter("upstream_requests_total", "Requests to upstreams by class of status, each try alone; error: there was no answer.", "site", "upstream", "code"),
		waits:     seconds("upstream_wait_seconds", "Time until an upstream began its answer or failed.", "site", "upstream"),
		retries:   counter("retries_total", "Requests that went to another upstream (sent), or would have but for the budget of retries (over_budget).", "site", "result"),
		dropped: prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "pasban_gateway_access_log_dropped_total",
			Help: "Lines that the access log left out because the disk was too slow."}, dropped),
	}
}

func (m *metrics) count(outcome string) { m.requests.WithLabelValues(outcome).Inc() }

// visited counts a request that has ended. An upgraded connection has no
// duration that compares.
func (m *metrics) visited(v *visit, r *http.Request, took time.Duration) {
	m.http.WithLabelValues(v.site, methodClass(r.Method), codeClass(v.status)).Inc()
	if !v.upgraded {
		m.durations.WithLabelValues(v.site).Observe(took.Seconds())
	}
}

// methodClass is the method, or "other" for those that visitors make up.
func methodClass(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}

// codeClass is the class of an HTTP status: 2xx.
func codeClass(status int) string {
	if status < 100 || status > 599 {
		return "other"
	}
	return [...]string{"1xx", "2xx", "3xx", "4xx", "5xx"}[status/100-1]
}

var _ prometheus.Collector = (*Gateway)(nil)

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.requests, m.orders, m.conns, m.http, m.durations, m.inFlight, m.upgrades, m.upstreams, m.waits, m.retries, m.dropped}
}

// Describe makes the gateway a collector of its metrics.
func (g *Gateway) Describe(to chan<- *prometheus.Desc) {
	for _, c := range g.metrics.all() {
		c.Describe(to)
	}
	to <- upDesc()
	to <- certDesc
	for _, d := range floodDescs() {
		to <- d
	}
	g.gate.describe(to)
}

// Collect reports what was counted since the gateway was made.
func (g *Gateway) Collect(to chan<- prometheus.Metric) {
	for _, c := range g.metrics.all() {
		c.Collect(to)
	}
	desc := upDesc()
	for _, u := range g.Upstreams() {
		up := 1.0
		if u.Problem != nil {
			up = 0
		}
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, up, u.Site, u.Upstream)
	}
	g.collectCertificates(to)
	g.collectFlood(to)
	g.gate.collect(to)
}
