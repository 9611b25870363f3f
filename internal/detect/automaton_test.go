package detect

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// FuzzSearch compares the two ways to look for many texts at once, in short and
// long texts, with looking for each by itself.
func FuzzSearch(f *testing.F) {
	for seed := range uint64(200) {
		f.Add(seed, uint16(seed*7), "ab")
	}
	f.Add(uint64(1), uint16(900), "abcdefgh")
	f.Add(uint64(2), uint16(3000), "a")
	f.Fuzz(func(t *testing.T, seed uint64, size uint16, alphabet string) {
		if len(alphabet) == 0 || !isASCII(alphabet) || strings.ContainsAny(alphabet, "\"\\/") || strings.ContainsFunc(alphabet, func(r rune) bool { return r < 0x20 }) {
			t.Skip("texts of which JSON has one form")
		}
		rnd := rand.New(rand.NewPCG(seed, 1))
		random := func(n int) string {
			b := make([]byte, n)
			for i := range b {
				b[i] = alphabet[rnd.IntN(len(alphabet))]
			}
			return string(b)
		}
		text := random(int(size % 4000))
		var b builder
		var want []int32
		for rule := range int32(1 + rnd.IntN(40)) {
			pattern := random(5 + rnd.IntN(20))
			if rnd.IntN(2) == 0 && len(text) > 30 { // one that is there
				at := rnd.IntN(len(text) - 25)
				pattern = text[at : at+5+rnd.IntN(20)]
			}
			h := hook{0, fold(pattern), rnd.IntN(8) == 0, rnd.IntN(8) == 0}
			b.add(h, rule)
			folded := fold(text)
			if h.head && h.tail && folded == h.text || h.head && !h.tail && strings.HasPrefix(folded, h.text) ||
				h.tail && !h.head && strings.HasSuffix(folded, h.text) || !h.head && !h.tail && strings.Contains(folded, h.text) {
				want = append(want, rule)
			}
		}
		m := (&compiled{names: newVocabulary(), roots: make([]int32, 64)}).newMachine()
		m.begin()
		m.scan(b.build(), []byte(text))
		slices.Sort(m.found)
		if !slices.Equal(m.found, want) {
			t.Fatalf("the automaton finds %v, want %v", m.found, want)
		}
		m.begin()
		if s := newSkim(b.targets); s == nil {
			t.Fatal("no skim")
		} else if m.skim(s, []byte(text)) { // it looks for a text's place in vain: it may find more
			for _, rule := range want {
				if !slices.Contains(m.found, rule) {
					t.Fatalf("the skim finds %v, want %v", m.found, want)
				}
			}
		}
	})
}

// TestSkimGivesUp: text that is made so that skimming takes long ends it.
func TestSkimGivesUp(t *testing.T) {
	var b builder
	b.add(hook{field: anyField, text: "aaaaaaaa"}, 0)
	for i := range int32(50) {
		b.add(hook{field: anyField, text: fmt.Sprintf("aaaaaaaa%d", i)}, i)
	}
	m := (&compiled{names: newVocabulary(), roots: make([]int32, 50)}).newMachine()
	m.begin()
	if m.skim(newSkim(b.targets), []byte(strings.Repeat("a", 1<<16))) {
		t.Error("it goes on")
	}
	if !m.skim(newSkim(b.targets), []byte(strings.Repeat("ab", 1<<16))) {
		t.Error("it gives up on harmless text")
	}
}
