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
		Whole:  {Size: 48210337, Published: now.Add(-time.Hour), Audited: now, Checkpoint: "</pre><script>alert(1)</script>"},
		Stale:  {Size: 5, Published: now, Waiting: 2 * time.Minute},
		Closed: {Size: 5, Published: now, Problem: bad},
		Broken: {Size: 5, Published: now, Problem: bad, Alarm: errors.New("tile/0/000 was changed")},
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
