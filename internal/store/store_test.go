package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"

	"pasban/internal/store"
	"pasban/internal/store/storetest"
)

func TestMain(m *testing.M) {
	if err := watchDisk(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	storetest.Main(m, nil)
}

func TestContractSQLite(t *testing.T)   { storetest.RunTests(t, storetest.SQLiteDSN) }
func TestContractPostgres(t *testing.T) { storetest.RunTests(t, storetest.PostgresDSN) }

func write(st *store.Store, q string, args ...any) error {
	return st.Write(context.Background(), func(tx *store.Tx) error {
		_, err := tx.Exec(q, args...)
		return err
	})
}

func number(t *testing.T, st *store.Store, q string, args ...any) (n int64) {
	t.Helper()
	if err := st.QueryRow(t.Context(), q, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte(strings.Repeat("not a database ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dsn := range []string{
		"", "mysql://db/pasban", dir, filepath.Join(dir, "missing", "store.db"), text,
		"postgres:///none?host=" + dir, "postgres://%zz",
	} {
		if st, err := store.Open(t.Context(), dsn); err == nil {
			t.Errorf("%q was opened", dsn)
			st.Close()
		}
	}
}

// Whatever a path is called, the settings hold and the file is private.
func TestSQLitePath(t *testing.T) {
	for _, name := range []string{"store.db", "a b%20c?d#e&_synchronous=OFF.db", "کتاب.db", ":memory:"} {
		path := filepath.Join(t.TempDir(), name)
		st := storetest.Open(t, path)
		if err := write(st, `CREATE TABLE a (x BIGINT)`); err != nil {
			t.Fatal(err)
		}
		for _, suffix := range []string{"", "-wal", "-shm"} {
			info, err := os.Stat(path + suffix)
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v; want mode 0600", name+suffix, info, err)
			}
		}
		var mode string
		if err := st.QueryRow(t.Context(), `PRAGMA journal_mode`).Scan(&mode); err != nil || mode != "wal" {
			t.Errorf("%s: journal mode %q, %v", name, mode, err)
		}
		if n := number(t, st, `PRAGMA synchronous`); n != 2 {
			t.Errorf("%s: synchronous=%d, want 2 (FULL)", name, n)
		}
	}
}

// A refused row is not the storage's fault.
func TestSQLiteForeignKeys(t *testing.T) {
	st := storetest.SQLite(t)
	if err := write(st, `CREATE TABLE a (x BIGINT PRIMARY KEY)`); err != nil {
		t.Fatal(err)
	}
	if err := write(st, `CREATE TABLE b (x BIGINT REFERENCES a (x))`); err != nil {
		t.Fatal(err)
	}
	if err := write(st, `INSERT INTO b (x) VALUES (1)`); err == nil || st.Healthy() != nil {
		t.Errorf("error %v, health %v; want the write refused and the storage not blamed", err, st.Healthy())
	}
}

// fill writes until the disk is full, from several goroutines, and returns the
// rows that were acknowledged.
func fill(t *testing.T, st *store.Store) map[int64]bool {
	t.Helper()
	var mu sync.Mutex
	acknowledged := map[int64]bool{}
	var wg sync.WaitGroup
	for w := range int64(8) {
		wg.Go(func() {
			for i := range int64(1000) {
				id := w*1000 + i
				err := write(st, `INSERT INTO item (id, note) VALUES (?, ?)`, id, strings.Repeat("x", 5000))
				if err == nil {
					mu.Lock()
					acknowledged[id] = true
					mu.Unlock()
					continue
				}
				if _, ok := errors.AsType[*store.Fault](err); !ok {
					t.Errorf("error %v, want a fault", err)
				}
				return
			}
			t.Error("the disk does not get full")
		})
	}
	wg.Wait()
	return acknowledged
}

// full is a disk that gets full: acknowledged rows stay, health says so, and
// when there is room again the writer finds out by itself.
func full(t *testing.T, dsn string, relieve func()) {
	st := storetest.Open(t, dsn)
	if err := write(st, `CREATE TABLE item (id BIGINT PRIMARY KEY, note TEXT)`); err != nil {
		t.Fatal(err)
	}
	outcome := make(chan bool, 10_000)
	st.OnCommit(func(*store.Tx) error { return nil }, func(committed bool) {
		if (st.Healthy() == nil) != committed {
			t.Errorf("a group was committed: %v; health: %v", committed, st.Healthy())
		}
		outcome <- committed
	})
	acknowledged := fill(t, st)
	if n := number(t, st, `SELECT COUNT(*) FROM item`); n != int64(len(acknowledged)) {
		t.Errorf("%d rows, %d acknowledged", n, len(acknowledged))
	}
	relieve()
	for st.Healthy() != nil { // the writer's own probe
		<-outcome
	}
	if err := write(st, `INSERT INTO item (id, note) VALUES (-1, 'room again')`); err != nil {
		t.Error(err)
	}
	st.Close()
	again := storetest.Open(t, dsn)
	for id := range acknowledged {
		if number(t, again, `SELECT COUNT(*) FROM item WHERE id = ?`, id) != 1 {
			t.Errorf("row %d was acknowledged and is gone", id)
		}
	}
}

// TestFullDisk fills a real file system, and then gives it more room.
func TestFullDisk(t *testing.T) {
	dir := tmpfs(t)
	full(t, filepath.Join(dir, "store.db"), func() {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=30m"); err != nil {
			t.Fatal(err)
		}
	})
}

// TestFullDatabase needs no rights: the database may not grow. The limit goes
// with the connection, which a fault replaces.
func TestFullDatabase(t *testing.T) {
	st := storetest.SQLite(t)
	for _, q := range []string{`CREATE TABLE item (id BIGINT PRIMARY KEY, note TEXT)`, `PRAGMA max_page_count = 200`} {
		if err := write(st, q); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	rows := int64(0)
	for ; err == nil && rows < 1000; rows++ {
		err = write(st, `INSERT INTO item (id, note) VALUES (?, ?)`, rows, strings.Repeat("x", 5000))
	}
	if _, ok := errors.AsType[*store.Fault](err); !ok {
		t.Fatalf("error %v, want a fault", err)
	}
	if n := number(t, st, `SELECT COUNT(*) FROM item`); n != rows-1 {
		t.Errorf("%d rows, %d acknowledged", n, rows-1)
	}
	if err := write(st, `INSERT INTO item (id, note) VALUES (-1, 'room again')`); err != nil || st.Healthy() != nil {
		t.Errorf("error %v, health %v after the limit was lifted", err, st.Healthy())
	}
}

// A directory that cannot be written is refused before anything relies on it.
func TestReadOnlyDirectory(t *testing.T) {
	dir := t.TempDir()
	if os.Geteuid() == 0 { // whom permissions do not stop
		dir = tmpfs(t)
	}
	path := filepath.Join(dir, "store.db")
	st, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		err = syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, "")
	} else {
		err = errors.Join(os.Chmod(path, 0o400), os.Chmod(dir, 0o500))
	}
	if err != nil {
		t.Fatal(err)
	}
	if st, err := store.Open(t.Context(), path); err == nil {
		t.Error("a database that cannot be written was opened")
		st.Close()
	}
}

// A lock that another process does not let go of fails writes, and nothing is
// left of that when it does.
func TestSQLiteLocked(t *testing.T) {
	dsn := storetest.SQLiteDSN(t)
	st, other := storetest.Open(t, dsn), storetest.Open(t, dsn)
	for _, q := range []string{`CREATE TABLE a (x BIGINT)`, `PRAGMA busy_timeout = 1`} { // rather than 5 s
		if err := write(st, q); err != nil {
			t.Fatal(err)
		}
	}
	err := other.Write(t.Context(), func(tx *store.Tx) error {
		if _, err := tx.Exec(`INSERT INTO a (x) VALUES (1)`); err != nil {
			return err
		}
		err := write(st, `INSERT INTO a (x) VALUES (2)`)
		if fault, ok := errors.AsType[*store.Fault](err); !ok || fault.During != "begin" || st.Healthy() == nil {
			t.Errorf("error %v, health %v; want a fault at the beginning", err, st.Healthy())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := write(st, `INSERT INTO a (x) VALUES (3)`); err != nil || st.Healthy() != nil {
		t.Errorf("error %v, health %v after the lock was let go", err, st.Healthy())
	}
	if all, two := number(t, st, `SELECT COUNT(*) FROM a`), number(t, st, `SELECT COUNT(*) FROM a WHERE x = 2`); all != 2 || two != 0 {
		t.Errorf("%d rows, want the first and the third", all)
	}
}

// tmpfs mounts a small file system, which needs root.
func tmpfs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=3m"); err != nil {
		t.Skip("mounting a small file system needs root: " + err.Error())
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// A server that ends the writer's connection costs at most the writes that
// were under way.
func TestPostgresConnectionLost(t *testing.T) {
	st := storetest.Postgres(t)
	if err := write(st, `CREATE TABLE item (id BIGINT PRIMARY KEY)`); err != nil {
		t.Fatal(err)
	}
	var pid int64
	if err := st.Write(t.Context(), func(tx *store.Tx) error { return tx.QueryRow(`SELECT pg_backend_pid()`).Scan(&pid) }); err != nil {
		t.Fatal(err)
	}
	var ok bool
	if err := st.QueryRow(t.Context(), `SELECT pg_terminate_backend(?, 5000)`, pid).Scan(&ok); err != nil || !ok {
		t.Fatal(ok, err)
	}
	if err := write(st, `INSERT INTO item (id) VALUES (1)`); err != nil {
		t.Errorf("after a connection was lost at rest: %v", err)
	}
	err := st.Write(t.Context(), func(tx *store.Tx) error {
		if _, err := tx.Exec(`INSERT INTO item (id) VALUES (2)`); err != nil {
			return err
		}
		_, err := tx.Exec(`SELECT pg_terminate_backend(pg_backend_pid())`)
		return err
	})
	if fault, ok := errors.AsType[*store.Fault](err); !ok || fault.Unknown || st.Healthy() == nil {
		t.Errorf("error %v, health %v; want a fault whose outcome is known", err, st.Healthy())
	}
	if err := write(st, `INSERT INTO item (id) VALUES (3)`); err != nil || st.Healthy() != nil {
		t.Errorf("after a connection was lost at work: %v, health %v", err, st.Healthy())
	}
	if all, two := number(t, st, `SELECT COUNT(*) FROM item`), number(t, st, `SELECT COUNT(*) FROM item WHERE id = 2`); all != 2 || two != 0 {
		t.Errorf("%d rows, want the first and the third", all)
	}
}

func migration(up string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte("-- +goose Up\n" + up + "\n")}
}

func TestMigrate(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		one := fstest.MapFS{}
		two := fstest.MapFS{}
		for _, d := range []string{store.SQLite, store.Postgres} {
			one[d+"/00001_a.sql"] = migration(`CREATE TABLE a (x BIGINT);`)
			two["migrations/"+d+"/00001_a.sql"] = one[d+"/00001_a.sql"]
			two["migrations/"+d+"/00002_b.sql"] = migration(`CREATE TABLE b (x BIGINT); INSERT INTO b (x) VALUES (7);`)
		}
		for _, fsys := range []fstest.MapFS{one, one, two, two} {
			if err := st.Migrate(t.Context(), "room", fsys); err != nil {
				t.Fatal(err)
			}
		}
		if n := number(t, st, `SELECT COUNT(*) FROM b WHERE x = 7`); n != 1 {
			t.Errorf("the second migration ran %d times", n)
		}
		if n := number(t, st, `SELECT MAX(version_id) FROM goose_room`); n != 2 {
			t.Errorf("version %d, want 2", n)
		}
		if err := st.Migrate(t.Context(), "room", one); err == nil {
			t.Error("an older program was let in")
		}
		bad := fstest.MapFS{}
		for _, d := range []string{store.SQLite, store.Postgres} {
			bad[d+"/00001_c.sql"] = migration(`CREATE TABLE c (x BIGINT); not SQL;`)
		}
		if err := st.Migrate(t.Context(), "other", bad); err == nil {
			t.Error("a broken migration succeeded")
		}
		if _, err := st.Query(t.Context(), `SELECT x FROM c`); err == nil {
			t.Error("a broken migration left half of it")
		}
		for _, room := range []string{"", "Room", "a-b", "a;drop"} {
			if err := st.Migrate(t.Context(), room, one); err == nil {
				t.Errorf("room %q was accepted", room)
			}
		}
	})
}

// Nodes that start together on one empty database migrate one after the other.
func TestMigrateTogether(t *testing.T) {
	for name, dsn := range map[string]func(testing.TB) string{store.SQLite: storetest.SQLiteDSN, store.Postgres: storetest.PostgresDSN} {
		t.Run(name, func(t *testing.T) {
			at := dsn(t)
			fsys := fstest.MapFS{}
			for i := range 3 {
				for _, d := range []string{store.SQLite, store.Postgres} {
					fsys[fmt.Sprintf("%s/0000%d_a.sql", d, i+1)] = migration(fmt.Sprintf(`CREATE TABLE t%d (x BIGINT);`, i))
				}
			}
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					st, err := store.Open(t.Context(), at)
					if err != nil {
						t.Error(err)
						return
					}
					defer st.Close()
					if err := st.Migrate(t.Context(), "room", fsys); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		})
	}
}
