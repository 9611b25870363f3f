package rowtree

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

func layout(buckets int) Layout {
	return Layout{Table: "public.t", Key: []string{"id"}, Columns: []string{"a", "b"}, Salt: make([]byte, 32), Buckets: buckets}
}

func sum(l Layout, lines []string) Hash {
	s := NewSum(l)
	for _, line := range lines {
		if _, err := s.Write([]byte(line + "\n")); err != nil {
			panic(err)
		}
	}
	return Root(l.ID(), s.Rows, s.Hashes())
}

func TestRootIsOfTheSetOfRows(t *testing.T) {
	for _, buckets := range []int{1, 2, 16} {
		l := layout(buckets)
		var lines []string
		for i := range 300 {
			lines = append(lines, fmt.Sprintf("%d\tx%d\t\\N", i, i))
		}
		want := sum(l, lines)
		rand.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
		if sum(l, lines) != want {
			t.Error("the order of rows matters")
		}
		for name, other := range map[string][]string{
			"one less": lines[1:], "one twice": append(lines[:len(lines):len(lines)], lines[0]),
			"null for empty": append(lines[1:len(lines):len(lines)], lines[0][:len(lines[0])-2]),
			"none":           nil,
		} {
			if sum(l, other) == want {
				t.Errorf("%d buckets: %s: the same root", buckets, name)
			}
		}
	}
	if sum(layout(2), nil) == sum(layout(4), nil) {
		t.Error("the layout is not in the root")
	}
}

func TestProof(t *testing.T) {
	l := layout(8)
	s := NewSum(l)
	var lines []string
	for i := range 500 {
		lines = append(lines, fmt.Sprintf("%d\tx\ty", i))
		s.Add([]byte(lines[i]))
	}
	hashes := s.Hashes()
	root := Root(l.ID(), s.Rows, hashes)
	for _, line := range lines[:50] {
		p := Proof{Layout: l, Rows: s.Rows, Line: line}
		own, i := s.Row([]byte(line)), s.Bucket(s.Key([]byte(line)))
		for _, h := range s.Buckets[i] {
			if h != own {
				p.Bucket = append(p.Bucket, h[:])
			}
		}
		for _, h := range Path(hashes, i) {
			p.Path = append(p.Path, h[:])
		}
		if got, err := p.Root(); err != nil || got != root {
			t.Fatalf("row %q: %x, %v", line, got, err)
		}
		p.Line += "z"
		if got, err := p.Root(); err == nil && got == root {
			t.Fatal("another row is proven")
		}
		p.Path = p.Path[1:]
		if _, err := p.Root(); err == nil {
			t.Fatal("a short path is accepted")
		}
	}
}

func TestLines(t *testing.T) {
	values := []Value{[]byte("a\tb\n\\\r\b\f\v"), nil, {}, []byte(`\N`), []byte("زمین")}
	line := AppendLine(nil, values)
	if want := "a\\tb\\n\\\\\\r\\b\\f\\v\t\\N\t\t\\\\N\tزمین"; string(line) != want {
		t.Fatalf("%q, want %q", line, want)
	}
	back, err := ParseLine(line)
	if err != nil || len(back) != len(values) {
		t.Fatal(back, err)
	}
	for i := range values {
		if !bytes.Equal(back[i], values[i]) || (back[i] == nil) != (values[i] == nil) {
			t.Errorf("value %d: %q, want %q", i, back[i], values[i])
		}
	}
}

func FuzzParseLine(f *testing.F) {
	f.Add([]byte("1\ta\\tb\t\\N"))
	f.Add([]byte("\\"))
	f.Fuzz(func(t *testing.T, line []byte) {
		values, err := ParseLine(line)
		if err == nil && !bytes.Equal(AppendLine(nil, values), line) {
			t.Errorf("%q is read as %q", line, values)
		}
	})
}

func BenchmarkSum(b *testing.B) {
	line := []byte("1234567\t61101-1234567-1\t0.2500\t2026-11-27 10:00:00\n")
	s := NewSum(layout(4096))
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		s.Write(line)
	}
}

// FuzzProof: a proof from anywhere is read without a panic.
func FuzzProof(f *testing.F) {
	f.Add([]byte(`{"schema":"pasban.table-proof.v1","row":{"layout":{"table":"t","key":["id"],"salt":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","buckets":2},"line":"1","path":["AA=="]}}`))
	f.Add([]byte(`{"schema":"pasban.table-proof.v1","change":{"layout":{"table":"t","key":["id"],"salt":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","buckets":1},"index":-1,"size":9,"proof":[]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParseProof(data)
		if err != nil {
			return
		}
		if p.Row != nil {
			p.Row.Root()
		}
		if p.Change != nil && p.Change.Check(Hash{}) == nil {
			t.Error("a change is under a root of zeros")
		}
	})
}
