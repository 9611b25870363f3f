package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"pasban"
	"pasban/internal/store"
)

// Disclosed returns what opens the details of a hidden entry if its date has
// come, and nil if it has not or there is nothing to open.
func (e Entry) Disclosed(now time.Time) *pasban.HiddenOpening {
	if e.HiddenOpening == nil || now.Before(e.Fact.Body.Hidden.Date()) {
		return nil
	}
	return e.HiddenOpening
}

// Told returns the body as it may be told at this time to the citizen
// concerned: with its details, unless they are hidden still.
func (e Entry) Told(now time.Time) pasban.Body {
	if e.Disclosed(now) == nil {
		return e.Fact.Body
	}
	return e.Fact.Whole()
}

// sealHidden seals the hidden part of a fact, if it has one, under the
// citizen's key.
func (j *Journal) sealHidden(ctx context.Context, p *prepared, h *pasban.HiddenOpening) error {
	if h == nil {
		return nil
	}
	if !p.fact.Body.Kind.Accountable() || p.fact.Subject.ID == "" {
		return &pasban.Error{Kind: pasban.Invalid, Where: "journal", Msg: "a fact about nobody cannot be hidden"}
	}
	whole, err := h.Parse(p.fact.Body)
	if err != nil {
		return err
	}
	p.hidden, p.fact.Details = h, whole.Details
	p.sealedHidden, err = j.sealer.Seal(ctx, p.fact.Subject.ID, slices.Concat(h.Salt, h.Part), aad("hidden", &p.fact.Body, p.fact.Subject.ID))
	if err != nil {
		return unavailable("seal the hidden part of a fact", err)
	}
	return nil
}

// insertHidden keeps the hidden parts of a group's facts: few have one.
func insertHidden(tx *store.Tx, rows []*prepared) error {
	for _, p := range rows {
		if p.hidden == nil {
			continue
		}
		b := p.fact.Body
		if _, err := tx.Exec(`INSERT INTO journal_hidden (id, subject, until, part) VALUES (?, ?, ?, ?)`,
			b.ID, string(p.fact.Subject.ID), b.Hidden.Until, p.sealedHidden); err != nil {
			return fmt.Errorf("insert what a fact hides: %w", err)
		}
	}
	return nil
}

// openHidden opens the hidden part of an entry whose body has one. bad says why
// the row cannot be trusted, err that it could not be looked at.
func (j *Journal) openHidden(ctx context.Context, e *Entry) (bad, err error) {
	b, subject := e.Fact.Body, e.Fact.Subject.ID
	if b.Hidden == (pasban.Hidden{}) {
		return nil, nil
	}
	var until string
	var part []byte
	err = j.st.QueryRow(ctx, `SELECT until, part FROM journal_hidden WHERE id = ? AND subject = ?`, b.ID, string(subject)).Scan(&until, &part)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return errors.New("what it hides is missing"), nil
	case err != nil:
		return nil, unavailable("read what an entry hides", err)
	case until != b.Hidden.Until:
		return errors.New("the date of its disclosure is not the one of the body"), nil
	}
	plain, blind, err := j.unseal(ctx, subject, part, aad("hidden", &b, subject))
	switch {
	case blind != nil:
		return nil, blind
	case err != nil:
		return fmt.Errorf("what it hides does not open: %w", err), nil
	case len(plain) < saltSize:
		return errors.New("what it hides is too short"), nil
	}
	h := &pasban.HiddenOpening{Salt: plain[:saltSize:saltSize], Part: plain[saltSize:]}
	whole, err := h.Parse(b)
	if err != nil {
		return err, nil
	}
	e.HiddenOpening, e.Fact.Details = h, whole.Details
	return nil, nil
}

// Closed is a hidden fact of which no disclosure has been recorded.
type Closed struct {
	ID    string    // of the fact
	Until time.Time // when it is to be disclosed
}

// Due returns the hidden facts whose date has come by now and whose disclosure
// is not recorded, the one due first before the others, at most max.
func (j *Journal) Due(ctx context.Context, now time.Time, max int) ([]Closed, error) {
	rows, err := j.st.Query(ctx, `SELECT id, until FROM journal_hidden WHERE opening IS NULL AND until <= ? ORDER BY until, id LIMIT ?`,
		now.UTC().Format(pasban.TimeFormat), max)
	if err != nil {
		return nil, unavailable("read which hidden entries are due", err)
	}
	defer rows.Close()
	var due []Closed
	for rows.Next() {
		var id, until string
		if err := rows.Scan(&id, &until); err != nil {
			return nil, unavailable("read which hidden entries are due", err)
		}
		// What is no date was not written by the journal; it is due since ever.
		due = append(due, Closed{ID: id, Until: pasban.Hidden{Until: until}.Date()})
	}
	if err := rows.Err(); err != nil {
		return nil, unavailable("read which hidden entries are due", err)
	}
	return due, nil
}

// Hidden returns how many hidden facts there are whose disclosure is not
// recorded, how many of them were due before the given time, and the next date;
// the zero time if there is none.
func (j *Journal) Hidden(ctx context.Context, due time.Time) (closed, overdue int64, next time.Time, err error) {
	var until sql.NullString
	err = j.st.QueryRow(ctx, `SELECT COUNT(*), COALESCE(SUM(CASE WHEN until < ? THEN 1 ELSE 0 END), 0), MIN(until) FROM journal_hidden WHERE opening IS NULL`,
		due.UTC().Format(pasban.TimeFormat)).Scan(&closed, &overdue, &until)
	if err != nil {
		return 0, 0, time.Time{}, unavailable("count the hidden entries", err)
	}
	return closed, overdue, pasban.Hidden{Until: until.String}.Date(), nil
}

// MarkOpened notes, in the transaction that records the disclosure, which fact
// tells of it. It fails if another has done so.
func MarkOpened(tx *store.Tx, id, opening string) error {
	res, err := tx.Exec(`UPDATE journal_hidden SET opening = ? WHERE id = ? AND opening IS NULL`, opening, id)
	if err != nil {
		return fmt.Errorf("note a disclosure: %w", err)
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return errors.Join(errors.New("it has been disclosed"), err)
	}
	return nil
}
