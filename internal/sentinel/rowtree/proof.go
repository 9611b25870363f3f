package rowtree

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"pasban"
)

// ProofSchema names the version of a table proof's JSON form.
const ProofSchema = "pasban.table-proof.v1"

// TableProof shows, offline, what the ledger says of a table, and of one of its
// rows if Row or Change is there. The receipt carries its restricted part, for
// the commitment is in that.
type TableProof struct {
	Schema  string         `json:"schema"`
	Receipt pasban.Receipt `json:"receipt"`
	Row     *Proof         `json:"row,omitempty"`    // the row is under the root of the receipt's fact
	Change  *ChangeProof   `json:"change,omitempty"` // the row is as a change of the receipt's fact left it
}

// ChangeProof shows that a change is one of a batch, and what the row was
// afterwards.
type ChangeProof struct {
	Layout Layout      `json:"layout"`
	Change Change      `json:"change"`
	Line   string      `json:"line"`
	Index  int64       `json:"index"`
	Size   int64       `json:"size"`
	Proof  []tlog.Hash `json:"proof"` // RFC 6962, section 2.1.1
}

// ParseProof reads a proof's JSON form. It does not verify it.
func ParseProof(data []byte) (TableProof, error) {
	var p TableProof
	if err := json.Unmarshal(data, &p); err != nil {
		return p, &pasban.Error{Kind: pasban.Invalid, Msg: "not a table proof", Err: err}
	}
	if p.Schema != ProofSchema {
		return p, &pasban.Error{Kind: pasban.Invalid, Msg: fmt.Sprintf("not a table proof of a known version: schema %q, want %q", p.Schema, ProofSchema)}
	}
	return p, nil
}

// Said is what a fact of the sentinel commits to.
type Said struct {
	Root, BatchRoot Hash
	Layout          *Layout
	Rows            string
}

// Says reads what the receipt's fact commits to. The receipt must have been
// verified: body is what its verification returned.
func (p TableProof) Says(body pasban.Body) (Said, error) {
	var s Said
	if body.Service != "sentinel" || p.Receipt.Restricted == nil {
		return s, fmt.Errorf("the receipt is not about a guarded table, or lacks its restricted part")
	}
	part, err := p.Receipt.Restricted.Parse(body)
	if err != nil {
		return s, err
	}
	root := part.More["root"]
	if want, ok := part.More["expected_root"]; ok {
		root = want // of an audit: what was authorised, whatever was found
	}
	for _, f := range []struct {
		text string
		into *Hash
	}{{root, &s.Root}, {part.More["batch_root"], &s.BatchRoot}} {
		b, err := hex.DecodeString(f.text)
		if err != nil || len(b) != Size && len(b) != 0 {
			return s, fmt.Errorf("the fact holds no hash where one should be")
		}
		copy(f.into[:], b)
	}
	s.Rows = part.More["rows"]
	if text := part.More["layout"]; text != "" {
		s.Layout = &Layout{}
		if err := json.Unmarshal([]byte(text), s.Layout); err != nil {
			return s, err
		}
		if err := s.Layout.Check(); err != nil {
			return s, err
		}
	}
	return s, nil
}

// Check verifies the change against the root of its batch.
func (p ChangeProof) Check(root Hash) error {
	if err := p.Layout.Check(); err != nil {
		return err
	}
	h := NewHasher(p.Layout)
	row := h.Row([]byte(p.Line))
	if p.Change.Verdict != "" || !bytes.Equal(p.Change.Row, row[:]) || !bytes.Equal(h.Key([]byte(p.Line)), p.Change.Key) {
		return fmt.Errorf("the row is not the one that the change left, or the change was not authorised")
	}
	if p.Index < 0 || p.Index >= p.Size {
		return fmt.Errorf("change %d is not in a batch of %d", p.Index, p.Size)
	}
	return tlog.CheckRecord(p.Proof, p.Size, tlog.Hash(root), p.Index, tlog.RecordHash(p.Change.Bytes()))
}
