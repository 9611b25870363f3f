package evtx_test

import (
	"bytes"
	"encoding/json"
	"io"
	"reflect"
	"strings"
	"testing"

	"pasban/internal/detect/corpus"
	"pasban/internal/detect/evtx"
)

// regression is the archive of SigmaHQ's regression cases.
const regression = "sigma/regression.tar.gz"

// TestSiblings reads every event log of SigmaHQ's regression cases and compares
// it with the JSON file beside it, value for value.
func TestSiblings(t *testing.T) {
	files := corpus.Tar(t, regression)
	cases, events := 0, 0
	for name, data := range files {
		base, ok := strings.CutSuffix(name, ".evtx")
		if !ok {
			continue
		}
		cases++
		want := objects(t, files[base+".json"])
		got, report := readAll(t, data)
		if len(report.Damage) > 0 || report.BadChunks+report.BadRecords > 0 {
			t.Errorf("%s: damage: %+v", name, report)
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d events, want %d", name, len(got), len(want))
			continue
		}
		for i := range want {
			events++
			if !reflect.DeepEqual(got[i], want[i]) {
				g, _ := json.Marshal(got[i])
				w, _ := json.Marshal(want[i])
				t.Errorf("%s: event %d\n got %s\nwant %s", name, i, g, w)
			}
		}
	}
	if cases == 0 {
		t.Error("the corpus holds no event log")
	}
	t.Logf("%d files, %d events", cases, events)
}

// objects decodes the JSON values that stand one after another in data.
func objects(t testing.TB, data []byte) (out []any) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(data, []byte("\ufeff"))))
	dec.UseNumber()
	for {
		var v any
		if err := dec.Decode(&v); err == io.EOF {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
}

// readAll reads a file to its end; every event must be valid JSON.
func readAll(t testing.TB, data []byte) (events []any, report evtx.Report) {
	t.Helper()
	r, err := evtx.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for {
		rec, err := r.Next()
		if err == io.EOF {
			return events, r.Report()
		}
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, objects(t, rec.JSON)...)
	}
}
