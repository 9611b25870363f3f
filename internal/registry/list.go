package registry

import (
	"context"
	"slices"

	"pasban"
	"pasban/internal/access"
)

// maxList is the most records that a list holds.
const maxList = 200

// Filter chooses records for a list.
type Filter struct {
	State string // "" for any
	Max   int    // 0, and everything above 200, means 200
	// After continues a list: the last record of the one before. nil begins.
	After *Summary
}

// List returns a service's records, newest first, without anybody's data: the
// officers' work list. It is decided by policy; a refusal is journaled, a list
// that shows nobody's data is not.
func (r *Registry) List(ctx context.Context, a Ask, service string, f Filter) ([]Summary, error) {
	s, err := r.Service(service)
	if err != nil {
		return nil, err
	}
	if f.State != "" {
		if _, ok := s.State(f.State); !ok {
			return nil, &pasban.Error{Kind: pasban.Invalid, Where: "state", Msg: "the service has no such state"}
		}
	}
	if err := r.guard.Permit(ctx, s.look(a, "", access.List)); err != nil {
		return nil, err
	}
	q := `SELECT id, service, state, version, mover, public, created_at, updated_at FROM registry_record WHERE service = ?`
	args := []any{service}
	if f.State != "" {
		q += ` AND state = ?`
		args = append(args, f.State)
	}
	if f.After != nil {
		q += ` AND (created_at < ? OR created_at = ? AND id < ?)`
		args = append(args, f.After.CreatedAt.UnixMilli(), f.After.CreatedAt.UnixMilli(), f.After.ID)
	}
	return r.summaries(ctx, q+` ORDER BY created_at DESC, id DESC LIMIT ?`, append(args, limit(f.Max))...)
}

// Own returns the records that are about the actor, newest first, without the
// answers. Nobody but a citizen has any.
func (r *Registry) Own(ctx context.Context, a pasban.Actor) ([]Summary, error) {
	if a.Role != pasban.RoleCitizen || a.Subject == "" {
		return nil, &pasban.Error{Kind: pasban.Forbidden, Msg: "only citizens have applications of their own"}
	}
	return r.summaries(ctx, `SELECT id, service, state, version, mover, public, created_at, updated_at FROM registry_record
		WHERE id IN (SELECT record FROM registry_party WHERE subject = ?) ORDER BY created_at DESC, id DESC LIMIT ?`,
		string(a.Subject), maxList)
}

// Find returns the records whose answer in a lookup field is value, without
// opening any. That someone has an application is about them as well: the look
// is decided, journaled and promised for every citizen who is found, and for
// the one who was searched by CNIC.
func (r *Registry) Find(ctx context.Context, a Ask, service, field, value string) ([]Summary, Disclosure, error) {
	s, err := r.Service(service)
	if err != nil {
		return nil, Disclosure{}, err
	}
	f, ok := s.Field(field)
	if !ok || !f.Lookup {
		return nil, Disclosure{}, &pasban.Error{Kind: pasban.Invalid, Where: clip(field, 64), Msg: "the service is not searched by this field"}
	}
	value, msg, hint := f.normal(value)
	if msg == "" && value == "" {
		msg = "an answer is needed"
	}
	if msg != "" {
		return nil, Disclosure{}, &pasban.Error{Kind: pasban.Invalid, Where: field, Msg: msg, Hint: hint}
	}
	l := s.look(a, "search:"+field, access.List)
	l.Fields = []string{field}
	if f.Subject {
		subject, err := r.vault.Subject(ctx, pasban.CNIC(value))
		if err != nil {
			return nil, Disclosure{}, err
		}
		l.Subjects = append(l.Subjects, subject)
	}
	found, err := r.summaries(ctx, `SELECT id, service, state, version, mover, public, created_at, updated_at FROM registry_record
		WHERE service = ? AND id IN (SELECT record FROM registry_lookup WHERE blind = ?) ORDER BY created_at DESC, id DESC LIMIT ?`,
		service, r.vault.BlindIndex(s.ID, field, value), maxList)
	if err != nil {
		return nil, Disclosure{}, err
	}
	for _, rec := range found {
		_, stored, err := r.load(ctx, service, rec.ID)
		if err != nil {
			return nil, Disclosure{}, err
		}
		subjects, err := r.name(ctx, rec.ID, stored.parties)
		if err != nil && pasban.KindOf(err) != pasban.NotFound { // whose keys are all destroyed is nobody's record
			return nil, Disclosure{}, err
		}
		l.Subjects = slices.Concat(l.Subjects, subjects)
	}
	d, err := r.guard.Disclose(ctx, l, nil)
	if err != nil {
		return nil, Disclosure{}, err
	}
	return found, d, nil
}

func (r *Registry) summaries(ctx context.Context, q string, args ...any) ([]Summary, error) {
	out := []Summary{}
	err := r.rows(ctx, q, args, func(scan func(...any) error) error {
		s, _, err := scanSummary(scan)
		out = append(out, s)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func limit(n int) int {
	if n <= 0 {
		return maxList
	}
	return min(n, maxList)
}
