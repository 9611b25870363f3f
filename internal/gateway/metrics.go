package gateway

import "github.com/prometheus/client_golang/prometheus"

// What became of a request, as counted.
const (
	countAdmitted = "admitted" // within its client's rate
	countFlooded  = "flooded"  // beyond it
	countBlocked  = "blocked"  // by the firewall
	countDetected = "detected" // would have been blocked; detect mode
	countRefused  = "refused"  // no route, or an ambiguous address
	countDenied   = "denied"   // not shown: role, purpose, policy, budget, journal
	countShown    = "shown"    // guarded, accounted for and handed on
	countUpstream = "upstream" // an upstream failed
)

// metrics counts requests and connections since the start.
type metrics struct {
	requests *prometheus.CounterVec
	conns    prometheus.GaugeFunc
}

func newMetrics(conns func() float64) metrics {
	return metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pasban_gateway_requests_total", Help: "Requests by what became of them; one request can count more than once.",
		}, []string{"outcome"}),
		conns: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "pasban_gateway_connections", Help: "Connections that are open."}, conns),
	}
}

func (m metrics) count(outcome string) { m.requests.WithLabelValues(outcome).Inc() }

var _ prometheus.Collector = (*Gateway)(nil)

// Describe makes the gateway a collector of its metrics.
func (g *Gateway) Describe(to chan<- *prometheus.Desc) {
	g.metrics.requests.Describe(to)
	g.metrics.conns.Describe(to)
	g.gate.describe(to)
}

// Collect reports what was counted since the gateway was made.
func (g *Gateway) Collect(to chan<- prometheus.Metric) {
	g.metrics.requests.Collect(to)
	g.metrics.conns.Collect(to)
	g.gate.collect(to)
}
