package demo

import (
	"net/url"
	"testing"

	coreruleset "github.com/corazawaf/coraza-coreruleset/v4"
	"github.com/corazawaf/coraza/v3"
)

// blocks says whether Coraza with the rule set at paranoia level 1 blocks a request.
func blocks(t *testing.T, waf coraza.WAF, method, uri, body string) bool {
	t.Helper()
	tx := waf.NewTransaction()
	defer tx.Close()
	tx.ProcessConnection("127.0.0.1", 5555, "127.0.0.1", 443)
	tx.ProcessURI(uri, method, "HTTP/1.1")
	tx.AddRequestHeader("Host", "land.example")
	tx.AddRequestHeader("User-Agent", "Mozilla/5.0")
	tx.AddRequestHeader("Accept", "*/*")
	if body != "" {
		tx.AddRequestHeader("Content-Type", "application/x-www-form-urlencoded")
	}
	if it := tx.ProcessRequestHeaders(); it != nil {
		return true
	}
	if body != "" {
		if it, _, err := tx.WriteRequestBody([]byte(body)); it != nil || err != nil {
			return true
		}
	}
	it, err := tx.ProcessRequestBody()
	if err != nil {
		t.Fatal(err)
	}
	return it != nil
}

// TestAttacksAreAttacks: an attack of the demo is one in the eyes of Coraza
// alone, so that a miss is the gateway's and not the demo's.
func TestAttacksAreAttacks(t *testing.T) {
	waf, err := coraza.NewWAF(coraza.NewWAFConfig().WithRootFS(coreruleset.FS).
		WithDirectives("Include @coraza.conf-recommended\nInclude @crs-setup.conf.example\nInclude @owasp_crs/*.conf\nSecRuleEngine On\n"))
	if err != nil {
		t.Fatal(err)
	}
	for folder, min := range map[string]int{sqliCases: 150, xssCases: 95} {
		list, err := attacks(folder)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) < min {
			t.Errorf("%s: %d cases, want at least %d", folder, len(list), min)
		}
		for _, a := range list {
			method, uri, body := "GET", "/records/search?"+url.Values{"district": {"Lahore"}, "khasra": {a.Payload}}.Encode(), ""
			if folder == xssCases {
				method, uri, body = "POST", "/mutations", url.Values{"district": {"Lahore"}, "note": {a.Payload}}.Encode()
			}
			if !blocks(t, waf, method, uri, body) {
				t.Errorf("%s is not blocked: %q", a.ID, a.Payload)
			}
		}
	}
	for _, honest := range []string{"Rs. 500,000 paid; area 2 kanal 10 marla", "plot O-12, D'Souza colony", "123/4"} {
		if blocks(t, waf, "POST", "/mutations", url.Values{"note": {honest}}.Encode()) {
			t.Errorf("%q is blocked", honest)
		}
	}
}
