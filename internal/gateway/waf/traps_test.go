package waf

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/corazawaf/coraza/v3"
)

// traps are rules that can tell whether others were evaluated, or that change
// what others do: whatever is left out because of the screen must not show.
var traps = []struct {
	name          string
	before, after string
	light         bool // there is a light rule set all the same
}{
	{name: "skip by number", light: true, after: `SecRule ARGS:a "@streq 1" "id:1,phase:2,pass,nolog,skip:1"
SecRule ARGS:b "@streq 2" "id:2,phase:2,pass,log"
SecRule ARGS:c "@streq 3" "id:3,phase:2,pass,log"`},
	{name: "skip by number over what is taken out", light: true, before: `SecRule REQUEST_URI "@contains drop" "id:5,phase:1,pass,nolog,ctl:ruleRemoveById=2"`,
		after: `SecRule ARGS:a "@streq 1" "id:1,phase:2,pass,nolog,skip:1"
SecRule ARGS:b "@streq 2" "id:2,phase:2,pass,log"
SecRule ARGS:c "@streq 3" "id:3,phase:2,pass,log"
SecRule ARGS:x "@streq 1" "id:4,phase:2,pass,log"`},
	{name: "skip by number over the gate of a level", light: true, before: `SecRule REQUEST_URI "@contains drop" "id:1,phase:1,pass,nolog,ctl:ruleRemoveByTag=attack-protocol,ctl:requestBodyProcessor=JSON"`},
	{name: "skip to a marker", light: true, after: `SecRule ARGS:s "@streq 1" "id:1,phase:2,pass,nolog,skipAfter:OWN"
SecRule ARGS:b "@streq 2" "id:2,phase:2,pass,log"
SecMarker OWN`},
	{name: "what matched last", after: `SecRule MATCHED_VAR "@contains y" "id:1,phase:2,pass,log"`},
	{name: "which rule was last", after: `SecRule ARGS:a "@rx ." "id:1,phase:2,pass,log,setvar:'tx.last=%{rule.msg}'"
SecRule TX:last "@contains SQL" "id:2,phase:2,pass,log"`},
	{name: "a count of which a target is removed", light: true, after: `SecRule REQUEST_URI "@contains drop" "id:1,phase:1,pass,nolog,ctl:ruleRemoveTargetById=2;ARGS:x"
SecRule &ARGS:x "@eq 0" "id:2,phase:2,pass,log"`},
	{name: "a variable that a decided rule sets", light: true, after: `SecRule ARGS:a "@rx ^y" "id:1,phase:1,pass,nolog,setvar:tx.seen=1"
SecRule TX:seen "@eq 1" "id:2,phase:2,pass,log"`},
	{name: "captures of a chain that fails", light: true, after: `SecRule ARGS:a "@rx (b+)(c)?" "id:1,phase:2,pass,log,capture,chain"
SecRule ARGS:b "@streq never" ""
SecRule TX:1 "@streq bb" "id:2,phase:2,pass,log"`},
	{name: "captures of a negated link", light: true, after: `SecRule ARGS:a "!@rx (z)" "id:1,phase:2,pass,log,capture"
SecRule TX:1 "@streq z" "id:2,phase:2,pass,log"`},
	{name: "a gate that is taken out", light: true, before: `SecRule ARGS:open "@streq 1" "id:1,phase:1,pass,nolog,ctl:ruleRemoveById=942014"`},
	{name: "a gate whose target is taken out", light: true, before: `SecRule ARGS:open "@streq 1" "id:1,phase:1,pass,nolog,ctl:ruleRemoveTargetById=942014;TX:DETECTION_PARANOIA_LEVEL"`},
	{name: "all gates and what is behind them taken out", light: true, before: `SecRule ARGS:open "@streq 1" "id:1,phase:1,pass,nolog,ctl:ruleRemoveByTag=OWASP_CRS"`},
	{name: "a level of the request's own", light: true, before: `SecRule ARGS:open "@streq 1" "id:1,phase:1,pass,nolog,setvar:tx.detection_paranoia_level=4"`},
	{name: "levels that are not set", light: true, before: `SecRule ARGS:open "@streq 1" "id:1,phase:1,pass,nolog,ctl:ruleRemoveById=901120-901125"`},
	{name: "levels that are skipped", light: true, before: `SecRule ARGS:open "@streq 1" "id:1,phase:1,pass,nolog,skipAfter:END-SAMPLING"`},
	{name: "allow for a phase", light: true, before: `SecRule ARGS:open "@streq 1" "id:1,phase:1,allow:phase,nolog"`},
	{name: "a match on every request", after: `SecAction "id:1,phase:2,pass,log,msg:'always'"`},
	{name: "another threshold", light: true, before: `SecRule REQUEST_HEADERS:X-A "@streq 1" "id:1,phase:1,pass,nolog,setvar:tx.inbound_anomaly_score_threshold=0"`},
	{name: "a variable that the request names", light: true, before: `SecRule &ARGS:k "@gt 0" "id:1,phase:1,pass,nolog,setvar:'tx.%{ARGS.k}=%{ARGS.v}'"`},
	{name: "the engine off", light: true, before: `SecRule ARGS:open "@streq 1" "id:1,phase:1,pass,nolog,ctl:ruleEngine=Off"`},
	{name: "a match in the last phase", after: `SecRule RESPONSE_STATUS "@streq 200" "id:1,phase:5,pass,log"`, light: true},
	{name: "allow", light: true, before: `SecRule REQUEST_METHOD "@streq PUT" "id:1,phase:1,allow:request,nolog"`},
	{name: "updated targets", light: true, after: `SecRuleUpdateTargetById 942100 "!ARGS:q"
SecRuleUpdateTargetById 941100 "REQUEST_HEADERS:X-A"`},
	{name: "several matches", light: true, after: `SecRule ARGS "@contains ab" "id:1,phase:2,pass,log,multiMatch,t:none,t:lowercase,t:removeWhitespace"
SecRule ARGS|!ARGS:/^b/ "@rx ^(?i)AB" "id:2,phase:2,pass,log,capture,t:none,setvar:tx.q=%{tx.0}"
SecRule ARGS_NAMES:/^[ab]$/ "@pm b zz" "id:3,phase:2,pass,log,capture"`},
	{name: "a body read otherwise", light: true, before: `SecRule ARGS_GET:open "@streq 1" "id:1,phase:1,pass,nolog,ctl:requestBodyProcessor=JSON"`},
}

// trapped writes a request of pieces that the traps wait for.
func trapped(rng *rand.Rand) []byte {
	query := url.Values{}
	for key, values := range map[string][]string{
		"a": {"1", "1", "yes", "bbc", "bb", "z", "AB", "a b"}, "b": {"2", "ab", "zz"}, "c": {"3"}, "x": {"1"}, "s": {"1"}, "open": {"1"},
		"k": {"inbound_anomaly_score_threshold", "detection_paranoia_level", "seen"}, "v": {"0", "1", "4"},
		"q": {"1' or '1'='1", "<script>alert(1)</script>", "plain"},
	} {
		if rng.IntN(2) == 0 {
			query.Set(key, values[rng.IntN(len(values))])
		}
	}
	method := []string{"GET", "POST", "PUT"}[rng.IntN(3)]
	path := []string{"/", "/drop", "/static/app.js"}[rng.IntN(3)]
	header := ""
	if rng.IntN(3) == 0 {
		header = []string{"X-A: 1\r\n", "X-A: <script>\r\n"}[rng.IntN(2)]
	}
	head := fmt.Sprintf("Host: service.example\r\nUser-Agent: Mozilla/5.0\r\nAccept: */*\r\n%s", header)
	if method == "GET" || rng.IntN(2) == 0 {
		return fmt.Appendf(nil, "%s %s?%s HTTP/1.1\r\n%sContent-Length: 0\r\n\r\n", method, path, query.Encode(), head)
	}
	open := ""
	if query.Has("open") {
		open = "?open=1"
	}
	body := query.Encode()
	return fmt.Appendf(nil, "%s %s%s HTTP/1.1\r\n%sContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s", method, path, open, head, len(body), body)
}

// TestTraps compares with Coraza's own operators and every rule evaluated.
func TestTraps(t *testing.T) {
	requests := 250
	if raceDetector {
		requests = 10
	}
	for i, trap := range traps {
		if raceDetector && i%6 != 0 {
			continue
		}
		t.Run(strings.ReplaceAll(trap.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			o := Options{Paranoia: 1 + i%2}
			for name, text := range map[string]string{"before.conf": trap.before, "after.conf": trap.after} {
				file := filepath.Join(t.TempDir(), name)
				if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				if name == "before.conf" {
					o.Before = []string{file}
				} else {
					o.After = []string{file}
				}
			}
			stock, own := stockEngine(t, o), newEngine(t, o)
			if (own.light != nil) != trap.light {
				t.Errorf("a light rule set: %v", own.light != nil)
			}
			whole, err := engineOf(o, own.waf.(coraza.WAF))
			if err != nil {
				t.Fatal(err)
			}
			rng := rand.New(rand.NewPCG(2027, uint64(i)))
			for range requests {
				raw := trapped(rng)
				sameVerdict(t, trap.name, stock, own, raw, leaky)
				sameVerdict(t, trap.name+", whole rule set", stock, whole, raw, leaky)
				if t.Failed() {
					return
				}
			}
		})
	}
}
