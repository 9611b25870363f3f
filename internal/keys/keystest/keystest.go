// Package keystest is the suite that every engine behind keys.KEK passes.
//
// [RunTests] tries what the vault relies on: what was wrapped comes back, and
// nothing else does — not under another place, another key, or with any bit
// changed. It talks to the engine through the interface alone and keeps no key.
package keystest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"pasban/internal/keys"
)

// RunTests runs the suite. Each call of open must return an engine with a key
// of its own.
func RunTests(t *testing.T, open func(t *testing.T) keys.KEK) {
	dek := bytes.Repeat([]byte{0xA5}, 32)
	aad := []byte("place")

	t.Run("what was wrapped comes back", func(t *testing.T) {
		k := open(t)
		for _, key := range [][]byte{dek, {1}, bytes.Repeat([]byte{7}, 64)} {
			got, err := k.Unwrap(t.Context(), wrap(t, k, key, aad), aad)
			if err != nil || !bytes.Equal(got, key) {
				t.Errorf("Unwrap(Wrap(%x)) = %x, %v", key, got, err)
			}
		}
	})
	t.Run("the wrapped form hides the key and never repeats", func(t *testing.T) {
		k := open(t)
		a, b := wrap(t, k, dek, aad), wrap(t, k, dek, aad)
		if bytes.Equal(a, b) {
			t.Error("two wraps of one key are equal")
		}
		if bytes.Contains(a, dek[:8]) {
			t.Error("the wrapped form contains the key")
		}
	})
	t.Run("another place is refused", func(t *testing.T) {
		k := open(t)
		w := wrap(t, k, dek, aad)
		for _, other := range []string{"", "plac", "place ", "Place"} {
			refused(t, k, w, []byte(other))
		}
	})
	t.Run("another key is refused", func(t *testing.T) {
		refused(t, open(t), wrap(t, open(t), dek, aad), aad)
	})
	t.Run("any change is refused", func(t *testing.T) {
		k := open(t)
		w := wrap(t, k, dek, aad)
		for i := range w {
			changed := slices.Clone(w)
			changed[i] ^= 1
			refused(t, k, changed, aad)
		}
		for n := range len(w) {
			refused(t, k, w[:n], aad)
		}
		refused(t, k, append(slices.Clone(w), 0), aad)
	})
	t.Run("a cancelled caller is not served", func(t *testing.T) {
		k := open(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := k.Wrap(ctx, dek, aad); !errors.Is(err, context.Canceled) {
			t.Errorf("Wrap = %v, want context.Canceled", err)
		}
	})
}

func wrap(t *testing.T, k keys.KEK, dek, aad []byte) []byte {
	t.Helper()
	w, err := k.Wrap(t.Context(), dek, aad)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func refused(t *testing.T, k keys.KEK, wrapped, aad []byte) {
	t.Helper()
	if got, err := k.Unwrap(t.Context(), wrapped, aad); err == nil || got != nil {
		t.Errorf("Unwrap(%x, %q) = %x, %v; want an error and nothing else", wrapped, aad, got, err)
	}
}
