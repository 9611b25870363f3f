package paper

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
	"strings"
	"unicode"

	"github.com/go-text/typesetting/di"
	"github.com/go-text/typesetting/font"
	"github.com/go-text/typesetting/language"
	"github.com/go-text/typesetting/shaping"
	"golang.org/x/image/math/fixed"
)

// style is how a text is set. Urdu has one weight.
type style struct {
	size float64
	bold bool
}

// line is one line of glyphs; above and below are how far it reaches from its
// base line.
type line struct {
	runs                []shaping.Output // from left to right
	text                []rune           // of the paragraph, which runs say their part of
	width, above, below float64
}

func (l line) height() float64 { return l.above + l.below }

func rtl(lang string) bool { return lang == "ur" }

// fontmap chooses the font of a character: the one of the language that has it.
type fontmap []*font.Face

func (m fontmap) ResolveFace(r rune) *font.Face {
	for _, f := range m {
		if _, ok := f.NominalGlyph(r); ok {
			return f
		}
	}
	return m[0]
}

// clean is the text without what would draw nothing or turn it around: the
// direction is the language's, and a text from a leaf cannot change it.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsControl(r), r >= 0x202a && r <= 0x202e, r == 0x200e, r == 0x200f, r == 0x061c, r == 0xfeff, r == unicode.ReplacementChar:
			return -1
		}
		return r
	}, text)
}

// set breaks a text into lines. Isolates (U+2066 to U+2069), which pages put
// around numbers and codes, do their work and draw nothing.
func (s *sheet) set(st style, lang, text string, width float64) []line {
	faces := fontmap{s.fonts[sans].face, s.fonts[nastaliq].face}
	if st.bold {
		faces[0] = s.fonts[semibold].face
	}
	in := shaping.Input{Text: []rune(clean(text)), Size: points(st.size), Language: language.NewLanguage(lang), Direction: di.DirectionLTR}
	if rtl(lang) {
		slices.Reverse(faces)
		in.Direction = di.DirectionRTL
	}
	in.RunEnd = len(in.Text)
	if in.RunEnd == 0 {
		return nil
	}
	var runs []shaping.Output
	for _, part := range s.segmenter.Split(in, faces) {
		runs = append(runs, s.shaper.Shape(part))
	}
	broken, _ := s.wrapper.WrapParagraph(shaping.WrapConfig{Direction: in.Direction}, int(width), in.Text, shaping.NewSliceIterator(runs))
	var lines []line
	for _, b := range broken {
		l := line{text: in.Text, above: st.size * 1.05, below: st.size * 0.4}
		for _, run := range b {
			l.width += float(run.Advance)
			l.above = max(l.above, float(run.GlyphBounds.Ascent)+st.size*0.1)
			l.below = max(l.below, -float(run.GlyphBounds.Descent)+st.size*0.1)
		}
		l.runs = slices.SortedFunc(slices.Values(b), func(a, b shaping.Output) int { return int(a.VisualIndex - b.VisualIndex) })
		lines = append(lines, l)
	}
	return lines
}

func points(v float64) fixed.Int26_6 { return fixed.Int26_6(v * 64) }

func float(v fixed.Int26_6) float64 { return float64(v) / 64 }

// draw puts the glyphs of a line on the page, with x and y its base line's left
// end. They are written in the order in which they are read: from right to left
// where the text runs so.
func (s *sheet) draw(b *bytes.Buffer, st style, l line, x, y float64) {
	type placed struct {
		shaping.Output
		x float64
	}
	var runs []placed
	for _, run := range l.runs {
		runs = append(runs, placed{run, x})
		x += float(run.Advance)
	}
	slices.SortFunc(runs, func(a, b placed) int { return a.Runes.Offset - b.Runes.Offset })
	for _, run := range runs {
		f := slices.IndexFunc(s.fonts[:], func(u used) bool { return u.face == run.Face })
		fmt.Fprintf(b, "BT/F%d %.2f Tf\n", f, st.size)
		s.fonts[f].glyphs(b, l.text, run.Output, run.x, y)
		b.WriteString("ET\n")
	}
}

// glyphs writes a run. The glyph that moves on stands for its cluster's
// characters; others, such as a letter's dots, stand for nothing.
func (u *used) glyphs(b *bytes.Buffer, text []rune, run shaping.Output, x, y float64) {
	at := make([]float64, len(run.Glyphs))
	for i, g := range run.Glyphs {
		at[i] = x
		x += float(g.XAdvance)
	}
	for first := range clusters(run) {
		all := run.Glyphs[first:min(first+run.Glyphs[first].GlyphCount, len(run.Glyphs))]
		body := max(0, slices.IndexFunc(all, func(g shaping.Glyph) bool { return g.XAdvance > 0 }))
		for k, g := range all {
			c := code{glyph: g.GlyphID}
			if k == body {
				c.said = string(text[g.ClusterIndex:min(g.ClusterIndex+g.RuneCount, len(text))])
			}
			fmt.Fprintf(b, "1 0 0 1 %.2f %.2f Tm<%04X>Tj\n", at[first+k]+float(g.XOffset), y+float(g.YOffset), u.code(c))
		}
	}
}

// clusters yields where a run's clusters begin, in the order in which they are
// read.
func clusters(run shaping.Output) iter.Seq[int] {
	var first []int
	for i := 0; i < len(run.Glyphs); i += max(1, run.Glyphs[i].GlyphCount) {
		first = append(first, i)
	}
	if run.Direction.Progression() == di.TowardTopLeft {
		slices.Reverse(first)
	}
	return slices.Values(first)
}
