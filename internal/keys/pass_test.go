package keys_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"pasban"
	"pasban/internal/keys"
)

func passKey(t *testing.T, r *keys.Ring) *keys.PassKey {
	t.Helper()
	k, err := r.PassKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestPassKeyIsKept(t *testing.T) {
	dir := ringDir(t)
	first := open(t, dir)
	number, mac, err := passKey(t, first).Sign("pass", []byte("m"))
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	if _, _, err := passKey(t, open(t, dir)).Sign("pass", nil); err != nil {
		t.Error(err)
	}
	k := passKey(t, open(t, dir))
	for _, c := range []struct {
		name   string
		number byte
		label  string
		msg    string
		mac    []byte
		want   bool
	}{
		{"as signed", number, "pass", "m", mac[:], true},
		{"its first half", number, "pass", "m", mac[:16], true},
		{"too little of it", number, "pass", "m", mac[:15], false},
		{"another use", number, "pas", "sm", mac[:], false},
		{"another message", number, "pass", "n", mac[:], false},
		{"another generation", number + 1, "pass", "m", mac[:], false},
		{"nothing", number, "pass", "m", nil, false},
	} {
		if got := k.Check(c.number, c.label, []byte(c.msg), c.mac); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	if got := fmt.Sprintf("%v %#v", k, k); got != "[redacted] [redacted]" {
		t.Errorf("a pass key prints as %.60q", got)
	}
}

func TestPassKeyRotates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := ringDir(t)
		k := passKey(t, open(t, dir))
		signed := map[byte][32]byte{}
		for range 3 {
			number, mac, err := k.Sign("pass", []byte("m"))
			if err != nil {
				t.Fatal(err)
			}
			signed[number] = mac
			if err := k.Rotate(time.Now()); err != nil {
				t.Fatal(err)
			}
			if again, _, _ := k.Sign("pass", nil); again != number {
				t.Fatalf("a young key was replaced: %d by %d", number, again)
			}
			time.Sleep(keys.PassLife)
			if err := k.Rotate(time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		if len(signed) != 3 {
			t.Fatalf("%d generations signed, want 3", len(signed))
		}
		for _, k := range []*keys.PassKey{k, passKey(t, open(t, dir))} {
			for number, mac := range signed {
				if got, want := k.Check(number, "pass", []byte("m"), mac[:]), number == 3; got != want {
					t.Errorf("generation %d of 4 verifies: %v, want %v", number, got, want)
				}
			}
		}
	})
}

func TestPassKeyEnds(t *testing.T) {
	dir := ringDir(t)
	r := open(t, dir)
	k := passKey(t, r)
	number, mac, _ := k.Sign("pass", nil)
	r.Close()
	if _, _, err := k.Sign("pass", nil); err == nil {
		t.Error("a wiped key still signs")
	}
	if k.Check(number, "pass", nil, mac[:]) {
		t.Error("a wiped key still checks")
	}
	if err := k.Rotate(time.Now().Add(2 * keys.PassLife)); err == nil {
		t.Error("a wiped key rotates")
	}
	if _, err := r.PassKey(); err == nil {
		t.Error("a closed ring gives a pass key")
	}
	moved := open(t, dir)
	overwrite(t, filepath.Join(dir, "pass.age"), []byte("no"))
	if _, err := moved.PassKey(); pasban.KindOf(err) != pasban.Invalid {
		t.Errorf("a damaged file: %v, want Invalid", err)
	}
}
