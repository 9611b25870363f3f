package pasban

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Kind says what sort of fact a row of the journal is.
type Kind string

const (
	KindLook     Kind = "look"     // a citizen's data was opened
	KindChange   Kind = "change"   // a citizen's data was changed
	KindDecision Kind = "decision" // policy refused a named person's access
	KindAdmin    Kind = "admin"    // people, keys, configuration or policy changed
	KindHeads    Kind = "heads"    // the map of where every citizen's list ends was committed
	KindOpening  Kind = "opening"  // a look that was hidden was disclosed at its date
	KindSignin   Kind = "signin"   // an attempt to sign in, good or bad
	KindBlock    Kind = "block"    // the gateway turned a request away
	KindAlarm    Kind = "alarm"    // a watcher of Pasban's own found something wrong
)

// kindCodes are the public bytes of accountable kinds in a leaf; they never change.
var kindCodes = map[Kind]byte{KindLook: 1, KindChange: 2, KindDecision: 3, KindAdmin: 4, KindHeads: 5, KindOpening: 6}

// Accountable reports whether facts of this kind become leaves of the ledger.
func (k Kind) Accountable() bool { return kindCodes[k] != 0 }

// Fact is one occurrence worth keeping: a row of the journal.
//
// Body is what the citizen may read of it, and what the leaf commits to.
// Restricted is what only an auditor or a court may read besides (who exactly,
// from where). The body carries a digest of the restricted part, so that
// neither can be exchanged afterwards.
//
// A fact whose Body.Hidden.Until is set is hidden until then: Seal moves the
// body's details into a part of their own, of which the body carries a digest
// too. In a fact that was read back Body is what the leaf commits to, and the
// details stand in Details.
type Fact struct {
	Subject    Subject // the citizen concerned; zero if none
	Body       Body
	Details    Details // of a hidden fact that was read back
	Restricted Restricted
}

// Whole returns the body with the details that a hidden fact keeps back: what
// the agency itself knows of it.
func (f Fact) Whole() Body {
	b := f.Body
	if b.Who.Kind == ActorHidden {
		b.Details = f.Details
	}
	return b
}

// Body is the part of a fact that its leaf commits to, as canonical JSON
// (RFC 8785). It holds only strings, lists of strings and a few integers below 2^53,
// so that every language canonicalises it alike.
type Body struct {
	Version    int     `json:"v"`      // 1
	ID         string  `json:"id"`     // 128 bits in hex, see NewFact; the incident id that people are shown
	Kind       Kind    `json:"kind"`   //
	Time       string  `json:"time"`   // RFC 3339 UTC with milliseconds
	Agency     string  `json:"agency"` // the agency's id
	Details            // in the same JSON object
	Subject    CNIC    `json:"subject,omitempty"` // the citizen concerned
	List       Place   `json:"list,omitzero"`     // the fact's place in the citizen's list
	Hidden     Hidden  `json:"hidden,omitzero"`   // of a fact whose details are disclosed later
	Outcome    Outcome `json:"outcome"`
	Heads      Heads   `json:"heads,omitzero"`       // of a fact of kind heads
	Restricted string  `json:"restricted,omitempty"` // SHA-256 of salt ‖ restricted part, base64url
}

// Outcome says how an attempt ended.
type Outcome string

const (
	Allowed Outcome = "allow"
	Denied  Outcome = "deny"
)

// Who is the actor as the citizen is told it: never a name or a whole staff number.
type Who struct {
	Kind  ActorKind `json:"kind"`
	Role  Role      `json:"role,omitempty"`
	Staff string    `json:"staff,omitempty"` // the last three characters of the staff number
}

// Restricted is the part of a fact that is sealed under the agency's own key.
type Restricted struct {
	Actor     string            `json:"actor,omitempty"` // Actor.ID
	IP        string            `json:"ip,omitempty"`
	UserAgent string            `json:"user_agent,omitempty"`
	Host      string            `json:"host,omitempty"`
	Method    string            `json:"method,omitempty"`
	Path      string            `json:"path,omitempty"`  // without the query
	Query     string            `json:"query,omitempty"` // raw
	Status    int               `json:"status,omitempty"`
	Policies  []string          `json:"policies,omitempty"` // ids of the policies that decided
	Reasons   []string          `json:"reasons,omitempty"`
	Rules     []string          `json:"rules,omitempty"` // ids of the WAF rules that matched
	More      map[string]string `json:"more,omitempty"`  // kind-specific, flat
}

// NewFact starts a fact of the given kind about now: it draws the id and fills
// in what the actor says of itself. The caller adds the rest. The id is the time
// in Unix milliseconds (48 bits), which the fact says anyway, and 80 random bits:
// the journal finds facts by id, and ids in the order of time are kept beside each
// other, where random ones would change a page of the index each.
func NewFact(kind Kind, agency string, a Actor, now time.Time) Fact {
	who := Who{Kind: a.Kind, Role: a.Role, Staff: a.Staff}
	if who.Kind == "" {
		who.Kind = ActorAnonymous
	}
	if n := len(who.Staff); n > 3 {
		who.Staff = who.Staff[n-3:]
	}
	return Fact{
		Body: Body{
			Version: 1, ID: newFactID(now), Kind: kind, Agency: agency, Details: Details{Who: who},
			Time: now.UTC().Format(TimeFormat), Outcome: Allowed,
		},
		Restricted: Restricted{Actor: a.ID},
	}
}

// TimeFormat is the form of every time in a body: RFC 3339 UTC with milliseconds.
const TimeFormat = "2006-01-02T15:04:05.000Z"

// NewID returns 128 random bits in lower-case hex.
func NewID() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func newFactID(now time.Time) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(now.UnixMilli())<<16)
	rand.Read(b[6:])
	return hex.EncodeToString(b[:])
}

// Sealed is what opens a fact: an Opening opens the leaf, a RestrictedOpening
// and, for a hidden fact, a HiddenOpening open the digests inside the leaf's body.
type Sealed struct {
	Opening    Opening
	Restricted RestrictedOpening
	Hidden     *HiddenOpening // nil unless the fact is hidden
	Body       Body           // as whoever reads the opening sees it; it shares nothing with the fact's
}

// Opening is what reveals a leaf: the salt and the canonical body. Whoever has
// it can recompute the leaf and so check it against the ledger.
type Opening struct {
	Kind Kind   `json:"kind"`
	Salt []byte `json:"salt"` // 32 bytes, base64 in JSON
	Body []byte `json:"body"` // canonical JSON of a Body, base64 in JSON
}

// RestrictedOpening reveals the restricted part of a fact.
type RestrictedOpening struct {
	Salt []byte `json:"salt"`
	Part []byte `json:"part"` // canonical JSON of a Restricted
}

// Seal fixes a fact: it draws the salts, sets the body's digests of the
// restricted part and of what is hidden, and returns the openings whose leaf can
// then be computed. It fails if the fact cannot be written as canonical JSON, or
// is to be hidden and is no allowed look at a citizen's data.
func (f Fact) Seal() (Sealed, error) {
	part, err := Canonical(f.Restricted)
	if err != nil {
		return Sealed{}, err
	}
	out := Sealed{Restricted: RestrictedOpening{Salt: salt(), Part: part}}
	f.Body.Subject = f.Subject.CNIC
	f.Body.Restricted = digest(out.Restricted.Salt, part)
	if f.Body.Hidden.Until != "" {
		h, err := f.Body.hide()
		if err != nil {
			return Sealed{}, err
		}
		out.Hidden = &h
	}
	body, same := f.Body.canonical()
	if same {
		out.Body = f.Body
		out.Body.Fields = nil
		if len(f.Body.Fields) > 0 {
			out.Body.Fields = slices.Clone(f.Body.Fields)
		}
	} else { // text that is not UTF-8 is read back in another way than it was given
		if body, err = Canonical(f.Body); err != nil {
			return Sealed{}, err
		}
		if err := json.Unmarshal(body, &out.Body); err != nil {
			return Sealed{}, &Error{Kind: Invalid, Msg: "the body just written is not readable", Err: err}
		}
	}
	out.Opening = Opening{Kind: f.Body.Kind, Salt: salt(), Body: body}
	return out, nil
}

// Parse reads the body. It fails if the bytes are not a body of version 1, if
// its kind is not the leaf's, or if they are anything but the canonical form of
// what was read: a body that two readers could understand differently (names
// unknown, repeated or in other letter case) is none.
func (o Opening) Parse() (Body, error) {
	var b Body
	if err := json.Unmarshal(o.Body, &b); err != nil {
		return Body{}, &Error{Kind: Invalid, Msg: "the body of the leaf is not readable", Err: err}
	}
	if b.Version != 1 || b.Kind != o.Kind {
		return Body{}, &Error{Kind: Invalid, Msg: fmt.Sprintf("the body says version %d and kind %q, the leaf %q", b.Version, b.Kind, o.Kind)}
	}
	if err := b.List.check(); err != nil {
		return Body{}, err
	}
	if err := b.Heads.check(b.Kind); err != nil {
		return Body{}, err
	}
	if err := b.Hidden.check(b); err != nil {
		return Body{}, err
	}
	if again, err := Canonical(b); err != nil || !bytes.Equal(again, o.Body) {
		return Body{}, &Error{Kind: Invalid, Msg: "the body of the leaf says more than a body of version 1 can, or says it ambiguously", Err: err}
	}
	return b, nil
}

// Parse reads the restricted part and checks it against the body that commits to it.
func (r RestrictedOpening) Parse(b Body) (Restricted, error) {
	var part Restricted
	if err := openPart("restricted", r.Salt, r.Part, b.Restricted, &part); err != nil {
		return Restricted{}, err
	}
	return part, nil
}

// openPart reads a part that is not in the body, which commits to it with want.
func openPart(name string, salt, part []byte, want string, into any) error {
	bad := func(msg string, err error) error { return &Error{Kind: Invalid, Msg: fmt.Sprintf(msg, name), Err: err} }
	if len(salt) != saltSize { // or the border between salt and part could move
		return bad("the salt of a %s part is 32 bytes", nil)
	}
	if digest(salt, part) != want {
		return bad("the %s part is not the one that the body commits to", nil)
	}
	if err := json.Unmarshal(part, into); err != nil {
		return bad("the %s part is not readable", err)
	}
	return nil
}

// digest is how a body commits to a part that is not in it: SHA-256, base64url
// without padding.
func digest(salt, part []byte) string {
	h := sha256.New()
	h.Write(salt)
	h.Write(part)
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// saltSize is the length of every salt in bytes.
const saltSize = 32

func salt() []byte {
	s := make([]byte, saltSize)
	rand.Read(s)
	return s
}
