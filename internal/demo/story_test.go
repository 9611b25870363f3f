package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"pasban/internal/node"
)

// asDemoNode makes this test's binary run a real node on the directory that
// follows, as `pasban demo-node` does.
const asDemoNode = "PASBAN_DEMO_TEST_DIR"

func realNode(dir string) int {
	ctx, cancel := WatchParent(context.Background())
	defer cancel()
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	setup, err := node.Load(filepath.Join(dir, "pasban.yaml"))
	if err == nil {
		var n *node.Node
		n, err = node.New(ctx, setup, node.Options{Extend: func(ctx context.Context, n *node.Node) (string, http.Handler, error) {
			return Extend(ctx, dir, n)
		}})
		if err == nil {
			err = n.Run(ctx)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// TestStory plays the whole story against a real node in a process of its own,
// with the fewest people that it can be played with: one document comes out,
// and nothing else.
func TestStory(t *testing.T) {
	var out bytes.Buffer
	o := Options{
		Once: true, JSON: true, Seed: 5, Citizens: MinCitizens, Out: &out, Examples: os.DirFS("../../examples"),
		Dir: filepath.Join(t.TempDir(), "demo"),
		Node: func(dir string) *exec.Cmd {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), asDemoNode+"="+dir)
			return cmd
		},
	}
	sum, err := Run(t.Context(), o)
	if err != nil {
		t.Fatalf("%v\n%s", err, tail(filepath.Join(o.Dir, logFile)))
	}
	if !sum.Passed || len(sum.Beats) != len(scenes()) {
		t.Errorf("%s\n%s", out.String(), tail(filepath.Join(o.Dir, logFile)))
	}
	for _, b := range sum.Beats {
		if b.Tried == 0 && b.Requests == 0 {
			t.Errorf("%s proves nothing", b.Name)
		}
	}
	dec := json.NewDecoder(&out)
	var doc Summary
	if err := dec.Decode(&doc); err != nil || doc.Schema != Schema || len(doc.Beats) != len(sum.Beats) || doc.Passed != sum.Passed {
		t.Errorf("%+v, %v", doc, err)
	}
	if dec.More() {
		t.Error("something stands behind the document")
	}
	for _, name := range []string{"pasban.yaml", "data/store.db", "data/ledger/checkpoint", "data/ledger/vkey", personasFile} {
		if _, err := os.Stat(filepath.Join(o.Dir, name)); err != nil {
			t.Error(err)
		}
	}
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "played here already") {
		t.Errorf("a second time in the same place: %v", err)
	}
}

func TestTooFewCitizens(t *testing.T) {
	if _, err := Run(t.Context(), Options{Citizens: MinCitizens - 1}); err == nil {
		t.Error("a story with too few citizens")
	}
}
