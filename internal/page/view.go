package page

import (
	"crypto/rand"
	"net/http"
	"strings"
	"time"
)

// View is one page that a handler asks for.
type View struct {
	Surface string // Portal, Desk, Console or Trust: whose layout
	Name    string // the template, without .html
	Title   string // in the visitor's language; the layout adds the surface's name
	Data    any    // the room's typed struct; .Data in the template
	Back    *Link  // the back link above the content, if any
	Nav     []Link // the surface's navigation, if any
	User    string // who is signed in, as they are told it; "" if nobody
	Wide    bool   // portal and desk: use the whole width instead of two thirds

	// Public lets caches keep the page that long; zero is no-store, which is
	// right for every page with somebody's data on it.
	Public time.Duration
}

// Link is a link in a layout, its text in the visitor's language.
type Link struct {
	Text    string
	Href    string
	Current bool   // the page that is being shown
	Count   string // a figure beside the text, e.g. open alerts; "" shows none
}

// Frame is the dot of every layout and template.
type Frame struct {
	View
	Lang   string // "en" or "ur"
	Dir    string // "ltr" or "rtl"
	Nonce  string // of this response's policy; every <script> must carry it
	Agency string // the agency's name in Lang
	Phone  string // for help; may be ""
	Path   string // of this request, without the query
	Self   string // path and query, for a sign-in that returns here
	Now    time.Time
	// Nastaliq is whether an Urdu page gets its web font: not if the visitor
	// asked for little data or chose the simple script.
	Nastaliq bool
	Simple   bool // the visitor chose the simple script
}

// frame fills in what the request says.
func (p *Pages) frame(r *http.Request, v View) Frame {
	lang := Lang(r)
	f := Frame{
		View: v, Lang: lang, Dir: Dir(lang), Nonce: rand.Text(),
		Agency: p.o.Agency[lang], Phone: p.o.Phone,
		Path: r.URL.Path, Self: r.URL.RequestURI(), Now: p.o.Now(),
		Simple: simpleScript(r),
	}
	if f.Agency == "" {
		f.Agency = p.o.Agency["en"]
	}
	f.Nastaliq = lang == "ur" && !f.Simple && !strings.EqualFold(r.Header.Get("Save-Data"), "on")
	if v.Surface == Trust {
		f.Nonce = "" // no script at all
	}
	return f
}

// types names the trusted-types policies of the surface: htmx, where it is used.
func (f Frame) types() []string {
	if f.Surface == Desk || f.Surface == Console {
		return []string{"htmx"}
	}
	return nil
}

// Home is the address of the portal in the visitor's language.
func (f Frame) Home() string { return "/" + f.Lang + "/" }

// In is the address of this same page in the other language: the path's
// language prefix is exchanged, a page without one takes ?lang=.
func (f Frame) In(lang string) string {
	for _, l := range Langs() {
		if rest, ok := strings.CutPrefix(f.Path, "/"+l+"/"); ok {
			return "/" + lang + "/" + rest
		}
	}
	return f.Path + "?lang=" + lang
}
