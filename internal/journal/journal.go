// Package journal keeps facts: every decision, look, change, sign-in, block
// and alarm, in one order, durable before anyone acts on it.
//
// # The way of a fact
//
// [Journal.Record] takes facts alone; [Journal.Commit] takes a function that
// changes data and returns the facts about it, and both commit in one
// transaction: a record and its fact cannot part. In the caller's goroutine
// the fact is fixed (canonical JSON, salts, leaf) and sealed: the body under
// the citizen's key, the restricted part under the agency's. In the store's
// writer, just before the group's COMMIT, it gets its sequence number and, if
// it is accountable, its leaf index, both without gaps, and its place in the list
// of everything accountable about its citizen: the number and the hash of the
// one before, which the leaf commits to. When the commit has returned, the ledger's
// key signs the group's promises, all with one signature ([pasban.Promise]).
//
// Two readers follow: the ledger's sequencer takes [Journal.Leaves], detection
// and the relay use [Journal.Tail], which keeps their position durably.
//
// A fact can be hidden until a date (pasban.Hidden): its details are kept apart,
// sealed under the citizen's key, and [Entry.Disclosed] gives them out when the
// date has come.
//
// # Guarantees
//
//   - When Record or Commit returns without an error, the facts are on stable
//     storage, and so is the data they are about. A promise exists only for
//     such a fact.
//   - seq counts from 1 in commit order, leaf indices from 0 over accountable
//     facts, neither with gaps, also with several nodes on one PostgreSQL.
//   - The accountable facts about one citizen are numbered from 1 without gaps,
//     and each names the leaf hash of the one before, also with several nodes.
//   - A reader gets every fact at least once and in order, across restarts.
//   - Whatever is read is checked: a row that was changed, exchanged or removed
//     is an error that names it, never a fact.
//
// # What it must never do
//
// It never changes or deletes a row (triggers in the database refuse it too),
// never signs before the commit, and never holds a plaintext body at rest.
// DESIGN.md says why it is built like this.
package journal

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/mod/sumdb/note"

	"pasban"
	"pasban/internal/store"
)

//go:embed migrations
var migrations embed.FS

// Sealer encrypts the bodies of facts. The subject "" stands for the agency's
// own key. Both methods are called from many goroutines; Seal also on the
// store's writer goroutine, so it must not write to the store: the key of a
// subject exists before any fact about them.
type Sealer interface {
	// Seal encrypts and authenticates plaintext, and authenticates aad.
	Seal(ctx context.Context, subject pasban.SubjectID, plaintext, aad []byte) ([]byte, error)
	// Open reverses Seal. Its error is of kind pasban.NotFound if, and only
	// if, the subject's key has been destroyed, and of kind pasban.Invalid if
	// sealed is not what Seal returned for this subject and aad.
	Open(ctx context.Context, subject pasban.SubjectID, sealed, aad []byte) ([]byte, error)
}

// Options are the parts that a journal works with. All are required.
type Options struct {
	Signer note.Signer // the ledger's key, which gives the promises
	Sealer Sealer
}

// Entry is a fact with its place in the journal.
type Entry struct {
	Seq   uint64
	Index int64       // leaf index, -1 if the fact is not accountable
	Leaf  pasban.Leaf // zero if the fact is not accountable
	// Fact is as it was recorded. Its body is empty but for Version, ID, Kind,
	// Time and List, and Shredded is set, if the citizen's key has been destroyed.
	Fact              pasban.Fact
	Opening           pasban.Opening // zero if Shredded
	RestrictedOpening pasban.RestrictedOpening
	HiddenOpening     *pasban.HiddenOpening // nil unless the fact is hidden; not to be shown before its date
	Promise           pasban.Promise        // zero unless accountable and just committed
	Shredded          bool
	// Damage is why the row cannot be trusted; only Tail hands such entries
	// on, with nothing else set but Seq and Index.
	Damage error
}

// LeafRow is the public part of an accountable fact.
type LeafRow struct {
	Index uint64
	Leaf  pasban.Leaf
}

// Journal is the table of facts in one store. It is safe for concurrent use.
type Journal struct {
	st     *store.Store
	signer note.Signer
	sealer Sealer

	// Owned by the store's writer goroutine.
	staged []*prepared // facts of the group under way
	ends   endCache
	args   []any // of the statement that inserts them

	mu     sync.Mutex // covers what follows
	wake   chan struct{}
	failed bool // the rows of the last group could not be inserted
}

// Open makes the journal's tables if need be and checks that the last row is
// the one that the head speaks of. There can be one Journal on a Store.
func Open(ctx context.Context, st *store.Store, o Options) (*Journal, error) {
	if o.Signer == nil || o.Sealer == nil {
		return nil, errors.New("journal: a signer and a sealer are required")
	}
	if err := st.Migrate(ctx, "journal", migrations); err != nil {
		return nil, err
	}
	j := &Journal{st: st, signer: o.Signer, sealer: o.Sealer, wake: make(chan struct{})}
	var err error
	if j.ends.lru, err = simplelru.NewLRU[pasban.SubjectID, listEnd](maxEnds, nil); err != nil {
		return nil, err
	}
	if err := j.checkHead(ctx); err != nil {
		return nil, err
	}
	st.OnCommit(j.number, j.committed)
	return j, nil
}

// checkHead notices rows cut off the end while the journal was closed.
func (j *Journal) checkHead(ctx context.Context) error {
	var head, leaves, last, rows, indices int64
	err := j.st.QueryRow(ctx, `SELECT h.seq, h.leaves,
		COALESCE((SELECT MAX(seq) FROM journal), 0), (SELECT COUNT(*) FROM (SELECT 1 FROM journal WHERE seq = h.seq) r),
		COALESCE((SELECT MAX(leaf_index) FROM journal), -1) + 1
		FROM journal_head h WHERE h.id = 1`).Scan(&head, &leaves, &last, &rows, &indices)
	if err != nil {
		return unavailable("read the journal's head", err)
	}
	if head != last || leaves != indices {
		return &pasban.Error{Kind: pasban.Unavailable, Where: "journal",
			Msg:  fmt.Sprintf("the head says %d rows and %d leaves, the table ends at %d and %d", head, leaves, last, indices),
			Hint: "rows were added or removed behind Pasban's back: restore the store from a backup"}
	}
	return nil
}

// Head returns the last sequence number and the number of leaves.
func (j *Journal) Head(ctx context.Context) (seq, leaves uint64, err error) {
	err = j.st.QueryRow(ctx, `SELECT seq, leaves FROM journal_head WHERE id = 1`).Scan(&seq, &leaves)
	if err != nil {
		return 0, 0, unavailable("read the journal's head", err)
	}
	return seq, leaves, nil
}

// errUndo undoes what Healthy tried.
var errUndo = errors.New("undo")

// Healthy returns nil if the last facts found their place in the table, or if
// none has been tried yet. If they did not, it tries whether a row can be
// written (and undoes it), and returns why not: so it says so until that is
// mended, and no longer, whether anyone records something meanwhile or not.
// What ails the whole store is for [store.Store.Healthy] to say.
func (j *Journal) Healthy(ctx context.Context) error {
	j.mu.Lock()
	failed := j.failed
	j.mu.Unlock()
	if !failed {
		return nil
	}
	err := j.st.Write(ctx, func(tx *store.Tx) error {
		// Row 0 is nobody's: the journal counts from 1.
		if _, err := tx.Exec(insertSQL(1), 0, nil, "probe", "probe", "", "", nil, []byte{}, []byte{}, nil, nil); err != nil {
			return err
		}
		return errUndo
	})
	if !errors.Is(err, errUndo) {
		return unavailable("facts cannot be recorded", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.failed = false
	return nil
}

// Record makes facts durable. When it returns without an error they are, in
// the order given, and accountable ones carry a promise. When it returns an
// error none of them is there, unless the error says that the outcome is not
// known or that a promise could not be signed. A fact that is there already is
// refused with kind Conflict.
func (j *Journal) Record(ctx context.Context, facts ...pasban.Fact) ([]Entry, error) {
	if len(facts) == 0 {
		return nil, nil
	}
	return j.keep(ctx, "record a fact", func() (rows []*prepared, own, err error) {
		if rows, own = j.prepare(ctx, facts); own != nil {
			return nil, own, own
		}
		return rows, nil, j.st.Write(ctx, func(tx *store.Tx) error {
			j.stage(tx, rows)
			return nil
		})
	})
}

// keepTries is how often facts are tried whose group was refused for a fact of
// somebody else's.
const keepTries = 10

// keep writes facts, again if their group was refused for a fact of somebody
// else's, and promises them. write returns the rows that it tried to write, and
// its caller's own error, if it was that, which is returned as it is.
func (j *Journal) keep(ctx context.Context, doing string, write func() (rows []*prepared, own, err error)) ([]Entry, error) {
	for tries := 1; ; tries++ {
		rows, own, err := write()
		switch {
		case err == nil:
			return entriesOf(rows)
		case own != nil && errors.Is(err, own):
			return nil, err
		}
		if err := j.twice(ctx, err, rows); err != nil {
			return nil, err
		}
		if _, group := errors.AsType[*store.Fault](err); !group || !j.st.Unique(err) || tries == keepTries {
			return nil, unavailable(doing, err)
		}
	}
}

// twice says which of the rows is in the journal already, after the storage
// refused the group that they were in. nil is none.
func (j *Journal) twice(ctx context.Context, refused error, rows []*prepared) error {
	if !j.st.Unique(refused) {
		return nil
	}
	for _, p := range rows {
		var seq int64
		err := j.st.QueryRow(ctx, `SELECT seq FROM journal WHERE id = ?`, p.fact.Body.ID).Scan(&seq)
		if err == nil {
			return &pasban.Error{Kind: pasban.Conflict, Where: "journal", Msg: fmt.Sprintf("fact %s is recorded already, as number %d", p.fact.Body.ID, seq)}
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return unavailable("look for a fact", err)
		}
	}
	return nil
}

// Commit makes data and the facts about it durable together: step changes data
// through tx and returns the facts, and all of it commits in one transaction.
// If step fails, or any of it cannot be kept, none of it is there. An error of
// step is returned as it is. step runs on the store's writer goroutine: it must
// be short and must not write through the store or the journal. It runs again, and
// nothing of what it wrote before is there, if others wrote in the same moment
// what could not be kept.
func (j *Journal) Commit(ctx context.Context, step func(tx *store.Tx) ([]pasban.Fact, error)) ([]Entry, error) {
	return j.keep(ctx, "commit a change and its facts", func() (rows []*prepared, own, err error) {
		err = j.st.Write(ctx, func(tx *store.Tx) error {
			var facts []pasban.Fact
			if facts, own = step(tx); own != nil {
				return own
			}
			if rows, own = j.prepare(ctx, facts); own != nil {
				return own
			}
			j.stage(tx, rows)
			return nil
		})
		return rows, own, err
	})
}

// Wait returns a channel that is closed when this node next commits facts. To
// miss none, call it before reading. Facts of other nodes on the same
// PostgreSQL do not wake it: poll as well.
func (j *Journal) Wait() <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.wake
}

// entriesOf turns committed rows into entries.
func entriesOf(rows []*prepared) ([]Entry, error) {
	entries := make([]Entry, len(rows))
	for i, p := range rows {
		if p.unsigned != nil {
			return nil, unavailable("the fact is recorded, but", p.unsigned)
		}
		entries[i] = p.entry()
	}
	return entries, nil
}

// unavailable wraps an error of the storage; a caller's own error, such as its
// context's, keeps its place in the chain.
func unavailable(doing string, err error) error {
	if _, ok := errors.AsType[*pasban.Error](err); ok {
		return err
	}
	if errors.Is(err, sql.ErrNoRows) {
		return &pasban.Error{Kind: pasban.NotFound, Msg: "no such fact in the journal", Err: err}
	}
	return &pasban.Error{Kind: pasban.Unavailable, Where: "journal", Msg: doing, Err: err}
}
