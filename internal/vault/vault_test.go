package vault_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/journal"
	"pasban/internal/keys"
	"pasban/internal/store"
	"pasban/internal/store/storetest"
	"pasban/internal/vault"
)

var _ journal.Sealer = (*vault.Vault)(nil)

// Synthetic citizens.
const (
	ayesha = pasban.CNIC("61101-1234567-2")
	bilal  = pasban.CNIC("35202-7654321-1")
)

// rig is a vault with the real journal and ring around it.
type rig struct {
	*vault.Vault
	st     *store.Store
	dir    string // of the ring
	signer note.Signer
	j      *journal.Journal
	checks atomic.Int64 // signatures that its vaults have verified
}

// counted counts what a verifier verifies.
type counted struct {
	note.Verifier
	n *atomic.Int64
}

func (c counted) Verify(msg, sig []byte) bool {
	c.n.Add(1)
	return c.Verifier.Verify(msg, sig)
}

func open(t testing.TB, st *store.Store) *rig {
	t.Helper()
	r := &rig{st: st, dir: filepath.Join(t.TempDir(), "keys")}
	ring, v := r.ring(t)
	r.signer = signerOf(t, ring, "land.example/ledger")
	r.Vault = v
	var err error
	if r.j, err = journal.Open(t.Context(), st, journal.Options{Signer: r.signer, Sealer: v}); err != nil {
		t.Fatal(err)
	}
	return r
}

// ring opens the key ring and a vault with it, as another process would.
func (r *rig) ring(t testing.TB) (*keys.Ring, *vault.Vault) {
	t.Helper()
	ring, err := keys.Open(t.Context(), r.dir, keys.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ring.Close() })
	_, vkey, err := ring.LedgerSigner("land.example/ledger")
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	v, err := vault.Open(t.Context(), r.st, ring, counted{verifier, &r.checks})
	if err != nil {
		t.Fatal(err)
	}
	return ring, v
}

func signerOf(t testing.TB, ring *keys.Ring, origin string) note.Signer {
	t.Helper()
	s, _, err := ring.LedgerSigner(origin)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (r *rig) subject(t testing.TB, c pasban.CNIC) pasban.Subject {
	t.Helper()
	s, err := r.Subject(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// look records an allowed look at two fields of a record of Ayesha's.
func (r *rig) look(t testing.TB, edit func(*pasban.Fact)) journal.Entry {
	t.Helper()
	f := pasban.NewFact(pasban.KindLook, "land-records", pasban.Actor{ID: "officer:1", Kind: pasban.ActorPerson}, time.Now())
	f.Subject = r.subject(t, ayesha)
	f.Body.Service, f.Body.Resource, f.Body.Fields = "land-transfer", "LT-1", []string{"price", "buyer"}
	if edit != nil {
		edit(&f)
	}
	e, err := r.j.Record(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return e[0]
}

// promise signs one promise with the rig's key.
func (r *rig) promise(t testing.TB, index uint64, leaf tlog.Hash, when time.Time) pasban.Promise {
	t.Helper()
	p, err := pasban.SignPromises(r.signer, index, []tlog.Hash{leaf}, when)
	if err != nil {
		t.Fatal(err)
	}
	return p[0]
}

func (r *rig) ref(field string) vault.FieldRef {
	return vault.FieldRef{Service: "land-transfer", Record: "LT-1", Field: field, Subject: r.SubjectID(ayesha)}
}

func (r *rig) seal(t testing.TB, ref vault.FieldRef, text string) []byte {
	t.Helper()
	s, err := r.SealField(t.Context(), ref, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOpenFields(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := open(t, st)
		r.subject(t, ayesha)
		price, buyer := r.ref("price"), r.ref("buyer")
		sealed := map[vault.FieldRef][]byte{price: r.seal(t, price, "9,500,000"), buyer: r.seal(t, buyer, "بلال")}
		e := r.look(t, nil)
		plain, err := r.OpenFields(t.Context(), e.Promise, e.Opening, sealed)
		if err != nil || string(plain[price]) != "9,500,000" || string(plain[buyer]) != "بلال" {
			t.Errorf("OpenFields = %q, %v", plain, err)
		}
		if bytes.Contains(sealed[price], []byte("9,500")) || bytes.Equal(sealed[price], r.seal(t, price, "9,500,000")) {
			t.Error("the sealed form shows or repeats the field")
		}

		_, reopened := r.ring(t) // another process, same files
		plain, err = reopened.OpenFields(t.Context(), e.Promise, e.Opening, sealed)
		if err != nil || string(plain[price]) != "9,500,000" {
			t.Errorf("after reopening: %q, %v", plain, err)
		}
	})
}

// What was promised with one signature costs one verification, and that one
// signature opens nothing else.
func TestOneSignatureOneVerification(t *testing.T) {
	r := open(t, storetest.SQLite(t))
	var facts []pasban.Fact
	for _, id := range []string{"LT-1", "LT-2", "LT-3"} {
		f := pasban.NewFact(pasban.KindLook, "land-records", pasban.Actor{ID: "officer:1", Kind: pasban.ActorPerson}, time.Now())
		f.Subject = r.subject(t, ayesha)
		f.Body.Service, f.Body.Resource, f.Body.Fields = "land-transfer", id, []string{"price"}
		facts = append(facts, f)
	}
	looks, err := r.j.Record(t.Context(), facts...)
	if err != nil {
		t.Fatal(err)
	}
	try := func(i int, p pasban.Promise) error {
		ref := vault.FieldRef{Service: "land-transfer", Record: facts[i].Body.Resource, Field: "price", Subject: r.SubjectID(ayesha)}
		_, err := r.OpenFields(t.Context(), p, looks[i].Opening, map[vault.FieldRef][]byte{ref: r.seal(t, ref, "9,500,000")})
		return err
	}
	for range 2 {
		for i, e := range looks {
			if err := try(i, e.Promise); err != nil {
				t.Errorf("fact %d: %v", i, err)
			}
		}
	}
	if n := r.checks.Load(); n != 1 {
		t.Errorf("%d signatures verified for three facts of one commit", n)
	}
	swapped := looks[1].Promise
	swapped.Leaf = looks[0].Promise.Leaf
	forged := looks[2].Promise
	forged.Sig = bytes.Clone(forged.Sig)
	forged.Sig[len(forged.Sig)-1] ^= 1
	for range 2 { // a refusal is not remembered as anything else
		if err := try(0, swapped); pasban.KindOf(err) != pasban.Forbidden {
			t.Errorf("a leaf in another's place: %v", err)
		}
		if err := try(2, forged); pasban.KindOf(err) != pasban.Forbidden {
			t.Errorf("a changed signature: %v", err)
		}
	}
}

// Every other way to plaintext that we could think of.
func TestNoOtherWayToPlaintext(t *testing.T) {
	r := open(t, storetest.SQLite(t))
	r.subject(t, bilal)
	price := r.ref("price")
	other := open(t, storetest.SQLite(t)) // another ledger of the same name
	good := r.look(t, nil)
	strange := other.look(t, nil)
	sealed := map[vault.FieldRef][]byte{price: r.seal(t, price, "secret")}
	at := func(edit func(*vault.FieldRef)) map[vault.FieldRef][]byte {
		ref := price
		edit(&ref)
		return map[vault.FieldRef][]byte{ref: sealed[price]}
	}
	sign := func(o pasban.Opening, when time.Time) pasban.Promise {
		leaf, err := o.Leaf()
		if err != nil {
			t.Fatal(err)
		}
		return r.promise(t, 0, leaf.Hash(), when)
	}
	type try struct {
		name   string
		p      pasban.Promise
		o      pasban.Opening
		sealed map[vault.FieldRef][]byte
		kind   pasban.ErrorKind
	}
	refuse := func(name string, edit func(*pasban.Fact)) try {
		e := r.look(t, edit)
		return try{name, e.Promise, e.Opening, sealed, pasban.Forbidden}
	}
	editBody := func(from, to string) pasban.Opening {
		o := good.Opening
		o.Body = bytes.Replace(o.Body, []byte(from), []byte(to), 1)
		if bytes.Equal(o.Body, good.Opening.Body) {
			t.Fatalf("%s is not in %s", from, o.Body)
		}
		return o
	}
	forged := good.Promise
	forged.Sig = bytes.Clone(forged.Sig)
	forged.Sig[20] ^= 1
	moved := good.Promise
	moved.Index++

	for _, c := range []try{
		{"zero promise", pasban.Promise{}, good.Opening, sealed, pasban.Forbidden},
		{"zero opening", good.Promise, pasban.Opening{}, sealed, pasban.Forbidden},
		{"forged signature", forged, good.Opening, sealed, pasban.Forbidden},
		{"promise of another index", moved, good.Opening, sealed, pasban.Forbidden},
		{"another ledger's promise", strange.Promise, strange.Opening, sealed, pasban.Forbidden},
		{"another ledger's promise for this leaf", func() pasban.Promise {
			leaf, _ := good.Opening.Leaf()
			return other.promise(t, uint64(good.Index), leaf.Hash(), time.Now())
		}(), good.Opening, sealed, pasban.Forbidden},
		{"promise and opening of two facts", good.Promise, r.look(t, nil).Opening, sealed, pasban.Forbidden},
		{"body swapped", good.Promise, editBody(`"LT-1"`, `"LT-2"`), at(func(f *vault.FieldRef) { f.Record = "LT-2" }), pasban.Forbidden},
		{"field added to the body", good.Promise, editBody(`["price"`, `["owner","price"`), at(func(f *vault.FieldRef) { f.Field = "owner" }), pasban.Forbidden},
		{"kind of the opening swapped", good.Promise, pasban.Opening{Kind: pasban.KindChange, Salt: good.Opening.Salt, Body: good.Opening.Body}, sealed, pasban.Forbidden},
		{"old promise", sign(good.Opening, time.Now().Add(-time.Hour)), good.Opening, sealed, pasban.Forbidden},
		{"promise from the future", sign(good.Opening, time.Now().Add(time.Hour)), good.Opening, sealed, pasban.Forbidden},

		refuse("look at another record", func(f *pasban.Fact) { f.Body.Resource = "LT-2" }),
		refuse("look at no record", func(f *pasban.Fact) { f.Body.Resource = "" }),
		refuse("look at another service", func(f *pasban.Fact) { f.Body.Service = "tax" }),
		refuse("look at another citizen", func(f *pasban.Fact) { f.Subject = r.subject(t, bilal) }),
		refuse("look at no citizen", func(f *pasban.Fact) { f.Subject = pasban.Subject{} }),
		refuse("look at other fields", func(f *pasban.Fact) { f.Body.Fields = []string{"buyer", "price "} }),
		refuse("look at no field", func(f *pasban.Fact) { f.Body.Fields = nil }),
		refuse("a refused look", func(f *pasban.Fact) { f.Body.Outcome = pasban.Denied }),
		refuse("a look without outcome", func(f *pasban.Fact) { f.Body.Outcome = "" }),
		refuse("a decision", func(f *pasban.Fact) { f.Body.Kind = pasban.KindDecision }),
		refuse("an admin act", func(f *pasban.Fact) { f.Body.Kind = pasban.KindAdmin }),
		refuse("a subject id under another's number", func(f *pasban.Fact) { f.Subject.CNIC = bilal }),

		{"one field too many", good.Promise, good.Opening, map[vault.FieldRef][]byte{price: sealed[price], r.ref("owner"): r.seal(t, r.ref("owner"), "x")}, pasban.Forbidden},
		{"ref of another citizen", good.Promise, good.Opening, at(func(f *vault.FieldRef) { f.Subject = r.SubjectID(bilal) }), pasban.Forbidden},
		{"ref of no citizen", good.Promise, good.Opening, at(func(f *vault.FieldRef) { f.Subject = "" }), pasban.Forbidden},
		{"ciphertext of another field", good.Promise, good.Opening, at(func(f *vault.FieldRef) { f.Field = "buyer" }), pasban.Invalid},
		{"ciphertext of another record", good.Promise, good.Opening, map[vault.FieldRef][]byte{price: r.seal(t, vault.FieldRef{Service: "land-transfer", Record: "LT-2", Field: "price", Subject: price.Subject}, "x")}, pasban.Invalid},
		{"empty ciphertext", good.Promise, good.Opening, map[vault.FieldRef][]byte{price: nil}, pasban.Invalid},
		{"ciphertext cut short", good.Promise, good.Opening, map[vault.FieldRef][]byte{price: sealed[price][:len(sealed[price])-1]}, pasban.Invalid},
		{"one of two damaged", good.Promise, good.Opening, map[vault.FieldRef][]byte{price: sealed[price], r.ref("buyer"): sealed[price]}, pasban.Invalid},
	} {
		plain, err := r.OpenFields(t.Context(), c.p, c.o, c.sealed)
		if err == nil || plain != nil || pasban.KindOf(err) != c.kind {
			t.Errorf("%s: %q, %v (%s); want nothing and %s", c.name, plain, err, pasban.KindOf(err), c.kind)
		}
	}
	if _, err := r.OpenFields(t.Context(), good.Promise, good.Opening, sealed); err != nil {
		t.Errorf("the one good way: %v", err)
	}
}

// The exception for bodies of facts does not open fields, nor the other way.
func TestBodiesAndFieldsDoNotMix(t *testing.T) {
	r := open(t, storetest.SQLite(t))
	s := r.subject(t, ayesha)
	price := r.ref("price")
	field := r.seal(t, price, "secret")
	for _, aad := range [][]byte{nil, []byte("price"), []byte("land-transfer")} {
		if plain, err := r.Open(t.Context(), s.ID, field, aad); err == nil {
			t.Errorf("a field opened as a body: %q", plain)
		}
	}
	body, err := r.Seal(t.Context(), s.ID, []byte("body"), []byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	e := r.look(t, nil)
	if plain, err := r.OpenFields(t.Context(), e.Promise, e.Opening, map[vault.FieldRef][]byte{price: body}); err == nil {
		t.Errorf("a body opened as a field: %q", plain)
	}
	for _, c := range []struct {
		subject pasban.SubjectID
		aad     string
	}{{s.ID, "b"}, {s.ID, ""}, {"", "a"}, {r.subject(t, bilal).ID, "a"}} {
		if _, err := r.Open(t.Context(), c.subject, body, []byte(c.aad)); err == nil || pasban.KindOf(err) == pasban.NotFound {
			t.Errorf("subject %q, aad %q: %v", c.subject, c.aad, err)
		}
	}
	if plain, err := r.Open(t.Context(), s.ID, body, []byte("a")); err != nil || string(plain) != "body" {
		t.Errorf("the body itself: %q, %v", plain, err)
	}
}

func TestShred(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := open(t, st)
		e, bystander := r.look(t, nil), r.look(t, func(f *pasban.Fact) { f.Subject = r.subject(t, bilal) })
		price := r.ref("price")
		sealed := map[vault.FieldRef][]byte{price: r.seal(t, price, "secret")}

		if err := r.Shred(t.Context(), r.SubjectID(ayesha)); err != nil {
			t.Fatal(err)
		}
		_, reopened := r.ring(t)
		for name, v := range map[string]*vault.Vault{"this process": r.Vault, "another": reopened} {
			if plain, err := v.OpenFields(t.Context(), e.Promise, e.Opening, sealed); pasban.KindOf(err) != pasban.NotFound || plain != nil {
				t.Errorf("%s: %q, %v; want not_found", name, plain, err)
			}
		}
		if got, err := r.j.ByIndex(t.Context(), uint64(e.Index)); err != nil || !got.Shredded || got.Fact.Body.Resource != "" {
			t.Errorf("the journal gives %+v, %v", got, err)
		}
		if got, err := r.j.ByIndex(t.Context(), uint64(bystander.Index)); err != nil || got.Shredded || got.Fact.Body.Subject != bilal {
			t.Errorf("another citizen's: %+v, %v", got, err)
		}
		if _, err := r.Seal(t.Context(), r.SubjectID(ayesha), nil, nil); err == nil {
			t.Error("still seals")
		}
		if err := r.Shred(t.Context(), r.SubjectID(ayesha)); err != nil {
			t.Errorf("shredding again: %v", err)
		}
		for _, id := range []pasban.SubjectID{"", "unknown"} {
			if err := r.Shred(t.Context(), id); err == nil {
				t.Errorf("shredded %q", id)
			}
		}

		again := r.look(t, nil) // the citizen comes back: a new key, the old stays gone
		if _, err := r.OpenFields(t.Context(), again.Promise, again.Opening, sealed); pasban.KindOf(err) != pasban.NotFound {
			t.Errorf("old field under the new key: %v, want not_found", err)
		}
		sealed[price] = r.seal(t, price, "new")
		if plain, err := r.OpenFields(t.Context(), again.Promise, again.Opening, sealed); err != nil || string(plain[price]) != "new" {
			t.Errorf("new field: %q, %v", plain, err)
		}
	})
}

// The wrapped key is not left behind in the database's file.
func TestShredLeavesNoTraceInTheFile(t *testing.T) {
	path := storetest.SQLiteDSN(t)
	st, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	r := open(t, st)
	var keys [][]byte
	var ids []pasban.SubjectID
	for i := range 40 {
		s := r.subject(t, pasban.CNIC(fmt.Sprintf("61101-12345%02d-2", i)))
		var wrapped []byte
		if err := st.QueryRow(t.Context(), `SELECT wrapped FROM vault_keys WHERE subject = ?`, string(s.ID)).Scan(&wrapped); err != nil {
			t.Fatal(err)
		}
		ids, keys = append(ids, s.ID), append(keys, wrapped)
	}
	for i, id := range ids {
		if i%3 == 0 {
			if err := r.Shred(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := st.Close(); err != nil { // writes the log back into the file and removes it
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, wrapped := range keys {
		there := bytes.Contains(data, wrapped[:24]) || bytes.Contains(data, wrapped[len(wrapped)-24:])
		if there != (i%3 != 0) {
			t.Errorf("key %d: in the file %v", i, there)
		}
	}
}

// Whoever empties or removes a key's row behind Pasban's back has damaged it;
// it must not pass for a shredding.
func TestMissingKeyIsNoShredding(t *testing.T) {
	for name, damage := range map[string]string{
		"removed":           `DELETE FROM vault_keys WHERE subject <> ''`,
		"emptied":           `UPDATE vault_keys SET wrapped = NULL, shredded = x'00' WHERE subject <> ''`,
		"exchanged":         `UPDATE vault_keys SET wrapped = (SELECT wrapped FROM vault_keys WHERE subject = '') WHERE subject <> ''`,
		"given to another":  `UPDATE vault_keys SET subject = 'x' WHERE subject <> ''`,
		"damaged":           `UPDATE vault_keys SET wrapped = x'01' WHERE subject <> ''`,
		"named differently": `UPDATE vault_keys SET id = '0011223344556677' WHERE subject <> ''`,
	} {
		t.Run(name, func(t *testing.T) {
			r := open(t, storetest.SQLite(t))
			s := r.subject(t, ayesha)
			sealed, err := r.Seal(t.Context(), s.ID, []byte("body"), nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.st.Write(t.Context(), func(tx *store.Tx) error { _, err := tx.Exec(damage); return err }); err != nil {
				t.Fatal(err)
			}
			_, fresh := r.ring(t) // nothing cached
			if plain, err := fresh.Open(t.Context(), s.ID, sealed, nil); err == nil || pasban.KindOf(err) == pasban.NotFound {
				t.Errorf("%q, %v; want an error that is not not_found", plain, err)
			}
		})
	}
}

func TestAnotherRingIsRefused(t *testing.T) {
	st := storetest.SQLite(t)
	r := open(t, st)
	r.dir = filepath.Join(t.TempDir(), "other")
	ring, err := keys.Open(t.Context(), r.dir, keys.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close()
	if _, err := vault.Open(t.Context(), st, ring, nil); pasban.KindOf(err) != pasban.Unavailable || err == nil {
		t.Errorf("a vault opened with another ring: %v", err)
	}
}

func TestSubject(t *testing.T) {
	r := open(t, storetest.SQLite(t))
	a, b := r.subject(t, ayesha), r.subject(t, bilal)
	if a.ID == b.ID || len(a.ID) != 32 || a.ID != r.SubjectID(ayesha) || a.CNIC != ayesha {
		t.Errorf("subjects %+v and %+v", a, b)
	}
	if r.SubjectID("") != "" {
		t.Error("nobody has an id")
	}
	for _, c := range []pasban.CNIC{"", "6110112345672", "61101-1234567-2 ", "x"} {
		if s, err := r.Subject(t.Context(), c); err == nil {
			t.Errorf("Subject(%q) = %+v", c, s)
		}
	}
	other := open(t, storetest.SQLite(t))
	if other.SubjectID(ayesha) == a.ID {
		t.Error("two agencies give one citizen the same id")
	}
	if bytes.Equal(r.BlindIndex("s", "f", "v"), r.BlindIndex("s", "fv", "")) || !bytes.Equal(r.BlindIndex("s", "f", "v"), r.BlindIndex("s", "f", "v")) {
		t.Error("blind indexes mix up")
	}
}

// Many who ask for one new citizen at once get one key, and all of them seal
// and open with it.
func TestSubjectAtOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := open(t, st)
		_, second := r.ring(t)
		var wg sync.WaitGroup
		sealed := make([][]byte, 16)
		for i := range sealed {
			wg.Go(func() {
				v := []*vault.Vault{r.Vault, second}[i%2]
				s, err := v.Subject(t.Context(), ayesha)
				if err == nil {
					sealed[i], err = v.Seal(t.Context(), s.ID, fmt.Append(nil, i), nil)
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for i, s := range sealed {
			if plain, err := r.Open(t.Context(), r.SubjectID(ayesha), s, nil); err != nil || string(plain) != fmt.Sprint(i) {
				t.Errorf("%d: %q, %v", i, plain, err)
			}
		}
	})
}

func FuzzOpen(f *testing.F) {
	r := open(f, storetest.SQLite(f))
	s := r.subject(f, ayesha)
	good, err := r.Seal(f.Context(), s.ID, []byte("body"), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, sealed []byte) {
		plain, err := r.Open(t.Context(), s.ID, sealed, nil)
		if err == nil && !bytes.Equal(sealed, good) {
			t.Errorf("%x opened as %q", sealed, plain)
		}
	})
}
