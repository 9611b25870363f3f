package waf

import (
	"bytes"
	"io/fs"
	"math/bits"
	"strings"
	"unicode/utf8"

	"github.com/corazawaf/coraza/v3/experimental/plugins"
)

// ArabicScript is the ISO 15924 code that Options.Letters takes for Arabic
// script, in which Urdu, Sindhi, Pashto, Balochi and Persian are written.
const ArabicScript = "Arab"

// Rules about injection first write every letter beyond ASCII as %uXXXX and
// then decode that to its low byte, to catch back ends that do the same. Of
// Arabic script they make noise: alef (U+0627) becomes an apostrophe, beh
// (U+0628) a parenthesis, hah (U+062D) a hyphen. An honest sentence in Urdu is
// then SQL to libinjection.
//
// With Options.Letters those rules use a transformation of this package in
// place of t:utf8toUnicode: it leaves letters of Arabic script as they are and
// treats every other character exactly as Coraza's does. What is hidden in
// ASCII, in full-width forms or in any other script is still found beside any
// number of Arabic letters; docs/decisions/0009-arabic-letters.md argues it.
const (
	stockTransformation   = "t:utf8toUnicode"
	letterTransformation  = "t:utf8toUnicodeNotArabic"
	letterTransformerName = "utf8toUnicodeNotArabic"
)

// registerLetters makes the transformation known to Coraza under a name that
// its own rules do not use, so that rule sets without it stay untouched.
func registerLetters() { plugins.RegisterTransformation(letterTransformerName, utf8ToUnicodeNotArabic) }

// utf8ToUnicodeNotArabic is Coraza's utf8toUnicode but for letters of Arabic
// script, which stay as they are.
func utf8ToUnicodeNotArabic(s string) (string, bool, error) {
	first := strings.IndexFunc(s, func(c rune) bool { return c >= utf8.RuneSelf && !arabic(c) })
	if first < 0 {
		return s, false, nil
	}
	out := make([]byte, first, len(s)+16)
	copy(out, s)
	for _, c := range s[first:] { // an invalid byte is U+FFFD, as in Coraza's
		switch {
		case c < utf8.RuneSelf:
			out = append(out, byte(c))
		case arabic(c):
			out = utf8.AppendRune(out, c)
		default:
			out = append(out, '%', 'u')
			for shift := max(12, (bits.Len32(uint32(c))-1)/4*4); shift >= 0; shift -= 4 {
				out = append(out, "0123456789abcdef"[c>>shift&15])
			}
		}
	}
	return string(out), true, nil
}

// arabic reports whether c is in one of Unicode's blocks of Arabic script.
func arabic(c rune) bool {
	switch {
	case c >= 0x0600 && c <= 0x06ff, // Arabic
		c >= 0x0750 && c <= 0x077f, // Arabic Supplement
		c >= 0x0870 && c <= 0x08ff, // Arabic Extended-B and -A
		c >= 0xfb50 && c <= 0xfdff, // Arabic Presentation Forms-A
		c >= 0xfe70 && c <= 0xfefc: // Arabic Presentation Forms-B
		return true
	}
	return false
}

// letters is the rule set with the letters of the options.
func letters(o Options, rules fs.FS) fs.FS {
	if len(o.Letters) == 0 {
		return rules
	}
	return letterRules{rules}
}

// letterRules is the Core Rule Set with the transformation exchanged.
type letterRules struct{ fs.FS }

// ReadFile implements fs.ReadFileFS, through which Coraza reads every file.
func (r letterRules) ReadFile(name string) ([]byte, error) {
	data, err := fs.ReadFile(r.FS, name)
	if err != nil || !strings.HasSuffix(name, ".conf") {
		return data, err
	}
	return bytes.ReplaceAll(data, []byte(stockTransformation), []byte(letterTransformation)), nil
}
