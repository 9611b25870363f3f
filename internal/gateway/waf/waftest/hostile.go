package waftest

import (
	"encoding/base64"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"regexp/syntax"
	"strings"

	coreruleset "github.com/corazawaf/coraza-coreruleset/v4"
)

// Body is a kind of request body that can be made in any size.
type Body struct {
	Name    string
	Hostile bool   // built to thrash matchers; else what people send
	Type    string // Content-Type
	// Make returns a body of n bytes, or a few more or less.
	Make func(rng *rand.Rand, n int) string
}

// Request writes a request with such a body of n bytes, for visitor i.
func (b Body) Request(base string, i, n int) *http.Request {
	rng := draw(i, 1)
	r := Post(base+"/apply", b.Type, b.Make(rng, n))
	browser(r, rng)
	return r
}

// Bodies are ordinary bodies of many kinds, by whose median cost per byte
// others are judged, and then hostile ones.
func Bodies() []Body { return append(ordinary(), hostile()...) }

func ordinary() []Body {
	form := func(l Language) func(*rand.Rand, int) string {
		return func(rng *rand.Rand, n int) string { return "note=" + escapeTo(Text(rng, l, n), n-5) }
	}
	return []Body{
		{"a form with one text in English", false, FormType, form(English)},
		{"a form with one text in Urdu", false, FormType, form(Urdu)},
		{"a form with one text in Persian", false, FormType, form(Persian)},
		{"a form of many fields", false, FormType, func(rng *rand.Rand, n int) string {
			return joined(n, "&", func(i int) string {
				return fmt.Sprintf("field_%d=%s", i, url.QueryEscape(strings.TrimSpace(Text(rng, English, 60+rng.IntN(120)))))
			})
		}},
		{"a JSON list of records", false, JSONType, func(rng *rand.Rand, n int) string {
			return "[" + joined(n-2, ",", func(i int) string {
				name, cnic := person(rng)
				return fmt.Sprintf(`{"line":%d,"name":%q,"cnic":%q,"district":"Rawalpindi","share":%.3f,"paid":%v,"remark":%q}`, i, name, cnic, rng.Float64(), i%3 == 0, strings.TrimSpace(Text(rng, English, 40)))
			}) + "]"
		}},
		{"a JSON letter in Urdu", false, JSONType, func(rng *rand.Rand, n int) string {
			name, cnic := person(rng)
			return letterJSON(name, cnic, Text(rng, Urdu, max(0, n-70)))
		}},
		{"an uploaded table", false, multipartType, func(rng *rand.Rand, n int) string {
			return upload("returns.csv", "text/csv", joined(n-200, "\r\n", func(i int) string {
				name, cnic := person(rng)
				return fmt.Sprintf("%d,%s,%s,%d,%d.%02d", i, cnic, name, 2000+rng.IntN(26), rng.IntN(1e6), rng.IntN(100))
			}))
		}},
	}
}

const (
	boundary      = "synthetic-boundary"
	multipartType = "multipart/form-data; boundary=" + boundary
)

func upload(name, contentType, text string) string {
	return fmt.Sprintf("--%s\r\nContent-Disposition: form-data; name=\"file\"; filename=%q\r\nContent-Type: %s\r\n\r\n%s\r\n--%[1]s--\r\n", boundary, name, contentType, text)
}

// joined strings pieces together until they have n bytes.
func joined(n int, by string, piece func(i int) string) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		p := piece(i)
		if i > 0 {
			if b.Len()+len(by)+len(p) > n+64 {
				break
			}
			b.WriteString(by)
		}
		b.WriteString(p)
	}
	return b.String()
}

// field is a form of one field whose decoded value has n bytes on the wire.
func field(make func(rng *rand.Rand, n int) string) func(*rand.Rand, int) string {
	return func(rng *rand.Rand, n int) string { return "q=" + escapeTo(make(rng, n), n-2) }
}

// of repeats what pieces draw.
func of(pieces ...string) func(*rand.Rand, int) string {
	return func(rng *rand.Rand, n int) string {
		return joined(n, "", func(int) string { return pieces[rng.IntN(len(pieces))] })
	}
}

// raw is a form of one field of bytes that need no escape in a form, or that
// are left as they are.
func raw(make func(rng *rand.Rand, n int) string) func(*rand.Rand, int) string {
	return func(rng *rand.Rand, n int) string { return "q=" + make(rng, n-2) }
}

func hostile() []Body {
	return append([]Body{
		{"near misses of SQL", true, FormType, field(of("union al select ", "unionselect ", "selec * fro users wher ", "1 or 1 == ", "' an '1'='2 ", "insert int ", "/*! */ ", "having coun ", "order b 1 ", "wait fo delay ", "sleep (", "case whe 1 the ", "-- ", "0x41 ", "char( ", "; dro table "))},
		{"nested quotes", true, FormType, field(of("'", "\"", "`", "''", "\"\"", "\\'", "\\\"", "('", "(\"", "')", "\")", "' '", "\" \"", "'a'", "\"a\""))},
		// A tokenizer of SQL that looks for a string's end from its beginning each time
		// takes the square of this (GHSA-974q-67pr-5pc2).
		{"escaped quotes", true, FormType, field(func(rng *rand.Rand, n int) string {
			return joined(n, "", func(int) string { return `\'` + string(rune('a'+rng.IntN(26))) })
		})},
		{"nested brackets", true, FormType, field(of("(", "((", "[", "{", "<", "<<", "$(", "${", "{{", ")", "]", "}"))},
		{"a run of one letter", true, FormType, raw(of("a"))},
		{"a run of spaces", true, FormType, raw(of("+"))},
		{"a run of digits", true, FormType, raw(of("1"))},
		{"words without end", true, FormType, raw(of("a", "b", "select", "on", "from", "exec", "_", "0"))},
		{"openings of comments", true, FormType, field(of("/*", "/", "*", "--", "#", "<!--", "<!-", "/**", "//", "*/ /*"))},
		{"near misses of HTML", true, FormType, field(of("<scrip ", "< script", "<im src=", "<svg/on", "on load =", "onerro =", "javascrip t:", "style =", "<a hre=", "xlink:hre=", "&lt;scrip", "data:tex/", "=\"", "/>"))},
		{"near misses of shell commands", true, FormType, field(of(";ca /et/pass", "| wge ", "&& curll", "$ (i d)", "` l s `", "/bi/sh", "nc -", "; c\"a\"", "|b\\as", "> /de", "$IFSx", "/???/", "cmd /", "power shel", "~+"))},
		{"dots and slashes", true, FormType, raw(of("..", ".", "/", "../", "..\\", ".%2e", "%2e.", "//", "./", "%c0%af", "%5c"))},
		{"commands less a letter", true, FormType, field(cutWords("unix-shell.data", "php-function-names-933150.data", "lfi-os-files.data", "windows-powershell-commands.data"))},
		{"every character in turn", true, JSONType, func(rng *rand.Rand, n int) string { return `{"q":"` + runes(n-8) + `"}` }},
		{"bytes that are not UTF-8", true, FormType, raw(of("\xff", "\xc3", "\xe2\x82", "\xf0\x9f", "\xed\xa0\x80", "\xc0\xaf", "a", "'", "\x80"))},
		{"escapes of escapes", true, FormType, raw(of("%2525", "%25%32%35", "%u0027", "%u00", "%%", "%2", "%zz", "%252e", "%uFF07", "%26%23x27;", "%c2%a0"))},
		{"entities", true, FormType, field(of("&#x26;", "&amp;", "&#38;", "&#0000039;", "&#x27", "&lt", "&#x", "&nbsp;", "&#", "&colon;", "&Tab;"))},
		{"JSON escapes", true, JSONType, func(rng *rand.Rand, n int) string {
			return `{"q":"` + of(`\u0027`, `\u003c`, `\\u0061`, `\"`, `\\`, `\/`, `\u0651`, `\ud83d\ude00`, `\n`)(rng, n-8) + `"}`
		}},
		{"backslash escapes", true, FormType, field(of(`\x3c`, `\u003c`, `\047`, `\74`, `\\`, `\x`, `\u{27}`, `\0`, `\a`, "^", "\x00"))},
		{"base64 lookalikes", true, FormType, raw(func(rng *rand.Rand, n int) string {
			b := make([]byte, n*3/4)
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
			return strings.NewReplacer("+", "A", "=", "").Replace(base64.StdEncoding.EncodeToString(b))
		})},
		{"many parameters", true, FormType, func(rng *rand.Rand, n int) string {
			return joined(n, "&", func(i int) string { return fmt.Sprintf("%x=%d", i, i%10) })
		}},
		{"parameters without a name", true, FormType, func(rng *rand.Rand, n int) string { return strings.Repeat("&=", n/2) }},
		{"many members of JSON", true, JSONType, func(rng *rand.Rand, n int) string {
			return "{" + joined(n-2, ",", func(i int) string { return fmt.Sprintf(`"%x":%d`, i, i%10) }) + "}"
		}},
		{"deep JSON", true, JSONType, func(rng *rand.Rand, n int) string {
			const depth = 20 // deeper ones are refused before they are inspected
			one := strings.Repeat(`{"a":[`, depth/2) + "1" + strings.Repeat("]}", depth/2)
			return "[" + joined(n-2, ",", func(int) string { return one }) + "]"
		}},
		{"deep XML", true, "application/xml", func(rng *rand.Rand, n int) string {
			return strings.Repeat("<a>", n/7) + "x" + strings.Repeat("</a>", n/7)
		}},
		{"many parts of an upload", true, multipartType, func(rng *rand.Rand, n int) string {
			return joined(n, "", func(i int) string {
				return fmt.Sprintf("--%s\r\nContent-Disposition: form-data; name=\"%x\"\r\n\r\n1\r\n", boundary, i)
			}) + "--" + boundary + "--\r\n"
		}},
		{"the rules' own characters at random", true, FormType, field(func(rng *rand.Rand, n int) string {
			const own = "abcdefghijklmnopqrstuvwxyzABCDEFX0123456789'\"`()[]{}<>/\\*-+=;:,.|&#%$!@^~? \t\n_"
			b := make([]byte, n)
			for i := range b {
				b[i] = own[rng.IntN(len(own))]
			}
			return string(b)
		})},
	}, nearMisses()...)
}

// runes are different characters beyond ASCII, in turn, n bytes or a few less.
func runes(n int) string {
	var b strings.Builder
	for c := rune(0xa1); b.Len() < n-3; c++ {
		if c == 0xd800 {
			c = 0xe000
		}
		if c == 0x10000 {
			c = 0xa1
		}
		b.WriteRune(c)
	}
	return b.String()
}

// cutWords are the words of the rules' own lists, each without its last letter.
func cutWords(files ...string) func(*rand.Rand, int) string {
	var words []string
	for _, name := range files {
		text, err := fs.ReadFile(coreruleset.FS, "@owasp_crs/"+name)
		if err != nil {
			panic(err) // embedded
		}
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); len(line) > 3 && line[0] != '#' {
				words = append(words, line[:len(line)-1]+" ")
			}
		}
	}
	return of(words...)
}

// nearMisses are two kinds of body that the rules' regular expressions are
// turned against themselves with: strings that every one of them reads almost
// to the end, and the one of their loops again and again.
func nearMisses() []Body {
	var misses, loops []string
	for _, expr := range expressions() {
		re, err := syntax.Parse(expr, syntax.Perl|syntax.DotNL)
		if err != nil {
			continue // not Go's dialect
		}
		if s := example(re, 2); len(s) > 1 {
			misses = append(misses, s[:len(s)-1]+" ")
		}
		if l := loop(re); l != nil {
			loops = append(loops, strings.Repeat(example(l, 1), 24)+" ")
		}
	}
	return []Body{
		{"near misses of every expression", true, FormType, field(of(misses...))},
		{"loops of every expression", true, FormType, field(of(loops...))},
	}
}

var rxRule = regexp.MustCompile(`"!?@rx ((?:[^"\\]|\\.)*)"`)

// expressions are the regular expressions of all rules for requests.
func expressions() (all []string) {
	files, err := fs.Glob(coreruleset.FS, "@owasp_crs/REQUEST-9*.conf")
	if err != nil {
		panic(err) // a constant pattern
	}
	for _, name := range files {
		text, err := fs.ReadFile(coreruleset.FS, name)
		if err != nil {
			panic(err) // embedded
		}
		for _, m := range rxRule.FindAllStringSubmatch(string(text), -1) {
			all = append(all, strings.ReplaceAll(m[1], `\"`, `"`))
		}
	}
	return all
}

// example is a string that the expression matches, with every loop taken
// rounds times.
func example(re *syntax.Regexp, rounds int) string {
	switch re.Op {
	case syntax.OpLiteral:
		return string(re.Rune)
	case syntax.OpCharClass:
		if len(re.Rune) == 0 {
			return ""
		}
		return string(printable(re.Rune))
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return "x"
	case syntax.OpCapture:
		return example(re.Sub[0], rounds)
	case syntax.OpStar, syntax.OpPlus:
		return strings.Repeat(example(re.Sub[0], rounds), rounds)
	case syntax.OpQuest:
		return example(re.Sub[0], rounds)
	case syntax.OpRepeat:
		return strings.Repeat(example(re.Sub[0], rounds), max(re.Min, min(rounds, 8)))
	case syntax.OpConcat:
		var b strings.Builder
		for _, sub := range re.Sub {
			b.WriteString(example(sub, rounds))
		}
		return b.String()
	case syntax.OpAlternate:
		return example(re.Sub[len(re.Sub)/2], rounds)
	}
	return ""
}

// printable is a character of a class, a printable one if there is one.
func printable(class []rune) rune {
	for i := 0; i < len(class); i += 2 {
		if lo := max(class[i], '!'); lo <= class[i+1] && lo < 0x7f {
			return lo
		}
	}
	return class[0]
}

// loop is the deepest loop in an expression, nil if it has none.
func loop(re *syntax.Regexp) (found *syntax.Regexp) {
	for _, sub := range re.Sub {
		if l := loop(sub); l != nil {
			found = l
		}
	}
	if found == nil && (re.Op == syntax.OpStar || re.Op == syntax.OpPlus || re.Op == syntax.OpRepeat) {
		return re.Sub[0]
	}
	return found
}
