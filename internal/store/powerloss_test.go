package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"

	"pasban/internal/store"
	"pasban/internal/store/storetest"
)

// disk stands between SQLite and the files of watched directories, and knows
// which writes have been synced: what a power cut would leave can be written
// out at any moment. It is SQLite's default VFS in this test binary, with the
// system's own below it; C gives its functions no other way to find it.
var disk struct {
	mu      sync.Mutex
	below   uintptr             // the system's sqlite3_vfs
	watched map[string]bool     // directories
	files   map[string]*image   // by path
	open    map[uintptr]*image  // by sqlite3_file
	methods map[uintptr]uintptr // by sqlite3_file: the system's sqlite3_io_methods
	shims   map[uintptr]uintptr // our copy of each sqlite3_io_methods
}

// image is a file as the platter has it, and the writes it may not have yet.
type image struct {
	synced []byte
	queued []change
}

// change is a write, or a truncation to off if data is nil.
type change struct {
	off  int64
	data []byte
}

func (c change) apply(to []byte) []byte {
	if c.data == nil {
		return to[:min(int64(len(to)), c.off)]
	}
	if need := c.off + int64(len(c.data)); int64(len(to)) < need {
		to = append(to, make([]byte, need-int64(len(to)))...)
	}
	copy(to[c.off:], c.data)
	return to
}

// at is the C object at an address.
func at[T any](p uintptr) *T { return *(**T)(unsafe.Pointer(&p)) }

// fn is the C function at an address, and ptr the address of a declared one.
func fn[F any](p uintptr) F  { return *(*F)(unsafe.Pointer(&struct{ p uintptr }{p})) }
func ptr[F any](f F) uintptr { return *(*uintptr)(unsafe.Pointer(&struct{ f F }{f})) }

type (
	openFn     = func(tls *libc.TLS, vfs, name, file uintptr, flags int32, out uintptr) int32
	writeFn    = func(tls *libc.TLS, file, buf uintptr, n int32, off int64) int32
	truncateFn = func(tls *libc.TLS, file uintptr, size int64) int32
	syncFn     = func(tls *libc.TLS, file uintptr, flags int32) int32
	deleteFn   = func(tls *libc.TLS, vfs, name uintptr, syncDir int32) int32
	closeFn    = func(tls *libc.TLS, file uintptr) int32
)

// watchDisk puts disk under SQLite. It must run before anything is opened.
func watchDisk() error {
	tls := libc.NewTLS()
	disk.watched, disk.files = map[string]bool{}, map[string]*image{}
	disk.open, disk.methods, disk.shims = map[uintptr]*image{}, map[uintptr]uintptr{}, map[uintptr]uintptr{}
	disk.below = sqlite3.Xsqlite3_vfs_find(tls, 0)
	name, err := libc.CString("pasban-powerloss")
	if err != nil || disk.below == 0 {
		return errors.Join(err, errors.New("SQLite has no VFS"))
	}
	shim := libc.Xmalloc(tls, libc.Tsize_t(unsafe.Sizeof(sqlite3.Tsqlite3_vfs{})))
	*at[sqlite3.Tsqlite3_vfs](shim) = *at[sqlite3.Tsqlite3_vfs](disk.below)
	at[sqlite3.Tsqlite3_vfs](shim).FpNext = 0
	at[sqlite3.Tsqlite3_vfs](shim).FzName = name
	at[sqlite3.Tsqlite3_vfs](shim).FxOpen = ptr(diskOpen)
	at[sqlite3.Tsqlite3_vfs](shim).FxDelete = ptr(diskDelete)
	if rc := sqlite3.Xsqlite3_vfs_register(tls, shim, 1); rc != sqlite3.SQLITE_OK {
		return fmt.Errorf("register the VFS: %d", rc)
	}
	return nil
}

func diskOpen(tls *libc.TLS, _, name, file uintptr, flags int32, out uintptr) int32 {
	rc := fn[openFn](at[sqlite3.Tsqlite3_vfs](disk.below).FxOpen)(tls, disk.below, name, file, flags, out)
	if rc != sqlite3.SQLITE_OK || name == 0 {
		return rc
	}
	path := libc.GoString(name)
	disk.mu.Lock()
	defer disk.mu.Unlock()
	if !disk.watched[filepath.Dir(path)] {
		return rc
	}
	if disk.files[path] == nil {
		disk.files[path] = &image{}
	}
	own := at[sqlite3.Tsqlite3_file](file).FpMethods
	if disk.shims[own] == 0 {
		shim := libc.Xmalloc(tls, libc.Tsize_t(unsafe.Sizeof(sqlite3.Tsqlite3_io_methods{})))
		m := at[sqlite3.Tsqlite3_io_methods](shim)
		*m = *at[sqlite3.Tsqlite3_io_methods](own)
		m.FxWrite, m.FxTruncate, m.FxSync, m.FxClose = ptr(diskWrite), ptr(diskTruncate), ptr(diskSync), ptr(diskClose)
		disk.shims[own] = shim
	}
	disk.open[file], disk.methods[file] = disk.files[path], own
	at[sqlite3.Tsqlite3_file](file).FpMethods = disk.shims[own]
	return rc
}

// diskDelete takes a removed name for synced: SQLite asks for that where it
// matters.
func diskDelete(tls *libc.TLS, _, name uintptr, syncDir int32) int32 {
	rc := fn[deleteFn](at[sqlite3.Tsqlite3_vfs](disk.below).FxDelete)(tls, disk.below, name, syncDir)
	if rc == sqlite3.SQLITE_OK {
		disk.mu.Lock()
		delete(disk.files, libc.GoString(name))
		disk.mu.Unlock()
	}
	return rc
}

// below returns the image and the system's methods of an open file.
func below(file uintptr) (*image, *sqlite3.Tsqlite3_io_methods) {
	disk.mu.Lock()
	defer disk.mu.Unlock()
	return disk.open[file], at[sqlite3.Tsqlite3_io_methods](disk.methods[file])
}

func diskWrite(tls *libc.TLS, file, buf uintptr, n int32, off int64) int32 {
	i, m := below(file)
	disk.mu.Lock()
	i.queued = append(i.queued, change{off, slices.Clone(unsafe.Slice(at[byte](buf), n))})
	disk.mu.Unlock()
	return fn[writeFn](m.FxWrite)(tls, file, buf, n, off)
}

func diskTruncate(tls *libc.TLS, file uintptr, size int64) int32 {
	i, m := below(file)
	disk.mu.Lock()
	i.queued = append(i.queued, change{off: size})
	disk.mu.Unlock()
	return fn[truncateFn](m.FxTruncate)(tls, file, size)
}

func diskSync(tls *libc.TLS, file uintptr, flags int32) int32 {
	i, m := below(file)
	rc := fn[syncFn](m.FxSync)(tls, file, flags)
	if rc == sqlite3.SQLITE_OK {
		disk.mu.Lock()
		for _, c := range i.queued {
			i.synced = c.apply(i.synced)
		}
		i.queued = nil
		disk.mu.Unlock()
	}
	return rc
}

func diskClose(tls *libc.TLS, file uintptr) int32 {
	_, m := below(file)
	disk.mu.Lock()
	delete(disk.open, file)
	delete(disk.methods, file)
	disk.mu.Unlock()
	return fn[closeFn](m.FxClose)(tls, file)
}

// powerCut writes what the platter has of a watched directory at this moment
// to a new one: all that was synced; of the rest each sector or none, in any
// combination.
func powerCut(t *testing.T, dir string) string {
	t.Helper()
	left := map[string][]byte{}
	disk.mu.Lock()
	for path, i := range disk.files {
		if filepath.Dir(path) != dir {
			continue
		}
		content := slices.Clone(i.synced)
		for _, c := range i.queued {
			for len(c.data) > 0 {
				n := min(512-int(c.off%512), len(c.data))
				if rand.IntN(2) == 0 {
					content = change{c.off, c.data[:n]}.apply(content)
				}
				c.off, c.data = c.off+int64(n), c.data[n:]
			}
		}
		left[filepath.Base(path)] = content
	}
	disk.mu.Unlock()
	to := t.TempDir()
	for name, content := range left {
		if err := os.WriteFile(filepath.Join(to, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

func watchedDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	disk.mu.Lock()
	defer disk.mu.Unlock()
	disk.watched[dir] = true
	return dir
}

// TestPowerLoss cuts the power thirty times under load: every row that was
// acknowledged before is there, every write is there whole or not at all.
func TestPowerLoss(t *testing.T) {
	dir := watchedDir(t)
	st := storetest.Open(t, filepath.Join(dir, "store.db"))
	if err := write(st, `CREATE TABLE item (id BIGINT PRIMARY KEY, note TEXT)`); err != nil {
		t.Fatal(err)
	}
	var last atomic.Int64
	var mu sync.Mutex // covers acknowledged
	var acknowledged []int64
	for range 30 {
		more := make(chan struct{})
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for ctx.Err() == nil {
					id := last.Add(1)
					err := st.Write(t.Context(), func(tx *store.Tx) error {
						_, err := tx.Exec(`INSERT INTO item (id, note) VALUES (?, 'first')`, id)
						_, err2 := tx.Exec(`INSERT INTO item (id, note) VALUES (?, 'second')`, -id)
						return errors.Join(err, err2)
					})
					if err != nil {
						t.Error(err)
						stop()
					}
					mu.Lock()
					acknowledged = append(acknowledged, id)
					mu.Unlock()
					select {
					case more <- struct{}{}:
					case <-ctx.Done():
					}
				}
			})
		}
		for range rand.IntN(20) {
			select {
			case <-more:
			case <-ctx.Done():
			}
		}
		mu.Lock()
		before := slices.Clone(acknowledged)
		mu.Unlock()
		left := powerCut(t, dir) // under load
		stop()
		wg.Wait()
		afterPowerLoss(t, left, before)
	}
}

func afterPowerLoss(t *testing.T, dir string, acknowledged []int64) {
	t.Helper()
	st, err := store.Open(t.Context(), filepath.Join(dir, "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	for _, id := range acknowledged {
		if n := number(t, st, `SELECT COUNT(*) FROM item WHERE id IN (?, ?)`, id, -id); n != 2 {
			t.Errorf("acknowledged write %d of %d: %d of its 2 rows are there", id, len(acknowledged), n)
		}
	}
	if n := number(t, st, `SELECT COUNT(*) FROM item a WHERE NOT EXISTS (SELECT 1 FROM item b WHERE b.id = -a.id)`); n != 0 {
		t.Errorf("%d writes are there by half", n)
	}
	var verdict string
	if err := st.QueryRow(t.Context(), `PRAGMA integrity_check`).Scan(&verdict); err != nil || verdict != "ok" {
		t.Errorf("the database is damaged: %s, %v", verdict, err)
	}
}

// TestPowerLossIsReal shows that the cut does cut: what SQLite writes without
// syncing is not there afterwards.
func TestPowerLossIsReal(t *testing.T) {
	dir := watchedDir(t)
	db, err := sql.Open("sqlite", filepath.Join(dir, "store.db")+"?_journal_mode=WAL&_synchronous=OFF")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, q := range []string{`CREATE TABLE item (id BIGINT)`, `INSERT INTO item (id) VALUES (1)`} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	disk.mu.Lock()
	defer disk.mu.Unlock()
	if wal := disk.files[filepath.Join(dir, "store.db-wal")]; len(wal.synced) != 0 || len(wal.queued) == 0 {
		t.Errorf("%d bytes synced, %d writes queued; want none and some", len(wal.synced), len(wal.queued))
	}
}
