package demo

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// asNode makes this test's binary behave as a node: it serves /readyz on the
// address that follows, until its parent is gone or it is asked to stop.
const (
	asNode     = "PASBAN_DEMO_TEST_NODE"
	asNodeMark = "PASBAN_DEMO_TEST_MARK" // the file that says it is seeded
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(asDemoNode); dir != "" {
		os.Exit(realNode(dir))
	}
	if addr := os.Getenv(asNode); addr != "" {
		os.Exit(fakeNode(addr))
	}
	os.Exit(m.Run())
}

func fakeNode(addr string) int {
	ctx, cancel := WatchParent(context.Background())
	defer cancel()
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := os.WriteFile(os.Getenv(asNodeMark), nil, 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	<-ctx.Done()
	fmt.Println("ended in good order")
	return 0
}

func testProcess(t *testing.T) *process {
	t.Helper()
	addr, held, err := claim("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { held.Close() })
	dir := t.TempDir()
	p := &process{dir: dir, logFile: filepath.Join(dir, logFile), mark: filepath.Join(dir, "mark"), admin: "http://" + addr}
	p.command = func(string) *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), asNode+"="+addr, asNodeMark+"="+p.mark)
		return cmd
	}
	t.Cleanup(func() { p.stop() })
	return p
}

func TestProcessKilledAndStartedAgain(t *testing.T) {
	p := testProcess(t)
	if err := p.kill(); err == nil {
		t.Error("killed a node that does not run")
	}
	if err := p.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.ready(t.Context()); err == nil {
		t.Error("ready after the kill")
	}
	if err := p.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.ready(t.Context()); err != nil {
		t.Error(err)
	}
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	if err := p.stop(); err != nil {
		t.Errorf("stopped twice: %v", err)
	}
	if log := tail(p.logFile); strings.Count(log, "ended in good order") != 1 {
		t.Errorf("log:\n%s", log)
	}
}

func TestProcessEndsWithItsParent(t *testing.T) {
	p := testProcess(t)
	if err := p.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.pipe.Close() // as the kernel does when the parent dies
	<-p.done
	if log := tail(p.logFile); !strings.Contains(log, "ended in good order") {
		t.Errorf("log:\n%s", log)
	}
}

func TestProcessThatCannotStart(t *testing.T) {
	p := testProcess(t)
	p.command = func(string) *exec.Cmd { return exec.Command(filepath.Join(t.TempDir(), "absent")) }
	if err := p.start(t.Context()); err == nil {
		t.Error("started nothing")
	}
	p.command = func(string) *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), asNode+"=not an address")
		return cmd
	}
	if err := p.start(t.Context()); err == nil || !strings.Contains(err.Error(), "not an address") {
		t.Errorf("the node's last words are missing: %v", err)
	}
}
