package dfa

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"sync"
	"testing"
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

func compile(t testing.TB, expr string) (*DFA, *regexp.Regexp) {
	t.Helper()
	d, err := Compile(expr)
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	return d, regexp.MustCompile(expr)
}

func check(t testing.TB, d *DFA, re *regexp.Regexp, s string) {
	t.Helper()
	want := No
	if re.MatchString(s) {
		want = Yes
	}
	if got := d.Match(s); got != want {
		t.Fatalf("%s on %q: got %d, want %d", re, s, got, want)
	}
}

func TestMatchesAsRegexpDoes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, expr := range expressions {
		d, re := compile(t, expr)
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

// TestFullTable walks more states than a table holds: answers stay exact while
// tables are exchanged.
func TestFullTable(t *testing.T) {
	d, re := compile(t, `a.{14}b`)
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
	if n := d.table.Load().slots; n > maxSlots {
		t.Errorf("a table of %d slots", n)
	}
}

// TestCredit shows that texts which need ever new states are given up, and
// that ordinary ones earn the credit back.
func TestCredit(t *testing.T) {
	d, _ := compile(t, `a.{20}b`)
	rng := rand.New(rand.NewPCG(5, 6))
	gaveUp := false
	for range firstMoney {
		var b strings.Builder
		for range 64 {
			b.WriteByte("ac"[rng.IntN(2)])
		}
		gaveUp = gaveUp || d.Match(b.String()) == Unknown
	}
	if !gaveUp {
		t.Fatal("a text could make states without end")
	}
	d.table.Store(d.newTable())
	d.money.Store(8)
	plain := strings.Repeat("c", 64*bytesEarn)
	for range 4 {
		d.Match(plain)
	}
	if got := d.money.Load(); got <= 8 {
		t.Errorf("credit is %d after plain texts", got)
	}
}

func TestTooManyClasses(t *testing.T) {
	if _, err := Compile(`\p{L}`); err == nil {
		t.Error("an expression with hundreds of classes was taken")
	}
	if _, err := Compile(`(`); err == nil {
		t.Error("a broken expression was taken")
	}
}

func TestManyAtOnce(t *testing.T) {
	d, re := compile(t, `(?i)\b(?:union|select)\b.{0,9}from`)
	var all sync.WaitGroup
	for seed := range uint64(8) {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(7, seed))
			for range 2000 {
				s := text(rng)
				if got := d.Match(s); got != Unknown && (got == Yes) != re.MatchString(s) {
					t.Errorf("%q: got %d", s, got)
					return
				}
			}
		})
	}
	all.Wait()
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
		if got := d.Match(s); got != Unknown && (got == Yes) != re.MatchString(s) {
			t.Errorf("%s on %q: got %d", expr, s, got)
		}
	})
}
