package console

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"pasban/internal/detect/ingest"
	"pasban/internal/detect/logs"
	"pasban/internal/page"
)

// fakeLogs stands for a receiver: one source that sends, one that fell silent.
type fakeLogs struct{ now time.Time }

func (f fakeLogs) Figures() []ingest.Figures {
	return []ingest.Figures{
		{Source: "domain", Listen: "tls://:6514", Last: f.now.Add(-3 * time.Minute), Bytes: 1234567, Events: 4321, Refused: 2, Samples: []logs.Refusal{
			{Why: "not a syslog message", Sample: `<script>alert(1)</script> 61101-1234567-1`}, {Offset: 9, Why: "the newest"}}},
		{Source: "branch", Listen: "udp://:514", Dropped: 7},
	}
}

func (f fakeLogs) Waiting() (bytes, limit int64) { return 95, 100 }

func TestSources(t *testing.T) {
	r := newRig(t)
	if w := r.do("GET", "/soc/sources", nil); w.Code != http.StatusNotFound {
		t.Errorf("without sources: %d", w.Code)
	}
	r = newRig(t)
	o := r.console.o
	pages, err := page.New(page.Options{Agency: map[string]string{"en": "Board of Revenue"}})
	if err != nil {
		t.Fatal(err)
	}
	o.Pages, o.Logs = pages, fakeLogs{o.Now()}
	if r.console, err = New(o); err != nil {
		t.Fatal(err)
	}
	body := r.get("/soc/sources")
	for _, want := range []string{"domain", "tls://:6514", "1,234,567", "4,321", "3 min", "Senders are made to wait.", "not a syslog message", "…671", "no text", `href="/soc/sources"`} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(body, "<script>alert(1)") || strings.Contains(body, "61101-1234567-1") {
		t.Error("a sender's words became markup, or name a citizen")
	}
	if strings.Index(body, "the newest") > strings.Index(body, "not a syslog message") {
		t.Error("the newest refusal does not stand first")
	}
	if n := strings.Count(body, "nothing has come for a while"); n != 1 {
		t.Errorf("%d sources are silent, want one", n)
	}
	if !strings.Contains(r.get("/soc/sources?lang=ur"), "آخری اندراجات جو پڑھے نہ جا سکے") {
		t.Error("the page is not in Urdu")
	}
}
