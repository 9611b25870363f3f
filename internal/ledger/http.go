package ledger

import (
	"errors"
	"io/fs"
	"net/http"
	"strconv"
	"strings"

	"pasban/internal/ledger/tiles"
)

// Handler serves the public files under /ledger/ as C2SP tlog-tiles says:
// /ledger/checkpoint, which must not be cached, and /ledger/tile/…, which
// never change and may be cached for ever. Only what the newest checkpoint
// covers is served, for GET and HEAD; everything else is not found.
func (l *Ledger) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		cp := l.shown()
		name, ok := strings.CutPrefix(r.URL.Path, "/ledger/")
		if !ok || cp == nil || r.URL.RawPath != "" {
			http.NotFound(w, r)
			return
		}
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Access-Control-Allow-Origin", "*") // anyone may check it, also from a page
		if name == tiles.Checkpoint {
			h.Set("Content-Type", "text/plain; charset=utf-8")
			h.Set("Cache-Control", "no-cache")
			if final := l.Final(cp.raw); final != "" {
				h.Set(FinalHeader, final)
			}
			reply(w, r, cp.raw)
			return
		}
		t, err := tiles.ParsePath(name)
		if err != nil || !tiles.InTree(t, cp.N) {
			http.NotFound(w, r)
			return
		}
		data, err := l.storage.ReadFile(r.Context(), name)
		switch {
		case errors.Is(err, fs.ErrNotExist): // a partial tile whose full one is there: clients ask for that
			http.NotFound(w, r)
			return
		case err != nil:
			http.Error(w, "the file cannot be read", http.StatusServiceUnavailable)
			return
		}
		h.Set("Content-Type", "application/octet-stream")
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
		reply(w, r, data)
	})
}

func reply(w http.ResponseWriter, r *http.Request, data []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(data) // the client is gone if it fails
	}
}
