package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOldLedger puts an old copy of the ledger's directory in place, and then
// none at all: the node refuses to sign on it, and makes it again from the
// journal when it is told to. What was promised and signed before still holds.
func TestOldLedger(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, nil)
	g.open()
	g.stop()
	old := filepath.Join(t.TempDir(), "ledger")
	check(t, os.CopyFS(old, os.DirFS(g.data("ledger"))))

	g.up()
	for range 5 {
		g.open()
	}
	g.stop()
	signed := filepath.Join(t.TempDir(), "checkpoint")
	check(t, os.WriteFile(signed, must(os.ReadFile(g.data("ledger/checkpoint"))), 0o600))

	for _, state := range []string{"an old copy", "nothing"} {
		check(t, os.RemoveAll(g.data("ledger")))
		if state == "an old copy" {
			check(t, os.CopyFS(g.data("ledger"), os.DirFS(old)))
		}
		g.start()
		if err := g.ended(); err == nil || !strings.Contains(tail(g.log()), "--rebuild-ledger") {
			t.Fatalf("%s in place of the ledger: %v\n%s", state, err, tail(g.log()))
		}
		g.start("--rebuild-ledger")
		g.ready()
		g.open()
		g.stop()
	}
	g.verify("checkpoint", g.data("ledger"), "--old", signed)
	g.up()
	g.nothingLost()
}
