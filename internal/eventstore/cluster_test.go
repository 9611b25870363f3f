package eventstore_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pasban"
	"pasban/internal/eventstore"
	"pasban/internal/eventstore/archive"
	"pasban/internal/eventstore/eventstoretest"
	"pasban/internal/eventstore/parquet"

	"github.com/VictoriaMetrics/VictoriaLogs/app/vlinsert"
	"github.com/VictoriaMetrics/VictoriaLogs/app/vlinsert/insertutil"
	"github.com/VictoriaMetrics/VictoriaLogs/app/vlselect"
	"github.com/VictoriaMetrics/VictoriaLogs/app/vlstorage"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/httpserver"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/logger"
)

// serverEnv has this test binary be VictoriaLogs: what its own main function
// does, with the same flags.
const serverEnv = "PASBAN_TEST_VICTORIALOGS"

func victoriaLogs() int {
	address := os.Getenv(serverEnv)
	if err := flag.CommandLine.Parse(os.Args[1:]); err != nil {
		return 2
	}
	logger.Init()
	vlstorage.Init()
	vlselect.Init()
	insertutil.SetLogRowsStorage(&vlstorage.Storage{})
	vlinsert.Init()
	go httpserver.Serve([]string{address}, func(w http.ResponseWriter, r *http.Request) bool {
		return vlinsert.RequestHandler(w, r) || vlselect.RequestHandler(w, r) || vlstorage.RequestHandler(w, r)
	}, httpserver.ServeOptions{})
	fmt.Println("started")
	io.Copy(io.Discard, os.Stdin)
	return 0
}

// startServer starts VictoriaLogs and returns its host and port.
func startServer(t *testing.T, flags ...string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	cmd := exec.Command(eventstoretest.Command(t)[0], append([]string{"-retentionPeriod=60d", "-loggerLevel=ERROR"}, flags...)...)
	cmd.Env = append(os.Environ(), serverEnv+"="+address)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close(); cmd.Wait() })
	if line, _ := bufio.NewReader(stdout).ReadString('\n'); line != "started\n" {
		t.Fatal("VictoriaLogs did not start")
	}
	eventstoretest.Await(t, func() bool {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
	return address
}

// TestCluster runs the suite against a cluster of VictoriaLogs: a node that
// takes and asks, and two that store. `make clients` runs it; three servers are
// too much for every run of the tests.
func TestCluster(t *testing.T) {
	if os.Getenv("PASBAN_TEST_CLUSTER") == "" {
		t.Skip("PASBAN_TEST_CLUSTER is not set")
	}
	t.Parallel()
	a, b := startServer(t, "-storageDataPath="+t.TempDir()), startServer(t, "-storageDataPath="+t.TempDir())
	front := startServer(t, "-storageNode="+a+","+b, "-httpAuth.username=pasban", "-httpAuth.password=s3cret")
	eventstoretest.RunTests(t, func(t *testing.T, tenant eventstore.Tenant) eventstore.Store {
		c, err := eventstore.Open("victorialogs://pasban:s3cret@"+front, tenant, &eventstore.Window{Retention: eventstoretest.Retention})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	})
	t.Run("wrong password", func(t *testing.T) {
		c, err := eventstore.Open("victorialogs://pasban:wr0ng@"+front, eventstore.TenantOf("x"), &eventstore.Window{Retention: eventstoretest.Retention})
		if err != nil {
			t.Fatal(err)
		}
		err = c.Add(t.Context(), []eventstore.Event{{Time: time.Now()}})
		if pasban.KindOf(err) != pasban.Unavailable || strings.Contains(err.Error(), "wr0ng") {
			t.Errorf("%v", err)
		}
	})
}

// TestArchiveOfServer: of a server, whose days go by its own clock, those that are
// about to go are in files, each once and with all of its rows; they take no more
// events before they are written.
func TestArchiveOfServer(t *testing.T) {
	const kept = 10
	server, dir := startServer(t, "-storageDataPath="+t.TempDir()), t.TempDir()
	folder, window := filepath.Join(dir, "archive"), &eventstore.Window{Retention: kept * 24 * time.Hour}
	s, err := eventstore.Open("victorialogs://"+server, eventstore.TenantOf("a"), window)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	positions, err := eventstore.OpenPositions(filepath.Join(dir, "position.json"))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(24 * time.Hour).Add(12 * time.Hour)
	add := func(events ...eventstore.Event) {
		t.Helper()
		if err := s.Add(t.Context(), events); err != nil {
			t.Fatal(err)
		}
	}
	var all []eventstore.Event
	for day := range kept {
		for i := range 20 {
			all = append(all, eventstore.Event{ID: fmt.Sprint(day, "-", i), Seq: uint64(day*100 + i + 1), Source: "s", Received: now,
				Time: now.Add(-time.Duration(day) * 24 * time.Hour).Add(-time.Duration(i) * time.Minute)})
		}
	}
	add(all...)
	holds := func(n int) func() bool {
		return func() bool {
			var got int
			if err := s.Search(t.Context(), eventstore.Query{}, 0, func(eventstore.Row) error { got++; return nil }); err != nil {
				t.Fatal(err)
			}
			return got == n
		}
	}
	eventstoretest.Await(t, holds(len(all)))
	k, err := archive.New(archive.Options{Store: s, Dir: folder, Retention: window.Retention, Window: window, Positions: positions})
	if err != nil {
		t.Fatal(err)
	}
	files := func() []string {
		t.Helper()
		names, err := filepath.Glob(filepath.Join(folder, "*"))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	if err := k.Once(t.Context(), now); err != nil || len(files()) != 0 {
		t.Fatalf("written before the days were closed: %v, %v", files(), err)
	}
	add(eventstore.Event{ID: "late", Seq: 5000, Source: "s", Time: all[len(all)-1].Time, Received: now})
	eventstoretest.Await(t, holds(len(all)+1))
	for range 2 { // the second time there is nothing to do
		if err := k.Once(t.Context(), now); err != nil {
			t.Fatal(err)
		}
	}
	if got := files(); len(got) != 2 || k.Status().Archived != 2 {
		t.Fatalf("%v, %+v", got, k.Status())
	}
	rows := map[string]int{}
	for _, name := range files() {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := parquet.Read(bytes.NewReader(data), int64(len(data)), func(r eventstore.Row) error { rows[r.Get(eventstore.FieldID)]++; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if len(rows) != 40 || rows["late"] != 0 {
		t.Errorf("%d rows in the archive: %v", len(rows), rows)
	}
	if !holds(len(all) + 1)() {
		t.Error("something was deleted")
	}
}

// A server that is not there, that is something else, or that breaks off is
// Unavailable, and no secret is told.
func TestServerFails(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.Contains(r.URL.Path, "insert"):
			http.Redirect(w, r, "http://elsewhere.example/", http.StatusFound)
		case strings.Contains(r.URL.Path, "hits"):
			io.WriteString(w, "<html>")
		default:
			io.WriteString(w, `{"_time":"2026-01-01T00:00:00Z","event_id":"1"}`+"\n"+`{"_time":"2026-`)
		}
	}))
	defer page.Close()
	for _, host := range []string{"127.0.0.1:1", strings.TrimPrefix(page.URL, "http://")} {
		c, err := eventstore.Open("victorialogs://user:s3cret@"+host, eventstore.TenantOf("x"), &eventstore.Window{Retention: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		errs := []error{
			c.Add(t.Context(), []eventstore.Event{{Time: time.Now()}}),
			c.Search(t.Context(), eventstore.Query{}, 10, func(eventstore.Row) error { return nil }),
		}
		_, err = c.Histogram(t.Context(), eventstore.Query{From: time.Now().Add(-time.Hour), To: time.Now()}, time.Minute)
		for i, err := range append(errs, err) {
			if err == nil || pasban.KindOf(err) != pasban.Unavailable || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%s, %d: %v", host, i, err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := c.Search(ctx, eventstore.Query{}, 1, func(eventstore.Row) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	}
}

func TestParseAddress(t *testing.T) {
	for address, want := range map[string]string{
		"victorialogs://logs:9428":                              "http://logs:9428 245760",
		"victorialogs+https://u:p@logs/behind/?max_event=10000": "https://u:p@logs/behind 10000",
		"victorialogs://":                                       "", "http://logs": "", "victorialogs://h?x=1": "", "victorialogs://h?max_event=1": "", "victorialogs://h#f": "", "://": "",
		"victorialogs://u:p%zz@h": "",
	} {
		u, n, err := eventstore.ParseAddress(address)
		if got := fmt.Sprintf("%s %d", u.String(), n); want == "" && err == nil || want != "" && got != want {
			t.Errorf("%s: %s, %v", address, got, err)
		}
	}
}
