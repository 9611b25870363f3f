package node

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/identity"
)

const minimal = `agency: {id: land, name: {en: Land, ur: اراضی}}
listen: 127.0.0.1:0
admin: 127.0.0.1:0
sites:
  - host: "*"
    upstream: [http://127.0.0.1:9]
    routes: [{match: "GET /", signin: none}]
`

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// place writes files into a new folder and returns the path of its pasban.yaml.
func place(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		check(t, os.MkdirAll(filepath.Dir(path), 0o700))
		check(t, os.WriteFile(path, []byte(text), 0o600))
	}
	return filepath.Join(dir, "pasban.yaml")
}

func load(t *testing.T, path string) *Setup {
	t.Helper()
	s, err := Load(path)
	check(t, err)
	return s
}

func quiet() Options { return Options{Log: slog.New(slog.DiscardHandler)} }

// TestLoad: what is wrong in different files is told together.
func TestLoad(t *testing.T) {
	path := place(t, map[string]string{
		"pasban.yaml":      minimal,
		"services/a.yaml":  "version: 1\nidd: a\n",
		"policies/a.cedar": "permit (principal, action, resource",
		"rules/a.yml":      "title: nothing\n",
	})
	_, err := Load(path)
	problems, ok := errors.AsType[config.Problems](err)
	if !ok {
		t.Fatalf("%v", err)
	}
	for _, file := range []string{"services/a.yaml", "policies/a.cedar", "rules/a.yml"} {
		if !slices.ContainsFunc(problems, func(p config.Problem) bool { return strings.HasSuffix(p.File, file) && p.Line > 0 }) {
			t.Errorf("no problem with a line in %s: %v", file, problems)
		}
	}
	if s := load(t, place(t, map[string]string{"pasban.yaml": minimal})); s.Config == nil || s.Policies == nil || s.Rules == nil {
		t.Errorf("%+v", s)
	}
}

// TestNewFails: what cannot be opened is an error, leaves nothing open, and
// does not stand in the way of the next start.
func TestNewFails(t *testing.T) {
	s := load(t, place(t, map[string]string{"pasban.yaml": minimal}))
	data := s.Config.Data
	fails := func(what string) {
		t.Helper()
		if n, err := New(t.Context(), s, quiet()); err == nil || n != nil {
			t.Fatalf("%s: opened", what)
		}
	}
	check(t, os.WriteFile(data, nil, 0o600))
	fails("data is a file")
	check(t, os.Remove(data))

	check(t, os.Mkdir(data, 0o755))
	check(t, os.Chmod(data, 0o755))
	fails("data is readable by others")
	check(t, os.Chmod(data, 0o700))

	check(t, os.WriteFile(filepath.Join(data, "ledger"), nil, 0o600))
	fails("data/ledger is a file")
	check(t, os.Remove(filepath.Join(data, "ledger")))

	o, broken := quiet(), errors.New("broken")
	o.Extend = func(context.Context, *Node) (string, http.Handler, error) { return "", nil, broken }
	if _, err := New(t.Context(), s, o); !errors.Is(err, broken) {
		t.Errorf("an extension that fails: %v", err)
	}

	n, err := New(t.Context(), s, quiet())
	check(t, err)
	fails("another node has it open")
	check(t, n.close())
}

// running is a node that runs until the test ends.
func running(t *testing.T, path string) *Node {
	t.Helper()
	n, err := New(t.Context(), load(t, path), quiet())
	check(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		check(t, <-ended)
	})
	for end := time.Now().Add(time.Minute); !n.Status(t.Context()).Ready; {
		if time.Now().After(end) {
			t.Fatalf("not ready: %+v", n.Status(t.Context()))
		}
		<-time.After(5 * time.Millisecond)
	}
	return n
}

// TestAdmin asks the address that is never public.
func TestAdmin(t *testing.T) {
	n := running(t, place(t, map[string]string{"pasban.yaml": minimal}))
	ask := func(path string) (int, string) {
		w := httptest.NewRecorder()
		n.admin().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		body, err := io.ReadAll(w.Result().Body)
		check(t, err)
		return w.Code, string(body)
	}
	if code, body := ask("/healthz"); code != 200 || body != "alive\n" {
		t.Errorf("/healthz: %d %q", code, body)
	}
	if code, body := ask("/readyz"); code != 200 || !strings.Contains(body, `"schema": "pasban.status.v1"`) {
		t.Errorf("/readyz: %d %s", code, body)
	}
	code, body := ask("/metrics")
	for _, line := range []string{"pasban_ready 1", `pasban_part_ok{part="journal"} 1`, "pasban_journal_leaves_total 0", "pasban_detection_forgotten_total 0", "go_goroutines"} {
		if code != 200 || !strings.Contains(body, "\n"+line) {
			t.Errorf("/metrics lacks %q (%d)", line, code)
		}
	}

	// What detection says of itself is part of it.
	n.detection.set(errors.New("synthetic failure"))
	if code, body := ask("/readyz"); code != 503 || !strings.Contains(body, "synthetic failure") {
		t.Errorf("/readyz with detection down: %d %s", code, body)
	}
	if _, body := ask("/metrics"); !strings.Contains(body, "\npasban_ready 0") || !strings.Contains(body, `pasban_part_ok{part="detection"} 0`) {
		t.Error("/metrics with detection down")
	}
	n.detection.set(nil)
	if code, body := ask("/readyz"); code != 200 {
		t.Errorf("/readyz after that: %d %s", code, body)
	}
}

// TestOwnPaths: what is Pasban's own is answered by the room that it belongs to.
func TestOwnPaths(t *testing.T) {
	n := running(t, place(t, map[string]string{"pasban.yaml": minimal}))
	for path, want := range map[string]int{
		"/ledger/checkpoint": 200, "/ledger/receipt/0": 401, "/ledger/statement": 401, "/ledger/heads": 503, "/ledger/nothing": 404,
		"/en/receipt/0": 303, "/ur/receipt/0/pdf": 303, "/trust": 200, "/.well-known/pasban.json": 200, "/pasban/signin": 200, "/api/openapi.json": 200,
	} {
		w := httptest.NewRecorder()
		n.gateway.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != want {
			t.Errorf("%s: %d, want %d: %s", path, w.Code, want, w.Body)
		}
	}
}

// TestReload: a good file is taken over and accounted for; of a bad one, and of
// one that changes what cannot change, nothing is.
func TestReload(t *testing.T) {
	path := place(t, map[string]string{"pasban.yaml": minimal})
	n := running(t, path)
	put := func(text string) { check(t, os.WriteFile(path, []byte(text), 0o600)) }
	before := n.Config()

	put(strings.Replace(minimal, "upstream:", "upstraem:", 1))
	if err := n.Reload(t.Context()); err == nil || n.Config() != before {
		t.Errorf("a bad file: %v", err)
	}
	put(strings.Replace(minimal, "id: land,", "id: water,", 1))
	err := n.Reload(t.Context())
	if err == nil || pasban.KindOf(err) != pasban.Invalid || n.Config() != before {
		t.Errorf("another agency: %v", err)
	}
	for _, key := range []string{"agency.id", "ledger.origin"} {
		if err != nil && !strings.Contains(err.Error(), key) {
			t.Errorf("the error does not name %s: %v", key, err)
		}
	}
	if s := n.Status(t.Context()); s.Figures.Facts != 0 {
		t.Errorf("%d facts about reloads that did not happen", s.Figures.Facts)
	}

	put(strings.Replace(minimal, "[{match:", `[{match: "GET /more", signin: none}, {match:`, 1))
	check(t, n.Reload(t.Context()))
	if got := n.Config(); got == before || len(got.Sites[0].Routes) != 2 {
		t.Errorf("%+v", got.Sites)
	}
	entries, err := n.journal.Since(t.Context(), 0, 10)
	check(t, err)
	if len(entries) != 1 || entries[0].Fact.Body.Action != "config.reload" || entries[0].Index != 0 {
		t.Errorf("%+v", entries)
	}
}

// TestPeople adds somebody beside a running node, which knows them at once.
func TestPeople(t *testing.T) {
	path := place(t, map[string]string{"pasban.yaml": minimal})
	n := running(t, path)
	people, err := OpenPeople(t.Context(), n.Config(), slog.New(slog.DiscardHandler))
	check(t, err)
	p, err := people.AddPerson(t.Context(), Operator(), identity.NewPerson{Role: pasban.RoleOfficer, NameEn: "Synthetic", Staff: "LHR-032"})
	check(t, err)
	if got := people.EnrolURL("x"); got != BaseURL(n.Config())+"/pasban/enrol/x" {
		t.Errorf("link %q", got)
	}
	check(t, people.Close())
	if got, err := n.Identity().Lookup(t.Context(), p.ID); err != nil || got.Staff != "LHR-032" {
		t.Errorf("%+v, %v", got, err)
	}
	if s := n.Status(t.Context()); s.Figures.Leaves != 1 {
		t.Errorf("%d leaves about it", s.Figures.Leaves)
	}
}
