// Package pasban holds the nouns that every room of Pasban shares and the
// offline verification of receipts. It is the only package of the module that
// others may import: an auditor's tool or a citizen's app needs nothing else.
//
// # The nouns
//
// An [Actor] asks to see or change something of a [Subject] for a [Purpose];
// a [Decision] says yes or no and why. What happened is a [Fact]. A fact that
// someone must be able to account for becomes a leaf of the ledger: its
// [Leaf] is public and carries no personal data, its [Opening] (salt and body)
// is shown only to those entitled. The committed journal row yields a
// [Promise], signed at once; the promise is later exchanged for a [Receipt],
// which proves inclusion under a signed checkpoint and verifies offline.
//
// # Byte formats
//
// Whatever is signed or hashed is defined here, explicitly: bodies are
// canonical JSON (RFC 8785), leaves are 34 bytes, promises are a text of five
// lines. Nothing depends on what an encoder happens to print.
//
// # What this package must never do
//
// It does no I/O, holds no state, and never sees a private key.
package pasban

import (
	"time"
)

// ActorKind says what sort of actor acted, as the citizen is told it.
type ActorKind string

const (
	ActorPerson    ActorKind = "person"    // a signed-in human being
	ActorCitizen   ActorKind = "citizen"   // the data subject, or another citizen
	ActorSystem    ActorKind = "system"    // an automatic check, no person saw it
	ActorAnonymous ActorKind = "anonymous" // not signed in
	ActorHidden    ActorKind = "hidden"    // said when the entry is disclosed
)

// Role is what an actor may be at an agency; policies speak of roles.
type Role string

const (
	RoleCitizen    Role = "citizen"
	RoleOfficer    Role = "officer"    // handles cases
	RoleSupervisor Role = "supervisor" // approves, reviews emergencies
	RoleAnalyst    Role = "analyst"    // works the SOC console
	RoleAuditor    Role = "auditor"    // reads ledger and openings under a warrant
	RoleAdmin      Role = "admin"      // manages people and configuration
)

// Roles lists every role that a person can be given, in the order shown to people.
func Roles() []Role {
	return []Role{RoleCitizen, RoleOfficer, RoleSupervisor, RoleAnalyst, RoleAuditor, RoleAdmin}
}

// Actor is who asks. The zero value is the anonymous visitor.
type Actor struct {
	ID      string    // agency-internal, e.g. "officer:lhr-032"; never in a leaf's body
	Kind    ActorKind // what the citizen is told
	Role    Role
	Staff   string    // staff number of a person in office, "" otherwise
	Subject SubjectID // the citizen that this actor is, "" if none
	AuthAt  time.Time // when a passkey was last used, zero if never
}

// SubjectID names a citizen without revealing them: a keyed hash of the CNIC
// in lower-case hex. It is stable within one agency and meaningless outside it.
type SubjectID string

// Subject is the citizen whose data is at stake.
type Subject struct {
	ID   SubjectID
	CNIC CNIC // held in memory only; stored sealed
}

// Purpose is the reason that an actor gave.
type Purpose struct {
	Code  string // one of the route's or service's declared purposes, e.g. "mutation"
	Case  string // the agency's case number
	Basis string // the law that allows it, from the service's declaration
	// HideUntil is when the citizen is told of it; the zero time: at once.
	HideUntil time.Time
}

// Decision is the verdict of policy and the reasons for it. The zero value
// denies: a check that could not decide has denied.
type Decision struct {
	Allow    bool
	Policies []string // ids of the policies that decided
	Reasons  []string // in words, for the log and for the person refused
}

// Mode says how a look came about, as the citizen is told it.
type Mode string

const (
	ModePerson    Mode = "person"
	ModeAutomatic Mode = "automatic"
	ModeEmergency Mode = "emergency"
)

// Event is one occurrence on its way to detection: an OCSF object (class_uid,
// time, severity_id …) with the flat fields that Sigma's taxonomy names beside
// them. Keys of flat fields are matched exactly.
type Event map[string]any
