package screen

import (
	"fmt"
	"iter"
	"reflect"
	"regexp"
	"strings"
	"unsafe"

	"github.com/corazawaf/coraza/v3"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types"
	"github.com/corazawaf/coraza/v3/types/variables"
)

// rule is a rule as Coraza has loaded it: defaults, exclusions and updates of
// the configuration are in it.
type rule struct {
	id    int
	phase types.RulePhase
	mark  string // of SecMarker
	log   bool
	msg   string
	tags  []string
	links []*link // the rule itself, then those that are chained to it
}

// judges reports whether the rule is one of the phases that a request and an
// answer are led through.
func (r *rule) judges() bool {
	return r.mark == "" && r.id != 0 && r.phase >= types.PhaseRequestHeaders && r.phase <= types.PhaseResponseBody
}

// actions are those of all links.
func (r *rule) actions() iter.Seq[action] {
	return func(yield func(action) bool) {
		for _, l := range r.links {
			for _, a := range l.actions {
				if !yield(a) {
					return
				}
			}
		}
	}
}

// link is one condition of a rule and what is done when it holds.
type link struct {
	targets  []target
	operator plugintypes.Operator // nil: holds always
	function string               // the operator's name
	data     string               // its argument
	negated  bool
	steps    []step // transformations, in order
	multi    bool   // the operator sees the value after each step
	capture  bool
	actions  []action
}

// target is a variable that a link looks at.
type target struct {
	variable   variables.RuleVariable
	count      bool
	key        string
	pattern    *regexp.Regexp
	exceptions []exception
}

type exception struct {
	key     string
	pattern *regexp.Regexp
}

// step is one transformation; id names it and all that come before it.
type step struct {
	id       int
	function plugintypes.Transformation
}

// action is what a link does; the arguments are those of setvar, ctl and
// skipAfter.
type action struct {
	name  string
	kind  plugintypes.ActionType
	key   string // setvar: the variable's key; ctl: what is changed
	value string
	ctl   target // ctl:ruleRemoveTargetBy…
	unset bool
	count int // skip: how many rules
}

// read takes the rules out of a loaded WAF. Coraza has no interface for that,
// so it looks at the fields by name; its error says that this version of
// Coraza is built differently, and then nothing may be concluded about rules.
func read(w coraza.WAF) (rules []*rule, err error) {
	defer func() {
		if p := recover(); p != nil {
			rules, err = nil, fmt.Errorf("the rules of this Coraza cannot be read: %v", p)
		}
	}()
	wrapper := reflect.New(reflect.TypeOf(w)).Elem()
	wrapper.Set(reflect.ValueOf(w))
	list := at(at(wrapper, "waf").Elem(), "Rules", "rules")
	for i := range list.Len() {
		rules = append(rules, readRule(list.Index(i)))
	}
	return rules, nil
}

func readRule(v reflect.Value) *rule {
	meta := at(v, "RuleMetadata")
	r := &rule{
		id:    int(at(meta, "ID_").Int()),
		phase: types.RulePhase(at(meta, "Phase_").Int()),
		mark:  at(meta, "SecMark_").String(),
		log:   at(v, "Log").Bool(),
		tags:  at(meta, "Tags_").Interface().([]string),
		msg:   text(at(v, "Msg")),
	}
	for {
		r.links = append(r.links, readLink(v))
		next := at(v, "Chain")
		if next.IsNil() {
			return r
		}
		v = next.Elem()
	}
}

func readLink(v reflect.Value) *link {
	l := &link{multi: at(v, "MultiMatch").Bool(), capture: at(v, "Capture").Bool()}
	if op := at(v, "operator"); !op.IsNil() {
		l.operator = at(op.Elem(), "Operator").Interface().(plugintypes.Operator)
		l.negated = at(op.Elem(), "Negation").Bool()
		l.function = strings.TrimLeft(at(op.Elem(), "Function").String(), "!@")
		l.data = at(op.Elem(), "Data").String()
	}
	for _, t := range each(at(v, "variables")) {
		l.targets = append(l.targets, readTarget(t))
	}
	ids := at(v, "transformationPrefixIDs")
	for i, t := range each(at(v, "transformations")) {
		l.steps = append(l.steps, step{id: int(ids.Index(i).Int()), function: at(t, "Function").Interface().(plugintypes.Transformation)})
	}
	for _, a := range each(at(v, "actions")) {
		l.actions = append(l.actions, readAction(a))
	}
	return l
}

func readTarget(v reflect.Value) target {
	t := target{variable: variables.RuleVariable(at(v, "Variable").Uint()), count: at(v, "Count").Bool(),
		key: at(v, "KeyStr").String(), pattern: at(v, "KeyRx").Interface().(*regexp.Regexp)}
	for _, e := range each(at(v, "Exceptions")) {
		t.exceptions = append(t.exceptions, exception{key: at(e, "KeyStr").String(), pattern: at(e, "KeyRx").Interface().(*regexp.Regexp)})
	}
	return t
}

func readAction(v reflect.Value) action {
	f := at(v, "Function").Interface().(plugintypes.Action)
	a := action{name: strings.ToLower(at(v, "Name").String()), kind: f.Type()}
	if a.name != "setvar" && a.name != "ctl" && a.name != "skipafter" && a.name != "skip" {
		return a
	}
	args := reflect.ValueOf(f).Elem()
	switch a.name {
	case "setvar":
		a.key, a.value, a.unset = strings.ToLower(text(at(args, "key"))), text(at(args, "value")), at(args, "isRemove").Bool()
	case "ctl":
		a.key, a.value = fmt.Sprint(at(args, "action").Int()), at(args, "value").String()
		a.ctl = target{variable: variables.RuleVariable(at(args, "collection").Uint()), key: at(args, "colKey").String(),
			pattern: at(args, "colKeyRx").Interface().(*regexp.Regexp)}
	case "skip":
		a.count = int(at(args, "data").Int())
	case "skipafter":
		a.value = at(args, "data").String()
	}
	return a
}

// at is a field within a field, readable although it is not exported. It
// panics if there is none.
func at(v reflect.Value, path ...string) reflect.Value {
	for _, name := range path {
		f := v.FieldByName(name)
		if !f.IsValid() {
			panic(fmt.Sprintf("%s has no %s", v.Type(), name))
		}
		v = reflect.NewAt(f.Type(), unsafe.Pointer(f.UnsafeAddr())).Elem()
	}
	return v
}

func each(list reflect.Value) (all []reflect.Value) {
	for i := range list.Len() {
		all = append(all, list.Index(i))
	}
	return all
}

// text is what a macro was written as, "" if there is none.
func text(v reflect.Value) string {
	if v.IsNil() {
		return ""
	}
	return v.Interface().(fmt.Stringer).String()
}
