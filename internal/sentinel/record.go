package sentinel

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"pasban"
	"pasban/internal/sentinel/rowtree"
	"pasban/internal/store"
)

// maxAlarms is how many rows of one batch or audit get an alarm of their own;
// the others share one.
const maxAlarms = 20

// record makes changes part of the state: the batch on disk, then one
// transaction with its fact, the alarms and the place in the stream. about adds
// to the batch's fact. The caller holds mu.
func (t *table) record(ctx context.Context, seen []sighting, rec record, about func(*pasban.Fact)) error {
	b := &batch{N: t.st.batch + 1}
	f := t.s.fact(pasban.KindChange, t.g.Name, "rows")
	b.Fact = f.Body.ID
	bad, good, err := t.settle(seen, b)
	if err != nil {
		return err
	}
	root, _, err := b.root()
	if err != nil {
		return err
	}
	chain := link(t.st.chain, root)
	size, err := t.st.write(b)
	if err != nil {
		return unavailable("the state cannot be written", err)
	}
	f.Restricted.More = map[string]string{
		"batch": fmt.Sprint(b.N), "changes": fmt.Sprint(len(b.Changes)), "unauthorised": fmt.Sprint(len(bad)),
		"batch_root": hexOf(root[:]), "chain": hexOf(chain), "baseline": rec.Baseline, "source": t.g.Table,
	}
	if ids := t.ordersOf(seen); ids != "" {
		f.Restricted.More["orders"] = ids
	}
	if about != nil {
		about(&f)
	}
	facts := append([]pasban.Fact{f}, t.alarms(bad)...)
	rec.Last = b.Fact
	_, err = t.s.o.Journal.Commit(ctx, func(tx *store.Tx) ([]pasban.Fact, error) {
		if err := t.keepDifferences(ctx, tx, bad); err != nil {
			return nil, err
		}
		if err := t.closeDifferences(tx, good); err != nil {
			return nil, err
		}
		return facts, t.s.save(ctx, tx, t.g.Name, rec)
	})
	if err != nil {
		return unavailable("the changes cannot be recorded", err)
	}
	t.st.keep(b, size, chain)
	t.rec = rec
	t.status.Changes += int64(len(b.Changes))
	t.status.Refused += int64(len(bad))
	return nil
}

// closing is a difference that a change put right.
type closing struct {
	key   []byte
	state string
}

// latest is what a batch has made of a row so far.
type latest struct {
	line []byte // as it is now
	good []byte // as it was last authorised
}

// latestOf is a row before its first change in a batch.
func (t *table) latestOf(key []byte) (l latest, err error) {
	if l.good, _, err = t.st.authorised(key); err != nil {
		return l, err
	}
	l.line = l.good
	if vs := t.st.over[string(key)]; len(vs) > 0 {
		l.line = vs[len(vs)-1].line
	}
	return l, nil
}

// settle completes the changes of a batch in order: values that were not sent,
// repairs that were ordered, rows that still carry what nobody authorised.
func (t *table) settle(seen []sighting, b *batch) (bad []Difference, good []closing, err error) {
	local := map[string]latest{}
	for i := range seen {
		c := &seen[i]
		l, here := local[string(c.Key)]
		// Reading the row as it was costs: only where it can matter.
		if !here && c.Op != opTruncate && (c.Verdict != "" || len(c.missing) > 0 || t.st.tainted(c.Key)) {
			if l, err = t.latestOf(c.Key); err == nil && c.Op == opRevoke {
				l.good, _, err = t.st.authorisedBefore(c.Key, c.XID)
			}
			if err != nil {
				return nil, nil, err
			}
			here = true
		}
		if len(c.missing) > 0 {
			c.complete(l.line)
		}
		if c.values != nil {
			c.Line = rowtree.AppendLine(nil, c.values)
		}
		if c.Line != nil {
			h := t.st.h.Row(c.Line)
			c.Row = h[:]
		}
		ordered := t.ordered(c)
		if ordered {
			c.Verdict = ""
		}
		if here && c.Op == opUpdate && c.Verdict == "" && !ordered && !bytes.Equal(l.line, l.good) && !bytes.Equal(c.Line, l.good) {
			c.Verdict = "the row still carries a change that nobody authorised"
		}
		b.Changes = append(b.Changes, c.change)
		switch {
		case c.Verdict != "":
			bad = append(bad, t.difference(c, l.good))
		case ordered && t.orders[c.order].login == "":
			good = append(good, closing{c.Key, "repaired"})
		case c.Op == opAccept:
			good = append(good, closing{c.Key, "accepted"})
		case here:
			good = append(good, closing{c.Key, "gone"})
		}
		if l.line = c.Line; c.Verdict == "" {
			l.good = c.Line
		}
		local[string(c.Key)] = l
	}
	return bad, good, nil
}

// complete fills in values that did not change and so were not sent.
func (c *sighting) complete(was []byte) {
	values, err := rowtree.ParseLine(was)
	if err != nil || len(values) != len(c.values) { // the row was not known: the next audit shows it
		values = make([]rowtree.Value, len(c.values))
	}
	for _, i := range c.missing {
		c.values[i] = values[i]
	}
}

// ordered reports whether the change is one that two people decided on: exactly
// the row of a repair, or one of a change order by the role that it names.
func (t *table) ordered(c *sighting) bool {
	o, ok := t.orders[c.order]
	if !ok || c.order == "" || c.at.After(o.until) || o.closed > 0 && c.LSN >= o.closed || c.Op == opTruncate {
		return false
	}
	if o.login != "" {
		return c.login == o.login
	}
	want, listed := o.rows[string(c.Key)]
	return listed && bytes.Equal(want, c.Line) && (want == nil) == (c.Line == nil)
}

// ordersOf names the requests that changes were made under.
func (t *table) ordersOf(seen []sighting) string {
	var ids []string
	for i := range seen {
		if c := &seen[i]; c.order != "" && t.ordered(c) && !slices.Contains(ids, c.order) {
			ids = append(ids, c.order)
		}
	}
	return strings.Join(bound(ids, 20), ", ")
}

// difference tells of a change that nobody authorised.
func (t *table) difference(c *sighting, authorised []byte) Difference {
	d := Difference{ID: t.rowID(c.Key), Found: time.Now().UTC(), State: "open", Key: string(c.Key), By: c.who, Why: c.Op + ": " + c.Verdict}
	t.describe(&d, authorised, c.Line)
	if c.Op == opTruncate {
		d.Kind = "missing"
		return d
	}
	before := uint64(1 << 63)
	if c.Op == opRevoke {
		before = c.XID
	}
	if _, v, err := t.st.authorisedBefore(c.Key, before); err == nil {
		d.Leaf = t.leafOf(v)
	}
	return d
}

// leafOf is the fact whose leaf commits to an authorised version.
func (t *table) leafOf(v version) string {
	if v.batch == 0 {
		return t.rec.Anchor
	}
	return t.st.facts[v.batch]
}

func (t *table) describe(d *Difference, before, after []byte) {
	text := func(b []byte) *string {
		if b == nil {
			return nil
		}
		s := string(b)
		return &s
	}
	d.Before, d.After, d.Columns = text(before), text(after), t.columnsOf(before, after)
	d.Contested = slices.Contains(t.rec.Contested, d.Key)
	switch {
	case before == nil && after != nil:
		d.Kind = "extra"
	case after == nil:
		d.Kind = "missing"
	default:
		d.Kind = "changed"
	}
}

// rowID names a row without its key.
func (t *table) rowID(key []byte) string {
	m := hmac.New(sha256.New, t.st.Layout.Salt)
	m.Write(key)
	return hexOf(m.Sum(nil)[:16])
}

// alarms are the facts about changes that nobody authorised. They set the
// differences' facts.
func (t *table) alarms(bad []Difference) []pasban.Fact {
	var out []pasban.Fact
	for i := range bad {
		d := &bad[i]
		if i >= maxAlarms {
			out[maxAlarms-1].Restricted.Reasons = append(out[maxAlarms-1].Restricted.Reasons, fmt.Sprintf("and %d more rows of the same moment", len(bad)-i))
			for k := i; k < len(bad); k++ {
				bad[k].Fact = out[maxAlarms-1].Body.ID
			}
			break
		}
		action := "table-changed"
		if d.Why == auditWhy {
			action = "table-differs"
		}
		more := map[string]string{"row": d.Key, "kind": d.Kind, "by": d.By, "problem": d.Kind, "version": d.Leaf}
		for name, line := range map[string]*string{"before": d.Before, "after": d.After} {
			if line != nil {
				more[name] = clip(*line)
			}
		}
		f := t.alarmFact(action, []string{d.Why, "row " + clip(d.Key)}, more)
		if d.By != "" {
			f.Restricted.Reasons = append(f.Restricted.Reasons, "by "+d.By)
		}
		f.Body.Fields = d.Columns
		d.Fact = f.Body.ID
		out = append(out, f)
	}
	return out
}

// clip keeps a row in a fact short; the whole of it is with the difference.
func clip(s string) string {
	const most = 4000
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// keepDifferences writes differences, or what is new about them, as long as
// there is room: an audit finds the others again. Runs on the store's writer
// goroutine.
func (t *table) keepDifferences(ctx context.Context, tx *store.Tx, list []Difference) error {
	if len(list) == 0 {
		return nil
	}
	var open int
	if err := tx.QueryRow(`SELECT COUNT(*) FROM sentinel_difference WHERE tbl = ? AND state = 'open'`, t.g.Name).Scan(&open); err != nil {
		return err
	}
	for _, d := range list[:min(len(list), max(maxDifferences-open, 0))] {
		sealed, err := t.s.seal(ctx, d, "difference "+t.g.Name+" "+d.ID)
		if err != nil {
			return err
		}
		_, err = tx.Exec(`INSERT INTO sentinel_difference (tbl, id, at, state, detail) VALUES (?, ?, ?, 'open', ?)
			ON CONFLICT (tbl, id) DO UPDATE SET at = excluded.at, state = excluded.state, detail = excluded.detail`, t.g.Name, d.ID, d.Found.UnixMilli(), sealed)
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *table) closeDifferences(tx *store.Tx, rows []closing) error {
	for _, c := range rows {
		if _, err := tx.Exec(`UPDATE sentinel_difference SET state = ? WHERE tbl = ? AND id = ? AND state = 'open'`, c.state, t.g.Name, t.rowID(c.key)); err != nil {
			return err
		}
	}
	return nil
}

// keepPlace changes the record alone.
func (t *table) keepPlace(ctx context.Context, change func(*record)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	rec := t.rec
	change(&rec)
	err := t.s.o.Store.Write(ctx, func(tx *store.Tx) error { return t.s.save(ctx, tx, t.g.Name, rec) })
	if err != nil {
		return unavailable("keep the place in the stream", err)
	}
	t.rec = rec
	return nil
}
