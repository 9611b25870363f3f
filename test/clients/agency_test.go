// Package clients_test lets other projects' clients read, and another
// project's witness cosign, the ledger of a running node, as strangers do: over
// HTTPS, with nothing of Pasban's but the ledger's key and the authority's
// certificate. What they are is not changed for it, and nothing is for them.
package clients_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// patience is how long anything may take. Nothing waits for it to pass.
const patience = 3 * time.Minute

// must returns what cannot fail if the rest is right, and ends the test if it
// does.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// command is one of Pasban's, from PASBAN_BIN's directory or bin/; it is told to
// end when ctx is done.
func command(t *testing.T, ctx context.Context, name string, args ...string) *exec.Cmd {
	t.Helper()
	dir := "../../bin"
	if at := os.Getenv("PASBAN_BIN"); at != "" {
		dir = filepath.Dir(at)
	}
	path, err := filepath.Abs(filepath.Join(dir, name))
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("%v: `make build` makes it", err)
	}
	cmd := exec.CommandContext(ctx, path, args...)
	// Ended in order, its processes are gone too and write nothing more.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience
	return cmd
}

// start runs a command until the test ends and returns the first line that it
// prints.
func start(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := command(t, ctx, name, args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out := must(cmd.StdoutPipe())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, said.Bytes())
		}
	})
	late := time.AfterFunc(patience, cancel)
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if !late.Stop() || err != nil {
		t.Fatalf("%s does not get ready: %v", name, err)
	}
	return line
}

// agency is a node after the demo's story, which goes on running.
type agency struct {
	dir      string
	ledger   *url.URL // …/ledger/
	client   *http.Client
	vkey     string
	verifier note.Verifier
	staff    int // people added by addClerk
}

func newAgency(t *testing.T) *agency {
	t.Helper()
	a := &agency{dir: t.TempDir()}
	if err := os.Chmod(a.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var story struct{ Passed bool }
	if line := start(t, "pasban", "demo", "--json", "--dir", a.dir); json.Unmarshal(line, &story) != nil || !story.Passed {
		t.Fatalf("the story did not pass: %s", line)
	}
	var doc struct{ Base string }
	if err := json.Unmarshal(a.read(t, "demo.json"), &doc); err != nil {
		t.Fatal(err)
	}
	a.ledger = must(url.Parse(doc.Base + "/ledger/"))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.read(t, "data/ca/root.pem"))
	a.client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, MaxIdleConnsPerHost: 50}}
	a.vkey = strings.TrimSpace(string(a.read(t, "data/ledger/vkey")))
	a.verifier = must(note.NewVerifier(a.vkey))
	return a
}

func (a *agency) read(t *testing.T, name string) []byte {
	t.Helper()
	return must(os.ReadFile(filepath.Join(a.dir, name)))
}

// get fetches a public file of the ledger.
func (a *agency) get(path string) ([]byte, error) {
	res, err := a.client.Get(a.ledger.JoinPath(path).String())
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", path, res.Status)
	}
	return io.ReadAll(res.Body)
}

// grow has something happen in the agency and returns the first checkpoint
// after it that is not like before.
func (a *agency) grow(t *testing.T, before []byte) []byte {
	t.Helper()
	a.addClerk(t)
	for end := time.Now().Add(patience); time.Now().Before(end); <-time.After(20 * time.Millisecond) {
		if now := must(a.get("checkpoint")); !bytes.Equal(now, before) {
			return now
		}
	}
	t.Fatal("the ledger does not grow")
	return nil
}

// addClerk has something happen that the agency must account for.
func (a *agency) addClerk(t *testing.T) {
	t.Helper()
	a.staff++
	add := command(t, t.Context(), "pasban", "user", "add", "-c", filepath.Join(a.dir, "pasban.yaml"), "--staff", fmt.Sprintf("NEW-%d", a.staff), "--name", "Synthetic Clerk")
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// through is a server that passes the agency's ledger on, after change had each
// file in hand.
func (a *agency) through(t *testing.T, change func(path string, data []byte) []byte) *httptest.Server {
	t.Helper()
	srv := httptest.NewTLSServer(&httputil.ReverseProxy{
		Transport: a.client.Transport,
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: a.ledger.Scheme, Host: a.ledger.Host}) },
		ModifyResponse: func(res *http.Response) error {
			if res.StatusCode != http.StatusOK {
				return nil
			}
			data, err := io.ReadAll(res.Body)
			data = change(strings.TrimPrefix(res.Request.URL.Path, a.ledger.Path), data)
			res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data))
			res.Header.Set("Content-Length", strconv.Itoa(len(data)))
			return err
		},
	})
	t.Cleanup(srv.Close)
	return srv
}

// liar is where the agency's ledger is to be had with one bit of a file
// changed, and a client that believes the server to be the agency's.
func (a *agency) liar(t *testing.T, file string) (*url.URL, *http.Client) {
	t.Helper()
	srv := a.through(t, func(path string, data []byte) []byte {
		if path == file {
			data[len(data)/2] ^= 4
		}
		return data
	})
	return must(url.Parse(srv.URL + a.ledger.Path)), srv.Client()
}
