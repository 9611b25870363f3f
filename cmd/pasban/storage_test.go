package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pasban/internal/ledger/storage/storagetest"
)

// TestLedgerMoves moves a ledger from its directory into a database, as
// OPERATING.md tells it: the same log goes on, is copied and verified from
// outside, and closes the guarded routes while the database cannot be reached. The
// database's password is told nowhere.
func TestLedgerMoves(t *testing.T) {
	t.Parallel()
	at, gate := storagetest.MySQL(t)
	g := newGuarded(t, nil)
	g.open()
	g.stop()
	before := filepath.Join(t.TempDir(), "before")
	check(t, os.WriteFile(before, must(os.ReadFile(g.data("ledger/checkpoint"))), 0o600))

	address := fmt.Sprintf("mysql://%s:%s@/%s?socket=%s", at.User, at.Password, at.Database, at.Address)
	check(t, os.WriteFile(filepath.Join(g.dir, "storage"), []byte(address+"\n"), 0o600))
	g.edit("ledger: {origin: "+origin+"}", "ledger: {origin: "+origin+", storage: file:storage}")
	g.start()
	if err := g.ended(); err == nil || !strings.Contains(tail(g.log()), "--rebuild-ledger") {
		t.Fatalf("an empty storage: %v\n%s", err, tail(g.log()))
	}
	g.start("--rebuild-ledger")
	if s := g.ready(); !strings.HasPrefix(s.Figures.Storage.Where, "mysql://") || s.Figures.Storage.Problem != "" {
		t.Errorf("%+v", s.Figures.Storage)
	}
	g.open()
	g.quiet()
	gate.Cut()
	g.closed("ledger")
	gate.Open()
	g.open()
	g.quiet()

	outside := &outsider{t, []string{"--key", g.data("ledger/vkey"), "--ca", g.data("ca/root.pem")}}
	copied := filepath.Join(t.TempDir(), "copy")
	check(t, outside.run("holds: ", "export", g.base, copied))
	g.verify("audit", copied)
	g.verify("checkpoint", copied, "--old", before)
	for _, p := range g.promised {
		a := g.officer.get(fmt.Sprintf("/ledger/receipt/%d", p.Index))
		if a.status != http.StatusOK {
			t.Fatalf("the receipt of promised leaf %d: %d %s", p.Index, a.status, a.body)
		}
		check(t, honoured(a.body, p, g.key))
	}
	g.stop()
	g.gapless()
	if strings.Contains(g.log(), at.Password) {
		t.Error("the node tells its database's password")
	}
}
