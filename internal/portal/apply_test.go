package portal

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"pasban"
	"pasban/internal/page"
)

// answers is a complete application in Urdu digits, with markup in it.
func answers() url.Values {
	return url.Values{
		"buyer_name": {"  <b>Bilal</b> فرضی "}, "buyer_cnic": {"۳۵۲۰۲۰۰۰۰۰۰۲۷"}, "mobile": {"٠٣٠٠ ١٢٣٤٥٦٧"},
		"email": {"bilal@example.com"}, "sale_date": {"2026-11-01"}, "price": {"1500000"}, "how": {"gift"}, "remarks": {"one\r\ntwo"},
	}
}

// TestApplyWithoutScripts goes the whole way: form, check, edit, send,
// confirmation, list, the application itself.
func TestApplyWithoutScripts(t *testing.T) {
	for _, lang := range page.Langs() {
		r := newRig(t).as(citizen)
		at := "/" + lang + "/apply/land-transfer"
		if w := r.get(at); w.Code != http.StatusOK || strings.Count(w.Body.String(), `class="govuk-form-group`) != 8 {
			t.Fatalf("%s: %d\n%s", at, w.Code, w.Body)
		}
		form := answers()
		form.Set("step", "check")
		w := r.post(at, form)
		for _, want := range []string{"35202-0000002-7", "0300 1234567", `value="send"`, `name="how" value="gift"`} {
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
		if w.Code != http.StatusSeeOther {
			t.Fatalf("%s: sending: %d\n%s", at, w.Code, w.Body)
		}
		done := r.get(w.Header().Get("Location")).Body.String()
		for _, want := range []string{"LT-2026-00001", page.Date(lang, noon.AddDate(0, 0, 21))} {
			if !strings.Contains(done, want) {
				t.Errorf("%s: %q is not on the confirmation\n%s", at, want, done)
			}
		}
		if list := r.get("/" + lang + "/applications").Body.String(); !strings.Contains(list, "LT-2026-00001") {
			t.Errorf("%s: not in the list\n%s", at, list)
		}
		if app := r.get("/" + lang + "/applications/land-transfer/LT-2026-00001").Body.String(); !strings.Contains(app, "&lt;b&gt;Bilal") || markup.MatchString(app) {
			t.Errorf("%s: the application\n%s", at, app)
		}
		if got := r.counter.all[0].Values["remarks"]; got != "one\ntwo" {
			t.Errorf("remarks were kept as %q", got)
		}
	}
}

func TestApplyShowsWhatIsWrong(t *testing.T) {
	r := newRig(t).as(citizen)
	for name, value := range map[string]string{
		"buyer_name": "", "buyer_cnic": "123", "mobile": "12345", "email": "nobody", "sale_date": "31.12.2026", "price": "many", "how": "theft", "remarks": "a\x00b",
	} {
		form := answers()
		form.Set(name, value)
		form.Set("step", "send")
		w := r.post("/en/apply/land-transfer", form)
		body := w.Body.String()
		if w.Code != http.StatusBadRequest || !strings.Contains(body, `<a href="#`+name+`">`) || !strings.Contains(body, `id="`+name+`-error"`) || !strings.Contains(body, "<title>Error:") {
			t.Errorf("%s=%q: %d\n%s", name, value, w.Code, body)
		}
	}
	if len(r.counter.all) != 0 {
		t.Errorf("%d applications were filed with wrong answers", len(r.counter.all))
	}
	r.counter.fail = errors.Join(&pasban.Error{Kind: pasban.Invalid, Where: "price", Msg: "the price is above the limit"})
	form := answers()
	form.Set("step", "send")
	if w := r.post("/en/apply/land-transfer", form); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "the price is above the limit") {
		t.Errorf("the registry's own error: %d\n%s", w.Code, w.Body)
	}
	r.counter.fail = &pasban.Error{Kind: pasban.Unavailable, Msg: "journal: disk full"}
	if w := r.post("/en/apply/land-transfer", form); w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "disk full") {
		t.Errorf("an unavailable registry: %d\n%s", w.Code, w.Body)
	}
}

func TestFlaws(t *testing.T) {
	for _, c := range []struct{ kind, value, want string }{
		{"mobile", "0300 1234567", ""}, {"mobile", "+92-300-1234567", ""}, {"mobile", "0421234567", "mobile"}, {"mobile", "", "missing"},
		{"email", "a@b.example", ""}, {"email", "A <a@b.example>", "email"}, {"number", "12.50", ""}, {"number", "-1", "number"}, {"number", "NaN", "number"}, {"number", "Inf", "number"},
		{"date", "2026-02-29", "date"}, {"text", strings.Repeat("ا", 200), ""}, {"text", strings.Repeat("ا", 201), "long"}, {"text", "a\nb", "characters"}, {"text", "\xff", "characters"},
		{"textarea", "a\nb", ""}, {"choice", "", "choose"},
	} {
		if got := flaw(Field{Kind: c.kind, Required: true}, c.value); got != c.want {
			t.Errorf("%s %q: %q, want %q", c.kind, c.value, got, c.want)
		}
	}
}

func TestWorkingDays(t *testing.T) {
	friday := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	if got := workingDays(friday, 1).Weekday(); got != time.Monday {
		t.Errorf("one working day after a Friday is a %s", got)
	}
}
