// Package follow keeps an eye on a ledger from outside, as an agency, a newspaper
// or a citizen does who believes nothing but its key.
//
// # Types
//
// A [Follower] takes [Follower.Step] after step: each reads the newest
// checkpoint, holds it against the one seen before, rehashes what came since, and
// looks for the labels of those whose watch keys it has. [Follower.Mirror] keeps
// a copy that any static file server can serve. [Follower.Prove] shows that a
// promise was kept.
//
// # Guarantees
//
//   - What a step reports is proven from the signed checkpoint; a ledger that
//     went back, was forked or hides a leaf is a [Finding], never passed over.
//   - Where it could not be told, there is an error and what was seen before
//     stands: an outage is not taken for a fraud, nor a fraud for an outage.
//   - Nobody learns from what is asked who is watched: labels are looked for here.
//
// # What it must never do
//
// It believes no file that the checkpoint does not commit to, and forgets no
// checkpoint that it has accepted.
package follow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strconv"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/ledger/tiles"
)

// StateSchema names the version of a state's JSON form.
const StateSchema = "pasban.ledger-state.v1"

// State is what was seen of a ledger. Whoever keeps it finds a ledger out that
// shows another past later.
type State struct {
	Schema     string `json:"schema"`
	Checkpoint string `json:"checkpoint,omitempty"` // signed; "" before the first
	Epoch      int64  `json:"epoch,omitempty"`      // the last whose labels were looked through
}

// Follower follows one ledger. It is for one goroutine.
type Follower struct {
	Source   tiles.Source
	Verifier note.Verifier         // the ledger's key
	Policy   *pasban.WitnessPolicy // whose cosignatures are needed; nil: none
	// Site is where epochs and labels are fetched; nil if the ledger is a directory.
	Site *tiles.Site
	Keys []pasban.WatchKey
	// State is the last that was accepted; the caller keeps it between runs.
	State State
}

// Finding is something that a sound ledger does not do.
type Finding struct {
	Check string `json:"check"` // signature, witnesses, consistency, leaves or labels
	Msg   string `json:"message"`
}

// Report is what a step saw.
type Report struct {
	Time     time.Time             `json:"time"`
	Size     int64                 `json:"size"`               // leaves
	New      int64                 `json:"new"`                // of them since the step before
	Kinds    map[pasban.Kind]int64 `json:"kinds,omitempty"`    // of the new ones; "" is a kind not known here
	Epoch    int64                 `json:"epoch,omitempty"`    // the last whose labels were looked through
	Mine     []int64               `json:"mine,omitempty"`     // epochs in which a watched list grew
	Findings []Finding             `json:"findings,omitempty"` // what is wrong; State has not moved then
}

// first bounds what the first step reads: a follower who comes late believes the
// checkpoint for what is older, until it audits.
const first = 1 << 16

// Step looks at the ledger once. On an error, and with findings, State is as it
// was; otherwise it is what was seen now.
func (f *Follower) Step(ctx context.Context) (Report, error) {
	r := Report{Time: time.Now().UTC()}
	cp, raw, check, err := f.newest(ctx)
	r.Size = cp.N
	if err != nil {
		return r.judge(check, err)
	}
	var old tlog.Tree
	if f.State.Checkpoint != "" {
		seen, err := pasban.OpenCheckpoint([]byte(f.State.Checkpoint), f.Verifier)
		if err != nil {
			return r, &pasban.Error{Kind: pasban.Invalid, Msg: "what was seen before is of another ledger", Err: err}
		}
		old = seen.Tree
		if err := tiles.Extends(ctx, f.Source, old, cp.Tree); err != nil {
			return r.judge("consistency", err)
		}
	} else if cp.N > first {
		old.N = cp.N - first
	}
	if err := f.leaves(ctx, &r, old.N, cp.Tree); err != nil {
		return r.judge("leaves", err)
	}
	if err := f.labels(ctx, &r); err != nil {
		return r.judge("labels", err)
	}
	f.State = State{Schema: StateSchema, Checkpoint: string(raw), Epoch: r.Epoch}
	return r, nil
}

// newest reads the newest checkpoint. If it lacks a signature that it must bear,
// the error is a tiles.Problem and check says of whom.
func (f *Follower) newest(ctx context.Context) (cp pasban.Checkpoint, raw []byte, check string, err error) {
	raw, err = f.Source.ReadFile(ctx, tiles.Checkpoint)
	if err != nil {
		return cp, nil, "", fmt.Errorf("read the checkpoint: %w", err)
	}
	if cp, err = pasban.OpenCheckpoint(raw, f.Verifier); err != nil {
		return cp, nil, "signature", tiles.Problem(err.Error())
	}
	if f.Policy != nil {
		if _, _, err := pasban.OpenCosigned(raw, f.Verifier, f.Policy); err != nil {
			return cp, nil, "witnesses", tiles.Problem(err.Error())
		}
	}
	return cp, raw, "", nil
}

// judge tells a ledger that is wrong from one that could not be read.
func (r Report) judge(check string, err error) (Report, error) {
	if _, ok := errors.AsType[tiles.Problem](err); ok || pasban.KindOf(err) == pasban.Invalid {
		r.Findings = append(r.Findings, Finding{Check: check, Msg: err.Error()})
		return r, nil
	}
	return r, err
}

// leaves reads the leaves from an index on and holds each against the tree.
func (f *Follower) leaves(ctx context.Context, r *Report, from int64, tree tlog.Tree) error {
	r.New, r.Kinds = tree.N-from, map[pasban.Kind]int64{}
	hashes := tiles.HashReader(ctx, f.Source, tree)
	for at := from; at < tree.N; {
		bundle := at / tiles.Width
		end := min(tree.N, (bundle+1)*tiles.Width)
		t := tlog.Tile{H: tiles.Height, L: tiles.Entries, N: bundle, W: int(end - bundle*tiles.Width)}
		leaves, err := tiles.ReadBundle(ctx, f.Source, t)
		if err != nil {
			return fmt.Errorf("%s: %w", tiles.Path(t), err)
		}
		indexes := make([]int64, 0, tiles.Width)
		for i := at; i < end; i++ {
			indexes = append(indexes, tlog.StoredHashIndex(0, i))
		}
		want, err := hashes.ReadHashes(indexes)
		if err != nil {
			return err
		}
		for i := at; i < end; i++ {
			leaf := leaves[i-bundle*tiles.Width]
			if tlog.RecordHash(leaf) != want[i-at] {
				return fmt.Errorf("%s: %w", tiles.Path(t), tiles.Problem(fmt.Sprintf("leaf %d is not the one that the checkpoint commits to", i)))
			}
			kind := pasban.Kind("")
			if len(leaf) == pasban.LeafSize {
				kind = pasban.Leaf(leaf).Kind()
			}
			r.Kinds[kind]++
		}
		at = end
	}
	return nil
}

// mostEpochs is how many epochs one step looks through.
const mostEpochs = 2000

// labels looks through the epochs since the last step for those in which a
// watched list grew.
func (f *Follower) labels(ctx context.Context, r *Report) error {
	r.Epoch = f.State.Epoch
	if len(f.Keys) == 0 || f.Site == nil {
		return nil
	}
	newest, err := f.epoch(ctx, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it has none yet
	}
	if err != nil {
		return err
	}
	last := newest.Heads.Epoch
	if r.Epoch == 0 { // there is nothing to look back for
		r.Epoch = last - 1
	}
	for n, end := r.Epoch+1, min(last, r.Epoch+mostEpochs); n <= end; n++ {
		body := newest
		if n < last {
			if body, err = f.epoch(ctx, n); err != nil {
				return err
			}
		}
		if body.Heads.Epoch != n {
			return tiles.Problem(fmt.Sprintf("asked for epoch %d, the ledger answers with epoch %d", n, body.Heads.Epoch))
		}
		labels, err := f.Site.Get(ctx, "watch/"+strconv.FormatInt(n, 10), nil)
		if err != nil {
			return fmt.Errorf("read the labels of epoch %d: %w", n, err)
		}
		for _, k := range f.Keys {
			if at, err := time.Parse(pasban.TimeFormat, body.Time); err == nil && at.UTC().Year() != k.Year {
				continue // another key's
			}
			grew, err := k.Grew(body, labels)
			if err != nil {
				return err
			}
			if grew {
				r.Mine = append(r.Mine, n)
				break
			}
		}
		r.Epoch = n
	}
	return nil
}

// epoch reads and verifies the body of an epoch, the newest for 0.
func (f *Follower) epoch(ctx context.Context, number int64) (pasban.Body, error) {
	query := url.Values{}
	if number > 0 {
		query.Set("epoch", strconv.FormatInt(number, 10))
	}
	data, err := f.Site.Get(ctx, "heads", query)
	if err != nil {
		return pasban.Body{}, fmt.Errorf("read an epoch: %w", err)
	}
	rc, err := pasban.ParseReceipt(data)
	if err != nil {
		return pasban.Body{}, err
	}
	body, err := rc.Verify(f.Verifier)
	if err == nil && body.Kind != pasban.KindHeads {
		err = &pasban.Error{Kind: pasban.Invalid, Msg: "what the ledger gives for an epoch is of kind " + string(body.Kind)}
	}
	return body, err
}

// ParseState reads a state's JSON form.
func ParseState(data []byte) (State, error) {
	var s State
	if err := json.Unmarshal(data, &s); err != nil || s.Schema != StateSchema {
		return State{}, &pasban.Error{Kind: pasban.Invalid, Msg: "not what was kept of a ledger", Hint: "give the file that an earlier run wrote", Err: err}
	}
	return s, nil
}

// ParseKey reads a watch key's JSON form.
func ParseKey(data []byte) (pasban.WatchKey, error) {
	var k pasban.WatchKey
	if err := json.Unmarshal(data, &k); err != nil || k.Schema != pasban.WatchSchema || len(k.Key) != 32 {
		return pasban.WatchKey{}, &pasban.Error{Kind: pasban.Invalid, Msg: "not a watch key", Hint: "download it from the page \"Who looked at my data\"", Err: err}
	}
	return k, nil
}
