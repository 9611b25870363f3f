package sentinel

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"pasban"
	"pasban/internal/sentinel/rowtree"
	"pasban/internal/store"
)

const (
	// watchEvery is how often definition, slot and lag are looked at.
	watchEvery = 2 * time.Second
	// compactRows and compactBytes are how much may lie in the log before it is
	// put into a new base; so may a quarter of the table.
	compactRows  = 200_000
	compactBytes = 128 << 20
)

// keepWatching looks at what the stream cannot tell.
func (t *table) keepWatching(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			conn.Close(context.WithoutCancel(ctx))
		}
	}()
	for {
		err := func() (err error) {
			if conn == nil || conn.IsClosed() {
				if conn, err = t.src.connect(ctx); err != nil {
					return err
				}
			}
			return t.watch(ctx, conn)
		}()
		if err != nil && ctx.Err() == nil {
			t.log.Warn("the table's definition could not be looked at", "err", err)
			if conn != nil {
				conn.Close(ctx)
				conn = nil
			}
		}
		t.writeStatus(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// watch looks once.
func (t *table) watch(ctx context.Context, conn *pgx.Conn) error {
	now, err := t.src.fingerprint(ctx, conn)
	if err != nil {
		return err
	}
	node, xmin, err := t.src.filenode(ctx, conn)
	if err != nil {
		return err
	}
	slot, err := t.src.slotState(ctx, conn)
	if err != nil {
		return err
	}
	if err := t.expire(ctx, conn, time.Now()); err != nil {
		return err
	}
	t.mu.Lock()
	changed := differ(t.rec.Fingerprint, now)
	rewritten := t.rec.Filenode != node
	t.near = max(t.near, xmin)
	t.status.LagBytes, t.status.Limit, t.status.Changed = slot.Retained, max(slot.Limit, 0), ""
	if len(changed) > 0 {
		t.status.Changed = now.hash()
	}
	if t.st != nil && t.views == 0 {
		t.st.prune(xmin)
	}
	t.mu.Unlock()
	if len(changed) > 0 {
		if err := t.redefined(ctx, now.hash(), changed); err != nil {
			return err
		}
	} else {
		t.overAll("definition ")
	}
	if rewritten {
		if err := t.keepPlace(ctx, func(r *record) { r.Filenode = node }); err != nil {
			return err
		}
		t.askAudit()
	}
	if slot.Limit >= 0 && slot.Limit < slot.Retained {
		err := t.alarm(ctx, "table-lag", "retention", []string{fmt.Sprintf("the server keeps %d bytes of its log for the guard and gives the slot up in %d more", slot.Retained, slot.Limit)}, nil)
		if err != nil {
			return err
		}
	}
	return t.compact(ctx, conn)
}

// redefined tells of a changed definition. Whoever can change what tells the
// sentinel who writes could have made it lie meanwhile: the changes that were
// committed since are not believed, and the table is read at once.
func (t *table) redefined(ctx context.Context, hash string, changed []string) error {
	t.toldMu.Lock()
	_, told := t.told["definition "+hash]
	t.toldMu.Unlock()
	if told {
		return nil
	}
	t.mu.Lock()
	from := suspect(changed, t.near)
	t.mu.Unlock()
	if from > 0 {
		if err := t.revoke(ctx, from); err != nil {
			return err
		}
	}
	t.askAudit()
	return t.alarm(ctx, "table-definition", "definition "+hash, changed, map[string]string{"fingerprint": hash})
}

var versions = regexp.MustCompile(`version=(\d+)(?:/(\d+))?`)

// suspect is the first transaction that changed the trigger, its function or
// the publication; 0 if none of them was.
func suspect(changed []string, near uint64) uint64 {
	var from uint64
	old := map[string]bool{}
	for _, sign := range []string{"-", "+"} {
		for _, line := range changed {
			if !strings.HasPrefix(line, sign) {
				continue
			}
			for _, m := range versions.FindAllStringSubmatch(line, -1) {
				for _, text := range m[1:] {
					id, err := strconv.ParseUint(text, 10, 32)
					if old[text] = old[text] || sign == "-"; err != nil || old[text] {
						continue
					}
					if xid := wide(uint32(id), near); from == 0 || xid < from {
						from = xid
					}
				}
			}
		}
	}
	return from
}

// revoke takes back that changes from a transaction on were authorised.
func (t *table) revoke(ctx context.Context, from uint64) error {
	now, err := t.markStream(ctx) // those that were committed before the definition was looked at
	if err != nil {
		return err
	}
	defer now.forget()
	if err := now.await(ctx); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.st == nil {
		return nil
	}
	var seen []sighting
	for key, vs := range t.st.over {
		if v := vs[len(vs)-1]; v.ok && v.xid >= from && len(seen) < batchMax {
			seen = append(seen, sighting{change: change{Line: v.line, Change: rowtree.Change{Op: opRevoke, Key: []byte(key), XID: from,
				Verdict: "it was changed while somebody changed what tells the guard who writes"}}})
		}
	}
	if len(seen) == 0 {
		return nil
	}
	return t.record(ctx, seen, t.rec, nil)
}

// compact puts the log into a new base when it has grown.
func (t *table) compact(ctx context.Context, conn *pgx.Conn) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.st == nil || t.views > 0 {
		return nil
	}
	grown := int64(len(t.st.over)) > max(compactRows, t.st.Rows/4) || t.st.bytes > compactBytes || t.st.size > 2*compactBytes
	if !grown {
		return nil
	}
	return t.compactNow(ctx, conn)
}

// compactNow writes a new base and the leaf that commits to it. The caller
// holds mu.
func (t *table) compactNow(ctx context.Context, conn *pgx.Conn) error {
	var text string
	if err := conn.QueryRow(ctx, `SELECT pg_current_snapshot()::text`).Scan(&text); err != nil {
		return t.src.fail("the catalog cannot be read", err)
	}
	snap, err := parseSnapshot(text)
	if err != nil {
		return err
	}
	next, err := t.st.compact(snap.sees)
	if err != nil {
		return unavailable("write a new base", err)
	}
	if next == nil {
		return nil
	}
	f := t.s.fact(pasban.KindAdmin, t.g.Name, "table.base")
	f.Restricted.More = next.says()
	f.Restricted.More["baseline"] = t.rec.Baseline
	rec := t.rec
	rec.Gen, rec.Anchor, rec.Rows = next.gen, f.Body.ID, next.Rows
	if next.batch == next.base.Batch {
		rec.Last = ""
	}
	_, err = t.s.o.Journal.Commit(ctx, func(tx *store.Tx) ([]pasban.Fact, error) {
		return []pasban.Fact{f}, t.s.save(ctx, tx, t.g.Name, rec)
	})
	if err != nil {
		next.close()
		os.Remove(stateFile(t.s.o.Dir, t.g.Name, next.gen, "base"))
		os.Remove(stateFile(t.s.o.Dir, t.g.Name, next.gen, "log"))
		return unavailable("record the new base", err)
	}
	t.st.close()
	t.st, t.rec = next, rec
	t.fill()
	sweep(t.s.o.Dir, t.g.Name, rec.Gen)
	return nil
}
