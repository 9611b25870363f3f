// Package engine is the process that keeps events on disk: VictoriaLogs' own
// storage and the handlers of its HTTP API, behind a Unix socket that only the
// node reaches. It is a process of its own because this engine stops its
// process when a file is damaged or cannot be written; DESIGN.md of package
// eventstore argues it.
//
// # Main types
//
// [Main] is the whole of it; a node runs it as `pasban event-engine`.
//
// # What it guarantees
//
// It writes what it holds to disk when its standard input ends, which also
// happens when the node is killed. It says "ready" on standard output when it
// answers.
//
// # What it must never do
//
// It never listens on a network, and has no way to delete single events.
package engine

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/VictoriaMetrics/VictoriaLogs/app/vlinsert/insertutil"
	"github.com/VictoriaMetrics/VictoriaLogs/app/vlinsert/jsonline"
	"github.com/VictoriaMetrics/VictoriaLogs/app/vlselect/logsql"
	"github.com/VictoriaMetrics/VictoriaLogs/app/vlstorage"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/logger"
	"github.com/VictoriaMetrics/metrics"
)

// storageFlag is the flag that names the directory of the events.
const storageFlag = "storageDataPath"

// day is the name of a day's partition.
var day = regexp.MustCompile(`^[0-9]{8}$`)

// Main runs the engine until standard input ends and returns its exit code.
// args are the socket's path and then VictoriaLogs' own flags.
func Main(args []string) int {
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "the event engine is started by the node")
		return 2
	}
	if err := run(args[0], args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func run(socket string, flags []string) error {
	syscall.Umask(0o077) // what lies under data is for this user alone
	yield()
	// The parts of VictoriaLogs keep their settings in package flag's set.
	if err := flag.CommandLine.Parse(flags); err != nil {
		return err
	}
	logger.Init()
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		return err
	}
	vlstorage.Init()
	insertutil.SetLogRowsStorage(&vlstorage.Storage{})
	srv := &http.Server{Handler: handler(), ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	fmt.Println("ready")
	go func() {
		io.Copy(io.Discard, os.Stdin) // until the node goes
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if srv.Shutdown(ctx) != nil {
			srv.Close() // queries under way are cut; what was taken is kept
		}
	}()
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	vlstorage.Stop()
	return nil
}

// yield lets the node go first where the two compete: for the processor, and
// when the kernel is out of memory and picks a process to end. Neither is worth
// failing for.
func yield() {
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, 5)
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("500"), 0o600)
}

// handler serves the part of VictoriaLogs' API that package eventstore uses,
// and two paths of its own.
func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /insert/jsonline", jsonline.RequestHandler)
	for path, serve := range map[string]func(context.Context, http.ResponseWriter, *http.Request){
		"query": logsql.ProcessQueryRequest, "hits": logsql.ProcessHitsRequest, "field_names": logsql.ProcessFieldNamesRequest,
	} {
		mux.HandleFunc("POST /select/logsql/"+path, func(w http.ResponseWriter, r *http.Request) {
			ctx := r.Context()
			if limit, err := time.ParseDuration(r.FormValue("timeout")); err == nil {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, limit)
				defer cancel()
			}
			serve(ctx, w, r)
		})
	}
	for _, path := range []string{"/internal/partition/list", "/internal/force_flush"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) { vlstorage.RequestHandler(w, r) })
	}
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) { metrics.WritePrometheus(w, false) })
	mux.HandleFunc("POST /day/drop", drop)
	return mux
}

// drop deletes a day: detached first, so that nothing reads it.
func drop(w http.ResponseWriter, r *http.Request) {
	name := r.FormValue("day")
	if !day.MatchString(name) {
		http.Error(w, "a day is YYYYMMDD", http.StatusBadRequest)
		return
	}
	inner := r.Clone(r.Context())
	inner.URL.Path = "/internal/partition/detach"
	inner.Form.Set("name", name)
	if vlstorage.RequestHandler(w, inner); w.Header().Get("Content-Type") != "" {
		return // the answer says what is wrong
	}
	if err := os.RemoveAll(filepath.Join(flag.Lookup(storageFlag).Value.String(), "partitions", name)); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}
