// Package detect finds attacks and misuse in what the journal records: it reads
// Sigma rules, matches events against them, correlates matches over time, and
// hands every match on.
//
// # Main types
//
// A [Rule] is one Sigma rule: a detection over single events, or a correlation
// over other rules. An [Engine] holds a set of rules and the bounded memory of
// its correlations. A [Match] says which rule fired, about whom, when, and in
// words why. [FromEntry] turns a journal entry into a [pasban.Event]: an OCSF
// object with the flat fields that rules name (see [Fields]).
//
// # The way of an event
//
//	journal.Tail → FromEntry → Engine.Match → sink (soc)
//
// Run does that as the journal's reader "detect". It follows the journal from
// behind, so no request ever waits for it.
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
// The language is Sigma 2.1 (specification of detection rules and of
// correlation rules); what is left out is refused, not ignored: placeholders
// (expand), the aggregation expressions of Sigma 1, and correlation conditions
// that only hold once a window has closed (lt, lte, eq, neq).
package detect

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"pasban"
	"pasban/internal/config"
)

// Match is one firing of a rule.
type Match struct {
	Rule   *Rule
	Time   time.Time    // of the event that made it fire
	Entity string       // whom or what it is about: the group of a correlation, else the event's own
	Why    []string     // in words
	Event  pasban.Event // the event that made it fire
	// Refs names the events that caused it, oldest first. A correlation that
	// goes on firing names each event once.
	Refs []Ref
}

// Ref names one event.
type Ref struct {
	Seq  uint64    // sequence number in the journal, 0 if the event is not from there
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

// Time is when the event happened: its OCSF "time" in milliseconds since 1970,
// or the zero time if it has none.
func Time(ev pasban.Event) time.Time {
	switch ms := ev["time"].(type) {
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
// several goroutines; events are taken one at a time, because correlations
// depend on their order.
type Engine struct {
	// Owned by the goroutine of Run, of which there is one at a time.
	seen    uint64  // the last entry matched: handed out again, it is not counted again
	pending []Match // not yet taken by the sink

	mu     sync.Mutex // covers everything below
	rules  *ruleSet
	delays delays
	tally  tally
}

// Load reads every rule file (*.yml, *.yaml) in the given directories, their
// subdirectories, or named files; files ending in .test.yml hold cases and are
// left out. The error is config.Problems with every mistake of every file; the
// engine is usable only if there is none.
func Load(paths []string) (*Engine, error) {
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
	return load(files, problems)
}

// LoadFS reads every rule file of a file system, like [Load].
func LoadFS(fsys fs.FS) (*Engine, error) {
	files, err := readRules(fsys, func(name string) string { return name })
	if err != nil {
		return nil, config.Problems{{File: ".", Msg: "cannot read the rules: " + reason(err)}}
	}
	return load(files, nil)
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

func load(files []source, problems config.Problems) (*Engine, error) {
	var rules []*Rule
	for _, f := range files {
		found, bad := parseFile(f.name, f.data)
		rules = append(rules, found...)
		problems = append(problems, bad...)
	}
	set, bad := newRuleSet(rules, DefaultLimits())
	problems = append(problems, bad...)
	if err := problems.Err(); err != nil {
		return nil, err
	}
	return &Engine{rules: set}, nil
}

// Rules lists the engine's rules by title.
func (e *Engine) Rules() []*Rule {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.SortedFunc(slices.Values(e.rules.all), func(a, b *Rule) int {
		return cmp.Or(cmp.Compare(a.Title, b.Title), cmp.Compare(a.ID, b.ID))
	})
}

// Swap exchanges the rules for those of next, which must not be used
// afterwards. A correlation whose text did not change keeps its memory.
func (e *Engine) Swap(next *Engine) {
	next.mu.Lock()
	rules := next.rules
	next.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	rules.inherit(e.rules)
	e.rules = rules
}

// Match feeds one event to every rule and returns the matches, rules in the
// order of loading. Rules that a correlation refers to do not fire themselves
// unless the correlation says generate: true.
func (e *Engine) Match(ev pasban.Event) []Match {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.rules.match(ev)
}

// ruleSet is a linked set of rules: correlations know the rules they refer to.
type ruleSet struct {
	all    []*Rule
	events []*Rule // the rules over single events
	// users are the correlations that refer to a rule; quiet rules do not fire themselves.
	users   map[*Rule][]*Rule
	quiet   map[*Rule]bool
	maxSpan time.Duration // the longest window
}

func (s *ruleSet) match(ev pasban.Event) []Match {
	var out []Match
	sources := logsources(ev)
	for _, r := range s.events {
		if !r.Source.fits(sources) || !r.detection.match(ev) {
			continue
		}
		ref := refOf(ev)
		out = s.fire(out, Match{
			Rule: r, Time: ref.Time, Entity: entity(ev), Why: r.detection.explain(ev, r.Fields),
			Event: ev, Refs: []Ref{ref},
		})
	}
	return out
}

// fire adds a match and lets it count for the correlations that refer to its
// rule. References form no cycles (link refuses them), so this ends.
func (s *ruleSet) fire(out []Match, m Match) []Match {
	if !s.quiet[m.Rule] {
		out = append(out, m)
	}
	for _, user := range s.users[m.Rule] {
		if next, ok := user.correlation.add(user, m); ok {
			out = s.fire(out, next)
		}
	}
	return out
}

// inherit takes over the memory of correlations that did not change.
func (s *ruleSet) inherit(old *ruleSet) {
	before := map[string]*Rule{}
	for _, r := range old.all {
		before[r.ID] = r
	}
	for _, r := range s.all {
		if b := before[r.ID]; b != nil && r.correlation != nil && b.correlation != nil && r.text == b.text {
			r.correlation.memory = b.correlation.memory
		}
	}
}

// entity is whom an event is about if no correlation groups it: the flat field
// Entity of Pasban's own events, else the host.
func entity(ev pasban.Event) string {
	for _, field := range []string{"Entity", "Computer", "host", "hostname"} {
		if s, ok := ev[field].(string); ok && s != "" {
			return s
		}
	}
	return ""
}
