package sentinel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"pasban"
	"pasban/internal/sentinel/rowtree"
	"pasban/internal/store"
)

// auditWhy is what a difference says that an audit found and the stream did not see.
const auditWhy = "the row is not what was authorised, and no change was seen"

const (
	// markWait is how long the stream may take to come to a mark.
	markWait = 60 * time.Second
	// maxBuckets is how many buckets that differ are compared row by row at once.
	maxBuckets = 4096
)

// AuditResult is what an audit found.
type AuditResult struct {
	Table       string       `json:"table"`
	Rows        int64        `json:"rows"`
	Expected    int64        `json:"expected_rows"`
	Root        string       `json:"root"`          // of the table as it was read
	Authorised  string       `json:"expected_root"` // of the state
	Differences []Difference `json:"differences"`
	More        int          `json:"more_buckets,omitempty"` // that differ and were not compared row by row
	Fact        string       `json:"fact"`
	MS          int64        `json:"ms"`
}

type auditDone struct {
	result AuditResult
	err    error
}

// keepAuditing audits at the configured pace, and whenever it is asked to.
func (t *table) keepAuditing(ctx context.Context) {
	tick := time.NewTicker(t.g.Audit)
	defer tick.Stop()
	for {
		var answer chan auditDone
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case answer = <-t.audits:
		}
		result, err := t.audit(ctx)
		if err != nil && ctx.Err() == nil {
			t.log.Error("the audit failed", "err", err)
			if err := t.alarm(ctx, "table-lag", "audit", []string{"the audit failed: " + err.Error()}, nil); err != nil {
				t.log.Error("the alarm could not be recorded", "err", err)
			}
		}
		if answer != nil {
			answer <- auditDone{result, err}
		}
		t.writeStatus(ctx)
	}
}

// audit compares the whole table with the state.
func (t *table) audit(ctx context.Context) (res AuditResult, err error) {
	start := time.Now()
	t.mu.Lock()
	if t.st == nil {
		t.mu.Unlock()
		return res, errors.New("the state is closed")
	}
	layout := t.st.Layout
	t.views++ // before the snapshot: what it may ask for is kept
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		t.views--
		t.mu.Unlock()
	}()
	v, err := t.src.begin(ctx)
	if err != nil {
		return res, err
	}
	defer v.close()
	behind, err := t.markStream(ctx)
	if err != nil {
		return res, err
	}
	defer behind.forget()
	sum := rowtree.NewSum(layout)
	if err := t.src.copy(ctx, v, "", sum); err != nil {
		return res, err
	}
	got := sum.Hashes()
	if err := behind.await(ctx); err != nil {
		return res, err
	}
	want, rows, expected, err := t.expect(got, v.sees)
	if err != nil {
		return res, err
	}
	root, authorised := rowtree.Root(layout.ID(), sum.Rows, got), rowtree.Root(layout.ID(), rows, want)
	res = AuditResult{Table: t.g.Name, Rows: sum.Rows, Expected: rows, Root: hexOf(root[:]), Authorised: hexOf(authorised[:]), Differences: []Difference{}, More: expected.more}
	if len(expected.rows) > 0 {
		found := &picker{h: rowtree.NewHasher(layout), buckets: expected.buckets, rows: map[string][][]byte{}}
		if err := t.src.copy(ctx, v, "", found); err != nil {
			return res, err
		}
		if res.Differences, err = t.compare(expected, found); err != nil {
			return res, err
		}
	}
	res.MS = time.Since(start).Milliseconds()
	return res, t.concludeAudit(ctx, &res)
}

// mark is a place in the server's log that somebody waits for the stream to
// come to.
type mark struct {
	t       *table
	id      string
	reached chan struct{} // closed when the stream has recorded all before it
}

// markStream writes a mark into the server's log, behind everything that a
// snapshot taken before sees. Whoever gets one forgets it.
func (t *table) markStream(ctx context.Context) (*mark, error) {
	conn, err := t.src.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	m := &mark{t: t, id: pasban.NewID(), reached: make(chan struct{})}
	t.mu.Lock()
	t.marks[m.id] = m.reached
	t.mu.Unlock()
	if _, err := conn.Exec(ctx, `SELECT pg_logical_emit_message(true, $1, $2)`, markPrefix, m.id); err != nil {
		m.forget()
		return nil, t.src.fail("a mark cannot be written into the server's log", err)
	}
	return m, nil
}

// forget ends the wait for a mark, whether it was reached or not.
func (m *mark) forget() {
	m.t.mu.Lock()
	defer m.t.mu.Unlock()
	delete(m.t.marks, m.id)
}

// await waits until the stream has come to the mark.
func (m *mark) await(ctx context.Context) error {
	select {
	case <-m.reached:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(markWait):
		return &pasban.Error{Kind: pasban.Unavailable, Where: "guarded table " + m.t.g.Name, Msg: "the stream did not come as far as the table was read", Hint: "try again when it has caught up"}
	}
}

// expectation is what should lie in the buckets that differ.
type expectation struct {
	buckets map[int]bool
	rows    map[int]map[string][]byte // by bucket and key
	more    int
}

// expect computes the hashes of the state as a snapshot sees it, and the rows of
// the buckets that are not those of got.
func (t *table) expect(got []rowtree.Hash, seen func(uint64) bool) (want []rowtree.Hash, rows int64, e expectation, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.st == nil || len(t.st.hash) != len(got) {
		return nil, 0, e, errors.New("a new baseline was taken meanwhile")
	}
	e = expectation{buckets: map[int]bool{}, rows: map[int]map[string][]byte{}}
	want = append([]rowtree.Hash{}, t.st.hash...)
	rows = t.st.Rows
	touched := t.st.touched()
	for i := range want {
		var merged map[string][]byte
		if keys := touched[i]; keys != nil {
			if merged, err = t.st.merged(i, keys, seen); err != nil {
				return nil, 0, e, err
			}
			hashes := make([]rowtree.Hash, 0, len(merged))
			for _, line := range merged {
				hashes = append(hashes, t.st.h.Row(line))
			}
			want[i] = rowtree.Bucket(hashes)
			rows += int64(len(merged)) - t.st.count[i]
		}
		if want[i] == got[i] {
			continue
		}
		if len(e.rows) >= maxBuckets {
			e.more++
			continue
		}
		if merged == nil {
			if merged, err = t.st.merged(i, nil, seen); err != nil {
				return nil, 0, e, err
			}
		}
		e.buckets[i], e.rows[i] = true, merged
	}
	return want, rows, e, nil
}

// picker collects the rows of some buckets. It is an io.Writer for COPY.
type picker struct {
	h       *rowtree.Hasher
	buckets map[int]bool
	rows    map[string][][]byte // by key: an index that was tampered with may allow two
}

// Write implements io.Writer.
func (p *picker) Write(data []byte) (int, error) {
	for line := range bytes.Lines(data) {
		line = bytes.TrimSuffix(line, []byte{'\n'})
		if key := p.h.Key(line); p.buckets[p.h.Bucket(key)] {
			p.rows[string(key)] = append(p.rows[string(key)], bytes.Clone(line))
		}
	}
	return len(data), nil
}

// compare names the rows that differ.
func (t *table) compare(e expectation, found *picker) ([]Difference, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.st == nil {
		return nil, errors.New("the state is closed")
	}
	out := []Difference{}
	add := func(key string, before, after []byte) {
		d := Difference{ID: t.rowID([]byte(key)), Table: t.g.Name, Found: time.Now().UTC(), State: "open", Key: key, Why: auditWhy}
		t.describe(&d, before, after)
		if _, v, err := t.st.authorised([]byte(key)); err == nil && before != nil {
			d.Leaf = t.leafOf(v)
		}
		out = append(out, d)
	}
	for _, rows := range e.rows {
		for key, line := range rows {
			have := found.rows[key]
			switch {
			case len(have) == 0:
				add(key, line, nil)
			case len(have) > 1:
				add(key, line, bytes.Join(have, []byte("\n")))
			case !bytes.Equal(have[0], line):
				add(key, line, have[0])
			}
			delete(found.rows, key)
		}
	}
	for key, have := range found.rows {
		add(key, nil, bytes.Join(have, []byte("\n")))
	}
	return out, nil
}

// concludeAudit records what an audit found: a leaf, and an alarm for each
// difference that is news.
func (t *table) concludeAudit(ctx context.Context, res *AuditResult) error {
	open, err := t.s.Differences(ctx, t.g.Name)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	known := map[string]Difference{}
	for _, d := range open {
		known[d.ID] = d
	}
	var news []Difference
	still := map[string]bool{}
	for i, d := range res.Differences {
		still[d.ID] = true
		if k, ok := known[d.ID]; ok && same(k.After, d.After) && same(k.Before, d.Before) {
			res.Differences[i] = k // it says who made it
			continue
		}
		news = append(news, d)
	}
	f := t.s.fact(pasban.KindAdmin, t.g.Name, "table.audit")
	f.Restricted.More = map[string]string{
		"root": res.Root, "expected_root": res.Authorised, "rows": fmt.Sprint(res.Rows), "expected_rows": fmt.Sprint(res.Expected),
		"differences": fmt.Sprint(len(res.Differences)), "baseline": t.rec.Baseline, "source": t.g.Table, "ms": fmt.Sprint(res.MS),
		"layout": layoutText(t.st.Layout),
	}
	if res.Root != res.Authorised {
		f.Body.Outcome = pasban.Denied
	}
	rec := t.rec
	clean := res.Root == res.Authorised
	if rec.Rows = res.Rows; clean {
		rec.Blind = ""
	}
	alarms := t.alarms(news)
	if res.More > 0 && len(alarms) > 0 {
		alarms[0].Restricted.Reasons = append(alarms[0].Restricted.Reasons, fmt.Sprintf("%d more parts of the table differ", res.More))
	}
	_, err = t.s.o.Journal.Commit(ctx, func(tx *store.Tx) ([]pasban.Fact, error) {
		for _, d := range open { // first: it makes room
			if still[d.ID] || res.More > 0 {
				continue
			}
			if _, err := tx.Exec(`UPDATE sentinel_difference SET state = 'gone' WHERE tbl = ? AND id = ? AND state = 'open'`, t.g.Name, d.ID); err != nil {
				return nil, err
			}
		}
		if err := t.keepDifferences(ctx, tx, news); err != nil {
			return nil, err
		}
		return append([]pasban.Fact{f}, alarms...), t.s.save(ctx, tx, t.g.Name, rec)
	})
	if err != nil {
		return unavailable("record the audit", err)
	}
	res.Fact = f.Body.ID
	alarmed := map[string]string{}
	for _, d := range news {
		alarmed[d.ID] = d.Fact
	}
	for i := range res.Differences {
		if id := alarmed[res.Differences[i].ID]; id != "" {
			res.Differences[i].Fact = id
		}
	}
	t.rec = rec
	t.fill()
	t.status.Audit, t.status.AuditMS = time.Now().UTC().Format(time.RFC3339), res.MS
	t.status.Open, t.status.AuditFact = len(res.Differences), res.Fact
	t.over("audit")
	return nil
}

func same(a, b *string) bool { return a == nil && b == nil || a != nil && b != nil && *a == *b }

// learn takes what is needed of the server before its stream is read.
func (t *table) learn(ctx context.Context, conn *pgx.Conn) error {
	_, xmin, err := t.src.filenode(ctx, conn)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.near = xmin
	return nil
}
