package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"pasban"
)

// Problem is one thing wrong with a file that an operator wrote.
type Problem struct {
	File  string `json:"file"`
	Line  int    `json:"line,omitempty"`  // from 1; 0 where the problem has no place in the file
	Col   int    `json:"col,omitempty"`   // likewise
	Field string `json:"field,omitempty"` // path of the key, e.g. sites[0].routes[1].match
	Msg   string `json:"message"`         // what is wrong
	Hint  string `json:"hint,omitempty"`  // what would be right, "" if that is clear
}

// Where returns file:line:col, as far as it is known.
func (p Problem) Where() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.Col == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col)
}

// Error returns the problem in one line: where, which key, what, and the hint
// in brackets.
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Where() + ": ")
	if p.Field != "" {
		b.WriteString(p.Field + ": ")
	}
	b.WriteString(p.Msg)
	if p.Hint != "" {
		b.WriteString(" (" + p.Hint + ")")
	}
	return b.String()
}

// Problems are all the things wrong with one or several files. As an error it
// is of kind Invalid. Functions that return it as an error return nil, never
// an empty list: use Err.
type Problems []Problem

// Error returns one line per problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the list its kind: an error of kind Invalid that tells of the
// first problem.
func (ps Problems) Unwrap() error {
	if len(ps) == 0 {
		return nil
	}
	e := &pasban.Error{Kind: pasban.Invalid, Msg: ps[0].Msg, Where: ps[0].Where(), Hint: ps[0].Hint}
	if n := len(ps) - 1; n > 0 {
		e.Msg += fmt.Sprintf(" [and %d more]", n)
	}
	return e
}

// Err returns the problems in the order of their places, or nil if there are none.
func (ps Problems) Err() error {
	if len(ps) == 0 {
		return nil
	}
	ps.Sort()
	return ps
}

// Sort orders the problems by file, line and column.
func (ps Problems) Sort() {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
}

// Nearest returns the valid name that a misspelt one most likely stands for,
// or "" if none is near: at most one typing error per three letters, where an
// exchange of neighbours counts as one (Damerau–Levenshtein, restricted).
func Nearest(name string, valid []string) string {
	n := len([]rune(name))
	if n > maxName {
		return ""
	}
	best, limit := "", max(1, n/3)
	for _, v := range valid {
		if d := distance(strings.ToLower(name), strings.ToLower(v)); d < n && d <= limit {
			best, limit = v, d-1
		}
	}
	return best
}

// didYouMean is the hint for a misspelt name: the nearest valid one, or all of
// them if none is near.
func didYouMean(name string, valid []string) string {
	if n := Nearest(name, valid); n != "" {
		return fmt.Sprintf("did you mean %q?", n)
	}
	if len(valid) == 0 {
		return ""
	}
	return "one of " + strings.Join(valid, ", ")
}

// maxName bounds the work of comparing names: longer ones are nobody's typing error.
const maxName = 64

func distance(a, b string) int {
	s, t := []rune(a), []rune(b)
	if len(s) > maxName || len(t) > maxName {
		return maxName
	}
	before, last, now := make([]int, len(t)+1), make([]int, len(t)+1), make([]int, len(t)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(s); i++ {
		now[0] = i
		for j := 1; j <= len(t); j++ {
			same := 1
			if s[i-1] == t[j-1] {
				same = 0
			}
			now[j] = min(last[j]+1, now[j-1]+1, last[j-1]+same)
			if i > 1 && j > 1 && s[i-1] == t[j-2] && s[i-2] == t[j-1] {
				now[j] = min(now[j], before[j-2]+1)
			}
		}
		before, last, now = last, now, before
	}
	return last[len(t)]
}
