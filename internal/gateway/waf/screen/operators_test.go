package screen

import (
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	coreruleset "github.com/corazawaf/coraza-coreruleset/v4"
	"github.com/corazawaf/coraza/v3"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
)

var register sync.Once

// load compiles directives and the rule set that they include.
func load(t testing.TB, directives string, exchanged bool) []*rule {
	t.Helper()
	register.Do(Register)
	conf := coraza.NewWAFConfig().WithRootFS(coreruleset.FS)
	if exchanged {
		conf = coraza.NewWAFConfig().WithRootFS(Rules{coreruleset.FS})
	}
	w, err := coraza.NewWAF(conf.WithDirectives(directives))
	if err != nil {
		t.Fatal(err)
	}
	rules, err := read(w)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

const wholeSet = "Include @coraza.conf-recommended\nInclude @crs-setup.conf.example\nInclude @owasp_crs/*.conf\n"

// capturing keeps what an operator captures.
type capturing struct {
	plugintypes.TransactionState
	fields [10]string
}

func (c *capturing) Capturing() bool              { return true }
func (c *capturing) CaptureField(i int, v string) { c.fields[i] = v }

// pair is an operator of Coraza's and the one that took its place.
type pair struct {
	name       string
	stock, own plugintypes.Operator
}

// pairs are all operators of the Core Rule Set that were exchanged, each once.
func pairs(t testing.TB) (all []pair) {
	stock, own := load(t, wholeSet, false), load(t, wholeSet, true)
	seen := map[string]bool{}
	for i, r := range own {
		for j, l := range r.links {
			switch l.operator.(type) {
			case *scan, *phrases:
				if name := l.function + " " + l.data; !seen[name] {
					seen[name] = true
					all = append(all, pair{name, stock[i].links[j].operator, l.operator})
				}
			}
		}
	}
	if len(all) < 200 {
		t.Fatalf("%d operators were exchanged", len(all))
	}
	return all
}

func (p pair) check(t testing.TB, value string) {
	t.Helper()
	var want, got capturing
	w, g := p.stock.Evaluate(&want, value), p.own.Evaluate(&got, value)
	if w != g || want.fields != got.fields {
		t.Fatalf("%s on %q: %v %q, Coraza %v %q", p.name, value, g, got.fields, w, want.fields)
	}
	if quietly := p.own.Evaluate(quiet{}, value); quietly != w {
		t.Fatalf("%s on %q without captures: %v, Coraza %v", p.name, value, quietly, w)
	}
}

// bait is made of what expressions and phrases look for.
func bait(rng *rand.Rand, words []string) string {
	var b strings.Builder
	for range 1 + rng.IntN(8) {
		switch rng.IntN(6) {
		case 0:
			b.WriteByte(byte(rng.IntN(256)))
		case 1:
			b.WriteString([]string{"\xc3\x28", "\u212a", "ſ", "ا", "％", " ", "\n", "'", "\"", "<", ">", "(", ")", "/", "\\", ";", "=", "1", "-- "}[rng.IntN(19)])
		default:
			w := words[rng.IntN(len(words))]
			if rng.IntN(3) == 0 {
				w = strings.ToUpper(w)
			}
			b.WriteString(w)
		}
	}
	return b.String()
}

// wordsOf are the phrases, and the words in the expressions.
func wordsOf(all []pair) (words []string) {
	for _, p := range all {
		switch op := p.own.(type) {
		case *phrases:
			words = append(words, op.list...)
		case *scan:
			words = append(words, strings.FieldsFunc(op.expr, func(r rune) bool {
				return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' || r == '/' || r == '<')
			})...)
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(words)))
}

// TestOperators compares every exchanged operator of the Core Rule Set with
// Coraza's, captures included. OPERATOR_VALUES says on how many values each.
func TestOperators(t *testing.T) {
	values := 60
	if n, err := strconv.Atoi(os.Getenv("OPERATOR_VALUES")); err == nil {
		values = n
	}
	all := pairs(t)
	words := wordsOf(all)
	rng := rand.New(rand.NewPCG(12, 13))
	for _, p := range all {
		p.check(t, "")
		for range values {
			p.check(t, bait(rng, words))
		}
	}
}

func FuzzOperators(f *testing.F) {
	all := pairs(f)
	rng := rand.New(rand.NewPCG(14, 15))
	for range 50 {
		f.Add(uint16(rng.IntN(len(all))), bait(rng, wordsOf(all)))
	}
	f.Fuzz(func(t *testing.T, which uint16, value string) {
		all[int(which)%len(all)].check(t, value)
	})
}
