package pasban

import (
	"regexp"
	"strings"
)

// CNIC is a Pakistani national identity number in its written form,
// 12345-1234567-1. The zero value is no number.
type CNIC string

var notCNIC = &Error{Kind: Invalid, Msg: "not a CNIC", Hint: "13 digits, written 12345-1234567-1"}

// ParseCNIC reads a number with or without hyphens or spaces, in Latin,
// Arabic-Indic or Urdu digits.
func ParseCNIC(s string) (CNIC, error) {
	digits := make([]byte, 0, 13)
	for _, r := range strings.TrimSpace(s) {
		switch {
		case r == '-' || r == ' ':
			continue
		case r >= '0' && r <= '9':
		case r >= '٠' && r <= '٩':
			r += '0' - '٠'
		case r >= '۰' && r <= '۹':
			r += '0' - '۰'
		default:
			r = 0
		}
		if r == 0 || len(digits) == 13 {
			return "", notCNIC
		}
		digits = append(digits, byte(r))
	}
	if len(digits) != 13 || digits[0] == '0' {
		return "", notCNIC
	}
	d := string(digits)
	return CNIC(d[:5] + "-" + d[5:12] + "-" + d[12:]), nil
}

var cnicPattern = regexp.MustCompile(`\b[1-9][0-9]{4}-[0-9]{7}-[0-9]\b|\b[1-9][0-9]{12}\b`)

// FindCNICs returns the distinct numbers that text contains, in the order of
// their first appearance, at most max of them; more reports whether there
// were others.
func FindCNICs(text []byte, max int) (found []CNIC, more bool) {
	seen := map[CNIC]bool{}
	for _, m := range cnicPattern.FindAll(text, -1) {
		c, err := ParseCNIC(string(m))
		if err != nil || seen[c] {
			continue
		}
		if len(found) == max {
			return found, true
		}
		seen[c] = true
		found = append(found, c)
	}
	return found, false
}

// MaskedCNIC is what stands in place of a number that was masked.
const MaskedCNIC = "[CNIC]"

var cnicLike = regexp.MustCompile(`\b[1-9][0-9]{4}[- ]?[0-9]{7}[- ]?[0-9]\b`)

// MaskCNICs returns text with MaskedCNIC in place of everything in it that
// reads as a CNIC, for logs: those are read by people who may not see one.
func MaskCNICs(text string) string {
	if !mayHoldCNIC(text) {
		return text
	}
	return cnicLike.ReplaceAllString(text, MaskedCNIC)
}

// mayHoldCNIC reports whether thirteen digits come with nothing but hyphens
// and spaces between them: most text is done with here, without an expression.
func mayHoldCNIC(text string) bool {
	digits := 0
	for i := range len(text) {
		switch c := text[i]; {
		case '0' <= c && c <= '9':
			if digits++; digits == 13 {
				return true
			}
		case c != '-' && c != ' ':
			digits = 0
		}
	}
	return false
}
