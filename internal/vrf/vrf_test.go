package vrf_test

import (
	"bytes"
	"encoding/hex"
	"testing"

	"pasban/internal/vrf"
)

// The examples of RFC 9381, appendix B.3.
var examples = []struct{ seed, public, alpha, proof, value string }{
	{"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
		"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
		"8657106690b5526245a92b003bb079ccd1a92130477671f6fc01ad16f26f723f26f8a57ccaed74ee1b190bed1f479d9727d2d0f9b005a6e456a35d4fb0daab1268a1b0db10836d9826a528ca76567805",
		"90cf1df3b703cce59e2a35b925d411164068269d7b2d29f3301c03dd757876ff66b71dda49d2de59d03450451af026798e8f81cd2e333de5cdf4f3e140fdd8ae"},
	{"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
		"3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
		"f3141cd382dc42909d19ec5110469e4feae18300e94f304590abdced48aed5933bf0864a62558b3ed7f2fea45c92a465301b3bbf5e3e54ddf2d935be3b67926da3ef39226bbc355bdc9850112c8f4b02",
		"eb4440665d3891d668e7e0fcaf587f1b4bd7fbfe99d0eb2211ccec90496310eb5e33821bc613efb94db5e5b54c70a848a0bef4553a41befc57663b56373a5031"},
}

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestExamples(t *testing.T) {
	for _, e := range examples {
		k := vrf.NewKey([32]byte(unhex(t, e.seed)))
		if hex.EncodeToString(k.Public()) != e.public {
			t.Errorf("public key %x, want %s", k.Public(), e.public)
		}
		value, proof, err := k.Prove(unhex(t, e.alpha))
		if err != nil || hex.EncodeToString(proof) != e.proof || hex.EncodeToString(value[:]) != e.value {
			t.Errorf("proof %x, value %x, %v", proof, value, err)
		}
		if value, err := vrf.Verify(k.Public(), unhex(t, e.alpha), proof); err != nil || hex.EncodeToString(value[:]) != e.value {
			t.Errorf("value %x, %v", value, err)
		}
		for i := range proof { // no bit may differ, and no other input has this proof
			bad := bytes.Clone(proof)
			bad[i] ^= 1
			if _, err := vrf.Verify(k.Public(), unhex(t, e.alpha), bad); err == nil {
				t.Errorf("a proof verifies with byte %d changed", i)
			}
		}
		if _, err := vrf.Verify(k.Public(), []byte("other"), proof); err == nil {
			t.Error("the proof verifies for another input")
		}
	}
	for _, public := range [][]byte{nil, make([]byte, 32), append([]byte{1}, make([]byte, 31)...), bytes.Repeat([]byte{0xff}, 32)} {
		if _, err := vrf.Verify(public, nil, unhex(t, examples[0].proof)); err == nil {
			t.Errorf("%x passes for a public key", public)
		}
	}
}

// FuzzVerify: whatever bytes come, there is one value for an input, or none.
func FuzzVerify(f *testing.F) {
	for _, e := range examples {
		f.Add(unhex(f, e.public), unhex(f, e.alpha), unhex(f, e.proof))
	}
	f.Fuzz(func(t *testing.T, public, alpha, proof []byte) {
		value, err := vrf.Verify(public, alpha, proof)
		if err != nil {
			return
		}
		for _, e := range examples {
			if hex.EncodeToString(public) == e.public && hex.EncodeToString(alpha) == e.alpha && hex.EncodeToString(value[:]) != e.value {
				t.Fatal("a second value for one input")
			}
		}
	})
}
