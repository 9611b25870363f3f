package parquet_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pasban/internal/eventstore"
	"pasban/internal/eventstore/parquet"
)

func rows() (out []eventstore.Row) {
	for i := range 1000 {
		out = append(out, eventstore.Row{
			{Name: eventstore.FieldTime, Value: fmt.Sprintf("2026-11-%02dT10:00:00.%09dZ", i%28+1, i*1000+1)}, {Name: eventstore.FieldMessage, Value: "line\n\x00" + strings.Repeat("x", i)},
			{Name: eventstore.FieldID, Value: fmt.Sprint("id", i)}, {Name: eventstore.FieldSeq, Value: fmt.Sprint(i)}, {Name: eventstore.FieldSource, Value: "dc1"},
			{Name: "EventID", Value: "4688"}, {Name: "Image", Value: `C:\cmd.exe`}, {Name: "odd name", Value: "ب"}, {Name: fmt.Sprint("f", i%7), Value: "v"},
		})
	}
	return append(out,
		eventstore.Row{{Name: "n", Value: "3"}}, // what pipes made
		eventstore.Row{{Name: eventstore.FieldTime, Value: "not a time"}, {Name: eventstore.FieldSeq, Value: "007"}},
		eventstore.Row{{Name: eventstore.FieldTime, Value: "1601-01-01T00:00:00Z"}}, eventstore.Row{},
	)
}

func file(t testing.TB, rows []eventstore.Row) []byte {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewWriter(&b)
	for _, r := range rows {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	in := rows()
	var wrote, read parquet.Digest
	for _, r := range in {
		wrote.Add(slices.Clone(r))
	}
	data := file(t, in)
	n := 0
	err := parquet.Read(bytes.NewReader(data), int64(len(data)), func(r eventstore.Row) error {
		if want := slices.Clone(in[n]).Arrange(); !slices.Equal(r, want) {
			t.Errorf("row %d is %q, want %q", n, r, want)
		}
		n++
		read.Add(r)
		return nil
	})
	if err != nil || n != len(in) || read != wrote {
		t.Errorf("%d rows, %v, %v", n, read == wrote, err)
	}
	read.Add(eventstore.Row{{Name: "a", Value: "b"}})
	if read == wrote {
		t.Error("one row more, the same digest")
	}
}

// A damaged file is an error or other rows, never a panic, and never the same rows.
func TestDamaged(t *testing.T) {
	data := file(t, rows())
	whole := digest(data)
	for _, cut := range []int{0, 1, 4, 12, len(data) / 2, len(data) - 1} {
		if _, err := digestOf(data[:cut]); err == nil {
			t.Errorf("the first %d bytes are a file", cut)
		}
	}
	for at := 0; at < len(data); at += 997 {
		bad := bytes.Clone(data)
		bad[at] ^= 0xff
		if got, err := digestOf(bad); err == nil && got != whole && got.Rows == whole.Rows {
			t.Logf("byte %d changes rows, which only the digest tells", at)
		}
	}
}

func digest(data []byte) parquet.Digest {
	d, _ := digestOf(data)
	return d
}

func digestOf(data []byte) (d parquet.Digest, err error) {
	err = parquet.Read(bytes.NewReader(data), int64(len(data)), func(r eventstore.Row) error { d.Add(r); return nil })
	return d, err
}

func FuzzRead(f *testing.F) {
	small := file(f, rows()[:3])
	f.Add(small)
	f.Add(small[:len(small)/2])
	f.Add([]byte("PAR1PAR1"))
	f.Fuzz(func(t *testing.T, data []byte) { digestOf(data) })
}
