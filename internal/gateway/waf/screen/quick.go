package screen

import (
	"maps"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
)

// Some of Coraza's functions read a text rune by rune through tables, or five times
// over. The screen has quick forms of those that most values go through.

// quick are the transformations that have a quick form, by the name of Coraza's
// function.
var quick = map[string]func(text string) (out string, changed bool){
	"lowerCase":          lowerCase,
	"removeWhitespace":   removeWhitespace,
	"compressWhitespace": compressWhitespace,
}

// quickly is the transformation f, in its quick form if it has one.
func quickly(f plugintypes.Transformation) plugintypes.Transformation {
	of, ok := quick[stockName(f)]
	if !ok {
		return f
	}
	return func(text string) (string, bool, error) {
		out, changed := of(text)
		return out, changed, nil
	}
}

// stockName is the name of a transformation among Coraza's functions, "" if it is
// none of them.
func stockName(f plugintypes.Transformation) string {
	name, ok := strings.CutPrefix(runtime.FuncForPC(reflect.ValueOf(f).Pointer()).Name(), "github.com/corazawaf/coraza/v3/internal/transformations.")
	if !ok {
		return ""
	}
	return name
}

// Bytes that several transformations mind.
const (
	capitals = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	spaces   = "\t\n\v\f\r "
)

var highs = func() string {
	var b [256 - utf8.RuneSelf]byte
	for i := range b {
		b[i] = byte(utf8.RuneSelf + i)
	}
	return string(b[:])
}()

// minds are the bytes without which a transformation leaves a text as it is, and
// says so, by the name of Coraza's function. Most values have few of them.
var minds = map[string]string{
	"cmdLine":            capitals + spaces + "\"'\\^,;/(",
	"compressWhitespace": spaces + highs,
	"cssDecode":          "\\",
	"escapeSeqDecode":    "\\",
	"htmlEntityDecode":   "&",
	"jsDecode":           "\\",
	"lowerCase":          capitals + highs,
	"normalisePath":      "/.\\:", // as package filepath does, on any system
	"normalisePathWin":   "/.\\: ",
	"removeCommentsChar": "*-#",
	"removeNulls":        "\x00",
	"removeWhitespace":   spaces + highs,
	"replaceComments":    "*",
	"urlDecodeUni":       "%+",
	"utf8ToUnicode":      highs,
}

// mind is a set of those transformations.
type mind uint16

var mindOf, mindByte = func() (of map[string]mind, by [256]mind) {
	of = map[string]mind{}
	for i, name := range slices.Sorted(maps.Keys(minds)) {
		of[name] = 1 << i
		for _, c := range []byte(minds[name]) {
			by[c] |= of[name]
		}
	}
	return of, by
}()

// minded is a text with the transformations that mind it.
type minded struct {
	text string
	by   mind
}

func mindedOf(text string) minded {
	m := minded{text: text}
	for i := range len(text) {
		m.by |= mindByte[text[i]]
	}
	return m
}

// plain is the length of the character that a text begins with if it is one of the
// block Arabic (U+0600–U+06FF), of the joiners and marks that it is written with
// (U+200C–U+200F), or U+FFFD, none of which is a space or has a case; otherwise 0.
func plain(text string) int {
	switch c := text[0]; {
	case c >= 0xd8 && c <= 0xdb && len(text) > 1 && text[1]&0xc0 == 0x80:
		return 2
	case c == 0xe2 && len(text) > 2 && text[1] == 0x80 && text[2] >= 0x8c && text[2] <= 0x8f:
		return 3
	case c == 0xef && len(text) > 2 && text[1] == 0xbf && text[2] == 0xbd:
		return 3
	}
	return 0
}

// decode is utf8.DecodeRuneInString, quicker for bytes that begin no rune.
func decode(text string) (r rune, n int) {
	if c := text[0]; c < 0xc2 || c > 0xf4 || len(text) < 2 || text[1]&0xc0 != 0x80 {
		return utf8.RuneError, 1
	}
	return utf8.DecodeRuneInString(text)
}

func space(c byte) bool { return c == ' ' || c-'\t' <= '\r'-'\t' }

// dropped is what a character becomes of which nothing stays.
const dropped = -1

// ascii is what each character of ASCII becomes.
type ascii [utf8.RuneSelf]int8

func asciiOf(each func(c byte) int8) (table ascii) {
	for c := range table {
		table[c] = each(byte(c))
	}
	return table
}

// mapped is strings.Map: what is no UTF-8 becomes U+FFFD. Plain characters are those
// that wide leaves as they are. some says whether any was dropped.
func mapped(text string, table *ascii, wide func(rune) rune) (out string, some bool) {
	i := 0
	for i < len(text) { // what stays as it is
		n := 1
		if c := text[i]; c >= utf8.RuneSelf {
			if n = plain(text[i:]); n == 0 {
				var r rune
				if r, n = decode(text[i:]); r == utf8.RuneError || wide(r) != r {
					break
				}
			}
		} else if table[c] != int8(c) {
			break
		}
		i += n
	}
	if i == len(text) {
		return text, false
	}
	b := append(make([]byte, 0, len(text)+utf8.UTFMax), text[:i]...)
	for i < len(text) {
		n := 1
		if c := text[i]; c < utf8.RuneSelf {
			if to := table[c]; to != dropped {
				b = append(b, byte(to))
			} else {
				some = true
			}
		} else if n = plain(text[i:]); n > 0 {
			b = append(b, text[i:i+n]...)
		} else {
			var r rune
			if r, n = decode(text[i:]); r != utf8.RuneError {
				r = wide(r)
			}
			if r != dropped {
				b = utf8.AppendRune(b, r)
			} else {
				some = true
			}
		}
		i += n
	}
	return string(b), some
}

var (
	lowerASCII = asciiOf(func(c byte) int8 { return int8(lowered(c)) })
	solidASCII = asciiOf(func(c byte) int8 {
		if space(c) {
			return dropped
		}
		return int8(c)
	})
)

// lowerCase is t:lowercase.
func lowerCase(text string) (string, bool) {
	out, _ := mapped(text, &lowerASCII, unicode.ToLower)
	return out, out != text
}

// removeWhitespace is t:removeWhitespace. What becomes U+FFFD does not count as a
// change.
func removeWhitespace(text string) (string, bool) {
	return mapped(text, &solidASCII, func(r rune) rune {
		if unicode.IsSpace(r) {
			return dropped
		}
		return r
	})
}

// compressWhitespace is t:compressWhitespace: spaces are those of Latin-1, and the
// byte of a no-break space that is no UTF-8.
func compressWhitespace(text string) (string, bool) {
	spaceAt := func(i int) (is bool, n int) {
		c := text[i]
		if c < utf8.RuneSelf {
			return space(c), 1
		}
		if n := plain(text[i:]); n > 0 {
			return false, n
		}
		r, n := decode(text[i:])
		return c == 0xa0 || r == 0x85 || r == 0xa0, n
	}
	i, after := 0, false // a space
	for i < len(text) {  // what stays as it is
		is, n := spaceAt(i)
		if is && (after || text[i] != ' ') {
			break
		}
		after = is
		i += n
	}
	if i == len(text) {
		return text, false
	}
	out := append(make([]byte, 0, len(text)), text[:i]...)
	for i < len(text) {
		is, n := spaceAt(i)
		if !is {
			out = append(out, text[i:i+n]...)
		} else if !after {
			out = append(out, ' ')
		}
		after = is
		i += n
	}
	return string(out), true
}

// needs are the bytes of which a value has one if the operator matches it. An
// element, a comment and a doctype begin with "<", and the name of an attribute
// is judged by what follows its "=" (libinjection-go, html5.go and xss.go).
var needs = map[string]string{"detectXSS": "<="}
