package tiles

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"pasban"
)

const (
	siteTimeout = 30 * time.Second // of one request
	maxSmall    = 1 << 20          // bytes of a file of authorities, or of a key
)

// Access says how a ledger at an address is reached.
type Access struct {
	Agent string // the program that asks, for the User-Agent header
	CA    string // a PEM file of authorities to trust, and no others; "": those of the system
}

// Open opens a ledger: a directory, or an https address such as
// https://land.example/ledger (plain http on this machine alone). The function
// that it returns gives it up again.
func Open(ledger string, a Access) (Source, func(), error) {
	if IsAddress(ledger) {
		site, err := NewSite(ledger, a)
		return site, func() {}, err
	}
	root, err := os.OpenRoot(ledger)
	if err != nil {
		return nil, nil, &pasban.Error{Kind: pasban.Invalid, Msg: "the ledger's directory cannot be opened", Where: ledger, Err: err}
	}
	return Dir{Root: root}, func() { root.Close() }, nil
}

// IsAddress tells a ledger's address from a directory.
func IsAddress(ledger string) bool {
	return strings.HasPrefix(ledger, "https://") || strings.HasPrefix(ledger, "http://")
}

// Site is a ledger at an address. It follows no redirects.
type Site struct {
	base   *url.URL
	agent  string
	client *http.Client
}

var _ Source = (*Site)(nil)

// NewSite returns the ledger at an address.
func NewSite(address string, a Access) (*Site, error) {
	bad := func(msg, hint string, err error) error {
		return &pasban.Error{Kind: pasban.Invalid, Msg: msg, Where: address, Hint: hint, Err: err}
	}
	base, err := url.Parse(address)
	if err != nil || base.Host == "" || base.RawQuery != "" || base.Fragment != "" || base.User != nil {
		return nil, bad("not the address of a ledger", "such as https://land.example/ledger", err)
	}
	if ip := net.ParseIP(base.Hostname()); base.Scheme == "http" && base.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, bad("plain http is for this machine alone", "use https", nil)
	}
	if base.Path == "" || base.Path == "/" {
		base.Path = "/ledger"
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: siteTimeout, ForceAttemptHTTP2: true}
	if a.CA != "" {
		pem, err := readFile(a.CA, maxSmall)
		if err != nil {
			return nil, bad("the authorities' file cannot be read", "--ca names a PEM file", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, bad("no certificate in the authorities' file", "--ca names a PEM file", nil)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &Site{base, a.Agent, &http.Client{
		Transport: transport, Timeout: siteTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// ReadFile implements Source.
func (s *Site) ReadFile(ctx context.Context, name string) ([]byte, error) {
	return s.Get(ctx, name, nil)
}

// Get reads what stands below the ledger's address, at most MaxFile bytes. Its
// errors are those of a Source.
func (s *Site) Get(ctx context.Context, name string, query url.Values) ([]byte, error) {
	at := s.base.JoinPath(name)
	at.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", s.agent)
	req.Header.Set("Accept", "application/json, */*;q=0.5")
	res, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusGone:
		return nil, fmt.Errorf("%s: %w", req.URL, fs.ErrNotExist)
	default:
		return nil, fmt.Errorf("%s: the server answers %s", req.URL, res.Status)
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, MaxFile+1))
	if err == nil && len(data) > MaxFile {
		err = fmt.Errorf("%s is larger than any file of a ledger", req.URL)
	}
	return data, err
}

// KeyText returns the verifier key that a command line gives: the text itself if
// it is one, or else what the file of that name holds. Its error is that of the
// file; whether that holds a key is for the caller to see.
func KeyText(text string, isKey func(string) error) (string, error) {
	if isKey(text) == nil {
		return text, nil
	}
	data, err := readFile(text, maxSmall)
	return strings.TrimSpace(string(data)), err
}

func readFile(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("larger than %d bytes", most)
	}
	return data, err
}
