package sentinel

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"pasban"
	"pasban/internal/sentinel/rowtree"
)

// orderLife is how long the stream knows a repair's changes for what they are.
const orderLife = 10 * time.Minute

// chosen returns the open differences of a request, by id.
func (t *table) chosen(ctx context.Context, r Request) ([]Difference, error) {
	open, err := t.s.Differences(ctx, t.g.Name)
	if err != nil {
		return nil, err
	}
	var out []Difference
	for _, id := range r.Rows {
		found := false
		for _, d := range open {
			if d.ID == id {
				out, found = append(out, d), true
			}
		}
		if !found {
			return nil, &pasban.Error{Kind: pasban.NotFound, Msg: "row " + id + " does not differ any more"}
		}
	}
	return out, nil
}

// repair puts rows back to their last authorised version, in one transaction
// that carries the request's id: the stream knows it by that, and by the rows.
func (t *table) repair(ctx context.Context, r Request) (int, error) {
	list, err := t.chosen(ctx, r)
	if err != nil {
		return 0, err
	}
	o := order{rows: map[string][]byte{}, until: time.Now().Add(orderLife)}
	t.mu.Lock()
	for _, d := range list {
		if t.st == nil {
			t.mu.Unlock()
			return 0, &pasban.Error{Kind: pasban.Unavailable, Msg: "the table is not guarded"}
		}
		// From the state, which the ledger vouches for, not from the list.
		line, _, err := t.st.authorised([]byte(d.Key))
		if err != nil {
			t.mu.Unlock()
			return 0, err
		}
		o.rows[d.Key] = line
	}
	t.orders[r.ID] = o
	t.mu.Unlock()
	conn, err := t.src.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT set_config('pasban.change_order', $1, true)`, r.ID); err != nil {
			return err
		}
		for _, d := range list {
			if err := t.restore(ctx, tx, []byte(d.Key), o.rows[d.Key]); err != nil {
				return fmt.Errorf("row %s: %w", clip(d.Key), err)
			}
		}
		return nil
	})
	if err != nil {
		return 0, t.src.fail("the rows could not be put back", err)
	}
	return len(list), t.settled(ctx)
}

// settled waits until the stream has recorded what was just committed, and
// audits.
func (t *table) settled(ctx context.Context) error {
	behind, err := t.markStream(ctx)
	if err != nil {
		return err
	}
	defer behind.forget()
	// The rows are back, also when the stream is late to say so.
	if err := behind.await(ctx); ctx.Err() != nil {
		return err
	}
	t.askAudit()
	return nil
}

// restore makes one row what line says; nil removes it.
func (t *table) restore(ctx context.Context, tx pgx.Tx, key, line []byte) error {
	values, err := rowtree.ParseLine(key)
	if err != nil {
		return err
	}
	var params [][]byte
	var where []string
	for i, k := range t.g.Key {
		params = append(params, values[i])
		where = append(where, fmt.Sprintf("%s = $%d", pgx.Identifier{k}.Sanitize(), len(params)))
	}
	name, row := t.src.sqlTable(), " WHERE "+strings.Join(where, " AND ")
	exec := func(q string, params [][]byte) (int64, error) {
		tag, err := tx.Conn().PgConn().ExecParams(ctx, q, params, nil, nil, nil).Close()
		return tag.RowsAffected(), err
	}
	if line == nil {
		_, err := exec("DELETE FROM "+name+row, params)
		return err
	}
	if values, err = rowtree.ParseLine(line); err != nil {
		return err
	}
	var set []string
	for i, c := range t.g.Columns {
		params = append(params, values[len(t.g.Key)+i])
		set = append(set, fmt.Sprintf("%s = $%d", pgx.Identifier{c}.Sanitize(), len(params)))
	}
	n, err := exec("UPDATE "+name+" SET "+strings.Join(set, ", ")+row, params)
	if err != nil || n == 1 {
		return err
	}
	if n > 1 { // an index that was tampered with let two in
		if _, err := exec("DELETE FROM "+name+row, params[:len(t.g.Key)]); err != nil {
			return err
		}
	}
	var marks []string
	for i := range params {
		marks = append(marks, fmt.Sprint("$", i+1))
	}
	_, err = exec(fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s)", name, t.src.columns(), strings.Join(marks, ", ")), params)
	return err
}

// accept takes rows as they were found: two people say that they are right.
func (t *table) accept(ctx context.Context, r Request) (int, error) {
	list, err := t.chosen(ctx, r)
	if err != nil {
		return 0, err
	}
	var seen []sighting
	for _, d := range list {
		c := sighting{change: change{Change: rowtree.Change{Op: opAccept, Key: []byte(d.Key)}}}
		if d.Key == "*" {
			return 0, &pasban.Error{Kind: pasban.Invalid, Msg: "a TRUNCATE cannot be taken as it is", Hint: "take a new baseline"}
		}
		if d.After != nil {
			if strings.Contains(*d.After, "\n") {
				return 0, &pasban.Error{Kind: pasban.Invalid, Msg: "row " + clip(d.Key) + " is there more than once", Hint: "repair it"}
			}
			c.Line = []byte(*d.After)
		}
		seen = append(seen, c)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.st == nil {
		return 0, &pasban.Error{Kind: pasban.Unavailable, Msg: "the table is not guarded"}
	}
	err = t.record(ctx, seen, t.rec, func(f *pasban.Fact) {
		f.Body.Action = "rows-accepted"
		f.Restricted.More["request"], f.Restricted.More["asked_by"], f.Restricted.More["approved_by"], f.Restricted.More["reason"] = r.ID, r.By, r.Second, r.Reason
	})
	if err == nil {
		t.askAudit()
	}
	return len(list), err
}

// acceptDefinition makes the table's present definition the one that is meant.
func (t *table) acceptDefinition(ctx context.Context, r Request) error {
	conn, err := t.src.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	now, err := t.src.fingerprint(ctx, conn)
	if err != nil {
		return err
	}
	if now.hash() != r.Target {
		return &pasban.Error{Kind: pasban.Conflict, Msg: "the definition has changed again since it was asked for", Hint: "look at it and ask anew"}
	}
	return t.keepPlace(ctx, func(rec *record) { rec.Fingerprint = now })
}

// changeOrder lets a role change rows by hand, in sessions that name it.
type changeOrder struct {
	Login  string    `json:"login"`
	Until  time.Time `json:"until"`
	Closed uint64    `json:"closed,omitempty"` // see order
}

// permitFor is how long a change order is in force.
const permitFor = time.Hour

// permit puts a change order in force.
func (t *table) permit(ctx context.Context, r Request) error {
	until := time.Now().Add(permitFor)
	err := t.keepPlace(ctx, func(rec *record) {
		orders := map[string]changeOrder{r.ID: {Login: r.Target, Until: until}}
		for id, o := range rec.Orders {
			if time.Now().Before(o.Until) {
				orders[id] = o
			}
		}
		rec.Orders = orders
	})
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.orders[r.ID] = order{login: r.Target, until: until}
	return nil
}

// expire notes where the server's log is when change orders have ended by this
// machine's clock: later changes are under none of them, whatever the server's
// clock says.
func (t *table) expire(ctx context.Context, conn *pgx.Conn, now time.Time) error {
	t.mu.Lock()
	var over []string
	for id, o := range t.orders {
		if o.login != "" && o.closed == 0 && now.After(o.until) {
			over = append(over, id)
		}
	}
	t.mu.Unlock()
	if len(over) == 0 {
		return nil
	}
	var text string
	if err := conn.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn()::text`).Scan(&text); err != nil {
		return t.src.fail("the server does not say where its log is", err)
	}
	lsn, err := pglogrepl.ParseLSN(text)
	if err != nil {
		return err
	}
	err = t.keepPlace(ctx, func(rec *record) {
		rec.Orders = maps.Clone(rec.Orders)
		for _, id := range over {
			if o, ok := rec.Orders[id]; ok {
				o.Closed = uint64(lsn)
				rec.Orders[id] = o
			}
		}
	})
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range over {
		o := t.orders[id]
		o.closed = uint64(lsn)
		t.orders[id] = o
	}
	return nil
}
