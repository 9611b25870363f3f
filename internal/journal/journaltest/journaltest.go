// Package journaltest has what tests of other rooms open a journal with.
package journaltest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"sync"

	"pasban"
)

// Sealer is a journal.Sealer under keys held in memory: what the vault does,
// without its tables. It is safe for concurrent use.
type Sealer struct {
	seed string

	mu   sync.Mutex // covers gone
	gone map[pasban.SubjectID]bool
}

// NewSealer returns a sealer whose keys follow from the seed: one of the same
// seed opens what another sealed, also in another process.
func NewSealer(seed string) *Sealer {
	return &Sealer{seed: seed, gone: map[pasban.SubjectID]bool{}}
}

// Shred destroys the key of a subject.
func (s *Sealer) Shred(id pasban.SubjectID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone[id] = true
}

// key is AES-256-GCM under the subject's key.
func (s *Sealer) key(id pasban.SubjectID) (cipher.AEAD, error) {
	s.mu.Lock()
	gone := s.gone[id]
	s.mu.Unlock()
	if gone {
		return nil, &pasban.Error{Kind: pasban.NotFound, Msg: "the key of this citizen was destroyed"}
	}
	key := sha256.Sum256([]byte("synthetic key\n" + s.seed + "\n" + string(id)))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// Seal implements journal.Sealer.
func (s *Sealer) Seal(_ context.Context, id pasban.SubjectID, plaintext, aad []byte) ([]byte, error) {
	k, err := s.key(id)
	if err != nil {
		return nil, err
	}
	return k.Seal(nil, nil, plaintext, aad), nil
}

// Open implements journal.Sealer.
func (s *Sealer) Open(_ context.Context, id pasban.SubjectID, sealed, aad []byte) ([]byte, error) {
	k, err := s.key(id)
	if err != nil {
		return nil, err
	}
	plain, err := k.Open(nil, nil, sealed, aad)
	if err != nil {
		return nil, &pasban.Error{Kind: pasban.Invalid, Msg: "not what was sealed for this citizen", Err: err}
	}
	return plain, nil
}
