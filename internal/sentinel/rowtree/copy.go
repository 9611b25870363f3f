package rowtree

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Value is one value of a row in PostgreSQL's text output; nil is NULL.
type Value = []byte

// AppendLine appends the values as COPY writes them in text format, without
// the newline (PostgreSQL's documentation of COPY, "Text Format").
func AppendLine(dst []byte, values []Value) []byte {
	for i, v := range values {
		if i > 0 {
			dst = append(dst, '\t')
		}
		if v == nil {
			dst = append(dst, '\\', 'N')
			continue
		}
		for _, c := range v {
			switch c {
			case '\b':
				dst = append(dst, '\\', 'b')
			case '\f':
				dst = append(dst, '\\', 'f')
			case '\n':
				dst = append(dst, '\\', 'n')
			case '\r':
				dst = append(dst, '\\', 'r')
			case '\t':
				dst = append(dst, '\\', 't')
			case '\v':
				dst = append(dst, '\\', 'v')
			case '\\':
				dst = append(dst, '\\', '\\')
			default:
				dst = append(dst, c)
			}
		}
	}
	return dst
}

// ParseLine is the reverse of AppendLine. It fails on anything that AppendLine
// does not write.
func ParseLine(line []byte) ([]Value, error) {
	var out []Value
	for raw := range bytes.SplitSeq(line, []byte{'\t'}) {
		if string(raw) == `\N` {
			out = append(out, nil)
			continue
		}
		v := make([]byte, 0, len(raw))
		for i := 0; i < len(raw); i++ {
			if raw[i] != '\\' {
				v = append(v, raw[i])
				continue
			}
			i++
			at := -1
			if i < len(raw) {
				at = bytes.IndexByte([]byte(`bfnrtv\`), raw[i])
			}
			if at < 0 {
				return nil, fmt.Errorf("not a line of COPY: a backslash before nothing known")
			}
			v = append(v, "\b\f\n\r\t\v\\"[at])
		}
		if again := AppendLine(nil, []Value{v}); !bytes.Equal(again, raw) {
			return nil, fmt.Errorf("not a line of COPY: a control character stands unescaped")
		}
		out = append(out, v)
	}
	return out, nil
}

// Change is one change of a row as the ledger commits to it: a batch's leaf
// holds the root of an RFC 6962 tree over the Bytes of its changes.
type Change struct {
	Op      string `json:"op"` // insert, update, delete or truncate
	Key     []byte `json:"key"`
	Row     []byte `json:"row,omitempty"` // the row's hash afterwards; empty if it is gone
	Verdict string `json:"verdict"`       // "" if authorised, else why not
	LSN     uint64 `json:"lsn"`           // of the commit
	XID     uint64 `json:"xid"`
}

// Bytes is the change as it is hashed: each part with its length.
func (c Change) Bytes() []byte {
	out := []byte("pasban row change v1")
	for _, part := range [][]byte{[]byte(c.Op), c.Key, c.Row, []byte(c.Verdict)} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(part)))
		out = append(out, part...)
	}
	out = binary.BigEndian.AppendUint64(out, c.LSN)
	return binary.BigEndian.AppendUint64(out, c.XID)
}
