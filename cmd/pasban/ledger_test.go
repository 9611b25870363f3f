package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pasban"
	"pasban/internal/identity"
)

// TestFromOutside follows a running node's ledger as a stranger does: a secret
// look is in the citizen's list at once and tells nothing, its promise is shown to
// be kept, the citizen is told of what is new, and a copy of the ledger is whole.
func TestFromOutside(t *testing.T) {
	t.Parallel()
	s := newNode(t, newLegacy(t).URL, "block")
	s.edit("ledger: {origin: "+origin+"}", "ledger: {origin: "+origin+", epoch: 1s}")
	s.edit("purposes: [mutation, dispute]\n        basis", "purposes: [mutation, dispute, inquiry]\n        basis")
	citizen := identity.NewPerson{Role: pasban.RoleCitizen, NameEn: "Synthetic Zubaida", NameUr: "مصنوعی زبیدہ", CNIC: "99100-0000001-1"}
	links := s.add(staff(pasban.RoleOfficer, "LHR-032"), staff(pasban.RoleSupervisor, "LHR-001"), citizen)
	s.up()
	officer, supervisor, zubaida := s.enrolled(links[0]), s.enrolled(links[1]), s.enrolled(links[2])
	record := "/records/" + string(citizen.CNIC)

	order := func(number string) []string {
		return []string{"Pasban-Purpose", "inquiry", "Pasban-Case", number, "Pasban-Hide-Until", time.Now().AddDate(0, 1, 0).Format(time.DateOnly)}
	}
	officer.want(http.StatusForbidden, officer.get(record, order("none")...)) // told at once
	a := supervisor.get(record, order("W.P. 17/2026")...)
	if len(a.promises(t, s.verifier())) != 1 {
		t.Fatalf("the secret look was not recorded: %d %s", a.status, a.body)
	}
	page := zubaida.want(200, zubaida.get("/en/my-data")).body
	if !bytes.Contains(page, []byte("entry whose details you are told later")) || bytes.Contains(page, []byte("W.P. 17")) {
		t.Error("the citizen's page hides the entry, or tells it")
	}

	outside := &outsider{t: t, flags: []string{"--key", s.data("ledger/vkey"), "--ca", s.data("ca/root.pem")}}
	// The promise was kept; one that was altered is none.
	promise := a.header.Get(pasban.PromiseHeader)
	check(t, await(func() error { return outside.run("holds: leaf", "prove", s.base, promise) }))
	if err := outside.run("", "prove", s.base, strings.Replace(promise, "leaf=", "leaf=A", 1)); err == nil {
		t.Error("an altered promise holds")
	}

	// The citizen's own program is told of the next look, and of no other's.
	key := filepath.Join(t.TempDir(), "key.json")
	check(t, await(func() error {
		a := zubaida.get("/ledger/watch-key", "Accept", "application/json")
		if a.status != http.StatusOK {
			return fmt.Errorf("watch key: %d %s", a.status, a.body)
		}
		return os.WriteFile(key, a.body, 0o600)
	}))
	state := filepath.Join(t.TempDir(), "state.json")
	watch := []string{"watch", s.base, "--watch-key", key, "--state", state, "--once"}
	check(t, outside.run("holds: ", watch...))
	officer.get("/records/99100-0000002-1", working...)
	officer.get(record, working...)
	check(t, await(func() error { return outside.run("there is something new about you", watch...) }))

	// A copy is whole, and goes on.
	dir := filepath.Join(t.TempDir(), "copy")
	check(t, outside.run("holds: ", "export", s.base, dir))
	officer.get(record, working...)
	check(t, outside.run("holds: ", "export", s.base, dir))
	check(t, outside.run("holds: ", "watch", dir, "--once"))

	// A ledger that shows another past is found by who kept what was seen.
	s.stop()
	other := newNode(t, newLegacy(t).URL, "block")
	other.up()
	if err := outside.run("", "watch", other.base, "--state", state, "--once", "--key", other.data("ledger/vkey"), "--ca", other.data("ca/root.pem")); err == nil {
		t.Error("another ledger passes for the one that was seen")
	}
}

// outsider runs `pasban ledger`.
type outsider struct {
	t     *testing.T
	flags []string
}

// run is an error unless the command holds and says so in these words.
func (o *outsider) run(says string, args ...string) error {
	o.t.Helper()
	out, err := exec.Command("pasban", append(append([]string{"ledger"}, o.flags...), args...)...).CombinedOutput()
	switch {
	case err != nil:
		return fmt.Errorf("%v: %w\n%s", args, err, out)
	case !bytes.Contains(out, []byte(says)):
		return errors.New("it says: " + string(out))
	}
	return nil
}
