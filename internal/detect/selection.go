package detect

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"pasban"
)

// Condition asks for one field of an event, as a line of a Sigma search does.
// Values are plain text, without wildcards; case is ignored.
type Condition struct {
	Field  string   `json:"field"`
	How    string   `json:"how,omitempty"` // a modifier, see [Hows]; "" is for the whole value
	Values []string `json:"values"`        // one must fit
}

// Hows lists what a [Condition] may ask of a value: Sigma's modifiers.
func Hows() []string { return []string{"", "contains", "startswith", "endswith", "cidr"} }

// String says the condition in words.
func (c Condition) String() string {
	var values []string
	for _, v := range c.Values {
		values = append(values, clip(v))
	}
	verb := map[string]string{"": "is", "contains": "contains", "startswith": "starts with", "endswith": "ends with", "cidr": "is in"}[c.How]
	return c.Field + " " + verb + " " + strings.Join(values, " or ")
}

// Selection is some conditions, all of which must hold. It may be used from
// several goroutines.
type Selection struct {
	mu   sync.Mutex
	m    *machine
	root int32
}

// NewSelection makes the conditions ready. The error says which of them makes
// no sense.
func NewSelection(conditions []Condition) (*Selection, error) {
	var all allOf
	for _, c := range conditions {
		t := &fieldTest{field: c.Field}
		if c.Field == "" || len(c.Values) == 0 {
			return nil, fmt.Errorf("a condition has a field and values")
		}
		for _, v := range c.Values {
			switch {
			case !slices.Contains(Hows(), c.How):
				return nil, fmt.Errorf("%s: unknown modifier %q", c.Field, c.How)
			case v == "" && c.How != "":
				return nil, fmt.Errorf("%s: an empty text is part of every value", c.Field)
			case c.How == "cidr":
				prefix, err := netip.ParsePrefix(v)
				if err != nil {
					return nil, fmt.Errorf("%s: %q is not a network, such as 192.0.2.0/24", c.Field, v)
				}
				t.matchers = append(t.matchers, cidrMatcher{prefix.Masked()})
			default:
				t.matchers = append(t.matchers, stringMatcher(c.How, v, literals(v), false))
			}
		}
		all = append(all, t)
	}
	c := newCompiler()
	root := all.compile(c, false)
	c.names.seal()
	out := &compiled{names: c.names, nodes: c.nodes, leaves: c.leaves}
	return &Selection{m: out.newMachine(), root: root}, nil
}

// Holds reports whether every condition holds for the event. Without conditions
// they do.
func (s *Selection) Holds(ev pasban.Event) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m.begin()
	s.m.record.readEvent(ev)
	return s.m.holds(s.root)
}
