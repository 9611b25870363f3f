package waftest

import (
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

// sentences are what people write to an office, in each language.
var sentences = map[Language][]string{
	English: {
		"The plot was inherited from our late father in equal shares by three brothers and two sisters.",
		"We ask that the transfer be entered in the register before the next harvest season begins.",
		"The boundary wall on the northern side was built in the year of the settlement and has not been moved since.",
		"Copies of the death certificate and of the family tree were handed in at the counter in Rawalpindi.",
		"My brother lives abroad; his power of attorney was attested by the consulate last month.",
		"No dispute about this land is before any court, and no instalment of the revenue is unpaid.",
		"The number of the old register was written wrongly on the last receipt, as the clerk has noticed himself.",
		"Please send the certified copy to the address above, or tell us on which day it can be fetched.",
		"The canal water is shared by turns, and our turn is on the night between Tuesday and Wednesday.",
		"I am thankful for your help and declare that all of this is true to the best of my knowledge.",
	},
	Urdu: {
		"یہ زمین ہمیں اپنے مرحوم والد سے برابر حصوں میں وراثت میں ملی ہے۔",
		"گزارش ہے کہ انتقال اگلی فصل سے پہلے رجسٹر میں درج کر دیا جائے۔",
		"شمالی جانب کی دیوار بندوبست کے سال میں بنی تھی اور تب سے اپنی جگہ پر ہے۔",
		"وفات کی سند اور شجرۂ نسب کی نقول راولپنڈی کے دفتر میں جمع کرا دی گئی ہیں۔",
		"میرا بھائی بیرونِ ملک رہتا ہے، اس کا مختار نامہ پچھلے مہینے تصدیق ہو چکا ہے۔",
		"اس زمین کا کوئی مقدمہ کسی عدالت میں نہیں اور مالیے کی کوئی قسط باقی نہیں۔",
		"پرانے رجسٹر کا نمبر پچھلی رسید پر غلط لکھا گیا تھا، جیسا کہ پٹواری صاحب نے خود دیکھا۔",
		"براہِ کرم مصدقہ نقل اوپر لکھے پتے پر بھیج دیں یا بتا دیں کہ کس دن مل سکتی ہے؟",
		"نہر کا پانی باری باری ملتا ہے اور ہماری باری منگل اور بدھ کی درمیانی رات کو ہے۔",
		"میں حلفاً بیان کرتا ہوں کہ یہ سب میرے علم کے مطابق درست ہے، مکان نمبر ۱۲، گلی ۳۔",
	},
	Persian: {
		"این زمین از پدر مرحوم ما به سهم‌های برابر به ارث رسیده است.",
		"خواهشمندیم انتقال را پیش از فصل برداشت آینده در دفتر ثبت کنید.",
		"دیوار شمالی در سال تقسیم ساخته شده و از آن زمان جابه‌جا نشده است.",
		"رونوشت گواهی فوت و شجره‌نامه به دفتر راولپندی تحویل داده شد.",
		"برادرم در خارج از کشور زندگی می‌کند و وکالت‌نامهٔ او ماه گذشته تأیید شد.",
		"دربارهٔ این زمین هیچ دعوایی در هیچ دادگاهی نیست و هیچ قسطی پرداخت‌نشده نمانده است.",
		"شمارهٔ دفتر قدیم در رسید گذشته نادرست نوشته شده بود، چنان که خود کارمند دیده است.",
		"لطفاً رونوشت مصدق را به نشانی بالا بفرستید یا بگویید کدام روز می‌توان آن را گرفت؟",
		"آب نهر به نوبت تقسیم می‌شود و نوبت ما شب میان سه‌شنبه و چهارشنبه است.",
		"گواهی می‌دهم که همهٔ این‌ها تا آنجا که می‌دانم درست است؛ خانهٔ شمارهٔ ۱۲، کوچهٔ ۳.",
	},
}

// Text is an honest text of exactly n bytes of UTF-8: sentences in an order
// that rng draws, the last one cut and filled up with spaces.
func Text(rng *rand.Rand, l Language, n int) string {
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(sentences[l][rng.IntN(len(sentences[l]))])
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
