package pasban

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Promise is the ledger key's word that a committed fact will be leaf number
// Index of the ledger, given before any plaintext leaves (the idea of the SCT
// of RFC 6962, section 3.2). Only a committed journal row yields one. A
// promise that is not honoured within the ledger's merge delay is evidence.
type Promise struct {
	Origin string    // the ledger's origin line
	Index  uint64    // leaf index = accountable sequence number
	Leaf   tlog.Hash // Merkle leaf hash
	Sig    []byte    // big-endian Unix milliseconds (8 bytes) ‖ signature
}

// message is the text that is signed. Its first line is not a checkpoint's
// origin and its second not a tree size, so neither can pass for the other.
func (p Promise) message(ms uint64) []byte {
	return fmt.Appendf(nil, "pasban/promise/v1\n%s\n%d\n%s\n%d\n",
		p.Origin, p.Index, base64.StdEncoding.EncodeToString(p.Leaf[:]), ms)
}

// SignPromise signs a promise with the ledger's key. Only the journal calls
// it, after the row is durable.
func SignPromise(s note.Signer, index uint64, leaf tlog.Hash, now time.Time) (Promise, error) {
	p := Promise{Origin: s.Name(), Index: index, Leaf: leaf}
	ms := uint64(now.UnixMilli())
	sig, err := s.Sign(p.message(ms))
	if err != nil {
		return Promise{}, fmt.Errorf("sign the promise for leaf %d: %w", index, err)
	}
	p.Sig = append(binary.BigEndian.AppendUint64(nil, ms), sig...)
	return p, nil
}

// Verify reports whether the ledger whose key v holds gave this promise.
// The zero Promise never verifies.
func (p Promise) Verify(v note.Verifier) error {
	if len(p.Sig) <= 8 || p.Origin == "" {
		return &Error{Kind: Invalid, Msg: "the promise is not signed"}
	}
	if p.Origin != v.Name() {
		return &Error{Kind: Invalid, Msg: fmt.Sprintf("the promise is of ledger %q, the key of %q", p.Origin, v.Name())}
	}
	if !v.Verify(p.message(binary.BigEndian.Uint64(p.Sig)), p.Sig[8:]) {
		return &Error{Kind: Invalid, Msg: "the signature of the promise does not verify"}
	}
	return nil
}

// Time is when the promise was given; zero if it is not signed.
func (p Promise) Time() time.Time {
	if len(p.Sig) < 8 {
		return time.Time{}
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(p.Sig))).UTC()
}

// PromiseHeader is the response header that carries a promise.
const PromiseHeader = "Pasban-Promise"

// Header writes the promise as the value of a Pasban-Promise header:
// <index>; leaf=<base64url>; sig=<base64url>.
func (p Promise) Header() string {
	e := base64.RawURLEncoding
	return fmt.Sprintf("%d; leaf=%s; sig=%s", p.Index, e.EncodeToString(p.Leaf[:]), e.EncodeToString(p.Sig))
}

// ParsePromise reads the value of a Pasban-Promise header. The origin is not
// in the header: the reader knows whose ledger it asked.
func ParsePromise(origin, header string) (Promise, error) {
	bad := &Error{Kind: Invalid, Msg: "not a promise: want <index>; leaf=<base64url>; sig=<base64url>"}
	part := strings.Split(header, "; ")
	if len(part) != 3 {
		return Promise{}, bad
	}
	index, err := strconv.ParseUint(part[0], 10, 63)
	if err != nil {
		return Promise{}, bad
	}
	leaf, okLeaf := strings.CutPrefix(part[1], "leaf=")
	sig, okSig := strings.CutPrefix(part[2], "sig=")
	if !okLeaf || !okSig {
		return Promise{}, bad
	}
	p := Promise{Origin: origin, Index: index}
	raw, err := base64.RawURLEncoding.DecodeString(leaf)
	if err != nil || copy(p.Leaf[:], raw) != tlog.HashSize || len(raw) != tlog.HashSize {
		return Promise{}, bad
	}
	if p.Sig, err = base64.RawURLEncoding.DecodeString(sig); err != nil {
		return Promise{}, bad
	}
	if p.Header() != header { // one promise, one way to write it
		return Promise{}, bad
	}
	return p, nil
}
