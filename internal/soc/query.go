package soc

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"pasban"
	"pasban/internal/detect"
)

const (
	// defaultMax and maxMax are how many alerts a list has, unsaid and at most.
	defaultMax = 50
	maxMax     = 500
)

// Query chooses alerts. The zero value chooses all, newest of the gravest first.
type Query struct {
	MinLevel  detect.Level // 0 for all
	States    []State      // none for all
	Rule      string       // a rule's id
	Technique string       // an ATT&CK technique, with its sub-techniques unless it is one: T1110
	Since     time.Time    // with an event at or after
	Until     time.Time    // whose first event was before
	After     string       // continue a list: the Cursor of its last alert
	Newest    bool         // newest first, whatever their level; not to be continued
	Max       int          // 50 unless set, at most 500
}

// Cursor names the alert's place in a list, for Query.After.
func (a Alert) Cursor() string { return fmt.Sprintf("%d.%d.%s", a.Level, a.Last.UnixMilli(), a.ID) }

func (q Query) where() (string, []any, error) {
	conds, args := []string{"1 = 1"}, []any{}
	add := func(cond string, a ...any) {
		conds = append(conds, cond)
		args = append(args, a...)
	}
	if q.MinLevel > 0 {
		add("level >= ?", int(q.MinLevel))
	}
	if len(q.States) > 0 {
		var marks []string
		for _, s := range q.States {
			marks = append(marks, "?")
			args = append(args, string(s))
		}
		conds = append(conds, "state IN ("+strings.Join(marks, ", ")+")")
	}
	if q.Rule != "" {
		add("rule = ?", q.Rule)
	}
	if q.Technique != "" {
		tag := strings.ToLower(strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`).Replace(q.Technique))
		add(`(tags LIKE ? ESCAPE '\' OR tags LIKE ? ESCAPE '\')`, `%"attack.`+tag+`"%`, `%"attack.`+tag+`.%`)
	}
	if !q.Since.IsZero() {
		add("last_at >= ?", q.Since.UnixMilli())
	}
	if !q.Until.IsZero() {
		add("first_at < ?", q.Until.UnixMilli())
	}
	if q.After != "" {
		var level, last int64
		var id string
		if n, err := fmt.Sscanf(q.After, "%d.%d.%s", &level, &last, &id); n != 3 || err != nil {
			return "", nil, &pasban.Error{Kind: pasban.Invalid, Msg: "the list cannot be continued from there"}
		}
		add("(level < ? OR level = ? AND (last_at < ? OR last_at = ? AND id > ?))", level, level, last, last, id)
	}
	return strings.Join(conds, " AND "), args, nil
}

const selectAlert = `SELECT id, rule, title, level, tags, detail, first_at, last_at, count, state, verdict, suppression FROM soc_alert `

// List returns the alerts that q chooses, gravest first and newest first within a level.
func (c *Center) List(ctx context.Context, q Query) ([]Alert, error) {
	where, args, err := q.where()
	if err != nil {
		return nil, err
	}
	limit := q.Max
	if limit <= 0 {
		limit = defaultMax
	}
	order := `level DESC, last_at DESC, id`
	if q.Newest {
		order = `last_at DESC, id`
	}
	return c.alerts(ctx, `WHERE `+where+` ORDER BY `+order+` LIMIT ?`, append(args, min(limit, maxMax))...)
}

// Latest returns the newest alerts that are not suppressed, whatever their level.
func (c *Center) Latest(ctx context.Context, n int) ([]Alert, error) {
	return c.List(ctx, Query{States: []State{New, Acknowledged, Closed}, Newest: true, Max: n})
}

// Get returns one alert, or an error of kind NotFound.
func (c *Center) Get(ctx context.Context, id string) (Alert, error) {
	found, err := c.alerts(ctx, `WHERE id = ?`, id)
	if err != nil {
		return Alert{}, err
	}
	if len(found) == 0 {
		return Alert{}, &pasban.Error{Kind: pasban.NotFound, Msg: "there is no such alert"}
	}
	return found[0], nil
}

// ByFact returns the alerts that a fact is behind, gravest first. The fact's id
// is the incident id that people were shown.
func (c *Center) ByFact(ctx context.Context, fact string) ([]Alert, error) {
	return c.alerts(ctx, `WHERE id IN (SELECT alert FROM soc_alert_event WHERE fact = ?) ORDER BY level DESC, last_at DESC, id LIMIT ?`, fact, maxMax)
}

func (c *Center) alerts(ctx context.Context, rest string, args ...any) ([]Alert, error) {
	out, sealed, err := c.rows(ctx, rest, args...)
	if err != nil {
		return nil, unavailable("read alerts", err)
	}
	for i := range out {
		var d detail
		if err := c.unseal(ctx, sealed[i], &d, out[i].ID); err != nil {
			return nil, unavailable("read alerts", err)
		}
		out[i].Entity, out[i].Why, out[i].Parts = d.Entity, d.Why, d.Parts
	}
	return out, nil
}

// rows reads alerts without opening their sealed part.
func (c *Center) rows(ctx context.Context, rest string, args ...any) (out []Alert, sealed [][]byte, err error) {
	rows, err := c.st.Query(ctx, selectAlert+rest, args...)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var a Alert
		var tags, state, verdict string
		var part []byte
		var level int
		var first, last int64
		if err := rows.Scan(&a.ID, &a.RuleID, &a.Title, &level, &tags, &part, &first, &last, &a.Count, &state, &verdict, &a.Suppression); err != nil {
			return nil, nil, err
		}
		a.Level, a.State, a.Verdict = detect.Level(level), State(state), Verdict(verdict)
		a.First, a.Last = time.UnixMilli(first).UTC(), time.UnixMilli(last).UTC()
		if err := json.Unmarshal([]byte(tags), &a.Tags); err != nil {
			return nil, nil, err
		}
		out, sealed = append(out, a), append(sealed, part)
	}
	return out, sealed, rows.Err()
}

// Events lists the events behind an alert, first those of the journal and then
// those of received logs, each in their order: the first 500; Alert.Count says
// how many there are.
func (c *Center) Events(ctx context.Context, id string) ([]Event, error) {
	rows, err := c.st.Query(ctx, `SELECT seq, fact FROM soc_alert_event WHERE alert = ? ORDER BY seq`, id)
	if err != nil {
		return nil, unavailable("read an alert's events", err)
	}
	defer rows.Close()
	var out []Event
	for rows.Next() {
		var e Event
		if err := rows.Scan(&e.Seq, &e.Fact); err != nil {
			return nil, unavailable("read an alert's events", err)
		}
		out = append(out, e)
	}
	if err := rows.Err(); err != nil {
		return nil, unavailable("read an alert's events", err)
	}
	return out, nil
}

// Notes lists what was done about an alert, oldest first.
func (c *Center) Notes(ctx context.Context, id string) ([]Note, error) {
	out, sealed, err := c.noteRows(ctx, id)
	if err != nil {
		return nil, unavailable("read an alert's notes", err)
	}
	for i := range out {
		var d noteDetail
		if err := c.unseal(ctx, sealed[i], &d, fmt.Sprintf("note %s %d", id, i+1)); err != nil {
			return nil, unavailable("read an alert's notes", err)
		}
		out[i].Who, out[i].Text, out[i].Verdict = d.Who, d.Text, d.Verdict
	}
	return out, nil
}

// noteRows reads notes without opening their sealed part. They are numbered
// from 1 without gaps.
func (c *Center) noteRows(ctx context.Context, id string) (out []Note, sealed [][]byte, err error) {
	rows, err := c.st.Query(ctx, `SELECT at, state, detail FROM soc_alert_note WHERE alert = ? ORDER BY n`, id)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var at int64
		var state string
		var part []byte
		if err := rows.Scan(&at, &state, &part); err != nil {
			return nil, nil, err
		}
		out, sealed = append(out, Note{At: time.UnixMilli(at).UTC(), State: State(state)}), append(sealed, part)
	}
	return out, sealed, rows.Err()
}

// Open counts the alerts that wait for analysts, by level: neither closed nor
// suppressed.
func (c *Center) Open(ctx context.Context) (map[detect.Level]int, error) {
	rows, err := c.st.Query(ctx, `SELECT level, COUNT(*) FROM soc_alert WHERE state NOT IN (?, ?) GROUP BY level`, string(Closed), string(Suppressed))
	if err != nil {
		return nil, unavailable("count alerts", err)
	}
	defer rows.Close()
	out := map[detect.Level]int{}
	for rows.Next() {
		var level, n int
		if err := rows.Scan(&level, &n); err != nil {
			return nil, unavailable("count alerts", err)
		}
		out[detect.Level(level)] = n
	}
	if err := rows.Err(); err != nil {
		return nil, unavailable("count alerts", err)
	}
	return out, nil
}

// Techniques counts the alerts with an event since then by ATT&CK technique. An
// alert of a sub-technique counts for its technique as well, once. Suppressed
// ones do not count.
func (c *Center) Techniques(ctx context.Context, since time.Time) (map[string]int, error) {
	rows, err := c.st.Query(ctx, `SELECT tags, COUNT(*) FROM soc_alert WHERE last_at >= ? AND state <> ? GROUP BY tags`, since.UnixMilli(), string(Suppressed))
	if err != nil {
		return nil, unavailable("count techniques", err)
	}
	defer rows.Close()
	out := map[string]int{}
	for rows.Next() {
		var raw string
		var n int
		if err := rows.Scan(&raw, &n); err != nil {
			return nil, unavailable("count techniques", err)
		}
		var tags []string
		if err := json.Unmarshal([]byte(raw), &tags); err != nil {
			return nil, unavailable("count techniques", err)
		}
		once := map[string]bool{}
		for _, t := range detect.Techniques(tags) {
			parent, _, _ := strings.Cut(t, ".")
			once[t], once[parent] = true, true
		}
		for t := range once {
			out[t] += n
		}
	}
	if err := rows.Err(); err != nil {
		return nil, unavailable("count techniques", err)
	}
	return out, nil
}

// Raised counts the alerts, without suppressed ones, whose first event fell into
// each of n equal parts of the time from since until then, oldest part first.
func (c *Center) Raised(ctx context.Context, since, until time.Time, n int) ([]int, error) {
	out := make([]int, n)
	part := until.Sub(since).Milliseconds() / int64(n)
	if part <= 0 {
		return out, nil
	}
	rows, err := c.st.Query(ctx, `SELECT first_at FROM soc_alert WHERE first_at >= ? AND first_at < ? AND state <> ?`, since.UnixMilli(), until.UnixMilli(), string(Suppressed))
	if err != nil {
		return nil, unavailable("count alerts", err)
	}
	defer rows.Close()
	for rows.Next() {
		var at int64
		if err := rows.Scan(&at); err != nil {
			return nil, unavailable("count alerts", err)
		}
		out[min(int((at-since.UnixMilli())/part), n-1)]++
	}
	if err := rows.Err(); err != nil {
		return nil, unavailable("count alerts", err)
	}
	return out, nil
}
