package paper

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// shaped is a glyph as hb-shape tells it, in units of the font.
type shaped struct {
	Glyph   int `json:"g"`
	Cluster int `json:"cl"`
	DX      int `json:"dx"`
	DY      int `json:"dy"`
	AX      int `json:"ax"`
}

// Every Urdu word of the portal is shaped as HarfBuzz itself shapes it: the same
// glyphs in the same places. A word that is a little off reads as another.
func TestShapedAsHarfBuzzDoes(t *testing.T) {
	if _, err := exec.LookPath("hb-shape"); err != nil {
		t.Skipf("%v: test/install installs libharfbuzz-bin", err)
	}
	page, err := os.ReadFile("../page/locales/portal.ur.yaml")
	if err != nil {
		t.Fatal(err)
	}
	words := strings.FieldsFunc(string(page), func(r rune) bool { return r < 0x621 || r > 0x6d3 || r >= 0x660 && r <= 0x669 })
	slices.Sort(words)
	words = slices.Compact(words)
	if len(words) < 300 {
		t.Fatalf("%d words", len(words))
	}
	p, err := NewPrinter()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "words")
	if err := os.WriteFile(file, []byte(strings.Join(words, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "hb-shape", "fonts/nastaliq.ttf", "--text-file="+file, "--language=ur", "--script=arab", "--direction=rtl", "--no-glyph-names", "--output-format=json").Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	if len(lines) != len(words) {
		t.Fatalf("%d words were shaped, want %d", len(lines), len(words))
	}
	s := newSheet(p, Document{})
	for i, word := range words {
		var want, got []shaped
		if err := json.Unmarshal(lines[i], &want); err != nil {
			t.Fatal(err)
		}
		for _, run := range s.set(style{size: float64(s.fonts[nastaliq].font.Upem())}, "ur", word, 1e6)[0].runs {
			for _, g := range run.Glyphs {
				got = append(got, shaped{int(g.GlyphID), g.ClusterIndex, g.XOffset.Round(), g.YOffset.Round(), g.XAdvance.Round()})
			}
		}
		if !slices.EqualFunc(got, want, func(a, b shaped) bool { // up to rounding
			return a.Glyph == b.Glyph && a.Cluster == b.Cluster && max(a.DX-b.DX, b.DX-a.DX, a.DY-b.DY, b.DY-a.DY, a.AX-b.AX, b.AX-a.AX) <= 1
		}) {
			t.Errorf("%s:\n got %v\nwant %v", word, got, want)
		}
	}
}
