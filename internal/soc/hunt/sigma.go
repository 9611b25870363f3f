package hunt

import (
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"pasban/internal/detect"
	"pasban/internal/eventstore"
)

// Difference is a part of a hunt that its rule says otherwise, or not at all.
type Difference struct {
	Part string // as the hunt says it
	Why  string
	Lost bool // the rule does not say it at all
}

// The reasons that differences have.
const (
	whyWord     = "Sigma has no words: the rule finds it inside longer words, too."
	whyKeyword  = "Sigma looks for it anywhere in the event, in capitals and small letters, and inside longer words."
	whyMessage  = "A rule sees an event's fields; the hunt looks at its message as a whole."
	whyStored   = "This field is the store's own; events that rules see have none."
	whyTime     = "A rule looks at each event when it comes, so a time says nothing."
	whyStream   = "Streams are the store's; name what they stand for in the logsource."
	whyForm     = "Sigma has no such comparison."
	whyNumber   = "Sigma compares with plain numbers only."
	whyNetwork  = "Sigma knows networks, and this range of addresses is not one."
	whyText     = "This value is not text that a rule can hold."
	whyShow     = "It only says how the results are shown."
	whyPipe     = "A rule over single events makes no new rows; counting over time is what Sigma's correlations are for."
	whyList     = "This is a whole list. Ask for one of its values: Field:value."
	whyWildcard = "Sigma names each field in full."
)

// item is one entry of a search identifier: a field with modifiers, and values
// of which one fits.
type item struct {
	key    string
	values []string // as YAML
}

// condition is what one leaf becomes.
type condition struct {
	items []item // all must fit
	words []string
	not   bool // the whole is denied
}

// translator turns the parts of a filter into search identifiers.
type translator struct {
	source  detect.Logsource // what the hunt itself says of it
	names   map[string]int
	text    strings.Builder // of the search identifiers
	differs []Difference
}

func (t *translator) lose(part, why string) {
	t.differs = append(t.differs, Difference{part, why, true})
}

func (t *translator) note(part, why string) {
	t.differs = append(t.differs, Difference{part, why, false})
}

// expr writes what a part needs and returns its condition, "" if nothing of it
// is left. top is true for parts that every event of the hunt fits.
func (t *translator) expr(n *node, top, denied bool) string {
	switch n.kind {
	case notNode:
		inner := t.expr(n.parts[0], false, !denied)
		if inner == "" {
			return ""
		}
		return "not " + bracket(inner)
	case orNode:
		return t.or(n, denied)
	case andNode:
		return t.and(n, top, denied)
	}
	if top && t.takesSource(n) {
		return ""
	}
	c, ok := t.leaf(n)
	if !ok {
		return ""
	}
	return t.condition(c, denied)
}

// condition writes the search identifier of one condition.
func (t *translator) condition(c condition, denied bool) string {
	var name string
	if len(c.words) > 0 {
		name = t.add("keywords", c.words, nil)
	} else {
		name = t.add(selection(denied != c.not), nil, [][]item{c.items})
	}
	if c.not {
		return "not " + name
	}
	return name
}

// and puts the plain conditions into one search identifier, and the rest beside it.
func (t *translator) and(n *node, top, denied bool) string {
	var together []item
	var apart []condition
	var nested []*node
	for _, p := range n.parts {
		if p.kind != leafNode {
			nested = append(nested, p)
			continue
		}
		if top && t.takesSource(p) {
			continue
		}
		c, ok := t.leaf(p)
		again := slices.ContainsFunc(c.items, func(i item) bool {
			return slices.ContainsFunc(together, func(j item) bool { return i.key == j.key })
		})
		switch {
		case !ok:
		case c.not || again || len(c.words) > 0:
			apart = append(apart, c)
		default:
			together = append(together, c.items...)
		}
	}
	var parts []string
	if len(together) > 0 {
		parts = append(parts, t.add(selection(denied), nil, [][]item{together}))
	}
	for _, c := range apart {
		parts = append(parts, t.condition(c, denied))
	}
	for _, p := range nested {
		c := t.expr(p, top, denied)
		if p.kind == orNode {
			c = bracket(c)
		}
		if c != "" {
			parts = append(parts, c)
		}
	}
	return strings.Join(parts, " and ")
}

// or writes alternatives: of one field as a list of values, of several as a list
// of mappings, and what is more than that by name.
func (t *translator) or(n *node, denied bool) string {
	var alternatives [][]item
	var words, rest []string
	for _, p := range n.parts {
		if p.kind != leafNode {
			if c := t.expr(p, false, denied); c != "" {
				if p.kind == andNode {
					c = bracket(c)
				}
				rest = append(rest, c)
			}
			continue
		}
		c, ok := t.leaf(p)
		switch {
		case !ok:
		case c.not:
			rest = append(rest, t.condition(c, denied))
		case len(c.words) > 0:
			words = append(words, c.words...)
		default:
			alternatives = merge(alternatives, c.items)
		}
	}
	if len(words) > 0 {
		rest = slices.Insert(rest, 0, t.add("keywords", words, nil))
	}
	if len(alternatives) > 0 {
		rest = slices.Insert(rest, 0, t.add(selection(denied), nil, alternatives))
	}
	return strings.Join(rest, " or ")
}

// merge adds an alternative; another value of the same field joins the list of
// its values.
func merge(alternatives [][]item, more []item) [][]item {
	for i, one := range alternatives {
		if len(one) == 1 && len(more) == 1 && one[0].key == more[0].key && !strings.Contains(one[0].key, "|all") {
			alternatives[i] = []item{{one[0].key, append(slices.Clone(one[0].values), more[0].values...)}}
			return alternatives
		}
	}
	return append(alternatives, more)
}

func selection(denied bool) string {
	if denied {
		return "filter"
	}
	return "selection"
}

// bracket puts a condition of several names in brackets.
func bracket(c string) string {
	if strings.Contains(c, " ") {
		return "(" + c + ")"
	}
	return c
}

// add writes a search identifier and returns its name.
func (t *translator) add(name string, words []string, alternatives [][]item) string {
	t.names[name]++
	if n := t.names[name]; n > 1 {
		name += "_" + strconv.Itoa(n)
	}
	fmt.Fprintf(&t.text, "    %s:\n", name)
	for _, w := range words {
		fmt.Fprintf(&t.text, "        - %s\n", w)
	}
	for _, items := range alternatives {
		lead := "        "
		if len(alternatives) > 1 {
			lead = "        - "
		}
		for _, i := range items {
			t.entry(lead, i)
			if len(alternatives) > 1 {
				lead = "          "
			}
		}
	}
	return name
}

func (t *translator) entry(lead string, i item) {
	key := i.key
	if !plainKey(key) {
		key, _ = scalar(key)
	}
	if len(i.values) == 1 {
		fmt.Fprintf(&t.text, "%s%s: %s\n", lead, key, i.values[0])
		return
	}
	fmt.Fprintf(&t.text, "%s%s:\n", lead, key)
	for _, v := range i.values {
		fmt.Fprintf(&t.text, "%s    - %s\n", strings.Repeat(" ", len(lead)), v)
	}
}

// plainKey reports whether YAML takes a key as it stands.
func plainKey(key string) bool {
	for i, c := range key {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c != '_' && c != '.' && c != '|' && (c < '0' || c > '9')) {
			return false
		}
	}
	return key != ""
}

// takesSource takes a condition about the logsource into the rule's own.
func (t *translator) takesSource(n *node) bool {
	if n.op != "=" || n.args[0] == "" {
		return false
	}
	to := map[string]*string{
		eventstore.FieldProduct: &t.source.Product, eventstore.FieldCategory: &t.source.Category, eventstore.FieldService: &t.source.Service,
	}[n.field]
	if to == nil || *to != "" {
		return false
	}
	*to = n.args[0]
	return true
}

// leaf turns one condition into Sigma; false if Sigma cannot say it, or if it
// says nothing.
func (t *translator) leaf(n *node) (condition, bool) {
	why := ""
	switch {
	case n.field == eventstore.FieldTime:
		why = whyTime
	case strings.HasPrefix(n.text, "{") || n.field == eventstore.FieldStream || n.field == "_stream_id":
		why = whyStream
	case n.field == "" && n.op == "*":
		return condition{}, false // every event
	case n.field == "" || n.field == "*":
		return t.keyword(n)
	case strings.HasSuffix(n.field, "*"):
		why = whyWildcard
	case eventstore.EventName(n.field) == "":
		why = whyStored
	case !utf8.ValidString(n.field) || strings.Contains(n.field, "|"):
		why = whyText
	}
	if why != "" {
		t.lose(n.text, why)
		return condition{}, false
	}
	renamed := *n
	renamed.field = eventstore.EventName(n.field)
	return t.ask(&renamed)
}

// keyword is a condition on the message, or on any field.
func (t *translator) keyword(n *node) (condition, bool) {
	switch n.op {
	case "word", "word*", "*x*", "i", "i*", "contains_any":
	default:
		t.lose(n.text, whyMessage)
		return condition{}, false
	}
	c := condition{}
	for _, a := range n.args {
		v, ok := scalar(literal(a))
		if !ok || strings.Trim(a, " ") == "" {
			t.lose(n.text, whyText)
			return condition{}, false
		}
		c.words = append(c.words, v)
	}
	t.note(n.text, whyKeyword)
	return c, len(c.words) > 0
}

// ask is a condition on a field of the event.
func (t *translator) ask(n *node) (condition, bool) {
	mods, all := "", false
	switch n.op {
	case "=", "in", "*":
	case "=*":
		mods = "|startswith"
	case "word", "word*", "*x*", "i", "i*", "contains_any":
		mods = "|contains"
	case "contains_all":
		mods, all = "|contains", true
	case "~":
		return t.regexp(n)
	case ">", ">=", "<", "<=", "range":
		return t.numbers(n)
	case "ipv4_range", "ipv6_range":
		return t.network(n)
	default:
		t.lose(n.text, whyForm)
		return condition{}, false
	}
	if n.op == "*" {
		return condition{items: []item{{n.field, []string{"'?*'"}}}}, true
	}
	if len(n.args) == 1 && n.args[0] == "" && (n.op == "=" || n.op == "word") { // missing, or empty
		return condition{items: []item{{n.field, []string{"'?*'"}}}, not: true}, true
	}
	if n.op == "=" && isList(n.args[0]) {
		t.lose(n.text, whyList)
		return condition{}, false
	}
	c := item{key: n.field + mods}
	if cased(n) {
		c.key += "|cased"
	}
	if all {
		c.key += "|all"
	}
	for _, a := range n.args {
		v, ok := scalar(literal(a))
		if !ok || a == "" {
			t.lose(n.text, whyText)
			return condition{}, false
		}
		c.values = append(c.values, v)
	}
	if len(c.values) == 0 {
		t.lose(n.text, whyForm)
		return condition{}, false
	}
	if mods == "|contains" && n.op != "*x*" {
		t.note(n.text, whyWord)
	}
	return condition{items: []item{c}}, true
}

// cased reports whether it matters how the letters of a condition are written:
// LogsQL tells capitals from small letters where Sigma does not.
func cased(n *node) bool {
	if n.op == "i" || n.op == "i*" {
		return false
	}
	return slices.ContainsFunc(n.args, func(a string) bool {
		return strings.ContainsFunc(a, func(r rune) bool { return unicode.ToUpper(r) != r || unicode.ToLower(r) != r })
	})
}

func (t *translator) regexp(n *node) (condition, bool) {
	expr, mods := n.args[0], "|re"
	if rest, ok := strings.CutPrefix(expr, "(?i)"); ok {
		expr, mods = rest, "|re|i"
	}
	v, ok := scalar(expr)
	if !ok || expr == "" {
		t.lose(n.text, whyText)
		return condition{}, false
	}
	return condition{items: []item{{n.field + mods, []string{v}}}}, true
}

func (t *translator) numbers(n *node) (condition, bool) {
	words := map[string]string{">": "|gt", ">=": "|gte", "<": "|lt", "<=": "|lte"}
	bounds := [][2]string{{words[n.op], n.args[0]}}
	if n.op == "range" && len(n.args) == 2 {
		low, high := "|gt", "|lt"
		if n.open == '[' {
			low = "|gte"
		}
		if n.close == ']' {
			high = "|lte"
		}
		bounds = [][2]string{{low, n.args[0]}, {high, n.args[1]}}
	}
	var c condition
	for _, b := range bounds {
		if _, ok := new(big.Float).SetString(b[1]); !ok || strings.ContainsAny(b[1], "_xXpPoOiI") || b[0] == "" {
			t.lose(n.text, whyNumber)
			return condition{}, false
		}
		c.items = append(c.items, item{n.field + b[0], []string{b[1]}})
	}
	return c, true
}

// network is a range of addresses that is a whole network.
func (t *translator) network(n *node) (condition, bool) {
	if len(n.args) == 2 {
		low, err1 := netip.ParseAddr(n.args[0])
		high, err2 := netip.ParseAddr(n.args[1])
		if err1 == nil && err2 == nil && low.BitLen() == high.BitLen() {
			for bits := range low.BitLen() + 1 {
				p := netip.PrefixFrom(low, bits)
				if p.Masked() == p && last(p) == high {
					return condition{items: []item{{n.field + "|cidr", []string{"'" + p.String() + "'"}}}}, true
				}
			}
		}
	}
	t.lose(n.text, whyNetwork)
	return condition{}, false
}

// last is the highest address of a network.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// literal writes a text so that nothing in it is one of Sigma's wildcards.
func literal(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '*' || s[i] == '?':
			b.WriteByte('\\')
		case s[i] == '\\' && i+1 < len(s) && strings.IndexByte(`*?\`, s[i+1]) >= 0:
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// scalar writes a text as YAML that is text, whatever it looks like. ok is false
// if it is not text.
func scalar(s string) (yaml string, ok bool) {
	if !utf8.ValidString(s) || strings.ContainsRune(s, utf8.RuneError) {
		return "", false
	}
	if !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "'" + strings.ReplaceAll(s, "'", "''") + "'", true
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08X`, r)
		default:
			fmt.Fprintf(&b, `\u%04X`, r)
		}
	}
	b.WriteByte('"')
	return b.String(), true
}
