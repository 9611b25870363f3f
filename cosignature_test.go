package pasban_test

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	cosig "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"pasban"
)

// newWitness makes a cosigner with another implementation of the format.
func newWitness(t testing.TB, name string) (note.Signer, string) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := cosig.NewSignerForCosignatureV1(skey)
	if err != nil {
		t.Fatal(err)
	}
	if vkey, err = cosig.VKeyToCosignatureV1(vkey); err != nil {
		t.Fatal(err)
	}
	return s, vkey
}

func sign(t testing.TB, text string, s ...note.Signer) []byte {
	t.Helper()
	signed, err := note.Sign(&note.Note{Text: text}, s...)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func TestOpenCosigned(t *testing.T) {
	ls, lv := newKey(t, origin)
	s1, k1 := newWitness(t, "witness.example/w1")
	s2, k2 := newWitness(t, "witness.example/w2")
	stranger, _ := newWitness(t, "witness.example/w1") // the name, another key
	p, err := pasban.NewWitnessPolicy(2, []string{k1, k2})
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("land.example/ledger\n7\n%s\n", tlog.RecordHash([]byte("x")))
	other := fmt.Sprintf("land.example/ledger\n8\n%s\n", tlog.RecordHash([]byte("x")))
	// A cosignature of another checkpoint, moved here.
	moved := string(sign(t, other, s2))
	moved = moved[strings.LastIndex(moved, "\n\n")+2:]

	for _, tc := range []struct {
		name   string
		signed []byte
		held   int
		ok     bool
	}{
		{"both", sign(t, text, ls, s1, s2), 2, true},
		{"and a stranger", sign(t, text, stranger, s2, ls, s1), 2, true},
		{"one", sign(t, text, ls, s1), 1, false},
		{"one and a stranger", sign(t, text, ls, s1, stranger), 1, false},
		{"one twice", sign(t, text, ls, s1, s1), 1, false},
		{"one moved from elsewhere", append(sign(t, text, ls, s1), moved...), 1, false},
		{"none", sign(t, text, ls), 0, false},
	} {
		cp, held, err := pasban.OpenCosigned(tc.signed, lv, p)
		if (err == nil) != tc.ok || len(held) != tc.held || cp.N != 7 {
			t.Errorf("%s: size %d, %d cosignatures, %v", tc.name, cp.N, len(held), err)
		}
		for _, c := range held {
			if d := time.Since(c.Time); d < -time.Second || d > time.Hour {
				t.Errorf("%s: cosigned at %v", tc.name, c.Time)
			}
		}
		if _, err := pasban.OpenCheckpoint(tc.signed, lv); err != nil {
			t.Errorf("%s: a reader who ignores witnesses: %v", tc.name, err)
		}
	}
	if _, _, err := pasban.OpenCosigned(sign(t, text, s1, s2), lv, p); pasban.KindOf(err) != pasban.Invalid {
		t.Errorf("without the ledger's signature: %v", err)
	}
}

func TestWitnessPolicyRefuses(t *testing.T) {
	_, k1 := newWitness(t, "witness.example/w1")
	_, k2 := newWitness(t, "witness.example/w2")
	_, logKey, err := note.GenerateKey(rand.Reader, "land.example/ledger")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		need int
		of   []string
	}{
		"none needed": {0, []string{k1}}, "too many needed": {2, []string{k1}}, "no witnesses": {1, nil},
		"one twice": {1, []string{k1, k1}}, "a ledger's key": {1, []string{logKey}}, "garbage": {1, []string{"x"}},
		"another's hash": {1, []string{strings.Join([]string{"witness.example/w1", strings.Split(k2, "+")[1], strings.SplitN(k1, "+", 3)[2]}, "+")}},
	} {
		if _, err := pasban.NewWitnessPolicy(tc.need, tc.of); pasban.KindOf(err) != pasban.Invalid || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzOpenCosigned gives the reader of cosignature lines anything at all: what
// it counts, another implementation must count too.
func FuzzOpenCosigned(f *testing.F) {
	ls, lv := newKey(f, origin)
	s1, k1 := newWitness(f, "witness.example/w1")
	p, err := pasban.NewWitnessPolicy(1, []string{k1})
	if err != nil {
		f.Fatal(err)
	}
	peer, err := cosig.NewVerifierForCosignatureV1(k1)
	if err != nil {
		f.Fatal(err)
	}
	good := sign(f, fmt.Sprintf("land.example/ledger\n7\n%s\n", tlog.RecordHash([]byte("x"))), ls)
	f.Add([]byte("— witness.example/w1 AAAA\n"))
	f.Add([]byte("\n— witness.example/w1"))
	cosigned := sign(f, fmt.Sprintf("land.example/ledger\n7\n%s\n", tlog.RecordHash([]byte("x"))), s1)
	f.Add(cosigned[strings.LastIndex(string(cosigned), "\n\n")+2:])
	f.Fuzz(func(t *testing.T, lines []byte) {
		signed := append(good[:len(good):len(good)], lines...)
		_, held, err := pasban.OpenCosigned(signed, lv, p)
		if (err == nil) != (len(held) == 1) {
			t.Fatalf("%d cosignatures, %v", len(held), err)
		}
		if _, peerErr := note.Open(signed, note.VerifierList(lv, peer)); err == nil && peerErr != nil {
			t.Fatalf("counted here, not by the other implementation: %v", peerErr)
		}
	})
}

// FuzzWitnessKey gives the key's parser anything at all.
func FuzzWitnessKey(f *testing.F) {
	_, k := newWitness(f, "witness.example/w1")
	f.Add(k)
	f.Add("a+00000000+BA==")
	f.Fuzz(func(t *testing.T, vkey string) {
		if _, err := pasban.NewWitnessPolicy(1, []string{vkey}); err != nil {
			return
		}
		if _, err := cosig.NewVerifierForCosignatureV1(strings.TrimSpace(vkey)); err != nil {
			t.Fatalf("%q is taken here, not by the other implementation: %v", vkey, err)
		}
	})
}
