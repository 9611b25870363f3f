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

func FuzzParseNamed(f *testing.F) {
	f.Add(formatNamed(ledgerHeader, "origin", "land.example/ledger", make([]byte, 32)))
	f.Add(formatNamed(witnessHeader, "name", "land.example/witness", make([]byte, 32)))
	f.Fuzz(func(t *testing.T, plain []byte) {
		for header, label := range map[string]string{ledgerHeader: "origin", witnessHeader: "name"} {
			name, seed, err := parseNamed(plain, header, label)
			if err == nil && !bytes.Equal(formatNamed(header, label, name, seed), plain) {
				t.Errorf("%q was read but is not what is written", plain)
			}
		}
	})
}
