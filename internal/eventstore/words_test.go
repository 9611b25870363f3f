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
		`remoteAddr="@", requestURI="/insert/jsonline": the line length exceeds -insert.maxLineSizeBytes=2097152; skipping it; total skipped bytes=3000000; the line snippet="{\"User\":\"zubaida\""`,
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

// TestServerWords: nor by what a server answers when it takes nothing or fails.
func TestServerWords(t *testing.T) {
	for _, text := range []string{
		`cannot process jsonline request; error: cannot parse JSON; line contents: "{\"User\":\"zubaida\"}"`,
		`cannot execute query [User:=zubaida]: the storage node is unavailable`,
	} {
		if err := unavailable("not so", answer{502, text}); strings.Contains(err.Error(), "zubaida") || !strings.Contains(err.Error(), "answers 502: cannot") {
			t.Errorf("%v", err)
		}
	}
}
