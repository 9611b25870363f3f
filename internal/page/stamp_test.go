package page_test

import (
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"pasban/internal/page"
)

func TestStamp(t *testing.T) {
	p, err := page.New(page.Options{Agency: map[string]string{"en": "Board of Revenue", "ur": "بورڈ آف ریونیو"}})
	if err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{
		"hall.html": {Data: []byte(`{{define "head"}}<script src="{{asset "verify.js"}}" nonce="{{.Nonce}}"></script>{{end}}{{define "content"}}<p title="{{.Data}}">{{.Data}}</p><form action="{{.Path}}"></form>{{end}}`)},
	}
	if err := p.Add(page.Portal, files); err != nil {
		t.Fatal(err)
	}
	view := func(lang string) page.View {
		return page.View{Surface: page.Portal, Name: "hall", Title: lang + " title", Data: page.Hole(0)}
	}
	if _, err := p.Stamp(view, 0, page.StampOptions{}); err == nil {
		t.Error("a hole without a value is taken")
	}
	s, err := p.Stamp(view, 1, page.StampOptions{Workers: true, Types: []string{"pass"}})
	if err != nil {
		t.Fatal(err)
	}
	const hostile = `"><script>alert(1)</script>`
	nonces := map[string]bool{}
	for _, c := range []struct{ target, cookie, want string }{
		{"/x/a%22b", "", `lang="en" dir="ltr"`},
		{"/x/a%22b?lang=ur", "", "nastaliq"},
		{"/x/a%22b?lang=ur", "__Host-script=simple", "script=nastaliq"},
	} {
		r := httptest.NewRequest("GET", c.target, nil)
		if c.cookie != "" {
			r.Header.Set("Cookie", c.cookie)
		}
		w := httptest.NewRecorder()
		s.Send(w, r, 503, hostile)
		body, policy := w.Body.String(), w.Header().Get("Content-Security-Policy")
		nonce := regexp.MustCompile(`nonce="([^"]+)"`).FindStringSubmatch(body)
		if w.Code != 503 || nonce == nil || nonces[nonce[1]] || !strings.Contains(policy, "'nonce-"+nonce[1]+"'") || !strings.Contains(policy, "worker-src 'self'") || !strings.Contains(policy, "trusted-types pass") {
			t.Fatalf("%s: %d, nonce %v, policy %s", c.target, w.Code, nonce, policy)
		}
		nonces[nonce[1]] = true
		if strings.Contains(body, "PASBANHOLE") || strings.Contains(body, "<script>") || strings.Count(body, "&gt;&lt;script&gt;alert(1)") != 2 ||
			!strings.Contains(body, `action="/x/a%22b"`) || !strings.Contains(body, `href="/x/a%22b?lang=`) || !strings.Contains(body, c.want) {
			t.Errorf("%s:\n%s", c.target, body)
		}
	}
}
