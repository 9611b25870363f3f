package vault

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"pasban"
	"pasban/internal/store"
)

// dek is a data-encryption key with its id. Cached ones belong to the cache,
// which wipes them when they leave: take copies.
type dek struct {
	id    string
	key   [32]byte
	since time.Time // when the store was last asked for it
}

// errNoRow says that a subject has no key, or that there is no key of that id.
var errNoRow = errors.New("no such key in the table")

// current returns a copy of the subject's key. The caller wipes it.
func (v *Vault) current(ctx context.Context, subject pasban.SubjectID) (dek, error) {
	v.mu.Lock()
	if d, ok := v.cache.Get(subject); ok && time.Since(d.since) < cacheLife {
		defer v.mu.Unlock()
		return *d, nil
	}
	epoch := v.epoch
	v.mu.Unlock()

	var id string
	var wrapped []byte
	err := v.st.QueryRow(ctx, `SELECT id, wrapped FROM vault_keys WHERE subject = ? AND wrapped IS NOT NULL`, string(subject)).Scan(&id, &wrapped)
	if errors.Is(err, sql.ErrNoRows) {
		v.forget(subject)
		return dek{}, errNoRow
	}
	if err != nil {
		return dek{}, storing(err)
	}
	d, err := v.unwrap(ctx, subject, id, wrapped)
	if err != nil {
		return dek{}, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.epoch == epoch {
		kept := d
		v.cache.Remove(subject) // wipes what was there; Add alone would not
		v.cache.Add(subject, &kept)
	}
	return d, nil
}

func (v *Vault) unwrap(ctx context.Context, subject pasban.SubjectID, id string, wrapped []byte) (dek, error) {
	key, err := v.kek.Unwrap(ctx, wrapped, wrapAAD(subject, id))
	if err == nil && len(key) != 32 {
		err = errors.New("not 32 bytes long")
	}
	if err != nil {
		return dek{}, &pasban.Error{Kind: pasban.Unavailable, Msg: "a key of the vault cannot be unwrapped", Where: "vault_keys " + id, Err: err}
	}
	defer clear(key)
	return dek{id: id, key: [32]byte(key), since: time.Now()}, nil
}

// ensure makes sure that the subject has a key; it returns when it is durable.
// Of two that try at once, on any node, one key stays.
func (v *Vault) ensure(ctx context.Context, subject pasban.SubjectID) error {
	d, err := v.current(ctx, subject)
	if !errors.Is(err, errNoRow) {
		clear(d.key[:])
		return err
	}
	rand.Read(d.key[:])
	defer clear(d.key[:])
	var id [8]byte
	rand.Read(id[:])
	d.id = hex.EncodeToString(id[:])
	wrapped, err := v.kek.Wrap(ctx, d.key[:], wrapAAD(subject, d.id))
	if err != nil {
		return fmt.Errorf("wrap a new key: %w", err)
	}
	err = v.st.Write(ctx, func(tx *store.Tx) error {
		if err := v.leaveNothing(tx); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT INTO vault_keys (id, subject, wrapped) VALUES (?, ?, ?)
			ON CONFLICT (subject) WHERE wrapped IS NOT NULL DO NOTHING`, d.id, string(subject), wrapped)
		return err
	})
	if err != nil {
		return storing(err)
	}
	kept, err := v.current(ctx, subject) // whoever's key it became
	clear(kept.key[:])
	return err
}

// byID returns a copy of the key with this id, which must be the subject's.
// It fails with kind NotFound if, and only if, the key was shredded.
func (v *Vault) byID(ctx context.Context, subject pasban.SubjectID, id string) (dek, error) {
	d, err := v.current(ctx, subject)
	if err == nil && d.id == id {
		return d, nil
	}
	clear(d.key[:])
	if err != nil && !errors.Is(err, errNoRow) {
		return dek{}, err
	}
	var proof []byte
	err = v.st.QueryRow(ctx, `SELECT shredded FROM vault_keys WHERE id = ? AND subject = ? AND shredded IS NOT NULL`, id, string(subject)).Scan(&proof)
	if err == nil && hmac.Equal(proof, v.shredProof(subject, id)) {
		return dek{}, &pasban.Error{Kind: pasban.NotFound, Msg: "the key has been destroyed, so this can never be read again", Where: "vault"}
	}
	if err == nil || errors.Is(err, sql.ErrNoRows) {
		return dek{}, &pasban.Error{Kind: pasban.Unavailable, Msg: "the key is missing but was not destroyed by Pasban", Where: "vault_keys " + id,
			Hint: "rows were removed or changed behind Pasban's back: restore the store from a backup"}
	}
	return dek{}, storing(err)
}

// Shred destroys the citizen's key: everything sealed for them is unreadable
// from then on. It returns when that is durable. Copies of the store that were
// taken earlier hold the wrapped key until they are given up themselves;
// DESIGN.md says what else may. Shredding again is fine; a citizen who never had
// a key is an error of kind NotFound. A citizen who comes back gets a new key.
func (v *Vault) Shred(ctx context.Context, subject pasban.SubjectID) error {
	if subject == "" {
		return &pasban.Error{Kind: pasban.Invalid, Msg: "the agency's own key cannot be shredded", Where: "vault"}
	}
	defer v.forget(subject) // whatever the outcome: it costs one read at most
	var found bool
	err := v.st.Write(ctx, func(tx *store.Tx) error {
		var id string
		err := tx.QueryRow(`SELECT id FROM vault_keys WHERE subject = ? AND wrapped IS NOT NULL`, string(subject)).Scan(&id)
		if errors.Is(err, sql.ErrNoRows) {
			err = tx.QueryRow(`SELECT id FROM vault_keys WHERE subject = ? LIMIT 1`, string(subject)).Scan(&id)
			if found = err == nil; errors.Is(err, sql.ErrNoRows) {
				return nil
			}
			return err
		}
		if err != nil {
			return err
		}
		found = true
		if err := v.leaveNothing(tx); err != nil {
			return err
		}
		_, err = tx.Exec(`UPDATE vault_keys SET wrapped = NULL, shredded = ? WHERE id = ?`, v.shredProof(subject, id), id)
		return err
	})
	switch {
	case err != nil:
		return storing(err)
	case !found:
		return &pasban.Error{Kind: pasban.NotFound, Msg: "there is no key of this citizen", Where: "vault"}
	}
	return nil
}

// leaveNothing makes SQLite overwrite what it frees: otherwise a wrapped key
// stays in the file wherever its row once was. It is a setting of the writer's
// connection, which may be a new one each time.
func (v *Vault) leaveNothing(tx *store.Tx) error {
	if v.st.Dialect() != store.SQLite {
		return nil
	}
	_, err := tx.Exec(`PRAGMA secure_delete = ON`)
	return err
}

// forget drops the subject's key from memory, also from under those who are
// just reading it from the store.
func (v *Vault) forget(subject pasban.SubjectID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.epoch++
	v.cache.Remove(subject)
}

// shredProof tells a key that was shredded from a row that someone emptied.
func (v *Vault) shredProof(subject pasban.SubjectID, id string) []byte {
	m := v.index.MAC("pasban/vault/shredded/v1", string(subject), id)
	return m[:]
}

// wrapAAD binds a wrapped key to its row.
func wrapAAD(subject pasban.SubjectID, id string) []byte {
	return lengthPrefixed("pasban/vault/dek/v1", string(subject), id)
}

// storing wraps an error of the store.
func storing(err error) error {
	return &pasban.Error{Kind: pasban.Unavailable, Msg: "the vault's keys cannot be reached", Where: "vault", Err: err}
}
