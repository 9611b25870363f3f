package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/store"
)

// guard stands between the log's driver and the ledger's key. The driver reads
// its own tiles back when it grows the tree: whoever edits one would get the
// resulting, wrong root signed. So the guard computes the root itself, from
// the journal's leaves alone, and signs that or nothing. Before it signs it
// writes down, durably and apart from the storage, what it is about to sign.
type guard struct {
	key       note.Signer
	st        *store.Store
	seenThere func() int64 // size of a checkpoint that the storage is known to have held; no I/O
	storeTime time.Duration
	news      chan struct{} // told of every signature; may be nil

	// signing is held from before a root is written down until it is signed, and
	// while the storage's checkpoint is replaced: one at a time changes what was
	// signed. It comes before mu, which nobody holds while the store is waited for.
	signing sync.Mutex

	mu      sync.Mutex // covers what follows
	signed  seen       // what was signed last
	known   bool       // something was signed or written down before
	ready   bool       // the storage was checked: growth may be signed
	closed  bool
	pending []tlog.Hash // leaves after signed.n, in order
	refused error       // why a root was not signed; nil again once one is
	wrong   func()      // told when a root is not the journal's
}

var _ note.Signer = (*guard)(nil)

var errNotReady = errors.New("the ledger's storage has not been checked yet")

// Name is the ledger's origin line.
func (g *guard) Name() string { return g.key.Name() }

// KeyHash is the id of the ledger's key.
func (g *guard) KeyHash() uint32 { return g.key.KeyHash() }

// Sign signs a checkpoint whose root is the one of the journal's leaves.
func (g *guard) Sign(msg []byte) ([]byte, error) {
	g.signing.Lock()
	defer g.signing.Unlock()
	sig, err := g.sign(msg)
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil && !errors.Is(err, errNotReady) {
		g.refused = err
	} else if err == nil {
		g.refused = nil
		select {
		case g.news <- struct{}{}:
		default:
		}
	}
	return sig, err
}

// sign signs what may be signed, once that is written down. signing is held, so
// neither what was signed nor the leaves up to here change meanwhile.
func (g *guard) sign(msg []byte) ([]byte, error) {
	tree, err := g.parse(msg)
	if err != nil {
		return nil, err
	}
	record, save, err := g.grow(tree)
	if err != nil {
		return nil, err
	}
	if save {
		ctx, cancel := context.WithTimeout(context.Background(), g.storeTime)
		defer cancel()
		if err := saveSeen(ctx, g.st, record); err != nil {
			return nil, fmt.Errorf("write down what is about to be signed: %w", err)
		}
	}
	g.mu.Lock()
	grown := record.n - g.signed.n
	g.signed, g.known = record, true
	g.pending = append([]tlog.Hash(nil), g.pending[grown:]...)
	g.mu.Unlock()
	return g.key.Sign(msg)
}

// grow returns the record of a tree that may be signed, and whether it must be
// written down first; or why it may not be signed.
func (g *guard) grow(tree tlog.Tree) (record seen, save bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	grown := tree.N - g.signed.n
	switch {
	case g.closed:
		return seen{}, false, errNotReady
	case !g.ready && (g.known || tree.N != 0):
		return seen{}, false, errNotReady
	case grown < 0:
		return seen{}, false, fmt.Errorf("refused to sign a checkpoint of %d leaves after one of %d", tree.N, g.signed.n)
	case grown > int64(len(g.pending)):
		return seen{}, false, fmt.Errorf("refused to sign a checkpoint of %d leaves: the journal has given %d", tree.N, g.signed.n+int64(len(g.pending)))
	}
	next := g.signed.clone()
	for _, h := range g.pending[:grown] {
		next.add(h)
	}
	if next.tree() != tree {
		if g.wrong != nil {
			g.wrong()
		}
		return seen{}, false, fmt.Errorf("refused to sign a checkpoint of %d leaves: its root is not the one of the journal's leaves", tree.N)
	}
	return seen{frontier: next, published: max(g.signed.published, min(g.seenThere(), g.signed.n))}, !g.known || grown > 0, nil
}

// parse reads the text of a checkpoint, and of nothing else: the key must not
// sign what it was not made for.
func (g *guard) parse(msg []byte) (tlog.Tree, error) {
	line := strings.Split(string(msg), "\n")
	var n int64
	if len(line) == 4 && line[0] == g.Name() && line[3] == "" {
		if root, err := tlog.ParseHash(line[2]); err == nil {
			if _, err := fmt.Sscanf(line[1], "%d", &n); err == nil && fmt.Sprint(n) == line[1] && n >= 0 {
				return tlog.Tree{N: n, Hash: root}, nil
			}
		}
	}
	return tlog.Tree{}, errors.New("refused to sign what is not a checkpoint of this ledger")
}

// note takes down leaves that are about to be given to the driver.
func (g *guard) note(hashes []tlog.Hash) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pending = append(g.pending, hashes...)
}

// rewind forgets noted leaves from index n on, which the driver did not take, and
// returns the index that follows the last one kept: what was signed meanwhile is.
func (g *guard) rewind(n int64) (int64, error) {
	g.signing.Lock()
	defer g.signing.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	n = max(n, g.signed.n)
	keep := n - g.signed.n
	if keep > int64(len(g.pending)) {
		return n, &pasban.Error{Kind: pasban.Unavailable, Where: "ledger", Msg: fmt.Sprintf("the storage holds %d leaves, between %d and %d were expected", n, g.signed.n, g.signed.n+int64(len(g.pending)))}
	}
	g.pending = g.pending[:keep]
	return n, nil
}

// state returns what was signed last and why the last signature was refused.
func (g *guard) state() (seen, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.signed, g.refused
}

// at returns the tree of the first n leaves, which are signed or noted.
func (g *guard) at(n int64) (tlog.Tree, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n < g.signed.n || n > g.signed.n+int64(len(g.pending)) {
		return tlog.Tree{}, false
	}
	f := g.signed.clone()
	for _, h := range g.pending[:n-g.signed.n] {
		f.add(h)
	}
	return f.tree(), true
}

func (g *guard) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ready = true
}

// close has nothing signed from its return on.
func (g *guard) close() {
	g.signing.Lock()
	defer g.signing.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}
