package node

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"pasban"
	"pasban/internal/detect/ingest"
)

const receiving = minimal + `logs:
  sources:
    - {name: hosts, listen: "tcp://127.0.0.1:0"}
rules: [rules]
`

const sshRule = `title: Password refused for root
id: 0c9f2f5c-3f0e-4f3a-9f0e-2a4c6a1c7f01
status: test
logsource: {product: linux, service: sshd}
detection: {selection: {message|contains: Failed password for root}, condition: selection}
level: high
`

// TestReceivedLogs: what another machine says becomes an alert, with its place
// in what was received; the figures tell of what cannot be read.
func TestReceivedLogs(t *testing.T) {
	n := running(t, place(t, map[string]string{"pasban.yaml": receiving, "rules/ssh.yml": sshRule}))
	updates, stop := n.soc.Subscribe()
	defer stop()
	conn, err := net.Dial("tcp", n.logs.Addr("hosts").String())
	check(t, err)
	defer conn.Close()
	message := "<86>1 2026-11-28T07:05:09Z web1 sshd 77 - - Failed password for root\n"
	_, err = io.WriteString(conn, message+"<999999>not a message\n"+message)
	check(t, err)
	select {
	case u := <-updates:
		if u.Title != "Password refused for root" || u.Entity != "web1" || u.Count != 2 || len(u.Why) == 0 {
			t.Errorf("alert %+v", u.Alert)
		}
		events, err := n.soc.Events(t.Context(), u.ID)
		check(t, err)
		if len(events) != 2 || events[0].Seq < ingest.Base || !strings.HasPrefix(events[0].Fact, ingest.IDPrefix+"hosts:") {
			t.Errorf("events %+v", events)
		}
	case <-time.After(time.Minute):
		t.Fatalf("no alert; %+v", n.logs.Figures())
	}
	w := httptest.NewRecorder()
	n.admin().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, line := range []string{`pasban_logs_events_total{source="hosts"} 2`, `pasban_logs_refused_total{source="hosts"} 1`, `pasban_part_ok{part="received logs"} 1`, "pasban_logs_spool_limit_bytes 1.073741824e+09"} {
		if !strings.Contains(w.Body.String(), "\n"+line) {
			t.Errorf("/metrics lacks %q", line)
		}
	}
}

// TestLogsListener: a listener whose address is taken is told before anything
// listens, with the source's name.
func TestLogsListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	s := load(t, place(t, map[string]string{"pasban.yaml": strings.Replace(receiving, "127.0.0.1:0\"", l.Addr().String()+"\"", 1), "rules/ssh.yml": sshRule}))
	n, err := New(t.Context(), s, quiet())
	check(t, err)
	if err := n.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "logs.sources hosts") || pasban.KindOf(err) != pasban.Unavailable {
		t.Errorf("%v", err)
	}
}
