package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/detect"
	"pasban/internal/detect/ingest"
	"pasban/internal/soc"
)

const (
	sqliRule = "fa02dc8a-2029-4192-9cf9-5de64c3f3eef"
	sshRule  = "5c3f1a52-52a4-4b1c-9c2e-0b2f6d7c0a01"
	manyRule = "5c3f1a52-52a4-4b1c-9c2e-0b2f6d7c0a02"
	macRule  = "5c3f1a52-52a4-4b1c-9c2e-0b2f6d7c0a03"
)

const foreignRules = `title: Password refused <b>here</b>
id: ` + sshRule + `
name: refused
logsource: {product: linux, service: sshd}
detection:
  failure: {message|contains: refused}
  local: {src: 127.0.0.1}
  condition: failure and not local
tags: [attack.credential-access, attack.t1110.001]
level: medium
---
title: Many passwords refused
id: ` + manyRule + `
correlation: {type: event_count, rules: [refused], group-by: [src], timespan: 5m, condition: {gte: 3}, generate: true}
tags: [attack.credential-access, attack.t1110]
level: critical
---
title: On a machine that nobody watches
id: ` + macRule + `
logsource: {product: macos, service: auth}
detection: {s: {x: y}, condition: s}
tags: [attack.initial-access, attack.t1566]
level: high
`

// newRulesRig is a rig with foreign rules beside Pasban's own.
func newRulesRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "foreign.yml"), []byte(foreignRules), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if r.engine, err = detect.Load([]string{"../../examples/rules", dir}); err != nil {
		t.Fatal(err)
	}
	return r
}

// receive lets detection see n refused passwords in received logs, from one address.
func (r *rig) receive(src string, n int) {
	r.t.Helper()
	for i := range uint64(n) {
		r.logged++
		ev := pasban.Event{"Seq": detect.FirstReceived + r.logged, "metadata": map[string]any{"uid": fmt.Sprintf("%sbranch:%d", ingest.IDPrefix, r.logged)},
			"time": time.Now().Add(time.Duration(i) * time.Millisecond).UnixMilli(), "host": "web1", "message": "password refused " + hostile, "src": src,
			"citizen": "61101-1234567-1", detect.LogsourceKey: []detect.Logsource{{Product: "linux", Service: "sshd"}}}
		if err := r.alerts.Handle(r.t.Context(), r.engine.Match(ev)); err != nil {
			r.t.Fatal(err)
		}
	}
	r.count()
}

// of are the alerts of a rule.
func (r *rig) of(rule string, states ...soc.State) []soc.Alert {
	r.t.Helper()
	list, err := r.alerts.List(r.t.Context(), soc.Query{Rule: rule, States: states})
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}

func (r *rig) holds(path string, wants ...string) string {
	r.t.Helper()
	body := r.get(path)
	for _, want := range wants {
		if !strings.Contains(body, want) {
			r.t.Errorf("%s lacks %q", path, want)
		}
	}
	for _, bad := range []string{"<script>alert", "<img", "Password refused <b>", "61101-1234567-1", "ZgotmplZ", ">console.", "\"console."} {
		if strings.Contains(body, bad) {
			r.t.Errorf("%s holds %s", path, bad)
		}
	}
	return body
}

// TestRules: every loaded rule is listed with its figures, a page at a time.
func TestRules(t *testing.T) {
	r := newRulesRig(t)
	r.record(block("942100", "203.0.113.8", "/"), block("942100", "203.0.113.9", "/"))
	r.receive("198.51.100.7", 4)
	sqli := r.of(sqliRule)
	if err := r.alerts.SetState(t.Context(), analyst.Actor, []string{sqli[0].ID}, soc.Change{State: soc.Closed, Verdict: soc.FalsePositive, Note: "our own"}); err != nil {
		t.Fatal(err)
	}
	total := len(r.engine.Rules())
	body := r.holds("/soc/rules", fmt.Sprintf("1–50 of %d", total), "1 without data", `rel="next"`, `<td class="num" data-h="Matches in hour / day / week">4 / 4 / 4</td>`)
	if strings.Index(body, sshRule) > strings.Index(body, sqliRule) {
		t.Error("the rule that matches most is not first")
	}
	r.holds("/soc/rules?page=2", fmt.Sprintf("51–%d of %d", min(100, total), total), `rel="prev"`)
	r.holds("/soc/rules?page=9999", fmt.Sprintf("of %d", total))
	r.holds("/soc/rules?sort=noise&q=sql+INJ", "100 %", "SQL injection attempt", `aria-sort="descending"`, "1–1 of 1")
	for query, want := range map[string]string{
		"show=blind": macRule, "product=macos": macRule, "technique=T1110&q=many+passwords&level=critical": manyRule, "q=attack.t1566": macRule, "q=" + macRule: macRule,
		"show=noisy": sqliRule, "level=bad&show=worse&sort=none&technique=x&page=-1&q=macos": macRule, "product=-&q=passwords": manyRule,
	} {
		if body := r.get("/soc/rules?" + query); !strings.Contains(body, "1–1 of 1<") && !strings.Contains(body, "1–1 of 1 ") || !strings.Contains(body, "/soc/rules/"+want) {
			t.Errorf("%s does not show %s alone", query, want)
		}
	}
	for _, query := range []string{"show=silent", "show=matching", "show=waiting", "show=suppressed", "sort=title", "sort=cost", "sort=level", "sort=alerts", "sort=suppressed", "q=no+such+rule", "lang=ur"} {
		r.holds("/soc/rules?" + query)
	}
	r.refused = config.Problems{{File: "rules/bad.yml", Line: 7, Msg: "unknown key " + hostile, Hint: "delete it"}}
	for range refusedMax {
		r.refused = append(r.refused, r.refused[0])
	}
	r.holds("/soc/rules", "The last reload was refused", "rules/bad.yml:7", "and more mistakes (1)")
}

// TestOneRule: a rule's page has its text, its cases and what it found.
func TestOneRule(t *testing.T) {
	r := newRulesRig(t)
	r.record(block("942100", "203.0.113.8", "/"))
	r.receive("198.51.100.7", 4)
	r.holds("/soc/rules/"+sqliRule, "a request that these rules stopped", "stay silent", "logsource:", "https://attack.mitre.org/techniques/T1190/", "product pasban, service gateway", "/soc/alerts/"+r.of(sqliRule)[0].ID)
	r.holds("/soc/rules/"+sshRule, "title: Password refused &lt;b&gt;", "4 / 4 / 4", "https://attack.mitre.org/techniques/T1110/001/", "There are none beside it.")
	r.holds("/soc/rules/"+manyRule, "Counted together by", "at least 3", "5 min", "/soc/rules/"+sshRule)
	r.holds("/soc/rules/"+macRule, "blind, nobody sends its data", "It has raised no alert.", "not measured yet")
	r.holds("/soc/rules/" + sshRule + "?lang=ur")
	if w := r.do(http.MethodGet, "/soc/rules/nothing", nil); w.Code != http.StatusNotFound {
		t.Errorf("an unknown rule: %d", w.Code)
	}
	rule := r.console.rule(sshRule)
	if err := os.WriteFile(rule.File, []byte("title: changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.holds("/soc/rules/"+sshRule, "The file has changed since it was loaded")
	if err := os.Remove(rule.File); err != nil {
		t.Fatal(err)
	}
	r.holds("/soc/rules/"+sshRule, "The file cannot be read.")
}

// TestReceivedEvents: an alert about received logs says by which part of the
// rule it fired, and shows the fields of its events, of a correlation's too.
func TestReceivedEvents(t *testing.T) {
	r := newRulesRig(t)
	r.receive("198.51.100.7", 30)
	r.holds("/soc/alerts/"+r.of(sshRule)[0].ID, `<code>failure</code> – message contains`, "Entry of a received log", "branch:30", "Older events", "Its fields are not kept.", "…671", "<dt>src</dt><dd>198.51.100.7</dd>")
	body := r.holds("/soc/alerts/"+r.of(manyRule)[0].ID, "src: 198.51.100.7", "at least 3", "30 events for 198.51.100.7", "branch:30")
	if strings.Count(body, "<dt>message</dt>") < 20 {
		t.Error("the events of the correlation are not shown")
	}
	_, rest, ok := strings.Cut(body, "?before=")
	if !ok {
		t.Fatal("there is no link to older events")
	}
	before, _, _ := strings.Cut(rest, "#")
	older := r.holds("/soc/alerts/"+r.of(manyRule)[0].ID+"?before="+before, "branch:1<", "branch:5<")
	if strings.Contains(older, "Older events") || strings.Contains(older, "branch:6<") {
		t.Error("older events are not the rest")
	}
}

// suppressForm is what a browser sends from the form for an alert.
func suppressForm(alert string, more ...string) url.Values {
	form := url.Values{"alert": {alert}, "reason": {"our own scanner"}, "days": {"7"}, "back": {"7"}}
	for i := 0; i < len(more); i += 2 {
		form.Add(more[i], more[i+1])
	}
	return form
}

// TestSuppress: from an alert by form and preview to a suppression, and to its end.
func TestSuppress(t *testing.T) {
	r := newRulesRig(t)
	r.record(block("942100", "203.0.113.8", "/old"), block("942100", "203.0.113.9", "/new"))
	alert := r.of(sqliRule)[0].ID
	r.holds("/soc/alerts/"+alert, "/soc/suppressions/new?alert="+alert)
	body := r.holds("/soc/suppressions/new?alert="+alert, `name="value SrcIP"`, `name="value Path"`, "Only alerts about")
	if strings.Contains(body, `name="value Incident"`) {
		t.Error("what tells an event from every other is offered")
	}
	for name, form := range map[string]url.Values{
		"nothing chosen": suppressForm(alert), "no reason": suppressForm(alert, "entity", "1", "reason", ""), "bad network": suppressForm(alert, "use", "SrcIP", "how SrcIP", "cidr", "value SrcIP", "x"),
		"a field that is not there":                      suppressForm(alert, "use", "Nothing", "value Nothing", "x"),
		"a field that is there no more, beside the rest": suppressForm(alert, "entity", "1", "use", "Nothing", "value Nothing", "x"),
	} {
		if name == "no reason" {
			form.Set("reason", " ")
		}
		for _, path := range []string{"/soc/suppressions", "/soc/suppressions/preview"} {
			if w := r.do(http.MethodPost, path, form); w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), `role="alert"`) {
				t.Errorf("%s: %d", name, w.Code)
			}
		}
	}
	form := suppressForm(alert, "use", "Path", "how Path", "startswith", "value Path", "/n")
	w := r.do(http.MethodPost, "/soc/suppressions/preview", form)
	for _, want := range []string{"looked back on (7): 2. Suppressed whole: 1; in part: 0.", "looked at: 2; of these fit: 1", `Path starts with &#34;/n&#34;`, `name="value Path" value="/n"`, "Put in force"} {
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
			t.Fatalf("the preview (%d) lacks %q:\n%s", w.Code, want, w.Body)
		}
	}
	if w := r.do(http.MethodPost, "/soc/suppressions", form); w.Code != http.StatusSeeOther {
		t.Fatalf("status %d\n%s", w.Code, w.Body)
	}
	r.record(block("942100", "203.0.113.10", "/newer"), block("942100", "203.0.113.11", "/other"))
	if hidden := r.of(sqliRule, soc.Suppressed); len(hidden) != 1 || hidden[0].Entity != "203.0.113.10" {
		t.Fatalf("suppressed: %+v", hidden)
	}
	queue := r.holds("/soc/alerts", "203.0.113.11")
	if strings.Contains(queue, "203.0.113.10<") {
		t.Error("the queue shows what is suppressed")
	}
	r.holds("/soc/alerts?state=suppressed", "203.0.113.10")
	r.holds("/soc/alerts/"+r.of(sqliRule, soc.Suppressed)[0].ID, "A suppression put this alert aside")
	r.holds("/soc/rules?show=suppressed", "/soc/rules/"+sqliRule)
	r.holds("/soc/suppressions?lang=ur", "our own scanner")
	list := r.holds("/soc/suppressions", "our own scanner", "in force", "alerts: 1, events: 1", "/end")
	r.holds("/soc/rules/"+sqliRule, "our own scanner")
	_, rest, _ := strings.Cut(list, `action="/soc/suppressions/`)
	id, _, _ := strings.Cut(rest, "/")
	if w := r.do(http.MethodPost, "/soc/suppressions/"+id+"/end", url.Values{"x": {"y"}}); w.Code != http.StatusSeeOther {
		t.Errorf("ending it: %d", w.Code)
	}
	r.holds("/soc/suppressions", "ended early")
}

// TestSuppressCritical: what a critical rule finds is suppressed by two people.
func TestSuppressCritical(t *testing.T) {
	r := newRulesRig(t)
	r.receive("198.51.100.7", 3)
	form := suppressForm(r.of(manyRule)[0].ID, "entity", "1")
	if w := r.do(http.MethodPost, "/soc/suppressions/preview", form); !strings.Contains(w.Body.String(), "Ask a supervisor") {
		t.Errorf("the preview is\n%s", w.Body)
	}
	if w := r.do(http.MethodPost, "/soc/suppressions", form); w.Code != http.StatusSeeOther {
		t.Fatalf("status %d", w.Code)
	}
	s, err := r.alerts.Suppressions(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	decide := "/soc/suppressions/" + s[0].ID
	if w := r.do(http.MethodPost, decide, url.Values{"do": {"approve"}}); w.Code != http.StatusForbidden {
		t.Errorf("an analyst approves: %d", w.Code)
	}
	r.visitor = &supervisor
	r.holds("/soc/suppressions", "waits for a supervisor", "Approve")
	if w := r.do(http.MethodGet, "/soc/suppressions/new?alert="+s[0].Alert, nil); w.Code != http.StatusForbidden {
		t.Errorf("a supervisor suppresses: %d", w.Code)
	}
	if w := r.do(http.MethodPost, decide, url.Values{"do": {"shrug"}}); w.Code != http.StatusBadRequest {
		t.Errorf("neither: %d", w.Code)
	}
	if w := r.do(http.MethodPost, decide, url.Values{"do": {"approve"}}); w.Code != http.StatusSeeOther {
		t.Errorf("a supervisor approves: %d", w.Code)
	}
	r.receive("198.51.100.7", 1)
	if got := r.of(manyRule, soc.Suppressed); len(got) != 1 {
		t.Errorf("suppressed: %+v", got)
	}
}

// TestCoverage: the three figures of a technique are apart, on the page and in
// the layers.
func TestCoverage(t *testing.T) {
	r := newRulesRig(t)
	r.receive("198.51.100.7", 1)
	r.record(block("942100", "203.0.113.8", "/"))
	r.holds("/soc/attack", "product linux, service sshd", "product macos, service auth", "rules: 1, no data", "/soc/rules?technique=T1566", "rules with data: 2 of 2")
	r.holds("/soc/attack?lang=ur")
	want := map[string][3]int{"T1110.001": {1, 1, 1}, "T1566": {1, 0, 0}}
	for i, score := range []string{"rules", "fed", "alerts"} {
		var l navigatorLayer
		if err := json.Unmarshal([]byte(r.get("/soc/layer.json?score="+score)), &l); err != nil {
			t.Fatal(err)
		}
		for _, tech := range l.Techniques {
			if w, ok := want[tech.ID]; ok && (tech.Score != w[i] || len(tech.Metadata) != 3 || tech.Metadata[0].Value != fmt.Sprint(w[0]) || tech.Metadata[1].Value != fmt.Sprint(w[1]) || tech.Metadata[2].Value != fmt.Sprint(w[2])) {
				t.Errorf("%s scored by %s is %+v", tech.ID, score, tech)
			}
		}
	}
	if w := r.do(http.MethodGet, "/soc/layer.json?score=x", nil); w.Code != http.StatusBadRequest {
		t.Errorf("an unknown score: %d", w.Code)
	}
}
