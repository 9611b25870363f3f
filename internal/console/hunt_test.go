package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pasban"
	"pasban/internal/eventstore"
	"pasban/internal/eventstore/eventstoretest"
	"pasban/internal/eventstore/parquet"
	"pasban/internal/page"
)

func TestMain(m *testing.M) { eventstoretest.Main(m) }

// A period stays what it is in the addresses that go on from it.
func TestSpansInAddresses(t *testing.T) {
	for _, d := range append(spans(), 10*time.Second, 90*time.Second, 10*time.Minute, 30*time.Minute, 90*time.Minute, 20*time.Hour, 1500*time.Millisecond) {
		s := huntState{query: "*", span: d}
		if got, err := readHunt(s.values()); err != nil || got.span != d {
			t.Errorf("%v becomes %v, %v, in %s", d, got.span, err, s.href())
		}
	}
}

// keep gives the rig a store of events with these in it.
func (r *rig) keep(events ...eventstore.Event) {
	r.t.Helper()
	store := eventstoretest.Open(r.t, eventstore.EmbeddedOptions{Dir: filepath.Join(r.t.TempDir(), "events"),
		Tenant: eventstore.TenantOf("land-records"), Window: &eventstore.Window{Retention: 30 * day}})
	for i := range events {
		events[i].Seq = uint64(i + 1)
		if events[i].ID == "" {
			events[i].ID = fmt.Sprintf("event-%d", i+1)
		}
		if events[i].Source == "" {
			events[i].Source = "lab"
		}
	}
	if err := store.Add(r.t.Context(), events); err != nil {
		r.t.Fatal(err)
	}
	eventstoretest.Await(r.t, func() bool {
		n := 0
		err := store.Search(r.t.Context(), eventstore.Query{}, 0, func(eventstore.Row) error { n++; return nil })
		return err == nil && n == len(events)
	})
	o := r.console.o
	o.Events = store
	pages, err := page.New(page.Options{Agency: map[string]string{"en": "Board of Revenue", "ur": "بورڈ آف ریونیو"}})
	if err != nil {
		r.t.Fatal(err)
	}
	o.Pages = pages
	if r.console, err = New(o); err != nil {
		r.t.Fatal(err)
	}
}

// seen is an event of a received log.
func seen(ago time.Duration, fields ...string) eventstore.Event {
	e := eventstore.Event{Time: time.Now().Add(-ago), Product: "windows", Category: "process_creation", Message: "raw " + strings.Join(fields, " ")}
	for i := 0; i < len(fields); i += 2 {
		e.Fields = append(e.Fields, eventstore.Field{Name: fields[i], Value: fields[i+1]})
	}
	return e
}

// acts lists what was recorded of hunts, oldest first, with their queries.
func (r *rig) acts() (out []string) {
	r.t.Helper()
	entries, err := r.j.Latest(r.t.Context(), pasban.KindAdmin, 1000, 1000)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Fact.Body.Action, "hunt.") {
			out = append([]string{e.Fact.Body.Action + " " + e.Fact.Restricted.More["query"]}, out...)
		}
	}
	return out
}

// links are the addresses of a page that begin so.
func links(body, prefix string) (out []string) {
	for _, m := range regexp.MustCompile(`href="([^"]+)"`).FindAllStringSubmatch(body, -1) {
		if href := html.UnescapeString(m[1]); strings.HasPrefix(href, prefix) {
			out = append(out, href)
		}
	}
	return out
}

// TestHuntPages executes the templates in both languages, with markup in every
// field, and follows the page's own links.
func TestHuntPages(t *testing.T) {
	r := newRig(t)
	id := r.record(block("942100", hostile, "/x"))[0].Fact.Body.ID
	r.keep(
		seen(time.Minute, "Image", hostile, "CommandLine", `C:\a.exe -enc "x" | delete`, hostile, "odd name", "stars*", "x"),
		seen(2*time.Minute, "Image", `C:\b.exe`, "CommandLine", `or *`),
		eventstore.Event{ID: id, Time: time.Now(), Source: eventstore.SourceJournal, Product: "pasban", Service: "gateway", Message: `{"Kind":"block"}`,
			Fields: []eventstore.Field{{Name: "Kind", Value: "block"}, {Name: "SrcIP", Value: hostile}}},
	)
	for _, lang := range page.Langs() {
		for _, path := range []string{"/soc/hunt?", "/soc/hunt?q=", "/soc/hunt?q=&col=Image&col=Kind&field=Image&span=1h", "/soc/hunt?q=*+|+stats+by+(Image)+count()+n", "/soc/hunt?q=nothing-like-it",
			"/soc/hunt/saved?", "/soc/hunt/rule?q=Image:*&span=24h", "/soc/hunt/rule?q=*", "/soc/events/" + id + "?", "/soc/alerts/" + r.all()[0].ID + "?"} {
			body := r.get(path + "&lang=" + lang)
			for _, bad := range []string{"<script>alert", "<img", "onerror=alert(2)>", "ZgotmplZ", ">console.", "\"console."} {
				if strings.Contains(body, bad) {
					t.Errorf("%s in %s holds %s", path, lang, bad)
				}
			}
			if strings.Count(body, "<h1>") != 1 {
				t.Errorf("%s in %s: heading is missing", path, lang)
			}
		}
	}
	body := r.get("/soc/hunt?q=")
	opened := links(body, "/soc/hunt/event?")
	if len(opened) != 3 {
		t.Fatalf("%d events can be opened", len(opened))
	}
	for _, lang := range page.Langs() {
		for i, want := range []string{`href="/soc/events/` + id, "&lt;script&gt;alert(1)", "C:\\b.exe"} {
			whole := r.get(opened[i] + "&lang=" + lang)
			if !strings.Contains(whole, want) || strings.Contains(whole, "<script>alert") {
				t.Errorf("event %d opens to\n%s", i, whole)
			}
			body += whole
			part := r.do(http.MethodGet, opened[i], nil, "HX-Request", "true").Body.String()
			if strings.Contains(part, "<html") || !strings.Contains(part, want) || strings.Contains(part, "<script>alert") {
				t.Errorf("event %d opens in its row to\n%s", i, part)
			}
		}
	}
	if w := r.do(http.MethodGet, strings.Replace(opened[0], "id=", "id=x", 1), nil); w.Code != http.StatusNotFound {
		t.Errorf("an event that is not there: %d", w.Code)
	}
	for _, want := range []string{"&lt;script&gt;alert(1)", "3 events.", "C:\\b.exe", "stars*"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	if all := links(body, "/soc/hunt?"); len(all) < 40 {
		t.Errorf("only %d links", len(all))
	} else {
		for _, href := range all {
			if w := r.do(http.MethodGet, href, nil); w.Code != http.StatusOK {
				t.Errorf("%s: %d", href, w.Code)
			}
		}
	}
	if around := links(r.get("/soc/alerts/"+r.all()[0].ID), "/soc/hunt?"); len(around) != 1 || !strings.Contains(r.get(around[0]), "block") {
		t.Errorf("around the alert: %v", around)
	}
	if around := links(r.get("/soc/events/"+id), "/soc/hunt?"); len(around) == 0 || !strings.Contains(r.get(around[0]), "block") {
		t.Errorf("around the event: %v", around)
	}
}

// TestPivot: a value of an event, followed, finds that event and not others;
// its opposite the others.
func TestPivot(t *testing.T) {
	r := newRig(t)
	r.keep(seen(time.Minute, "CommandLine", `" or * | delete CommandLine`), seen(2*time.Minute, "CommandLine", "plain"), seen(3*time.Minute, "CommandLine", `\`))
	body := r.get("/soc/hunt?" + url.Values{"q": {"CommandLine:* or fuzz"}, "field": {"CommandLine"}}.Encode())
	is := links(body[strings.Index(body, `id="values"`):], "/soc/hunt?")
	found := map[string]int{}
	for _, href := range is {
		q, _ := url.Parse(href)
		if added, ok := strings.CutPrefix(q.Query().Get("q"), "(CommandLine:* or fuzz) "); !ok || !strings.Contains(added, "CommandLine") {
			continue
		}
		n := strings.Count(r.get(href), `<tbody><tr><td class="nw"`)
		switch query := strings.TrimPrefix(q.Query().Get("q"), "(CommandLine:* or fuzz) "); {
		case strings.HasPrefix(query, "!") && n != 2, !strings.HasPrefix(query, "!") && n != 1:
			t.Errorf("%s finds %d events", query, n)
		default:
			found[query]++
		}
	}
	if len(found) < 6 {
		t.Errorf("the values are asked for by %v", found)
	}
}

// TestPivotFromPipes: a value of a field that events have leads from what pipes
// made to the events; a figure that they computed leads nowhere.
func TestPivotFromPipes(t *testing.T) {
	r := newRig(t)
	r.keep(seen(time.Minute, "Image", "a.exe"), seen(2*time.Minute, "Image", "a.exe"), seen(3*time.Minute, "Image", "b.exe"))
	body := r.get("/soc/hunt?" + url.Values{"q": {"Image:* | stats by (Image) count() as n"}}.Encode())
	body = body[strings.Index(body, `class="cards events"`):]
	var queries []string
	for _, href := range links(body, "/soc/hunt?") {
		q, _ := url.Parse(href)
		queries = append(queries, q.Query().Get("q"))
	}
	if len(queries) != 2 || !slices.Contains(queries, "Image:* Image:=a.exe") && !slices.Contains(queries, `Image:* Image:="a.exe"`) {
		t.Errorf("it leads to %q", queries)
	}
}

func TestHuntMistakes(t *testing.T) {
	r := newRig(t)
	r.keep()
	for path, want := range map[string]string{
		"/soc/hunt?q=Kind:=block+and+(": "<mark>", "/soc/hunt?q=x&from=yesterday": "this is not a time", "/soc/hunt?q=x&from=2026-11-02&to=2026-11-01": "ends before it begins",
		"/soc/hunt?q=options(concurrency=9)+x": "not allowed",
	} {
		w := r.do(http.MethodGet, path, nil)
		if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), want) || !strings.Contains(w.Body.String(), `aria-invalid="true"`) {
			t.Errorf("%s: %d\n%s", path, w.Code, w.Body)
		}
	}
	if w := r.do(http.MethodGet, "/soc/hunt/rule.yml?q=*", nil); w.Code != http.StatusBadRequest {
		t.Errorf("a rule that says nothing: %d", w.Code)
	}
	if acts := r.acts(); len(acts) != 1 {
		t.Errorf("what was not searched is recorded: %v", acts)
	}
	if w := r.do(http.MethodGet, "/soc/hunt?q=a&set=1h&from=2026-11-02", nil); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/soc/hunt?q=a&span=1h" {
		t.Errorf("a preset goes to %q", w.Header().Get("Location"))
	}
}

// TestHuntPaging: every event is on one page, also where many are of one instant.
func TestHuntPaging(t *testing.T) {
	r := newRig(t)
	var events []eventstore.Event
	at := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	for i := range 230 {
		e := seen(0, "N", fmt.Sprint(i))
		e.Time = at.Add(-time.Duration(i) * time.Second)
		if i >= 60 && i < 140 { // more than a page
			e.Time = at.Add(-60 * time.Second)
		}
		events = append(events, e)
	}
	r.keep(events...)
	found := map[string]int{}
	path, pages := "/soc/hunt?q=&col=N", 0
	for ; path != ""; pages++ {
		body := r.get(path)
		for _, m := range regexp.MustCompile(`<td data-h="N"><code><bdi dir="ltr"><a [^>]+>(\d+)</a>`).FindAllStringSubmatch(body, -1) {
			found[m[1]]++
		}
		path = ""
		if _, rest, ok := strings.Cut(body, `<a class="button" href="/soc/hunt?`); ok && strings.Contains(rest, "Older events") {
			href, _, _ := strings.Cut(rest, `"`)
			path = "/soc/hunt?" + html.UnescapeString(href)
		}
	}
	if len(found) != 230 || pages < 4 {
		t.Errorf("%d of 230 events on %d pages", len(found), pages)
	}
	for n, times := range found {
		if times != 1 {
			t.Errorf("event %s is there %d times", n, times)
		}
	}
}

func TestExport(t *testing.T) {
	r := newRig(t)
	r.keep(seen(time.Minute, "Image", hostile), seen(2*time.Minute, "Image", "b"), seen(3*time.Minute, "Image", "c"))
	form := url.Values{"q": {"Image:* !Image:=c"}, "span": {"1h"}, "format": {"ndjson"}}
	w := r.do(http.MethodPost, "/soc/hunt/export", form)
	lines := strings.Split(strings.TrimSpace(w.Body.String()), "\n")
	var first map[string]string
	if err := json.Unmarshal([]byte(lines[0]), &first); err != nil || w.Code != http.StatusOK || len(lines) != 2 || first["Image"] != hostile || first["event_id"] != "event-1" {
		t.Errorf("%d: %v\n%s", w.Code, err, w.Body)
	}
	form.Set("format", "parquet")
	w = r.do(http.MethodPost, "/soc/hunt/export", form)
	var rows []eventstore.Row
	err := parquet.Read(bytes.NewReader(w.Body.Bytes()), int64(w.Body.Len()), func(row eventstore.Row) error { rows = append(rows, row); return nil })
	if err != nil || len(rows) != 2 || rows[0].Get("Image") != hostile || !strings.Contains(w.Header().Get("Content-Disposition"), ".parquet") {
		t.Errorf("%d rows, %v", len(rows), err)
	}
	form.Set("format", "xml")
	if w := r.do(http.MethodPost, "/soc/hunt/export", form); w.Code != http.StatusBadRequest {
		t.Errorf("an unknown format: %d", w.Code)
	}
	want := "hunt.export Image:* !Image:=c,hunt.exported Image:* !Image:=c,hunt.export Image:* !Image:=c,hunt.exported Image:* !Image:=c"
	if got := strings.Join(r.acts(), ","); got != want {
		t.Errorf("recorded is %s", got)
	}
}

func TestSavedHunts(t *testing.T) {
	r := newRig(t)
	r.keep(seen(time.Minute, "Image", "b.exe", "User", "u"))
	form := url.Values{"q": {"Image:=b.exe"}, "span": {"6h"}, "col": {"Image", "User"}, "name": {hostile}, "note": {hostile}}
	if w := r.do(http.MethodPost, "/soc/hunt/saved", form); w.Code != http.StatusSeeOther {
		t.Fatalf("%d\n%s", w.Code, w.Body)
	}
	kept, err := r.alerts.Hunts(t.Context())
	if err != nil || len(kept) != 1 {
		t.Fatal(kept, err)
	}
	for _, path := range []string{"/soc/hunt", "/soc/hunt/saved"} {
		body := r.get(path)
		if !strings.Contains(body, "/soc/hunt?col=Image&amp;col=User&amp;q=Image%3A%3Db.exe&amp;span=6h") || strings.Contains(body, "<script>alert") {
			t.Errorf("%s:\n%s", path, body)
		}
	}
	if body := r.get("/soc/hunt/rule?q=Image:=b.exe&saved=" + kept[0].ID); !strings.Contains(body, "matches 1 of 1 events") || !strings.Contains(body, "title: &#39;&lt;script") {
		t.Errorf("the rule of a kept hunt:\n%s", body)
	}
	w := r.do(http.MethodGet, "/soc/hunt/rule.yml?q=Image:=b.exe", nil)
	if !strings.Contains(w.Body.String(), "category: 'process_creation'") || w.Header().Get("Content-Type") != "application/yaml; charset=utf-8" {
		t.Errorf("the draft is\n%s", w.Body)
	}
	other := Visitor{Actor: pasban.Actor{ID: "analyst:2", Kind: pasban.ActorPerson, Role: pasban.RoleAnalyst}}
	r.visitor = &other
	if w := r.do(http.MethodPost, "/soc/hunt/saved/"+kept[0].ID+"/delete", url.Values{}); w.Code != http.StatusForbidden {
		t.Errorf("a colleague deletes it: %d", w.Code)
	}
	r.visitor = &analyst
	if w := r.do(http.MethodPost, "/soc/hunt/saved/"+kept[0].ID+"/delete", url.Values{}); w.Code != http.StatusSeeOther {
		t.Errorf("it is not deleted: %d", w.Code)
	}
	if kept, _ := r.alerts.Hunts(t.Context()); len(kept) != 0 {
		t.Error("it is still there")
	}
	r.visitor = &supervisor
	if w := r.do(http.MethodPost, "/soc/hunt/saved", form); w.Code != http.StatusForbidden {
		t.Errorf("a supervisor keeps one: %d", w.Code)
	}
	r.visitor = &Visitor{Actor: pasban.Actor{ID: "officer:1", Role: pasban.RoleOfficer}}
	for _, path := range []string{"/soc/hunt", "/soc/hunt/complete.json", "/soc/hunt/rule", "/soc/hunt/rule.yml", "/soc/hunt/saved"} {
		if w := r.do(http.MethodGet, path, nil); w.Code != http.StatusForbidden {
			t.Errorf("%s is open to officers: %d", path, w.Code)
		}
	}
	if w := r.do(http.MethodPost, "/soc/hunt/export", form); w.Code != http.StatusForbidden {
		t.Errorf("officers export: %d", w.Code)
	}
}

// TestComplete: what is offered, put in place of what is written, is a query
// that the store takes.
func TestComplete(t *testing.T) {
	r := newRig(t)
	r.keep(seen(time.Minute, "Image", `C:\a b.exe`, "Im age", "x"), seen(time.Minute, "Image", `C:\a "c".exe`), seen(time.Minute, "Image", "پاس"))
	for before, want := range map[string][]string{
		"Ima":             {"Image:"},
		"x (im":           {`x (Image:`, `x ("Im age":`},
		"Image:":          {`Image:="C:\\a b.exe" `, `Image:="C:\\a \"c\".exe" `, "Image:=پاس "},
		`پ Image:="C:\\a`: {`پ Image:="C:\\a b.exe" `, `پ Image:="C:\\a \"c\".exe" `},
		`"Im age":=`:      {`"Im age":=x `},
		"Image:* | st":    {"Image:* | stats ", "Image:* | stream_context "},
		"* | fields Imag": {"* | fields Image"},
		"* | ":            {"* | stats "},
		"Image:=nothing":  nil,
		`"quoted `:        nil,
	} {
		var doc struct {
			From  int
			Items []struct{ Text, Label string }
		}
		if err := json.Unmarshal([]byte(r.get("/soc/hunt/complete.json?"+url.Values{"before": {before}}.Encode())), &doc); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, item := range doc.Items {
			text := string([]rune(before)[:doc.From]) + item.Text // no character here has two units
			got = append(got, text)
			if !strings.Contains(before, "(") && strings.HasSuffix(text, " ") && !strings.Contains(before, "|") && eventstore.Check(text) != nil {
				t.Errorf("%q is offered and wrong", text)
			}
		}
		for _, w := range want {
			if !strings.Contains(strings.Join(got, "\n")+"\n", w+"\n") {
				t.Errorf("after %q: %q, want %q", before, got, w)
			}
		}
		if want == nil && len(got) > 0 {
			t.Errorf("after %q: %q", before, got)
		}
	}
	if got := strings.Join(r.acts(), ","); !strings.Contains(got, `hunt.search "Image":*`) || strings.Count(got, `"Image":*`) != 1 {
		t.Errorf("recorded is %s", got)
	}
}

// FuzzComplete: no text makes completion panic, and what it replaces stands at
// the text's end.
func FuzzComplete(f *testing.F) {
	for _, s := range []string{"", "a:", `a:="x`, "a | st", `"`, "`", "a:in(b,", "\xff:", "'a':b", `a\"b:c`, `"":`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p := completing(text)
		if !strings.HasSuffix(text, p.text) || p.kind == "value" && p.field == "" {
			t.Fatalf("%q: %+v", text, p)
		}
	})
}

// TestHuntUnavailable: without its fact nothing is shown, and a store that does
// not answer is told of.
func TestHuntUnavailable(t *testing.T) {
	r := newRig(t)
	r.keep(seen(time.Minute, "Image", "b.exe"))
	store := r.console.o.Events.(*eventstore.Embedded)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	w := r.do(http.MethodGet, "/soc/hunt?q=", nil)
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), `id="wrong"`) {
		t.Errorf("%d\n%s", w.Code, w.Body)
	}
	for _, format := range []string{"ndjson", "parquet"} {
		w := r.do(http.MethodPost, "/soc/hunt/export", url.Values{"q": {""}, "format": {format}})
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Content-Disposition") != "" {
			t.Errorf("an export as %s: %d, %s", format, w.Code, w.Header())
		}
	}
	if body := r.get("/soc/hunt/rule?q=Image:=b.exe"); !strings.Contains(body, "does not answer") {
		t.Errorf("the draft:\n%s", body)
	}
}
