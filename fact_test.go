package pasban_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"pasban"
)

var lookTime = time.Date(2026, 11, 23, 20, 15, 0, 123456789, time.FixedZone("PKT", 5*3600))

// lookFact is a fact as the guard makes it, of a synthetic officer and citizen.
func lookFact() pasban.Fact {
	f := pasban.NewFact(pasban.KindLook, "land-records", pasban.Actor{
		ID: "officer:lhr-032", Kind: pasban.ActorPerson, Role: pasban.RoleOfficer, Staff: "LHR-00032",
	}, lookTime)
	f.Subject = pasban.Subject{ID: "0f0e", CNIC: "61101-1234567-1"}
	f.Body.Service, f.Body.Resource, f.Body.Action = "land-transfer", "LT-2026-000001", "view"
	f.Body.Fields, f.Body.Purpose = []string{"buyer_name", "price"}, "mutation"
	f.Body.Mode = pasban.ModePerson
	f.Restricted.IP, f.Restricted.Path = "192.0.2.7", "/desk/records/LT-2026-000001"
	return f
}

func seal(t testing.TB, f pasban.Fact) (pasban.Opening, pasban.RestrictedOpening) {
	t.Helper()
	sealed, err := f.Seal()
	if err != nil {
		t.Fatal(err)
	}
	return sealed.Opening, sealed.Restricted
}

func TestNewFact(t *testing.T) {
	f := lookFact()
	if f.Body.Time != "2026-11-23T15:15:00.123Z" {
		t.Errorf("time %q, want UTC with milliseconds", f.Body.Time)
	}
	if f.Body.Who.Staff != "032" {
		t.Errorf("staff %q, want the last three characters", f.Body.Who.Staff)
	}
	begins := fmt.Sprintf("%012x", lookTime.UnixMilli())
	if other := lookFact(); len(f.Body.ID) != 32 || other.Body.ID == f.Body.ID || f.Body.ID[:12] != begins || other.Body.ID[:12] != begins {
		t.Errorf("ids %q and %q, want the time, %s, and 80 random bits each", f.Body.ID, other.Body.ID, begins)
	}
	if who := pasban.NewFact(pasban.KindBlock, "a", pasban.Actor{}, time.Now()).Body.Who; who.Kind != pasban.ActorAnonymous {
		t.Errorf("the zero actor is told as %q, want anonymous", who.Kind)
	}
}

func TestSealAndParse(t *testing.T) {
	f := lookFact()
	o, r := seal(t, f)
	body, err := o.Parse()
	if err != nil {
		t.Fatal(err)
	}
	if body.Subject != f.Subject.CNIC || body.ID != f.Body.ID || strings.Join(body.Fields, " ") != "buyer_name price" {
		t.Errorf("read back %+v", body)
	}
	part, err := r.Parse(body)
	if err != nil || part.Actor != "officer:lhr-032" || part.IP != "192.0.2.7" {
		t.Errorf("restricted part = %+v, %v", part, err)
	}
	if bytes.Contains(o.Body, []byte("officer:lhr-032")) || bytes.Contains(o.Body, []byte("192.0.2.7")) {
		t.Errorf("the body tells what is restricted: %s", o.Body)
	}
	o2, r2 := seal(t, f)
	if bytes.Equal(o.Salt, o2.Salt) || bytes.Equal(r.Salt, r2.Salt) {
		t.Error("a salt was used twice")
	}
}

// The canonical form of a body, byte for byte, as another implementation of
// RFC 8785 must make it: keys sorted, nothing escaped that need not be, no
// escaping of HTML, no normalisation of Unicode.
func TestBodyIsCanonical(t *testing.T) {
	b := pasban.Body{
		Version: 1, ID: "00", Kind: pasban.KindLook, Time: "2026-11-23T15:15:00.123Z", Agency: "a",
		Outcome: pasban.Allowed, Details: pasban.Details{
			Who: pasban.Who{Kind: pasban.ActorPerson, Staff: "032"}, Service: `<b>&"\/` + "\b\t\n\f\r\x01\x7f", Resource: "زمین\u2028é e\u0301😀",
			Fields: []string{"z", "a"},
		},
	}
	want := `{"agency":"a","fields":["z","a"],"id":"00","kind":"look","outcome":"allow","resource":"زمین` + "\u2028é e\u0301😀" +
		`","service":"<b>&\"\\/\b\t\n\f\r\u0001` + "\x7f" + `","time":"2026-11-23T15:15:00.123Z","v":1,"who":{"kind":"person","staff":"032"}}`
	got, err := pasban.Canonical(b)
	if err != nil || string(got) != want {
		t.Errorf("Canonical = %v\n%s\nwant\n%s", err, got, want)
	}
}

// The example of RFC 8785, section 3.2.2 to 3.2.4.
func TestCanonicalRFC8785(t *testing.T) {
	const in = `{
       "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
       "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
       "literals": [null, true, false]
     }`
	const want = `{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}`
	got, err := pasban.Canonical(json.RawMessage(in))
	if err != nil || string(got) != want {
		t.Errorf("Canonical = %s, %v; want %s", got, err, want)
	}
}

func TestOpeningParseRefuses(t *testing.T) {
	o, _ := seal(t, lookFact())
	edit := func(from, to string) []byte {
		if !bytes.Contains(o.Body, []byte(from)) {
			t.Fatalf("%s is not in %s", from, o.Body)
		}
		return bytes.Replace(o.Body, []byte(from), []byte(to), 1)
	}
	for name, body := range map[string][]byte{
		"empty":              nil,
		"null":               []byte("null"),
		"list":               []byte("[]"),
		"cut short":          o.Body[:len(o.Body)-1],
		"followed by more":   append(bytes.Clone(o.Body), "{}"...),
		"other version":      edit(`"v":1`, `"v":2`),
		"no version":         edit(`,"v":1`, ``),
		"other kind":         edit(`"kind":"look"`, `"kind":"change"`),
		"unknown name":       edit(`"v":1`, `"v":1,"x":"y"`),
		"name twice":         edit(`"subject":"61101-1234567-1"`, `"subject":"61101-1234567-1","subject":"61101-7654321-9"`),
		"name in other case": edit(`"subject":"61101-1234567-1"`, `"SUBJECT":"61101-7654321-9","subject":"61101-1234567-1"`),
		"spaces":             edit(`"v":1`, `"v": 1`),
		"order":              []byte(`{"v":1,"kind":"look","id":"","time":"","agency":"","who":{"kind":""},"outcome":""}`),
		"number for text":    edit(`"purpose":"mutation"`, `"purpose":1`),
	} {
		if b, err := (pasban.Opening{Kind: pasban.KindLook, Salt: o.Salt, Body: body}).Parse(); err == nil {
			t.Errorf("%s: read as %+v", name, b)
		} else if pasban.KindOf(err) != pasban.Invalid {
			t.Errorf("%s: kind %q, want invalid", name, pasban.KindOf(err))
		}
	}
}

func TestRestrictedOpeningRefuses(t *testing.T) {
	o, r := seal(t, lookFact())
	body, err := o.Parse()
	if err != nil {
		t.Fatal(err)
	}
	_, other := seal(t, lookFact())
	for name, c := range map[string]pasban.RestrictedOpening{
		"zero":         {},
		"other salt":   {Salt: other.Salt, Part: r.Part},
		"other part":   {Salt: r.Salt, Part: bytes.Replace(r.Part, []byte("192.0.2.7"), []byte("192.0.2.8"), 1)},
		"moved border": {Salt: append(bytes.Clone(r.Salt), r.Part[0]), Part: r.Part[1:]},
		"of another":   other,
	} {
		if part, err := c.Parse(body); err == nil {
			t.Errorf("%s: read as %+v", name, part)
		}
	}
}

func TestLeaf(t *testing.T) {
	o, _ := seal(t, lookFact())
	leaf, err := o.Leaf()
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	h.Write(o.Salt)
	h.Write(o.Body)
	if want := string(h.Sum([]byte{1, 1})); string(leaf[:]) != want {
		t.Errorf("leaf %x, want %x", leaf, want)
	}
	sum := sha256.Sum256(append([]byte{0}, leaf[:]...)) // RFC 6962, section 2.1
	if leaf.Hash() != sum {
		t.Errorf("leaf hash %x, want %x", leaf.Hash(), sum)
	}
	if leaf.Kind() != pasban.KindLook {
		t.Errorf("leaf kind %q", leaf.Kind())
	}
	leaf[0] = 2
	if leaf.Kind() != "" {
		t.Error("a leaf of an unknown version has a kind")
	}
}

func TestOnlyAccountableKindsHaveLeaves(t *testing.T) {
	codes := map[pasban.Kind]byte{pasban.KindLook: 1, pasban.KindChange: 2, pasban.KindDecision: 3, pasban.KindAdmin: 4}
	for _, kind := range []pasban.Kind{
		pasban.KindLook, pasban.KindChange, pasban.KindDecision, pasban.KindAdmin, pasban.KindSignin, pasban.KindBlock, pasban.KindAlarm, "", "other",
	} {
		leaf, err := pasban.Opening{Kind: kind, Salt: make([]byte, 32)}.Leaf()
		code, want := codes[kind]
		if kind.Accountable() != want || (err == nil) != want || leaf[1] != code {
			t.Errorf("kind %q: accountable %v, leaf %x, %v; want code %d", kind, kind.Accountable(), leaf[:2], err, code)
		}
	}
	for _, n := range []int{0, 31, 33} {
		if _, err := (pasban.Opening{Kind: pasban.KindLook, Salt: make([]byte, n)}).Leaf(); err == nil {
			t.Errorf("a salt of %d bytes was taken", n)
		}
	}
}

func TestError(t *testing.T) {
	err := &pasban.Error{Kind: pasban.Limited, Msg: "too much", Where: "a.yaml:3", Hint: "less", Err: io.ErrShortWrite}
	if got, want := err.Error(), "a.yaml:3: too much: short write (less)"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
	if !errors.Is(err, io.ErrShortWrite) {
		t.Error("the cause is lost")
	}
	if got := pasban.KindOf(fmt.Errorf("outer: %w", err)); got != pasban.Limited {
		t.Errorf("KindOf a wrapped error = %q", got)
	}
	if got := pasban.KindOf(io.EOF); got != pasban.Unavailable {
		t.Errorf("KindOf a foreign error = %q, want unavailable", got)
	}
}
