package waftest

import (
	"io"
	"math/rand/v2"
	"net/http"
	"regexp/syntax"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestLoad(t *testing.T) {
	cases, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	if want := Suite(t); len(cases) != len(want) || len(cases) < 4000 || cases[17].Name != want[17].Name {
		t.Errorf("%d cases, Suite has %d", len(cases), len(want))
	}
	l := &loader{}
	done := make(chan struct{})
	go func() { defer close(done); l.Fatal("broken: ", io.EOF) }()
	<-done
	if l.err == nil || l.err.Error() != "broken: EOF" {
		t.Errorf("a suite that cannot be read: %v", l.err)
	}
}

func body(t *testing.T, r *http.Request) string {
	t.Helper()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestBodies holds every kind of body to the size that was asked for: costs
// per byte are compared.
func TestBodies(t *testing.T) {
	names := map[string]bool{}
	for _, b := range Bodies() {
		if names[b.Name] {
			t.Errorf("two bodies are called %q", b.Name)
		}
		names[b.Name] = true
		for _, n := range []int{4000, 64000} {
			if got := len(body(t, b.Request("http://land.example", 3, n))); got < n*9/10 || got > n*11/10 {
				t.Errorf("%s: %d bytes, want about %d", b.Name, got, n)
			}
		}
		if one, other := b.Make(rand.New(rand.NewPCG(1, 2)), 1000), b.Make(rand.New(rand.NewPCG(1, 2)), 1000); one != other {
			t.Errorf("%s: not the same twice", b.Name)
		}
	}
}

func TestCompared(t *testing.T) {
	size := func(i int, l Language, how Lettering) int {
		return len(body(t, Compared("http://land.example", i, l, how, 2000)))
	}
	for i := range 200 {
		for _, how := range []Lettering{AsJSON, FormByWire} {
			if en, ur := size(i, English, how), size(i, Urdu, how); en != ur {
				t.Errorf("letter %d, sent in way %d: %d bytes in English, %d in Urdu", i, how, en, ur)
			}
		}
		for _, l := range []Language{English, Urdu, Persian} {
			if text := Text(rand.New(rand.NewPCG(1, uint64(i))), l, 1000+i); len(text) != 1000+i || !utf8.ValidString(text) {
				t.Errorf("a text of %d bytes has %d", 1000+i, len(text))
			}
		}
	}
	if body(t, Benign("http://land.example", 2)) == body(t, Benign("http://land.example", 6)) {
		t.Error("two visitors send the same form")
	}
}

// TestNearMisses looks for examples of the rules' own expressions.
func TestNearMisses(t *testing.T) {
	if n := len(expressions()); n < 200 {
		t.Fatalf("%d expressions", n)
	}
	for expr, want := range map[string]string{`(?i)union\s+select`: "union", `[a-f]{3}x*`: "aaa", `ab|cd|ef`: "cd"} {
		if got := example(parse(t, expr), 2); !strings.Contains(strings.ToLower(got), want) {
			t.Errorf("%s: %q, want %q in it", expr, got, want)
		}
	}
	if l := loop(parse(t, `x(?:ab+)*y`)); l == nil || example(l, 1) != "b" {
		t.Errorf("the deepest loop is %v", l)
	}
}

func parse(t *testing.T, expr string) *syntax.Regexp {
	t.Helper()
	re, err := syntax.Parse(expr, syntax.Perl|syntax.DotNL)
	if err != nil {
		t.Fatal(err)
	}
	return re
}
