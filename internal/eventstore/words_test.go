package eventstore

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
)

// TestEngineWords: what the engine says reaches the node's log without what
// somebody asked or what an event holds.
func TestEngineWords(t *testing.T) {
	for _, msg := range []string{
		`remoteAddr: "@"; requestURI: /select/logsql/query?limit=50&query=User%3A%3Dzubaida; the query was canceled`,
		`slow query according to -search.logSlowQueryDuration=5s: remoteAddr="@", duration=6.100 seconds; requestURI: "/select/logsql/hits?query=User%3A%3Dzubaida&step=1h"`,
		`cannot parse the query [User:=zubaida]: missing value`,
		`cannot parse line; line contents: {"User":"zubaida"}`,
	} {
		line, err := json.Marshal(map[string]string{"level": "warn", "msg": msg})
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		e := &Embedded{log: slog.New(slog.NewTextHandler(&log, nil))}
		e.listen(bytes.NewReader(append(line, '\n')))
		if said := log.String(); strings.Contains(said, "zubaida") || !strings.Contains(said, msg[:12]) && !strings.Contains(said, "remoteAddr") {
			t.Errorf("the log says %s", said)
		}
	}
	if got, want := brief(`remoteAddr: "@"; requestURI: /select/logsql/query?query=a; the query was canceled`), `remoteAddr: "@"; requestURI: /select/logsql/query; the query was canceled`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
