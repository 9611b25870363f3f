package keys_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"pasban"
	"pasban/internal/keys"
	"pasban/internal/keys/keystest"
)

const origin = "land.example/ledger"

func open(t *testing.T, dir string) *keys.Ring {
	t.Helper()
	r, err := keys.Open(t.Context(), dir, keys.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func ringDir(t *testing.T) string { return filepath.Join(t.TempDir(), "keys") }

func TestLocalKEK(t *testing.T) {
	keystest.RunTests(t, func(t *testing.T) keys.KEK { return open(t, ringDir(t)).KEK() })
}

func TestReopen(t *testing.T) {
	dir := ringDir(t)
	first := open(t, dir)
	wrapped, err := first.KEK().Wrap(t.Context(), []byte("a key"), []byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	index := first.IndexKey().MAC("x")
	signer, vkey, err := first.LedgerSigner(origin)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: "text\n"}, signer)
	if err != nil {
		t.Fatal(err)
	}
	first.Close()

	second := open(t, dir)
	if got, err := second.KEK().Unwrap(t.Context(), wrapped, []byte("a")); err != nil || string(got) != "a key" {
		t.Errorf("Unwrap after reopening = %q, %v", got, err)
	}
	if second.IndexKey().MAC("x") != index {
		t.Error("the blind index changed")
	}
	_, again, err := second.LedgerSigner(origin)
	if err != nil || again != vkey {
		t.Errorf("LedgerSigner = %q, %v; want %q", again, err, vkey)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open(signed, note.VerifierList(v)); err != nil {
		t.Error(err)
	}
}

func TestModes(t *testing.T) {
	dir := ringDir(t)
	r := open(t, dir)
	if _, _, err := r.LedgerSigner(origin); err != nil {
		t.Fatal(err)
	}
	names := []string{".", "identity.txt", "ring.age", "ledger.age"}
	for _, name := range names {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s was made with mode %v", name, info.Mode())
		}
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, info.Mode().Perm()|0o040); err != nil {
			t.Fatal(err)
		}
		err = openAll(t, dir)
		if err == nil || !strings.Contains(err.Error(), "chmod") || !strings.Contains(err.Error(), filepath.Clean(path)) {
			t.Errorf("with %s readable by the group: %v, want an error that says what to chmod", name, err)
		}
		if err := os.Chmod(path, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	if err := openAll(t, dir); err != nil {
		t.Error(err)
	}
}

// openAll opens a ring with all its files and closes it again.
func openAll(t *testing.T, dir string) error {
	r, err := keys.Open(t.Context(), dir, keys.Options{})
	if err != nil {
		return err
	}
	defer r.Close()
	_, _, err = r.LedgerSigner(origin)
	return err
}

// A ring that has lost or swapped a part is refused and nothing is written.
func TestDamagedRing(t *testing.T) {
	move := func(from, to string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, dir string)
	}{
		{"identity lost", move("identity.txt", "elsewhere")},
		{"ring lost", move("ring.age", "elsewhere")},
		{"ledger's key in place of the ring", move("ledger.age", "ring.age")},
		{"ring in place of the ledger's key", move("ring.age", "ledger.age")},
		{"ring of another identity", func(t *testing.T, dir string) {
			other := ringDir(t)
			open(t, other)
			data, err := os.ReadFile(filepath.Join(other, "ring.age"))
			if err != nil {
				t.Fatal(err)
			}
			overwrite(t, filepath.Join(dir, "ring.age"), data)
		}},
		{"ring cut short", func(t *testing.T, dir string) {
			path := filepath.Join(dir, "ring.age")
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			overwrite(t, path, data[:len(data)-1])
		}},
		{"identity is text", func(t *testing.T, dir string) {
			overwrite(t, filepath.Join(dir, "identity.txt"), []byte("AGE-SECRET-KEY-no\n"))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := ringDir(t)
			if err := openAll(t, dir); err != nil {
				t.Fatal(err)
			}
			c.damage(t, dir)
			before := tree(t, dir)
			err := openAll(t, dir)
			if _, ok := errors.AsType[*pasban.Error](err); !ok {
				t.Errorf("opened: %v, want a *pasban.Error", err)
			}
			if err != nil && strings.Contains(err.Error(), "AGE-SECRET-KEY") {
				t.Errorf("the error quotes the identity: %v", err)
			}
			if after := tree(t, dir); after != before {
				t.Errorf("files were written:\n%s\nbefore:\n%s", after, before)
			}
		})
	}
}

func TestIdentityElsewhere(t *testing.T) {
	dir, away := ringDir(t), filepath.Join(t.TempDir(), "id")
	if err := openAll(t, dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "identity.txt"), away); err != nil {
		t.Fatal(err)
	}
	r, err := keys.Open(t.Context(), dir, keys.Options{Identity: away})
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	if _, err := keys.Open(t.Context(), ringDir(t), keys.Options{Identity: away + "x"}); err == nil {
		t.Error("a named identity that is not there was made up")
	}
}

func TestOriginIsForLife(t *testing.T) {
	r := open(t, ringDir(t))
	for _, bad := range []string{"", "a b", "a+b"} {
		if _, _, err := r.LedgerSigner(bad); pasban.KindOf(err) != pasban.Invalid {
			t.Errorf("origin %q: %v, want Invalid", bad, err)
		}
	}
	if _, _, err := r.LedgerSigner(origin); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.LedgerSigner("other.example"); pasban.KindOf(err) != pasban.Conflict {
		t.Errorf("another origin: %v, want Conflict", err)
	}
}

func TestIndexKeySeparatesParts(t *testing.T) {
	k := open(t, ringDir(t)).IndexKey()
	seen := map[[32]byte]string{}
	for _, parts := range [][]string{{}, {""}, {"", ""}, {"ab"}, {"a", "b"}, {"", "ab"}, {"ab", ""}, {"b", "a"}} {
		m := k.MAC(parts...)
		if other, ok := seen[m]; ok {
			t.Errorf("%q and %s give the same index", parts, other)
		}
		seen[m] = fmt.Sprintf("%q", parts)
	}
}

func TestClosedRingServesNothing(t *testing.T) {
	r := open(t, ringDir(t))
	signer, _, err := r.LedgerSigner(origin)
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	if _, err := r.KEK().Wrap(t.Context(), []byte("k"), nil); err == nil {
		t.Error("KEK still wraps")
	}
	if _, err := signer.Sign([]byte("m")); err == nil {
		t.Error("signer still signs")
	}
	if _, _, err := r.LedgerSigner(origin); err == nil {
		t.Error("ring still gives a signer")
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("IndexKey still makes indexes")
			}
		}()
		r.IndexKey().MAC("x")
	}()
}

func TestKeysPrintAsRedacted(t *testing.T) {
	r := open(t, ringDir(t))
	signer, _, err := r.LedgerSigner(origin)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []any{r, r.KEK(), r.IndexKey(), signer} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
			if got := fmt.Sprintf(verb, k); got != "[redacted]" {
				t.Errorf("%T with %s = %.40q", k, verb, got)
			}
		}
		if got, err := json.Marshal(k); err != nil || string(got) != `"[redacted]"` {
			t.Errorf("%T as JSON = %.40s, %v", k, got, err)
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("m", "key", k)
		if !strings.Contains(log.String(), "key=[redacted]") {
			t.Errorf("%T in a log = %.80s", k, log.String())
		}
	}
}

func overwrite(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// tree lists a directory with the files' contents.
func tree(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %x\n", e.Name(), data)
	}
	return b.String()
}
