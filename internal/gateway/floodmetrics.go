package gateway

import "github.com/prometheus/client_golang/prometheus"

// floodDescs describe what keeps a flood out: what was refused and why, and
// how much the services are asked.
func floodDescs() [5]*prometheus.Desc {
	return [5]*prometheus.Desc{
		prometheus.NewDesc("pasban_flood_refused_total", "Connections and requests that were refused, by reason.", []string{"reason"}, nil),
		prometheus.NewDesc("pasban_flood_limit", "Requests that a service can be asked at once, as found.", []string{"service"}, nil),
		prometheus.NewDesc("pasban_flood_in_flight", "Requests that a service is asked now.", []string{"service"}, nil),
		prometheus.NewDesc("pasban_flood_waiting", "Requests that wait for room at a service.", []string{"service"}, nil),
		prometheus.NewDesc("pasban_flood_shed_total", "Requests for which a service had no room, by priority.", []string{"service", "priority"}, nil),
	}
}

func (g *Gateway) collectFlood(to chan<- prometheus.Metric) {
	d := floodDescs()
	for reason, n := range g.limiter.Refused() {
		to <- prometheus.MustNewConstMetric(d[0], prometheus.CounterValue, float64(n), reason)
	}
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
