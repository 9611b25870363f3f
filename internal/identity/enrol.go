package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"pasban"
	"pasban/internal/store"
)

// EnrolPath is where enrolment links lead: EnrolPath followed by the token.
const EnrolPath = "/pasban/enrol/"

// tokenSize is the size of links' and sessions' tokens in bytes.
const tokenSize = 32

// newToken returns 256 random bits, as people and cookies carry them, and
// their SHA-256, which alone is stored.
func newToken() (token string, hash []byte) {
	var b [tokenSize]byte
	rand.Read(b[:])
	token = base64.RawURLEncoding.EncodeToString(b[:])
	hash, _ = tokenHash(token)
	return token, hash
}

// tokenHash is the SHA-256 of a token's canonical form; ok is false for
// anything that newToken does not make.
func tokenHash(token string) (hash []byte, ok bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) != tokenSize || base64.RawURLEncoding.EncodeToString(b) != token {
		return nil, false
	}
	sum := sha256.Sum256(b)
	return sum[:], true
}

// link is the sealed part of an enrolment link.
type link struct {
	Person  string `json:"person"`
	Expires int64  `json:"expires"` // Unix milliseconds
}

// Enrol makes a link with which the person can register one passkey, once,
// until it expires. Links made earlier and not used yet stop working. The token
// exists nowhere else: hand it to the person and forget it.
func (i *Identity) Enrol(ctx context.Context, by pasban.Actor, personID string) (token string, expires time.Time, err error) {
	p, err := i.Lookup(ctx, personID)
	if err != nil {
		return "", time.Time{}, err
	}
	if p.Disabled {
		return "", time.Time{}, &pasban.Error{Kind: pasban.Conflict, Where: personID, Msg: "the person is disabled"}
	}
	token, hash := newToken()
	expires = time.Now().Add(i.o.LinkLife)
	sealed, err := i.seal(ctx, "", rowLink, hash, link{Person: p.ID, Expires: expires.UnixMilli()})
	if err != nil {
		return "", time.Time{}, err
	}
	_, err = i.o.Journal.Commit(ctx, func(tx *store.Tx) ([]pasban.Fact, error) {
		if _, err := tx.Exec(`DELETE FROM identity_link WHERE person = ? AND used = 0`, p.ID); err != nil {
			return nil, err
		}
		res, err := tx.Exec(`INSERT INTO identity_link (hash, person, expires, used, sealed)
			SELECT ?, id, ?, 0, ? FROM identity_person WHERE id = ? AND disabled = 0`, hash, expires.UnixMilli(), sealed, p.ID)
		if err := one(res, err, "the person is disabled", p.ID); err != nil {
			return nil, err
		}
		return []pasban.Fact{i.adminFact("person.enrol", by, p)}, nil
	})
	if err != nil {
		return "", time.Time{}, err
	}
	return token, expires, nil
}

// errLink is the one answer to every link that does not work.
var errLink = pasban.Error{Kind: pasban.NotFound, Msg: "this link does not work",
	Hint: "it may have been used, replaced by a newer one, or be too old: ask for a new one"}

// linkHolder returns whom an enrolment token is for. Unknown, used and expired
// tokens and those of disabled people all give errLink.
func (i *Identity) linkHolder(ctx context.Context, token string) (Person, []byte, error) {
	no := errLink
	hash, ok := tokenHash(token)
	if !ok {
		return Person{}, nil, &no
	}
	var r personRow
	var sealed []byte
	var used int64
	err := i.st.QueryRow(ctx, `SELECT `+personColumns+`, l.used, l.sealed FROM identity_link l
		JOIN identity_person p ON p.id = l.person WHERE l.hash = ?`, hash).Scan(append(r.dest(), &used, &sealed)...)
	if errors.Is(err, sql.ErrNoRows) {
		return Person{}, nil, &no
	}
	if err != nil {
		return Person{}, nil, fmt.Errorf("look up a link: %w", err)
	}
	var l link
	if err := i.open(ctx, "", rowLink, hash, sealed, &l); err != nil {
		return Person{}, nil, err
	}
	p, err := i.person(ctx, r)
	if err != nil {
		return Person{}, nil, err
	}
	if used != 0 || l.Person != p.ID || p.Disabled || time.Now().UnixMilli() >= l.Expires {
		return Person{}, nil, &no
	}
	return p, hash, nil
}

// useLink marks a link as used. Of several that try at once, one succeeds.
func useLink(tx *store.Tx, hash []byte, now time.Time) error {
	res, err := tx.Exec(`UPDATE identity_link SET used = ? WHERE hash = ? AND used = 0 AND expires > ?`, now.UnixMilli(), hash, now.UnixMilli())
	if err := one(res, err, errLink.Msg, ""); err != nil {
		if pasban.KindOf(err) == pasban.Conflict {
			no := errLink
			return &no
		}
		return err
	}
	return nil
}
