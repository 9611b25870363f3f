// Package identitytest has the passkey that tests and benchmarks sign in with.
// Nothing here is for production code.
package identitytest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"

	"github.com/go-webauthn/webauthn/protocol/webauthncbor"
)

// Flags of an authenticator's data (WebAuthn Level 3, section 6.1).
const (
	UserPresent  = 0x01
	UserVerified = 0x04
	attested     = 0x40
)

// Passkey is a software authenticator with one discoverable ES256 credential and
// no attestation (WebAuthn Level 3): what people hold in their hands. Its fields are
// what a test may bend.
type Passkey struct {
	Key    *ecdsa.PrivateKey
	ID     []byte
	Handle []byte // of its person, from the first ceremony on
	Count  uint32 // of its uses
	Still  bool   // Count does not move
	Origin string // what its browser says
	Flags  byte   // user present and verified
	RPID   string // "" is the one of the options
}

// New makes a passkey for the browser's origin.
func New(origin string) (*Passkey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return &Passkey{Key: key, ID: []byte(rand.Text()), Origin: origin, Flags: UserPresent | UserVerified}, err
}

// options is what an authenticator reads of the options of both ceremonies.
type options struct {
	PublicKey struct {
		Challenge string
		RPID      string `json:"rpId"`
		RP        struct{ ID string }
		User      struct{ ID string }
	}
}

// Create answers the options for a new passkey, both in JSON.
func (p *Passkey) Create(opts []byte) ([]byte, error) {
	var o options
	err := json.Unmarshal(opts, &o)
	if err != nil {
		return nil, err
	}
	if p.Handle, err = base64.RawURLEncoding.DecodeString(o.PublicKey.User.ID); err != nil {
		return nil, err
	}
	point, err := p.Key.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	cose, err := webauthncbor.Marshal(map[int]any{1: 2, 3: -7, -1: 1, -2: point[1:33], -3: point[33:]})
	if err != nil {
		return nil, err
	}
	data := append(p.data(o.PublicKey.RP.ID, p.Flags|attested), make([]byte, 16)...) // no AAGUID
	data = binary.BigEndian.AppendUint16(data, uint16(len(p.ID)))
	data = append(append(data, p.ID...), cose...)
	object, err := webauthncbor.Marshal(map[string]any{"fmt": "none", "attStmt": map[string]any{}, "authData": data})
	if err != nil {
		return nil, err
	}
	client, err := p.client("webauthn.create", o.PublicKey.Challenge)
	if err != nil {
		return nil, err
	}
	return p.answer(map[string]any{"clientDataJSON": b64(client), "attestationObject": b64(object)})
}

// Get answers the options for using the passkey, both in JSON.
func (p *Passkey) Get(opts []byte) ([]byte, error) {
	var o options
	if err := json.Unmarshal(opts, &o); err != nil {
		return nil, err
	}
	client, err := p.client("webauthn.get", o.PublicKey.Challenge)
	if err != nil {
		return nil, err
	}
	data, hash := p.data(o.PublicKey.RPID, p.Flags), sha256.Sum256(client)
	digest := sha256.Sum256(append(data[:len(data):len(data)], hash[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, p.Key, digest[:])
	if err != nil {
		return nil, err
	}
	return p.answer(map[string]any{"clientDataJSON": b64(client), "authenticatorData": b64(data), "userHandle": b64(p.Handle), "signature": b64(signature)})
}

// data is the authenticator's data.
func (p *Passkey) data(rp string, flags byte) []byte {
	if p.RPID != "" {
		rp = p.RPID
	}
	if !p.Still {
		p.Count++
	}
	hash := sha256.Sum256([]byte(rp))
	return binary.BigEndian.AppendUint32(append(hash[:], flags), p.Count)
}

func (p *Passkey) client(kind, challenge string) ([]byte, error) {
	return json.Marshal(map[string]any{"type": kind, "challenge": challenge, "origin": p.Origin, "crossOrigin": false})
}

func (p *Passkey) answer(response map[string]any) ([]byte, error) {
	return json.Marshal(map[string]any{"id": b64(p.ID), "rawId": b64(p.ID), "type": "public-key", "clientExtensionResults": map[string]any{}, "response": response})
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
