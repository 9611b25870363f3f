// Package posix keeps a log in a directory, which any static file server can
// serve, with Tessera's driver of that name.
//
// [New] names the directory; nothing is opened before it is read or claimed. The
// claim is a lock on a file in it, which ends with the process.
//
// It guarantees that a file is replaced as a whole and durably, and that links
// that lead out of the directory are not followed. It must never write to a
// directory that others can write to.
package posix

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/durable"
	"pasban/internal/ledger/tiles"
)

// treeState is the driver's own note of size and root.
const treeState = ".state/treeState"

// Dir is a log in a directory.
type Dir struct {
	path string

	mu   sync.Mutex // covers what follows
	root *os.Root   // nil until the directory is needed
	lock *os.File   // nil without a claim
}

// New returns the log in the directory path.
func New(path string) *Dir { return &Dir{path: path} }

// Name is the directory.
func (d *Dir) Name() string { return d.path }

// Interval is the shortest that the driver takes.
func (d *Dir) Interval() time.Duration { return 100 * time.Millisecond }

// open returns the directory, opened.
func (d *Dir) open() (*os.Root, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.root == nil {
		root, err := os.OpenRoot(d.path)
		if err != nil {
			return nil, d.unavailable("the directory cannot be opened", err)
		}
		d.root = root
	}
	return d.root, nil
}

// Claim makes the directory if need be and takes it for this process.
func (d *Dir) Claim(context.Context) error {
	if err := durable.MkdirAll(filepath.Join(d.path, ".state"), 0o700); err != nil {
		return d.unavailable("the directory cannot be made", err)
	}
	info, err := os.Stat(d.path)
	if err != nil {
		return d.unavailable("the directory cannot be read", err)
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return &pasban.Error{Kind: pasban.Unavailable, Where: d.path, Msg: fmt.Sprintf("the directory has mode %04o: others can write to it", mode), Hint: fmt.Sprintf("chmod %04o %s", mode&^0o022, d.path)}
	}
	root, err := d.open()
	if err != nil {
		return err
	}
	lock, err := root.OpenFile(".state/pasban.lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return d.unavailable("the directory cannot be written", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return &pasban.Error{Kind: pasban.Conflict, Where: d.path, Msg: "another process has this ledger open", Err: err, Hint: "one node at a time: stop the other one"}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lock = lock
	return nil
}

// Ready looks whether the driver will be able to take its lock. If it cannot it
// panics in a goroutine of its own, which would end the whole node. The lock
// belongs to the process and closing any of its files gives it up: nobody holds
// it now, because nothing is being added. The driver goes by the path, so that is
// what is looked at: a directory that was moved away is still open here. A
// directory that goes in the moment between this look and the driver's does end
// the node, which has promised nothing that is not in the journal, and says at
// its next start what is wrong.
func (d *Dir) Ready(context.Context) error {
	root, err := d.open()
	if err != nil {
		return err
	}
	ours, err := root.Stat(".")
	if err != nil {
		return d.unavailable("the ledger's directory cannot be read", err)
	}
	there, err := os.Stat(d.path)
	switch {
	case err != nil:
		return d.unavailable("the ledger's directory cannot be read", err)
	case !os.SameFile(ours, there):
		return d.unavailable("the ledger's directory is not the one that was opened", nil)
	}
	f, err := os.OpenFile(filepath.Join(d.path, ".state", "treeState.lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return d.unavailable("the ledger's directory cannot be written", err)
	}
	return f.Close()
}

// Driver returns Tessera's driver of files.
func (d *Dir) Driver(ctx context.Context) (tessera.Driver, error) {
	return posix.New(ctx, posix.Config{Path: d.path})
}

// ReadFile reads one file.
func (d *Dir) ReadFile(ctx context.Context, name string) ([]byte, error) {
	root, err := d.open()
	if err != nil {
		return nil, err
	}
	return tiles.Dir{Root: root}.ReadFile(ctx, name)
}

// List names the tiles and bundles.
func (d *Dir) List(ctx context.Context, each func(name string) error) error {
	root, err := d.open()
	if err != nil {
		return err
	}
	return tiles.Dir{Root: root}.List(ctx, each)
}

// WriteFile replaces one file durably.
func (d *Dir) WriteFile(_ context.Context, name string, data []byte) error {
	path := filepath.Join(d.path, name)
	if err := durable.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return d.unavailable("write "+name, err)
	}
	if err := durable.WriteFile(path, data, 0o644); err != nil {
		return d.unavailable("write "+name, err)
	}
	return nil
}

// Remove removes one file.
func (d *Dir) Remove(_ context.Context, name string) error {
	root, err := d.open()
	if err != nil {
		return err
	}
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return d.unavailable("remove "+name, err)
	}
	return nil
}

// ReplaceCheckpoint replaces the checkpoint and keeps its file's time, which is
// the driver's note of when it published. The driver signs before it writes, so
// whoever keeps the signer waiting from still on keeps it from writing.
func (d *Dir) ReplaceCheckpoint(_ context.Context, raw []byte, still func() bool) error {
	if !still() {
		return nil
	}
	path := filepath.Join(d.path, tiles.Checkpoint)
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(path, raw, 0o644); err != nil {
		return err
	}
	return os.Chtimes(path, time.Time{}, info.ModTime())
}

// SetBack sets the time of the checkpoint's file.
func (d *Dir) SetBack(_ context.Context, latest, now time.Time) (time.Time, bool, error) {
	root, err := d.open()
	if err != nil {
		return time.Time{}, false, err
	}
	info, err := root.Stat(tiles.Checkpoint)
	if err != nil || !info.ModTime().After(latest) {
		return time.Time{}, false, err
	}
	return info.ModTime(), true, root.Chtimes(tiles.Checkpoint, now, now)
}

// Restore runs f. The driver changes nothing meanwhile because nothing is being
// added: it has no leaf that is not in its files.
func (d *Dir) Restore(ctx context.Context, f func(context.Context) (tlog.Tree, error)) ([]tiles.Finding, error) {
	tree, err := f(ctx)
	if err != nil {
		return nil, err
	}
	var had struct {
		Size uint64 `json:"size"`
		Root []byte `json:"root"`
	}
	raw, err := d.ReadFile(ctx, treeState)
	there := err == nil
	if there && json.Unmarshal(raw, &had) == nil && had.Size == uint64(tree.N) && bytes.Equal(had.Root, tree.Hash[:]) {
		return nil, nil
	}
	var found []tiles.Finding
	if there {
		found = []tiles.Finding{{Path: treeState, Problem: fmt.Sprintf("was not what the journal's leaves give: %d leaves, root %x", had.Size, had.Root)}}
	}
	had.Size, had.Root = uint64(tree.N), tree.Hash[:]
	want, err := json.Marshal(had)
	if err != nil {
		return nil, err
	}
	return found, d.WriteFile(ctx, treeState, want)
}

// Close gives the directory up.
func (d *Dir) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	if d.lock != nil {
		errs = append(errs, d.lock.Close())
	}
	if d.root != nil {
		errs = append(errs, d.root.Close())
	}
	d.root, d.lock = nil, nil
	return errors.Join(errs...)
}

func (d *Dir) unavailable(msg string, err error) error {
	return &pasban.Error{Kind: pasban.Unavailable, Where: d.path, Msg: msg, Err: err}
}
