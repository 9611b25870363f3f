package detect

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// expr is a condition over one event, as a rule's author wrote it: a tree of
// allOf, anyOf, eachOf, notOf and named over fieldTest, keywordTest, existsTest and
// refTest. It says what is asked; compile turns it into nodes, which are run.
type expr interface {
	// compile returns the node for the expression, or for its opposite.
	compile(c *compiler, opposite bool) int32
}

type (
	allOf  []expr           // every part must hold
	anyOf  []expr           // one part must hold, and one reason is enough
	eachOf []expr           // one part must hold, and each that does is a reason
	notOf  struct{ x expr } // the part must not hold
)

// named is a search identifier: reasons say by which of them a rule holds.
type named struct {
	name string
	x    expr
}

// fieldTest asks for the values of one field.
type fieldTest struct {
	field    string
	matchers []matcher
	all      bool // every matcher must find a value, instead of one
	null     bool // null is among the values asked for
	neq      bool // the opposite is asked for
}

// keywordTest asks for texts anywhere in the event.
type keywordTest struct {
	matchers []matcher // one must hold
}

// existsTest asks whether a field is there.
type existsTest struct {
	field string
	want  bool
}

// refTest compares a field with others of the same event.
type refTest struct {
	field, verb string
	others      []string
	cased, neq  bool
}

// condNode is a part of one or several rules' conditions. Negations have been
// moved down to the leaves, and equal parts of all rules are one node.
type condNode struct {
	op    nodeOp
	leaf  int32   // of opLeaf and opNot
	kids  []int32 // of opAll and opAny, as written
	quick []int32 // the same, what is cheap to ask first
	each  bool    // of opAny: every part that holds is a reason
	neq   bool    // of opNot: the rule asked for the opposite itself
	cost  float64 // a guess of what asking costs
}

type nodeOp uint8

const (
	opLeaf nodeOp = iota // the leaf holds
	opNot                // it does not
	opAll
	opAny
)

// leaf is a question about the event that is not divided any further. Each is
// answered at most once for an event, however many rules ask it.
type leaf struct {
	kind     leafKind
	field    int32
	name     string             // the field's name
	words    map[string]string  // of leafWords: lower case → as written
	numbers  map[float64]string // of leafNumbers
	matchers []matcher          // of leafMatch and leafKeyword: one must hold
	others   []int32            // of leafRef
	ref      *refTest
}

type leafKind uint8

const (
	leafExists  leafKind = iota
	leafNull             // the field is not there, or null
	leafWords            // it is one of some texts
	leafNumbers          // it is one of some numbers
	leafMatch            // one of the matchers holds for one of its values
	leafRef              // it compares with another field
	leafKeyword          // one of the matchers holds for some value of the event
)

// compiler collects the nodes and leaves of a set of rules.
type compiler struct {
	names  *vocabulary
	nodes  []condNode
	leaves []leaf
	known  map[string]int32 // what a node or leaf is → its number
	named  []namedPart      // parts of the condition that is being compiled
}

// namedPart is the node of a search identifier.
type namedPart struct {
	name string
	node int32
}

func newCompiler() *compiler {
	return &compiler{names: newVocabulary(), known: map[string]int32{}}
}

func (c *compiler) node(key string, n condNode) int32 {
	if at, ok := c.known[key]; ok {
		return at
	}
	at := int32(len(c.nodes))
	c.nodes = append(c.nodes, n)
	c.known[key] = at
	return at
}

// group makes a node of parts: none, one, or several of which equal ones count once.
func (c *compiler) group(op nodeOp, each bool, kids []int32) int32 {
	var flat []int32
	for _, k := range kids {
		parts := []int32{k}
		if n := c.nodes[k]; n.op == op && n.each == each {
			parts = n.kids
		}
		for _, k := range parts {
			if !slices.Contains(flat, k) {
				flat = append(flat, k)
			}
		}
	}
	if len(flat) == 1 {
		return flat[0]
	}
	n := condNode{op: op, each: each, kids: flat, quick: slices.Clone(flat)}
	for _, k := range flat {
		n.cost += c.nodes[k].cost
	}
	slices.SortStableFunc(n.quick, func(a, b int32) int { return cmp.Compare(c.nodes[a].cost, c.nodes[b].cost) })
	key := []byte{'g', byte(op), byte(flag(each))}
	for _, k := range flat {
		key = binary.LittleEndian.AppendUint32(key, uint32(k))
	}
	return c.node(string(key), n)
}

func (c *compiler) parts(list []expr, opposite bool) []int32 {
	kids := make([]int32, len(list))
	for i, x := range list {
		kids[i] = x.compile(c, opposite)
	}
	return kids
}

func (l allOf) compile(c *compiler, opposite bool) int32 {
	if opposite {
		return c.group(opAny, false, c.parts(l, true))
	}
	return c.group(opAll, false, c.parts(l, false))
}

func (l anyOf) compile(c *compiler, opposite bool) int32 {
	if opposite {
		return c.group(opAll, false, c.parts(l, true))
	}
	return c.group(opAny, false, c.parts(l, false))
}

func (l eachOf) compile(c *compiler, opposite bool) int32 {
	if opposite {
		return c.group(opAll, false, c.parts(l, true))
	}
	return c.group(opAny, true, c.parts(l, false))
}

func (x notOf) compile(c *compiler, opposite bool) int32 { return x.x.compile(c, !opposite) }

func (x named) compile(c *compiler, opposite bool) int32 {
	node := x.x.compile(c, opposite)
	if !opposite {
		c.named = append(c.named, namedPart{x.name, node})
	}
	return node
}

// ask makes a node of a leaf. neq says that a rule asked for the opposite by
// that modifier, which is a reason, unlike a "not" in a condition.
func (c *compiler) ask(key string, l leaf, opposite, neq bool) int32 {
	at, ok := c.known["leaf "+key]
	if !ok {
		at = int32(len(c.leaves))
		c.leaves = append(c.leaves, l)
		c.known["leaf "+key] = at
	}
	n := condNode{leaf: at, cost: leafCost(&c.leaves[at])}
	if opposite {
		n.op, n.neq = opNot, neq
	}
	return c.node(string(binary.LittleEndian.AppendUint32([]byte{'a', byte(n.op), byte(flag(n.neq))}, uint32(at))), n)
}

// leafCost guesses what a leaf costs, in some unit.
func leafCost(l *leaf) float64 {
	switch l.kind {
	case leafExists, leafNull:
		return 1
	case leafWords, leafNumbers:
		return 2
	case leafKeyword:
		return 1000
	}
	cost := 3.0
	for _, m := range l.matchers {
		cost += m.cost()
	}
	return cost
}

func (t *existsTest) compile(c *compiler, opposite bool) int32 {
	l := leaf{kind: leafExists, field: c.names.id(t.field), name: t.field}
	return c.ask("exists "+t.field, l, opposite == t.want, !t.want && !opposite)
}

func (t *refTest) compile(c *compiler, opposite bool) int32 {
	l := leaf{kind: leafRef, field: c.names.id(t.field), name: t.field, ref: t}
	for _, o := range t.others {
		l.others = append(l.others, c.names.id(o))
	}
	key := fmt.Sprintf("ref %q %s %q %v", t.field, t.verb, t.others, t.cased)
	return c.ask(key, l, opposite != t.neq, t.neq && !opposite)
}

func (t *keywordTest) compile(c *compiler, opposite bool) int32 {
	return c.ask("keyword "+keyOf(t.matchers), leaf{kind: leafKeyword, matchers: t.matchers}, opposite, false)
}

func (t *fieldTest) compile(c *compiler, opposite bool) int32 {
	neq := t.neq && !opposite
	opposite = opposite != t.neq
	field := c.names.id(t.field)
	var kids []int32
	if t.all {
		for _, m := range t.matchers {
			kids = append(kids, c.matchLeaves(t.field, field, []matcher{m}, opposite, neq)...)
		}
		both := c.group(joined(opposite, opAll), false, kids)
		kids = []int32{both}
		if len(t.matchers) == 0 {
			kids = nil
		}
	} else {
		kids = c.matchLeaves(t.field, field, t.matchers, opposite, neq)
	}
	if t.null {
		kids = append(kids, c.ask("null "+t.field, leaf{kind: leafNull, field: field, name: t.field}, opposite, neq))
	}
	return c.group(joined(opposite, opAny), false, kids)
}

// joined is how parts are joined, seen from the opposite if it is asked for.
func joined(opposite bool, op nodeOp) nodeOp {
	switch {
	case !opposite:
		return op
	case op == opAll:
		return opAny
	}
	return opAll
}

// matchLeaves sorts matchers into the leaves that answer them fastest.
func (c *compiler) matchLeaves(name string, field int32, matchers []matcher, opposite, neq bool) (kids []int32) {
	words := leaf{kind: leafWords, field: field, name: name, words: map[string]string{}}
	numbers := leaf{kind: leafNumbers, field: field, name: name, numbers: map[float64]string{}}
	rest := leaf{kind: leafMatch, field: field, name: name}
	for _, m := range matchers {
		switch m := m.(type) {
		case numberMatcher:
			numbers.numbers[m.number] = m.text
			continue
		case patternMatcher:
			if m.isPlain && m.head && m.tail && !m.cased {
				words.words[m.plain] = m.text
				continue
			}
		}
		rest.matchers = append(rest.matchers, m)
	}
	if n := len(numbers.numbers); n > 0 {
		kids = append(kids, c.ask("numbers "+name+sortedKey(numbers.numbers, func(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }), numbers, opposite, neq))
	}
	if len(words.words) > 0 {
		kids = append(kids, c.ask("words "+name+sortedKey(words.words, strconv.Quote), words, opposite, neq))
	}
	if len(rest.matchers) > 0 {
		kids = append(kids, c.ask("match "+name+keyOf(rest.matchers), rest, opposite, neq))
	}
	return kids
}

func sortedKey[K comparable](m map[K]string, write func(K) string) string {
	var keys []string
	for k := range m {
		keys = append(keys, write(k))
	}
	slices.Sort(keys)
	return " " + strings.Join(keys, " ")
}

// keyOf says what a list of matchers asks, so that equal ones are known.
func keyOf(matchers []matcher) string {
	var b strings.Builder
	for _, m := range matchers {
		b.WriteByte(' ')
		b.WriteString(m.key())
	}
	return b.String()
}
