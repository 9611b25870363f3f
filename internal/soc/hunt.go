package soc

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"pasban"
	"pasban/internal/eventstore"
	"pasban/internal/store"
)

const (
	// maxHunts is how many hunts an agency keeps.
	maxHunts = 500
	// maxHuntName is the longest name of a hunt, in characters.
	maxHuntName = 120
	// MaxColumns is how many columns a hunt shows at most.
	MaxColumns = 30
)

// Hunt is a search over the agency's events: what is looked for, in which time,
// and which fields are shown.
type Hunt struct {
	ID       string // 32 hex digits; "" if it is not kept
	Name     string
	Note     string
	Query    string        // in LogsQL
	Span     time.Duration // up to whenever it is opened; 0 if From and To say when
	From, To time.Time
	Columns  []string
	By       string // the actor's id
	Made     time.Time
}

// Format is what events are exported as.
type Format string

// The formats of exports.
const (
	NDJSON  Format = "ndjson"
	Parquet Format = "parquet"
)

// huntDetail is the part of a hunt that is sealed.
type huntDetail struct {
	Name    string        `json:"name"`
	Note    string        `json:"note,omitempty"`
	Query   string        `json:"query"`
	Span    time.Duration `json:"span,omitempty"`
	From    time.Time     `json:"from,omitzero"`
	To      time.Time     `json:"to,omitzero"`
	Columns []string      `json:"columns,omitempty"`
	By      string        `json:"by"`
}

// checkHunt says what is wrong with a hunt that is to be kept.
func checkHunt(h Hunt) error {
	invalid := func(where, format string, args ...any) error {
		return &pasban.Error{Kind: pasban.Invalid, Where: where, Msg: fmt.Sprintf(format, args...)}
	}
	switch {
	case h.Name == "" || !isText(h.Name, maxHuntName):
		return invalid("name", "a hunt has a name of at most %d characters", maxHuntName)
	case !isText(h.Note, maxNote):
		return invalid("note", "a note is text of at most %d characters", maxNote)
	case len(h.Columns) > MaxColumns:
		return invalid("columns", "a hunt shows at most %d columns", MaxColumns)
	case h.Span < 0 || h.Span == 0 && !h.From.IsZero() && !h.To.IsZero() && !h.From.Before(h.To):
		return invalid("time", "the time of a hunt ends after it begins")
	}
	return eventstore.Check(h.Query)
}

// SaveHunt keeps a hunt for every analyst of the agency, with the fact that says
// who kept it. It returns after both are durable. Errors: Forbidden unless the
// actor is an analyst, Invalid if it has a fault, Limited if there are too many.
func (c *Center) SaveHunt(ctx context.Context, actor pasban.Actor, h Hunt) (Hunt, error) {
	if actor.Role != pasban.RoleAnalyst {
		return h, &pasban.Error{Kind: pasban.Forbidden, Msg: "only analysts keep hunts"}
	}
	h.Name, h.Note = strings.Join(strings.Fields(h.Name), " "), strings.TrimSpace(h.Note)
	if err := checkHunt(h); err != nil {
		return h, err
	}
	h.ID, h.Made, h.By = pasban.NewID(), time.Now().UTC(), actor.ID
	sealed, err := c.seal(ctx, huntDetail{h.Name, h.Note, h.Query, h.Span, h.From, h.To, h.Columns, h.By}, "hunt "+h.ID)
	if err != nil {
		return h, err
	}
	_, err = c.j.Commit(ctx, func(tx *store.Tx) ([]pasban.Fact, error) {
		var n int
		if err := tx.QueryRow(`SELECT COUNT(*) FROM soc_hunt`).Scan(&n); err != nil {
			return nil, err
		}
		if n >= maxHunts {
			return nil, &pasban.Error{Kind: pasban.Limited, Msg: fmt.Sprintf("%d hunts are kept", n), Hint: "delete some of them first"}
		}
		_, err := tx.Exec(`INSERT INTO soc_hunt (id, at, detail) VALUES (?, ?, ?)`, h.ID, h.Made.UnixMilli(), sealed)
		return []pasban.Fact{c.huntFact(actor, "hunt.save", h, h.Made)}, err
	})
	if err != nil {
		return h, unavailable("keep a hunt", err)
	}
	return h, nil
}

// DeleteHunt deletes a hunt, with the fact that says who did. Errors: Forbidden
// unless the actor kept it or is a supervisor, NotFound.
func (c *Center) DeleteHunt(ctx context.Context, actor pasban.Actor, id string) error {
	h, err := c.Hunt(ctx, id)
	if err != nil {
		return err
	}
	if actor.Role != pasban.RoleSupervisor && (actor.Role != pasban.RoleAnalyst || h.By != actor.ID) {
		return &pasban.Error{Kind: pasban.Forbidden, Msg: "a hunt is deleted by who kept it, or by a supervisor"}
	}
	_, err = c.j.Commit(ctx, func(tx *store.Tx) ([]pasban.Fact, error) {
		res, err := tx.Exec(`DELETE FROM soc_hunt WHERE id = ?`, id)
		if err != nil {
			return nil, err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return nil, err // somebody was faster
		}
		return []pasban.Fact{c.huntFact(actor, "hunt.delete", h, time.Now().UTC())}, nil
	})
	if err != nil {
		return unavailable("delete a hunt", err)
	}
	return nil
}

// Hunt returns one hunt that is kept, or an error of kind NotFound.
func (c *Center) Hunt(ctx context.Context, id string) (Hunt, error) {
	found, err := c.hunts(ctx, `WHERE id = ?`, id)
	if err != nil {
		return Hunt{}, err
	}
	if len(found) == 0 {
		return Hunt{}, &pasban.Error{Kind: pasban.NotFound, Msg: "there is no such hunt"}
	}
	return found[0], nil
}

// Hunts lists the hunts that are kept, newest first.
func (c *Center) Hunts(ctx context.Context) ([]Hunt, error) {
	return c.hunts(ctx, `ORDER BY at DESC, id LIMIT ?`, maxHunts)
}

func (c *Center) hunts(ctx context.Context, rest string, args ...any) ([]Hunt, error) {
	out, sealed, err := c.huntRows(ctx, rest, args...)
	if err != nil {
		return nil, unavailable("read hunts", err)
	}
	for i := range out {
		var d huntDetail
		if err := c.unseal(ctx, sealed[i], &d, "hunt "+out[i].ID); err != nil {
			return nil, unavailable("read hunts", err)
		}
		h := &out[i]
		h.Name, h.Note, h.Query, h.Span, h.From, h.To, h.Columns, h.By = d.Name, d.Note, d.Query, d.Span, d.From, d.To, d.Columns, d.By
	}
	return out, nil
}

// huntRows reads hunts without opening their sealed part.
func (c *Center) huntRows(ctx context.Context, rest string, args ...any) (out []Hunt, sealed [][]byte, err error) {
	rows, err := c.st.Query(ctx, `SELECT id, at, detail FROM soc_hunt `+rest, args...)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var h Hunt
		var at int64
		var part []byte
		if err := rows.Scan(&h.ID, &at, &part); err != nil {
			return nil, nil, err
		}
		h.Made = time.UnixMilli(at).UTC()
		out, sealed = append(out, h), append(sealed, part)
	}
	return out, sealed, rows.Err()
}

// RecordSearch keeps the fact that somebody looks for events. It returns after
// it is durable: nothing is shown before.
func (c *Center) RecordSearch(ctx context.Context, actor pasban.Actor, h Hunt) error {
	return c.recordHunt(ctx, c.huntFact(actor, "hunt.search", h, time.Now().UTC()))
}

// RecordExport keeps the fact that an export begins. It returns after it is
// durable: nothing is handed out before.
func (c *Center) RecordExport(ctx context.Context, actor pasban.Actor, h Hunt, as Format) error {
	f := c.huntFact(actor, "hunt.export", h, time.Now().UTC())
	f.Restricted.More["format"] = string(as)
	return c.recordHunt(ctx, f)
}

// RecordExported keeps the fact of how an export ended: how many events were
// handed out, and whether that was all of it.
func (c *Center) RecordExported(ctx context.Context, actor pasban.Actor, h Hunt, as Format, events int, whole bool) error {
	f := c.huntFact(actor, "hunt.exported", h, time.Now().UTC())
	f.Restricted.More["format"], f.Restricted.More["events"], f.Restricted.More["whole"] = string(as), strconv.Itoa(events), strconv.FormatBool(whole)
	return c.recordHunt(ctx, f)
}

func (c *Center) recordHunt(ctx context.Context, f pasban.Fact) error {
	if _, err := c.j.Record(ctx, f); err != nil {
		return unavailable("record a hunt", err)
	}
	return nil
}

// huntFact is an act with a hunt. The query stands in the restricted part,
// which is sealed under the agency's key: it may name people.
func (c *Center) huntFact(actor pasban.Actor, action string, h Hunt, now time.Time) pasban.Fact {
	f := c.fact(actor, action, h.ID, h.Note, now)
	f.Restricted.More["query"] = h.Query
	if h.Name != "" {
		f.Restricted.More["name"] = h.Name
	}
	for key, t := range map[string]time.Time{"from": h.From, "until": h.To} {
		if !t.IsZero() {
			f.Restricted.More[key] = t.UTC().Format(time.RFC3339Nano)
		}
	}
	if h.Span > 0 {
		f.Restricted.More["span"] = h.Span.String()
	}
	return f
}
