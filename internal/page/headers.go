package page

import (
	"compress/gzip"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// SetHeaders sets the security headers that every answer of Pasban's own
// carries. nonce is the only script source of the page; "" allows no script
// at all. types names the trusted-types policies that its scripts may create;
// without any, no script can turn text into HTML. secure adds
// Strict-Transport-Security.
func SetHeaders(h http.Header, secure bool, nonce string, types ...string) {
	script, connect, policies := "'none'", "'none'", "'none'"
	if nonce != "" {
		script, connect = "'nonce-"+nonce+"'", "'self'"
	}
	if len(types) > 0 {
		policies = strings.Join(types, " ")
	}
	h.Set("Content-Security-Policy", strings.Join([]string{
		"default-src 'none'", "script-src " + script, "style-src 'self'", "img-src 'self'", "font-src 'self'",
		"connect-src " + connect, "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'",
		"require-trusted-types-for 'script'", "trusted-types " + policies,
	}, "; "))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=(), publickey-credentials-get=(self), publickey-credentials-create=(self)")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cache-Control", "no-store")
	if secure {
		h.Set("Strict-Transport-Security", "max-age=63072000; includeSubDomains")
	}
}

// JSON answers with v as JSON and the security headers; contentType "" is
// application/json.
func (p *Pages) JSON(w http.ResponseWriter, r *http.Request, status int, contentType string, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		p.log.ErrorContext(r.Context(), "answer not made", "err", err)
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	if contentType == "" {
		contentType = "application/json"
	}
	SetHeaders(w.Header(), r.TLS != nil, "")
	w.Header().Set("Content-Type", contentType)
	send(w, r, status, append(data, '\n'))
}

// gzipFrom is the size in bytes from which an answer is worth compressing.
const gzipFrom = 1024

// send writes a whole answer, compressed if the client takes gzip. Pages hold
// no long-lived secret beside text that a stranger can choose, and session
// cookies do not travel with cross-site requests for data (SameSite=Lax), so
// compression gives nothing away (BREACH).
func send(w http.ResponseWriter, r *http.Request, status int, body []byte) {
	h := w.Header()
	h.Add("Vary", "Accept-Encoding, Accept-Language, Cookie")
	if len(body) >= gzipFrom && acceptsGzip(r) {
		h.Set("Content-Encoding", "gzip")
		w.WriteHeader(status)
		if r.Method == http.MethodHead {
			return
		}
		z := packers.Get().(*gzip.Writer)
		defer packers.Put(z)
		z.Reset(w)
		z.Write(body) // a failed write is a visitor who left
		z.Close()
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		w.Write(body)
	}
}

// packers are gzip writers for the next page: each is most of a megabyte.
var packers = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}

// acceptsGzip reports whether Accept-Encoding names gzip without refusing it.
func acceptsGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, q, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.EqualFold(name, "gzip") {
			q = strings.ReplaceAll(q, " ", "")
			return q != "q=0" && q != "q=0.0"
		}
	}
	return false
}
