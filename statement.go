package pasban

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"pasban/internal/vrf"
)

// StatementSchema names the version of the statement's JSON form.
const StatementSchema = "pasban.statement.v1"

// Statement proves, offline and years later, that a citizen's list is whole up
// to an epoch: every entry, in order, none left out, none put in. Its JSON form
// is described by docs/schemas/statement.v1.json.
type Statement struct {
	Schema  string           `json:"schema"`
	Citizen CNIC             `json:"citizen"`
	Entries []StatementEntry `json:"entries"` // oldest first
	Number  int64            `json:"number"`  // entries of the list at the epoch
	Label   []byte           `json:"label"`   // the VRF's proof of the citizen's label
	Proof   []tlog.Hash      `json:"proof"`   // of the list's end in the map, from the label's node upwards
	Epoch   Receipt          `json:"epoch"`   // of the leaf that commits to the map
}

// StatementEntry opens one leaf of the list.
type StatementEntry struct {
	Index uint64          `json:"index"` // leaf of the ledger
	Kind  Kind            `json:"kind"`
	Salt  []byte          `json:"salt"`
	Body  json.RawMessage `json:"body"`
	// Hidden opens the details of an entry that was hidden until its date.
	Hidden *HiddenOpening `json:"hidden,omitempty"`
}

// Verified is what a statement was found to prove.
type Verified struct {
	Entries []Body // oldest first; text shown to a person must be rendered from these
	Covered int    // how many of them the epoch covers: those are whole
	// Erased is how many entries stood before the first of these. Their text was
	// destroyed; that so many were there is proven.
	Erased int64
	// Closed are the numbers of entries whose details are not disclosed: their
	// Who.Kind is ActorHidden. Overdue are those among them whose date, and Grace
	// besides, had passed when the epoch was committed: a promise was broken.
	Closed, Overdue []int64

	Heads Heads  // the epoch
	Time  string // when the epoch was committed, as a body says it
}

// ParseStatement reads a statement's JSON form. It does not verify it.
func ParseStatement(data []byte) (Statement, error) {
	var s Statement
	if err := json.Unmarshal(data, &s); err != nil {
		return Statement{}, &Error{Kind: Invalid, Msg: "not a statement", Err: err}
	}
	if s.Schema != StatementSchema {
		return Statement{}, &Error{Kind: Invalid, Msg: fmt.Sprintf("not a statement of a known version: schema %q, want %q", s.Schema, StatementSchema)}
	}
	return s, nil
}

// Verify checks the whole statement against the ledger's key, in one pass: the
// receipt of the epoch's leaf, the citizen's label, the end of their list in the
// map, and that the entries are a chain up to that end. Its error names the
// first entry that does not fit. That an entry is in the ledger follows for
// those covered; entries behind the epoch's end are checked to continue the
// chain and no more: see Verified.Covered.
func (s Statement) Verify(v note.Verifier) (Verified, error) {
	var out Verified
	epoch, err := s.Epoch.Verify(v)
	if err != nil {
		return Verified{}, fmt.Errorf("the epoch's leaf: %w", err)
	}
	if epoch.Kind != KindHeads {
		return Verified{}, &Error{Kind: Invalid, Msg: fmt.Sprintf("the epoch's leaf is of kind %q, not of a map of heads", epoch.Kind)}
	}
	out.Heads, out.Time = epoch.Heads, epoch.Time
	if out.Heads.Size > int64(s.Epoch.Index) {
		return Verified{}, &Error{Kind: Invalid, Msg: fmt.Sprintf("epoch %d says that it covers %d leaves, but is leaf %d itself", out.Heads.Epoch, out.Heads.Size, s.Epoch.Index)}
	}
	last, err := s.chain(&out)
	if err != nil {
		return Verified{}, err
	}
	if err := s.end(out.Heads, last); err != nil {
		return Verified{}, err
	}
	return out, nil
}

// chain checks that the entries follow each other, and returns the Merkle leaf
// hash of the last one that the epoch covers.
func (s Statement) chain(out *Verified) (last tlog.Hash, err error) {
	bad := func(number int64, format string, args ...any) error {
		return &Error{Kind: Invalid, Where: fmt.Sprintf("entry %d", number), Msg: fmt.Sprintf(format, args...)}
	}
	if len(s.Entries) == 0 {
		return last, &Error{Kind: Invalid, Msg: "the statement has no entries"}
	}
	var before tlog.Hash // of the entry before
	var number int64
	for i, e := range s.Entries {
		body, leaf, err := e.open()
		if err != nil {
			return last, bad(max(number+1, 1), "%v", err)
		}
		place := body.List
		switch {
		case place.Number < 1 || body.Subject != s.Citizen:
			return last, bad(number+1, "the entry is not one of this citizen's list")
		case i == 0:
			out.Erased = place.Number - 1
		case place.Number <= number:
			return last, bad(place.Number, "it stands behind entry %d: the list was reordered or an entry put in", number)
		case place.Number > number+1:
			return last, bad(number+1, "it is missing: entry %d is followed by entry %d", number, place.Number)
		case place != NextPlace(number, before):
			return last, bad(number, "it is not the one that entry %d follows: it was altered or exchanged", place.Number)
		case e.Index <= s.Entries[i-1].Index:
			return last, bad(place.Number, "it stands in the ledger before the entry that it follows")
		}
		number, before = place.Number, leaf
		if body.Who.Kind == ActorHidden {
			out.close(body)
		}
		if covered := int64(e.Index) < out.Heads.Size; covered != (number <= s.Number) {
			return last, bad(number, "it is leaf %d, which does not fit a list of %d entries at %d leaves", e.Index, s.Number, out.Heads.Size)
		}
		if number <= s.Number {
			out.Covered++
			last = leaf
		}
		out.Entries = append(out.Entries, body)
	}
	if number < s.Number {
		return last, bad(number+1, "it is missing: the list had %d entries at the epoch and ends here with %d", s.Number, number)
	}
	if out.Covered == 0 {
		return last, &Error{Kind: Invalid, Msg: "the epoch covers no entry of the statement", Hint: "ask for the statement again after the next epoch"}
	}
	return last, nil
}

// end checks that the map of heads says that the list ends with this leaf.
func (s Statement) end(h Heads, last tlog.Hash) error {
	key, err := base64.RawURLEncoding.DecodeString(h.Key)
	if err != nil {
		return &Error{Kind: Invalid, Msg: "the epoch's key of labels is not readable", Err: err}
	}
	value, err := vrf.Verify(key, []byte(s.Citizen), s.Label)
	if err != nil {
		return &Error{Kind: Invalid, Msg: "the label is not the one of this citizen", Err: err}
	}
	label, blind := SplitLabel(value)
	root, err := mapRoot(label, HeadValue(blind, s.Number, last), s.Proof)
	if err != nil {
		return err
	}
	if base64.RawURLEncoding.EncodeToString(root[:]) != h.Root {
		return &Error{Kind: Invalid, Where: fmt.Sprintf("entry %d", s.Number),
			Msg: fmt.Sprintf("the map of epoch %d does not say that the list ends here: entries at its end were left out, altered or put in", h.Epoch)}
	}
	return nil
}

// close counts an entry whose details are not told.
func (v *Verified) close(b Body) {
	v.Closed = append(v.Closed, b.List.Number)
	if at, err := time.Parse(TimeFormat, v.Time); err == nil && at.After(b.Hidden.Date().Add(Grace)) {
		v.Overdue = append(v.Overdue, b.List.Number)
	}
}

// open reads an entry and computes its Merkle leaf hash.
func (e StatementEntry) open() (Body, tlog.Hash, error) {
	o, leaf, err := reveal(e.Kind, e.Salt, e.Body)
	if err != nil {
		return Body{}, tlog.Hash{}, err
	}
	body, err := o.Parse()
	if err != nil {
		return Body{}, tlog.Hash{}, err
	}
	body, err = body.unfold(e.Hidden)
	return body, leaf.Hash(), err
}
