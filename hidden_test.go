package pasban_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"pasban"
)

// hiddenFact is a lawful secret look, to be disclosed at the date.
func hiddenFact(until time.Time) pasban.Fact {
	f := lookFact()
	f.Body.Hidden.Until = until.UTC().Format(pasban.TimeFormat)
	return f
}

func sealed(t testing.TB, f pasban.Fact) (pasban.Sealed, pasban.Body) {
	t.Helper()
	s, err := f.Seal()
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Opening.Parse()
	if err != nil {
		t.Fatal(err)
	}
	return s, b
}

func TestHiddenTellsNothing(t *testing.T) {
	date := time.Date(2027, 5, 1, 0, 0, 0, 0, time.UTC)
	f := hiddenFact(date)
	s, b := sealed(t, f)
	for _, secret := range []string{"officer", "032", "land-transfer", "LT-2026-000001", "mutation", "buyer_name"} {
		if bytes.Contains(s.Opening.Body, []byte(secret)) {
			t.Errorf("the body tells %q: %s", secret, s.Opening.Body)
		}
	}
	if b.Who.Kind != pasban.ActorHidden || !b.Hidden.Date().Equal(date) || b.Subject != f.Subject.CNIC || b.Time != f.Body.Time {
		t.Errorf("body %+v, want when, whose and until when", b)
	}
	whole, err := s.Hidden.Parse(b)
	if err != nil || whole.Purpose != f.Body.Purpose || whole.Who != f.Body.Who || !slices.Equal(whole.Fields, f.Body.Fields) || whole.Hidden != b.Hidden {
		t.Errorf("disclosed %+v, %v", whole, err)
	}
	again, _ := sealed(t, f)
	if bytes.Equal(again.Hidden.Salt, s.Hidden.Salt) {
		t.Error("a salt was used twice")
	}
	if open, _ := sealed(t, lookFact()); open.Hidden != nil {
		t.Error("an ordinary look has a hidden part")
	}
}

func TestHiddenRefuses(t *testing.T) {
	date := time.Date(2027, 5, 1, 0, 0, 0, 0, time.UTC)
	for name, edit := range map[string]func(f *pasban.Fact){
		"a change":  func(f *pasban.Fact) { f.Body.Kind = pasban.KindChange },
		"a refusal": func(f *pasban.Fact) { f.Body.Outcome = pasban.Denied },
		"no date":   func(f *pasban.Fact) { f.Body.Hidden.Until = "soon" },
		"a day":     func(f *pasban.Fact) { f.Body.Hidden.Until = "2027-05-01" },
		"nobody":    func(f *pasban.Fact) { f.Subject.CNIC = "" },
	} {
		f := hiddenFact(date)
		edit(&f)
		if _, err := f.Seal(); pasban.KindOf(err) != pasban.Invalid {
			t.Errorf("%s was hidden: %v", name, err)
		}
	}

	s, b := sealed(t, hiddenFact(date))
	other, _ := sealed(t, hiddenFact(date))
	for name, h := range map[string]pasban.HiddenOpening{
		"nothing":            {},
		"another's":          *other.Hidden,
		"another salt":       {Salt: other.Hidden.Salt, Part: s.Hidden.Part},
		"the border moved":   {Salt: append(bytes.Clone(s.Hidden.Salt), s.Hidden.Part[0]), Part: s.Hidden.Part[1:]},
		"changed":            {Salt: s.Hidden.Salt, Part: bytes.Replace(s.Hidden.Part, []byte("mutation"), []byte("dispute_"), 1)},
		"not the whole part": {Salt: s.Hidden.Salt, Part: s.Hidden.Part[:len(s.Hidden.Part)-1]},
	} {
		if _, err := h.Parse(b); pasban.KindOf(err) != pasban.Invalid {
			t.Errorf("%s opened it: %v", name, err)
		}
	}
	_, plain := sealed(t, lookFact())
	if _, err := s.Hidden.Parse(plain); err == nil {
		t.Error("an entry that hides nothing was opened")
	}
	// A body that hides and tells, or hides without a date, is none.
	for _, c := range [][2]string{
		{`"outcome":"allow"`, `"outcome":"deny"`},
		{`"who":{"kind":"hidden"}`, `"who":{"kind":"person"}`},
		{`"v":1`, `"service":"land","v":1`},
		{`"until":"2027`, `"until":"27`},
	} {
		// "service" sorts before "subject", so the one that is put in stands wrong too
		edited := bytes.Replace(s.Opening.Body, []byte(c[0]), []byte(c[1]), 1)
		if _, err := (pasban.Opening{Kind: s.Opening.Kind, Salt: s.Opening.Salt, Body: edited}).Parse(); err == nil {
			t.Errorf("%s was read", edited)
		}
	}
}

// Whoever runs the node could commit to a part that hides for ever.
func TestHiddenOnce(t *testing.T) {
	f := hiddenFact(time.Now())
	f.Body.Details = pasban.Details{Who: pasban.Who{Kind: pasban.ActorHidden}}
	s, b := sealed(t, f)
	if _, err := s.Hidden.Parse(b); err == nil {
		t.Error("a hidden part that hides again was opened")
	}
}

func TestReceiptHidden(t *testing.T) {
	s, v := newKey(t, origin)
	f := hiddenFact(time.Now())
	r := receipt(t, s, f, 3, 7)
	closed, data := throughJSON(t, r)
	b, err := closed.Verify(v)
	if err != nil || b.Who.Kind != pasban.ActorHidden {
		t.Fatalf("%+v, %v", b, err)
	}
	other, _ := sealed(t, f)
	closed.Hidden = other.Hidden
	if _, err := closed.Verify(v); err == nil {
		t.Errorf("a part of another entry opened %s", data)
	}
}

// The codes on paper carry the details of an entry that was hidden, too.
func TestCodesHidden(t *testing.T) {
	s, v := newKey(t, origin)
	f := hiddenFact(time.Now())
	other, _ := sealed(t, f)
	r, part := receipt(t, s, f, 3, 7), other.Hidden
	r.Restricted, r.Hidden = nil, part
	codes, err := r.Codes()
	if err != nil {
		t.Fatal(err)
	}
	back, err := pasban.ParseReceipt([]byte(strings.Join(codes, "\n")))
	if err != nil || back.Hidden == nil || !bytes.Equal(back.Hidden.Part, part.Part) || !bytes.Equal(back.Hidden.Salt, part.Salt) || back.Checkpoint != r.Checkpoint {
		t.Errorf("read back %+v, %v", back, err)
	}
	if _, err := back.Verify(v); pasban.KindOf(err) != pasban.Invalid {
		t.Errorf("the details of another entry: %v, want invalid", err)
	}
}

func TestStatementHidden(t *testing.T) {
	s, v := newKey(t, origin)
	now := time.Now()
	st := list(t, s, 12, 10, func(i int, f *pasban.Fact) {
		switch i {
		case 2: // due long ago
			f.Body.Hidden.Until = now.Add(-2 * pasban.Grace).UTC().Format(pasban.TimeFormat)
		case 4: // due, and within the grace
			f.Body.Hidden.Until = now.Add(-time.Hour).UTC().Format(pasban.TimeFormat)
		case 6, 11: // not due
			f.Body.Hidden.Until = now.Add(time.Hour).UTC().Format(pasban.TimeFormat)
		}
	})
	check := func(st pasban.Statement, closed, overdue []int64) {
		t.Helper()
		data, err := json.Marshal(st)
		if err != nil {
			t.Fatal(err)
		}
		if err := schemaOf(t, "docs/schemas/statement.v1.json")(data); err != nil {
			t.Error(err)
		}
		got, err := st.Verify(v)
		if err != nil || got.Covered != 10 || !slices.Equal(got.Closed, closed) || !slices.Equal(got.Overdue, overdue) {
			t.Errorf("closed %v, overdue %v, %v; want %v and %v", got.Closed, got.Overdue, err, closed, overdue)
		}
		for _, b := range got.Entries {
			if slices.Contains(closed, b.List.Number) != (b.Purpose == "") {
				t.Errorf("entry %d tells %+v", b.List.Number, b)
			}
		}
	}
	check(st, nil, nil)
	hide := func(i int) { st.Entries[i].Hidden = nil }
	hide(6)
	hide(11)
	check(st, []int64{7, 12}, nil)
	hide(4)
	check(st, []int64{5, 7, 12}, nil)
	hide(2)
	check(st, []int64{3, 5, 7, 12}, []int64{3})
	other, _ := sealed(t, hiddenFact(now))
	st.Entries[2].Hidden = other.Hidden
	if _, err := st.Verify(v); err == nil {
		t.Error("the details of another entry were taken")
	}
}
