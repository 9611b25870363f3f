// Package soc keeps alerts: what detection found, whom it is about, why, which
// facts are behind it, and what the analysts did about it.
//
// # Main types
//
// An [Alert] gathers the matches of one rule about one entity within one hour.
// A [Center] keeps alerts in the store, hands new ones to subscribers, and
// changes their state for analysts.
//
// # The way of a match
//
//	detect.Engine.Run → Center.Handle → one row per alert → Subscribe
//
// A change of state goes through the journal: the row and the fact that says
// who changed it and why are committed together.
//
// # Guarantees
//
//   - An alert's id follows from rule, entity and hour, and its events are
//     counted by their place in the journal. Matches that are handed over again
//     after a crash change nothing.
//   - When Handle returns nil the alerts are durable.
//   - An alert that was closed opens again by itself when new events join it.
//   - Whom an alert is about, why, and what analysts wrote lie encrypted under
//     the agency's key; the id is a keyed hash.
//
// # What it must never do
//
// It never drops a match because someone is slow to read: a subscriber that
// falls behind is cut off, and asks for the list again. It never deletes an
// alert.
package soc

import (
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
)

// States lists the states in the order of work.
func States() []State { return []State{New, Acknowledged, Closed} }

// Alert is what one rule found about one entity within one hour.
type Alert struct {
	ID          string // 32 hex digits
	RuleID      string
	Title       string
	Level       detect.Level
	Tags        []string
	Entity      string   // whom or what it is about: an actor's id, a client's address, a part of Pasban
	Why         []string // of the newest match, in words
	First, Last time.Time
	Count       int // events
	State       State
}

// Techniques lists the ATT&CK techniques of the alert's rule.
func (a Alert) Techniques() []string { return detect.Techniques(a.Tags) }

// Note is a change of state or a remark.
type Note struct {
	At    time.Time
	State State  // from then on
	Who   string // the actor's id; "" if the alert changed by itself
	Text  string
}

// Event is one fact behind an alert.
type Event struct {
	Seq  uint64
	Fact string // its id
}

// Update tells a subscriber of an alert that is new or has changed.
type Update struct {
	Alert
	Fresh bool // the alert was not there before, or was closed
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

// alertID names the alert that a match belongs to.
func (c *Center) alertID(m detect.Match) string {
	mac := hmac.New(sha256.New, c.key)
	fmt.Fprintf(mac, "%s\n%d\n%s", m.Rule.ID, m.Time.Unix()/int64(window/time.Second), m.Entity)
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// detail is the part of an alert that is sealed.
type detail struct {
	Entity string   `json:"entity"`
	Why    []string `json:"why"`
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
	fresh  bool // events joined it; set by the writer goroutine
	opened bool // it was not there, or closed; set by the writer goroutine
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
	byID := map[string]*pending{}
	var batch []*pending
	for _, m := range matches {
		id := c.alertID(m)
		at := m.Time
		if at.IsZero() { // a fact whose time is not readable
			at = time.Now()
		}
		p := byID[id]
		if p == nil {
			p = &pending{alert: Alert{ID: id, RuleID: m.Rule.ID, Title: m.Rule.Title, Level: m.Rule.Level,
				Tags: m.Rule.Tags, Entity: m.Entity, First: at, Last: at, State: New}}
			byID[id] = p
			batch = append(batch, p)
		}
		p.alert.Why = m.Why
		p.alert.Last = later(p.alert.Last, at)
		for _, ref := range m.Refs {
			p.refs = append(p.refs, ref)
			if !ref.Time.IsZero() && ref.Time.Before(p.alert.First) {
				p.alert.First = ref.Time
			}
		}
	}
	for _, p := range batch {
		var err error
		if p.sealed, err = c.seal(ctx, detail{p.alert.Entity, p.alert.Why}, p.alert.ID); err != nil {
			return nil, err
		}
		slices.SortFunc(p.refs, func(a, b detect.Ref) int { return int(int64(a.Seq) - int64(b.Seq)) })
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

// merge adds what is new to the alert's row. Runs on the store's writer goroutine.
func (c *Center) merge(ctx context.Context, tx *store.Tx, p *pending) error {
	var count, lastSeq, first, last int64
	var state State
	a := &p.alert
	err := tx.QueryRow(`SELECT count, last_seq, first_at, last_at, state FROM soc_alert WHERE id = ?`, a.ID).
		Scan(&count, &lastSeq, &first, &last, &state)
	known := err == nil
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	refs := p.refs
	for known && len(refs) > 0 && int64(refs[0].Seq) <= lastSeq {
		refs = refs[1:] // counted before
	}
	p.fresh = len(refs) > 0
	if !p.fresh {
		return nil
	}
	p.opened = !known || state == Closed
	newest := int64(refs[len(refs)-1].Seq)
	a.Count = int(count) + len(refs)
	if known {
		a.First, a.Last = time.UnixMilli(min(first, a.First.UnixMilli())).UTC(), time.UnixMilli(max(last, a.Last.UnixMilli())).UTC()
		if a.State = state; state == Closed {
			a.State = New
			if err := c.note(ctx, tx, a.ID, Note{At: a.Last, State: New, Text: "opened again: the rule goes on matching"}); err != nil {
				return err
			}
		}
	}
	tags, err := json.Marshal(a.Tags)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO soc_alert (id, rule, title, level, tags, detail, first_at, last_at, count, last_seq, state)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET title = excluded.title, level = excluded.level, tags = excluded.tags, detail = excluded.detail,
			first_at = excluded.first_at, last_at = excluded.last_at, count = excluded.count, last_seq = excluded.last_seq, state = excluded.state`,
		a.ID, a.RuleID, a.Title, int(a.Level), string(tags), p.sealed, a.First.UnixMilli(), a.Last.UnixMilli(), a.Count, newest, string(a.State))
	if err != nil {
		return err
	}
	for _, ref := range refs[:max(0, min(len(refs), maxEvents-int(count)))] {
		if _, err := tx.Exec(`INSERT INTO soc_alert_event (alert, seq, fact) VALUES (?, ?, ?) ON CONFLICT (alert, seq) DO NOTHING`,
			a.ID, int64(ref.Seq), ref.ID); err != nil {
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
