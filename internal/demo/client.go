package demo

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"pasban"
	"pasban/internal/gateway"
)

// visitor is somebody's browser: cookies, connections and, where the machine
// has them, a loopback address of its own. It may be used by one goroutine at
// a time.
type visitor struct {
	base string // https://localhost:8443
	http *http.Client
	// who is told to the audience, such as "officer SYN-003".
	who string
	// person is the id of who is signed in, "" for a stranger.
	person string
	from   atomic.Pointer[string] // the address that the node sees; nil before the first request
}

// answer is what came back.
type answer struct {
	Status int
	Header http.Header
	Body   string
	URL    *url.URL // after redirects
}

// ok says whether the visitor got what they came for.
func (a answer) ok() bool { return a.Status >= 200 && a.Status < 300 }

// incident returns the id that a refusal names, "" if there is none.
func (a answer) incident() string { return a.Header.Get(gateway.IncidentHeader) }

// network is what visitors need to reach the node.
type network struct {
	base  string // https://localhost:PORT
	dial  string // 127.0.0.1:PORT
	roots *x509.CertPool
}

// newNetwork trusts the certificate authority in the PEM file and nobody else.
func newNetwork(base, dial, rootFile string) (*network, error) {
	pem, err := os.ReadFile(rootFile)
	if err != nil {
		return nil, fmt.Errorf("read the node's certificate authority: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", rootFile)
	}
	return &network{base: base, dial: dial, roots: roots}, nil
}

// visitor returns a new one, who comes from the given loopback address. On a
// machine that has only 127.0.0.1 all come from there.
func (n *network) visitor(who string, from netip.Addr) *visitor {
	jar, err := cookiejar.New(nil)
	if err != nil {
		panic(err) // never with nil options
	}
	v := &visitor{base: n.base, who: who}
	tr := &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig:   &tls.Config{RootCAs: n.roots, MinVersion: tls.VersionTLS13},
		DialContext: func(ctx context.Context, proto, _ string) (net.Conn, error) {
			d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
			conn, err := d.DialContext(ctx, proto, n.dial)
			if err != nil && ctx.Err() == nil {
				d.LocalAddr = nil
				conn, err = d.DialContext(ctx, proto, n.dial)
			}
			if err != nil {
				return nil, err
			}
			if at, ok := conn.LocalAddr().(*net.TCPAddr); ok {
				ip := at.IP.String()
				v.from.Store(&ip)
			}
			return conn, nil
		},
	}
	v.http = &http.Client{Jar: jar, Transport: tr, Timeout: 20 * time.Second}
	return v
}

// address is where the visitor came from, as the node sees it.
func (v *visitor) address() string {
	if ip := v.from.Load(); ip != nil {
		return *ip
	}
	return ""
}

// close ends the visitor's connections.
func (v *visitor) close() { v.http.CloseIdleConnections() }

// Pages and forms that a browser shows.
const (
	wantPage = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
	wantJSON = "application/json"
)

// get opens a page and follows redirects.
func (v *visitor) get(ctx context.Context, path, accept string) (answer, error) {
	return v.do(ctx, http.MethodGet, path, accept, "", nil)
}

// post sends a form and follows redirects.
func (v *visitor) post(ctx context.Context, path, accept string, form url.Values) (answer, error) {
	return v.do(ctx, http.MethodPost, path, accept, "application/x-www-form-urlencoded", []byte(form.Encode()))
}

// postJSON sends a JSON body.
func (v *visitor) postJSON(ctx context.Context, path string, body any) (answer, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return answer{}, err
	}
	return v.do(ctx, http.MethodPost, path, wantJSON, "application/json", data)
}

// maxAnswer is more than any page of the demo has.
const maxAnswer = 4 << 20

func (v *visitor) do(ctx context.Context, method, path, accept, contentType string, body []byte) (answer, error) {
	address := path
	if strings.HasPrefix(path, "/") {
		address = v.base + path
	}
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if body == nil {
		req.Body, req.ContentLength = http.NoBody, 0
	}
	req.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36")
	req.Header.Set("Accept", accept)
	req.Header.Set("Accept-Language", "en-US,en;q=0.5")
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
		req.Header.Set("Origin", v.base)
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	resp, err := v.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return answer{}, err
	}
	return answer{Status: resp.StatusCode, Header: resp.Header, Body: string(data), URL: resp.Request.URL}, nil
}

// promises reads the promises that came with an answer.
func (a answer) promises(origin string) ([]pasban.Promise, error) {
	var list []pasban.Promise
	for _, h := range a.Header.Values(pasban.PromiseHeader) {
		p, err := pasban.ParsePromise(origin, h)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}
