package detect

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// The limits of one event. An event beyond them is refused with an error, never
// read in part: a rule might look for what was left out.
const (
	// MaxEvent is the most bytes that one event's JSON may have.
	MaxEvent = 16 << 20
	// maxNesting is how deep objects and lists may nest.
	maxNesting = 64
)

// jsonError says where an event is not JSON.
type jsonError struct {
	at   int
	what string
}

func (e *jsonError) Error() string { return fmt.Sprintf("byte %d: %s", e.at, e.what) }

// cursor walks one JSON text (RFC 8259) without building anything. It accepts
// what encoding/json accepts.
type cursor struct {
	b    []byte
	i    int
	odd  bool // some characters are written by their numbers
	wide bool // there are bytes beyond ASCII
}

func (c *cursor) fail(what string) error { return &jsonError{c.i, what} }

// next skips space and returns the byte there without taking it, 0 at the end.
func (c *cursor) next() byte {
	if c.i < len(c.b) && c.b[c.i] > ' ' {
		return c.b[c.i]
	}
	return c.beyond()
}

// beyond is next where there is space.
func (c *cursor) beyond() byte {
	for c.i < len(c.b) && (c.b[c.i] == ' ' || c.b[c.i] == '\n' || c.b[c.i] == '\t' || c.b[c.i] == '\r') {
		c.i++
	}
	return c.peek()
}

// span is a string's text between the quotes as written.
type span struct {
	text    []byte
	escaped bool // there are backslashes
	wide    bool // there are bytes beyond ASCII, written or escaped
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// str takes a string, whose opening quote is next. It looks at eight bytes at a
// time for the three things that end a run of plain text: a quote, a backslash,
// a control character. With the bit of 2 turned, quotes and control characters
// are what is below 0x21.
func (c *cursor) str() (span, error) {
	b, i := c.b, c.i+1
	start := i
	var s span
	var high uint64
	for {
		for i+8 <= len(b) {
			w := binary.LittleEndian.Uint64(b[i:])
			q, e := w^ones*2, w^ones*'\\'
			stop := ((q-ones*0x21)&^q | (e-ones)&^e) & highs
			if stop != 0 { // the lowest bit is right, those above it may not be
				n := bits.TrailingZeros64(stop)
				high |= w & (1<<(n&^7) - 1)
				i += n >> 3
				goto special
			}
			high |= w
			i += 8
		}
		for i < len(b) && b[i] != '"' && b[i] != '\\' && b[i] >= 0x20 {
			high |= uint64(b[i])
			i++
		}
	special:
		if i < len(b) && b[i] == '"' {
			c.i = i + 1
			s.text, s.wide = b[start:i], s.wide || high&highs != 0
			c.wide = c.wide || s.wide
			return s, nil
		}
		if i+1 < len(b) && b[i] == '\\' && escapes[b[i+1]] != 0 {
			s.escaped = true
			i += 2
			continue
		}
		if ok, what := byNumber(b[min(i, len(b)):]); !ok {
			c.i = i
			return s, c.fail(what)
		}
		s.escaped, c.odd = true, true
		s.wide = s.wide || b[i+2] != '0' || b[i+3] != '0' || b[i+4] > '7'
		i += 6
	}
}

// byNumber looks whether b begins with a character written by its number, and
// says what is wrong if not.
func byNumber(b []byte) (ok bool, what string) {
	switch {
	case len(b) == 0:
		return false, "the text ends inside a string"
	case b[0] != '\\':
		return false, "a control character inside a string"
	case len(b) >= 6 && b[1] == 'u' && hex4(b[2:6]) >= 0:
		return true, ""
	}
	return false, "an unknown escape inside a string"
}

// hex4 reads four hexadecimal digits, -1 if they are none.
func hex4(b []byte) rune {
	var r rune
	for _, c := range b[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

// unescape appends the text of a string as it is meant. What is no character
// (a lone surrogate, a byte that is not UTF-8) becomes U+FFFD. It copies eight
// bytes at a time, those that are too many are written over.
func unescape(out, b []byte) []byte {
	out = slices.Grow(out, len(b)+8)
	for i := 0; i < len(b); {
		for i+8 <= len(b) && cap(out)-len(out) >= 8 {
			w := binary.LittleEndian.Uint64(b[i:])
			e := w ^ ones*'\\'
			n := bits.TrailingZeros64(((e-ones)&^e|w)&highs) >> 3
			binary.LittleEndian.PutUint64(out[len(out):len(out)+8], w)
			out = out[:len(out)+n]
			if i += n; n == 8 {
				continue
			}
			if b[i] != '\\' || b[i+1] == 'u' {
				break
			}
			out = append(out, escapes[b[i+1]])
			i += 2
		}
		for i < len(b) && b[i] != '\\' && b[i] < utf8.RuneSelf {
			out = append(out, b[i])
			i++
		}
		if i == len(b) {
			break
		}
		switch c := b[i]; {
		case c == '\\' && b[i+1] == 'u':
			r := hex4(b[i+2:])
			i += 6
			if utf16.IsSurrogate(r) {
				second := rune(-1)
				if i+6 <= len(b) && b[i] == '\\' && b[i+1] == 'u' {
					second = hex4(b[i+2:])
				}
				if r = utf16.DecodeRune(r, second); r != unicode.ReplacementChar {
					i += 6
				}
			}
			out = utf8.AppendRune(out, r)
		case c == '\\':
			out = append(out, escapes[b[i+1]])
			i += 2
		default:
			r, n := utf8.DecodeRune(b[i:])
			out = utf8.AppendRune(out, r)
			i += n
		}
	}
	return out
}

// escapes is what a letter after a backslash stands for, 0 if for nothing.
var escapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// number takes a number and returns it as written.
func (c *cursor) number() ([]byte, error) {
	start := c.i
	if c.peek() == '-' {
		c.i++
	}
	switch d := c.peek(); {
	case d == '0':
		c.i++
	case d >= '1' && d <= '9':
		c.digits()
	default:
		return nil, c.fail("not a JSON value")
	}
	if c.peek() == '.' {
		c.i++
		if c.digits() == 0 {
			return nil, c.fail("a number ends at its point")
		}
	}
	if c.peek()|0x20 == 'e' {
		c.i++
		if p := c.peek(); p == '+' || p == '-' {
			c.i++
		}
		if c.digits() == 0 {
			return nil, c.fail("a number has no exponent after its e")
		}
	}
	return c.b[start:c.i], nil
}

// peek is the byte here, 0 at the end.
func (c *cursor) peek() byte {
	if c.i < len(c.b) {
		return c.b[c.i]
	}
	return 0
}

func (c *cursor) digits() int {
	start := c.i
	for c.i < len(c.b) && c.b[c.i]-'0' <= 9 {
		c.i++
	}
	return c.i - start
}

// word takes true, false or null.
func (c *cursor) word(w string) error {
	if len(c.b)-c.i < len(w) || string(c.b[c.i:c.i+len(w)]) != w {
		return c.fail("not a JSON value")
	}
	c.i += len(w)
	return nil
}

// skip takes one value without looking at what it says.
func (c *cursor) skip(depth int) error {
	b := c.next()
	switch b {
	case '"':
		_, err := c.str()
		return err
	case '{', '[':
	default:
		_, err := c.scalar(b)
		return err
	}
	more, err := c.begin(depth)
	for more && err == nil {
		if b == '{' {
			if _, err = c.key(); err != nil {
				return err
			}
		}
		if err = c.skip(depth + 1); err == nil {
			more, err = c.more(b)
		}
	}
	return err
}

// scalar takes a number, true, false or null, and returns it as written.
func (c *cursor) scalar(b byte) ([]byte, error) {
	start := c.i
	var err error
	switch b {
	case 't':
		err = c.word("true")
	case 'f':
		err = c.word("false")
	case 'n':
		err = c.word("null")
	default:
		return c.number()
	}
	return c.b[start:c.i], err
}

// begin enters the object or list that is next and reports whether it has
// anything in it.
func (c *cursor) begin(depth int) (more bool, err error) {
	if depth >= maxNesting {
		return false, c.fail("values nest too deep")
	}
	closing := c.b[c.i] + 2 // '{' and '}' as well as '[' and ']' are two apart
	c.i++
	if c.next() == closing {
		c.i++
		return false, nil
	}
	return true, nil
}

// more goes on after a value of an object or list, which opened with the given
// byte, and reports whether another follows.
func (c *cursor) more(opening byte) (bool, error) {
	switch c.next() {
	case ',':
		c.i++
		return true, nil
	case opening + 2:
		c.i++
		return false, nil
	}
	return false, c.fail("a value is followed by neither a comma nor the end of its object or list")
}

// key takes a key and its colon.
func (c *cursor) key() (span, error) {
	if c.next() != '"' {
		return span{}, c.fail("an object's key is missing")
	}
	key, err := c.str()
	if err != nil {
		return key, err
	}
	if c.next() != ':' {
		return key, c.fail("the colon after a key is missing")
	}
	c.i++
	return key, nil
}
