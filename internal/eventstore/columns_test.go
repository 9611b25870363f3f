package eventstore

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestColumns: a stream and day has so many names and no more, also after a
// restart; what has no column is in FieldMore.
func TestColumns(t *testing.T) {
	names := map[string]int{} // of the day's stream, as a server keeps them
	rows, asked := 0, 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/field_names") {
			asked++
			var list []map[string]any
			for name, n := range names {
				list = append(list, map[string]any{"value": name, "hits": n})
			}
			json.NewEncoder(w).Encode(map[string]any{"values": list})
			return
		}
		for dec := json.NewDecoder(r.Body); ; rows++ {
			var row map[string]string
			if err := dec.Decode(&row); err == io.EOF {
				return
			} else if err != nil {
				t.Error(err)
				return
			}
			for name := range row {
				names[name]++
			}
			if row[FieldMessage] == "wide" && len(row) < 700 && !strings.Contains(row[FieldMore], `-699":"v"`) {
				t.Errorf("%.300v", row)
			}
		}
	}))
	defer server.Close()
	noon := time.Now().UTC().Truncate(24 * time.Hour).Add(12 * time.Hour)
	for start := range 2 {
		c, err := Open("victorialogs://"+strings.TrimPrefix(server.URL, "http://"), TenantOf("a"), &Window{Retention: 48 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		var events []Event
		for i := range 3 {
			var fields []Field
			for j := range 700 {
				fields = append(fields, Field{fmt.Sprintf("f-%d-%d-%d", start, i, j), "v"})
			}
			events = append(events, Event{Time: noon, Source: "a", Fields: fields, Message: "wide"})
		}
		for range 2 {
			if err := c.Add(t.Context(), events); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(names) > maxColumns+20 || len(names) < maxColumns || rows != 12 || asked != 2 {
		t.Errorf("%d names in %d rows, asked %d times", len(names), rows, asked)
	}
}
