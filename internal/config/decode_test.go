package config_test

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"pasban/internal/config"
)

// shapes has a field of every sort that Decode knows.
type shapes struct {
	At       config.Pos `yaml:"-"`
	Word     string     `yaml:"word" enum:"a|b" default:"a"`
	Yes      bool       `yaml:"yes" default:"true"`
	N        int8       `yaml:"n" min:"-3" max:"100" default:"7"`
	U        uint16     `yaml:"u"`
	F        float64    `yaml:"f" default:"0.5"`
	D        time.Duration
	L        []string           `yaml:"l" default:"x|y"`
	In       *inner             `yaml:"in"`
	Ins      []inner            `yaml:"ins"`
	M        map[string]inner   `yaml:"m"`
	Any      any                `yaml:"any"`
	IP       netip.Addr         `yaml:"ip"`
	MM       map[string]float64 `yaml:"mm"`
	embedded `yaml:",inline"`
}

type inner struct {
	At config.Pos `yaml:"-"`
	V  int        `yaml:"v" required:"true"`
	W  string     `yaml:"w" default:"w"`
}

type embedded struct {
	Deep string `yaml:"deep"`
}

func TestDecode(t *testing.T) {
	var got shapes
	problems := config.Decode("f", []byte(`
word: b
yes: false
n: -3
u: 0x1F
f: 3
d: 1m30s
l: [p, q]
in: {v: 1}
ins:
  - v: 2
    w: z
m: {k: {v: 3}}
any: {s: x, n: 1, f: 1.5, b: true, z: null, l: [1, "1"]}
ip: 192.0.2.1
mm: {a: 1}
deep: |
  d
`), &got)
	if problems != nil {
		t.Fatal(problems)
	}
	want := shapes{
		At: config.Pos{Line: 2, Col: 1}, Word: "b", N: -3, U: 31, F: 3, D: 90 * time.Second, L: []string{"p", "q"},
		In:  &inner{At: config.Pos{Line: 9, Col: 6}, V: 1, W: "w"},
		Ins: []inner{{At: config.Pos{Line: 11, Col: 5}, V: 2, W: "z"}},
		M:   map[string]inner{"k": {At: config.Pos{Line: 13, Col: 9}, V: 3, W: "w"}},
		Any: map[string]any{"s": "x", "n": uint64(1), "f": 1.5, "b": true, "z": nil, "l": []any{uint64(1), "1"}},
		IP:  netip.MustParseAddr("192.0.2.1"), MM: map[string]float64{"a": 1}, embedded: embedded{Deep: "d\n"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestByteOrderMark(t *testing.T) {
	var got shapes
	if problems := config.Decode("f", []byte("\ufeffword: b\r\nn: 1\r\n"), &got); problems != nil || got.Word != "b" || got.N != 1 {
		t.Errorf("%+v %v", got, problems)
	}
}

func TestDecodeDefaults(t *testing.T) {
	got := shapes{F: 2}
	if problems := config.Decode("f", []byte("word:\nyes: ~\n"), &got); problems != nil {
		t.Fatal(problems)
	}
	want := shapes{At: config.Pos{Line: 1, Col: 1}, Word: "a", Yes: true, N: 7, F: 2, L: []string{"x", "y"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestDecodeProblems(t *testing.T) {
	for text, want := range map[string]string{
		"n: 101":                         "f:1:4: n: 101 is out of range (-3 to 100)",
		"n: 1.5":                         "want a whole number, got 1.5",
		"u: -1":                          "want a whole number, got -1",
		"u: 70000":                       "want a whole number, got 70000",
		"n: many":                        `want a number, got "many"`,
		"yes: 1":                         "want true or false, got 1",
		"d: 5":                           "want text, got 5 (put it in quotes)",
		"in: {}":                         `f:1:5: in.v: missing key "v"`,
		"in: {v: 1, x: 2}":               `f:1:12: in.x: unknown key "x"`,
		"ins: [{w: a}]":                  `f:1:8: ins[0].v: missing key "v"`,
		"l: a":                           "want a list",
		"m: [a]":                         "want keys and values, got a list",
		"in: a":                          `want keys and values, got "a"`,
		"ip: x":                          "unable to parse IP",
		"any: &a 1":                      "anchors are not supported",
		"any: {<<: {a: 1}}":              "merge keys are not supported",
		"word: [a]":                      "want text, got a list",
		"Word: a":                        `did you mean "word"?`,
		"At: {}":                         `unknown key "At"`,
		strings.Repeat("[", 1000):        "nested more than 64 deep",
		strings.Repeat("- ", 1000) + "a": "nested more than 64 deep",
		strings.Repeat("a", 2<<20):       "want at most",
		"\t":                             "",
		"a: b: c":                        "",
		"{":                              "",
		"\x00":                           "",
		"%YAML 1.2\n---\n":               "",
	} {
		problems := config.Decode("f", []byte(text), &shapes{})
		if problems == nil {
			t.Errorf("%.60q: accepted", text)
		} else if !strings.Contains(problems.Error(), want) {
			t.Errorf("%.60q: got %s\nwant %s", text, problems, want)
		}
	}
}

func TestParseAll(t *testing.T) {
	docs, problems := config.ParseAll("f", []byte("word: a\n---\nword: b\nx: 1\n"))
	if problems != nil || len(docs) != 2 {
		t.Fatal(docs, problems)
	}
	var s shapes
	if problems := docs[1].Into(&s); s.Word != "b" || len(problems) != 1 || problems[0].Line != 4 {
		t.Errorf("%+v %v", s, problems)
	}
	if at := docs[1].Pos("word.and.more"); at != (config.Pos{Line: 3, Col: 7}) {
		t.Errorf("nearest place: %v", at)
	}
}

// FuzzDecode: no input makes the decoder panic, and whatever a configuration
// is refused for has a place or is about the whole file.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{minimal, withSite(`{match: "GET /r/{cnic}", signin: officer, subject: cnic, purposes: [a]}`),
		"a: &x [*x]", "? a\n: b", "- - - a", "a: |\n b", "!!set {a}", "<<: *a", "{a: {b: [c, {d: e}]}}", "a: 'b\n", "\ufeffa: b", "a: 0x", "a: .inf"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var s shapes
		config.Decode("f", data, &s)
		c, problems := config.Read("/nowhere/pasban.yaml", data)
		if (c == nil) == (problems == nil) {
			t.Errorf("neither or both: %v, %v", c, problems)
		}
		for _, p := range problems {
			if p.File == "" || p.Msg == "" || p.Line < 0 {
				t.Errorf("problem %+v", p)
			}
		}
	})
}
