package ledger

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/note"

	"pasban"
	"pasban/internal/ledger/witness"
	"pasban/internal/store"
)

// cosigned is a checkpoint and what of the witnesses' cosignatures came so far.
type cosigned struct {
	checkpoint          // raw bears the ledger's own signature alone
	lines      [][]byte // by witness; nil where there is none
	final      time.Time
}

// newCosigned takes a checkpoint apart: whatever else is appended to it than the
// ledger's signature and the witnesses' lines that hold is dropped.
func newCosigned(cp checkpoint, v note.Verifier, of []*witness.Client) (cosigned, error) {
	n, err := note.Open(cp.raw, note.VerifierList(v))
	if err != nil {
		return cosigned{}, err
	}
	plain, err := note.Sign(&note.Note{Text: n.Text, Sigs: n.Sigs})
	if err != nil {
		return cosigned{}, err
	}
	_, sigs, _ := bytes.Cut(cp.raw, []byte("\n\n"))
	c := cosigned{checkpoint: checkpoint{cp.Checkpoint, plain, cp.at}, lines: make([][]byte, len(of))}
	for i, w := range of {
		if line, _, ok := w.Find(plain, sigs, v); ok {
			c.lines[i] = line
		}
	}
	return c, nil
}

// count is how many witnesses have cosigned it.
func (c *cosigned) count() (n int) {
	for _, l := range c.lines {
		if l != nil {
			n++
		}
	}
	return n
}

// whole is the checkpoint as it is published.
func (c *cosigned) whole() checkpoint {
	return checkpoint{c.Checkpoint, bytes.Join(append([][]byte{c.raw}, c.lines...), nil), c.at}
}

// FinalHeader says of a checkpoint or a receipt, in an answer over HTTP, whether
// enough witnesses have cosigned it: yes or no. Without witnesses it is not there.
const FinalHeader = "Pasban-Final"

// Final says whether enough witnesses have cosigned a checkpoint: yes or no, or ""
// if this ledger has no witnesses.
func (l *Ledger) Final(signed []byte) string {
	if l.cosigner == nil {
		return ""
	}
	if _, _, err := pasban.OpenCosigned(signed, l.verifier, l.cosigner.policy); err != nil {
		return "no"
	}
	return "yes"
}

// loadFinal reads the newest final checkpoint; ok is false if none is kept that
// would be final today: the policy may have changed.
func (c *cosigner) loadFinal(ctx context.Context) (f cosigned, ok bool, err error) {
	var raw []byte
	var size int64
	var at string
	err = c.l.st.QueryRow(ctx, `SELECT size, checkpoint, time FROM ledger_final WHERE id = 1`).Scan(&size, &raw, &at)
	if errors.Is(err, sql.ErrNoRows) {
		return cosigned{}, false, nil
	}
	if err != nil {
		return cosigned{}, false, unavailable("the ledger's final checkpoint cannot be read", err)
	}
	bad := func(err error) (cosigned, bool, error) {
		return cosigned{}, false, &pasban.Error{Kind: pasban.Unavailable, Where: "ledger_final", Msg: "the ledger's final checkpoint contradicts what was signed", Err: err,
			Hint: "it was changed behind Pasban's back: restore the store from a backup"}
	}
	cp, err := pasban.OpenCheckpoint(raw, c.l.verifier)
	if err != nil {
		return bad(err)
	}
	record, _ := c.l.guard.state()
	if cp.N != size || cp.N > record.n || cp.N == record.n && cp.Tree != record.tree() {
		return bad(nil)
	}
	when, err := time.Parse(time.RFC3339Nano, at)
	if err != nil {
		return bad(err)
	}
	f, err = newCosigned(checkpoint{cp, raw, when}, c.l.verifier, c.Of)
	if err != nil {
		return bad(err)
	}
	f.final = when
	return f, f.count() >= c.Need, nil
}

// keepFinal makes it durable that a checkpoint is final. It never goes back.
func (c *cosigner) keepFinal(ctx context.Context, f *cosigned) error {
	return c.l.st.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO ledger_final (id, size, checkpoint, time) VALUES (1, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET size = excluded.size, checkpoint = excluded.checkpoint, time = excluded.time
			WHERE ledger_final.size <= excluded.size`, f.N, f.whole().raw, f.final.UTC().Format(time.RFC3339Nano))
		return err
	})
}

// put writes a checkpoint with its cosignatures into the storage, unless
// something newer has been signed: the driver publishes that. It does not look
// as if it was published now, because the driver counts from that moment.
func (l *Ledger) put(ctx context.Context, cp checkpoint) error {
	locked := false
	defer func() {
		if locked {
			l.guard.signing.Unlock()
		}
	}()
	return l.storage.ReplaceCheckpoint(ctx, cp.raw, func() bool {
		l.guard.signing.Lock() // the driver signs before it publishes
		locked = true
		record, _ := l.guard.state()
		return record.n == cp.N
	})
}

// again signs the root that was signed last once more: Ed25519 gives the same bytes.
func (l *Ledger) again(record seen) (checkpoint, error) {
	tree := record.tree()
	raw, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", l.guard.Name(), tree.N, tree.Hash)}, l.guard.key)
	if err != nil {
		return checkpoint{}, unavailable("sign the checkpoint again", err)
	}
	cp, err := pasban.OpenCheckpoint(raw, l.verifier)
	return checkpoint{cp, raw, time.Now()}, err
}
