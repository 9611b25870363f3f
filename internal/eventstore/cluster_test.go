package eventstore_test

import (
	"bufio"
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
	"strings"
	"testing"
	"time"

	"pasban"
	"pasban/internal/eventstore"
	"pasban/internal/eventstore/eventstoretest"

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
