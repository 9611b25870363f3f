package detect

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"unicode"
	"unicode/utf8"

	"pasban"
)

// record is one event as rules see it: for each field that some rule names,
// the values found there.
//
// A field's name is the keys on the way to it joined by dots, so {"a":{"b":1}}
// and {"a.b":1} both have the field a.b. Lists add nothing to the name: a field
// has the values of all their elements, and of all the places of that name. An
// object is a value without text.
//
// A record is used again and again by one goroutine: what its methods return
// holds until the next read.
type record struct {
	names  *vocabulary
	shapes shapes
	raw    []byte       // the event's JSON, or
	event  pasban.Event // the event

	values  []value // [0] is not used: 0 means none
	first   []int32 // by field: its first value
	last    []int32
	touched []int32 // the fields that have any
	path    []byte
	buf     []byte // where decoded and folded texts stand
	runes   []rune // of the text that a pattern with wildcards looks at

	all      []int32 // every value with text, wherever it stands
	haveAll  bool
	odd      bool // raw says some characters by their numbers
	unnested bool // raw is being read for all
}

type valueKind uint8

const (
	nullValue   valueKind = iota
	objectValue           // there, but without text
	emptyList             // there, but without a value
	textValue             // text as it is
	rawValue              // text between a JSON string's quotes
)

// value is one value of a field. Its text is decoded, folded and read as a
// number when first asked for.
type value struct {
	next    int32
	kind    valueKind
	wide    bool // beyond ASCII
	escaped bool
	numeric int8 // 1 a number, -1 none, 0 not asked yet
	number  float64
	text    []byte
	lower   []byte
}

// maxKept is the largest buffer that a record keeps between events.
const maxKept = 1 << 20

func newRecord(names *vocabulary) *record {
	return &record{names: names, shapes: newShapes(), first: make([]int32, names.len()), last: make([]int32, names.len()), values: make([]value, 1, 64)}
}

// reset forgets the event.
func (r *record) reset() {
	for _, f := range r.touched {
		r.first[f] = 0
	}
	r.touched, r.values, r.all = r.touched[:0], r.values[:1], r.all[:0]
	r.raw, r.event, r.haveAll = nil, nil, false
	if r.buf = r.buf[:0]; cap(r.buf) > maxKept {
		r.buf = nil
	}
	if cap(r.runes) > maxKept {
		r.runes = nil
	}
	if cap(r.values) > maxKept/64 {
		r.values = make([]value, 1, 64)
	}
}

// add notes a value of a field, or any value with text while all are read.
func (r *record) add(field int32, v value) {
	if r.unnested {
		if v.kind >= textValue {
			r.all = append(r.all, int32(len(r.values)))
			r.values = append(r.values, v)
		}
		return
	}
	at := int32(len(r.values))
	r.values = append(r.values, v)
	if r.first[field] == 0 {
		r.first[field] = at
		r.touched = append(r.touched, field)
	} else {
		r.values[r.last[field]].next = at
	}
	r.last[field] = at
}

// text is a value's text, valid UTF-8. Only values with text have one.
func (r *record) text(at int32) []byte {
	v := &r.values[at]
	if v.kind == rawValue {
		v.kind = textValue
		if v.escaped || v.wide && !utf8.Valid(v.text) {
			start := len(r.buf)
			r.buf = unescape(r.buf, v.text)
			v.text = r.buf[start:len(r.buf):len(r.buf)]
		}
	}
	return v.text
}

// lower is a value's text in lower case, rune by rune as unicode.ToLower has it.
func (r *record) lower(at int32) []byte {
	v := &r.values[at]
	if v.lower == nil {
		text := r.text(at)
		start := len(r.buf)
		if v.wide {
			for _, c := range string(text) {
				r.buf = utf8.AppendRune(r.buf, unicode.ToLower(c))
			}
		} else {
			r.buf = appendLower(r.buf, text)
		}
		v.lower = r.buf[start:len(r.buf):len(r.buf)]
	}
	return v.lower
}

// appendLower appends ASCII text in lower case, eight bytes at a time.
func appendLower(out, text []byte) []byte {
	start := len(out)
	out = append(out, text...)
	low := out[start:]
	for len(low) >= 8 {
		w := binary.LittleEndian.Uint64(low)
		// The high bit of each byte: at least 'A', and not more than 'Z'.
		upper := (w + ones*(0x80-'A')) &^ (w + ones*(0x80-'Z'-1)) & highs
		binary.LittleEndian.PutUint64(low, w|upper>>2)
		low = low[8:]
	}
	for i, c := range low {
		if c-'A' < 26 {
			low[i] = c | 0x20
		}
	}
	return out
}

// number is a value's text read as a number.
func (r *record) number(at int32) (float64, bool) {
	v := &r.values[at]
	if v.numeric == 0 {
		v.numeric = -1
		if f, ok := parseNumber(r.text(at)); ok {
			v.number, v.numeric = f, 1
		}
	}
	return v.number, v.numeric > 0
}

// readJSON reads one event from its JSON, which must be one object.
func (r *record) readJSON(raw []byte) error {
	r.reset()
	if len(raw) > MaxEvent {
		return fmt.Errorf("the event has %d bytes, at most %d are read", len(raw), MaxEvent)
	}
	r.raw = raw
	return r.walk()
}

func (r *record) walk() error {
	c := cursor{b: r.raw}
	if c.next() != '{' {
		return c.fail("an event is a JSON object")
	}
	var err error
	if r.unnested {
		err = r.object(&c, 0, 0)
	} else {
		err = r.members(&c)
	}
	if err != nil {
		return err
	}
	if c.next(); c.i < len(c.b) {
		return c.fail("something follows the event")
	}
	r.odd = c.odd || c.wide && hasOddLetters(r.raw)
	return nil
}

// hasOddLetters looks for the letters beyond ASCII that ignoring case turns
// into letters of ASCII: dotted I, long s and the Kelvin sign.
func hasOddLetters(b []byte) bool {
	return slices.ContainsFunc([]string{"\u0130", "\u017f", "\u212a"}, func(s string) bool { return bytes.Contains(b, []byte(s)) })
}

// object reads an object whose path has the given length.
func (r *record) object(c *cursor, prefix, depth int) error {
	more, err := c.begin(depth)
	for more && err == nil {
		key, bad := c.key()
		if bad != nil {
			return bad
		}
		if err = r.member(c, key, prefix, depth+1); err == nil {
			more, err = c.more('{')
		}
	}
	return err
}

// member reads the value of a key in an object whose path has the given length.
func (r *record) member(c *cursor, key span, prefix, depth int) error {
	if r.unnested {
		return r.value(c, 0, 0, depth)
	}
	path := key.text
	nested := prefix > 0 || key.escaped || key.wide
	if nested {
		path = r.follow(key, prefix)
	}
	field, inner := r.names.find(path)
	if inner && !nested {
		r.follow(key, prefix)
	}
	return r.known(c, field, inner, depth)
}

// known reads the value of a key that has been looked up. Where fields within it
// are named, the path is the key's.
func (r *record) known(c *cursor, field int32, inner bool, depth int) error {
	switch {
	case inner:
		return r.value(c, field, len(r.path), depth)
	case field < 0:
		return c.skip(depth)
	}
	return r.value(c, field, -1, depth)
}

// follow makes the path longer by a key.
func (r *record) follow(key span, prefix int) []byte {
	r.path = r.path[:prefix]
	if prefix > 0 {
		r.path = append(r.path, '.')
	}
	r.path = unescape(r.path, key.text)
	return r.path
}

// value reads a value of a field (-1 if no rule names it). Of objects within,
// whose path has the given length, it reads on unless prefix is -1.
func (r *record) value(c *cursor, field int32, prefix, depth int) error {
	v := value{kind: objectValue}
	switch b := c.next(); b {
	case '"':
		s, err := c.str()
		if err != nil {
			return err
		}
		v = value{kind: rawValue, text: s.text, escaped: s.escaped, wide: s.wide}
	case '{':
		var err error
		if prefix < 0 {
			err = c.skip(depth)
		} else {
			err = r.object(c, prefix, depth)
		}
		if err != nil {
			return err
		}
	case '[':
		more, err := c.begin(depth)
		if empty := !more; err != nil || !empty {
			return r.elements(c, field, prefix, depth, err)
		}
		v.kind = emptyList
	default:
		text, err := c.scalar(b)
		if err != nil {
			return err
		}
		v = value{kind: textValue, text: text}
		if b == 'n' {
			v.kind = nullValue
		}
	}
	if field >= 0 {
		r.add(field, v)
	}
	return nil
}

// elements reads the values of a list that has been entered: they are the field's.
func (r *record) elements(c *cursor, field int32, prefix, depth int, err error) error {
	for more := true; more && err == nil; {
		if prefix >= 0 {
			r.path = r.path[:prefix]
		}
		if err = r.value(c, field, prefix, depth+1); err == nil {
			more, err = c.more('[')
		}
	}
	return err
}

// texts returns every value of the event that has text, whatever its field.
func (r *record) texts() []int32 {
	if r.haveAll {
		return r.all
	}
	r.haveAll, r.unnested = true, true
	if r.raw != nil {
		_ = r.walk() // it was read without an error before
	} else {
		r.readObject(r.event, 0)
	}
	r.unnested = false
	return r.all
}

// readEvent reads an event that is there as a map.
func (r *record) readEvent(ev pasban.Event) {
	r.reset()
	r.event = ev
	r.readObject(ev, 0)
}

func (r *record) readObject(m map[string]any, prefix int) {
	for key, v := range m {
		r.path = r.path[:prefix]
		if prefix > 0 {
			r.path = append(r.path, '.')
		}
		r.path = append(r.path, key...)
		field, inner := r.names.find(r.path)
		if field < 0 && !inner && !r.unnested {
			continue
		}
		r.readAny(v, field, len(r.path))
	}
}

func (r *record) readAny(v any, field int32, prefix int) {
	kind := objectValue
	switch x := v.(type) {
	case map[string]any:
		r.path = r.path[:prefix]
		r.readObject(x, prefix)
	case []any:
		for _, e := range x {
			r.readAny(e, field, prefix)
		}
		if len(x) > 0 {
			return
		}
		kind = emptyList
	case []string:
		for _, e := range x {
			r.addText(field, e)
		}
		if len(x) > 0 {
			return
		}
		kind = emptyList
	case nil:
		kind = nullValue
	default:
		if text, ok := asText(v); ok {
			r.addText(field, text)
			return
		}
	}
	if field >= 0 {
		r.add(field, value{kind: kind})
	}
}

func (r *record) addText(field int32, text string) {
	if field < 0 && !r.unnested {
		return
	}
	start := len(r.buf)
	r.buf = append(r.buf, text...)
	v := value{kind: rawValue, text: r.buf[start:len(r.buf):len(r.buf)]}
	v.wide = beyondASCII(v.text)
	if v.wide && !utf8.Valid(v.text) {
		v.text = bytes.ToValidUTF8(v.text, []byte("\uFFFD"))
	}
	r.add(field, v)
}

// beyondASCII reports whether a text has bytes beyond ASCII, eight at a time.
func beyondASCII(text []byte) bool {
	for ; len(text) >= 8; text = text[8:] {
		if binary.LittleEndian.Uint64(text)&highs != 0 {
			return true
		}
	}
	for _, c := range text {
		if c >= utf8.RuneSelf {
			return true
		}
	}
	return false
}

// vocabulary numbers the fields that rules name, and finds them by the bytes of
// their names. It is a hash table of its own because a lookup for every key of
// every event is a good part of what an event costs.
type vocabulary struct {
	names []string
	ids   map[string]int32
	inner map[string]bool // what a field's name begins with, up to a dot
	slots []slot          // a power of two of them, at most half full
}

type slot struct {
	hash  uint32
	field int32 // -1 for none
	inner bool
	name  string
}

func newVocabulary() *vocabulary {
	return &vocabulary{ids: map[string]int32{}, inner: map[string]bool{}}
}

func (v *vocabulary) len() int { return len(v.names) }

// id numbers a field.
func (v *vocabulary) id(name string) int32 {
	id, ok := v.ids[name]
	if !ok {
		id = int32(len(v.names))
		v.ids[name] = id
		v.names = append(v.names, name)
		for i := range len(name) {
			if name[i] == '.' && i > 0 {
				v.inner[name[:i]] = true
			}
		}
	}
	return id
}

// seal builds the table. After it no field may be numbered.
func (v *vocabulary) seal() {
	n := 1 << bits.Len(uint(2*(len(v.ids)+len(v.inner))))
	v.slots = make([]slot, n)
	put := func(name string, field int32, inner bool) {
		h := hashOf([]byte(name))
		i := h & uint32(n-1)
		for v.slots[i].hash != 0 {
			i = (i + 1) & uint32(n-1)
		}
		v.slots[i] = slot{h, field, inner, name}
	}
	for name, id := range v.ids {
		put(name, id, v.inner[name])
	}
	for name := range v.inner {
		if _, ok := v.ids[name]; !ok {
			put(name, -1, true)
		}
	}
}

// find returns a field's number, -1 if no rule names it, and whether fields
// within it are named.
func (v *vocabulary) find(name []byte) (field int32, inner bool) {
	h := hashOf(name)
	mask := uint32(len(v.slots) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		s := &v.slots[i]
		if s.hash == h && s.name == string(name) {
			return s.field, s.inner
		}
		if s.hash == 0 {
			return -1, false
		}
	}
}

// hashOf mixes a name's length and its first and last eight bytes. It is never 0.
func hashOf(b []byte) uint32 {
	var x, y uint64
	switch n := len(b); {
	case n >= 8:
		x, y = binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[n-8:])
	case n >= 4:
		x, y = uint64(binary.LittleEndian.Uint32(b)), uint64(binary.LittleEndian.Uint32(b[n-4:]))
	case n > 0:
		x, y = uint64(b[0]), uint64(b[n/2])<<8|uint64(b[n-1])
	}
	hi, lo := bits.Mul64(x^0x9E3779B97F4A7C15^uint64(len(b)), y^0xD6E8FEB86659FD93)
	return uint32((hi^lo)>>16) | 1
}

// parseNumber reads a number as logs write it: decimal, or hexadecimal after 0x.
func parseNumber(b []byte) (float64, bool) {
	b = bytes.TrimSpace(b)
	if len(b) == 0 || len(b) > 64 {
		return 0, false
	}
	if len(b) < 16 { // most are short and whole
		n, whole := 0, true
		for _, c := range b {
			whole = whole && c-'0' <= 9
			n = n*10 + int(c-'0')
		}
		if whole {
			return float64(n), true
		}
	}
	if len(b) > 2 && b[0] == '0' && b[1]|0x20 == 'x' {
		u, err := strconv.ParseUint(string(b[2:]), 16, 64)
		return float64(u), err == nil
	}
	if c := b[0]; c != '-' && c != '+' && c != '.' && c-'0' > 9 {
		return 0, false // neither Inf nor NaN is a number here
	}
	f, err := strconv.ParseFloat(string(b), 64)
	return f, err == nil && f-f == 0
}
