// Package page is what Pasban's web surfaces share: layouts, security headers,
// two languages, static assets, and the one place where errors become HTTP.
//
// # Main types
//
// [Pages] holds the parsed templates; node makes one and passes it to every
// room that serves people. A room embeds its own templates, hands them over
// once with [Pages.Add], and answers a request by naming one of them in a
// [View]. Inside a template the dot is a [Frame]; the room's own typed data is
// its Data field.
//
// # The way of a page
//
//	handler → View → Render: language, nonce, headers → template → layout → gzip
//
// A template is executed into memory first: a page is sent whole or an error
// page is sent instead.
//
// # Guarantees
//
// Every page carries a Content-Security-Policy whose only script source is a
// fresh nonce, and the rest of the headers in [SetHeaders]. Values reach HTML
// through html/template alone. A template that uses a message key which is
// missing in either language is refused by Add. An error page never shows a
// cause, only what [pasban.Error] says to the person.
//
// # What it must never do
//
// It knows no room, opens no data, and decides nothing about who may see what.
package page

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// Surfaces. Portal, desk and trust are one family and share a layout.
const (
	Portal  = "portal"  // citizens
	Desk    = "desk"    // officers; the portal's family
	Console = "console" // analysts; dense, dark and light
	Trust   = "trust"   // the public; no scripts
)

// Options say whose pages these are.
type Options struct {
	// Agency is the agency's name by language, "en" and "ur".
	Agency map[string]string
	// Phone is the number for help, shown in the footer; "" shows none.
	Phone string
	// Log receives what an error page does not tell; nil is slog.Default().
	Log *slog.Logger
	// Now is the clock of relative times; nil is time.Now.
	Now func() time.Time
}

// Pages renders the pages of every surface. Add is called while the node is
// put together, before the first request; everything else is safe for
// concurrent use.
type Pages struct {
	o       Options
	words   *words
	assets  *assets
	layouts map[string]string // surface → text of its layout
	// pages are parsed when they are first asked for: all of them together are half
	// the objects that a node keeps, and most nodes show few.
	pages map[string]func() (*template.Template, error)
	log   *slog.Logger
}

//go:embed templates/*.html
var ownTemplates embed.FS

// New loads messages, assets and the layouts. It fails only if what is
// embedded in the binary is broken.
func New(o Options) (*Pages, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	w, err := loadWords(localeFiles)
	if err != nil {
		return nil, err
	}
	a, err := loadAssets(staticFiles)
	if err != nil {
		return nil, err
	}
	p := &Pages{o: o, words: w, assets: a, layouts: map[string]string{}, pages: map[string]func() (*template.Template, error){}, log: o.Log}
	for surface, file := range map[string]string{
		Portal: "layout.html", Desk: "layout.html", Trust: "layout.html", Console: "layout-console.html",
	} {
		text, err := ownTemplates.ReadFile("templates/" + file)
		if err != nil {
			return nil, fmt.Errorf("layout of %s: %w", surface, err)
		}
		p.layouts[surface] = string(text)
	}
	own, err := fs.Sub(ownTemplates, "templates")
	if err != nil {
		return nil, err
	}
	for surface := range p.layouts {
		if err := p.add(surface, own, []string{"error.html"}); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Add parses a room's templates, every *.html file in fsys, for one surface.
// A file named x.html becomes the page x and defines "content", the inside of
// <main>; it may also define "head" (scripts and data blocks) and "banner"
// (above the content). Files whose names begin with an underscore are shared by the
// room's pages. Add fails for a template that does not parse, that takes the
// name of another, or that uses a message key missing in either language.
func (p *Pages) Add(surface string, fsys fs.FS) error {
	var files []string
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && path.Ext(name) == ".html" {
			files = append(files, name)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("templates of %s: %w", surface, err)
	}
	return p.add(surface, fsys, files)
}

func (p *Pages) add(surface string, fsys fs.FS, files []string) error {
	layout, ok := p.layouts[surface]
	if !ok {
		return fmt.Errorf("there is no surface %q", surface)
	}
	var shared, views []string
	for _, f := range files {
		if strings.HasPrefix(path.Base(f), "_") {
			shared = append(shared, f)
		} else {
			views = append(views, f)
		}
	}
	for _, f := range views {
		files := append(slices.Clone(shared), f)
		for _, lang := range Langs() {
			key := pageKey(surface, strings.TrimSuffix(path.Base(f), ".html"), lang)
			if p.pages[key] != nil {
				return fmt.Errorf("template %s: surface %s has a page of that name already", f, surface)
			}
			p.pages[key] = sync.OnceValues(func() (*template.Template, error) {
				return p.parse(lang, layout, fsys, files)
			})
		}
		t, err := p.parse(Langs()[0], layout, fsys, files)
		if err != nil {
			return err
		}
		if err := p.words.check(t); err != nil {
			return fmt.Errorf("template %s: %w", f, err)
		}
	}
	return nil
}

// parse makes a template in one language of a layout and files.
func (p *Pages) parse(lang, layout string, fsys fs.FS, files []string) (*template.Template, error) {
	t, err := template.New("layout").Funcs(p.funcs(lang)).Option("missingkey=error").Parse(layout)
	if err != nil {
		return nil, fmt.Errorf("layout: %w", err)
	}
	for _, f := range files {
		if err := parseFile(t, fsys, f); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func parseFile(t *template.Template, fsys fs.FS, name string) error {
	text, err := fs.ReadFile(fsys, name)
	if err != nil {
		return fmt.Errorf("template %s: %w", name, err)
	}
	if _, err := t.New(name).Parse(string(text)); err != nil {
		return fmt.Errorf("template %s: %w", name, err)
	}
	return nil
}

func pageKey(surface, name, lang string) string { return surface + "/" + name + "." + lang }

// Page writes one page without its headers, for a static export or for a
// fragment: block "" is the whole page, any other name the template that is
// defined under it.
func (p *Pages) Page(w *bytes.Buffer, f Frame, name, block string) error {
	parsed := p.pages[pageKey(f.Surface, name, f.Lang)]
	if parsed == nil {
		return fmt.Errorf("surface %s has no page %q", f.Surface, name)
	}
	t, err := parsed()
	if err != nil {
		return err
	}
	if block == "" {
		block = "layout"
	}
	if err := t.ExecuteTemplate(w, block, f); err != nil {
		return fmt.Errorf("page %s/%s: %w", f.Surface, name, err)
	}
	return nil
}

// Render answers with the page that v names, in the visitor's language, with
// every security header. If the page cannot be made, an error page is sent
// and the cause logged.
func (p *Pages) Render(w http.ResponseWriter, r *http.Request, status int, v View) {
	f := p.frame(r, v)
	var buf bytes.Buffer
	if err := p.Page(&buf, f, v.Name, ""); err != nil {
		p.log.ErrorContext(r.Context(), "page not made", "surface", v.Surface, "page", v.Name, "err", err)
		if v.Name == "error" {
			http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
			return
		}
		p.Error(w, r, fmt.Errorf("page %s: %w", v.Name, err))
		return
	}
	rememberLang(w, r)
	rememberScript(w, r)
	SetHeaders(w.Header(), r.TLS != nil, f.Nonce, f.types()...)
	if v.Public > 0 {
		w.Header().Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(v.Public.Seconds())))
	}
	w.Header().Set("Content-Language", f.Lang)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	send(w, r, status, buf.Bytes())
}

// Fragment answers with one named block of a page, for htmx: no layout around
// it. Its htmx elements carry hx-nonce="{{.Nonce}}" like a page's: the nonce is
// this answer's own, and hx-csp exchanges it for the asking page's because the
// answer's policy names it.
func (p *Pages) Fragment(w http.ResponseWriter, r *http.Request, status int, v View, block string) {
	f := p.frame(r, v)
	var buf bytes.Buffer
	if err := p.Page(&buf, f, v.Name, block); err != nil {
		p.Error(w, r, err)
		return
	}
	SetHeaders(w.Header(), r.TLS != nil, f.Nonce, f.types()...)
	w.Header().Set("Content-Language", f.Lang)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	send(w, r, status, buf.Bytes())
}
