package evtx_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"unicode/utf16"
)

// builder writes a chunk as Windows does: names and templates where they are
// first used, later by their offset.
type builder struct {
	b     []byte // from the chunk's beginning
	names map[string]uint32
	first uint64 // record identifier
	n     uint64 // records
}

func newBuilder(first uint64) *builder {
	return &builder{b: make([]byte, 512), names: map[string]uint32{}, first: first}
}

func wide(s string) (out []byte) {
	for _, u := range utf16.Encode([]rune(s)) {
		out = binary.LittleEndian.AppendUint16(out, u)
	}
	return out
}

func (w *builder) raw(b ...byte) { w.b = append(w.b, b...) }
func (w *builder) u16(v int)     { w.b = binary.LittleEndian.AppendUint16(w.b, uint16(v)) }
func (w *builder) u32(v int)     { w.b = binary.LittleEndian.AppendUint32(w.b, uint32(v)) }
func (w *builder) u64(v uint64)  { w.b = binary.LittleEndian.AppendUint64(w.b, v) }

// name writes a reference to a name, and the name if it is new.
func (w *builder) name(s string) {
	if off, ok := w.names[s]; ok {
		w.u32(int(off))
		return
	}
	off := len(w.b) + 4
	w.names[s] = uint32(off)
	w.u32(off)
	text := wide(s)
	var h uint32
	for i := 0; i < len(text); i += 2 {
		h = h*65599 + uint32(text[i]) + uint32(text[i+1])<<8
	}
	w.u32(0)
	w.u16(int(uint16(h)))
	w.u16(len(text) / 2)
	w.raw(text...)
	w.u16(0)
}

// elem writes an element: attrs are name, value pairs; a value is a string or
// a substitution; content writes what is inside, nil for an empty element.
func (w *builder) elem(name string, attrs []any, content func()) {
	tok := byte(0x01)
	if len(attrs) > 0 {
		tok |= 0x40
	}
	w.raw(tok)
	w.u16(0xffff)
	w.u32(0) // the size, which readers have no need of
	w.name(name)
	if len(attrs) > 0 {
		w.u32(0)
	}
	for i := 0; i < len(attrs); i += 2 {
		tok := byte(0x46)
		if i == len(attrs)-2 {
			tok = 0x06
		}
		w.raw(tok)
		w.name(attrs[i].(string))
		w.content(attrs[i+1])
	}
	if content == nil {
		w.raw(0x03)
		return
	}
	w.raw(0x02)
	content()
	w.raw(0x04)
}

// sub is a substitution; optional ones begin with 0x0e.
type sub struct {
	index int
	typ   byte
}

func (w *builder) content(v any) {
	switch v := v.(type) {
	case string:
		w.raw(0x05, 0x01)
		text := wide(v)
		w.u16(len(text) / 2)
		w.raw(text...)
	case sub:
		w.raw(0x0e)
		w.u16(v.index)
		w.raw(v.typ)
	}
}

// text is content of one literal or substitution.
func (w *builder) text(v any) func() { return func() { w.content(v) } }

// val is one value of a template instance.
type val struct {
	typ  byte
	data []byte
}

// instance writes a template instance. define writes the definition's root; nil
// refers to the definition at off. It returns where the definition is.
func (w *builder) instance(off int, define func(), values ...val) int {
	w.raw(0x0c, 0x01)
	w.u32(7)
	if define == nil {
		w.u32(off)
	} else {
		off = len(w.b) + 4
		w.u32(off)
		w.u32(0)
		w.raw(make([]byte, 16)...)
		at := len(w.b)
		w.u32(0)
		w.raw(0x0f, 1, 1, 0)
		define()
		w.raw(0x00)
		binary.LittleEndian.PutUint32(w.b[at:], uint32(len(w.b)-at-4))
	}
	w.u32(len(values))
	for _, v := range values {
		w.u16(len(v.data))
		w.raw(v.typ, 0)
	}
	for _, v := range values {
		w.raw(v.data...)
	}
	return off
}

// record writes one record around what body writes.
func (w *builder) record(written uint64, body func()) {
	at := len(w.b)
	w.raw('*', '*', 0, 0)
	w.u32(0)
	w.u64(w.first + w.n)
	w.n++
	w.u64(written)
	w.raw(0x0f, 1, 1, 0)
	body()
	w.raw(0x00)
	for len(w.b)%8 != 4 {
		w.raw(0)
	}
	size := len(w.b) + 4 - at
	w.u32(size)
	binary.LittleEndian.PutUint32(w.b[at+4:], uint32(size))
}

// chunk returns the chunk with its header.
func (w *builder) chunk() []byte {
	out := make([]byte, 64<<10)
	free := copy(out, w.b)
	copy(out, "ElfChnk\x00")
	le := binary.LittleEndian
	for i, v := range []uint64{1, w.n, w.first, w.first + w.n - 1} {
		le.PutUint64(out[8+8*i:], v)
	}
	le.PutUint32(out[40:], 128)
	le.PutUint32(out[48:], uint32(free))
	seal(out)
	return out
}

// seal writes a chunk's checksums.
func seal(chunk []byte) {
	le := binary.LittleEndian
	le.PutUint32(chunk[52:], crc32.ChecksumIEEE(chunk[512:le.Uint32(chunk[48:])]))
	le.PutUint32(chunk[124:], crc32.Update(crc32.ChecksumIEEE(chunk[:120]), crc32.IEEETable, chunk[128:512]))
}

// file puts a file header before chunks.
func file(chunks ...[]byte) []byte {
	head := make([]byte, 4096)
	copy(head, "ElfFile\x00")
	le := binary.LittleEndian
	le.PutUint64(head[16:], uint64(len(chunks)-1))
	le.PutUint32(head[32:], 128)
	le.PutUint16(head[36:], 1)
	le.PutUint16(head[38:], 3)
	le.PutUint16(head[40:], 4096)
	le.PutUint16(head[42:], uint16(len(chunks)))
	le.PutUint32(head[124:], crc32.ChecksumIEEE(head[:120]))
	return append(head, bytes.Join(chunks, nil)...)
}

// logon is a chunk of n sign-ins that share one template.
func logon(first uint64, n int) []byte {
	w := newBuilder(first)
	def := 0
	for i := range n {
		w.record(133_000_000_000_000_000, func() {
			define := func() {
				w.elem("Event", []any{"xmlns", "http://schemas.microsoft.com/win/2004/08/events/event"}, func() {
					w.elem("System", nil, func() {
						w.elem("EventID", []any{"Qualifiers", sub{5, 6}}, w.text(sub{0, 6}))
						w.elem("Channel", nil, w.text("Security"))
						w.elem("EventRecordID", nil, w.text(sub{1, 10}))
						w.elem("Correlation", []any{"ActivityID", sub{5, 15}}, nil)
					})
					w.elem("EventData", nil, func() {
						w.elem("Data", []any{"Name", "TargetUserName"}, w.text(sub{2, 1}))
						w.elem("Data", []any{"Name", "IpAddress"}, w.text(sub{3, 1}))
						w.elem("Data", []any{"Name", "LogonType"}, w.text(sub{4, 8}))
					})
				})
			}
			if def != 0 {
				define = nil
			}
			def = w.instance(def, define,
				val{6, []byte{0x10, 0x12}}, val{10, binary.LittleEndian.AppendUint64(nil, first+uint64(i))},
				val{1, wide("clerk \"7\"")}, val{1, wide("10.0.0.7")}, val{8, []byte{3, 0, 0, 0}}, val{0, nil})
		})
	}
	return w.chunk()
}
