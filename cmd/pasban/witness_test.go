package main

import (
	"bufio"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// hashes are a ledger's stored hashes in memory.
type hashes []tlog.Hash

func (h hashes) ReadHashes(at []int64) ([]tlog.Hash, error) {
	var out []tlog.Hash
	for _, i := range at {
		out = append(out, h[i])
	}
	return out, nil
}

// witnessRequest asks to cosign a ledger of n leaves named after past.
func witnessRequest(t *testing.T, s note.Signer, past string, old, n int64) string {
	t.Helper()
	var tree hashes
	for i := range n {
		h, err := tlog.StoredHashes(i, fmt.Append(nil, past, i), tree)
		if err != nil {
			t.Fatal(err)
		}
		tree = append(tree, h...)
	}
	root, err := tlog.TreeHash(n, tree)
	if err != nil {
		t.Fatal(err)
	}
	var req strings.Builder
	fmt.Fprintf(&req, "old %d\n", old)
	if old > 0 && old < n {
		proof, err := tlog.ProveTree(n, old, tree)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range proof {
			fmt.Fprintln(&req, h)
		}
	}
	signed, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", s.Name(), n, root)}, s)
	if err != nil {
		t.Fatal(err)
	}
	return req.String() + "\n" + string(signed)
}

// startWitness runs `pasban witness` until it is killed or the test ends.
func startWitness(t *testing.T, dir, vkey string) (url string, kill func()) {
	t.Helper()
	cmd := exec.Command("pasban", "witness", "--json", "--dir", dir, "--plain", "--listen", "127.0.0.1:0", "--log", vkey)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() { cmd.Process.Kill(); cmd.Wait() }
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatal("the witness did not start: ", err)
	}
	var doc witnessDoc
	if err := json.Unmarshal(line, &doc); err != nil || doc.Schema != "pasban.witness-ready.v1" {
		t.Fatalf("%s: %v", line, err)
	}
	return "http://" + doc.Listen, kill
}

func askWitness(url, body string) (int, string, error) {
	res, err := http.Post(url+"/add-checkpoint", "text/plain", strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	return res.StatusCode, string(answer), err
}

// TestWitnessKilled kills a witness at its work, again and again: what it has
// answered for it remembers, and another past is never cosigned.
func TestWitnessKilled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "w")
	if out, err := exec.Command("pasban", "witness", "--init", "--name", "witness.example/w1", "--dir", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	skey, vkey, err := note.GenerateKey(rand.Reader, "land.example/ledger")
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	var size int64
	for round := range 6 {
		url, kill := startWitness(t, dir, vkey)
		// Where the witness stands: at what it answered for, or one further, of
		// which it could not tell.
		status, answer, err := askWitness(url, witnessRequest(t, s, "land", 0, size+2))
		if size > 0 {
			var knows int64
			if _, scanErr := fmt.Sscan(answer, &knows); err != nil || status != http.StatusConflict || scanErr != nil || knows < size || knows > size+1 {
				t.Fatalf("round %d, cosigned %d: %d %q %v", round, size, status, answer, err)
			}
			size = knows
			if status, answer, err := askWitness(url, witnessRequest(t, s, "other", size, size+1)); err != nil || status != http.StatusUnprocessableEntity {
				t.Fatalf("another past: %d %q %v", status, answer, err)
			}
			if status, answer, err := askWitness(url, witnessRequest(t, s, "other", size, size)); err != nil || status != http.StatusConflict {
				t.Fatalf("another root: %d %q %v", status, answer, err)
			}
		} else if err != nil || status != http.StatusOK {
			t.Fatalf("%d %q %v", status, answer, err)
		} else {
			size = 2
			kill()
			continue
		}
		dead, now := make(chan struct{}), make(chan struct{})
		go func() { // dies during a request, each round at another
			<-now
			kill()
			close(dead)
		}()
		for asked := 0; ; asked++ {
			if asked == 3+round {
				close(now)
			}
			status, answer, err := askWitness(url, witnessRequest(t, s, "land", size, size+1))
			if err != nil {
				break
			}
			if status != http.StatusOK {
				t.Fatalf("%d: %d %q", size+1, status, answer)
			}
			size++
		}
		<-dead
	}
}

// TestWitnessTLS has a witness speak TLS by itself, and end when told to.
func TestWitnessTLS(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "w")
	if out, err := exec.Command("pasban", "witness", "--init", "--name", "witness.example/w1", "--dir", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_, vkey, err := note.GenerateKey(rand.Reader, "land.example/ledger")
	if err != nil {
		t.Fatal(err)
	}
	authority := httptest.NewTLSServer(nil) // for its certificate
	defer authority.Close()
	pair := authority.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for kind, der := range map[string][]byte{"CERTIFICATE": pair.Certificate[0], "PRIVATE KEY": key} {
		name := filepath.Join(t.TempDir(), "pem")
		if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, map[string]string{"CERTIFICATE": "--cert", "PRIVATE KEY": "--key"}[kind], name)
	}
	cmd := exec.Command("pasban", append([]string{"witness", "--json", "--dir", dir, "--listen", "127.0.0.1:0", "--log", vkey}, files...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	var doc witnessDoc
	if err := json.NewDecoder(out).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	res, err := authority.Client().Get("https://" + doc.Listen + "/")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	if want := `{"schema":"pasban.witness.v1","witness":"witness.example/w1","logs":[{"origin":"land.example/ledger","size":0,"forked":false}]}`; err != nil || strings.TrimSpace(string(body)) != want {
		t.Errorf("%s, %v", body, err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("told to end: %v", err)
	}
}
