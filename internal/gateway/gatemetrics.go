package gateway

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pasban/internal/gateway/pass"
)

// gateMetrics counts what the gate does. Its labels have few values, whatever
// is sent.
type gateMetrics struct {
	challenges, tickets, passes, places, turned *prometheus.CounterVec
	attack, waiting                             *prometheus.Desc
}

func newGateMetrics() gateMetrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pasban_pass_" + name, Help: help}, labels)
	}
	return gateMetrics{
		challenges: counter("challenges_total", "Challenges by what became of them: issued, solved, failed, replayed.", "outcome"),
		tickets:    counter("tickets_total", "Tickets of those who wait in place of the work: given, used.", "outcome"),
		passes:     counter("passes_total", "Passes that were earned, by how: known (by behaving), solved, waited.", "level"),
		places:     counter("places_total", "Places in waiting rooms: given, called, late.", "outcome"),
		turned:     counter("turned_total", "Requests that were not let through yet, by what stopped them (mode, room) and what they were told (page, problem).", "by", "told"),
		attack:     prometheus.NewDesc("pasban_pass_attack", "1 while the site is under attack mode.", []string{"site"}, nil),
		waiting:    prometheus.NewDesc("pasban_pass_waiting", "Places in the waiting room that are not called yet.", []string{"room"}, nil),
	}
}

func (m gateMetrics) all() []*prometheus.CounterVec {
	return []*prometheus.CounterVec{m.challenges, m.tickets, m.passes, m.places, m.turned}
}

func (gt *gate) describe(to chan<- *prometheus.Desc) {
	for _, c := range gt.metrics.all() {
		c.Describe(to)
	}
	to <- gt.metrics.attack
	to <- gt.metrics.waiting
}

func (gt *gate) collect(to chan<- prometheus.Metric) {
	for _, c := range gt.metrics.all() {
		c.Collect(to)
	}
	now := time.Now()
	for _, site := range gt.g.SiteNames() {
		on := 0.0
		if _, ok := gt.modes.Of(site, now); ok {
			on = 1
		}
		to <- prometheus.MustNewConstMetric(gt.metrics.attack, prometheus.GaugeValue, on, site)
	}
	gt.rooms.Each(func(name string, r *pass.Room) {
		to <- prometheus.MustNewConstMetric(gt.metrics.waiting, prometheus.GaugeValue, float64(r.Waiting(now)), name)
	})
}
