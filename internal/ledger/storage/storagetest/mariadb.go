package storagetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"pasban/internal/ledger/storage/mysql"
	"pasban/internal/store/storetest"
)

// password is the database user's, so that it can be looked for where it must not be.
const password = "correct-horse"

// mariadb runs the server for as long as its standard input is open, which the
// test binary holds: however that ends, the server stops and leaves nothing.
const mariadb = `
cd "$1" || exit 1
trap 'rm -rf "$1"' EXIT
user=
[ "$(id -u)" -ne 0 ] || user=--user=root
mkdir data
{
	echo 'CREATE DATABASE mysql;'
	echo 'USE mysql;'
	cat /usr/share/mysql/mysql_system_tables.sql /usr/share/mysql/mysql_system_tables_data.sql
	echo 'FLUSH PRIVILEGES;'
	echo "CREATE USER pasban@localhost IDENTIFIED BY '$2';"
	echo 'GRANT ALL ON *.* TO pasban@localhost;'
} | mariadbd --no-defaults $user --datadir="$1/data" --innodb-flush-method=nosync --sync-frm=0 --bootstrap >log 2>&1 || { cat log; exit 1; }
mariadbd --no-defaults $user --datadir="$1/data" --skip-networking --socket="$1/socket" --innodb-buffer-pool-size=32M --innodb-flush-log-at-trx-commit=0 --innodb-flush-method=nosync --innodb-doublewrite=0 --sync-frm=0 >>log 2>&1 &
pid=$!
until [ -S socket ]; do
	kill -0 $pid 2>/dev/null || { cat log; exit 1; }
	sleep 0.05
done
echo ready
cat >/dev/null
kill -9 $pid
wait $pid 2>/dev/null
`

// server is started once per test binary.
var server = sync.OnceValues(startServer)

type running struct {
	dir  string
	life io.WriteCloser

	mu sync.Mutex // covers n
	n  int
}

func startServer() (*running, error) {
	if _, err := exec.LookPath("mariadbd"); err != nil {
		if _, err := os.Stat("/usr/sbin/mariadbd"); err != nil {
			return nil, exec.ErrNotFound
		}
	}
	dir, err := os.MkdirTemp("", "pasban-my-")
	if err != nil {
		return nil, err
	}
	s := &running{dir: dir}
	cmd := exec.Command("/bin/sh", "-c", mariadb, "sh", dir, password)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin")
	if s.life, err = storetest.Serve(cmd); err != nil {
		return nil, fmt.Errorf("MariaDB does not start: %w", err)
	}
	return s, nil
}

// MySQL makes an empty database in a real server of the test binary's own, which
// is started by the first call. It is reached through the gate. The test is
// skipped if the server is not installed.
func MySQL(t testing.TB) (mysql.Server, *Gate) {
	t.Helper()
	s, err := server()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("MariaDB is not installed here")
	}
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.n++
	at := mysql.Server{User: "pasban", Password: password, Address: filepath.Join(s.dir, "socket"), Database: fmt.Sprintf("ledger%d", s.n)}
	s.mu.Unlock()
	admin := at
	admin.Database = "mysql"
	db, err := admin.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), "CREATE DATABASE "+at.Database); err != nil {
		t.Fatal(err)
	}
	g := NewGate(t, "unix", at.Address)
	at.Address = g.Address()
	return at, g
}

// Exec runs statements in a database.
func Exec(t testing.TB, at mysql.Server, statements ...string) {
	t.Helper()
	db, err := at.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, q := range statements {
		if _, err := db.ExecContext(context.WithoutCancel(t.Context()), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
}
