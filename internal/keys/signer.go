package keys

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"pasban"
)

// signer signs notes with Ed25519 as x/mod/sumdb/note does, from a key that
// can be wiped.
type signer struct {
	hidden
	name string
	hash uint32
	vkey string

	mu     sync.RWMutex // guards key against wipe
	key    ed25519.PrivateKey
	closed bool
}

var _ note.Signer = (*signer)(nil)

// newSigner takes the key over.
func newSigner(origin string, key ed25519.PrivateKey) (*signer, error) {
	bad := func(err error) error {
		return &pasban.Error{Kind: pasban.Invalid, Msg: fmt.Sprintf("%q cannot be a ledger's origin", origin), Err: err, Hint: "a name without spaces and plus signs, such as land.example/ledger"}
	}
	vkey, err := note.NewEd25519VerifierKey(origin, key.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, bad(err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, bad(err)
	}
	return &signer{name: origin, hash: v.KeyHash(), vkey: vkey, key: key}, nil
}

// Name is the ledger's origin line.
func (s *signer) Name() string { return s.name }

// KeyHash is the key's id in a signed note.
func (s *signer) KeyHash() uint32 { return s.hash }

// Sign signs msg; it fails once the ring is closed.
func (s *signer) Sign(msg []byte) ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, errClosed
	}
	return ed25519.Sign(s.key, msg), nil
}

func (s *signer) wipe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.key)
	s.closed = true
}

// cosigner signs checkpoints as a witness (C2SP tlog-cosignature, Ed25519): the
// time, and a signature over it and the checkpoint.
type cosigner struct{ *signer }

// algCosignature is the key type of Ed25519 cosignatures, version 1.
const algCosignature = 4

// newCosigner takes the key over.
func newCosigner(name string, key ed25519.PrivateKey) (*cosigner, error) {
	s, err := newSigner(name, key)
	if err != nil {
		return nil, &pasban.Error{Kind: pasban.Invalid, Msg: fmt.Sprintf("%q cannot be a witness's name", name), Err: err, Hint: "a name without spaces and plus signs, such as land.example/witness"}
	}
	public := append([]byte{algCosignature}, key.Public().(ed25519.PublicKey)...)
	sum := sha256.Sum256(append([]byte(name+"\n"), public...))
	s.hash = binary.BigEndian.Uint32(sum[:])
	s.vkey = fmt.Sprintf("%s+%08x+%s", name, s.hash, base64.StdEncoding.EncodeToString(public))
	return &cosigner{s}, nil
}

// Sign cosigns the text of a checkpoint; it fails once the ring is closed.
func (c *cosigner) Sign(msg []byte) ([]byte, error) {
	now := uint64(time.Now().Unix())
	sig, err := c.signer.Sign(fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", now, msg))
	if err != nil {
		return nil, err
	}
	return append(binary.BigEndian.AppendUint64(nil, now), sig...), nil
}
