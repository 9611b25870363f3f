package portal

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	"pasban"
	"pasban/internal/page"
	"pasban/internal/registry"
)

// phrases puts the bodies of facts into words of one language. It remembers
// the words it used, so that the page can hand them to verify.js, which says
// the same body in the same words (function texts there: change both).
type phrases struct {
	pages    *page.Pages
	names    Names    // may be nil
	registry Registry // may be nil
	lang     string
	used     map[string]string
}

func (p *Portal) phrases(lang string) *phrases {
	return &phrases{pages: p.o.Pages, names: p.o.Names, registry: p.o.Registry, lang: lang, used: map[string]string{}}
}

// Texts is an entry in words. Keys of the fields in verify.js are the names in
// lower case.
type Texts struct {
	Title string // the agency
	Tag   string // Person, Automatic, Emergency, …
	Who   string // role and the end of the staff number
	When  string
	What  string // the fields, the service, the record
	Why   string // purpose and case
	Basis string // the law
}

// tag is what sort of entry a body tells of; it chooses the tag's word and
// colour.
func tag(b pasban.Body) string {
	switch {
	case b.Who.Kind == pasban.ActorHidden:
		return "hidden"
	case b.Outcome == pasban.Denied:
		return "refused"
	case b.Mode == pasban.ModeEmergency:
		return "emergency"
	case b.Mode == pasban.ModeAutomatic || b.Who.Kind == pasban.ActorSystem:
		return "automatic"
	case b.Who.Kind == pasban.ActorCitizen:
		return "citizen"
	}
	return "person"
}

// plainRecord is a record's id that is worth showing; a route's pattern is not.
var plainRecord = regexp.MustCompile(`^[\w-]+$`)

// texts says a body in words.
func (f *phrases) texts(b pasban.Body) Texts {
	if b.Who.Kind == pasban.ActorHidden {
		return f.hidden(b)
	}
	role := f.name("role", string(b.Who.Role))
	service := f.name("service", b.Service)
	fields := make([]string, len(b.Fields))
	for i, name := range b.Fields {
		fields[i] = f.name("field", b.Service+"."+name)
	}
	t := Texts{
		Title: f.name("agency", b.Agency), Tag: f.word("tag." + tag(b)),
		When: f.when(b.Time), Why: f.why(b), Basis: f.word("basis.none"),
	}
	switch {
	case b.Who.Kind != pasban.ActorPerson:
		t.Who = f.name("who", string(b.Who.Kind))
	case b.Who.Staff != "":
		t.Who = fill(f.word("who.staff"), "role", role, "staff", b.Who.Staff)
	default:
		t.Who = role
	}
	what := "what." + string(b.Kind)
	if b.Outcome == pasban.Denied {
		what = "what.refused"
	}
	if len(fields) == 0 {
		what += "_all"
	}
	t.What = fill(f.word(what), "fields", strings.Join(fields, f.word("comma")), "service", service, "resource", b.Resource)
	if record := f.word("what.record"); b.Kind != pasban.KindOpening && plainRecord.MatchString(b.Resource) {
		t.What += fill(record, "resource", b.Resource)
	}
	if b.Basis != "" {
		t.Basis = fill(f.word("basis.is"), "basis", f.name("basis", b.Basis))
	}
	return t
}

// hidden says a body whose details the citizen is told of later.
func (f *phrases) hidden(b pasban.Body) Texts {
	date := f.date(b.Hidden.Date())
	later := fill(f.word("hidden.until"), "date", date)
	return Texts{Title: f.name("agency", b.Agency), Tag: f.word("tag.hidden"), When: f.when(b.Time),
		Who: later, What: fill(f.word("hidden.what"), "date", date), Why: later, Basis: later}
}

func (f *phrases) why(b pasban.Body) string {
	why := ""
	switch {
	case b.Purpose != "":
		why = f.name("purpose", b.Purpose)
	case b.Kind == pasban.KindOpening:
		why = f.word("why.opening")
	case b.Who.Kind == pasban.ActorCitizen:
		why = f.word("why.own")
	default:
		why = f.word("why.none")
	}
	if b.Case != "" {
		why = fill(f.word("why.case"), "purpose", why, "case", b.Case)
	}
	if b.Mode == pasban.ModeEmergency {
		why = fill(f.word("why.emergency"), "why", why)
	}
	if b.Hidden.Until != "" {
		why = fill(f.word("hidden.was"), "why", why, "date", f.date(b.Hidden.Date()))
	}
	return why
}

// date is the day of a time in Pakistan.
func (f *phrases) date(t time.Time) string {
	t = t.In(page.Zone())
	return fill(f.word("date"), "day", strconv.Itoa(t.Day()), "month", f.word("month."+strconv.Itoa(int(t.Month()))), "year", strconv.Itoa(t.Year()))
}

// when is the time of a body in Pakistan's time, or the text itself if it is
// not a time.
func (f *phrases) when(rfc3339 string) string {
	t, err := time.Parse(time.RFC3339Nano, rfc3339)
	if err != nil {
		return rfc3339
	}
	t = t.In(page.Zone())
	return fill(f.word("when"), "day", strconv.Itoa(t.Day()), "month", f.word("month."+strconv.Itoa(int(t.Month()))),
		"year", strconv.Itoa(t.Year()), "time", t.Format("3:04"), "period", f.word("hour."+strconv.Itoa(t.Hour())))
}

// word is a word that Pasban itself knows.
func (f *phrases) word(key string) string {
	if w, ok := f.used[key]; ok {
		return w
	}
	kind, code, _ := strings.Cut(key, ".")
	n, _ := strconv.Atoi(code)
	var w string
	switch kind {
	case "month":
		w = page.Months(f.lang)[n-1]
	case "hour":
		w = page.Period(f.lang, n)
	default:
		w = f.pages.T(f.lang, "portal.entry."+key)
	}
	f.used[key] = w
	return w
}

// name is the name of a code that configuration may have declared; a code
// without a name stands for itself.
func (f *phrases) name(kind, code string) string {
	key := kind + "." + code
	if w, ok := f.used[key]; ok {
		return w
	}
	w := ""
	if f.names != nil && code != "" {
		w = f.names.Name(f.lang, kind, code)
	}
	if f.registry != nil && w == "" {
		w = declaredName(f.registry.Services(), f.lang, kind, code)
	}
	last := code
	if kind == "field" {
		last = code[strings.LastIndexByte(code, '.')+1:]
	}
	if w == "" {
		w = f.pages.Label(f.lang, "portal.entry."+kind, last)
	}
	f.used[key] = w
	return w
}

// declaredName is what the declared services call a code, or "".
func declaredName(services []*registry.Service, lang, kind, code string) string {
	for _, s := range services {
		switch {
		case kind == "service" && code == s.ID:
			return s.Name.In(lang)
		case kind == "basis" && code == s.Basis.En:
			return s.Basis.In(lang)
		case kind == "field":
			if name, ok := strings.CutPrefix(code, s.ID+"."); ok {
				f, _ := s.Field(name)
				return f.Label.In(lang)
			}
		case kind == "purpose":
			for _, p := range s.Purposes {
				if p.Code == code {
					return p.Name.In(lang)
				}
			}
		}
	}
	return ""
}

// words are the words used so far and those that the script needs besides.
func (f *phrases) words() map[string]string {
	for _, key := range []string{
		"check.ok", "check.bad", "check.changed", "check.cannot", "check.pending", "check.unreachable", "check.busy",
		"whole.ok", "whole.empty", "whole.newer", "whole.erased", "whole.missing", "whole.altered", "whole.order", "whole.changed", "whole.bad", "whole.pending", "whole.closed", "whole.overdue",
		"watch.on", "watch.found", "watch.bad", "watch.signin", "watch.unreachable",
		"basis.none", "basis.is", "comma", "when", "why.none", "why.own", "why.case", "why.emergency", "who.staff", "what.record",
		"what.look", "what.look_all", "what.change", "what.change_all", "what.refused", "what.refused_all",
		"what.decision", "what.decision_all", "what.admin", "what.admin_all", "what.opening", "what.opening_all", "why.opening",
		"date", "hidden.until", "hidden.what", "hidden.was", "tag.hidden",
		"tag.refused", "tag.emergency", "tag.automatic", "tag.citizen", "tag.person",
	} {
		f.word(key)
	}
	for hour := range 24 { // of the epoch, which no card tells
		f.word("hour." + strconv.Itoa(hour))
	}
	for month := range 12 {
		f.word("month." + strconv.Itoa(month+1))
	}
	return f.used
}

// fill puts values, given as pairs of name and value, in the place of {name}.
func fill(pattern string, pairs ...string) string {
	old := make([]string, len(pairs))
	for i := range pairs {
		old[i] = pairs[i]
		if i%2 == 0 {
			old[i] = "{" + pairs[i] + "}"
		}
	}
	return strings.NewReplacer(old...).Replace(pattern)
}
