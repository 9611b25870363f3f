package soc

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"pasban"
	"pasban/internal/store"
)

const (
	// maxNote is the longest note, in characters.
	maxNote = 2000
	// maxBulk is how many alerts one change may be about.
	maxBulk = 200
)

// actions names the facts that changes of state leave.
var actions = map[State]string{New: "alert.reopen", Acknowledged: "alert.acknowledge", Closed: "alert.close"}

// Change is what an analyst does with alerts.
type Change struct {
	State   State   // Suppressed is for suppressions alone
	Verdict Verdict // of alerts that are closed
	Note    string  // may be empty unless the alerts are closed: then it says why
}

// SetState changes the state of alerts for an analyst. Each change and the fact
// about it are committed together. Alerts that are in the state already stay as
// they are.
//
// Errors: Forbidden unless the actor is an analyst, Invalid for a bad state,
// verdict or note, NotFound if one of the alerts does not exist (none is changed
// then).
func (c *Center) SetState(ctx context.Context, actor pasban.Actor, ids []string, ch Change) error {
	state, note := ch.State, strings.TrimSpace(ch.Note)
	switch {
	case actor.Role != pasban.RoleAnalyst:
		return &pasban.Error{Kind: pasban.Forbidden, Msg: "only analysts change alerts"}
	case actions[state] == "":
		return &pasban.Error{Kind: pasban.Invalid, Msg: fmt.Sprintf("an alert has no state %q", state)}
	case len(ids) == 0 || len(ids) > maxBulk:
		return &pasban.Error{Kind: pasban.Invalid, Msg: fmt.Sprintf("choose between 1 and %d alerts", maxBulk)}
	case state == Closed && !slices.Contains(Verdicts(), ch.Verdict):
		return &pasban.Error{Kind: pasban.Invalid, Where: "verdict", Msg: "say what the alert turned out to be: a true positive, benign or a false positive"}
	case state != Closed && ch.Verdict != "":
		return &pasban.Error{Kind: pasban.Invalid, Where: "verdict", Msg: "a verdict is for alerts that are closed"}
	case state == Closed && note == "":
		return &pasban.Error{Kind: pasban.Invalid, Where: "note", Msg: "say why the alert is closed"}
	case !isText(note, maxNote):
		return &pasban.Error{Kind: pasban.Invalid, Where: "note", Msg: fmt.Sprintf("a note is text of at most %d characters", maxNote)}
	}
	now := time.Now().UTC()
	var changed []string
	_, err := c.j.Commit(ctx, func(tx *store.Tx) ([]pasban.Fact, error) {
		changed = nil
		var facts []pasban.Fact
		for _, id := range ids {
			var was State
			err := tx.QueryRow(`SELECT state FROM soc_alert WHERE id = ?`, id).Scan(&was)
			if errors.Is(err, sql.ErrNoRows) {
				return nil, &pasban.Error{Kind: pasban.NotFound, Msg: "there is no such alert"}
			}
			if err != nil {
				return nil, err
			}
			if was == state {
				continue
			}
			if _, err := tx.Exec(`UPDATE soc_alert SET state = ?, verdict = ? WHERE id = ?`, string(state), string(ch.Verdict), id); err != nil {
				return nil, err
			}
			if err := c.note(ctx, tx, id, Note{At: now, State: state, Verdict: ch.Verdict, Who: actor.ID, Text: note}); err != nil {
				return nil, err
			}
			f := c.fact(actor, actions[state], id, note, now)
			if ch.Verdict != "" {
				f.Restricted.More["verdict"] = string(ch.Verdict)
			}
			facts = append(facts, f)
			changed = append(changed, id)
		}
		return facts, nil
	})
	if err != nil {
		return unavailable("change alerts", err)
	}
	return c.tell(ctx, changed)
}

// AddNote writes a remark of an analyst beside an alert, without changing its
// state. Errors as for SetState.
func (c *Center) AddNote(ctx context.Context, actor pasban.Actor, id, text string) error {
	text = strings.TrimSpace(text)
	switch {
	case actor.Role != pasban.RoleAnalyst:
		return &pasban.Error{Kind: pasban.Forbidden, Msg: "only analysts write notes"}
	case text == "" || !isText(text, maxNote):
		return &pasban.Error{Kind: pasban.Invalid, Where: "note", Msg: fmt.Sprintf("a note is text of at most %d characters", maxNote)}
	}
	now := time.Now().UTC()
	_, err := c.j.Commit(ctx, func(tx *store.Tx) ([]pasban.Fact, error) {
		var state State
		err := tx.QueryRow(`SELECT state FROM soc_alert WHERE id = ?`, id).Scan(&state)
		if errors.Is(err, sql.ErrNoRows) {
			return nil, &pasban.Error{Kind: pasban.NotFound, Msg: "there is no such alert"}
		}
		if err != nil {
			return nil, err
		}
		if err := c.note(ctx, tx, id, Note{At: now, State: state, Who: actor.ID, Text: text}); err != nil {
			return nil, err
		}
		return []pasban.Fact{c.fact(actor, "alert.note", id, text, now)}, nil
	})
	if err != nil {
		return unavailable("write a note", err)
	}
	return nil
}

// isText reports whether what a person wrote is text of at most so many characters.
func isText(s string, most int) bool { return utf8.ValidString(s) && utf8.RuneCountInString(s) <= most }

func (c *Center) fact(actor pasban.Actor, action, id, note string, now time.Time) pasban.Fact {
	f := pasban.NewFact(pasban.KindAdmin, c.agency, actor, now)
	f.Body.Service, f.Body.Action, f.Body.Resource = "soc", action, id
	f.Restricted.More = map[string]string{}
	if note != "" {
		f.Restricted.More["note"] = note
	}
	return f
}

// note adds a row to the alert's history. Runs on the store's writer goroutine.
func (c *Center) note(ctx context.Context, tx *store.Tx, id string, n Note) error {
	var last int64
	if err := tx.QueryRow(`SELECT COALESCE(MAX(n), 0) FROM soc_alert_note WHERE alert = ?`, id).Scan(&last); err != nil {
		return err
	}
	sealed, err := c.seal(ctx, noteDetail{n.Who, n.Text, n.Verdict}, fmt.Sprintf("note %s %d", id, last+1))
	if err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO soc_alert_note (alert, n, at, state, detail) VALUES (?, ?, ?, ?, ?)`,
		id, last+1, n.At.UnixMilli(), string(n.State), sealed)
	return err
}

// noteDetail is the part of a note that is sealed.
type noteDetail struct {
	Who     string  `json:"who"`
	Text    string  `json:"text"`
	Verdict Verdict `json:"verdict,omitempty"`
}

// who opens the part of a row that says who changed it; "" if it is empty:
// nobody did.
func (c *Center) who(ctx context.Context, sealed []byte, aad string) (string, error) {
	if len(sealed) == 0 {
		return "", nil
	}
	var d noteDetail
	err := c.unseal(ctx, sealed, &d, aad)
	return d.Who, err
}

// tell hands the changed alerts to subscribers.
func (c *Center) tell(ctx context.Context, ids []string) error {
	for _, id := range ids {
		a, err := c.Get(ctx, id)
		if err != nil {
			return err
		}
		c.publish(ctx, Update{Alert: a})
	}
	return nil
}
