package identity

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"pasban"
	"pasban/internal/store"
)

// Person is somebody who may sign in.
type Person struct {
	ID       string // agency-internal, e.g. "officer:lhr-032"
	Role     pasban.Role
	NameEn   string
	NameUr   string
	Staff    string         // staff number; "" for a citizen
	Subject  pasban.Subject // the citizen that this person is; zero if that is not known of staff
	Disabled bool
	Added    time.Time
	Passkeys int // how many are registered; only People and Lookup fill it in

	handle []byte // WebAuthn user handle
}

// Name is what the person is called in a language, their English name if they
// have no other.
func (p Person) Name(lang string) string {
	if lang == "ur" && p.NameUr != "" {
		return p.NameUr
	}
	return p.NameEn
}

// Actor is the person as decisions and facts see them. signedIn is when they
// last used a passkey, zero if never.
func (p Person) Actor(signedIn time.Time) pasban.Actor {
	kind := pasban.ActorPerson
	if p.Role == pasban.RoleCitizen {
		kind = pasban.ActorCitizen
	}
	return pasban.Actor{ID: p.ID, Kind: kind, Role: p.Role, Staff: p.Staff, Subject: p.Subject.ID, AuthAt: signedIn}
}

// NewPerson is what a person is added with.
type NewPerson struct {
	ID     string // "" makes one: of role and staff number, or at random for a citizen
	Role   pasban.Role
	NameEn string
	NameUr string
	Staff  string // required, but for citizens
	// CNIC is required for citizens. With it staff are known as the citizens
	// that they are, so that policies can keep them from their own files.
	CNIC pasban.CNIC
}

var (
	idForm    = regexp.MustCompile(`^[a-z0-9][a-z0-9:._-]{0,63}$`)
	staffForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9./-]{2,31}$`)
)

// checked completes n, or says what is wrong with it.
func (n NewPerson) checked() (NewPerson, error) {
	bad := func(field, msg, hint string) (NewPerson, error) {
		return NewPerson{}, &pasban.Error{Kind: pasban.Invalid, Where: field, Msg: msg, Hint: hint}
	}
	n.NameEn, n.NameUr = strings.TrimSpace(n.NameEn), strings.TrimSpace(n.NameUr)
	unprintable := func(r rune) bool { return !unicode.IsPrint(r) && r != '\u200c' && r != '\u200d' }
	switch {
	case !slices.Contains(pasban.Roles(), n.Role):
		return bad("role", fmt.Sprintf("no such role: %q", n.Role), fmt.Sprint(pasban.Roles()))
	case n.NameEn == "" || len(n.NameEn) > 200 || len(n.NameUr) > 400 || strings.ContainsFunc(n.NameEn+n.NameUr, unprintable):
		return bad("name", "not a name", "printable, at most 200 bytes in English and 400 in Urdu; the English one is required")
	case n.Role == pasban.RoleCitizen && n.Staff != "":
		return bad("staff", "a citizen has no staff number", "")
	case n.Role != pasban.RoleCitizen && !staffForm.MatchString(n.Staff):
		return bad("staff", "not a staff number", "3 to 32 letters, digits, dots, slashes or hyphens, such as LHR-032")
	}
	if n.Role == pasban.RoleCitizen || n.CNIC != "" {
		c, err := pasban.ParseCNIC(string(n.CNIC))
		if err != nil {
			return NewPerson{}, err
		}
		n.CNIC = c
	}
	switch {
	case n.ID != "":
	case n.Role == pasban.RoleCitizen:
		n.ID = "citizen:" + pasban.NewID()[:16]
	default:
		n.ID = string(n.Role) + ":" + strings.ReplaceAll(strings.ToLower(n.Staff), "/", "-")
	}
	if !idForm.MatchString(n.ID) {
		return bad("id", "not a person's id", "at most 64 of a-z, 0-9, colon, dot, underscore and hyphen")
	}
	return n, nil
}

// profile is the sealed part of a person.
type profile struct {
	Role     pasban.Role `json:"role"`
	NameEn   string      `json:"name_en"`
	NameUr   string      `json:"name_ur,omitempty"`
	Staff    string      `json:"staff,omitempty"`
	CNIC     pasban.CNIC `json:"cnic,omitempty"`
	Disabled bool        `json:"disabled,omitempty"`
}

// AddPerson adds somebody and records who did. They cannot sign in before they
// have used a link ([Identity.Enrol]). It is a Conflict if the id, the staff
// number or the citizen is known already.
func (i *Identity) AddPerson(ctx context.Context, by pasban.Actor, n NewPerson) (Person, error) {
	people, err := i.AddPeople(ctx, by, n)
	if err != nil {
		return Person{}, err
	}
	return people[0], nil
}

// maxAtOnce is the most people that one AddPeople takes.
const maxAtOnce = 5000

// AddPeople is AddPerson for many: all of them are there afterwards, or none.
func (i *Identity) AddPeople(ctx context.Context, by pasban.Actor, list ...NewPerson) ([]Person, error) {
	if len(list) > maxAtOnce {
		return nil, &pasban.Error{Kind: pasban.Limited, Msg: fmt.Sprintf("at most %d people at once", maxAtOnce)}
	}
	people, rows := make([]Person, len(list)), make([][]byte, len(list))
	errs := make([]error, len(list))
	gate := make(chan struct{}, 64) // wide enough that their keys share commits
	var wg sync.WaitGroup
	for k, n := range list {
		gate <- struct{}{}
		wg.Go(func() {
			defer func() { <-gate }()
			people[k], rows[k], errs[k] = i.prepare(ctx, n)
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	_, err := i.o.Journal.Commit(ctx, func(tx *store.Tx) ([]pasban.Fact, error) {
		facts := make([]pasban.Fact, len(people))
		for k, p := range people {
			res, err := tx.Exec(`INSERT INTO identity_person (id, handle, staff, subject, disabled, added, sealed)
				VALUES (?, ?, ?, ?, 0, ?, ?) ON CONFLICT DO NOTHING`,
				p.ID, p.handle, p.Staff, string(p.Subject.ID), p.Added.UnixMilli(), rows[k])
			if err := one(res, err, "the person, the staff number or the citizen is known already", p.ID); err != nil {
				return nil, err
			}
			facts[k] = i.adminFact("person.add", by, p)
		}
		return facts, nil
	})
	if err != nil {
		return nil, err
	}
	return people, nil
}

// prepare checks and seals a new person.
func (i *Identity) prepare(ctx context.Context, n NewPerson) (Person, []byte, error) {
	n, err := n.checked()
	if err != nil {
		return Person{}, nil, err
	}
	p := Person{ID: n.ID, Role: n.Role, NameEn: n.NameEn, NameUr: n.NameUr, Staff: n.Staff, Added: time.Now(), handle: make([]byte, 32)}
	rand.Read(p.handle)
	if n.CNIC != "" {
		if p.Subject, err = i.o.Subjects.Subject(ctx, n.CNIC); err != nil {
			return Person{}, nil, err
		}
	}
	sealed, err := i.sealPerson(ctx, p)
	return p, sealed, err
}

func (i *Identity) sealPerson(ctx context.Context, p Person) ([]byte, error) {
	return i.seal(ctx, keyOf(p.Subject.ID, p.Staff), rowPerson, []byte(p.ID), profile{
		Role: p.Role, NameEn: p.NameEn, NameUr: p.NameUr, Staff: p.Staff, CNIC: p.Subject.CNIC, Disabled: p.Disabled})
}

// keyOf is whose key a person's row is sealed with: a citizen's own, so that
// destroying it forgets them, and the agency's for staff.
func keyOf(subject pasban.SubjectID, staff string) pasban.SubjectID {
	if staff != "" {
		return ""
	}
	return subject
}

// about is the citizen whom facts about the person concern: staff act in
// office, and what they do is no entry about them as citizens.
func (p Person) about() pasban.Subject {
	if p.Role != pasban.RoleCitizen {
		return pasban.Subject{}
	}
	return p.Subject
}

// personColumns are the columns that personRow reads.
const personColumns = `p.id, p.handle, p.staff, p.subject, p.disabled, p.added, p.sealed`

// personRow is a person as the database holds them.
type personRow struct {
	id       string
	handle   []byte
	staff    string
	subject  string
	disabled int64
	added    int64
	sealed   []byte
}

func (r *personRow) dest() []any {
	return []any{&r.id, &r.handle, &r.staff, &r.subject, &r.disabled, &r.added, &r.sealed}
}

// person opens a row. Only what is sealed counts for role, number and names.
func (i *Identity) person(ctx context.Context, r personRow) (Person, error) {
	var pr profile
	if err := i.open(ctx, keyOf(pasban.SubjectID(r.subject), r.staff), rowPerson, []byte(r.id), r.sealed, &pr); err != nil {
		return Person{}, err
	}
	if pr.Staff != r.staff || (pr.CNIC == "") != (r.subject == "") {
		return Person{}, &pasban.Error{Kind: pasban.Invalid, Where: "person", Msg: "the row is not the one that was sealed"}
	}
	return Person{ID: r.id, Role: pr.Role, NameEn: pr.NameEn, NameUr: pr.NameUr, Staff: pr.Staff,
		Subject:  pasban.Subject{ID: pasban.SubjectID(r.subject), CNIC: pr.CNIC},
		Disabled: pr.Disabled || r.disabled != 0, Added: time.UnixMilli(r.added), handle: r.handle}, nil
}

// Lookup returns one person, NotFound if there is none of that id.
func (i *Identity) Lookup(ctx context.Context, id string) (Person, error) {
	var r personRow
	var passkeys int
	err := i.st.QueryRow(ctx, `SELECT `+personColumns+`, (SELECT COUNT(*) FROM identity_passkey k WHERE k.person = p.id)
		FROM identity_person p WHERE p.id = ?`, id).Scan(append(r.dest(), &passkeys)...)
	if errors.Is(err, sql.ErrNoRows) {
		return Person{}, &pasban.Error{Kind: pasban.NotFound, Where: "person", Msg: fmt.Sprintf("nobody has the id %q", id), Hint: "pasban user list"}
	}
	if err != nil {
		return Person{}, fmt.Errorf("look up a person: %w", err)
	}
	p, err := i.person(ctx, r)
	p.Passkeys = passkeys
	return p, err
}

// People lists up to max people in the order of their ids, beginning after the
// given one ("" for the first page). roles restrict it, none means all. Someone
// whose row cannot be opened, such as a citizen whose key was destroyed, is left out.
func (i *Identity) People(ctx context.Context, after string, max int, roles ...pasban.Role) ([]Person, error) {
	var out []Person
	for len(out) < max {
		rows, err := i.peopleRows(ctx, after, max)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			after = r.id
			p, err := i.person(ctx, r.personRow)
			if err != nil && pasban.KindOf(err) != pasban.NotFound && pasban.KindOf(err) != pasban.Invalid {
				return nil, err
			}
			p.Passkeys = r.passkeys
			if err == nil && (len(roles) == 0 || slices.Contains(roles, p.Role)) && len(out) < max {
				out = append(out, p)
			}
		}
		if len(rows) < max {
			break
		}
	}
	return out, nil
}

type listedRow struct {
	personRow
	passkeys int
}

func (i *Identity) peopleRows(ctx context.Context, after string, max int) (out []listedRow, err error) {
	rows, err := i.st.Query(ctx, `SELECT `+personColumns+`, (SELECT COUNT(*) FROM identity_passkey k WHERE k.person = p.id)
		FROM identity_person p WHERE p.id > ? ORDER BY p.id LIMIT ?`, after, max)
	if err != nil {
		return nil, fmt.Errorf("list people: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var r listedRow
		if err := rows.Scan(append(r.dest(), &r.passkeys)...); err != nil {
			return nil, fmt.Errorf("list people: %w", err)
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// Disable ends the person's sessions and links and lets them in no more. It is
// recorded with who did it. Disabling twice is a Conflict.
func (i *Identity) Disable(ctx context.Context, by pasban.Actor, id string) error {
	return i.setDisabled(ctx, by, id, true)
}

// Enable lets a disabled person in again, with the passkeys that they had.
func (i *Identity) Enable(ctx context.Context, by pasban.Actor, id string) error {
	return i.setDisabled(ctx, by, id, false)
}

func (i *Identity) setDisabled(ctx context.Context, by pasban.Actor, id string, disabled bool) error {
	p, err := i.Lookup(ctx, id)
	if err != nil {
		return err
	}
	action, now, was := "person.enable", 0, 1
	if disabled {
		action, now, was = "person.disable", 1, 0
	}
	p.Disabled = disabled
	sealed, err := i.sealPerson(ctx, p)
	if err != nil {
		return err
	}
	_, err = i.o.Journal.Commit(ctx, func(tx *store.Tx) ([]pasban.Fact, error) {
		res, err := tx.Exec(`UPDATE identity_person SET disabled = ?, sealed = ? WHERE id = ? AND disabled = ?`, now, sealed, id, was)
		if err := one(res, err, "the person is that already", id); err != nil {
			return nil, err
		}
		if _, err := tx.Exec(`DELETE FROM identity_session WHERE person = ?`, id); err != nil {
			return nil, err
		}
		if _, err := tx.Exec(`DELETE FROM identity_link WHERE person = ? AND used = 0`, id); err != nil {
			return nil, err
		}
		return []pasban.Fact{i.adminFact(action, by, p)}, nil
	})
	return err
}

// one turns a statement that changed no row into a Conflict.
func one(res sql.Result, err error, msg, where string) error {
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil {
		return err
	} else if n == 0 {
		return &pasban.Error{Kind: pasban.Conflict, Msg: msg, Where: where}
	}
	return nil
}

// adminFact is the fact of a change to a person, for the citizen to read if it
// is about one.
func (i *Identity) adminFact(action string, by pasban.Actor, p Person) pasban.Fact {
	f := pasban.NewFact(pasban.KindAdmin, i.o.Agency, by, time.Now())
	f.Subject = p.about()
	f.Body.Action, f.Body.Service = action, "identity"
	f.Restricted.More = map[string]string{"target": p.ID, "role": string(p.Role)}
	return f
}
