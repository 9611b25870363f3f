package console

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/detect"
	"pasban/internal/detect/corpus"
	"pasban/internal/journal"
	"pasban/internal/journal/journaltest"
	"pasban/internal/ledger"
	"pasban/internal/ledger/tiles"
	"pasban/internal/page"
	"pasban/internal/soc"
	"pasban/internal/store/storetest"
)

// hostile is markup that a page must show as text.
const hostile = `<script>alert(1)</script><img src=x onerror=alert(2)>"'&`

// Synthetic people of the tests.
var (
	analyst    = Visitor{Actor: pasban.Actor{ID: "analyst:1", Kind: pasban.ActorPerson, Role: pasban.RoleAnalyst}, Name: map[string]string{"en": "Synthetic Sana", "ur": "فرضی ثنا"}}
	supervisor = Visitor{Actor: pasban.Actor{ID: "supervisor:1", Kind: pasban.ActorPerson, Role: pasban.RoleSupervisor}, Name: map[string]string{"en": "Synthetic Salim"}}
)

// fakeLedger stands for a ledger in a state that the test chooses.
type fakeLedger struct {
	status ledger.Status
	audits int
	err    error
}

func (l *fakeLedger) Status() ledger.Status       { return l.status }
func (l *fakeLedger) Audit(context.Context) error { l.audits++; return l.err }

// rig is a console over a real journal, real rules and real alerts.
type rig struct {
	t       *testing.T
	console *Console
	j       *journal.Journal
	engine  *detect.Engine
	alerts  *soc.Center
	ledger  *fakeLedger
	visitor *Visitor
	sites   []config.Site
	tuned   int    // how often exclusions were put in force
	last    uint64 // the last fact that detection has seen
	logged  uint64 // the last received event
	refused config.Problems
}

func newRig(t *testing.T) *rig {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, "land.example/ledger")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	sealer := journaltest.NewSealer("")
	st := storetest.SQLite(t)
	r := &rig{t: t, visitor: &analyst, ledger: &fakeLedger{status: ledger.Status{Origin: "land.example/ledger"}}}
	if r.j, err = journal.Open(t.Context(), st, journal.Options{Signer: signer, Sealer: sealer}); err != nil {
		t.Fatal(err)
	}
	if r.alerts, err = soc.Open(t.Context(), st, r.j, sealer, "land-records"); err != nil {
		t.Fatal(err)
	}
	if r.engine, err = detect.Load([]string{"../../examples/rules"}); err != nil {
		t.Fatal(err)
	}
	pages, err := page.New(page.Options{Agency: map[string]string{"en": "Board of Revenue", "ur": "بورڈ آف ریونیو"}})
	if err != nil {
		t.Fatal(err)
	}
	r.console, err = New(Options{
		Pages: pages, Agency: "land-records", Alerts: r.alerts, Journal: r.j, Ledger: r.ledger, VKey: vkey,
		Detection: func() Detection { return r.engine },
		Sites:     func() []config.Site { return r.sites },
		Refused:   func() config.Problems { return r.refused },
		Tune:      func(context.Context) error { r.tuned++; return nil },
		Visitor: func(*http.Request) (Visitor, bool) {
			if r.visitor == nil {
				return Visitor{}, false
			}
			return *r.visitor, true
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// block is the fact of a request that the WAF stopped.
func block(rule, ip, path string) pasban.Fact {
	f := pasban.NewFact(pasban.KindBlock, "land-records", pasban.Actor{}, time.Now())
	f.Body.Service, f.Body.Action, f.Body.Outcome = "land.example", "waf", pasban.Denied
	f.Restricted = pasban.Restricted{IP: ip, Method: "GET", Host: "land.example", Path: path, UserAgent: hostile, Query: "q=secret", Status: 403,
		Rules: []string{rule, "949110"}, Reasons: []string{"attack " + hostile}, More: map[string]string{"engine": "waf"}}
	return f
}

// record makes facts durable and lets detection see them.
func (r *rig) record(facts ...pasban.Fact) []journal.Entry {
	r.t.Helper()
	entries, err := r.j.Record(r.t.Context(), facts...)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(r.t.Context())
	defer cancel()
	want := entries[len(entries)-1].Seq
	err = r.engine.Run(ctx, r.j, func(ctx context.Context, ms []detect.Match) error {
		if err := r.alerts.Handle(ctx, ms); err != nil {
			return err
		}
		for _, m := range ms {
			r.last = max(r.last, m.Refs[len(m.Refs)-1].Seq)
		}
		if r.last >= want {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		r.t.Fatal(err)
	}
	r.count()
	return entries
}

// count writes down what the rules found, as a node does.
func (r *rig) count() {
	r.t.Helper()
	if err := r.alerts.Count(r.t.Context(), r.engine.Figures()); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) do(method, path string, form url.Values, header ...string) *httptest.ResponseRecorder {
	r.t.Helper()
	req := httptest.NewRequestWithContext(r.t.Context(), method, path, strings.NewReader(form.Encode()))
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	r.console.Handler().ServeHTTP(w, req)
	return w
}

func (r *rig) get(path string) string {
	r.t.Helper()
	w := r.do(http.MethodGet, path, nil)
	if w.Code != http.StatusOK {
		r.t.Fatalf("GET %s: status %d\n%s", path, w.Code, w.Body)
	}
	return w.Body.String()
}

func (r *rig) all() []soc.Alert {
	r.t.Helper()
	list, err := r.alerts.List(r.t.Context(), soc.Query{})
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}

// paths are the pages of the console that show alert a and fact f.
func paths(a, f string) []string {
	return []string{"/soc", "/soc/", "/soc/alerts", "/soc/alerts?state=all&level=low&period=24h&technique=T1190", "/soc/alerts/" + a,
		"/soc/events/" + f, "/soc/find", "/soc/attack", "/soc/waf", "/soc/ledger", "/soc/rules", "/soc/suppressions"}
}

// TestPages executes every template, in both languages, with markup in every
// field that an attacker can fill.
func TestPages(t *testing.T) {
	r := newRig(t)
	fact := r.record(block("942100", hostile, "/records/"+hostile), block("932100", "203.0.113.9", "/x"))[0].Fact.Body.ID
	alert := r.all()[0]
	if err := r.alerts.SetState(t.Context(), analyst.Actor, []string{alert.ID}, soc.Change{State: soc.Acknowledged, Note: hostile}); err != nil {
		t.Fatal(err)
	}
	r.ledger.status = ledger.Status{Origin: "land.example/ledger", Size: 12345, Root: "cm9vdA==", Published: time.Now().Add(-42 * time.Second), Lag: 2,
		LastAudit: time.Now().Add(-3 * time.Hour), Damaged: []tiles.Finding{{Path: "tile/0/000", Problem: hostile}}, Err: errors.New(hostile),
		Witnesses: ledger.Witnessing{Need: 1, Size: 12340, Final: time.Now().Add(-time.Minute), Problem: errors.New(hostile), Of: []ledger.WitnessStatus{
			{Name: "a.example/w", Size: 12340, Cosigned: time.Now().Add(-time.Minute)}, {Name: hostile, Err: errors.New(hostile)}}}}
	for _, lang := range page.Langs() {
		for _, path := range paths(alert.ID, fact) {
			join := "?"
			if strings.Contains(path, "?") {
				join = "&"
			}
			body := r.get(path + join + "lang=" + lang)
			for _, bad := range []string{"<script>alert", "<img", "onerror=alert(2)>", "q=secret", "ZgotmplZ", ">console.", "\"console."} {
				if strings.Contains(body, bad) {
					t.Errorf("%s in %s holds %s", path, lang, bad)
				}
			}
			if !strings.Contains(body, `lang="`+lang+`" dir="`+page.Dir(lang)+`"`) || strings.Count(body, "<h1>") != 1 {
				t.Errorf("%s in %s: language or heading is missing", path, lang)
			}
		}
	}
	if body := r.get("/soc/alerts/" + alert.ID); !strings.Contains(body, "&lt;script&gt;alert(1)") || !strings.Contains(body, "analyst:1") || !strings.Contains(body, `<a href="/soc/events/`) {
		t.Errorf("the alert's page lacks the note, who wrote it or the events:\n%s", body)
	}
	if body := r.get("/soc/ledger"); !strings.Contains(body, "12,345") || !strings.Contains(body, "tile/0/000") || !strings.Contains(body, "answering 503") ||
		!strings.Contains(body, "a.example/w") || !strings.Contains(body, "12,340 entries are final (1 of 2 witnesses needed)") {
		t.Errorf("the ledger's page lacks its figures:\n%s", body)
	}
}

// TestFigures: the overview shows what happened, and the table says the same as the chart.
func TestFigures(t *testing.T) {
	r := newRig(t)
	if body := r.get("/soc"); !strings.Contains(body, "No request has been counted yet") || strings.Contains(body, "chart-data") {
		t.Errorf("an empty node shows a chart:\n%s", body)
	}
	look := pasban.NewFact(pasban.KindLook, "land-records", pasban.Actor{ID: "officer:1", Kind: pasban.ActorPerson, Role: pasban.RoleOfficer}, time.Now())
	look.Body.Mode, look.Subject.ID = pasban.ModePerson, "aa01"
	r.record(look, look2(look), block("942100", "203.0.113.8", "/"), block("942100", "203.0.113.8", "/"), block("932100", "203.0.113.8", "/"))
	view, err := r.console.overviewOf(t.Context(), "en")
	if err != nil {
		t.Fatal(err)
	}
	if view.Served != 2 || view.Blocked != 3 || view.Delay == "" || view.Ledger.Facts != 5 || view.Ledger.Leaves != 2 {
		t.Errorf("figures are %+v", view)
	}
	var blocked int
	for i, v := range view.Chart.Data.Series[1].Values {
		blocked += v
		if view.Chart.Table[i].Blocked != v {
			t.Error("table and chart differ")
		}
	}
	if blocked != 3 || !strings.Contains(view.Chart.Sentence, "3 requests were blocked and 2 served") {
		t.Errorf("the sentence is %q", view.Chart.Sentence)
	}
	if open := len(r.all()); view.Open != open || view.ByLevel == "none waiting" {
		t.Errorf("%d open (%s), want %d", view.Open, view.ByLevel, open)
	}
	var doc struct{ Times []int64 }
	body := r.get("/soc")
	_, rest, _ := strings.Cut(body, `id="chart-data"`)
	_, rest, _ = strings.Cut(rest, ">")
	data, _, _ := strings.Cut(rest, "</script>")
	if err := json.Unmarshal([]byte(data), &doc); err != nil || len(doc.Times) == 0 {
		t.Errorf("the chart's data is not JSON: %v\n%s", err, data)
	}
}

// look2 is another fact like f.
func look2(f pasban.Fact) pasban.Fact {
	f.Body.ID = pasban.NewID()
	return f
}

func TestWhoMay(t *testing.T) {
	r := newRig(t)
	fact := r.record(block("942100", "203.0.113.8", "/"))[0].Fact.Body.ID
	alert := r.all()[0].ID
	posts := map[string]url.Values{
		"/soc/alerts":                     {"id": {alert}, "state": {"acknowledged"}},
		"/soc/alerts/" + alert + "/notes": {"note": {"x"}},
		"/soc/ledger/audit":               {"x": {"y"}},
	}
	gets := append(paths(alert, fact), "/soc/alerts.json", "/soc/layer.json", "/soc/ledger/vkey")
	for _, role := range append(pasban.Roles(), "") {
		r.visitor = &Visitor{Actor: pasban.Actor{ID: "x:1", Role: role}}
		if role == "" {
			r.visitor = nil
		}
		for _, path := range gets {
			want := http.StatusForbidden
			switch role {
			case pasban.RoleAnalyst, pasban.RoleSupervisor:
				want = http.StatusOK
			case "":
				want = http.StatusSeeOther // to sign in
			}
			if got := r.do(http.MethodGet, path, nil).Code; got != want {
				t.Errorf("GET %s as %q: %d, want %d", path, role, got, want)
			}
		}
		for _, live := range []string{"/soc/live", "/soc/live/count"} {
			if role == pasban.RoleAnalyst || role == pasban.RoleSupervisor {
				continue // TestLive
			}
			if got := r.do(http.MethodGet, live, nil).Code; got == http.StatusOK {
				t.Errorf("%s is open to %q", live, role)
			}
		}
		for path, form := range posts {
			if role == pasban.RoleAnalyst {
				continue // TestActions
			}
			if got := r.do(http.MethodPost, path, form).Code; got != http.StatusForbidden && got != http.StatusUnauthorized {
				t.Errorf("POST %s as %q: %d", path, role, got)
			}
		}
	}
	r.visitor = &analyst
	for path, form := range posts {
		if got := r.do(http.MethodPost, path, form, "Sec-Fetch-Site", "cross-site").Code; got != http.StatusForbidden {
			t.Errorf("POST %s from another site: %d", path, got)
		}
	}
	if a, err := r.alerts.Get(t.Context(), alert); err != nil || a.State != soc.New || r.ledger.audits != 0 {
		t.Errorf("something was changed: %+v, %v", a, err)
	}
	r.visitor = &supervisor
	if body := r.get("/soc/alerts/" + alert); strings.Contains(body, "<button name=\"state\"") {
		t.Error("a supervisor is offered what they may not do")
	}
}

func TestActions(t *testing.T) {
	r := newRig(t)
	r.record(block("942100", "203.0.113.8", "/"), block("942100", "203.0.113.9", "/"))
	var ids []string
	for _, a := range r.all() {
		ids = append(ids, a.ID)
	}
	w := r.do(http.MethodPost, "/soc/alerts", url.Values{"id": ids, "state": {"acknowledged"}, "query": {"level=high&after=x&evil=//x"}})
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/soc/alerts?level=high" {
		t.Errorf("status %d to %q\n%s", w.Code, w.Header().Get("Location"), w.Body)
	}
	w = r.do(http.MethodPost, "/soc/alerts", url.Values{"id": ids[:1], "one": {"1"}, "state": {"closed"}})
	if w.Code != http.StatusBadRequest {
		t.Errorf("closed without a reason: %d", w.Code)
	}
	w = r.do(http.MethodPost, "/soc/alerts", url.Values{"id": ids[:1], "one": {"1"}, "state": {"closed"}, "verdict": {"false_positive"}, "note": {"a test"}})
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/soc/alerts/"+ids[0] {
		t.Errorf("status %d to %q", w.Code, w.Header().Get("Location"))
	}
	w = r.do(http.MethodPost, "/soc/alerts/"+ids[1]+"/notes", url.Values{"note": {"see case 7"}})
	if w.Code != http.StatusSeeOther {
		t.Errorf("note: %d", w.Code)
	}
	for id, want := range map[string]soc.State{ids[0]: soc.Closed, ids[1]: soc.Acknowledged} {
		if a, err := r.alerts.Get(t.Context(), id); err != nil || a.State != want {
			t.Errorf("%s is %s, want %s, %v", id, a.State, want, err)
		}
	}
	if body := r.get("/soc/alerts/" + ids[1]); !strings.Contains(body, "see case 7") {
		t.Error("the note is not on the page")
	}
	r.ledger.err = errors.New("tile/0/000 differs")
	if w := r.do(http.MethodPost, "/soc/ledger/audit", url.Values{"x": {"y"}}); w.Code != http.StatusSeeOther || r.ledger.audits != 1 {
		t.Errorf("audit: %d, %d audits", w.Code, r.ledger.audits)
	}
	if w := r.do(http.MethodPost, "/soc/alerts", url.Values{"id": {"nothing"}, "state": {"acknowledged"}}); w.Code != http.StatusNotFound {
		t.Errorf("an unknown alert: %d", w.Code)
	}
}

func TestQueue(t *testing.T) {
	r := newRig(t)
	var facts []pasban.Fact
	for i := range 60 {
		facts = append(facts, block("942100", fmt.Sprintf("203.0.113.%d", i), "/"))
	}
	r.record(append(facts, block("955100", "198.51.100.1", "/"))...)
	body := r.get("/soc/alerts")
	if first := strings.Index(body, "Critical</span></td>"); first < 0 || first > strings.Index(body, "High</span></td>") {
		t.Error("the gravest alert is not first")
	}
	_, rest, ok := strings.Cut(body, `<p><a href="/soc/alerts?after=`)
	if !ok {
		t.Fatalf("no next page:\n%s", body)
	}
	after, _, _ := strings.Cut(rest, `"`)
	if next := r.get("/soc/alerts?after=" + after); strings.Count(next, `name="id" value=`) != 11 {
		t.Errorf("the next page has %d alerts, want 11", strings.Count(next, `name="id" value=`))
	}
	if body := r.get("/soc/alerts?technique=T1505&state=new"); strings.Count(body, `name="id" value=`) != 1 || !strings.Contains(body, `value="new" selected`) {
		t.Errorf("filters are not kept:\n%s", body)
	}
	if w := r.do(http.MethodGet, "/soc/alerts?after=x", nil); w.Code != http.StatusBadRequest {
		t.Errorf("a bad place to go on: %d", w.Code)
	}
	var doc struct {
		Schema string
		Alerts []struct{ ID, Title, Level, Entity string }
	}
	if err := json.Unmarshal([]byte(r.get("/soc/alerts.json")), &doc); err != nil || doc.Schema != "pasban.alerts.v1" || len(doc.Alerts) != 61 || doc.Alerts[0].Level != "critical" {
		t.Errorf("alerts.json: %v, %s with %d alerts", err, doc.Schema, len(doc.Alerts))
	}
}

func TestFind(t *testing.T) {
	r := newRig(t)
	fact := r.record(block("942100", "203.0.113.8", "/"))[0].Fact.Body.ID
	alert := r.all()[0].ID
	for typed, want := range map[string]string{
		fact:                                 "/soc/events/" + fact,
		" urn:pasban:incident:" + fact + " ": "/soc/events/" + fact,
		strings.ToUpper(fact[:8]) + " " + fact[8:]: "/soc/events/" + fact,
		alert:                   "/soc/alerts/" + alert,
		"nothing":               "",
		hostile:                 "",
		strings.Repeat("0", 32): "",
	} {
		w := r.do(http.MethodGet, "/soc/find?id="+url.QueryEscape(typed), nil)
		if got := w.Header().Get("Location"); got != want || want == "" && w.Code != http.StatusNotFound || strings.Contains(w.Body.String(), "<script>alert") {
			t.Errorf("%q leads to %q with %d, want %q", typed, got, w.Code, want)
		}
	}
	if w := r.do(http.MethodGet, "/soc/events/"+strings.Repeat("0", 32), nil); w.Code != http.StatusNotFound {
		t.Errorf("an unknown event: %d", w.Code)
	}
}

func TestLayer(t *testing.T) {
	r := newRig(t)
	r.record(block("942100", "203.0.113.8", "/"))
	w := r.do(http.MethodGet, "/soc/layer.json", nil)
	var l navigatorLayer
	if err := json.Unmarshal(w.Body.Bytes(), &l); err != nil {
		t.Fatal(err)
	}
	scores := map[string]int{}
	for _, tech := range l.Techniques {
		scores[tech.ID] = tech.Score
	}
	if l.Versions["layer"] != "4.5" || l.Domain != "enterprise-attack" || scores["T1190"] != 1 || len(scores) < 20 {
		t.Errorf("layer is %+v", l)
	}
	if _, there := scores["T1498"]; !there {
		t.Error("a technique that a rule looks for is missing")
	}
	for _, rule := range r.engine.Rules() {
		for _, id := range rule.Techniques() {
			if techniqueOf(id).Name == "" {
				t.Errorf("%s of rule %q has no name in the console", id, rule.Title)
			}
		}
	}
}

// TestTechniques: the list of techniques is whole, and the rules that agencies
// install find theirs in it.
func TestTechniques(t *testing.T) {
	lines := strings.Count(attackTSV, "\nT")
	if len(known()) != lines || lines < 700 {
		t.Errorf("%d of %d techniques can be read", len(known()), lines)
	}
	for id, v := range known() {
		parent, _, _ := strings.Cut(id, ".")
		if !slices.Contains(tactics(), v[0]) || v[1] == "" || known()[parent][1] == "" {
			t.Errorf("%s: %q", id, v)
		}
	}
	tag := regexp.MustCompile(`(?m)^\s*- attack\.(t\d{4}(?:\.\d{3})?)\s*$`)
	found := 0
	for name, rule := range corpus.Tar(t, "sigma/rules.tar.gz") {
		for _, m := range tag.FindAllSubmatch(rule, -1) {
			found++
			if id := strings.ToUpper(string(m[1])); techniqueOf(id).Name == "" {
				t.Errorf("%s of %s has no name", id, name)
			}
		}
	}
	if found < 1000 {
		t.Errorf("only %d techniques are named by the rules", found)
	}
}

// TestLive reads the stream as a browser does, over a real connection.
func TestLive(t *testing.T) {
	r := newRig(t)
	srv := httptest.NewServer(r.console.Handler())
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	open := func(path, lastID string) *bufio.Scanner {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Last-Event-ID", lastID)
		res, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { res.Body.Close() })
		if ct := res.Header.Get("Content-Type"); res.StatusCode != http.StatusOK || !strings.HasPrefix(ct, "text/event-stream") || res.Header.Get("Content-Security-Policy") == "" {
			t.Fatalf("%s: status %d, %s", path, res.StatusCode, ct)
		}
		lines := bufio.NewScanner(res.Body)
		if !lines.Scan() || lines.Text() != ": live" {
			t.Fatalf("%s begins with %q", path, lines.Text())
		}
		return lines
	}
	next := func(lines *bufio.Scanner) (id, data string) {
		for lines.Scan() {
			if rest, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
				id = rest
			}
			if rest, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				data += rest
			}
			if lines.Text() == "" && data != "" {
				return id, data
			}
		}
		t.Fatalf("the stream ended: %v", lines.Err())
		return "", ""
	}
	rows, count := open("/soc/live?lang=en", ""), open("/soc/live/count?level=high&lang=en", "")
	r.record(block("942100", hostile, "/a\nid: 7\ndata: <b>"))
	id, row := next(rows)
	if !strings.HasPrefix(row, `<tr class="new">`) || !strings.HasSuffix(row, "</tr>") || strings.Contains(row, "<script>") || strings.Contains(row, "<img") ||
		!strings.Contains(row, "&lt;script&gt;") || !strings.Contains(row, "SQL injection") || len(id) != 13 {
		t.Errorf("row %s is %s", id, row)
	}
	if n, pill := next(count); n != "1" || !strings.Contains(pill, "1 new alert<") || !strings.Contains(pill, `href="/soc/alerts?level=high"`) {
		t.Errorf("pill %s is %s", n, pill)
	}

	// More events of the same alert make no second row; another alert does.
	r.record(block("942100", hostile, "/b"), block("932100", "203.0.113.9", "/c"))
	if _, row := next(rows); !strings.Contains(row, "203.0.113.9") {
		t.Errorf("row is %s", row)
	}
	if n, pill := next(count); n != "2" || !strings.Contains(pill, "2 new alerts") {
		t.Errorf("pill %s is %s", n, pill)
	}

	// Who comes again gets what began since, and goes on counting.
	if _, row := next(open("/soc/live", id)); strings.Contains(row, "SQL injection") {
		t.Errorf("a row came twice: %s", row)
	}
	again := open("/soc/live/count", "2")
	r.record(block("944100", "203.0.113.9", "/c"))
	if n, _ := next(again); n != "3" {
		t.Errorf("counts on from %s", n)
	}
}

func TestGrid(t *testing.T) {
	rules := []*detect.Rule{
		{Tags: []string{"attack.credential-access", "attack.t1110", "attack.t1110.004"}},
		{Tags: []string{"attack.t1110.004"}},
		{Tags: []string{"attack.lateral-movement", "attack.t1021.001"}},
	}
	got := grid(rules, map[string]int{"T1110": 12, "T1110.004": 3, "T9999": 1}, func(r *detect.Rule) bool { return r == rules[1] })
	var codes []string
	for _, tactic := range got {
		codes = append(codes, tactic.Code)
	}
	if !slices.Equal(codes, []string{"credential-access", "lateral-movement", ""}) {
		t.Fatalf("columns are %q", codes)
	}
	if cell := got[0].Techniques[0]; len(got[0].Techniques) != 1 || cell.ID != "T1110" || cell.Count != 12 || cell.Rules != 2 || cell.Fed != 1 || cell.Blind() || cell.Class != "l3" {
		t.Errorf("cell is %+v", cell)
	}
	if cell := got[1].Techniques[0]; cell.ID != "T1021" || !cell.Blind() || cell.Class != "l0" {
		t.Errorf("cell is %+v", cell)
	}
}
