package detect

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/journal"
)

// caseFile is a file name.test.yml beside a rule file: facts for which its
// rules must fire, and facts for which they must not.
type caseFile struct {
	Cases []ruleCase `yaml:"cases" required:"true"`
}

// ruleCase is one story. Its facts go through [FromEntry] as the journal's do.
type ruleCase struct {
	Name  string     `yaml:"name" required:"true"`
	Rule  string     `yaml:"rule" required:"true"` // id of the rule in question
	Match bool       `yaml:"match"`                // whether it must fire
	Why   string     `yaml:"why"`                  // text that the reasons must contain
	Facts []caseFact `yaml:"facts" required:"true"`
}

// caseFact is one fact or, with repeat, several. In its texts %d stands for the
// number of the repetition, from 0.
type caseFact struct {
	At     string        `yaml:"at"`    // of the first fact, RFC 3339; "" is 2026-11-23T05:00:00Z, 10 o'clock in Pakistan
	After  time.Duration `yaml:"after"` // since the fact before
	Repeat int           `yaml:"repeat" default:"1" min:"1" max:"1000"`
	Every  time.Duration `yaml:"every"`

	Kind      string            `yaml:"kind" required:"true" enum:"look|change|decision|admin|opening|signin|block|alarm"`
	Action    string            `yaml:"action"`
	Outcome   string            `yaml:"outcome" default:"allow" enum:"allow|deny"`
	Actor     string            `yaml:"actor"`
	ActorKind string            `yaml:"actor_kind"`
	Role      string            `yaml:"role"`
	Subject   string            `yaml:"subject"`
	Service   string            `yaml:"service"`
	Resource  string            `yaml:"resource"`
	Purpose   string            `yaml:"purpose"`
	Case      string            `yaml:"case"`
	Mode      string            `yaml:"mode"`
	Hidden    string            `yaml:"hidden"` // when the citizen is told of it
	Fields    []string          `yaml:"fields"`
	IP        string            `yaml:"ip"`
	UserAgent string            `yaml:"user_agent"`
	Method    string            `yaml:"method"`
	Path      string            `yaml:"path"`
	Status    int               `yaml:"status"`
	Policies  []string          `yaml:"policies"`
	Reasons   []string          `yaml:"reasons"`
	Rules     []string          `yaml:"rules"`
	More      map[string]string `yaml:"more"`
}

// CheckCases runs the cases beside the rules in the given directories, like
// [Load] names them. The error is config.Problems: rules that do not load, and
// cases whose rule does not do what they say.
func CheckCases(paths []string) error {
	engine, err := Load(paths)
	if err != nil {
		return err
	}
	var problems config.Problems
	for _, p := range paths {
		err := filepath.WalkDir(p, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(name, ".test.yml") {
				return err
			}
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			problems = append(problems, engine.checkCases(name, data)...)
			return nil
		})
		if err != nil {
			problems = append(problems, config.Problem{File: p, Msg: "cannot read the cases: " + reason(err)})
		}
	}
	return problems.Err()
}

// readCases reads one file's cases.
func readCases(file string, data []byte) (cf caseFile, doc *config.Document, problems config.Problems) {
	if doc, problems = config.Parse(file, data); problems == nil {
		problems = doc.Into(&cf)
	}
	return cf, doc, problems
}

// checkCases runs one file's cases, each with empty memory.
func (e *Engine) checkCases(file string, data []byte) config.Problems {
	cf, doc, problems := readCases(file, data)
	if len(problems) > 0 {
		return problems
	}
	for i, c := range cf.Cases {
		path := fmt.Sprintf("cases[%d]", i)
		if err := e.checkCase(c); err != nil {
			problems = append(problems, doc.Problem(path, "", "case %q: %v", c.Name, err))
		}
	}
	return problems
}

func (e *Engine) checkCase(c ruleCase) error {
	if !slices.ContainsFunc(e.set().all, func(r *Rule) bool { return r.ID == c.Rule }) {
		return fmt.Errorf("no rule with id %s is loaded", c.Rule)
	}
	entries, err := c.entries()
	if err != nil {
		return err
	}
	set := e.set()
	set.reset()
	quiet, followed := set.quiet, set.followed
	set.quiet, set.followed = nil, slices.Clone(followed) // cases may be about rules that do not fire themselves
	for i := range set.followed {
		set.followed[i].quiet = false
	}
	defer func() {
		set.quiet, set.followed = quiet, followed
		set.reset()
	}()
	var why []string
	fired := false
	for _, entry := range entries {
		for _, m := range e.Match(FromEntry(entry)) {
			if m.Rule.ID == c.Rule {
				fired = true
				why = append(why, m.Why...)
			}
		}
	}
	switch {
	case fired && !c.Match:
		return fmt.Errorf("the rule fires: %s", strings.Join(why, "; "))
	case !fired && c.Match:
		return errors.New("the rule does not fire")
	case !slices.ContainsFunc(why, func(w string) bool { return strings.Contains(w, c.Why) }) && c.Why != "":
		return fmt.Errorf("no reason contains %q: %s", c.Why, strings.Join(why, "; "))
	}
	return nil
}

// entries writes the case's facts as the journal would hand them out.
func (c ruleCase) entries() ([]journal.Entry, error) {
	now := time.Date(2026, 11, 23, 5, 0, 0, 0, time.UTC)
	var out []journal.Entry
	for _, f := range c.Facts {
		if f.At != "" {
			at, err := time.Parse(time.RFC3339, f.At)
			if err != nil {
				return nil, fmt.Errorf("%q is not a time", f.At)
			}
			now = at
		}
		now = now.Add(f.After)
		for n := range f.Repeat {
			if n > 0 {
				now = now.Add(f.Every)
			}
			seq := uint64(len(out) + 1)
			out = append(out, journal.Entry{Seq: seq, Index: -1, Fact: f.fact(seq, now, strconv.Itoa(n))})
		}
	}
	return out, nil
}

func (f caseFact) fact(seq uint64, now time.Time, n string) pasban.Fact {
	put := func(s string) string { return strings.ReplaceAll(s, "%d", n) }
	all := func(list []string) (out []string) {
		for _, s := range list {
			out = append(out, put(s))
		}
		return out
	}
	kind := pasban.ActorKind(f.ActorKind)
	if kind == "" {
		kind = pasban.ActorPerson
		if f.Role == string(pasban.RoleCitizen) {
			kind = pasban.ActorCitizen
		}
	}
	actor := pasban.Actor{ID: put(f.Actor), Kind: kind, Role: pasban.Role(f.Role)}
	if f.Actor == "" && f.ActorKind == "" {
		actor = pasban.Actor{}
	}
	fact := pasban.NewFact(pasban.Kind(f.Kind), "land-records", actor, now)
	fact.Subject.ID = pasban.SubjectID(put(f.Subject))
	b := &fact.Body
	b.ID = fmt.Sprintf("%032x", seq)
	b.Action, b.Outcome = f.Action, pasban.Outcome(f.Outcome)
	b.Service, b.Resource, b.Purpose, b.Case = put(f.Service), put(f.Resource), f.Purpose, put(f.Case)
	b.Mode, b.Fields, b.Hidden.Until = pasban.Mode(f.Mode), f.Fields, f.Hidden
	fact.Restricted = pasban.Restricted{
		Actor: actor.ID, IP: put(f.IP), UserAgent: f.UserAgent, Method: f.Method, Path: put(f.Path), Status: f.Status,
		Policies: f.Policies, Reasons: all(f.Reasons), Rules: f.Rules, More: map[string]string{},
	}
	for key, value := range f.More {
		fact.Restricted.More[key] = put(value)
	}
	return fact
}

// reset empties the memory of every correlation.
func (s *ruleSet) reset() {
	numbers := s.memory.numbers
	s.memory = newMemory(s.memory.limits)
	s.memory.limits.Ahead = math.MaxInt64 // cases have times of their own
	s.memory.numbers = numbers
}
