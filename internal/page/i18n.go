package page

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"path"
	"slices"
	"strings"
	"text/template/parse"

	"github.com/goccy/go-yaml"
	"github.com/nicksnyder/go-i18n/v2/i18n"
	"golang.org/x/text/language"
)

// Messages are YAML files of go-i18n, <room>.<lang>.yaml: nested keys join
// with dots, plural forms are one/other, and {{.Name}} stands for a value.
//
//go:embed locales/*.yaml
var localeFiles embed.FS

// words holds every message in every language.
type words struct {
	localizers map[string]*i18n.Localizer
	keys       map[string]map[string]bool // lang → key
}

// loadWords reads every message file and fails unless both languages have the
// same keys.
func loadWords(fsys fs.FS) (*words, error) {
	bundle := i18n.NewBundle(language.English)
	bundle.RegisterUnmarshalFunc("yaml", func(data []byte, v any) error { return yaml.Unmarshal(data, v) })
	w := &words{localizers: map[string]*i18n.Localizer{}, keys: map[string]map[string]bool{}}
	for _, lang := range Langs() {
		w.keys[lang] = map[string]bool{}
		w.localizers[lang] = i18n.NewLocalizer(bundle, lang)
	}
	files, err := fs.Glob(fsys, "locales/*.yaml")
	if err != nil {
		return nil, err
	}
	var problems []error
	for _, name := range files {
		part := strings.Split(path.Base(name), ".")
		if len(part) != 3 || w.keys[part[1]] == nil {
			problems = append(problems, fmt.Errorf("%s: want <room>.<en or ur>.yaml", name))
			continue
		}
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		mf, err := bundle.ParseMessageFileBytes(data, name)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", name, err))
			continue
		}
		for _, m := range mf.Messages {
			if w.keys[part[1]][m.ID] {
				problems = append(problems, fmt.Errorf("%s: message %q is already defined in another file", name, m.ID))
			}
			w.keys[part[1]][m.ID] = true
		}
	}
	problems = append(problems, w.missing()...)
	return w, errors.Join(problems...)
}

// missing names the keys that one language has and another lacks.
func (w *words) missing() []error {
	var problems []error
	for _, a := range Langs() {
		for _, b := range Langs() {
			for key := range w.keys[a] {
				if !w.keys[b][key] {
					problems = append(problems, fmt.Errorf("message %q is there in %s and missing in %s", key, a, b))
				}
			}
		}
	}
	slices.SortFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return problems
}

func (w *words) has(key string) bool {
	for _, lang := range Langs() {
		if !w.keys[lang][key] {
			return false
		}
	}
	return true
}

// say localises key. args are pairs of name and value; the value named Count
// also chooses the plural form.
func (w *words) say(lang, key string, args ...any) (string, error) {
	l := w.localizers[lang]
	if l == nil || !w.has(key) {
		return "", fmt.Errorf("no message %q in %q", key, lang)
	}
	if len(args)%2 != 0 {
		return "", fmt.Errorf("message %q: values come as pairs of name and value", key)
	}
	c := &i18n.LocalizeConfig{MessageID: key}
	if len(args) > 0 {
		data := map[string]any{}
		for i := 0; i < len(args); i += 2 {
			name, ok := args[i].(string)
			if !ok {
				return "", fmt.Errorf("message %q: the name of a value is a string, not %T", key, args[i])
			}
			data[name] = args[i+1]
			if name == "Count" {
				c.PluralCount = args[i+1]
			}
		}
		c.TemplateData = data
	}
	s, err := l.Localize(c)
	if err != nil {
		return "", fmt.Errorf("message %q in %s: %w", key, lang, err)
	}
	return s, nil
}

// T says a message in a language. args are pairs of name and value for the
// {{.Name}}s in it; the value named Count also chooses the plural form. A key
// that does not exist comes back as itself, and tests look for that.
func (p *Pages) T(lang, key string, args ...any) string {
	s, err := p.words.say(lang, key, args...)
	if err != nil {
		p.log.Error("message not found", "key", key, "lang", lang, "err", err)
		return key
	}
	return s
}

// Label says the message "<group>.<code>" if there is one, else the code
// itself with its underscores as spaces: for codes that configuration may
// extend, such as purposes.
func (p *Pages) Label(lang, group, code string) string {
	if s, err := p.words.say(lang, group+"."+code); err == nil {
		return s
	}
	return strings.ReplaceAll(code, "_", " ")
}

// Has reports whether a message exists in both languages.
func (p *Pages) Has(key string) bool { return p.words.has(key) }

// check walks a template for calls of t whose key is written out and fails if
// a key is missing.
func (w *words) check(t *template.Template) error {
	var problems []error
	for _, t := range t.Templates() {
		if t.Tree != nil && t.Tree.Root != nil {
			problems = append(problems, w.checkNode(t.Tree.Root)...)
		}
	}
	return errors.Join(problems...)
}

func (w *words) checkNode(n parse.Node) (problems []error) {
	switch n := n.(type) {
	case *parse.ListNode:
		if n == nil {
			return nil
		}
		for _, c := range n.Nodes {
			problems = append(problems, w.checkNode(c)...)
		}
	case *parse.ActionNode:
		return w.checkNode(n.Pipe)
	case *parse.TemplateNode:
		return w.checkNode(n.Pipe)
	case *parse.IfNode:
		return w.checkBranch(&n.BranchNode)
	case *parse.RangeNode:
		return w.checkBranch(&n.BranchNode)
	case *parse.WithNode:
		return w.checkBranch(&n.BranchNode)
	case *parse.PipeNode:
		if n == nil {
			return nil
		}
		for _, c := range n.Cmds {
			problems = append(problems, w.checkNode(c)...)
		}
	case *parse.CommandNode:
		if id, ok := n.Args[0].(*parse.IdentifierNode); ok && id.Ident == "t" && len(n.Args) > 1 {
			if key, ok := n.Args[1].(*parse.StringNode); ok && !w.has(key.Text) {
				problems = append(problems, fmt.Errorf("message %q is not in both languages", key.Text))
			}
		}
		for _, a := range n.Args {
			problems = append(problems, w.checkNode(a)...)
		}
	}
	return problems
}

func (w *words) checkBranch(n *parse.BranchNode) []error {
	return slices.Concat(w.checkNode(n.Pipe), w.checkNode(n.List), w.checkNode(n.ElseList))
}

// funcs are the template functions, bound to one language:
//
//	t KEY [NAME VALUE]…   a message
//	lang                  "en" or "ur"
//	label GROUP CODE      a message for a code that configuration may extend
//	num N                 12,345
//	date T, when T        21 November 2026; <time>21 November 2026, 10:42 am</time>, in Pakistan's time
//	pkt T                 T in that zone
//	bdi S                 <bdi> around an id or phone number
//	asset NAME            the address of a static file
//	json V                V for a <script type="application/json"> block
//	dict NAME VALUE…      a map, for handing several values to a template
func (p *Pages) funcs(lang string) template.FuncMap {
	return template.FuncMap{
		"t":    func(key string, args ...any) (string, error) { return p.words.say(lang, key, args...) },
		"lang": func() string { return lang },
		"label": func(group string, code any) string {
			return p.Label(lang, group, fmt.Sprint(code))
		},
		"num":  func(n any) string { return Num(lang, n) },
		"date": func(v any) (string, error) { return withTime(v, func(t timeValue) string { return Date(lang, t) }) },
		"when": func(v any) (template.HTML, error) { return timeElement(lang, v) },
		"bdi": func(v any) template.HTML {
			return template.HTML(`<bdi dir="ltr">` + template.HTMLEscapeString(fmt.Sprint(v)) + `</bdi>`)
		},
		"asset": p.Asset,
		"pkt":   func(t timeValue) timeValue { return t.In(Zone()) },
		"json":  jsonBlock,
		"dict":  dict,
	}
}

// jsonBlock is JSON that is safe between <script type="application/json"> tags:
// json.Marshal escapes <, > and &.
func jsonBlock(v any) (template.JS, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	return template.JS(data), nil
}

func dict(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, errors.New("dict: values come as pairs of name and value")
	}
	m := make(map[string]any, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		m[fmt.Sprint(pairs[i])] = pairs[i+1]
	}
	return m, nil
}
