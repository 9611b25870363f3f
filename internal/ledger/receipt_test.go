package ledger

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/sumdb/note"

	"pasban"
	"pasban/internal/journal"
)

// slowFiles are a ledger's files on a storage that answers when it is let.
type slowFiles struct {
	files map[string][]byte
	asked chan string
	goOn  chan struct{}
}

func (s slowFiles) ReadFile(ctx context.Context, name string) ([]byte, error) {
	s.asked <- name
	select {
	case <-s.goOn:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if data, ok := s.files[name]; ok {
		return data, nil
	}
	return nil, fs.ErrNotExist
}

// signedEntries are three entries under a checkpoint, and a prover of them that
// reads from src, which has their tile then.
func signedEntries(t *testing.T, src slowFiles) (*prover, checkpoint, []journal.Entry) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, "land.example/ledger")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	var f frontier
	var tile []byte
	var entries []journal.Entry
	for i := range int64(3) {
		sealed, err := pasban.NewFact(pasban.KindAdmin, "land-records", pasban.Actor{Kind: pasban.ActorSystem}, time.Now()).Seal()
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := sealed.Opening.Leaf()
		if err != nil {
			t.Fatal(err)
		}
		h := leaf.Hash()
		f.add(h)
		tile = append(tile, h[:]...)
		entries = append(entries, journal.Entry{Index: i, Opening: sealed.Opening})
	}
	raw, err := note.Sign(&note.Note{Text: fmt.Sprintf("land.example/ledger\n%d\n%s\n", f.n, f.tree().Hash)}, signer)
	if err != nil {
		t.Fatal(err)
	}
	src.files["tile/0/000.p/3"] = tile
	p := newProver(src, verifier)
	p.turns = make(chan struct{}, 1)
	return p, checkpoint{pasban.Checkpoint{Origin: "land.example/ledger", Tree: f.tree()}, raw, time.Now()}, entries
}

// Who waits for the storage has no turn, what several wait for is read once, and
// what was read is kept.
func TestReceiptsTakeTurns(t *testing.T) {
	src := slowFiles{map[string][]byte{}, make(chan string), make(chan struct{})}
	p, cp, entries := signedEntries(t, src)
	var wg sync.WaitGroup
	for _, e := range entries[:2] {
		wg.Go(func() {
			if _, err := p.prove(t.Context(), cp, e); err != nil {
				t.Error(err)
			}
		})
	}
	<-src.asked // nobody else asks, or this would hang
	if _, err := p.prove(t.Context(), cp, journal.Entry{Index: cp.N, Opening: entries[0].Opening}); pasban.KindOf(err) != pasban.Unavailable {
		t.Errorf("a leaf that is not there yet: %v", err)
	}
	close(src.goOn)
	wg.Wait()
	if _, err := p.prove(t.Context(), cp, entries[2]); err != nil {
		t.Error(err)
	}
	gone, stop := context.WithCancel(t.Context())
	stop()
	p.turns <- struct{}{}
	if _, err := p.prove(gone, cp, entries[0]); !errors.Is(err, context.Canceled) {
		t.Errorf("who has gone is given a receipt, or another reason: %v", err)
	}
}

// Who goes away takes nothing from those who wait for the same, nor what is kept.
func TestReceiptAfterTheFirstHasGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := slowFiles{map[string][]byte{}, make(chan string, 9), make(chan struct{})}
		p, cp, entries := signedEntries(t, src)
		p.kept["tile/1/000.p/1"] = []byte("kept")
		ctx, leave := context.WithCancel(t.Context())
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { _, err := p.prove(ctx, cp, entries[0]); first <- err }()
		synctest.Wait()
		go func() { _, err := p.prove(t.Context(), cp, entries[1]); second <- err }()
		synctest.Wait()
		leave()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("the first has gone: %v", err)
		}
		close(src.goOn)
		if err := <-second; err != nil {
			t.Error(err)
		}
		if len(src.asked) != 1 || len(p.kept) != 2 {
			t.Errorf("%d reads, %d tiles kept", len(src.asked), len(p.kept))
		}
	})
}

// Whoever missed a tile while another's read of it ended has what was read: the
// storage is asked once, whenever they come.
func TestReceiptsReadOnce(t *testing.T) {
	for range 200 {
		src := slowFiles{map[string][]byte{}, make(chan string, 99), make(chan struct{})}
		close(src.goOn)
		p, cp, entries := signedEntries(t, src)
		p.turns = make(chan struct{}, 4)
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Go(func() {
				if _, err := p.prove(t.Context(), cp, entries[i%3]); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(src.asked) != 1 {
			t.Fatalf("the tile was read %d times", len(src.asked))
		}
	}
}
