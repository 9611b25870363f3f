package pasban_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"pasban"
)

const origin = "land.example/ledger"

// newKey makes a ledger's key.
func newKey(t testing.TB, name string) (note.Signer, note.Verifier) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return s, v
}

func promise(t testing.TB, s note.Signer, index uint64) pasban.Promise {
	t.Helper()
	o, _ := seal(t, lookFact())
	leaf, err := o.Leaf()
	if err != nil {
		t.Fatal(err)
	}
	return promises(t, s, index, leaf.Hash())[0]
}

func promises(t testing.TB, s note.Signer, first uint64, leaves ...tlog.Hash) []pasban.Promise {
	t.Helper()
	all, err := pasban.SignPromises(s, first, leaves, time.UnixMilli(1795464900123))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// hashes are n different leaf hashes.
func hashes(n int) (all []tlog.Hash) {
	for i := range n {
		all = append(all, tlog.RecordHash(fmt.Append(nil, "leaf ", i)))
	}
	return all
}

func TestPromise(t *testing.T) {
	s, v := newKey(t, origin)
	p := promise(t, s, 42)
	if err := p.Verify(v); err != nil {
		t.Fatal(err)
	}
	if got := p.Time(); !got.Equal(time.UnixMilli(1795464900123)) {
		t.Errorf("time %v", got)
	}
	back, err := pasban.ParsePromise(origin, p.Header())
	if err != nil {
		t.Fatal(err)
	}
	if err := back.Verify(v); err != nil || back.Index != 42 || back.Leaf != p.Leaf {
		t.Errorf("through its header: %+v, %v", back, err)
	}
}

func TestPromiseVerifyRefuses(t *testing.T) {
	s, v := newKey(t, origin)
	other, _ := newKey(t, origin)
	stranger, _ := newKey(t, "other.example/ledger")
	p := promise(t, s, 42)
	// A checkpoint's signature over the promise's own text must not serve as one.
	signed, err := note.Sign(&note.Note{Text: origin + "\n42\n"}, s)
	if err != nil {
		t.Fatal(err)
	}
	change := func(f func(*pasban.Promise)) pasban.Promise {
		c := p
		c.Sig = bytes.Clone(p.Sig)
		f(&c)
		return c
	}
	for name, c := range map[string]pasban.Promise{
		"zero":             {},
		"no signature":     change(func(p *pasban.Promise) { p.Sig = nil }),
		"only a time":      change(func(p *pasban.Promise) { p.Sig = p.Sig[:8] }),
		"other index":      change(func(p *pasban.Promise) { p.Index++ }),
		"other leaf":       change(func(p *pasban.Promise) { p.Leaf[0] ^= 1 }),
		"other time":       change(func(p *pasban.Promise) { p.Sig[7] ^= 1 }),
		"other signature":  change(func(p *pasban.Promise) { p.Sig[8] ^= 1 }),
		"cut signature":    change(func(p *pasban.Promise) { p.Sig = p.Sig[:len(p.Sig)-1] }),
		"other origin":     change(func(p *pasban.Promise) { p.Origin = "other.example/ledger" }),
		"other key":        promise(t, other, 42),
		"other ledger":     promise(t, stranger, 42),
		"renamed stranger": func() pasban.Promise { p := promise(t, stranger, 42); p.Origin = origin; return p }(),
		"a note":           change(func(p *pasban.Promise) { p.Sig = append(p.Sig[:8], signed...) }),
	} {
		if err := c.Verify(v); err == nil {
			t.Errorf("%s: verifies", name)
		} else if pasban.KindOf(err) != pasban.Invalid {
			t.Errorf("%s: kind %q, want invalid", name, pasban.KindOf(err))
		}
	}
}

// alone is a promise as it was given before there were several with one
// signature, written out byte by byte.
func alone(t *testing.T, s note.Signer, index uint64, leaf tlog.Hash, ms uint64) []byte {
	t.Helper()
	sig, err := s.Sign(fmt.Appendf(nil, "pasban/promise/v1\n%s\n%d\n%s\n%d\n", origin, index, base64.StdEncoding.EncodeToString(leaf[:]), ms))
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint64(nil, ms), sig...)
}

// Each promise stands for itself, however many were given with it, and the tree
// of those is the one of RFC 6962.
func TestPromisesTogether(t *testing.T) {
	s, v := newKey(t, origin)
	const first, most, ms = 1000, 16, 1795464900123
	for n := range 2*most + 3 {
		leaves := hashes(n)
		all := promises(t, s, first, leaves...)
		if len(all) != n {
			t.Fatalf("%d promises for %d leaves", len(all), n)
		}
		for i, p := range all {
			back, err := pasban.ParsePromise(origin, p.Header())
			if err != nil {
				t.Fatal(err)
			}
			if err := back.Verify(v); err != nil || back.Index != first+uint64(i) || back.Leaf != leaves[i] || !back.Time().Equal(time.UnixMilli(ms)) {
				t.Errorf("%d of %d: %+v, %v", i, n, back, err)
			}
			together := leaves[i/most*most : min(n, i/most*most+most)]
			if len(together) == 1 {
				if want := alone(t, s, p.Index, p.Leaf, ms); !bytes.Equal(p.Sig, want) {
					t.Errorf("%d of %d, alone: %x, want %x", i, n, p.Sig, want)
				}
				continue
			}
			if p.Sig[0] != byte(i%most) || p.Sig[1] != byte(len(together)-1) {
				t.Errorf("%d of %d begins with %x", i, n, p.Sig[:2])
			}
			var path tlog.RecordProof
			for rest := p.Sig[8 : len(p.Sig)-ed25519.SignatureSize]; len(rest) > 0; rest = rest[tlog.HashSize:] {
				path = append(path, tlog.Hash(rest[:tlog.HashSize]))
			}
			if err := tlog.CheckRecord(path, int64(len(together)), rootOf(t, together), int64(i%most), p.Leaf); err != nil {
				t.Errorf("%d of %d: %v", i, n, err)
			}
		}
	}
}

// rootOf is the root of the tree of leaves, as x/mod's tlog has it.
func rootOf(t *testing.T, leaves []tlog.Hash) tlog.Hash {
	t.Helper()
	var stored []tlog.Hash
	read := tlog.HashReaderFunc(func(at []int64) (out []tlog.Hash, err error) {
		for _, i := range at {
			out = append(out, stored[i])
		}
		return out, nil
	})
	for i, leaf := range leaves {
		more, err := tlog.StoredHashesForRecordHash(int64(i), leaf, read)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, more...)
	}
	root, err := tlog.TreeHash(int64(len(leaves)), read)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// What one of several promises says cannot be made to say anything else.
func TestPromisesTogetherRefuse(t *testing.T) {
	s, v := newKey(t, origin)
	all := promises(t, s, 40, hashes(5)...)
	change := func(i int, f func(*pasban.Promise)) pasban.Promise {
		c := all[i]
		c.Sig = bytes.Clone(c.Sig)
		f(&c)
		return c
	}
	for name, c := range map[string]pasban.Promise{
		"another's leaf":         change(2, func(p *pasban.Promise) { p.Leaf = all[3].Leaf }),
		"another's index":        change(2, func(p *pasban.Promise) { p.Index++ }),
		"another's place":        change(2, func(p *pasban.Promise) { p.Sig[0]++ }),
		"index and place":        change(2, func(p *pasban.Promise) { p.Index++; p.Sig[0]++ }),
		"another's path":         change(2, func(p *pasban.Promise) { copy(p.Sig[8:], all[3].Sig[8:]) }),
		"one more":               change(4, func(p *pasban.Promise) { p.Sig[1]++ }),
		"one less":               change(3, func(p *pasban.Promise) { p.Sig[1]-- }),
		"a place behind the end": change(2, func(p *pasban.Promise) { p.Sig[0] = 5 }),
		"a place before leaf 0":  change(2, func(p *pasban.Promise) { p.Index = 1 }),
		"alone":                  change(2, func(p *pasban.Promise) { p.Sig[0], p.Sig[1] = 0, 0 }),
		"alone without a path": change(2, func(p *pasban.Promise) {
			p.Sig = slices.Delete(p.Sig, 8, len(p.Sig)-ed25519.SignatureSize)
			p.Sig[0], p.Sig[1] = 0, 0
		}),
		"a node for a leaf": change(0, func(p *pasban.Promise) {
			p.Leaf, p.Sig[1] = tlog.NodeHash(all[0].Leaf, all[1].Leaf), 2
			p.Sig = slices.Delete(p.Sig, 8, 8+tlog.HashSize)
		}),
		"a changed path":      change(2, func(p *pasban.Promise) { p.Sig[8] ^= 1 }),
		"another time":        change(2, func(p *pasban.Promise) { p.Sig[7] ^= 1 }),
		"a changed signature": change(2, func(p *pasban.Promise) { p.Sig[len(p.Sig)-1] ^= 1 }),
		"no signature":        change(2, func(p *pasban.Promise) { p.Sig = p.Sig[:len(p.Sig)-ed25519.SignatureSize] }),
	} {
		if err := c.Verify(v); err == nil {
			t.Errorf("%s: verifies", name)
		} else if pasban.KindOf(err) != pasban.Invalid {
			t.Errorf("%s: kind %q, want invalid", name, pasban.KindOf(err))
		}
	}
}

func TestParsePromiseRefuses(t *testing.T) {
	s, _ := newKey(t, origin)
	good := promise(t, s, 7).Header()
	for _, h := range []string{
		"", "7", good + ";", good + "; x=y", "0" + good, "+" + good, "-" + good, good + "=", good + "\n", " " + good,
		"18446744073709551615" + good[1:], "7; leaf=; sig=", "7; sig=; leaf=", "7;leaf=AA;sig=AA",
	} {
		if p, err := pasban.ParsePromise(origin, h); err == nil {
			t.Errorf("%q was read as %+v", h, p)
		}
	}
}

// A header that is read is written back as it was: there is one way to write
// each promise.
func FuzzParsePromise(f *testing.F) {
	s, v := newKey(f, origin)
	f.Add(promise(f, s, 0).Header())
	f.Add(promise(f, s, 1<<62).Header())
	for _, p := range promises(f, s, 7, hashes(5)...) {
		f.Add(p.Header())
	}
	f.Add("7; leaf=; sig=")
	f.Fuzz(func(t *testing.T, header string) {
		p, err := pasban.ParsePromise(origin, header)
		if err != nil {
			if p.Sig != nil || p.Origin != "" {
				t.Errorf("%q: an error and a promise", header)
			}
			return
		}
		if p.Header() != header {
			t.Errorf("%q was read but is written %q", header, p.Header())
		}
		_, _ = p.Verify(v), p.Time() // must not panic, whatever the signature's length
	})
}
