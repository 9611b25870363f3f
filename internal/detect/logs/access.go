package logs

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// An access log's line: common or combined form, with whatever a server puts
// behind, and before it perhaps the virtual host.
//
//	[host[:port] ]client identity user [time] "request" status bytes ["referer" "agent" …]
//
// The fields are those of Sigma's category webserver, named after the W3C's
// extended log format.

var errAccess = errors.New("not a line of an access log (common or combined form)")

// accessTime is %t of the common log format.
const accessTime = "02/Jan/2006:15:04:05 -0700"

func isAccess(line string) bool {
	_, err := parseAccess(line)
	return err == nil
}

func parseAccess(line string) (map[string]any, error) {
	before, rest, ok := strings.Cut(line, " [")
	if !ok {
		return nil, errAccess
	}
	who := strings.Fields(before)
	stamp, rest, ok := strings.Cut(rest, "] ")
	at, err := time.Parse(accessTime, stamp)
	if !ok || err != nil || len(who) < 3 {
		return nil, errAccess
	}
	ev := map[string]any{"time": at.UnixMilli()}
	host := ""
	if len(who) >= 4 && !strings.Contains(who[0], `"`) && who[2] == "-" {
		host, who = who[0], who[1:]
	}
	put := func(name, v string) {
		if v != "" && v != "-" {
			ev[name] = v
		}
	}
	put("cs-host", host)
	put("c-ip", who[0])
	put("cs-username", strings.Join(who[2:], " "))
	request, rest, ok := quoted(rest)
	if !ok {
		return nil, errAccess
	}
	putRequest(ev, request)
	numbers := strings.Fields(rest)
	if len(numbers) < 2 {
		return nil, errAccess
	}
	status, err := strconv.ParseInt(numbers[0], 10, 64)
	if err != nil {
		return nil, errAccess
	}
	ev["sc-status"] = status
	if n, err := strconv.ParseInt(numbers[1], 10, 64); err == nil {
		ev["sc-bytes"] = n
	}
	if i := strings.IndexByte(rest, '"'); i >= 0 {
		var referer, agent string
		referer, rest, _ = quoted(rest[i:])
		put("cs-referer", referer)
		if agent, _, ok = quoted(rest); ok {
			put("cs-user-agent", agent)
		}
	}
	return ev, nil
}

// putRequest takes a request line apart. What is not one is kept whole: it is
// what an attacker sent.
func putRequest(ev map[string]any, request string) {
	if request == "" || request == "-" {
		return
	}
	method, uri, ok := strings.Cut(request, " ")
	if !ok || strings.Trim(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-_") != "" {
		putURI(ev, request)
		return
	}
	ev["cs-method"] = method
	if before, version, ok := lastCut(uri, " "); ok && strings.HasPrefix(version, "HTTP/") {
		uri, ev["cs-version"] = before, version
	}
	putURI(ev, uri)
}

// putURI fills in the fields of a request's target. Rules for attacks do not
// agree on whether cs-uri-query is what stands after the question mark or all of
// it, and on whether it is escaped: it has each form.
func putURI(ev map[string]any, uri string) {
	ev["cs-uri"], ev["c-uri"] = uri, uri
	stem, query, _ := strings.Cut(uri, "?")
	ev["cs-uri-stem"] = stem
	forms := []any{uri}
	if query != "" {
		forms = append(forms, query)
	}
	if plain, err := url.QueryUnescape(uri); err == nil && plain != uri {
		forms = append(forms, plain)
	}
	ev["cs-uri-query"] = forms
}

func lastCut(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// quoted reads a string in quotes at the beginning of s, after spaces. Within,
// a backslash escapes: \" \\ \n \t and \xHH.
func quoted(s string) (text, rest string, ok bool) {
	s = strings.TrimLeft(s, " ")
	if s == "" || s[0] != '"' {
		return "", s, false
	}
	plain := true
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			plain = false
			i++
		case '"':
			if text = s[1:i]; !plain {
				text = unescape(text)
			}
			return text, s[i+1:], true
		}
	}
	return "", s, false
}

func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		switch c := s[i]; c {
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 't':
			b.WriteByte('\t')
		case 'x':
			if i+2 < len(s) {
				if v, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
					b.WriteByte(byte(v))
					i += 2
					continue
				}
			}
			b.WriteString(`\x`)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
