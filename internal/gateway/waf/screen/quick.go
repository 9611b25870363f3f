package screen

import (
	"reflect"
	"runtime"
	"strings"
	"unicode/utf8"

	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
)

// Some of Coraza's functions read a text rune by rune, or five times over. Where
// the answer is plain from its bytes, the screen takes it from them; all other
// texts get Coraza's own.

// quick are the transformations that have a quick form, by the name of Coraza's
// function.
var quick = map[string]func(text string) (out string, changed bool){
	"lowerCase":          lowerCase,
	"removeWhitespace":   removeWhitespace,
	"compressWhitespace": compressWhitespace,
}

// quickly is the transformation f, by its quick form where that decides.
func quickly(f plugintypes.Transformation) plugintypes.Transformation {
	name := runtime.FuncForPC(reflect.ValueOf(f).Pointer()).Name()
	of, ok := quick[name[strings.LastIndexByte(name, '.')+1:]]
	if !ok || !strings.HasPrefix(name, "github.com/corazawaf/coraza/v3/internal/transformations.") {
		return f
	}
	return func(text string) (string, bool, error) {
		if !plain(text) {
			return f(text)
		}
		out, changed := of(text)
		return out, changed, nil
	}
}

// plain reports whether the text is UTF-8 of ASCII, of the block Arabic
// (U+0600–U+06FF) and of the joiners and marks that it is written with
// (U+200C–U+200F): beside ASCII nothing in it is a space or has a case.
func plain(text string) bool {
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c < utf8.RuneSelf:
		case c >= 0xd8 && c <= 0xdb && i+1 < len(text) && text[i+1]&0xc0 == 0x80:
			i++
		case c == 0xe2 && i+2 < len(text) && text[i+1] == 0x80 && text[i+2] >= 0x8c && text[i+2] <= 0x8f:
			i += 2
		default:
			return false
		}
	}
	return true
}

// lowerCase is t:lowercase of a plain text.
func lowerCase(text string) (string, bool) {
	for i := range len(text) {
		if upper(text[i]) {
			out := []byte(text)
			for ; i < len(out); i++ {
				if upper(out[i]) {
					out[i] += 'a' - 'A'
				}
			}
			return string(out), true
		}
	}
	return text, false
}

func upper(c byte) bool { return c-'A' <= 'Z'-'A' }

func space(c byte) bool { return c == ' ' || c-'\t' <= '\r'-'\t' }

// removeWhitespace is t:removeWhitespace of a plain text.
func removeWhitespace(text string) (string, bool) {
	for i := range len(text) {
		if space(text[i]) {
			out := append(make([]byte, 0, len(text)), text[:i]...)
			for ; i < len(text); i++ {
				if !space(text[i]) {
					out = append(out, text[i])
				}
			}
			return string(out), true
		}
	}
	return text, false
}

// compressWhitespace is t:compressWhitespace of a plain text.
func compressWhitespace(text string) (string, bool) {
	for i := range len(text) {
		if space(text[i]) && (text[i] != ' ' || i > 0 && text[i-1] == ' ') {
			out := append(make([]byte, 0, len(text)), text[:i]...)
			for ; i < len(text); i++ {
				switch {
				case !space(text[i]):
					out = append(out, text[i])
				case len(out) == 0 || out[len(out)-1] != ' ':
					out = append(out, ' ')
				}
			}
			return string(out), true
		}
	}
	return text, false
}

// needs are the bytes of which a value has one if the operator matches it. An
// element, a comment and a doctype begin with "<", and the name of an attribute
// is judged by what follows its "=" (libinjection-go, html5.go and xss.go).
var needs = map[string]string{"detectXSS": "<="}
