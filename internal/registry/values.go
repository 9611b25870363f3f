package registry

import (
	"errors"
	"fmt"
	"net/mail"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"pasban"
)

// mobileForm is a Pakistani mobile number without its leading 0 or +92.
var mobileForm = regexp.MustCompile(`^3[0-9]{9}$`)

// Check brings answers into their stored form and checks them against the
// service's declaration. The errors, joined, are of kind Invalid, with the
// field's name as Where and never its value. Unanswered fields are left out.
func (s *Service) Check(values map[string]string) (map[string]string, error) {
	out := make(map[string]string, len(values))
	var problems []error
	bad := func(field, hint, msg string) {
		problems = append(problems, &pasban.Error{Kind: pasban.Invalid, Where: field, Msg: msg, Hint: hint})
	}
	for _, f := range s.Fields {
		value, msg, hint := f.normal(values[f.Name])
		switch {
		case msg != "":
			bad(f.Name, hint, msg)
		case value == "" && f.Required:
			bad(f.Name, "", "an answer is needed")
		case value != "":
			out[f.Name] = value
		}
	}
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if _, ok := s.Field(name); !ok {
			bad(clip(name, 64), "", "there is no such field")
		}
	}
	return out, errors.Join(problems...)
}

func clip(s string, max int) string {
	if len(s) > max {
		s = s[:max]
	}
	return strings.ToValidUTF8(s, "\ufffd")
}

// normal brings one answer into its stored form, or says what is wrong with it.
func (f Field) normal(value string) (out, msg, hint string) {
	value = strings.TrimSpace(strings.ReplaceAll(value, "\r\n", "\n"))
	switch {
	case value == "":
		return "", "", ""
	case !utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool {
		return unicode.IsControl(r) && (r != '\n' || f.Kind != "textarea")
	}):
		return "", "the answer has signs that cannot be written", ""
	case utf8.RuneCountInString(value) > f.Longest():
		return "", "the answer is too long", fmt.Sprintf("at most %d characters", f.Longest())
	}
	switch f.Kind {
	case "cnic":
		c, err := pasban.ParseCNIC(value)
		if err != nil {
			return "", "not a CNIC", "13 digits, written 12345-1234567-1"
		}
		value = string(c)
	case "mobile":
		digits := strings.NewReplacer("-", "", " ", "").Replace(latinDigits(value))
		for _, prefix := range []string{"+92", "0092", "0"} {
			if rest, ok := strings.CutPrefix(digits, prefix); ok {
				digits = rest
				break
			}
		}
		if !mobileForm.MatchString(digits) {
			return "", "not a mobile number", "such as 0300-1234567"
		}
		value = "+92" + digits
	case "email":
		a, err := mail.ParseAddress(value)
		if err != nil || a.Address != value {
			return "", "not an e-mail address", "such as name@example.pk"
		}
	case "date":
		value = latinDigits(value)
		if _, err := time.Parse(time.DateOnly, value); err != nil {
			return "", "not a date", "year-month-day, such as 2026-11-23"
		}
	case "number":
		value = strings.ReplaceAll(latinDigits(value), ",", "")
		if n, err := strconv.ParseFloat(value, 64); err != nil || n < 0 || strings.ContainsAny(value, "eExXpPinINfF+_") {
			return "", "not a number", "digits, such as 1500000"
		}
	case "choice":
		if !slices.ContainsFunc(f.Choices, func(c Code) bool { return c.Code == value }) {
			return "", "not one of the choices", ""
		}
	}
	if f.pattern != nil && !f.pattern.MatchString(value) {
		return "", "not in the form that is wanted", ""
	}
	return value, "", ""
}

// latinDigits turns Urdu and Arabic-Indic digits into Latin ones.
func latinDigits(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= '٠' && r <= '٩':
			return r - '٠' + '0'
		case r >= '۰' && r <= '۹':
			return r - '۰' + '0'
		}
		return r
	}, s)
}
