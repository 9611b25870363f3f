package identity

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"pasban"
	"pasban/internal/store"
)

// passkey is the sealed part of a registered passkey.
type passkey struct {
	Person     string              `json:"person"`
	Credential webauthn.Credential `json:"credential"`
}

// account is a person as the WebAuthn library asks for them.
type account struct {
	person   Person
	passkeys []webauthn.Credential
}

var _ webauthn.User = account{}

func (a account) WebAuthnID() []byte                         { return a.person.handle }
func (a account) WebAuthnDisplayName() string                { return a.person.NameEn }
func (a account) WebAuthnCredentials() []webauthn.Credential { return a.passkeys }
func (a account) WebAuthnName() string {
	if a.person.Staff != "" {
		return a.person.NameEn + " (" + a.person.Staff + ")"
	}
	return a.person.NameEn
}

// credentialHash is how facts name a passkey.
func credentialHash(id []byte) string {
	sum := sha256.Sum256(id)
	return hex.EncodeToString(sum[:])
}

// errUnknownPasskey means that no passkey has the id that was presented.
var errUnknownPasskey = errors.New("no such passkey")

// owner returns the account that a passkey belongs to, with that passkey only.
func (i *Identity) owner(ctx context.Context, id []byte) (account, error) {
	var r personRow
	var sealed []byte
	var count int64
	err := i.st.QueryRow(ctx, `SELECT `+personColumns+`, k.sign_count, k.sealed FROM identity_passkey k
		JOIN identity_person p ON p.id = k.person WHERE k.id = ?`, id).Scan(append(r.dest(), &count, &sealed)...)
	if errors.Is(err, sql.ErrNoRows) {
		return account{}, errUnknownPasskey
	}
	if err != nil {
		return account{}, fmt.Errorf("look up a passkey: %w", err)
	}
	var k passkey
	if err := i.open(ctx, "", rowPasskey, id, sealed, &k); err != nil {
		return account{}, err
	}
	p, err := i.person(ctx, r)
	if err != nil {
		return account{}, err
	}
	if k.Person != p.ID {
		return account{}, errUnknownPasskey
	}
	k.Credential.Authenticator.SignCount = uint32(count)
	return account{person: p, passkeys: []webauthn.Credential{k.Credential}}, nil
}

// descriptors are the passkeys that a person has, so that an authenticator
// registers no second one beside its first.
func (i *Identity) descriptors(ctx context.Context, personID string) (out []protocol.CredentialDescriptor, err error) {
	rows, err := i.st.Query(ctx, `SELECT id FROM identity_passkey WHERE person = ? ORDER BY added`, personID)
	if err != nil {
		return nil, fmt.Errorf("list passkeys: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		d := protocol.CredentialDescriptor{Type: protocol.PublicKeyCredentialType}
		var id []byte
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("list passkeys: %w", err)
		}
		d.CredentialID = id
		out = append(out, d)
	}
	return out, rows.Err()
}

// verified is what a good assertion proves.
type verified struct {
	person     Person
	credential *webauthn.Credential
}

// refusal is why an attempt failed: a code for the journal, never for the visitor.
type refusal struct {
	reason     string
	person     *Person // whose passkey it was, if that is known
	credential string  // credentialHash, "" if none was presented
	cause      error
}

// verify checks an assertion against the challenge it answers. Exactly one of
// its results is set; err is for what is no fault of the visitor.
func (i *Identity) verify(ctx context.Context, c *ceremony, body []byte) (good *verified, no *refusal, err error) {
	parsed, err := protocol.ParseCredentialRequestResponseBytes(body)
	if err != nil {
		return nil, &refusal{reason: "malformed", cause: err}, nil
	}
	who := credentialHash(parsed.RawID)
	if c == nil {
		return nil, &refusal{reason: "no_challenge", credential: who}, nil
	}
	a, err := i.owner(ctx, parsed.RawID)
	switch {
	case errors.Is(err, errUnknownPasskey), err != nil && pasban.KindOf(err) == pasban.NotFound: // the citizen's key is gone
		return nil, &refusal{reason: "unknown_passkey", credential: who}, nil
	case err != nil && pasban.KindOf(err) == pasban.Invalid:
		return nil, &refusal{reason: "tampered_row", credential: who, cause: err}, nil
	case err != nil:
		return nil, nil, err
	}
	no = &refusal{person: &a.person, credential: who}
	_, cred, err := i.auth.ValidatePasskeyLogin(func(_, _ []byte) (webauthn.User, error) { return a, nil }, c.data, parsed)
	switch {
	case err != nil:
		no.reason, no.cause = "bad_assertion", err
	case cred.Authenticator.CloneWarning:
		no.reason = "counter_went_back"
	case a.person.Disabled:
		no.reason = "disabled"
	default:
		return &verified{person: a.person, credential: cred}, nil, nil
	}
	return nil, no, nil
}

// keepUse returns the step that stores the counter and the flags of a use. Of
// two uses with the same counter one succeeds, unless the authenticator keeps
// no counter at all.
func (i *Identity) keepUse(ctx context.Context, v *verified, now time.Time) (func(tx *store.Tx) error, error) {
	cred := *v.credential
	count := int64(cred.Authenticator.SignCount)
	sealed, err := i.seal(ctx, "", rowPasskey, cred.ID, passkey{Person: v.person.ID, Credential: cred})
	if err != nil {
		return nil, err
	}
	return func(tx *store.Tx) error {
		res, err := tx.Exec(`UPDATE identity_passkey SET sign_count = ?, used = ?, sealed = ?
			WHERE id = ? AND person = ? AND (sign_count < ? OR sign_count = 0)`, count, now.UnixMilli(), sealed, cred.ID, v.person.ID, count)
		return one(res, err, "the passkey's counter did not move", "")
	}, nil
}

// register checks a new credential against the challenge it answers and keeps
// it, using up the link, and signs the person in.
func (i *Identity) register(w http.ResponseWriter, r *http.Request, c *ceremony, p Person, link, body []byte) (*refusal, error) {
	ctx, now := r.Context(), time.Now()
	parsed, err := protocol.ParseCredentialCreationResponseBytes(body)
	if err != nil {
		return &refusal{reason: "malformed", person: &p, cause: err}, nil
	}
	cred, err := i.auth.CreateCredential(account{person: p}, c.data, parsed)
	if err != nil {
		return &refusal{reason: "bad_attestation", person: &p, cause: err}, nil
	}
	cred.Attestation = webauthn.CredentialAttestation{} // nothing is asked of it later
	who := credentialHash(cred.ID)
	sealed, err := i.seal(ctx, "", rowPasskey, cred.ID, passkey{Person: p.ID, Credential: *cred})
	if err != nil {
		return nil, err
	}
	added := i.adminFact("passkey.add", p.Actor(now), p)
	added.Restricted = ClientOf(r)
	added.Restricted.Actor = p.ID
	added.Restricted.More = map[string]string{"target": p.ID, "role": string(p.Role), "credential": who}
	err = i.start(w, r, p, now, map[string]string{"how": "enrolment", "credential": who}, func(tx *store.Tx) ([]pasban.Fact, error) {
		if err := useLink(tx, link, now); err != nil {
			return nil, err
		}
		res, err := tx.Exec(`INSERT INTO identity_passkey (id, person, sign_count, added, used, sealed)
			VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			cred.ID, p.ID, int64(cred.Authenticator.SignCount), now.UnixMilli(), now.UnixMilli(), sealed)
		if err := one(res, err, "this passkey is registered already", ""); err != nil {
			return nil, err
		}
		return []pasban.Fact{added}, nil
	})
	if kind := pasban.KindOf(err); err != nil && (kind == pasban.NotFound || kind == pasban.Conflict) {
		return &refusal{reason: "link_or_passkey_used", person: &p, credential: who, cause: err}, nil
	}
	return nil, err
}
