package detect

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// TestShapes: what a record remembers of earlier events' keys changes nothing
// in how it reads later ones.
func TestShapes(t *testing.T) {
	names := newVocabulary()
	for _, name := range []string{"a", "b", "c.d", "é", "x y"} {
		names.id(name)
	}
	names.seal()
	kept := newRecord(names)
	read := func(r *record, raw string) string {
		if err := r.readJSON([]byte(raw)); err != nil {
			return err.Error()
		}
		var out strings.Builder
		for _, name := range names.names {
			fmt.Fprintf(&out, "%s=%q ", name, r.fieldTexts(name))
		}
		fmt.Fprint(&out, r.odd)
		return out.String()
	}
	events := []string{
		`{"a":1,"b":"x","c":{"d":"y"}}`, `{"a":1,"b":"x","c":{"d":"y"}}`, `{"b":1,"a":2}`, `{"a":1,"a":2,"b":3}`, `{"a":1 ,"b":2, "c":{"d":3}}`,
		`{"a":1,"b":2,"c":{"d":3,"e":4},"c.d":5}`, `{ "a" : 1 , "b" : 2 }`, `{"a":1,"b"}`, `{"a":1,"b":`, `{"a":1,"b":2,}`, `{"a":[1,{"b":2}],"b":3}`,
		`{"é":1,"a":2}`, `{"\u0061":1,"b":2}`, `{"é":1,"a":2}`, `{"\u0061":1,"b":2}`, `{"x y":1,"unknown":{"a":2},"a":3}`, `{}`, `{"a":1}`, `{"c":1,"c":{"d":2}}`,
	}
	for n := range maxShapeKeys + 10 { // more than are remembered
		events = append(events, fmt.Sprintf(`{"k%d":1,"a":%d}`, n, n))
	}
	events = append(events, events[:19]...)
	for _, raw := range events {
		if got, want := read(kept, raw), read(newRecord(names), raw); got != want {
			t.Fatalf("%s\nis read as %s, without memory as %s", raw, got, want)
		}
	}
	if len(kept.shapes.keys) > maxShapeKeys {
		t.Errorf("%d keys are remembered", len(kept.shapes.keys))
	}
}

// FuzzNeedle compares the search by a text's rarest byte with the plain one.
func FuzzNeedle(f *testing.F) {
	f.Add("= powershell", "Host Application = powershell.exe")
	f.Add("zza", strings.Repeat("z", 400)+"a")
	f.Add("zab", strings.Repeat("z", 400)+"ab")
	f.Add("", "x")
	f.Add("xyz", "xy")
	f.Fuzz(func(t *testing.T, text, in string) {
		n := newNeedle(text)
		if got, want := n.in([]byte(in)), bytes.Contains([]byte(in), []byte(text)); got != want {
			t.Fatalf("%q in %q: %v, want %v", text, in, got, want)
		}
	})
}
