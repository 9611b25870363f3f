package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/detect"
	"pasban/internal/detect/ingest"
	"pasban/internal/eventstore"
	"pasban/internal/eventstore/archive"
	"pasban/internal/journal"

	"github.com/prometheus/client_golang/prometheus"
)

// failingAfter is for how long a store of events may take nothing before the
// status says so.
const failingAfter = 30 * time.Second

// events is the store of events, and what fills it and keeps it within bounds.
type events struct {
	store  eventstore.Store
	facts  *eventstore.Feed
	logs   *eventstore.Feed // nil if no logs are received
	keeper *archive.Keeper
	node   *Node
}

// openEvents opens the store of events that the configuration asks for. It
// returns nil if events are not kept. A store that does not answer is no error:
// events wait in the journal and in the spool.
func openEvents(n *Node, cfg *config.Config) (_ *events, err error) {
	address := cfg.Events.Store.Value()
	if address == config.EventsOff || address == config.EventsEmbedded && len(n.engine) == 0 {
		return nil, nil
	}
	dir := filepath.Join(cfg.Data, "events")
	if err := privateDir(dir); err != nil {
		return nil, err
	}
	positions, err := eventstore.OpenPositions(filepath.Join(dir, "position.json"))
	if err != nil {
		return nil, err
	}
	e := &events{node: n}
	tenant, window := eventstore.TenantOf(cfg.Agency.ID), &eventstore.Window{Retention: cfg.Events.Retention}
	if address == config.EventsEmbedded {
		e.store, err = eventstore.OpenEmbedded(eventstore.EmbeddedOptions{Dir: dir, Command: n.engine, Tenant: tenant, Window: window, Log: n.log})
	} else {
		e.store, err = eventstore.Open(address, tenant, window)
	}
	if err != nil {
		return nil, err
	}
	folder := cfg.Events.Archive
	if folder == config.EventsOff {
		folder = ""
	}
	e.keeper, err = archive.New(archive.Options{
		Store: e.store, Dir: folder, Retention: cfg.Events.Retention, MaxBytes: cfg.Events.MaxBytes, Window: window, Positions: positions, Log: n.log,
	})
	if err != nil {
		return nil, errors.Join(err, e.store.Close())
	}
	e.facts = eventstore.NewFeed(eventstore.FeedOptions{Store: e.store, Positions: positions, Name: "journal", High: ingest.Base, Log: n.log})
	if n.logs != nil {
		e.logs = eventstore.NewFeed(eventstore.FeedOptions{
			Store: e.store, Positions: positions, Name: "logs", Low: ingest.Base, High: 2 * ingest.Base, Log: n.log, OnSaved: n.logs.Keep,
		})
		if err := n.logs.Keep(e.logs.Position()); err != nil {
			return nil, errors.Join(err, e.store.Close())
		}
	}
	return e, nil
}

// run fills the store until ctx is done.
func (e *events) run(ctx context.Context) {
	if e == nil {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { e.feedFacts(ctx) })
	if e.logs != nil {
		wg.Go(func() { e.logs.Run(ctx, e.readLogs) })
	}
	wg.Go(func() { e.keeper.Run(ctx) })
	wg.Wait()
}

// feedFacts hands the journal to the store. Nodes on one database share the journal,
// and may share a server of events: to each server one of them hands it.
func (e *events) feedFacts(ctx context.Context) {
	feed := func(ctx context.Context) { e.facts.Run(ctx, e.readJournal) }
	if server, ok := e.store.(*eventstore.Client); ok {
		e.node.store.Alone(ctx, "events "+server.Name(), feed)
		return
	}
	feed(ctx)
}

// readJournal gives the journal's facts, as detection gets them.
func (e *events) readJournal(ctx context.Context, from uint64) error {
	head, _, err := e.node.journal.Head(ctx)
	if err != nil {
		return err
	}
	if from > head {
		return e.otherJournal(ctx, head)
	}
	return e.facts.Gather(ctx, func(ctx context.Context, give func([]eventstore.Event, uint64) error) error {
		return e.node.journal.Follow(ctx, "events", from, func(_ context.Context, entries []journal.Entry) error {
			out := make([]eventstore.Event, len(entries))
			for i, entry := range entries {
				out[i] = factEvent(entry)
			}
			return give(out, entries[len(entries)-1].Seq)
		})
	})
}

// otherJournal goes on with a journal that ends before what was read of it. If
// the store knows its last fact it is an older copy, and all of it was added;
// if not it is another, and read from its beginning.
func (e *events) otherJournal(ctx context.Context, head uint64) error {
	known := false
	if head > 0 {
		last, err := e.node.journal.Since(ctx, head-1, 1)
		if err != nil {
			return err
		}
		for _, entry := range last {
			q := eventstore.Query{LogsQL: fmt.Sprintf("%s:=%q", eventstore.FieldID, factEvent(entry).ID)}
			if err := e.store.Search(ctx, q, 1, func(eventstore.Row) error { known = true; return nil }); err != nil {
				return err
			}
		}
	}
	e.node.log.Warn("the store of events knows later facts than the journal has", "head", head, "older_copy", known)
	if !known {
		head = 0
	}
	if err := e.facts.Reset(head); err != nil {
		return err
	}
	return eventstore.ErrAgain
}

// readLogs gives the received logs, as detection gets them.
func (e *events) readLogs(ctx context.Context, from uint64) error {
	return e.logs.Gather(ctx, func(ctx context.Context, give func([]eventstore.Event, uint64) error) error {
		return e.node.logs.Follow(ctx, from, func(f ingest.Frame, received []pasban.Event, next uint64) error {
			out := make([]eventstore.Event, len(received))
			for i, ev := range received {
				out[i] = logEvent(ev, f)
			}
			return give(out, next)
		})
	})
}

// factEvent is a fact as it is kept: the event that detection sees, in which
// citizens are blinded ids, with a line of words to look for.
func factEvent(entry journal.Entry) eventstore.Event {
	ev := detect.FromEntry(entry)
	out := keep(ev)
	out.Source = eventstore.SourceJournal
	if out.ID == "" || entry.Damage != nil { // its time is not known either
		out.ID, out.Received = fmt.Sprintf("damaged:%d", entry.Seq), time.Now()
	}
	var words []string
	for _, name := range []string{"Kind", "Action", "Outcome", "Service", "Resource", "Entity"} {
		if s, _ := ev[name].(string); s != "" {
			words = append(words, s)
		}
	}
	out.Message = strings.Join(words, " ")
	out.Fields = eventstore.Flatten(ev, "Seq", "time", detect.LogsourceKey)
	return out
}

// logEvent is an entry of a received log as it is kept.
func logEvent(ev pasban.Event, f ingest.Frame) eventstore.Event {
	out := keep(ev)
	out.Source, out.Received = f.Source, f.Received
	skip := []string{"Seq", "time", detect.LogsourceKey}
	for _, name := range []string{"message", "Message"} { // the second is Windows'
		if s, ok := ev[name].(string); ok && s != "" && out.Message == "" {
			out.Message = s
			skip = append(skip, name)
		}
	}
	out.Fields = eventstore.Flatten(ev, skip...)
	return out
}

// keep takes from an event what every event has.
func keep(ev pasban.Event) eventstore.Event {
	out := eventstore.Event{Time: detect.Time(ev)}
	out.Seq, _ = ev["Seq"].(uint64)
	if meta, ok := ev["metadata"].(map[string]any); ok {
		out.ID, _ = meta["uid"].(string)
	}
	for _, s := range detect.Logsources(ev) { // a process creation is also an event of its log
		if out.Product == "" {
			out.Product = s.Product
		}
		if out.Category == "" {
			out.Category = s.Category
		}
		if out.Service == "" {
			out.Service = s.Service
		}
	}
	return out
}

// feeds are the feeds that there are.
func (e *events) feeds() []*eventstore.Feed {
	if e.logs == nil {
		return []*eventstore.Feed{e.facts}
	}
	return []*eventstore.Feed{e.facts, e.logs}
}

// problem says what is wrong with the store of events, or that all is well.
func (e *events) problem() error {
	var errs []error
	if own, ok := e.store.(*eventstore.Embedded); ok {
		errs = append(errs, own.Healthy())
	}
	for _, f := range e.feeds() {
		if s := f.Status(); s.Err != nil && time.Since(s.Failing) > failingAfter {
			errs = append(errs, fmt.Errorf("no events of the %s are taken since %s; they wait: %w", f.Name(), s.Failing.UTC().Format(time.RFC3339), s.Err))
		}
	}
	if e.logs != nil {
		if _, lost := e.node.logs.Unkept(); lost > 0 {
			errs = append(errs, fmt.Errorf("%d bytes of received logs were detected on but not kept: the spool had no room to wait for the store of events", lost))
		}
	}
	return errors.Join(append(errs, e.keeper.Status().Err)...)
}

// kept is the part of the status about the store of events. Requests do not wait
// for it: the node stays ready.
func (n *Node) kept() []Part {
	if n.events == nil {
		return nil
	}
	p := Part{Part: "events", OK: true}
	if err := n.events.problem(); err != nil {
		p.OK, p.Reason = false, err.Error()
	}
	return []Part{p}
}

// Events is the node's store of events, nil if it keeps none.
func (n *Node) Events() eventstore.Store {
	if n.events == nil {
		return nil
	}
	return n.events.store
}

func (e *events) close() error {
	if e == nil {
		return nil
	}
	return e.store.Close()
}

var (
	eventsAddedDesc    = prometheus.NewDesc("pasban_events_added_total", "Events that the store of events has taken.", []string{"feed"}, nil)
	eventsAgainDesc    = prometheus.NewDesc("pasban_events_again_total", "Events that were in the store already when they were read again after a crash.", []string{"feed"}, nil)
	eventsLagDesc      = prometheus.NewDesc("pasban_events_lag_seconds", "How long the oldest event that the store does not take has waited.", []string{"feed"}, nil)
	eventsWaitingDesc  = prometheus.NewDesc("pasban_events_spool_bytes", "Bytes of received logs that the store of events does not have for good.", nil, nil)
	eventsLostDesc     = prometheus.NewDesc("pasban_events_lost_bytes_total", "Bytes of received logs that were not kept for want of room in the spool.", nil, nil)
	eventsOddDesc      = prometheus.NewDesc("pasban_events_changed_total", "Events that were refused (too old), retimed (a time that is not kept) or cut (too large).", []string{"how"}, nil)
	eventsStoredDesc   = prometheus.NewDesc("pasban_events_stored", "Events in the embedded store.", nil, nil)
	eventsBytesDesc    = prometheus.NewDesc("pasban_events_stored_bytes", "Bytes of the embedded store on disk.", nil, nil)
	eventsDroppedDesc  = prometheus.NewDesc("pasban_events_days_deleted_total", "Days of events that were deleted.", nil, nil)
	eventsArchivedDesc = prometheus.NewDesc("pasban_events_days_archived_total", "Days of events that were written to the archive.", nil, nil)
)

// eventMetrics are the figures of the store of events.
type eventMetrics struct{ *events }

// Describe implements prometheus.Collector.
func (m eventMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{eventsAddedDesc, eventsAgainDesc, eventsLagDesc, eventsWaitingDesc, eventsLostDesc, eventsOddDesc,
		eventsStoredDesc, eventsBytesDesc, eventsDroppedDesc, eventsArchivedDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m eventMetrics) Collect(ch chan<- prometheus.Metric) {
	metric := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, t, v, labels...)
	}
	for _, f := range m.feeds() {
		s := f.Status()
		metric(eventsAddedDesc, prometheus.CounterValue, float64(s.Added), f.Name())
		metric(eventsAgainDesc, prometheus.CounterValue, float64(s.Again), f.Name())
		lag := 0.0
		if !s.Lag.IsZero() {
			lag = time.Since(s.Lag).Seconds()
		}
		metric(eventsLagDesc, prometheus.GaugeValue, lag, f.Name())
	}
	if m.logs != nil {
		waiting, lost := m.node.logs.Unkept()
		metric(eventsWaitingDesc, prometheus.GaugeValue, float64(waiting))
		metric(eventsLostDesc, prometheus.CounterValue, float64(lost))
	}
	k := m.keeper.Status()
	metric(eventsDroppedDesc, prometheus.CounterValue, float64(k.Dropped))
	metric(eventsArchivedDesc, prometheus.CounterValue, float64(k.Archived))
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	u, err := m.store.Usage(ctx)
	for how, n := range map[string]int64{"refused": u.Refused, "retimed": u.Retimed, "cut": u.Cut} {
		metric(eventsOddDesc, prometheus.CounterValue, float64(n), how)
	}
	if err == nil && u.Events >= 0 {
		metric(eventsStoredDesc, prometheus.GaugeValue, float64(u.Events))
		metric(eventsBytesDesc, prometheus.GaugeValue, float64(u.Bytes))
	}
}
