package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/store"
)

// listEnd is the last entry of a citizen's list.
type listEnd struct {
	number int64 // 0 if the list is empty
	leaf   tlog.Hash
}

// maxEnds is the most ends of lists that are remembered.
const maxEnds = 10_000

// endCache remembers where lists ended when the journal had seq rows. Another
// node's commit moves seq, so what is remembered is true or thrown away.
type endCache struct {
	lru *simplelru.LRU[pasban.SubjectID, listEnd]
	seq uint64

	next    map[pasban.SubjectID]listEnd // of the group under way, true if it commits
	nextSeq uint64
}

// trueAt forgets everything unless nobody else has written since.
func (c *endCache) trueAt(seq uint64) {
	if seq != c.seq {
		c.lru.Purge()
	}
	c.seq, c.next = seq, nil
}

// committed takes over what the group has changed, or forgets everything.
func (c *endCache) committed(ok bool) {
	if !ok || c.next == nil {
		c.lru.Purge()
	} else {
		c.seq = c.nextSeq
		for id, end := range c.next {
			c.lru.Add(id, end)
		}
	}
	c.next = nil
}

// ofList says which rows of a subject are in their list, in the words of the
// index journal_subject. Rows older than lists have no number and count for none.
const ofList = `leaf_index IS NOT NULL AND subject <> ''`

// listEnds reads where the lists end of all citizens that the rows are about.
// The journal's head is locked: nobody else adds to a list meanwhile. It asks
// the rows themselves, by the index that lists are read with: a table of ends
// would be one more row to write for every fact, and could disagree.
func listEnds(tx *store.Tx, rows []*prepared, cache *endCache) (map[pasban.SubjectID]listEnd, error) {
	ends := map[pasban.SubjectID]listEnd{}
	var subjects []any
	for _, p := range rows {
		id := p.fact.Subject.ID
		if _, had := ends[id]; !had && id != "" && p.fact.Body.Kind.Accountable() {
			end, cached := cache.lru.Get(id)
			if ends[id] = end; cached {
				continue
			}
			subjects = append(subjects, string(id))
		}
	}
	for len(subjects) > 0 {
		n := chunk(len(subjects))
		if err := readEnds(tx, subjects[:n], ends); err != nil {
			return nil, fmt.Errorf("read where the citizens' lists end: %w", err)
		}
		subjects = subjects[n:]
	}
	return ends, nil
}

func readEnds(tx *store.Tx, subjects []any, ends map[pasban.SubjectID]listEnd) error {
	values := strings.TrimSuffix(strings.Repeat("(?),", len(subjects)), ",")
	rows, err := tx.Query(`SELECT subject, list_number, leaf FROM journal WHERE list_number IS NOT NULL AND seq IN (
		SELECT (SELECT MAX(seq) FROM journal WHERE subject = wanted.column1 AND `+ofList+`)
		FROM (VALUES `+values+`) AS wanted)`, subjects...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id pasban.SubjectID
		var end listEnd
		var leaf []byte
		if err := rows.Scan(&id, &end.number, &leaf); err != nil {
			return err
		}
		if len(leaf) != pasban.LeafSize || end.number < 1 {
			return fmt.Errorf("the last entry of the list of %s has no leaf or no number", id)
		}
		end.leaf = pasban.Leaf(leaf).Hash()
		ends[id] = end
	}
	return rows.Err()
}

// enlist gives an accountable row its place at the end of its citizen's list,
// if it is about one, and its leaf, which commits to the place.
func (p *prepared) enlist(ends map[pasban.SubjectID]listEnd) (err error) {
	id := p.fact.Subject.ID
	if id == "" {
		p.leaf, err = p.opening.Leaf()
		return err
	}
	end := ends[id]
	p.place = pasban.NextPlace(end.number, end.leaf)
	if end.number > 0 {
		p.previous = end.leaf[:]
	}
	p.fact.Body.List = p.place
	p.opening = p.opening.At(p.place)
	if p.leaf, err = p.opening.Leaf(); err != nil {
		return err
	}
	ends[id] = listEnd{number: p.place.Number, leaf: p.leaf.Hash()}
	return nil
}

// place returns what the row says of its place in a list, the zero Place if it
// is in none; ok is false if no list has such a place.
func (r row) place() (p pasban.Place, ok bool) {
	if !r.number.Valid {
		return p, r.previous == nil
	}
	if (r.number.Int64 == 1) != (r.previous == nil) || r.number.Int64 < 1 {
		return p, false
	}
	var last tlog.Hash
	if n := copy(last[:], r.previous); r.previous != nil && (n != len(last) || n != len(r.previous)) {
		return p, false
	}
	return pasban.NextPlace(r.number.Int64-1, last), true
}

// Head is the end of a citizen's list at some size of the ledger.
type Head struct {
	Subject pasban.SubjectID
	Number  int64     // entries of the list
	Index   uint64    // leaf index of the last
	Leaf    tlog.Hash // Merkle leaf hash of the last
}

// ListEnd returns the last entry of a citizen's list among the first size leaves;
// it is of kind NotFound if there is none.
func (j *Journal) ListEnd(ctx context.Context, id pasban.SubjectID, size uint64) (Head, error) {
	h := Head{Subject: id}
	var leaf []byte
	err := j.st.QueryRow(ctx, `SELECT list_number, leaf_index, leaf FROM journal
		WHERE subject = ? AND leaf_index IS NOT NULL AND leaf_index < ? AND list_number IS NOT NULL ORDER BY seq DESC LIMIT 1`, string(id), int64(size)).Scan(&h.Number, &h.Index, &leaf)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return Head{}, &pasban.Error{Kind: pasban.NotFound, Where: "journal", Msg: "the citizen has no list"}
	case err != nil:
		return Head{}, unavailable("read the end of a citizen's list", err)
	case len(leaf) != pasban.LeafSize:
		return Head{}, noLeaf(h)
	}
	h.Leaf = pasban.Leaf(leaf).Hash()
	return h, nil
}

// noLeaf says that an entry lacks what it must have.
func noLeaf(h Head) error {
	return &pasban.Error{Kind: pasban.Unavailable, Where: "journal", Msg: fmt.Sprintf("entry %d of the list of %s has no leaf", h.Number, h.Subject)}
}

// Heads returns the heads of the lists that got entries among the leaves with
// indices from ≤ i < to, as they were at size to.
func (j *Journal) Heads(ctx context.Context, from, to uint64) ([]Head, error) {
	rows, err := j.st.Query(ctx, `SELECT subject, list_number, leaf_index, leaf FROM journal
		WHERE leaf_index >= ? AND leaf_index < ? AND list_number IS NOT NULL ORDER BY leaf_index`, int64(from), int64(to))
	if err != nil {
		return nil, unavailable("read the heads of the citizens' lists", err)
	}
	defer rows.Close()
	var heads []Head
	at := map[pasban.SubjectID]int{}
	for rows.Next() {
		var h Head
		var leaf []byte
		if err := rows.Scan(&h.Subject, &h.Number, &h.Index, &leaf); err != nil {
			return nil, unavailable("read the heads of the citizens' lists", err)
		}
		if len(leaf) != pasban.LeafSize {
			return nil, noLeaf(h)
		}
		h.Leaf = pasban.Leaf(leaf).Hash()
		if i, had := at[h.Subject]; had {
			heads[i] = h
			continue
		}
		at[h.Subject] = len(heads)
		heads = append(heads, h)
	}
	if err := rows.Err(); err != nil {
		return nil, unavailable("read the heads of the citizens' lists", err)
	}
	return heads, nil
}
