package ledger

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"testing"
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

func (s slowFiles) ReadFile(_ context.Context, name string) ([]byte, error) {
	s.asked <- name
	<-s.goOn
	if data, ok := s.files[name]; ok {
		return data, nil
	}
	return nil, fs.ErrNotExist
}

// Who waits for the storage has no turn, what several wait for is read once, and
// what was read is kept.
func TestReceiptsTakeTurns(t *testing.T) {
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
	cp := checkpoint{pasban.Checkpoint{Origin: "land.example/ledger", Tree: f.tree()}, raw, time.Now()}
	src := slowFiles{map[string][]byte{"tile/0/000.p/3": tile}, make(chan string), make(chan struct{})}
	p := newProver(src, verifier)
	p.turns = make(chan struct{}, 1)

	var wg sync.WaitGroup
	for _, e := range entries[:2] {
		wg.Go(func() {
			if _, err := p.prove(t.Context(), cp, e); err != nil {
				t.Error(err)
			}
		})
	}
	<-src.asked // nobody else asks, or this would hang
	if _, err := p.prove(t.Context(), cp, journal.Entry{Index: f.n, Opening: entries[0].Opening}); pasban.KindOf(err) != pasban.Unavailable {
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
