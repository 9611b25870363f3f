package screen

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
)

// slow are Coraza's functions that have a quick form, and its operators that need
// something.
type slow struct {
	transformations map[string]plugintypes.Transformation
	operators       map[string]plugintypes.Operator
}

func slowOf(t testing.TB) slow {
	s := slow{map[string]plugintypes.Transformation{}, map[string]plugintypes.Operator{}}
	for _, r := range load(t, wholeSet, true) {
		for _, l := range r.links {
			if needs[l.function] != "" {
				s.operators[l.function] = l.operator
			}
			for _, st := range l.steps {
				s.transformations[stockName(st.function)] = st.function
			}
		}
	}
	for _, name := range slices.Concat(slices.Collect(maps.Keys(quick)), slices.Collect(maps.Keys(minds))) {
		if s.transformations[name] == nil {
			t.Fatalf("no rule has the transformation %s: Coraza calls it something else", name)
		}
	}
	for name := range needs {
		if s.operators[name] == nil {
			t.Fatalf("no rule has the operator %s", name)
		}
	}
	return s
}

// check fails if anything is decided otherwise than Coraza does.
func (s slow) check(t *testing.T, text string) {
	t.Helper()
	for name := range quick {
		f := s.transformations[name]
		out, changed, err := f(text)
		got, own, e := quickly(f)(text)
		if got != out || own != changed || e != nil || err != nil {
			t.Errorf("%s of %q: %q, %v, %v; Coraza's: %q, %v, %v", name, text, got, own, e, out, changed, err)
		}
	}
	for name, mind := range mindOf {
		if mindedOf(text).by&mind != 0 {
			continue
		}
		if out, changed, err := s.transformations[name](text); out != text || changed || err != nil {
			t.Errorf("%s makes %q of %q, which has none of %q: %v, %v", name, out, text, minds[name], changed, err)
		}
	}
	for name, bytes := range needs {
		if !strings.ContainsAny(text, bytes) && s.operators[name].Evaluate(quiet{}, text) {
			t.Errorf("%s matches %q, which has none of %q", name, text, bytes)
		}
	}
}

// snippets are what quick forms decide, what they leave, and what they must not
// mistake for it.
func snippets() []string {
	all := []string{"\u200c", "\u200d", "\u200b", "\u2028", "\u3000", "\u00a0", "\u0085", "\xa0", "\x85", "\xff", "\xd8", "\xdb", "\xe2\x80", "é", "İ", "ſ", "K",
		"<", "=", "onerror", "style", "href", "javascript:", "script", "!doctype", "!--", "'", "\"", "`", "/", ">", "%", "--", "[CDATA[", "?import"}
	for c := range rune(128) {
		all = append(all, string(c))
	}
	for _, c := range "اب پتٹ۔٪ء \u0600\u06ff\u05ff\u0700" {
		all = append(all, string(c))
	}
	return all
}

func TestQuick(t *testing.T) {
	s := slowOf(t)
	for r := rune(0x600); r <= 0x6ff; r++ {
		s.check(t, string(r))
	}
	rng := rand.New(rand.NewPCG(1, 2))
	all := snippets()
	for i := range 100_000 {
		list := all
		if i%3 == 0 {
			list = all[len(all)-150:] // ASCII and letters alone
		}
		var b strings.Builder
		for range rng.IntN(12) {
			b.WriteString(list[rng.IntN(len(list))])
		}
		if s.check(t, b.String()); t.Failed() {
			return
		}
	}
}

// FuzzQuick compares quick forms with Coraza's.
func FuzzQuick(f *testing.F) {
	s := slowOf(f)
	for _, text := range snippets() {
		f.Add(text + " " + text)
	}
	f.Fuzz(func(t *testing.T, text string) { s.check(t, text) })
}
