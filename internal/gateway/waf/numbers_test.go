package waf

import (
	"fmt"
	"testing"
	"unicode"
	"unicode/utf8"
)

// TestLettersAsNumbers holds the transformation's numbers against package fmt.
func TestLettersAsNumbers(t *testing.T) {
	for c := rune(0x80); c <= unicode.MaxRune; c++ {
		if !utf8.ValidRune(c) || arabic(c) {
			continue
		}
		if got, _, _ := utf8ToUnicodeNotArabic(string(c)); got != fmt.Sprintf("%%u%04x", c) {
			t.Fatalf("%U becomes %s", c, got)
		}
	}
}
