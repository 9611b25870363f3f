package gateway

import "github.com/prometheus/client_golang/prometheus"

// floodDescs describe what keeps a flood out: what was refused and why, and
// how much the services are asked.
func floodDescs() [7]*prometheus.Desc {
	return [7]*prometheus.Desc{
		prometheus.NewDesc("pasban_flood_refused_total", "Connections and requests that were refused, by reason.", []string{"reason"}, nil),
		prometheus.NewDesc("pasban_flood_limit", "Requests that a service can be asked at once, as found.", []string{"service"}, nil),
		prometheus.NewDesc("pasban_flood_in_flight", "Requests that a service is asked now.", []string{"service"}, nil),
		prometheus.NewDesc("pasban_flood_waiting", "Requests that wait for room at a service.", []string{"service"}, nil),
		prometheus.NewDesc("pasban_flood_shed_total", "Requests for which a service had no room, by priority.", []string{"service", "priority"}, nil),
		prometheus.NewDesc("pasban_flood_gateways", "Gateways that share their limits, 1 if this one is alone or cannot reach the others.", nil, nil),
		prometheus.NewDesc("pasban_flood_leased", "Buckets of which this gateway leases tokens that all have in common.", nil, nil),
	}
}

func (g *Gateway) collectFlood(to chan<- prometheus.Metric) {
	d := floodDescs()
	for reason, n := range g.limiter.Refused() {
		to <- prometheus.MustNewConstMetric(d[0], prometheus.CounterValue, float64(n), reason)
	}
	gateways, leased := g.limiter.Sharing()
	to <- prometheus.MustNewConstMetric(d[5], prometheus.GaugeValue, float64(gateways))
	to <- prometheus.MustNewConstMetric(d[6], prometheus.GaugeValue, float64(leased))
	for _, s := range g.state.Load().sites {
		if s.proxy == nil {
			continue
		}
		l := s.load.Load()
		to <- prometheus.MustNewConstMetric(d[1], prometheus.GaugeValue, float64(l.Limit), s.name)
		to <- prometheus.MustNewConstMetric(d[2], prometheus.GaugeValue, float64(l.InFlight), s.name)
		to <- prometheus.MustNewConstMetric(d[3], prometheus.GaugeValue, float64(l.Waiting), s.name)
		for priority, n := range l.Shed {
			to <- prometheus.MustNewConstMetric(d[4], prometheus.CounterValue, float64(n), s.name, priority)
		}
	}
}
