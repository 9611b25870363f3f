package hunt

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// nodeKind is what a part of a filter is.
type nodeKind int

const (
	andNode nodeKind = iota
	orNode
	notNode
	leafNode
)

// node is a part of a filter in canonical form.
type node struct {
	kind  nodeKind
	parts []*node // of and, or; one of not
	leaf
}

// leaf is one condition.
type leaf struct {
	text  string   // as it stands in the filter
	field string   // "" for the message, "*" for any field
	op    string   // =, =*, word, word*, *, *x*, ~, <, <=, >, >=, or the name of a function; "" if it is not understood
	args  []string // what is compared with
	open  byte     // of range: ( or [
	close byte     // of range: ) or ]
}

// String is the filter in canonical form again.
func (n *node) String() string {
	switch n.kind {
	case leafNode:
		return n.text
	case notNode:
		if p := n.parts[0]; p.kind == leafNode {
			return "!" + p.text
		}
		return "!(" + n.parts[0].String() + ")"
	}
	sep := " "
	if n.kind == orNode {
		sep = " or "
	}
	var texts []string
	for _, p := range n.parts {
		s := p.String()
		if n.kind == andNode && p.kind == orNode {
			s = "(" + s + ")"
		}
		texts = append(texts, s)
	}
	return strings.Join(texts, sep)
}

// parse reads a filter in canonical form. It fails if it cannot give the same
// text back.
func parse(filter string) (*node, error) {
	r := &reader{s: filter}
	n, err := r.or()
	if err == nil && r.peek() != 0 {
		err = fmt.Errorf("%q is left over", r.s[r.at:])
	}
	if err == nil && n.String() != filter {
		err = fmt.Errorf("it was read as %q", n)
	}
	return n, err
}

// reader reads the canonical form.
type reader struct {
	s  string
	at int
}

func (r *reader) space() {
	for r.at < len(r.s) && r.s[r.at] == ' ' {
		r.at++
	}
}

// peek is the next byte, 0 at the end.
func (r *reader) peek() byte {
	if r.at < len(r.s) {
		return r.s[r.at]
	}
	return 0
}

// take goes on if the text is next.
func (r *reader) take(text string) bool {
	if strings.HasPrefix(r.s[r.at:], text) {
		r.at += len(text)
		return true
	}
	return false
}

func (r *reader) or() (*node, error) {
	n := &node{kind: orNode}
	for {
		p, err := r.and()
		if err != nil {
			return nil, err
		}
		n.parts = append(n.parts, p)
		if r.space(); !r.take("or ") {
			break
		}
	}
	if len(n.parts) == 1 {
		return n.parts[0], nil
	}
	return n, nil
}

func (r *reader) and() (*node, error) {
	n := &node{kind: andNode}
	for {
		p, err := r.one()
		if err != nil {
			return nil, err
		}
		n.parts = append(n.parts, p)
		if r.space(); r.peek() == 0 || r.peek() == ')' || strings.HasPrefix(r.s[r.at:], "or ") {
			break
		}
	}
	if len(n.parts) == 1 {
		return n.parts[0], nil
	}
	return n, nil
}

func (r *reader) one() (*node, error) {
	r.space()
	switch {
	case r.take("!"):
		p, err := r.one()
		if err != nil {
			return nil, err
		}
		return &node{kind: notNode, parts: []*node{p}}, nil
	case r.take("("):
		n, err := r.or()
		if err == nil && !r.take(")") {
			err = fmt.Errorf("a bracket is not closed before %q", r.s[r.at:])
		}
		return n, err
	}
	return r.leaf()
}

// leaf reads one condition: a field's name, if one stands there, and what is
// asked of it.
func (r *reader) leaf() (*node, error) {
	start := r.at
	n := &node{kind: leafNode}
	if name, ok := r.fieldName(); ok {
		n.field = name
	}
	if err := r.condition(&n.leaf); err != nil {
		return nil, err
	}
	if r.at == start {
		return nil, fmt.Errorf("there is no condition at %q", r.s[r.at:])
	}
	n.text = r.s[start:r.at]
	return n, nil
}

// fieldName reads a name and the colon after it; without a colon it reads nothing.
func (r *reader) fieldName() (string, bool) {
	start := r.at
	if r.take("*:") {
		return "*", true
	}
	name, ok := r.token()
	if ok && r.take("*") {
		name += "*"
	}
	if ok && r.take(":") {
		return name, true
	}
	r.at = start
	return "", false
}

// token reads a quoted text or a word.
func (r *reader) token() (string, bool) {
	rest := r.s[r.at:]
	if quoted, err := strconv.QuotedPrefix(rest); err == nil {
		if text, err := strconv.Unquote(quoted); err == nil {
			r.at += len(quoted)
			return text, true
		}
	}
	n := 0
	for n < len(rest) {
		c, size := utf8.DecodeRuneInString(rest[n:])
		if c != '_' && !unicode.IsLetter(c) && !unicode.IsDigit(c) {
			break
		}
		n += size
	}
	r.at += n
	return rest[:n], n > 0
}

func (r *reader) condition(l *leaf) error {
	switch {
	case l.field == "_time" || l.field == "_stream_id" || r.peek() == '{':
		r.unknown()
		return nil
	case r.take("="):
		return r.value(l, "=")
	case r.take("~"):
		return r.value(l, "~")
	case r.take("*"):
		if c := r.peek(); c == 0 || c == ' ' || c == ')' {
			l.op = "*"
			return nil
		}
		if err := r.value(l, "*x"); err != nil {
			return err
		}
		l.op = strings.TrimSuffix(l.op, "*") + "*"
		return nil
	}
	for _, op := range []string{">=", "<=", ">", "<"} {
		if r.take(op) {
			l.op, l.args = op, []string{r.until(" )")}
			return nil
		}
	}
	start := r.at
	name, ok := r.token()
	if c := r.peek(); ok && (c == '(' || c == '[') {
		r.at++
		return r.call(l, name, c)
	}
	r.at = start
	return r.value(l, "word")
}

// value reads what is compared with, and the star after it that makes a prefix
// of it.
func (r *reader) value(l *leaf, op string) error {
	text, ok := r.token()
	if !ok {
		return fmt.Errorf("there is no value at %q", r.s[r.at:])
	}
	l.op, l.args = op, []string{text}
	if r.take("*") {
		l.op += "*"
	}
	return nil
}

// call reads the arguments of a function. What has another form than a list of
// values is not understood, but passed over as far as it goes.
func (r *reader) call(l *leaf, name string, open byte) error {
	start := r.at
	l.op, l.open = name, open
	if name == "range" || name == "ipv4_range" || name == "ipv6_range" {
		for arg := range strings.SplitSeq(r.until(")]"), ",") {
			l.args = append(l.args, strings.TrimSpace(arg))
		}
		l.close = r.peek()
		return r.closing(l, start, open)
	}
	for {
		text, ok := r.token()
		if !ok {
			break
		}
		l.args = append(l.args, text)
		if name == "i" && r.take("*") {
			l.op = "i*"
		}
		if !r.take(",") {
			break
		}
	}
	l.close = r.peek()
	return r.closing(l, start, open)
}

// closing takes the end of a function, or all of it if it was not understood.
func (r *reader) closing(l *leaf, start int, open byte) error {
	if c := r.peek(); open == '(' && c == ')' || l.op == "range" && (c == ')' || c == ']') {
		r.at++
		return nil
	}
	r.at = start - 1
	*l = leaf{field: l.field}
	r.unknown()
	return nil
}

// until reads up to one of the bytes.
func (r *reader) until(stops string) string {
	start := r.at
	for r.at < len(r.s) && !strings.Contains(stops, r.s[r.at:r.at+1]) {
		if quoted, err := strconv.QuotedPrefix(r.s[r.at:]); err == nil {
			r.at += len(quoted)
			continue
		}
		r.at++
	}
	return r.s[start:r.at]
}

// unknown passes over a condition of another form: to the next space that
// stands in no brackets.
func (r *reader) unknown() {
	depth := 0
	for ; r.at < len(r.s); r.at++ {
		if quoted, err := strconv.QuotedPrefix(r.s[r.at:]); err == nil {
			r.at += len(quoted) - 1
			continue
		}
		switch r.s[r.at] {
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			if depth == 0 {
				return
			}
			depth--
		case ' ':
			if depth == 0 {
				return
			}
		}
	}
}
