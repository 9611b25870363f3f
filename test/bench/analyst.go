package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"pasban/internal/identity/identitytest"
)

// analyst is somebody's browser at a node's console.
type analyst struct {
	base string
	http *http.Client
}

// newAnalyst uses an enrolment link and signs in. root is the file of the node's
// authority.
func newAnalyst(ctx context.Context, base, root, link string) (*analyst, error) {
	pem, err := os.ReadFile(root)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	a := &analyst{base, &http.Client{Jar: jar, Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots}}}}
	p, err := identitytest.New(base)
	if err != nil {
		return nil, err
	}
	for _, step := range []struct {
		path   string
		answer func(options []byte) ([]byte, error)
	}{{link, p.Create}, {"/pasban/signin", p.Get}} {
		options, err := a.post(ctx, step.path+"/begin", nil)
		if err != nil {
			return nil, err
		}
		body, err := step.answer(options)
		if err != nil {
			return nil, err
		}
		if _, err := a.post(ctx, step.path+"/finish", body); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func (a *analyst) ask(ctx context.Context, method, path string, body []byte, header ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "Mozilla/5.0 (synthetic)")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := a.http.Do(req)
	if err == nil && resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 500))
		resp.Body.Close()
		return nil, fmt.Errorf("%s is answered %d: %s", path, resp.StatusCode, text)
	}
	return resp, err
}

func (a *analyst) post(ctx context.Context, path string, body []byte) ([]byte, error) {
	resp, err := a.ask(ctx, http.MethodPost, path, body, "Content-Type", "application/json", "Accept", "application/json", "Origin", a.base, "Sec-Fetch-Site", "same-origin")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

// sightings are when marks were first seen.
type sightings struct {
	mu   sync.Mutex
	seen map[string]time.Time
}

var markForm = regexp.MustCompile(marked + `-[0-9]{6}`)

func (s *sightings) look(text []byte) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range markForm.FindAll(text, -1) {
		if _, old := s.seen[string(m)]; !old {
			s.seen[string(m)] = now
		}
	}
}

func (s *sightings) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seen)
}

// huntPause is how long after an answer the hunting page is asked for again.
const huntPause = 200 * time.Millisecond

// hunt asks for the hunting page with the marked events of the last quarter of an
// hour again and again, until ctx is done; pages is how long each took.
func (a *analyst) hunt(ctx context.Context, s *sightings) (pages []time.Duration, err error) {
	path := "/soc/hunt?" + url.Values{"q": {"Computer:" + marked}, "span": {"15m"}, "col": {"Computer"}}.Encode()
	for {
		began := time.Now()
		resp, err := a.ask(ctx, http.MethodGet, path, nil)
		if err == nil {
			var text []byte
			text, err = io.ReadAll(resp.Body)
			resp.Body.Close()
			s.look(text)
			pages = append(pages, time.Since(began))
		}
		if ctx.Err() != nil {
			return pages, nil
		}
		if err != nil {
			return pages, err
		}
		select {
		case <-ctx.Done():
			return pages, nil
		case <-time.After(huntPause):
		}
	}
}

// livePause is after how long the console's page asks again when its stream ends.
const livePause = 500 * time.Millisecond

// live follows the overview's live table until ctx is done; cuts is how often the
// stream ended before.
func (a *analyst) live(ctx context.Context, s *sightings) (cuts int, err error) {
	last := ""
	for ; ; cuts++ {
		header := []string{"Accept", "text/event-stream"}
		if last != "" {
			header = append(header, "Last-Event-ID", last)
		}
		resp, err := a.ask(ctx, http.MethodGet, "/soc/live", nil, header...)
		if ctx.Err() != nil {
			return cuts, nil
		}
		if err != nil {
			return cuts, err
		}
		lines := bufio.NewReader(resp.Body)
		for err == nil {
			var text []byte
			text, err = lines.ReadBytes('\n')
			if id, ok := strings.CutPrefix(string(text), "id: "); ok {
				last = strings.TrimSpace(id)
			}
			s.look(text)
		}
		resp.Body.Close()
		select {
		case <-ctx.Done():
			return cuts, nil
		case <-time.After(livePause):
		}
	}
}
