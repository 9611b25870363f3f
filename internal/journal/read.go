package journal

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"

	"pasban"
)

const saltSize = 32

const selectRow = `SELECT seq, leaf_index, id, kind, time, subject, leaf, opening, restricted, list_number, list_previous FROM journal `

// Since returns the facts after sequence number seq, oldest first, at most
// max. It fails if one is missing or damaged.
func (j *Journal) Since(ctx context.Context, seq uint64, max int) ([]Entry, error) {
	entries, err := j.since(ctx, seq, max)
	if err != nil {
		return nil, err
	}
	return whole(entries)
}

// since marks damaged and missing rows instead of failing: between seq and the
// head there must be one row for every number.
func (j *Journal) since(ctx context.Context, seq uint64, max int) ([]Entry, error) {
	head, _, err := j.Head(ctx)
	if err != nil || head <= seq || max <= 0 {
		return nil, err
	}
	last := min(head, seq+uint64(max))
	rows, err := j.rows(ctx, selectRow+`WHERE seq > ? AND seq <= ? ORDER BY seq`, int64(seq), int64(last))
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, 0, last-seq)
	for n := seq + 1; n <= last; n++ {
		if len(rows) == 0 || rows[0].seq != n {
			entries = append(entries, Entry{Seq: n, Index: -1, Damage: damaged(n, "the row is missing", nil)})
			continue
		}
		e, err := j.open(ctx, rows[0])
		if err != nil {
			return nil, err
		}
		entries, rows = append(entries, e), rows[1:]
	}
	return entries, nil
}

// Leaves returns the public bytes of the leaves from the given index on, at
// most max. It opens nothing. It fails if one is missing.
func (j *Journal) Leaves(ctx context.Context, from uint64, max int) ([]LeafRow, error) {
	rows, err := j.st.Query(ctx, `SELECT leaf_index, leaf FROM journal WHERE leaf_index >= ? ORDER BY leaf_index LIMIT ?`, int64(from), max)
	if err != nil {
		return nil, unavailable("read the journal's leaves", err)
	}
	defer rows.Close()
	var leaves []LeafRow
	for rows.Next() {
		var l LeafRow
		var raw []byte
		if err := rows.Scan(&l.Index, &raw); err != nil {
			return nil, unavailable("read the journal's leaves", err)
		}
		if want := from + uint64(len(leaves)); l.Index != want {
			return nil, &pasban.Error{Kind: pasban.Unavailable, Where: fmt.Sprintf("journal leaf %d", want), Msg: "the row is missing"}
		}
		if copy(l.Leaf[:], raw) != len(l.Leaf) || len(raw) != len(l.Leaf) || l.Leaf.Kind() == "" {
			return nil, &pasban.Error{Kind: pasban.Unavailable, Where: fmt.Sprintf("journal leaf %d", l.Index), Msg: "the row does not hold a leaf"}
		}
		leaves = append(leaves, l)
	}
	if err := rows.Err(); err != nil {
		return nil, unavailable("read the journal's leaves", err)
	}
	return leaves, nil
}

// BySubject returns the accountable facts about a citizen, newest first, at
// most max, with sequence numbers below before (0 starts at the newest). It
// fails if one is damaged.
func (j *Journal) BySubject(ctx context.Context, id pasban.SubjectID, before uint64, max int) ([]Entry, error) {
	if id == "" {
		return nil, nil
	}
	if before == 0 || before > 1<<62 {
		before = 1 << 62
	}
	rows, err := j.rows(ctx, selectRow+`WHERE subject = ? AND subject <> '' AND leaf_index IS NOT NULL AND seq < ? ORDER BY seq DESC LIMIT ?`,
		string(id), int64(before), max)
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, len(rows))
	for i, r := range rows {
		if entries[i], err = j.open(ctx, r); err != nil {
			return nil, err
		}
	}
	return whole(entries)
}

// ByIndex returns the fact that is leaf number index, or an error of kind
// pasban.NotFound.
func (j *Journal) ByIndex(ctx context.Context, index uint64) (Entry, error) {
	return j.one(ctx, selectRow+`WHERE leaf_index = ?`, int64(index))
}

// ByID returns the fact with the given id, or an error of kind pasban.NotFound.
func (j *Journal) ByID(ctx context.Context, factID string) (Entry, error) {
	return j.one(ctx, selectRow+`WHERE id = ?`, factID)
}

func (j *Journal) one(ctx context.Context, q string, arg any) (Entry, error) {
	rows, err := j.rows(ctx, q, arg)
	if err != nil {
		return Entry{}, err
	}
	if len(rows) == 0 {
		return Entry{}, unavailable("", sql.ErrNoRows)
	}
	e, err := j.open(ctx, rows[0])
	if err != nil {
		return Entry{}, err
	}
	return e, e.Damage
}

// row is a row of the table as it is stored.
type row struct {
	seq                       uint64
	index                     sql.NullInt64
	id, kind, time, subject   string
	leaf, opening, restricted []byte
	number                    sql.NullInt64
	previous                  []byte
}

func (j *Journal) rows(ctx context.Context, q string, args ...any) ([]row, error) {
	rows, err := j.st.Query(ctx, q, args...)
	if err != nil {
		return nil, unavailable("read the journal", err)
	}
	defer rows.Close()
	var out []row
	for rows.Next() {
		var r row
		if err := rows.Scan(&r.seq, &r.index, &r.id, &r.kind, &r.time, &r.subject, &r.leaf, &r.opening, &r.restricted, &r.number, &r.previous); err != nil {
			return nil, unavailable("read the journal", err)
		}
		out = append(out, r)
	}
	if err := rows.Err(); err != nil {
		return nil, unavailable("read the journal", err)
	}
	return out, nil
}

// open unseals a row and checks it against itself: every column must be what
// the body says, and the body what the leaf commits to. Damage is marked in
// the entry; an error means that it could not be looked at.
func (j *Journal) open(ctx context.Context, r row) (Entry, error) {
	e := Entry{Seq: r.seq, Index: -1}
	if r.index.Valid {
		e.Index = r.index.Int64
	}
	fail := func(msg string, err error) (Entry, error) {
		return Entry{Seq: e.Seq, Index: e.Index, Damage: damaged(r.seq, msg, err)}, nil
	}
	head := pasban.Body{Version: 1, ID: r.id, Kind: pasban.Kind(r.kind), Time: r.time}
	subject := pasban.SubjectID(r.subject)
	if r.index.Valid != head.Kind.Accountable() || (r.leaf != nil) != r.index.Valid {
		return fail("its kind, leaf and leaf index do not belong together", nil)
	}
	place, ok := r.place()
	if !ok || place.Number > 0 && (!r.index.Valid || subject == "") {
		return fail("its place in the citizen's list is none", nil)
	}
	e.Fact = pasban.Fact{Subject: pasban.Subject{ID: subject}, Body: head}
	e.Fact.Body.List = place
	if r.leaf != nil {
		copy(e.Leaf[:], r.leaf)
	}

	plain, blind, err := j.unseal(ctx, subject, r.opening, aad("opening", &head, subject))
	switch {
	case blind != nil:
		return e, blind
	case err != nil && subject != "" && pasban.KindOf(err) == pasban.NotFound:
		e.Shredded = true
		return e, nil
	case err != nil:
		return fail("the body does not open", err)
	case len(plain) < saltSize:
		return fail("the body is too short", nil)
	}
	e.Opening = pasban.Opening{Kind: head.Kind, Salt: plain[:saltSize:saltSize], Body: plain[saltSize:]}
	if place.Number > 0 {
		e.Opening = e.Opening.At(place)
	}
	if head.Kind.Accountable() {
		leaf, err := e.Opening.Leaf()
		if err != nil || !bytes.Equal(leaf[:], r.leaf) {
			return fail("the leaf is not the one of the body", err)
		}
	}
	if e.Fact.Body, err = e.Opening.Parse(); err != nil {
		return fail("the body is not readable", err)
	}
	if b := e.Fact.Body; b.ID != r.id || b.Time != r.time {
		return fail("its columns are not those of the body", nil)
	}
	e.Fact.Subject.CNIC = e.Fact.Body.Subject
	bad, err := j.openHidden(ctx, &e)
	if err != nil {
		return e, err
	}
	if bad != nil {
		return fail("its hidden part cannot be trusted", bad)
	}

	plain, blind, err = j.unseal(ctx, "", r.restricted, aad("restricted", &head, subject))
	switch {
	case blind != nil:
		return e, blind
	case err != nil:
		return fail("the restricted part does not open", err)
	case len(plain) < saltSize:
		return fail("the restricted part is too short", nil)
	}
	e.RestrictedOpening = pasban.RestrictedOpening{Salt: plain[:saltSize:saltSize], Part: plain[saltSize:]}
	if e.Fact.Restricted, err = e.RestrictedOpening.Parse(e.Fact.Body); err != nil {
		return fail("the restricted part is not the one of the body", err)
	}
	return e, nil
}

// unseal opens a sealed part. err says that it does not open, blind that it
// could not be tried: the keys lie in the store as well, and a store that does
// not answer is no reason to call a row damaged.
func (j *Journal) unseal(ctx context.Context, subject pasban.SubjectID, sealed, aad []byte) (plain []byte, blind, err error) {
	for again := false; ; again = true {
		plain, err = j.sealer.Open(ctx, subject, sealed, aad)
		if err == nil || again || pasban.KindOf(err) == pasban.NotFound || pasban.KindOf(err) == pasban.Invalid {
			return plain, nil, err
		}
		if _, _, blind := j.Head(ctx); blind != nil {
			return nil, blind, err
		}
	}
}

// damaged names the row that cannot be trusted.
func damaged(seq uint64, msg string, err error) error {
	return &pasban.Error{Kind: pasban.Unavailable, Where: fmt.Sprintf("journal row %d", seq), Msg: msg, Err: err,
		Hint: "the row was changed behind Pasban's back: compare with a backup; the ledger holds what its leaf was"}
}

// whole returns the entries if none is damaged.
func whole(entries []Entry) ([]Entry, error) {
	for _, e := range entries {
		if e.Damage != nil {
			return nil, e.Damage
		}
	}
	return entries, nil
}
