package console

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"pasban"
	"pasban/internal/page"
	"pasban/internal/sentinel"
)

// fakeTables stands for the guard: one table with a row that differs, and what
// it was asked.
type fakeTables struct {
	asked []string
	err   error
}

func (f *fakeTables) Status(context.Context) ([]sentinel.Status, error) {
	return []sentinel.Status{{Table: "owners", Source: "public.parcel_owner", Baseline: "aa", Rows: 1234567, Follows: true, Open: 1, Changed: "cc", Origin: hostile,
		Audit: time.Now().Add(-3 * time.Minute).UTC().Format(time.RFC3339)}}, f.err
}

func (f *fakeTables) Differences(context.Context, string) ([]sentinel.Difference, error) {
	was, is := "7\t61101-1234567-1\tx", "7\t35202-7654321-3\t"+hostile
	return []sentinel.Difference{{ID: "d1", Key: "7", Kind: "changed", Before: &was, After: &is, Columns: []string{"owner_cnic"}, By: "eve", Fact: "ff", Leaf: "ee", Contested: true, Found: time.Now()}}, nil
}

func (f *fakeTables) Waiting(context.Context) ([]sentinel.Request, error) {
	return []sentinel.Request{{ID: "r1", Table: "owners", Kind: sentinel.KindRepair, By: "analyst:1", Reason: hostile, At: time.Now(), Rows: []string{"d1"}},
		{ID: "r2", Table: "owners", Kind: sentinel.KindAttest, By: "supervisor:1", At: time.Now()}}, nil
}

func (f *fakeTables) Ask(_ context.Context, who pasban.Actor, r sentinel.Request) (sentinel.Request, error) {
	f.asked = append(f.asked, strings.Join([]string{who.ID, r.Kind, r.Table, strings.Join(r.Rows, "+"), r.Reason}, " "))
	return r, f.err
}

func (f *fakeTables) Decide(_ context.Context, who pasban.Actor, id string, approve bool) error {
	f.asked = append(f.asked, who.ID+" "+id+" "+map[bool]string{true: "yes", false: "no"}[approve])
	return f.err
}

func TestTables(t *testing.T) {
	r := newRig(t)
	if w := r.do("GET", "/soc/tables", nil); w.Code != http.StatusNotFound {
		t.Errorf("without guarded tables: %d", w.Code)
	}
	r = newRig(t)
	f := &fakeTables{}
	o := r.console.o
	pages, err := page.New(page.Options{Agency: map[string]string{"en": "Board of Revenue"}})
	if err != nil {
		t.Fatal(err)
	}
	o.Pages, o.Tables = pages, f
	if r.console, err = New(o); err != nil {
		t.Fatal(err)
	}
	body := r.get("/soc/tables")
	for _, want := range []string{"public.parcel_owner", "1,234,567", `value="d1"`, "…671", "…213", "/soc/events/ee", "1 row is not what was authorised.", "3 min", "(contested)"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, bad := range []string{"<script>alert(1)", "61101-1234567-1", "35202-7654321-3", `value="approve"`} {
		if strings.Contains(body, bad) {
			t.Errorf("an analyst's page has %q", bad)
		}
	}
	form := url.Values{"table": {"owners"}, "kind": {"repair"}, "row": {"d1"}, "reason": {"tampered"}}
	if w := r.do("POST", "/soc/tables", form); w.Code != http.StatusSeeOther {
		t.Errorf("ask: %d", w.Code)
	}
	form.Set("kind", "baseline")
	if w := r.do("POST", "/soc/tables", form); w.Code != http.StatusBadRequest {
		t.Errorf("a baseline from the console: %d", w.Code)
	}
	if w := r.do("POST", "/soc/tables/r1", url.Values{"do": {"approve"}}); w.Code != http.StatusForbidden {
		t.Errorf("an analyst decides: %d", w.Code)
	}
	r.visitor = &supervisor
	if body := r.get("/soc/tables"); strings.Count(body, `value="approve"`) != 1 || !strings.Contains(body, `action="/soc/tables/r1"`) {
		t.Error("a supervisor decides on what others asked for, and on nothing else")
	}
	if w := r.do("POST", "/soc/tables/r1", url.Values{"do": {"approve"}}); w.Code != http.StatusSeeOther {
		t.Errorf("decide: %d", w.Code)
	}
	if w := r.do("POST", "/soc/tables/r1", url.Values{"do": {"maybe"}}); w.Code != http.StatusBadRequest {
		t.Errorf("neither: %d", w.Code)
	}
	if got := strings.Join(f.asked, "; "); got != "analyst:1 repair owners d1 tampered; supervisor:1 r1 yes" {
		t.Errorf("asked: %s", got)
	}
}
