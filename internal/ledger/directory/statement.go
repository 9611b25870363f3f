package directory

import (
	"context"
	"slices"
	"strconv"
	"time"

	"pasban"
	"pasban/internal/journal"
)

const (
	perRead    = 500    // entries read from the journal at once
	maxEntries = 50_000 // entries of one statement, at most
)

// Statement proves that a citizen's list is whole up to the last epoch that a
// checkpoint covers, or that it was empty, and holds what came after it besides.
// It is of kind Unavailable before the first epoch. Of a citizen whose entries
// can all be read no longer the number is needed, which nothing here remembers.
func (d *Directory) Statement(ctx context.Context, who pasban.Subject) (pasban.Statement, error) {
	e, receipt, err := d.proven(ctx)
	if err != nil {
		return pasban.Statement{}, err
	}
	entries, err := d.list(ctx, who.ID)
	if err != nil {
		return pasban.Statement{}, err
	}
	now := time.Now()
	s := pasban.Statement{Schema: pasban.StatementSchema, Citizen: who.CNIC, Entries: []pasban.StatementEntry{}, Epoch: receipt}
	for _, en := range entries {
		s.Citizen = en.Fact.Subject.CNIC
		s.Entries = append(s.Entries, pasban.StatementEntry{Index: uint64(en.Index), Kind: en.Opening.Kind, Salt: en.Opening.Salt, Body: en.Opening.Body, Hidden: en.Disclosed(now)})
		if en.Index < e.heads.Size {
			s.Number = en.Fact.Body.List.Number
		}
	}
	if s.Citizen == "" {
		return pasban.Statement{}, &pasban.Error{Kind: pasban.NotFound, Where: "directory", Msg: "nothing is recorded about this citizen that could be read"}
	}
	value, label, err := d.o.Key.Prove([]byte(s.Citizen))
	if err != nil {
		return pasban.Statement{}, err
	}
	at, _ := pasban.SplitLabel(value)
	s.Label = label
	var there *node
	switch s.Proof, there = e.root.prove(at); {
	case there == nil || *there.label != at:
		if s.Number != 0 {
			return pasban.Statement{}, &pasban.Error{Kind: pasban.Unavailable, Where: "directory", Msg: "no epoch covers this list yet", Hint: "try again in some minutes"}
		}
		if there != nil {
			s.Other = &pasban.OtherLabel{Label: there.label[:], Value: there.value[:]}
		}
	case s.Number == 0: // all of it was destroyed
		end, err := d.o.Journal.ListEnd(ctx, who.ID, uint64(e.heads.Size))
		if err != nil {
			return pasban.Statement{}, err
		}
		s.Number, s.Last = end.Number, end.Leaf[:]
	}
	if _, err := s.Verify(d.o.Verifier); err != nil {
		return pasban.Statement{}, &pasban.Error{Kind: pasban.Unavailable, Where: "directory", Msg: "the statement does not verify", Err: err}
	}
	return s, nil
}

// Epoch returns the receipt of the last epoch that a checkpoint covers. It is
// for everyone: it names no one.
func (d *Directory) Epoch(ctx context.Context) (pasban.Receipt, error) {
	_, r, err := d.proven(ctx)
	return r, err
}

// proven returns the newest epoch that a checkpoint covers, and its receipt.
func (d *Directory) proven(ctx context.Context) (*epoch, pasban.Receipt, error) {
	err := error(&pasban.Error{Kind: pasban.Unavailable, Where: "directory", Msg: "no epoch has been committed yet", Hint: "try again in some minutes"})
	for _, e := range []*epoch{d.now.Load(), d.before.Load()} {
		if e == nil {
			continue
		}
		var r pasban.Receipt
		if r, err = d.o.Prover.Receipt(ctx, e.entry); err == nil {
			return e, r, nil
		}
	}
	return nil, pasban.Receipt{}, err
}

// list reads what can be read of a citizen's list, oldest first.
func (d *Directory) list(ctx context.Context, id pasban.SubjectID) ([]journal.Entry, error) {
	var all []journal.Entry
	for before := uint64(0); ; {
		batch, err := d.o.Journal.BySubject(ctx, id, before, perRead)
		if err != nil {
			return nil, err
		}
		for _, e := range batch {
			before = e.Seq
			if !e.Shredded && e.Fact.Body.List.Number > 0 {
				all = append(all, e)
			}
		}
		if len(all) > maxEntries {
			return nil, &pasban.Error{Kind: pasban.Limited, Where: "directory", Msg: "the list has more than " + strconv.Itoa(maxEntries) + " entries, too many for one statement"}
		}
		if len(batch) < perRead {
			break
		}
	}
	slices.Reverse(all)
	return all, nil
}
