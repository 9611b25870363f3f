package page

import (
	"net/http"
	"strings"
	"sync"

	"golang.org/x/text/language"
)

// Langs lists the languages of every page, the default first.
func Langs() []string { return []string{"en", "ur"} }

// langCookie keeps the choice on pages whose path does not say the language.
const langCookie = "__Host-lang"

// Lang is the language to answer r in, "en" or "ur": the path's first segment
// (/en/… or /ur/…), else ?lang=, else the cookie, else Accept-Language, else
// English.
func Lang(r *http.Request) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if known(first) {
		return first
	}
	if l := r.URL.Query().Get("lang"); known(l) {
		return l
	}
	if c, err := r.Cookie(langCookie); err == nil && known(c.Value) {
		return c.Value
	}
	tags, _, err := language.ParseAcceptLanguage(r.Header.Get("Accept-Language"))
	if err != nil || len(tags) == 0 {
		return "en"
	}
	_, i, confidence := matcher().Match(tags...)
	if confidence == language.No {
		return "en"
	}
	return Langs()[i]
}

// Dir is the writing direction of a language, "ltr" or "rtl".
func Dir(lang string) string {
	if lang == "ur" {
		return "rtl"
	}
	return "ltr"
}

func known(lang string) bool { return lang == "en" || lang == "ur" }

// matcher finds the language nearest to what a browser accepts; to make one costs as
// much as a small page does.
var matcher = sync.OnceValue(func() language.Matcher {
	return language.NewMatcher([]language.Tag{language.English, language.Urdu})
})

// scriptCookie keeps a reader of Urdu's choice between Nastaliq and the simple
// script (Naskh, the system's font), which some read more easily.
const scriptCookie = "__Host-script"

// simpleScript reports whether the visitor chose the simple script: by
// ?script=simple or =nastaliq, else by the cookie.
func simpleScript(r *http.Request) bool {
	chosen := r.URL.Query().Get("script")
	if c, err := r.Cookie(scriptCookie); err == nil && chosen == "" {
		chosen = c.Value
	}
	return chosen == "simple"
}

// rememberScript sets the cookie when the visitor has chosen.
func rememberScript(w http.ResponseWriter, r *http.Request) {
	if s := r.URL.Query().Get("script"); s == "simple" || s == "nastaliq" {
		setChoice(w, scriptCookie, s)
	}
}

func setChoice(w http.ResponseWriter, name, value string) {
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: 365 * 24 * 3600,
		Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

// rememberLang sets the cookie when the visitor has chosen: by ?lang= or by
// asking for a path that says it.
func rememberLang(w http.ResponseWriter, r *http.Request) {
	lang := r.URL.Query().Get("lang")
	if first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/"); known(first) {
		lang = first
	}
	if !known(lang) {
		return
	}
	if c, err := r.Cookie(langCookie); err == nil && c.Value == lang {
		return
	}
	setChoice(w, langCookie, lang)
}
