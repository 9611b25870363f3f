package paper

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/go-text/typesetting/font"
)

// A page is A4, in points of 1/72 inch.
const (
	pageWidth, pageHeight = 595.28, 841.89
	margin                = 56.0
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

// lines draws a text from the sheet's place on, which it moves down. from and
// width are the column's, measured from the left margin.
func (s *sheet) lines(e *element, st style, text string, from, width float64) {
	for _, l := range s.set(st, e.lang, text, width) {
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

func (h Heading) lay(s *sheet) error {
	st := style{size: 20, bold: true}
	if h.Level > 1 {
		st.size = 14
	}
	if s.y < pageHeight-margin {
		s.y -= st.size
	}
	s.room(5 * st.size) // not alone at the bottom
	e := s.begin(fmt.Sprintf("H%d", min(max(h.Level, 1), 2)), h.Lang, "")
	s.lines(e, st, h.Text, 0, measure)
	s.end(e)
	s.y -= 4
	return nil
}

func (t Text) lay(s *sheet) error {
	st := style{size: 11}
	if t.Small {
		st.size = 9
	}
	e := s.begin("P", t.Lang, "")
	s.lines(e, st, t.Text, 0, measure)
	s.end(e)
	s.y -= st.size / 2
	return nil
}

func (r Row) lay(s *sheet) error {
	label, text := style{size: 11, bold: true}, style{size: 11}
	from, to := 0.0, labelWidth
	if rtl(r.Lang) {
		from, to = measure-labelWidth, 0
	}
	var height float64
	for _, l := range s.set(label, r.Lang, r.Label, labelWidth-8) {
		height += l.height()
	}
	s.room(height)
	e := s.begin("P", r.Lang, "")
	top, page := s.y, len(s.pages)
	s.lines(e, label, r.Label, from+map[bool]float64{true: 8}[rtl(r.Lang)], labelWidth-8)
	beneath := s.y
	if page == len(s.pages) {
		s.y = top
	}
	s.lines(e, text, r.Text, to, measure-labelWidth)
	if page == len(s.pages) {
		s.y = min(s.y, beneath)
	}
	s.end(e)
	s.y -= 4
	return nil
}

// codeWidth is the side of a code with its margin: two stand side by side.
const codeWidth = measure / 2

func (c Codes) lay(s *sheet) error {
	small := style{size: 9}
	for i := 0; i < len(c.Codes); i += 2 {
		s.room(codeWidth + 30)
		top := s.y
		for k, code := range c.Codes[i:min(i+2, len(c.Codes))] {
			about := c.About[i+k]
			x := float64(k) * codeWidth
			if rtl(c.Lang) {
				x = codeWidth - x
			}
			e := s.begin("Figure", c.Lang, about)
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
			s.lines(e, small, about, x+edge, inner)
			s.end(e)
		}
		s.y -= small.size
	}
	return nil
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
