package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"pasban"
	"pasban/internal/node"
)

// guarded is a node with an officer who looks at pages, and what the node has
// promised them.
type guarded struct {
	*serving
	land     *legacy
	officer  *visitor
	analyst  *visitor
	key      note.Verifier
	promised []pasban.Promise
}

func newGuarded(t *testing.T, prepare func(s *serving)) *guarded {
	t.Helper()
	land := newLegacy(t)
	s := newNode(t, land.URL, "off")
	if prepare != nil {
		prepare(s)
	}
	links := s.add(staff(pasban.RoleOfficer, "LHR-032"), staff(pasban.RoleAnalyst, "SOC-001"))
	s.up()
	return &guarded{serving: s, land: land, officer: s.enrolled(links[0]), analyst: s.enrolled(links[1]), key: s.verifier()}
}

// look asks for the first owner's page and checks that it is shown with a
// promise, or that nothing of it is.
func (g *guarded) look() int {
	g.t.Helper()
	a := g.officer.get(g.land.record(0), working...)
	shown, promises := bytes.Contains(a.body, []byte(g.land.owners[0].Name)), a.promises(g.t, g.key)
	if ok := a.status == http.StatusOK; shown != ok || (len(promises) == 1) != ok {
		g.t.Fatalf("status %d, shown: %t, %d promises", a.status, shown, len(promises))
	}
	g.promised = append(g.promised, promises...)
	return a.status
}

// closed waits until guarded routes answer 503 and the health endpoint blames
// one of the parts; then nothing is shown, on the declared service neither.
func (g *guarded) closed(parts ...string) {
	g.t.Helper()
	check(g.t, await(func() error {
		if status := g.look(); status != http.StatusServiceUnavailable {
			return fmt.Errorf("status %d with a broken %v", status, parts)
		}
		return nil
	}))
	check(g.t, await(func() error {
		s, err := readyz(g.admin)
		if err == nil || !slices.ContainsFunc(s.Parts, func(p node.Part) bool {
			return !p.OK && p.Reason != "" && slices.Contains(parts, p.Part)
		}) {
			return fmt.Errorf("the health endpoint does not blame %v: %+v", parts, s.Parts)
		}
		return nil
	}))
	if status := g.look(); status != http.StatusServiceUnavailable {
		g.t.Errorf("status %d while not ready", status)
	}
	body, _ := applicationBody(1)
	if a := g.officer.post(recordsPath, body, working...); a.status != http.StatusServiceUnavailable || a.header.Get("Location") != "" {
		g.t.Errorf("an application: %d %s", a.status, a.body)
	}
	if a := g.officer.get(g.land.record(0), append(working, "Accept", "application/json")...); a.header.Get("Content-Type") != "application/problem+json" || a.header.Get("Retry-After") == "" {
		g.t.Errorf("not a problem document that says when to come again: %v", a.header)
	}
	if _, err := readyz(g.admin); err == nil {
		g.t.Errorf("ready again while %v are broken", parts)
	}
}

// open waits until guarded routes answer again.
func (g *guarded) open() {
	g.t.Helper()
	g.ready()
	check(g.t, await(func() error {
		if status := g.look(); status != http.StatusOK {
			return fmt.Errorf("status %d after it was mended", status)
		}
		return nil
	}))
}

// settled waits until every leaf is under a checkpoint. The ledger's driver
// ends the process if its directory goes away within the moment in which it
// takes leaves: closed as well, but not what is tried here.
func (g *guarded) settled() {
	g.t.Helper()
	check(g.t, await(func() error {
		s, err := readyz(g.admin)
		if err == nil && s.Figures.Leaves != s.Figures.Checkpoint {
			err = fmt.Errorf("%d leaves, %d published", s.Figures.Leaves, s.Figures.Checkpoint)
		}
		return err
	}))
}

// quiet waits until every leaf is under a checkpoint: what breaks then breaks
// between two batches, not within one.
func (g *guarded) quiet() {
	g.t.Helper()
	check(g.t, await(func() error {
		s, err := readyz(g.admin)
		if err == nil && s.Figures.Checkpoint < s.Figures.Leaves {
			err = fmt.Errorf("%d of %d leaves are under a checkpoint", s.Figures.Checkpoint, s.Figures.Leaves)
		}
		return err
	}))
}

// nothingLost exchanges every promise for its receipt.
func (g *guarded) nothingLost() {
	g.t.Helper()
	for _, p := range g.promised {
		check(g.t, await(func() error {
			a := g.officer.get(fmt.Sprintf("/ledger/receipt/%d", p.Index))
			if a.status != http.StatusOK {
				return fmt.Errorf("the receipt of promised leaf %d: %d %s", p.Index, a.status, a.body)
			}
			return honoured(a.body, p, g.key)
		}))
	}
	g.stop()
	g.gapless()
	g.audited()
}

// TestFailClosed breaks the parts under a running node one after the other.
func TestFailClosed(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, nil)
	g.open()
	store := func(t *testing.T) (*sql.Conn, func(statement string)) {
		db, err := sql.Open("sqlite", g.data("store.db"))
		check(t, err)
		t.Cleanup(func() { db.Close() })
		conn, err := db.Conn(t.Context())
		check(t, err)
		t.Cleanup(func() { conn.Close() })
		return conn, func(statement string) {
			t.Helper()
			check(t, await(func() error {
				_, err := conn.ExecContext(context.Background(), statement)
				return err
			}))
		}
	}

	t.Run("the database is locked by another process", func(t *testing.T) {
		_, exec := store(t)
		exec("BEGIN EXCLUSIVE")
		g.closed("store")
		exec("ROLLBACK")
		g.open()
	})
	t.Run("the journal's table takes no rows", func(t *testing.T) {
		_, exec := store(t)
		exec("CREATE TRIGGER broken BEFORE INSERT ON journal BEGIN SELECT RAISE(ABORT, 'synthetic failure'); END")
		g.closed("journal")
		exec("DROP TRIGGER broken")
		g.open()
	})
	t.Run("the ledger's directory is gone", func(t *testing.T) {
		g.quiet()
		g.settled()
		away := g.data("ledger.away")
		check(t, os.Rename(g.data("ledger"), away))
		check(t, os.WriteFile(g.data("ledger"), nil, 0o600))
		g.closed("ledger")
		check(t, os.Remove(g.data("ledger")))
		check(t, os.Rename(away, g.data("ledger")))
		g.open()
	})
	t.Run("the ledger's directory is read-only", func(t *testing.T) {
		g.quiet()
		dir := g.data("ledger")
		g.settled()
		unmount := mount(t, dir, dir, "", syscall.MS_BIND, "")
		check(t, syscall.Mount("", dir, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
		g.closed("ledger")
		unmount()
		g.open()
	})
	g.nothingLost()
}

// TestDiskFull fills the disk under data/ while people look, and empties it again.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, func(s *serving) {
		check(t, os.Mkdir(s.data(""), 0o700))
		mount(t, "tmpfs", s.data(""), "tmpfs", 0, "size=64m,mode=0700")
	})
	g.open()
	filler, err := os.Create(g.data("filler"))
	check(t, err)
	block := make([]byte, 64<<10)
	for len(block) > 0 { // ever smaller, until not a byte is left
		if _, err := filler.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
	check(t, filler.Close())
	g.closed("store", "ledger")
	check(t, os.Remove(g.data("filler")))
	g.open()
	g.nothingLost()
}

// mount mounts and returns what undoes it; the test is skipped where that is
// not allowed.
func mount(t *testing.T, source, target, kind string, flags uintptr, options string) (unmount func()) {
	t.Helper()
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("mounting a file system that fails needs root on Linux")
	}
	if err := syscall.Mount(source, target, kind, flags, options); err != nil {
		t.Skipf("this machine does not let root mount: %v", err)
	}
	mounted := true
	unmount = func() {
		if mounted {
			mounted = false
			syscall.Unmount(target, 2) // MNT_DETACH
		}
	}
	t.Cleanup(unmount)
	return unmount
}

// TestUpstream takes the guarded service away, and then its time.
func TestUpstream(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, nil)
	g.open()
	ask := func(lang string) answer {
		return g.officer.get(g.land.record(0), append(working, "Accept-Language", lang)...)
	}
	inUrdu := func(a answer) {
		t.Helper()
		if !bytes.Contains(a.body, []byte(`lang="ur"`)) || !bytes.Contains(a.body, []byte(`dir="rtl"`)) || bytes.Contains(a.body, []byte(g.land.owners[0].Name)) {
			t.Errorf("not a page in Urdu that shows nothing: %s", a.body)
		}
	}

	_, release := g.land.hold()
	a := g.officer.want(http.StatusGatewayTimeout, ask("ur"))
	inUrdu(a)
	release()
	g.open()

	g.land.Close()
	a = g.officer.want(http.StatusBadGateway, ask("ur"))
	inUrdu(a)
	a = g.officer.want(http.StatusBadGateway, ask("en"))
	if !bytes.Contains(a.body, []byte(`lang="en"`)) {
		t.Errorf("not in English: %s", a.body)
	}
	a = g.officer.want(http.StatusBadGateway, g.officer.get(g.land.record(0), append(working, "Accept", "application/json")...))
	var problem struct{ Kind, Detail string }
	check(t, json.Unmarshal(a.body, &problem))
	if problem.Kind != "upstream" || strings.Contains(string(a.body), g.land.Listener.Addr().String()) {
		t.Errorf("the problem: %s", a.body)
	}

	// It is an alert on the console, and the node itself is well.
	g.alert("Guarded service does not answer")
	g.ready()
	g.stop()
}

// alert waits until the console lists an alert of this title.
func (g *guarded) alert(title string) {
	g.t.Helper()
	check(g.t, await(func() error {
		a := g.analyst.want(200, g.analyst.get("/soc/alerts.json"))
		var doc struct{ Alerts []struct{ Title string } }
		if err := json.Unmarshal(a.body, &doc); err != nil {
			return err
		}
		for _, alert := range doc.Alerts {
			if alert.Title == title {
				return nil
			}
		}
		return fmt.Errorf("no alert %q among %+v", title, doc.Alerts)
	}))
}
