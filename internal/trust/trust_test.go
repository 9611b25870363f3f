package trust

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"pasban/internal/page"
)

const vkey = "land.example/ledger+fdcc9009+ARaglALCUy/hMWg"

var now = time.Date(2026, 11, 23, 7, 0, 0, 0, time.UTC)

func newTrust(t *testing.T, s *Status) *Trust {
	t.Helper()
	pages, err := page.New(page.Options{Agency: map[string]string{"en": "Board of Revenue"}})
	if err != nil {
		t.Fatal(err)
	}
	tr, err := New(Options{Pages: pages, Agency: "land-records", Name: map[string]string{"en": "Board of Revenue"}, Origin: "land.example/ledger",
		VKey: vkey, Labels: "bGFiZWxz", Status: func() Status { return *s }, Contact: []string{"mailto:security@land.example\r\nEvil: 1"}, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func get(t *Trust, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	t.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

// TestHealth: an idle log is healthy; a waiting entry, a problem or an alarm is not.
func TestHealth(t *testing.T) {
	bad := errors.New("disk /var/data full")
	for want, s := range map[Health]Status{
		Whole:       {Size: 48210337, Published: now.Add(-time.Hour), Audited: now, Checkpoint: "</pre><script>alert(1)</script>"},
		Stale:       {Size: 5, Published: now, Waiting: 2 * time.Minute},
		Closed:      {Size: 5, Published: now, Problem: bad},
		Unwitnessed: {Size: 5, Published: now, Unwitnessed: bad, Need: 1, Witnesses: []Witness{{Name: "w"}}},
		Late:        {Size: 5, Published: now, Problem: bad, Hidden: 3, Overdue: 1, NextOpen: now.Add(-24 * time.Hour)},
		Broken:      {Size: 5, Published: now, Problem: bad, Alarm: errors.New("tile/0/000 was changed")},
	} {
		tr := newTrust(t, &s)
		for _, lang := range page.Langs() {
			w := get(tr, "/trust?lang="+lang)
			body := w.Body.String()
			if w.Code != http.StatusOK || !strings.Contains(body, tr.o.Pages.T(lang, "trust.health."+string(want))) || strings.Contains(body, "ps-status--good") != (want == Whole) {
				t.Errorf("%s in %s: %d\n%s", want, lang, w.Code, body)
			}
			if strings.Contains(body, "<script") || strings.Contains(body, "/var/data") || strings.Contains(body, "tile/0") || !strings.Contains(w.Header().Get("Content-Security-Policy"), "script-src 'none'") {
				t.Errorf("%s in %s has a script, or tells too much:\n%s", want, lang, body)
			}
		}
	}
	// How many are hidden, and until when the next, is told without alarm.
	body := get(newTrust(t, &Status{Size: 5, Published: now, Hidden: 3, NextOpen: now.Add(48 * time.Hour)}), "/trust").Body.String()
	if !strings.Contains(body, "ps-status--good") || !strings.Contains(body, "3; the next is disclosed on") || strings.Contains(body, "should have been") {
		t.Errorf("hidden looks:\n%s", body)
	}
	if got := newTrust(t, &Status{}).health(Status{}); got != Stale {
		t.Errorf("without a checkpoint the log is %q, want stale", got)
	}
}

func TestWellKnown(t *testing.T) {
	tr := newTrust(t, &Status{})
	w := get(tr, "/.well-known/pasban.json")
	var a Agency
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || a.Schema != AgencySchema || a.Agency.ID != "land-records" || a.Ledger.VKey != vkey || a.Ledger.Labels != "bGFiZWxz" || a.Witnesses == nil {
		t.Errorf("%s: %v", w.Body, err)
	}
	text := get(tr, "/.well-known/security.txt").Body.String()
	if !strings.Contains(text, "Expires: 2027-02-21T00:00:00Z\n") || !strings.Contains(text, "Contact: mailto:security@land.exampleEvil: 1\n") {
		t.Errorf("security.txt:\n%s", text)
	}
	if w := get(tr, "/trust/nowhere"); w.Code != http.StatusNotFound {
		t.Errorf("/trust/nowhere: %d, want 404", w.Code)
	}
}

// TestAttack: the public is told, in both languages, and of no analyst.
func TestAttack(t *testing.T) {
	tr := newTrust(t, &Status{Size: 1, Published: now})
	if body := get(tr, "/trust").Body.String(); strings.Contains(body, tr.o.Pages.T("en", "trust.attack.title")) {
		t.Errorf("an attack without one:\n%s", body)
	}
	tr.o.Attacks = func() []Attack {
		return []Attack{{Service: map[string]string{"en": "<b>Land</b>", "ur": "زمین"}, Reason: "overload", Since: now, Until: now.Add(time.Hour)}}
	}
	for _, lang := range page.Langs() {
		body := get(tr, "/trust?lang="+lang).Body.String()
		for _, want := range []string{tr.o.Pages.T(lang, "trust.attack.title"), tr.o.Pages.T(lang, "pass.reason.overload"), "2026-11-23T08:00:00Z"} {
			if !strings.Contains(body, want) {
				t.Errorf("%s lacks %q:\n%s", lang, want, body)
			}
		}
		if strings.Contains(body, "<b>") {
			t.Errorf("%s: a name became HTML", lang)
		}
	}
}

// TestWitnesses: who confirms the log, and whom this agency watches, in both
// languages, and without the reasons of those who do not confirm.
func TestWitnesses(t *testing.T) {
	s := Status{Size: 48, Published: now}
	tr := newTrust(t, &s)
	if body := get(tr, "/trust").Body.String(); strings.Contains(body, tr.o.Pages.T("en", "trust.witness.title")) || strings.Contains(body, tr.o.Pages.T("en", "trust.watch.title")) {
		t.Errorf("witnesses without any:\n%s", body)
	}
	s.Need, s.Final, s.FinalAt = 1, 47, now.Add(-time.Minute)
	s.Witnesses = []Witness{{Name: "a.example/<w>", Size: 47, Cosigned: now.Add(-time.Minute), OK: true}, {Name: "b.example/w"}}
	tr.o.Cosigners, tr.o.Need = []string{"a.example/w+1+x", "b.example/w+2+y"}, 1
	tr.o.Witness = &Watch{Key: "land.example/witness+3+z", Logs: []string{"tax.example/ledger"}}
	for _, lang := range page.Langs() {
		body := get(tr, "/trust?lang="+lang).Body.String()
		for _, want := range []string{
			tr.o.Pages.T(lang, "trust.witness.title"), tr.o.Pages.T(lang, "trust.witness.good"), tr.o.Pages.T(lang, "trust.witness.bad"),
			"a.example/&lt;w&gt;", "b.example/w", page.Num(lang, 47), "2026-11-23T06:59:00Z",
			tr.o.Pages.T(lang, "trust.watch.title"), "tax.example/ledger", "land.example/witness+3+z",
		} {
			if !strings.Contains(body, want) {
				t.Errorf("%s lacks %q:\n%s", lang, want, body)
			}
		}
		if strings.Contains(body, "{{") || strings.Contains(body, "<no value>") {
			t.Errorf("%s: a value is missing:\n%s", lang, body)
		}
	}
	var a Agency
	w := get(tr, "/.well-known/pasban.json")
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || len(a.Witnesses) != 2 || a.Need != 1 || a.Witness == nil ||
		a.Witness.VKey != "land.example/witness+3+z" || a.Witness.Path != "/ledger/" || len(a.Witness.Logs) != 1 {
		t.Errorf("%s: %v", w.Body, err)
	}
}
