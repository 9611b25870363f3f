package gateway

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"pasban/internal/config"
	"pasban/internal/gateway/waf/waftest"
)

// TestBenign sends what honest people send: not one request may be refused.
func TestBenign(t *testing.T) {
	site := siteOf(upstreamOf(t, fixedPage), config.Route{Match: "/", SignIn: "none"})
	site.WAF.Mode = "block"
	g, p := newGateway(t, nil, site)
	addr := "http://" + serve(t, g)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}}
	defer client.CloseIdleConnections()
	rng := rand.New(rand.NewPCG(1, 2))
	do := func(name string, r *http.Request) {
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		io.Copy(io.Discard, res.Body)
		if res.StatusCode != http.StatusOK {
			t.Errorf("%s: answered %d: %v", name, res.StatusCode, p.take())
		}
	}
	mixed, keys := 400, 200
	if raceDetector {
		mixed, keys = 40, 10
	}
	for i := range mixed {
		r := waftest.Benign(addr, i)
		do(r.Method+" "+r.URL.Path, r)
	}
	urdu := strings.Repeat("میں حلفاً بیان کرتا ہوں کہ یہ زمین مجھے اپنے والد سے وراثت میں ملی ہے اور اس پر کوئی تنازع نہیں۔ ", 40)
	persian := strings.Repeat("این زمین از پدرم به من رسیده و هیچ اختلافی بر سر آن نیست؛ لطفاً انتقال را ثبت کنید. ", 40)
	for _, text := range []string{urdu, persian, "مکان نمبر ۱۲، گلی ۳، راولپنڈی"} {
		r, _ := http.NewRequestWithContext(t.Context(), "POST", addr+"/apply", strings.NewReader(url.Values{"note": {text}, "name": {"عائشہ"}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("User-Agent", "Mozilla/5.0")
		do("form in Urdu or Persian", r)
	}
	// What a browser sends to sign in with a passkey, to a path of Pasban's own.
	token := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	for range keys {
		body := fmt.Sprintf(`{"id":%q,"rawId":%[1]q,"type":"public-key","authenticatorAttachment":"platform","clientExtensionResults":{},`+
			`"response":{"authenticatorData":%q,"clientDataJSON":%q,"signature":%q,"userHandle":%q,"attestationObject":%q}}`,
			token(32), token(37), token(120), token(71), token(16), token(300))
		r, _ := http.NewRequestWithContext(t.Context(), "POST", addr+"/pasban/signin/finish", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("User-Agent", "Mozilla/5.0")
		r.Header.Set("Cookie", "__Host-pasban="+token(32))
		do("passkey", r)
	}
}

func TestResponseRouteOnlyLooks(t *testing.T) {
	g, _ := newGateway(t, nil)
	c := *g.o.Config
	c.Sites = []config.Site{siteOf("http://127.0.0.1:1", config.Route{Match: "POST /search", SignIn: "officer", Subject: "response", Purposes: []string{"x"}})}
	if err := g.Reload(&c); err == nil {
		t.Error("a route that changes something before anything is decided was accepted")
	}
}

func TestCheck(t *testing.T) {
	rules := filepath.Join(t.TempDir(), "own.conf")
	if err := os.WriteFile(rules, []byte("# ours\nSecNonsense On\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	site := siteOf("http://127.0.0.1:1", config.Route{Match: "POST /search", SignIn: "officer", Subject: "response", Purposes: []string{"x"}})
	site.WAF = config.WAF{Paranoia: 1, Mode: "block", CustomAfter: []string{rules}}
	c := &config.Config{File: "/etc/pasban.yaml", TLS: config.TLS{Mode: "files", Cert: "/nowhere", Key: "/nowhere"}, Sites: []config.Site{site}}
	problems, ok := errors.AsType[config.Problems](Check(c))
	if !ok || len(problems) != 3 || problems[1].Field != "sites[0].routes[0].subject" || problems[2].Where() != rules+":2" {
		t.Errorf("problems: %v", problems)
	}
	c.TLS.Mode, c.Sites[0].Routes, c.Sites[0].WAF.CustomAfter = "local", nil, nil
	if err := Check(c); err != nil {
		t.Error(err)
	}
}

func TestMetrics(t *testing.T) {
	site := siteOf(upstreamOf(t, fixedPage), recordRoutes()...)
	site.WAF.Mode = "block"
	g, p := newGateway(t, nil, site)
	p.officer()
	for _, target := range []string{"/", "/records/" + first, "/a//b", "/?q=%3Cscript%3Ealert(1)%3C/script%3E"} {
		get(g, "GET", target, "User-Agent", "synthetic")
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(g)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		if f.GetName() != "pasban_gateway_requests_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			got[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
		}
	}
	if want := map[string]float64{"admitted": 4, "blocked": 1, "refused": 1, "shown": 1}; !maps.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}

func TestUnderAttackPage(t *testing.T) {
	site := siteOf(upstreamOf(t, fixedPage), config.Route{Match: "/", SignIn: "none"})
	site.WAF.Mode = "block"
	g, p := newGateway(t, nil, site)
	for accept, media := range map[string]string{"text/html": "text/html; charset=utf-8", "application/json": "application/problem+json"} {
		for _, path := range []string{"/x", "/desk", "/api/v1/land-transfer"} {
			r := httptest.NewRequest("GET", path+"?q=%3Cscript%3Ealert(1)%3C/script%3E", nil)
			r.Header.Set("Accept", accept)
			r.Header.Set("User-Agent", "synthetic")
			w := httptest.NewRecorder()
			g.Handler().ServeHTTP(w, r)
			id := w.Header().Get(IncidentHeader)
			if w.Code != http.StatusForbidden || id == "" || !strings.Contains(w.Body.String(), id) || p.action(id) != "waf" {
				t.Errorf("%s for %s: %d, incident %q, action %q", path, accept, w.Code, id, p.action(id))
			}
			if got := w.Header().Get("Content-Type"); got != media && !strings.HasPrefix(path, "/api/") {
				t.Errorf("%s for %s: %s", path, accept, got)
			}
		}
	}
}
