package logs

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// lineReader gives lines without their end. A line over max is refused, and
// passed over without being held.
type lineReader struct {
	in     *bufio.Reader
	max    int
	refuse func(offset int64, why, text string)
	offset int64 // where the last line begins
	pos    int64 // where the next one does
	buf    []byte
}

// next returns the next line that is not blank.
func (r *lineReader) next() (string, error) {
	for {
		r.offset = r.pos
		r.buf = r.buf[:0]
		size := 0
		var err error
		for more := true; more; {
			var part []byte
			part, err = r.in.ReadSlice('\n')
			size += len(part)
			if size <= r.max {
				r.buf = append(r.buf, part...)
			}
			more = errors.Is(err, bufio.ErrBufferFull)
		}
		r.pos += int64(size)
		if size > r.max {
			r.refuse(r.offset, fmt.Sprintf("the line is %d bytes long, over the limit of %d", size, r.max), string(r.buf[:min(len(r.buf), sampleSize)]))
			r.buf = nil
		} else if line := strings.TrimRight(string(r.buf), "\r\n\x00"); strings.TrimSpace(line) != "" {
			return strings.TrimPrefix(line, "\ufeff"), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// objectReader cuts a stream of JSON into its outermost objects: one a line,
// over several lines, or in a list. After something broken it goes on with the
// next line that begins an object.
type objectReader struct {
	in     *bufio.Reader
	max    int
	refuse func(offset int64, why, text string)
	offset int64  // where the last object begins
	pos    int64  // of rest
	rest   []byte // read and not looked at yet
	begun  bool   // rest is the beginning of a line
	buf    []byte // the object, as far as it was read and rest does not hold it
	object []byte // the whole one
	over   bool   // it is larger than max and not held
	depth  int
	quoted bool
	escape bool
}

// next returns the next object's bytes, valid until the following call.
func (r *objectReader) next() ([]byte, error) {
	r.reset()
	for {
		if len(r.rest) == 0 {
			var err error
			begun := r.pos == 0 || r.begun
			r.rest, err = r.in.ReadSlice('\n')
			r.begun = begun
			if len(r.rest) == 0 && err != nil {
				if r.depth > 0 && errors.Is(err, io.EOF) {
					r.broken("the input ends within an object")
				}
				return nil, err
			}
		}
		if r.take() {
			return r.object, nil
		}
	}
}

func (r *objectReader) reset() {
	r.buf, r.over, r.depth, r.quoted, r.escape = r.buf[:0], false, 0, false, false
}

// use steps over bytes of rest.
func (r *objectReader) use(n int) {
	r.begun = n > 0 && r.rest[n-1] == '\n'
	r.pos += int64(n)
	r.rest = r.rest[n:]
}

// take uses up bytes of rest, to its end or to that of an object. It reports
// whether object is a whole one.
func (r *objectReader) take() bool {
	if r.depth > 0 && r.begun && r.rest[0] == '{' {
		r.broken("the object does not end before the next one begins")
	}
	if r.depth == 0 && !r.find() {
		return false
	}
	for i := 0; i < len(r.rest); i++ {
		if r.quoted {
			i += r.closing(r.rest[i:])
			continue
		}
		switch r.rest[i] {
		case '"':
			r.quoted = true
		case '{', '[':
			r.depth++
		case '}', ']':
			if r.depth--; r.depth == 0 {
				return r.whole(i + 1)
			}
		}
	}
	r.hold(len(r.rest))
	return false
}

// whole makes the first n bytes of rest the object's end. One that lies in rest from
// its beginning stays there.
func (r *objectReader) whole(n int) bool {
	if len(r.buf) == 0 && !r.over && n <= r.max {
		r.object = r.rest[:n]
		r.use(n)
		return true
	}
	r.hold(n)
	if r.over {
		r.broken(fmt.Sprintf("the object is over the limit of %d bytes", r.max))
		return false
	}
	r.object = r.buf
	return true
}

// closing finds the quote that ends the string in which b begins; it is len(b) if
// the string goes on.
func (r *objectReader) closing(b []byte) (at int) {
	for {
		if r.escape && at < len(b) {
			r.escape = false
			at++
		}
		n := bytes.IndexByte(b[at:], '"')
		text := b[at:]
		if n >= 0 {
			text = text[:n]
		}
		if len(text) > 0 {
			r.escape = (len(text)-len(bytes.TrimRight(text, `\`)))%2 == 1
		}
		at += len(text)
		switch {
		case n < 0:
			return at
		case !r.escape:
			r.quoted = false
			return at
		}
	}
}

// find steps over what may stand between objects, and refuses what may not.
func (r *objectReader) find() bool {
	for i, b := range r.rest {
		switch b {
		case '{':
			r.use(i)
			r.offset = r.pos
			return true
		case ' ', '\t', '\r', '\n', '[', ']', ',', 0x1e, 0, 0xef, 0xbb, 0xbf: // the last three are a byte order mark
		default:
			line := r.rest[i:]
			r.refuse(r.pos+int64(i), "no JSON object where one should begin", string(line[:min(len(line), sampleSize)]))
			if r.use(len(r.rest)); !r.begun { // a line longer than the buffer
				r.skipLine()
			}
			return false
		}
	}
	r.use(len(r.rest))
	return false
}

// skipLine steps over the rest of a line.
func (r *objectReader) skipLine() {
	for !r.begun {
		var err error
		if r.rest, err = r.in.ReadSlice('\n'); len(r.rest) > 0 {
			r.use(len(r.rest))
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return // the next read says it again
		}
	}
}

// hold keeps the first n bytes of rest as part of the object.
func (r *objectReader) hold(n int) {
	if len(r.buf)+n > r.max {
		r.over = true
	} else {
		r.buf = append(r.buf, r.rest[:n]...)
	}
	r.use(n)
}

// broken refuses the object that was begun.
func (r *objectReader) broken(why string) {
	r.refuse(r.offset, why, string(r.buf[:min(len(r.buf), sampleSize)]))
	r.reset()
}
