package main

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

// passkey is a software authenticator with one discoverable ES256 credential
// and no attestation (WebAuthn Level 3): what people hold in their hands.
type passkey struct {
	t      testing.TB
	origin string
	key    *ecdsa.PrivateKey
	id     []byte
	user   []byte
	uses   uint32
}

func newPasskey(t testing.TB, origin string) *passkey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	return &passkey{t: t, origin: origin, key: key, id: []byte(rand.Text())}
}

// challenge is what an authenticator reads of the options of both ceremonies.
type challenge struct {
	PublicKey struct {
		Challenge string
		RPID      string `json:"rpId"`
		RP        struct{ ID string }
		User      struct{ ID string }
	}
}

func (p *passkey) read(options []byte) (c challenge) {
	p.t.Helper()
	check(p.t, json.Unmarshal(options, &c))
	return c
}

func (p *passkey) clientData(kind, challenge string) []byte {
	return must(json.Marshal(map[string]any{"type": kind, "challenge": challenge, "origin": p.origin, "crossOrigin": false}))
}

// authData is the authenticator's data: user present and verified.
func (p *passkey) authData(rp string, flags byte) []byte {
	p.uses++
	hash := sha256.Sum256([]byte(rp))
	return binary.BigEndian.AppendUint32(append(hash[:], flags|0x05), p.uses)
}

// create answers the options for a new passkey.
func (p *passkey) create(options []byte) []byte {
	p.t.Helper()
	c := p.read(options)
	p.user = must(base64.RawURLEncoding.DecodeString(c.PublicKey.User.ID))
	point := must(p.key.PublicKey.Bytes())
	cose := must(webauthncbor.Marshal(map[int]any{1: 2, 3: -7, -1: 1, -2: point[1:33], -3: point[33:]}))
	data := append(p.authData(c.PublicKey.RP.ID, 0x40), make([]byte, 16)...) // no AAGUID
	data = binary.BigEndian.AppendUint16(data, uint16(len(p.id)))
	data = append(append(data, p.id...), cose...)
	return p.answer(map[string]any{
		"clientDataJSON":    b64(p.clientData("webauthn.create", c.PublicKey.Challenge)),
		"attestationObject": b64(must(webauthncbor.Marshal(map[string]any{"fmt": "none", "attStmt": map[string]any{}, "authData": data}))),
	})
}

// get answers the options for using the passkey.
func (p *passkey) get(options []byte) []byte {
	p.t.Helper()
	c := p.read(options)
	client, data := p.clientData("webauthn.get", c.PublicKey.Challenge), p.authData(c.PublicKey.RPID, 0)
	hash := sha256.Sum256(client)
	digest := sha256.Sum256(append(data[:len(data):len(data)], hash[:]...))
	return p.answer(map[string]any{
		"clientDataJSON": b64(client), "authenticatorData": b64(data), "userHandle": b64(p.user),
		"signature": b64(must(ecdsa.SignASN1(rand.Reader, p.key, digest[:]))),
	})
}

func (p *passkey) answer(response map[string]any) []byte {
	return must(json.Marshal(map[string]any{"id": b64(p.id), "rawId": b64(p.id), "type": "public-key",
		"clientExtensionResults": map[string]any{}, "response": response}))
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// must is for what fails only if the test itself is wrong.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
