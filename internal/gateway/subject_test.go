package gateway

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pasban"
	"pasban/internal/config"
)

const (
	first  = "35202-1234567-1" // synthetic numbers
	second = "61101-7654321-2"
)

func TestCitizenOf(t *testing.T) {
	query := config.Route{Match: "GET /r", Subject: "query.cnic"}
	form := config.Route{Match: "POST /r", Subject: "form.owner_cnic"}
	for _, c := range []struct {
		name   string
		route  config.Route
		target string
		media  string
		body   string
		want   pasban.CNIC // "" if it must be refused
	}{
		{"query", query, "/r?cnic=" + first, "", "", first},
		{"without hyphens", query, "/r?cnic=3520212345671&page=2", "", "", first},
		{"Urdu digits", query, "/r?cnic=" + url.QueryEscape("۳۵۲۰۲۱۲۳۴۵۶۷۱"), "", "", first},
		{"missing", query, "/r?page=2", "", "", ""},
		{"empty", query, "/r?cnic=", "", "", ""},
		{"twice", query, "/r?cnic=" + first + "&cnic=" + second, "", "", ""},
		{"twice the same", query, "/r?cnic=" + first + "&cnic=" + first, "", "", ""},
		{"other case", query, "/r?cnic=" + first + "&CNIC=" + second, "", "", ""},
		{"PHP array", query, "/r?cnic=" + first + "&cnic[]=" + second, "", "", ""},
		{"escaped name", query, "/r?cnic=" + first + "&%63nic=" + second, "", "", ""},
		{"semicolon", query, "/r?cnic=" + first + ";cnic=" + second, "", "", ""},
		{"broken escape", query, "/r?cnic=" + first + "&%zz=1", "", "", ""},
		{"also in a form", query, "/r?cnic=" + first, "application/x-www-form-urlencoded", "cnic=" + second, ""},
		{"form", form, "/r", "application/x-www-form-urlencoded", "owner_cnic=" + first + "&share=1%2F2", first},
		{"form, type with charset", form, "/r", "application/x-www-form-urlencoded; charset=UTF-8", "owner_cnic=" + first, first},
		{"form and query", form, "/r?owner_cnic=" + second, "application/x-www-form-urlencoded", "owner_cnic=" + first, ""},
		{"form, PHP's dots", form, "/r", "application/x-www-form-urlencoded", "owner_cnic=" + first + "&owner.cnic=" + second, ""},
		{"form as JSON", form, "/r", "application/json", `{"owner_cnic":"` + first + `"}`, ""},
		{"form without type", form, "/r", "", "owner_cnic=" + first, ""},
		{"multipart", form, "/r", "multipart/form-data; boundary=b",
			"--b\r\nContent-Disposition: form-data; name=\"owner_cnic\"\r\n\r\n" + first + "\r\n--b--\r\n", first},
		{"multipart twice", form, "/r", "multipart/form-data; boundary=b",
			"--b\r\nContent-Disposition: form-data; name=\"owner_cnic\"\r\n\r\n" + first + "\r\n--b\r\nContent-Disposition: form-data; name=\"owner_cnic\"\r\n\r\n" + second + "\r\n--b--\r\n", ""},
		{"multipart cut off", form, "/r", "multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"owner_cnic\"\r\n\r\n" + first, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			method := http.MethodGet
			if c.body != "" {
				method = http.MethodPost
			}
			r := httptest.NewRequest(method, c.target, strings.NewReader(c.body))
			r.Header["Content-Type"] = []string{c.media}
			got, err := citizenOf(c.route, r, 1<<20)
			if got != c.want || (err == nil) != (c.want != "") {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
			if err == nil && c.body != "" {
				whole := new(strings.Builder)
				if _, err := copyBody(whole, r); err != nil || whole.String() != c.body {
					t.Errorf("the body is not whole again: %q, %v", whole, err)
				}
			}
		})
	}
}

func TestCitizensIn(t *testing.T) {
	for name, c := range map[string]struct {
		header http.Header
		body   string
		want   []pasban.CNIC
	}{
		"none":         {nil, "<p>12345 and 0300-1234567</p>", nil},
		"two":          {nil, "<td>" + first + "</td><td>" + second + "</td>" + first, []pasban.CNIC{first, second}},
		"entities":     {nil, "35202&#45;1234567&#x2d;1", []pasban.CNIC{first}},
		"JSON escapes": {nil, `{"cnic":"\u0033\u0035202-1234567-1"}`, []pasban.CNIC{first}},
		"Urdu digits":  {nil, "۳۵۲۰۲-۱۲۳۴۵۶۷-۱", []pasban.CNIC{first}},
		"hyphens":      {nil, "35202\u20111234567\u20131", []pasban.CNIC{first}},
		"marks":        {nil, "\u206835202-\u200b1234567-1\u2069", []pasban.CNIC{first}},
		"location":     {http.Header{"Location": {"/records/" + first}}, "", []pasban.CNIC{first}},
		"cookie":       {http.Header{"Set-Cookie": {"last=" + url.QueryEscape("id "+first)}}, "", []pasban.CNIC{first}},
	} {
		if got, more := citizensIn(c.header, []byte(c.body), 10); !slices.Equal(got, c.want) || more {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	if got, more := citizensIn(nil, []byte(first+" "+second), 1); len(got) != 1 || !more {
		t.Errorf("more than wanted: %v, %v", got, more)
	}
}

func TestReadable(t *testing.T) {
	for _, c := range []struct {
		media, encoding string
		want            bool
	}{
		{"text/html; charset=utf-8", "", true}, {"application/json", "", true}, {"application/problem+json", "identity", true},
		{"image/svg+xml", "", true}, {"text/csv; charset=windows-1256", "", true},
		{"text/html; charset=utf-16", "", false}, {"text/html; charset=utf-7", "", false}, {"application/pdf", "", false},
		{"text/html", "gzip", false}, {"", "", false}, {"text/html; charset", "", false},
	} {
		if got := readable(c.media, c.encoding); got != c.want {
			t.Errorf("readable(%q, %q) = %v", c.media, c.encoding, got)
		}
	}
}

// FuzzQuerySubject checks that whoever reads the query, the last value winning
// or the first, names of parameters folded or not, finds the same citizen.
func FuzzQuerySubject(f *testing.F) {
	for _, q := range []string{"cnic=" + first, "cnic=" + first + "&CNIC=" + second, "cnic[]=" + second + "&cnic=" + first, "%63nic=" + first,
		"cnic=" + first + ";cnic=" + second, "cnic=+" + first, "cnic=" + first + "&cnic%00=" + second, "a=1&&cnic=" + first} {
		f.Add(q)
	}
	rt := config.Route{Match: "GET /r", Subject: "query.cnic"}
	f.Fuzz(func(t *testing.T, raw string) {
		r := &http.Request{Method: "GET", URL: &url.URL{Path: "/r", RawQuery: raw}, Header: http.Header{}}
		got, err := citizenOf(rt, r, 1<<20)
		if err != nil {
			return
		}
		for part := range strings.FieldsFuncSeq(raw, func(c rune) bool { return c == '&' || c == ';' }) {
			key, value, _ := strings.Cut(part, "=")
			k, _ := url.QueryUnescape(key)
			v, _ := url.QueryUnescape(value)
			if !strings.EqualFold(k, "cnic") && !strings.EqualFold(strings.TrimSpace(k), "cnic") {
				continue
			}
			if c, err := pasban.ParseCNIC(v); err != nil || c != got {
				t.Errorf("%q: we read %s, others may read %q", raw, got, v)
			}
		}
	})
}

// FuzzCitizensIn checks that normalising an answer never hides a number that
// stands there plainly.
func FuzzCitizensIn(f *testing.F) {
	f.Add([]byte("<b>" + first + "</b> &amp; \\u0031 ۳۵۲۰۲-۱۲۳۴۵۶۷-۱"))
	f.Add([]byte("\xff" + second + "&#"))
	f.Fuzz(func(t *testing.T, body []byte) {
		plain, _ := pasban.FindCNICs(body, 100)
		all, more := citizensIn(nil, body, 1000)
		for _, c := range plain {
			if !more && !slices.Contains(all, c) {
				t.Errorf("%s is not found", c)
			}
		}
	})
}
