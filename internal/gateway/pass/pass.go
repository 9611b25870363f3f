// Package pass lets people through a flood. Limits protect the service;
// what saves people is that they hold something which a flood does not.
//
// # What visitors carry
//
//	pass       earned by behaving, by work, or by waiting; gives priority
//	challenge  a proof of work to do, for visitors whose browser runs scripts
//	ticket     when waiting has been long enough, for those whose does not
//	place      a position in a waiting room
//	admission  the right to be inside of it for a while
//
// All are small signed texts ([Book]), so the server keeps nothing for a
// visitor who waits. What it keeps, bounded, is for those who come through:
// each pass has a token bucket of its own ([Carriers]).
//
// [Modes] says which sites are under attack, and why, over restarts. [Watch]
// decides by itself when one is. [Room] is a waiting room.
//
// # Guarantees
//
//   - Nothing here can be forged, altered, used for another purpose than it was
//     signed for, or used after its time. What cannot be checked counts as not there.
//   - One proof of work, one ticket or one place gives one pass or admission,
//     however often it is sent; and one pass carries no more than its bucket.
//   - Memory is bounded, whatever is sent.
//   - An attack mode that was started is in force after a restart; a waiting
//     room goes on where it was.
//
// # What this package must never do
//
// It decides nothing about data: a pass is no sign-in. It puts nobody's
// address, and nothing that names a person, into what visitors carry.
package pass

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/netip"
	"time"

	"pasban/internal/keys"
)

// Key signs and checks: *keys.PassKey.
type Key interface {
	Sign(label string, msg []byte) (number byte, mac [sha256.Size]byte, err error)
	Check(number byte, label string, msg, mac []byte) bool
}

var _ Key = (*keys.PassKey)(nil)

// ID names one pass, ticket, place or admission. It is random.
type ID [8]byte

func newID() (id ID) {
	rand.Read(id[:])
	return id
}

// Book signs what visitors carry and reads it again.
type Book struct{ Key Key }

// The form of everything that is carried, in base64url without padding:
//
//	generation of the key, 1 byte ‖ body ‖ first 16 bytes of the MAC
//
// The label that goes into the MAC says what it is.
const macSize = 16

const (
	labelPass      = "pasban/pass/v1"
	labelChallenge = "pasban/challenge/v1"
	labelTicket    = "pasban/ticket/v1"
	labelPlace     = "pasban/place/v1"
	labelAdmission = "pasban/admission/v1"
)

// seal signs a body; "" if the key is gone.
func (b Book) seal(label string, body []byte) string {
	number, mac, err := b.Key.Sign(label, body)
	if err != nil {
		return ""
	}
	token := make([]byte, 0, 64)
	token = append(append(append(token, number), body...), mac[:macSize]...)
	return base64.RawURLEncoding.EncodeToString(token)
}

// open returns the body of what seal has made for the same use.
func (b Book) open(label, text string, size int) ([]byte, bool) {
	n := 1 + size + macSize
	if len(text) != base64.RawURLEncoding.EncodedLen(n) {
		return nil, false
	}
	token, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(token) != n { // the decoder passes over line ends
		return nil, false
	}
	body := token[1 : 1+size]
	return body, b.Key.Check(token[0], label, body, token[1+size:])
}

// Level says how a pass was earned.
type Level byte

const (
	Met    Level = iota // seen once or twice; gives nothing yet
	Waited              // waited, without scripts
	Solved              // did the work
	Known               // behaved while there was no attack
)

// String returns the level's name in metrics.
func (l Level) String() string {
	return [...]string{"met", "waited", "solved", "known"}[min(l, Known)]
}

// How long passes hold, and how one is earned quietly.
const (
	knownLife  = keys.PassLife // the key that signed it is kept that long at least
	earnedLife = 2 * time.Hour // by work or waiting, unless the visitor comes to be known
	knownAfter = time.Minute   // since they were first met
	knownCount = 3             // pages that were answered
)

// Network is the block of addresses that a visitor is taken to come from: an
// IPv4 /24 or an IPv6 /48, as a short hash. A phone keeps it for a while, and
// a household for longer; it names no one.
type Network [4]byte

// NetworkOf returns the network of an address.
func NetworkOf(a netip.Addr) (n Network) {
	if !a.IsValid() {
		return n
	}
	a = a.Unmap().WithZone("")
	bits := 24
	if a.Is6() {
		bits = 48
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return n
	}
	text := p.Addr().As16()
	sum := sha256.Sum256(append([]byte("pasban/network/v1"), text[:]...))
	copy(n[:], sum[:])
	return n
}

// Pass says that a visitor has earned to be let through.
type Pass struct {
	ID      ID
	Level   Level
	Count   byte // pages answered while Met
	Issued  time.Time
	Expires time.Time
	Home    Network // where it was earned
}

// Gives reports whether the pass gives priority.
func (p Pass) Gives() bool { return p.Level != Met }

// Meet begins a pass that is yet to be earned.
func Meet(home Network, now time.Time) Pass {
	return Pass{ID: newID(), Level: Met, Issued: now, Expires: now.Add(knownLife), Home: home}
}

// Earned is the pass of someone who did the work or waited; id is that of the
// challenge or ticket, so that the same one gives the same pass again.
func Earned(l Level, id ID, home Network, now time.Time) Pass {
	return Pass{ID: id, Level: l, Issued: now, Expires: now.Add(earnedLife), Home: home}
}

// Answered is the pass after one more page was answered, outside an attack. It
// reports whether that changed anything that the visitor must be told. The id
// stays: whoever copies a pass while it grows has not got two.
func (p Pass) Answered(home Network, now time.Time) (Pass, bool) {
	switch {
	case p.Level == Met && p.Count+1 < knownCount:
		p.Count++
		return p, true
	case p.Level != Known && now.Sub(p.Issued) >= knownAfter,
		p.Level == Known && now.Sub(p.Issued) > knownLife/2:
		return Pass{ID: p.ID, Level: Known, Issued: now, Expires: now.Add(knownLife), Home: home}, true
	}
	return p, false
}

const passSize = 1 + 1 + 4 + 4 + 8 + 4

// Seal writes a pass as its cookie holds it.
func (b Book) Seal(p Pass) string {
	body := make([]byte, 0, passSize)
	body = append(body, byte(p.Level), p.Count)
	body = binary.BigEndian.AppendUint32(body, uint32(p.Issued.Unix()))
	body = binary.BigEndian.AppendUint32(body, uint32(p.Expires.Unix()))
	body = append(append(body, p.ID[:]...), p.Home[:]...)
	return b.seal(labelPass, body)
}

// Open reads a pass that holds now.
func (b Book) Open(text string, now time.Time) (Pass, bool) {
	body, ok := b.open(labelPass, text, passSize)
	if !ok || body[0] > byte(Known) {
		return Pass{}, false
	}
	p := Pass{Level: Level(body[0]), Count: body[1], Issued: seconds(body[2:]), Expires: seconds(body[6:]),
		ID: ID(body[10:18]), Home: Network(body[18:22])}
	return p, now.Before(p.Expires)
}

func seconds(b []byte) time.Time { return time.Unix(int64(binary.BigEndian.Uint32(b)), 0) }

// hash is the first eight bytes of SHA-256 over the parts.
func hash(parts ...[]byte) []byte {
	h := sha256.New()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)[:8]
}
