package logs

import (
	"errors"
	"maps"
	"strings"
	"time"

	syslog "github.com/leodido/go-syslog/v4"
	"github.com/leodido/go-syslog/v4/rfc3164"
	"github.com/leodido/go-syslog/v4/rfc5424"
)

// syslogParser reads one message after another: RFC 5424, RFC 3164, and the
// lines that syslog daemons write to files, which have no priority and may
// begin with an RFC 3339 time. What a message holds in turn (JSON, an access
// log's line) is read as well; an audit record is for [auditJoiner].
type syslogParser struct {
	now     time.Time
	new     syslog.Machine
	old     syslog.Machine
	decoder *decoder
}

var errSyslog = errors.New("not a syslog message (RFC 5424, RFC 3164)")

func newSyslogParser(opt Options, d *decoder) *syslogParser {
	return &syslogParser{
		now: opt.Now,
		new: rfc5424.NewParser(rfc5424.WithBestEffort(), rfc5424.WithOptionalPriority()),
		old: rfc3164.NewParser(rfc3164.WithBestEffort(), rfc3164.WithOptionalPriority(), rfc3164.WithLenientDay(),
			rfc3164.WithYear(rfc3164.Year{YYYY: opt.Now.Year()})),
		decoder: d,
	}
}

// isSyslog reports whether a line begins like a syslog message.
func isSyslog(line string) bool {
	rest, pri := cutPriority(line)
	if pri {
		return rest != ""
	}
	if _, _, ok := cutTime(line); ok {
		return true
	}
	return isStamp(line)
}

// cutPriority cuts <PRI> off.
func cutPriority(line string) (rest string, ok bool) {
	if line == "" || line[0] != '<' {
		return line, false
	}
	i := strings.IndexByte(line, '>')
	if i < 2 || i > 4 || strings.Trim(line[1:i], "0123456789") != "" {
		return line, false
	}
	return line[i+1:], true
}

// isStamp reports whether a line begins with the time of RFC 3164: Nov 28 07:05:09.
func isStamp(line string) bool {
	if len(line) < 16 {
		return false
	}
	_, err := time.Parse(time.Stamp, line[:15])
	if err != nil {
		_, err = time.Parse("Jan 02 15:04:05", line[:15])
	}
	return err == nil && line[15] == ' '
}

// cutTime cuts an RFC 3339 time off a line's beginning.
func cutTime(line string) (at time.Time, rest string, ok bool) {
	stamp, rest, found := strings.Cut(line, " ")
	if !found || len(stamp) < 19 || len(stamp) > 40 {
		return at, line, false
	}
	at, err := time.Parse(time.RFC3339Nano, stamp)
	return at, rest, err == nil
}

func (p *syslogParser) parse(line string) (map[string]any, error) {
	body, pri := cutPriority(line)
	var ev map[string]any
	var err error
	switch at, rest, iso := cutTime(body); {
	case strings.HasPrefix(body, "1 ") && pri:
		ev, err = p.modern(line)
	case iso: // what rsyslog and journald write to files
		ev = header(rest)
		ev["time"] = at.UnixMilli()
	case isStamp(body):
		ev, err = p.classic(line)
	case pri: // RFC 3164 4.3.3: a message without time and host
		ev = map[string]any{"message": body}
	default:
		err = errSyslog
	}
	if err != nil {
		return nil, err
	}
	p.inner(ev)
	return ev, nil
}

func (p *syslogParser) modern(line string) (map[string]any, error) {
	m, err := p.new.Parse([]byte(line))
	sm, ok := m.(*rfc5424.SyslogMessage)
	if !ok || sm == nil {
		return nil, errors.Join(errSyslog, err)
	}
	ev := base(&sm.Base)
	if sm.StructuredData != nil {
		sd := map[string]any{}
		for id, params := range *sm.StructuredData {
			inner := map[string]any{}
			for name, v := range params {
				inner[name] = v
			}
			sd[id] = inner
		}
		ev["structured_data"] = sd
	}
	if err != nil { // best effort stops where the form does: the rest is the message
		if _, has := ev["message"]; !has {
			ev["message"] = line
		}
	}
	return ev, nil
}

func (p *syslogParser) classic(line string) (map[string]any, error) {
	m, err := p.old.Parse([]byte(line))
	sm, ok := m.(*rfc3164.SyslogMessage)
	if !ok || sm == nil || sm.Timestamp == nil {
		return nil, errors.Join(errSyslog, err)
	}
	ev := base(&sm.Base)
	at := *sm.Timestamp
	if at.After(p.now.Add(48 * time.Hour)) { // no year is written: last year's
		at = at.AddDate(-1, 0, 0)
	}
	ev["time"] = at.UnixMilli()
	if _, has := ev["message"]; !has || err != nil {
		body, _ := cutPriority(line)
		maps.Copy(ev, header(body[16:]))
	}
	return ev, nil
}

// base takes over what both forms have.
func base(b *syslog.Base) map[string]any {
	ev := map[string]any{}
	for name, v := range map[string]*string{"hostname": b.Hostname, "program": b.Appname, "pid": b.ProcID, "msgid": b.MsgID, "message": b.Message} {
		if v != nil && *v != "" {
			ev[name] = *v
		}
	}
	if b.Timestamp != nil {
		ev["time"] = b.Timestamp.UnixMilli()
	}
	if v := b.FacilityLevel(); v != nil {
		ev["facility"] = *v
	}
	if v := b.SeverityShortLevel(); v != nil {
		ev["severity"] = *v
	}
	return ev
}

// header takes "host program[pid]: message" apart.
func header(s string) map[string]any {
	ev := map[string]any{}
	host, rest, ok := strings.Cut(s, " ")
	if !ok {
		return map[string]any{"message": s}
	}
	ev["hostname"] = host
	tag, message, ok := strings.Cut(rest, ": ")
	if !ok || strings.ContainsAny(tag, " \t") {
		ev["message"] = rest
		return ev
	}
	ev["message"] = message
	if name, pid, ok := strings.Cut(tag, "["); ok && strings.HasSuffix(pid, "]") {
		tag = name
		ev["pid"] = strings.TrimSuffix(pid, "]")
	}
	ev["program"] = tag
	return ev
}

// inner reads what a message holds in turn. The message itself stays.
func (p *syslogParser) inner(ev map[string]any) {
	message, _ := ev["message"].(string)
	var found map[string]any
	switch {
	case strings.HasPrefix(message, "{"):
		found, _ = p.decoder.object([]byte(message))
	case isAudit(message):
	case strings.Contains(message, " ["):
		found, _ = parseAccess(message)
	}
	for name, v := range found {
		if _, has := ev[name]; !has || name == "time" {
			ev[name] = v
		}
	}
}
