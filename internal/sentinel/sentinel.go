// Package sentinel guards tables of existing services: it notices every change
// of a row that nobody authorised, whoever makes it and however, and can put the
// row back.
//
// # Main types
//
// A [Sentinel] guards the tables of a configuration, which are PostgreSQL's and
// stay as they are but for a publication and a trigger. [Status], [Difference]
// and [Request] are what console and command line are told.
//
// # The way of a change
//
//	table → logical replication → judge (who, from where, when) → batch
//	      → log on disk → journal: one leaf for the batch, alarms for what nobody authorised
//
// Beside it, an audit reads the whole table in one snapshot, hashes each row
// (package rowtree) and compares the hashes of buckets with those of the state,
// which is the baseline and every authorised change since. A bucket that differs
// is compared row by row. So what the stream cannot see (files edited on disk, a
// slot dropped, an old copy restored) is found too, and named.
//
// # Guarantees
//
//   - A change is confirmed to PostgreSQL only after the fact about it is durable.
//     After a crash it is read again and recorded once.
//   - The state on disk is believed only as far as the ledger commits to it: the
//     base by its root, later changes by the chain of their batches.
//   - Authorised changes in flight are no differences: an audit compares with
//     the state that its own snapshot sees.
//   - Whenever the sentinel was blind (no slot, a gap in the log, another server)
//     that is an alarm, and an audit follows.
//   - Rows leave the sentinel's files only sealed.
//
// # What it must never do
//
// It never changes a guarded table but for a repair that two people asked for
// and approved; never calls a table guarded that it does not follow; and never
// keeps the guarded server's disk from being freed: that server bounds what it
// keeps (max_slot_wal_keep_size), and a baseline without a bound is refused.
// DESIGN.md says why it is built like this.
package sentinel

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/durable"
	"pasban/internal/journal"
	"pasban/internal/store"
)

//go:embed migrations
var migrations embed.FS

// Service is what facts of the sentinel carry as their service.
const Service = "sentinel"

// Options are the parts that a sentinel works with. All are required but Log.
type Options struct {
	Agency  string // the agency's id
	Dir     string // of the sentinel's files, made if need be
	Store   *store.Store
	Journal *journal.Journal
	Sealer  journal.Sealer
	Tables  []config.GuardedTable
	Log     *slog.Logger // nil is slog.Default()
}

// Sentinel guards the tables of one node. It is safe for concurrent use. Of all
// processes that have one open, the one in Run works; the others ask it, through
// the store.
type Sentinel struct {
	o      Options
	tables []*table
	asked  chan struct{} // a request was made in this process
}

// Open makes the sentinel's tables in the store if need be. Nothing is guarded
// until Run.
func Open(ctx context.Context, o Options) (*Sentinel, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if err := o.Store.Migrate(ctx, "sentinel", migrations); err != nil {
		return nil, err
	}
	if err := makeDir(o.Dir); err != nil {
		return nil, err
	}
	s := &Sentinel{o: o, asked: make(chan struct{}, 1)}
	for _, g := range o.Tables {
		s.tables = append(s.tables, newTable(s, g))
	}
	return s, nil
}

// ErrElsewhere says that another process guards the tables.
var ErrElsewhere = &pasban.Error{Kind: pasban.Conflict, Where: "sentinel", Msg: "another process guards these tables"}

// Run guards the tables until ctx is done. It fails with ErrElsewhere at once if
// another process of this machine does so already.
func (s *Sentinel) Run(ctx context.Context) error {
	lock, err := durable.Lock(filepath.Join(s.o.Dir, "lock"))
	if errors.Is(err, durable.ErrLocked) {
		return ErrElsewhere
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := s.forget(ctx); err != nil {
		return err
	}
	var wg sync.WaitGroup
	for _, t := range s.tables {
		wg.Go(func() { t.run(ctx) })
	}
	s.serve(ctx)
	wg.Wait()
	return ctx.Err()
}

// forget ends what was running when the last process stopped.
func (s *Sentinel) forget(ctx context.Context) error {
	err := s.o.Store.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`UPDATE sentinel_request SET state = 'ready' WHERE state = 'running'`)
		return err
	})
	return unavailable("read requests", err)
}

// find returns the table with the name.
func (s *Sentinel) find(name string) (*table, error) {
	for _, t := range s.tables {
		if t.g.Name == name {
			return t, nil
		}
	}
	return nil, &pasban.Error{Kind: pasban.NotFound, Msg: fmt.Sprintf("no guarded table is named %q", name), Hint: "guard: in the configuration names them"}
}

// SetupSQL is what a guarded table's database needs, for its administrator.
func (s *Sentinel) SetupSQL(name string) (string, error) {
	t, err := s.find(name)
	if err != nil {
		return "", err
	}
	return t.src.setupSQL(), nil
}

// Status is what the sentinel says of one table.
type Status struct {
	Table     string `json:"table"`    // its name
	Source    string `json:"source"`   // schema.table
	Baseline  string `json:"baseline"` // id of the fact; "" if there is none yet
	Taken     string `json:"baseline_taken,omitempty"`
	Origin    string `json:"rows_from,omitempty"`   // where the rows came from, as was said
	Attests   string `json:"attests,omitempty"`     // who answers for them, as was said
	Attested  bool   `json:"attested"`              // two people confirmed it
	Rows      int64  `json:"rows"`                  // in the baseline or the last audit
	Contest   int    `json:"contested,omitempty"`   // rows that somebody contests
	Changes   int64  `json:"changes"`               // seen since the process started
	Refused   int64  `json:"unauthorised"`          // of them
	Follows   bool   `json:"follows"`               // the stream runs
	Seen      string `json:"seen,omitempty"`        // when the stream last said something, RFC 3339
	LagBytes  int64  `json:"lag_bytes"`             // WAL that the server keeps for the stream
	Limit     int64  `json:"limit_bytes,omitempty"` // more until the server drops the slot
	Audit     string `json:"last_audit,omitempty"`  // RFC 3339
	AuditMS   int64  `json:"audit_ms,omitempty"`
	AuditFact string `json:"audit_fact,omitempty"`
	Open      int    `json:"differences"`          // rows that are not what was authorised
	Blind     string `json:"blind,omitempty"`      // why changes may have been missed
	Changed   string `json:"definition,omitempty"` // the table's definition changed and nobody approved it
	Problem   string `json:"problem,omitempty"`    // what keeps the guard from working
}

// OK reports whether the table is guarded and every row is as authorised.
func (s Status) OK() bool {
	return s.Baseline != "" && s.Follows && s.Open == 0 && s.Blind == "" && s.Changed == "" && s.Problem == ""
}

// Problems says in words why OK is false.
func (s Status) Problems() []string {
	var out []string
	add := func(on bool, text string) {
		if on {
			out = append(out, text)
		}
	}
	add(s.Baseline == "", "there is no baseline: the table is not guarded (pasban sentinel baseline)")
	add(s.Problem != "", s.Problem)
	add(s.Baseline != "" && !s.Follows && s.Problem == "", "the stream does not run")
	add(s.Open > 0, fmt.Sprintf("%d rows are not what was authorised", s.Open))
	add(s.Blind != "", "changes may have been missed: "+s.Blind)
	add(s.Changed != "", "its definition was changed and nobody approved it")
	return out
}

// Status tells of all tables, in the order of the configuration, as the process
// that guards them last wrote it down.
func (s *Sentinel) Status(ctx context.Context) ([]Status, error) {
	var out []Status
	for _, t := range s.tables {
		st := Status{Table: t.g.Name, Source: t.g.Table}
		var text string
		err := s.o.Store.QueryRow(ctx, `SELECT status FROM sentinel_table WHERE name = ?`, t.g.Name).Scan(&text)
		if err == nil {
			err = json.Unmarshal([]byte(text), &st)
		} else if errors.Is(err, sql.ErrNoRows) {
			err = nil
		}
		if err == nil {
			err = s.o.Store.QueryRow(ctx, `SELECT COUNT(*) FROM sentinel_difference WHERE tbl = ? AND state = 'open'`, t.g.Name).Scan(&st.Open)
		}
		if err != nil {
			return nil, unavailable("read how the guard is", err)
		}
		if seen, err := time.Parse(time.RFC3339, st.Seen); st.Follows && (err != nil || time.Since(seen).Abs() > staleAfter) { // also if the clock was set back
			st.Follows, st.Problem = false, "nothing was heard of the guard since "+st.Seen
		}
		out = append(out, st)
	}
	return out, nil
}

// staleAfter is how old a status may be before it is not believed.
const staleAfter = time.Minute

// Difference is a row that is not what was authorised.
type Difference struct {
	ID      string    `json:"id"`
	Table   string    `json:"table"`
	Found   time.Time `json:"found"`
	State   string    `json:"state"` // open, repaired, accepted, gone
	Key     string    `json:"key"`   // the row's key, as COPY writes it
	Kind    string    `json:"kind"`  // changed, missing or extra
	Before  *string   `json:"authorised"`
	After   *string   `json:"found_row"`
	By      string    `json:"by,omitempty"` // the session, as far as the stream saw it
	Why     string    `json:"why"`
	Columns []string  `json:"columns"`
	Fact    string    `json:"fact"`           // the alarm
	Leaf    string    `json:"leaf,omitempty"` // the fact whose leaf commits to the authorised version
	// Contested says that somebody contests the row since the baseline.
	Contested bool `json:"contested,omitempty"`
}

// maxDifferences is how many open differences of a table are kept one by one.
const maxDifferences = 1000

// Differences lists a table's open differences, newest first.
func (s *Sentinel) Differences(ctx context.Context, name string) ([]Difference, error) {
	rows, err := s.o.Store.Query(ctx, `SELECT id, at, state, detail FROM sentinel_difference WHERE tbl = ? AND state = 'open' ORDER BY at DESC, id LIMIT ?`, name, maxDifferences)
	if err != nil {
		return nil, unavailable("read differences", err)
	}
	defer rows.Close()
	var out []Difference
	for rows.Next() {
		var id, state string
		var at int64
		var sealed []byte
		if err := rows.Scan(&id, &at, &state, &sealed); err != nil {
			return nil, unavailable("read differences", err)
		}
		var d Difference
		if err := s.unseal(ctx, sealed, "difference "+name+" "+id, &d); err != nil {
			return nil, err
		}
		d.ID, d.Table, d.State, d.Found = id, name, state, time.UnixMilli(at).UTC()
		out = append(out, d)
	}
	return out, unavailable("read differences", rows.Err())
}

// seal and unseal keep JSON under the agency's key.
func (s *Sentinel) seal(ctx context.Context, v any, what string) ([]byte, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	sealed, err := s.o.Sealer.Seal(ctx, "", plain, []byte("pasban/sentinel/v1 "+what))
	return sealed, unavailable("seal what the sentinel knows", err)
}

func (s *Sentinel) unseal(ctx context.Context, sealed []byte, what string, v any) error {
	plain, err := s.o.Sealer.Open(ctx, "", sealed, []byte("pasban/sentinel/v1 "+what))
	if err != nil {
		return unavailable("open what the sentinel knows", err)
	}
	return json.Unmarshal(plain, v)
}

// record is where the guard of one table is. It changes in the same transaction
// as the facts about it.
type record struct {
	Baseline    string      `json:"baseline"` // fact
	Taken       string      `json:"taken"`
	Origin      string      `json:"origin"`
	Attests     string      `json:"attests"`
	Attested    bool        `json:"attested"`
	Contested   []string    `json:"contested"` // keys
	Anchor      string      `json:"anchor"`    // the fact that commits to the base
	Last        string      `json:"last"`      // the fact of the last batch; "" if none since the anchor
	Gen         int64       `json:"gen"`
	Rows        int64       `json:"rows"`
	Tx          uint64      `json:"tx"`    // commit of the last transaction that was recorded
	Ord         int64       `json:"ord"`   // changes of it that were recorded
	Acked       uint64      `json:"acked"` // what the server was told at most
	System      string      `json:"system"`
	Timeline    int32       `json:"timeline"`
	Fingerprint fingerprint `json:"fingerprint"`
	Filenode    uint32      `json:"filenode"`
	Blind       string      `json:"blind"`
	Settled     int64       `json:"settled"` // see state
	// Orders are the change orders in force, by the request's id.
	Orders map[string]changeOrder `json:"orders,omitempty"`
}

// load reads a table's record and key; there is none before a baseline.
func (s *Sentinel) load(ctx context.Context, name string) (record, *cryptor, error) {
	var rec record
	var key, detail []byte
	err := s.o.Store.QueryRow(ctx, `SELECT key, detail FROM sentinel_table WHERE name = ?`, name).Scan(&key, &detail)
	if errors.Is(err, sql.ErrNoRows) {
		return rec, nil, nil
	}
	if err != nil {
		return rec, nil, unavailable("read where the guard is", err)
	}
	if err := s.unseal(ctx, detail, "table "+name, &rec); err != nil {
		return rec, nil, err
	}
	var raw []byte
	if err := s.unseal(ctx, key, "key "+name, &raw); err != nil {
		return rec, nil, err
	}
	crypt, err := newCryptor(raw)
	return rec, crypt, err
}

// save writes a table's record. Runs on the store's writer goroutine.
func (s *Sentinel) save(ctx context.Context, tx *store.Tx, name string, rec record) error {
	detail, err := s.seal(ctx, rec, "table "+name)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`UPDATE sentinel_table SET detail = ? WHERE name = ?`, detail, name)
	return err
}

// newKey makes the key of a table's files.
func (s *Sentinel) newKey(ctx context.Context, name string) (*cryptor, []byte, error) {
	raw := make([]byte, 32)
	rand.Read(raw)
	sealed, err := s.seal(ctx, raw, "key "+name)
	if err != nil {
		return nil, nil, err
	}
	crypt, err := newCryptor(raw)
	return crypt, sealed, err
}

// fact starts a fact about a table.
func (s *Sentinel) fact(kind pasban.Kind, name, action string) pasban.Fact {
	f := pasban.NewFact(kind, s.o.Agency, pasban.Actor{ID: Service, Kind: pasban.ActorSystem}, time.Now())
	f.Body.Service, f.Body.Resource, f.Body.Action, f.Body.Mode = Service, name, action, pasban.ModeAutomatic
	if kind == pasban.KindAlarm {
		f.Body.Outcome = pasban.Denied
	}
	f.Restricted.More = map[string]string{}
	return f
}

// bound keeps lists in facts short.
func bound(list []string, max int) []string {
	if len(list) <= max {
		return list
	}
	return append(slices.Clone(list[:max]), fmt.Sprintf("and %d more", len(list)-max))
}

func unavailable(msg string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*pasban.Error](err); ok {
		return err
	}
	return &pasban.Error{Kind: pasban.Unavailable, Where: "sentinel", Msg: msg, Err: err}
}

// lastAudit is the fact of the last audit that an earlier process wrote down.
func (s *Sentinel) lastAudit(ctx context.Context, name string) (string, error) {
	var text string
	var st Status
	err := s.o.Store.QueryRow(ctx, `SELECT status FROM sentinel_table WHERE name = ?`, name).Scan(&text)
	if err == nil {
		err = json.Unmarshal([]byte(text), &st)
	}
	return st.AuditFact, unavailable("read how the guard was", err)
}
