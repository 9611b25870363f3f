package follow

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/ledger/tiles"
)

// ProofSchema names the version of a proof's JSON form.
const ProofSchema = "pasban.inclusion.v1"

// Delay is within what time a promise is to be kept.
const Delay = time.Minute

// Inclusion proves that a promised leaf is in the ledger, without anybody's
// data: what was looked at stays with those who may know.
type Inclusion struct {
	Schema     string      `json:"schema"`
	Origin     string      `json:"origin"`
	Index      uint64      `json:"index"`
	Leaf       tlog.Hash   `json:"leaf"`     // Merkle leaf hash
	Promised   time.Time   `json:"promised"` // when the ledger's key gave its word
	Proof      []tlog.Hash `json:"proof"`    // RFC 6962, section 2.1.1
	Checkpoint string      `json:"checkpoint"`
}

// Prove shows that a promise was kept. header is the value of a Pasban-Promise
// header. A promise that the key did not give is of kind Invalid; one that is too
// young is of kind Unavailable. One that should be kept by now and is not is a
// tiles.Problem: with the promise, that is evidence.
func (f *Follower) Prove(ctx context.Context, header string) (Inclusion, error) {
	p, err := pasban.ParsePromise(f.Verifier.Name(), header)
	if err == nil {
		err = p.Verify(f.Verifier)
	}
	if err != nil {
		return Inclusion{}, err
	}
	cp, raw, _, err := f.newest(ctx)
	if err != nil {
		return Inclusion{}, err
	}
	index := int64(p.Index)
	if index >= cp.N {
		if age := time.Since(p.Time()); age < Delay {
			return Inclusion{}, &pasban.Error{Kind: pasban.Unavailable, Msg: fmt.Sprintf("leaf %d is not under a checkpoint yet, promised %s ago", index, age.Round(time.Second)), Hint: "try again in some seconds"}
		}
		return Inclusion{}, tiles.Problem(fmt.Sprintf("leaf %d was promised at %s, and the ledger ends with %s: the promise was not kept", index, p.Time().Format(time.RFC3339), tiles.Leaves(cp.N)))
	}
	hashes := tiles.HashReader(ctx, f.Source, cp.Tree)
	have, err := hashes.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
	if err != nil {
		return Inclusion{}, err
	}
	if have[0] != p.Leaf {
		return Inclusion{}, tiles.Problem(fmt.Sprintf("leaf %d of the ledger is another one than was promised at %s: the promise was broken", index, p.Time().Format(time.RFC3339)))
	}
	proof, err := tlog.ProveRecord(cp.N, index, hashes)
	if err != nil {
		return Inclusion{}, err
	}
	return Inclusion{Schema: ProofSchema, Origin: cp.Origin, Index: p.Index, Leaf: p.Leaf, Promised: p.Time(), Proof: proof, Checkpoint: string(raw)}, nil
}
