package journal

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/store"
)

// prepared is a fact on its way into the table: everything but its numbers is
// fixed. The numbers, the place in the citizen's list and so the leaf are set by
// the store's writer goroutine and read by the caller after the write has
// returned.
type prepared struct {
	fact       pasban.Fact
	opening    pasban.Opening
	restricted pasban.RestrictedOpening
	hidden     *pasban.HiddenOpening // nil unless the fact is hidden
	leaf       pasban.Leaf           // of an accountable fact, which has its place in the citizen's list
	place      pasban.Place          // zero if it is in no citizen's list
	index      int64                 // -1 if not accountable

	sealedOpening, sealedRestricted, sealedHidden []byte

	previous []byte // place.Previous as it is stored

	seq      uint64
	promise  pasban.Promise // zero unless accountable
	unsigned error          // why there is none, although the row is committed
}

func (p *prepared) entry() Entry {
	return Entry{Seq: p.seq, Index: p.index, Leaf: p.leaf, Fact: p.fact, Opening: p.opening, RestrictedOpening: p.restricted, HiddenOpening: p.hidden, Promise: p.promise}
}

// prepare fixes and seals facts.
func (j *Journal) prepare(ctx context.Context, facts []pasban.Fact) ([]*prepared, error) {
	rows := make([]*prepared, len(facts))
	var ids map[string]bool
	if len(facts) > 1 {
		ids = make(map[string]bool, len(facts))
	}
	for i, f := range facts {
		if f.Subject.ID == "" && f.Subject.CNIC != "" {
			return nil, &pasban.Error{Kind: pasban.Invalid, Where: "journal",
				Msg: "a fact names a citizen without their SubjectID, so it could not be sealed under their key"}
		}
		f.Body.List = pasban.Place{} // not for the caller to say
		p := &prepared{fact: f, index: -1}
		sealed, err := f.Seal()
		if err != nil {
			return nil, err
		}
		p.opening, p.restricted = sealed.Opening, sealed.Restricted
		if f.Body.Version != 1 || f.Body.Kind == "" || f.Body.ID == "" {
			return nil, &pasban.Error{Kind: pasban.Invalid, Where: "journal", Msg: "a fact was not started with NewFact"}
		}
		if ids[f.Body.ID] {
			return nil, &pasban.Error{Kind: pasban.Conflict, Where: "journal", Msg: "fact " + f.Body.ID + " is given twice"}
		}
		if ids != nil {
			ids[f.Body.ID] = true
		}
		p.fact.Body = sealed.Body // the lists of the old one are the caller's, who may share them
		if p.sealedOpening, err = j.sealer.Seal(ctx, f.Subject.ID,
			slices.Concat(p.opening.Salt, p.opening.Body), aad("opening", &p.fact.Body, f.Subject.ID)); err != nil {
			return nil, unavailable("seal the body of a fact", err)
		}
		if p.sealedRestricted, err = j.sealer.Seal(ctx, "",
			slices.Concat(p.restricted.Salt, p.restricted.Part), aad("restricted", &p.fact.Body, f.Subject.ID)); err != nil {
			return nil, unavailable("seal the restricted part of a fact", err)
		}
		if err := j.sealHidden(ctx, p, sealed.Hidden); err != nil {
			return nil, err
		}
		rows[i] = p
	}
	return rows, nil
}

// aad binds a sealed part to its row: what is sealed for one fact opens as no
// other part of no other fact. Each element is preceded by its length.
func aad(part string, b *pasban.Body, subject pasban.SubjectID) []byte {
	out := make([]byte, 0, 192) // more than it has
	for _, s := range [...]string{"pasban/journal/v1", part, b.ID, string(b.Kind), b.Time, string(subject)} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(s)))
		out = append(out, s...)
	}
	return out
}

// stage hands rows to the group under way. Runs on the writer goroutine.
func (j *Journal) stage(tx *store.Tx, rows []*prepared) {
	before := len(j.staged)
	tx.OnRollback(func() { j.staged = j.staged[:min(before, len(j.staged))] })
	j.staged = append(j.staged, rows...)
}

// number is the store's hook: it remembers for Healthy how it went.
func (j *Journal) number(tx *store.Tx) error {
	if len(j.staged) == 0 {
		return nil
	}
	err := j.place(tx)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.failed = err != nil
	return err
}

// place gives the group's rows their places and inserts them, just before
// the group commits. If it fails, so does the whole group. On PostgreSQL the
// head's row lock makes other nodes wait until this group is committed, so
// that order of numbers and order of commits are one. Runs on the writer
// goroutine.
func (j *Journal) place(tx *store.Tx) error {
	q := `SELECT seq, leaves FROM journal_head WHERE id = 1`
	if j.st.Dialect() == store.Postgres {
		q += ` FOR UPDATE`
	}
	var seq uint64
	var leaves int64
	if err := tx.QueryRow(q).Scan(&seq, &leaves); err != nil {
		return fmt.Errorf("read the journal's head: %w", err)
	}
	j.ends.trueAt(seq)
	ends, err := listEnds(tx, j.staged, &j.ends)
	if err != nil {
		return err
	}
	for _, p := range j.staged {
		seq++
		p.seq = seq
		if !p.fact.Body.Kind.Accountable() {
			continue
		}
		p.index = leaves
		leaves++
		if err := p.enlist(ends); err != nil {
			return err
		}
	}
	for rest := j.staged; len(rest) > 0; {
		n := chunk(len(rest))
		if err := j.insert(tx, rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	if err := insertHidden(tx, j.staged); err != nil {
		return err
	}
	if _, err := tx.Exec(`UPDATE journal_head SET seq = ?, leaves = ? WHERE id = 1`, int64(seq), leaves); err != nil {
		return fmt.Errorf("move the journal's head: %w", err)
	}
	j.ends.next, j.ends.nextSeq = ends, seq
	return nil
}

// committed promises the group's rows, forgets them and wakes those who wait.
// Runs on the writer goroutine, before anyone is acknowledged.
func (j *Journal) committed(ok bool) {
	if len(j.staged) == 0 {
		return
	}
	j.ends.committed(ok)
	if ok {
		j.promise(time.Now())
	}
	clear(j.staged)
	j.staged = j.staged[:0]
	if ok {
		j.mu.Lock()
		close(j.wake)
		j.wake = make(chan struct{})
		j.mu.Unlock()
	}
}

// promise signs the promises for the group's accountable rows, whose leaf
// indices follow each other.
func (j *Journal) promise(now time.Time) {
	var rows []*prepared
	var leaves []tlog.Hash
	for _, p := range j.staged {
		if p.index >= 0 {
			rows, leaves = append(rows, p), append(leaves, p.leaf.Hash())
		}
	}
	if len(rows) == 0 {
		return
	}
	promises, err := pasban.SignPromises(j.signer, uint64(rows[0].index), leaves, now)
	for i, p := range rows {
		if p.unsigned = err; err == nil {
			p.promise = promises[i]
		}
	}
}

// chunk returns the size of the next multi-row INSERT for n rows: a power of
// two, so that few statements are ever prepared.
func chunk(n int) int {
	size := 64
	for size > n {
		size /= 2
	}
	return size
}

const columns = 11

func (j *Journal) insert(tx *store.Tx, rows []*prepared) error {
	args := j.args[:0]
	defer func() { clear(args); j.args = args }()
	for _, p := range rows {
		var index, leaf, number, previous any
		if p.place.Number > 0 {
			number, previous = p.place.Number, p.previous
		}
		if p.index >= 0 {
			index, leaf = p.index, p.leaf[:]
		}
		b := &p.fact.Body
		args = append(args, int64(p.seq), index, b.ID, string(b.Kind), b.Time,
			string(p.fact.Subject.ID), leaf, p.sealedOpening, p.sealedRestricted, number, previous)
	}
	if _, err := tx.Exec(inserts[bits.TrailingZeros(uint(len(rows)))], args...); err != nil {
		return fmt.Errorf("insert facts: %w", err)
	}
	return nil
}

// inserts are the statements that insert chunks of 1, 2, 4, … and 64 rows.
var inserts = func() (out [7]string) {
	for i := range out {
		out[i] = insertSQL(1 << i)
	}
	return out
}()

func insertSQL(rows int) string {
	one := "(" + strings.TrimSuffix(strings.Repeat("?,", columns), ",") + ")"
	return `INSERT INTO journal (seq, leaf_index, id, kind, time, subject, leaf, opening, restricted, list_number, list_previous) VALUES ` +
		strings.TrimSuffix(strings.Repeat(one+",", rows), ",")
}
