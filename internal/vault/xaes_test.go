package vault

import (
	"bytes"
	"encoding/hex"
	"slices"
	"testing"
)

// The test vectors of c2sp.org/XAES-256-GCM.
func TestXAESVectors(t *testing.T) {
	for _, c := range []struct {
		key       byte
		aad, want string
	}{
		{key: 0x01, aad: "", want: "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{key: 0x03, aad: "c2sp.org/XAES-256-GCM", want: "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		key := [32]byte(bytes.Repeat([]byte{c.key}, 32))
		nonce := []byte("ABCDEFGHIJKLMNOPQRSTUVWX")
		got, err := xaesSeal(nil, &key, nonce, []byte("XAES-256-GCM"), []byte(c.aad))
		if err != nil || hex.EncodeToString(got) != c.want {
			t.Errorf("key %02x…: %x, %v; want %s", c.key, got, err, c.want)
		}
		plain, err := xaesOpen(&key, nonce, got, []byte(c.aad))
		if err != nil || string(plain) != "XAES-256-GCM" {
			t.Errorf("key %02x…: opened %q, %v", c.key, plain, err)
		}
		for i := range nonce {
			other := slices.Clone(nonce)
			other[i] ^= 1
			if _, err := xaesOpen(&key, other, got, []byte(c.aad)); err == nil {
				t.Errorf("opened with byte %d of the nonce changed", i)
			}
		}
	}
}
