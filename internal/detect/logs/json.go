package logs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// decoder turns JSON objects into maps within limits. A name that is there
// twice becomes a list of both values: whoever can add a member to an event
// could else hide what another says. Whole numbers are int64, others keep
// their text.
type decoder struct {
	limits Limits
	dec    jsontext.Decoder
	in     bytes.Buffer // the decoder reads it where it lies
	names  map[string]string
	fields int
	before int // members of the object before: the next is often like it
	queue  []map[string]any
}

// decoders are those that no stream uses now. What they know of names serves the
// next: a listener opens a stream for every request.
var decoders = sync.Pool{New: func() any { return &decoder{names: map[string]string{}} }}

func newDecoder(limits Limits) *decoder {
	d := decoders.Get().(*decoder)
	d.limits = limits
	return d
}

// release gives the decoder to another stream.
func (d *decoder) release() {
	d.in, d.queue = bytes.Buffer{}, nil
	d.dec.Reset(&d.in)
	decoders.Put(d)
}

// object decodes exactly one object. Nothing of text is held on to.
func (d *decoder) object(text []byte) (map[string]any, error) {
	d.in = *bytes.NewBuffer(text)
	d.dec.Reset(&d.in, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	d.fields = 0
	v, err := d.value(0)
	if err != nil {
		if se, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
			return nil, fmt.Errorf("not JSON: byte %d: %w", se.ByteOffset, se.Err)
		}
		return nil, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("not a JSON object")
	}
	d.before = min(len(m), 1000)
	return m, nil
}

func (d *decoder) value(depth int) (any, error) {
	if depth > d.limits.Depth {
		return nil, fmt.Errorf("it nests deeper than %d", d.limits.Depth)
	}
	if d.fields++; d.fields > d.limits.Fields {
		return nil, fmt.Errorf("it has more than %d values", d.limits.Fields)
	}
	tok, err := d.dec.ReadToken()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrNoProgress // never the stream's end
		}
		return nil, err
	}
	switch tok.Kind() {
	case '{':
		return d.members(depth)
	case '[':
		list := []any{}
		for d.dec.PeekKind() != ']' {
			v, err := d.value(depth + 1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := d.dec.ReadToken()
		return list, err
	case '"':
		return tok.String(), nil
	case '0':
		text := tok.String()
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n, nil
		}
		return json.Number(text), nil
	case 't', 'f':
		return tok.Bool(), nil
	}
	return nil, nil
}

func (d *decoder) members(depth int) (any, error) {
	room := 0
	if depth == 0 {
		room = d.before
	}
	m := make(map[string]any, room)
	for d.dec.PeekKind() != '}' {
		name, err := d.name()
		if err != nil {
			return nil, err
		}
		v, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		if before, twice := m[name]; twice {
			v = both(before, v)
		}
		m[name] = v
	}
	_, err := d.dec.ReadToken()
	return m, err
}

const (
	maxNames   = 4096 // that a decoder remembers
	maxNameLen = 64   // of one that is remembered
)

// name reads a member's name. Events have the same few again and again: one text
// stands for all of them.
func (d *decoder) name() (string, error) {
	quoted, err := d.dec.ReadValue()
	if err != nil {
		return "", err
	}
	if len(quoted) > maxNameLen {
		name, _ := jsontext.AppendUnquote(nil, quoted) // the error is about bytes that are not UTF-8: they became U+FFFD
		return string(name), nil
	}
	if name, known := d.names[string(quoted)]; known {
		return name, nil
	}
	plain, _ := jsontext.AppendUnquote(nil, quoted)
	name := string(plain)
	if len(d.names) >= maxNames {
		clear(d.names)
	}
	d.names[string(quoted)] = name
	return name, nil
}

// both is a list of two values, or of a list's and one more.
func both(a, b any) any {
	if list, ok := a.([]any); ok {
		return append(list, b)
	}
	return []any{a, b}
}

// unwrap takes apart an object that only wraps a list of events, as AWS
// CloudTrail and Azure write their files. It reports whether it was one.
func (d *decoder) unwrap(m map[string]any) bool {
	if len(m) != 1 {
		return false
	}
	for _, name := range []string{"Records", "records"} {
		list, _ := m[name].([]any)
		for _, item := range list {
			ev, ok := item.(map[string]any)
			if !ok {
				d.queue = nil
				return false
			}
			d.queue = append(d.queue, ev)
		}
	}
	return len(d.queue) > 0
}

// queued returns the next event of a list that was taken apart.
func (d *decoder) queued() map[string]any {
	if len(d.queue) == 0 {
		return nil
	}
	ev := d.queue[0]
	d.queue = d.queue[1:]
	return ev
}
