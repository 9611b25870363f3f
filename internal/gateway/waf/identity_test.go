package waf

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	coreruleset "github.com/corazawaf/coraza-coreruleset/v4"
	"github.com/corazawaf/coraza/v3"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types"
	"github.com/corazawaf/coraza/v3/types/variables"

	"pasban/internal/config"
	"pasban/internal/gateway/waf/waftest"
)

// stockEngine compiles the same directives with Coraza's own operators: the
// judge that every engine must agree with.
func stockEngine(t testing.TB, o Options) *Engine {
	t.Helper()
	directives, err := Directives(o)
	if err != nil {
		t.Fatal(err)
	}
	register.Do(registerOwn)
	w, err := compile(letters(o, coreruleset.FS), directives)
	if err != nil {
		t.Fatal(err)
	}
	e, err := engineOf(o, w)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// verdict is all that rules have to say about one exchange.
type verdict struct {
	matches      []string // rule, and what it matched where
	logged       int      // how many of them are findings: the others are bookkeeping
	interruption string
	scores       string
	light        bool // it says that nothing was found, and no more
}

// judge leads one request and its answer through all phases.
func judge(e *Engine, raw []byte, answer http.HandlerFunc) (v verdict, err error) {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		return v, err
	}
	r.RemoteAddr = "192.0.2.7:4711"
	h := e.handler(answer, Hooks{
		Blocked: func(w http.ResponseWriter, r *http.Request, rep Report) { w.WriteHeader(rep.Status) },
		Failed:  func(w http.ResponseWriter, r *http.Request, e error) { err = e; w.WriteHeader(500) },
		Route:   func(r *http.Request) string { return r.Method + " /" },
		ended: func(tx types.Transaction, light bool) {
			v = verdictOf(tx)
			v.light = light
		},
	}, requests|responses)
	h.ServeHTTP(httptest.NewRecorder(), r.WithContext(context.Background()))
	return v, err
}

func verdictOf(tx types.Transaction) (v verdict) {
	for _, m := range tx.MatchedRules() {
		if logged(m) {
			v.logged++
		}
		for _, d := range m.MatchedDatas() {
			value := d.Value()
			if d.Variable() == variables.TimeEpoch { // the two are not judged in the same second
				value = "now"
			}
			v.matches = append(v.matches, fmt.Sprintf("%d/%d %s:%s=%q", m.Rule().ID(), d.ChainLevel(), d.Variable().Name(), d.Key(), value))
		}
	}
	slices.Sort(v.matches) // Coraza walks maps
	if it := tx.Interruption(); it != nil {
		v.interruption = fmt.Sprintf("%d %s %d", it.RuleID, it.Action, it.Status)
	}
	for _, m := range tx.(plugintypes.TransactionState).Collection(variables.TX).FindAll() {
		if strings.Contains(m.Key(), "score") {
			v.scores += m.Key() + "=" + m.Value() + " "
		}
	}
	scores := strings.Fields(v.scores)
	slices.Sort(scores)
	v.scores = strings.Join(scores, " ")
	return v
}

// sameVerdict compares two engines on one request. Coraza walks maps, and some
// rules number or overwrite what they find in that order; what it says of such
// a request differs from run to run, and one of its answers must be ours.
func sameVerdict(t *testing.T, name string, stock, own *Engine, raw []byte, answer http.HandlerFunc) {
	t.Helper()
	want, werr := judge(stock, raw, answer)
	got, gerr := judge(own, raw, answer)
	for range 300 { // of 20 arguments that match, the last one is what a chain goes on with
		if fmt.Sprint(werr) == fmt.Sprint(gerr) && (want.equal(got) || want.unordered().equal(got.unordered())) {
			return
		}
		want, werr = judge(stock, raw, answer)
	}
	missing := slices.DeleteFunc(slices.Clone(want.matches), func(s string) bool { return slices.Contains(got.matches, s) })
	extra := slices.DeleteFunc(slices.Clone(got.matches), func(s string) bool { return slices.Contains(want.matches, s) })
	t.Errorf("%s: not what Coraza says\nerrors %v, %v\nmissing %q\nextra %q\ninterruption %q, want %q\nscores %q\n  want %q\n%.400q", name,
		gerr, werr, missing, extra, got.interruption, want.interruption, got.scores, want.scores, raw)
}

// equal reports whether v, which is Coraza's, and w are the same.
func (v verdict) equal(w verdict) bool {
	if w.light {
		return v.logged == 0 && w.logged == 0 && v.interruption == "" && w.interruption == "" && quietScores(v.scores)
	}
	return slices.Equal(v.matches, w.matches) && v.interruption == w.interruption && v.scores == w.scores
}

// quietScores reports whether no rule has scored.
func quietScores(scores string) bool {
	for s := range strings.FieldsSeq(scores) {
		key, value, _ := strings.Cut(s, "=")
		constant := strings.HasSuffix(key, "_threshold") || slices.Contains([]string{"critical_anomaly_score", "error_anomaly_score", "warning_anomaly_score", "notice_anomaly_score"}, key)
		if !constant && value != "0" {
			return false
		}
	}
	return true
}

// numbered are names that rules make of the order in which parts come.
var numbered = regexp.MustCompile(`(content_types)_\d+`)

// unordered is the verdict without what depends on the order of a map: the
// numbers of parts, and which of two names that differ in case alone was last.
func (v verdict) unordered() verdict {
	matches := slices.Clone(v.matches)
	for i, m := range matches {
		matches[i] = numbered.ReplaceAllString(strings.ToLower(m), "$1")
	}
	slices.Sort(matches)
	v.matches = matches
	return v
}

// leaky answers with what rules for answers look for, and with ordinary pages.
func leaky(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "text/html")
	switch {
	case len(body)%5 == 1:
		io.WriteString(w, "<b>Warning</b>: mysql_fetch_array() You have an error in your SQL syntax near '1' <?php echo 1; ?>")
	case bytes.HasPrefix(body, []byte(`{"`)):
		w.Write(body)
	default:
		io.WriteString(w, "<p>An ordinary page of a synthetic service.</p>")
	}
}

// custom are rules and exclusions as a site may have them.
const custom = `SecRule ARGS:note "@rx (?i)synthetic\s+test" "id:1000,phase:2,pass,log,msg:'own rule',capture,setvar:tx.own=%{tx.0}"
SecRule REQUEST_FILENAME "@beginsWith /post" "id:1001,phase:1,pass,nolog,ctl:ruleRemoveTargetById=942100;ARGS:q,ctl:ruleRemoveById=920350"
SecRule REQUEST_HEADERS:User-Agent "@contains ModSecurity" "id:1002,phase:1,pass,nolog,setvar:tx.seen=1,chain"
SecRule ARGS "@rx \d{3}" "t:none"
`

// exclusions are some of every form: on one route and on all, of targets and
// of whole rules, by id and by tag, in force and over.
var exclusions = []config.Exclusion{
	{Rules: []config.RuleRange{"942100-942999"}, Target: "ARGS:q", Route: "GET /", Reason: "synthetic", Expires: "2099-01-01"},
	{Tag: "attack-xss", Target: "REQUEST_HEADERS:Referer", Reason: "synthetic", Expires: "2099-01-01"},
	{Rules: []config.RuleRange{"920350"}, Route: "POST /", Reason: "synthetic", Expires: "2099-01-01"},
	{Tag: "attack-protocol", Route: "GET /", Reason: "synthetic", Expires: "2099-01-01"},
	{Rules: []config.RuleRange{"930100-930999"}, Reason: "synthetic", Expires: "2001-01-01"},
}

// TestIdentity sends the whole suite of the Core Rule Set and mutations of it
// through Coraza with its own operators and through an Engine, at every
// paranoia level, in both modes, with custom rules and exclusions: the rules
// that matched, where and on what, the scores and the outcome are the same.
// IDENTITY_MUTATIONS says how many mutations each request has.
func TestIdentity(t *testing.T) {
	cases := waftest.Suite(t)
	mutations, every := 1, 12
	if n, err := strconv.Atoi(os.Getenv("IDENTITY_MUTATIONS")); err == nil {
		mutations, every = n, 1
	}
	if raceDetector {
		every = 60
	}
	file := t.TempDir() + "/custom.conf"
	if err := os.WriteFile(file, []byte(custom), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, o := range []Options{
		{Paranoia: 1}, {Paranoia: 2, Detect: true}, {Paranoia: 3, Letters: []string{ArabicScript}}, {Paranoia: 4, Before: []string{file}},
		{Paranoia: 1, Letters: []string{ArabicScript}, Before: []string{file}, Detect: true},
		{Paranoia: 2, Exclusions: exclusions, Watched: []string{"PUT /"}},
	} {
		t.Run(fmt.Sprintf("level=%d,detect=%v,custom=%v,exclusions=%v", o.Paranoia, o.Detect, len(o.Before) > 0, len(o.Exclusions) > 0), func(t *testing.T) {
			t.Parallel()
			stock, own := stockEngine(t, o), newEngine(t, o)
			if own.light == nil {
				t.Fatalf("there is no light rule set: %v", own.screen.Why)
			}
			whole, err := engineOf(o, own.waf.(coraza.WAF))
			if err != nil {
				t.Fatal(err)
			}
			rng := rand.New(rand.NewPCG(2026, uint64(i)))
			var sent int
			for j := i % every; j < len(cases) && !t.Failed(); j += every {
				for m := range mutations + 1 {
					raw := cases[j].Raw
					if m > 0 {
						raw = waftest.Mutate(rng, raw)
					}
					sameVerdict(t, fmt.Sprintf("%s mutation %d", cases[j].Name, m), stock, own, raw, leaky)
					sameVerdict(t, fmt.Sprintf("%s mutation %d, whole rule set", cases[j].Name, m), stock, whole, raw, leaky)
					sent++
				}
			}
			t.Logf("%d requests, the same verdicts", sent)
		})
	}
}
