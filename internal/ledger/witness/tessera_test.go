package witness

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"

	"pasban"
)

// TestTessera lets another implementation of the protocol, Tessera's client,
// have its log witnessed here: it publishes nothing without our cosignature.
func TestTessera(t *testing.T) {
	skey, lvkey, err := note.GenerateKey(rand.Reader, "land.example/ledger")
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(lvkey)
	if err != nil {
		t.Fatal(err)
	}
	dir, vkey := initDir(t)
	w := open(t, dir, v)
	srv := httptest.NewServer(w.Handler())
	defer srv.Close()
	at, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := tessera.NewWitness(vkey, at)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := pasban.NewWitnessPolicy(1, []string{vkey})
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	driver, err := posix.New(ctx, posix.Config{Path: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	appender, shutdown, reader, err := tessera.NewAppender(ctx, driver, tessera.NewAppendOptions().
		WithCheckpointSigner(s).
		WithCheckpointInterval(100*time.Millisecond).
		WithBatching(1, 10*time.Millisecond).
		WithWitnesses(tessera.NewWitnessGroup(1, peer), nil))
	if err != nil {
		t.Fatal(err)
	}
	await := tessera.NewPublicationAwaiter(ctx, reader.ReadCheckpoint, 10*time.Millisecond)
	for i := range 5 {
		_, signed, err := await.Await(ctx, appender.Add(ctx, tessera.NewEntry(fmt.Append(nil, "leaf ", i))))
		if err != nil {
			t.Fatal(err)
		}
		cp, held, err := pasban.OpenCosigned(signed, v, policy)
		if err != nil || len(held) != 1 || cp.N <= int64(i) {
			t.Fatalf("size %d, %d cosignatures: %v", cp.N, len(held), err)
		}
	}
	if err := shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if size := w.Status().Logs[0].Size; size != 5 {
		t.Errorf("the witness saw %d leaves", size)
	}
}
