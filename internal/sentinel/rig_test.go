package sentinel

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/journal"
	"pasban/internal/store"
	"pasban/internal/store/storetest"
)

// sealer is AES-256-GCM under one key held in memory: the agency's.
type sealer struct{ cipher.AEAD }

func (s sealer) Seal(_ context.Context, _ pasban.SubjectID, plain, aad []byte) ([]byte, error) {
	return s.AEAD.Seal(nil, nil, plain, aad), nil
}

func (s sealer) Open(_ context.Context, _ pasban.SubjectID, sealed, aad []byte) ([]byte, error) {
	return s.AEAD.Open(nil, nil, sealed, aad)
}

// faulty is a sealer that refuses the n-th record of a table from now on, once.
type faulty struct {
	sealer
	n atomic.Int64
}

func (f *faulty) Seal(ctx context.Context, s pasban.SubjectID, plain, aad []byte) ([]byte, error) {
	if strings.Contains(string(aad), "/v1 table ") && f.n.Add(-1) == 0 {
		return nil, errors.New("synthetic")
	}
	return f.sealer.Seal(ctx, s, plain, aad)
}

// rig is a guarded table in a server of its own, and a sentinel.
type rig struct {
	t  testing.TB
	pg *storetest.Cluster
	st *store.Store
	j  *journal.Journal
	o  Options
	s  *Sentinel

	stop func()
	seq  uint64 // of the journal, read so far
	bad  *faulty
	dir  string // of the store
}

const tableSQL = `
CREATE ROLE land_app LOGIN; CREATE ROLE watcher LOGIN SUPERUSER; CREATE ROLE eve LOGIN SUPERUSER;
CREATE TABLE parcel_owner (parcel_id bigint PRIMARY KEY, owner_cnic text NOT NULL, share numeric(6,4) NOT NULL, note text, since timestamptz DEFAULT '2020-01-01');
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON parcel_owner TO land_app;
`

// fillSQL makes synthetic rows.
func fillSQL(rows int) string {
	return fmt.Sprintf(`INSERT INTO parcel_owner SELECT i, lpad((i %% 99999)::text, 5, '0') || '-' || lpad((i::bigint * 7919 %% 9999999)::text, 7, '0') || '-' || (i %% 9 + 1), 0.25, CASE WHEN i %% 3 = 0 THEN NULL ELSE 'kharif ' || i END FROM generate_series(1, %d) i; ANALYZE parcel_owner;`, rows)
}

func newRig(t testing.TB, rows int, writers ...config.Writer) *rig {
	t.Helper()
	return newRigOn(t, filepath.Join(t.TempDir(), "store.db"), rows, writers...)
}

// newRigOn keeps the node's store where dsn says.
func newRigOn(t testing.TB, dsn string, rows int, writers ...config.Writer) *rig {
	t.Helper()
	r := &rig{t: t, pg: storetest.NewCluster(t, ""), dir: filepath.Dir(dsn)}
	r.pg.Exec(t, "postgres", r.pg.User, "CREATE DATABASE land")
	r.pg.Exec(t, "land", r.pg.User, tableSQL, fillSQL(rows))
	if writers == nil {
		writers = []config.Writer{{Role: "land_app"}}
	}
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	r.ok(err)
	aead, err := cipher.NewGCMWithRandomNonce(block)
	r.ok(err)
	skey, _, err := note.GenerateKey(rand.Reader, "test.example/ledger")
	r.ok(err)
	signer, err := note.NewSigner(skey)
	r.ok(err)
	r.st, err = store.Open(t.Context(), dsn)
	r.ok(err)
	t.Cleanup(func() { r.st.Close() })
	r.j, err = journal.Open(t.Context(), r.st, journal.Options{Signer: signer, Sealer: sealer{aead}})
	r.ok(err)
	r.bad = &faulty{sealer: sealer{aead}}
	var log io.Writer = io.Discard
	if os.Getenv("SENTINEL_LOG") != "" {
		log = os.Stderr
	}
	r.o = Options{Agency: "land-records", Dir: filepath.Join(t.TempDir(), "sentinel"), Store: r.st, Journal: r.j, Sealer: r.bad,
		Log: slog.New(slog.NewTextHandler(log, nil)),
		Tables: []config.GuardedTable{{Name: "owners", Database: config.Secret(r.pg.DSN("land", "watcher")), Table: "public.parcel_owner",
			Key: []string{"parcel_id"}, Columns: []string{"owner_cnic", "share", "note"}, Writers: writers, Audit: time.Hour}}}
	r.run()
	return r
}

func (r *rig) ok(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// run starts the sentinel; r.stop ends it.
func (r *rig) run() {
	r.t.Helper()
	var err error
	r.s, err = Open(r.t.Context(), r.o)
	r.ok(err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.t.Context()))
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.s.Run(ctx); !errors.Is(err, context.Canceled) {
			r.t.Error(err)
		}
	})
	r.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	r.t.Cleanup(r.stop)
}

var operator = pasban.Actor{ID: "operator:console", Kind: pasban.ActorPerson, Role: pasban.RoleAdmin}
var analyst = pasban.Actor{ID: "analyst:a-1", Kind: pasban.ActorPerson, Role: pasban.RoleAnalyst}
var supervisor = pasban.Actor{ID: "supervisor:s-1", Kind: pasban.ActorPerson, Role: pasban.RoleSupervisor}

// ask makes a request and waits for what comes of it.
func (r *rig) ask(q Request) (Request, error) {
	r.t.Helper()
	q.Table = "owners"
	q, err := r.s.Ask(r.t.Context(), operator, q)
	r.ok(err)
	if q.State == waiting {
		r.ok(r.s.Decide(r.t.Context(), supervisor, q.ID, true))
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), 2*time.Minute)
	defer cancel()
	return r.s.Await(ctx, q.ID, nil)
}

func (r *rig) baseline() Status {
	r.t.Helper()
	q, err := r.ask(Request{Kind: KindBaseline, Again: true, Provenance: Provenance{Origin: "synthetic", Attests: "Deputy Commissioner"}})
	r.ok(err)
	r.follows()
	return *q.Result.Status
}

func (r *rig) audit() AuditResult {
	r.t.Helper()
	q, err := r.ask(Request{Kind: KindAudit})
	r.ok(err)
	return *q.Result.Audit
}

// follows waits until the stream runs.
func (r *rig) follows() {
	r.t.Helper()
	r.until("the stream runs", func() bool {
		t := r.s.tables[0]
		t.mu.Lock()
		defer t.mu.Unlock()
		return t.status.Follows
	})
}

// caughtUp waits until the stream has recorded all that was committed.
func (r *rig) caughtUp() {
	r.t.Helper()
	now, err := r.s.tables[0].markStream(r.t.Context())
	r.ok(err)
	defer now.forget()
	r.ok(now.await(r.t.Context()))
}

func (r *rig) until(what string, holds func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); {
		if time.Now().After(deadline) {
			r.t.Fatal("not within a minute: " + what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// news returns the facts since the last call.
func (r *rig) news() []pasban.Fact {
	r.t.Helper()
	var out []pasban.Fact
	for {
		list, err := r.j.Since(r.t.Context(), r.seq, 1000)
		r.ok(err)
		if len(list) == 0 {
			return out
		}
		for _, e := range list {
			out = append(out, e.Fact)
			r.seq = e.Seq
		}
	}
}

// alarmed waits for an alarm with this action and returns it.
func (r *rig) alarmed(action string) pasban.Fact {
	r.t.Helper()
	var found pasban.Fact
	r.until("an alarm "+action, func() bool {
		for _, f := range r.news() {
			if f.Body.Kind == pasban.KindAlarm && f.Body.Action == action {
				found = f
				return true
			}
		}
		return false
	})
	return found
}

// quiet checks that there was no alarm.
func (r *rig) quiet() {
	r.t.Helper()
	for _, f := range r.news() {
		if f.Body.Kind == pasban.KindAlarm {
			r.t.Errorf("a false alarm %s: %v", f.Body.Action, f.Restricted.Reasons)
		}
	}
}

func (r *rig) app(q ...string)  { r.t.Helper(); r.pg.Exec(r.t, "land", "land_app", q...) }
func (r *rig) evil(q ...string) { r.t.Helper(); r.pg.Exec(r.t, "land", "eve", q...) }

func keysOf(list []Difference) string {
	var out []string
	for _, d := range list {
		out = append(out, d.Key+" "+d.Kind)
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func secretDSN(pg *storetest.Cluster) config.Secret {
	return config.Secret(pg.DSN("land", "watcher"))
}
