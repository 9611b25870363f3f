package registry

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"pasban"
	"pasban/internal/access"
	"pasban/internal/journal"
	"pasban/internal/store"
)

// Ledger says whether the public log follows the journal.
type Ledger interface {
	// Healthy returns nil, or why nothing may be disclosed: the log lags behind
	// its limit, its storage fails, or an audit found a difference.
	Healthy() error
}

// Journal is where facts are kept.
type Journal interface {
	Record(ctx context.Context, facts ...pasban.Fact) ([]journal.Entry, error)
	Commit(ctx context.Context, step func(tx *store.Tx) ([]pasban.Fact, error)) ([]journal.Entry, error)
}

var _ Journal = (*journal.Journal)(nil)

// Rules are what decides: exchanged as one when the config is reloaded.
type Rules struct {
	Policies *access.Engine
	Budgets  *access.Budgets
}

// GuardOptions are the parts of a Guard. All are required but Log.
type GuardOptions struct {
	Agency  string // Agency.ID of the config
	Rules   Rules
	Journal Journal
	Ledger  Ledger
	Log     *slog.Logger // nil: slog.Default
}

// Guard stands before every citizen's data, of declared services and of
// existing ones alike. It is safe for concurrent use.
type Guard struct {
	agency  string
	rules   atomic.Pointer[Rules]
	journal Journal
	ledger  Ledger
	log     *slog.Logger
}

// NewGuard returns a guard.
func NewGuard(o GuardOptions) (*Guard, error) {
	if o.Agency == "" || o.Rules.Policies == nil || o.Rules.Budgets == nil || o.Journal == nil || o.Ledger == nil {
		return nil, errors.New("registry: a guard needs an agency, policies, budgets, a journal and a ledger")
	}
	g := &Guard{agency: o.Agency, journal: o.Journal, ledger: o.Ledger, log: o.Log}
	if g.log == nil {
		g.log = slog.Default()
	}
	g.rules.Store(&o.Rules)
	return g, nil
}

// Reload exchanges the rules. Looks that are under way end under the old ones.
func (g *Guard) Reload(r Rules) { g.rules.Store(&r) }

// Hides reports whether any policy lets a citizen be told of a look only later.
func (g *Guard) Hides() bool { return g.rules.Load().Policies.Permits(access.Hide) }

// Look is what someone wants to see or change, and of whom.
type Look struct {
	Actor    pasban.Actor
	Subjects []pasban.Subject // whose data it is; none for a page about nobody
	Service  string           // declared service, or host of the guarded site
	Resource string           // record id, or pattern of the site's route
	Action   string           // one of access.Actions
	Fields   []string         // names of what is shown or changed
	// FieldsOf are the names per citizen, where they differ; Fields otherwise.
	FieldsOf map[pasban.SubjectID][]string
	Purpose  pasban.Purpose
	// AllowedPurposes are those that the route or service declares.
	AllowedPurposes []string
	Kind            pasban.Kind // look or change
	Mode            pasban.Mode // "": person
	Requester       string      // Actor.ID of whoever asked for what is to be approved
	// Client is from where it is asked: IP, UserAgent, Host, Method, Path, Query.
	Client pasban.Restricted
}

// Disclosure is the proof that a look may happen: it is accounted for.
type Disclosure struct {
	// Entries are the committed facts, one per citizen in the order of
	// Look.Subjects (without repetitions), each with its promise; one without a
	// citizen if the look is about nobody.
	Entries []journal.Entry
}

// Promises returns the promise of each entry.
func (d Disclosure) Promises() []pasban.Promise {
	out := make([]pasban.Promise, len(d.Entries))
	for i, e := range d.Entries {
		out[i] = e.Promise
	}
	return out
}

// Disclose is the one way to a citizen's data: decide, journal, and only then
// plaintext. When it returns without an error, the look at every one of the
// citizens is durable and promised, and change (which may be nil) has committed
// with it, in the same transaction. On any error nothing may be shown, and
// nothing was changed. A refusal is an error of kind Forbidden whose ID is the
// fact that recorded it; Unavailable means that the look could not be
// accounted for. A look whose Purpose.HideUntil is set is recorded like any
// other and told to the citizen at that date; a refused one is told at once.
func (g *Guard) Disclose(ctx context.Context, l Look, change func(tx *store.Tx) error) (Disclosure, error) {
	l = l.normal()
	rules := g.rules.Load()
	now := time.Now()

	// 1. Can it be accounted for at all? If the public log does not follow the
	//    journal, a promise given now might not be kept.
	if err := g.ledger.Healthy(); err != nil {
		return Disclosure{}, &pasban.Error{Kind: pasban.Unavailable, Msg: "looks cannot be accounted for at the moment", Err: err}
	}

	// 2. Decide, for each citizen by themselves. One refusal refuses the whole
	//    look, and is itself a fact about the citizen whose data was asked for.
	decisions := make([]pasban.Decision, len(l.Subjects))
	for i, subject := range l.Subjects {
		decisions[i] = l.decide(rules.Policies, subject, now)
		if !decisions[i].Allow {
			return Disclosure{}, g.refuse(ctx, l, subject, decisions[i], now)
		}
	}

	// 3. Journal. What is spent of the budget, what is changed, and the facts
	//    about it become durable in one transaction, or none of it does. Between
	//    counting a budget and spending it there is no gap for a second look.
	var exhausted *overspent
	entries, err := g.journal.Commit(ctx, func(tx *store.Tx) ([]pasban.Fact, error) {
		var err error
		if exhausted, err = spend(tx, rules.Budgets, l, now); err != nil {
			return nil, err
		}
		if change != nil {
			if err := change(tx); err != nil {
				return nil, err
			}
		}
		return g.facts(l, decisions, now), nil
	})

	// 4. A budget that is used up is a refusal like any other.
	if exhausted != nil {
		return Disclosure{}, g.refuse(ctx, l, exhausted.subject, pasban.Decision{Policies: []string{"budget"}, Reasons: []string{exhausted.reason}}, now)
	}
	if err != nil {
		return Disclosure{}, err
	}

	// 5. The transaction has committed: each fact carries the ledger key's
	//    promise. Only with that does the vault open fields, and only now may
	//    the first byte of a guarded page leave.
	for _, e := range entries {
		if len(e.Promise.Sig) == 0 {
			return Disclosure{}, &pasban.Error{Kind: pasban.Unavailable, Where: "journal", Msg: "a look was recorded without a promise", ID: e.Fact.Body.ID}
		}
	}
	return Disclosure{Entries: entries}, nil
}

// Permit decides about something that shows nobody's data, such as a work
// list. Only a refusal is journaled; it is returned as Disclose returns one.
func (g *Guard) Permit(ctx context.Context, l Look) error {
	l.Subjects = nil
	l = l.normal()
	now := time.Now()
	if d := g.rules.Load().Policies.Decide(l.request(pasban.Subject{}, now)); !d.Allow {
		return g.refuse(ctx, l, pasban.Subject{}, d, now)
	}
	return nil
}

// normal fills in what follows from the rest: one subject per citizen, the
// kind of the action, the mode. A look about nobody has one subject: nobody.
func (l Look) normal() Look {
	var subjects []pasban.Subject
	for _, s := range l.Subjects {
		if !slices.ContainsFunc(subjects, func(o pasban.Subject) bool { return o.ID == s.ID }) {
			subjects = append(subjects, s)
		}
	}
	if len(subjects) == 0 {
		subjects = []pasban.Subject{{}}
	}
	l.Subjects = subjects
	if l.Kind != pasban.KindChange {
		l.Kind = pasban.KindLook
		if l.Action != access.View && l.Action != access.List {
			l.Kind = pasban.KindChange
		}
	}
	if l.Mode == "" {
		l.Mode = pasban.ModePerson
	}
	return l
}

// fieldsOf returns the names of what would be shown or changed of a citizen.
func (l Look) fieldsOf(s pasban.Subject) []string {
	if fields, ok := l.FieldsOf[s.ID]; ok {
		return fields
	}
	return l.Fields
}

func (l Look) request(s pasban.Subject, now time.Time) access.Request {
	return access.Request{
		Actor: l.Actor, Action: l.Action, Service: l.Service, Resource: l.Resource, Subject: s.ID, Fields: l.fieldsOf(s),
		Purpose: l.Purpose, AllowedPurposes: l.AllowedPurposes, Mode: l.Mode, Requester: l.Requester, Now: now,
	}
}

// maxHide is the longest for which any policy can hide a look.
const maxHide = 10 * 365 * 24 * time.Hour

// decide asks whether the look may happen and, if the citizen is to be told of
// it only later, whether that may be.
func (l Look) decide(policies *access.Engine, s pasban.Subject, now time.Time) pasban.Decision {
	r := l.request(s, now)
	d := policies.Decide(r)
	if !d.Allow || l.Purpose.HideUntil.IsZero() || s == (pasban.Subject{}) {
		return d
	}
	wrong := ""
	switch ahead := l.Purpose.HideUntil.Sub(now); {
	case l.Kind != pasban.KindLook:
		wrong = "a change of a citizen's data cannot be hidden from them"
	case ahead <= 0:
		wrong = "the date until which the look is to be hidden has passed"
	case ahead > maxHide:
		wrong = "no look can be hidden for so long"
	}
	if wrong != "" {
		return pasban.Decision{Reasons: []string{wrong}}
	}
	r.Action = access.Hide
	hide := policies.Decide(r)
	hide.Policies = append(d.Policies, hide.Policies...)
	return hide
}

// overspent names the citizen at whom a budget was used up.
type overspent struct {
	subject pasban.Subject
	reason  string
}

var errOverspent = errors.New("a budget is used up")

// spend counts the look against the actor's budgets. If one is used up it says
// at whom, and returns errOverspent so that nothing commits. Beginning a record shows
// nobody anything, so it costs nothing.
func spend(tx *store.Tx, budgets *access.Budgets, l Look, now time.Time) (*overspent, error) {
	if l.Action == access.Create {
		return nil, nil
	}
	for _, s := range l.Subjects {
		ok, reason, err := budgets.Spend(tx, l.Actor, s.ID, now)
		if err != nil {
			return nil, err
		}
		if !ok {
			return &overspent{s, reason}, errOverspent
		}
	}
	return nil, nil
}

// facts are what is recorded of an allowed look: one per citizen.
func (g *Guard) facts(l Look, decisions []pasban.Decision, now time.Time) []pasban.Fact {
	out := make([]pasban.Fact, len(l.Subjects))
	for i, s := range l.Subjects {
		out[i] = g.fact(l.Kind, l, s, decisions[i], now)
	}
	return out
}

func (g *Guard) fact(kind pasban.Kind, l Look, s pasban.Subject, d pasban.Decision, now time.Time) pasban.Fact {
	f := pasban.NewFact(kind, g.agency, l.Actor, now)
	f.Subject = s
	f.Body.Service, f.Body.Resource, f.Body.Action = l.Service, l.Resource, l.Action
	f.Body.Fields = l.fieldsOf(s)
	f.Body.Purpose, f.Body.Case, f.Body.Basis = l.Purpose.Code, l.Purpose.Case, l.Purpose.Basis
	f.Body.Mode = l.Mode
	if kind == pasban.KindLook && s != (pasban.Subject{}) && !l.Purpose.HideUntil.IsZero() {
		f.Body.Hidden.Until = l.Purpose.HideUntil.UTC().Format(pasban.TimeFormat)
	}
	f.Restricted = l.Client
	f.Restricted.Actor = l.Actor.ID
	f.Restricted.Policies, f.Restricted.Reasons = d.Policies, d.Reasons
	return f
}

// refuse records the refusal, even if whoever asked has gone away meanwhile,
// and returns the error that says so. A refusal that cannot be recorded is
// still a refusal, of kind Unavailable.
func (g *Guard) refuse(ctx context.Context, l Look, s pasban.Subject, d pasban.Decision, now time.Time) error {
	f := g.fact(pasban.KindDecision, l, s, d, now)
	f.Body.Outcome = pasban.Denied
	f.Restricted.Status = http.StatusForbidden
	if _, err := g.journal.Record(context.WithoutCancel(ctx), f); err != nil {
		g.log.ErrorContext(ctx, "refusal not recorded", "err", err)
		return &pasban.Error{Kind: pasban.Unavailable, Where: "journal", Msg: "the refusal could not be recorded", Err: err}
	}
	return &pasban.Error{Kind: pasban.Forbidden, Msg: strings.Join(d.Reasons, "; "), ID: f.Body.ID,
		Hint: "if you need this for your work, ask your supervisor"}
}
