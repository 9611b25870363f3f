package pasban_test

import (
	"bytes"
	"compress/zlib"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"pasban"
)

// codes are the texts of a receipt's codes.
func codes(t testing.TB, r pasban.Receipt) []string {
	t.Helper()
	all, err := r.Codes()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A receipt comes back from its codes word for word but for the restricted part,
// in whatever order and shape they were scanned.
func TestReceiptCodes(t *testing.T) {
	s, v := newKey(t, origin)
	for _, size := range []int64{1, 7, 700} {
		r := receipt(t, s, lookFact(), size-1, size)
		r.Restricted = nil
		all := codes(t, r)
		qr := regexp.MustCompile(`^[0-9A-Z $%*+./:-]{1,1000}$`) // alphanumeric mode: ISO/IEC 18004, section 7.4.4
		for _, c := range all {
			if !qr.MatchString(c) {
				t.Errorf("no code holds %q", c)
			}
		}
		turned := slices.Clone(all)
		slices.Reverse(turned)
		for name, text := range map[string]string{
			"in order": strings.Join(all, "\n"), "backwards": strings.Join(turned, "\r\n"), "run together": strings.Join(all, ""),
			"twice":      strings.Join(append(turned, all...), "\n"),
			"lower case": strings.ToLower(strings.Join(all, "\n")), "wrapped": " \n" + strings.Join(strings.SplitAfter(strings.Join(all, "\n"), "Q"), "\n\t"),
		} {
			back, err := pasban.ParseReceipt([]byte(text))
			if err != nil {
				t.Errorf("%d leaves, %s: %v", size, name, err)
				continue
			}
			if _, err := back.Verify(v); err != nil {
				t.Errorf("%d leaves, %s: %v", size, name, err)
			}
			if got, want := string(must(t, back)), string(must(t, r)); got != want {
				t.Errorf("%d leaves, %s: %s, want %s", size, name, got, want)
			}
		}
	}
}

func must(t testing.TB, v any) []byte {
	t.Helper()
	data, err := pasban.Canonical(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A full entry of a ledger of four thousand million leaves with three
// cosignatures fits four codes.
func TestReceiptCodesOfALargeLedger(t *testing.T) {
	s, _ := newKey(t, origin)
	f := lookFact()
	f.Body.Case, f.Body.Basis = "MUT-2026-004417", "Punjab Land Revenue Act 1967, section 42"
	r := receipt(t, s, f, 0, 1)
	r.Index = 1<<32 - 3
	for i := range 32 {
		r.Proof = append(r.Proof, tlog.RecordHash([]byte{byte(i)}))
	}
	for i := range 3 {
		h := sha256.Sum256([]byte{byte(i)})
		cosignature, err := json.Marshal(slices.Concat(h[:], h[:], h[:12]))
		if err != nil {
			t.Fatal(err)
		}
		r.Checkpoint += fmt.Sprintf("— witness-%d.example/w %s\n", i, strings.Trim(string(cosignature), `"`))
	}
	if all := codes(t, r); len(all) > 4 {
		t.Errorf("%d codes, want 4 at most", len(all))
	}
}

func TestReceiptCodesThatAreNotWhole(t *testing.T) {
	s, _ := newKey(t, origin)
	all := codes(t, receipt(t, s, lookFact(), 300, 700))
	other := codes(t, receipt(t, s, lookFact(), 300, 700))
	if len(all) != 2 || len(other) != 2 {
		t.Fatalf("%d and %d codes, want 2 of each", len(all), len(other))
	}
	n := len(all[0])
	for name, c := range map[string]struct{ text, want string }{
		"one of two":          {all[1], "code 1 of 2 is missing"},
		"of two receipts":     {all[0] + other[1], "code 2 is of another receipt"},
		"two receipts":        {strings.Join(append(all, other...), "\n"), "code 3 is of another receipt"},
		"cut short":           {all[0][:n-8] + "\n" + all[1], "damaged"},
		"a letter exchanged":  {all[0][:n-8] + "QQQQ" + all[0][n-4:] + all[1], "damaged"},
		"not base32":          {all[0][:n-8] + "1111" + all[0][n-4:] + all[1], "code 1 is not readable"},
		"nothing in it":       {"PASBAN1:1/1:AAAAAAAA:", "code 1 is not readable"},
		"prefix alone":        {"PASBAN1:", "code 1 is not readable"},
		"no place":            {strings.Replace(all[0], "1/2", "0/2", 1), "code 1 is not readable"},
		"too many":            {strings.Replace(all[0], "1/2", "1/65", 1), "code 1 is not readable"},
		"of another version":  {coded([]byte{2, 0, 0}), "version 2"},
		"salt cut short":      {coded([]byte{1, 0, 0}), "not the compact form"},
		"a proof without end": {coded(append(make33(), 1, 0xff, 0xff, 3)), "not the compact form"},
		"bytes behind it":     {coded(append(compactOf(t, all), 0)), "not the compact form"},
	} {
		if _, err := pasban.ParseReceipt([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) || pasban.KindOf(err) != pasban.Invalid {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func make33() []byte { return append([]byte{1}, make([]byte, 32)...) }

var base32Plain = base32.StdEncoding.WithPadding(base32.NoPadding)

// coded is one code that holds these bytes, whatever they are.
func coded(all []byte) string {
	h := sha256.Sum256(all)
	return "PASBAN1:1/1:" + base32Plain.EncodeToString(h[:5]) + ":" + base32Plain.EncodeToString(all)
}

// compactOf puts codes together again.
func compactOf(t testing.TB, all []string) []byte {
	t.Helper()
	var out []byte
	for _, c := range all {
		part, err := base32Plain.DecodeString(c[strings.LastIndexByte(c, ':')+1:])
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, part...)
	}
	return out
}

// pdf is a file with these streams, as much of one as is looked at.
func pdf(streams ...[]byte) []byte {
	out := []byte("%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
	for i, s := range streams {
		out = fmt.Appendf(out, "%d 0 obj\n<</Length %d>>\nstream\n%s\nendstream\nendobj\n", i+1, len(s), s)
	}
	return append(out, "%%EOF\n"...)
}

func deflated(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestReceiptInPDF(t *testing.T) {
	s, v := newKey(t, origin)
	r, data := throughJSON(t, receipt(t, s, lookFact(), 5, 7))
	_, other := throughJSON(t, receipt(t, s, lookFact(), 5, 7))
	compact, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	noise := []byte("BT /F0 12 Tf (a stream) Tj ET")
	for name, c := range map[string]struct {
		file []byte
		want string // of the error, "" for none
	}{
		"plain":             {pdf(noise, data), ""},
		"deflated":          {pdf(deflated(t, noise), deflated(t, data)), ""},
		"twice, other form": {pdf(data, deflated(t, compact)), ""},
		"CR LF":             {bytes.Replace(pdf(data), []byte("stream\n"), []byte("stream\r\n"), 1), ""},
		"two receipts":      {pdf(data, deflated(t, other)), "more than one receipt"},
		"none":              {pdf(noise, deflated(t, noise), []byte(`{"schema":"other"}`)), "no receipt is attached"},
		"cut short":         {pdf(deflated(t, data)[:100]), "no receipt is attached"},
		"a bomb":            {pdf(deflated(t, append([]byte(`{"schema":"`), bytes.Repeat([]byte(" "), 32<<20)...)), data), "unpacks to more"},
	} {
		got, err := pasban.ParseReceipt(c.file)
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) || pasban.KindOf(err) != pasban.Invalid {
				t.Errorf("%s: %v, want %q", name, err, c.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if body, err := got.Verify(v); err != nil || body.Resource != "LT-2026-000001" {
			t.Errorf("%s: %+v, %v", name, body, err)
		}
	}
}

// FuzzParseReceiptForms is FuzzParseReceipt for PDF and codes: nothing verifies
// that was not made.
func FuzzParseReceiptForms(f *testing.F) {
	s, v := newKey(f, origin)
	good, data := throughJSON(f, receipt(f, s, lookFact(), 300, 700))
	all := codes(f, good)
	f.Add(pdf(data))
	f.Add(pdf(deflated(f, data)))
	f.Add([]byte(strings.Join(all, "\n")))
	f.Add([]byte(coded(compactOf(f, all))))
	f.Add([]byte(coded(append(make33(), 1, 0))))
	want, err := good.Verify(v)
	if err != nil {
		f.Fatal(err)
	}
	check := func(t *testing.T, data []byte) {
		r, err := pasban.ParseReceipt(data)
		if err != nil {
			return
		}
		if body, err := r.Verify(v); err == nil && body.ID != want.ID {
			t.Errorf("verifies but was never made: %q", data)
		}
		if again, err := r.Codes(); err == nil {
			if back, err := pasban.ParseReceipt([]byte(strings.Join(again, ""))); err != nil || back.Index != r.Index || back.Checkpoint != r.Checkpoint {
				t.Errorf("%q does not come back from its codes: %v", data, err)
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		check(t, data)
		if len(data) > 0 && len(data) < 4000 {
			check(t, []byte(coded(data))) // behind the checksum
		}
	})
}
