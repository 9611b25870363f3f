package logs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestObjectsInPieces cuts the same objects out of a stream whatever part of them
// is at hand at a time: with strings full of quotes, backslashes and brackets, on
// one line or on several, below and above the limit.
func TestObjectsInPieces(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	text := func() string {
		parts := []string{`\\`, `\"`, `\\\"`, `\\\\`, "{", "}", "[", "]", "a", "علی", "C:\\\\dir\\\\", `\u0022`, " "}
		var b strings.Builder
		for range rng.IntN(12) {
			b.WriteString(parts[rng.IntN(len(parts))])
		}
		return `"` + b.String() + `"`
	}
	for range 300 {
		const limit = 200
		var in strings.Builder
		var want []string
		over := 0
		for range 1 + rng.IntN(6) {
			end := []string{"", "\n"}[rng.IntN(2)]
			object := "{" + text() + ":" + text() + "," + end + text() + `:[{` + text() + `:1},` + text() + "]}"
			in.WriteString(object + []string{"\n", " ", ",", "\r\n"}[rng.IntN(4)])
			if len(object) > limit {
				over++
			} else {
				want = append(want, object)
			}
		}
		for _, size := range []int{16, 17, 31, 64, 4096} {
			refused := 0
			r := &objectReader{in: bufio.NewReaderSize(strings.NewReader(in.String()), size), max: limit, refuse: func(_ int64, why, _ string) {
				if !strings.Contains(why, "over the limit") {
					t.Errorf("refused: %s, of %q", why, in.String())
				}
				refused++
			}}
			var got []string
			for {
				object, err := r.next()
				if errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
				got = append(got, string(object))
			}
			if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) || refused != over {
				t.Fatalf("with %d bytes at hand: %q and %d refused, want %q and %d, of %q", size, got, refused, want, over, in.String())
			}
		}
	}
}

// TestNames reads names that are the same text written in several ways, and more of
// them than are remembered, as one decoder reads them for many streams.
func TestNames(t *testing.T) {
	d := &decoder{names: map[string]string{}, limits: DefaultLimits()}
	for i := range 3 * maxNames {
		long := strings.Repeat("x", i%100)
		ev, err := d.object(fmt.Appendf(nil, `{"n%d%s":%d,"\u0061\"b":"1","a\"b":"2","%s":"same","bad`+"\xff"+`":1}`, i%(2*maxNames), long, i, "é"))
		if err != nil {
			t.Fatal(err)
		}
		if got := ev[fmt.Sprintf("n%d%s", i%(2*maxNames), long)]; got != int64(i) {
			t.Fatalf("object %d: %v", i, ev)
		}
		if got := fmt.Sprintf("%v %v %v", ev[`a"b`], ev["é"], ev["bad\ufffd"]); got != "[1 2] same 1" {
			t.Fatalf("object %d: %s in %v", i, got, ev)
		}
		if len(d.names) > maxNames {
			t.Fatalf("%d names are remembered", len(d.names))
		}
	}
}
