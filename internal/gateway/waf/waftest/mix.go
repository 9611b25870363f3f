package waftest

import (
	"embed"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
)

// People is how many different visitors the mixes draw from: synthetic all.
const People = 10_000

// draw is the generator of request i's visitor, who sends kinds requests in a row.
func draw(i, kinds int) *rand.Rand { return rand.New(rand.NewPCG(2026, uint64(i/kinds%People))) }

var (
	given = []string{"Ayesha", "Bilal", "Fatima", "Hamza", "Khadija", "Omar", "Sana", "Usman", "Zainab", "Imran", "Nadia", "Tariq", "Rabia", "Salman", "Hina", "Faisal"}
	// They mean specimen, example, fictitious, trial: nobody is called that.
	family = []string{"Synthetic", "Namoona", "Misali", "Farzi", "Tajrubi", "Azmaishi"}
)

func person(rng *rand.Rand) (name, cnic string) {
	return given[rng.IntN(len(given))] + " " + family[rng.IntN(len(family))],
		fmt.Sprintf("%05d-%07d-%d", 10000+rng.IntN(89999), rng.IntN(1e7), rng.IntN(10))
}

// Benign writes request i of the benign mix to the server at base: a search, a
// script, a form and a JSON document in turn, with names, numbers and sessions
// of [People] visitors.
func Benign(base string, i int) *http.Request {
	rng := draw(i, 4)
	name, cnic := person(rng)
	var r *http.Request
	switch i % 4 {
	case 0:
		r, _ = http.NewRequest("GET", fmt.Sprintf("%s/records/search?district=rawalpindi&mouza=Adiala&khasra=%d%%2F%d&page=%d",
			base, 1+rng.IntN(900), 1+rng.IntN(9), 1+rng.IntN(9)), nil)
	case 1:
		r, _ = http.NewRequest("GET", fmt.Sprintf("%s/static/app.js?v=1.2.%d", base, rng.IntN(9)), nil)
	case 2:
		form := url.Values{"name": {name}, "father_name": {name}, "cnic": {cnic}, "address": {fmt.Sprintf("House %d, Street %d, Satellite Town", rng.IntN(99), rng.IntN(40))},
			"mobile": {fmt.Sprintf("0300-%07d", rng.IntN(1e7))}, "email": {fmt.Sprintf("synthetic%d@example.org", rng.IntN(1e4))}, "purpose": {"mutation"},
			"note": {"The plot was inherited in equal shares and the family asks that the transfer be entered before the next harvest season begins"}}
		r = Post(base+"/apply", FormType, form.Encode())
	case 3:
		body := fmt.Sprintf(`{"taxpayer":{"name":%q,"cnic":%q,"year":2026},"incomes":[{"source":"salary","employer":"Synthetic Mills","amount":%d},`+
			`{"source":"rent","district":"Rawalpindi","amount":%d}],"deductions":[{"kind":"zakat","amount":%d},{"kind":"education","amount":%d}],`+
			`"declaration":"I declare that the particulars given in this return are correct and complete to the best of my knowledge and belief."}`,
			name, cnic, rng.IntN(1e6), rng.IntN(1e5), rng.IntN(1e4), rng.IntN(1e4))
		r = Post(base+"/api/tax/returns", JSONType, body)
	}
	browser(r, rng)
	return r
}

// Types of bodies.
const (
	FormType = "application/x-www-form-urlencoded"
	JSONType = "application/json"
)

// Post writes a request with a body and nothing else.
func Post(target, contentType, body string) *http.Request {
	r, err := http.NewRequest("POST", target, strings.NewReader(body))
	if err != nil {
		panic(err) // targets are ours
	}
	r.Header.Set("Content-Type", contentType)
	return r
}

// browser sets the headers that a browser sends with every request.
func browser(r *http.Request, rng *rand.Rand) {
	r.Host = "land.example"
	r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36")
	r.Header.Set("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
	r.Header.Set("Accept-Language", "en-US,en;q=0.5")
	r.Header.Set("Cookie", "session="+Session(rng)+"; lang=ur")
	r.Header.Set("Referer", "http://land.example/records/search?district=rawalpindi&page=1")
}

// Session is the value of a session's cookie: 32 hexadecimal digits.
func Session(rng *rand.Rand) string { return fmt.Sprintf("%016x%016x", rng.Uint64(), rng.Uint64()) }

// Language is what a text is written in.
type Language int

// The languages of texts.
const (
	English Language = iota
	Urdu
	Persian
)

// texts are what people write to an office: one file a language, one sentence
// a line.
//
//go:embed sentences
var texts embed.FS

func (l Language) sentences() []string {
	text, err := texts.ReadFile("sentences/" + [...]string{English: "en", Urdu: "ur", Persian: "fa"}[l] + ".txt")
	if err != nil {
		panic(err) // embedded
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// Text is an honest text of exactly n bytes of UTF-8: sentences in an order
// that rng draws, the last one cut and filled up with spaces.
func Text(rng *rand.Rand, l Language, n int) string {
	var b strings.Builder
	all := l.sentences()
	for b.Len() < n {
		b.WriteString(all[rng.IntN(len(all))])
		b.WriteByte(' ')
	}
	return fill(b.String(), n)
}

// fill cuts s to n bytes, between two characters, and fills up with spaces.
func fill(s string, n int) string {
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "")
	}
	return s + strings.Repeat(" ", n-len(s))
}

// Letters is how many letters in a row have each size once.
const Letters = 8

// Letter writes request i of a series of letters to an office: by turns a form
// and a JSON document, in Urdu and in Persian, with 500 to 4,000 bytes of text.
func Letter(base string, i int) *http.Request {
	rng := draw(i, 4)
	name, cnic := person(rng)
	l := []Language{Urdu, Persian}[i/2%2]
	text := strings.TrimSpace(Text(rng, l, 500*(1+i%Letters)))
	var r *http.Request
	if i%2 == 0 {
		r = Post(base+"/apply", FormType, url.Values{"name": {name}, "cnic": {cnic}, "purpose": {"mutation"}, "note": {text}}.Encode())
	} else {
		r = Post(base+"/api/letters", JSONType, letterJSON(name, cnic, text))
	}
	browser(r, rng)
	return r
}

func letterJSON(name, cnic, text string) string {
	note, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string always is JSON
	}
	return fmt.Sprintf(`{"name":%q,"cnic":%q,"note":%s}`, name, cnic, note)
}

// Lettering is how a text is sent when languages are compared.
type Lettering int

// The ways to send a text.
const (
	AsJSON     Lettering = iota // as many bytes on the wire as in the text
	FormByWire                  // a form: as many bytes on the wire
	FormByText                  // a form: as many bytes of text; beyond ASCII each is three on the wire
)

// Compared writes request i of a series in which nothing but the language
// differs: a text of n bytes, counted as how says.
func Compared(base string, i int, l Language, how Lettering, n int) *http.Request {
	rng := draw(i, 1)
	name, cnic := person(rng)
	text := Text(rng, l, n)
	var r *http.Request
	switch how {
	case AsJSON:
		r = Post(base+"/api/letters", JSONType, letterJSON(name, cnic, text))
	case FormByWire, FormByText:
		note := url.QueryEscape(text)
		if how == FormByWire {
			note = escapeTo(text, n)
		}
		r = Post(base+"/apply", FormType, "name="+url.QueryEscape(name)+"&cnic="+cnic+"&note="+note)
	}
	browser(r, rng)
	return r
}

// escapeTo escapes as many characters of a text as fit into n bytes, and fills
// up with spaces.
func escapeTo(text string, n int) string {
	var b strings.Builder
	for _, c := range text {
		e := url.QueryEscape(string(c))
		if b.Len()+len(e) > n {
			break
		}
		b.WriteString(e)
	}
	return b.String() + strings.Repeat("+", n-b.Len())
}
