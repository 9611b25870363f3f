package pasban

import (
	"errors"
	"strings"
)

// ErrorKind sorts errors by what the person can do about them; HTTP statuses
// and exit codes are mapped from it in one place each.
type ErrorKind string

const (
	Invalid         ErrorKind = "invalid"         // the input is wrong
	Unauthenticated ErrorKind = "unauthenticated" // sign in first
	Forbidden       ErrorKind = "forbidden"       // policy says no
	NotFound        ErrorKind = "not_found"       //
	Conflict        ErrorKind = "conflict"        // someone else changed it, or it exists
	Limited         ErrorKind = "limited"         // too many or too large; later or less
	Unavailable     ErrorKind = "unavailable"     // a part of Pasban cannot do its work: nothing is shown
	Upstream        ErrorKind = "upstream"        // the guarded service did not answer
)

// Error is an error that a person reads: what is wrong, where, and what to do.
type Error struct {
	Kind  ErrorKind
	Msg   string // what is wrong
	Where string // file:line, field or host; "" if it is clear
	Hint  string // what to do about it; "" if it is clear
	ID    string // incident id, the id of the fact that recorded it; "" if none
	Err   error  // the cause
}

// Error returns one line: where, what, why, and the hint in brackets.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Where != "" {
		b.WriteString(e.Where + ": ")
	}
	b.WriteString(e.Msg)
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	if e.Hint != "" {
		b.WriteString(" (" + e.Hint + ")")
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the first Error in err's chain, or Unavailable
// for any other error: what is not understood is not the visitor's fault, and
// nothing is shown.
func KindOf(err error) ErrorKind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Unavailable
}
