package soc

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"pasban"
	"pasban/internal/detect"
)

// Received events are not in the journal, and what is sent to Pasban is not
// stored: an alert keeps what analysts need to judge it.
const (
	// maxKept is of how many received events an alert keeps the fields.
	maxKept = 25
	// maxFields is how many fields of an event are kept.
	maxFields = 200
	// maxField is how much of one field's values is kept, in bytes.
	maxField = 2000
	// maxKeptBytes is how much of one event is kept, in bytes.
	maxKeptBytes = 8000
)

// Cut is the field of a kept event that says how many of its fields were left
// out for want of room.
const Cut = "pasban.fields_left_out"

// keep seals the received events of a match for their alert. What the alert
// keeps already is left out when it is written.
func (c *Center) keep(ctx context.Context, p *pending, received map[uint64]pasban.Event) error {
	for _, seq := range slices.Sorted(maps.Keys(received)) {
		if len(p.events) >= maxKept || p.events[seq] != nil {
			continue
		}
		sealed, err := c.seal(ctx, fieldsOf(received[seq]), eventPlace(p.alert.ID, seq))
		if err != nil {
			return err
		}
		p.events[seq] = sealed
	}
	return nil
}

func eventPlace(alert string, seq uint64) string { return fmt.Sprintf("event %s %d", alert, seq) }

// Kept returns the fields of the received events behind an alert, by sequence
// number: of the first 25 that it names. Fields of objects have dotted names;
// long values end in an ellipsis.
func (c *Center) Kept(ctx context.Context, id string) (map[uint64]pasban.Event, error) {
	sealed, err := c.keptRows(ctx, id)
	if err != nil {
		return nil, unavailable("read an alert's received events", err)
	}
	out := map[uint64]pasban.Event{}
	for seq, part := range sealed {
		var ev pasban.Event
		if err := c.unseal(ctx, part, &ev, eventPlace(id, seq)); err != nil {
			return nil, unavailable("read an alert's received events", err)
		}
		out[seq] = ev
	}
	return out, nil
}

func (c *Center) keptRows(ctx context.Context, id string) (map[uint64][]byte, error) {
	rows, err := c.st.Query(ctx, `SELECT seq, detail FROM soc_alert_event WHERE alert = ? AND detail IS NOT NULL`, id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[uint64][]byte{}
	for rows.Next() {
		var seq int64
		var part []byte
		if err := rows.Scan(&seq, &part); err != nil {
			return nil, err
		}
		out[uint64(seq)] = part
	}
	return out, rows.Err()
}

// Example returns the newest event behind an alert whose fields are at hand, nil
// if there is none.
func (c *Center) Example(ctx context.Context, id string) (pasban.Event, error) {
	events, err := c.Events(ctx, id)
	if err != nil {
		return nil, err
	}
	kept, err := c.Kept(ctx, id)
	if err != nil {
		return nil, err
	}
	for _, e := range slices.Backward(events) {
		if ev, err := c.seen(ctx, e, kept); ev != nil || err != nil {
			return ev, err
		}
	}
	return nil, nil
}

// seen is an event as detection saw it: one that its alert keeps, or of the
// journal; nil if neither has its fields. It fails only once ctx is over.
func (c *Center) seen(ctx context.Context, e Event, kept map[uint64]pasban.Event) (pasban.Event, error) {
	if ev := kept[e.Seq]; ev != nil {
		return ev, nil
	}
	if e.Seq >= detect.FirstReceived || e.Fact == "" {
		return nil, nil
	}
	entry, err := c.j.ByID(ctx, e.Fact)
	if err != nil {
		return nil, ctx.Err()
	}
	return detect.FromEntry(entry), nil
}

// fieldsOf is the bounded copy of an event that is kept: short names first, as
// those of Sigma's taxonomy are, then what lies deeper.
func fieldsOf(ev pasban.Event) map[string]any {
	flat := map[string]any{}
	flatten(flat, "", ev)
	delete(flat, "Seq")
	names := slices.SortedFunc(maps.Keys(flat), func(a, b string) int {
		if deep := strings.Count(a, ".") - strings.Count(b, "."); deep != 0 {
			return deep
		}
		return strings.Compare(a, b)
	})
	out := map[string]any{}
	size := 0
	for i, name := range names {
		n := len(name) + sizeOf(flat[name])
		if len(out) >= maxFields || size+n > maxKeptBytes {
			out[Cut] = len(names) - i
			break
		}
		out[name], size = flat[name], size+n
	}
	return out
}

// flatten copies what an event holds under dotted names.
func flatten(into map[string]any, prefix string, v any) {
	switch v := v.(type) {
	case pasban.Event:
		flatten(into, prefix, map[string]any(v))
	case map[string]any:
		for key, e := range v {
			if prefix == "" && key == detect.LogsourceKey {
				into[key] = sources(e)
				continue
			}
			if prefix != "" {
				key = prefix + "." + key
			}
			flatten(into, key, e)
		}
	case []any:
		for _, e := range v {
			nested := map[string]any{}
			flatten(nested, prefix, e)
			for key, e := range nested {
				into[key] = append(list(into[key]), list(e)...)
			}
		}
		clipAll(into, prefix)
	case []string:
		for _, e := range v {
			into[prefix] = append(list(into[prefix]), e)
		}
		clipAll(into, prefix)
	case string:
		into[prefix] = clip(v, maxField)
	case json.Number, bool, int, int64, uint64, float64:
		into[prefix] = v
	case nil:
	default:
		into[prefix] = clip(fmt.Sprint(v), maxField)
	}
}

func list(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		return v
	}
	return []any{v}
}

// clipAll leaves out the values of a list beyond what is kept of a field.
func clipAll(into map[string]any, name string) {
	size := 0
	values := list(into[name])
	for i, v := range values {
		if size += sizeOf(v); size > maxField {
			into[name] = append(values[:i:i], "…")
			return
		}
	}
}

func sizeOf(v any) (n int) {
	switch v := v.(type) {
	case string:
		return len(v)
	case []any:
		for _, e := range v {
			n += sizeOf(e)
		}
		return n
	}
	return 8
}

// clip cuts text off between characters.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit] + "…"
}

// sources writes the logsources of an event.
func sources(v any) string {
	var all []detect.Logsource
	switch v := v.(type) {
	case detect.Logsource:
		all = []detect.Logsource{v}
	case []detect.Logsource:
		all = v
	default:
		return fmt.Sprint(v)
	}
	var out []string
	for _, s := range all {
		out = append(out, s.String())
	}
	return strings.Join(out, "; ")
}
