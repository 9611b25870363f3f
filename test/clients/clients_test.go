package clients_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"filippo.io/torchwood"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/client"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// TestClients plays one story and lets everybody at the ledger that it left.
func TestClients(t *testing.T) {
	a := newAgency(t)
	first := must(a.get("checkpoint"))
	cp, _, err := torchwood.VerifyCheckpoint(first, a.policy(t))
	if err != nil {
		t.Fatal(err)
	}
	if cp.N < 3*256 || cp.N%256 == 0 {
		t.Fatalf("a ledger of %d leaves has not both full and partial tiles", cp.N)
	}
	t.Run("x-mod-tlog", func(t *testing.T) { tlogClient(t, a, first) })
	t.Run("torchwood", func(t *testing.T) { torchwoodClient(t, a, first) })
	t.Run("tessera", func(t *testing.T) { tesseraClient(t, a, first) })
	t.Run("their-witness", func(t *testing.T) { theirWitness(t, a) })
	t.Run("our-witness", func(t *testing.T) { ourWitness(t, a) })
}

// openTlog reads a checkpoint with x/mod alone, as C2SP tlog-checkpoint says.
func openTlog(t *testing.T, signed []byte, v note.Verifier) tlog.Tree {
	t.Helper()
	n := must(note.Open(signed, note.VerifierList(v)))
	lines := strings.Split(n.Text, "\n")
	if lines[0] != v.Name() {
		t.Fatalf("origin %q", lines[0])
	}
	return tlog.Tree{N: must(strconv.ParseInt(lines[1], 10, 64)), Hash: must(tlog.ParseHash(lines[2]))}
}

// tlogTiles has x/mod's tlog read tiles by C2SP's names, which are its own
// without the height.
type tlogTiles struct {
	get func(path string) ([]byte, error)
}

func (r tlogTiles) Height() int                     { return 8 }
func (r tlogTiles) SaveTiles([]tlog.Tile, [][]byte) {}
func (r tlogTiles) ReadTiles(tiles []tlog.Tile) (data [][]byte, err error) {
	for _, t := range tiles {
		b, err := r.get(strings.Replace(t.Path(), "tile/8/", "tile/", 1))
		if err != nil {
			return nil, err
		}
		data = append(data, b)
	}
	return data, nil
}

func tlogClient(t *testing.T, a *agency, first []byte) {
	old := openTlog(t, first, a.verifier)
	tree := openTlog(t, a.grow(t, first), a.verifier)
	hashes := tlog.TileHashReader(tree, tlogTiles{a.get})
	if root := must(tlog.TreeHash(tree.N, hashes)); root != tree.Hash {
		t.Errorf("root %v", root)
	}
	grown := must(tlog.ProveTree(tree.N, old.N, hashes))
	if err := tlog.CheckTree(grown, tree.N, tree.Hash, old.N, old.Hash); err != nil {
		t.Errorf("%d leaves are not the beginning of %d: %v", old.N, tree.N, err)
	}
	for _, i := range []int64{0, 255, 256, old.N - 1, old.N, tree.N - 1} {
		leaf := must(hashes.ReadHashes([]int64{tlog.StoredHashIndex(0, i)}))[0]
		p := must(tlog.ProveRecord(tree.N, i, hashes))
		if err := tlog.CheckRecord(p, tree.N, tree.Hash, i, leaf); err != nil {
			t.Errorf("leaf %d: %v", i, err)
		}
	}
	lying := tlogTiles{func(path string) ([]byte, error) {
		b, err := a.get(path)
		if err == nil && path == "tile/0/001" {
			b[7] ^= 4
		}
		return b, err
	}}
	if _, err := tlog.ProveRecord(tree.N, 300, tlog.TileHashReader(tree, lying)); err == nil {
		t.Error("a changed tile was believed")
	}
}

// policy is torchwood's for the ledger, without witnesses.
func (a *agency) policy(t *testing.T, lines ...string) torchwood.Policy {
	t.Helper()
	if lines == nil {
		lines = []string{"quorum none"}
	}
	return must(torchwood.ParsePolicy(fmt.Appendf(nil, "log %s\n%s\n", a.vkey, strings.Join(lines, "\n"))))
}

func torchwoodClient(t *testing.T, a *agency, first []byte) {
	policy := a.policy(t)
	cp, _, err := torchwood.VerifyCheckpoint(first, policy)
	if err != nil {
		t.Fatal(err)
	}
	from := func(at *url.URL, hc *http.Client) *torchwood.Client {
		fetch := must(torchwood.NewTileFetcher(at.String(), torchwood.WithHTTPClient(hc)))
		return must(torchwood.NewClient(fetch))
	}
	c := from(a.ledger, a.client)
	var read int64
	for i, leaf := range c.AllEntries(t.Context(), cp.Tree, 0) {
		if i != read || len(leaf) != 34 {
			t.Fatalf("leaf %d has %d bytes, after %d", i, len(leaf), read)
		}
		read++
	}
	if err := c.Err(); err != nil || read != cp.N {
		t.Fatalf("%d leaves of %d: %v", read, cp.N, err)
	}
	for _, i := range []int64{0, 255, 256, cp.N - 1} {
		leaf, p, err := c.Entry(t.Context(), cp.Tree, i)
		if err != nil {
			t.Fatal(err)
		}
		spicy := torchwood.FormatProof(i, p, first)
		if err := torchwood.VerifyProof(policy, tlog.RecordHash(leaf), spicy); err != nil {
			t.Errorf("leaf %d: %v", i, err)
		}
		if err := torchwood.VerifyProof(policy, tlog.RecordHash(append(leaf, 0)), spicy); err == nil {
			t.Errorf("another leaf was believed to be %d", i)
		}
	}
	for _, file := range []string{"tile/entries/001", "tile/0/001"} {
		liar := from(a.liar(t, file))
		for range liar.AllEntries(t.Context(), cp.Tree, 0) {
		}
		if liar.Err() == nil {
			t.Errorf("a changed %s was believed", file)
		}
	}
}

func tesseraClient(t *testing.T, a *agency, first []byte) {
	ctx := t.Context()
	f := must(client.NewHTTPFetcher(a.ledger, a.client))
	known := must(client.NewLogStateTracker(ctx, f.ReadTile, first, a.verifier, a.verifier.Name(), client.UnilateralConsensus(f.ReadCheckpoint)))
	a.grow(t, must(a.get("checkpoint")))
	if _, p, _, err := known.Update(ctx); err != nil || len(p) == 0 {
		t.Fatalf("the grown ledger, with %d hashes of proof: %v", len(p), err)
	}
	cp := known.Latest()
	prove := must(client.NewProofBuilder(ctx, cp.Size, f.ReadTile))
	var hashes [][]byte
	for at := uint64(0); at < cp.Size; {
		some := must(client.FetchLeafHashes(ctx, f.ReadTile, at, cp.Size-at, cp.Size))
		hashes, at = append(hashes, some...), at+uint64(len(some))
	}
	for _, i := range []uint64{0, 255, 256, cp.Size - 1} {
		p := must(prove.InclusionProof(ctx, i))
		if err := proof.VerifyInclusion(rfc6962.DefaultHasher, i, cp.Size, hashes[i], p, cp.Hash); err != nil {
			t.Errorf("leaf %d: %v", i, err)
		}
	}
	lying := must(client.NewHTTPFetcher(a.liar(t, "tile/0/002")))
	if b, err := client.NewProofBuilder(ctx, cp.Size, lying.ReadTile); err == nil {
		p, err := b.InclusionProof(ctx, 600)
		if err == nil && proof.VerifyInclusion(rfc6962.DefaultHasher, 600, cp.Size, hashes[600], p, cp.Hash) == nil {
			t.Error("a changed tile was believed")
		}
	}
}
