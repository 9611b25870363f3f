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
// to an epoch: every entry, in order, none left out, none put in; or that it was
// empty. Entries whose text was destroyed are not there, but counted: they are
// the first ones of a list. Its JSON form is described by
// docs/schemas/statement.v1.json.
type Statement struct {
	Schema  string           `json:"schema"`
	Citizen CNIC             `json:"citizen"`
	Entries []StatementEntry `json:"entries"` // oldest first
	Number  int64            `json:"number"`  // entries of the list at the epoch; 0 if it was empty
	Label   []byte           `json:"label"`   // the VRF's proof of the citizen's label
	Proof   []tlog.Hash      `json:"proof"`   // of the label's place in the map, from there upwards
	Epoch   Receipt          `json:"epoch"`   // of the leaf that commits to the map
	// Last is the Merkle leaf hash of entry Number where all entries up to it were
	// destroyed, so that none of Entries tells it.
	Last []byte `json:"last,omitempty"`
	// Other is whose node stands in the place of the label of an empty list; nil if
	// the place is empty.
	Other *OtherLabel `json:"other,omitempty"`
}

// OtherLabel is another citizen's label and value in the map (see [LabelNode]),
// neither of which says whose they are.
type OtherLabel struct {
	Label []byte `json:"label"`
	Value []byte `json:"value"`
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

	citizen CNIC
	origin  string
	number  int64       // entries at the epoch
	leaves  []tlog.Hash // of Entries
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
	out.citizen, out.origin, out.number = s.Citizen, s.Epoch.Origin, s.Number
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
		out.Entries, out.leaves = append(out.Entries, body), append(out.leaves, leaf)
	}
	switch {
	case out.Covered == 0:
		return s.unseen(out)
	case number < s.Number:
		return last, bad(number+1, "it is missing: the list had %d entries at the epoch and ends here with %d", s.Number, number)
	case s.Last != nil:
		return last, &Error{Kind: Invalid, Msg: "the statement says twice how the list ends"}
	}
	return last, nil
}

// unseen is chain for a list of which the epoch covers no entry that can be read:
// an empty one, or one whose entries were all destroyed.
func (s Statement) unseen(out *Verified) (last tlog.Hash, err error) {
	if s.Number < 0 || (s.Number == 0) != (s.Last == nil) || s.Last != nil && len(s.Last) != len(last) {
		return last, &Error{Kind: Invalid, Msg: "the epoch covers no entry of the statement, which does not say how the list ended", Hint: "ask for the statement again after the next epoch"}
	}
	copy(last[:], s.Last)
	if len(out.Entries) > 0 && out.Entries[0].List != NextPlace(s.Number, last) {
		return last, &Error{Kind: Invalid, Where: fmt.Sprintf("entry %d", s.Number+1), Msg: fmt.Sprintf("it is missing: the list had %d entries at the epoch, and goes on here with entry %d", s.Number, out.Entries[0].List.Number)}
	}
	out.Erased = s.Number
	return last, nil
}

// end checks that the map of heads says that the list ends with this leaf, or
// that there is none.
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
	var node MapHash // of an empty place
	switch {
	case s.Number > 0 && s.Other != nil:
		return &Error{Kind: Invalid, Msg: "the statement names the label of another citizen"}
	case s.Number > 0:
		node = LabelNode(label, HeadValue(blind, s.Number, last))
	case s.Other != nil:
		if node, err = s.Other.inPlaceOf(label, len(s.Proof)); err != nil {
			return err
		}
	}
	root, err := mapRoot(label, node, s.Proof)
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

// inPlaceOf is the other label's node, if at that depth it stands where the
// citizen's would: a map in which both were would go on there.
func (o OtherLabel) inPlaceOf(label Label, depth int) (MapHash, error) {
	if len(o.Label) != len(label) || len(o.Value) != len(MapHash{}) || depth > 8*len(label) || Label(o.Label) == label {
		return MapHash{}, &Error{Kind: Invalid, Msg: "the other label is none, or the citizen's own"}
	}
	for i := range depth {
		if (o.Label[i/8]^label[i/8])>>(7-i%8)&1 != 0 {
			return MapHash{}, &Error{Kind: Invalid, Msg: "the other label does not stand in the place of the citizen's"}
		}
	}
	return LabelNode(Label(o.Label), MapHash(o.Value)), nil
}

// Extends reports what is wrong if this statement does not go on from an earlier
// one of the same citizen: every entry of then is still there and the same, or
// was erased since and is counted. Both were verified with one key.
func (v Verified) Extends(old Verified) error {
	bad := func(format string, args ...any) error {
		return &Error{Kind: Invalid, Msg: fmt.Sprintf(format, args...)}
	}
	switch {
	case v.citizen != old.citizen || v.origin != old.origin:
		return bad("one statement is of %s in ledger %s, the other of %s in ledger %s", old.citizen, old.origin, v.citizen, v.origin)
	case v.Heads.Epoch < old.Heads.Epoch:
		return bad("the statement is the earlier one: it is of epoch %d, the other of epoch %d", v.Heads.Epoch, old.Heads.Epoch)
	case v.Heads.Epoch == old.Heads.Epoch && v.Heads != old.Heads:
		return bad("epoch %d was committed twice, with different maps: two people were told different things", v.Heads.Epoch)
	case v.Heads.Key != old.Heads.Key:
		return bad("the key of the labels was changed between epoch %d and epoch %d: a list may have been begun anew", old.Heads.Epoch, v.Heads.Epoch)
	case v.number < old.number || v.Heads.Size < old.Heads.Size:
		return bad("the list had %d entries at epoch %d and has %d at epoch %d", old.number, old.Heads.Epoch, v.number, v.Heads.Epoch)
	case v.Erased < old.Erased:
		return bad("%d entries had been erased, now %d are said to have been", old.Erased, v.Erased)
	}
	for i, leaf := range old.leaves {
		number := old.Erased + int64(i) + 1
		at := number - v.Erased - 1 // place in v.leaves
		if at < 0 {
			continue // erased since
		}
		if at >= int64(len(v.leaves)) || v.leaves[at] != leaf {
			return &Error{Kind: Invalid, Where: fmt.Sprintf("entry %d", number), Msg: "it is not the one of the earlier statement: it is missing or was altered since"}
		}
	}
	return nil
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
