// Package storage tries the ledger's storages that need a server which is not
// Debian's: an object store.
package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"pasban/internal/ledger"
	"pasban/internal/ledger/storage/s3"
	"pasban/internal/ledger/storage/storagetest"
)

var _ ledger.Storage = (*s3.Log)(nil)

const key, secret = "pasban", "a-secret-of-the-tests"

// gateway runs versitygw over a directory for as long as its standard input is
// open, which the test binary holds.
const gateway = `
"$1" --access "$2" --secret "$3" --port "$4" --quiet posix --nometa "$5" >"$5.log" 2>&1 &
pid=$!
cat >/dev/null
kill -9 $pid
`

// server is built and started once per test binary.
var server = sync.OnceValues(start)

type running struct {
	address, dir string
	life         io.WriteCloser

	mu sync.Mutex // covers n
	n  int
}

func start() (*running, error) {
	out, err := exec.Command("go", "tool", "-n", "versitygw").Output() // builds it
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "pasban-s3-")
	if err != nil {
		return nil, err
	}
	s := &running{dir: filepath.Join(dir, "buckets")}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free a moment later
	if err != nil {
		return nil, err
	}
	s.address = l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, err
	}
	cmd := exec.Command("/bin/sh", "-c", gateway, "sh", string(bytes.TrimSpace(out)), key, secret, s.address, s.dir)
	if s.life, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	for range 600 {
		res, err := http.Get("http://" + s.address + "/")
		if err == nil {
			return s, res.Body.Close()
		}
		time.Sleep(50 * time.Millisecond)
	}
	log, err := os.ReadFile(s.dir + ".log")
	return nil, errors.Join(fmt.Errorf("versitygw does not answer: %s", log), err)
}

func TestMain(m *testing.M) {
	code := m.Run()
	if s, err := server(); err == nil {
		s.life.Close()
		os.RemoveAll(filepath.Dir(s.dir))
	}
	os.Exit(code)
}

// TestS3 runs the suite on a bucket of a real S3 server. What is slow or cut is
// the store; the database's gate is open.
func TestS3(t *testing.T) {
	s, err := server()
	if err != nil {
		t.Fatal(err)
	}
	storagetest.RunTests(t, func(t *testing.T) storagetest.Engine {
		s.mu.Lock()
		s.n++
		bucket := fmt.Sprintf("ledger-%d", s.n)
		s.mu.Unlock()
		if err := os.Mkdir(filepath.Join(s.dir, bucket), 0o700); err != nil {
			t.Fatal(err)
		}
		database, _ := storagetest.MySQL(t)
		gate := storagetest.NewGate(t, "tcp", s.address)
		return storagetest.Engine{Gate: gate, Open: func(t testing.TB) ledger.Storage {
			l, err := s3.New(s3.Bucket{Bucket: bucket, Prefix: "land/ledger", Endpoint: "http://" + gate.Address(), Key: key, Secret: secret}, database)
			if err != nil {
				t.Fatal(err)
			}
			return l
		}}
	})
}
