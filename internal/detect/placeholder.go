package detect

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"pasban/internal/config"
)

// placeholders are the values that %names% in rules stand for, where a field
// has the modifier expand. They are read from files named placeholders.yml
// among the rules:
//
//	DomainControllers: [dc1, dc2]
//	AdminUsers: adm_*
type placeholders map[string][]*node

// sum tells placeholders apart; nil for none.
func (ph placeholders) sum() []byte {
	if len(ph) == 0 {
		return nil
	}
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(ph)) {
		fmt.Fprintf(h, "%q", name)
		for _, v := range ph[name] {
			fmt.Fprintf(h, " %q %v", v.text, v.number)
		}
	}
	return h.Sum(nil)
}

// maxExpansion bounds what one written value may stand for.
const maxExpansion = 10_000

// placeholderForm is how a value refers to a placeholder.
var placeholderForm = regexp.MustCompile(`%([A-Za-z0-9_.-]+)%`)

// isPlaceholderFile says which files of a directory hold placeholders.
func isPlaceholderFile(name string) bool {
	base := path.Base(strings.ReplaceAll(name, `\`, "/"))
	return base == "placeholders.yml" || base == "placeholders.yaml"
}

// read adds the placeholders of one file.
func (ph placeholders) read(f source) config.Problems {
	p := &parser{file: f.name}
	for _, doc := range p.documents(f.data) {
		if doc.kind != mapNode {
			p.problem(doc, "", "", "a file of placeholders maps names to values")
			continue
		}
		for _, e := range doc.entries {
			values := []*node{e.value}
			if e.value.kind == listNode {
				values = e.value.items
			}
			for _, v := range values {
				if v.kind != scalarNode {
					p.problem(v, e.key.text, "", "a placeholder's value is text or a number")
				}
			}
			if ph[e.key.text] != nil {
				p.problem(e.key, e.key.text, "", "the placeholder %q has values in another file too", e.key.text)
			}
			if len(values) == 0 {
				p.problem(e.key, e.key.text, "", "the placeholder %q has no values", e.key.text)
			}
			ph[e.key.text] = values
		}
	}
	return p.problems
}

// expand writes a value with every combination of its placeholders' values.
func (p *parser) expand(key, v *node) []*node {
	at := placeholderForm.FindStringSubmatchIndex(v.text)
	if at == nil {
		p.problem(v, key.text, "a placeholder is a name between percent signs, like %AdminUsers%", "%q has no placeholder to expand", v.text)
		return nil
	}
	out := []*node{{kind: scalarNode, line: v.line, col: v.col}}
	rest := v.text
	for at != nil {
		name := rest[at[2]:at[3]]
		values := p.placeholders[name]
		if len(values) == 0 {
			p.problem(v, key.text, "give it values in a file placeholders.yml among the rules", "the placeholder %%%s%% has no values", name)
			return nil
		}
		if len(out)*len(values) > maxExpansion {
			p.problem(v, key.text, "", "%q stands for more than %d values", v.text, maxExpansion)
			return nil
		}
		var next []*node
		for _, n := range out {
			for _, value := range values {
				one := *n
				one.text += rest[:at[0]] + value.text
				one.number = value.number && at[0] == 0 && at[1] == len(v.text)
				next = append(next, &one)
			}
		}
		out, rest = next, rest[at[1]:]
		at = placeholderForm.FindStringSubmatchIndex(rest)
	}
	for _, n := range out {
		n.text += rest
	}
	return out
}
