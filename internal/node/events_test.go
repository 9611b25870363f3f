package node

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"pasban"
	"pasban/internal/eventstore"
	"pasban/internal/eventstore/eventstoretest"
)

func TestMain(m *testing.M) { eventstoretest.Main(m) }

func withEngine(t *testing.T) Options {
	t.Helper()
	o := quiet()
	o.EventEngine = eventstoretest.Command(t)
	return o
}

// TestEventsAreKept: facts and received logs can be found as events, each once,
// also after the node was started again; what a log's sender calls itself counts
// for nothing.
func TestEventsAreKept(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	address := l.Addr().String()
	check(t, l.Close())
	path := place(t, map[string]string{"pasban.yaml": strings.Replace(receiving, "tcp://127.0.0.1:0", "tcp://"+address, 1), "rules/ssh.yml": sshRule})
	message := "<86>1 2026-11-28T07:05:09Z web1 sshd 77 - - Failed password for root\n"
	day := time.Date(2026, 11, 28, 7, 5, 9, 0, time.UTC)
	if old := time.Since(day); old > 60*24*time.Hour || old < -time.Hour {
		day = time.Now().UTC().Truncate(time.Second).Add(-time.Hour)
		message = strings.Replace(message, "2026-11-28T07:05:09Z", day.Format(time.RFC3339), 1)
	}
	for round := 1; round <= 2; round++ {
		n, err := New(t.Context(), load(t, path), withEngine(t))
		check(t, err)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- n.Run(ctx) }()
		var conn net.Conn
		eventstoretest.Await(t, func() bool { conn, err = net.Dial("tcp", address); return err == nil })
		_, err = io.WriteString(conn, message)
		check(t, err)
		check(t, conn.Close())
		f := pasban.NewFact(pasban.KindAdmin, "land", Operator(), time.Now())
		f.Body.Action, f.Body.Resource = "test.event", "42101-1234567-1"
		_, err = n.journal.Record(t.Context(), f)
		check(t, err)
		count := func(query string) (rows []eventstore.Row) {
			n.Events().Search(t.Context(), eventstore.Query{LogsQL: query}, 0, func(r eventstore.Row) error { rows = append(rows, r); return nil })
			return rows
		}
		eventstoretest.Await(t, func() bool {
			return len(count(`"Failed password"`)) == round && len(count(`Action:="test.event"`)) == round
		})
		row := count(`"Failed password"`)[0]
		if row.Get(eventstore.FieldSource) != "hosts" || row.Get("hostname") != "web1" || row.Get(eventstore.FieldTime) != day.Format(time.RFC3339) {
			t.Errorf("%v", row)
		}
		row = count(`Action:="test.event"`)[0]
		if row.Get(eventstore.FieldSource) != eventstore.SourceJournal || row.Get(eventstore.FieldProduct) != "pasban" || strings.Contains(strings.Join(values(row), " "), "1234567") {
			t.Errorf("%v", row)
		}
		if parts := n.Status(t.Context()).Parts; !slices.Contains(parts, Part{Part: "events", OK: true}) {
			t.Errorf("%+v", parts)
		}
		w := httptest.NewRecorder()
		n.admin().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		for _, line := range []string{`pasban_events_added_total{feed="logs"} `, `pasban_events_changed_total{how="refused"} 0`, "pasban_events_stored ", "pasban_events_lost_bytes_total 0"} {
			if !strings.Contains(w.Body.String(), "\n"+line) {
				t.Errorf("/metrics lacks %q", line)
			}
		}
		// Stopped before positions are saved, in the second round what was kept is
		// read again and not kept again.
		stop()
		check(t, <-ended)
	}
}

func values(r eventstore.Row) (out []string) {
	for _, f := range r {
		out = append(out, f.Value)
	}
	return out
}

// TestNoEventStore: a store that does not answer stops nothing: detection goes
// on, the node is ready, and the events wait.
func TestNoEventStore(t *testing.T) {
	text := strings.Replace(receiving, "logs:\n", "events: victorialogs://u:s3cret@127.0.0.1:1\nlogs:\n", 1)
	n := running(t, place(t, map[string]string{"pasban.yaml": text, "rules/ssh.yml": sshRule}))
	updates, stop := n.soc.Subscribe()
	defer stop()
	conn, err := net.Dial("tcp", n.logs.Addr("hosts").String())
	check(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "<86>1 2026-11-28T07:05:09Z web1 sshd 77 - - Failed password for root\n")
	check(t, err)
	select {
	case <-updates:
	case <-time.After(time.Minute):
		t.Fatal("no alert")
	}
	eventstoretest.Await(t, func() bool { return n.events.logs.Status().Err != nil && n.events.facts.Status().Err != nil })
	if waiting, lost := n.logs.Unkept(); waiting == 0 || lost != 0 {
		t.Errorf("%d bytes wait, %d lost", waiting, lost)
	}
	for _, f := range n.events.feeds() {
		if s := f.Status(); strings.Contains(s.Err.Error(), "s3cret") {
			t.Errorf("%v", s.Err)
		}
	}
	if !n.Status(t.Context()).Ready {
		t.Error("not ready")
	}
}
