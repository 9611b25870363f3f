// Package identity knows who is asking: the people of an agency and its
// citizens, the passkeys that prove it is them, and their sessions.
//
// # Main types
//
// A [Person] is somebody who may sign in: an officer with a staff number, or a
// citizen bound to a CNIC. A one-time link ([Identity.Enrol]) lets a person
// register a passkey; a passkey signs them in; a [Session] is what a signed-in
// browser holds. The session also carries the [Work] that an officer chose: the
// purpose and the case of what they are about to look at.
//
// # The way of a sign-in
//
//	begin: challenge, kept here → authenticator → finish: verify, check the
//	counter, journal, session → cookie
//
// [Identity.Handler] serves that way and its pages, [Identity.Middleware] puts
// the session of a request into its context, [FromContext] reads it.
//
// # Guarantees
//
//   - A passkey counts only with user verification, for this host and these
//     origins, for a challenge given out once and not long ago, with a counter
//     that has moved.
//   - Every attempt to sign in, good or bad, and every change to people, links
//     and passkeys is a fact of the journal, committed with the change itself.
//   - Of links and sessions only the SHA-256 of a 256-bit token is stored. A link
//     works once. Signing in always makes a new session and ends the one that
//     the browser came with.
//   - Rows are sealed and bound to their place: who can write to the database
//     but has no keys can neither add a person, a role, a passkey, a link nor a
//     session, nor read a name or a CNIC.
//   - What a failed attempt is told does not depend on why it failed.
//
// # What it must never do
//
// It never logs a token, a CNIC or a name, never lets an answer tell whether
// somebody has an account, and never redirects to another site.
package identity

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"io/fs"
	"net/http"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"pasban"
	"pasban/internal/journal"
	"pasban/internal/page"
	"pasban/internal/store"
)

//go:embed migrations
var migrations embed.FS

//go:embed templates/*.html
var templates embed.FS

// Subjects knows citizens by their number.
type Subjects interface {
	// Subject returns the citizen and makes sure that their key exists.
	Subject(ctx context.Context, c pasban.CNIC) (pasban.Subject, error)
}

// Options say for whom identity works and with what. Journal, Sealer, Subjects,
// Pages, RPID and Origins are required.
type Options struct {
	Agency   string           // the agency's id, as facts carry it
	Journal  *journal.Journal // on the same store
	Sealer   journal.Sealer   // seals rows; the subject "" is the agency's own key
	Subjects Subjects
	Pages    *page.Pages

	RPID    string   // host that passkeys are bound to
	RPName  string   // what authenticators call it; "" is the RPID
	Origins []string // from which people sign in, such as https://land.example

	LinkLife time.Duration // of an enrolment link; 0 is 72 hours
	Idle     time.Duration // a session ends after so long without a request; 0 is 30 minutes
	Life     time.Duration // a session ends after so long in any case; 0 is 12 hours
	WorkLife time.Duration // a chosen purpose and case hold so long; 0 is 2 hours
	Failures int           // failed attempts that a client has at once, one more every three seconds; 0 is 20
}

// Identity keeps people, passkeys and sessions. It is safe for concurrent use.
type Identity struct {
	o          Options
	st         *store.Store
	auth       *webauthn.WebAuthn
	ceremonies ceremonies
	attempts   attempts
	mux        *http.ServeMux
}

// New makes the tables if need be and hands the templates to Pages.
func New(ctx context.Context, st *store.Store, o Options) (*Identity, error) {
	if o.Journal == nil || o.Sealer == nil || o.Subjects == nil || o.Pages == nil || o.RPID == "" || len(o.Origins) == 0 {
		return nil, errors.New("identity: journal, sealer, subjects, pages, relying party and origins are required")
	}
	o.RPName = cmp.Or(o.RPName, o.RPID)
	o.LinkLife = cmp.Or(o.LinkLife, 72*time.Hour)
	o.Idle = cmp.Or(o.Idle, 30*time.Minute)
	o.Life = cmp.Or(o.Life, 12*time.Hour)
	o.WorkLife = cmp.Or(o.WorkLife, 2*time.Hour)
	o.Failures = cmp.Or(o.Failures, 20)
	if err := st.Migrate(ctx, "identity", migrations); err != nil {
		return nil, err
	}
	auth, err := webauthn.New(&webauthn.Config{
		RPID: o.RPID, RPDisplayName: o.RPName, RPOrigins: o.Origins,
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementRequired, RequireResidentKey: protocol.ResidentKeyRequired(),
			UserVerification: protocol.VerificationRequired,
		},
		Timeouts: webauthn.TimeoutsConfig{
			Login:        webauthn.TimeoutConfig{Enforce: true, Timeout: ceremonyLife, TimeoutUVD: ceremonyLife},
			Registration: webauthn.TimeoutConfig{Enforce: true, Timeout: ceremonyLife, TimeoutUVD: ceremonyLife},
		},
	})
	if err != nil {
		return nil, &pasban.Error{Kind: pasban.Invalid, Where: "identity", Msg: "the relying party or an origin is not usable", Err: err}
	}
	sub, err := fs.Sub(templates, "templates")
	if err != nil {
		return nil, err
	}
	if err := o.Pages.Add(page.Portal, sub); err != nil {
		return nil, err
	}
	i := &Identity{o: o, st: st, auth: auth}
	i.attempts.burst = float64(o.Failures)
	i.routes()
	return i, nil
}
