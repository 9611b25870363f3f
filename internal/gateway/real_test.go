package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"pasban"
	"pasban/internal/access"
	"pasban/internal/config"
	"pasban/internal/journal"
	"pasban/internal/keys"
	"pasban/internal/registry"
	"pasban/internal/store"
	"pasban/internal/store/storetest"
	"pasban/internal/vault"
)

// health stands for the ledger.
type health struct{ err atomic.Pointer[error] }

func (h *health) Healthy() error {
	if err := h.err.Load(); err != nil {
		return *err
	}
	return nil
}

// spine is what is behind a gateway: everything real but the ledger's state.
type spine struct {
	store    *store.Store
	journal  *journal.Journal
	vault    *vault.Vault
	guard    *registry.Guard
	ledger   health
	verifier note.Verifier
}

const landPolicy = `
@id("officers-on-a-case")
permit (principal in Role::"officer", action == Action::"view", resource in Service::"localhost")
when { context.case != "" && context.purposes.contains(context.purpose) };
`

func newSpine(t testing.TB, budget int) *spine {
	t.Helper()
	ctx := t.Context()
	s := &spine{store: storetest.SQLite(t)}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ring, err := keys.Open(ctx, filepath.Join(t.TempDir(), "keys"), keys.Options{})
	check(err)
	t.Cleanup(func() { ring.Close() })
	signer, vkey, err := ring.LedgerSigner("synthetic.example/ledger")
	check(err)
	s.verifier, err = note.NewVerifier(vkey)
	check(err)
	s.vault, err = vault.Open(ctx, s.store, ring, s.verifier)
	check(err)
	s.journal, err = journal.Open(ctx, s.store, journal.Options{Signer: signer, Sealer: s.vault})
	check(err)
	file := filepath.Join(t.TempDir(), "land.cedar")
	check(os.WriteFile(file, []byte(landPolicy), 0o600))
	policies, err := access.Load([]string{file})
	check(err)
	budgets, err := access.NewBudgets(ctx, s.store, []config.Budget{{Role: pasban.RoleOfficer, Subjects: budget, Per: time.Hour}})
	check(err)
	s.guard, err = registry.NewGuard(registry.GuardOptions{Agency: "synthetic-agency", Rules: registry.Rules{Policies: policies, Budgets: budgets},
		Journal: s.journal, Ledger: &s.ledger})
	check(err)
	return s
}

// behind puts the real parts behind a gateway.
func (s *spine) behind(g *Gateway) {
	g.o.Guard, g.o.Subjects, g.o.Facts = s.guard, s.vault, s.journal
}

// TestJournalBeforeReveal is the way of a request with real neighbours: a look
// is in the journal, promised and verifiable, when its answer arrives; a look
// that cannot be there has no answer.
func TestJournalBeforeReveal(t *testing.T) {
	upstream := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if r.URL.Path == "/search" {
			fmt.Fprintf(w, "<td>secret of %s</td><td>secret of %s</td>", first, second)
			return
		}
		fmt.Fprint(w, "secret of ", r.URL.Path)
	})
	site := siteOf(upstream, recordRoutes()...)
	site.WAF.Mode = "block"
	g, p := newGateway(t, nil, site)
	s := newSpine(t, 3)
	s.behind(g)
	p.officer()
	looks := func(c pasban.CNIC) []journal.Entry {
		entries, err := s.journal.BySubject(t.Context(), s.vault.SubjectID(c), 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		return entries
	}

	w := get(g, "GET", "/records/"+first)
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "secret") {
		t.Fatalf("answered %d: %s", w.Code, w.Body)
	}
	seen := looks(first)
	if len(seen) != 1 || seen[0].Fact.Body.Case != "SYN/2026/1" || seen[0].Fact.Body.Who.Role != pasban.RoleOfficer || seen[0].Fact.Restricted.Path != "/records/"+first {
		t.Fatalf("in the journal: %+v", seen)
	}
	promise, err := pasban.ParsePromise(s.verifier.Name(), w.Header().Get(pasban.PromiseHeader))
	if err != nil || promise.Verify(s.verifier) != nil || promise.Index != uint64(seen[0].Index) {
		t.Errorf("the promise %q: %v", w.Header().Get(pasban.PromiseHeader), err)
	}
	w = get(g, "GET", "/search?q=x")
	if w.Code != http.StatusOK || len(looks(first)) != 2 || len(looks(second)) != 1 || len(w.Header().Values(pasban.PromiseHeader)) != 2 {
		t.Errorf("search: %d, %d and %d looks, promises %v", w.Code, len(looks(first)), len(looks(second)), w.Header().Values(pasban.PromiseHeader))
	}
	// The budget of three different citizens.
	if w := get(g, "GET", "/records/35202-1234567-3"); w.Code != http.StatusOK {
		t.Errorf("the third citizen: %d", w.Code)
	}
	w = get(g, "GET", "/records/35202-1234567-4")
	refused, err := s.journal.ByID(t.Context(), w.Header().Get(IncidentHeader))
	if w.Code != http.StatusForbidden || err != nil || refused.Fact.Body.Kind != pasban.KindDecision || refused.Fact.Body.Outcome != pasban.Denied {
		t.Errorf("the fourth: %d, %+v, %v", w.Code, refused.Fact.Body, err)
	}
	// An attack on a guarded page: the firewall's verdict is a fact.
	w = get(g, "GET", "/search?q=%27%20UNION%20SELECT%20cnic%20FROM%20owners--")
	blocked, err := s.journal.ByID(t.Context(), w.Header().Get(IncidentHeader))
	if w.Code != http.StatusForbidden || err != nil || blocked.Fact.Body.Kind != pasban.KindBlock || !slices.Contains(blocked.Fact.Restricted.Rules, "942100") {
		t.Errorf("an attack: %d, %+v, %v", w.Code, blocked.Fact, err)
	}
	log, err := os.ReadFile(filepath.Join(g.o.Config.Data, "log", "waf.log"))
	if err != nil || !strings.Contains(string(log), `[unique_id "`+blocked.Fact.Body.ID+`"]`) {
		t.Errorf("the incident is not in waf.log: %v", err)
	}

	behind := error(errors.New("four seconds behind"))
	s.ledger.err.Store(&behind)
	for _, target := range []string{"/records/" + first, "/search"} {
		if w := get(g, "GET", target); w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s with the ledger behind: %d %s", target, w.Code, w.Body)
		}
	}
	s.ledger.err.Store(nil)
	s.store.Close()
	for _, target := range []string{"/records/" + first, "/search"} {
		if w := get(g, "GET", target); w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s without a store: %d %s", target, w.Code, w.Body)
		}
	}
	if w := get(g, "GET", "/open"); w.Code != http.StatusOK {
		t.Errorf("an open page without a store: %d", w.Code)
	}
}
