package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
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

	"github.com/go-webauthn/webauthn/protocol/webauthncbor"
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
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	p := passkey{key: key, id: []byte(rand.Text()), origin: base}
	for _, step := range []struct {
		path   string
		answer func(challenge) ([]byte, error)
	}{{link, p.create}, {"/pasban/signin", p.get}} {
		options, err := a.post(ctx, step.path+"/begin", nil)
		if err != nil {
			return nil, err
		}
		var c challenge
		if err := json.Unmarshal(options, &c); err != nil {
			return nil, err
		}
		body, err := step.answer(c)
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

// passkey is a software authenticator with one ES256 credential and no
// attestation (WebAuthn Level 3).
type passkey struct {
	origin string
	key    *ecdsa.PrivateKey
	id     []byte
	user   []byte
	uses   uint32
}

// challenge is what an authenticator reads of the options of both ceremonies.
type challenge struct {
	PublicKey struct {
		Challenge string
		RPID      string `json:"rpId"`
		RP        struct{ ID string }
		User      struct{ ID string }
	}
}

// data is the authenticator's data: user present and verified.
func (p *passkey) data(rp string, flags byte) []byte {
	p.uses++
	hash := sha256.Sum256([]byte(rp))
	return binary.BigEndian.AppendUint32(append(hash[:], flags|0x05), p.uses)
}

func (p *passkey) client(kind, challenge string) ([]byte, error) {
	return json.Marshal(map[string]any{"type": kind, "challenge": challenge, "origin": p.origin, "crossOrigin": false})
}

// create answers the options for a new passkey.
func (p *passkey) create(c challenge) (_ []byte, err error) {
	if p.user, err = base64.RawURLEncoding.DecodeString(c.PublicKey.User.ID); err != nil {
		return nil, err
	}
	point, err := p.key.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	cose, err := webauthncbor.Marshal(map[int]any{1: 2, 3: -7, -1: 1, -2: point[1:33], -3: point[33:]})
	if err != nil {
		return nil, err
	}
	data := append(p.data(c.PublicKey.RP.ID, 0x40), make([]byte, 16)...) // no AAGUID
	data = binary.BigEndian.AppendUint16(data, uint16(len(p.id)))
	data = append(append(data, p.id...), cose...)
	object, err := webauthncbor.Marshal(map[string]any{"fmt": "none", "attStmt": map[string]any{}, "authData": data})
	if err != nil {
		return nil, err
	}
	client, err := p.client("webauthn.create", c.PublicKey.Challenge)
	if err != nil {
		return nil, err
	}
	return p.answer(map[string]any{"clientDataJSON": unpadded(client), "attestationObject": unpadded(object)})
}

// get answers the options for using the passkey.
func (p *passkey) get(c challenge) ([]byte, error) {
	client, err := p.client("webauthn.get", c.PublicKey.Challenge)
	if err != nil {
		return nil, err
	}
	data, hash := p.data(c.PublicKey.RPID, 0), sha256.Sum256(client)
	digest := sha256.Sum256(append(data[:len(data):len(data)], hash[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, p.key, digest[:])
	if err != nil {
		return nil, err
	}
	return p.answer(map[string]any{"clientDataJSON": unpadded(client), "authenticatorData": unpadded(data), "userHandle": unpadded(p.user), "signature": unpadded(signature)})
}

func (p *passkey) answer(response map[string]any) ([]byte, error) {
	return json.Marshal(map[string]any{"id": unpadded(p.id), "rawId": unpadded(p.id), "type": "public-key", "clientExtensionResults": map[string]any{}, "response": response})
}

func unpadded(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
