package waf_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"pasban/internal/gateway/waf"
)

// asked sends one form value through an engine and reports whether it passed.
func asked(t *testing.T, e *waf.Engine, value string) bool {
	t.Helper()
	passed := false
	h := e.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { passed = true }), waf.Hooks{
		Blocked: func(w http.ResponseWriter, r *http.Request, rep waf.Report) { w.WriteHeader(http.StatusForbidden) },
		Failed: func(w http.ResponseWriter, r *http.Request, err error) {
			t.Error(err)
			w.WriteHeader(http.StatusServiceUnavailable)
		},
	})
	r := httptest.NewRequest("POST", "http://land.example/mutations", strings.NewReader(url.Values{"note": {value}}.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36")
	r.Header.Set("Accept", "text/html")
	h.ServeHTTP(httptest.NewRecorder(), r)
	return passed
}

// TestUrduIsNotSQL sends honest sentences and attacks that hide beside or
// behind Arabic letters.
func TestUrduIsNotSQL(t *testing.T) {
	stock, err := waf.New(waf.Options{})
	if err != nil {
		t.Fatal(err)
	}
	letters, err := waf.New(waf.Options{Letters: []string{waf.ArabicScript}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, value   string
		passes, stock bool
	}{
		{"a payment", "رقم ادا کر دی گئی، قبضہ خریدار کو دے دیا گیا", true, false},
		{"an inheritance", "انتقال وراثت: متوفی کے ورثاء میں تقسیم -- شجرہ نسب منسلک ہے", true, true},
		{"a deed", "بیع نامہ کے مطابق اراضی کا انتقال درج کیا جائے، گواہان موقع پر موجود تھے", true, true},
		{"figures", "کھاتہ نمبر 123/4 رقبہ 2 کنال 5 مرلہ", true, true},
		{"Latin", "Transfer by sale deed, witnesses were present", true, true},
		{"SQL", "1' OR 1=1 -- ", false, false},
		{"SQL behind Urdu", "انتقال 1' OR 1=1 -- ", false, false},
		{"SQL between Urdu", "الف' UNION SELECT cnic FROM owners -- بے", false, false},
		{"a script behind Urdu", "نوٹ <script>alert(1)</script>", false, false},
		{"a script in full-width letters beside Urdu", "نوٹ ＜script＞alert(1)＜/script＞", false, false},
		{"low bytes of another script", "1ħ OR 1=1 -- ", false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := asked(t, letters, tt.value); got != tt.passes {
				t.Errorf("with letters of Arabic script: passed %v, want %v", got, tt.passes)
			}
			if got := asked(t, stock, tt.value); got != tt.stock {
				t.Errorf("as the rule set comes: passed %v, want %v", got, tt.stock)
			}
		})
	}
}

func TestLettersOfAnotherScript(t *testing.T) {
	if _, err := waf.New(waf.Options{Letters: []string{"Cyrl"}}); err == nil {
		t.Error("a script that needs no exception was accepted")
	}
}
