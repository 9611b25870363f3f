// Package soc keeps alerts: what detection found, whom it is about, why, which
// events are behind it, and what the analysts did about it; what they have
// suppressed; and how often each rule found something.
//
// # Main types
//
// An [Alert] gathers the matches of one rule about one entity within one hour.
// A [Suppression] keeps matches of a rule out of the queue until a date. A
// [Center] keeps both in the store, hands new alerts to subscribers, and changes
// them for analysts.
//
// # The way of a match
//
//	detect.Engine.Run → Center.Handle → one row per alert → Subscribe
//
// A change that a person makes goes through the journal: the row and the fact
// that says who changed it and why are committed together.
//
// # What to build on
//
// A case desk needs four things of a Center, and nothing of its tables:
//
//   - an alert's ID. It never changes and never comes again, so that a case may
//     hold it; [Center.Get] finds the alert for as long as the store exists.
//   - [Center.Subscribe] for what is new and what changes. Who is cut off reads
//     [Center.List] again: nothing is told by Subscribe alone.
//   - [Center.List] with a [Query], [Center.Events], [Center.Kept] and
//     [Center.Notes] for the story behind an alert.
//   - [Center.SetState] and [Center.AddNote] to act, as an analyst.
//
// # Guarantees
//
//   - An alert's id follows from rule, entity, hour and suppression, and its
//     events are counted by their number, in the journal and in received logs
//     apart. Matches that are handed over again after a crash change nothing.
//   - When Handle returns nil the alerts are durable.
//   - An alert that was closed opens again by itself when new events join it,
//     unless a suppression covers them.
//   - A suppressed match is an alert as well, in the state Suppressed. A
//     suppression asks for more than the rule, ends by itself, and for rules of
//     level critical it is in force only once a supervisor has approved it.
//   - Whom an alert is about, why, received events, suppressions and what
//     analysts wrote lie encrypted under the agency's key; the id is a keyed hash.
//
// # What it must never do
//
// It never drops a match because someone is slow to read: a subscriber that
// falls behind is cut off, and asks for the list again. It never deletes an
// alert.
package soc

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"pasban"
	"pasban/internal/detect"
	"pasban/internal/journal"
	"pasban/internal/store"
)

//go:embed migrations
var migrations embed.FS

const (
	// window is how long matches of one rule about one entity make one alert:
	// the hour of the clock in which the event happened.
	window = time.Hour
	// maxEvents is how many events an alert names; later ones are counted only.
	maxEvents = 500
	// subscriberBuffer is how many alerts a subscriber may fall behind.
	subscriberBuffer = 64
)

// State says how far the analysts are with an alert.
type State string

// The states of an alert.
const (
	New          State = "new"
	Acknowledged State = "acknowledged"
	Closed       State = "closed"
	Suppressed   State = "suppressed" // by a [Suppression]; nobody is told of it
)

// States lists the states in the order of work.
func States() []State { return []State{New, Acknowledged, Closed, Suppressed} }

// Verdict says what a closed alert turned out to be.
type Verdict string

// The verdicts.
const (
	TruePositive  Verdict = "true_positive"  // what the rule looks for, and it was an attack or misuse
	Benign        Verdict = "benign"         // what the rule looks for, but it was allowed
	FalsePositive Verdict = "false_positive" // not what the rule looks for
)

// Verdicts lists the verdicts.
func Verdicts() []Verdict { return []Verdict{TruePositive, Benign, FalsePositive} }

// Alert is what one rule found about one entity within one hour.
type Alert struct {
	ID          string // 32 hex digits
	RuleID      string
	Title       string
	Level       detect.Level
	Tags        []string
	Entity      string   // whom or what it is about: an actor's id, a client's address, a part of Pasban
	Why         []string // of the newest match, in words
	Parts       []string // of the rule, by which each of Why holds: search identifiers
	First, Last time.Time
	Count       int // events
	State       State
	Verdict     Verdict // of a closed one
	Suppression string  // the id of what suppresses it, or once did
}

// Techniques lists the ATT&CK techniques of the alert's rule.
func (a Alert) Techniques() []string { return detect.Techniques(a.Tags) }

// Note is a change of state or a remark.
type Note struct {
	At      time.Time
	State   State   // from then on
	Verdict Verdict // with which it was closed
	Who     string  // the actor's id; "" if the alert changed by itself
	Text    string
}

// Event is one event behind an alert.
type Event struct {
	Seq  uint64 // in the journal or, from detect.FirstReceived on, of received logs
	Fact string // its id
}

// Update tells a subscriber of an alert that is new or has changed.
type Update struct {
	Alert
	Fresh bool // the alert was not there before, or was closed; never of a suppressed one
}

// Center keeps the alerts of one store. It is safe for concurrent use.
type Center struct {
	st     *store.Store
	j      *journal.Journal
	sealer journal.Sealer
	agency string
	key    []byte // of alert ids

	mu   sync.Mutex // covers subs
	subs map[chan Update]struct{}

	suppressing suppressing
	counted     counted
}

// Open makes the tables if need be. sealer encrypts under the agency's key;
// agency is the id that facts about alerts carry.
func Open(ctx context.Context, st *store.Store, j *journal.Journal, sealer journal.Sealer, agency string) (*Center, error) {
	if err := st.Migrate(ctx, "soc", migrations); err != nil {
		return nil, err
	}
	c := &Center{st: st, j: j, sealer: sealer, agency: agency, subs: map[chan Update]struct{}{}}
	return c, c.loadKey(ctx)
}

// loadKey reads the key of alert ids, or makes it on first use.
func (c *Center) loadKey(ctx context.Context) error {
	aad := []byte("pasban/soc/v1 secret")
	fresh := make([]byte, 32)
	rand.Read(fresh)
	sealed, err := c.sealer.Seal(ctx, "", fresh, aad)
	if err != nil {
		return fmt.Errorf("seal the key of alert ids: %w", err)
	}
	err = c.st.Write(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec(`INSERT INTO soc_secret (id, sealed) VALUES (1, ?) ON CONFLICT (id) DO NOTHING`, sealed); err != nil {
			return err
		}
		return tx.QueryRow(`SELECT sealed FROM soc_secret WHERE id = 1`).Scan(&sealed)
	})
	if err != nil {
		return unavailable("read the key of alert ids", err)
	}
	if c.key, err = c.sealer.Open(ctx, "", sealed, aad); err != nil {
		return fmt.Errorf("open the key of alert ids: %w", err)
	}
	return nil
}

// alertID names the alert that a match belongs to. What is suppressed and what
// is not are two alerts. The entity, which may be anything, is written last.
func (c *Center) alertID(m detect.Match, suppression string) string {
	mac := hmac.New(sha256.New, c.key)
	if suppression != "" {
		fmt.Fprintf(mac, "suppressed %s\n", suppression)
	}
	fmt.Fprintf(mac, "%s\n%d\n%s", m.Rule.ID, m.Time.Unix()/int64(window/time.Second), m.Entity)
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// detail is the part of an alert that is sealed.
type detail struct {
	Entity string   `json:"entity"`
	Why    []string `json:"why"`
	Parts  []string `json:"parts,omitempty"`
}

func (c *Center) seal(ctx context.Context, v any, aad string) ([]byte, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("write an alert: %w", err)
	}
	sealed, err := c.sealer.Seal(ctx, "", plain, []byte("pasban/soc/v1 "+aad))
	if err != nil {
		return nil, fmt.Errorf("seal an alert: %w", err)
	}
	return sealed, nil
}

func (c *Center) unseal(ctx context.Context, sealed []byte, into any, aad string) error {
	plain, err := c.sealer.Open(ctx, "", sealed, []byte("pasban/soc/v1 "+aad))
	if err != nil {
		return fmt.Errorf("open an alert: %w", err)
	}
	return json.Unmarshal(plain, into)
}

// pending is what one batch of matches adds to one alert.
type pending struct {
	alert  Alert
	sealed []byte
	refs   []detect.Ref
	events map[uint64][]byte // received ones, sealed, by sequence number
	fresh  bool              // events joined it; set by the writer goroutine
	opened bool              // it was not there, or closed; set by the writer goroutine
}

// Handle turns matches into alerts: a new one, or more events of one that is
// there. It returns after they are durable. It is a detect.Sink.
func (c *Center) Handle(ctx context.Context, matches []detect.Match) error {
	batch, err := c.gather(ctx, matches)
	if err != nil {
		return err
	}
	err = c.st.Write(ctx, func(tx *store.Tx) error {
		for _, p := range batch {
			if err := c.merge(ctx, tx, p); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return unavailable("keep alerts", err)
	}
	for _, p := range batch {
		if p.fresh {
			c.publish(ctx, Update{p.alert, p.opened})
		}
	}
	return nil
}

// gather groups matches by alert, in the order of their first match.
func (c *Center) gather(ctx context.Context, matches []detect.Match) ([]*pending, error) {
	suppressions, err := c.suppressions(ctx)
	if err != nil {
		return nil, err
	}
	byID := map[string]*pending{}
	var batch []*pending
	for _, m := range matches {
		by := suppressedBy(suppressions, m)
		id := c.alertID(m, by)
		at := m.Time
		if at.IsZero() { // a fact whose time is not readable
			at = time.Now()
		}
		p := byID[id]
		if p == nil {
			p = &pending{events: map[uint64][]byte{}, alert: Alert{ID: id, RuleID: m.Rule.ID, Title: m.Rule.Title, Level: m.Rule.Level,
				Tags: m.Rule.Tags, Entity: m.Entity, First: at, Last: at, State: New, Suppression: by}}
			if by != "" {
				p.alert.State = Suppressed
			}
			byID[id] = p
			batch = append(batch, p)
		}
		p.alert.Why, p.alert.Parts = m.Why, m.Parts
		p.alert.Last = later(p.alert.Last, at)
		for _, ref := range m.Refs {
			p.refs = append(p.refs, ref)
			if !ref.Time.IsZero() && ref.Time.Before(p.alert.First) {
				p.alert.First = ref.Time
			}
		}
		if err := c.keep(ctx, p, m.Received); err != nil {
			return nil, err
		}
	}
	for _, p := range batch {
		var err error
		if p.sealed, err = c.seal(ctx, detail{p.alert.Entity, p.alert.Why, p.alert.Parts}, p.alert.ID); err != nil {
			return nil, err
		}
		slices.SortFunc(p.refs, func(a, b detect.Ref) int { return cmp.Compare(a.Seq, b.Seq) })
		p.refs = slices.CompactFunc(p.refs, func(a, b detect.Ref) bool { return a.Seq == b.Seq })
	}
	return batch, nil
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// row is what is in the store of an alert that a batch adds to.
type row struct {
	known       bool
	count, kept int
	newest      newest
	first, last int64
	state       State
	verdict     Verdict
}

// newest is the newest event that an alert has counted, of the journal and of
// received logs. Their numbers are apart: each tells nothing about the other.
type newest struct{ seq, log int64 }

// of is the place for events like ref.
func (n *newest) of(ref detect.Ref) *int64 {
	if ref.Seq >= detect.FirstReceived {
		return &n.log
	}
	return &n.seq
}

func readRow(tx *store.Tx, id string) (r row, err error) {
	err = tx.QueryRow(`SELECT count, kept, last_seq, last_log, first_at, last_at, state, verdict FROM soc_alert WHERE id = ?`, id).
		Scan(&r.count, &r.kept, &r.newest.seq, &r.newest.log, &r.first, &r.last, &r.state, &r.verdict)
	if errors.Is(err, sql.ErrNoRows) {
		return r, nil
	}
	r.known = err == nil
	return r, err
}

// uncounted leaves out the events that the alert has counted before. One that is
// older than the newest may be new all the same (a window that closed late): the
// events that the alert names tell. Once there are more than it names, their
// order has to do.
func uncounted(tx *store.Tx, id string, was row, refs []detect.Ref) (out []detect.Ref, err error) {
	if !was.known {
		return refs, nil
	}
	for _, ref := range refs {
		old := int64(ref.Seq) <= *was.newest.of(ref)
		if old && was.count > maxEvents {
			continue
		}
		if old {
			var named int
			if err := tx.QueryRow(`SELECT COUNT(*) FROM soc_alert_event WHERE alert = ? AND seq = ?`, id, int64(ref.Seq)).Scan(&named); err != nil {
				return nil, err
			}
			if named > 0 {
				continue
			}
		}
		out = append(out, ref)
	}
	return out, nil
}

// merge adds what is new to the alert's row. Runs on the store's writer goroutine.
func (c *Center) merge(ctx context.Context, tx *store.Tx, p *pending) error {
	a := p.alert
	was, err := readRow(tx, a.ID)
	if err != nil {
		return err
	}
	refs, err := uncounted(tx, a.ID, was, p.refs)
	if err != nil {
		return err
	}
	p.fresh = len(refs) > 0
	if !p.fresh {
		return nil
	}
	p.opened = (!was.known || was.state == Closed) && a.Suppression == ""
	for _, ref := range refs {
		at := was.newest.of(ref)
		*at = max(*at, int64(ref.Seq))
	}
	a.Count = was.count + len(refs)
	if was.known {
		a.First, a.Last = time.UnixMilli(min(was.first, a.First.UnixMilli())).UTC(), time.UnixMilli(max(was.last, a.Last.UnixMilli())).UTC()
		a.State, a.Verdict = was.state, was.verdict
		if p.opened {
			a.State, a.Verdict = New, ""
			if err := c.note(ctx, tx, a.ID, Note{At: a.Last, State: New, Text: "opened again: the rule goes on matching"}); err != nil {
				return err
			}
		}
	}
	if err := p.writeEvents(tx, refs, &was); err != nil {
		return err
	}
	if err := writeAlert(tx, a, p.sealed, was); err != nil {
		return err
	}
	p.alert = a
	return nil
}

func writeAlert(tx *store.Tx, a Alert, sealed []byte, r row) error {
	tags, err := json.Marshal(a.Tags)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO soc_alert (id, rule, title, level, tags, detail, first_at, last_at, count, kept, last_seq, last_log, state, verdict, suppression)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET title = excluded.title, level = excluded.level, tags = excluded.tags, detail = excluded.detail,
			first_at = excluded.first_at, last_at = excluded.last_at, count = excluded.count, kept = excluded.kept,
			last_seq = excluded.last_seq, last_log = excluded.last_log, state = excluded.state, verdict = excluded.verdict`,
		a.ID, a.RuleID, a.Title, int(a.Level), string(tags), sealed, a.First.UnixMilli(), a.Last.UnixMilli(), a.Count, r.kept,
		r.newest.seq, r.newest.log, string(a.State), string(a.Verdict), a.Suppression)
	return err
}

// writeEvents names events until the alert names enough, and keeps the fields of
// received ones until it keeps enough of them.
func (p *pending) writeEvents(tx *store.Tx, refs []detect.Ref, r *row) error {
	for _, ref := range refs[:max(0, min(len(refs), maxEvents-r.count))] {
		var sealed []byte
		if r.kept < maxKept && p.events[ref.Seq] != nil {
			sealed = p.events[ref.Seq]
			r.kept++
		}
		if _, err := tx.Exec(`INSERT INTO soc_alert_event (alert, seq, fact, detail) VALUES (?, ?, ?, ?) ON CONFLICT (alert, seq) DO NOTHING`,
			p.alert.ID, int64(ref.Seq), ref.ID, sealed); err != nil {
			return err
		}
	}
	return nil
}

// Subscribe returns a channel of alerts as they are new, gain events or change
// their state, and a function that ends it. The channel is closed when the
// subscriber falls behind by more than 64 alerts: it should then read the list again.
func (c *Center) Subscribe() (<-chan Update, func()) {
	ch := make(chan Update, subscriberBuffer)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subs[ch] = struct{}{}
	return ch, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.cut(ch)
	}
}

// cut ends a subscription; the caller holds mu.
func (c *Center) cut(ch chan Update) {
	if _, ok := c.subs[ch]; ok {
		delete(c.subs, ch)
		close(ch)
	}
}

func (c *Center) publish(ctx context.Context, a Update) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for ch := range c.subs {
		select {
		case ch <- a:
		default:
			slog.WarnContext(ctx, "soc: a subscriber fell behind and is cut off")
			c.cut(ch)
		}
	}
}

func unavailable(msg string, err error) error {
	if e, ok := errors.AsType[*pasban.Error](err); ok {
		return e
	}
	return &pasban.Error{Kind: pasban.Unavailable, Where: "soc", Msg: msg, Err: err}
}
