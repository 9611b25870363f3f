package pasban_test

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"pasban"
)

// At gives what sealing the same fact with its place would have given, whatever
// the strings of the body hold.
func FuzzAt(f *testing.F) {
	f.Add("view", `"kind":"look"`, "land-records", int64(1))
	f.Add(`\","kind":"look","`, "", `x","list":{"number":7},"kind":"look`, int64(1<<40))
	f.Fuzz(func(t *testing.T, action, field, agency string, number int64) {
		fact := lookFact()
		fact.Body.Action, fact.Body.Agency, fact.Body.Case = action, agency, field
		fact.Body.Fields = []string{field, "kind", action}
		sealed, err := fact.Seal()
		o := sealed.Opening
		if err != nil || number < 1 || number > 1<<50 {
			return
		}
		body, err := o.Parse()
		if err != nil {
			t.Fatal(err)
		}
		body.List = pasban.NextPlace(number-1, tlog.Hash(sha256.Sum256([]byte(field))))
		want, err := pasban.Canonical(body)
		if err != nil {
			t.Fatal(err)
		}
		at := o.At(body.List)
		if !bytes.Equal(at.Body, want) {
			t.Fatalf("%s\nwant %s", at.Body, want)
		}
		if again, err := at.Parse(); err != nil || again.List != body.List {
			t.Fatalf("%+v, %v", again.List, err)
		}
		if twice := at.At(body.List); !bytes.Equal(twice.Body, want) {
			t.Fatalf("a body with a place got another: %s", twice.Body)
		}
	})
}

// A body says of its place what a list can have, or is refused.
func TestPlacesThatNoListHas(t *testing.T) {
	o, _ := seal(t, lookFact())
	hash := pasban.NextPlace(1, tlog.Hash{7}).Previous
	for _, p := range []pasban.Place{
		{Number: 1, Previous: hash}, {Number: 2}, {Number: -1}, {Previous: hash}, {Number: 0},
		{Number: 2, Previous: "x"}, {Number: 2, Previous: hash[:42] + "_"}, {Number: 1 << 53, Previous: hash},
	} {
		if _, err := o.At(p).Parse(); pasban.KindOf(err) != pasban.Invalid {
			t.Errorf("place %+v: error %v, want invalid", p, err)
		}
	}
}
