package logs

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// auditRecord is one line of an audit log. The kernel writes several for one
// event; they share node, time and serial number.
type auditRecord struct {
	key    string // node, time and serial
	milli  int64  // when, milliseconds since 1970; 0 if it cannot be read
	typ    string
	fields map[string]any
	argv   []string // of an EXECVE
}

var errAudit = errors.New("not an audit record (type=… msg=audit(time:serial): …)")

func isAudit(line string) bool {
	line, _ = strings.CutPrefix(line, "audit: ")
	if strings.HasPrefix(line, "node=") {
		_, line, _ = strings.Cut(line, " ")
	}
	typ, rest, ok := strings.Cut(line, " ")
	return ok && strings.HasPrefix(typ, "type=") && strings.HasPrefix(rest, "msg=audit(")
}

// parseAudit reads one record; key is "" if it is none.
func parseAudit(line string) (r auditRecord) {
	line, _ = strings.CutPrefix(line, "audit: ")
	r.fields = map[string]any{}
	node := ""
	if rest, ok := strings.CutPrefix(line, "node="); ok {
		node, line, _ = strings.Cut(rest, " ")
		r.fields["node"] = node
	}
	head, body, ok := strings.Cut(line, "): ")
	if !ok {
		head, ok = strings.CutSuffix(strings.TrimRight(line, " "), "):") // EOE has nothing behind
	}
	typ, stamp, found := strings.Cut(head, " msg=audit(")
	typ, is := strings.CutPrefix(typ, "type=")
	if !ok || !found || !is || typ == "" {
		return r
	}
	r.typ = typ
	r.fields["type"] = typ
	r.key = node + " " + stamp
	seconds, _, _ := strings.Cut(stamp, ":")
	if whole, milli, ok := strings.Cut(seconds, "."); ok && len(milli) == 3 {
		s, err1 := strconv.ParseInt(whole, 10, 48)
		ms, err2 := strconv.ParseInt(milli, 10, 16)
		if err1 == nil && err2 == nil {
			r.milli = s*1000 + ms
			r.fields["time"] = r.milli
		}
	}
	r.pairs(body)
	if typ == "EXECVE" {
		for i := 0; ; i++ {
			arg, ok := r.fields["a"+strconv.Itoa(i)].(string)
			if !ok {
				break
			}
			r.argv = append(r.argv, arg)
		}
	}
	return r
}

// pairs reads name=value pairs. Values in double quotes are text; text that
// needed escaping is hexadecimal without quotes; what a program says is in
// single quotes and consists of pairs again. Behind a group separator the
// daemon repeats identifiers as names, in capitals.
func (r *auditRecord) pairs(s string) {
	for s = trimAudit(s); s != ""; s = trimAudit(s) {
		name, rest, ok := strings.Cut(s, "=")
		if i := strings.LastIndexAny(name, " \t\x1d"); i >= 0 { // words without a value
			name = name[i+1:]
		}
		if !ok || name == "" {
			return
		}
		var v string
		switch {
		case strings.HasPrefix(rest, `"`):
			v, s, _ = strings.Cut(rest[1:], `"`)
		case strings.HasPrefix(rest, "'"):
			v, s, _ = strings.Cut(rest[1:], "'")
			r.pairs(v)
			if !strings.Contains(v, "=") {
				r.put(name, v)
			}
			continue
		default:
			v, s = rest, ""
			if i := strings.IndexAny(rest, " \t\x1d"); i >= 0 {
				v, s = rest[:i], rest[i:]
			}
			if r.encoded(name) {
				v = unhex(v)
			}
		}
		if v != "(null)" && v != "?" && v != "" {
			r.put(name, v)
		}
	}
}

func trimAudit(s string) string { return strings.TrimLeft(s, " \t\x1d") }

func (r *auditRecord) put(name, v string) {
	if before, has := r.fields[name]; has {
		if before != any(v) {
			r.fields[name] = both(before, v)
		}
		return
	}
	r.fields[name] = v
}

// encoded reports whether a field's values may be in hexadecimal: those that a
// user can choose (audit_log_untrustedstring in the kernel).
func (r *auditRecord) encoded(name string) bool {
	switch name {
	case "proctitle", "comm", "exe", "name", "cwd", "path", "dir", "watch", "key", "cmd", "acct", "data", "vm", "file", "root_dir":
		return true
	}
	return r.typ == "EXECVE" && len(name) > 1 && name[0] == 'a' && strings.Trim(name[1:], "0123456789") == ""
}

// unhex decodes; zeros separate the arguments in a process's title.
func unhex(s string) string {
	if len(s) < 2 || len(s)%2 != 0 || strings.Trim(s, "0123456789ABCDEF") != "" {
		return s
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		return s
	}
	return strings.ReplaceAll(strings.TrimRight(string(b), "\x00"), "\x00", " ")
}

const (
	// auditOpen is how many events are kept open for records still to come; the
	// kernel's own queue makes them arrive close together.
	auditOpen = 128
	// auditRecords is the most records of one event.
	auditRecords = 1024
	// auditWait is how much later, in milliseconds, another event must be for an
	// event without a mark of its end to be complete.
	auditWait = 2000
)

// auditEvent is an event whose records are being collected.
type auditEvent struct {
	key     string
	milli   int64
	records []auditRecord
	carrier map[string]any // the syslog message of the first record; nil without syslog
	lines   []string       // the records as syslog brought them
	done    bool
}

// entry is what an auditJoiner reads: a record, or something else.
type entry struct {
	record  auditRecord // key is "" if it is none
	carrier map[string]any
	line    string
	offset  int64
}

// auditJoiner puts the records of one event together. Events come out in the
// order of their first records, and what is no record at once.
type auditJoiner struct {
	read    func() (entry, error)
	refuse  func(offset int64, why, text string)
	mapping *Mapping
	open    []*auditEvent
	newest  int64
	err     error
}

// fromLines reads records as the daemon writes them to its file.
func (j *auditJoiner) fromLines(lines *lineReader) {
	j.read = func() (entry, error) {
		for {
			line, err := lines.next()
			if err != nil {
				return entry{}, err
			}
			if r := parseAudit(line); r.key != "" {
				return entry{record: r, line: line, offset: lines.offset}, nil
			}
			j.refuse(lines.offset, errAudit.Error(), line)
		}
	}
}

// fromSyslog reads records out of syslog messages. Hosts count their events each
// for itself.
func (j *auditJoiner) fromSyslog(lines *lineReader, next func() (map[string]any, error)) {
	j.read = func() (entry, error) {
		ev, err := next()
		e := entry{carrier: ev, offset: lines.offset}
		if message := text(ev["message"]); err == nil && isAudit(message) {
			e.record, e.line = parseAudit(message), message
		}
		if e.record.key != "" {
			e.record.key = text(ev["hostname"]) + " " + e.record.key
		}
		return e, err
	}
}

// next returns the next event with all its records' fields. A field that
// several records have is a list.
func (j *auditJoiner) next() (map[string]any, error) {
	for {
		if len(j.open) > 0 {
			first := j.open[0]
			if first.done || j.err != nil || len(j.open) > auditOpen || j.newest-first.milli > auditWait {
				j.open = j.open[1:]
				if len(first.records) > 0 {
					return first.join(j.mapping), nil
				}
				continue
			}
		} else if j.err != nil {
			return nil, j.err
		}
		e, err := j.read()
		switch {
		case err != nil:
			j.err = err
		case e.record.key == "":
			return e.carrier, nil
		default:
			j.add(e)
		}
	}
}

func (j *auditJoiner) add(e entry) {
	r := e.record
	j.newest = max(j.newest, r.milli)
	i := slices.IndexFunc(j.open, func(e *auditEvent) bool { return e.key == r.key && !e.done })
	if i < 0 {
		if r.typ == endOfEvent {
			return
		}
		j.open = append(j.open, &auditEvent{key: r.key, milli: r.milli, carrier: e.carrier})
		i = len(j.open) - 1
	}
	ev := j.open[i]
	switch {
	case r.typ == endOfEvent:
		ev.done = true
	case len(ev.records) >= auditRecords:
		j.refuse(e.offset, fmt.Sprintf("the event has more than %d records", auditRecords), e.line)
	default:
		ev.records = append(ev.records, r)
		if ev.carrier != nil {
			ev.lines = append(ev.lines, e.line)
		}
	}
}

// endOfEvent is the type of the record behind an event's last.
const endOfEvent = "EOE"

// Unfinished reports whether a message or line is a record of an audit event of
// which more records are to be expected.
func Unfinished(message []byte) bool {
	_, behind, ok := bytes.Cut(message, []byte("type="))
	return ok && bytes.Contains(behind, []byte(" msg=audit(")) && !bytes.HasPrefix(behind, []byte(endOfEvent+" "))
}

// join makes one event of the records, with the fields of Sigma's categories
// for Linux where they can be told. What the syslog message says stays, but for
// the time.
func (e *auditEvent) join(m *Mapping) map[string]any {
	ev := map[string]any{}
	var argv []string
	for _, r := range e.records {
		for name, v := range r.fields {
			merge(ev, name, v)
		}
		if r.argv != nil {
			argv = r.argv
		}
	}
	if name := m.syscall(ev); name != "" && ev["SYSCALL"] == nil {
		ev["SYSCALL"] = name
	}
	e.categories(ev, argv)
	if e.carrier != nil {
		maps.Copy(ev, e.carrier)
		ev["message"] = strings.Join(e.lines, "\n")
	}
	if e.milli != 0 {
		ev["time"] = e.milli
	}
	return ev
}

// merge adds a value to a field; equal ones are there once.
func merge(ev map[string]any, name string, v any) {
	before, has := ev[name]
	if !has {
		ev[name] = v
		return
	}
	list, ok := before.([]any)
	if !ok {
		list = []any{before}
	}
	if !slices.Contains(list, v) {
		list = append(list, v)
	}
	if len(list) > 1 {
		ev[name] = list
	}
}

// categories fills in the fields that Sigma's process_creation, file_event and
// network_connection have.
func (e *auditEvent) categories(ev map[string]any, argv []string) {
	text := func(name string) string { s, _ := ev[name].(string); return s }
	add := func(name, v string) {
		if _, has := ev[name]; !has && v != "" {
			ev[name] = v
		}
	}
	for _, r := range e.records {
		switch r.typ {
		case "PATH":
			name, _ := r.fields["name"].(string)
			if kind, _ := r.fields["nametype"].(string); kind == "CREATE" && name != "" {
				if cwd := text("cwd"); !strings.HasPrefix(name, "/") && cwd != "" {
					name = strings.TrimSuffix(cwd, "/") + "/" + name
				}
				merge(ev, "TargetFilename", name)
			}
		case "SOCKADDR":
			if addr, ok := sockaddr(fmt.Sprint(r.fields["saddr"])); ok {
				add("DestinationIp", addr.Addr().String())
				add("DestinationPort", strconv.Itoa(int(addr.Port())))
				add("Initiated", "true")
			}
		}
	}
	if argv == nil && ev["TargetFilename"] == nil && ev["DestinationIp"] == nil {
		return
	}
	add("Image", text("exe"))
	add("ProcessId", text("pid"))
	add("ParentProcessId", text("ppid"))
	add("CurrentDirectory", text("cwd"))
	if add("User", text("UID")); text("User") == "" {
		add("User", text("uid"))
	}
	if argv != nil {
		add("CommandLine", strings.Join(argv, " "))
	}
}

// sockaddr decodes the kernel's socket address: family (in the machine's order),
// port, and address of IPv4 or IPv6.
func sockaddr(saddr string) (netip.AddrPort, bool) {
	b, err := hex.DecodeString(saddr)
	if err != nil || len(b) < 8 {
		return netip.AddrPort{}, false
	}
	port := uint16(b[2])<<8 | uint16(b[3])
	switch {
	case b[0] == 2 && b[1] == 0:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), port), true
	case b[0] == 10 && b[1] == 0 && len(b) >= 24:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])).Unmap(), port), true
	}
	return netip.AddrPort{}, false
}
