package pasban

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	"github.com/gowebpki/jcs"
)

// reference writes v the long way: encoded, then sorted.
func reference(t *testing.T, v any) []byte {
	t.Helper()
	plain, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out, err := jcs.Transform(plain)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// set fills every field below v, in one way or, where a field can be left out,
// leaves out those that skip says.
func set(v reflect.Value, text string, number int64, skip func() bool) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			set(v.Field(i), text, number, skip)
		}
	case reflect.String:
		if !skip() {
			v.SetString(text)
		}
	case reflect.Int, reflect.Int64:
		if !skip() {
			v.SetInt(number)
		}
	case reflect.Slice:
		if !skip() {
			v.Set(reflect.ValueOf([]string{text, "", "z"}))
		}
	case reflect.Map:
		if !skip() {
			v.Set(reflect.ValueOf(map[string]string{text: text, "b": "", "a": text, "B": "x", "a-": "y"}))
		}
	default:
		panic("a fact holds what canonical JSON has not been written for: " + v.Type().String())
	}
}

// FuzzCanonical holds the direct writer to the long way, for every field that a
// fact has: a field that one of them does not know is a difference.
func FuzzCanonical(f *testing.F) {
	for _, text := range []string{"a", "", "زمین\u2028é e\u0301😀\U0010ffff\ufb33", "<b>&\"\\/\b\t\n\f\r\x00\x01\x1f\x7f", "\xff\xc0\xafé", "\ufffd"} {
		for _, skip := range []uint64{0, ^uint64(0), 0x5555555555555555, 0xaaaaaaaaaaaaaaaa} {
			f.Add(text, int64(7), skip)
		}
	}
	for _, n := range []int64{0, -1, 1<<53 - 1, 1 << 53, 1<<53 + 1, 1<<63 - 1, -1 << 63, -(1<<53 - 1)} {
		f.Add("a", n, uint64(0))
	}
	f.Fuzz(func(t *testing.T, text string, number int64, mask uint64) {
		var fact Fact
		skip := func() bool {
			bit := mask & 1
			mask = mask>>1 | bit<<63
			return bit == 1
		}
		for _, v := range []any{&fact.Body, &fact.Details, &fact.Restricted} {
			set(reflect.ValueOf(v).Elem(), text, number, skip)
		}
		for _, v := range []any{fact.Body, fact.Details, fact.Restricted} {
			want := reference(t, v)
			if got, err := Canonical(v); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%T: %v\n%s\nwant\n%s", v, err, got, want)
			}
		}
		fact.Body.Hidden, fact.Subject.CNIC = Hidden{}, fact.Body.Subject
		sealed, err := fact.Seal()
		if err != nil {
			if number < 1<<53 && number > -1<<53 {
				t.Fatal(err)
			}
			return // no double holds it, so it could not be read back
		}
		var read Body
		if err := json.Unmarshal(sealed.Opening.Body, &read); err == nil && !reflect.DeepEqual(sealed.Body, read) {
			t.Errorf("the body is %+v, and read back %+v", sealed.Body, read)
		}
	})
}

// Facts as they are go the short way.
func TestCanonicalDirectly(t *testing.T) {
	var b Body
	var r Restricted
	set(reflect.ValueOf(&b).Elem(), "زمین \"1\"\n", 7, func() bool { return false })
	set(reflect.ValueOf(&r).Elem(), "x", 7, func() bool { return false })
	if _, ok := b.canonical(); !ok {
		t.Error("a body is encoded the long way")
	}
	if _, ok := r.canonical(); !ok {
		t.Error("a restricted part is encoded the long way")
	}
}

func BenchmarkCanonical(b *testing.B) {
	var body Body
	set(reflect.ValueOf(&body).Elem(), "some twenty characters", 7, func() bool { return false })
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Canonical(body); err != nil {
			b.Fatal(err)
		}
	}
}
