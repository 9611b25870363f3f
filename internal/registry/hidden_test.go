package registry_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pasban"
	"pasban/internal/access"
	"pasban/internal/registry"
	"pasban/internal/store/storetest"
)

// TestHiddenLook: a look that a court ordered is recorded now and told later;
// what no policy hides is refused, and the refusal is told at once.
func TestHiddenLook(t *testing.T) {
	r := open(t, storetest.SQLite(t))
	subject, err := r.vault.Subject(t.Context(), buyerCNIC)
	if err != nil {
		t.Fatal(err)
	}
	date := time.Now().Add(90 * 24 * time.Hour).Truncate(time.Millisecond)
	r.super.AuthAt = time.Now()
	look := func(edit func(l *registry.Look)) (registry.Disclosure, error) {
		l := registry.Look{Actor: r.super, Subjects: []pasban.Subject{subject}, Service: "land.example", Resource: "GET /records/{cnic}",
			Action: access.View, Fields: []string{"name"}, AllowedPurposes: []string{"inquiry"},
			Purpose: pasban.Purpose{Code: "inquiry", Case: "W.P. 17/2026", HideUntil: date}}
		if edit != nil {
			edit(&l)
		}
		return r.guard.Disclose(t.Context(), l, nil)
	}
	d, err := look(nil)
	if err != nil || len(d.Promises()) != 1 {
		t.Fatalf("%+v, %v", d, err)
	}
	e, err := r.journal.ByID(t.Context(), d.Entries[0].Fact.Body.ID)
	if err != nil {
		t.Fatal(err)
	}
	if b := e.Told(date.Add(-time.Second)); b.Who.Kind != pasban.ActorHidden || b.Purpose != "" || !b.Hidden.Date().Equal(date) {
		t.Errorf("told before its date: %+v", b)
	}
	if b := e.Told(date); b.Case != "W.P. 17/2026" || b.Who.Role != pasban.RoleSupervisor || !slices.Equal(b.Fields, []string{"name"}) {
		t.Errorf("told at its date: %+v", b)
	}
	if p := e.Fact.Restricted.Policies; !slices.Contains(p, "supervisors-hide-what-a-court-ordered") || !slices.Contains(p, "officers-see-for-a-case") {
		t.Errorf("decided by %v, want both decisions", p)
	}

	for name, c := range map[string]struct {
		edit func(l *registry.Look)
		why  string
	}{
		"an officer":   {func(l *registry.Look) { l.Actor = r.officer }, "no policy permits officer to hide"},
		"too long":     {func(l *registry.Look) { l.Purpose.HideUntil = date.AddDate(1, 0, 0) }, "no policy permits supervisor to hide"},
		"for ever":     {func(l *registry.Look) { l.Purpose.HideUntil = date.AddDate(200, 0, 0) }, "no look can be hidden for so long"},
		"until before": {func(l *registry.Look) { l.Purpose.HideUntil = time.Now().Add(-time.Hour) }, "has passed"},
		"a change":     {func(l *registry.Look) { l.Action = access.Change }, "cannot be hidden"},
	} {
		_, err := look(c.edit)
		if pasban.KindOf(err) != pasban.Forbidden || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v, want … %s …", name, err, c.why)
		}
		if f := r.last(t).Fact; f.Body.Kind != pasban.KindDecision || f.Body.Who.Kind == pasban.ActorHidden || f.Body.Hidden != (pasban.Hidden{}) {
			t.Errorf("%s: recorded as %+v", name, f.Body)
		}
	}

	// A page about nobody has nobody to hide from.
	d, err = look(func(l *registry.Look) { l.Subjects, l.AllowedPurposes = nil, nil })
	if err != nil || d.Entries[0].Fact.Body.Hidden != (pasban.Hidden{}) {
		t.Errorf("%+v, %v", d, err)
	}
}
