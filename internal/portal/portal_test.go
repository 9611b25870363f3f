package portal

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"pasban"
	"pasban/internal/page"
)

var update = flag.Bool("update", false, "write testdata/cards.json anew")

// markup is what hostile values would leave in a page if they were not text.
var markup = regexp.MustCompile(`<(img|i|u|s|em)[ >]|<b>(role|Bilal|neigh)|<script>|alert\(1\)</script>|onerror="`)

func TestMyDataShowsEveryEntry(t *testing.T) {
	r := newRig(t).asCitizen()
	r.record(r.story()...)
	r.ledger.publish(t)
	r.record(r.look(officer.Actor, noon, nil)) // not yet published
	for lang, want := range map[string][]string{
		"en": {"Who looked at my data", "Officer, staff number ending 032", "21 November 2026, 11:18 am", "Name of the present holder, Area in kanal (Transfer of land), record LT-2026-00012",
			"Deciding on a transfer (case LHR-88213)", "Emergency access.", "14 November 2026, 11:58 pm", "Automatic check, no person saw it", "just being added",
			"4 November 2026, 12:01 am", "Nothing, the attempt was refused", "<b>4</b>times a person", "<b>1</b>automatic check"},
		"ur": {"میرا ڈیٹا کس نے دیکھا", "21 نومبر 2026، صبح 11:18", "موجودہ مالک کا نام، رقبہ (کنال)", "پنجاب لینڈ ریونیو ایکٹ 1967", "خودکار جانچ", `dir="rtl"`, "portal.rtl."},
	} {
		w := r.get("/" + lang + "/my-data")
		body := w.Body.String()
		for _, s := range want {
			if !strings.Contains(body, s) {
				t.Errorf("%s: %q is not on the page", lang, s)
			}
		}
		if m := markup.FindString(body); m != "" {
			t.Errorf("%s: a value became markup: %s", lang, m)
		}
		if n := strings.Count(body, "data-index="); n != 8 {
			t.Errorf("%s: %d cards, want 8", lang, n)
		}
		csp := w.Header().Get("Content-Security-Policy")
		if w.Code != http.StatusOK || !strings.Contains(csp, "trusted-types 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: status %d, policy %q", lang, w.Code, csp)
		}
	}
}

// TestHidden: an entry that is kept back is there at once and says until when;
// at its date its text is there, and its receipt opens.
func TestHidden(t *testing.T) {
	r := newRig(t).asCitizen()
	entries := r.record(r.hidden()...)
	r.ledger.publish(t)
	body := r.get("/en/my-data").Body.String()
	for _, s := range []string{"<b>1</b>entry whose details you are told later", ">Hidden</strong>", "You are told on 1 May 2027", "that date is fixed",
		"It was hidden from you until 20 November 2026.", "Inquiry ordered by a court", "Entry number 2 of your list, which was hidden until now, was opened"} {
		if !strings.Contains(body, s) {
			t.Errorf("%q is not on the page", s)
		}
	}
	for _, s := range []string{"W.P. 18/2026", "district"} { // of the one that is still hidden
		if strings.Contains(body, s) {
			t.Errorf("%q is on the page", s)
		}
	}
	receipt := func(i int) (pasban.Receipt, pasban.Body) {
		t.Helper()
		w := r.get(fmt.Sprint("/ledger/receipt/", entries[i].Index))
		rc, err := pasban.ParseReceipt(w.Body.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		b, err := rc.Verify(r.verifier(t))
		if err != nil {
			t.Fatal(err)
		}
		return rc, b
	}
	if rc, b := receipt(0); rc.Hidden != nil || b.Who.Kind != pasban.ActorHidden || b.Case != "" {
		t.Errorf("the receipt tells before its date: %+v", b)
	}
	if rc, b := receipt(1); rc.Hidden == nil || b.Case != "W.P. 17/2026" {
		t.Errorf("the receipt does not tell at its date: %+v", b)
	}
}

func TestMyDataFilters(t *testing.T) {
	r := newRig(t).asCitizen()
	for range 25 {
		r.record(r.look(officer.Actor, noon.AddDate(0, 0, -1), nil))
	}
	r.record(r.look(officer.Actor, noon.AddDate(0, 0, -100), func(f *pasban.Fact) { f.Body.Service = "old" }), r.look(system, noon.AddDate(0, 0, -3), func(f *pasban.Fact) { f.Body.Service = "land.example" }))
	cards := func(path string) int { return strings.Count(r.get(path).Body.String(), "data-index=") }
	for path, want := range map[string]int{
		"/en/my-data": 20, "/en/my-data?p=7&r=land.example": 1, "/en/my-data?p=0&r=old": 1, "/en/my-data?p=90&r=old": 0,
		"/en/my-data?p=nonsense&before=x": 20, "/en/my-data?r=%3Cscript%3E": 0,
	} {
		if got := cards(path); got != want {
			t.Errorf("%s: %d cards, want %d", path, got, want)
		}
	}
	older := regexp.MustCompile(`/en/my-data\?[^"]*before=\d+[^"]*`).FindString(r.get("/en/my-data").Body.String())
	if got := cards(strings.ReplaceAll(older, "&amp;", "&")); got != 6 {
		t.Errorf("the second page %s has %d cards, want 6", older, got)
	}
}

// TestErasedEntries: what was destroyed is counted where the list begins, and
// nowhere else.
func TestErasedEntries(t *testing.T) {
	r := newRig(t).asCitizen()
	r.record(r.story()...)
	says := func(path string) bool {
		return strings.Contains(r.get(path).Body.String(), "7 entries were erased for good")
	}
	if says("/en/my-data?p=0") {
		t.Error("nothing was erased yet")
	}
	if err := r.vault.Shred(t.Context(), r.ayesha.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := r.vault.Subject(t.Context(), ayeshaCNIC); err != nil { // a new key, as when she is enrolled again
		t.Fatal(err)
	}
	for i := range 22 {
		r.record(r.look(officer.Actor, noon.Add(-time.Duration(i)*time.Hour), nil))
	}
	older := regexp.MustCompile(`/en/my-data\?[^"]*before=\d+[^"]*`).FindString(r.get("/en/my-data?p=0").Body.String())
	if says("/en/my-data") || says("/en/my-data?p=0") || !says(strings.ReplaceAll(older, "&amp;", "&")) {
		t.Errorf("erased entries are not counted where the list begins: %s", older)
	}
}

// TestWeight holds the longest page to what internal/page's budget allows it.
func TestWeight(t *testing.T) {
	r := newRig(t).asCitizen()
	for range 5 {
		r.record(r.story()...)
	}
	r.ledger.publish(t)
	for _, path := range []string{"/en/my-data", "/ur/my-data", "/ur/apply/land-transfer", "/ur/receipt/20"} {
		if n := r.get(path, "Accept-Encoding", "gzip").Body.Len(); n > 9<<10 {
			t.Errorf("%s is %d bytes on the wire, want at most 9216", path, n)
		}
	}
}

func TestOnlyCitizensSeeTheirData(t *testing.T) {
	r := newRig(t)
	r.record(r.story()...)
	for _, path := range []string{"/en/my-data", "/ur/applications", "/en/report/0", "/en/apply/land-transfer"} {
		r.visitor = nil
		if w := r.get(path); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/pasban/signin?next="+url.QueryEscape(path) {
			t.Errorf("anonymous %s: %d to %q, want a redirect to sign in", path, w.Code, w.Header().Get("Location"))
		}
		if w := r.as(officer).get(path); w.Code != http.StatusForbidden {
			t.Errorf("officer %s: %d, want 403", path, w.Code)
		}
	}
	if body := r.as(r.other).get("/en/my-data").Body.String(); strings.Contains(body, "data-index=") {
		t.Error("another citizen sees entries about Ayesha")
	}
	if w := r.as(r.other).get("/en/report/0"); w.Code != http.StatusNotFound {
		t.Errorf("another citizen's report page: %d, want 404", w.Code)
	}
}

// TestReceiptSaysIfFinal: whether its witnesses have cosigned it stands beside it.
func TestReceiptSaysIfFinal(t *testing.T) {
	r := newRig(t)
	r.record(r.story()...)
	r.ledger.publish(t)
	for _, want := range []string{"yes", "no"} {
		var asked []byte
		r.portal.o.Final = func(checkpoint []byte) string { asked = checkpoint; return want }
		w := r.as(r.citizen).get("/ledger/receipt/0")
		rc, err := pasban.ParseReceipt(w.Body.Bytes())
		if err != nil || rc.Checkpoint != string(asked) || w.Header().Get("Pasban-Final") != want {
			t.Errorf("%v, %v; want %s for %s", w.Header(), err, want, asked)
		}
	}
}

func TestReceiptIsForThoseEntitled(t *testing.T) {
	r := newRig(t)
	r.record(r.story()...)
	r.ledger.publish(t)
	verifier, err := note.NewVerifier(r.vkey)
	if err != nil {
		t.Fatal(err)
	}
	stranger := officer
	stranger.Actor.ID = "officer:khi-001"
	for _, c := range []struct {
		name       string
		who        Visitor
		want       int
		restricted bool
	}{
		{"the citizen", r.citizen, 200, false}, {"the officer who looked", officer, 200, false}, {"an auditor", auditor, 200, true},
		{"another citizen", r.other, 404, false}, {"another officer", stranger, 404, false}, {"a nameless actor", Visitor{}, 404, false},
	} {
		w := r.as(c.who).get("/ledger/receipt/0")
		if w.Code != c.want {
			t.Errorf("%s: status %d, want %d", c.name, w.Code, c.want)
		}
		if w.Code != 200 {
			if strings.Contains(w.Body.String(), "LHR") {
				t.Errorf("%s: the refusal tells of the entry: %s", c.name, w.Body)
			}
			continue
		}
		rc, err := pasban.ParseReceipt(w.Body.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := rc.Verify(verifier); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if w.Header().Get("Pasban-Final") != "" {
			t.Errorf("%s: %v without witnesses", c.name, w.Header())
		}
		if (rc.Restricted != nil) != c.restricted {
			t.Errorf("%s: restricted part shown: %v, want %v", c.name, rc.Restricted != nil, c.restricted)
		}
	}
	newest, err := r.journal.BySubject(t.Context(), r.ayesha.ID, 0, 1)
	if err != nil || newest[0].Fact.Body.Action != "audit" || newest[0].Fact.Body.Who.Role != pasban.RoleAuditor {
		t.Errorf("the auditor's look is not among the citizen's entries: %+v, %v", newest, err)
	}
	r.visitor = nil
	if w := r.get("/ledger/receipt/0"); w.Code != http.StatusUnauthorized || !strings.HasPrefix(w.Header().Get("Content-Type"), "application/problem+json") {
		t.Errorf("anonymous: %d %s, want 401 as a problem document", w.Code, w.Header().Get("Content-Type"))
	}
	if w := r.get("/ledger/receipt/0?download", "Accept", "text/html"); w.Code != http.StatusSeeOther {
		t.Errorf("an ended session that follows the link: %d, want a redirect to sign in", w.Code)
	}
}

func TestReceiptNotYetPublishedOrAbsent(t *testing.T) {
	r := newRig(t).asCitizen()
	r.record(r.story()[0])
	if w := r.get("/ledger/receipt/0"); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("before the checkpoint: %d, Retry-After %q; want 503 with it", w.Code, w.Header().Get("Retry-After"))
	}
	for _, path := range []string{"/ledger/receipt/99", "/ledger/receipt/-1", "/ledger/receipt/x", "/ledger/receipt/18446744073709551615"} {
		if w := r.get(path); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d, want 404", path, w.Code)
		}
	}
}

func TestReportIsRecorded(t *testing.T) {
	r := newRig(t).asCitizen()
	r.record(r.story()...)
	for _, lang := range page.Langs() {
		path := "/" + lang + "/report/0"
		if w := r.get(path); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `name="reason"`) {
			t.Fatalf("%s: %d %s", path, w.Code, w.Body)
		}
		hostile := `<script>alert(1)</script>` + strings.Repeat("ا", 1000)
		w := r.post(path, url.Values{"reason": {"nonsense"}, "text": {hostile}})
		if body := w.Body.String(); w.Code != http.StatusBadRequest || !strings.Contains(body, "govuk-error-summary") || !strings.Contains(body, "text-error") || markup.MatchString(body) {
			t.Errorf("%s with errors: %d\n%s", path, w.Code, body)
		}
	}
	before, _, err := r.journal.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := r.post("/en/report/0", url.Values{"reason": {"person"}, "text": {"A <b>neighbour</b>"}})
	facts, err := r.journal.Since(t.Context(), before, 10)
	if err != nil || len(facts) != 1 {
		t.Fatalf("%d facts, %v; want the report", len(facts), err)
	}
	f := facts[0].Fact
	if f.Body.Kind != pasban.KindAlarm || f.Body.Action != "report" || f.Restricted.More["reason"] != "person" || f.Restricted.More["text"] != "A <b>neighbour</b>" || f.Restricted.More["reported_actor"] != officer.Actor.ID {
		t.Errorf("the recorded report: %+v", f)
	}
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), f.Body.ID) {
		t.Errorf("confirmation: %d, does it show %s?\n%s", w.Code, f.Body.ID, w.Body)
	}
}

func TestReportFromElsewhereIsRefused(t *testing.T) {
	r := newRig(t).asCitizen()
	r.record(r.story()[0])
	req, _ := http.NewRequest(http.MethodPost, "/en/report/0", strings.NewReader("reason=person"))
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	w := httptest.NewRecorder()
	r.portal.Handler().ServeHTTP(w, req)
	if w.Code != http.StatusForbidden {
		t.Errorf("status %d, want 403", w.Code)
	}
}

// cards is testdata/cards.json: receipts as the server gives them and the
// words that both languages show for them. web/test checks the script by it.
type cards struct {
	VKey  string                       `json:"vkey"`
	Words map[string]map[string]string `json:"words"` // by language
	Cases []cardCase                   `json:"cases"`
}

type cardCase struct {
	Receipt pasban.Receipt   `json:"receipt"`
	Texts   map[string]Texts `json:"texts"` // by language
}

// TestCards keeps testdata/cards.json true: its receipts verify, and their
// bodies are said in just these words. Run with -update after a change.
func TestCards(t *testing.T) {
	r := newRig(t)
	const file = "testdata/cards.json"
	if *update {
		writeCards(t, r, file)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var have cards
	if err := json.Unmarshal(data, &have); err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(have.VKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, lang := range page.Langs() {
		f := r.portal.phrases(lang)
		for i, c := range have.Cases {
			body, err := c.Receipt.Verify(verifier)
			if err != nil {
				t.Errorf("case %d: %v", i, err)
			}
			if got := f.texts(body); got != c.Texts[lang] {
				t.Errorf("case %d in %s:\n got %+v\nwant %+v\n(run go test -update, then make -C web test)", i, lang, got, c.Texts[lang])
			}
		}
		for key, want := range f.words() {
			if have.Words[lang][key] != want {
				t.Errorf("word %s in %s is %q, testdata says %q (run go test -update)", key, lang, want, have.Words[lang][key])
			}
		}
	}
}

func writeCards(t *testing.T, r *rig, file string) {
	t.Helper()
	entries := r.record(append(r.story(), r.hidden()...)...)
	r.record(r.look(officer.Actor, noon, nil), r.look(officer.Actor, noon, nil), r.look(officer.Actor, noon, nil))
	r.ledger.publish(t)
	c := cards{VKey: r.vkey, Words: map[string]map[string]string{}}
	for _, e := range entries {
		rc, err := r.ledger.Receipt(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		rc.Restricted, rc.Hidden = nil, e.Disclosed(noon)
		c.Cases = append(c.Cases, cardCase{Receipt: rc, Texts: map[string]Texts{}})
	}
	for _, lang := range page.Langs() {
		f := r.portal.phrases(lang)
		for i, e := range entries {
			c.Cases[i].Texts[lang] = f.texts(e.Told(noon))
		}
		c.Words[lang] = f.words()
	}
	data, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(data, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestHomeAndStart(t *testing.T) {
	r := newRig(t)
	if w := r.get("/", "Accept-Language", "ur-PK,en;q=0.5"); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/ur/" {
		t.Errorf("/ in Urdu: %d to %q", w.Code, w.Header().Get("Location"))
	}
	for _, lang := range page.Langs() {
		if w := r.get("/" + lang + "/"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "/"+lang+"/apply/land-transfer") {
			t.Errorf("home in %s: %d\n%s", lang, w.Code, w.Body)
		}
		if w := r.get("/" + lang + "/accessibility"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "051 111 000 000") {
			t.Errorf("accessibility in %s: %d\n%s", lang, w.Code, w.Body)
		}
		if w := r.get("/" + lang + "/nowhere"); w.Code != http.StatusNotFound {
			t.Errorf("/%s/nowhere: %d, want 404", lang, w.Code)
		}
	}
}
