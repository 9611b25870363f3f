// Package storetest gives tests real databases: [SQLite] in a temporary
// directory, [Postgres] in a temporary cluster of the real server. [Each] runs
// a test on both; [RunTests] is the suite that every engine of the store
// passes. Nothing here is for production code.
package storetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"pasban/internal/store"
)

// SQLite opens a new SQLite database that is closed and removed with the test.
func SQLite(t testing.TB) *store.Store {
	t.Helper()
	return Open(t, SQLiteDSN(t))
}

// Postgres opens a new PostgreSQL database that is closed with the test. The
// test is skipped if the server's programs are not installed.
func Postgres(t testing.TB) *store.Store {
	t.Helper()
	return Open(t, PostgresDSN(t))
}

// Each runs a test on a new database of each engine.
func Each(t *testing.T, test func(t *testing.T, st *store.Store)) {
	t.Helper()
	t.Run(store.SQLite, func(t *testing.T) { test(t, SQLite(t)) })
	t.Run(store.Postgres, func(t *testing.T) { test(t, Postgres(t)) })
}

// Open opens the database that dsn names and closes it with the test.
func Open(t testing.TB, dsn string) *store.Store {
	t.Helper()
	st, err := store.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

// SQLiteDSN names a SQLite database that does not exist yet.
func SQLiteDSN(t testing.TB) string { return filepath.Join(t.TempDir(), "store.db") }

// PostgresDSN creates an empty database in the test binary's own cluster,
// which is started by the first call and ends with the test binary.
func PostgresDSN(t testing.TB) string {
	t.Helper()
	c, err := cluster()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("PostgreSQL is not installed here: " + err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	name, err := c.create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return dsn(name, c.dir, c.user)
}

// cluster is started once per test binary.
var cluster = sync.OnceValues(start)

type server struct {
	dir  string // data directory and socket
	user string
	bin  string
	life io.WriteCloser // the server lives for as long as this is open: see script

	mu sync.Mutex // covers n
	n  int
}

// script runs the server for as long as its standard input is open, which the
// test binary holds: however that ends, the server stops and leaves nothing.
const script = `
trap '' INT
cd "$2" || exit 1
"$1/initdb" -D "$2/data" -A trust -E UTF8 --no-locale --no-sync >"$2/log" 2>&1 &&
"$1/pg_ctl" -D "$2/data" -l "$2/log" -w -o "-k '$2' -c listen_addresses='' -c max_connections=200 -c shared_buffers=32MB" start >>"$2/log" 2>&1 &&
echo ready || { cat "$2/log"; rm -rf "$2"; exit 1; }
cat >/dev/null
"$1/pg_ctl" -D "$2/data" -m immediate -w stop >/dev/null 2>&1
rm -rf "$2"
`

func start() (*server, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "pasban-pg-")
	if err != nil {
		return nil, err
	}
	s := &server{dir: dir, bin: bin}
	if s.user, err = serverUser(); err != nil {
		return nil, err
	}
	cmd := exec.Command("/bin/sh", "-c", script, "sh", bin, dir)
	if os.Geteuid() == 0 {
		if cmd.SysProcAttr, err = as(s.user, dir); err != nil {
			return nil, err
		}
	}
	if s.life, err = Serve(cmd); err != nil {
		return nil, fmt.Errorf("the temporary PostgreSQL cluster did not start: %w", err)
	}
	return s, nil
}

// Serve starts a server whose command says "ready" on a line of its output, and
// ends the server when its standard input ends: it lives for as long as what is
// returned is open, and not longer than this process. The error tells what the
// command said instead.
func Serve(cmd *exec.Cmd) (life io.WriteCloser, err error) {
	if life, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var said strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() == "ready" {
			return life, nil
		}
		said.WriteString(lines.Text() + "\n")
	}
	return nil, fmt.Errorf("%v: %s", cmd.Wait(), said.String())
}

// serverUser is who a server runs as: it refuses to run as root.
func serverUser() (string, error) {
	if os.Geteuid() == 0 {
		return "postgres", nil
	}
	me, err := user.Current()
	if err != nil {
		return "", err
	}
	return me.Username, nil
}

// dsn names a database of the server whose socket is in dir, for a role.
func dsn(database, dir, role string) string {
	return "postgres:///" + database + "?" + url.Values{"host": {dir}, "user": {role}}.Encode()
}

// as returns the attributes to run a program as the named user, to whom dir is given.
func as(name, dir string) (*syscall.SysProcAttr, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	if err := os.Chown(dir, int(uid), int(gid)); err != nil {
		return nil, err
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

// binaries finds the server's programs, which Debian keeps out of PATH.
func binaries() (string, error) {
	dirs, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		if _, err := os.Stat(filepath.Join(dirs[i], "initdb")); err == nil {
			return dirs[i], nil
		}
	}
	initdb, err := exec.LookPath("initdb")
	if err != nil {
		return "", err
	}
	return filepath.Dir(initdb), nil
}

// create makes an empty database.
func (s *server) create(ctx context.Context) (string, error) {
	s.mu.Lock()
	s.n++
	name := fmt.Sprintf("test_%d_%d", os.Getpid(), s.n)
	s.mu.Unlock()
	out, err := exec.CommandContext(ctx, filepath.Join(s.bin, "createdb"), "-h", s.dir, "-U", s.user, name).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("create a database: %w: %s", err, out)
	}
	return name, nil
}
