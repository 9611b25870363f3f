package identity_test

import (
	"testing"

	"pasban/internal/identity/identitytest"
)

// authenticator is a passkey that fails the test when it cannot answer.
type authenticator struct {
	*identitytest.Passkey
	t testing.TB
}

func newAuthenticator(t testing.TB) *authenticator {
	t.Helper()
	p, err := identitytest.New(origin)
	if err != nil {
		t.Fatal(err)
	}
	return &authenticator{p, t}
}

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

// create answers the options for a new passkey.
func (a *authenticator) create(opts []byte) []byte {
	a.t.Helper()
	return a.must(a.Create(opts))
}

// get answers the options for using the passkey.
func (a *authenticator) get(opts []byte) []byte {
	a.t.Helper()
	return a.must(a.Get(opts))
}
