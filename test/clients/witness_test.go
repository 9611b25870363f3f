package clients_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net"
	nethttp "net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/torchwood"
	cosig "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/witness/client/http"
	"github.com/transparency-dev/witness/config"
	"github.com/transparency-dev/witness/omniwitness"
	"github.com/transparency-dev/witness/persistence/inmemory"
	"github.com/transparency-dev/witness/witness"
	"golang.org/x/mod/sumdb/note"
)

// feed asks a witness to cosign the ledger's newest checkpoint after one of old
// leaves, with what another project's tools make of the ledger's public files,
// and returns the checkpoint with the cosignature and its size.
func (a *agency) feed(t *testing.T, w http.Witness, old uint64) (cosigned []byte, size uint64, err error) {
	t.Helper()
	ctx := t.Context()
	f := must(client.NewHTTPFetcher(a.ledger, a.client))
	cp, raw, _, err := client.FetchCheckpoint(ctx, f.ReadCheckpoint, a.verifier, a.verifier.Name())
	if err != nil {
		t.Fatal(err)
	}
	var proof [][]byte
	if old > 0 {
		b := must(client.NewProofBuilder(ctx, cp.Size, f.ReadTile))
		proof = must(b.ConsistencyProof(ctx, old, cp.Size))
	}
	line, _, err := w.Update(ctx, old, raw, proof)
	return append(bytes.Clone(raw), line...), cp.Size, err
}

// witnessed walks a witness through the ledger as it grows, and through what
// it must refuse, and has everybody check what it has cosigned.
func (a *agency) witnessed(t *testing.T, at, vkey string) {
	w := http.NewWitness(must(url.Parse(at)), &nethttp.Client{})
	policy := a.policy(t, "witness w "+vkey, "quorum w")
	before := must(a.get("checkpoint"))
	if _, _, err := torchwood.VerifyCheckpoint(before, policy); err == nil {
		t.Fatal("a checkpoint that nobody cosigned satisfies the policy")
	}
	_, first, err := a.feed(t, w, 0)
	if err != nil {
		t.Fatal("the first checkpoint: ", err)
	}
	a.grow(t, before)
	cosigned, second, err := a.feed(t, w, first)
	if err != nil || second <= first {
		t.Fatalf("from %d to %d: %v", first, second, err)
	}
	if cp, _, err := torchwood.VerifyCheckpoint(cosigned, policy); err != nil || cp.N != int64(second) {
		t.Errorf("torchwood: %d leaves: %v", cp.N, err)
	}
	a.verify(t, cosigned, vkey)

	if _, _, err := w.Update(t.Context(), first, before, nil); !errors.Is(err, witness.ErrCheckpointStale) {
		t.Errorf("back to %d leaves: %v", first, err)
	}
	f := must(client.NewHTTPFetcher(a.ledger, a.client))
	now := must(f.ReadCheckpoint(t.Context()))
	if _, _, err := w.Update(t.Context(), second, a.grow(t, now), [][]byte{make([]byte, 32)}); !errors.Is(err, witness.ErrInvalidProof) {
		t.Errorf("a proof of nothing: %v", err)
	}
	other, key, err := note.GenerateKey(rand.Reader, "elsewhere.example/ledger")
	if err != nil {
		t.Fatal(err)
	}
	s := must(note.NewSigner(other))
	stranger := must(note.Sign(&note.Note{Text: s.Name() + strings.TrimPrefix(string(before[:bytes.Index(before, []byte("\n\n"))+1]), a.verifier.Name())}, s))
	if _, _, err := w.Update(t.Context(), 0, stranger, nil); !errors.Is(err, witness.ErrUnknownLog) {
		t.Errorf("the ledger of %s: %v", key, err)
	}
}

// verify has pasban-verify check the ledger under the cosigned checkpoint.
func (a *agency) verify(t *testing.T, cosigned []byte, vkey string) {
	t.Helper()
	srv := a.through(t, func(path string, data []byte) []byte {
		if path == "checkpoint" {
			return cosigned
		}
		return data
	})
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key  string
		want int
	}{{vkey, 0}, {otherWitness(t), 1}} {
		cmd := command(t, t.Context(), "pasban-verify", "checkpoint", "--key", a.vkey, "--witness", c.key, "--ca", ca, srv.URL+a.ledger.Path)
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != c.want {
			t.Errorf("pasban-verify --witness %s: exit status %d, want %d: %s", c.key, got, c.want, out)
		}
	}
}

func otherWitness(t *testing.T) string {
	_, vkey, err := note.GenerateKey(rand.Reader, "other.example/w")
	if err != nil {
		t.Fatal(err)
	}
	return must(cosig.VKeyToCosignatureV1(vkey))
}

// theirWitness runs transparency-dev's witness and has it cosign our ledger.
func theirWitness(t *testing.T, a *agency) {
	skey, vkey, err := note.GenerateKey(rand.Reader, "witness.example/theirs")
	if err != nil {
		t.Fatal(err)
	}
	logs := inmemory.New()
	if err := logs.AddLogs(t.Context(), []config.Log{{VKey: a.vkey, Verifier: a.verifier, Origin: a.verifier.Name()}}); err != nil {
		t.Fatal(err)
	}
	signer := must(cosig.NewSignerForCosignatureV1(skey))
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- omniwitness.Main(ctx, omniwitness.OperatorConfig{WitnessKeys: []note.Signer{signer}, Logs: logs}, logs, l, &nethttp.Client{})
	}()
	defer func() { stop(); <-ended }()
	a.witnessed(t, "http://"+l.Addr().String(), must(cosig.VKeyToCosignatureV1(vkey)))
}

// ourWitness runs `pasban witness` and has transparency-dev's client feed it.
func ourWitness(t *testing.T, a *agency) {
	dir := filepath.Join(t.TempDir(), "w")
	vkey, err := command(t, t.Context(), "pasban", "witness", "--init", "--name", "witness.example/ours", "--dir", dir).Output()
	if err != nil {
		t.Fatalf("%v: %s", err, err.(*exec.ExitError).Stderr)
	}
	var ready struct{ Listen string }
	line := start(t, "pasban", "witness", "--json", "--dir", dir, "--plain", "--listen", "127.0.0.1:0", "--log", a.vkey)
	if err := json.Unmarshal(line, &ready); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	a.witnessed(t, "http://"+ready.Listen, strings.TrimSpace(string(vkey)))
}
