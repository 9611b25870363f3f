package paper

import (
	"bytes"
	"compress/zlib"
	"crypto/sha256"
	"fmt"
)

// ref is the number of an object in a file.
type ref int

// String is how other objects name it.
func (r ref) String() string { return fmt.Sprintf("%d 0 R", int(r)) }

// writer collects the objects of a PDF file (ISO 32000-1, section 7.5).
type writer struct {
	objects [][]byte // object 1 first
}

// reserve gives an object's number before the object is there.
func (w *writer) reserve() ref {
	w.objects = append(w.objects, nil)
	return ref(len(w.objects))
}

func (w *writer) put(at ref, format string, args ...any) {
	w.objects[at-1] = fmt.Appendf(nil, format, args...)
}

func (w *writer) add(format string, args ...any) ref {
	at := w.reserve()
	w.put(at, format, args...)
	return at
}

// stream adds a stream, deflated. entries are those of its dictionary besides.
func (w *writer) stream(entries string, data []byte) ref {
	var b bytes.Buffer
	z, _ := zlib.NewWriterLevel(&b, zlib.BestCompression) // the level is one
	z.Write(data)                                         // a buffer takes everything
	z.Close()
	return w.add("<<%s/Filter/FlateDecode/Length %d>>\nstream\n%s\nendstream", entries, b.Len(), b.Bytes())
}

// file is the whole file.
func (w *writer) file(root, info ref) []byte {
	var b bytes.Buffer
	b.WriteString("%PDF-1.7\n%\xe2\xe3\xcf\xd3\n") // the second line says that it is binary
	places := make([]int, len(w.objects))
	for i, object := range w.objects {
		places[i] = b.Len()
		fmt.Fprintf(&b, "%d 0 obj\n%s\nendobj\n", i+1, object)
	}
	id := sha256.Sum256(b.Bytes())
	table := b.Len()
	fmt.Fprintf(&b, "xref\n0 %d\n0000000000 65535 f \n", len(places)+1)
	for _, at := range places {
		fmt.Fprintf(&b, "%010d 00000 n \n", at)
	}
	fmt.Fprintf(&b, "trailer\n<</Size %d/Root %v/Info %v/ID[<%x><%[4]x>]>>\nstartxref\n%[5]d\n%%%%EOF\n", len(places)+1, root, info, id[:16], table)
	return b.Bytes()
}

// textString is a text as PDF writes it (ISO 32000-1, section 7.9.2.2).
func textString(s string) string { return "<FEFF" + utf16Hex(s) + ">" }
