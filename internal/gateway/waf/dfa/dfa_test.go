package dfa

import (
	"errors"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"rsc.io/binaryregexp"
)

var expressions = []string{
	``, `a`, `abc`, `(?i)select.{0,40}from`, `^a+b*$`, `(?sm)^a.c$`, `\bunion\b`, `\Bx\B`, `(?:a|b)*abb`,
	`[^\x00-\x7f]`, `(?i)[k-s]{3}`, `\A\z`, `a\z`, `(?m)^$`, `x*`, `(?i)ß|ſ`, `[آ-ی]+\s`, `a{2,5}b{3}`,
	`(?s)<script[^>]*>.*?</script>`, `[^a]\n`, `.\b.`, `(?i)(?:or|and)\s+\d+\s*=\s*\d+`, `\x{fffd}`, `^[^\x{fffd}]*$`,
}

// pieces make texts that get far into the expressions.
var pieces = []string{"a", "b", "c", "abb", "union", "select", " from ", "\n", " ", "_", "x", "<script", ">", "</script>", "K", "ſ", "\u212a",
	"ß", "آی ", "\xff", "\xc3", "\xe0\x80", "\x80", "\ufffd", "1=1", " or ", "\x00", "𝒳", "é"}

func text(rng *rand.Rand) string {
	var b strings.Builder
	for range rng.IntN(12) {
		b.WriteString(pieces[rng.IntN(len(pieces))])
	}
	return b.String()
}

func compiled(t testing.TB, expr string) (*DFA, *regexp.Regexp) {
	t.Helper()
	d, err := Compile(expr)
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	return d, regexp.MustCompile(expr)
}

func check(t testing.TB, d *DFA, re *regexp.Regexp, s string) {
	t.Helper()
	if hits, ok := d.Scan(s, 1); !ok || (hits == 1) != re.MatchString(s) {
		t.Fatalf("%s on %q: got %d, %v", re, s, hits, ok)
	}
}

func TestMatchesAsRegexpDoes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, expr := range expressions {
		d, re := compiled(t, expr)
		check(t, d, re, "")
		for _, p := range pieces {
			check(t, d, re, p)
		}
		for range 4000 {
			d.money.Store(firstMoney)
			check(t, d, re, text(rng))
		}
	}
}

// TestManyExpressions scans for all of them in one walk, and for a few.
func TestManyExpressions(t *testing.T) {
	d, err := Compile(expressions...)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(8, 9))
	for range 4000 {
		d.money.Store(firstMoney)
		s, want := text(rng), rng.Uint64()&(1<<len(expressions)-1)
		hits, ok := d.Scan(s, want)
		for i, expr := range expressions {
			expected := want>>i&1 == 1 && regexp.MustCompile(expr).MatchString(s)
			if !ok || (hits>>i&1 == 1) != expected {
				t.Fatalf("%s among others on %q: %b, %v", expr, s, hits, ok)
			}
		}
	}
}

// TestBytes compares with the package that takes texts for bytes.
func TestBytes(t *testing.T) {
	rng := rand.New(rand.NewPCG(10, 11))
	for _, expr := range []string{`\xac\xed\x00\x05`, `\x{bc}[^\x{be}>]*[\x{be}>]|<[^\x{be}]*\x{be}`, `(?:[^a]|\x{c2}\x{b4}|\x{e2}\x{80}\x{99}){3,}`, `(?i)[\x{e0}k]+s`, `.\b.`} {
		d, err := CompileBytes(expr)
		if err != nil {
			t.Fatal(err)
		}
		re := binaryregexp.MustCompile(expr)
		for range 4000 {
			d.money.Store(firstMoney)
			var b strings.Builder
			for range rng.IntN(12) {
				b.WriteString([]string{"\xbc", "\xbe", "<", ">", "\xac\xed\x00", "\x05", "a", "k", "S", "\xc2", "\xb4", "\xe2\x80\x99", "\xe0", "\xc0", "\n"}[rng.IntN(15)])
			}
			if hits, ok := d.Scan(b.String(), 1); !ok || (hits == 1) != re.MatchString(b.String()) {
				t.Fatalf("%s on %q: %d, %v", expr, b.String(), hits, ok)
			}
		}
	}
}

// TestFullTable walks more states than a table holds: answers stay exact while
// tables are exchanged.
func TestFullTable(t *testing.T) {
	d, re := compiled(t, `a.{14}b`)
	first := d.table.Load()
	rng := rand.New(rand.NewPCG(3, 4))
	for range 3000 {
		var b strings.Builder
		for range 40 {
			b.WriteByte("abc"[rng.IntN(3)])
		}
		d.money.Store(firstMoney)
		check(t, d, re, b.String())
	}
	if d.table.Load() == first {
		t.Error("the table never filled: the test shows nothing")
	}
	if n := d.table.Load().words; n > maxSlots {
		t.Errorf("a table of %d words", n)
	}
}

// TestCredit shows that texts which need ever new states are given up by several
// expressions together, answered by one without keeping anything, and that
// ordinary ones earn the credit back.
func TestCredit(t *testing.T) {
	two, err := Compile(`a.{20}b`, `b`)
	if err != nil {
		t.Fatal(err)
	}
	one, re := compiled(t, `a.{20}b`)
	rng := rand.New(rand.NewPCG(5, 6))
	gaveUp := false
	for range firstMoney / 8 {
		var b strings.Builder
		for range 64 {
			b.WriteByte("ac"[rng.IntN(2)])
		}
		_, ok := two.Scan(b.String(), 1)
		gaveUp = gaveUp || !ok
		check(t, one, re, b.String())
	}
	if !gaveUp {
		t.Fatal("a text could make states without end")
	}
	for _, d := range []*DFA{one, two} {
		d.money.Store(0)
		states := d.states()
		one.Find(strings.Repeat("a", 30) + "cb")
		if d.states() != states {
			t.Error("states were made without credit")
		}
		d.table.Store(d.newTable())
		d.money.Store(8)
		plain := strings.Repeat("c", 64*bytesEarn)
		for range 4 {
			d.Scan(plain, 1)
		}
		if got := d.money.Load(); got <= 8 {
			t.Errorf("credit is %d after plain texts", got)
		}
	}
}

// states counts those in the table.
func (a *automaton) states() int { return len(a.table.Load().states) }

func TestTooManyClasses(t *testing.T) {
	if _, err := Compile(`\p{L}`); err == nil {
		t.Error("an expression with hundreds of classes was taken")
	}
	if _, err := Compile(make([]string, Most+1)...); !errors.Is(err, ErrTooMany) {
		t.Errorf("more expressions than bits: %v", err)
	}
	if _, err := Compile(`(`); err == nil {
		t.Error("a broken expression was taken")
	}
}

func TestManyAtOnce(t *testing.T) {
	d, re := compiled(t, `(?i)\b(?:union|select)\b.{0,9}from`)
	var all sync.WaitGroup
	for seed := range uint64(8) {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(7, seed))
			for range 2000 {
				s := text(rng)
				if hits, ok := d.Scan(s, 1); ok && (hits == 1) != re.MatchString(s) {
					t.Errorf("%q: got %d", s, hits)
					return
				}
			}
		})
	}
	all.Wait()
}

// checkSince compares the groups that are found in what Since leaves of a text
// with those in the whole text.
func checkSince(t *testing.T, d *DFA, re *regexp.Regexp, s string) {
	t.Helper()
	from, found, ok := d.Since(s)
	want := re.FindStringSubmatchIndex(s)
	if !ok {
		return
	}
	if found != (want != nil) {
		t.Errorf("%s on %q: found %v", re, s, found)
	}
	if !found {
		return
	}
	got := re.FindStringSubmatchIndex(s[from:])
	for i := range got {
		if got[i] >= 0 {
			got[i] += from
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s on %q from %d: groups %v, want %v", re, s, from, got, want)
	}
}

func TestSince(t *testing.T) {
	for _, c := range []struct {
		expr, text string
		from       int
	}{
		{`(b+)c`, "aaa bbc", 4},
		{`(b+)c`, "bbabbc", 3},
		{`\bcat\b`, "a cat", 2},
		{`\bcat`, "concat cat", 7},
		{`^x(y)?`, "ay\nxy", 0}, // a line may begin at any text's beginning
		{`(?m)^x(y)?`, "ay\nxy", 3},
		{`\Ax`, "ax", 0},
		{`a.*b|c`, "a  c", 0},
		{`é+`, "\xff é", 2},
		{``, "abc", 0},
		{`x*$`, "abcxx", 3},
	} {
		d, err := Compile(c.expr)
		if err != nil {
			t.Fatal(err)
		}
		re := regexp.MustCompile(c.expr)
		checkSince(t, d, re, c.text)
		if from, _, ok := d.Since(c.text); !ok || from != c.from {
			t.Errorf("%s on %q: from %d %v, want %d", c.expr, c.text, from, ok, c.from)
		}
	}
}

// checkFind compares with package regexp.
func checkFind(t testing.TB, d *DFA, re *regexp.Regexp, s string) {
	t.Helper()
	begin, end, found, ok := d.Find(s)
	if !ok {
		if d.back() != nil {
			t.Fatalf("%s on %q: no answer", re, s)
		}
		return // reversed, it has too many classes of characters
	}
	want := re.FindStringIndex(s)
	if found != (want != nil) || found && (begin != want[0] || end != want[1]) {
		t.Fatalf("%s on %q: found %v, %d to %d, want %v", re, s, found, begin, end, want)
	}
}

// grow writes an expression of at most depth levels.
func grow(rng *rand.Rand, depth int) string {
	if depth == 0 {
		atoms := []string{"a", "b", "c", "ab", "abb", "[ab]", "[^a]", ".", "(?s:.)", `\b`, `\B`, "^", "$", "(?m:^)", "(?m:$)", `\A`, `\z`, "", `\n`, "é", "ی", `[^\x00-\x7f]`, `\x{fffd}`, `(?i:k)`, `\w`, `\s`}
		return atoms[rng.IntN(len(atoms))]
	}
	sub := func() string { return "(?:" + grow(rng, rng.IntN(depth)) + ")" }
	switch rng.IntN(8) {
	case 0, 1, 2:
		return sub() + sub() + sub()
	case 3, 4:
		return sub() + "|" + sub()
	case 5:
		return sub() + []string{"*", "*?", "+", "+?", "?", "??"}[rng.IntN(6)]
	case 6:
		return sub() + []string{"{2}", "{1,3}", "{0,2}?", "{2,}"}[rng.IntN(4)]
	}
	return "(" + grow(rng, depth-1) + ")"
}

// TestFind finds what package regexp finds, for expressions as people write them
// and for ones that nobody would.
func TestFind(t *testing.T) {
	rng := rand.New(rand.NewPCG(16, 17))
	exprs := slices.Clone(expressions)
	for range 500 {
		exprs = append(exprs, grow(rng, 4))
	}
	found := 0
	for _, expr := range exprs {
		d, re := compiled(t, expr)
		for _, p := range pieces {
			checkFind(t, d, re, p)
		}
		for range 80 {
			s := text(rng)
			checkFind(t, d, re, s)
			if _, _, is, ok := d.Find(s); is && ok {
				found++
			}
		}
	}
	if found < len(exprs)*20 {
		t.Errorf("%d matches were found: the test shows little", found)
	}
}

// TestFindWithoutCredit finds the same with credit for a few states, with none,
// and while tables are exchanged.
func TestFindWithoutCredit(t *testing.T) {
	d, re := compiled(t, `(?:a.{14}b|c)(?:.{12}a)?`)
	first := d.table.Load()
	rng := rand.New(rand.NewPCG(18, 19))
	for i := range 1500 {
		var b strings.Builder
		for range 64 {
			b.WriteByte("abd"[rng.IntN(3)])
		}
		d.money.Store(int64(i % 80))
		d.back().money.Store(int64(i % 20))
		checkFind(t, d, re, b.String())
	}
	if d.table.Load() == first {
		t.Error("the table never filled: the test shows less than it should")
	}
	for _, a := range []*automaton{d.automaton, d.back()} {
		if n := a.table.Load().words; n > maxSlots {
			t.Errorf("a table of %d words", n)
		}
	}
}

// TestFindsOneOnly has no answer for what it is not made for.
func TestFindsOneOnly(t *testing.T) {
	for _, c := range []struct {
		make  func(...string) (*DFA, error)
		exprs []string
	}{{Compile, []string{"a", "b"}}, {CompileBytes, []string{"a"}}} {
		d, err := c.make(c.exprs...)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, found, ok := d.Find("a"); found || ok {
			t.Errorf("%q: an answer", c.exprs)
		}
	}
}

func FuzzMatch(f *testing.F) {
	for _, e := range expressions {
		f.Add(e, "union select x from y \xff")
	}
	f.Fuzz(func(t *testing.T, expr, s string) {
		re, err := regexp.Compile(expr)
		if err != nil || len(expr) > 200 {
			t.Skip("not an expression")
		}
		d, err := Compile(expr)
		if err != nil {
			t.Skip("too many classes")
		}
		if hits, ok := d.Scan(s, 1); ok && (hits == 1) != re.MatchString(s) {
			t.Errorf("%s on %q: got %d", expr, s, hits)
		}
		checkSince(t, d, re, s)
		checkFind(t, d, re, s)
		all, err := Compile(append(slices.Clone(expressions), expr)...)
		if err != nil {
			t.Skip("too many classes")
		}
		want := uint64(1)<<len(expressions) | 1<<9 | 1<<3
		hits, ok := all.Scan(s, want)
		for i, e := range append(slices.Clone(expressions), expr) {
			if ok && want>>i&1 == 1 && (hits>>i&1 == 1) != regexp.MustCompile(e).MatchString(s) {
				t.Errorf("%s among others on %q: %b", e, s, hits)
			}
		}
	})
}

// BenchmarkScan walks over a kilobyte of text, once for each script.
func BenchmarkScan(b *testing.B) {
	d, err := Compile(`(?i)\bunion\b.{1,100}\bselect\b`, `(?i)<script[^>]*>`, `(?i)\b(?:cat|ls|id)\s`)
	if err != nil {
		b.Fatal(err)
	}
	for name, word := range map[string]string{"ascii": "an ordinary letter to the office, ", "urdu": "دفتر کے نام ایک عام خط، "} {
		b.Run(name, func(b *testing.B) {
			s := strings.Repeat(word, 1024/len(word)+1)[:1024]
			b.SetBytes(int64(len(s)))
			for b.Loop() {
				d.Scan(s, 7)
			}
		})
	}
}

// BenchmarkFind finds a match near the end of a kilobyte.
func BenchmarkFind(b *testing.B) {
	expr := `(?sm)(?i)\bunion\b.{1,100}\bselect\b`
	d, re := compiled(b, expr)
	s := strings.Repeat("an ordinary letter to the office, ", 30) + "union all select name"
	b.Run("own", func(b *testing.B) {
		b.SetBytes(int64(len(s)))
		for b.Loop() {
			d.Find(s)
		}
	})
	b.Run("regexp", func(b *testing.B) {
		b.SetBytes(int64(len(s)))
		for b.Loop() {
			re.FindStringIndex(s)
		}
	})
}

// TestKnownSoFar shows that what several expressions have found before credit
// ran out is still told.
func TestKnownSoFar(t *testing.T) {
	d, err := Compile(`a.{20}b`, `d`, `e`)
	if err != nil {
		t.Fatal(err)
	}
	d.money.Store(8)
	if hits, ok := d.Scan("cd"+strings.Repeat("acaac", 20)+"e", 7); ok || hits != 2 {
		t.Errorf("%b, %v", hits, ok)
	}
}
