package pasban_test

import (
	"bytes"
	"crypto/rand"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

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
	p, err := pasban.SignPromise(s, index, leaf.Hash(), time.UnixMilli(1795464900123))
	if err != nil {
		t.Fatal(err)
	}
	return p
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
