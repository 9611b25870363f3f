package page

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"html"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Stamped is a page that was made in advance, of which only a few words differ
// between answers: for pages that are sent to everybody who takes part in a
// flood, where making one anew would cost more than what it protects.
type Stamped struct {
	pages   map[variant][]piece
	workers bool
	types   []string
}

// variant is how a page can differ by what a visitor has chosen.
type variant struct {
	lang             string
	nastaliq, simple bool
}

// piece is a part of a page that is always the same, and the hole after it.
type piece struct {
	text []byte
	hole int // index of a value; one of the negative holes; end for none
}

const (
	holeNonce = -1
	holePath  = -2
	end       = -3
)

// Hole is the text that stands for value n while a page is stamped. Use it as
// text or as a whole attribute, never within a script or a style.
func Hole(n int) string { return fmt.Sprintf("PASBANHOLE%dX", n) }

// StampOptions say what the scripts of a stamped page may do.
type StampOptions struct {
	Workers bool     // start workers from Pasban's own static files
	Types   []string // the trusted-types policies that they create
}

// Stamp makes the page that view returns for each language. Its Data holds
// Hole(0) to Hole(n-1) where the values of Send belong.
func (p *Pages) Stamp(view func(lang string) View, n int, o StampOptions) (*Stamped, error) {
	s := &Stamped{pages: map[variant][]piece{}, workers: o.Workers, types: o.Types}
	for _, v := range []variant{{"en", false, false}, {"en", false, true}, {"ur", true, false}, {"ur", false, true}, {"ur", false, false}} {
		f := Frame{
			View: view(v.lang), Lang: v.lang, Dir: Dir(v.lang), Nonce: Hole(holeNonce), Agency: p.o.Agency[v.lang], Phone: p.o.Phone,
			Path: "/" + Hole(holePath), Self: "/" + Hole(holePath), Now: time.Time{}, Nastaliq: v.nastaliq, Simple: v.simple,
		}
		if f.Agency == "" {
			f.Agency = p.o.Agency["en"]
		}
		var buf bytes.Buffer
		if err := p.Page(&buf, f, f.Name, ""); err != nil {
			return nil, err
		}
		pieces, err := cut(buf.String(), n)
		if err != nil {
			return nil, fmt.Errorf("page %s: %w", f.Name, err)
		}
		s.pages[v] = pieces
	}
	return s, nil
}

// StampError makes the portal's error page of err, as [Pages.Error] answers
// with it. Its incident id is value 0 of Send; err's own does not matter.
func (p *Pages) StampError(err error) (*Stamped, error) {
	pr, _ := problem(err)
	return p.Stamp(func(lang string) View {
		v := p.errorView(lang, pr)
		v.ID = Hole(0)
		return View{Surface: Portal, Name: "error", Title: v.Title, Data: v}
	}, 1, StampOptions{})
}

// cut takes a page apart at its holes.
func cut(text string, n int) (out []piece, err error) {
	const mark = "PASBANHOLE"
	for {
		at := strings.Index(text, mark)
		if at < 0 {
			return append(out, piece{[]byte(text), end}), nil
		}
		number, rest, ok := strings.Cut(text[at+len(mark):], "X")
		hole, err := strconv.Atoi(number)
		if !ok || err != nil || hole >= n || hole < holePath {
			return nil, fmt.Errorf("no value for the hole at %.40q", text[at:])
		}
		if hole == holePath && at > 0 && text[at-1] == '/' {
			at-- // the path brings its own slash
		}
		out = append(out, piece{[]byte(text[:at]), hole})
		text = rest
	}
}

// Send answers with the page in the visitor's language. It is not compressed.
func (s *Stamped) Send(w http.ResponseWriter, r *http.Request, status int, values ...string) {
	v := variant{lang: Lang(r), simple: simpleScript(r)}
	v.nastaliq = v.lang == "ur" && !v.simple && !strings.EqualFold(r.Header.Get("Save-Data"), "on")
	nonce := rand.Text()
	body := make([]byte, 0, 8<<10)
	for _, p := range s.pages[v] {
		body = append(body, p.text...)
		switch p.hole {
		case holeNonce:
			body = append(body, nonce...)
		case holePath:
			body = append(body, html.EscapeString(r.URL.EscapedPath())...)
		case end:
		default:
			body = append(body, html.EscapeString(values[p.hole])...)
		}
	}
	rememberLang(w, r)
	rememberScript(w, r)
	h := w.Header()
	SetHeaders(h, r.TLS != nil, nonce, s.types...)
	if s.workers {
		h.Set("Content-Security-Policy", h.Get("Content-Security-Policy")+"; worker-src 'self'")
	}
	h.Set("Content-Language", v.lang)
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		w.Write(body) // a failed write is a visitor who left
	}
}
