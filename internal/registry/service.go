package registry

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"pasban"
	"pasban/internal/access"
	"pasban/internal/config"
)

// Service is a declared service: what a file under services/ says.
type Service struct {
	// Version is the version of the file's format: 1.
	Version int `yaml:"version" required:"true" min:"1" max:"1"`
	// ID names the service in addresses, policies and facts.
	ID string `yaml:"id" required:"true"`
	// Prefix begins the reference number of every application.
	Prefix string `yaml:"prefix" required:"true"`
	// Name is what people call the service.
	Name config.Text `yaml:"name" required:"true"`
	// Summary says in a sentence what it is for.
	Summary config.Text `yaml:"summary" required:"true"`
	// Basis is the law that it rests on; the English text goes into facts.
	Basis config.Text `yaml:"basis" required:"true"`
	// Purposes are the reasons of which an officer must give one, with a case.
	Purposes []Code `yaml:"purposes" required:"true"`
	// Apply are the roles that may hand in an application.
	Apply []pasban.Role `yaml:"apply" required:"true" enum:"citizen|officer|supervisor"`
	// Days is within how many working days it is decided; 0 promises nothing.
	Days int `yaml:"days" min:"0" max:"3650"`
	// Fields are the questions of the form, in order.
	Fields []Field `yaml:"fields" required:"true"`
	// Workflow is the way of an application from state to state.
	Workflow Workflow `yaml:"workflow" required:"true"`

	// File is where it was declared.
	File string `yaml:"-"`
}

// Code is a name for programs with its words for people.
type Code struct {
	// Code is the name for programs.
	Code string `yaml:"code" required:"true"`
	// Name is what people read.
	Name config.Text `yaml:"name" required:"true"`
}

// Class says how a field is protected.
type Class string

const (
	Public    Class = "public"    // kept in the clear and shown in lists
	Personal  Class = "personal"  // sealed under the citizen's key
	Sensitive Class = "sensitive" // sealed likewise; shown only where it is asked for by name
)

// Field is one question of a service's form.
type Field struct {
	// Name names the answer for programs and in facts.
	Name string `yaml:"name" required:"true"`
	// Label is the question.
	Label config.Text `yaml:"label" required:"true"`
	// Hint helps to answer it.
	Hint *config.Text `yaml:"hint"`
	// Kind is what sort of answer is wanted. cnic and mobile are brought into
	// one form; a date is written 2026-11-23.
	Kind string `yaml:"kind" default:"text" enum:"text|textarea|cnic|mobile|email|date|number|choice"`
	// Class says how the answer is protected: public (kept in the clear, shown
	// in lists), personal (sealed), or sensitive (sealed, and opened only when
	// asked for by name).
	Class Class `yaml:"class" required:"true" enum:"public|personal|sensitive"`
	// Subject marks the field whose CNIC says whom the application is about.
	Subject bool `yaml:"subject"`
	// Of is the subject field whose citizen this answer is about. Without it:
	// the first subject field.
	Of string `yaml:"of"`
	// Required asks for an answer.
	Required bool `yaml:"required"`
	// Lookup lets officers find applications by this answer, without opening
	// any: a keyed hash of it is kept.
	Lookup bool `yaml:"lookup"`
	// Pattern is a regular expression (RE2) that the whole answer must match.
	Pattern string `yaml:"pattern"`
	// Max is the longest answer, in characters. Without it: 200, for a textarea 2000.
	Max int `yaml:"max" min:"0" max:"10000"`
	// Choices are the possible answers of a choice.
	Choices []Code `yaml:"choices"`

	pattern *regexp.Regexp
}

// Longest returns the longest answer in characters.
func (f Field) Longest() int {
	switch {
	case f.Max > 0:
		return f.Max
	case f.Kind == "textarea":
		return 2000
	}
	return 200
}

// Workflow is the way of an application from state to state.
type Workflow struct {
	// Start is the state of a new application.
	Start string `yaml:"start" required:"true"`
	// States are where an application can stand.
	States []State `yaml:"states" required:"true"`
	// Steps lead from one state to another.
	Steps []Step `yaml:"steps" required:"true"`
}

// State is where an application can stand.
type State struct {
	// ID names the state for programs.
	ID string `yaml:"id" required:"true"`
	// Name is what people read.
	Name config.Text `yaml:"name" required:"true"`
	// Final marks a state after which nothing more happens.
	Final bool `yaml:"final"`
}

// Step leads from one state to another.
type Step struct {
	// ID names the step for programs.
	ID string `yaml:"id" required:"true"`
	// Name is what people read on the button.
	Name config.Text `yaml:"name" required:"true"`
	// From are the states in which the step can be taken.
	From []string `yaml:"from" required:"true"`
	// To is the state that it leads to.
	To string `yaml:"to" required:"true"`
	// Roles are those that may take it, as far as policies permit.
	Roles []pasban.Role `yaml:"roles" required:"true" enum:"officer|supervisor"`
	// Action is what the step is to policies: change, or approve (which nobody
	// may take after their own step).
	Action string `yaml:"action" default:"change" enum:"change|approve"`
}

// PurposeCodes returns the codes of the service's purposes.
func (s *Service) PurposeCodes() []string {
	out := make([]string, len(s.Purposes))
	for i, p := range s.Purposes {
		out[i] = p.Code
	}
	return out
}

// Field returns the declared field of a name.
func (s *Service) Field(name string) (Field, bool) {
	if i := slices.IndexFunc(s.Fields, func(f Field) bool { return f.Name == name }); i >= 0 {
		return s.Fields[i], true
	}
	return Field{}, false
}

// State returns the declared state of an id.
func (s *Service) State(id string) (State, bool) {
	if i := slices.IndexFunc(s.Workflow.States, func(st State) bool { return st.ID == id }); i >= 0 {
		return s.Workflow.States[i], true
	}
	return State{}, false
}

// Step returns the declared step of an id.
func (s *Service) Step(id string) (Step, bool) {
	if i := slices.IndexFunc(s.Workflow.Steps, func(st Step) bool { return st.ID == id }); i >= 0 {
		return s.Workflow.Steps[i], true
	}
	return Step{}, false
}

// StepsFrom returns the steps that someone of the role could take next.
func (s *Service) StepsFrom(state string, role pasban.Role) []Step {
	var out []Step
	for _, st := range s.Workflow.Steps {
		if slices.Contains(st.From, state) && slices.Contains(st.Roles, role) {
			out = append(out, st)
		}
	}
	return out
}

// firstSubject returns the name of the first subject field.
func (s *Service) firstSubject() string {
	for _, f := range s.Fields {
		if f.Subject {
			return f.Name
		}
	}
	return ""
}

// LoadServices reads service files. The error is config.Problems with the
// place of every problem.
func LoadServices(files []string) ([]*Service, error) {
	var out []*Service
	var problems config.Problems
	for _, file := range files {
		data, err := config.ReadFile(file)
		if err != nil {
			p := config.Problem{File: file, Msg: err.Error()}
			if e, ok := errors.AsType[*pasban.Error](err); ok && e.Err != nil {
				p.Msg = e.Msg + ": " + e.Err.Error()
			}
			problems = append(problems, p)
			continue
		}
		s, found := ParseService(file, data)
		problems = append(problems, found...)
		if found != nil {
			continue
		}
		for _, o := range out {
			if o.ID == s.ID {
				problems = append(problems, config.Problem{File: file, Line: 1, Field: "id", Msg: fmt.Sprintf("service %q is declared in %s already", s.ID, o.File)})
			}
			if o.Prefix == s.Prefix {
				problems = append(problems, config.Problem{File: file, Line: 1, Field: "prefix", Msg: fmt.Sprintf("prefix %q is taken by %s", s.Prefix, o.File)})
			}
		}
		out = append(out, s)
	}
	if err := problems.Err(); err != nil {
		return nil, err
	}
	return out, nil
}

// ParseService reads one service file. It never panics, whatever data is.
func ParseService(file string, data []byte) (*Service, config.Problems) {
	doc, problems := config.Parse(file, data)
	if problems != nil {
		return nil, problems
	}
	s := &Service{File: file}
	c := serviceCheck{doc: doc, s: s, problems: doc.Into(s)}
	c.check()
	if len(c.problems) > 0 {
		c.problems.Sort()
		return nil, c.problems
	}
	return s, nil
}

// serviceCheck finds what a type cannot say of a service.
type serviceCheck struct {
	doc      *config.Document
	s        *Service
	problems config.Problems
}

var (
	idForm     = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)
	nameForm   = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)
	prefixForm = regexp.MustCompile(`^[A-Z]{2,6}$`)
)

func (c *serviceCheck) bad(path, hint, format string, args ...any) {
	c.problems = append(c.problems, c.doc.Problem(path, hint, format, args...))
}

// name checks a new name in a list; zero values were reported as missing.
func (c *serviceCheck) name(path, name string, form *regexp.Regexp, seen map[string]bool) {
	switch {
	case name == "":
	case !form.MatchString(name):
		c.bad(path, "lower-case letters and digits", "not a name: %q", name)
	case seen[name]:
		c.bad(path, "", "%q is there twice", name)
	}
	seen[name] = true
}

func (c *serviceCheck) known(path, name string, names []string) {
	if name == "" || slices.Contains(names, name) {
		return
	}
	hint := "one of " + strings.Join(names, ", ")
	if n := config.Nearest(name, names); n != "" {
		hint = fmt.Sprintf("did you mean %q?", n)
	}
	c.bad(path, hint, "there is no %q", name)
}

func (c *serviceCheck) check() {
	s := c.s
	if s.ID != "" && !idForm.MatchString(s.ID) {
		c.bad("id", "such as land-transfer", "not a service id: %q", s.ID)
	}
	if s.Prefix != "" && !prefixForm.MatchString(s.Prefix) {
		c.bad("prefix", "two to six capital letters", "not a prefix: %q", s.Prefix)
	}
	seen := map[string]bool{}
	for i, p := range s.Purposes {
		c.name(fmt.Sprintf("purposes[%d].code", i), p.Code, idForm, seen)
	}
	for _, key := range []struct {
		name  string
		empty bool
	}{{"purposes", len(s.Purposes) == 0}, {"apply", len(s.Apply) == 0}, {"fields", len(s.Fields) == 0},
		{"workflow.states", len(s.Workflow.States) == 0}} {
		if key.empty && c.doc.Has(key.name) {
			c.bad(key.name, "", "the list is empty")
		}
	}
	c.fields()
	c.workflow()
}

func (c *serviceCheck) fields() {
	var subjects []string
	for _, f := range c.s.Fields {
		if f.Subject {
			subjects = append(subjects, f.Name)
		}
	}
	if len(subjects) == 0 && len(c.s.Fields) > 0 {
		c.bad("fields", "mark the field of the applicant's CNIC with subject: true", "no field says whom an application is about")
	}
	seen := map[string]bool{}
	for i := range c.s.Fields {
		c.field(fmt.Sprintf("fields[%d]", i), &c.s.Fields[i], seen, subjects)
	}
}

func (c *serviceCheck) field(path string, f *Field, seen map[string]bool, subjects []string) {
	c.name(path+".name", f.Name, nameForm, seen)
	if f.Subject && (f.Kind != "cnic" || !f.Required || f.Class == Public) {
		c.bad(path+".subject", "kind: cnic, class: personal, required: true", "a subject is a required CNIC, and not public")
	}
	if f.Subject && f.Of != "" {
		c.bad(path+".of", "remove it", "a subject is about itself")
	}
	c.known(path+".of", f.Of, subjects)
	if f.Of == "" && !f.Subject {
		f.Of = c.s.firstSubject()
	}
	if f.Subject {
		f.Of = f.Name
	}
	if f.Class == Sensitive && f.Lookup {
		c.bad(path+".lookup", "remove it", "sensitive answers are not searched")
	}
	if f.Pattern != "" {
		re, err := regexp.Compile(`^(?:` + f.Pattern + `)$`)
		if err != nil {
			c.bad(path+".pattern", "", "not a regular expression: %v", err)
		}
		f.pattern = re
	}
	if (f.Kind == "choice") != (len(f.Choices) > 0) && f.Kind != "" {
		c.bad(path+".choices", "", "a choice has choices, and nothing else does")
	}
	codes := map[string]bool{}
	for i, ch := range f.Choices {
		c.name(fmt.Sprintf("%s.choices[%d].code", path, i), ch.Code, idForm, codes)
	}
}

func (c *serviceCheck) workflow() {
	w := c.s.Workflow
	var states []string
	seen := map[string]bool{}
	for i, st := range w.States {
		c.name(fmt.Sprintf("workflow.states[%d].id", i), st.ID, idForm, seen)
		states = append(states, st.ID)
	}
	c.known("workflow.start", w.Start, states)
	steps, reached, left := map[string]bool{}, map[string]bool{w.Start: true}, map[string]bool{}
	for i, st := range w.Steps {
		path := fmt.Sprintf("workflow.steps[%d]", i)
		c.name(path+".id", st.ID, idForm, steps)
		c.known(path+".to", st.To, states)
		reached[st.To] = true
		for j, from := range st.From {
			c.known(fmt.Sprintf("%s.from[%d]", path, j), from, states)
			if state, _ := c.s.State(from); state.Final {
				c.bad(fmt.Sprintf("%s.from[%d]", path, j), "", "nothing happens after the final state %q", from)
			}
			left[from] = true
		}
		if st.Action == access.Approve && slices.Contains(st.Roles, pasban.RoleOfficer) {
			c.bad(path+".roles", "supervisor", "approval is a supervisor's")
		}
	}
	for i, st := range w.States {
		path := fmt.Sprintf("workflow.states[%d]", i)
		if st.ID != "" && !reached[st.ID] {
			c.bad(path, "", "no step leads to state %q", st.ID)
		}
		if st.ID != "" && !st.Final && !left[st.ID] {
			c.bad(path, "add final: true, or a step from it", "no step leads out of state %q", st.ID)
		}
	}
}
