package page

import (
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

func mustURL(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return u
}

// TestMessages: every file is readable, both languages have the same keys and
// take the same values, and Urdu is in Urdu.
func TestMessages(t *testing.T) {
	p := newPages(t)
	urdu := regexp.MustCompile(`[\x{0600}-\x{06FF}]`)
	values := regexp.MustCompile(`\{\{\.\w+\}\}|\{\w+\}`)
	for key := range p.words.keys["en"] {
		all := map[string]string{}
		for _, lang := range Langs() {
			s, err := p.words.say(lang, key, "Count", 2, "Name", "X", "Agency", "X", "Max", 5, "Label", "X", "Basis", "X", "Date", "X")
			if err != nil && !strings.Contains(err.Error(), "no value") {
				t.Errorf("%s in %s: %v", key, lang, err)
			}
			all[lang] = s
		}
		if words := values.ReplaceAllString(all["en"], ""); regexp.MustCompile(`[a-z]{3}`).MatchString(words) && !urdu.MatchString(all["ur"]) {
			t.Errorf("%s is not translated: %q", key, all["ur"])
		}
		if en, ur := values.FindAllString(all["en"], -1), values.FindAllString(all["ur"], -1); len(en) != len(ur) {
			t.Errorf("%s takes %v in English and %v in Urdu", key, en, ur)
		}
	}
	for _, k := range kinds() {
		for _, part := range []string{".title", ".text"} {
			if !p.Has("error." + string(k) + part) {
				t.Errorf("no words for errors of kind %s", k)
			}
		}
	}
}

func TestMessageFilesMustAgree(t *testing.T) {
	for name, files := range map[string]fstest.MapFS{
		"a key is missing":  {"locales/a.en.yaml": {Data: []byte("a: {x: X, y: Y}")}, "locales/a.ur.yaml": {Data: []byte("a: {x: ا}")}},
		"not YAML":          {"locales/a.en.yaml": {Data: []byte("a: [")}, "locales/a.ur.yaml": {Data: []byte("a: {x: ا}")}},
		"another language":  {"locales/a.fr.yaml": {Data: []byte("a: {x: X}")}},
		"a key twice":       {"locales/a.en.yaml": {Data: []byte("a: {x: X}")}, "locales/b.en.yaml": {Data: []byte("a: {x: X}")}, "locales/a.ur.yaml": {Data: []byte("a: {x: X}")}},
		"a name with parts": {"locales/en.yaml": {Data: []byte("a: {x: X}")}},
	} {
		if _, err := loadWords(files); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestTemplatesAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"an unknown key":           `{{define "content"}}{{t "no.such.key"}}{{end}}`,
		"an unknown key in a pipe": `{{define "content"}}{{if true}}{{range .Data}}{{with printf "%s" (t "no.such.key")}}{{.}}{{end}}{{end}}{{end}}{{end}}`,
		"an unknown key in else":   `{{define "content"}}{{if .Data}}{{else}}{{template "x" (t "no.such.key")}}{{end}}{{end}}{{define "x"}}{{end}}`,
		"no template":              `{{define "content"}}`,
		"an unknown function":      `{{define "content"}}{{shout .Title}}{{end}}`,
	} {
		if err := newPages(t).Add(Portal, fstest.MapFS{"x.html": {Data: []byte(text)}}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	p := newPages(t)
	good := fstest.MapFS{"x.html": {Data: []byte(`{{define "content"}}{{template "part" .}}{{end}}`)}, "sub/_part.html": {Data: []byte(`{{define "part"}}{{t "page.skip"}}{{end}}`)}}
	if err := p.Add(Portal, good); err != nil {
		t.Fatal(err)
	}
	if err := p.Add(Portal, good); err == nil {
		t.Error("a second page of the same name was taken")
	}
	if err := p.Add("cellar", good); err == nil {
		t.Error("a surface that does not exist was taken")
	}
}

func TestFormats(t *testing.T) {
	at := time.Date(2026, 11, 21, 5, 42, 0, 0, time.UTC)
	for _, c := range []struct{ got, want string }{
		{DateTime("en", at), "21 November 2026, 10:42 am"}, {DateTime("ur", at), "21 نومبر 2026، صبح 10:42"},
		{DateTime("en", at.Add(14*time.Hour)), "22 November 2026, 12:42 am"}, {DateTime("ur", at.Add(14*time.Hour)), "22 نومبر 2026، رات 12:42"},
		{Clock("en", at.Add(2*time.Hour)), "12:42 pm"}, {Clock("ur", at.Add(2*time.Hour)), "دوپہر 12:42"}, {Clock("ur", at.Add(7*time.Hour)), "شام 5:42"},
		{Num("en", 48210337), "48,210,337"}, {Num("ur", 48210337), "48,210,337"}, {Num("ur", uint64(7)), "7"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
	if m := Months("ur"); len(m) != 12 || m[0] != "جنوری" || m[11] != "دسمبر" {
		t.Errorf("months %v", m)
	}
}

// TestStylesAreLogical: Pasban's own sheets serve both directions, so they
// name no physical side.
func TestStylesAreLogical(t *testing.T) {
	physical := regexp.MustCompile(`(?m)(^|[\s;{(])((margin|padding|border|inset)-(left|right|top|bottom)|left|right|top|bottom|width|height|(min|max)-(width|height)|text-align: *(left|right)|float: *(left|right))\s*:`)
	sheets, err := filepath.Glob("../../web/scss/*.scss")
	if err != nil || len(sheets) == 0 {
		t.Fatalf("no sheets: %v", err)
	}
	media := regexp.MustCompile(`@media[^{]*\{`)
	for _, name := range sheets {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, hit := range physical.FindAllString(media.ReplaceAllString(string(text), ""), -1) {
			t.Errorf("%s names a physical side: %s", name, strings.TrimSpace(hit))
		}
	}
}
