package vault

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"

	"pasban"
)

// The form of everything sealed, version 1:
//
//	0x01 ‖ key id (8 bytes) ‖ nonce (24 bytes) ‖ XAES-256-GCM
//
// with the additional data (each part preceded by its length)
//
//	domain ‖ subject ‖ key id ‖ what the caller binds it to
const (
	sealVersion = 1
	idSize      = 8
	sealHeader  = 1 + idSize + xaesNonce
)

// The domains keep fields and evidence from opening as each other.
const (
	domainFact  = "pasban/vault/fact/v1"
	domainField = "pasban/vault/field/v1"
)

// Seal encrypts evidence, such as the body of a fact, under the subject's key
// ("" is the agency's own) and binds it to aad, which must begin with a name of
// the caller's own. It implements journal.Sealer. The key must exist: see
// [Vault.Subject].
func (v *Vault) Seal(ctx context.Context, subject pasban.SubjectID, plaintext, aad []byte) ([]byte, error) {
	return v.seal(ctx, domainFact, subject, plaintext, aad)
}

// Open reverses Seal, and opens no field. Its error is of kind NotFound if, and
// only if, the key was shredded. It implements journal.Sealer.
func (v *Vault) Open(ctx context.Context, subject pasban.SubjectID, sealed, aad []byte) ([]byte, error) {
	return v.open(ctx, domainFact, subject, sealed, aad)
}

func (v *Vault) seal(ctx context.Context, domain string, subject pasban.SubjectID, plaintext, aad []byte) ([]byte, error) {
	d, err := v.current(ctx, subject)
	if errors.Is(err, errNoRow) {
		return nil, &pasban.Error{Kind: pasban.Conflict, Msg: "the citizen has no key to seal with", Where: "vault", Hint: "ask for the Subject first"}
	}
	if err != nil {
		return nil, err
	}
	defer clear(d.key[:])
	id, err := hex.DecodeString(d.id)
	if err != nil {
		return nil, err
	}
	out := make([]byte, sealHeader, sealHeader+len(plaintext)+16)
	out[0] = sealVersion
	copy(out[1:], id)
	nonce := out[1+idSize : sealHeader]
	rand.Read(nonce)
	return xaesSeal(out, &d.key, nonce, plaintext, sealAAD(domain, subject, d.id, aad))
}

func (v *Vault) open(ctx context.Context, domain string, subject pasban.SubjectID, sealed, aad []byte) ([]byte, error) {
	bad := &pasban.Error{Kind: pasban.Invalid, Msg: "not what was sealed for this place", Where: "vault"}
	if len(sealed) < sealHeader || sealed[0] != sealVersion {
		return nil, bad
	}
	id := hex.EncodeToString(sealed[1 : 1+idSize])
	d, err := v.byID(ctx, subject, id)
	if err != nil {
		return nil, err
	}
	defer clear(d.key[:])
	plain, err := xaesOpen(&d.key, sealed[1+idSize:sealHeader], sealed[sealHeader:], sealAAD(domain, subject, id, aad))
	if err != nil {
		return nil, bad
	}
	return plain, nil
}

func sealAAD(domain string, subject pasban.SubjectID, id string, aad []byte) []byte {
	return lengthPrefixed(domain, string(subject), id, string(aad))
}

// lengthPrefixed joins parts so that no two lists of parts give the same bytes.
func lengthPrefixed(parts ...string) []byte {
	var out []byte
	for _, p := range parts {
		out = binary.BigEndian.AppendUint64(out, uint64(len(p)))
		out = append(out, p...)
	}
	return out
}
