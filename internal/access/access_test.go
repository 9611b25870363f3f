package access_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pasban"
	"pasban/internal/access"
	"pasban/internal/config"
)

func examples(t testing.TB) *access.Engine {
	t.Helper()
	files, err := filepath.Glob("../../examples/policies/*.cedar")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	e, err := access.Load(files)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func load(t testing.TB, policies ...string) (*access.Engine, error) {
	t.Helper()
	var files []string
	for i, text := range policies {
		file := filepath.Join(t.TempDir(), fmt.Sprintf("%d.cedar", i))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return access.Load(files)
}

var (
	now        = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	purposes   = []string{"mutation", "dispute"}
	forACase   = pasban.Purpose{Code: "mutation", Case: "LHR-2026-17"}
	aysha      = pasban.Actor{ID: "citizen:1", Kind: pasban.ActorCitizen, Role: pasban.RoleCitizen, Subject: "aa"}
	officer    = pasban.Actor{ID: "officer:lhr-032", Kind: pasban.ActorPerson, Role: pasban.RoleOfficer, Staff: "lhr-032"}
	supervisor = pasban.Actor{ID: "supervisor:lhr-001", Kind: pasban.ActorPerson, Role: pasban.RoleSupervisor, Subject: "ss"}
	analyst    = pasban.Actor{ID: "analyst:1", Kind: pasban.ActorPerson, Role: pasban.RoleAnalyst}
	auditor    = pasban.Actor{ID: "auditor:1", Kind: pasban.ActorPerson, Role: pasban.RoleAuditor}
	admin      = pasban.Actor{ID: "admin:1", Kind: pasban.ActorPerson, Role: pasban.RoleAdmin}
	outside    = pasban.Actor{}
)

// TestExamplePolicies says in a table what examples/policies promise.
func TestExamplePolicies(t *testing.T) {
	e := examples(t)
	none := pasban.Purpose{}
	ordered := append(slices.Clone(purposes), "inquiry")
	fresh := func(r *access.Request) { r.Actor.AuthAt = now.Add(-time.Minute) }
	byOrder := func(days int) pasban.Purpose {
		return pasban.Purpose{Code: "inquiry", Case: "W.P. 17/2026", HideUntil: now.AddDate(0, 0, days)}
	}
	for _, row := range []struct {
		name    string
		actor   pasban.Actor
		action  string
		subject pasban.SubjectID
		purpose pasban.Purpose
		allowed []string // purposes to choose from
		more    func(*access.Request)
		want    string // the deciding policy, "" if none; "-" in front if denied
	}{
		{"citizen, own", aysha, access.View, "aa", none, purposes, nil, "citizens-see-their-own"},
		{"citizen, other", aysha, access.View, "bb", none, purposes, nil, "-"},
		{"citizen, other, with a purpose", aysha, access.View, "bb", forACase, purposes, nil, "-"},
		{"citizen applies", aysha, access.Create, "aa", none, purposes, nil, "citizens-apply"},
		{"citizen changes own", aysha, access.Change, "aa", none, purposes, nil, "-"},
		{"citizen's work list", aysha, access.List, "", none, purposes, nil, "-"},
		{"officer for a case", officer, access.View, "aa", forACase, purposes, nil, "officers-see-for-a-case"},
		{"officer without a case", officer, access.View, "aa", pasban.Purpose{Code: "mutation"}, purposes, nil, "-"},
		{"officer without a purpose", officer, access.View, "aa", pasban.Purpose{Case: "1"}, purposes, nil, "-"},
		{"officer for another purpose", officer, access.View, "aa", pasban.Purpose{Code: "curiosity", Case: "1"}, purposes, nil, "-"},
		{"officer where no purpose is declared", officer, access.View, "aa", forACase, nil, nil, "-"},
		{"officer changes", officer, access.Change, "aa", forACase, purposes, nil, "officers-change-for-a-case"},
		{"officer changes without a case", officer, access.Change, "aa", none, purposes, nil, "-"},
		{"officer approves", officer, access.Approve, "aa", forACase, purposes, nil, "-"},
		{"officer's work list", officer, access.List, "", none, purposes, nil, "officers-see-their-work-list"},
		{"supervisor for a case", supervisor, access.View, "aa", forACase, purposes, nil, "officers-see-for-a-case"},
		{"supervisor approves", supervisor, access.Approve, "aa", forACase, purposes,
			func(r *access.Request) { r.Requester = officer.ID }, "supervisors-approve-for-a-case"},
		{"supervisor approves their own", supervisor, access.Approve, "aa", forACase, purposes,
			func(r *access.Request) { r.Requester = supervisor.ID }, "-nobody-approves-their-own"},
		{"supervisor, own file", supervisor, access.View, "ss", forACase, purposes, nil, "-nobody-handles-their-own-file"},
		{"analyst", analyst, access.View, "aa", forACase, purposes, nil, "-watchers-see-no-citizen"},
		{"admin", admin, access.View, "aa", forACase, purposes, nil, "-watchers-see-no-citizen"},
		{"auditor", auditor, access.View, "aa", forACase, purposes, nil, "-"},
		{"outside", outside, access.View, "aa", forACase, purposes, nil, "-nobody-from-outside"},
		{"outside, a page about nobody", outside, access.View, "", none, nil, nil, "pages-about-nobody"},
		{"outside, a page with purposes", outside, access.View, "", none, purposes, nil, "-"},
		{"officer, a search form", officer, access.View, "", none, nil, nil, "pages-about-nobody"},
		{"a role by name only", pasban.Actor{Role: pasban.RoleCitizen}, access.View, "aa", none, purposes, nil, "-"},
		{"citizens of no subject", pasban.Actor{Role: pasban.RoleCitizen}, access.View, "", none, purposes, nil, "-"},
		{"supervisor hides, by order", supervisor, access.Hide, "aa", byOrder(180), ordered, fresh, "supervisors-hide-what-a-court-ordered"},
		{"supervisor hides for longer", supervisor, access.Hide, "aa", byOrder(184), ordered, fresh, "-"},
		{"supervisor hides, without a passkey", supervisor, access.Hide, "aa", byOrder(180), ordered, nil, "-"},
		{"supervisor hides a case", supervisor, access.Hide, "aa", forACase, ordered, fresh, "-"},
		{"supervisor hides, own file", supervisor, access.Hide, "ss", byOrder(180), ordered, fresh, "-nobody-handles-their-own-file"},
		{"officer hides", officer, access.Hide, "aa", byOrder(180), ordered, fresh, "-"},
		{"analyst hides", analyst, access.Hide, "aa", byOrder(180), ordered, fresh, "-watchers-see-no-citizen"},
		{"citizen hides", aysha, access.Hide, "aa", byOrder(1), ordered, fresh, "-"},
		{"unknown action", officer, "peek", "aa", forACase, purposes, nil, "-"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := access.Request{Actor: row.actor, Action: row.action, Service: "land-transfer", Resource: "r1",
				Subject: row.subject, Purpose: row.purpose, AllowedPurposes: row.allowed, Mode: pasban.ModePerson, Now: now}
			if row.more != nil {
				row.more(&r)
			}
			d := e.Decide(r)
			if got := map[bool]string{true: "", false: "-"}[d.Allow] + strings.Join(d.Policies, ","); got != row.want {
				t.Errorf("got %s, want %s (%v)", got, row.want, d.Reasons)
			}
			if !d.Allow && len(d.Reasons) == 0 {
				t.Error("denied without a reason")
			}
		})
	}
}

func TestReasons(t *testing.T) {
	e := examples(t)
	r := access.Request{Actor: officer, Action: access.View, Service: "s", Resource: "r", Subject: "aa", AllowedPurposes: purposes,
		Purpose: pasban.Purpose{Code: "x"}, Now: now}
	want := []string{"no policy permits officer to view this", `purpose "x" is not one of mutation, dispute`, "no case number was given"}
	if d := e.Decide(r); !slices.Equal(d.Reasons, want) {
		t.Errorf("got %q", d.Reasons)
	}
	r.Actor = outside
	if d := e.Decide(r); !slices.Equal(d.Reasons, []string{"sign in first"}) {
		t.Errorf("got %q", d.Reasons)
	}
}

// TestFailsClosed: no policies, a forbid beside a permit, and a policy that
// cannot be evaluated all deny.
func TestFailsClosed(t *testing.T) {
	r := access.Request{Actor: officer, Action: access.View, Service: "s", Resource: "r", Subject: "aa", Purpose: forACase, AllowedPurposes: purposes, Now: now}
	for _, row := range []struct {
		name     string
		policies []string
		allow    bool
		say      string
	}{
		{"no files", nil, false, "no policy permits"},
		{"empty file", []string{"// nothing\n"}, false, "no policy permits"},
		{"permit", []string{`@id("p") permit(principal in Role::"officer", action, resource);`}, true, ""},
		{"forbid wins", []string{`@id("p") permit(principal in Role::"officer", action, resource);`,
			`@id("f") @reason("closed") forbid(principal, action, resource);`}, false, "closed"},
		{"forbid wins, other order", []string{`@id("f") forbid(principal, action, resource);`,
			`@id("p") permit(principal in Role::"officer", action, resource);`}, false, "policy f forbids it"},
		{"an error denies", []string{`@id("p") permit(principal in Role::"officer", action, resource);`,
			`@id("e") forbid(principal, action, resource) when { principal.citizen == resource.owner };`}, false, "policy e could not be evaluated"},
		{"forbid of another service", []string{`@id("p") permit(principal in Role::"officer", action, resource);`,
			`@id("f") forbid(principal, action, resource in Service::"t");`}, true, ""},
		{"forbid of this service", []string{`@id("p") permit(principal in Role::"officer", action, resource);`,
			`@id("f") forbid(principal, action, resource in Service::"s");`}, false, "policy f forbids it"},
		{"forbid of another action", []string{`@id("p") permit(principal in Role::"officer", action, resource);`,
			`@id("f") forbid(principal, action in [Action::"change", Action::"approve"], resource);`}, true, ""},
		{"permit of one service", []string{`@id("p") permit(principal in Role::"officer", action == Action::"view", resource is Data in Service::"s");`}, true, ""},
		{"permit of one record", []string{`@id("p") permit(principal in Role::"officer", action == Action::"view", resource == Data::"s/r");`}, true, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			e, err := load(t, row.policies...)
			if err != nil {
				t.Fatal(err)
			}
			d := e.Decide(r)
			if d.Allow != row.allow || !strings.Contains(strings.Join(d.Reasons, "; "), row.say) {
				t.Errorf("%v %q", d.Allow, d.Reasons)
			}
		})
	}
	if d := new(access.Engine).Decide(r); d.Allow {
		t.Error("the zero engine allows")
	}
}

func TestProblems(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"syntax", "permit (principal, action, resource)\nwhen { context.purpose = \"a\" };", "0.cedar:2:"},
		{"not cedar", "hello", "0.cedar:1:6: not a Cedar policy at the end"},
		{"unfinished", `permit (principal`, "not a Cedar policy"},
		{"action", `permit (principal in Role::"officer", action == Action::"veiw", resource);`, `0.cedar:1:57: unknown action "veiw" (did you mean "view"?)`},
		{"action in a list", `permit (principal in Role::"officer", action in [Action::"view", Action::"open"], resource);`, `unknown action "open"`},
		{"role", `permit (principal in Role::"oficer", action, resource);`, `unknown role "oficer" (did you mean "officer"?)`},
		{"role in a condition", "permit (principal, action, resource)\nwhen { principal in [Role::\"clerk\"] };", `0.cedar:2:28: unknown role "clerk"`},
		{"entity type", `permit (principal in Group::"officer", action, resource);`, "unknown entity type Group"},
		{"is", `permit (principal is Oficer, action, resource);`, "unknown entity type Oficer"},
		{"is in a condition", `permit (principal, action, resource) when { principal is Citzen };`, `unknown entity type Citzen (did you mean "Citizen"?)`},
		{"context", "permit (principal, action, resource)\nwhen { context.purposs == \"x\" };", `0.cedar:2:16: context has no attribute "purposs" (did you mean "purpose"?)`},
		{"principal", `permit (principal, action, resource) when { principal has subject };`, `principal has no attribute "subject"`},
		{"resource", `permit (principal, action, resource) when { resource.owner.x == 1 && resource.subject == principal };`, `resource has no attribute "subject"`},
		{"everybody", `permit (principal, action, resource);`, "permits it to everybody"},
		{"annotation", `@idd("x") permit (principal is Citizen, action, resource);`, `unknown annotation @idd (did you mean "id"?)`},
		{"empty id", `@id("") permit (principal is Citizen, action, resource);`, "not an id"},
		{"same id", `@id("x") permit (principal is Citizen, action, resource);` + "\n" + `@id("x") permit (principal is Citizen, action, resource);`, `0.cedar:2:6: id "x" is taken by the policy at`},
		{"nested", `permit (principal is Citizen, action, resource) when { ` + strings.Repeat("(", 200) + "1" + strings.Repeat(")", 200) + " == 1 };", "nested more than 100 deep"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := load(t, row.text)
			if _, ok := errors.AsType[config.Problems](err); !ok {
				t.Fatalf("accepted, or not Problems: %v", err)
			}
			if !strings.Contains(err.Error(), row.want) {
				t.Errorf("got  %v\nwant … %s …", err, row.want)
			}
		})
	}
	if _, err := access.Load([]string{"nowhere.cedar"}); err == nil || !strings.Contains(err.Error(), "nowhere.cedar: not readable") {
		t.Errorf("absent file: %v", err)
	}
}

// TestWithoutID: a policy without @id is named by its place.
func TestWithoutID(t *testing.T) {
	e, err := load(t, "// comment\n\npermit (principal is Citizen, action, resource);")
	if err != nil {
		t.Fatal(err)
	}
	d := e.Decide(access.Request{Actor: aysha, Action: access.View, Now: now})
	if len(d.Policies) != 1 || d.Policies[0] != "0.cedar:3" {
		t.Errorf("policies %v", d.Policies)
	}
}

// TestHideIsNamed: secrecy is never permitted by a policy that does not speak of
// it, and forbidden by every one that forbids all.
func TestHideIsNamed(t *testing.T) {
	hide := access.Request{Actor: officer, Action: access.Hide, Service: "s", Subject: "aa", Now: now, Purpose: pasban.Purpose{HideUntil: now.Add(time.Hour)}}
	const named = `permit (principal, action == Action::"hide", resource) when { context.hide_days == 1 };`
	for _, row := range []struct {
		policies []string
		want     bool
		permits  bool
	}{
		{[]string{`permit (principal in Role::"officer", action, resource);`}, false, false},
		{[]string{named}, true, true},
		{[]string{named, `forbid (principal, action, resource);`}, false, true},
		{[]string{`permit (principal in Role::"officer", action in [Action::"view", Action::"hide"], resource in Service::"s");`}, true, true},
		{[]string{`forbid (principal, action == Action::"hide", resource);`}, false, false},
	} {
		e, err := load(t, row.policies...)
		if err != nil {
			t.Fatal(err)
		}
		if d := e.Decide(hide); d.Allow != row.want || e.Permits(access.Hide) != row.permits {
			t.Errorf("%v: allowed %v, permitted by some policy %v", row.policies, d.Allow, e.Permits(access.Hide))
		}
	}
}

// TestVocabulary evaluates every attribute that the checks admit, so that what
// a policy may name and what it is given are one list.
func TestVocabulary(t *testing.T) {
	e, err := load(t, `@id("all") permit (principal, action, resource) when {
		principal.id == "p" && principal.role == "officer" && principal.kind == "person" && principal.staff == "7" &&
		principal.citizen == Citizen::"cc" && principal == Person::"p" &&
		resource.service == "s" && resource.owner == Citizen::"aa" && resource == Data::"s/r" && resource in Service::"s" &&
		context.purpose == "a" && context.case == "c" && context.purposes.contains("a") && context.fields.contains("phone") &&
		context.mode == "emergency" && context.time > datetime("2026-01-01") && context.auth_age == 90 && context.requester == "q" && context.hide_days == 3
	};`)
	if err != nil {
		t.Fatal(err)
	}
	d := e.Decide(access.Request{
		Actor:  pasban.Actor{ID: "p", Kind: pasban.ActorPerson, Role: pasban.RoleOfficer, Staff: "7", Subject: "cc", AuthAt: now.Add(-90 * time.Second)},
		Action: access.View, Service: "s", Resource: "r", Subject: "aa", Fields: []string{"phone"},
		Purpose: pasban.Purpose{Code: "a", Case: "c", HideUntil: now.Add(49 * time.Hour)}, AllowedPurposes: []string{"a"}, Mode: pasban.ModeEmergency, Requester: "q", Now: now,
	})
	if !d.Allow {
		t.Error(d)
	}
}

// FuzzLoad: no file of policies makes loading panic, and an engine that was
// loaded decides.
func FuzzLoad(f *testing.F) {
	files, _ := filepath.Glob("../../examples/policies/*.cedar")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`permit(principal is Citizen, action, resource) when { "a\u{41}" like "*" };`))
	f.Fuzz(func(t *testing.T, data []byte) {
		file := filepath.Join(t.TempDir(), "p.cedar")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		e, err := access.Load([]string{file})
		if err != nil {
			if _, ok := errors.AsType[config.Problems](err); !ok {
				t.Errorf("not Problems: %v", err)
			}
			return
		}
		e.Decide(access.Request{Actor: officer, Action: access.View, Now: now})
	})
}

func BenchmarkDecide(b *testing.B) {
	e := examples(b)
	r := access.Request{Actor: officer, Action: access.View, Service: "land-transfer", Resource: "r1", Subject: "aa",
		Purpose: forACase, AllowedPurposes: purposes, Now: now}
	for b.Loop() {
		e.Decide(r)
	}
}

// BenchmarkDecideAmongMany has 500 policies of other services beside those of
// the example: the index keeps them out of the way.
func BenchmarkDecideAmongMany(b *testing.B) {
	files, err := filepath.Glob("../../examples/policies/*.cedar")
	if err != nil {
		b.Fatal(err)
	}
	var many strings.Builder
	for i := range 500 {
		fmt.Fprintf(&many, "permit (principal in Role::\"officer\", action == Action::\"view\", resource in Service::\"s%d\")\nwhen { context.case != \"\" };\n", i)
	}
	file := filepath.Join(b.TempDir(), "many.cedar")
	if err := os.WriteFile(file, []byte(many.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	e, err := access.Load(append(files, file))
	if err != nil || e.Len() < 500 {
		b.Fatal(e, err)
	}
	r := access.Request{Actor: officer, Action: access.View, Service: "land-transfer", Resource: "r1", Subject: "aa",
		Purpose: forACase, AllowedPurposes: purposes, Now: now}
	for b.Loop() {
		e.Decide(r)
	}
}
