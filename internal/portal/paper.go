package portal

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"

	"pasban"
	"pasban/internal/page"
	"pasban/internal/paper"
)

// ReceiptView is the data of an entry's receipt. All of it is written from the
// receipt after it was verified, and not from what the journal holds beside it.
type ReceiptView struct {
	Entry  Entry
	Origin string
	Size   int64 // leaves under the checkpoint
	VKey   string
	Codes  []paper.Code
}

// proven is a receipt that was verified.
type proven struct {
	pasban.Receipt
	body  pasban.Body
	size  int64
	codes []paper.QR
}

// verified proves the path's entry to a citizen and verifies the proof. What does
// not verify is not shown.
func (p *Portal) verified(r *http.Request, v Visitor) (proven, error) {
	e, rc, err := p.prove(r, v)
	if err != nil {
		return proven{}, err
	}
	if !concerns(e, v.Actor) {
		return proven{}, noReceipt // an auditor takes the JSON form, which is accounted for
	}
	out := proven{Receipt: rc}
	bad := func(err error) (proven, error) {
		return proven{}, &pasban.Error{Kind: pasban.Unavailable, Msg: "the receipt does not verify", Where: "ledger", Err: err}
	}
	if out.body, err = rc.Verify(p.verifier); err != nil {
		return bad(err)
	}
	cp, err := pasban.OpenCheckpoint([]byte(rc.Checkpoint), p.verifier)
	if err != nil {
		return bad(err)
	}
	out.size = cp.N
	texts, err := rc.Codes()
	if err != nil {
		return proven{}, err
	}
	for _, text := range texts {
		q, err := paper.NewQR(text)
		if err != nil {
			return proven{}, err
		}
		out.codes = append(out.codes, q)
	}
	return out, nil
}

// named are the receipt's codes with what they are called in a language.
func (p *Portal) named(lang string, codes []paper.QR) (out []paper.Code) {
	for i, q := range codes {
		out = append(out, paper.Code{QR: q, About: p.o.Pages.T(lang, "portal.receipt.code", "Number", i+1, "All", len(codes))})
	}
	return out
}

// receiptPage shows the receipt of an entry and offers it to keep.
func (p *Portal) receiptPage(w http.ResponseWriter, r *http.Request, v Visitor) {
	rc, err := p.verified(r, v)
	if err != nil {
		p.o.Pages.Error(w, r, err)
		return
	}
	lang := page.Lang(r)
	data := ReceiptView{Entry: bodyCard(p.phrases(lang), rc.body), Origin: rc.Origin, Size: rc.size, VKey: p.o.VKey, Codes: p.named(lang, rc.codes)}
	data.Entry.Index, data.Entry.Alone = int64(rc.Index), true
	p.render(w, r, http.StatusOK, &v, page.View{Name: "receipt", Title: p.say(r, "receipt.title"), Data: data, Back: p.back(r, "back.mydata", "/my-data")})
}

// receiptPDF answers with the receipt as a file to print and to hand over.
func (p *Portal) receiptPDF(w http.ResponseWriter, r *http.Request, v Visitor) {
	rc, err := p.verified(r, v)
	if err != nil {
		p.o.Pages.Error(w, r, err)
		return
	}
	doc, err := p.document(rc, page.Lang(r))
	if err != nil {
		p.o.Pages.Error(w, r, err)
		return
	}
	printer, err := p.printer()
	if err != nil {
		p.o.Pages.Error(w, r, err)
		return
	}
	var out bytes.Buffer
	if err := printer.Print(&out, doc); err != nil {
		p.o.Pages.Error(w, r, err)
		return
	}
	page.SetHeaders(w.Header(), r.TLS != nil, "")
	download(w, rc.Receipt, "pdf")
	w.Header().Set("Content-Type", "application/pdf")
	w.Header().Set("Content-Length", strconv.Itoa(out.Len()))
	w.Write(out.Bytes()) // a visitor who has gone needs no error
}

// document is the receipt on paper, in all languages, that of the visitor first.
func (p *Portal) document(rc proven, lang string) (paper.Document, error) {
	data, err := json.MarshalIndent(rc.Receipt, "", "  ")
	if err != nil {
		return paper.Document{}, err
	}
	say := func(key string, args ...any) string { return p.o.Pages.T(lang, "portal.receipt."+key, args...) }
	doc := paper.Document{Title: say("title") + " " + strconv.FormatUint(rc.Index, 10), Lang: lang, Made: p.o.Now()}
	doc.File = paper.File{Name: receiptFile(rc.Receipt, "json"), Type: "application/json", About: say("json_text"), Data: append(data, '\n')}
	langs := []string{lang}
	for _, other := range page.Langs() {
		if other != lang {
			langs = append(langs, other)
		}
	}
	for _, l := range langs {
		doc.Blocks = append(doc.Blocks, p.inWords(rc, l)...)
	}
	for _, l := range langs {
		doc.Blocks = append(doc.Blocks,
			paper.Heading{Lang: l, Level: 2, Text: p.o.Pages.T(l, "portal.receipt.codes")},
			paper.Text{Lang: l, Text: p.o.Pages.T(l, "portal.receipt.check_text") + " " + p.o.Pages.T(l, "portal.receipt.codes_text"), Small: true})
	}
	doc.Blocks = append(doc.Blocks, paper.Codes{Lang: lang, Codes: p.named(lang, rc.codes)}, paper.Row{Lang: lang, Label: say("label.key"), Text: p.o.VKey})
	return doc, nil
}

// inWords tells what the receipt proves in one language.
func (p *Portal) inWords(rc proven, lang string) []paper.Block {
	f := p.phrases(lang)
	t := f.texts(rc.body)
	label := func(key string) string { return p.o.Pages.T(lang, "portal."+key) }
	blocks := []paper.Block{
		paper.Heading{Lang: lang, Level: 1, Text: label("receipt.title")},
		paper.Text{Lang: lang, Text: p.o.Pages.T(lang, "portal.receipt.lead", "Agency", t.Title)},
	}
	what := "entry.label.what"
	if changed(rc.body) {
		what = "entry.label.changed"
	}
	for _, row := range [][2]string{
		{"receipt.label.agency", t.Title},
		{"receipt.label.subject", string(rc.body.Subject)},
		{"receipt.label.tag", t.Tag},
		{"entry.label.who", t.Who}, {"entry.label.when", t.When}, {what, t.What}, {"entry.label.why", t.Why}, {"entry.label.basis", t.Basis},
		{"receipt.label.entry", rc.body.ID},
		{"receipt.label.log", p.o.Pages.T(lang, "portal.receipt.log", "Origin", rc.Origin, "Index", rc.Index, "Size", rc.size)},
	} {
		if row[1] != "" {
			blocks = append(blocks, paper.Row{Lang: lang, Label: label(row[0]), Text: row[1]})
		}
	}
	return blocks
}
