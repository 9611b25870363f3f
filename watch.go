package pasban

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"time"
)

// Whoever wants to be told of entries about themselves must not have to say who
// they are, nor be found in what is published. So with each epoch goes a list of
// labels, one for each citizen whose list has grown since the epoch before, and
// the epoch's leaf commits to it: everyone is given the same. A label is
//
//	the first 8 bytes of HMAC-SHA256(watch key, epoch, 8 bytes big-endian)
//
// and the watch key of a citizen and a year (UTC) is HMAC-SHA256(blind,
// "pasban/watch/v1" ‖ line feed ‖ year, decimal), blind being the one of the map
// of heads. Two labels of one citizen have nothing in common for those without
// the key. A key that got into other hands tells them when there were entries,
// not what they say, and ends with its year.

// WatchSchema names the version of a watch key's JSON form.
const WatchSchema = "pasban.watch-key.v1"

// WatchKey finds the epochs of one year in which a citizen's list grew.
type WatchKey struct {
	Schema string `json:"schema"`
	Origin string `json:"origin"` // of the ledger
	Year   int    `json:"year"`   // UTC
	Key    []byte `json:"key"`    // 32 bytes
}

// WatchLabel stands for a citizen in one epoch.
type WatchLabel [8]byte

// NewWatchKey derives the key of a citizen and a year from the second half of
// the value that SplitLabel takes apart.
func NewWatchKey(origin string, blind [32]byte, year int) WatchKey {
	mac := hmac.New(sha256.New, blind[:])
	fmt.Fprintf(mac, "pasban/watch/v1\n%d", year)
	return WatchKey{Schema: WatchSchema, Origin: origin, Year: year, Key: mac.Sum(nil)}
}

// Label is the citizen's in an epoch.
func (k WatchKey) Label(epoch int64) WatchLabel {
	mac := hmac.New(sha256.New, k.Key)
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(epoch)))
	return WatchLabel(mac.Sum(nil)[:8])
}

// WatchDigest is how an epoch's leaf commits to its labels: SHA-256, base64url
// without padding.
func WatchDigest(labels []byte) string {
	h := sha256.Sum256(labels)
	return base64.RawURLEncoding.EncodeToString(h[:])
}

// Grew reports whether the citizen's list grew in the epoch of a verified body of
// kind heads, given the labels that were published with it. It is an error if
// the labels are not those that the epoch commits to, or if the key is of
// another year and so cannot tell.
func (k WatchKey) Grew(epoch Body, labels []byte) (bool, error) {
	bad := func(format string, args ...any) (bool, error) {
		return false, &Error{Kind: Invalid, Where: fmt.Sprintf("epoch %d", epoch.Heads.Epoch), Msg: fmt.Sprintf(format, args...)}
	}
	at, err := time.Parse(TimeFormat, epoch.Time)
	switch {
	case epoch.Kind != KindHeads || err != nil:
		return bad("not an epoch of the map of heads")
	case at.UTC().Year() != k.Year || len(k.Key) != sha256.Size:
		return bad("the watch key is of the year %d", k.Year)
	case epoch.Heads.Watch == "":
		return bad("it has no labels: it is older than they are")
	case len(labels)%len(WatchLabel{}) != 0 || WatchDigest(labels) != epoch.Heads.Watch:
		return bad("the labels are not those that its leaf commits to")
	}
	want := k.Label(epoch.Heads.Epoch)
	for ; len(labels) > 0; labels = labels[len(want):] {
		if bytes.Equal(labels[:len(want)], want[:]) {
			return true, nil
		}
	}
	return false, nil
}
