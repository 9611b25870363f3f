package gateway

import (
	"bytes"
	"errors"
	"html"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/gateway/waf"
)

// citizenOf returns the citizen whom a request for the route names, "" if the
// route does not say where. It refuses a request
// in which another reader could find another citizen: the name twice, or in a
// second place, or in a spelling that some frameworks take for the same.
// maxForm is how much of a form is read, in bytes. The request's body is whole
// again afterwards.
func citizenOf(rt config.Route, r *http.Request, maxForm int64) (pasban.CNIC, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return "", invalid("the query is not readable", err)
	}
	form, err := readForm(r, maxForm)
	if err != nil {
		return "", err
	}
	var text string
	switch from, name := rt.SubjectSource(); from {
	case config.FromPath:
		text = r.PathValue(name)
	case config.FromQuery:
		text, err = onlyValue(name, query, form)
	case config.FromForm:
		text, err = onlyValue(name, form, query)
	default:
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return pasban.ParseCNIC(text)
}

// onlyValue returns the one value of name in place; nothing like it may be in
// the other place.
func onlyValue(name string, place, other url.Values) (string, error) {
	alike := func(key string) bool { return sameName(key, name) }
	count := 0
	for key, values := range place {
		if alike(key) {
			count += len(values)
		}
	}
	for key := range other {
		if alike(key) {
			return "", invalid("the citizen is named in two places: "+name, nil)
		}
	}
	if count != 1 || len(place[name]) != 1 {
		return "", invalid("the citizen must be named once: "+name, nil)
	}
	return place[name][0], nil
}

// sameName reports whether some framework takes parameter a for b: letter case
// aside, with PHP's reading of dots, blanks and brackets.
func sameName(a, b string) bool {
	fold := func(s string) string {
		s, _, _ = strings.Cut(strings.TrimLeft(s, " "), "[")
		return strings.NewReplacer(".", "_", " ", "_", "-", "_").Replace(strings.ToLower(s))
	}
	return fold(a) == fold(b)
}

func invalid(msg string, err error) error {
	return &pasban.Error{Kind: pasban.Invalid, Msg: msg, Err: err}
}

// readForm reads the fields of a form in the body and puts the body back. A
// body of another type has no fields; a GET or HEAD request must have no body.
func readForm(r *http.Request, max int64) (url.Values, error) {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil, nil
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil, invalid("a request that only looks must have no body", nil)
	}
	media, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if len(r.Header.Values("Content-Type")) != 1 || err != nil {
		return nil, invalid("the type of the request's body is not readable", err)
	}
	if media != "application/x-www-form-urlencoded" && media != "multipart/form-data" {
		return nil, nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, max+1))
	if err != nil {
		return nil, invalid("the form did not arrive whole", err)
	}
	if int64(len(body)) > max {
		return nil, &pasban.Error{Kind: pasban.Limited, Msg: "the form is too large", Err: waf.ErrTooLarge}
	}
	r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	if media == "multipart/form-data" {
		return readMultipart(body, params["boundary"])
	}
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, invalid("the form is not readable", err)
	}
	return values, nil
}

// readMultipart reads the fields of a multipart form; the contents of files
// are skipped, their fields' names are not.
func readMultipart(body []byte, boundary string) (url.Values, error) {
	values := url.Values{}
	parts := multipart.NewReader(bytes.NewReader(body), boundary)
	for {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return values, nil
		}
		if err != nil {
			return nil, invalid("the form is not readable", err)
		}
		value := []byte("(file)")
		if part.FileName() == "" {
			if value, err = io.ReadAll(part); err != nil {
				return nil, invalid("the form is not readable", err)
			}
		}
		values.Add(part.FormName(), string(value))
	}
}

// Text in which numbers are looked for: types, and character sets in which
// ASCII digits are themselves.
var (
	textTypes = []string{"application/json", "application/xml", "application/xhtml+xml",
		"application/javascript", "application/x-ndjson", "application/csv"}
	asciiCharsets = []string{"", "utf-8", "utf8", "us-ascii", "iso-8859-1", "iso-8859-6", "windows-1252", "windows-1256"}
)

// readable reports whether citizens' numbers can be found in a body of this
// type.
func readable(contentType, contentEncoding string) bool {
	if contentEncoding != "" && contentEncoding != "identity" {
		return false
	}
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil || !slices.Contains(asciiCharsets, strings.ToLower(params["charset"])) {
		return false
	}
	return strings.HasPrefix(media, "text/") || slices.Contains(textTypes, media) ||
		strings.HasSuffix(media, "+json") || strings.HasSuffix(media, "+xml")
}

// citizensIn returns the distinct citizens' numbers in an answer, its headers
// included, also where they are written with Urdu digits, typographic hyphens,
// or escapes of HTML or JSON.
func citizensIn(header http.Header, body []byte, max int) (found []pasban.CNIC, more bool) {
	var text bytes.Buffer
	for _, values := range header {
		for _, v := range values {
			text.WriteString(v)
			text.WriteByte('\n')
			if plain, err := url.QueryUnescape(v); err == nil && plain != v {
				text.WriteString(plain)
				text.WriteByte('\n')
			}
		}
	}
	text.Write(body)
	if plain := plainText(body); plain != nil {
		text.WriteByte('\n')
		text.Write(plain)
	}
	return pasban.FindCNICs(text.Bytes(), max)
}

var jsonEscape = regexp.MustCompile(`\\u[0-9a-fA-F]{4}`)

// plainText is body with escapes resolved and foreign digits and hyphens
// replaced; nil if that changes nothing.
func plainText(body []byte) []byte {
	s := string(body)
	if strings.Contains(s, `\u`) {
		s = jsonEscape.ReplaceAllStringFunc(s, func(e string) string {
			n, _ := strconv.ParseUint(e[2:], 16, 16)
			return string(rune(n))
		})
	}
	if strings.Contains(s, "&") {
		s = html.UnescapeString(s)
	}
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= '٠' && r <= '٩':
			return r - '٠' + '0'
		case r >= '۰' && r <= '۹':
			return r - '۰' + '0'
		case r >= '\u2010' && r <= '\u2015', r == '\u2212', r == '\uff0d', r == '\u00ad':
			return '-'
		case r >= '\u200b' && r <= '\u200f', r >= '\u202a' && r <= '\u202e', r >= '\u2066' && r <= '\u2069', r == '\ufeff':
			return -1 // marks that are not seen
		}
		return r
	}, s)
	if s == string(body) {
		return nil
	}
	return []byte(s)
}
