package paper

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/go-text/typesetting/font"
	"github.com/go-text/typesetting/shaping"
)

// A page is A4, in points of 1/72 inch.
const (
	pageWidth, pageHeight = 595.28, 841.89
	margin                = 48.0
	measure               = pageWidth - 2*margin
	labelWidth            = 120.0
)

// sheet is a document while it is laid out, from the top of the first page to
// the bottom of the last.
type sheet struct {
	d     Document
	fonts [fontCount]used
	w     writer
	font  [fontCount]ref
	tree  ref // structure: the document's element

	segmenter shaping.Segmenter
	shaper    shaping.HarfbuzzShaper
	wrapper   shaping.LineWrapper

	y     float64 // where the next block begins, from the bottom
	pages []*leaf
	kids  []ref // elements of the structure, in order
	image int
}

// leaf is one page.
type leaf struct {
	at      ref
	content bytes.Buffer
	images  map[string]ref
	marked  []ref // elements of the marked contents, by number
}

func newSheet(p *Printer, d Document) *sheet {
	s := &sheet{d: d}
	for i, f := range p.fonts {
		s.fonts[i] = used{source: f, face: font.NewFace(f.font)}
		s.font[i] = s.w.reserve()
	}
	s.tree = s.w.reserve()
	s.turn()
	return s
}

// turn begins a page.
func (s *sheet) turn() {
	s.pages = append(s.pages, &leaf{at: s.w.reserve(), images: map[string]ref{}})
	s.y = pageHeight - margin
}

func (s *sheet) page() *leaf { return s.pages[len(s.pages)-1] }

// room turns the page unless so much of it is left.
func (s *sheet) room(height float64) {
	if s.y-height < margin && s.y < pageHeight-margin {
		s.turn()
	}
}

// element is a part of the structure while its contents are drawn.
type element struct {
	at    ref
	tag   string
	lang  string
	about string // what a reader is told instead of the contents, "" for nothing
	kids  strings.Builder
}

func (s *sheet) begin(tag, lang, about string) *element {
	e := &element{at: s.w.reserve(), tag: tag, lang: lang, about: about}
	s.kids = append(s.kids, e.at)
	return e
}

func (s *sheet) end(e *element) {
	about := ""
	if e.about != "" {
		about = "/Alt" + textString(e.about)
	}
	s.w.put(e.at, "<</Type/StructElem/S/%s/P %v/Lang(%s)%s/K[%s]>>", e.tag, s.tree, e.lang, about, e.kids.String())
}

// mark draws a content that belongs to an element.
func (s *sheet) mark(e *element, draw func(b *bytes.Buffer)) {
	p := s.page()
	fmt.Fprintf(&e.kids, "<</Type/MCR/Pg %v/MCID %d>>", p.at, len(p.marked))
	fmt.Fprintf(&p.content, "/%s<</MCID %d>>BDC\n", e.tag, len(p.marked))
	p.marked = append(p.marked, e.at)
	draw(&p.content)
	p.content.WriteString("EMC\n")
}

// write sets a text and draws it from the sheet's place on. from and width are
// the column's, measured from the left margin.
func (s *sheet) write(e *element, st style, text string, from, width float64) {
	s.lines(e, st, s.set(st, e.lang, text, width), from, width)
}

// lines draws lines from the sheet's place on, which it moves down.
func (s *sheet) lines(e *element, st style, lines []line, from, width float64) {
	for _, l := range lines {
		if s.y-l.height() < margin {
			s.turn()
		}
		s.line(e, st, l, from, width)
	}
}

func (s *sheet) line(e *element, st style, l line, from, width float64) {
	x := margin + from
	if rtl(e.lang) {
		x += width - l.width
	}
	y := s.y - l.above
	s.mark(e, func(b *bytes.Buffer) { s.draw(b, st, l, x, y) })
	s.y -= l.height()
}

func (h Heading) lay(s *sheet) {
	st := style{size: 20, bold: true}
	if h.Level > 1 {
		st.size = 14
	}
	if s.y < pageHeight-margin {
		s.y -= st.size
	}
	s.room(5 * st.size) // not alone at the bottom
	e := s.begin(fmt.Sprintf("H%d", min(max(h.Level, 1), 2)), h.Lang, "")
	s.write(e, st, h.Text, 0, measure)
	s.end(e)
	s.y -= 4
}

func (t Text) lay(s *sheet) {
	st := style{size: 11}
	if t.Small {
		st.size = 9
	}
	e := s.begin("P", t.Lang, "")
	s.write(e, st, t.Text, 0, measure)
	s.end(e)
	s.y -= st.size / 2
}

func (r Row) lay(s *sheet) {
	bold, plain := style{size: 11, bold: true}, style{size: 11}
	const gap = 8
	from, to := 0.0, labelWidth
	if rtl(r.Lang) {
		from, to = measure-labelWidth+gap, 0
	}
	label := s.set(bold, r.Lang, r.Label, labelWidth-gap)
	text := s.set(plain, r.Lang, r.Text, measure-labelWidth)
	var height float64
	for _, l := range label {
		height += l.height()
	}
	if len(label) > 0 && len(text) > 0 { // one base line
		above := max(label[0].above, text[0].above)
		label[0].above, text[0].above = above, above
		height = max(height, label[0].height(), text[0].height())
	}
	s.room(height)
	e := s.begin("P", r.Lang, "")
	top, page := s.y, len(s.pages)
	s.lines(e, bold, label, from, labelWidth-gap)
	beneath := s.y
	if page == len(s.pages) {
		s.y = top
	}
	s.lines(e, plain, text, to, measure-labelWidth)
	if page == len(s.pages) {
		s.y = min(s.y, beneath)
	}
	s.end(e)
	s.y -= 3
}

// codeWidth is the side of a code with its margin: two stand side by side.
const codeWidth = measure / 2

func (c Codes) lay(s *sheet) {
	small := style{size: 9}
	for i := 0; i < len(c.Codes); i += 2 {
		s.room(codeWidth + 30)
		top := s.y
		for k, code := range c.Codes[i:min(i+2, len(c.Codes))] {
			x := float64(k) * codeWidth
			if rtl(c.Lang) {
				x = codeWidth - x
			}
			e := s.begin("Figure", c.Lang, code.About)
			name := fmt.Sprintf("Q%d", s.image)
			s.image++
			s.page().images[name] = s.w.stream(fmt.Sprintf("/Type/XObject/Subtype/Image/Width %d/Height %[1]d/ColorSpace/DeviceGray/BitsPerComponent 1", code.Size), code.bits())
			inner := codeWidth * float64(code.Size) / float64(code.Size+2*quiet)
			edge := (codeWidth - inner) / 2
			s.mark(e, func(b *bytes.Buffer) {
				fmt.Fprintf(b, "q %.3f 0 0 %.3f %.3f %.3f cm/%s Do Q\n", inner, inner, margin+x+edge, top-codeWidth+edge, name)
			})
			s.end(e)
			s.y = top - codeWidth
			e = s.begin("P", c.Lang, "")
			s.write(e, small, code.About, x+edge, inner)
			s.end(e)
		}
		s.y -= small.size
	}
}

// file writes everything that the pages and the readers need.
func (s *sheet) file() ([]byte, error) {
	var fonts, pages, parents strings.Builder
	for i := range s.fonts {
		if len(s.fonts[i].codes) == 0 {
			s.w.put(s.font[i], "null")
			continue
		}
		if err := s.fonts[i].embed(&s.w, s.font[i]); err != nil {
			return nil, err
		}
		fmt.Fprintf(&fonts, "/F%d %v", i, s.font[i])
	}
	all := s.w.reserve()
	for i, p := range s.pages {
		var images strings.Builder
		for k := range s.image { // in order
			if at, ok := p.images[fmt.Sprintf("Q%d", k)]; ok {
				fmt.Fprintf(&images, "/Q%d %v", k, at)
			}
		}
		content := s.w.stream("", p.content.Bytes())
		s.w.put(p.at, "<</Type/Page/Parent %v/MediaBox[0 0 %.2f %.2f]/Resources<</Font<<%s>>/XObject<<%s>>>>/Contents %v/StructParents %d/Tabs/S>>",
			all, pageWidth, pageHeight, fonts.String(), images.String(), content, i)
		fmt.Fprintf(&pages, "%v ", p.at)
		fmt.Fprintf(&parents, "%d[", i)
		for _, e := range p.marked {
			fmt.Fprintf(&parents, "%v ", e)
		}
		parents.WriteString("]")
	}
	s.w.put(all, "<</Type/Pages/Kids[%s]/Count %d>>", pages.String(), len(s.pages))
	root := s.w.add("<</Type/StructTreeRoot/K %v/ParentTree<</Nums[%s]>>/ParentTreeNextKey %d>>", s.tree, parents.String(), len(s.pages))
	var kids strings.Builder
	for _, k := range s.kids {
		fmt.Fprintf(&kids, "%v ", k)
	}
	s.w.put(s.tree, "<</Type/StructElem/S/Document/P %v/K[%s]>>", root, kids.String())
	catalog := s.w.add("<</Type/Catalog/Pages %v/Lang(%s)/MarkInfo<</Marked true>>/StructTreeRoot %v/ViewerPreferences<</DisplayDocTitle true>>%s>>", all, s.d.Lang, root, s.attach())
	info := s.w.add("<</Title%s/Producer(Pasban)/CreationDate(%s)>>", textString(s.d.Title), s.date())
	return s.w.file(catalog, info), nil
}

// date is when the document was made, as PDF writes it (ISO 32000-1, section
// 7.9.4).
func (s *sheet) date() string { return s.d.Made.UTC().Format("D:20060102150405") + "Z" }

// attach adds the file (ISO 32000-1, section 7.11.4) and returns what the
// catalogue says of it.
func (s *sheet) attach() string {
	f := s.d.File
	if f.Name == "" {
		return ""
	}
	kind := strings.ReplaceAll(f.Type, "/", "#2F")
	data := s.w.stream(fmt.Sprintf("/Type/EmbeddedFile/Subtype/%s/Params<</Size %d/ModDate(%s)>>", kind, len(f.Data), s.date()), f.Data)
	spec := s.w.add("<</Type/Filespec/F%s/UF%[1]s/Desc%s/AFRelationship/Source/EF<</F %v/UF %[3]v>>>>", textString(f.Name), textString(f.About), data)
	return fmt.Sprintf("/AF[%v]/Names<</EmbeddedFiles<</Names[%s %[1]v]>>>>/PageMode/UseAttachments", spec, textString(f.Name))
}
