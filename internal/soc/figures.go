package soc

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"

	"pasban/internal/detect"
	"pasban/internal/store"
)

const (
	// step is how exactly it is known when rules matched and events came.
	step = detect.TallyStep
	// countsKept is how long that is kept.
	countsKept = 8 * 24 * time.Hour
	// noiseSpan is over how long a rule's alerts and verdicts are counted.
	noiseSpan = 30 * 24 * time.Hour
)

// counted is what Count has written of an engine's figures.
type counted struct {
	mu       sync.Mutex // covers all below
	matches  map[string]uint64
	received map[string]uint64
}

// Count adds what an engine's figures have grown by since the last call, so that
// hit rates outlive the engine: call it every few seconds, with the figures of
// one engine. On error nothing is lost: the next call adds it.
func (c *Center) Count(ctx context.Context, f detect.Figures) error {
	c.counted.mu.Lock()
	defer c.counted.mu.Unlock()
	received := map[string]uint64{}
	for _, r := range f.Received {
		name, err := json.Marshal(r.Sources)
		if err != nil {
			return err
		}
		received[string(name)] += r.Events
	}
	matches, events := grown(c.counted.matches, f.Matches), grown(c.counted.received, received)
	if len(matches) == 0 && len(events) == 0 {
		return nil
	}
	now := time.Now()
	at, old := now.Truncate(step).UnixMilli(), now.Add(-countsKept).UnixMilli()
	err := c.st.Write(ctx, func(tx *store.Tx) error {
		for _, rule := range slices.Sorted(maps.Keys(matches)) {
			if _, err := tx.Exec(`INSERT INTO soc_rule_count (rule, at, matches) VALUES (?, ?, ?)
				ON CONFLICT (rule, at) DO UPDATE SET matches = soc_rule_count.matches + excluded.matches`, rule, at, int64(matches[rule])); err != nil {
				return err
			}
		}
		for _, source := range slices.Sorted(maps.Keys(events)) {
			if _, err := tx.Exec(`INSERT INTO soc_source_count (source, at, events) VALUES (?, ?, ?)
				ON CONFLICT (source, at) DO UPDATE SET events = soc_source_count.events + excluded.events`, source, at, int64(events[source])); err != nil {
				return err
			}
		}
		for _, table := range []string{"soc_rule_count", "soc_source_count"} {
			if _, err := tx.Exec(`DELETE FROM `+table+` WHERE at < ?`, old); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return unavailable("count what rules found", err)
	}
	c.counted.matches, c.counted.received = f.Matches, received
	return nil
}

// grown is by how much counts have grown.
func grown(was, is map[string]uint64) map[string]uint64 {
	out := map[string]uint64{}
	for key, n := range is {
		if n > was[key] {
			out[key] = n - was[key]
		}
	}
	return out
}

// Rate is how often something happened, as exactly as a quarter of an hour.
type Rate struct{ Hour, Day, Week int }

// RuleFigures are what is known of a rule's work.
type RuleFigures struct {
	Matches Rate // how often it held; for a rule that only a correlation asks, too

	// Of its alerts with an event in the last 30 days:
	Alerts     int // that are not suppressed
	Waiting    int // of these: neither closed nor suppressed
	Closed     map[Verdict]int
	Suppressed int
}

// Noise is which part of the alerts that were closed turned out to be false
// positives, in percent; ok is false while none was closed with a verdict.
func (f RuleFigures) Noise() (percent int, ok bool) {
	all := 0
	for _, v := range Verdicts() {
		all += f.Closed[v]
	}
	if all == 0 {
		return 0, false
	}
	return f.Closed[FalsePositive] * 100 / all, true
}

// RuleFigures returns the figures of every rule that matched or has alerts, by id.
func (c *Center) RuleFigures(ctx context.Context, now time.Time) (map[string]RuleFigures, error) {
	out := map[string]RuleFigures{}
	rates, err := c.rates(ctx, "soc_rule_count", "rule", "matches", now)
	if err != nil {
		return nil, unavailable("read what rules found", err)
	}
	for id, r := range rates {
		out[id] = RuleFigures{Matches: r}
	}
	rows, err := c.st.Query(ctx, `SELECT rule, state, verdict, COUNT(*) FROM soc_alert WHERE last_at >= ? GROUP BY rule, state, verdict`, now.Add(-noiseSpan).UnixMilli())
	if err != nil {
		return nil, unavailable("count the alerts of rules", err)
	}
	defer rows.Close()
	for rows.Next() {
		var rule, state, verdict string
		var n int
		if err := rows.Scan(&rule, &state, &verdict, &n); err != nil {
			return nil, unavailable("count the alerts of rules", err)
		}
		f := out[rule]
		switch State(state) {
		case Suppressed:
			f.Suppressed += n
		case Closed:
			if f.Closed == nil {
				f.Closed = map[Verdict]int{}
			}
			f.Closed[Verdict(verdict)] += n
			f.Alerts += n
		default:
			f.Alerts += n
			f.Waiting += n
		}
		out[rule] = f
	}
	if err := rows.Err(); err != nil {
		return nil, unavailable("count the alerts of rules", err)
	}
	return out, nil
}

// Received is how many events of some logsources came.
type Received struct {
	Sources []detect.Logsource
	Rate
}

// Received lists what came in the last week, most first.
func (c *Center) Received(ctx context.Context, now time.Time) ([]Received, error) {
	rates, err := c.rates(ctx, "soc_source_count", "source", "events", now)
	if err != nil {
		return nil, unavailable("read which logs came", err)
	}
	var out []Received
	for name, r := range rates {
		one := Received{Rate: r}
		if err := json.Unmarshal([]byte(name), &one.Sources); err != nil {
			return nil, unavailable("read which logs came", err)
		}
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b Received) int { return b.Week - a.Week })
	return out, nil
}

// rates sums up the counts in a table's column, of the last week, by name. The
// database does: a week has hundreds of rows for each name.
func (c *Center) rates(ctx context.Context, table, name, column string, now time.Time) (map[string]Rate, error) {
	sum := func(of string) string { return `CAST(SUM(` + of + `) AS BIGINT)` }
	newer := `CASE WHEN at > ? THEN ` + column + ` ELSE 0 END`
	rows, err := c.st.Query(ctx, `SELECT `+name+`, `+sum(newer)+`, `+sum(newer)+`, `+sum(column)+` FROM `+table+` WHERE at > ? GROUP BY `+name,
		now.Add(-time.Hour-step).UnixMilli(), now.Add(-24*time.Hour).UnixMilli(), now.Add(-7*24*time.Hour).UnixMilli())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[string]Rate{}
	for rows.Next() {
		var key string
		var r Rate
		if err := rows.Scan(&key, &r.Hour, &r.Day, &r.Week); err != nil {
			return nil, err
		}
		out[key] = r
	}
	return out, rows.Err()
}
