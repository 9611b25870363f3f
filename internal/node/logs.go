package node

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"pasban/internal/config"
	"pasban/internal/detect/ingest"

	"github.com/prometheus/client_golang/prometheus"
)

// openLogs prepares to receive logs; it returns nil if nobody may send any.
func openLogs(cfg *config.Config, log *slog.Logger) (*ingest.Receiver, error) {
	if len(cfg.Logs.Sources) == 0 {
		return nil, nil
	}
	return ingest.New(filepath.Join(cfg.Data, "spool"), cfg.Logs, log)
}

// listenForLogs opens the listeners for logs. The function that it returns
// receives until ctx is done, and matches what was received until readers is.
func (n *Node) listenForLogs(ctx context.Context) (receive func(ctx, readers context.Context), err error) {
	if n.logs == nil {
		return func(_, _ context.Context) {}, nil
	}
	serve, err := n.logs.Listen(ctx)
	if err != nil {
		return nil, err
	}
	return func(ctx, readers context.Context) {
		var wg sync.WaitGroup
		wg.Go(func() { serve(ctx) })
		for readers.Err() == nil {
			err := n.logs.Run(readers, n.rules, n.soc.Handle)
			if readers.Err() != nil {
				break
			}
			n.log.Error("received logs are not matched", "err", err)
			select {
			case <-time.After(time.Second):
			case <-readers.Done():
			}
		}
		wg.Wait()
	}, nil
}

// received is the part of the status about received logs. Requests do not wait
// for it: the node stays ready.
func (n *Node) received() []Part {
	if n.logs == nil {
		return nil
	}
	p := Part{Part: "received logs", OK: true}
	if err := n.logs.Healthy(); err != nil {
		p.OK, p.Reason = false, err.Error()
	}
	return []Part{p}
}

// closeLogs closes the spool.
func (n *Node) closeLogs() error {
	if n.logs == nil {
		return nil
	}
	return n.logs.Close()
}

var (
	logBytesDesc   = prometheus.NewDesc("pasban_logs_received_bytes_total", "Bytes of logs that a source sent and that were kept.", []string{"source"}, nil)
	logEventsDesc  = prometheus.NewDesc("pasban_logs_events_total", "Events of a source that were matched.", []string{"source"}, nil)
	logRefusedDesc = prometheus.NewDesc("pasban_logs_refused_total", "Entries of a source that cannot be read, and senders without its token.", []string{"source"}, nil)
	logDroppedDesc = prometheus.NewDesc("pasban_logs_dropped_total", "Datagrams, batches and requests of a source that there was no room for.", []string{"source"}, nil)
	spoolDesc      = prometheus.NewDesc("pasban_logs_spool_bytes", "Bytes of received logs that wait for detection.", nil, nil)
	spoolMaxDesc   = prometheus.NewDesc("pasban_logs_spool_limit_bytes", "How many may wait.", nil, nil)
)

// logMetrics are the figures of received logs.
type logMetrics struct{ *ingest.Receiver }

// Describe implements prometheus.Collector.
func (m logMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{logBytesDesc, logEventsDesc, logRefusedDesc, logDroppedDesc, spoolDesc, spoolMaxDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m logMetrics) Collect(ch chan<- prometheus.Metric) {
	for _, f := range m.Figures() {
		for d, v := range map[*prometheus.Desc]int64{logBytesDesc: f.Bytes, logEventsDesc: f.Events, logRefusedDesc: f.Refused, logDroppedDesc: f.Dropped} {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), f.Source)
		}
	}
	waiting, limit := m.Waiting()
	ch <- prometheus.MustNewConstMetric(spoolDesc, prometheus.GaugeValue, float64(waiting))
	ch <- prometheus.MustNewConstMetric(spoolMaxDesc, prometheus.GaugeValue, float64(limit))
}
