package detect

import (
	"fmt"
	"path"
	"strings"
)

// maxCondition bounds the text of a condition, and with it how deep it nests.
const maxCondition = 4096

// conditionError is a mistake in a condition.
type conditionError struct{ msg, hint string }

func (e *conditionError) Error() string { return e.msg }

// conditionParser is a recursive-descent parser:
//
//	or    = and { "or" and }
//	and   = not { "and" not }
//	not   = "not" not | "(" or ")" | ("1" | "any" | "all") "of" ("them" | pattern) | identifier
type conditionParser struct {
	tokens []string
	ids    []*identifier
}

// parseCondition reads a condition and marks the identifiers that it uses.
func parseCondition(text string, ids []*identifier) (expr, *conditionError) {
	if len(text) > maxCondition {
		return nil, &conditionError{fmt.Sprintf("the condition is longer than %d bytes", maxCondition), ""}
	}
	if strings.Contains(text, "|") {
		return nil, &conditionError{"aggregation expressions after | are of Sigma 1", "write a correlation rule"}
	}
	spaced := strings.NewReplacer("(", " ( ", ")", " ) ").Replace(text)
	p := &conditionParser{tokens: strings.Fields(spaced), ids: ids}
	if len(p.tokens) == 0 {
		return nil, &conditionError{"the condition is empty", ""}
	}
	x, err := p.or()
	if err != nil {
		return nil, err
	}
	if len(p.tokens) > 0 {
		return nil, &conditionError{fmt.Sprintf("the condition goes on with %q where it should end", p.tokens[0]), "join parts with and, or"}
	}
	return x, nil
}

// peek returns the next token in lower case, "" at the end.
func (p *conditionParser) peek() string {
	if len(p.tokens) == 0 {
		return ""
	}
	return strings.ToLower(p.tokens[0])
}

// take returns the next token as written and goes on.
func (p *conditionParser) take() string {
	if len(p.tokens) == 0 {
		return ""
	}
	t := p.tokens[0]
	p.tokens = p.tokens[1:]
	return t
}

func (p *conditionParser) or() (expr, *conditionError) {
	x, err := p.and()
	if err != nil || p.peek() != "or" {
		return x, err
	}
	list := eachOf{x}
	for p.peek() == "or" {
		p.take()
		if x, err = p.and(); err != nil {
			return nil, err
		}
		list = append(list, x)
	}
	return list, nil
}

func (p *conditionParser) and() (expr, *conditionError) {
	x, err := p.not()
	if err != nil || p.peek() != "and" {
		return x, err
	}
	list := allOf{x}
	for p.peek() == "and" {
		p.take()
		if x, err = p.not(); err != nil {
			return nil, err
		}
		list = append(list, x)
	}
	return list, nil
}

func (p *conditionParser) not() (expr, *conditionError) {
	switch t := p.peek(); t {
	case "not":
		p.take()
		x, err := p.not()
		return notOf{x}, err
	case "(":
		p.take()
		x, err := p.or()
		if err != nil {
			return nil, err
		}
		if p.take() != ")" {
			return nil, &conditionError{"a parenthesis is not closed", ""}
		}
		return x, nil
	case "1", "any", "all":
		if len(p.tokens) > 1 && strings.EqualFold(p.tokens[1], "of") {
			return p.quantified(t == "all")
		}
	case "", ")", "and", "or", "of":
		return nil, &conditionError{fmt.Sprintf("a search identifier is missing before %q", t), ""}
	}
	return p.identifier()
}

func (p *conditionParser) identifier() (expr, *conditionError) {
	name := p.take()
	var names []string
	for _, id := range p.ids {
		if id.name == name {
			id.used = true
			return id.test, nil
		}
		names = append(names, id.name)
	}
	return nil, &conditionError{fmt.Sprintf("the condition names %q, which the detection does not define", name), nearestOf(name, names)}
}

// quantified reads "1 of …" and "all of …". "them" is every identifier that
// does not start with an underscore.
func (p *conditionParser) quantified(all bool) (expr, *conditionError) {
	p.take()
	p.take()
	name := p.take()
	if name == "" || name == "(" || name == ")" {
		return nil, &conditionError{"\"of\" needs a name, a pattern such as selection_*, or them", ""}
	}
	var list []expr
	for _, id := range p.ids {
		ok := id.name == name
		switch {
		case strings.EqualFold(name, "them"):
			ok = !strings.HasPrefix(id.name, "_")
		case strings.Contains(name, "*"):
			ok, _ = path.Match(name, id.name)
		}
		if ok {
			id.used = true
			list = append(list, id.test)
		}
	}
	if len(list) == 0 {
		return nil, &conditionError{fmt.Sprintf("no search identifier fits %q", name), ""}
	}
	if all {
		return allOf(list), nil
	}
	return eachOf(list), nil
}
