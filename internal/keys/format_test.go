package keys

import (
	"bytes"
	"testing"
)

func FuzzParseRing(f *testing.F) {
	f.Add(formatRing([32]byte{1}, [32]byte{2}))
	f.Add([]byte(ringHeader + "\nkek \nindex \n"))
	f.Fuzz(func(t *testing.T, plain []byte) {
		kek, index, err := parseRing(plain)
		if err == nil && !bytes.Equal(formatRing(kek, index), plain) {
			t.Errorf("%q was read but is not what is written", plain)
		}
	})
}

func FuzzParseLedger(f *testing.F) {
	f.Add(formatLedger("land.example/ledger", make([]byte, 32)))
	f.Fuzz(func(t *testing.T, plain []byte) {
		origin, seed, err := parseLedger(plain)
		if err == nil && !bytes.Equal(formatLedger(origin, seed), plain) {
			t.Errorf("%q was read but is not what is written", plain)
		}
	})
}
