package eventstore

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"pasban"
)

// What is not a mistake of the query's may be sent: and then it holds no options.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"*", `Image:"cmd" | stats by (User) count()`, `a:in(options(concurrency=1) * | fields a)`, `"options(x)"`, "{a=\"b\"} _time:5m", "#c\n*", "a:(b or !c)", "`"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parse(Query{LogsQL: text})
		if err != nil {
			if pasban.KindOf(err) != pasban.Invalid {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if optionsAt(p.text) >= 0 {
			t.Fatalf("%q has options as %q", text, p.text)
		}
		if _, err := parse(Query{LogsQL: p.text}); err != nil {
			t.Fatalf("%q became %q: %v", text, p.text, err)
		}
	})
}

// noColumns is a stream that has no events yet.
func noColumns(stream) (map[string]struct{}, error) { return map[string]struct{}{}, nil }

// Whatever is in an event, its line is one JSON object of texts within the limit,
// with the store's own fields as they are.
func FuzzEncode(f *testing.F) {
	f.Add("Image", "cmd", "a message", int64(0))
	f.Add("_time", "\xff\x00\n", strings.Repeat("\x01", 9000), int64(-11644473600))
	f.Add("event_id", strings.Repeat("x", 9000), strings.Repeat("ں", 9000), int64(32503679999))
	f.Fuzz(func(t *testing.T, name, value, message string, sec int64) {
		now := time.Now()
		e := encoder{buf: new(bytes.Buffer), from: now.Add(-time.Hour), to: now.Add(time.Hour), maxEvent: 8192, columns: noColumns}
		e.add(Event{ID: "id", Source: "s", Time: time.Unix(sec, 0), Received: now, Message: message, Fields: []Field{{name, value}, {name, message}, {value, name}}})
		line := e.buf.Bytes()
		if e.buf.Len() > 8192 || strings.Count(e.buf.String(), "\n") != 1 {
			t.Fatalf("%d bytes", e.buf.Len())
		}
		var doc map[string]string
		if err := json.Unmarshal(line, &doc); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if doc[FieldID] != "id" || doc[FieldSource] != "s" {
			t.Fatalf("%q", line)
		}
		row, err := readRow(line[:len(line)-1])
		if err != nil || row.Get(FieldID) != "id" {
			t.Fatalf("%v, %v", row, err)
		}
	})
}

// TestEncodeFits: names count as they are written too, and bytes that are no text
// as what they become. What the engine finds too long it would drop.
func TestEncodeFits(t *testing.T) {
	var names, odd []Field
	for i := range 900 {
		names = append(names, Field{fmt.Sprintf("%03d%s", i, strings.Repeat("\x01", 125)), strings.Repeat("\x02", 64)})
		odd = append(odd, Field{fmt.Sprintf("%03d%s", i, strings.Repeat("\xff.", 60)), "v"})
	}
	halves, run := strings.Repeat("a\xff", 1<<20), "a"+strings.Repeat("\xff", 1<<21)
	now := time.Now()
	for _, limit := range []int{4096, defaultMaxEvent, embeddedMaxEvent} {
		for _, ev := range []Event{
			{ID: "names", Fields: names, Message: strings.Repeat("m", 1<<21)}, {ID: "odd", Fields: odd},
			{ID: "halves", Message: halves}, {ID: "run", Message: run}, {ID: "both", Fields: []Field{{"a", run}}, Message: halves},
		} {
			e := encoder{buf: new(bytes.Buffer), from: now.Add(-time.Hour), to: now.Add(time.Hour), maxEvent: limit, columns: noColumns}
			ev.Time = now
			e.add(ev)
			var doc map[string]string
			if err := json.Unmarshal(e.buf.Bytes(), &doc); err != nil || e.buf.Len() > limit || doc[FieldID] != ev.ID || doc[FieldMessage] == "" {
				t.Errorf("%s within %d bytes: %d bytes, %v", ev.ID, limit, e.buf.Len(), err)
			}
			for name := range doc {
				if len(name) > maxFieldName {
					t.Errorf("%s: a name of %d bytes", ev.ID, len(name))
				}
			}
			if e.cut > 1 || (doc[FieldCut] != "") != (e.cut == 1) {
				t.Errorf("%s within %d bytes: %d cut, %q", ev.ID, limit, e.cut, doc[FieldCut])
			}
		}
	}
}

// An answer of any server is rows or an error.
func FuzzReadRows(f *testing.F) {
	f.Add("{\"a\":\"b\"}\n\ncannot execute query\n")
	f.Add(`{"a":1}`)
	f.Add(`{"a":"b"`)
	f.Fuzz(func(t *testing.T, text string) {
		readRows(strings.NewReader(text), func(r Row) error { r.Arrange(); return nil })
	})
}

func TestFlatten(t *testing.T) {
	got := Flatten(pasban.Event{
		"b": true, "a": map[string]any{"y": json.Number("1"), "x": map[string]any{"z": "deep"}}, "list": []string{"<1>", "2"},
		"n": nil, "skipped": "s", "f": 1.5, "i": 7, "u": uint64(1) << 63, "e": map[string]any{},
	}, "skipped")
	want := `[{a.x.z deep} {a.y 1} {b true} {f 1.5} {i 7} {list ["<1>","2"]} {u 9223372036854775808}]`
	if s := fmt.Sprint(got); s != want {
		t.Errorf("%s", s)
	}
}
