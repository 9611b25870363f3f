package pasban_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"pasban"
)

// memLog is a Merkle tree in memory, in the storage order of x/mod/sumdb/tlog.
type memLog struct {
	n      int64
	hashes []tlog.Hash
}

func (l *memLog) ReadHashes(at []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(at))
	for i, x := range at {
		out[i] = l.hashes[x]
	}
	return out, nil
}

func (l *memLog) add(t testing.TB, h tlog.Hash) {
	t.Helper()
	more, err := tlog.StoredHashesForRecordHash(l.n, h, l)
	if err != nil {
		t.Fatal(err)
	}
	l.n++
	l.hashes = append(l.hashes, more...)
}

// checkpoint signs the log's size and root, with any extension lines.
func (l *memLog) checkpoint(t testing.TB, s note.Signer, extension string) string {
	t.Helper()
	root, err := tlog.TreeHash(l.n, l)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n%s", s.Name(), l.n, root, extension)}, s)
	if err != nil {
		t.Fatal(err)
	}
	return string(signed)
}

// receipt proves a fact at index in a log of size leaves.
func receipt(t testing.TB, s note.Signer, f pasban.Fact, index, size int64) pasban.Receipt {
	t.Helper()
	o, restricted := seal(t, f)
	leaf, err := o.Leaf()
	if err != nil {
		t.Fatal(err)
	}
	var l memLog
	for i := range size {
		h := tlog.RecordHash(fmt.Appendf(nil, "leaf %d", i))
		if i == index {
			h = leaf.Hash()
		}
		l.add(t, h)
	}
	proof, err := tlog.ProveRecord(size, index, &l)
	if err != nil {
		t.Fatal(err)
	}
	return pasban.Receipt{
		Schema: pasban.ReceiptSchema, Origin: s.Name(), Index: uint64(index), Kind: o.Kind, Salt: o.Salt, Body: o.Body,
		Proof: proof, Checkpoint: l.checkpoint(t, s, ""), Restricted: &restricted,
	}
}

// throughJSON writes the receipt and reads it back, as on its way to a citizen.
func throughJSON(t testing.TB, r pasban.Receipt) (pasban.Receipt, []byte) {
	t.Helper()
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	back, err := pasban.ParseReceipt(data)
	if err != nil {
		t.Fatal(err)
	}
	return back, data
}

func TestReceiptVerifies(t *testing.T) {
	s, v := newKey(t, origin)
	for _, c := range []struct{ index, size int64 }{{0, 1}, {0, 2}, {1, 2}, {2, 3}, {5, 7}, {255, 256}, {256, 257}, {100, 700}} {
		r, _ := throughJSON(t, receipt(t, s, lookFact(), c.index, c.size))
		body, err := r.Verify(v)
		if err != nil {
			t.Errorf("leaf %d of %d: %v", c.index, c.size, err)
		} else if body.Subject != "61101-1234567-1" || body.Resource != "LT-2026-000001" {
			t.Errorf("leaf %d of %d: body %+v", c.index, c.size, body)
		}
	}
}

func TestReceiptVerifyRefuses(t *testing.T) {
	s, v := newKey(t, origin)
	other, _ := newKey(t, origin)
	stranger, _ := newKey(t, "other.example/ledger")
	good := receipt(t, s, lookFact(), 5, 7)
	another := receipt(t, s, lookFact(), 5, 7)
	for name, change := range map[string]func(r *pasban.Receipt){
		"index":                    func(r *pasban.Receipt) { r.Index = 4 },
		"index beyond the log":     func(r *pasban.Receipt) { r.Index = 7 },
		"index beyond any log":     func(r *pasban.Receipt) { r.Index = 1 << 63 },
		"kind":                     func(r *pasban.Receipt) { r.Kind = pasban.KindChange },
		"kind without leaves":      func(r *pasban.Receipt) { r.Kind = pasban.KindAlarm },
		"salt":                     func(r *pasban.Receipt) { r.Salt[0] ^= 1 },
		"no salt":                  func(r *pasban.Receipt) { r.Salt = nil },
		"body":                     func(r *pasban.Receipt) { r.Body = bytes.Replace(r.Body, []byte("mutation"), []byte("dispute_"), 1) },
		"no body":                  func(r *pasban.Receipt) { r.Body = nil },
		"body with a name more":    func(r *pasban.Receipt) { r.Body = append([]byte(`{"A":1,`), r.Body[1:]...) },
		"body of another fact":     func(r *pasban.Receipt) { r.Body = another.Body },
		"proof":                    func(r *pasban.Receipt) { r.Proof[0][0] ^= 1 },
		"proof cut short":          func(r *pasban.Receipt) { r.Proof = r.Proof[1:] },
		"proof too long":           func(r *pasban.Receipt) { r.Proof = append(r.Proof, tlog.Hash{}) },
		"no proof":                 func(r *pasban.Receipt) { r.Proof = nil },
		"checkpoint of another":    func(r *pasban.Receipt) { r.Checkpoint = another.Checkpoint },
		"no checkpoint":            func(r *pasban.Receipt) { r.Checkpoint = "" },
		"checkpoint unsigned":      func(r *pasban.Receipt) { r.Checkpoint, _, _ = strings.Cut(r.Checkpoint, "\n\n") },
		"checkpoint size":          func(r *pasban.Receipt) { r.Checkpoint = strings.Replace(r.Checkpoint, "\n7\n", "\n8\n", 1) },
		"other origin":             func(r *pasban.Receipt) { r.Origin = "other.example/ledger" },
		"other key":                func(r *pasban.Receipt) { r.Checkpoint = resign(r.Checkpoint, other) },
		"other ledger":             func(r *pasban.Receipt) { r.Checkpoint = resign(r.Checkpoint, stranger) },
		"restricted part":          func(r *pasban.Receipt) { r.Restricted.Part[1] ^= 1 },
		"restricted of another":    func(r *pasban.Receipt) { r.Restricted = another.Restricted },
		"restricted, nothing more": func(r *pasban.Receipt) { r.Restricted = &pasban.RestrictedOpening{} },
	} {
		r, _ := throughJSON(t, good)
		change(&r)
		if body, err := r.Verify(v); err == nil {
			t.Errorf("%s: verifies", name)
		} else if body.Version != 0 {
			t.Errorf("%s: an error and a body", name)
		} else if pasban.KindOf(err) != pasban.Invalid {
			t.Errorf("%s: kind %q, want invalid", name, pasban.KindOf(err))
		}
	}
	if _, err := good.Verify(v); err != nil {
		t.Errorf("the receipt itself: %v", err)
	}
}

// resign signs a checkpoint's text with another key.
func resign(checkpoint string, s note.Signer) string {
	text, _, _ := strings.Cut(checkpoint, "\n\n")
	signed, err := note.Sign(&note.Note{Text: text + "\n"}, s)
	if err != nil {
		return err.Error()
	}
	return string(signed)
}

func TestReceiptOfOtherVersionRefused(t *testing.T) {
	s, _ := newKey(t, origin)
	r := receipt(t, s, lookFact(), 0, 1)
	for _, schema := range []string{"", "pasban.receipt.v2"} {
		r.Schema = schema
		data, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pasban.ParseReceipt(data); pasban.KindOf(err) != pasban.Invalid || err == nil {
			t.Errorf("schema %q: %v, want invalid", schema, err)
		}
	}
}

func TestOpenCheckpoint(t *testing.T) {
	s, v := newKey(t, origin)
	root := tlog.RecordHash([]byte("x")).String()
	for _, c := range []struct {
		name, text string
		size       int64 // -1: refused
	}{
		{"plain", origin + "\n7\n" + root + "\n", 7},
		{"empty log", origin + "\n0\n" + root + "\n", 0},
		{"with extension lines", origin + "\n7\n" + root + "\nmore\nlines\n", 7},
		{"origin of another", "other.example/ledger\n7\n" + root + "\n", -1},
		{"no origin", "\n7\n" + root + "\n", -1},
		{"two lines", origin + "\n7\n", -1},
		{"negative size", origin + "\n-7\n" + root + "\n", -1},
		{"signed size", origin + "\n+7\n" + root + "\n", -1},
		{"leading zero", origin + "\n07\n" + root + "\n", -1},
		{"size too large", origin + "\n9223372036854775808\n" + root + "\n", -1},
		{"root too short", origin + "\n7\nAAAA\n", -1},
		{"a promise's text", "pasban/promise/v1\n" + origin + "\n7\n" + root + "\n1\n", -1},
	} {
		signed, err := note.Sign(&note.Note{Text: c.text}, s)
		if err != nil {
			t.Fatal(err)
		}
		cp, err := pasban.OpenCheckpoint(signed, v)
		if (err == nil) != (c.size >= 0) || err == nil && (cp.N != c.size || cp.Origin != origin) {
			t.Errorf("%s: %+v, %v; want size %d", c.name, cp, err, c.size)
		}
	}
}

// What is wrong with a checkpoint is told apart.
func TestOpenCheckpointSaysWhy(t *testing.T) {
	s, v := newKey(t, origin)
	stranger, _ := newKey(t, origin)
	elsewhere, _ := newKey(t, "elsewhere.example/ledger")
	var l memLog
	l.add(t, tlog.RecordHash([]byte("x")))
	good := l.checkpoint(t, s, "")
	sign := func(text string) string {
		signed, err := note.Sign(&note.Note{Text: text}, s)
		if err != nil {
			t.Fatal(err)
		}
		return string(signed)
	}
	key := fmt.Sprintf("%s+%08x", v.Name(), v.KeyHash())
	for _, c := range []struct{ name, signed, want string }{
		{"nothing", "", "not a signed checkpoint"},
		{"garbage", "\xff\x00<html>", "not a signed checkpoint"},
		{"cut off", good[:len(good)/2], "not a signed checkpoint"},
		{"cut off in the signature", good[:len(good)-3], "not a signed checkpoint"},
		{"unsigned", good[:strings.Index(good, "\n\n")+2], "not a signed checkpoint"},
		{"too many signatures", good + strings.Repeat(good[strings.Index(good, "\n\n")+2:], 100), "not a signed checkpoint"},
		{"another size", strings.Replace(good, "\n1\n", "\n2\n", 1), "the checkpoint or its signature by key " + key + " was altered"},
		{"another key", l.checkpoint(t, stranger, ""), "the checkpoint is not signed by key " + key + ", only by keys not known here"},
		{"another ledger", l.checkpoint(t, elsewhere, ""), `the checkpoint is of another ledger, "elsewhere.example/ledger"; the key is ` + key},
		{"another ledger's text by our key", sign(strings.Replace(good[:strings.Index(good, "\n\n")+1], "land", "sand", 1)), `the checkpoint is of ledger "sand`},
		{"two lines", sign(origin + "\n1\n"), "the checkpoint lacks its three lines"},
		{"a negative size", sign(origin + "\n-1\n" + tlog.Hash{}.String() + "\n"), "the checkpoint's size is not a number"},
		{"a size that is written otherwise", sign(origin + "\n01\n" + tlog.Hash{}.String() + "\n"), "the checkpoint's size is not a number"},
		{"a size beyond all", sign(origin + "\n9223372036854775808\n" + tlog.Hash{}.String() + "\n"), "the checkpoint's size is not a number"},
		{"no root", sign(origin + "\n1\nAAAA\n"), "the checkpoint's root is not a hash"},
	} {
		if _, err := pasban.OpenCheckpoint([]byte(c.signed), v); err == nil || !strings.HasPrefix(err.Error(), c.want) || pasban.KindOf(err) != pasban.Invalid {
			t.Errorf("%s: %v, want %s…", c.name, err, c.want)
		}
	}
	if _, err := pasban.OpenCheckpoint([]byte(good), v); err != nil {
		t.Error(err)
	}
}

// anything is a verifier that takes every signature, so that the parser behind
// the signature is reached.
type anything struct{ note.Verifier }

func (anything) Verify(_, _ []byte) bool { return true }

func FuzzOpenCheckpoint(f *testing.F) {
	s, v := newKey(f, origin)
	var l memLog
	l.add(f, tlog.RecordHash([]byte("x")))
	f.Add(l.checkpoint(f, s, ""))
	f.Add(l.checkpoint(f, s, "extension\n"))
	f.Fuzz(func(t *testing.T, signed string) {
		cp, err := pasban.OpenCheckpoint([]byte(signed), anything{v})
		if err != nil {
			return
		}
		if want := fmt.Sprintf("%s\n%d\n%s\n", cp.Origin, cp.N, cp.Hash); cp.N < 0 || cp.Origin != origin || !strings.HasPrefix(signed, want) {
			t.Errorf("%q was read as %q", signed, want)
		}
	})
}

// No receipt, however malformed, does more than fail; the only one that
// verifies is the one that was made.
func FuzzParseReceipt(f *testing.F) {
	s, v := newKey(f, origin)
	good, data := throughJSON(f, receipt(f, s, lookFact(), 1, 3))
	f.Add(data)
	f.Add([]byte(`{"schema":"pasban.receipt.v1","body":{"v":1e400},"kind":"look"}`))
	want, err := good.Verify(v)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := pasban.ParseReceipt(data)
		if err != nil {
			return
		}
		if body, err := r.Verify(v); err == nil && body.ID != want.ID {
			t.Errorf("verifies but was never made: %s", data)
		}
		r.Checkpoint, r.Origin = good.Checkpoint, good.Origin // reach behind the signature
		if body, err := r.Verify(v); err == nil && body.ID != want.ID {
			t.Errorf("verifies but was never made: %s", data)
		}
	})
}

// TestReceiptSchema holds docs/schemas/receipt.v1.json to what receipts are.
func TestReceiptSchema(t *testing.T) {
	raw, err := os.ReadFile("docs/schemas/receipt.v1.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertContent()
	if err := c.AddResource("receipt.v1.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("receipt.v1.json")
	if err != nil {
		t.Fatal(err)
	}
	validate := func(data []byte) error {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		return schema.Validate(v)
	}

	s, _ := newKey(t, origin)
	full := lookFact()
	full.Body.Case, full.Body.Basis = "M-1", "Land Revenue Act 1967"
	bare := pasban.NewFact(pasban.KindAdmin, "land-records", pasban.Actor{}, time.Now())
	for _, r := range []pasban.Receipt{receipt(t, s, full, 5, 7), receipt(t, s, bare, 0, 1)} {
		_, data := throughJSON(t, r)
		if err := validate(data); err != nil {
			t.Errorf("%s: %v", data, err)
		}
		for _, change := range [][2]string{
			{`"pasban.receipt.v1"`, `"pasban.receipt.v2"`}, {`"index": `, `"index": -1`}, {`"kind": "`, `"kind": "no-`},
			{`"salt": "`, `"salt": "A`}, {`"v": 1`, `"v": 2`}, {`"agency"`, `"agenzy"`}, {`"outcome": "allow"`, `"outcome": "maybe"`},
		} {
			bad := bytes.Replace(data, []byte(change[0]), []byte(change[1]), 1)
			if bytes.Equal(bad, data) {
				t.Fatalf("%s is not in %s", change[0], data)
			}
			if validate(bad) == nil {
				t.Errorf("valid after %s became %s", change[0], change[1])
			}
		}
	}
}

// A receipt is checked with the ledger's key alone, years later and offline.
func ExampleReceipt_Verify() {
	v, err := note.NewVerifier(exampleKey)
	if err != nil {
		fmt.Println(err)
		return
	}
	r, err := pasban.ParseReceipt([]byte(exampleReceipt))
	if err != nil {
		fmt.Println(err)
		return
	}
	body, err := r.Verify(v)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(body.Who.Kind, body.Action, body.Resource, strings.Join(body.Fields, ","))

	r.Salt, _ = base64.StdEncoding.DecodeString("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
	_, err = r.Verify(v)
	fmt.Println(err != nil)
	// Output:
	// person view LT-2026-000001 buyer_name,price
	// true
}
