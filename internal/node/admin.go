package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"pasban"
	"pasban/internal/gateway"
	"pasban/internal/sentinel"
)

// StatusSchema names the form of the document at /readyz and of `pasban status --json`.
const StatusSchema = "pasban.status.v1"

// Status is what a node says of itself: problems first, then figures.
type Status struct {
	Schema  string `json:"schema"`
	Ready   bool   `json:"ready"` // guarded routes answer
	Agency  string `json:"agency"`
	Started string `json:"started"` // RFC 3339 UTC
	Parts   []Part `json:"parts"`
	// Warnings are about what will want a hand soon, such as exclusions that end.
	Warnings []string `json:"warnings,omitempty"`
	Figures  Figures  `json:"figures"`
}

// Part is one room's word on whether it can do its work.
type Part struct {
	Part   string `json:"part"`
	OK     bool   `json:"ok"`
	Reason string `json:"reason,omitempty"` // what is wrong and what follows from it
}

// Figures are counts at one moment.
type Figures struct {
	Facts      uint64         `json:"facts"`       // rows of the journal
	Leaves     uint64         `json:"leaves"`      // accountable facts in the journal
	Checkpoint uint64         `json:"checkpoint"`  // leaves under the last signed checkpoint
	LagSeconds float64        `json:"lag_seconds"` // age of the oldest leaf that no checkpoint covers
	OpenAlerts map[string]int `json:"open_alerts"` // by level

	Storage LedgerStorage `json:"ledger_storage"`

	Witnesses *Witnessing `json:"witnesses,omitempty"` // absent without witnesses

	Certificates []gateway.Certificate `json:"certificates,omitempty"` // one for each site

	tables []sentinel.Status // for metrics; none if that cannot be read, which the parts say
}

// Status asks every part. It never fails: a part that cannot answer is a problem.
func (n *Node) Status(ctx context.Context) Status {
	s := Status{Schema: StatusSchema, Ready: true, Agency: n.setup.Load().Config.Agency.ID, Started: n.started.UTC().Format(time.RFC3339)}
	part := func(name string, err error) {
		p := Part{Part: name, OK: err == nil}
		if err != nil {
			p.Reason, s.Ready = err.Error(), false
		}
		s.Parts = append(s.Parts, p)
	}
	part("store", n.store.Healthy())
	facts, leaves, err := n.journal.Head(ctx)
	if err == nil {
		err = n.journal.Healthy(ctx)
	}
	part("journal", err)
	part("ledger", n.ledger.Healthy())
	s.Parts = append(s.Parts, n.disclosed())
	part("detection", n.detection.get())
	s.Figures.Certificates = n.gateway.Certificates()
	part("certificates", certificateProblems(s.Figures.Certificates))
	for _, u := range n.gateway.Upstreams() {
		p := Part{Part: "upstream " + u.Upstream + " of " + u.Site, OK: u.Problem == nil}
		if u.Problem != nil {
			p.Reason = "it is asked last: " + u.Problem.Error()
		}
		s.Parts = append(s.Parts, p) // its service is ill, this node is not
	}
	tables, parts := n.guarded(ctx)
	s.Figures.tables, s.Parts = tables, append(s.Parts, parts...)
	s.Parts = append(append(s.Parts, n.received()...), n.kept()...)
	s.Warnings = n.warnings(ctx)
	s.Figures.Facts, s.Figures.Leaves = facts, leaves
	ls := n.ledger.Status()
	s.Figures.Checkpoint, s.Figures.LagSeconds = ls.Size, ls.LagTime.Seconds()
	s.Figures.Storage = storageFigures(ls, time.Now())
	cosigned, words := witnessing(ls.Witnesses, time.Now())
	s.Figures.Witnesses, s.Parts = cosigned, append(s.Parts, words...)
	if open, err := n.soc.Open(ctx); err == nil {
		s.Figures.OpenAlerts = map[string]int{}
		for level, count := range open {
			s.Figures.OpenAlerts[level.String()] = count
		}
	} else {
		part("alerts", err)
	}
	return s
}

// disclosed says whether every hidden entry that is due does open. One that does
// not is a broken promise, and no reason to show nobody anything.
func (n *Node) disclosed() Part {
	p := Part{Part: "disclosure", OK: true}
	if s := n.hidden.Status(); s.Overdue > 0 || s.Err != nil {
		p.OK = false
		p.Reason = fmt.Sprintf("%d hidden entries should have been disclosed by now", s.Overdue)
		if s.Err != nil {
			p.Reason += ": " + s.Err.Error()
		}
	}
	return p
}

// certificateProblems names the hosts that nobody can reach: guarded routes do
// not answer there.
func certificateProblems(all []gateway.Certificate) error {
	var errs []error
	for _, c := range all {
		if c.Problem != "" {
			errs = append(errs, &pasban.Error{Kind: pasban.Unavailable, Where: c.Host, Msg: c.Problem})
		}
	}
	return errors.Join(errs...)
}

// admin is the handler of the address that is never public.
func (n *Node) admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Write([]byte("alive\n"))
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		defer cancel()
		s := n.Status(ctx)
		w.Header().Set("Content-Type", "application/json")
		if !s.Ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		enc.Encode(s)
	})
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &metrics{n}, n.gateway)
	if n.logs != nil {
		reg.MustRegister(logMetrics{n.logs})
	}
	if n.events != nil {
		reg.MustRegister(eventMetrics{n.events})
	}
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	return mux
}

// metrics exports the node's status. It asks at every scrape: there is no
// second set of counters that could differ from the first.
type metrics struct{ n *Node }

var (
	readyDesc      = prometheus.NewDesc("pasban_ready", "1 if guarded routes answer.", nil, nil)
	partDesc       = prometheus.NewDesc("pasban_part_ok", "1 if the part can do its work.", []string{"part"}, nil)
	factsDesc      = prometheus.NewDesc("pasban_journal_facts_total", "Rows of the journal.", nil, nil)
	leavesDesc     = prometheus.NewDesc("pasban_journal_leaves_total", "Accountable facts in the journal.", nil, nil)
	checkpointDesc = prometheus.NewDesc("pasban_ledger_checkpoint_leaves", "Leaves under the last signed checkpoint.", nil, nil)
	lagDesc        = prometheus.NewDesc("pasban_ledger_lag_seconds", "Age of the oldest leaf that no checkpoint covers.", nil, nil)
	tableLagDesc   = prometheus.NewDesc("pasban_sentinel_lag_bytes", "Write-ahead log that a guarded database keeps for the guard of a table.", []string{"table"}, nil)
	tableDiffDesc  = prometheus.NewDesc("pasban_sentinel_differences", "Rows of a guarded table that are not what was authorised.", []string{"table"}, nil)
	hiddenDesc     = prometheus.NewDesc("pasban_ledger_hidden_entries", "Entries that citizens are told of at a later date.", nil, nil)
	overdueDesc    = prometheus.NewDesc("pasban_ledger_overdue_entries", "Hidden entries that should have been disclosed by now and were not.", nil, nil)
	finalDesc      = prometheus.NewDesc("pasban_ledger_final_leaves", "Leaves under the last checkpoint that enough witnesses have cosigned.", nil, nil)
	answerDesc     = prometheus.NewDesc("pasban_ledger_storage_answer_seconds", "How long the ledger's storage took to give the checkpoint the last time.", nil, nil)
	silenceDesc    = prometheus.NewDesc("pasban_ledger_storage_silent_seconds", "How long ago the ledger's storage answered.", nil, nil)
	finalLagDesc   = prometheus.NewDesc("pasban_ledger_final_lag_seconds", "For how long checkpoints have not been final.", nil, nil)
	cosignedDesc   = prometheus.NewDesc("pasban_witness_cosigned_leaves", "Leaves under the last checkpoint that the witness has cosigned since the start.", []string{"witness"}, nil)
	cosignAgeDesc  = prometheus.NewDesc("pasban_witness_cosigned_age_seconds", "How long ago the witness cosigned last; absent if not since the start.", []string{"witness"}, nil)
	alertsDesc     = prometheus.NewDesc("pasban_alerts_open", "Alerts that are not closed.", []string{"level"}, nil)
	rulesDesc      = prometheus.NewDesc("pasban_detection_rules", "Detection rules in force.", nil, nil)
	memoryDesc     = prometheus.NewDesc("pasban_detection_correlated", "What correlations remember.", []string{"of"}, nil)
	forgottenDesc  = prometheus.NewDesc("pasban_detection_forgotten_total", "Groups that correlations gave up within their window because a limit was reached.", nil, nil)
	lateDesc       = prometheus.NewDesc("pasban_detection_late_total", "Events that came after the window of a correlation had closed.", nil, nil)
)

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{readyDesc, partDesc, factsDesc, leavesDesc, checkpointDesc, lagDesc, alertsDesc, tableLagDesc, tableDiffDesc, finalDesc, finalLagDesc, cosignedDesc, cosignAgeDesc, hiddenDesc, overdueDesc, rulesDesc, memoryDesc, forgottenDesc, lateDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	s := m.n.Status(ctx)
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	one := func(ok bool) float64 {
		if ok {
			return 1
		}
		return 0
	}
	gauge(readyDesc, one(s.Ready))
	for _, p := range s.Parts {
		gauge(partDesc, one(p.OK), p.Part)
	}
	ch <- prometheus.MustNewConstMetric(factsDesc, prometheus.CounterValue, float64(s.Figures.Facts))
	ch <- prometheus.MustNewConstMetric(leavesDesc, prometheus.CounterValue, float64(s.Figures.Leaves))
	gauge(checkpointDesc, float64(s.Figures.Checkpoint))
	gauge(lagDesc, s.Figures.LagSeconds)
	gauge(answerDesc, s.Figures.Storage.AnswerSeconds)
	gauge(silenceDesc, s.Figures.Storage.SilentSeconds)
	hidden := m.n.hidden.Status()
	gauge(hiddenDesc, float64(hidden.Hidden))
	gauge(overdueDesc, float64(hidden.Overdue))
	for level, count := range s.Figures.OpenAlerts {
		gauge(alertsDesc, float64(count), level)
	}
	memory := m.n.rules.Memory()
	gauge(rulesDesc, float64(len(m.n.rules.Rules())))
	gauge(memoryDesc, float64(memory.Groups), "groups")
	gauge(memoryDesc, float64(memory.Hits), "hits")
	ch <- prometheus.MustNewConstMetric(forgottenDesc, prometheus.CounterValue, float64(memory.Forgotten))
	ch <- prometheus.MustNewConstMetric(lateDesc, prometheus.CounterValue, float64(memory.Late))
	for _, t := range s.Figures.tables {
		gauge(tableLagDesc, float64(t.LagBytes), t.Table)
		gauge(tableDiffDesc, float64(t.Open), t.Table)
	}
	if w := s.Figures.Witnesses; w != nil {
		gauge(finalDesc, float64(w.Final))
		gauge(finalLagDesc, w.LagSeconds)
		for _, m := range w.Of {
			gauge(cosignedDesc, float64(m.Size), m.Name)
			if m.Seconds != nil {
				gauge(cosignAgeDesc, *m.Seconds, m.Name)
			}
		}
	}
}
