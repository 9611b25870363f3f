// Package detect finds attacks and misuse in what the journal records: it reads
// Sigma rules, matches events against them, correlates matches over time, and
// hands every match on.
//
// # Main types
//
// A [Rule] is one Sigma rule: a detection over single events, or a correlation
// over other rules. An [Engine] holds a set of rules, compiled, and the bounded
// memory of its correlations. A [Match] says which rule fired, about whom, when,
// and in words why. A [Taxonomy] says which logsources foreign events are of.
// [FromEntry] turns a journal entry into a [pasban.Event]: an OCSF object with
// the flat fields that rules name (see [Fields]).
//
// # The way of an event
//
//	journal.Tail → FromEntry → Engine.Match ─┐
//	other logs' JSON ──────→ Engine.MatchJSON ┴→ record → hooks → conditions → correlations → sink (soc)
//
// Engine.Run does the first as the journal's reader "detect". It follows the
// journal from behind, so no request ever waits for it. A record is the event
// as rules see it (record.go); hooks are the rare things by which the few rules
// are found that might hold (hook.go, program.go); their conditions decide
// (compile.go, machine.go). DESIGN.md says why. What rules find and cost is counted
// and sampled on the way (figures.go): [Engine.Figures], [Engine.Costs].
//
// # What it guarantees
//
//   - Nothing is silently dead. A rule file with an unknown key, an unknown
//     modifier, a condition that names nothing, a search identifier that no
//     condition uses, or (for rules about Pasban's own events) an unknown field
//     or service is refused with file and line.
//   - Every journal entry is matched at least once, in order. Windows of
//     correlations are over the events' own times, so that a backlog gives the
//     same matches as live traffic, and after a restart they are filled again
//     from the journal before the first new event is matched.
//   - Memory is bounded: see [Limits].
//
// # What it must never do
//
// It never sees a CNIC or a name: events carry the blinded subject id only, and
// whatever looks like a CNIC in free text is masked before a rule sees it. It
// never writes to the journal and never acts on a match; that is soc's work.
//
// The language is Sigma 2.1 (specification of detection rules, of correlation
// rules and of filters); what is left out is refused, not ignored: the
// aggregation expressions of Sigma 1.
package detect

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"pasban"
	"pasban/internal/config"
)

// Match is one firing of a rule.
type Match struct {
	Rule   *Rule
	Time   time.Time // of the event that made it fire
	Entity string    // whom or what it is about: the group of a correlation, else the event's own
	Why    []string  // in words
	// Parts says of which part of the rule each reason is: the name of a search
	// identifier, or "" for a correlation's own.
	Parts []string
	Event pasban.Event // the event that made it fire
	// Received are the events among Refs that are not in the journal, by their
	// sequence number, as far as they are still at hand (see recent.go).
	Received map[uint64]pasban.Event
	// Refs names the events that caused it, oldest first. A correlation that
	// goes on firing names each event once.
	Refs []Ref
}

// FirstReceived is where the sequence numbers of events that are not in the
// journal begin: those of logs that other machines send.
const FirstReceived = uint64(1) << 62

// Ref names one event.
type Ref struct {
	Seq  uint64    // sequence number in the journal, or from FirstReceived on; 0 if the event has none
	ID   string    // metadata.uid: for journal entries the fact's id
	Time time.Time // when it happened
}

// refOf names an event.
func refOf(ev pasban.Event) Ref {
	r := Ref{Time: Time(ev)}
	r.Seq, _ = ev["Seq"].(uint64)
	if meta, ok := ev["metadata"].(map[string]any); ok {
		r.ID, _ = meta["uid"].(string)
	}
	return r
}

// Time is when the event happened: its OCSF "time" in milliseconds since 1970 or
// in the form of RFC 3339, or the zero time if it has none.
func Time(ev pasban.Event) time.Time {
	switch ms := ev["time"].(type) {
	case json.Number:
		return timeOf([]byte(ms))
	case string:
		return timeOf([]byte(ms))
	case int64:
		return time.UnixMilli(ms).UTC()
	case float64:
		return time.UnixMilli(int64(ms)).UTC()
	case int:
		return time.UnixMilli(int64(ms)).UTC()
	}
	return time.Time{}
}

// Engine matches events against a set of rules. Its methods may be called from
// several goroutines. Events are matched side by side, but counted for
// correlations one at a time: who needs their order to be kept calls from one
// goroutine.
type Engine struct {
	running sync.Mutex // covers what Run needs; it is called once at a time
	seen    uint64     // the last entry matched: handed out again, it is not counted again
	pending []Match    // not yet taken by the sink
	busy    bool       // entries came since the last look

	rules atomic.Pointer[ruleSet]

	mu     sync.Mutex // covers everything below, and the rules' correlations
	delays delays
	tally  tally
	recent recent
}

// Option is something that [Load] is told beside the rules.
type Option func(*options)

type options struct {
	limits   Limits
	taxonomy Taxonomy
	skipped  func(config.Problems)
	known    map[[32]byte][]*Rule // by the file's hash
}

// WithLimits bounds what correlations remember; [DefaultLimits] without it.
func WithLimits(l Limits) Option { return func(o *options) { o.limits = l } }

// WithTaxonomy says which logsources events in JSON are of, see [Engine.MatchJSON].
func WithTaxonomy(t Taxonomy) Option { return func(o *options) { o.taxonomy = t } }

// Reuse takes the rules of files that did not change from an engine that is
// running: reading YAML is most of what loading takes.
func Reuse(e *Engine) Option {
	return func(o *options) {
		o.known = map[[32]byte][]*Rule{}
		for _, r := range e.set().sources {
			if r.whole {
				o.known[r.text] = append(o.known[r.text], r)
			}
		}
	}
}

// SkipBad leaves out the rules that have mistakes, and those that refer to
// them, instead of refusing all. report gets every mistake, if there is any.
func SkipBad(report func(config.Problems)) Option { return func(o *options) { o.skipped = report } }

// Load reads every rule file (*.yml, *.yaml) in the given directories, their
// subdirectories, or named files; files ending in .test.yml hold cases and are
// left out, and those named placeholders.yml have the values of %placeholders%.
// The error is config.Problems with every mistake of every file; the engine is
// usable only if there is none.
func Load(paths []string, options ...Option) (*Engine, error) {
	var files []source
	var problems config.Problems
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			problems = append(problems, config.Problem{File: p, Msg: "cannot read the rules: " + reason(err), Hint: "rules: names a directory or a file"})
			continue
		}
		if !info.IsDir() {
			data, err := os.ReadFile(p)
			if err != nil {
				problems = append(problems, config.Problem{File: p, Msg: "cannot read the rules: " + reason(err)})
				continue
			}
			files = append(files, source{p, data})
			continue
		}
		found, err := readRules(os.DirFS(p), func(name string) string { return filepath.Join(p, filepath.FromSlash(name)) })
		if err != nil {
			problems = append(problems, config.Problem{File: p, Msg: "cannot read the rules: " + reason(err)})
		}
		files = append(files, found...)
	}
	return load(files, problems, options)
}

// LoadFS reads every rule file of a file system, like [Load].
func LoadFS(fsys fs.FS, options ...Option) (*Engine, error) {
	files, err := readRules(fsys, func(name string) string { return name })
	if err != nil {
		return nil, config.Problems{{File: ".", Msg: "cannot read the rules: " + reason(err)}}
	}
	return load(files, nil, options)
}

// source is one rule file.
type source struct {
	name string
	data []byte
}

// isRuleFile says which files of a directory hold rules. An info.yml describes
// regression cases, as SigmaHQ keeps them.
func isRuleFile(name string) bool {
	ext := path.Ext(name)
	return (ext == ".yml" || ext == ".yaml") && !strings.HasSuffix(strings.TrimSuffix(name, ext), ".test") && path.Base(name) != "info.yml"
}

func readRules(fsys fs.FS, label func(string) string) ([]source, error) {
	var files []source
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !isRuleFile(name) {
			return err
		}
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		files = append(files, source{label(name), data})
		return nil
	})
	return files, err
}

// reason is an error without the path that the problem names already.
func reason(err error) string {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err.Error()
	}
	return err.Error()
}

func load(files []source, problems config.Problems, opts []Option) (*Engine, error) {
	o := options{limits: DefaultLimits()}
	for _, set := range opts {
		set(&o)
	}
	ph := placeholders{}
	for _, f := range files {
		if isPlaceholderFile(f.name) {
			problems = append(problems, ph.read(f)...)
		}
	}
	rules, bad := parseFiles(files, ph, o.known)
	problems = append(problems, bad...)
	l := link(rules, o.limits)
	problems = append(problems, l.problems...)
	for o.skipped != nil && len(l.problems) > 0 {
		rules = slices.DeleteFunc(rules, func(r *Rule) bool { return l.bad[r] })
		l = link(rules, o.limits)
		problems = append(problems, l.problems...)
	}
	if err := problems.Err(); err != nil {
		if o.skipped == nil {
			return nil, err
		}
		o.skipped(problems)
	}
	e := &Engine{}
	e.rules.Store(l.compile(o.taxonomy))
	return e, nil
}

// parseFiles reads the rules of all files, those that are not known on all
// processors.
func parseFiles(files []source, ph placeholders, known map[[32]byte][]*Rule) (rules []*Rule, problems config.Problems) {
	type result struct {
		rules    []*Rule
		problems config.Problems
	}
	results := make([]result, len(files))
	sum := ph.sum()
	read := func(f source) (out result) {
		text := f.hash(sum)
		if old := known[text]; len(old) > 0 && old[0].File == f.name {
			for _, r := range old {
				out.rules = append(out.rules, r.clone())
			}
			return out
		}
		out.rules, out.problems = parseFile(f.name, f.data, ph)
		for _, r := range out.rules {
			r.text, r.asRead, r.whole = text, sha256.Sum256(f.data), len(out.problems) == 0
		}
		return out
	}
	var next atomic.Int64
	var readers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		readers.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(files); i = int(next.Add(1)) - 1 {
				if !isPlaceholderFile(files[i].name) {
					results[i] = read(files[i])
				}
			}
		})
	}
	readers.Wait()
	for _, r := range results {
		rules = append(rules, r.rules...)
		problems = append(problems, r.problems...)
	}
	return rules, problems
}

// hash tells files apart, by all that their rules depend on: their own text and
// the placeholders, of which sum is known.
func (f source) hash(sum []byte) [32]byte {
	h := sha256.New()
	h.Write(sum)
	h.Write(f.data)
	return [32]byte(h.Sum(nil))
}

// Rules lists the engine's rules by title.
func (e *Engine) Rules() []*Rule {
	return slices.SortedFunc(slices.Values(e.set().all), func(a, b *Rule) int {
		return cmp.Or(cmp.Compare(a.Title, b.Title), cmp.Compare(a.ID, b.ID))
	})
}

func (e *Engine) set() *ruleSet { return e.rules.Load() }

// Swap exchanges the rules for those of next, which must not be used
// afterwards. A correlation whose file did not change keeps its memory. Events
// that are being matched meanwhile are matched by one set of rules or the
// other: none is missed.
func (e *Engine) Swap(next *Engine) {
	rules := next.set()
	e.mu.Lock()
	defer e.mu.Unlock()
	rules.memory.inherit(e.set().memory, rules.all)
	rules.figures = e.set().figures
	e.rules.Store(rules)
}

// Match feeds one event to every rule and returns the matches, rules in the
// order of loading. Rules that a correlation refers to do not fire themselves
// unless the correlation says generate: true. The event's logsource is under
// [LogsourceKey].
func (e *Engine) Match(ev pasban.Event) []Match { return e.match(ev, false) }

// match is Match. An event that is matched again does not count for the figures.
func (e *Engine) match(ev pasban.Event, again bool) []Match {
	for {
		set := e.set()
		m := set.machine()
		m.event = lazyEvent{ev: ev, again: again}
		if out, ok := e.finish(set, m, m.matchEvent(ev)); ok {
			return out
		}
	}
}

// MatchJSON is [Engine.Match] for an event in JSON, which is decoded only if a
// rule holds. Its logsource is what sources say; without any, what the engine's
// taxonomy says; without one, the event's own under [LogsourceKey]. An error
// says why the event is not an event: it is not JSON, or beyond the limits.
func (e *Engine) MatchJSON(raw []byte, sources ...Logsource) ([]Match, error) {
	for {
		set := e.set()
		m := set.machine()
		hits, rt, err := set.matchJSON(m, raw, sources)
		if err != nil {
			set.machines.Put(m)
			return nil, err
		}
		m.event = lazyEvent{raw: raw, sources: rt.sources}
		if out, ok := e.finish(set, m, hits); ok {
			return out, nil
		}
	}
}

// Scan returns the rules over single events that hold for an event in JSON, in
// the order of loading: no correlations, no reasons, nothing remembered. It may
// be called from many goroutines at once. Sources and error are as for
// [Engine.MatchJSON].
func (e *Engine) Scan(raw []byte, sources ...Logsource) ([]*Rule, error) {
	set := e.set()
	m := set.machine()
	defer set.machines.Put(m)
	hits, _, err := set.matchJSON(m, raw, sources)
	if len(hits) == 0 || err != nil {
		return nil, err
	}
	out := make([]*Rule, len(hits))
	for i, rule := range hits {
		out[i] = set.events[rule]
	}
	return out, nil
}

// decodeEvent decodes an event that has been found to be JSON.
func decodeEvent(raw []byte, sources []Logsource) pasban.Event {
	ev := pasban.Event{}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber() // as written: large numbers do not survive as float64
	_ = dec.Decode(&ev)
	ev[LogsourceKey] = sources
	return ev
}

// finish makes matches of the rules that hold and lets them count for the
// correlations. It returns ok false, and has done nothing, if the rules were
// exchanged meanwhile: the event is to be matched again.
func (e *Engine) finish(set *ruleSet, m *machine, hits []int32) (out []Match, ok bool) {
	defer func() {
		if ok && !m.event.again {
			m.route.events.events.Add(1)
		}
		m.event, m.one = lazyEvent{}, occurrence{}
		set.machines.Put(m)
	}()
	if len(hits) == 0 && !set.closes {
		return nil, true
	}
	ref := m.ref()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.set() != set {
		return nil, false
	}
	now := set.memory.moment(ref.Time)
	if set.closes {
		out = set.close(set.memory.latest-set.memory.limits.Late.Milliseconds(), m.event.again)
	}
	for _, rule := range hits {
		m.one = occurrence{rule: set.events[rule], number: rule, at: now, ref: ref, event: &m.event, m: m}
		out = set.fire(out, &m.one)
	}
	if len(hits) > 0 && ref.Seq >= FirstReceived {
		e.recent.add(ref.Seq, m.event.get())
	}
	e.recent.attach(out)
	return out, true
}

// Close ends every window that waits for its end, as if no further event came,
// and returns the matches: at the end of a file.
func (e *Engine) Close() []Match {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.recent.attach(e.set().close(math.MaxInt64, false))
}

// closeUntil ends the windows that would have closed if an event had come now.
func (e *Engine) closeUntil(now time.Time) []Match {
	e.mu.Lock()
	defer e.mu.Unlock()
	set := e.set()
	if !set.closes {
		return nil
	}
	set.memory.latest = max(set.memory.latest, now.UnixMilli())
	return e.recent.attach(set.close(set.memory.latest-set.memory.limits.Late.Milliseconds(), false))
}

// ref names the event in the record.
func (m *machine) ref() Ref {
	if m.event.ev != nil {
		return refOf(m.event.ev)
	}
	return Ref{ID: string(m.record.firstText(m.own.uid)), Time: timeOf(m.record.firstText(m.own.time))}
}

// timeOf reads an event's time in JSON: milliseconds since 1970, or RFC 3339.
func timeOf(text []byte) time.Time {
	if ms, ok := parseNumber(text); ok && math.Abs(ms) < 1e15 {
		return time.UnixMilli(int64(ms)).UTC()
	}
	at, err := time.Parse(time.RFC3339Nano, string(text))
	if err != nil {
		return time.Time{}
	}
	return at.UTC()
}

// why says why a rule holds: the tests that do, in words. First come those that
// tell more than a value that the rule names itself, then the fields of
// interest, then the rest.
func (m *machine) why(rule int32, fields []string) (why, parts []string) {
	var telling, plain []because
	for _, r := range m.explain(m.roots[rule], nil) {
		r.part = m.partOf(rule, r.node)
		if strings.Contains(r.text, `": "`) {
			telling = append(telling, r)
		} else {
			plain = append(plain, r)
		}
	}
	for _, field := range fields {
		var texts []string
		for _, text := range m.record.fieldTexts(field) {
			texts = append(texts, clip(text))
		}
		if len(texts) > 0 {
			telling = append(telling, because{text: field + ": " + strings.Join(texts, ", ")})
		}
	}
	if telling = append(telling, plain...); len(telling) == 0 {
		telling = []because{{text: "nothing that the rule excludes is there"}}
	}
	for _, r := range telling {
		why, parts = append(why, r.text), append(parts, r.part)
	}
	return why, parts
}

// ruleSet is a linked set of rules: correlations know the rules they refer to.
type ruleSet struct {
	all        []*Rule
	sources    []*Rule // all rules and filters, as they were read
	events     []*Rule // the rules over single events
	conditions []expr  // of each, with the filters that apply to it
	*compiled
	taxonomy boundTaxonomy
	machines sync.Pool // of *machine
	// users are the correlations that refer to a rule; quiet rules do not fire themselves.
	users    map[*Rule][]user
	quiet    map[*Rule]bool
	maxSpan  time.Duration // the longest window
	followed []follower    // the same, by number of the rules over single events
	closes   bool          // some correlation asks closed windows
	memory   *memory
}

func (s *ruleSet) machine() *machine {
	if m, ok := s.machines.Get().(*machine); ok {
		return m
	}
	return s.newMachine()
}

// matchJSON returns the rules that hold for an event, by number, and its route.
func (s *ruleSet) matchJSON(m *machine, raw []byte, sources []Logsource) ([]int32, *route, error) {
	if err := m.record.readJSON(raw); err != nil {
		return nil, nil, err
	}
	var rt *route
	switch {
	case len(sources) > 0:
		rt = m.routeOf(sources)
	case len(s.taxonomy.mappings) > 0:
		rt = m.classify(&s.taxonomy)
	default:
		rt = m.routeOf([]Logsource{{
			Product:  m.record.fieldText(LogsourceKey + ".product"),
			Category: m.record.fieldText(LogsourceKey + ".category"),
			Service:  m.record.fieldText(LogsourceKey + ".service"),
		}})
	}
	return m.run(rt), rt, nil
}

// fire adds a rule's match and lets it count for the correlations that refer to
// the rule. References form no cycles (link refuses them), so this ends.
func (s *ruleSet) fire(out []Match, o *occurrence) []Match {
	if !o.event.again {
		s.figures.hit(o.rule)
	}
	var f follower
	if o.number >= 0 {
		f = s.followed[o.number]
	} else {
		f = follower{s.users[o.rule], s.quiet[o.rule]}
	}
	if !f.quiet {
		out = append(out, o.full())
	}
	for i := range f.users {
		if match, ok := s.memory.add(&f.users[i], o); ok {
			out = s.fire(out, o.next(match))
		}
	}
	return out
}

// next is the occurrence of a correlation's match.
func (o *occurrence) next(match Match) *occurrence {
	return &occurrence{rule: match.Rule, number: -1, at: o.at, ref: match.Refs[len(match.Refs)-1], event: o.event, m: o.m, match: &match}
}

// close ends the windows that end until then, and returns what they make fire.
// again says that this happened before, and is not counted.
func (s *ruleSet) close(until int64, again bool) (out []Match) {
	groups, figures := s.memory.closed(until)
	if len(groups) == 0 {
		return nil
	}
	m := s.machine()
	defer s.machines.Put(m)
	for i, g := range groups {
		m.record.readEvent(g.last)
		ref := g.hits[len(g.hits)-1].ref
		rule := g.rule.correlation.rules[g.hits[len(g.hits)-1].rule]
		o := occurrence{rule: rule, at: g.hits[len(g.hits)-1].at, ref: ref, event: &lazyEvent{ev: g.last, again: again}, m: m}
		match := s.memory.fired(g, figures[i], o.entityFor(g.rule), Match{Time: ref.Time, Event: g.last})
		out = s.fire(out, o.next(match))
	}
	return out
}

// entityFields are where an event says whom it is about if no correlation
// groups it: the flat field Entity of Pasban's own events, else the host.
func entityFields() [4]string { return [4]string{"Entity", "Computer", "host", "hostname"} }

func (r *record) entity() string {
	for _, field := range entityFields() {
		if s := r.fieldText(field); s != "" {
			return s
		}
	}
	return ""
}

// readFields are the fields that the engine itself asks events for.
func readFields() []string {
	fields := entityFields()
	return append(fields[:], "time", "metadata.uid", LogsourceKey+".product", LogsourceKey+".category", LogsourceKey+".service")
}
