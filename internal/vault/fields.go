package vault

import (
	"context"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"pasban"
)

// promiseLife is how long after it was given a promise opens fields: long
// enough for the step from commit to plaintext on a busy machine, too short
// for one look's promise to pay for another look.
const promiseLife = 2 * time.Minute

// FieldRef names one sealed field. It is part of what is authenticated: a
// ciphertext opens at its own place only.
type FieldRef struct {
	Service string // declared service
	Record  string // record id
	Field   string
	Subject pasban.SubjectID // whose data it is
}

func (r FieldRef) aad() []byte {
	return lengthPrefixed(r.Service, r.Record, r.Field, string(r.Subject))
}

// SealField encrypts one field under its citizen's key, which must exist: see
// [Vault.Subject].
func (v *Vault) SealField(ctx context.Context, ref FieldRef, plaintext []byte) ([]byte, error) {
	if ref.Subject == "" || ref.Service == "" || ref.Record == "" || ref.Field == "" {
		return nil, &pasban.Error{Kind: pasban.Invalid, Msg: "a field is sealed for a citizen, a service, a record and a name", Where: "vault"}
	}
	return v.seal(ctx, domainField, ref.Subject, plaintext, ref.aad())
}

// OpenFields opens sealed fields, all or none, if the fact that p promises
// accounts for it:
//
//  1. p is a promise of this ledger, given within the last two minutes;
//  2. its leaf is the one that o opens;
//  3. the body that o carries is a look or a change that was allowed;
//  4. and it names the citizen, the service, the record and every field.
//
// Otherwise nothing is opened and the error is of kind Forbidden. A field that
// does not open is of kind Invalid, or NotFound if the citizen's key was
// shredded.
func (v *Vault) OpenFields(ctx context.Context, p pasban.Promise, o pasban.Opening, sealed map[FieldRef][]byte) (map[FieldRef][]byte, error) {
	body, err := v.accounted(p, o)
	if err != nil {
		return nil, err
	}
	subject := v.SubjectID(body.Subject)
	for ref := range sealed {
		if err := names(body, subject, ref); err != nil {
			return nil, err
		}
	}
	plain := make(map[FieldRef][]byte, len(sealed))
	for ref, s := range sealed {
		if plain[ref], err = v.open(ctx, domainField, ref.Subject, s, ref.aad()); err != nil {
			for _, p := range plain {
				clear(p)
			}
			return nil, err
		}
	}
	return plain, nil
}

// accounted returns the body of the fact that p promises.
func (v *Vault) accounted(p pasban.Promise, o pasban.Opening) (pasban.Body, error) {
	if err := p.Verify(v.verifier); err != nil {
		return pasban.Body{}, forbidden("the promise does not verify", err)
	}
	if age := time.Since(p.Time()); age > promiseLife || age < -promiseLife {
		return pasban.Body{}, forbidden("the promise is of another time: every look needs its own", nil)
	}
	leaf, err := o.Leaf()
	if err != nil {
		return pasban.Body{}, forbidden("the opening has no leaf", err)
	}
	if leaf.Hash() != p.Leaf || p.Leaf == (tlog.Hash{}) {
		return pasban.Body{}, forbidden("the opening is not of the promised fact", nil)
	}
	body, err := o.Parse()
	if err != nil {
		return pasban.Body{}, forbidden("the opening is not readable", err)
	}
	if body.Kind != pasban.KindLook && body.Kind != pasban.KindChange || body.Outcome != pasban.Allowed {
		return pasban.Body{}, forbidden("the promised fact is no look or change that was allowed", nil)
	}
	return body, nil
}

// names reports whether the body accounts for the field.
func names(body pasban.Body, subject pasban.SubjectID, ref FieldRef) error {
	switch {
	case subject == "" || ref.Subject != subject:
		return forbidden("the promised fact is about another citizen", nil)
	case ref.Service == "" || ref.Service != body.Service:
		return forbidden("the promised fact is about another service", nil)
	case ref.Record == "" || ref.Record != body.Resource:
		return forbidden("the promised fact is about another record", nil)
	case !slices.Contains(body.Fields, ref.Field):
		return forbidden("the promised fact does not name the field "+ref.Field, nil)
	}
	return nil
}

func forbidden(msg string, err error) error {
	return &pasban.Error{Kind: pasban.Forbidden, Msg: msg, Where: "vault", Err: err}
}
