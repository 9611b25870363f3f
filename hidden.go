package pasban

import (
	"bytes"
	"fmt"
	"time"
)

// Details are what a body says of who looked at what and why: what a hidden
// fact keeps back until its date.
type Details struct {
	Who      Who      `json:"who"`
	Service  string   `json:"service,omitempty"`  // declared service, or host of the guarded site
	Resource string   `json:"resource,omitempty"` // record id, or pattern of the site's route
	Action   string   `json:"action,omitempty"`   // view, create, change, …
	Fields   []string `json:"fields,omitempty"`   // the fields opened or changed
	Purpose  string   `json:"purpose,omitempty"`
	Case     string   `json:"case,omitempty"`
	Basis    string   `json:"basis,omitempty"`
	Mode     Mode     `json:"mode,omitempty"`
}

// Hidden, in a body, says that the fact is a lawful secret look: its details
// are committed to now and disclosed at a date that cannot be moved any more.
// Until then the body says that there is such an entry, when it was made, its
// place in the citizen's list and its date, and nothing else.
type Hidden struct {
	Until  string `json:"until"`  // as TimeFormat has it
	Digest string `json:"digest"` // SHA-256 of salt ‖ canonical JSON of the Details, base64url without padding
}

// Grace is how long after its date a hidden entry may still be closed before
// that is a broken promise: time for a node that was down to come back.
const Grace = 24 * time.Hour

// Date returns when the entry is disclosed, the zero time if it is not hidden.
func (h Hidden) Date() time.Time {
	t, err := time.Parse(TimeFormat, h.Until)
	if err != nil {
		return time.Time{}
	}
	return t
}

// check reports whether the body of an entry hides what it says it hides.
func (h Hidden) check(b Body) error {
	closed := b.Who.Kind == ActorHidden
	if h == (Hidden{}) && !closed {
		return nil
	}
	_, digest := hashOf(h.Digest)
	date := h.Date()
	if !digest || date.IsZero() || date.Format(TimeFormat) != h.Until || b.Kind != KindLook || b.Subject == "" || b.Outcome != Allowed || !closed || !b.Details.closed() {
		return &Error{Kind: Invalid, Msg: fmt.Sprintf("a body of kind %q is no hidden entry, or tells what it hides", b.Kind)}
	}
	return nil
}

// closed reports whether the details are those of every hidden body.
func (d Details) closed() bool {
	return len(d.Fields) == 0 && d.Who == (Who{Kind: ActorHidden}) && d.Service == "" && d.Resource == "" &&
		d.Action == "" && d.Purpose == "" && d.Case == "" && d.Basis == "" && d.Mode == ""
}

// HiddenOpening reveals the details of a hidden fact.
type HiddenOpening struct {
	Salt []byte `json:"salt"` // 32 bytes
	Part []byte `json:"part"` // canonical JSON of Details
}

// Parse reads the details and checks them against the body that commits to
// them. It returns the body with the details in their place, and Hidden still
// set: the text for a person is rendered from that.
func (h HiddenOpening) Parse(b Body) (Body, error) {
	var d Details
	if err := openPart("hidden", h.Salt, h.Part, b.Hidden.Digest, &d); err != nil {
		return Body{}, err
	}
	if again, err := Canonical(d); err != nil || !bytes.Equal(again, h.Part) || d.Who.Kind == ActorHidden {
		return Body{}, &Error{Kind: Invalid, Msg: "the hidden part says more than details can, says it ambiguously, or hides again", Err: err}
	}
	b.Details = d
	return b, nil
}

// hide takes the details out of a body and returns what opens them.
func (b *Body) hide() (HiddenOpening, error) {
	part, err := Canonical(b.Details)
	if err != nil {
		return HiddenOpening{}, err
	}
	h := HiddenOpening{Salt: salt(), Part: part}
	b.Hidden.Digest = digest(h.Salt, part)
	b.Details = Details{Who: Who{Kind: ActorHidden}}
	return h, b.Hidden.check(*b)
}

// unfold checks the hidden part of an entry that was given out, if any was, and
// returns the body with what may be read of it.
func (b Body) unfold(h *HiddenOpening) (Body, error) {
	if h == nil {
		return b, nil
	}
	return h.Parse(b)
}
