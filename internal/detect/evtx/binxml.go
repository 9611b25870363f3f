package evtx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// The tokens of BinXml, [MS-EVEN6] 2.2.12. With 0x40 more of the kind follows.
const (
	tokEOF        = 0x00
	tokElement    = 0x01
	tokCloseStart = 0x02
	tokCloseEmpty = 0x03
	tokEnd        = 0x04
	tokValue      = 0x05
	tokAttribute  = 0x06
	tokCDATA      = 0x07
	tokCharRef    = 0x08
	tokEntityRef  = 0x09
	tokPITarget   = 0x0a
	tokPIData     = 0x0b
	tokTemplate   = 0x0c
	tokNormalSub  = 0x0d
	tokOptionSub  = 0x0e
	tokFragment   = 0x0f
	tokMore       = 0x40
)

// maxDepth is how deep elements and fragments nest; real events reach 8.
const maxDepth = 64

var (
	errShort = errors.New("it ends within a value")
	errDepth = fmt.Errorf("it nests deeper than %d", maxDepth)
	errWork  = errors.New("it unfolds to more than a chunk can hold")
)

// name is an element's or attribute's name, escaped for JSON.
type name struct {
	text   string
	size   int  // bytes that it takes in the chunk
	hashed bool // its hash is right
}

// template is a definition's root elements, nil with an error if it is damaged.
type template struct {
	nodes []node
	err   error
}

// element is an XML element of a template or fragment. What substitutions put
// in is known only when it is rendered.
type element struct {
	name  string
	attrs []attr
	nodes []node
	// Of <Data> in EventData or UserData: its Name attribute's literal text,
	// escaped; dynamic if the name is substituted.
	dataName  string
	dynamic   *attr
	container bool // EventData or UserData: its <Data> are told by their names
	named     bool // one of its <Data> has a name
	children  bool // it has elements that do not depend on substitutions
}

type attr struct {
	name  string
	nodes []node
}

type nodeKind uint8

const (
	textNode     nodeKind = iota // literal text, escaped for JSON
	subNode                      // a value of the template's instance
	elementNode                  // an element
	fragmentNode                 // a template instance in the middle of content
)

type node struct {
	kind  nodeKind
	index uint16 // of a subNode
	text  string
	elem  *element
	at    int // of a fragmentNode, in the chunk
	end   int
}

// parser reads BinXml between two places of a chunk into nodes.
type parser struct {
	c        *chunk
	work     *int
	pos, end int
	depth    int
	bare     bool // elements have no dependency identifier: [MS-EVEN6] 2.2.12, substituted BinXml
}

func (p *parser) spend(n int) error {
	if *p.work -= n; *p.work < 0 {
		return errWork
	}
	return nil
}

func (p *parser) u8() (byte, error) {
	if p.pos >= p.end {
		return 0, errShort
	}
	p.pos++
	return p.c.data[p.pos-1], nil
}

func (p *parser) u16() (uint16, error) {
	if p.end-p.pos < 2 {
		return 0, errShort
	}
	p.pos += 2
	return binary.LittleEndian.Uint16(p.c.data[p.pos-2:]), nil
}

func (p *parser) u32() (uint32, error) {
	if p.end-p.pos < 4 {
		return 0, errShort
	}
	p.pos += 4
	return binary.LittleEndian.Uint32(p.c.data[p.pos-4:]), nil
}

func (p *parser) skip(n int) error {
	if n < 0 || p.end-p.pos < n {
		return errShort
	}
	p.pos += n
	return nil
}

// nameAt reads the name at an offset of the chunk: the offset of the next name
// with the same hash, the hash, the number of characters, and UTF-16 with a NUL.
func (c *chunk) nameAt(off uint32) (name, error) {
	if n, ok := c.names[off]; ok {
		return n, nil
	}
	if uint64(off)+10 > uint64(len(c.data)) {
		return name{}, fmt.Errorf("a name lies at byte %d, outside the chunk", off)
	}
	d := c.data[off:]
	chars := int(binary.LittleEndian.Uint16(d[6:]))
	size := 8 + 2*chars + 2
	if size > len(d) || chars == 0 || chars > 1024 {
		return name{}, fmt.Errorf("the name at byte %d is %d characters long", off, chars)
	}
	text := d[8 : 8+2*chars]
	n := name{c.text(text), size, hash(text) == binary.LittleEndian.Uint16(d[4:])}
	c.names[off] = n
	return n, nil
}

// text is UTF-16 as it stands within a JSON string.
func (c *chunk) text(utf16 []byte) string {
	c.scratch = appendUTF16(c.scratch[:0], utf16)
	return string(c.scratch)
}

// shelf is where the many small lists of a template are put, one behind the
// other. What does not fit any more begins a new one: the old one lives as long
// as its lists.
type shelf[T any] struct {
	room  []T
	stack []T // lists that are being read, the innermost last
}

// shelfSize is how many things a shelf holds.
const shelfSize = 64

// put takes what is on the stack from there on and returns it as a list.
func (s *shelf[T]) put(from int) []T {
	list := s.stack[from:]
	if len(list) == 0 {
		return nil
	}
	if cap(s.room)-len(s.room) < len(list) {
		s.room = make([]T, 0, max(shelfSize, len(list)))
	}
	at := len(s.room)
	s.room = append(s.room, list...)
	clear(list)
	s.stack = s.stack[:from]
	return s.room[at:len(s.room):len(s.room)]
}

// reset forgets all lists, which nobody may use any more.
func (s *shelf[T]) reset() { s.room, s.stack = s.room[:0], s.stack[:0] }

// hash is the name hash of [MS-EVEN6] 2.2.12: the low 16 bits of a polynomial
// over the characters.
func hash(utf16 []byte) uint16 {
	var h uint32
	for i := 0; i+1 < len(utf16); i += 2 {
		h = h*65599 + uint32(binary.LittleEndian.Uint16(utf16[i:]))
	}
	return uint16(h)
}

// name reads an offset to a name, and steps over the name if it is stored here.
func (p *parser) name() (string, error) {
	off, err := p.u32()
	if err != nil {
		return "", err
	}
	n, err := p.c.nameAt(off)
	if err != nil {
		return "", err
	}
	if int(off) == p.pos {
		err = p.skip(n.size)
	}
	return n.text, err
}

// fragment reads elements and template instances up to the end-of-file token. It
// is where reading begins: nothing that is read leads to another fragment. So
// what stands on the shelves' stacks is of one that broke off.
func (p *parser) fragment() (nodes []node, err error) {
	if p.depth > maxDepth {
		return nil, errDepth
	}
	p.c.nodes.stack, p.c.attrs.stack = p.c.nodes.stack[:0], p.c.attrs.stack[:0]
	for p.pos < p.end {
		if err := p.spend(1); err != nil {
			return nil, err
		}
		switch tok := p.c.data[p.pos]; tok &^ tokMore {
		case tokEOF:
			p.pos++
			return p.c.nodes.put(0), nil
		case tokFragment:
			err = p.skip(4)
		default:
			err = p.markup()
		}
		if err != nil {
			return nil, err
		}
	}
	return p.c.nodes.put(0), nil
}

// markup reads what may stand in a fragment and in an element alike: an element,
// a template instance, or an instruction, which is passed over.
func (p *parser) markup() error {
	nodes := &p.c.nodes
	switch tok := p.c.data[p.pos]; tok &^ tokMore {
	case tokElement:
		e, err := p.element()
		nodes.stack = append(nodes.stack, node{kind: elementNode, elem: e})
		return err
	case tokTemplate:
		n := node{kind: fragmentNode, at: p.pos}
		_, _, err := p.instance()
		n.end = p.pos
		nodes.stack = append(nodes.stack, n)
		return err
	case tokPITarget, tokPIData:
		return p.instruction()
	default:
		return fmt.Errorf("unknown token %#x at byte %d of the chunk", tok, p.pos)
	}
}

// element reads an element with its attributes and content.
func (p *parser) element() (*element, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, errDepth
	}
	defer func() { p.depth-- }()
	tok := p.c.data[p.pos]
	p.pos++
	e := p.c.element()
	if err := p.start(e); err != nil {
		return nil, err
	}
	if tok&tokMore != 0 {
		if err := p.attributes(e); err != nil {
			return nil, err
		}
	}
	closing, err := p.u8()
	if err != nil {
		return nil, err
	}
	switch closing {
	case tokCloseEmpty:
	case tokCloseStart:
		if e.nodes, err = p.content(); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("token %#x where the start of <%s> should end", closing, e.name)
	}
	e.classify()
	return e, nil
}

// start reads what stands before an element's attributes. Writers do not agree
// on where the dependency identifier is left out; where the expected form does
// not lead to a name with a right hash, the other one does.
func (p *parser) start(e *element) error {
	bare := p.bare
	if !p.named(bare) && p.named(!bare) {
		bare = !bare
	}
	width := 6 // dependency identifier, data size
	if bare {
		width = 4
	}
	if err := p.skip(width); err != nil {
		return err
	}
	var err error
	e.name, err = p.name()
	return err
}

// named reports whether an element's start of the given form leads to a name.
func (p *parser) named(bare bool) bool {
	at := p.pos + 6
	if bare {
		at = p.pos + 4
	}
	if p.end-at < 4 {
		return false
	}
	n, err := p.c.nameAt(binary.LittleEndian.Uint32(p.c.data[at:]))
	return err == nil && n.hashed
}

func (p *parser) attributes(e *element) error {
	if err := p.skip(4); err != nil { // the list's size
		return err
	}
	nodes, attrs := &p.c.nodes, &p.c.attrs
	from := len(attrs.stack)
	for {
		tok, err := p.u8()
		if err != nil {
			return err
		}
		if tok&^tokMore != tokAttribute {
			return fmt.Errorf("token %#x in the attributes of <%s>", tok, e.name)
		}
		var a attr
		if a.name, err = p.name(); err != nil {
			return err
		}
		content := len(nodes.stack)
		for p.pos < p.end {
			n, ok, err := p.text()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			nodes.stack = append(nodes.stack, n)
		}
		a.nodes = nodes.put(content)
		attrs.stack = append(attrs.stack, a)
		if tok&tokMore == 0 {
			e.attrs = attrs.put(from)
			return nil
		}
	}
}

// content reads up to an element's end.
func (p *parser) content() (nodes []node, err error) {
	list := &p.c.nodes
	from := len(list.stack)
	for {
		if p.pos >= p.end {
			return nil, errShort
		}
		n, ok, err := p.text()
		if err != nil {
			return nil, err
		}
		if ok {
			list.stack = append(list.stack, n)
			continue
		}
		if p.c.data[p.pos]&^tokMore == tokEnd {
			p.pos++
			return list.put(from), nil
		}
		if err := p.markup(); err != nil {
			return nil, err
		}
	}
}

// text reads text or a substitution; ok is false, and nothing read, if
// something else comes.
func (p *parser) text() (n node, ok bool, err error) {
	if err := p.spend(1); err != nil {
		return n, false, err
	}
	tok := p.c.data[p.pos]
	switch tok &^ tokMore {
	case tokValue:
		p.pos++
		var typ byte
		if typ, err = p.u8(); err == nil && typ != typeString {
			err = fmt.Errorf("literal text of type %#x", typ)
		}
		if err == nil {
			n.text, err = p.literal()
		}
	case tokCDATA:
		p.pos++
		n.text, err = p.literal()
	case tokCharRef:
		p.pos++
		var c uint16
		c, err = p.u16()
		n.text = string(appendRune(nil, rune(c)))
	case tokEntityRef:
		p.pos++
		var ref string
		if ref, err = p.name(); err == nil {
			n.text = entity(ref)
		}
	case tokNormalSub, tokOptionSub:
		p.pos++
		n.kind = subNode
		if n.index, err = p.u16(); err == nil {
			err = p.skip(1) // the declared type; the value's own says more
		}
	default:
		return n, false, nil
	}
	return n, err == nil, err
}

// literal reads a string with the number of its characters before it.
func (p *parser) literal() (string, error) {
	chars, err := p.u16()
	if err != nil {
		return "", err
	}
	at := p.pos
	if err := p.skip(2 * int(chars)); err != nil {
		return "", err
	}
	if err := p.spend(int(chars)); err != nil {
		return "", err
	}
	return p.c.text(p.c.data[at:p.pos]), nil
}

// instruction steps over a processing instruction, which has no place in JSON.
func (p *parser) instruction() error {
	tok, err := p.u8()
	if err != nil {
		return err
	}
	if tok == tokPITarget {
		_, err = p.name()
	} else {
		_, err = p.literal()
	}
	return err
}

// entity returns what a predefined entity of XML stands for, escaped for JSON.
func entity(ref string) string {
	switch ref {
	case "lt":
		return "<"
	case "gt":
		return ">"
	case "amp":
		return "&"
	case "quot":
		return `\"`
	case "apos":
		return "'"
	}
	return "&" + ref + ";"
}

// value is one value of a template's instance.
type value struct {
	typ     byte
	at, end int // in the chunk
}

// instance reads a template instance: where its definition is, and where the
// number of its values stands. It steps over the values.
func (p *parser) instance() (definition uint32, values int, err error) {
	if err := p.skip(1 + 1 + 4); err != nil { // token, unknown, the template's identifier
		return 0, 0, err
	}
	if definition, err = p.u32(); err != nil {
		return 0, 0, err
	}
	if int(definition) == p.pos { // it is stored here
		if err := p.skip(4 + 16); err != nil {
			return 0, 0, err
		}
		size, err := p.u32()
		if err != nil || size > chunkSize {
			return 0, 0, errShort
		}
		if err := p.skip(int(size)); err != nil {
			return 0, 0, err
		}
	}
	values = p.pos
	count, err := p.u32()
	if err != nil {
		return 0, 0, err
	}
	if count > chunkSize/4 || p.end-p.pos < 4*int(count) {
		return 0, 0, fmt.Errorf("a template instance of %d values does not fit", count)
	}
	total := 4 * int(count)
	for i := range int(count) {
		total += int(binary.LittleEndian.Uint16(p.c.data[p.pos+4*i:]))
	}
	if err := p.spend(int(count)); err != nil {
		return 0, 0, err
	}
	return definition, values, p.skip(total)
}

// template returns the definition at an offset of the chunk, read once.
func (c *chunk) template(off uint32, work *int) *template {
	if t, ok := c.templates[off]; ok {
		return t
	}
	t := &template{}
	c.templates[off] = t // before it is read: one that refers to itself finds it empty
	if uint64(off)+24 > uint64(len(c.data)) {
		t.err = fmt.Errorf("a template lies at byte %d, outside the chunk", off)
		return t
	}
	size := binary.LittleEndian.Uint32(c.data[off+20:])
	begin := int(off) + 24
	if uint64(size) > uint64(len(c.data)-begin) {
		t.err = fmt.Errorf("the template at byte %d is %d bytes long", off, size)
		return t
	}
	p := &parser{c: c, work: work, pos: begin, end: begin + int(size)}
	if t.nodes, t.err = p.fragment(); t.err != nil {
		t.err = fmt.Errorf("the template at byte %d: %w", off, t.err)
	}
	return t
}

// classify finds out once what rendering asks of an element each time.
func (e *element) classify() {
	e.container = e.name == "EventData" || e.name == "UserData"
	for i := range e.nodes {
		child := e.nodes[i].elem
		if e.nodes[i].kind != elementNode {
			continue
		}
		e.children = true
		if e.container && child.name == "Data" && child.findName() {
			e.named = true
		}
	}
}

// findName looks for the Name of a <Data>.
func (e *element) findName() bool {
	for i := range e.attrs {
		a := &e.attrs[i]
		if a.name != "Name" {
			continue
		}
		e.dataName = ""
		for _, n := range a.nodes {
			if n.kind != textNode {
				e.dynamic = a
				return true
			}
			e.dataName += n.text
		}
		return e.dataName != ""
	}
	return false
}

// appendRune appends a character as it stands within a JSON string.
func appendRune(out []byte, r rune) []byte {
	if r < utf8.RuneSelf {
		return appendASCII(out, byte(r))
	}
	return utf8.AppendRune(out, r)
}
