package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"pasban/internal/config"
)

// The parts of the gateway were made one by one. The tests of this file send
// what one part alone would get right through all of them.

// mark is in every attack of these tests; a service must never see it.
const mark = "owners--"

// framed is a request with a body, in one piece or in chunks.
func framed(method, media, body string, chunked bool) string {
	head := method + " /open HTTP/1.1\r\nHost: a.example\r\nUser-Agent: synthetic\r\nAccept: */*\r\nContent-Type: " + media + "\r\n"
	if !chunked {
		return fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
	}
	var b strings.Builder
	b.WriteString(head + "Transfer-Encoding: chunked\r\n\r\n")
	for len(body) > 0 {
		n := min(len(body), 7000)
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	return b.String() + "0\r\n\r\n"
}

// ask sends raw bytes from the loopback address of that number and returns the
// answer, with its body, nil if there is none.
func ask(t testing.TB, addr string, client int, raw string) (*http.Response, string) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 2, byte(client>>8), byte(client))}}
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	go io.WriteString(conn, raw)
	method, _, _ := strings.Cut(raw, " ")
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return nil, ""
	}
	body, _ := io.ReadAll(res.Body)
	return res, string(body)
}

// padded are bodies and queries with n harmless values and an attack after them.
func padded(n int) map[string]struct{ target, media, body string } {
	const attack = "1' OR '1'='1' UNION SELECT cnic FROM " + mark
	const escaped = "1%27%20OR%20%271%27=%271%27%20UNION%20SELECT%20cnic%20FROM%20" + mark
	type request = struct{ target, media, body string }
	all := map[string]request{
		"query":          {"/open?" + strings.Repeat("a=1&", n) + "a=" + escaped, "text/plain", "x"},
		"form":           {"/open", "application/x-www-form-urlencoded", strings.Repeat("a=1&", n) + "a=" + escaped},
		"form, odd type": {"/open", "application/x-www-form-urlencoded; a=1; a=2", strings.Repeat("a=1&", n) + "a=" + escaped},
		"form, no type":  {"/open", "application/x-www-form-urlencoded-", strings.Repeat("a=1&", n) + "a=" + escaped},
		"JSON":           {"/open", "application/json", "{" + strings.Repeat(`"a":"1",`, n) + `"a":"` + attack + `"}`},
		"JSON array":     {"/open", "application/json", "[" + strings.Repeat(`1,`, n) + `"` + attack + `"]`},
		"JSON, deep":     {"/open", "application/vnd.x+json", "[" + strings.Repeat(`{"a":[1]},`, n) + `{"a":["` + attack + `"]}]`},
		"multipart": {"/open", "multipart/form-data; boundary=b",
			strings.Repeat("--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n", n) +
				"--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n" + attack + "\r\n--b--\r\n"},
		"XML": {"/open", "text/xml", "<r>" + strings.Repeat("<a>1</a>", n) + "<a>" + attack + "</a></r>"},
	}
	return all
}

// TestBehindManyArguments hides an attack behind more values than Coraza
// keeps, and behind more bytes than it takes: it never reaches the service
// without having been judged, whether the firewall blocks or only watches.
func TestBehindManyArguments(t *testing.T) {
	for _, mode := range []string{"block", "detect"} {
		service := newListener(t)
		site := siteOf("http://"+service.Addr().String(), config.Route{Match: "/", SignIn: "none"})
		site.WAF.Mode = mode
		g, p := newGateway(t, func(c *config.Config) { c.Limits.Header, c.Limits.Body = 64<<10, 256<<10 }, site)
		addr := serve(t, g)
		client := 1
		for _, n := range []int{5, 998, 999, 1000, 1001, 5000} {
			for name, c := range padded(n) {
				for _, chunked := range []bool{false, true} {
					client++
					p.take()
					service.take()
					raw := strings.Replace(framed("POST", c.media, c.body, chunked), "/open", c.target, 1)
					res, _ := ask(t, addr, client, raw)
					if res == nil {
						t.Errorf("%s, %s, %d, chunked %t: no answer", mode, name, n, chunked)
						continue
					}
					_, whole, err := service.take()
					id := res.Header.Get(IncidentHeader)
					judged := ""
					for _, f := range p.take() {
						if f.Body.ID == id || id == "" {
							judged += f.Body.Action + " "
						}
					}
					switch {
					case err != nil:
						t.Error(err)
					case whole == 0 && res.StatusCode >= 400 && res.StatusCode < 500 && judged != "": // refused, and told of
					case whole == 1 && mode == "detect" && judged == "waf ": // let through, and told of
					default:
						t.Errorf("%s, %s, %d, chunked %t: answered %d, the service got %d, facts %q", mode, name, n, chunked, res.StatusCode, whole, judged)
					}
				}
			}
		}
		for _, chunked := range []bool{false, true} { // and behind the largest body
			client++
			form := strings.Repeat("a", 256<<10) + "=1&" + padded(0)["form"].body
			res, _ := ask(t, addr, client, framed("POST", "application/x-www-form-urlencoded", form, chunked))
			if _, whole, _ := service.take(); res == nil || res.StatusCode != http.StatusRequestEntityTooLarge || whole != 0 {
				t.Errorf("%s, large body, chunked %t: %+v, the service got %d", mode, chunked, res, whole)
			}
		}
	}
}
