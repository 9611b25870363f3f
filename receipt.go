package pasban

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// ReceiptSchema names the version of the receipt's JSON form.
const ReceiptSchema = "pasban.receipt.v1"

// Receipt proves, offline and years later, that a fact is in the ledger. Its
// JSON form is described by docs/schemas/receipt.v1.json; hashes and salts are
// standard base64, the body is embedded as JSON and re-canonicalised
// (RFC 8785) to check it.
type Receipt struct {
	Schema     string             `json:"schema"`
	Origin     string             `json:"origin"`
	Index      uint64             `json:"index"`
	Kind       Kind               `json:"kind"`
	Salt       []byte             `json:"salt"`
	Body       json.RawMessage    `json:"body"`
	Proof      []tlog.Hash        `json:"proof"`      // RFC 6962, section 2.1.1
	Checkpoint string             `json:"checkpoint"` // C2SP tlog-checkpoint, signed note
	Restricted *RestrictedOpening `json:"restricted,omitempty"`
	Hidden     *HiddenOpening     `json:"hidden,omitempty"` // of an entry that was hidden, once it is disclosed
}

// ParseReceipt reads a receipt in any of the forms that citizens are handed: its
// JSON, the PDF that it is attached to, or the texts of its QR codes. It does not
// verify it.
func ParseReceipt(data []byte) (Receipt, error) {
	switch start := bytes.TrimSpace(data); {
	case bytes.HasPrefix(start, []byte(pdfMark)):
		return parsePDF(start)
	case len(start) >= len(codePrefix) && strings.EqualFold(string(start[:len(codePrefix)]), codePrefix):
		return parseCodes(start)
	}
	return parseReceiptJSON(data)
}

func parseReceiptJSON(data []byte) (Receipt, error) {
	var r Receipt
	if err := json.Unmarshal(data, &r); err != nil {
		return Receipt{}, &Error{Kind: Invalid, Msg: "not a receipt", Err: err}
	}
	if r.Schema != ReceiptSchema {
		return Receipt{}, &Error{Kind: Invalid, Msg: fmt.Sprintf("not a receipt of a known version: schema %q, want %q", r.Schema, ReceiptSchema)}
	}
	return r, nil
}

// Verify checks the whole receipt against the ledger's key: the checkpoint's
// signature, the inclusion of the leaf, and that the body and any restricted or
// hidden part are those that the leaf commits to. It returns the verified body; text
// shown to a person must be rendered from that.
func (r Receipt) Verify(v note.Verifier) (Body, error) {
	cp, err := OpenCheckpoint([]byte(r.Checkpoint), v)
	if err != nil {
		return Body{}, err
	}
	if r.Origin != cp.Origin {
		return Body{}, &Error{Kind: Invalid, Msg: fmt.Sprintf("the receipt is of ledger %q, its checkpoint of %q", r.Origin, cp.Origin)}
	}
	opening, leaf, err := reveal(r.Kind, r.Salt, r.Body)
	if err != nil {
		return Body{}, err
	}
	if r.Index >= uint64(cp.N) {
		return Body{}, &Error{Kind: Invalid, Msg: fmt.Sprintf("leaf %d is not under a checkpoint of %d leaves", r.Index, cp.N)}
	}
	if err := tlog.CheckRecord(r.Proof, cp.N, cp.Hash, int64(r.Index), leaf.Hash()); err != nil {
		return Body{}, &Error{Kind: Invalid, Msg: fmt.Sprintf("leaf %d is not in the tree of the checkpoint", r.Index), Err: err}
	}
	body, err := opening.Parse()
	if err != nil {
		return Body{}, err
	}
	if r.Restricted != nil {
		if _, err := r.Restricted.Parse(body); err != nil {
			return Body{}, err
		}
	}
	return body.unfold(r.Hidden)
}

// reveal recomputes a leaf from what opens it. The body is in any form of JSON.
func reveal(kind Kind, salt []byte, body json.RawMessage) (Opening, Leaf, error) {
	canonical, err := Canonical(body)
	if err != nil {
		return Opening{}, Leaf{}, err
	}
	o := Opening{Kind: kind, Salt: salt, Body: canonical}
	leaf, err := o.Leaf()
	return o, leaf, err
}

// Checkpoint is a signed statement of the log's size and root.
type Checkpoint struct {
	Origin string
	tlog.Tree
}

// OpenCheckpoint verifies a signed checkpoint (C2SP tlog-checkpoint) with the
// ledger's key and reads it. Its error says which it is: no checkpoint at all,
// another ledger's, signed by a key that is not known, or altered.
func OpenCheckpoint(signed []byte, v note.Verifier) (Checkpoint, error) {
	n, err := note.Open(signed, note.VerifierList(v))
	if err != nil {
		return Checkpoint{}, unsigned(err, v)
	}
	line := strings.SplitN(n.Text, "\n", 4)
	if len(line) < 4 || line[0] == "" {
		return Checkpoint{}, &Error{Kind: Invalid, Msg: "the checkpoint lacks its three lines"}
	}
	size, err := strconv.ParseInt(line[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != line[1] {
		return Checkpoint{}, &Error{Kind: Invalid, Msg: "the checkpoint's size is not a number"}
	}
	root, err := tlog.ParseHash(line[2])
	if err != nil {
		return Checkpoint{}, &Error{Kind: Invalid, Msg: "the checkpoint's root is not a hash", Err: err}
	}
	if line[0] != v.Name() {
		return Checkpoint{}, &Error{Kind: Invalid, Msg: fmt.Sprintf("the checkpoint is of ledger %q, the key of %q", line[0], v.Name())}
	}
	return Checkpoint{Origin: line[0], Tree: tlog.Tree{N: size, Hash: root}}, nil
}

// unsigned says why a note does not bear the key's signature.
func unsigned(err error, v note.Verifier) error {
	bad := &Error{Kind: Invalid, Err: err}
	key := fmt.Sprintf("%s+%08x", v.Name(), v.KeyHash())
	if stranger, ok := errors.AsType[*note.UnverifiedNoteError](err); ok {
		bad.Msg = "the checkpoint is not signed by key " + key + ", only by keys not known here"
		if origin, _, _ := strings.Cut(stranger.Note.Text, "\n"); origin != v.Name() {
			bad.Msg = fmt.Sprintf("the checkpoint is of another ledger, %.100q; the key is %s", origin, key)
		}
	} else if _, ok := errors.AsType[*note.InvalidSignatureError](err); ok {
		bad.Msg = "the checkpoint or its signature by key " + key + " was altered"
	} else {
		bad.Msg = "not a signed checkpoint"
	}
	return bad
}
