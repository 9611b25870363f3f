package page

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"

	"pasban"
)

// StaticPath is where static files are served.
const StaticPath = "/pasban/static/"

// static holds what web/ builds: style sheets, scripts, fonts.
//
//go:embed all:static
var staticFiles embed.FS

// asset is one static file as it is served.
type asset struct {
	name string // with its hash: portal.1a2b3c4d.css
	kind string // media type
	body []byte
	gzip []byte // nil if it does not help
}

// assets are all static files, by plain and by hashed name. Read-only after load.
type assets struct {
	plain  map[string]*asset
	hashed map[string]*asset
}

// loadAssets reads the built files, gives each a name that holds the hash of
// its content, and puts the hashed names of fonts into the style sheets.
func loadAssets(fsys fs.FS) (*assets, error) {
	a := &assets{plain: map[string]*asset{}, hashed: map[string]*asset{}}
	var sheets []string
	err := fs.WalkDir(fsys, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(path.Base(name), ".") {
			return err
		}
		if path.Ext(name) == ".css" {
			sheets = append(sheets, name)
			return nil
		}
		body, err := fs.ReadFile(fsys, name)
		if err == nil {
			a.put(path.Base(name), body)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("static files: %w", err)
	}
	for _, name := range sheets {
		body, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, fmt.Errorf("static files: %w", err)
		}
		for plain, font := range a.plain {
			if path.Ext(plain) == ".woff2" {
				body = bytes.ReplaceAll(body, []byte("url("+plain+")"), []byte("url("+font.name+")"))
			}
		}
		a.put(path.Base(name), body)
	}
	return a, nil
}

// put names a file by its content and compresses it if that helps.
func (a *assets) put(plain string, body []byte) {
	sum := sha256.Sum256(body)
	ext := path.Ext(plain)
	f := &asset{
		name: strings.TrimSuffix(plain, ext) + "." + hex.EncodeToString(sum[:6]) + ext,
		kind: mime.TypeByExtension(ext), body: body,
	}
	switch ext { // not every machine's table knows these
	case ".woff2":
		f.kind = "font/woff2"
	case ".js":
		f.kind = "text/javascript; charset=utf-8"
	}
	var z bytes.Buffer
	w, err := gzip.NewWriterLevel(&z, gzip.BestCompression)
	if err == nil {
		w.Write(body)
		w.Close()
		if z.Len() < len(body)*9/10 {
			f.gzip = z.Bytes()
		}
	}
	a.plain[plain], a.hashed[f.name] = f, f
}

// Asset is the address of a static file by its plain name ("portal.css"); it
// changes whenever the content does. It fails for a name that is not there.
func (p *Pages) Asset(name string) (string, error) {
	f := p.assets.plain[name]
	if f == nil {
		return "", fmt.Errorf("no static file %q", name)
	}
	return StaticPath + f.name, nil
}

// Static serves the static files under StaticPath. Their names hold the hash
// of their content, so caches may keep them for good.
func (p *Pages) Static() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f := p.assets.hashed[strings.TrimPrefix(r.URL.Path, StaticPath)]
		if f == nil {
			p.Error(w, r, &pasban.Error{Kind: pasban.NotFound, Msg: "there is no such file"})
			return
		}
		h := w.Header()
		SetHeaders(h, r.TLS != nil, "")
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
		h.Set("Content-Type", f.kind)
		body := f.body
		if f.gzip != nil {
			h.Set("Vary", "Accept-Encoding")
			if acceptsGzip(r) {
				h.Set("Content-Encoding", "gzip")
				body = f.gzip
			}
		}
		h.Set("Content-Length", strconv.Itoa(len(body)))
		if r.Method != http.MethodHead {
			w.Write(body)
		}
	})
}
