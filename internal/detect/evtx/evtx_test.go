package evtx_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"pasban/internal/detect/corpus"
	"pasban/internal/detect/evtx"
)

const logonJSON = `{"Event":{"#attributes":{"xmlns":"http://schemas.microsoft.com/win/2004/08/events/event"},` +
	`"System":{"EventID":4624,"Channel":"Security","EventRecordID":%d,"Correlation":null},` +
	`"EventData":{"TargetUserName":"clerk \"7\"","IpAddress":"10.0.0.7","LogonType":3}}}`

func TestReader(t *testing.T) {
	data := file(logon(1, 3), logon(4, 2))
	for name, in := range map[string]io.Reader{"whole": bytes.NewReader(data), "byte by byte": iotest.OneByteReader(bytes.NewReader(data))} {
		r, err := evtx.NewReader(in)
		if err != nil {
			t.Fatal(err)
		}
		for id := uint64(1); id <= 5; id++ {
			rec, err := r.Next()
			if err != nil {
				t.Fatalf("%s: record %d: %v", name, id, err)
			}
			if want := fmt.Sprintf(logonJSON, id); rec.ID != id || string(rec.JSON) != want {
				t.Errorf("%s: record %d is %d\n got %s\nwant %s", name, id, rec.ID, rec.JSON, want)
			}
			if want := time.Date(2022, 6, 18, 4, 26, 40, 0, time.UTC); !rec.Written.Equal(want) {
				t.Errorf("%s: record %d was written %v, want %v", name, id, rec.Written, want)
			}
		}
		if _, err := r.Next(); err != io.EOF {
			t.Errorf("%s: after the last record: %v, want io.EOF", name, err)
		}
		if rep := r.Report(); rep.Records != 5 || rep.Chunks != 2 || rep.BadChunks+rep.BadRecords+len(rep.Damage) != 0 || rep.Dirty {
			t.Errorf("%s: report %+v", name, rep)
		}
	}
}

func TestValues(t *testing.T) {
	le := binary.LittleEndian
	sid := []byte{1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x20, 2, 0, 0}
	guid := []byte{0x25, 0x96, 0x84, 0x54, 0x78, 0x54, 0x94, 0x49, 0xa5, 0xba, 0x3e, 0x3b, 0x03, 0x28, 0xc3, 0x0d}
	systime := []byte{0xea, 7, 11, 0, 6, 0, 28, 0, 7, 0, 5, 0, 9, 0, 42, 0}
	for _, tt := range []struct {
		name string
		v    val
		want string
	}{
		{"null", val{0x00, nil}, `""`},
		{"string", val{0x01, wide("a\t\"\\\x01ک😀")}, `"a\t\"\\\u0001ک😀"`},
		{"string, ends in white space and zeros", val{0x01, wide("cmd \x00 \x00")}, `"cmd"`},
		{"string, zero in its middle", val{0x01, wide("a\x00b")}, `"a\u0000b"`},
		{"string, odd length", val{0x01, []byte{'a', 0, 'b'}}, `"a"`},
		{"string, half a pair", val{0x01, []byte{0, 0xd8, 'x', 0}}, `"` + "\ufffd" + `x"`},
		{"string, empty", val{0x01, nil}, `""`},
		{"ansi", val{0x02, []byte("caf\xe9\x00")}, `"café"`},
		{"int8", val{0x03, []byte{0xff}}, `-1`},
		{"uint8", val{0x04, []byte{0xff}}, `255`},
		{"int16", val{0x05, []byte{0, 0x80}}, `-32768`},
		{"uint16", val{0x06, []byte{0, 0x80}}, `32768`},
		{"int32", val{0x07, []byte{0xfe, 0xff, 0xff, 0xff}}, `-2`},
		{"uint32", val{0x08, []byte{0xfe, 0xff, 0xff, 0xff}}, `4294967294`},
		{"uint32, short", val{0x08, []byte{7}}, `7`},
		{"int64", val{0x09, le.AppendUint64(nil, 1<<63)}, `-9223372036854775808`},
		{"uint64", val{0x0a, le.AppendUint64(nil, math.MaxUint64)}, `18446744073709551615`},
		{"real32", val{0x0b, le.AppendUint32(nil, math.Float32bits(2.5))}, `"2.5"`},
		{"real64", val{0x0c, le.AppendUint64(nil, math.Float64bits(3))}, `"3.0"`},
		{"real64, none", val{0x0c, le.AppendUint64(nil, math.Float64bits(math.NaN()))}, `"NaN"`},
		{"bool", val{0x0d, []byte{0, 1, 0, 0}}, `true`},
		{"binary", val{0x0e, []byte{0xde, 0xad, 0x01}}, `"DEAD01"`},
		{"guid", val{0x0f, guid}, `"54849625-5478-4994-A5BA-3E3B0328C30D"`},
		{"guid, short", val{0x0f, guid[:3]}, `"259684"`},
		{"size", val{0x10, []byte{0, 1, 0, 0}}, `"0x100"`},
		{"filetime", val{0x11, le.AppendUint64(nil, 133_000_000_000_000_019)}, `"2022-06-18T04:26:40.000001Z"`},
		{"filetime, the first", val{0x11, make([]byte, 8)}, `"1601-01-01T00:00:00.000000Z"`},
		{"filetime, no calendar has it", val{0x11, le.AppendUint64(nil, math.MaxUint64)}, `"18446744073709551615"`},
		{"systemtime", val{0x12, systime}, `"2026-11-28T07:05:09.042000Z"`},
		{"systemtime, month 99", val{0x12, append([]byte{0xea, 7, 99}, systime[3:]...)}, `"EA0763000600` + `1C00070005000900` + `2A00"`},
		{"sid", val{0x13, sid}, `"S-1-5-32-544"`},
		{"sid, short", val{0x13, sid[:9]}, `"010200000000000520"`},
		{"hex32", val{0x14, []byte{0xef, 0xbe, 0, 0}}, `"0xbeef"`},
		{"hex64", val{0x15, make([]byte, 8)}, `"0x0"`},
		{"unknown type", val{0x42, []byte{1, 2}}, `"0102"`},
		{"strings", val{0x81, wide("one\x00\x00three\x00")}, `["one","","three"]`},
		{"strings, one", val{0x81, wide("one\x00")}, `"one"`},
		{"numbers", val{0x86, []byte{1, 0, 2, 0}}, `[1,2]`},
		{"identifiers", val{0x93, append(append([]byte{}, sid...), sid...)}, `["S-1-5-32-544","S-1-5-32-544"]`},
		{"array, empty", val{0x88, nil}, `""`},
	} {
		w := newBuilder(1)
		w.record(0, func() {
			w.instance(0, func() {
				w.elem("EventData", nil, func() { w.elem("Data", []any{"Name", "V"}, w.text(sub{0, tt.v.typ})) })
			}, tt.v)
		})
		if got, want := only(t, file(w.chunk())), `{"EventData":{"V":`+tt.want+`}}`; got != want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, want)
		}
	}
}

// only returns the JSON of a file's one record; it must be sound.
func only(t testing.TB, data []byte) string {
	t.Helper()
	r, err := evtx.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	rec, err := r.Next()
	if err != nil {
		t.Fatalf("%v; %+v", err, r.Report())
	}
	out := string(rec.JSON)
	if !json.Valid(rec.JSON) {
		t.Errorf("not JSON: %s", out)
	}
	if _, err := r.Next(); err != io.EOF || len(r.Report().Damage) > 0 {
		t.Errorf("after the only record: %v; %+v", err, r.Report())
	}
	return out
}

func TestForms(t *testing.T) {
	null := val{0, nil}
	text := func(s string) val { return val{1, wide(s)} }
	for _, tt := range []struct {
		name   string
		build  func(w *builder)
		values []val
		want   string
	}{
		{"element without content", func(w *builder) { w.elem("A", nil, nil) }, nil, `{"A":null}`},
		{"literal numbers are strings", func(w *builder) { w.elem("A", nil, w.text("1")) }, nil, `{"A":"1"}`},
		{"text and a value", func(w *builder) {
			w.elem("A", nil, func() { w.content("n="); w.content(sub{0, 8}) })
		}, []val{{8, []byte{9, 0, 0, 0}}}, `{"A":"n=9"}`},
		{"attributes and text", func(w *builder) {
			w.elem("A", []any{"x", "1", "y", sub{0, 8}, "z", sub{1, 1}}, w.text("t"))
		}, []val{{8, []byte{9, 0, 0, 0}}, null}, `{"A":{"#attributes":{"x":"1","y":9},"#text":"t"}}`},
		{"no attribute has a value", func(w *builder) {
			w.elem("A", []any{"x", sub{0, 1}}, nil)
		}, []val{null}, `{"A":null}`},
		{"elements of one name", func(w *builder) {
			w.elem("A", nil, func() { w.elem("B", nil, w.text("1")); w.elem("B", nil, w.text("2")); w.elem("B", nil, nil) })
		}, nil, `{"A":{"B":"1","B_1":"2","B_2":null}}`},
		{"an array repeats its element", func(w *builder) {
			w.elem("A", nil, func() { w.elem("B", nil, w.text(sub{0, 0x81})) })
		}, []val{{0x81, wide("x\x00y\x00")}}, `{"A":{"B":"x","B_1":"y"}}`},
		{"unnamed data", func(w *builder) {
			w.elem("EventData", nil, func() { w.elem("Data", nil, w.text(sub{0, 1})); w.elem("Data", nil, w.text("2")) })
		}, []val{text("one")}, `{"EventData":{"Data":{"#text":["one","2"]}}}`},
		{"unnamed array", func(w *builder) {
			w.elem("EventData", nil, func() { w.elem("Data", nil, w.text(sub{0, 0x81})); w.elem("Binary", nil, w.text(sub{1, 14})) })
		}, []val{{0x81, wide("x\x00\x00")}, null}, `{"EventData":{"Binary":null,"Data":{"#text":["x",""]}}}`},
		{"one unnamed", func(w *builder) {
			w.elem("EventData", nil, func() { w.elem("Data", nil, w.text(sub{0, 1})) })
		}, []val{text("x")}, `{"EventData":{"Data":{"#text":"x"}}}`},
		{"named, with a value for a name, twice, and one without", func(w *builder) {
			w.elem("EventData", nil, func() {
				w.elem("Data", []any{"Name", sub{0, 1}}, w.text("1"))
				w.elem("Data", []any{"Name", "N"}, w.text("2"))
				w.elem("Data", nil, w.text("3"))
			})
		}, []val{text("N")}, `{"EventData":{"N":"1","N_1":"2","Data":{"#text":"3"}}}`},
		{"data elsewhere is an element like others", func(w *builder) {
			w.elem("A", nil, func() { w.elem("Data", []any{"Name", "N"}, w.text("2")) })
		}, nil, `{"A":{"Data":{"#attributes":{"Name":"N"},"#text":"2"}}}`},
		{"references", func(w *builder) {
			w.elem("A", nil, func() {
				w.raw(0x48)
				w.u16('"')
				w.raw(0x49)
				w.name("amp")
				w.raw(0x09)
				w.name("unknown")
				w.raw(0x07)
				w.u16(1)
				w.u16('<')
			})
		}, nil, `{"A":"\"&&unknown;<"}`},
		{"instructions are left out", func(w *builder) {
			w.elem("A", nil, func() {
				w.raw(0x0a)
				w.name("target")
				w.raw(0x0b)
				w.u16(1)
				w.u16('x')
			})
		}, nil, `{"A":null}`},
	} {
		w := newBuilder(1)
		w.record(0, func() { w.instance(0, func() { tt.build(w) }, tt.values...) })
		if got := only(t, file(w.chunk())); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

// TestNested puts a fragment with a template of its own into a value, as
// Windows does with EventData, and an element without dependency identifier.
func TestNested(t *testing.T) {
	w := newBuilder(1)
	w.record(0, func() {
		// The inner template is defined in front, so that the value is small.
		inner := w.instance(0, func() {
			w.elem("EventData", nil, func() { w.elem("Data", []any{"Name", "N"}, w.text(sub{0, 1})) })
		}, val{1, wide("first")})
		_ = inner
		outer := newBuilder(1)
		outer.raw(0x0f, 1, 1, 0)
		outer.instance(inner, nil, val{1, wide("second")})
		outer.raw(0)
		bare := newBuilder(1)
		bare.raw(0x01)
		bare.u32(0)
		bare.u32(int(w.names["Data"]))
		bare.raw(0x03)
		w.instance(0, func() {
			w.elem("Event", nil, func() { w.elem("System", nil, nil); w.content(sub{0, 0x21}); w.content(sub{1, 0x21}) })
		}, val{0x21, outer.b[512:]}, val{0x21, bare.b[512:]})
	})
	want := `{"EventData":{"N":"first"},"Event":{"System":null,"EventData":{"N":"second"},"Data":null}}`
	if got := only(t, file(w.chunk())); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

// TestForwarded reads an event that is not made of a template, as collectors
// write it, with elements that have no dependency identifier.
func TestForwarded(t *testing.T) {
	w := newBuilder(1)
	w.record(0, func() {
		w.raw(0x01)
		w.u32(0)
		w.name("Event")
		w.raw(0x02)
		w.elem("EventID", nil, w.text("4624"))
		w.raw(0x04)
	})
	if got, want := only(t, file(w.chunk())), `{"Event":{"EventID":"4624"}}`; got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestDamage(t *testing.T) {
	whole := file(logon(1, 3), logon(4, 3), logon(7, 3))
	second := 4096 + 64<<10
	edit := func(change func(b []byte) []byte) []byte { return change(bytes.Clone(whole)) }
	// end is where the records of the second chunk end.
	end := second + int(binary.LittleEndian.Uint32(whole[second+48:]))
	for _, tt := range []struct {
		name       string
		data       []byte
		ids        string
		chunks     int // bad
		records    int // bad
		complaints []string
	}{
		{"sound", whole, "1 2 3 4 5 6 7 8 9", 0, 0, nil},
		{"file header's checksum", edit(func(b []byte) []byte { b[16]++; return b }), "1 2 3 4 5 6 7 8 9", 0, 0, []string{"0: the file header's checksum"}},
		{"file header destroyed", edit(func(b []byte) []byte { clear(b[:4096]); return b }), "1 2 3 4 5 6 7 8 9", 0, 0, []string{"0: the file header is destroyed"}},
		{"file header cut off", whole[4096:], "1 2 3 4 5 6 7 8 9", 0, 0, []string{"0: the file header is missing"}},
		{"chunk header", edit(func(b []byte) []byte { clear(b[second : second+512]); return b }), "1 2 3 4 5 6 7 8 9", 1, 0, []string{"69632: chunk: its signature"}},
		{"chunk never written", edit(func(b []byte) []byte { clear(b[second : second+64<<10]); return b }), "1 2 3 7 8 9", 0, 0, nil},
		{"chunk of noise", edit(func(b []byte) []byte {
			for i := range 64 << 10 {
				b[second+i] = byte(i*i>>3) | 1
			}
			return b
		}), "1 2 3 7 8 9", 1, 1, []string{"its signature is missing", "passed over"}},
		{"a record's text", edit(func(b []byte) []byte { b[end-30] ^= 1; return b }), "1 2 3 4 5 6 7 8 9", 1, 0, []string{"its records' checksum"}},
		{"a record's signature", edit(func(b []byte) []byte {
			i := bytes.LastIndex(b[:end], []byte("**\x00\x00"))
			b[i] = 'x'
			return b
		}), "1 2 3 4 5 7 8 9", 1, 1, []string{"its records' checksum", "passed over"}},
		{"a record's second length", edit(func(b []byte) []byte { b[end-4]++; return b }), "1 2 3 4 5 6 7 8 9", 1, 0, []string{"its records' checksum", "its length is there twice"}},
		{"cut within a chunk's header", whole[:second+100], "1 2 3", 1, 0, []string{"ends within its header"}},
		{"cut within a record", whole[:end-8], "1 2 3 4 5", 1, 1, []string{"ends within it", "passed over"}},
		{"not closed", edit(func(b []byte) []byte {
			// The header does not know of the last record yet.
			i := bytes.LastIndex(b[:end], []byte("**\x00\x00"))
			binary.LittleEndian.PutUint32(b[second+48:], uint32(i-second))
			seal(b[second : second+64<<10])
			return b
		}), "1 2 3 4 5 6 7 8 9", 0, 0, nil},
		{"what was there before", edit(func(b []byte) []byte {
			copy(b[end:], b[second+512:end]) // record 4, 5, 6 once more
			return b
		}), "1 2 3 4 5 6 7 8 9", 0, 0, nil},
	} {
		r, err := evtx.NewReader(bytes.NewReader(tt.data))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		var ids []string
		for rec, err := r.Next(); err != io.EOF; rec, err = r.Next() {
			if err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			ids = append(ids, fmt.Sprint(rec.ID))
		}
		rep := r.Report()
		if got := strings.Join(ids, " "); got != tt.ids {
			t.Errorf("%s: records %s, want %s", tt.name, got, tt.ids)
		}
		if rep.BadChunks != tt.chunks || rep.BadRecords != tt.records || len(rep.Damage) != len(tt.complaints) {
			t.Errorf("%s: report %+v", tt.name, rep)
			continue
		}
		for i, d := range rep.Damage {
			if got := fmt.Sprintf("%d: %s", d.Offset, d.What); !strings.Contains(got, tt.complaints[i]) {
				t.Errorf("%s: damage %q, want %q", tt.name, got, tt.complaints[i])
			}
		}
	}
}

func TestNotAnEventLog(t *testing.T) {
	for _, data := range []string{"", "ElfFile", "\x1f\x8b", strings.Repeat("x", 10_000)} {
		if _, err := evtx.NewReader(strings.NewReader(data)); !errors.Is(err, evtx.ErrFormat) {
			t.Errorf("%.10q: %v, want ErrFormat", data, err)
		}
		if evtx.IsEVTX([]byte(data)) && len(data) > 8 {
			t.Errorf("%.10q passes for an event log", data)
		}
	}
	broken := errors.New("the disk is gone")
	if _, err := evtx.NewReader(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("a stream that fails: %v", err)
	}
	r, err := evtx.NewReader(io.MultiReader(bytes.NewReader(file(logon(1, 1))), iotest.ErrReader(broken)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(); !errors.Is(err, broken) {
		t.Errorf("a stream that fails later: %v", err)
	}
}

// TestMultiplied has templates that multiply themselves: a value that holds an
// instance of the template that shows the value sixteen times, and so on. It
// must be refused, and what else is in the file read.
func TestMultiplied(t *testing.T) {
	w := newBuilder(1)
	w.record(0, func() {
		def := w.instance(0, func() {
			w.elem("A", nil, func() {
				for range 16 {
					w.content(sub{0, 0x21})
				}
			})
		}, val{0, nil})
		value := val{1, nil}
		for range 30 {
			v := newBuilder(1)
			v.raw(0x0f, 1, 1, 0)
			v.instance(def, nil, value)
			v.raw(0)
			value = val{0x21, v.b[512:]}
		}
		w.instance(def, nil, value)
	})
	events, report := readAll(t, file(w.chunk(), logon(2, 1)))
	if len(events) != 1 || report.BadRecords != 1 || !strings.Contains(report.Damage[0].What, "unfolds") {
		t.Errorf("%d events; %+v", len(events), report)
	}
}

func TestDeep(t *testing.T) {
	w := newBuilder(1)
	w.record(0, func() {
		var nest func(int)
		nest = func(n int) {
			if n == 0 {
				return
			}
			w.elem("A", nil, func() { nest(n - 1) })
		}
		nest(500)
	})
	events, report := readAll(t, file(w.chunk(), logon(2, 1)))
	if len(events) != 1 || report.BadRecords != 1 || !strings.Contains(report.Damage[0].What, "deeper") {
		t.Errorf("%d events; %+v", len(events), report)
	}
}

// FuzzReader: any bytes end, and whatever is given is JSON. The fuzzed bytes
// are a whole file, and the records of a chunk whose checksums are right.
func FuzzReader(f *testing.F) {
	whole := file(logon(1, 2))
	f.Add(whole[:4096+2048])
	f.Add(whole[4096+512 : 4096+2048])
	f.Fuzz(func(t *testing.T, data []byte) {
		chunk := make([]byte, 64<<10)
		copy(chunk, "ElfChnk\x00")
		n := copy(chunk[512:], data)
		binary.LittleEndian.PutUint32(chunk[48:], uint32(512+n))
		seal(chunk)
		for _, in := range [][]byte{data, chunk} {
			r, err := evtx.NewReader(bytes.NewReader(in))
			if err != nil {
				continue
			}
			for n := 0; ; n++ {
				rec, err := r.Next()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if !json.Valid(rec.JSON) {
					t.Fatalf("not JSON: %q", rec.JSON)
				}
				if n > len(in) {
					t.Fatal("more records than bytes")
				}
			}
		}
	})
}

// BenchmarkReaders reads event logs, JSON included: one full of sign-ins, and
// SigmaHQ's, most of which hold one event, each as a file of its own.
func BenchmarkReaders(b *testing.B) {
	b.Run("full", func(b *testing.B) { benchmark(b, [][]byte{file(logon(1, 200), logon(201, 200), logon(401, 200))}) })
	b.Run("single", func(b *testing.B) {
		var files [][]byte
		for name, data := range corpus.Tar(b, regression) {
			if strings.HasSuffix(name, ".evtx") {
				files = append(files, data)
			}
		}
		benchmark(b, files)
	})
}

func benchmark(b *testing.B, files [][]byte) {
	size, events := 0, 0
	for _, data := range files {
		size += len(data)
	}
	b.SetBytes(int64(size))
	cpuTime := func() time.Duration { // other work on the machine does not count
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	runtime.GC()
	began := cpuTime()
	for b.Loop() {
		for _, data := range files {
			r, err := evtx.NewReader(bytes.NewReader(data))
			if err != nil {
				b.Fatal(err)
			}
			for _, err := r.Next(); err != io.EOF; _, err = r.Next() {
				if err != nil {
					b.Fatal(err)
				}
				events++
			}
		}
	}
	b.ReportMetric(float64(events)/max(cpuTime()-began, 1).Seconds(), "events/cpu-s")
}
