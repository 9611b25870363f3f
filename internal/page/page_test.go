package page

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

func newPages(t *testing.T) *Pages {
	t.Helper()
	p, err := New(Options{Agency: map[string]string{"en": "Board of Revenue", "ur": "بورڈ آف ریونیو"}, Phone: "051 111 000 000"})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func get(t *testing.T, h http.Handler, target string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// TestHostileValuesAreText renders every layout with markup in every field.
func TestHostileValuesAreText(t *testing.T) {
	p := newPages(t)
	views := fstest.MapFS{"hello.html": {Data: []byte(`{{define "content"}}<h1>{{.Data.Name}}</h1>{{end}}`)}}
	for _, surface := range []string{Portal, Desk, Console, Trust} {
		if err := p.Add(surface, views); err != nil {
			t.Fatal(err)
		}
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p.Render(w, r, http.StatusOK, View{Surface: surface, Name: "hello", Title: "</title><em>", User: "<b>U</b>",
				Nav:  []Link{{Text: "<i>nav</i>", Href: "javascript:alert(1)", Count: "<u>"}},
				Back: &Link{Text: "<s>back</s>", Href: "/x"}, Data: struct{ Name string }{`<script>alert(1)</script>`}})
		})
		for _, lang := range Langs() {
			w := get(t, h, "/"+lang+"/hello")
			body := w.Body.String()
			for _, bad := range []string{"<script>alert", "<i>nav", "<u>", "<s>back", "<b>U", "javascript:alert", "<em>"} {
				if strings.Contains(body, bad) {
					t.Errorf("%s/%s: %s is in the page as markup:\n%s", surface, lang, bad, body)
				}
			}
			if w.Code != http.StatusOK || !strings.Contains(body, `lang="`+lang+`" dir="`+Dir(lang)+`"`) {
				t.Errorf("%s/%s: status %d, page\n%s", surface, lang, w.Code, body)
			}
		}
	}
}
