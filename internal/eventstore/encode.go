package eventstore

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"pasban"
)

// The engine's limits (VictoriaLogs lib/logstorage/consts.go and the insert
// handlers' defaults), kept with some room. What is over them is not lost: it is
// kept in another form, as encoder says.
const (
	maxFieldName = 128
	maxFields    = 900
	// FieldMore holds the fields of an event that has too many, or whose names
	// are too long, as one JSON object.
	FieldMore = "event_more"
	// FieldCut names the fields whose values were cut, and how long they were.
	FieldCut = "event_cut"
	// noMessage is the message of an event without one. The engine would write a
	// sentence of its own.
	noMessage = "-"
)

// reserved are the names that the store gives meaning to.
var reserved = []string{
	FieldTime, FieldStream, "_stream_id", FieldMessage, FieldID, FieldSeq, FieldSource,
	FieldProduct, FieldCategory, FieldService, FieldMore, FieldCut, FieldOriginalTime, "",
}

// EventName is the name that an event itself has for a field of its row; "" if
// the field is the store's own.
func EventName(field string) string {
	if slices.Contains(reserved, field) {
		return ""
	}
	if original, ok := strings.CutPrefix(field, OriginalPrefix); ok && slices.Contains(reserved, original) {
		return original
	}
	return field
}

// encoder writes events as the engine takes them: one JSON object a line.
type encoder struct {
	from, to time.Time // what time an event may have
	maxEvent int       // bytes of one line
	columns  func(stream) (map[string]struct{}, error)
	buf      *bytes.Buffer
	out      []Field             // of the event at hand: their memory serves the next
	seen     map[string]struct{} // their names

	refused, retimed, cut int64
}

// add appends an event.
//
//   - One whose time is outside of what is kept is kept under the time it was
//     received, with what it said beside it: a clock that is wrong, or set wrong,
//     hides nothing. One that was received too long ago as well is refused.
//   - Fields with names of the store's own get another name; those that are one
//     too many, for the event or for its stream, go into FieldMore.
//   - If it is too large its longest values are cut, and FieldCut says so.
func (e *encoder) add(ev Event) error {
	own := []Field{{FieldID, ev.ID}, {FieldSeq, strconv.FormatUint(ev.Seq, 10)}, {FieldSource, ev.Source}}
	for _, f := range []Field{{FieldProduct, ev.Product}, {FieldCategory, ev.Category}, {FieldService, ev.Service}} {
		if f.Value != "" {
			own = append(own, f)
		}
	}
	at := ev.Time
	if !e.within(at) {
		at = ev.Received
		if !e.within(at) {
			e.refused++
			return nil
		}
		e.retimed++
		own = append(own, Field{FieldOriginalTime, ev.Time.UTC().Format(time.RFC3339Nano)})
	}
	own = append(own, Field{FieldTime, at.UTC().Format(time.RFC3339Nano)})
	columns, err := e.columns(stream{at.UTC().Truncate(24 * time.Hour), ev.Source, ev.Product, ev.Category})
	if err != nil {
		return err
	}
	message := Field{FieldMessage, cmp.Or(ev.Message, noMessage)}
	cut := int64(0)
	for _, limit := range []int{maxFields, 0} { // if the names alone are too much, all go into FieldMore
		fields := append(e.fields(ev.Fields, limit, columns), message)
		over := e.line(own, fields)
		if over > 0 {
			cut = 1
			over = e.line(own, cutLongest(fields, over))
		}
		if over == 0 {
			break
		}
	}
	e.cut += cut
	return nil
}

func (e *encoder) within(t time.Time) bool { return !t.Before(e.from) && t.Before(e.to) }

// fields gives at most limit fields names that the engine takes, each once, and
// adds them to the columns. The others go into FieldMore.
func (e *encoder) fields(in []Field, limit int, columns map[string]struct{}) []Field {
	out := e.out[:0]
	more := map[string]string{}
	if e.seen == nil {
		e.seen = map[string]struct{}{}
	}
	clear(e.seen)
	for _, f := range in {
		if f.Value == "" {
			continue // to the engine the same as no field
		}
		f.Name = strings.ToValidUTF8(f.Name, "\ufffd") // as it is written: its length counts
		if slices.Contains(reserved, f.Name) {
			f.Name = OriginalPrefix + f.Name
		}
		_, twice := e.seen[f.Name]
		_, known := columns[f.Name]
		if len(f.Name) > maxFieldName || len(out) >= limit || twice || !known && len(columns) >= maxColumns {
			more[f.Name] = f.Value
			continue
		}
		if !known {
			columns[strings.Clone(f.Name)] = struct{}{} // or it would hold on to the whole of what was received
		}
		e.seen[f.Name] = struct{}{}
		out = append(out, f)
	}
	if len(more) > 0 {
		text, _ := json.Marshal(more) // strings always encode; in order of their names
		out = append(out, Field{FieldMore, string(text)})
	}
	e.out = out
	return out
}

// jsonLen is how long a text in UTF-8 gets in JSON, without its quotes.
func jsonLen(s string) (n int) {
	for _, r := range s {
		n += runeLen(r)
	}
	return n
}

func runeLen(r rune) int {
	switch {
	case r < 0x20:
		return 6
	case r == '"' || r == '\\':
		return 2
	}
	return utf8.RuneLen(r)
}

// beginning is as much of a text as takes at most limit bytes in JSON.
func beginning(s string, limit int) string {
	for i, r := range s {
		if limit -= runeLen(r); limit < 0 {
			return s[:i]
		}
	}
	return s
}

// shortest is what is left of a value at least, in bytes of JSON.
const shortest = 64

// cutLongest shortens the longest values, until what is over is gone or none is
// longer than shortest, and says so in FieldCut.
func cutLongest(fields []Field, over int) []Field {
	order := make([]int, len(fields))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return len(fields[b].Value) - len(fields[a].Value) })
	var notes []string
	over += len(FieldCut) + len(`"":"",`)
	for _, i := range order {
		if over <= 0 {
			break
		}
		was := strings.ToValidUTF8(fields[i].Value, "\ufffd") // as it is written
		length := jsonLen(was)
		if length <= shortest {
			continue
		}
		if len(notes) < 20 {
			note := fmt.Sprintf("%.64s=%d", fields[i].Name, len(fields[i].Value))
			notes = append(notes, note)
			over += jsonLen(note) + 1
		}
		fields[i].Value = beginning(was, max(shortest, length-over))
		over -= length - jsonLen(fields[i].Value)
	}
	return append(fields, Field{FieldCut, strings.Join(notes, " ")})
}

// line appends a line. If it has more bytes than maxEvent it returns how many
// more, and appends nothing.
func (e *encoder) line(lists ...[]Field) (over int) {
	enc := e.buf.AvailableBuffer()
	enc = append(enc, '{')
	for _, list := range lists {
		for _, f := range list {
			if len(enc) > 1 {
				enc = append(enc, ',')
			}
			enc = appendJSON(enc, f.Name)
			enc = append(enc, ':')
			enc = appendJSON(enc, f.Value)
		}
	}
	enc = append(enc, '}', '\n')
	if len(enc) > e.maxEvent {
		return len(enc) - e.maxEvent
	}
	e.buf.Write(enc)
	return 0
}

// appendJSON appends a text in JSON. Bytes that are not UTF-8 become U+FFFD.
func appendJSON(dst []byte, s string) []byte {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\ufffd")
	}
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := range len(s) {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[start:i]...)
		if c == '"' || c == '\\' {
			dst = append(dst, '\\', c)
		} else {
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		start = i + 1
	}
	return append(append(dst, s[start:]...), '"')
}

// Flatten turns an event of detection into flat fields, ordered by name:
// nested names are joined by dots, lists are JSON. skip names what is left out.
func Flatten(ev pasban.Event, skip ...string) []Field {
	out := make([]Field, 0, 2*len(ev))
	var walk func(prefix string, m map[string]any, depth int)
	walk = func(prefix string, m map[string]any, depth int) {
		for k, v := range m {
			if prefix == "" && slices.Contains(skip, k) {
				continue
			}
			if sub, ok := v.(map[string]any); ok && depth < 16 {
				walk(prefix+k+".", sub, depth+1)
				continue
			}
			if s := plainText(v); s != "" {
				out = append(out, Field{prefix + k, s})
			}
		}
	}
	walk("", ev, 0)
	slices.SortFunc(out, func(a, b Field) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// plainText is a value as text: what is not one plain value is JSON.
func plainText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case int:
		return strconv.Itoa(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case uint64:
		return strconv.FormatUint(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case json.Number:
		return v.String()
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
