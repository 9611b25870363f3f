package portal

import (
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"pasban/internal/page"
	"pasban/internal/registry"
)

// answers is a complete application of Ayesha's, with Urdu digits and markup.
func answers() url.Values {
	return url.Values{
		"district": {"rawalpindi"}, "tehsil": {"Gujar Khan"}, "mouza": {"Adiala"}, "khasra": {"123/4"}, "area_kanal": {"۱۲"}, "transfer": {"gift"},
		"seller_cnic": {"۶۱۱۰۱۱۲۳۴۵۶۷۲"}, "seller_name": {"  <b>Ayesha</b> فرضی "}, "seller_father": {"Synthetic Father"},
		"seller_mobile": {"٠٣٠٠ ١٢٣٤٥٦٧"}, "seller_address": {"House 1\r\nSynthetic Street"},
		"buyer_cnic": {"35202-7654321-1"}, "buyer_name": {"Synthetic Bilal"}, "buyer_father": {"Synthetic Elder"},
		"buyer_mobile": {"+92 333 7654321"}, "buyer_address": {"House 2, Synthetic Street"},
		"consideration_pkr": {"4,500,000"}, "agreed_on": {"2026-11-01"},
	}
}

// TestApplyWithoutScripts goes the whole way through the real registry: form,
// check, edit, send, confirmation, list, and the opened application.
func TestApplyWithoutScripts(t *testing.T) {
	for _, lang := range page.Langs() {
		r := newRig(t).asCitizen()
		at := "/" + lang + "/apply/land-transfer"
		if w := r.get(at); w.Code != http.StatusOK || strings.Count(w.Body.String(), `class="govuk-form-group`) != len(r.registry.Services()[0].Fields) {
			t.Fatalf("%s: %d\n%s", at, w.Code, w.Body)
		}
		form := answers()
		form.Set("step", "check")
		w := r.post(at, form)
		for _, want := range []string{"61101-1234567-2", "&#43;923001234567", `value="send"`, `name="transfer" value="gift"`, page.Date(lang, time.Date(2026, 11, 1, 0, 0, 0, 0, page.Zone()))} {
			if !strings.Contains(w.Body.String(), want) {
				t.Errorf("%s: %q is not on the check page\n%s", at, want, w.Body)
			}
		}
		if markup.MatchString(w.Body.String()) {
			t.Errorf("%s: a value became markup\n%s", at, w.Body)
		}
		form.Set("step", "edit")
		if w := r.post(at, form); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `value="gift" checked`) {
			t.Errorf("%s: editing lost an answer: %d\n%s", at, w.Code, w.Body)
		}
		form.Set("step", "send")
		w = r.post(at, form)
		to := w.Header().Get("Location")
		if w.Code != http.StatusSeeOther || !strings.HasSuffix(to, "?sent=1") {
			t.Fatalf("%s: sending: %d\n%s", at, w.Code, w.Body)
		}
		id := regexp.MustCompile(`LT-[0-9A-Z-]+`).FindString(to)
		due := page.Date(lang, workingDays(time.Now(), 30))
		if done := r.get(to).Body.String(); !strings.Contains(done, id) || !strings.Contains(done, due) {
			t.Errorf("%s: %s or %s is not on the confirmation\n%s", at, id, due, done)
		}
		if list := r.get("/" + lang + "/applications").Body.String(); !strings.Contains(list, id) {
			t.Errorf("%s: not in the list\n%s", at, list)
		}
		open := "/" + lang + "/applications/land-transfer/" + id
		app := r.get(open).Body.String()
		if !strings.Contains(app, "&lt;b&gt;Ayesha") || markup.MatchString(app) || strings.Contains(app, "Synthetic Bilal") {
			t.Errorf("%s: the application: want Ayesha's answers as text, and not Bilal's\n%s", at, app)
		}
		if cards := strings.Count(r.get("/"+lang+"/my-data").Body.String(), "data-index="); cards != 2 {
			t.Errorf("%s: %d entries about applying and opening, want 2", at, cards)
		}
		if w := r.as(officer).get(open); w.Code != http.StatusForbidden {
			t.Errorf("%s: an officer gets %d on the citizen's page, want 403", at, w.Code)
		}
		if other := r.as(r.other).get(open).Body.String(); strings.Contains(other, "Ayesha&lt;") {
			t.Errorf("%s: the other party reads Ayesha's answers\n%s", at, other)
		}
	}
}

func TestApplyShowsWhatIsWrong(t *testing.T) {
	r := newRig(t).asCitizen()
	for name, value := range map[string]string{
		"tehsil": "", "mouza": strings.Repeat("ا", 61), "khasra": "12a", "area_kanal": "many", "transfer": "theft", "district": "",
		"buyer_cnic": "123", "buyer_mobile": "12345", "agreed_on": "31.12.2026", "seller_name": "a\x00b",
		"seller_cnic": "37405-1111111-3", // a stranger's: then the application is not about the visitor
	} {
		for _, lang := range page.Langs() {
			form := answers()
			form.Set(name, value)
			form.Set("step", "send")
			w := r.post("/"+lang+"/apply/land-transfer", form)
			body := w.Body.String()
			if w.Code != http.StatusBadRequest || !strings.Contains(body, `<a href="#`+name+`">`) || !strings.Contains(body, `id="`+name+`-error"`) ||
				!strings.Contains(body, `id="`+name+`"`) || strings.Contains(body, "portal.apply.error") || markup.MatchString(body) {
				t.Errorf("%s %s=%q: %d\n%s", lang, name, value, w.Code, body)
			}
		}
	}
	if own, err := r.registry.Own(t.Context(), r.citizen.Actor); err != nil || len(own) != 0 {
		t.Errorf("%d applications were handed in with wrong answers, %v", len(own), err)
	}
}

func TestApplyWhenNothingCanBeAccountedFor(t *testing.T) {
	r := newRig(t).asCitizen()
	r.healthy = errors.New("the log is 10 minutes behind")
	form := answers()
	form.Set("step", "send")
	w := r.post("/en/apply/land-transfer", form)
	if w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "10 minutes") {
		t.Errorf("status %d, want 503 without the cause\n%s", w.Code, w.Body)
	}
}

func TestFlaws(t *testing.T) {
	for _, c := range []struct {
		f           registry.Field
		value, want string
	}{
		{registry.Field{Kind: "mobile"}, "1", "mobile"}, {registry.Field{Kind: "mobile"}, "", "missing"}, {registry.Field{Kind: "choice"}, "", "choose"},
		{registry.Field{Kind: "text", Pattern: "x"}, "y", "form"}, {registry.Field{Kind: "text", Max: 1}, "اب", "long"}, {registry.Field{Kind: "text"}, "\xff", "characters"},
	} {
		if got := flaw(c.f, c.value); got != c.want {
			t.Errorf("%s %q: %q, want %q", c.f.Kind, c.value, got, c.want)
		}
	}
}

func TestWorkingDays(t *testing.T) {
	friday := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	if got := workingDays(friday, 1).Weekday(); got != time.Monday {
		t.Errorf("one working day after a Friday is a %s", got)
	}
}
