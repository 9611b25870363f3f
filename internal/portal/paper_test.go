package portal

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"pasban"
	"pasban/internal/page"
)

// The page and the PDF tell what the verified leaf says, in the citizen's
// language first, and the PDF and the codes on the page are the proof again.
func TestReceiptToCarry(t *testing.T) {
	r := newRig(t)
	r.record(r.story()...)
	r.ledger.publish(t)
	verifier, err := note.NewVerifier(r.vkey)
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.story() {
		for _, lang := range page.Langs() {
			w := r.asCitizen().get(fmt.Sprintf("/%s/receipt/%d/pdf", lang, i))
			if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/pdf" || w.Header().Get("Cache-Control") != "no-store" ||
				w.Header().Get("Content-Disposition") != fmt.Sprintf(`attachment; filename="pasban-receipt-%d.pdf"`, i) {
				t.Fatalf("entry %d in %s: %d %v", i, lang, w.Code, w.Header())
			}
			rc, err := pasban.ParseReceipt(w.Body.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			body, err := rc.Verify(verifier)
			if err != nil || rc.Index != uint64(i) || rc.Restricted != nil {
				t.Fatalf("entry %d: leaf %d, restricted part %v, %v", i, rc.Index, rc.Restricted, err)
			}
			html := r.get(fmt.Sprintf("/%s/receipt/%d", lang, i)).Body.String()
			texts := r.portal.phrases(lang).texts(body)
			for _, want := range []string{texts.Who, texts.When, texts.What, texts.Why, texts.Basis} {
				if plain := text(html); !strings.Contains(plain, text(want)) {
					t.Errorf("entry %d in %s: the page does not say %q", i, lang, want)
				}
			}
			if strings.Contains(html, "<script>alert") || strings.Contains(html, "<img src=x") {
				t.Errorf("entry %d: markup from the leaf", i)
			}
			if n := strings.Count(html, "<svg viewBox"); n == 0 {
				t.Error("no code on the page")
			}
			said := words(readPDF(t, w.Body.Bytes()))
			for _, l := range page.Langs() {
				texts := r.portal.phrases(l).texts(body)
				for _, want := range []string{texts.Title, texts.Who, texts.When, texts.What, texts.Why, texts.Basis, string(body.Subject), body.ID, r.vkey} {
					if !strings.Contains(said, words(want)) {
						t.Errorf("entry %d in %s: the PDF does not say %q", i, lang, want)
					}
				}
			}
		}
	}
}

// text is what a page says without its markup.
func text(html string) string {
	return regexp.MustCompile(`<[^>]*>|[\s\x{2066}-\x{2069}]`).ReplaceAllString(strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&", "&#34;", `"`, "&#39;", "'", "&#43;", "+").Replace(html), "")
}

// words is a text without what a reader of PDF may lose or add.
func words(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool {
		return r == '"' || r <= ' ' || r >= 0x2028 && r <= 0x2029 || r >= 0x2066 && r <= 0x2069
	}), "")
}

// readPDF is the text of a PDF as another program reads it.
func readPDF(t *testing.T, doc []byte) string {
	t.Helper()
	if _, err := exec.LookPath("pdfinfo"); err != nil {
		t.Skipf("%v: test/install installs poppler-utils", err)
	}
	file := filepath.Join(t.TempDir(), "a.pdf")
	if err := os.WriteFile(file, doc, 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "pdfinfo", "-struct-text", file)
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// The receipt to carry is the citizen's, and nobody learns more from a refusal
// than that there is none. Without a proof that verifies there is no receipt.
func TestReceiptToCarryIsForTheCitizen(t *testing.T) {
	r := newRig(t)
	r.record(r.story()...)
	for _, path := range []string{"/en/receipt/0", "/ur/receipt/0/pdf"} {
		if w := r.asCitizen().get(path); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
			t.Errorf("%s before the checkpoint: %d", path, w.Code)
		}
	}
	r.ledger.publish(t)
	for _, path := range []string{"/en/receipt/0", "/ur/receipt/0/pdf"} {
		for name, c := range map[string]struct {
			who  Visitor
			want int
		}{"another citizen": {r.other, 404}, "an officer": {officer, 403}, "an auditor": {auditor, 403}, "the citizen": {r.citizen, 200}} {
			w := r.as(c.who).get(path)
			if w.Code != c.want || w.Code != 200 && strings.Contains(w.Body.String(), "LHR") {
				t.Errorf("%s, %s: %d, want %d", path, name, w.Code, c.want)
			}
		}
	}
	for _, path := range []string{"/en/receipt/99", "/en/receipt/x/pdf", "/en/receipt/-1"} {
		if w := r.asCitizen().get(path); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	r.ledger.mu.Lock()
	r.ledger.hashes[0][0] ^= 1 // a log that does not hold the entry
	r.ledger.mu.Unlock()
	for _, path := range []string{"/en/receipt/1", "/ur/receipt/1/pdf"} {
		if w := r.asCitizen().get(path); w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "%PDF") {
			t.Errorf("%s of a proof that does not hold: %d", path, w.Code)
		}
	}
}
