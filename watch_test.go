package pasban_test

import (
	"bytes"
	"encoding/hex"
	"slices"
	"testing"

	"pasban"
)

// epochOf is the verified body of an epoch with these labels.
func epochOf(number int64, at string, labels []byte) pasban.Body {
	return pasban.Body{Version: 1, Kind: pasban.KindHeads, Time: at, Heads: pasban.Heads{Epoch: number, Watch: pasban.WatchDigest(labels)}}
}

// The bytes that another implementation must get; the same stand in web/test.
func TestWatchVector(t *testing.T) {
	k := pasban.NewWatchKey(origin, [32]byte{7}, 2026)
	if got := hex.EncodeToString(k.Key); got != "1374b769d1284aff8331186aae3d38552f92278254b5ca6b59bc1965048e382f" {
		t.Errorf("key %s", got)
	}
	if label := k.Label(41); hex.EncodeToString(label[:]) != "0d2d3dc98f3d8925" {
		t.Errorf("label %x", label)
	}
}

func TestWatch(t *testing.T) {
	mine, other := pasban.NewWatchKey(origin, [32]byte{7}, 2026), pasban.NewWatchKey(origin, [32]byte{8}, 2026)
	a, b := mine.Label(41), other.Label(41)
	const at = "2026-11-28T07:00:00.000Z"
	both := slices.Concat(a[:], b[:])
	for name, c := range map[string]struct {
		epoch  pasban.Body
		labels []byte
		grew   bool
		wrong  bool
	}{
		"with others":        {epochOf(41, at, both), both, true, false},
		"alone":              {epochOf(41, at, a[:]), a[:], true, false},
		"others alone":       {epochOf(41, at, b[:]), b[:], false, false},
		"nobody":             {epochOf(41, at, nil), nil, false, false},
		"another epoch":      {epochOf(42, at, both), both, false, false},
		"across labels":      {epochOf(41, at, slices.Concat(a[4:], a[:], a[:4])), slices.Concat(a[4:], a[:], a[:4]), false, false},
		"mine left out":      {epochOf(41, at, both), b[:], false, true},
		"half a label":       {epochOf(41, at, both[:12]), both[:12], false, true},
		"another year":       {epochOf(41, "2027-01-01T00:00:00.000Z", both), both, false, true},
		"no epoch":           {pasban.Body{Kind: pasban.KindLook, Time: at}, both, false, true},
		"before there were":  {pasban.Body{Kind: pasban.KindHeads, Time: at, Heads: pasban.Heads{Epoch: 41}}, nil, false, true},
		"a time that is non": {epochOf(41, "soon", both), both, false, true},
	} {
		grew, err := mine.Grew(c.epoch, c.labels)
		if grew != c.grew || (pasban.KindOf(err) == pasban.Invalid) != c.wrong || (err != nil) != c.wrong {
			t.Errorf("%s: %v, %v", name, grew, err)
		}
	}
	short := mine
	short.Key = nil
	if _, err := short.Grew(epochOf(41, at, both), both); err == nil {
		t.Error("an empty key finds labels")
	}
	if next := pasban.NewWatchKey(origin, [32]byte{7}, 2027); bytes.Equal(next.Key, mine.Key) {
		t.Error("the key does not end with its year")
	}
}
