package gateway

import (
	"net/http"
	"net/url"
	"strings"

	"pasban"
)

// checkPath refuses paths that two readers may understand differently, so that
// the path a route was matched by is the path that the upstream serves: paths
// with empty or dot segments, encoded or plain backslashes, encoded slashes,
// matrix parameters (';', which Java servers strip), control characters, and
// escapes of characters that need none (RFC 3986, section 6.2.2). What passes
// is forwarded byte for byte.
func checkPath(r *http.Request) error {
	path := r.URL.EscapedPath()
	if r.Method == http.MethodConnect || !strings.HasPrefix(path, "/") {
		return ambiguous("it is not a path")
	}
	if raw, _, _ := strings.Cut(r.RequestURI, "?"); strings.HasPrefix(raw, "/") && raw != path {
		return ambiguous("it has characters that must be escaped")
	}
	if why := pathFault(path); why != "" {
		return ambiguous(why)
	}
	return nil
}

func ambiguous(why string) error {
	return &pasban.Error{Kind: pasban.Invalid, Msg: "the address can be read in more than one way: " + why}
}

// pathFault says what is wrong with an escaped path, "" if nothing is.
func pathFault(path string) string {
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '\\':
			return "it has a backslash"
		case c == ';':
			return "it has a semicolon"
		case c <= ' ' || c == 0x7f:
			return "it has a control character"
		case c == '%':
			if i+2 >= len(path) {
				return "it has an escape that is cut off"
			}
			b, err := url.PathUnescape(path[i : i+3])
			if err != nil {
				return "it has an escape that is none"
			}
			if why := escapeFault(b[0]); why != "" {
				return why
			}
			i += 2
		}
	}
	if strings.Contains(path, "//") {
		return "it has an empty segment"
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return "it has a dot segment"
		}
	}
	return ""
}

// escapeFault says why a character must not be there in escaped form.
func escapeFault(c byte) string {
	switch {
	case c == '/' || c == '\\':
		return "it has an escaped slash"
	case c == ';':
		return "it has an escaped semicolon"
	case c == '%':
		return "it is escaped twice"
	case c < ' ' || c == 0x7f:
		return "it has a control character"
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~", c) >= 0:
		return "it escapes a character that needs no escape"
	}
	return ""
}

// likenesses are the paths that a lenient server may take for path: other
// letter case, a slash more or less at the end, dots or blanks at the end of a
// segment. path itself is not among them.
func likenesses(path string) []string {
	var all []string
	add := func(p string) {
		for _, q := range []string{p, strings.TrimRight(p, "/"), p + "/"} {
			if q != "" && q != path && !strings.Contains(q, "//") {
				all = append(all, q)
			}
		}
	}
	add(path)
	if lower := strings.ToLower(path); lower != path {
		add(lower)
	}
	segments := strings.Split(strings.ToLower(path), "/")
	for i, s := range segments {
		segments[i] = trimTail(s)
	}
	if trimmed := strings.Join(segments, "/"); trimmed != strings.ToLower(path) {
		add(trimmed)
	}
	return all
}

// trimTail removes dots and (escaped) blanks from the end of a segment.
func trimTail(s string) string {
	for {
		t := strings.TrimSuffix(strings.TrimRight(s, "."), "%20")
		if t == s {
			return s
		}
		s = t
	}
}
