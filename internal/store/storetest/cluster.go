package storetest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Cluster is a PostgreSQL server of a test's own, which it may stop, start and
// damage. It keeps a log that logical replication can follow.
type Cluster struct {
	Dir  string // holds the socket and data
	Data string
	User string // the superuser
	bin  string
	life io.WriteCloser
	cmd  *exec.Cmd
}

// runScript runs the server for as long as its standard input is open: however
// the test binary ends, the server ends too.
const runScript = `
trap '' INT
cd "$2" || exit 1
"$1/postgres" -D "$3" >>"$2/log" 2>&1 &
pid=$!
read how || how=QUIT
kill -"$how" $pid
wait $pid
`

// serverSettings are those of every cluster; the sentinel's guards need them.
const serverSettings = `
listen_addresses = ''
max_connections = 100
shared_buffers = 128MB
wal_level = logical
max_wal_senders = 20
max_replication_slots = 20
max_slot_wal_keep_size = 2GB
autovacuum_naptime = 600s
hot_standby = on
wal_log_hints = on
`

// NewCluster makes a server of its own and starts it. settings are lines of
// postgresql.conf. The test is skipped if PostgreSQL is not installed.
func NewCluster(t testing.TB, settings string) *Cluster {
	t.Helper()
	bin, err := binaries()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("PostgreSQL is not installed here: " + err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "pasban-pg-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := &Cluster{Dir: dir, Data: filepath.Join(dir, "data"), bin: bin}
	if c.User, err = serverUser(); err != nil {
		t.Fatal(err)
	}
	c.Tool(t, "initdb", "-D", c.Data, "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
	conf, err := os.OpenFile(filepath.Join(c.Data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conf.WriteString(serverSettings + "unix_socket_directories = '" + dir + "'\n" + settings); err != nil {
		t.Fatal(err)
	}
	if err := conf.Close(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Stop(t, "QUIT") })
	c.Start(t)
	return c
}

// Beside is another cluster's place, beside this one, that is not made yet: for
// a copy or a standby.
func (c *Cluster) Beside(t testing.TB) *Cluster {
	t.Helper()
	dir, err := os.MkdirTemp("", "pasban-pg-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if os.Geteuid() == 0 {
		if _, err := as(c.User, dir); err != nil {
			t.Fatal(err)
		}
	}
	n := &Cluster{Dir: dir, Data: filepath.Join(dir, "data"), User: c.User, bin: c.bin}
	t.Cleanup(func() { n.Stop(t, "QUIT") })
	return n
}

// command runs a program as the server's user.
func (c *Cluster) command(ctx context.Context, name string, args ...string) (*exec.Cmd, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = c.Dir
	if os.Geteuid() == 0 {
		attr, err := as(c.User, c.Dir)
		if err != nil {
			return nil, err
		}
		cmd.SysProcAttr = attr
	}
	return cmd, nil
}

// Tool runs one of PostgreSQL's programs as the server's user.
func (c *Cluster) Tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd, err := c.command(t.Context(), filepath.Join(c.bin, name), args...)
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
	return string(out)
}

// Start starts the server and waits until it answers.
func (c *Cluster) Start(t testing.TB) {
	t.Helper()
	cmd, err := c.command(context.Background(), "/bin/sh", "-c", runScript, "sh", c.bin, c.Dir, c.Data)
	if err != nil {
		t.Fatal(err)
	}
	if c.life, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.cmd = cmd
	for deadline := time.Now().Add(30 * time.Second); ; {
		conn, err := pgx.Connect(t.Context(), c.DSN("postgres", c.User))
		if err == nil {
			conn.Close(t.Context())
			return
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(c.Dir, "log"))
			t.Fatalf("the server does not answer: %v: %s", err, log)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Stop stops the server: INT (what is under way is broken off), or QUIT (as if
// it were killed). A server that does not run stays stopped.
func (c *Cluster) Stop(t testing.TB, how string) {
	t.Helper()
	if c.cmd == nil {
		return
	}
	io.WriteString(c.life, how+"\n")
	c.life.Close()
	c.cmd.Wait()
	c.cmd = nil
}

// DSN names a database of the server for a role.
func (c *Cluster) DSN(database, role string) string {
	return dsn(database, c.Dir, role)
}

// Exec runs statements as a role, each by itself or as many as stand in one.
func (c *Cluster) Exec(t testing.TB, database, role string, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.DSN(database, role))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	for _, q := range statements {
		if _, err := conn.Exec(t.Context(), q, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", strings.TrimSpace(q), err)
		}
	}
}

// Own gives the data directory to the server's user, after a test wrote into it.
func (c *Cluster) Own(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	err := filepath.WalkDir(c.Data, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if _, err := as(c.User, name); err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(name, 0o700)
		}
		return os.Chmod(name, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}
