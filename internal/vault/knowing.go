package vault

import (
	"crypto/sha256"
	"encoding/binary"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/mod/sumdb/note"
)

// knownSignatures is how many signatures are known again: of the commits whose
// fields are being opened.
const knownSignatures = 256

// knowing is a verifier that knows again what it has verified. Facts that are
// committed together are promised with one signature, and their fields are opened
// in the same moment. What does not verify is not remembered.
type knowing struct {
	note.Verifier
	known *lru.Cache[[sha256.Size]byte, struct{}]
}

func newKnowing(v note.Verifier) (knowing, error) {
	known, err := lru.New[[sha256.Size]byte, struct{}](knownSignatures)
	return knowing{v, known}, err
}

// Verify reports whether the key has signed msg.
func (k knowing) Verify(msg, sig []byte) bool {
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(msg))))
	h.Write(msg)
	h.Write(sig)
	key := [sha256.Size]byte(h.Sum(nil))
	if k.known.Contains(key) {
		return true
	}
	ok := k.Verifier.Verify(msg, sig)
	if ok {
		k.known.Add(key, struct{}{})
	}
	return ok
}
