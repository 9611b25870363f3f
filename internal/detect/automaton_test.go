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
		m := oneField()
		m.begin()
		m.scan(newAutomaton(b.texts()), []byte(text))
		slices.Sort(m.found)
		if !slices.Equal(m.found, want) {
			t.Fatalf("the automaton finds %v, want %v", m.found, want)
		}
		scan := newFieldScan(0, b.texts(), nil, noCommon())
		m.begin()
		m.record.reset()
		m.record.addText(0, text)
		m.scanField(&scan, 1)
		slices.Sort(m.found)
		if !slices.Equal(m.found, want) {
			t.Fatalf("the field's tables find %v, want %v", m.found, want)
		}
		m.begin()
		if s := newSkim(b.texts(), noCommon()); s != nil {
			m.sift(s, []byte(text))
			for _, rule := range want { // it looks for a text's place in vain: it may find more
				if !slices.Contains(m.found, rule) {
					t.Fatalf("the skim finds %v, want %v", m.found, want)
				}
			}
		}
	})
}

// oneField is a machine of a record with one field.
func oneField() *machine {
	names := newVocabulary()
	names.id("F")
	return (&compiled{names: names, roots: make([]int32, 64)}).newMachine()
}

func noCommon() *commonness { return newCompiler().common() }

// TestSieveIsBounded: texts that are made of the same bytes do not make a
// search slow. Those that a sieve has no place for are found all the same.
func TestSieveIsBounded(t *testing.T) {
	var b builder
	for i := range int32(50) {
		b.add(hook{text: fmt.Sprintf("%daaaaaaa", i)}, i)
	}
	scan := newFieldScan(0, b.texts(), nil, noCommon())
	sharing := map[uint32]int{}
	for _, p := range scan.sieve.pieces {
		if sharing[p.word]++; sharing[p.word] > maxSharing {
			t.Fatalf("%d pieces are the same", sharing[p.word])
		}
	}
	m := oneField()
	m.begin()
	m.record.addText(0, strings.Repeat("a", 1<<16)+"49AAAAAAA")
	m.scanField(&scan, 1)
	if slices.Sort(m.found); !slices.Equal(m.found, []int32{9, 49}) {
		t.Errorf("found %v", m.found)
	}
}
