package gateway

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pasban/internal/config"
)

// TestOneTimeLinksStaySecret blocks requests for one-time links and looks for
// their secrets in the firewall's log and in the facts.
func TestOneTimeLinksStaySecret(t *testing.T) {
	const secret = "h3oyRCfBZDg0bpZAX_I89dtA2bZ-EUyux1HYZWWdh_Q"
	g, p := newGateway(t, nil, config.Site{Host: "*", WAF: config.WAF{Paranoia: 1, Mode: "block"}})
	for _, path := range []string{"/pasban/enrol/", "/pasban/persona/"} {
		r := httptest.NewRequest("GET", "http://land.example"+path+secret+"?q=1%27+OR+1%3D1+--+", nil)
		w := httptest.NewRecorder()
		g.Handler().ServeHTTP(w, r)
		if w.Code != http.StatusForbidden {
			t.Errorf("%s was answered %d: nothing was logged", path, w.Code)
		}
	}
	log, err := os.ReadFile(filepath.Join(g.o.Config.Data, "log", "waf.log"))
	if err != nil || !strings.Contains(string(log), "/pasban/enrol/…") && !strings.Contains(string(log), `/pasban/enrol/\u2026`) {
		t.Errorf("the log does not tell of the requests: %v\n%s", err, log)
	}
	facts, err := json.Marshal(p.take())
	if err != nil || !strings.Contains(string(facts), "/pasban/persona/…") {
		t.Errorf("no fact tells of the requests: %v", err)
	}
	if strings.Contains(string(log)+string(facts), secret) {
		t.Error("a one-time link's secret was kept")
	}
}

// TestOwnPagesAreInspectedForStrangers: the firewall stands before Pasban's own
// surfaces too, but what signed-in people write about attacks is not one.
func TestOwnPagesAreInspectedForStrangers(t *testing.T) {
	g, p := newGateway(t, nil, config.Site{Host: "*", WAF: config.WAF{Paranoia: 1, Mode: "block"}})
	note := func() int {
		r := httptest.NewRequest("POST", "http://land.example/soc/alerts/1", strings.NewReader("note=%3Cscript%3Ealert(1)%3C%2Fscript%3E+and+1%27+OR+1%3D1--"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", "http://land.example")
		w := httptest.NewRecorder()
		g.Handler().ServeHTTP(w, r)
		return w.Code
	}
	if code := note(); code != http.StatusForbidden {
		t.Errorf("a stranger's attack was answered %d", code)
	}
	p.officer()
	if code := note(); code != http.StatusOK {
		t.Errorf("a note about an attack was answered %d", code)
	}
}
