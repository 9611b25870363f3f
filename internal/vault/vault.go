// Package vault keeps citizens' data unreadable until someone has answered for
// reading it.
//
// # Types
//
// A [Vault] holds one data-encryption key per citizen, wrapped by the
// key-encryption key of the key ring and kept in a table of the store. A
// [FieldRef] names one sealed field: service, record, field and citizen.
//
// # The way data goes through it
//
// [Vault.SealField] encrypts a field under its citizen's key and binds it to
// its place. [Vault.OpenFields] gives plaintext back, and only against a
// [pasban.Promise] of this ledger whose leaf commits to a body that names this
// citizen, this record and each of these fields: the promise exists only when
// the fact is durable in the journal, so nobody reads without leaving
// evidence.
//
// What has to be read in order to account for a look cannot wait for the look
// to be accounted for. That is sealed and opened with [Vault.Seal] and
// [Vault.Open]: the bodies of facts (they are the evidence) and the numbers of
// the citizens that a record names. Such ciphertexts never open as fields, nor
// fields as them.
//
// # Guarantees
//
//   - Plaintext of a field leaves through OpenFields alone, all fields asked
//     for or none.
//   - A field moved to another record, field or citizen does not open.
//   - After [Vault.Shred] has returned, nothing sealed for the citizen opens
//     on this node, and after a minute on none that shares the store. A key row
//     that is merely missing or damaged is an error, never a shredding.
//   - Keys are wiped from memory when they leave the cache.
//
// # What it must never do
//
// A citizen's key never leaves this package, and neither keys nor plaintext
// are logged or put into errors.
package vault

import (
	"context"
	"embed"
	"encoding/hex"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/mod/sumdb/note"

	"pasban"
	"pasban/internal/keys"
	"pasban/internal/store"
)

//go:embed migrations
var migrations embed.FS

const (
	// cacheSize is the most unwrapped keys held in memory.
	cacheSize = 10_000
	// cacheLife is how long an unwrapped key is used without asking the store
	// whether it still exists, so that what one node shreds the others forget.
	cacheLife = time.Minute
)

// Vault seals and opens. It is safe for concurrent use.
type Vault struct {
	st       *store.Store
	kek      keys.KEK
	index    *keys.IndexKey
	verifier note.Verifier

	mu    sync.Mutex // covers what follows
	cache *simplelru.LRU[pasban.SubjectID, *dek]
	epoch uint64 // counts shreddings: a key read before one is not cached after it
}

// Open makes the vault's tables if need be and checks that the ring opens
// them. verifier is the ledger's key, which promises are checked with.
func Open(ctx context.Context, st *store.Store, ring *keys.Ring, verifier note.Verifier) (*Vault, error) {
	if err := st.Migrate(ctx, "vault", migrations); err != nil {
		return nil, err
	}
	knows, err := newKnowing(verifier)
	if err != nil {
		return nil, err
	}
	v := &Vault{st: st, kek: ring.KEK(), index: ring.IndexKey(), verifier: knows}
	v.cache, err = simplelru.NewLRU(cacheSize, func(_ pasban.SubjectID, d *dek) { clear(d.key[:]) })
	if err != nil {
		return nil, err
	}
	if err := v.ensure(ctx, ""); err != nil {
		return nil, &pasban.Error{Kind: pasban.Unavailable, Msg: "the agency's own key cannot be opened", Where: "vault", Err: err,
			Hint: "the keys directory and the store belong together: restore both from the same backup"}
	}
	return v, nil
}

// Close wipes the keys in memory. The vault goes on working if it is used again.
func (v *Vault) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.cache.Purge()
	return nil
}

// SubjectID returns the citizen's blind index: stable within this agency,
// meaningless outside. The empty number gives the empty id.
func (v *Vault) SubjectID(c pasban.CNIC) pasban.SubjectID {
	if c == "" {
		return ""
	}
	m := v.index.MAC("pasban/vault/subject/v1", string(c))
	return pasban.SubjectID(hex.EncodeToString(m[:16]))
}

// Subject returns the citizen with this number and makes sure, durably, that
// their key exists. The number must be in the form that pasban.ParseCNIC gives.
func (v *Vault) Subject(ctx context.Context, c pasban.CNIC) (pasban.Subject, error) {
	if canonical, err := pasban.ParseCNIC(string(c)); err != nil || canonical != c {
		return pasban.Subject{}, &pasban.Error{Kind: pasban.Invalid, Msg: "not a CNIC in its written form", Where: "vault"}
	}
	s := pasban.Subject{ID: v.SubjectID(c), CNIC: c}
	if err := v.ensure(ctx, s.ID); err != nil {
		return pasban.Subject{}, err
	}
	return s, nil
}

// BlindIndex returns a keyed hash of a field's value: equal values of one
// service's field have equal indexes, so that records can be found without
// being opened. The caller normalises the value.
func (v *Vault) BlindIndex(service, field, value string) []byte {
	m := v.index.MAC("pasban/vault/index/v1", service, field, value)
	return m[:]
}
