package logs

import (
	"embed"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"pasban"
	"pasban/internal/detect"

	"github.com/goccy/go-yaml"
)

//go:embed mappings/*.yml
var files embed.FS

// Mapping is what the files under mappings say: how events are told apart,
// where their fields are, and which logsource they are of. It does not change
// and may be shared.
type Mapping struct {
	windows  windowsMap
	linux    linuxMap
	shapes   []shape
	ocsf     ocsfMap
	channels map[string][]string // channel in lower case: Sigma's services
}

type windowsMap struct {
	Channels   map[string][]string
	Categories []category
}

// category says which events of a service are of a category as well.
type category struct {
	Category string
	Service  string
	IDs      []string `yaml:"ids"`
	Where    map[string][]string
	Add      map[string]string
}

type linuxMap struct {
	Programs map[string][]string
	Devices  []device
	Arch     string
	Syscalls map[string]string
}

type device struct {
	Prefix     string
	Product    string
	Facilities map[string][]string
	Otherwise  []string
}

// shape is one way in which JSON events are written.
type shape struct {
	Name    string
	When    map[string][]string
	Keep    *bool
	Lift    []string
	Fields  map[string][]string
	Time    []string
	Windows bool
	Syslog  bool
	Service string // the field that names the logsource's service
	Source  detect.Logsource
}

// NewMapping reads the files that this program is built with. The error can
// only be a mistake in them.
func NewMapping() (*Mapping, error) {
	m := &Mapping{channels: map[string][]string{}}
	var list struct{ Shapes []shape }
	for name, into := range map[string]any{"windows": &m.windows, "linux": &m.linux, "shapes": &list, "ocsf": &m.ocsf} {
		data, err := files.ReadFile("mappings/" + name + ".yml")
		if err != nil {
			return nil, err
		}
		if err := yaml.UnmarshalWithOptions(data, into, yaml.Strict()); err != nil {
			return nil, fmt.Errorf("mappings/%s.yml: %w", name, err)
		}
	}
	m.shapes = list.Shapes
	for service, channels := range m.windows.Channels {
		for _, c := range channels {
			c = strings.ToLower(c)
			m.channels[c] = append(m.channels[c], service)
			slices.Sort(m.channels[c])
		}
	}
	return m, nil
}

// event turns what a reader found into an event with its logsource and time.
func (m *Mapping) event(format Format, raw map[string]any) pasban.Event {
	switch format {
	case JSON, EVTX:
		return m.json(raw)
	case Syslog:
		return m.syslog(raw)
	case Access:
		ev := pasban.Event(raw)
		ev[detect.LogsourceKey] = detect.Logsource{Category: "webserver"}
		return ev
	case Auditd:
		return m.audit(raw)
	}
	return raw
}

// json finds the shape of an object and maps its fields.
func (m *Mapping) json(raw map[string]any) pasban.Event {
	for i := range m.shapes {
		if s := &m.shapes[i]; s.fits(raw) {
			return m.shaped(s, raw)
		}
	}
	ev := pasban.Event(raw)
	setTime(ev, raw, []string{"time", "@timestamp", "timestamp", "EventTime", "ts"})
	return ev
}

func (s *shape) fits(raw map[string]any) bool {
	for where, values := range s.When {
		v, ok := at(raw, where)
		if !ok || v == nil || len(values) > 0 && !slices.ContainsFunc(values, func(p string) bool { return like(p, text(v)) }) {
			return false
		}
	}
	return true
}

// like compares with a pattern that may end in *.
func like(pattern, s string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(s, prefix)
	}
	if suffix, ok := strings.CutPrefix(pattern, "*"); ok {
		return strings.HasSuffix(s, suffix)
	}
	return pattern == s
}

func (m *Mapping) shaped(s *shape, raw map[string]any) pasban.Event {
	ev := pasban.Event(raw)
	if keep := s.Keep == nil || *s.Keep; !keep || len(s.Lift) > 0 { // paths are looked up in what was sent
		ev = make(pasban.Event, len(raw)+len(s.Fields)+len(s.Lift))
		if keep {
			maps.Copy(ev, raw)
		}
	}
	for _, where := range s.Lift {
		lift(ev, raw, where)
	}
	type field struct {
		name string
		v    any
	}
	found := make([]field, 0, 16) // all are looked up before one is set: ev may be raw itself
	for name, paths := range s.Fields {
		for _, p := range paths {
			if v, ok := at(raw, p); ok {
				found = append(found, field{name, plain(v)})
				break
			}
		}
	}
	for _, f := range found {
		ev[f.name] = f.v
	}
	setTime(ev, raw, s.Time)
	switch {
	case s.Windows:
		m.windowsSource(ev)
	case s.Syslog:
		m.syslog(ev)
	case s.Source != (detect.Logsource{}):
		source := s.Source
		if s.Service != "" {
			source.Service = text(ev[s.Service])
		}
		ev[detect.LogsourceKey] = source
	}
	return ev
}

// lift makes the members of an object fields. Sigma's names have no spaces.
func lift(ev pasban.Event, raw map[string]any, where string) {
	where, each := strings.CutSuffix(where, ".*")
	v, _ := at(raw, where)
	inner, _ := v.(map[string]any)
	for name, v := range inner {
		if each {
			if deeper, ok := v.(map[string]any); ok {
				lift(ev, map[string]any{"x": deeper}, "x")
				continue
			}
		}
		if name != "#attributes" {
			ev[strings.ReplaceAll(name, " ", "")] = plain(v)
		}
	}
}

// plain is the value of an element that has attributes beside it.
func plain(v any) any {
	if m, ok := v.(map[string]any); ok {
		if text, ok := m["#text"]; ok {
			return text
		}
	}
	return v
}

// at looks a dotted path up: its first part that is a member, then the rest.
func at(m map[string]any, where string) (any, bool) {
	if v, ok := m[where]; ok {
		return v, true
	}
	for i := range len(where) {
		if where[i] != '.' {
			continue
		}
		if inner, ok := m[where[:i]].(map[string]any); ok {
			if v, ok := at(inner, where[i+1:]); ok {
				return v, true
			}
		}
	}
	return nil, false
}

func text(v any) string {
	switch x := plain(v).(type) {
	case nil:
		return ""
	case string:
		return x
	default:
		return fmt.Sprint(x)
	}
}

// windowsSource finds the services of an event's channel and the categories of
// its identifier. It has all of them.
func (m *Mapping) windowsSource(ev pasban.Event) {
	services := m.channels[strings.ToLower(text(ev["Channel"]))]
	sources := make([]detect.Logsource, 0, 2)
	id := text(ev["EventID"])
	for _, c := range m.windows.Categories {
		if !slices.Contains(services, c.Service) || !slices.Contains(c.IDs, id) {
			continue
		}
		fits := true
		for field, values := range c.Where {
			fits = fits && slices.ContainsFunc(values, func(v string) bool { return strings.EqualFold(v, text(ev[field])) })
		}
		if !fits {
			continue
		}
		sources = append(sources, detect.Logsource{Product: "windows", Category: c.Category, Service: c.Service})
		for to, from := range c.Add {
			if v, has := ev[from]; has && ev[to] == nil {
				ev[to] = v
			}
		}
	}
	for _, s := range services {
		sources = append(sources, detect.Logsource{Product: "windows", Service: s})
	}
	if len(sources) == 0 { // a channel without a service in Sigma
		sources = append(sources, detect.Logsource{Product: "windows"})
	}
	ev[detect.LogsourceKey] = sources
}

// syslog finds the services of a message's program. Every message is of
// linux/syslog, unless a network device wrote it.
func (m *Mapping) syslog(raw map[string]any) pasban.Event {
	ev := pasban.Event(raw)
	if _, audit := raw["type"]; audit && isAudit(text(raw["message"])) {
		return m.audit(raw)
	}
	message := text(raw["message"])
	for _, d := range m.linux.Devices {
		facility, rest, ok := strings.Cut(strings.TrimPrefix(message, d.Prefix), "-")
		if !strings.HasPrefix(message, d.Prefix) || !ok || rest == "" || rest[0] < '0' || rest[0] > '7' || strings.ContainsAny(facility, " :") {
			continue
		}
		var sources []detect.Logsource
		for _, s := range append(slices.Clone(d.Facilities[facility]), d.Otherwise...) {
			sources = append(sources, detect.Logsource{Product: d.Product, Service: s})
		}
		ev[detect.LogsourceKey] = sources
		return ev
	}
	sources := []detect.Logsource{{Product: "linux", Service: "syslog"}}
	program := strings.ToLower(path.Base(text(raw["program"])))
	for name, services := range m.linux.Programs {
		if like(name, program) {
			for _, s := range services {
				sources = append(sources, detect.Logsource{Product: "linux", Service: s})
			}
		}
	}
	if _, web := ev["cs-uri"]; web {
		sources = append(sources, detect.Logsource{Category: "webserver"})
	}
	ev[detect.LogsourceKey] = sources
	return ev
}

// audit adds the categories of an audit event.
func (m *Mapping) audit(raw map[string]any) pasban.Event {
	ev := pasban.Event(raw)
	sources := []detect.Logsource{{Product: "linux", Service: "auditd"}}
	for field, c := range map[string]string{"CommandLine": "process_creation", "TargetFilename": "file_event", "DestinationIp": "network_connection"} {
		if _, has := ev[field]; has {
			sources = append(sources, detect.Logsource{Product: "linux", Category: c, Service: "auditd"})
		}
	}
	ev[detect.LogsourceKey] = sources
	return ev
}

// syscall names an event's system call, "" if it cannot be told.
func (m *Mapping) syscall(ev map[string]any) string {
	if arch, _ := ev["arch"].(string); arch != m.linux.Arch {
		return ""
	}
	number, _ := ev["syscall"].(string)
	return m.linux.Syscalls[number]
}

// setTime sets the event's time, milliseconds since 1970, to the first of paths
// that holds one. What was under that name stays as original_time.
func setTime(ev pasban.Event, raw map[string]any, paths []string) {
	for _, p := range paths {
		v, ok := at(raw, p)
		if !ok {
			continue
		}
		if t, ok := parseTime(v); ok {
			if before, has := ev["time"]; has && text(before) != strconv.FormatInt(t.UnixMilli(), 10) {
				ev["original_time"] = before
			}
			ev["time"] = t.UnixMilli()
			return
		}
	}
	if v, has := ev["time"]; has { // it is not one
		ev["original_time"] = v
		delete(ev, "time")
	}
}

// parseTime reads RFC 3339, the forms that loggers make of it, and numbers:
// seconds, milli-, micro- or nanoseconds since 1970, told by their size.
func parseTime(v any) (time.Time, bool) {
	s := text(v)
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		switch {
		case f < 1e5 || f > 1e19:
			return time.Time{}, false
		case f >= 1e17:
			return time.Unix(0, int64(f)).UTC(), true
		case f >= 1e14:
			return time.UnixMicro(int64(f)).UTC(), true
		case f >= 1e11:
			return time.UnixMilli(int64(f)).UTC(), true
		}
		return time.UnixMilli(int64(f * 1000)).UTC(), true
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02T15:04:05.999999999-0700"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}
