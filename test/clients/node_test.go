package clients_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
)

// setting is a node that guards nothing yet.
const setting = `agency: {id: land-records, name: {en: Board of Revenue (test), ur: بورڈ آف ریونیو (آزمائش)}}
data: ./data
listen: LISTEN
admin: ADMIN
tls: {mode: off}
identity: {rp: localhost, origins: ["https://localhost"]}
ledger: {origin: test.land.example/ledger, witnesses: WITNESSES}
`

// free is a loopback address at which nobody listens.
func free() string {
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	return l.Addr().String()
}

// until asks again and again until there is no error, or patience is over.
func until(t *testing.T, ask func() error) {
	t.Helper()
	for end := time.Now().Add(patience); ; <-time.After(20 * time.Millisecond) {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// serve runs the node of dir until stop, or the test's end, and waits until it
// is ready.
func serve(t *testing.T, dir, admin string) (stop func()) {
	t.Helper()
	ctx, kill := context.WithCancel(context.Background())
	cmd := command(t, ctx, "pasban", "serve", "-c", filepath.Join(dir, "pasban.yaml"))
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		kill()
		<-ended
		if t.Failed() {
			t.Logf("the node said:\n%s", said.Bytes())
		}
	})
	until(t, func() error {
		select {
		case err := <-ended:
			ended <- err
			t.Fatal("the node ended: ", err)
		default:
		}
		res, err := http.Get("http://" + admin + "/readyz")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("not ready: %s", res.Status)
		}
		return nil
	})
	return func() {
		t.Helper()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		err := <-ended
		ended <- err
		if err != nil {
			t.Fatal("the node ended with ", err)
		}
	}
}

// TestNodeAsksTheirWitness: a node whose only witness is transparency-dev's
// publishes what that has cosigned, also after a restart, when it signs nothing
// until the witness has said what it saw last.
func TestNodeAsksTheirWitness(t *testing.T) {
	a := &agency{dir: t.TempDir(), client: http.DefaultClient}
	if err := os.Chmod(a.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	listen, admin := free(), free()
	a.ledger = must(url.Parse("http://" + listen + "/ledger/"))
	configure := func(witnesses string) {
		text := strings.NewReplacer("LISTEN", listen, "ADMIN", admin, "WITNESSES", witnesses).Replace(setting)
		if err := os.WriteFile(filepath.Join(a.dir, "pasban.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	configure("{}")
	serve(t, a.dir, admin)()
	a.vkey = strings.TrimSpace(string(a.read(t, "data/ledger/vkey")))
	a.verifier = must(note.NewVerifier(a.vkey))

	at, witness := startTheirs(t, a.vkey)
	configure(fmt.Sprintf("{need: 1, of: [{key: %s, url: %q}]}", witness, at))
	policy := a.policy(t, "witness w "+witness, "quorum w")
	var size int64
	for range 2 {
		stop := serve(t, a.dir, admin)
		a.addClerk(t)
		until(t, func() error {
			res, err := a.client.Get(a.ledger.JoinPath("checkpoint").String())
			if err != nil {
				return err
			}
			defer res.Body.Close()
			var signed bytes.Buffer
			signed.ReadFrom(res.Body)
			cp, _, err := torchwood.VerifyCheckpoint(signed.Bytes(), policy)
			if final := res.Header.Get("Pasban-Final"); err == nil && (final != "yes" || cp.N <= size) {
				err = fmt.Errorf("%d leaves after %d, final: %q", cp.N, size, final)
			}
			if err == nil {
				size = cp.N
			}
			return err
		})
		stop()
	}
}
