// Package paper makes documents that people carry: PDF files with English and
// Urdu text, QR codes and an attached file.
//
// # Main types
//
// A [Document] is a list of [Block]s, each in a language: [Heading], [Text], [Row]
// and [Codes]. A [Printer] holds the fonts and writes documents.
//
// # The way of a text
//
//	text → runs of one direction, script and font → glyphs (HarfBuzz's way, by
//	go-text/typesetting) → lines → the page, each glyph at its place
//
// # Guarantees
//
//   - Urdu is joined, in Nastaliq, and runs from right to left; numbers and Latin
//     codes inside it keep their direction.
//   - Every font is inside the file, cut down to the glyphs that it shows: it
//     looks the same years later and anywhere.
//   - A screen reader can read it: the text is tagged with its order, its kind and
//     its language, and stands beside the glyphs as it was written.
//   - Who copies from it or searches in it gets the text, not glyphs.
//   - The same document always gives the same bytes.
//
// # What it must never do
//
// It knows nothing of receipts, and shows nothing but what it is given. DESIGN.md
// says why it writes PDF itself.
package paper

import (
	"cmp"
	"embed"
	"fmt"
	"io"
	"time"

	"github.com/go-text/typesetting/font"
)

//go:embed fonts/*.ttf
var fontFiles embed.FS

// Document is what is printed.
type Document struct {
	Title  string
	Lang   string // of the title, and of what does not say its own
	Made   time.Time
	Blocks []Block
	File   File // attached to the document; none if it has no name
}

// File is attached to a document, unchanged.
type File struct {
	Name  string
	Type  string // media type
	About string
	Data  []byte
}

// Block is a part of a document.
type Block interface {
	lay(s *sheet)
}

// Heading is the title of what follows. Level is 1 or 2.
type Heading struct {
	Lang  string
	Level int
	Text  string
}

// Text is a paragraph.
type Text struct {
	Lang  string
	Text  string
	Small bool
}

// Row is a label and what it labels.
type Row struct {
	Lang        string
	Label, Text string
}

// Codes are QR codes side by side, in order.
type Codes struct {
	Lang  string
	Codes []Code
}

// Code is a QR code; About tells of it to who cannot see it, and stands beneath.
type Code struct {
	QR
	About string
}

// The fonts, by their place in Printer.fonts and in every file.
const (
	sans = iota
	semibold
	nastaliq
	fontCount
)

// Printer writes documents. It is safe for concurrent use.
type Printer struct {
	fonts [fontCount]source
}

// source is a font as it was read.
type source struct {
	name string // as PDF calls it
	font *font.Font
	file []byte
}

// NewPrinter reads the fonts, which are part of the program.
func NewPrinter() (*Printer, error) {
	p := &Printer{}
	for i, f := range [fontCount][2]string{{"sans", "NotoSans"}, {"sans-semibold", "NotoSans-SemiBold"}, {"nastaliq", "NotoNastaliqUrdu"}} {
		data, err := fontFiles.ReadFile("fonts/" + f[0] + ".ttf")
		if err != nil {
			return nil, err
		}
		if p.fonts[i], err = readFont(f[1], data); err != nil {
			return nil, fmt.Errorf("font %s: %w", f[0], err)
		}
	}
	return p, nil
}

// Print writes the document as PDF 1.7 (ISO 32000-1).
func (p *Printer) Print(w io.Writer, d Document) error {
	d.Lang = cmp.Or(d.Lang, "en")
	s := newSheet(p, d)
	for _, b := range d.Blocks {
		b.lay(s)
	}
	out, err := s.file()
	if err != nil {
		return err
	}
	_, err = w.Write(out)
	return err
}
