package paper

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/go-text/typesetting/font"
	"github.com/go-text/typesetting/font/opentype"
)

func readFont(name string, data []byte) (source, error) {
	loader, err := opentype.NewLoader(bytes.NewReader(data))
	if err != nil {
		return source{}, err
	}
	f, err := font.NewFont(loader)
	return source{name: name, font: f, file: data}, err
}

// used is a font as one document uses it. Its codes are numbers of its own, not
// those of glyphs: one glyph is the body of several letters, which differ in
// their dots, and who copies the text must get the letter.
type used struct {
	source
	face  *font.Face
	codes []code // from 1
	known map[code]int
}

// code is a glyph and what it stands for, "" if another glyph says it.
type code struct {
	glyph font.GID
	said  string
}

// code returns the number of a code.
func (u *used) code(c code) int {
	n, ok := u.known[c]
	if !ok {
		if u.known == nil {
			u.known = map[code]int{}
		}
		u.codes = append(u.codes, c)
		n = len(u.codes)
		u.known[c] = n
	}
	return n
}

// embed writes the font's objects: a composite font (ISO 32000-1, section 9.7.4).
func (u *used) embed(w *writer, at ref) error {
	file, err := u.subset()
	if err != nil {
		return fmt.Errorf("font %s: %w", u.name, err)
	}
	name := "PASBAN+" + u.name
	scale := 1000 / float64(u.font.Upem())
	box, ok := u.face.FontHExtents()
	if !ok {
		return fmt.Errorf("font %s has no extents", u.name)
	}
	var widths strings.Builder
	glyphs := []byte{0, 0}
	for _, c := range u.codes {
		fmt.Fprintf(&widths, "%.0f ", float64(u.face.HorizontalAdvance(c.glyph))*scale)
		glyphs = binary.BigEndian.AppendUint16(glyphs, uint16(c.glyph))
	}
	data := w.stream(fmt.Sprintf("/Length1 %d", len(file)), file)
	descriptor := w.add("<</Type/FontDescriptor/FontName/%s/Flags 4/FontBBox[-1000 %.0f 2000 %.0f]/ItalicAngle 0/Ascent %.0[3]f/Descent %.0[2]f/CapHeight 714/StemV 80/FontFile2 %[4]v>>",
		name, float64(box.Descender)*scale, float64(box.Ascender)*scale, data)
	descendant := w.add("<</Type/Font/Subtype/CIDFontType2/BaseFont/%s/CIDSystemInfo<</Registry(Adobe)/Ordering(Identity)/Supplement 0>>/FontDescriptor %v/DW 0/W[1[%s]]/CIDToGIDMap %v>>",
		name, descriptor, widths.String(), w.stream("", glyphs))
	w.put(at, "<</Type/Font/Subtype/Type0/BaseFont/%s/Encoding/Identity-H/DescendantFonts[%v]/ToUnicode %v>>", name, descendant, w.stream("", u.toUnicode()))
	return nil
}

// toUnicode says what codes stand for (ISO 32000-1, section 9.10.3).
func (u *used) toUnicode() []byte {
	var lines []string
	for i, c := range u.codes {
		if c.said != "" {
			lines = append(lines, fmt.Sprintf("<%04X><%s>\n", i+1, utf16Hex(c.said)))
		}
	}
	var b bytes.Buffer
	b.WriteString("/CIDInit/ProcSet findresource begin 12 dict begin begincmap/CMapName/Pasban def/CMapType 2 def\n1 begincodespacerange<0000><FFFF>endcodespacerange\n")
	for some := range slices.Chunk(lines, 100) {
		fmt.Fprintf(&b, "%d beginbfchar\n%sendbfchar\n", len(some), strings.Join(some, ""))
	}
	b.WriteString("endcmap end end\n")
	return b.Bytes()
}

func utf16Hex(s string) string {
	var b strings.Builder
	for _, c := range utf16.Encode([]rune(s)) {
		fmt.Fprintf(&b, "%04X", c)
	}
	return b.String()
}

var errTables = errors.New("not a TrueType font")

// subset is the font's file with the outlines of the glyphs that are used, all
// under their numbers, and without the tables that a PDF reader does not need.
func (u *used) subset() ([]byte, error) {
	loader, err := opentype.NewLoader(bytes.NewReader(u.file))
	if err != nil {
		return nil, err
	}
	raw := map[string][]byte{}
	for _, tag := range []string{"cvt ", "fpgm", "glyf", "head", "hhea", "hmtx", "loca", "maxp", "prep"} {
		data, err := loader.RawTable(opentype.MustNewTag(tag))
		if err == nil {
			raw[tag] = data
		} else if tag[0] != 'c' && tag[0] != 'f' && tag[0] != 'p' { // hints are optional
			return nil, err
		}
	}
	if raw["glyf"], raw["loca"], err = u.outlines(raw); err != nil {
		return nil, err
	}
	var tables []opentype.Table
	for _, tag := range slices.Sorted(maps.Keys(raw)) {
		data := raw[tag]
		tables = append(tables, opentype.Table{Tag: opentype.MustNewTag(tag), Content: append(data, make([]byte, -len(data)&3)...)})
	}
	return opentype.WriteTTF(tables), nil
}

// outlines keeps the outlines of the glyphs used and of those that they are
// composed of (OpenType 1.9, glyf and loca).
func (u *used) outlines(raw map[string][]byte) (glyf, loca []byte, err error) {
	if len(raw["head"]) < 54 {
		return nil, nil, errTables
	}
	long := raw["head"][51] == 1
	var at []int
	for old := raw["loca"]; len(old) >= 4 || !long && len(old) >= 2; {
		if long {
			at, old = append(at, int(binary.BigEndian.Uint32(old))), old[4:]
		} else {
			at, old = append(at, 2*int(binary.BigEndian.Uint16(old))), old[2:]
		}
	}
	keep := map[int]bool{0: true} // the mark of a glyph that is not there
	rest := []int{0}
	for _, c := range u.codes {
		keep[int(c.glyph)] = true
		rest = append(rest, int(c.glyph))
	}
	for len(rest) > 0 {
		g := rest[0]
		rest = rest[1:]
		if g+1 >= len(at) || at[g] > at[g+1] || at[g+1] > len(raw["glyf"]) {
			return nil, nil, errTables
		}
		for _, part := range components(raw["glyf"][at[g]:at[g+1]]) {
			if !keep[part] {
				keep[part] = true
				rest = append(rest, part)
			}
		}
	}
	for g := range len(at) {
		if long {
			loca = binary.BigEndian.AppendUint32(loca, uint32(len(glyf)))
		} else {
			loca = binary.BigEndian.AppendUint16(loca, uint16(len(glyf)/2))
		}
		if keep[g] && g+1 < len(at) {
			glyf = append(glyf, raw["glyf"][at[g]:at[g+1]]...)
			glyf = append(glyf, make([]byte, len(glyf)&1)...)
		}
	}
	return glyf, loca, nil
}

// components are the glyphs that a composite glyph is made of.
func components(outline []byte) []int {
	const words, scale, more, scaleXY, matrix = 1, 8, 32, 64, 128
	if len(outline) < 10 || int16(binary.BigEndian.Uint16(outline)) >= 0 {
		return nil
	}
	var parts []int
	for rest := outline[10:]; len(rest) >= 4; {
		flags := binary.BigEndian.Uint16(rest)
		parts = append(parts, int(binary.BigEndian.Uint16(rest[2:])))
		size := 6
		if flags&words != 0 {
			size += 2
		}
		switch {
		case flags&scale != 0:
			size += 2
		case flags&scaleXY != 0:
			size += 4
		case flags&matrix != 0:
			size += 8
		}
		if flags&more == 0 || len(rest) < size {
			break
		}
		rest = rest[size:]
	}
	return parts
}
