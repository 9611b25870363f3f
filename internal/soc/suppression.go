package soc

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"pasban"
	"pasban/internal/detect"
	"pasban/internal/store"
)

const (
	// maxSuppression is the longest that a suppression lasts.
	maxSuppression = 90 * 24 * time.Hour
	// maxConditions is how many conditions one has, and values each of these.
	maxConditions = 10
	// maxValue is the longest value of a condition, in bytes.
	maxValue = 1000
	// maxReason is the longest reason, in characters.
	maxReason = 500
)

// Suppression keeps matches of a rule out of the queue until a date: those about
// one entity, those whose event fulfils conditions, or both. What it suppresses
// is kept and counted as alerts in the state Suppressed.
type Suppression struct {
	ID         string // 32 hex digits
	Rule       string // the rule's id
	Title      string // of the rule
	Level      detect.Level
	Entity     string             // whom or what it is about; "" for anyone
	Conditions []detect.Condition // all must hold for the event that made the rule fire
	Reason     string
	Alert      string // that it was made from
	Until      time.Time

	Made       time.Time
	By         string    // the actor's id
	Approved   time.Time // when it came into force; zero while it waits for a supervisor
	ApprovedBy string    // "" if it needed no approval
	Ended      time.Time // before Until, by EndedBy; zero if it was not
	EndedBy    string

	Alerts, Events int // that it has suppressed
}

// NeedsApproval reports whether a supervisor has to approve it: what a critical
// rule finds is not put aside by one person.
func (s Suppression) NeedsApproval() bool { return s.Level >= detect.Critical }

// InForce reports whether the suppression works at the given time.
func (s Suppression) InForce(now time.Time) bool {
	return !s.Approved.IsZero() && s.Ended.IsZero() && now.Before(s.Until)
}

// Words says what is suppressed, a line for each condition.
func (s Suppression) Words() (out []string) {
	if s.Entity != "" {
		out = append(out, "about "+s.Entity)
	}
	for _, c := range s.Conditions {
		out = append(out, c.String())
	}
	return out
}

// CheckSuppression says what is wrong with a suppression that an analyst wants
// to make.
func CheckSuppression(s Suppression, now time.Time) error {
	bad := func(where, msg string) error { return &pasban.Error{Kind: pasban.Invalid, Where: where, Msg: msg} }
	switch {
	case s.Rule == "":
		return bad("rule", "a suppression is of one rule")
	case s.Entity == "" && len(s.Conditions) == 0:
		return bad("conditions", "a rule is not suppressed as a whole: choose whom it is about, or a field")
	case len(s.Conditions) > maxConditions:
		return bad("conditions", fmt.Sprintf("a suppression has at most %d conditions", maxConditions))
	case strings.TrimSpace(s.Reason) == "" || !isText(s.Reason, maxReason):
		return bad("reason", fmt.Sprintf("say why, in at most %d characters", maxReason))
	}
	for _, c := range s.Conditions {
		if len(c.Values) > maxConditions {
			return bad("conditions", fmt.Sprintf("%s: at most %d values", c.Field, maxConditions))
		}
		for _, v := range append([]string{c.Field}, c.Values...) {
			if len(v) > maxValue || !utf8.ValidString(v) {
				return bad("conditions", fmt.Sprintf("a field or value is text of at most %d bytes", maxValue))
			}
		}
	}
	if _, err := detect.NewSelection(s.Conditions); err != nil {
		return bad("conditions", err.Error())
	}
	if d := s.Until.Sub(now); d <= 0 || d > maxSuppression {
		return bad("until", "a suppression ends within 90 days")
	}
	return nil
}

// suppressionDetail is the part of a suppression that is sealed.
type suppressionDetail struct {
	Title      string             `json:"title"`
	Level      detect.Level       `json:"level"`
	Entity     string             `json:"entity,omitempty"`
	Conditions []detect.Condition `json:"conditions,omitempty"`
	Reason     string             `json:"reason"`
	Alert      string             `json:"alert,omitempty"`
	By         string             `json:"by"`
}

// Suppress keeps a suppression, with the fact that says who made it and why. It
// is in force when Suppress returns, unless it needs a supervisor's approval.
// Errors: Forbidden unless the actor is an analyst, Invalid if it has a fault,
// Limited if there are too many.
func (c *Center) Suppress(ctx context.Context, actor pasban.Actor, s Suppression) (Suppression, error) {
	now := time.Now().UTC()
	if actor.Role != pasban.RoleAnalyst {
		return s, &pasban.Error{Kind: pasban.Forbidden, Msg: "only analysts suppress alerts"}
	}
	if err := CheckSuppression(s, now); err != nil {
		return s, err
	}
	s.ID, s.Made, s.By = pasban.NewID(), now, actor.ID
	approved := int64(0)
	if !s.NeedsApproval() {
		s.Approved, approved = now, now.UnixMilli()
	}
	sealed, err := c.seal(ctx, suppressionDetail{s.Title, s.Level, s.Entity, s.Conditions, s.Reason, s.Alert, s.By}, "suppression "+s.ID)
	if err != nil {
		return s, err
	}
	_, err = c.j.Commit(ctx, func(tx *store.Tx) ([]pasban.Fact, error) {
		var open int
		if err := tx.QueryRow(countOpen, now.UnixMilli()).Scan(&open); err != nil {
			return nil, err
		}
		if open >= maxOpen {
			return nil, &pasban.Error{Kind: pasban.Limited, Msg: fmt.Sprintf("%d suppressions are in force or wait", open), Hint: "end some of them first"}
		}
		_, err := tx.Exec(`INSERT INTO soc_suppression (id, rule, at, until, approved, ended, detail, approving, ending) VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?)`,
			s.ID, s.Rule, now.UnixMilli(), s.Until.UnixMilli(), approved, sealed, []byte{}, []byte{})
		return []pasban.Fact{c.suppressionFact(actor, "suppression.make", s, now)}, err
	})
	if err != nil {
		return s, unavailable("keep a suppression", err)
	}
	return s, nil
}

// DecideSuppression is a supervisor's word on a suppression that waits for it.
// Refusing ends it. Errors: Forbidden unless the actor is a supervisor and did
// not make it, NotFound if none of this id waits.
func (c *Center) DecideSuppression(ctx context.Context, actor pasban.Actor, id string, approve bool) error {
	if actor.Role != pasban.RoleSupervisor {
		return &pasban.Error{Kind: pasban.Forbidden, Msg: "a supervisor decides on suppressions of critical rules"}
	}
	if approve {
		return c.turnSuppression(ctx, actor, id, "approve", `UPDATE soc_suppression SET approved = ?, approving = ? WHERE id = ? AND approved = 0 AND ended = 0 AND until > ?`)
	}
	return c.turnSuppression(ctx, actor, id, "refuse", `UPDATE soc_suppression SET ended = ?, ending = ? WHERE id = ? AND approved = 0 AND ended = 0 AND until > ?`)
}

// EndSuppression ends a suppression early. Errors: Forbidden unless the actor is
// an analyst or a supervisor, NotFound if none of this id is in force or waits.
func (c *Center) EndSuppression(ctx context.Context, actor pasban.Actor, id string) error {
	if actor.Role != pasban.RoleAnalyst && actor.Role != pasban.RoleSupervisor {
		return &pasban.Error{Kind: pasban.Forbidden, Msg: "only analysts and supervisors end suppressions"}
	}
	return c.turnSuppression(ctx, actor, id, "end", `UPDATE soc_suppression SET ended = ?, ending = ? WHERE id = ? AND ended = 0 AND until > ?`)
}

// turnSuppression changes a suppression by a statement, with the fact about it.
func (c *Center) turnSuppression(ctx context.Context, actor pasban.Actor, id, what, statement string) error {
	list, err := c.readSuppressions(ctx, `WHERE id = ?`, id)
	if err != nil {
		return err
	}
	gone := &pasban.Error{Kind: pasban.NotFound, Msg: "there is no such suppression, or it has been decided on or has ended"}
	if len(list) == 0 {
		return gone
	}
	if what == "approve" && list[0].By == actor.ID {
		return &pasban.Error{Kind: pasban.Forbidden, Msg: "somebody else approves it"}
	}
	now := time.Now().UTC()
	sealed, err := c.seal(ctx, noteDetail{Who: actor.ID}, "suppression-"+turn(what)+" "+id)
	if err != nil {
		return err
	}
	_, err = c.j.Commit(ctx, func(tx *store.Tx) ([]pasban.Fact, error) {
		res, err := tx.Exec(statement, now.UnixMilli(), sealed, id, now.UnixMilli())
		if err != nil {
			return nil, err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return nil, cmp.Or(err, error(gone))
		}
		return []pasban.Fact{c.suppressionFact(actor, "suppression."+what, list[0], now)}, nil
	})
	if err != nil {
		return unavailable("change a suppression", err)
	}
	return nil
}

// turn is which of the two sealed places a change is written to.
func turn(what string) string {
	if what == "approve" {
		return what
	}
	return "end"
}

func (c *Center) suppressionFact(actor pasban.Actor, action string, s Suppression, now time.Time) pasban.Fact {
	f := c.fact(actor, action, s.ID, s.Reason, now)
	f.Restricted.More["rule"], f.Restricted.More["expires"] = s.Rule, s.Until.UTC().Format(time.RFC3339)
	f.Restricted.More["suppresses"] = strings.Join(s.Words(), "; ")
	return f
}

// Suppressions lists those that wait or are in force, and those that ended
// within ninety days, newest first, with what they have suppressed: of one rule,
// or of all if rule is "".
func (c *Center) Suppressions(ctx context.Context, rule string) ([]Suppression, error) {
	since := time.Now().Add(-remembered).UnixMilli()
	where, args := `WHERE until > ? AND (ended = 0 OR ended > ?)`, []any{since, since}
	if rule != "" {
		where, args = where+` AND rule = ?`, append(args, rule)
	}
	list, err := c.readSuppressions(ctx, where+` ORDER BY at DESC, id LIMIT ?`, append(args, 1000)...)
	if err != nil {
		return nil, err
	}
	for i := range list {
		err := c.st.QueryRow(ctx, `SELECT COUNT(*), CAST(COALESCE(SUM(count), 0) AS BIGINT) FROM soc_alert WHERE suppression = ?`, list[i].ID).Scan(&list[i].Alerts, &list[i].Events)
		if err != nil {
			return nil, unavailable("count what is suppressed", err)
		}
	}
	return list, nil
}

// countOpen counts the suppressions that are in force or wait, given the time.
const countOpen = `SELECT COUNT(*) FROM soc_suppression WHERE ended = 0 AND until > ?`

// OpenSuppressions counts those that are in force or wait.
func (c *Center) OpenSuppressions(ctx context.Context) (n int, err error) {
	if err := c.st.QueryRow(ctx, countOpen, time.Now().UnixMilli()).Scan(&n); err != nil {
		return 0, unavailable("count suppressions", err)
	}
	return n, nil
}

func (c *Center) readSuppressions(ctx context.Context, rest string, args ...any) ([]Suppression, error) {
	list, sealed, err := c.suppressionRows(ctx, rest, args...)
	if err != nil {
		return nil, unavailable("read suppressions", err)
	}
	for i := range list {
		s := &list[i]
		var d suppressionDetail
		if err := c.unseal(ctx, sealed[i][0], &d, "suppression "+s.ID); err != nil {
			return nil, unavailable("read suppressions", err)
		}
		s.Title, s.Level, s.Entity, s.Conditions, s.Reason, s.Alert, s.By = d.Title, d.Level, d.Entity, d.Conditions, d.Reason, d.Alert, d.By
		if s.ApprovedBy, err = c.who(ctx, sealed[i][1], "suppression-approve "+s.ID); err != nil {
			return nil, unavailable("read suppressions", err)
		}
		if s.EndedBy, err = c.who(ctx, sealed[i][2], "suppression-end "+s.ID); err != nil {
			return nil, unavailable("read suppressions", err)
		}
	}
	return list, nil
}

// suppressionRows reads suppressions without opening their three sealed parts.
func (c *Center) suppressionRows(ctx context.Context, rest string, args ...any) (list []Suppression, sealed [][3][]byte, err error) {
	rows, err := c.st.Query(ctx, `SELECT id, rule, at, until, approved, ended, detail, approving, ending FROM soc_suppression `+rest, args...)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	at := func(ms int64) time.Time {
		if ms == 0 {
			return time.Time{}
		}
		return time.UnixMilli(ms).UTC()
	}
	for rows.Next() {
		var s Suppression
		var parts [3][]byte
		var made, until, approved, ended int64
		if err := rows.Scan(&s.ID, &s.Rule, &made, &until, &approved, &ended, &parts[0], &parts[1], &parts[2]); err != nil {
			return nil, nil, err
		}
		s.Made, s.Until, s.Approved, s.Ended = at(made), at(until), at(approved), at(ended)
		list, sealed = append(list, s), append(sealed, parts)
	}
	return list, sealed, rows.Err()
}

// suppressing is what Handle knows of suppressions: read again when one was
// made, decided on or ended, by any node.
type suppressing struct {
	mu      sync.Mutex // covers all below
	version string
	list    []ready
}

// ready is a suppression whose conditions can be asked.
type ready struct {
	Suppression
	selection *detect.Selection
}

// suppressions returns those that are in force now. It fails only if the store
// or the agency's key does, and then alerts cannot be kept either.
func (c *Center) suppressions(ctx context.Context) ([]ready, error) {
	s := &c.suppressing
	s.mu.Lock()
	defer s.mu.Unlock()
	var n, made, approved, ended int64
	err := c.st.QueryRow(ctx, `SELECT COUNT(*), COALESCE(MAX(at), 0), CAST(COALESCE(SUM(approved), 0) AS BIGINT), CAST(COALESCE(SUM(ended), 0) AS BIGINT) FROM soc_suppression WHERE until > ?`,
		time.Now().Add(-maxSuppression).UnixMilli()).Scan(&n, &made, &approved, &ended)
	if err != nil {
		return nil, unavailable("read suppressions", err)
	}
	now := time.Now()
	if version := fmt.Sprint(n, made, approved, ended); version != s.version {
		list, err := c.readSuppressions(ctx, `WHERE ended = 0 AND approved > 0 AND until > ? ORDER BY at, id`, now.UnixMilli())
		if err != nil {
			return nil, err
		}
		s.list = nil
		for _, one := range list {
			selection, err := detect.NewSelection(one.Conditions)
			if err != nil { // made by another version: it suppresses nothing, and alerts go on
				slog.ErrorContext(ctx, "soc: a suppression's conditions make no sense here, so it is not in force", "suppression", one.ID) // the error may hold what is sealed
				continue
			}
			s.list = append(s.list, ready{one, selection})
		}
		s.version = version
	}
	var out []ready
	for _, one := range s.list {
		if one.InForce(now) {
			out = append(out, one)
		}
	}
	return out, nil
}

// suppressedBy names the oldest suppression that covers a match, "" if none
// does. One that no supervisor has approved does not cover a rule that has
// become critical since.
func suppressedBy(list []ready, m detect.Match) string {
	for _, s := range list {
		if s.Rule == m.Rule.ID && (m.Rule.Level < detect.Critical || s.ApprovedBy != "") && s.covers(m.Entity, m.Event) {
			return s.ID
		}
	}
	return ""
}

func (s ready) covers(entity string, ev pasban.Event) bool {
	return (s.Entity == "" || s.Entity == entity) && s.selection.Holds(ev)
}

// Preview is what a suppression would have kept out of the queue.
type Preview struct {
	Since   time.Time
	Alerts  int     // of the rule that were looked at
	Whole   int     // of these: all that is known of them would have been suppressed
	Part    int     // of these: some of it
	Events  int     // that were looked at
	Covered int     // of these: suppressed
	Unknown int     // events whose fields are not kept: nobody can say
	Shown   []Alert // some of those that would have been suppressed wholly or in part
}

const (
	previewAlerts = 500 // looked at
	previewEvents = 20  // of each
	previewShown  = 20
)

// PreviewSuppression says what a suppression would have done to the alerts that
// are kept since then: at most the 500 gravest and newest, and 20 events of
// each. Every event is judged by itself, as if it had made the rule fire.
func (c *Center) PreviewSuppression(ctx context.Context, s Suppression, since time.Time) (Preview, error) {
	p := Preview{Since: since}
	selection, err := detect.NewSelection(s.Conditions)
	if err != nil {
		return p, &pasban.Error{Kind: pasban.Invalid, Where: "conditions", Msg: err.Error()}
	}
	alerts, err := c.List(ctx, Query{Rule: s.Rule, Since: since, Max: previewAlerts})
	if err != nil {
		return p, err
	}
	for _, a := range alerts {
		p.Alerts++
		if s.Entity != "" && s.Entity != a.Entity {
			continue
		}
		covered, free, err := c.previewAlert(ctx, &p, ready{s, selection}, a.ID)
		if err != nil {
			return p, err
		}
		switch {
		case covered == 0:
			continue
		case free == 0:
			p.Whole++
		default:
			p.Part++
		}
		if len(p.Shown) < previewShown {
			p.Shown = append(p.Shown, a)
		}
	}
	return p, nil
}

// previewAlert counts the events of an alert, whose entity fits, that would have
// been suppressed, and those that would not.
func (c *Center) previewAlert(ctx context.Context, p *Preview, s ready, id string) (covered, free int, err error) {
	events, err := c.Events(ctx, id)
	if err != nil {
		return 0, 0, err
	}
	events = events[max(0, len(events)-previewEvents):]
	p.Events += len(events)
	if len(s.Conditions) == 0 { // their fields are not asked
		p.Covered += len(events)
		return len(events), 0, nil
	}
	kept, err := c.Kept(ctx, id)
	if err != nil {
		return 0, 0, err
	}
	for _, e := range events {
		ev, err := c.seen(ctx, e, kept)
		switch {
		case err != nil:
			return 0, 0, err
		case ev == nil:
			p.Unknown++
		case s.selection.Holds(ev):
			covered++
		default:
			free++
		}
	}
	p.Covered += covered
	return covered, free, nil
}
