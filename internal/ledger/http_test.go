package ledger_test

import (
	"context"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/transparency-dev/tessera/client"
	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/ledger/tiles"
)

func get(t *testing.T, base, path string) (*http.Response, string) {
	t.Helper()
	res, err := http.Get(base + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func TestHandler(t *testing.T) {
	n := start(t, t.TempDir())
	n.record(t, 300)
	n.settle(t)
	srv := httptest.NewServer(n.Handler())
	defer srv.Close()
	const forever = "public, max-age=31536000, immutable"
	for path, cache := range map[string]string{
		"/ledger/checkpoint":             "no-cache",
		"/ledger/tile/0/000":             forever,
		"/ledger/tile/0/001.p/44":        forever,
		"/ledger/tile/1/000.p/1":         forever,
		"/ledger/tile/entries/000":       forever,
		"/ledger/tile/entries/001.p/44":  forever,
		"/ledger/tile/0/001":             "",
		"/ledger/tile/0/001.p/45":        "",
		"/ledger/tile/0/000/":            "",
		"/ledger/tile/0/":                "",
		"/ledger/tile/entries/%2e%2e":    "",
		"/ledger/tile/0/%30%30%30":       "",
		"/ledger/vkey":                   "",
		"/ledger/.state/treeState":       "",
		"/ledger/../../store.db":         "",
		"/ledger/tile/../.state/version": "",
		"/ledger/":                       "",
		"/checkpoint":                    "",
	} {
		res, body := get(t, srv.URL, path)
		if want := map[bool]int{true: 200, false: 404}[cache != ""]; res.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, res.StatusCode, want)
		}
		if got := res.Header.Get("Cache-Control"); got != cache {
			t.Errorf("%s: Cache-Control %q, want %q", path, got, cache)
		}
		if cache != "" && body == "" {
			t.Errorf("%s: empty", path)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE"} {
		req, err := http.NewRequest(method, srv.URL+"/ledger/checkpoint", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", method, res.StatusCode)
		}
	}
}

// Tessera's own client, which knows nothing of Pasban, reads the log as served.
func TestThirdPartyClient(t *testing.T) {
	n := start(t, t.TempDir())
	entries := n.record(t, 300)
	n.settle(t)
	srv := httptest.NewServer(n.Handler())
	defer srv.Close()
	base, err := url.Parse(srv.URL + "/ledger/")
	if err != nil {
		t.Fatal(err)
	}
	f, err := client.NewHTTPFetcher(base, srv.Client())
	if err != nil {
		t.Fatal(err)
	}
	first, raw, _, err := client.FetchCheckpoint(t.Context(), f.ReadCheckpoint, n.Verifier, origin)
	if err != nil || first.Size != 300 {
		t.Fatalf("%s: %v", raw, err)
	}
	proofs, err := client.NewProofBuilder(t.Context(), first.Size, f.ReadTile)
	if err != nil {
		t.Fatal(err)
	}
	p, err := proofs.InclusionProof(t.Context(), 299)
	if err != nil {
		t.Fatal(err)
	}
	var proof tlog.RecordProof
	for _, h := range p {
		proof = append(proof, tlog.Hash(h))
	}
	leaf, err := entries[299].Opening.Leaf()
	if err != nil {
		t.Fatal(err)
	}
	if err := tlog.CheckRecord(proof, int64(first.Size), tlog.Hash(first.Hash), 299, leaf.Hash()); err != nil {
		t.Error(err)
	}
	n.record(t, 500)
	n.settle(t)
	tracker, err := client.NewLogStateTracker(t.Context(), f.ReadTile, raw, n.Verifier, origin, client.UnilateralConsensus(f.ReadCheckpoint))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := tracker.Update(t.Context()); err != nil { // checks consistency
		t.Error(err)
	}
	if got := tracker.Latest().Size; got != 800 {
		t.Errorf("tracked to %d leaves, want 800", got)
	}
}

// served reads a ledger over HTTP with nothing but x/mod.
type served struct{ base string }

func (s served) ReadFile(_ context.Context, name string) ([]byte, error) {
	res, err := http.Get(s.base + "/ledger/" + name)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fs.ErrNotExist
	}
	return io.ReadAll(res.Body)
}

func TestTlogReadsIt(t *testing.T) {
	n := start(t, t.TempDir())
	n.record(t, 300)
	n.settle(t)
	srv := httptest.NewServer(n.Handler())
	defer srv.Close()
	_, raw := get(t, srv.URL, "/ledger/checkpoint")
	old, err := pasban.OpenCheckpoint([]byte(raw), n.Verifier)
	if err != nil {
		t.Fatal(err)
	}
	n.record(t, 300)
	n.settle(t)
	_, raw = get(t, srv.URL, "/ledger/checkpoint")
	now, err := pasban.OpenCheckpoint([]byte(raw), n.Verifier)
	if err != nil {
		t.Fatal(err)
	}
	p, err := tlog.ProveTree(now.N, old.N, tiles.HashReader(t.Context(), served{srv.URL}, now.Tree))
	if err != nil {
		t.Fatal(err)
	}
	if err := tlog.CheckTree(p, now.N, now.Hash, old.N, old.Hash); err != nil {
		t.Error(err)
	}
}
