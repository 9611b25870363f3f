package portal

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"pasban"
)

// A statement is for the signed-in citizen and about nobody else; the last epoch
// is for everyone.
func TestStatementIsForTheCitizen(t *testing.T) {
	r := newRig(t)
	r.record(r.story()...)
	r.ledger.publish(t)
	for _, who := range []Visitor{r.citizen, r.other} {
		w := r.as(who).get("/ledger/statement?download")
		s, err := pasban.ParseStatement(w.Body.Bytes())
		if err != nil || w.Code != http.StatusOK || pasban.SubjectID(s.Label) != who.Actor.Subject || s.Citizen != who.CNIC {
			t.Errorf("%d, of %q, %v", w.Code, s.Label, err)
		}
		if !strings.Contains(w.Header().Get("Content-Disposition"), "attachment") {
			t.Error("not a download")
		}
	}
	for name, who := range map[string]Visitor{"an officer": officer, "an auditor": auditor, "nobody": {}} {
		if w := r.as(who).get("/ledger/statement"); w.Code == http.StatusOK || strings.Contains(w.Body.String(), "pasban.statement") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	var rc pasban.Receipt
	w := r.as(Visitor{}).get("/ledger/heads")
	if err := json.Unmarshal(w.Body.Bytes(), &rc); err != nil || w.Code != http.StatusOK || rc.Kind != pasban.KindHeads {
		t.Errorf("%d, %v", w.Code, err)
	}
	for path, want := range map[string]int{"/ledger/heads?epoch=1": 200, "/ledger/heads?epoch=2": 404, "/ledger/heads?epoch=x": 404,
		"/ledger/watch/1": 200, "/ledger/watch/2": 404, "/ledger/watch/-1": 404, "/ledger/watch/x": 404} {
		if w := r.as(Visitor{}).get(path); w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
	labels := r.as(Visitor{}).get("/ledger/watch/1").Body.Bytes()
	for _, who := range []Visitor{r.citizen, r.other} {
		var k pasban.WatchKey
		w := r.as(who).get("/ledger/watch-key")
		if err := json.Unmarshal(w.Body.Bytes(), &k); err != nil || w.Code != http.StatusOK || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%d, %v, %q", w.Code, err, w.Header().Get("Cache-Control"))
		}
		if label := k.Label(1); bytes.Equal(label[:], labels) != (who.Actor.Subject == r.ayesha.ID) {
			t.Errorf("the key of %s finds the wrong label", who.Actor.Subject)
		}
	}
	for name, who := range map[string]Visitor{"an officer": officer, "an auditor": auditor, "nobody": {}} {
		if w := r.as(who).get("/ledger/watch-key"); w.Code == http.StatusOK || strings.Contains(w.Body.String(), pasban.WatchSchema) {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	for _, lang := range []string{"en", "ur"} {
		if w := r.asCitizen().get("/" + lang + "/my-data"); !strings.Contains(w.Body.String(), `href="/ledger/statement?download"`) {
			t.Errorf("%s: the page does not offer the list", lang)
		}
	}
	r.noList = &pasban.Error{Kind: pasban.Unavailable, Msg: "not yet"}
	for _, path := range []string{"/ledger/statement", "/ledger/heads"} {
		if w := r.asCitizen().get(path); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}
