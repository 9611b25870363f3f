package soc

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/journal"
	"pasban/internal/store"
)

const (
	// maxTerm is the longest that an analyst's exclusion lasts.
	maxTerm = 366 * 24 * time.Hour
	// maxOpen is how many may be in force at once.
	maxOpen = 200
	// remembered is how long an exclusion is listed after its end.
	remembered = 90 * 24 * time.Hour
)

// Exclusion is a false alarm of the firewall that an analyst put an end to.
type Exclusion struct {
	ID   string // 32 hex digits
	Host string // the site's, as the configuration has it
	config.Exclusion
	Event   string    // the fact that it was made from
	Made    time.Time //
	By      string    // the actor's id
	Ended   time.Time // early, by EndedBy; zero if it was not
	EndedBy string
}

// InForce reports whether the exclusion works at the given time.
func (e Exclusion) InForce(now time.Time) bool { return e.Ended.IsZero() && now.Before(e.Until()) }

// exclusionDetail is the part of an exclusion that is sealed.
type exclusionDetail struct {
	Host      string           `json:"host"`
	Exclusion config.Exclusion `json:"exclusion"`
	Event     string           `json:"event,omitempty"`
	By        string           `json:"by"`
}

// CheckExclusion says what is wrong with an exclusion that an analyst wants to
// make; whether there is such a site or route is for the caller to know.
func CheckExclusion(e Exclusion, now time.Time) error {
	for _, f := range e.Faults() {
		return &pasban.Error{Kind: pasban.Invalid, Where: f.Field, Msg: f.Msg, Hint: f.Hint}
	}
	if d := e.Until().Sub(now); d <= 0 || d > maxTerm {
		return &pasban.Error{Kind: pasban.Invalid, Where: "expires", Msg: "an exclusion ends after today and within a year"}
	}
	return nil
}

// Exclude keeps an exclusion, with the fact that says who made it and why. It
// returns after both are durable. Errors: Forbidden unless the actor is an
// analyst, Invalid if it has a fault, Limited if there are too many.
func (c *Center) Exclude(ctx context.Context, actor pasban.Actor, e Exclusion) (Exclusion, error) {
	now := time.Now().UTC()
	if actor.Role != pasban.RoleAnalyst {
		return e, &pasban.Error{Kind: pasban.Forbidden, Msg: "only analysts make exclusions"}
	}
	if err := CheckExclusion(e, now); err != nil {
		return e, err
	}
	e.ID, e.Made, e.By = pasban.NewID(), now, actor.ID
	sealed, err := c.seal(ctx, exclusionDetail{e.Host, e.Exclusion, e.Event, e.By}, "exclusion "+e.ID)
	if err != nil {
		return e, err
	}
	_, err = c.j.Commit(ctx, func(tx *store.Tx) ([]pasban.Fact, error) {
		var open int
		if err := tx.QueryRow(`SELECT COUNT(*) FROM soc_exclusion WHERE ended = 0 AND until > ?`, now.UnixMilli()).Scan(&open); err != nil {
			return nil, err
		}
		if open >= maxOpen {
			return nil, &pasban.Error{Kind: pasban.Limited, Msg: fmt.Sprintf("%d exclusions are in force", open), Hint: "end some of them first"}
		}
		_, err := tx.Exec(`INSERT INTO soc_exclusion (id, at, until, ended, detail, ending) VALUES (?, ?, ?, 0, ?, ?)`,
			e.ID, now.UnixMilli(), e.Until().UnixMilli(), sealed, []byte{})
		return []pasban.Fact{c.exclusionFact(actor, "waf.exclude", e, e.Reason, now)}, err
	})
	if err != nil {
		return e, unavailable("keep an exclusion", err)
	}
	return e, nil
}

// EndExclusion ends an exclusion early. Ending one that has ended changes
// nothing. Errors: Forbidden unless the actor is an analyst, NotFound.
func (c *Center) EndExclusion(ctx context.Context, actor pasban.Actor, id string) error {
	if actor.Role != pasban.RoleAnalyst {
		return &pasban.Error{Kind: pasban.Forbidden, Msg: "only analysts end exclusions"}
	}
	now := time.Now().UTC()
	sealed, err := c.seal(ctx, noteDetail{Who: actor.ID}, "exclusion-end "+id)
	if err != nil {
		return err
	}
	list, err := c.exclusions(ctx, `WHERE id = ?`, id)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return &pasban.Error{Kind: pasban.NotFound, Msg: "there is no such exclusion"}
	}
	_, err = c.j.Commit(ctx, func(tx *store.Tx) ([]pasban.Fact, error) {
		res, err := tx.Exec(`UPDATE soc_exclusion SET ended = ?, ending = ? WHERE id = ? AND ended = 0 AND until > ?`, now.UnixMilli(), sealed, id, now.UnixMilli())
		if err != nil {
			return nil, err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return nil, err
		}
		return []pasban.Fact{c.exclusionFact(actor, "waf.exclude-end", list[0], "", now)}, nil
	})
	if err != nil {
		return unavailable("end an exclusion", err)
	}
	return nil
}

func (c *Center) exclusionFact(actor pasban.Actor, action string, e Exclusion, reason string, now time.Time) pasban.Fact {
	f := c.fact(actor, action, e.ID, reason, now)
	f.Body.Service = "waf"
	f.Restricted.More["host"], f.Restricted.More["exclusion"], f.Restricted.More["expires"] = e.Host, e.Subject(), e.Expires
	return f
}

// Exclusions lists those in force, and those that ended within ninety days,
// newest first.
func (c *Center) Exclusions(ctx context.Context) ([]Exclusion, error) {
	since := time.Now().Add(-remembered).UnixMilli()
	return c.exclusions(ctx, `WHERE until > ? AND (ended = 0 OR ended > ?) ORDER BY at DESC, id LIMIT ?`, since, since, 1000)
}

// ExclusionsVersion changes whenever an exclusion is made or ended, by any node.
func (c *Center) ExclusionsVersion(ctx context.Context) (string, error) {
	var n, made, ended int64 // the sum of ends: the newest end is not the last to be written if clocks differ
	err := c.st.QueryRow(ctx, `SELECT COUNT(*), COALESCE(MAX(at), 0), CAST(COALESCE(SUM(ended), 0) AS BIGINT) FROM soc_exclusion`).Scan(&n, &made, &ended)
	if err != nil {
		return "", unavailable("read exclusions", err)
	}
	return fmt.Sprint(n, made, ended), nil
}

func (c *Center) exclusions(ctx context.Context, rest string, args ...any) ([]Exclusion, error) {
	list, err := c.readExclusions(ctx, rest, args...)
	if err != nil {
		return nil, unavailable("read exclusions", err)
	}
	return list, nil
}

func (c *Center) readExclusions(ctx context.Context, rest string, args ...any) ([]Exclusion, error) {
	rows, err := c.st.Query(ctx, `SELECT id, at, ended, detail, ending FROM soc_exclusion `+rest, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []Exclusion
	var details, endings [][]byte
	for rows.Next() {
		var e Exclusion
		var at, ended int64
		var detail, ending []byte
		if err := rows.Scan(&e.ID, &at, &ended, &detail, &ending); err != nil {
			return nil, err
		}
		e.Made = time.UnixMilli(at).UTC()
		if ended > 0 {
			e.Ended = time.UnixMilli(ended).UTC()
		}
		list, details, endings = append(list, e), append(details, detail), append(endings, ending)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	for i := range list {
		e := &list[i]
		var d exclusionDetail
		if err := c.unseal(ctx, details[i], &d, "exclusion "+e.ID); err != nil {
			return nil, err
		}
		e.Host, e.Exclusion, e.Event, e.By = d.Host, d.Exclusion, d.Event, d.By
		if e.EndedBy, err = c.who(ctx, endings[i], "exclusion-end "+e.ID); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// WithExclusions returns the configuration with the exclusions that are in
// force at its sites. Those for a site or route that is no longer there are
// left out. c itself stays as it is.
func WithExclusions(c *config.Config, list []Exclusion, now time.Time) *config.Config {
	out := *c
	out.Sites = slices.Clone(c.Sites)
	for i := range out.Sites {
		s := &out.Sites[i]
		s.WAF.Exclusions = slices.Clone(s.WAF.Exclusions)
		for _, e := range list {
			there := e.Route == "" || slices.ContainsFunc(s.Routes, func(r config.Route) bool { return r.Match == e.Route })
			if e.Host == s.Host && e.InForce(now) && there {
				s.WAF.Exclusions = append(s.WAF.Exclusions, e.Exclusion)
			}
		}
	}
	return &out
}

// Hit is one place in a blocked request at which a rule matched. Shape tells
// what was there without the words and numbers that a visitor wrote.
type Hit struct {
	Rule   int    `json:"rule"`
	Msg    string `json:"msg"` // at the last link of a chain
	Target string `json:"at"`
	Shape  string `json:"shape"`
	Level  int    `json:"level"` // of a chain of conditions
	Score  int    `json:"score"` // what it adds to the anomaly score
}

// threshold is the anomaly score at which the Core Rule Set blocks.
const threshold = 5

// Block is a request that the firewall blocked, or would have.
type Block struct {
	Event  string // the fact's id
	Time   string // RFC 3339 UTC
	Name   string // the service's, as facts carry it
	Host   string // that was asked for
	Route  string // pattern of the route, "" if none or one of Pasban's own pages
	Method string
	Hits   []Hit
}

// BlockOf reads a fact about a request that the firewall stopped; ok is false
// if it is none, or one without the places.
func BlockOf(e journal.Entry) (b Block, ok bool) {
	body, r := e.Fact.Body, e.Fact.Restricted
	if body.Kind != pasban.KindBlock || body.Action != "waf" {
		return b, false
	}
	b = Block{Event: body.ID, Time: body.Time, Name: body.Service, Host: r.Host, Route: r.More["route"], Method: r.Method}
	err := json.Unmarshal([]byte(r.More["matches"]), &b.Hits)
	return b, err == nil && len(b.Hits) > 0
}

// Blocks returns the newest requests that the firewall blocked, at most max.
func (c *Center) Blocks(ctx context.Context, max int) ([]Block, error) {
	entries, err := c.j.Latest(ctx, pasban.KindBlock, 100_000, max)
	if err != nil {
		return nil, err
	}
	var blocks []Block
	for _, e := range entries {
		if b, ok := BlockOf(e); ok {
			blocks = append(blocks, b)
		}
	}
	return blocks, nil
}

// Frees reports what the exclusion of rules by id would have done to a block:
// whether it is about it at all, and whether what is left would not have been
// enough to block. A rule with a chain of conditions no longer matches if one
// of them has nothing left to look at.
func (b Block) Frees(e config.Exclusion) (touched, free bool) {
	if e.Route != "" && e.Route != b.Route || e.Method != "" && e.Method != b.Method {
		return false, false
	}
	type link struct{ rule, level int }
	before, after := map[link]int{}, map[link]int{}
	for _, h := range b.Hits {
		before[link{h.Rule, h.Level}]++
		if !removes(e, h) {
			after[link{h.Rule, h.Level}]++
		}
	}
	off := map[int]bool{}
	for l := range before {
		if after[l] == 0 {
			off[l.rule] = true
		}
	}
	score := 0
	for _, h := range b.Hits {
		switch gone := removes(e, h); {
		case gone:
			touched = true
		case !off[h.Rule]:
			score += h.Score
		}
	}
	return touched, touched && score < threshold
}

// removes reports whether a hit would not be looked at.
func removes(e config.Exclusion, h Hit) bool {
	if !slices.ContainsFunc(e.Rules, func(r config.RuleRange) bool {
		first, last, ok := r.Bounds()
		return ok && h.Rule >= first && h.Rule <= last
	}) {
		return false
	}
	if e.Target == "" || strings.EqualFold(e.Target, h.Target) {
		return true
	}
	variable, _, _ := strings.Cut(h.Target, ":")
	return e.Target == variable
}

// RuleOf is the rule of a hit as an exclusion names it.
func (h Hit) RuleOf() config.RuleRange { return config.RuleRange(strconv.Itoa(h.Rule)) }
