// Package disclosure opens at its date what was lawfully kept from a citizen.
//
// # The way of a hidden entry
//
// A look whose purpose says so is recorded like any other, with its details
// apart (pasban.Hidden): the citizen's list has its entry at once, which says
// until when it is hidden. From that date on whoever reads the entry gets its
// details, without anyone's doing ([journal.Entry.Disclosed]). [Disclosure.Run]
// sees to the rest: it checks that the details do open, records in the citizen's
// own list that the entry was disclosed, and so tells who watches that list.
//
// # Guarantees
//
//   - Each hidden entry is recorded as disclosed once, also with several nodes
//     and across restarts; one that was due while the node was down is recorded
//     when it is back.
//   - An entry that is due and does not open is an alarm, for the security centre
//     and on the public page, until it does.
//
// # What it must never do
//
// It moves no date, and opens nothing before it.
package disclosure

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"pasban"
	"pasban/internal/journal"
	"pasban/internal/store"
)

// Late is how long after its date an entry may wait before that is an alarm.
const Late = time.Hour

const (
	every = time.Minute
	batch = 100
)

// Status is what the public is told.
type Status struct {
	Hidden  int64     // entries that are still closed
	Overdue int64     // those of them that should have been open for longer than Late
	Next    time.Time // when the next one opens; zero if there is none
	Err     error     // why it could not be looked at
}

// Disclosure opens what is due. It is safe for concurrent use.
type Disclosure struct {
	agency  string
	journal *journal.Journal
	now     func() time.Time
	status  atomic.Pointer[Status]
	alarmed map[string]bool // entries that an alarm was recorded about; Step's alone
}

// New returns a disclosure over a journal; now is the clock, nil is time.Now.
func New(agency string, j *journal.Journal, now func() time.Time) *Disclosure {
	if now == nil {
		now = time.Now
	}
	return &Disclosure{agency: agency, journal: j, now: now, alarmed: map[string]bool{}}
}

// Status returns how it stood at the last step. It does no I/O.
func (d *Disclosure) Status() Status {
	if s := d.status.Load(); s != nil {
		return *s
	}
	return Status{}
}

// Run opens what is due about once a minute until ctx is done, and returns its
// error. What fails is logged and tried again.
func (d *Disclosure) Run(ctx context.Context) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := d.Step(ctx); err != nil && ctx.Err() == nil {
			slog.ErrorContext(ctx, "disclosure: a hidden entry does not open", "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// Step opens what is due now. It must not run twice at once.
func (d *Disclosure) Step(ctx context.Context) error {
	now := d.now()
	err := d.open(ctx, now)
	s := Status{Err: err}
	var counted error
	s.Hidden, s.Overdue, s.Next, counted = d.journal.Hidden(ctx, now.Add(-Late))
	if counted != nil {
		err = errors.Join(err, counted)
		s = d.Status()
		s.Err = err
	}
	d.status.Store(&s)
	return err
}

func (d *Disclosure) open(ctx context.Context, now time.Time) error {
	due, err := d.journal.Due(ctx, now, batch)
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range due {
		err := d.disclose(ctx, c, now)
		if err == nil {
			continue
		}
		errs = append(errs, err)
		if now.Sub(c.Until) > Late && !d.alarmed[c.ID] {
			errs = append(errs, d.alarm(ctx, c, now, err))
		}
	}
	return errors.Join(errs...)
}

// disclose records that one entry is open from now on, if it does open.
func (d *Disclosure) disclose(ctx context.Context, c journal.Closed, now time.Time) error {
	e, err := d.journal.ByID(ctx, c.ID)
	if err != nil {
		return err
	}
	if e.Shredded { // the citizen's data is gone, and nobody is left to be told
		_, err := d.journal.Commit(ctx, func(tx *store.Tx) ([]pasban.Fact, error) {
			return nil, journal.MarkOpened(tx, c.ID, "erased")
		})
		return err
	}
	if e.Disclosed(now) == nil {
		return &pasban.Error{Kind: pasban.Unavailable, Where: "journal", Msg: fmt.Sprintf("entry %s does not say what the table of hidden entries says", c.ID)}
	}
	f := pasban.NewFact(pasban.KindOpening, d.agency, pasban.Actor{Kind: pasban.ActorSystem}, now)
	f.Subject = e.Fact.Subject
	f.Body.Service, f.Body.Action, f.Body.Mode = "ledger", "disclose", pasban.ModeAutomatic
	f.Body.Resource = strconv.FormatInt(e.Fact.Body.List.Number, 10)
	_, err = d.journal.Commit(ctx, func(tx *store.Tx) ([]pasban.Fact, error) {
		return []pasban.Fact{f}, journal.MarkOpened(tx, c.ID, f.Body.ID)
	})
	return err
}

// alarm records that an entry should be open and is not.
func (d *Disclosure) alarm(ctx context.Context, c journal.Closed, now time.Time, why error) error {
	f := pasban.NewFact(pasban.KindAlarm, d.agency, pasban.Actor{ID: "ledger", Kind: pasban.ActorSystem}, now)
	f.Body.Service, f.Body.Resource, f.Body.Action = "ledger", c.ID, "disclosure"
	f.Body.Outcome, f.Body.Mode = pasban.Denied, pasban.ModeAutomatic
	f.Restricted.Reasons = []string{"a hidden entry was due at " + c.Until.UTC().Format(time.RFC3339) + " and does not open: " + why.Error()}
	f.Restricted.More = map[string]string{"problem": why.Error()}
	if _, err := d.journal.Record(ctx, f); err != nil {
		return err
	}
	d.alarmed[c.ID] = true
	return nil
}
