package journal

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"time"

	"pasban"
	"pasban/internal/store"
)

const (
	// tailMax is the most entries that one call of a reader's handler gets.
	tailMax = 256
	// pollEvery is how soon facts are seen that another process committed.
	pollEvery = 500 * time.Millisecond
	// saveEvery bounds how long a position waits to be saved, and so how much
	// is handed out again after a crash.
	saveEvery = 200 * time.Millisecond
)

// Tail hands every fact to handle, in order, and blocks until ctx is done or
// handle fails; it returns ctx's or handle's error. The reader's position is
// kept under its name: Tail goes on after the last batch that handle accepted,
// in this process or an earlier one. After a crash some facts may be handed
// out again, never one left out. A new reader starts at the first fact.
//
// A damaged row does not stop the readers, or whoever damaged it would have
// blinded them: it comes as an entry with Damage set. If the storage fails,
// Tail tries again until ctx is done.
//
// One reader's name must be used by one Tail at a time.
func (j *Journal) Tail(ctx context.Context, reader string, handle func(context.Context, []Entry) error) error {
	t := &tail{j: j, reader: reader}
	if err := t.load(ctx); err != nil {
		return err
	}
	defer t.save(ctx)
	return t.run(ctx, handle)
}

// Follow is Tail for a reader that keeps its position somewhere else: it begins
// after the fact with the given sequence number and saves nothing. The reader's
// name is for the log only.
func (j *Journal) Follow(ctx context.Context, reader string, after uint64, handle func(context.Context, []Entry) error) error {
	t := &tail{j: j, reader: reader, at: after, saved: after, apart: true}
	if err := t.check(ctx); err != nil {
		return err
	}
	return t.run(ctx, handle)
}

// tail is the state of one call of Tail, owned by its goroutine.
type tail struct {
	j         *Journal
	reader    string
	at, saved uint64 // the last fact handled, and what the table says of it
	savedAt   time.Time
	apart     bool // the position is kept by the reader
}

func (t *tail) run(ctx context.Context, handle func(context.Context, []Entry) error) error {
	for {
		woken := t.j.Wait() // before reading, or a commit in between is missed
		entries, err := t.j.since(ctx, t.at, tailMax)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			slog.ErrorContext(ctx, "journal: a reader cannot go on", "reader", t.reader, "seq", t.at, "err", err)
		case len(entries) > 0:
			t.report(ctx, entries)
			if err := handle(ctx, entries); err != nil {
				return err
			}
			t.at = entries[len(entries)-1].Seq
		}
		if time.Since(t.savedAt) >= saveEvery {
			t.save(ctx)
		}
		if len(entries) == tailMax {
			continue
		}
		pause := pollEvery
		if t.at != t.saved {
			pause = saveEvery
		}
		if err != nil {
			woken = nil // not at once: the storage needs time
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-woken:
		case <-time.After(pause):
		}
	}
}

func (t *tail) load(ctx context.Context) error {
	err := t.j.st.QueryRow(ctx, `SELECT seq FROM journal_reader WHERE reader = ?`, t.reader).Scan(&t.at)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return unavailable("read the position of "+t.reader, err)
	}
	t.saved, t.savedAt = t.at, time.Now()
	return t.check(ctx)
}

// check refuses a position that the journal never had.
func (t *tail) check(ctx context.Context) error {
	head, _, err := t.j.Head(ctx)
	if err != nil {
		return err
	}
	if t.at > head {
		return &pasban.Error{Kind: pasban.Unavailable, Where: "journal",
			Msg:  "reader " + t.reader + " is ahead of the journal",
			Hint: "the store seems to be an old copy: restore the newest backup"}
	}
	return nil
}

// save puts the position on stable storage. If that fails it is tried again
// with the next one: only what is handed out again after a crash grows.
func (t *tail) save(ctx context.Context) {
	t.savedAt = time.Now()
	if t.apart {
		t.saved = t.at
	}
	if t.at == t.saved {
		return
	}
	// Also when the reader is being stopped: that is when it matters.
	err := t.j.st.Write(context.WithoutCancel(ctx), func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO journal_reader (reader, seq) VALUES (?, ?)
			ON CONFLICT (reader) DO UPDATE SET seq = excluded.seq`, t.reader, int64(t.at))
		return err
	})
	if err != nil {
		slog.WarnContext(ctx, "journal: the position of a reader was not saved", "reader", t.reader, "seq", t.at, "err", err)
		return
	}
	t.saved = t.at
}

func (t *tail) report(ctx context.Context, entries []Entry) {
	for _, e := range entries {
		if e.Damage != nil {
			slog.ErrorContext(ctx, "journal: a row is damaged", "reader", t.reader, "seq", e.Seq, "err", e.Damage)
		}
	}
}
