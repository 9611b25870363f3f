package console

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"pasban"
	"pasban/internal/page"
)

// fakeShield stands for the gateway: one site, and what it was asked to do.
type fakeShield struct {
	site  SiteMode
	asked []string
	err   error
}

func (f *fakeShield) Sites() []SiteMode { return []SiteMode{f.site} }

func (f *fakeShield) Start(_ context.Context, who pasban.Actor, site, reason, note string, length time.Duration) error {
	f.asked = append(f.asked, strings.Join([]string{"start", who.ID, site, reason, note, length.String()}, " "))
	return f.err
}

func (f *fakeShield) End(_ context.Context, who pasban.Actor, site string) error {
	f.asked = append(f.asked, strings.Join([]string{"end", who.ID, site}, " "))
	return f.err
}

func TestShield(t *testing.T) {
	r := newRig(t)
	if strings.Contains(r.get("/soc"), `action="/soc/shield"`) {
		t.Error("a console without a shield has its form")
	}
	r = newRig(t)
	f := &fakeShield{site: SiteMode{Site: "land.example", Title: map[string]string{"en": "Land", "ur": "زمین"}}}
	o := r.console.o
	pages, err := page.New(page.Options{Agency: map[string]string{"en": "Board of Revenue"}})
	if err != nil {
		t.Fatal(err)
	}
	o.Pages, o.Shield = pages, f
	if r.console, err = New(o); err != nil {
		t.Fatal(err)
	}
	if body := r.get("/soc"); !strings.Contains(body, r.console.say("en", "shield.none")) || !strings.Contains(body, `<option value="land.example">Land`) || !strings.Contains(body, `value="30m0s" selected`) {
		t.Errorf("no mode, and a form to start one:\n%s", body)
	}
	form := url.Values{"site": {"land.example"}, "reason": {"overload"}, "for": {"30m0s"}, "note": {"synthetic"}}
	if w := r.do("POST", "/soc/shield", form); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/soc#sh" {
		t.Errorf("start: %d", w.Code)
	}
	if w := r.do("POST", "/soc/shield", url.Values{"for": {"soon"}}); w.Code != http.StatusBadRequest {
		t.Errorf("a length that is none: %d", w.Code)
	}
	f.site.On, f.site.Reason, f.site.Note, f.site.By = true, "overload", "<i>synthetic</i>", "analyst:9"
	f.site.Since, f.site.Until = time.Date(2026, 11, 26, 8, 0, 0, 0, time.UTC), time.Date(2026, 11, 26, 8, 30, 0, 0, time.UTC)
	for _, lang := range page.Langs() {
		body := r.get("/soc?lang=" + lang)
		for _, want := range []string{pages.T(lang, "pass.reason.overload"), "2026-11-26 08:30", "analyst:9", "&lt;i&gt;synthetic", `action="/soc/shield/end"`} {
			if !strings.Contains(body, want) {
				t.Errorf("%s lacks %q:\n%s", lang, want, body)
			}
		}
	}
	if w := r.do("POST", "/soc/shield/end", url.Values{"site": {"land.example"}}); w.Code != http.StatusSeeOther {
		t.Errorf("end: %d", w.Code)
	}
	f.err = &pasban.Error{Kind: pasban.Conflict, Msg: "over already"}
	if w := r.do("POST", "/soc/shield/end", url.Values{"site": {"land.example"}}); w.Code != http.StatusConflict {
		t.Errorf("end what is over: %d", w.Code)
	}
	id := analyst.Actor.ID
	if want := []string{"start " + id + " land.example overload synthetic 30m0s", "end " + id + " land.example", "end " + id + " land.example"}; !slices.Equal(f.asked, want) {
		t.Errorf("asked %q, want %q", f.asked, want)
	}
	// Supervisors see it and cannot do it; nor can another site's page.
	supervisor := analyst
	supervisor.Actor.Role = pasban.RoleSupervisor
	r.visitor = &supervisor
	if body := r.get("/soc"); !strings.Contains(body, "08:30") || strings.Contains(body, "/soc/shield") {
		t.Errorf("a supervisor's page:\n%s", body)
	}
	if w := r.do("POST", "/soc/shield", form); w.Code != http.StatusForbidden {
		t.Errorf("a supervisor starts: %d", w.Code)
	}
	r.visitor = &analyst
	if w := r.do("POST", "/soc/shield", form, "Sec-Fetch-Site", "cross-site"); w.Code != http.StatusForbidden || len(f.asked) != 3 {
		t.Errorf("another site's page starts: %d", w.Code)
	}
}
