package keys_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	cosig "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/keys"
)

const witnessName = "land.example/witness"

// TestWitnessSigner: what the ring cosigns holds for Pasban's own verifier and
// for the one of transparency-dev, after a restart as well.
func TestWitnessSigner(t *testing.T) {
	dir := ringDir(t)
	r := open(t, dir)
	if _, _, err := r.WitnessSigner("a b", true); pasban.KindOf(err) != pasban.Invalid {
		t.Errorf("a bad name: %v", err)
	}
	if _, _, err := r.WitnessSigner(witnessName, false); pasban.KindOf(err) != pasban.Invalid {
		t.Errorf("a memory without a key: %v", err)
	}
	signer, vkey, err := r.WitnessSigner(witnessName, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.WitnessSigner(witnessName, true); pasban.KindOf(err) != pasban.Conflict {
		t.Errorf("a key without a memory: %v", err)
	}
	if _, _, err := r.WitnessSigner("land.example/other", false); pasban.KindOf(err) != pasban.Conflict {
		t.Errorf("another name: %v", err)
	}
	ledger, ledgerKey, err := r.LedgerSigner(origin)
	if err != nil {
		t.Fatal(err)
	}
	own, err := note.NewVerifier(ledgerKey)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := cosig.NewVerifierForCosignatureV1(vkey)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := pasban.NewWitnessPolicy(1, []string{vkey})
	if err != nil {
		t.Fatal(err)
	}
	holds := func(s note.Signer) {
		t.Helper()
		signed, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n7\n%s\n", origin, tlog.Hash{})}, ledger, s)
		if err != nil {
			t.Fatal(err)
		}
		if _, held, err := pasban.OpenCosigned(signed, own, policy); err != nil || held[0].Time.IsZero() {
			t.Errorf("own verifier: %v", err)
		}
		if _, err := note.Open(signed, note.VerifierList(theirs)); err != nil {
			t.Errorf("transparency-dev's verifier: %v", err)
		}
	}
	holds(signer)
	if text := fmt.Sprintf("%v %+v %s", signer, signer, signer); strings.Count(text, "[redacted]") != 3 {
		t.Errorf("it prints as %s", text)
	}
	r.Close()
	if _, err := signer.Sign([]byte("m")); err == nil {
		t.Error("it signs after the ring was closed")
	}
	r = open(t, dir)
	signer, again, err := r.WitnessSigner(witnessName, false)
	if err != nil || again != vkey {
		t.Fatalf("%s, %v; want %s", again, err, vkey)
	}
	if signer.Name() != witnessName {
		t.Errorf("it is called %s", signer.Name())
	}
	r.Close()

	path := filepath.Join(dir, "witness.age")
	sealed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, sealed[:len(sealed)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	r, err = keys.Open(t.Context(), dir, keys.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, _, err := r.WitnessSigner(witnessName, false); pasban.KindOf(err) != pasban.Invalid {
		t.Errorf("a damaged file: %v", err)
	}
}
