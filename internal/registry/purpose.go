package registry

import (
	"net/http"
	"strings"
	"time"

	"pasban"
	"pasban/internal/page"
)

// The headers in which a program says what a request is for. A page of another
// site cannot set them.
const (
	PurposeHeader = "Pasban-Purpose"
	CaseHeader    = "Pasban-Case"
	HideHeader    = "Pasban-Hide-Until" // a date, or a time as in RFC 3339
)

// PurposeOf is what a request is for: what its headers say, or else what the
// session works on. A date that cannot be read is an error of kind Invalid: who
// asks for secrecy must not be misunderstood.
func PurposeOf(h http.Header, session pasban.Purpose) (pasban.Purpose, error) {
	p := session
	if code, number := h.Get(PurposeHeader), h.Get(CaseHeader); code != "" || number != "" {
		p = pasban.Purpose{Code: clean(code, 64), Case: clean(number, 128)}
	}
	until, err := ParseHideUntil(h.Get(HideHeader))
	if err != nil {
		return pasban.Purpose{}, err
	}
	if !until.IsZero() {
		p.HideUntil = until
	}
	return p, nil
}

// ParseHideUntil reads when a look is to be told to the citizen: a date, which
// begins at midnight in Pakistan, or a time as in RFC 3339. Nothing is the zero
// time: at once.
func ParseHideUntil(text string) (time.Time, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, text, page.Zone()); err == nil {
		return t, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, &pasban.Error{Kind: pasban.Invalid, Where: HideHeader, Msg: "not a date", Hint: "such as 2027-05-01"}
	}
	return t, nil
}

func clean(s string, max int) string {
	if len(s) > max {
		s = s[:max]
	}
	return strings.ToValidUTF8(strings.TrimSpace(s), "\ufffd")
}
