package pasban

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"pasban/internal/vrf"
)

// Heads is what the leaf of an epoch commits to: the map from every citizen's
// label to where their list ends, as of the first Size leaves of the ledger.
type Heads struct {
	Epoch    int64  `json:"epoch"`              // from 1, without gaps
	Size     int64  `json:"size"`               // leaves of the ledger that the map covers
	Labels   int64  `json:"labels"`             // citizens in the map
	Root     string `json:"root"`               // of the map, base64url without padding
	Key      string `json:"key"`                // public key of the labels (RFC 9381), base64url without padding
	Watch    string `json:"watch,omitempty"`    // WatchDigest of the labels of the lists that grew since the epoch before
	Previous string `json:"previous,omitempty"` // Merkle leaf hash of the epoch before, base64url without padding; "" for epoch 1
}

func (h Heads) check(k Kind) error {
	is := func(s string) bool {
		_, ok := hashOf(s)
		return ok
	}
	const most = 1 << 53
	switch {
	case k != KindHeads && h == Heads{}:
	case k == KindHeads && h.Epoch >= 1 && h.Epoch < most && h.Size >= 1 && h.Size < most && h.Labels >= 0 && h.Labels < most &&
		is(h.Root) && is(h.Key) && (h.Previous == "") == (h.Epoch == 1) && (h.Epoch == 1 || is(h.Previous)) && (h.Watch == "" || is(h.Watch)):
	default:
		return &Error{Kind: Invalid, Msg: fmt.Sprintf("a body of kind %q does not say what it should of the map of heads", k)}
	}
	return nil
}

// The map is a binary trie over labels of 256 bits, most significant bit first,
// in which a subtree with one label is that label's node and an empty one is 32
// zero bytes. So a label has one place in it, and one value:
//
//	node of a label  SHA-256(0x02 ‖ label ‖ value)
//	inner node       SHA-256(0x03 ‖ left ‖ right)
//	value            SHA-256(blind ‖ number, 8 bytes big-endian ‖ Merkle leaf hash of the last entry)
//
// A label that is not in the map has a place in it, too: the way down by its bits
// ends at an empty subtree or at the node of another label that begins alike.
//
// label and blind are the first and the last 32 bytes of the VRF's value for the
// citizen's number: who is not shown the proof learns neither who nor how many.

// MapHash is a node of the map of heads.
type MapHash = [sha256.Size]byte

// Label is a citizen's place in the map of heads.
type Label = [32]byte

// LabelNode is the map's node of a label and its value.
func LabelNode(label Label, value MapHash) MapHash {
	var b [1 + 64]byte
	b[0] = 2
	copy(b[1:], label[:])
	copy(b[33:], value[:])
	return sha256.Sum256(b[:])
}

// InnerNode is the map's node above two others.
func InnerNode(left, right MapHash) MapHash {
	var b [1 + 64]byte
	b[0] = 3
	copy(b[1:], left[:])
	copy(b[33:], right[:])
	return sha256.Sum256(b[:])
}

// HeadValue is the value of a list of number entries of which the last has this
// Merkle leaf hash.
func HeadValue(blind [32]byte, number int64, last tlog.Hash) MapHash {
	b := binary.BigEndian.AppendUint64(bytes.Clone(blind[:]), uint64(number))
	return sha256.Sum256(append(b, last[:]...))
}

// SplitLabel takes the VRF's value of a citizen's number apart.
func SplitLabel(value [vrf.ValueSize]byte) (label Label, blind [32]byte) {
	return Label(value[:32]), [32]byte(value[32:])
}

// mapRoot computes the root that a proof leads to: siblings from the node in the
// label's place upwards.
func mapRoot(label Label, h MapHash, proof []tlog.Hash) (MapHash, error) {
	if len(proof) > 256 {
		return MapHash{}, &Error{Kind: Invalid, Msg: "the proof of the list's end is longer than a label"}
	}
	for i, sibling := range proof {
		if depth := len(proof) - 1 - i; label[depth/8]>>(7-depth%8)&1 == 0 {
			h = InnerNode(h, MapHash(sibling))
		} else {
			h = InnerNode(MapHash(sibling), h)
		}
	}
	return h, nil
}
