package pasban_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/vrf"
)

// list makes a statement of n entries, of which the first covered are under the
// epoch; the citizen's label lies 24 nodes deep, as among millions. edits change
// the facts before they are sealed.
func list(t testing.TB, s note.Signer, n, covered int, edits ...func(i int, f *pasban.Fact)) pasban.Statement {
	t.Helper()
	st := pasban.Statement{Schema: pasban.StatementSchema, Citizen: "61101-1234567-1", Number: int64(covered)}
	var last, end tlog.Hash
	for i := range n {
		f := lookFact()
		for _, edit := range edits {
			edit(i, &f)
		}
		sealed, err := f.Seal()
		if err != nil {
			t.Fatal(err)
		}
		o := sealed.Opening.At(pasban.NextPlace(int64(i), last))
		leaf, err := o.Leaf()
		if err != nil {
			t.Fatal(err)
		}
		last = leaf.Hash()
		if i < covered {
			end = last
		}
		st.Entries = append(st.Entries, pasban.StatementEntry{Index: uint64(i), Kind: o.Kind, Salt: o.Salt, Body: o.Body, Hidden: sealed.Hidden})
	}
	commit(t, s, &st, end)
	return st
}

// commit puts the end of a statement's list into a map and the map into a
// ledger; what the statement says of an empty or a destroyed list is taken as
// it is.
func commit(t testing.TB, s note.Signer, st *pasban.Statement, end tlog.Hash) {
	t.Helper()
	key := vrf.NewKey([32]byte{7})
	value, proof, err := key.Prove([]byte(st.Citizen))
	if err != nil {
		t.Fatal(err)
	}
	st.Label = proof
	label, blind := pasban.SplitLabel(value)
	var root pasban.MapHash
	switch {
	case st.Number > 0:
		root = pasban.LabelNode(label, pasban.HeadValue(blind, st.Number, end))
	case st.Other != nil: // alike in the first 24 bits
		st.Other.Label = append(label[:3:3], st.Other.Label[3:]...)
		root = pasban.LabelNode(pasban.Label(st.Other.Label), pasban.MapHash(st.Other.Value))
	}
	for depth := 23; depth >= 0; depth-- {
		sibling := tlog.RecordHash([]byte{byte(depth)})
		st.Proof = append(st.Proof, sibling)
		if label[depth/8]>>(7-depth%8)&1 == 0 {
			root = pasban.InnerNode(root, pasban.MapHash(sibling))
		} else {
			root = pasban.InnerNode(pasban.MapHash(sibling), root)
		}
	}
	f := pasban.NewFact(pasban.KindHeads, "land-records", pasban.Actor{Kind: pasban.ActorSystem}, time.Now())
	f.Body.Action = "commit"
	size := max(1, st.Number)
	f.Body.Heads = pasban.Heads{Epoch: 1, Size: size, Labels: 1,
		Root: base64.RawURLEncoding.EncodeToString(root[:]), Key: base64.RawURLEncoding.EncodeToString(key.Public())}
	at := max(size, int64(len(st.Entries)))
	st.Epoch = receipt(t, s, f, at, at+1)
	st.Epoch.Restricted = nil
}

// unseen are statements of lists of which nothing can be read: an empty one, one
// in whose place stands another, one that was destroyed.
func unseen(t testing.TB, s note.Signer) (empty, beside, destroyed pasban.Statement) {
	t.Helper()
	empty = pasban.Statement{Schema: pasban.StatementSchema, Citizen: "61101-1234567-1", Entries: []pasban.StatementEntry{}}
	beside, destroyed = empty, empty
	other := sha256.Sum256([]byte("another"))
	beside.Other = &pasban.OtherLabel{Label: other[:], Value: other[:]}
	destroyed.Number, destroyed.Last = 5, other[:]
	commit(t, s, &empty, tlog.Hash{})
	commit(t, s, &beside, tlog.Hash{})
	commit(t, s, &destroyed, other)
	return empty, beside, destroyed
}

func TestStatement(t *testing.T) {
	s, v := newKey(t, origin)
	st := list(t, s, 12, 10)
	data, err := json.Marshal(st)
	if err != nil {
		t.Fatal(err)
	}
	if st, err = pasban.ParseStatement(data); err != nil {
		t.Fatal(err)
	}
	got, err := st.Verify(v)
	if err != nil || got.Covered != 10 || len(got.Entries) != 12 || got.Erased != 0 || got.Entries[11].List.Number != 12 {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, other := newKey(t, origin); true {
		if _, err := st.Verify(other); err == nil {
			t.Error("the statement verifies with another key")
		}
	}
	for _, bad := range []string{``, `null`, `{}`, `[]`, `{"schema":"pasban.statement.v2"}`, `{"schema":"pasban.receipt.v1"}`} {
		if _, err := pasban.ParseStatement([]byte(bad)); pasban.KindOf(err) != pasban.Invalid {
			t.Errorf("%q: error %v, want invalid", bad, err)
		}
	}
	validate := schemaOf(t, "docs/schemas/statement.v1.json")
	if err := validate(data); err != nil {
		t.Error(err)
	}
	empty, beside, destroyed := unseen(t, s)
	for i, st := range []pasban.Statement{empty, beside, destroyed} {
		data, err := json.Marshal(st)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(data); err != nil {
			t.Error(err)
		}
		if st, err = pasban.ParseStatement(data); err != nil {
			t.Fatal(err)
		}
		if got, err := st.Verify(v); err != nil || got.Erased != []int64{0, 0, 5}[i] || len(got.Entries) != 0 {
			t.Errorf("%+v, %v", got, err)
		}
	}
	for _, change := range [][2]string{{`statement.v1`, `statement.v2`}, {`"number":10,"label"`, `"number":-1,"label"`}, {`"index":3`, `"index":-3`}, {`"kind":"heads"`, `"kind":"look"`}, {`"entries"`, `"entry"`}} {
		bad := bytes.Replace(data, []byte(change[0]), []byte(change[1]), 1)
		if bytes.Equal(bad, data) {
			t.Fatalf("%s is not there", change[0])
		}
		if validate(bad) == nil {
			t.Errorf("valid after %s became %s", change[0], change[1])
		}
	}
}

// schemaOf compiles a schema together with the receipt's, which it refers to.
func schemaOf(t *testing.T, name string) func([]byte) error {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	for _, file := range []string{name, "docs/schemas/receipt.v1.json"} {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.AddResource(doc.(map[string]any)["$id"].(string), doc); err != nil {
			t.Fatal(err)
		}
	}
	schema, err := c.Compile("urn:pasban:schema:statement:v1")
	if err != nil {
		t.Fatal(err)
	}
	return func(data []byte) error {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		return schema.Validate(v)
	}
}

// FuzzStatement: whatever is read, it does not panic, and nothing verifies but
// the entries that were made.
func FuzzStatement(f *testing.F) {
	s, v := newKey(f, origin)
	st := list(f, s, 3, 2)
	good, err := json.Marshal(st)
	if err != nil {
		f.Fatal(err)
	}
	ids := map[string]bool{}
	got, err := st.Verify(v)
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range got.Entries[:2] {
		ids[b.ID] = true
	}
	f.Add(good)
	empty, beside, destroyed := unseen(f, s)
	for _, st := range []pasban.Statement{empty, beside, destroyed} {
		data, err := json.Marshal(st)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"schema":"pasban.statement.v1","entries":[{}],"proof":["x"],"epoch":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		st, err := pasban.ParseStatement(data)
		if err != nil {
			return
		}
		got, err := st.Verify(v)
		if err != nil {
			return
		}
		for _, b := range got.Entries[:got.Covered] {
			if !ids[b.ID] {
				t.Fatalf("verifies but was never made: %s", data)
			}
		}
	})
}

// BenchmarkStatement checks a list of 1,000 entries, from its JSON; beyond is
// what the statement weighs besides its entries.
func BenchmarkStatement(b *testing.B) {
	s, v := newKey(b, origin)
	st := list(b, s, 1000, 1000)
	data, err := json.Marshal(st)
	if err != nil {
		b.Fatal(err)
	}
	entries, err := json.Marshal(st.Entries)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		st, err := pasban.ParseStatement(data)
		if err != nil {
			b.Fatal(err)
		}
		if got, err := st.Verify(v); err != nil || got.Covered != 1000 {
			b.Fatal(got.Covered, err)
		}
	}
	b.ReportMetric(float64(len(data)-len(entries)), "bytes-beyond")
	b.ReportMetric(float64(len(entries)), "bytes-entries")
}

var update = flag.Bool("update", false, "rewrite web/test/statement.json")

// TestStatementOfTheBrowser keeps true what the browser's check is tested with.
func TestStatementOfTheBrowser(t *testing.T) {
	const file = "web/test/statement.json"
	var made struct {
		VKey      string           `json:"vkey"`
		Statement pasban.Statement `json:"statement"`
		Empty     pasban.Statement `json:"empty"`
		Beside    pasban.Statement `json:"beside"`
		Destroyed pasban.Statement `json:"destroyed"`
	}
	if *update {
		skey, vkey, err := note.GenerateKey(rand.Reader, origin)
		if err != nil {
			t.Fatal(err)
		}
		s, err := note.NewSigner(skey)
		if err != nil {
			t.Fatal(err)
		}
		made.VKey, made.Statement = vkey, list(t, s, 12, 10, func(i int, f *pasban.Fact) {
			switch i {
			case 1:
				f.Body.Hidden.Until = time.Now().Add(-2 * pasban.Grace).UTC().Format(pasban.TimeFormat)
			case 2:
				f.Body.Hidden.Until = "2099-01-01T00:00:00.000Z"
			}
		})
		made.Empty, made.Beside, made.Destroyed = unseen(t, s)
		data, err := json.MarshalIndent(made, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(data, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &made); err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(made.VKey)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := made.Statement.Verify(v); err != nil || got.Covered != 10 || len(got.Entries) != 12 {
		t.Errorf("%d entries, %v", len(got.Entries), err)
	}
	for _, st := range []pasban.Statement{made.Empty, made.Beside, made.Destroyed} {
		if got, err := st.Verify(v); err != nil || got.Covered != 0 || got.Erased != st.Number {
			t.Errorf("%+v, %v", got, err)
		}
	}
}
