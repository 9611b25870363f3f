// Package registry keeps the records of declared services and holds the one
// way to any citizen's data.
//
// # Data flow
//
// [Guard.Disclose] is the heart: decide → journal → plaintext. It serves
// declared services and proxied ones alike: the gateway calls it before an
// existing page is shown, [Registry.Open] before a record is opened.
//
// A declared service is a YAML file ([Service]): a form, classes of protection,
// a workflow, a legal basis. [Registry.Apply] checks the answers, seals each
// under the key of the citizen whom it is about, and commits the record with
// the facts about its creation in one transaction. Opening reads the sealed
// fields, discloses, and gives the vault the promise that the disclosure
// yielded; without one the vault opens nothing.
//
// # Guarantees
//
// No path yields plaintext of a personal or sensitive answer unless the look is
// durable in the journal and promised. A refusal is durable before it is told.
// A record and the facts about it are both there after a crash, or neither. At
// rest, nothing but public answers is in the clear: not the CNIC, not in an
// index.
//
// # What this package must never do
//
// Cache or log an opened answer, decide by itself who may see what (policies
// do), or answer while the ledger cannot follow.
package registry

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"pasban"
	"pasban/internal/access"
	"pasban/internal/store"
	"pasban/internal/vault"
)

//go:embed migrations
var migrations embed.FS

// Options are the parts of a Registry. All are required.
type Options struct {
	Guard    *Guard
	Vault    *vault.Vault
	Services []*Service // as of LoadServices
}

// Registry keeps the records of declared services. It is safe for concurrent use.
type Registry struct {
	st       *store.Store
	guard    *Guard
	vault    *vault.Vault
	services atomic.Pointer[[]*Service]
}

// New makes the tables if need be.
func New(ctx context.Context, st *store.Store, o Options) (*Registry, error) {
	if o.Guard == nil || o.Vault == nil {
		return nil, errors.New("registry: a guard and a vault are required")
	}
	if err := st.Migrate(ctx, "registry", migrations); err != nil {
		return nil, fmt.Errorf("tables of records: %w", err)
	}
	r := &Registry{st: st, guard: o.Guard, vault: o.Vault}
	r.Reload(o.Services)
	return r, nil
}

// Reload exchanges the declared services.
func (r *Registry) Reload(services []*Service) { r.services.Store(&services) }

// Services returns the declared services in the order of their files. They
// must not be changed.
func (r *Registry) Services() []*Service { return slices.Clone(*r.services.Load()) }

// Service returns the declared service of an id, or an error of kind NotFound.
func (r *Registry) Service(id string) (*Service, error) {
	for _, s := range *r.services.Load() {
		if s.ID == id {
			return s, nil
		}
	}
	return nil, &pasban.Error{Kind: pasban.NotFound, Msg: "there is no such service", Where: clip(id, 64)}
}

// Ask is who wants something of a record, why, and from where.
type Ask struct {
	Actor   pasban.Actor
	Purpose pasban.Purpose    // Code and Case; the basis is the service's
	Client  pasban.Restricted // IP, UserAgent, Host, Method, Path, Query
}

// Summary is a record without anybody's data.
type Summary struct {
	ID        string
	Service   string
	State     string
	Public    map[string]string // answers of class public
	CreatedAt time.Time
	UpdatedAt time.Time
	Version   int // grows with every step
}

// Taken is a step that was taken; the first, with Step "", is the beginning.
type Taken struct {
	Step  string
	State string // that it led to
	Role  pasban.Role
	At    time.Time
}

// Record is an opened record.
type Record struct {
	Summary
	Values  map[string]string // those that were opened, and the public ones
	Closed  []string          // names of answers that are there and were not opened
	History []Taken
	Disclosure
}

// party is a citizen whom a record is about. In a record that was read the
// CNIC is there only sealed: see Registry.name.
type party struct {
	field   string
	subject pasban.Subject
	number  []byte // sealed CNIC
}

// look is the common part of every look at a record of the service.
func (s *Service) look(a Ask, id, action string) Look {
	a.Purpose.Basis = s.Basis.En
	return Look{Actor: a.Actor, Service: s.ID, Resource: id, Action: action, Purpose: a.Purpose,
		AllowedPurposes: s.PurposeCodes(), Mode: pasban.ModePerson, Client: a.Client}
}

// Apply hands in an application and returns its reference number, which is
// durable then. Wrong answers are joined errors of kind Invalid, whose Where is
// the field's name. A citizen must be one of the parties.
func (r *Registry) Apply(ctx context.Context, a Ask, service string, values map[string]string) (Summary, Disclosure, error) {
	none := func(err error) (Summary, Disclosure, error) { return Summary{}, Disclosure{}, err }
	s, err := r.Service(service)
	if err != nil {
		return none(err)
	}
	if !slices.Contains(s.Apply, a.Actor.Role) {
		return none(r.refuse(ctx, s.look(a, "", access.Create), "the service does not take applications from your role"))
	}
	if values, err = s.Check(values); err != nil {
		return none(err)
	}
	parties, err := r.parties(ctx, s, values)
	if err != nil {
		return none(err)
	}
	if a.Actor.Role == pasban.RoleCitizen && !isParty(parties, a.Actor.Subject) {
		return none(&pasban.Error{Kind: pasban.Invalid, Where: s.firstSubject(), Msg: "the application is not about you",
			Hint: "one of the CNICs must be your own"})
	}
	id := newID(s.Prefix)
	draft, err := r.seal(ctx, s, id, parties, values)
	if err != nil {
		return none(err)
	}
	l := s.look(a, id, access.Create)
	l.Subjects, l.FieldsOf = subjectsOf(parties), fieldsOf(s, parties, values)
	now := time.Now().UTC().Truncate(time.Millisecond)
	d, err := r.guard.Disclose(ctx, l, func(tx *store.Tx) error { return draft.insert(tx, a.Actor, now) })
	if err != nil {
		return none(err)
	}
	return Summary{ID: id, Service: s.ID, State: s.Workflow.Start, Public: draft.public, CreatedAt: now, UpdatedAt: now, Version: 1}, d, nil
}

// refuse refuses what the declaration of a service does not provide for,
// before policies are asked. It is a fact like any other refusal.
func (r *Registry) refuse(ctx context.Context, l Look, reason string) error {
	if l.Actor.Role == "" {
		return &pasban.Error{Kind: pasban.Unauthenticated, Msg: "sign in first"}
	}
	l = l.normal()
	return r.guard.refuse(ctx, l, l.Subjects[0], pasban.Decision{Reasons: []string{reason}}, time.Now())
}

// Open opens a record for a stated purpose. A citizen gets the answers that are
// about them; officers get all but the sensitive ones, and those too if fields
// names them. An unknown record, and for a citizen one that is not theirs, is
// of kind NotFound.
func (r *Registry) Open(ctx context.Context, a Ask, service, id string, fields ...string) (Record, error) {
	s, stored, err := r.load(ctx, service, id)
	if err != nil {
		return Record{}, err
	}
	own := a.Actor.Role == pasban.RoleCitizen && isParty(stored.parties, a.Actor.Subject)
	refs := map[vault.FieldRef][]byte{}
	rec := Record{Summary: stored.Summary, History: stored.history}
	l := s.look(a, id, access.View)
	l.FieldsOf = map[pasban.SubjectID][]string{}
	for _, f := range stored.fields {
		declared, known := s.Field(f.ref.Field)
		switch {
		case own && f.ref.Subject != a.Actor.Subject,
			!own && (!known || declared.Class == Sensitive) && !slices.Contains(fields, f.ref.Field),
			len(fields) > 0 && known && declared.Class != Sensitive && !slices.Contains(fields, f.ref.Field):
			rec.Closed = append(rec.Closed, f.ref.Field)
			continue
		}
		refs[f.ref] = f.sealed
		l.FieldsOf[f.ref.Subject] = append(l.FieldsOf[f.ref.Subject], f.ref.Field)
	}
	about := stored.parties
	if own {
		about = slices.DeleteFunc(slices.Clone(about), func(p party) bool { return p.subject.ID != a.Actor.Subject })
	}
	if l.Subjects, err = r.name(ctx, id, about); err != nil {
		return Record{}, err
	}
	for ref := range refs { // what was sealed for someone whose key is destroyed stays closed
		if !slices.ContainsFunc(l.Subjects, func(o pasban.Subject) bool { return o.ID == ref.Subject }) {
			delete(refs, ref)
			rec.Closed = append(rec.Closed, ref.Field)
		}
	}
	slices.Sort(rec.Closed)
	if rec.Disclosure, err = r.guard.Disclose(ctx, l, nil); err != nil {
		if e, ok := errors.AsType[*pasban.Error](err); ok && e.Kind == pasban.Forbidden && a.Actor.Role == pasban.RoleCitizen {
			return Record{}, &pasban.Error{Kind: pasban.NotFound, Msg: "you have no such application", ID: e.ID, Err: err}
		}
		return Record{}, err
	}
	rec.Values, err = r.plain(ctx, rec.Disclosure, refs)
	if err != nil {
		return Record{}, err
	}
	maps.Copy(rec.Values, stored.Public)
	return rec, nil
}

// plain gives the vault each citizen's promise and gets their answers for it.
func (r *Registry) plain(ctx context.Context, d Disclosure, sealed map[vault.FieldRef][]byte) (map[string]string, error) {
	out := make(map[string]string, len(sealed))
	for _, e := range d.Entries {
		of := map[vault.FieldRef][]byte{}
		for ref, data := range sealed {
			if ref.Subject == e.Fact.Subject.ID {
				of[ref] = data
			}
		}
		if len(of) == 0 {
			continue
		}
		opened, err := r.vault.OpenFields(ctx, e.Promise, e.Opening, of)
		if err != nil {
			return nil, fmt.Errorf("open the fields of %s: %w", e.Fact.Body.Resource, err)
		}
		for ref, value := range opened {
			out[ref.Field] = string(value)
		}
	}
	return out, nil
}

// Advance takes a step of the workflow. It is of kind Conflict if the record
// does not stand where the step begins, or was moved by someone else meanwhile.
func (r *Registry) Advance(ctx context.Context, a Ask, service, id, step string) (Summary, Disclosure, error) {
	none := func(err error) (Summary, Disclosure, error) { return Summary{}, Disclosure{}, err }
	s, stored, err := r.load(ctx, service, id)
	if err != nil {
		return none(err)
	}
	st, ok := s.Step(step)
	if !ok {
		return none(&pasban.Error{Kind: pasban.NotFound, Msg: "the service has no such step", Where: clip(step, 64)})
	}
	l := s.look(a, id, st.Action)
	l.Fields, l.Kind, l.Requester = []string{"state"}, pasban.KindChange, stored.mover
	if l.Subjects, err = r.name(ctx, id, stored.parties); err != nil {
		return none(err)
	}
	if !slices.Contains(st.Roles, a.Actor.Role) {
		return none(r.refuse(ctx, l, "the step is not for your role"))
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	d, err := r.guard.Disclose(ctx, l, func(tx *store.Tx) error {
		// Whoever may not take the step has been refused by now, so that this
		// tells nobody else where the record stands.
		if !slices.Contains(st.From, stored.State) {
			return &pasban.Error{Kind: pasban.Conflict, Msg: fmt.Sprintf("the application is in state %s, the step begins elsewhere", stored.State)}
		}
		return move(tx, stored, st, a.Actor, now)
	})
	if err != nil {
		return none(err)
	}
	after := stored.Summary
	after.State, after.UpdatedAt, after.Version = st.To, now, stored.Version+1
	return after, d, nil
}

func move(tx *store.Tx, stored *stored, st Step, actor pasban.Actor, now time.Time) error {
	result, err := tx.Exec(`UPDATE registry_record SET state = ?, version = version + 1, mover = ?, updated_at = ?
		WHERE id = ? AND version = ? AND state = ?`, st.To, actor.ID, now.UnixMilli(), stored.ID, stored.Version, stored.State)
	if err != nil {
		return fmt.Errorf("move a record: %w", err)
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return &pasban.Error{Kind: pasban.Conflict, Msg: "someone else moved the application meanwhile", Hint: "open it again", Err: err}
	}
	_, err = tx.Exec(`INSERT INTO registry_step (record, version, step, state, role, taken_at) VALUES (?, ?, ?, ?, ?, ?)`,
		stored.ID, stored.Version+1, st.ID, st.To, string(actor.Role), now.UnixMilli())
	if err != nil {
		return fmt.Errorf("write down a step: %w", err)
	}
	return nil
}

// newID draws a reference number: prefix, year, and 50 random bits in letters
// and digits that are not mistaken for each other (Crockford's base 32).
func newID(prefix string) string {
	const letters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	var b [10]byte
	rand.Read(b[:])
	for i := range b {
		b[i] = letters[b[i]%32]
	}
	return fmt.Sprintf("%s-%d-%s-%s", prefix, time.Now().UTC().Year(), b[:5], b[5:])
}

func isParty(parties []party, id pasban.SubjectID) bool {
	return id != "" && slices.ContainsFunc(parties, func(p party) bool { return p.subject.ID == id })
}

func subjectsOf(parties []party) []pasban.Subject {
	out := make([]pasban.Subject, len(parties))
	for i, p := range parties {
		out[i] = p.subject
	}
	return out
}

// fieldsOf lists, for each citizen, the names of the answers about them.
func fieldsOf(s *Service, parties []party, values map[string]string) map[pasban.SubjectID][]string {
	out := map[pasban.SubjectID][]string{}
	for _, f := range s.Fields {
		if _, answered := values[f.Name]; !answered || f.Class == Public {
			continue
		}
		for _, p := range parties {
			if p.field == f.Of {
				out[p.subject.ID] = append(out[p.subject.ID], f.Name)
			}
		}
	}
	return out
}

// parties finds the citizens whom an application is about, and makes sure that
// each has a key to seal with.
func (r *Registry) parties(ctx context.Context, s *Service, values map[string]string) ([]party, error) {
	var out []party
	for _, f := range s.Fields {
		if !f.Subject {
			continue
		}
		subject, err := r.vault.Subject(ctx, pasban.CNIC(values[f.Name]))
		if err != nil {
			return nil, fmt.Errorf("key of the citizen in %s: %w", f.Name, err)
		}
		if isParty(out, subject.ID) {
			return nil, &pasban.Error{Kind: pasban.Invalid, Where: f.Name, Msg: "the same person is named twice"}
		}
		out = append(out, party{field: f.Name, subject: subject})
	}
	return out, nil
}

// partyAAD binds a party's sealed number to its place.
func partyAAD(record, field string) []byte {
	return fmt.Appendf(nil, "pasban/registry/party/v1\n%s\n%s", record, field)
}

// draft is a record that is sealed and not yet stored.
type draft struct {
	service *Service
	id      string
	public  map[string]string
	parties []party
	fields  []sealedField
	lookups [][]byte
}

type sealedField struct {
	ref    vault.FieldRef
	sealed []byte
}

// seal encrypts every answer that is not public, each for its citizen.
func (r *Registry) seal(ctx context.Context, s *Service, id string, parties []party, values map[string]string) (*draft, error) {
	d := &draft{service: s, id: id, public: map[string]string{}, parties: parties}
	for i, p := range parties {
		number, err := r.vault.Seal(ctx, p.subject.ID, []byte(p.subject.CNIC), partyAAD(id, p.field))
		if err != nil {
			return nil, fmt.Errorf("seal the number in %s: %w", p.field, err)
		}
		d.parties[i].number = number
	}
	for _, f := range s.Fields {
		value, answered := values[f.Name]
		if !answered {
			continue
		}
		if f.Lookup {
			d.lookups = append(d.lookups, r.vault.BlindIndex(s.ID, f.Name, value))
		}
		if f.Class == Public {
			d.public[f.Name] = value
			continue
		}
		of := parties[slices.IndexFunc(parties, func(p party) bool { return p.field == f.Of })]
		ref := vault.FieldRef{Service: s.ID, Record: id, Field: f.Name, Subject: of.subject.ID}
		sealed, err := r.vault.SealField(ctx, ref, []byte(value))
		if err != nil {
			return nil, fmt.Errorf("seal field %s: %w", f.Name, err)
		}
		d.fields = append(d.fields, sealedField{ref, sealed})
	}
	return d, nil
}

// insert stores the draft. It runs in the transaction of the facts about it.
func (d *draft) insert(tx *store.Tx, actor pasban.Actor, now time.Time) error {
	public, err := json.Marshal(d.public)
	if err != nil {
		return fmt.Errorf("write the public answers: %w", err)
	}
	ms := now.UnixMilli()
	if _, err := tx.Exec(`INSERT INTO registry_record (id, service, state, version, mover, public, created_at, updated_at)
		VALUES (?, ?, ?, 1, ?, ?, ?, ?)`, d.id, d.service.ID, d.service.Workflow.Start, actor.ID, string(public), ms, ms); err != nil {
		return fmt.Errorf("store a record: %w", err)
	}
	for _, p := range d.parties {
		if _, err := tx.Exec(`INSERT INTO registry_party (record, field, subject, number) VALUES (?, ?, ?, ?)`,
			d.id, p.field, string(p.subject.ID), p.number); err != nil {
			return fmt.Errorf("store a party: %w", err)
		}
	}
	for _, f := range d.fields {
		if _, err := tx.Exec(`INSERT INTO registry_field (record, field, subject, sealed) VALUES (?, ?, ?, ?)`,
			d.id, f.ref.Field, string(f.ref.Subject), f.sealed); err != nil {
			return fmt.Errorf("store a field: %w", err)
		}
	}
	for _, blind := range d.lookups {
		if _, err := tx.Exec(`INSERT INTO registry_lookup (blind, record) VALUES (?, ?)`, blind, d.id); err != nil {
			return fmt.Errorf("store a lookup: %w", err)
		}
	}
	if _, err := tx.Exec(`INSERT INTO registry_step (record, version, step, state, role, taken_at) VALUES (?, 1, '', ?, ?, ?)`,
		d.id, d.service.Workflow.Start, string(actor.Role), ms); err != nil {
		return fmt.Errorf("write down the beginning: %w", err)
	}
	return nil
}

// stored is a record as it lies in the store: closed.
type stored struct {
	Summary
	mover   string
	parties []party
	fields  []sealedField
	history []Taken
}

// errNoRecord is what an unknown record is, and a citizen's view of others'.
func errNoRecord(id string) error {
	return &pasban.Error{Kind: pasban.NotFound, Msg: "there is no such application", Where: clip(id, 64)}
}

// name opens the numbers of citizens whom a look is about, for one thing only:
// to be written into the facts that account for it. Those whose key was
// destroyed are left out; if nobody remains, the record is of kind NotFound.
func (r *Registry) name(ctx context.Context, record string, parties []party) ([]pasban.Subject, error) {
	var out []pasban.Subject
	for _, p := range parties {
		number, err := r.vault.Open(ctx, p.subject.ID, p.number, partyAAD(record, p.field))
		switch {
		case err != nil && pasban.KindOf(err) == pasban.NotFound:
			continue
		case err != nil:
			return nil, fmt.Errorf("open the number in %s of %s: %w", p.field, record, err)
		}
		out = append(out, pasban.Subject{ID: p.subject.ID, CNIC: pasban.CNIC(number)})
	}
	if out == nil {
		return nil, &pasban.Error{Kind: pasban.NotFound, Msg: "the keys of everyone in this application have been destroyed", Where: clip(record, 64)}
	}
	return out, nil
}

// load reads a record and opens nothing.
func (r *Registry) load(ctx context.Context, service, id string) (*Service, *stored, error) {
	s, err := r.Service(service)
	if err != nil {
		return nil, nil, err
	}
	out := &stored{}
	row := r.st.QueryRow(ctx, `SELECT id, service, state, version, mover, public, created_at, updated_at
		FROM registry_record WHERE id = ? AND service = ?`, id, service)
	if out.Summary, out.mover, err = scanSummary(row.Scan); err != nil {
		if errors.Is(err, sql.ErrNoRows) {
			return nil, nil, errNoRecord(id)
		}
		return nil, nil, fmt.Errorf("read a record: %w", err)
	}
	err = r.each(ctx, `SELECT field, subject, number FROM registry_party WHERE record = ? ORDER BY field`, id, func(scan func(...any) error) error {
		var p party
		if err := scan(&p.field, &p.subject.ID, &p.number); err != nil {
			return err
		}
		out.parties = append(out.parties, p)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	err = r.each(ctx, `SELECT field, subject, sealed FROM registry_field WHERE record = ? ORDER BY field`, id, func(scan func(...any) error) error {
		f := sealedField{ref: vault.FieldRef{Service: service, Record: id}}
		if err := scan(&f.ref.Field, &f.ref.Subject, &f.sealed); err != nil {
			return err
		}
		out.fields = append(out.fields, f)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	err = r.each(ctx, `SELECT step, state, role, taken_at FROM registry_step WHERE record = ? ORDER BY version`, id, func(scan func(...any) error) error {
		var t Taken
		var at int64
		if err := scan(&t.Step, &t.State, &t.Role, &at); err != nil {
			return err
		}
		t.At = time.UnixMilli(at).UTC()
		out.history = append(out.history, t)
		return nil
	})
	return s, out, err
}

// each runs a query of one argument and hands each row on.
func (r *Registry) each(ctx context.Context, q, arg string, row func(scan func(...any) error) error) error {
	return r.rows(ctx, q, []any{arg}, row)
}

func (r *Registry) rows(ctx context.Context, q string, args []any, row func(scan func(...any) error) error) error {
	rows, err := r.st.Query(ctx, q, args...)
	if err != nil {
		return fmt.Errorf("read records: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return fmt.Errorf("read records: %w", err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read records: %w", err)
	}
	return nil
}

func scanSummary(scan func(...any) error) (s Summary, mover string, err error) {
	var public string
	var created, updated int64
	if err := scan(&s.ID, &s.Service, &s.State, &s.Version, &mover, &public, &created, &updated); err != nil {
		return Summary{}, "", err
	}
	if err := json.Unmarshal([]byte(public), &s.Public); err != nil {
		return Summary{}, "", fmt.Errorf("public answers of %s: %w", s.ID, err)
	}
	s.CreatedAt, s.UpdatedAt = time.UnixMilli(created).UTC(), time.UnixMilli(updated).UTC()
	return s, mover, nil
}
