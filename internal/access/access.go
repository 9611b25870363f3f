// Package access decides: may this actor do this to this citizen's data, for
// this purpose. The rules are the agency's own Cedar policies; budgets bound
// how many citizens one person may look at, whatever the policies say.
//
// # Data flow
//
// [Load] reads policy files, checks every name in them against what Pasban
// passes to policies, and indexes them by action and service. [Engine.Decide]
// evaluates the few policies that can apply to a [Request] and returns the
// verdict with the ids of the policies that decided and reasons in words.
// [Budgets.Spend] runs inside the transaction that records the look, so that
// two looks at once cannot both spend the last of a budget.
//
// # What policies see
//
//	principal  Person::"<actor id>" in Role::"<role>"; id, role, kind, staff,
//	           and citizen if the person is known as one
//	           Citizen::"<subject id>" in Role::"citizen"; id, role, kind
//	           Visitor::"anonymous"; id "", role "", kind
//	action     Action::"view", "list", "create", "change", "approve", "hide"
//	resource   Data::"<service>/<resource>" in Service::"<service>"; service,
//	           and owner (a Citizen) if it is one citizen's data
//	context    purpose, case, purposes (a set: those to choose from), fields (a
//	           set), mode, time (a datetime), auth_age (seconds since the last
//	           passkey, -1 if never), requester (the actor id of whoever asked
//	           for what is to be approved, "" otherwise), hide_days (days, rounded
//	           up, for which the look is to be kept from the citizen; 0: not at all)
//
// A look that is to be hidden is decided twice: whether it may happen, and with
// action "hide" whether the citizen may be told of it only later.
//
// # Guarantees
//
// What no policy permits is denied; a forbid wins over every permit; a policy
// that cannot be evaluated denies and says so. A policy that names an unknown
// action, role, entity type or attribute is refused when it is loaded, because
// at run time it would silently never apply. Hiding is permitted by policies
// that name the action "hide" and by no other, also not by those for all actions. An Engine never changes: the same
// request always gets the same decision.
//
// # What this package must never do
//
// Write to the journal, open data, or keep what it was asked.
package access

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"

	"pasban"
)

// The actions that policies speak of.
const (
	View    = "view"    // open one citizen's data
	List    = "list"    // learn which records there are, without their content
	Create  = "create"  // begin a record
	Change  = "change"  // change a record or move it on in its workflow
	Approve = "approve" // confirm what someone else asked for
	Hide    = "hide"    // have the citizen told of a look only at a later date
)

// Actions lists every action, in the order shown to people.
func Actions() []string { return []string{View, List, Create, Change, Approve, Hide} }

// Request is what is to be decided: who wants to do what to whose data, and why.
type Request struct {
	Actor    pasban.Actor
	Action   string           // one of Actions
	Service  string           // declared service, or host of the guarded site
	Resource string           // record id, or pattern of the site's route
	Subject  pasban.SubjectID // whose data it is, "" if nobody's
	Fields   []string         // names of what would be shown or changed
	Purpose  pasban.Purpose
	// AllowedPurposes are those that the route or service declares.
	AllowedPurposes []string
	Mode            pasban.Mode
	Requester       string // Actor.ID of whoever asked for what is to be approved
	Now             time.Time
}

// policy is one compiled Cedar policy.
type policy struct {
	id     cedar.PolicyID
	cedar  *cedar.Policy
	reason string // @reason: what the person refused is told
}

// scope is the key of the index: an action of a service. Service "" holds the
// policies that do not name one.
type scope struct{ action, service string }

// Engine holds policies, compiled and indexed. It is immutable and safe for
// concurrent use. The zero Engine denies everything.
type Engine struct {
	byScope map[scope][]*policy // in the order of the files
	byID    map[cedar.PolicyID]*policy
}

// Permits reports whether any policy could permit an action.
func (e *Engine) Permits(action string) bool {
	for s, list := range e.byScope {
		if s.action == action && slices.ContainsFunc(list, func(p *policy) bool { return p.cedar.Effect() == cedar.Permit }) {
			return true
		}
	}
	return false
}

// Len returns the number of policies.
func (e *Engine) Len() int { return len(e.byID) }

// candidates are the policies that can apply to a request.
type candidates [2][]*policy

// All implements cedar.PolicyIterator.
func (c candidates) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for _, list := range c {
			for _, p := range list {
				if !yield(p.id, p.cedar) {
					return
				}
			}
		}
	}
}

// Decide returns the verdict and the reasons for it. It allows only if a
// policy permits, none forbids, and every candidate could be evaluated.
func (e *Engine) Decide(r Request) pasban.Decision {
	if !slices.Contains(Actions(), r.Action) {
		return pasban.Decision{Reasons: []string{fmt.Sprintf("there is no action %q", r.Action)}}
	}
	could := candidates{e.byScope[scope{r.Action, ""}]}
	if r.Service != "" {
		could[1] = e.byScope[scope{r.Action, r.Service}]
	}
	request, entities := r.cedar()
	verdict, why := cedar.Authorize(could, entities, request)
	var d pasban.Decision
	for _, reason := range why.Reasons {
		d.Policies = append(d.Policies, string(reason.PolicyID))
	}
	if len(why.Errors) > 0 {
		for _, failed := range why.Errors {
			d.Policies = append(d.Policies, string(failed.PolicyID))
			d.Reasons = append(d.Reasons, fmt.Sprintf("policy %s could not be evaluated: %s", failed.PolicyID, failed.Message))
		}
		return d
	}
	d.Allow = verdict == cedar.Allow
	switch {
	case d.Allow:
	case len(why.Reasons) > 0:
		for _, reason := range why.Reasons {
			d.Reasons = append(d.Reasons, e.forbids(reason.PolicyID))
		}
	default:
		d.Reasons = r.unpermitted()
	}
	return d
}

func (e *Engine) forbids(id cedar.PolicyID) string {
	if p := e.byID[id]; p != nil && p.reason != "" {
		return p.reason
	}
	return fmt.Sprintf("policy %s forbids it", id)
}

// unpermitted says in words why nothing may have permitted the request: what
// the person can put right comes last.
func (r Request) unpermitted() []string {
	who := string(r.Actor.Role)
	if who == "" {
		who = "someone who is not signed in"
	}
	out := []string{fmt.Sprintf("no policy permits %s to %s this", who, r.Action)}
	if len(r.AllowedPurposes) == 0 || r.Actor.Role == pasban.RoleCitizen || r.Actor.Role == "" {
		return out
	}
	switch {
	case r.Purpose.Code == "":
		out = append(out, "no purpose was given: one of "+strings.Join(r.AllowedPurposes, ", "))
	case !slices.Contains(r.AllowedPurposes, r.Purpose.Code):
		out = append(out, fmt.Sprintf("purpose %q is not one of %s", r.Purpose.Code, strings.Join(r.AllowedPurposes, ", ")))
	}
	if r.Purpose.Case == "" {
		out = append(out, "no case number was given")
	}
	return out
}

// cedar writes the request as Cedar has it. The package comment lists what
// policies see; the checks at loading know the same names.
func (r Request) cedar() (cedar.Request, types.EntityGetter) {
	entities := cedar.EntityMap{}
	add := func(uid cedar.EntityUID, parent cedar.EntityUID, attributes cedar.RecordMap) cedar.EntityUID {
		entities[uid] = cedar.Entity{UID: uid, Parents: cedar.NewEntityUIDSet(parent), Attributes: cedar.NewRecord(attributes)}
		return uid
	}
	role := cedar.NewEntityUID("Role", cedar.String(r.Actor.Role))
	attributes := cedar.RecordMap{"id": cedar.String(r.Actor.ID), "role": cedar.String(r.Actor.Role), "kind": cedar.String(r.Actor.Kind)}
	var principal cedar.EntityUID
	switch {
	case r.Actor.Role == "":
		attributes["kind"] = cedar.String(pasban.ActorAnonymous)
		principal = cedar.NewEntityUID("Visitor", "anonymous")
		entities[principal] = cedar.Entity{UID: principal, Attributes: cedar.NewRecord(attributes)}
	case r.Actor.Role == pasban.RoleCitizen && r.Actor.Subject != "":
		principal = add(citizen(r.Actor.Subject), role, attributes)
	default:
		attributes["staff"] = cedar.String(r.Actor.Staff)
		if r.Actor.Subject != "" {
			attributes["citizen"] = citizen(r.Actor.Subject)
		}
		principal = add(cedar.NewEntityUID("Person", cedar.String(r.Actor.ID)), role, attributes)
	}
	data := cedar.RecordMap{"service": cedar.String(r.Service)}
	if r.Subject != "" {
		data["owner"] = citizen(r.Subject)
	}
	resource := add(cedar.NewEntityUID("Data", cedar.String(r.Service+"/"+r.Resource)),
		cedar.NewEntityUID("Service", cedar.String(r.Service)), data)
	age := cedar.Long(-1)
	if !r.Actor.AuthAt.IsZero() {
		age = cedar.Long(max(0, r.Now.Sub(r.Actor.AuthAt)/time.Second))
	}
	return cedar.Request{
		Principal: principal, Action: cedar.NewEntityUID("Action", cedar.String(r.Action)), Resource: resource,
		Context: cedar.NewRecord(cedar.RecordMap{
			"purpose": cedar.String(r.Purpose.Code), "case": cedar.String(r.Purpose.Case),
			"purposes": set(r.AllowedPurposes), "fields": set(r.Fields), "mode": cedar.String(r.Mode),
			"time": cedar.NewDatetime(r.Now), "auth_age": age, "requester": cedar.String(r.Requester),
			"hide_days": cedar.Long(r.hideDays()),
		}),
	}, entities
}

// hideDays is for how many days the look is to be hidden, a begun one counting whole.
func (r Request) hideDays() int64 {
	const day = 24 * time.Hour
	if r.Purpose.HideUntil.IsZero() {
		return 0
	}
	return int64((max(0, r.Purpose.HideUntil.Sub(r.Now)) + day - 1) / day)
}

func citizen(id pasban.SubjectID) cedar.EntityUID {
	return cedar.NewEntityUID("Citizen", cedar.String(id))
}

func set(names []string) cedar.Set {
	values := make([]cedar.Value, len(names))
	for i, n := range names {
		values[i] = cedar.String(n)
	}
	return cedar.NewSet(values...)
}
