package evtx

import (
	"encoding/binary"
	"errors"
)

// renderer writes one record after another as JSON. Its buffers are used again.
type renderer struct {
	out    []byte
	values []value   // of the template instances being written, innermost last
	seen   []counted // member names of the objects being written, innermost last
	work   int       // what the chunk may still cost
	depth  int
	c      *chunk
	err    error
}

// counted is a member's name and how often it is there.
type counted struct {
	name string
	n    int
}

// frame is the part of the values that belongs to one template instance.
type frame struct{ from, to int }

// event writes the BinXml between two places of a chunk as one JSON object.
func (r *renderer) event(c *chunk, at, end int) ([]byte, error) {
	r.c, r.err, r.depth = c, nil, 0
	r.out, r.values, r.seen = append(r.out[:0], '{'), r.values[:0], r.seen[:0]
	r.fragment(at, end, false)
	r.out = append(r.out, '}')
	if r.err == nil && len(r.out) == 2 {
		r.err = errors.New("it holds no element")
	}
	return r.out, r.err
}

// spend counts work; false means that there was too much.
func (r *renderer) spend(n int) bool {
	if r.work -= n; r.work < 0 && r.err == nil {
		r.err = errWork
	}
	return r.err == nil
}

// fragment writes the elements of a fragment as members of the object being
// written. A fragment is a template with its values, or plain elements.
func (r *renderer) fragment(at, end int, bare bool) {
	if r.depth++; r.depth > maxDepth && r.err == nil {
		r.err = errDepth
	}
	defer func() { r.depth-- }()
	p := &parser{c: r.c, work: &r.work, pos: at, end: end, bare: bare, depth: r.depth}
	for p.pos < p.end && r.spend(1) {
		switch tok := r.c.data[p.pos]; tok &^ tokMore {
		case tokFragment:
			r.fail(p.skip(4))
		case tokTemplate:
			r.template(p)
		case tokEOF:
			return
		default:
			nodes, err := p.fragment()
			if r.fail(err) {
				return
			}
			r.members(nodes, frame{})
			return
		}
	}
}

func (r *renderer) fail(err error) bool {
	if err != nil && r.err == nil {
		r.err = err
	}
	return r.err != nil
}

// template writes a template's root with the values of the instance that comes next.
func (r *renderer) template(p *parser) {
	definition, at, err := p.instance()
	if r.fail(err) {
		return
	}
	t := r.c.template(definition, &r.work)
	if r.fail(t.err) {
		return
	}
	from := len(r.values)
	count := int(binary.LittleEndian.Uint32(r.c.data[at:]))
	descriptors := at + 4
	begin := descriptors + 4*count
	for i := range count {
		d := r.c.data[descriptors+4*i:]
		size := int(binary.LittleEndian.Uint16(d))
		r.values = append(r.values, value{d[2], begin, begin + size})
		begin += size
	}
	r.members(t.nodes, frame{from, len(r.values)})
	r.values = r.values[:from]
}

func (r *renderer) value(f frame, index uint16) value {
	if i := f.from + int(index); i < f.to {
		return r.values[i]
	}
	return value{}
}

// members writes the elements among nodes, and those that their substitutions
// bring, as members of the object being written.
func (r *renderer) members(nodes []node, f frame) {
	for i := range nodes {
		if !r.spend(1) {
			return
		}
		switch n := &nodes[i]; n.kind {
		case elementNode:
			r.member(n.elem, f)
		case fragmentNode:
			r.fragment(n.at, n.end, false)
		case subNode:
			if v := r.value(f, n.index); v.typ == typeBinXML && v.end > v.at {
				r.fragment(v.at, v.end, true)
			}
		}
	}
}

// member writes one element, as often as an array of its content says.
func (r *renderer) member(e *element, f frame) {
	if sub, v, ok := r.array(e, f); ok {
		for item := range items(v.typ, r.c.data[v.at:v.end]) {
			if !r.spend(1) {
				return
			}
			saved := r.values[sub]
			r.values[sub] = value{v.typ &^ typeArray, v.at + item.at, v.at + item.end}
			r.key(e.name)
			r.element(e, f)
			r.values[sub] = saved
		}
		return
	}
	r.key(e.name)
	r.element(e, f)
}

// array finds the array that is an element's whole content. It returns where
// the value stands.
func (r *renderer) array(e *element, f frame) (at int, v value, ok bool) {
	if len(e.nodes) != 1 || e.nodes[0].kind != subNode {
		return 0, v, false
	}
	at = f.from + int(e.nodes[0].index)
	if at >= f.to {
		return 0, v, false
	}
	v = r.values[at]
	return at, v, v.typ&typeArray != 0 && v.end > v.at
}

// key writes a member's name, with a suffix if the object has it already.
func (r *renderer) key(name string) {
	base := r.object()
	for i := base; i < len(r.seen); i++ {
		if r.seen[i].name == name {
			n := r.seen[i].n
			r.seen[i].n++
			r.comma()
			r.out = append(append(r.out, '"'), name...)
			r.out = append(r.out, '_')
			r.out = append(appendValue(r.out, typeUInt32, []byte{byte(n), byte(n >> 8), byte(n >> 16), 0}), `":`...)
			return
		}
	}
	r.spend((len(r.seen) - base) / 8)
	r.seen = append(r.seen, counted{name, 1})
	r.comma()
	r.out = append(append(r.out, '"'), name...)
	r.out = append(r.out, `":`...)
}

// object returns where the names of the innermost object begin.
func (r *renderer) object() int {
	for i := len(r.seen); i > 0; i-- {
		if r.seen[i-1].n == 0 { // the mark that open sets
			return i
		}
	}
	return 0
}

func (r *renderer) comma() {
	if r.out[len(r.out)-1] != '{' {
		r.out = append(r.out, ',')
	}
}

// open begins an object.
func (r *renderer) open() {
	r.out = append(r.out, '{')
	r.seen = append(r.seen, counted{})
}

// shut ends the innermost object.
func (r *renderer) shut() {
	r.out = append(r.out, '}')
	r.seen = r.seen[:r.object()-1]
}

// element writes an element's value.
func (r *renderer) element(e *element, f frame) {
	if r.depth++; r.depth > maxDepth && r.err == nil {
		r.err = errDepth
	}
	defer func() { r.depth-- }()
	if r.err != nil {
		return
	}
	nested := r.nested(e, f)
	if len(e.attrs) == 0 && !nested {
		r.scalar(e.nodes, f, "null")
		return
	}
	start := len(r.out)
	r.open()
	attributes := r.attributes(e, f)
	switch {
	case nested:
		r.text(e, f)
		if e.container {
			r.data(e, f)
		} else {
			r.members(e.nodes, f)
		}
	case attributes:
		r.text(e, f)
	default: // nothing but a value after all
		r.shut()
		r.out = r.out[:start]
		r.scalar(e.nodes, f, "null")
		return
	}
	r.shut()
	r.spend(len(r.out) - start)
}

// nested reports whether an element has elements.
func (r *renderer) nested(e *element, f frame) bool {
	if e.children {
		return true
	}
	for i := range e.nodes {
		switch n := &e.nodes[i]; n.kind {
		case fragmentNode:
			return true
		case subNode:
			if v := r.value(f, n.index); v.typ == typeBinXML && v.end > v.at {
				return true
			}
		}
	}
	return false
}

// attributes writes those attributes that have a value. It reports whether any has.
func (r *renderer) attributes(e *element, f frame) bool {
	start := len(r.out)
	any := false
	for i := range e.attrs {
		a := &e.attrs[i]
		mark := len(r.out)
		if any {
			r.out = append(r.out, ',')
		} else {
			r.out = append(r.out, `"#attributes":{`...)
		}
		r.out = append(append(r.out, '"'), a.name...)
		r.out = append(r.out, `":`...)
		if r.scalar(a.nodes, f, "") {
			any = true
		} else {
			r.out = r.out[:mark]
		}
	}
	if any {
		r.out = append(r.out, '}')
	} else {
		r.out = r.out[:start]
	}
	return any
}

// text writes the text beside attributes or elements, if there is any.
func (r *renderer) text(e *element, f frame) {
	start := len(r.out)
	r.comma()
	r.out = append(r.out, `"#text":`...)
	if !r.scalar(e.nodes, f, "") {
		r.out = r.out[:start]
	}
}

// scalar writes the text of nodes as one JSON value, or what is given for empty
// content. It reports whether there was any. A single number or boolean stands
// bare, everything else is a string.
func (r *renderer) scalar(nodes []node, f frame, empty string) bool {
	if len(nodes) == 1 && nodes[0].kind == subNode {
		v := r.value(f, nodes[0].index)
		switch {
		case v.end == v.at && v.typ != typeString && v.typ != typeAnsi || v.typ == typeNull || v.typ == typeBinXML:
			r.out = append(r.out, empty...)
			return false
		case bareType(v.typ):
			r.out = appendValue(r.out, v.typ, r.c.data[v.at:v.end])
			return r.spend(1)
		}
	}
	start := len(r.out)
	r.out = append(r.out, '"')
	has := false
	for i := range nodes {
		switch n := &nodes[i]; n.kind {
		case textNode:
			r.out = append(r.out, n.text...)
		case subNode:
			v := r.value(f, n.index)
			has = has || v.typ == typeString || v.typ == typeAnsi
			r.substitute(v)
		}
	}
	if len(r.out) == start+1 && (!has || empty == "") {
		r.out = append(r.out[:start], empty...)
		return false
	}
	r.out = append(r.out, '"')
	return r.spend(len(r.out) - start)
}

// substitute writes a value as text; an array with commas.
func (r *renderer) substitute(v value) {
	d := r.c.data[v.at:v.end]
	switch {
	case v.typ == typeBinXML:
	case v.typ&typeArray == 0:
		r.out = appendValue(r.out, v.typ, d)
	default:
		first := true
		for item := range items(v.typ, d) {
			if !first {
				r.out = append(r.out, ',')
			}
			first = false
			r.out = appendValue(r.out, v.typ&^typeArray, d[item.at:item.end])
		}
	}
}

// data writes what EventData and UserData hold: each <Data> under its own name,
// or all that have none together.
func (r *renderer) data(e *element, f frame) {
	unnamed := 0
	for i := range e.nodes {
		if n := &e.nodes[i]; n.kind == elementNode && n.elem.name == "Data" {
			if e.named && r.named(n.elem, f) {
				continue
			}
			unnamed++
			continue
		}
		r.members(e.nodes[i:i+1], f)
	}
	if unnamed == 0 {
		return
	}
	r.key("Data")
	r.out = append(r.out, `{"#text":`...)
	list := len(r.out)
	r.out = append(r.out, '[')
	written := 0
	for i := range e.nodes {
		n := &e.nodes[i]
		if n.kind != elementNode || n.elem.name != "Data" || e.named && r.name(n.elem, f) != "" || !r.spend(1) {
			continue
		}
		written += r.datum(n.elem, f, written > 0)
	}
	if written == 1 { // one value stands for itself
		copy(r.out[list:], r.out[list+1:])
		r.out = append(r.out[:len(r.out)-1], '}')
		return
	}
	r.out = append(r.out, `]}`...)
}

// name is the Name of a <Data>, escaped, "" if it has none.
func (r *renderer) name(e *element, f frame) string {
	if e.dynamic == nil {
		return e.dataName
	}
	start := len(r.out)
	defer func() { r.out = r.out[:start] }()
	for _, n := range e.dynamic.nodes {
		if n.kind == textNode {
			r.out = append(r.out, n.text...)
		} else {
			r.substitute(r.value(f, n.index))
		}
	}
	r.spend(len(r.out) - start)
	return string(r.out[start:])
}

// named writes a <Data> under its name. It reports whether it has one.
func (r *renderer) named(e *element, f frame) bool {
	name := r.name(e, f)
	if name == "" || !r.spend(1) {
		return false
	}
	r.key(name)
	start := len(r.out)
	r.out = append(r.out, '[')
	if r.datum(e, f, false) == 1 {
		copy(r.out[start:], r.out[start+1:])
		r.out = r.out[:len(r.out)-1]
	} else {
		r.out = append(r.out, ']')
	}
	return true
}

// datum writes the values of a <Data>, more than one if it is an array, with
// commas between them and, if comma, before. It returns how many. Empty ones
// are empty strings: that a value is empty is not the same as its not being there.
func (r *renderer) datum(e *element, f frame, comma bool) (n int) {
	separate := func() {
		if comma {
			r.out = append(r.out, ',')
		}
		comma = true
		n++
	}
	if sub, v, ok := r.array(e, f); ok {
		saved := r.values[sub]
		for item := range items(v.typ, r.c.data[v.at:v.end]) {
			separate()
			r.values[sub] = value{v.typ &^ typeArray, v.at + item.at, v.at + item.end}
			r.scalar(e.nodes, f, `""`)
		}
		r.values[sub] = saved
		return n
	}
	separate()
	if !r.nested(e, f) {
		r.scalar(e.nodes, f, `""`)
		return n
	}
	r.open()
	r.text(e, f)
	r.members(e.nodes, f)
	r.shut()
	return n
}

// span is a part of an array's bytes.
type span struct{ at, end int }

// items yields where the items of an array are. Strings end with a NUL.
func items(typ byte, d []byte) func(yield func(span) bool) {
	return func(yield func(span) bool) {
		typ &^= typeArray
		width := widthOf(typ)
		for at := 0; at < len(d); {
			end := at + width
			next := end
			switch {
			case typ == typeString:
				for end = at; end+1 < len(d) && (d[end] != 0 || d[end+1] != 0); end += 2 {
				}
				next = end + 2
			case typ == typeAnsi:
				for end = at; end < len(d) && d[end] != 0; end++ {
				}
				next = end + 1
			case typ == typeSID && at+8 <= len(d):
				end = at + 8 + 4*int(d[at+1])
				next = end
			case width == 0: // of no known width: one item
				end, next = len(d), len(d)
			}
			if !yield(span{at, min(end, len(d))}) {
				return
			}
			at = next
		}
	}
}
