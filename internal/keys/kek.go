package keys

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"

	"pasban"
)

// errClosed is what everything of a closed ring answers.
var errClosed = &pasban.Error{Kind: pasban.Unavailable, Msg: "the key ring is closed"}

// errUnwrap says that the bytes are not a key wrapped by this KEK for this
// place; which of the three is wrong cannot be told and must not be.
var errUnwrap = &pasban.Error{Kind: pasban.Invalid, Msg: "not a key that this ring wrapped for this place"}

// localKEK is a KEK in this process's memory. Wrapped form, version 1:
//
//	0x01 ‖ 12-byte random nonce ‖ AES-256-GCM(dek, aad)
//
// One KEK may wrap 2³² keys before random nonces come near their bound
// (NIST SP 800-38D, section 8.3): a key per citizen stays far below it.
type localKEK struct {
	hidden
	mu     sync.RWMutex // guards key against wipe
	key    [32]byte
	closed bool
}

var _ KEK = (*localKEK)(nil)

const wrapVersion = 1

// Wrap implements KEK.
func (k *localKEK) Wrap(ctx context.Context, dek, aad []byte) ([]byte, error) {
	a, err := k.aead(ctx)
	if err != nil {
		return nil, err
	}
	return a.Seal([]byte{wrapVersion}, nil, dek, aad), nil
}

// Unwrap implements KEK.
func (k *localKEK) Unwrap(ctx context.Context, wrapped, aad []byte) ([]byte, error) {
	a, err := k.aead(ctx)
	if err != nil {
		return nil, err
	}
	if len(wrapped) == 0 || wrapped[0] != wrapVersion {
		return nil, errUnwrap
	}
	dek, err := a.Open(nil, nil, wrapped[1:], aad)
	if err != nil {
		return nil, errUnwrap
	}
	return dek, nil
}

func (k *localKEK) aead(ctx context.Context) (cipher.AEAD, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.closed {
		return nil, errClosed
	}
	b, err := aes.NewCipher(k.key[:])
	if err != nil {
		return nil, fmt.Errorf("AES: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(b)
}

func (k *localKEK) wipe() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.key[:])
	k.closed = true
}

// IndexKey makes blind indexes: values that are equal for equal inputs and
// say nothing to whoever lacks the key. It is safe for concurrent use.
type IndexKey struct {
	hidden
	mu     sync.RWMutex // guards key against wipe
	key    [32]byte
	closed bool
}

// MAC returns HMAC-SHA-256 over the parts, each preceded by its length as
// eight big-endian bytes, so that no two lists of parts give the same input.
// It panics after the ring was closed: an index under a wiped key would look
// like any other.
func (k *IndexKey) MAC(parts ...string) [sha256.Size]byte {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.closed {
		panic("keys: IndexKey used after its ring was closed")
	}
	h := hmac.New(sha256.New, k.key[:])
	for _, p := range parts {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		h.Write([]byte(p))
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func (k *IndexKey) wipe() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.key[:])
	k.closed = true
}
