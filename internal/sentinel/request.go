package sentinel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"pasban"
	"pasban/internal/store"
)

// Kinds of requests. The first three are an operator's to make; the others change
// what counts as authorised, or the table, and need a second person.
const (
	KindBaseline   = "baseline"   // take the table as it is
	KindAudit      = "audit"      // compare it now
	KindProve      = "prove"      // find what proves a row
	KindAttest     = "attest"     // the baseline's rows are what they should be
	KindRepair     = "repair"     // put rows back to their last authorised version
	KindAccept     = "accept"     // take rows as they were found
	KindDefinition = "definition" // the table's new definition is meant
	KindOrder      = "order"      // a role may change rows by hand for an hour
)

// States of a request.
const (
	waiting = "waiting" // for a second person
	ready   = "ready"
	running = "running"
	done    = "done"
	failed  = "failed"
	refused = "refused"
)

// maxContested bounds the rows that a baseline marks as contested.
const maxContested = 10_000

// Request asks the sentinel to do something.
type Request struct {
	ID     string    `json:"id"`
	Table  string    `json:"table"`
	Kind   string    `json:"kind"`
	At     time.Time `json:"at"`
	State  string    `json:"state"` // waiting, ready, running, done, failed, refused
	By     string    `json:"by"`    // actor's id
	Reason string    `json:"reason,omitempty"`
	Rows   []string  `json:"rows,omitempty"`   // ids of differences
	Target string    `json:"target,omitempty"` // what it is about: a baseline's fact, a definition's hash, a database role
	Again  bool      `json:"again,omitempty"`  // a baseline in place of one that is there
	Second string    `json:"second,omitempty"` // who approved or refused it
	Provenance
	Result Result `json:"-"`
}

// Result is how far a request is, or what came of it.
type Result struct {
	Progress string       `json:"progress,omitempty"`
	Error    string       `json:"error,omitempty"`
	Audit    *AuditResult `json:"audit,omitempty"`
	Status   *Status      `json:"status,omitempty"`
	Rows     int          `json:"rows,omitempty"`
	Proof    *Proven      `json:"proof,omitempty"`
}

// Ask makes a request in an actor's name. Audits and baselines are done at once;
// what else there is waits for [Sentinel.Decide] by another person. It returns
// when the request is durable. Errors: Invalid, NotFound, Forbidden.
func (s *Sentinel) Ask(ctx context.Context, actor pasban.Actor, r Request) (Request, error) {
	if _, err := s.find(r.Table); err != nil {
		return r, err
	}
	state := waiting
	switch r.Kind {
	case KindAudit, KindProve:
		state = ready
	case KindBaseline:
		state = ready
		if strings.TrimSpace(r.Origin) == "" || strings.TrimSpace(r.Attests) == "" {
			return r, &pasban.Error{Kind: pasban.Invalid, Msg: "a baseline says where its rows come from and who answers for them", Hint: "--from and --attested-by"}
		}
		if len(r.Contested) > maxContested {
			return r, &pasban.Error{Kind: pasban.Limited, Msg: fmt.Sprintf("at most %d rows can be marked as contested", maxContested)}
		}
	case KindRepair, KindAccept:
		if len(r.Rows) == 0 {
			return r, &pasban.Error{Kind: pasban.Invalid, Msg: "name the rows"}
		}
	case KindDefinition:
	case KindOrder:
		if strings.TrimSpace(r.Target) == "" {
			return r, &pasban.Error{Kind: pasban.Invalid, Where: "role", Msg: "name the database role that is to carry the order out"}
		}
	default:
		return r, &pasban.Error{Kind: pasban.Invalid, Msg: fmt.Sprintf("there is no request %q", r.Kind)}
	}
	may := []pasban.Role{pasban.RoleAnalyst, pasban.RoleSupervisor, pasban.RoleAdmin}
	if !slices.Contains(may, actor.Role) {
		return r, &pasban.Error{Kind: pasban.Forbidden, Msg: "this is for analysts, supervisors and administrators"}
	}
	if state == waiting && strings.TrimSpace(r.Reason) == "" {
		return r, &pasban.Error{Kind: pasban.Invalid, Where: "reason", Msg: "say why"}
	}
	r.By = actor.ID
	f := pasban.NewFact(pasban.KindAdmin, s.o.Agency, actor, time.Now())
	f.Body.Service, f.Body.Action, f.Body.Resource = Service, "table.ask-"+r.Kind, r.Table
	f.Restricted.More = map[string]string{"reason": r.Reason, "rows": fmt.Sprint(len(r.Rows))}
	_, err := s.o.Journal.Commit(ctx, func(tx *store.Tx) ([]pasban.Fact, error) {
		return []pasban.Fact{f}, s.insert(ctx, tx, &r, state)
	})
	s.wake()
	return r, unavailable("keep the request", err)
}

// wake has requests looked for now.
func (s *Sentinel) wake() {
	select {
	case s.asked <- struct{}{}:
	default:
	}
}

// insert keeps a new request. Runs on the store's writer goroutine.
func (s *Sentinel) insert(ctx context.Context, tx *store.Tx, r *Request, state string) error {
	r.ID, r.At, r.State = pasban.NewID(), time.Now().UTC(), state
	detail, err := s.seal(ctx, r, "request "+r.ID)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO sentinel_request (id, tbl, kind, at, state, detail, result) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		r.ID, r.Table, r.Kind, r.At.UnixMilli(), state, detail, []byte{})
	return err
}

// Decide approves or refuses a request. Errors: Forbidden unless the actor is a
// supervisor, and not the one who asked; Conflict if it waits no longer.
func (s *Sentinel) Decide(ctx context.Context, actor pasban.Actor, id string, approve bool) error {
	r, err := s.Request(ctx, id)
	if err != nil {
		return err
	}
	switch {
	case actor.Role != pasban.RoleSupervisor:
		return &pasban.Error{Kind: pasban.Forbidden, Msg: "only supervisors decide on requests"}
	case actor.ID == r.By:
		return &pasban.Error{Kind: pasban.Forbidden, Msg: "who asked cannot decide: it takes a second person"}
	}
	r.Second = actor.ID
	state, action := ready, "table.approve-"
	if !approve {
		state, action = refused, "table.refuse-"
	}
	detail, err := s.seal(ctx, r, "request "+r.ID)
	if err != nil {
		return err
	}
	f := pasban.NewFact(pasban.KindAdmin, s.o.Agency, actor, time.Now())
	f.Body.Service, f.Body.Action, f.Body.Resource = Service, action+r.Kind, r.Table
	f.Restricted.More = map[string]string{"request": r.ID, "asked_by": r.By, "reason": r.Reason}
	_, err = s.o.Journal.Commit(ctx, func(tx *store.Tx) ([]pasban.Fact, error) {
		res, err := tx.Exec(`UPDATE sentinel_request SET state = ?, detail = ? WHERE id = ? AND state = 'waiting'`, state, detail, id)
		if err != nil {
			return nil, err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return nil, errors.Join(err, &pasban.Error{Kind: pasban.Conflict, Msg: "the request waits no longer"})
		}
		return []pasban.Fact{f}, nil
	})
	s.wake()
	return unavailable("keep the decision", err)
}

// Request returns a request with what came of it, or an error of kind NotFound.
func (s *Sentinel) Request(ctx context.Context, id string) (Request, error) {
	list, err := s.requests(ctx, `WHERE id = ?`, id)
	if err == nil && len(list) == 0 {
		err = &pasban.Error{Kind: pasban.NotFound, Msg: "there is no such request"}
	}
	if err != nil {
		return Request{}, err
	}
	return list[0], nil
}

// Waiting lists the requests that wait for a second person, oldest first.
func (s *Sentinel) Waiting(ctx context.Context) ([]Request, error) {
	return s.requests(ctx, `WHERE state = 'waiting' ORDER BY at LIMIT 200`)
}

func (s *Sentinel) requests(ctx context.Context, where string, args ...any) ([]Request, error) {
	rows, err := s.o.Store.Query(ctx, `SELECT id, tbl, kind, at, state, detail, result FROM sentinel_request `+where, args...)
	if err != nil {
		return nil, unavailable("read requests", err)
	}
	defer rows.Close()
	var out []Request
	for rows.Next() {
		var id, tbl, kind, state string
		var at int64
		var detail, result []byte
		if err := rows.Scan(&id, &tbl, &kind, &at, &state, &detail, &result); err != nil {
			return nil, unavailable("read requests", err)
		}
		var r Request
		if err := s.unseal(ctx, detail, "request "+id, &r); err != nil {
			return nil, err
		}
		if r.ID != id || r.Table != tbl || r.Kind != kind {
			return nil, &pasban.Error{Kind: pasban.Unavailable, Where: "sentinel", Msg: "a request was changed behind Pasban's back"}
		}
		r.At, r.State = time.UnixMilli(at).UTC(), state
		if len(result) > 0 {
			if err := s.unseal(ctx, result, "result "+id, &r.Result); err != nil {
				return nil, err
			}
		}
		out = append(out, r)
	}
	return out, unavailable("read requests", rows.Err())
}

const (
	// pollEvery is how often requests are looked for.
	pollEvery = 300 * time.Millisecond
	// strangeFor is how long a request about an unknown table may wait.
	strangeFor = 10 * time.Second
)

// serve does what is asked for, until ctx is done.
func (s *Sentinel) serve(ctx context.Context) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.asked:
		}
		list, err := s.requests(ctx, `WHERE state = 'ready' ORDER BY at LIMIT 10`)
		if err != nil {
			if ctx.Err() == nil {
				s.o.Log.Error("requests to the sentinel could not be read", "err", err)
			}
			continue
		}
		for _, r := range list {
			t, err := s.find(r.Table)
			if err != nil {
				if time.Since(r.At) > strangeFor { // perhaps another node's, which would have taken it by now
					res := Result{Error: "the process that guards the tables does not know this one: restart the node to read the configuration"}
					if err := s.settle(ctx, r.ID, failed, res); err != nil {
						s.o.Log.Error("a request could not be ended", "err", err)
					}
				}
				continue
			}
			s.do(ctx, t, r)
		}
	}
}

// do does one request and writes down what came of it.
func (s *Sentinel) do(ctx context.Context, t *table, r Request) {
	if err := s.settle(ctx, r.ID, running, Result{}); err != nil {
		s.o.Log.Error("a request could not be taken", "err", err)
		return
	}
	var res Result
	var err error
	switch r.Kind {
	case KindBaseline:
		res, err = s.doBaseline(ctx, t, r)
	case KindAudit:
		res, err = t.auditNow(ctx)
	case KindProve:
		res.Proof, err = t.prove(r.Target)
	case KindRepair:
		res.Rows, err = t.repair(ctx, r)
	case KindAccept:
		res.Rows, err = t.accept(ctx, r)
	case KindDefinition:
		err = t.acceptDefinition(ctx, r)
	case KindOrder:
		err = t.permit(ctx, r)
	case KindAttest:
		err = t.keepPlace(ctx, func(rec *record) { rec.Attested = rec.Attested || rec.Baseline == r.Target })
		t.mu.Lock()
		t.fill()
		t.mu.Unlock()
	}
	state := done
	if err != nil {
		state, res.Error = failed, err.Error()
		s.o.Log.Error("a request failed", "kind", r.Kind, "table", r.Table, "err", err)
	}
	if ctx.Err() != nil {
		return // it is taken up again
	}
	t.writeStatus(ctx)
	if err := s.settle(ctx, r.ID, state, res); err != nil {
		s.o.Log.Error("what came of a request could not be kept", "err", err)
	}
}

func (s *Sentinel) doBaseline(ctx context.Context, t *table, r Request) (Result, error) {
	said := time.Time{}
	by := pasban.Actor{ID: r.By, Kind: pasban.ActorPerson, Role: pasban.RoleAdmin}
	st, err := t.takeBaseline(ctx, r.Provenance, by, r.Again, func(text string) {
		if time.Since(said) < pollEvery {
			return
		}
		said = time.Now()
		if err := s.settle(ctx, r.ID, running, Result{Progress: text}); err != nil {
			s.o.Log.Warn("a baseline's progress could not be kept", "err", err)
		}
	})
	return Result{Status: &st}, err
}

func (s *Sentinel) settle(ctx context.Context, id, state string, res Result) error {
	if res.Audit != nil && len(res.Audit.Differences) > maxDifferences {
		short := *res.Audit
		short.Differences = short.Differences[:maxDifferences]
		res.Audit = &short
	}
	sealed, err := s.seal(context.WithoutCancel(ctx), res, "result "+id)
	if err != nil {
		return err
	}
	return s.o.Store.Write(context.WithoutCancel(ctx), func(tx *store.Tx) error {
		_, err := tx.Exec(`UPDATE sentinel_request SET state = ?, result = ? WHERE id = ?`, state, sealed, id)
		return err
	})
}

// Await waits until a request is done and returns it; progress is told what it
// says of itself meanwhile. Its error is the request's.
func (s *Sentinel) Await(ctx context.Context, id string, progress func(string)) (Request, error) {
	last := ""
	for {
		r, err := s.Request(ctx, id)
		if err != nil {
			return r, err
		}
		switch r.State {
		case done:
			return r, nil
		case failed:
			return r, &pasban.Error{Kind: pasban.Unavailable, Msg: r.Result.Error}
		case refused, waiting:
			return r, nil
		}
		if r.Result.Progress != last && progress != nil {
			last = r.Result.Progress
			progress(last)
		}
		select {
		case <-ctx.Done():
			return r, ctx.Err()
		case <-time.After(pollEvery / 15):
		}
	}
}

// auditNow has the guard audit, and waits for it.
func (t *table) auditNow(ctx context.Context) (Result, error) {
	rec, _, err := t.s.load(ctx, t.g.Name)
	if err != nil {
		return Result{}, err
	}
	if rec.Baseline == "" {
		return Result{}, &pasban.Error{Kind: pasban.Conflict, Where: "guarded table " + t.g.Name, Msg: "the table has no baseline", Hint: "pasban sentinel baseline"}
	}
	answer := make(chan auditDone, 1)
	select {
	case t.audits <- answer:
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for away := time.Duration(0); ; {
		select {
		case d := <-answer:
			return Result{Audit: &d.result}, d.err
		case <-ctx.Done():
			return Result{}, ctx.Err()
		case <-tick.C:
		}
		t.mu.Lock()
		follows, problem := t.status.Follows, t.status.Problem
		t.mu.Unlock()
		if away += time.Second; follows {
			away = 0
		}
		if away > followWait {
			return Result{}, &pasban.Error{Kind: pasban.Unavailable, Where: "guarded table " + t.g.Name, Msg: "the table is not followed: " + problem, Hint: "pasban sentinel status says more"}
		}
	}
}

// followWait is how long an audit waits for a table that is not followed.
const followWait = 20 * time.Second
