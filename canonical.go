package pasban

import (
	"encoding/json"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/gowebpki/jcs"
)

// Canonical writes v as canonical JSON (RFC 8785).
func Canonical(v any) ([]byte, error) {
	var out []byte
	var ok bool
	switch v := v.(type) { // not by an interface, which what embeds one of them would have too
	case Body:
		out, ok = v.canonical()
	case Restricted:
		out, ok = v.canonical()
	}
	if ok {
		return out, nil
	}
	plain, err := json.Marshal(v)
	if err != nil {
		return nil, &Error{Kind: Invalid, Msg: "not writable as JSON", Err: err}
	}
	canonical, err := jcs.Transform(plain)
	if err != nil {
		return nil, &Error{Kind: Invalid, Msg: "not writable as canonical JSON", Err: err}
	}
	return canonical, nil
}

// object writes an object of canonical JSON whose members are given in order. A
// fact is written several times on its way, and encoding it to sort what was
// encoded costs ten times as much. It gives up on what needs thought: text that is
// not UTF-8, and integers that a double does not hold.
type object struct {
	out  []byte
	open bool // a member has been written
	odd  bool // it has given up
}

// begin writes what stands before a member's value.
func (o *object) begin(name string) {
	next := byte('{')
	if o.open {
		next = ','
	}
	o.open = true
	o.out = append(append(append(o.out, next, '"'), name...), `":`...)
}

// text writes a member; opt leaves it out if it is empty.
func (o *object) text(name, value string) {
	o.begin(name)
	o.quote(value)
}

func (o *object) opt(name, value string) {
	if value != "" {
		o.text(name, value)
	}
}

func (o *object) list(name string, values []string) {
	if len(values) == 0 {
		return
	}
	o.begin(name)
	next := byte('[')
	for _, v := range values {
		o.out = append(o.out, next)
		o.quote(v)
		next = ','
	}
	o.out = append(o.out, ']')
}

func (o *object) number(name string, n int64) {
	const most = 1 << 53
	if n >= most || n <= -most {
		o.odd = true
	}
	o.begin(name)
	o.out = strconv.AppendInt(o.out, n, 10)
}

// object writes a member that is an object itself.
func (o *object) object(name string, members func(o *object)) {
	o.begin(name)
	inner := object{out: o.out, odd: o.odd}
	members(&inner)
	o.out, o.odd = inner.end(), inner.odd
}

// end closes the object.
func (o *object) end() []byte {
	if !o.open {
		o.out = append(o.out, '{')
	}
	return append(o.out, '}')
}

// quote writes a string as RFC 8785, section 3.2.2.2 says.
func (o *object) quote(s string) {
	if !utf8.ValidString(s) {
		o.odd = true
	}
	o.out = append(o.out, '"')
	from := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		o.out = append(o.out, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			o.out = append(o.out, '\\', c)
		case '\b':
			o.out = append(o.out, `\b`...)
		case '\t':
			o.out = append(o.out, `\t`...)
		case '\n':
			o.out = append(o.out, `\n`...)
		case '\f':
			o.out = append(o.out, `\f`...)
		case '\r':
			o.out = append(o.out, `\r`...)
		default:
			const hex = "0123456789abcdef"
			o.out = append(o.out, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	o.out = append(append(o.out, s[from:]...), '"')
}

// canonical writes the body; ok is false if it holds what needs thought.
func (b Body) canonical() (out []byte, ok bool) {
	o := object{out: make([]byte, 0, 640)}
	o.opt("action", b.Action)
	o.text("agency", b.Agency)
	o.opt("basis", b.Basis)
	o.opt("case", b.Case)
	o.list("fields", b.Fields)
	if b.Heads != (Heads{}) {
		o.object("heads", b.Heads.members)
	}
	if b.Hidden != (Hidden{}) {
		o.object("hidden", func(o *object) {
			o.text("digest", b.Hidden.Digest)
			o.text("until", b.Hidden.Until)
		})
	}
	o.text("id", b.ID)
	o.text("kind", string(b.Kind))
	if b.List != (Place{}) {
		o.object("list", func(o *object) {
			o.number("number", b.List.Number)
			o.opt("previous", b.List.Previous)
		})
	}
	o.opt("mode", string(b.Mode))
	o.text("outcome", string(b.Outcome))
	o.opt("purpose", b.Purpose)
	o.opt("resource", b.Resource)
	o.opt("restricted", b.Restricted)
	o.opt("service", b.Service)
	o.opt("subject", string(b.Subject))
	o.text("time", b.Time)
	o.number("v", int64(b.Version))
	o.object("who", b.Who.members)
	return o.end(), !o.odd
}

func (w Who) members(o *object) {
	o.text("kind", string(w.Kind))
	o.opt("role", string(w.Role))
	o.opt("staff", w.Staff)
}

func (h Heads) members(o *object) {
	o.number("epoch", h.Epoch)
	o.text("key", h.Key)
	o.number("labels", h.Labels)
	o.opt("previous", h.Previous)
	o.text("root", h.Root)
	o.number("size", h.Size)
	o.opt("watch", h.Watch)
}

// canonical writes the restricted part.
func (r Restricted) canonical() (out []byte, ok bool) {
	o := object{out: make([]byte, 0, 384)}
	o.opt("actor", r.Actor)
	o.opt("host", r.Host)
	o.opt("ip", r.IP)
	o.opt("method", r.Method)
	if len(r.More) > 0 {
		o.object("more", func(o *object) {
			names := make([]string, 0, len(r.More))
			for name := range r.More {
				names = append(names, name)
			}
			slices.Sort(names)
			for _, name := range names {
				if !plainName(name) {
					o.odd = true
				}
				o.text(name, r.More[name])
			}
		})
	}
	o.opt("path", r.Path)
	o.list("policies", r.Policies)
	o.opt("query", r.Query)
	o.list("reasons", r.Reasons)
	o.list("rules", r.Rules)
	if r.Status != 0 {
		o.number("status", int64(r.Status))
	}
	o.opt("user_agent", r.UserAgent)
	return o.end(), !o.odd
}

// plainName reports whether a name needs no escaping and sorts by bytes as it does
// by UTF-16: it is printable ASCII without quotes and backslashes.
func plainName(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
