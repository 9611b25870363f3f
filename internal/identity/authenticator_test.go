package identity_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"testing"

	"github.com/go-webauthn/webauthn/protocol/webauthncbor"
)

// authenticator is a software passkey provider: ES256, no attestation, one
// discoverable credential. Its fields are what a test may bend.
type authenticator struct {
	t      testing.TB
	key    *ecdsa.PrivateKey
	id     []byte
	handle []byte
	count  uint32
	origin string // what its browser says
	flags  byte   // user present and verified, unless a test says otherwise
	rpID   string // "" is the one of the options
	still  bool   // the counter does not move
}

const (
	userPresent  = 0x01
	userVerified = 0x04
	attested     = 0x40
)

func newAuthenticator(t testing.TB) *authenticator {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authenticator{t: t, key: key, id: make([]byte, 16), origin: origin, flags: userPresent | userVerified}
	rand.Read(a.id)
	return a
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func (a *authenticator) must(b []byte, err error) []byte {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
	return b
}

// options are those of both ceremonies, as far as an authenticator reads them.
type options struct {
	PublicKey struct {
		Challenge        string
		RPID             string `json:"rpId"`
		RP               struct{ ID string }
		User             struct{ ID, Name, DisplayName string }
		UserVerification string
		Selection        struct {
			ResidentKey, UserVerification string
			RequireResidentKey            bool
		} `json:"authenticatorSelection"`
		Attestation string
		Exclude     []struct{ ID string } `json:"excludeCredentials"`
		Allow       []struct{ ID string } `json:"allowCredentials"`
	}
}

func (a *authenticator) clientData(kind, challenge string) []byte {
	return a.must(json.Marshal(map[string]any{"type": kind, "challenge": challenge, "origin": a.origin, "crossOrigin": false}))
}

func (a *authenticator) authData(rpID string, flags byte) []byte {
	if a.rpID != "" {
		rpID = a.rpID
	}
	if !a.still {
		a.count++
	}
	hash := sha256.Sum256([]byte(rpID))
	return binary.BigEndian.AppendUint32(append(hash[:], flags), a.count)
}

// create answers the options for a new passkey.
func (a *authenticator) create(opts []byte) []byte {
	a.t.Helper()
	var o options
	if err := json.Unmarshal(opts, &o); err != nil {
		a.t.Fatal(err)
	}
	a.handle = a.must(base64.RawURLEncoding.DecodeString(o.PublicKey.User.ID))
	pub, err := a.key.PublicKey.Bytes()
	if err != nil {
		a.t.Fatal(err)
	}
	cose := a.must(webauthncbor.Marshal(map[int]any{1: 2, 3: -7, -1: 1, -2: pub[1:33], -3: pub[33:]}))
	data := a.authData(o.PublicKey.RP.ID, a.flags|attested)
	data = append(data, make([]byte, 16)...) // AAGUID
	data = binary.BigEndian.AppendUint16(data, uint16(len(a.id)))
	data = append(append(data, a.id...), cose...)
	object := a.must(webauthncbor.Marshal(map[string]any{"fmt": "none", "attStmt": map[string]any{}, "authData": data}))
	return a.must(json.Marshal(map[string]any{"id": b64(a.id), "rawId": b64(a.id), "type": "public-key",
		"clientExtensionResults": map[string]any{}, "response": map[string]any{
			"clientDataJSON": b64(a.clientData("webauthn.create", o.PublicKey.Challenge)), "attestationObject": b64(object)}}))
}

// get answers the options for using the passkey.
func (a *authenticator) get(opts []byte) []byte {
	a.t.Helper()
	var o options
	if err := json.Unmarshal(opts, &o); err != nil {
		a.t.Fatal(err)
	}
	client := a.clientData("webauthn.get", o.PublicKey.Challenge)
	data := a.authData(o.PublicKey.RPID, a.flags)
	hash := sha256.Sum256(client)
	signed := sha256.Sum256(append(data[:len(data):len(data)], hash[:]...))
	sig := a.must(ecdsa.SignASN1(rand.Reader, a.key, signed[:]))
	return a.must(json.Marshal(map[string]any{"id": b64(a.id), "rawId": b64(a.id), "type": "public-key",
		"clientExtensionResults": map[string]any{}, "response": map[string]any{"clientDataJSON": b64(client),
			"authenticatorData": b64(data), "signature": b64(sig), "userHandle": b64(a.handle)}}))
}
