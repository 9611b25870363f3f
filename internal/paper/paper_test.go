package paper

import (
	"bytes"
	"encoding/json"
	"image"
	_ "image/png" // pages as pdftoppm draws them
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"
)

// The texts of the sample, as they must be read again.
const (
	english = "Who looked: an officer, staff number ending 032. Fields: seller name, area in kanal; see https://land.example/ledger."
	urdu    = "یہ رسید لیجر land.example/ledger سے بنائی گئی۔ بیچنے والے کا نام، رقبہ (کنال)، 21 نومبر 2026، صبح 10:42 بجے"
)

func codes() []string {
	return []string{"PASBAN1:1/2:ABCDEFGH:" + strings.Repeat("ABCDEF234567", 74), "PASBAN1:2/2:ABCDEFGH:" + strings.Repeat("Z234567QRSTU", 74)}
}

func sample(t testing.TB, more ...Block) Document {
	t.Helper()
	c := Codes{Lang: "en"}
	for i, text := range codes() {
		q, err := NewQR(text)
		if err != nil {
			t.Fatal(err)
		}
		c.Codes = append(c.Codes, Code{q, []string{"Code 1 of 2", "Code 2 of 2"}[i]})
	}
	return Document{
		Title: "Receipt رسید", Lang: "en", Made: time.Unix(1795464900, 0),
		Blocks: append([]Block{
			Heading{"en", 1, "Receipt"}, Text{Lang: "en", Text: english}, Row{"en", "When", strings.Repeat("a long answer ", 20)},
			Heading{"ur", 1, "اندراج کی رسید"}, Text{Lang: "ur", Text: urdu, Small: true}, Row{"ur", "کیا دیکھا", "انتقالِ اراضی \u2068LT-2026-00012\u2069"}, c,
		}, more...),
		File: File{Name: "رسید.json", Type: "application/json", About: "the receipt itself", Data: []byte(`{"schema":"pasban.receipt.v1"}`)},
	}
}

func print(t testing.TB, d Document) []byte {
	t.Helper()
	p, err := NewPrinter()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := p.Print(&b, d); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// poppler runs one of Debian's programs for PDF on a document. They complain on
// standard error about files that are not as the standard says.
func poppler(t *testing.T, doc []byte, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%v: test/install installs poppler-utils", err)
	}
	file := filepath.Join(t.TempDir(), "a.pdf")
	if err := os.WriteFile(file, doc, 0o600); err != nil {
		t.Fatal(err)
	}
	for i, a := range args {
		if a == "FILE" {
			args[i] = file
		}
	}
	var out, complaints strings.Builder
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil || complaints.Len() > 0 {
		t.Fatalf("%s: %v\n%s", name, err, complaints.String())
	}
	return out.String()
}

// words is a text without white space and isolates.
func words(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '"' || r <= ' ' || r >= 0x2066 && r <= 0x2069 }), "")
}

// Another program reads the tags in order, and in each what was written, letter
// for letter.
func TestAnotherProgramReadsTheText(t *testing.T) {
	doc := print(t, sample(t))
	got := poppler(t, doc, "pdfinfo", "-struct-text", "FILE")
	rest := words(got)
	for _, want := range []string{"H1(block)Receipt", "P(block)", english, "When", "a long answer a long answer", "H1(block)", "اندراج کی رسید", urdu, "کیا دیکھا", "LT-2026-00012", "Figure", "Code 1 of 2", "Figure", "Code 2 of 2"} {
		_, after, ok := strings.Cut(rest, words(want))
		if !ok {
			t.Fatalf("%q is not read, or not in its place:\n%s", want, got)
		}
		rest = after
	}
	for _, want := range []string{"Tagged:          yes", "Title:           Receipt رسید", "Pages:           1\n"} {
		if info := poppler(t, doc, "pdfinfo", "FILE"); !strings.Contains(info, want) {
			t.Errorf("no %q in\n%s", want, info)
		}
	}
	for line := range strings.Lines(strings.SplitN(poppler(t, doc, "pdffonts", "FILE"), "\n", 3)[2]) {
		if f := strings.Fields(line); f[len(f)-5] != "yes" || f[len(f)-4] != "yes" || f[len(f)-3] != "yes" {
			t.Errorf("not embedded, cut down and readable: %s", line)
		}
	}
}

// The attachment comes out as it went in.
func TestAttachment(t *testing.T) {
	d := sample(t)
	dir := t.TempDir()
	poppler(t, print(t, d), "pdfdetach", "-saveall", "-o", dir, "FILE")
	got, err := os.ReadFile(filepath.Join(dir, d.File.Name))
	if err != nil || !bytes.Equal(got, d.File.Data) {
		t.Errorf("%q, %v", got, err)
	}
	d.File = File{}
	if list := poppler(t, print(t, d), "pdfdetach", "-list", "FILE"); !strings.HasPrefix(list, "0 ") {
		t.Error(list)
	}
}

// A scanner reads the codes from the page as it is printed.
func TestScannerReadsTheCodes(t *testing.T) {
	var got []string
	dir := t.TempDir()
	poppler(t, print(t, sample(t)), "pdftoppm", "-r", "150", "-png", "FILE", filepath.Join(dir, "p"))
	f, err := os.Open(filepath.Join(dir, "p-1.png"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	page, _, err := image.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	half := page.Bounds().Dx() / 2
	for i := range 2 { // the reader is one for a single code
		part := page.(interface {
			SubImage(image.Rectangle) image.Image
		}).SubImage(image.Rect(i*half, 0, (i+1)*half, page.Bounds().Dy()))
		bitmap, err := gozxing.NewBinaryBitmapFromImage(part)
		if err != nil {
			t.Fatal(err)
		}
		r, err := qrcode.NewQRCodeReader().Decode(bitmap, map[gozxing.DecodeHintType]any{gozxing.DecodeHintType_TRY_HARDER: true})
		if err != nil {
			t.Fatalf("code %d: %v", i+1, err)
		}
		got = append(got, r.GetText())
	}
	if !slices.Equal(got, codes()) {
		t.Errorf("%q", got)
	}
}

// Urdu is joined: a letter alone and the same within a word are other glyphs,
// and words stand from right to left.
func TestUrduIsJoined(t *testing.T) {
	p, err := NewPrinter()
	if err != nil {
		t.Fatal(err)
	}
	s := newSheet(p, Document{})
	glyph := func(text string) []int {
		var all []int
		for _, g := range s.set(style{size: 12}, "ur", text, measure)[0].runs[0].Glyphs {
			all = append(all, int(g.GlyphID))
		}
		return all
	}
	apart := len(glyph("ب")) + len(glyph("ح"))
	together := glyph("بح")
	if slices.Contains(together, glyph("ب")[0]) && slices.Contains(together, glyph("ح")[0]) || len(together) == 0 || apart == 0 {
		t.Errorf("the letters are not joined: %v", together)
	}
	line := s.set(style{size: 12}, "ur", "رقبہ 12 کنال", measure)[0]
	if said := string(line.text[line.runs[0].Runes.Offset:][:line.runs[0].Runes.Count]); !strings.Contains(said, "کنال") || len(line.runs) != 3 {
		t.Errorf("%d runs, the leftmost is %q", len(line.runs), said)
	}
}

// A long document goes on on the next page; nothing is cut off at the bottom,
// and the same document gives the same bytes.
func TestPages(t *testing.T) {
	var more []Block
	for range 60 {
		more = append(more, Text{Lang: "en", Text: english}, Row{"ur", "کب", urdu})
	}
	d := sample(t, append(more, Text{Lang: "en", Text: "The very end."})...)
	doc := print(t, d)
	if !bytes.Equal(doc, print(t, d)) {
		t.Error("the same document gave other bytes")
	}
	text := poppler(t, doc, "pdftotext", "-bbox", "FILE", "-")
	if n := strings.Count(text, "<page "); n < 5 || strings.Count(text, "end.</word>") != 1 {
		t.Errorf("%d pages, or not to the end", n)
	}
	if strings.Contains(text, `yMax="84`) || strings.Contains(text, `yMin="-`) {
		t.Error("a word stands over the edge")
	}
}

func FuzzPrint(f *testing.F) {
	f.Add(english, true)
	f.Add(urdu, false)
	f.Add("\u202e\u2067\x00\xff()<<>>\\ 漢字 \U0001F600 ۔ؑ", false)
	p, err := NewPrinter()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string, latin bool) {
		lang := map[bool]string{true: "en", false: "ur"}[latin]
		text = text[:min(len(text), 2000)]
		data, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		d := Document{Title: text, Lang: lang, Blocks: []Block{Heading{lang, 2, text}, Row{lang, text, text}}, File: File{Name: "a.json", Data: data}}
		var b bytes.Buffer
		if err := p.Print(&b, d); err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(b.Bytes(), []byte("%PDF-1.7\n")) || !bytes.HasSuffix(b.Bytes(), []byte("%%EOF\n")) {
			t.Error("not a whole file")
		}
	})
}

// BenchmarkPrint prints a document of one page with two codes.
func BenchmarkPrint(b *testing.B) {
	p, err := NewPrinter()
	if err != nil {
		b.Fatal(err)
	}
	d := sample(b)
	for b.Loop() {
		var out bytes.Buffer
		if err := p.Print(&out, d); err != nil {
			b.Fatal(err)
		}
	}
}
