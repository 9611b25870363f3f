package pasban

import (
	"crypto/sha256"

	"golang.org/x/mod/sumdb/tlog"
)

// leafVersion is the first byte of every leaf.
const leafVersion = 1

// LeafSize is the length of a leaf's public bytes: version, kind and commitment.
const LeafSize = 2 + sha256.Size

// Leaf is the public entry of the ledger for one fact:
//
//	byte 0      version, 1
//	byte 1      kind: 1 look, 2 change, 3 decision, 4 admin, 5 heads, 6 opening
//	bytes 2–33  SHA-256(salt ‖ canonical JSON of the body)
//
// It carries nothing else: no name, no time, no id.
type Leaf [LeafSize]byte

// Leaf computes the leaf that this opening opens. It fails for a kind that is
// not accountable and for a salt that is not 32 bytes.
func (o Opening) Leaf() (Leaf, error) {
	var l Leaf
	code := kindCodes[o.Kind]
	if code == 0 {
		return l, &Error{Kind: Invalid, Msg: "facts of kind " + string(o.Kind) + " have no leaf"}
	}
	if len(o.Salt) != saltSize {
		return l, &Error{Kind: Invalid, Msg: "the salt of a leaf is 32 bytes"}
	}
	l[0], l[1] = leafVersion, code
	h := sha256.New()
	h.Write(o.Salt)
	h.Write(o.Body)
	h.Sum(l[2:2])
	return l, nil
}

// Hash is the leaf's hash in the log's Merkle tree (RFC 6962, section 2.1).
func (l Leaf) Hash() tlog.Hash { return tlog.RecordHash(l[:]) }

// Kind returns the leaf's kind, or "" if it is of no known version or kind.
func (l Leaf) Kind() Kind {
	if l[0] != leafVersion {
		return ""
	}
	for k, code := range kindCodes {
		if code == l[1] {
			return k
		}
	}
	return ""
}
