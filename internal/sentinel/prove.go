package sentinel

import (
	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/sentinel/rowtree"
)

// Proven is a proof without its receipt: the fact whose receipt it needs, and
// what leads from there to the row.
type Proven struct {
	Fact   string               `json:"fact"`
	Row    *rowtree.Proof       `json:"row,omitempty"`
	Change *rowtree.ChangeProof `json:"change,omitempty"`
}

// prove finds what proves the last authorised version of a row, or without a key
// what the last audit said of the whole table.
func (t *table) prove(key string) (*Proven, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.st == nil {
		return nil, &pasban.Error{Kind: pasban.Unavailable, Where: "guarded table " + t.g.Name, Msg: "the table is not guarded"}
	}
	if key == "" {
		if t.status.AuditFact == "" {
			return nil, &pasban.Error{Kind: pasban.NotFound, Msg: "no audit was made since the guard started", Hint: "pasban sentinel audit"}
		}
		return &Proven{Fact: t.status.AuditFact}, nil
	}
	line, v, err := t.st.authorised([]byte(key))
	if err != nil {
		return nil, err
	}
	if line == nil {
		return nil, &pasban.Error{Kind: pasban.NotFound, Msg: "no row with this key was ever authorised, or it was deleted"}
	}
	if v.batch == 0 {
		p, err := t.st.proveBase(line)
		return &Proven{Fact: t.rec.Anchor, Row: &p}, err
	}
	b, err := t.st.batchOf(v.batch)
	if err != nil {
		return nil, err
	}
	_, stored, err := b.root()
	if err != nil {
		return nil, err
	}
	proof, err := tlog.ProveRecord(int64(len(b.Changes)), int64(v.at), stored)
	if err != nil {
		return nil, err
	}
	return &Proven{Fact: b.Fact, Change: &rowtree.ChangeProof{Layout: t.st.Layout, Change: b.Changes[v.at].Change, Line: string(line),
		Index: int64(v.at), Size: int64(len(b.Changes)), Proof: proof}}, nil
}
