package main

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
	"pasban/internal/ledger/tiles"
)

// timeout bounds one request to a ledger.
const timeout = 30 * time.Second

// open opens LEDGER, a directory or an address. The function that it returns
// gives it up again.
func (c *command) open(ledger string) (tiles.Source, func(), error) {
	if strings.HasPrefix(ledger, "https://") || strings.HasPrefix(ledger, "http://") {
		site, err := c.site(ledger)
		return site, func() {}, err
	}
	root, err := os.OpenRoot(ledger)
	if err != nil {
		return nil, nil, &pasban.Error{Kind: pasban.Invalid, Msg: "the ledger's directory cannot be opened", Where: ledger, Err: err}
	}
	return tiles.Dir{Root: root}, func() { root.Close() }, nil
}

// site is a ledger at an address.
type site struct {
	base   *url.URL
	client *http.Client
}

func (c *command) site(address string) (*site, error) {
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
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: timeout, ForceAttemptHTTP2: true}
	if c.ca != "" {
		pem, err := readFile(c.ca, small)
		if err != nil {
			return nil, bad("the authorities' file cannot be read", "--ca names a PEM file", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, bad("no certificate in the authorities' file", "--ca names a PEM file", nil)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &site{base, &http.Client{
		Transport: transport, Timeout: timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// ReadFile implements tiles.Source.
func (s *site) ReadFile(ctx context.Context, name string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base.JoinPath(name).String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "pasban-verify")
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
	data, err := io.ReadAll(io.LimitReader(res.Body, tiles.MaxFile+1))
	if err == nil && len(data) > tiles.MaxFile {
		err = fmt.Errorf("%s is larger than any file of a ledger", req.URL)
	}
	return data, err
}

// The most bytes of what is read as a whole.
const (
	small = 1 << 20  // receipts, checkpoints and keys
	large = 64 << 20 // statements, of up to 50,000 entries, and proofs of tables
)

// readFile reads a file of at most so many bytes that the command line names.
func readFile(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, most)
}

func readAll(r io.Reader, most int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("larger than %d bytes", most)
	}
	return data, err
}
