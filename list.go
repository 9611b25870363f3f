package pasban

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"
)

// Place is where a fact stands in the list of everything accountable about its
// citizen. The leaf commits to it, so the facts about one citizen form a chain:
// an entry left out, moved or put in between is one that does not fit.
type Place struct {
	Number   int64  `json:"number"`             // from 1, without gaps
	Previous string `json:"previous,omitempty"` // Merkle leaf hash of the entry before, base64url without padding; "" for number 1
}

// NextPlace returns the place after number entries, the last of which has the
// given Merkle leaf hash. After 0 entries the hash is not looked at.
func NextPlace(number int64, last tlog.Hash) Place {
	p := Place{Number: number + 1}
	if number > 0 {
		p.Previous = base64.RawURLEncoding.EncodeToString(last[:])
	}
	return p
}

// PreviousHash returns the leaf hash of the entry before; ok is false if there
// is none.
func (p Place) PreviousHash() (h tlog.Hash, ok bool) { return hashOf(p.Previous) }

// hashOf reads 32 bytes as a body holds them: base64url without padding.
func hashOf(text string) (h tlog.Hash, ok bool) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != len(h) {
		return tlog.Hash{}, false
	}
	return tlog.Hash(raw), true
}

// check reports whether the place is one that a list has, or the zero value.
func (p Place) check() error {
	_, has := p.PreviousHash()
	switch {
	case p == Place{}:
	case p.Number == 1 && p.Previous == "":
	case p.Number > 1 && p.Number < 1<<53 && has:
	default:
		return &Error{Kind: Invalid, Msg: fmt.Sprintf("no list has a place %d after %q", p.Number, p.Previous)}
	}
	return nil
}

// At returns the opening of the same fact at a place of its citizen's list. The
// opening must be one that Seal returned. It is Canonical of the body with its
// List set, without reading the body again: in canonical JSON list stands right
// behind kind. A body that has a place already, or no kind, is returned as it is.
func (o Opening) At(p Place) Opening {
	// Inside a string every quote is escaped, and only strings stand before the
	// body's own kind: this finds that one and nothing else.
	kind := []byte(`"kind":` + strconv.Quote(string(o.Kind)))
	i := bytes.Index(o.Body, kind)
	if i < 0 || bytes.HasPrefix(o.Body[i+len(kind):], []byte(`,"list":`)) {
		return o
	}
	i += len(kind)
	body := make([]byte, 0, len(o.Body)+96)
	body = append(body, o.Body[:i]...)
	body = append(body, `,"list":{"number":`...)
	body = strconv.AppendInt(body, p.Number, 10)
	if p.Previous != "" {
		body = append(append(append(body, `,"previous":"`...), p.Previous...), '"')
	}
	body = append(body, '}')
	o.Body = append(body, o.Body[i:]...)
	return o
}
